"""Own rasters, from a table to batches: no catalog, georeferenced or not, any bands, any numbers."""

import gc
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import webdataset as wds
import yaml
from pictures import numbers, write_raster
from pystac import Item
from rasterio.transform import Affine
from stac_geoparquet.arrow import stac_table_to_items

import geossl_data as gd
from geossl_data import pipeline, tables
from geossl_data.errors import DatasetError, EmptyResultError, ShardError
from geossl_data.files import sha256
from geossl_data.grid import to_lonlat
from geossl_data.records import Skipped
from geossl_data.scenes.items import read_items
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import Entry
from geossl_data.shards.stac_table import write_manifest
from geossl_data.tiles import own

Command = Callable[..., tuple[int, str, str]]

HEADER = "place,time,look,sensor,path"


def pictures(folder: Path, n_places: int = 6) -> Path:
    """Pictures of places before and after, of two sensors, with a mask after; nobody says where or when."""
    lines = [HEADER]
    for place in range(n_places):
        for look in range(2):
            for sensor, bands in (("s1", 1), ("s2", 3)):
                path = f"{sensor}/{place}_{look}.png"
                write_raster(folder / path, numbers(bands, 32, 32, dtype="uint8", start=place * 50 + look * 7))
                lines.append(f"site {place},,{look},{sensor},{path}")
        write_raster(folder / f"mask/{place}.png", (numbers(1, 32, 32, start=place) % 2 * 255).astype(np.uint8))
        lines.append(f"site {place},,1,mask,mask/{place}.png")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def scenes(folder: Path, n_places: int = 3) -> Path:
    """GeoTIFFs with coordinates and dates: 13 bands of int16 at 10 m, two of float32 at 20 m, in two zones."""
    lines = ["place,time,sensor,path,label"]
    for place in range(n_places):
        for day in (3, 5):
            for sensor, bands, dtype, side in (("ms", 13, "int16", 10), ("sar", 2, "float32", 20)):
                path = f"{place}/{sensor}_{day}.tif"
                size = 480 // side
                write_raster(
                    folder / path,
                    numbers(bands, size, size + 4 * 10 // side, dtype=dtype, start=place * 100 + day),
                    names=tuple(f"{sensor}{number}" for number in range(bands)),
                    crs=f"EPSG:{32632 + place % 2}",
                    transform=Affine(side, 0, 500_000 + 50_000 * place, 0, -side, 5_000_000),
                    nodata=-9999,
                )
                lines.append(f"p{place},2024-07-0{day}T10:00+02:00,{sensor},{path},{'water' if day == 3 else 'land'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def options(table: Path, **values: Any) -> gd.ShardOptions:
    return gd.ShardOptions(from_table=str(table), **({"shard_mb": 1} | values))


@pytest.fixture(scope="module")
def floods(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table of pictures and the dataset made of it; read them only."""
    folder = tmp_path_factory.mktemp("floods")
    table = pictures(folder / "pictures")
    pipeline.shard(folder / "data", options(table, test=0.4))
    return table, folder / "data"


def test_pictures_come_back_pixel_for_pixel(floods: tuple[Path, Path]) -> None:
    table, data = floods
    with gd.open_shards(data) as shards:
        assert [(name, member.bands, member.plane) for name, member in shards.members.items()] == [
            ("s1", ("s1_1",), False),
            ("s2", ("s2_1", "s2_2", "s2_3"), False),
            ("mask", ("mask",), True),
        ]
        assert len(shards) == 6
        for index in range(len(shards)):
            meta = shards.meta(index)
            place = int(meta["geossl:place"].removeprefix("site "))
            for look in range(2):
                read = shards.read(index, look)
                start = place * 50 + look * 7
                np.testing.assert_array_equal(read["s1"], numbers(1, 32, 32, dtype="uint8", start=start))
                np.testing.assert_array_equal(read["s2"], numbers(3, 32, 32, dtype="uint8", start=start))
                assert ("mask" in read) == (look == 1)
                asset = meta["looks"][look]["assets"]["s2"]
                assert asset["href"] == f"s2/{place}_{look}.png"
                assert asset["file:checksum"] == "1220" + sha256(table.parent / asset["href"])
                assert asset["file:size"] == (table.parent / asset["href"]).stat().st_size
            np.testing.assert_array_equal(read["mask"], (numbers(1, 32, 32, start=place) % 2 * 255)[0])


def test_the_loader_stacks_looks_of_own_data(floods: tuple[Path, Path]) -> None:
    with gd.open_shards(floods[1]) as shards:
        batches = list(shards.batches(2, ("s1", "s2"), looks="all", seed=1))
        assert {batch["s2"].shape for batch in batches} == {(2, 2, 3, 32, 32)}
        assert sorted(number for batch in batches for number in batch["index"].tolist()) == list(range(6))


def test_nobody_says_where_or_when_and_neither_does_the_dataset(floods: tuple[Path, Path]) -> None:
    manifest = gd.read_manifest(floods[1] / "manifest.parquet")
    for entry in manifest.entries:
        assert (entry.lon, entry.lat, entry.epsg, entry.x, entry.y) == (None,) * 5
        assert (entry.acquired, entry.gap_hours, entry.s2_ids, entry.s1_ids) == ((None, None),) * 2 + (("", ""),) * 2
        assert entry.block == f"place-{entry.key}"
    assert manifest.notes["pixel_m"] is None
    assert manifest.notes["years"] == []
    assert "Copernicus" not in (floods[1] / "LICENSE.txt").read_text()


def test_the_manifest_without_ground_opens_in_other_programs(floods: tuple[Path, Path]) -> None:
    path = floods[1] / "manifest.parquet"
    frame = geopandas.read_parquet(path)
    assert (len(frame), bool(frame.geometry.isna().all()), str(frame.crs)) == (6, True, "OGC:CRS84")
    items = read_items(path)
    assert [(item["geometry"], "bbox" in item) for item in items] == [(None, False)] * 6


def test_a_dated_place_that_lies_nowhere_is_a_stac_item(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.png", numbers(1, 8, 8, dtype="uint8"))
    (tmp_path / "table.csv").write_text("place,time,sensor,path\na,2024-07-01,s2,a.png\n")
    pipeline.shard(tmp_path / "data", options(tmp_path / "table.csv"))
    (item,) = read_items(tmp_path / "data" / "manifest.parquet")
    read = Item.from_dict(item)
    assert (read.geometry, read.properties["start_datetime"]) == (None, "2024-07-01T00:00:00Z")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_plain_webdataset_reads_it(floods: tuple[Path, Path]) -> None:
    shard = next(iter(sorted((floods[1] / "shards").glob("train-*.tar"))))
    sample, *_ = list(wds.WebDataset(str(shard), shardshuffle=False))
    gc.collect()
    meta = json.loads(sample["json"])
    described = meta["members"]["s2"]
    array = CODECS["blosc"].decode(sample["0.s2.blosc"], described["dtype"], tuple(described["shape"]))
    place = int(meta["geossl:place"].removeprefix("site "))
    np.testing.assert_array_equal(array, numbers(3, 32, 32, dtype="uint8", start=place * 50))


def test_scenes_keep_ground_times_bands_and_numbers(tmp_path: Path) -> None:
    table = scenes(tmp_path / "scenes")
    report = pipeline.shard(tmp_path / "data", options(table, tile=24))
    assert report.facts["places written"] == 12
    assert report.facts["pixels in strips left over, %"] == pytest.approx(100 * 4 / 52, abs=0.1)
    with gd.open_shards(tmp_path / "data") as shards:
        assert (shards.size_px, shards.notes["pixel_m"]) == (24, 10.0)
        assert shards.notes["label_names"] == {"1": "land", "2": "water"}
        assert {name: (member.factor, member.nodata) for name, member in shards.members.items()} == {
            "ms": (1, -9999.0),
            "sar": (2, -9999.0),
        }
        index = shards.keys.index("p1_r1c0")
        entry = shards.entries[index]
        assert (entry.epsg, entry.x, entry.y) == (32633, 550_000.0, 5_000_000.0 - 240)
        lon, lat = to_lonlat(32633, 550_120.0, 5_000_000.0 - 360)
        assert (entry.lon, entry.lat) == pytest.approx((float(lon), float(lat)))
        assert [time.isoformat() for time in entry.acquired if time] == [
            "2024-07-03T08:00:00+00:00",
            "2024-07-05T08:00:00+00:00",
        ]
        assert entry.labels == (2, 1)
        whole = numbers(13, 48, 52, dtype="int16", start=103)
        np.testing.assert_array_equal(shards.read(index, 0)["ms"], whole[:, 24:48, :24])
        whole = numbers(2, 24, 26, dtype="float32", start=105)
        np.testing.assert_array_equal(shards.read(index, 1)["sar"], whole[:, 12:24, :12])
    frame = geopandas.read_parquet(tmp_path / "data" / "manifest.parquet")
    assert bool(frame.geometry.notna().all())
    for item in stac_table_to_items(tables.open_parquet(tmp_path / "data" / "manifest.parquet")):
        Item.from_dict(item)


def test_geographic_rasters_are_points_on_the_map(tmp_path: Path) -> None:
    grid = Affine(1e-4, 0, 7.5, 0, -1e-4, 46.5)
    write_raster(tmp_path / "a.tif", numbers(1, 20, 20), crs="EPSG:4326", transform=grid)
    (tmp_path / "table.csv").write_text("place,time,sensor,path\na,2024-07-01,s2,a.tif\n")
    pipeline.shard(tmp_path / "data", options(tmp_path / "table.csv", val=0, test=0))
    (entry,) = gd.read_manifest(tmp_path / "data" / "manifest.parquet").entries
    assert (entry.epsg, entry.x, entry.y) == (4326, 7.5, 46.5)
    assert (entry.lon, entry.lat) == pytest.approx((7.501, 46.499))
    frame = geopandas.read_parquet(tmp_path / "data" / "manifest.parquet")
    assert list(frame.geometry.geom_type) == ["Point"]


def test_numbers_with_a_scale_are_stored_as_they_are(tmp_path: Path) -> None:
    array = np.array([[[-32768, -5], [0, 7]]], dtype=np.int16)
    write_raster(tmp_path / "a.tif", array, scales=(0.1,), offsets=(2.0,), nodata=-5)
    (tmp_path / "table.csv").write_text("place,time,sensor,path\na,2024-07-01,dem,a.tif\n")
    pipeline.shard(tmp_path / "data", options(tmp_path / "table.csv", val=0, test=0, min_valid=0.5))
    with gd.open_shards(tmp_path / "data") as shards:
        stored = shards.read(0, 0)["dem"]
        np.testing.assert_array_equal(stored, array)
        physical = shards.members["dem"].physical(stored)
        np.testing.assert_allclose(physical, [[[-3274.8, np.nan], [2.0, 2.7]]], rtol=1e-6)
        assert shards.notes["statistics"]["1"]["mean"] == pytest.approx((-3274.8 + 2 + 2.7) / 3)


def test_places_that_lie_somewhere_and_places_that_do_not_make_one_dataset(tmp_path: Path) -> None:
    lines = ["place,time,sensor,path,lon,lat"]
    for place in range(8):
        grid = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000 + 20_000 * place, 0, -10, 5_000_000)}
        array = numbers(2, 12, 12, start=place)
        write_raster(tmp_path / f"{place}.tif", array, names=("a", "b"), **(grid if place % 2 else {}))
        lines.append(f"p{place},2024-07-01,s2,{place}.tif," + ("9.5,45.5" if place == 2 else ","))
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    pipeline.shard(tmp_path / "data", options(tmp_path / "table.csv", test=0.4))
    assert pipeline.verify(tmp_path / "data", deep=True) == []
    with gd.open_shards(tmp_path / "data") as shards:
        assert {entry.key: entry.epsg for entry in shards.entries} == {
            f"p{place}": 32632 if place % 2 else None for place in range(8)
        }
        assert shards.meta(shards.keys.index("p2"))["proj:centroid"] == {"lat": 45.5, "lon": 9.5}
    frame = geopandas.read_parquet(tmp_path / "data" / "manifest.parquet")
    assert int(frame.geometry.isna().sum()) == 4


def test_nothing_is_found_wrong_with_own_data(floods: tuple[Path, Path]) -> None:
    assert pipeline.verify(floods[1], deep=True) == []


def test_same_table_and_files_same_bytes(tmp_path: Path, floods: tuple[Path, Path]) -> None:
    table, data = floods
    moved = tmp_path / "elsewhere"
    shutil.copytree(table.parent, moved)
    header, *lines = (moved / "table.csv").read_text().splitlines()
    (moved / "table.csv").write_text("\n".join([header, *reversed(lines)]) + "\n")
    pipeline.shard(tmp_path / "data", options(moved / "table.csv", test=0.4), workers=2)
    assert pipeline.digest(tmp_path / "data") == pipeline.digest(data)


def test_a_second_run_does_nothing_and_looks_at_no_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pictures(tmp_path / "pictures", 3)
    assert pipeline.shard(tmp_path / "data", options(table)).fresh
    own._digest.cache_clear()
    monkeypatch.setattr(own, "inspect", lambda *_: pytest.fail("looked at again"))
    report = pipeline.shard(tmp_path / "data", options(table))
    assert not report.fresh
    assert report.facts["places written"] == 3


@pytest.mark.parametrize("change", ["file", "row", "option"])
def test_what_changed_is_not_taken_for_what_was(tmp_path: Path, change: str) -> None:
    table = pictures(tmp_path / "pictures", 3)
    pipeline.shard(tmp_path / "data", options(table))
    before = pipeline.digest(tmp_path / "data")
    asked = options(table)
    if change == "file":
        write_raster(tmp_path / "pictures" / "s1" / "0_0.png", numbers(1, 32, 32, dtype="uint8", start=9))
    elif change == "row":
        table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    else:
        asked = options(table, seed=1)
    with pytest.raises(DatasetError, match=r"cut from other samples or with other options.*--fresh"):
        pipeline.shard(tmp_path / "data", asked)
    assert pipeline.digest(tmp_path / "data") == before
    assert pipeline.shard(tmp_path / "data", asked, fresh=True).fresh
    assert pipeline.digest(tmp_path / "data") != before


def test_what_cannot_be_used_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = pictures(tmp_path / "pictures", 5)
    folder = table.parent
    (folder / "s1" / "0_0.png").unlink()
    (folder / "s2" / "1_0.png").write_text("<VRTDataset/>")
    write_raster(folder / "s2" / "2_0.png", numbers(1, 32, 32, dtype="uint8"))
    write_raster(folder / "s1" / "3_0.png", numbers(1, 16, 16, dtype="uint8"))
    broken = (folder / "s1" / "4_0.png").read_bytes()
    (folder / "s1" / "4_0.png").write_bytes(broken[: len(broken) - 40])
    report = pipeline.shard(tmp_path / "data", options(table))
    assert report.facts["places written"] == 4
    rows = tables.read_table(tmp_path / "data" / "skipped.parquet", Skipped)
    assert {(row.id[:6], row.reason) for row in rows} == {
        ("site-0", "missing-file"),
        ("site-1", "not-an-image"),
        ("site-2", "wrong-bands"),
        ("site-3", "wrong-size"),
        ("site-4", "unreadable"),
    }
    assert not any(str(tmp_path) in row.detail for row in rows)


def test_where_nothing_is_left_one_line_says_why(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.full((1, 8, 8), 5, dtype=np.uint8), nodata=5)
    (tmp_path / "table.csv").write_text("place,time,sensor,path\na,2024-07-01,s2,a.tif\n")
    with pytest.raises(EmptyResultError, match=r"no place is left of table\.csv, most for few-valid-pixels: a\.tif"):
        pipeline.shard(tmp_path / "data", options(tmp_path / "table.csv"))


def test_rasters_may_lie_apart_from_their_table(tmp_path: Path) -> None:
    table = pictures(tmp_path / "pictures", 2)
    moved = tmp_path / "lists" / "table.csv"
    moved.parent.mkdir()
    shutil.move(table, moved)
    with pytest.raises(DatasetError, match=r"none of the 10 rasters can be read; the first: line .*no such file"):
        pipeline.shard(tmp_path / "data", options(moved))
    report = pipeline.shard(tmp_path / "data", options(moved, rasters=str(tmp_path / "pictures")))
    assert report.facts["places written"] == 2
    with pytest.raises(DatasetError, match="nowhere: no such folder of rasters"):
        pipeline.shard(tmp_path / "other", options(moved, rasters=str(tmp_path / "nowhere")))


def test_a_folder_of_samples_is_not_mixed_with_own_rasters(tmp_path: Path) -> None:
    table = pictures(tmp_path / "pictures", 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "samples.parquet").touch()
    with pytest.raises(DatasetError, match="holds samples of a catalog"):
        pipeline.shard(tmp_path / "data", options(table))


# ------------------------------------------------------------------------------------------------ labels, scales


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of scaled numbers whose looks have several classes, one or none; copy it to change it."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = ["place,look,sensor,path,bands,label,scale,offset,units"]
    labels = ["water|forest", "forest", "", "town|water", "town", "forest|town|water"]
    for place, label in enumerate(labels):
        path = f"{place}.tif"
        write_raster(folder / path, numbers(2, 12, 12, dtype="int16", start=100 * place - 300), nodata=-7)
        lines.append(f"p{place},0,s2,{path},B04 B08,{label},0.5,-20,counts")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    pipeline.shard(folder / "data", options(folder / "table.csv", val=0, test=0.3, seed=1))
    return folder / "data"


def test_scale_offset_and_units_are_those_of_the_table(labelled: Path) -> None:
    with gd.open_shards(labelled) as shards:
        member = shards.members["s2"]
        assert (member.bands, member.scale, member.offset, member.units) == (("B04", "B08"), 0.5, -20.0, "counts")
        train = [index for index, entry in enumerate(shards.entries) if entry.split == "train"]
        assert 0 < len(train) < len(shards)
        kept = []
        for index in range(len(shards)):
            place = int(shards.keys[index][1:])
            stored = shards.read(index, 0)["s2"]
            np.testing.assert_array_equal(stored, numbers(2, 12, 12, dtype="int16", start=100 * place - 300))
            kept += [stored[0][stored[0] != -7]] if index in train else []
        values = np.concatenate(kept) * 0.5 - 20
        noted = shards.notes["statistics"]["B04"]
        assert (noted["mean"], noted["std"]) == pytest.approx((values.mean(), values.std()))
        assert noted["count"] == len(values)
        described = shards.meta(0)["members"]["s2"]
        assert (described["scale"], described["offset"], described["units"]) == (0.5, -20.0, "counts")


def test_looks_with_several_classes_say_all_of_them(labelled: Path) -> None:
    with gd.open_shards(labelled) as shards:
        assert shards.notes["label_names"] == {"1": "forest", "2": "town", "3": "water"}
        assert {entry.key: (entry.labels, entry.labels_more) for entry in shards.entries} == {
            "p0": ((3,), ((3, 1),)),
            "p1": ((1,), ((1,),)),
            "p2": ((0,), ()),
            "p3": ((2,), ((2, 3),)),
            "p4": ((2,), ((2,),)),
            "p5": ((1,), ((1, 2, 3),)),
        }
    assert "All classes of each look" in (labelled / "croissant.json").read_text()


def test_a_dataset_of_single_classes_has_no_column_for_several(floods: tuple[Path, Path]) -> None:
    assert "geossl:labels_more" not in tables.open_parquet(floods[1] / "manifest.parquet").column_names


def test_nothing_is_found_wrong_with_scaled_numbers_and_several_classes(labelled: Path, tmp_path: Path) -> None:
    assert pipeline.verify(labelled, deep=True) == []
    pipeline.export(labelled, to="npy", out=tmp_path / "npy")
    assert pipeline.verify(tmp_path / "npy", deep=True) == []
    with gd.open_shards(labelled) as source, gd.open_shards(tmp_path / "npy") as written:
        assert [entry.labels_more for entry in written.entries] == [entry.labels_more for entry in source.entries]
        assert written.members == source.members
        np.testing.assert_array_equal(written.read(0, 0)["s2"], source.read(0, 0)["s2"])


def _other_member(values: dict[str, Any]) -> Callable[[list[Entry], dict[str, Any]], None]:
    def change(entries: list[Entry], notes: dict[str, Any]) -> None:
        notes["members"] = [notes["members"][0] | values]

    return change


def _other_labels(values: dict[str, Any]) -> Callable[[list[Entry], dict[str, Any]], None]:
    def change(entries: list[Entry], notes: dict[str, Any]) -> None:
        number = next(number for number, entry in enumerate(entries) if entry.key == "p0")
        entries[number] = replace(entries[number], **values)

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_other_member({"scale": 0.25}), "its JSON says scale 0.5 of s2, the manifest 0.25"),
        (_other_member({"scale": 0.25}), "statistics of B04: mean"),
        (_other_member({"units": "reflectance"}), "its JSON says units counts of s2, the manifest reflectance"),
        (_other_labels({"labels": (1,)}), "look 0: is labelled 1, the first of its classes is 3"),
        (_other_labels({"labels": (1,)}), "look 0: its JSON says geossl:label 3, the manifest 1"),
        (_other_labels({"labels_more": ((3, 2),)}), "look 0: its JSON says geossl:labels [3, 1], the manifest [3, 2]"),
        (_other_labels({"labels_more": ()}), "look 0: its JSON says geossl:labels [3, 1], the manifest []"),
        (_other_labels({"labels_more": ((3, 9),)}), "look 0: a class 9 that the notes do not name"),
        (_other_labels({"labels_more": ((3, 1, 3),)}), "look 0: a class comes twice among 3, 1, 3"),
    ],
)
def test_what_is_said_otherwise_of_numbers_and_classes_is_found(
    labelled: Path, tmp_path: Path, change: Callable[[list[Entry], dict[str, Any]], None], found: str
) -> None:
    shutil.copytree(labelled, tmp_path / "data")
    manifest = gd.read_manifest(labelled / "manifest.parquet")
    entries, notes = list(manifest.entries), dict(manifest.notes)
    change(entries, notes)
    write_manifest(tmp_path / "data" / "manifest.parquet", entries, notes)
    assert any(found in finding.what for finding in pipeline.verify(tmp_path / "data", deep=True))


def test_classes_of_one_look_for_another_number_of_looks_are_no_entry(labelled: Path) -> None:
    entry = gd.read_manifest(labelled / "manifest.parquet").entries[0]
    with pytest.raises(ShardError, match="columns disagree on the 1 looks"):
        replace(entry, labels_more=((1,), (2,)))


# ------------------------------------------------------------------------------------------------ folders of classes


def classes(folder: Path, n_images: int = 10) -> Path:
    """Pictures of three bands in a folder for each of two classes."""
    for position, name in enumerate(("river", "forest")):
        for number in range(n_images):
            array = numbers(3, 8, 8, dtype="uint8", start=50 * position + number)
            write_raster(folder / name / f"{name}_{number}.png", array)
    return folder


def test_a_folder_of_classes_needs_no_table(geossl: Command, tmp_path: Path) -> None:
    images = classes(tmp_path / "data" / "images")  # in the folder of the dataset, which can be moved with it
    (images / "river" / "notes.txt").write_text("no image\n")
    asked = ("--from-table", images, "--bands", "B04, B03,B02", "--seed", 2)
    code, out, err = geossl("shard", tmp_path / "data", *asked)
    assert code == 0, err
    assert "14 / 2 / 4" in " ".join(out.split())
    with gd.open_shards(tmp_path / "data") as shards:
        assert shards.members["s2"].bands == ("B04", "B03", "B02")
        assert shards.notes["label_names"] == {"1": "forest", "2": "river"}
        counts = Counter((entry.labels[0], entry.split) for entry in shards.entries)
        assert counts == {(kind, split): n for kind in (1, 2) for split, n in (("train", 7), ("val", 1), ("test", 2))}
        index = shards.keys.index("river_3")
        np.testing.assert_array_equal(shards.read(index, 0)["s2"], numbers(3, 8, 8, dtype="uint8", start=3))
        assert shards.entries[index].labels == (2,)
    (skipped,) = tables.read_table(tmp_path / "data" / "skipped.parquet", Skipped)
    assert (skipped.reason, skipped.detail[:16]) == ("not-an-image", "river/notes.txt:")
    assert pipeline.verify(tmp_path / "data", deep=True) == []

    recipe = yaml.safe_load((tmp_path / "data" / "recipe.yaml").read_text())
    assert (recipe["shard"]["from_table"], recipe["shard"]["bands"]) == ("images", "B04, B03,B02")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert not pipeline.shard(tmp_path / "moved").fresh
    code, _, err = geossl("run", tmp_path / "moved" / "recipe.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    assert pipeline.digest(tmp_path / "again") == pipeline.digest(tmp_path / "moved")


def test_a_folder_of_classes_is_not_a_table_of_the_same_images(tmp_path: Path) -> None:
    images = classes(tmp_path / "images", 2)
    pipeline.shard(tmp_path / "data", options(images, bands="B04,B03,B02"))
    lines = ["place,look,sensor,path,label,bands"]
    lines += [
        f"{path.stem},0,s2,{path.parent.name}/{path.name},{path.parent.name},B04 B03 B02"
        for path in images.rglob("*.png")
    ]
    (images / "table.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DatasetError, match="cut from other samples or with other options"):
        pipeline.shard(tmp_path / "data", options(images / "table.csv"))


def test_a_dataset_does_not_become_a_class_of_itself(tmp_path: Path) -> None:
    images = classes(tmp_path / "images", 1)
    for folder in (images, images / "data", images / "river"):
        with pytest.raises(DatasetError, match="whose folders are classes; give the dataset a folder elsewhere"):
            pipeline.shard(folder, options(images))
    assert not (images / "data").exists()


def test_bands_of_a_table_stand_in_the_table(tmp_path: Path) -> None:
    table = pictures(tmp_path / "pictures", 1)
    with pytest.raises(DatasetError, match=r"--bands is for a folder of classes; a table names them in its column"):
        pipeline.shard(tmp_path / "data", options(table, bands="B04"))


# ------------------------------------------------------------------------------------------------ command line, recipe


def test_the_command_makes_shards_and_the_recipe_makes_them_again(geossl: Command, tmp_path: Path) -> None:
    table = pictures(tmp_path / "data", 4)  # the table lies in the dataset folder
    code, out, err = geossl("shard", tmp_path / "data", "--from-table", table, "--shard-mb", 1)
    assert code == 0, err
    assert "s2 3×uint8" in " ".join(out.split())
    recipe = yaml.safe_load((tmp_path / "data" / "recipe.yaml").read_text())
    assert recipe["shard"]["from_table"] == "table.csv"

    code, out, err = geossl("shard", tmp_path / "data")
    assert code == 0, err

    shutil.move(tmp_path / "data", tmp_path / "moved")
    code, _, err = geossl("run", tmp_path / "moved" / "recipe.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    assert pipeline.digest(tmp_path / "again") == pipeline.digest(tmp_path / "moved")
    recipe = yaml.safe_load((tmp_path / "again" / "recipe.yaml").read_text())
    assert recipe["shard"]["from_table"] == str(tmp_path / "moved" / "table.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from-table", "gone.csv"), "gone.csv: the table cannot be read: No such file"),
        (("--from-table", "https://host/a.csv?sig=SECRET"), "https://host/a.csv: an address where a file"),
        (("--tile", 12), "tile is for --from-table only"),
        (("--bands", "B04"), "bands is for --from-table only"),
        (("--from-table", "gone.csv", "--bands", "B04,,B02"), "is not names of bands with commas between them"),
        (("--from-table", "gone.csv", "--max-cloud", 5), "max_cloud is for scenes of a catalog only"),
        (("--from-table", "gone.csv", "--val", 0.5, "--test", 0.5), "val + test leave nothing to train on"),
    ],
)
def test_bad_words_on_the_command_line_are_one_line(
    geossl: Command, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    code, out, err = geossl("shard", tmp_path / "data", *arguments)
    assert (code, out) == (1, "")
    assert message in err.splitlines()[-1]
    assert "SECRET" not in err
    assert not (tmp_path / "data").exists()


def test_rectangles_are_told_about_tiles(geossl: Command, tmp_path: Path) -> None:
    table = scenes(tmp_path / "scenes", 1)
    code, out, err = geossl("shard", tmp_path / "data", "--from-table", table)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "geossl: rasters of ms are 52 × 48 px; shards hold squares: cut them with --tile N"
