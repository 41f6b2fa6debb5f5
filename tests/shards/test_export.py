"""What is exported is what is stored: pixel for pixel, grid for grid, with rasterio as the judge."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from geossl_data import pipeline
from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import DatasetError, ShardError, StorageError
from geossl_data.files import sha256
from geossl_data.pipeline._open import open_sample
from geossl_data.shards.export import export_geotiffs, grid_of
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, read_manifest
from geossl_data.shards.reading.shards import open_shards
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.verify import verify
from geossl_data.tiles.geotiffs import SCL_COLOURS, Sheet, write_geotiff


@pytest.fixture
def folder(tmp_path: Path, sample: Any, write_dataset: Any) -> Path:
    """Four places, two of them train; a licence beside them."""
    samples = [sample(1), sample(3), sample(2, "val"), sample(4, "test")]
    write_dataset(tmp_path / "data", samples)
    (tmp_path / "data" / "LICENSE.txt").write_text("Contains modified Copernicus Sentinel data [2021]\n")
    return tmp_path / "data"


def tiffs(place: Path) -> dict[str, Path]:
    return {path.name: path for path in place.glob("*.tif")}


# ------------------------------------------------------------------------------------------------ GeoTIFF


@pytest.mark.parametrize("codec", ["blosc", "npy", "archive"])
def test_every_pixel_and_grid_of_a_place(tmp_path: Path, sample: Any, write_dataset: Any, codec: str) -> None:
    write_dataset(tmp_path / "data", [sample(1)], codec=codec)
    report = pipeline.export(tmp_path / "data", "place-001")
    place = tmp_path / "data" / "exported" / "geotiff" / "place-001"
    found = tiffs(place)
    assert sorted(found) == sorted(
        f"{look}_{day}_{name}.tif" for look, day in ((0, "20210304"), (1, "20210612")) for name in MEMBERS
    )
    assert report.facts | {"MB": 0} == {"places": 1, "looks": 2, "files": 13, "MB": 0, "folder": str(place)}
    shards = open_shards(tmp_path / "data")
    (entry,) = shards.entries
    for look, day in ((0, "20210304"), (1, "20210612")):
        for name, stored in shards.read(0, look).items():
            member = MEMBERS[name]
            with rasterio.open(found[f"{look}_{day}_{name}.tif"]) as raster:
                expected = member.physical(stored)
                np.testing.assert_array_equal(raster.read(), expected[None] if member.plane else expected)
                assert raster.descriptions == member.bands
                assert raster.crs.to_epsg() == entry.epsg
                side = 10.0 * member.factor
                assert tuple(raster.transform)[:6] == (side, 0.0, entry.x, 0.0, -side, entry.y)
                assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert raster.profile["compress"] == "deflate"
                assert raster.tags()["datetime" if not member.plane or name == "scl" else "AREA_OR_POINT"]
    assert json.loads((place / "place-001.json").read_text()) == shards.meta(0)


def test_numbers_say_what_they_mean(folder: Path) -> None:
    pipeline.export(folder, "place-001")
    found = tiffs(folder / "exported" / "geotiff" / "place-001")
    with rasterio.open(found["0_20210304_s2_10m.tif"]) as raster:
        assert (raster.nodata, set(raster.dtypes), set(raster.scales), set(raster.offsets)) == (
            0.0, {"uint16"}, {0.0001}, {0.0}
        )  # fmt: skip
        assert raster.units == ("reflectance",) * 4
        assert raster.colorinterp == (
            ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined
        )  # fmt: skip
        assert raster.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"
        assert raster.tags()["scene"] == "S2_1_0"
        assert raster.tags()["datetime"] == "2021-03-04T10:21:30Z"
        assert raster.tags()["TIFFTAG_COPYRIGHT"] == "Contains modified Copernicus Sentinel data [2021]"
    with rasterio.open(found["0_20210304_s1.tif"]) as raster:
        assert np.isnan(raster.nodata)
        assert set(raster.dtypes) == {"float32"}
        assert raster.units == ("dB", "dB")
        assert raster.tags()["scene"] == "S1_1_0"
        assert np.isnan(raster.read(1)[0, 1])
        assert raster.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
    with rasterio.open(found["0_20210304_scl.tif"]) as raster:
        colours = raster.colormap(1)
        assert {value: colours[value][:3] for value in SCL_COLOURS} == SCL_COLOURS
        assert raster.nodata == 0
        assert raster.colorinterp == (ColorInterp.palette,)
    assert not list((folder / "exported").rglob("*.aux.xml"))
    assert (folder / "exported" / "geotiff" / "LICENSE.txt").read_text().endswith("[2021]\n")


def test_a_place_as_it_opens_in_a_notebook_is_the_same(folder: Path, tmp_path: Path) -> None:
    """Through another reader: coordinates and values of the opened dataset against those of the files."""
    entry = read_manifest(folder / MANIFEST_NAME).entries[3]
    pipeline.export(folder, entry.key, out=tmp_path)
    dataset = open_sample(folder, entry.key, source="shards")
    for look, day in enumerate(f"{time:%Y%m%d}" for time in entry.acquired):
        for name in ("s2_10m", "s2_20m", "s2_60m", "s1", "scl"):
            with rasterio.open(tmp_path / entry.key / f"{look}_{day}_{name}.tif") as raster:
                assert raster.crs == dataset.rio.crs
                times = MEMBERS[name].factor
                left, top = raster.xy(0, 0, offset="ul")
                assert left == pytest.approx(float(dataset.x[0]) - 5.0)
                assert top == pytest.approx(float(dataset.y[0]) + 5.0)
                for band, values in zip(raster.descriptions, raster.read(masked=True), strict=True):
                    shown = dataset[band].isel(time=look).values[::times, ::times]
                    if name == "scl":
                        np.testing.assert_array_equal(values.filled(0), shown)
                    else:
                        physical = values.astype(np.float64).filled(np.nan) * raster.scales[0]
                        np.testing.assert_allclose(physical, shown, rtol=1e-6)


def test_nothing_is_replaced_unless_told(folder: Path) -> None:
    pipeline.export(folder, 0)
    place = next((folder / "exported" / "geotiff").glob("place-*"))
    (place / "mine.qgz").write_text("my project")
    path = next(iter(tiffs(place).values()))
    whole = path.read_bytes()
    path.write_bytes(b"changed")
    with pytest.raises(DatasetError, match="there already; name another folder with --out, or replace with --fresh"):
        pipeline.export(folder, 0)
    with pytest.raises(DatasetError, match="there already"):
        pipeline.export(folder, everything=True)
    assert path.read_bytes() == b"changed"
    pipeline.export(folder, 0, fresh=True)
    assert path.read_bytes() == whole
    assert (place / "mine.qgz").read_text() == "my project"


def test_which_samples_are_written(folder: Path, tmp_path: Path) -> None:
    def keys(name: str) -> list[str]:
        return sorted(path.name for path in (tmp_path / name).iterdir() if path.is_dir())

    entries = read_manifest(folder / MANIFEST_NAME).entries
    pipeline.export(folder, out=tmp_path / "first")
    assert keys("first") == [entries[0].key]
    pipeline.export(folder, 2, out=tmp_path / "third")
    assert keys("third") == [entries[2].key]
    pipeline.export(folder, split="train", out=tmp_path / "split")
    assert keys("split") == ["place-001", "place-003"]
    pipeline.export(folder, everything=True, out=tmp_path / "all")
    assert keys("all") == ["place-001", "place-002", "place-003", "place-004"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "place-009"}, "no sample 'place-009' among 4"),
        ({"key": 4}, "no sample '4' among 4"),
        ({"key": -1}, "no sample '-1' among 4"),
        ({"key": "../place-001"}, "no sample '../place-001'"),
        ({"key": 0, "everything": True}, "exclude each other"),
        ({"split": "validation"}, "split 'validation' is not one of train, val, test"),
        ({"to": "zarr"}, "export to 'zarr' is not one of geotiff, npy"),
    ],
)
def test_what_is_not_there_is_one_line(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        pipeline.export(folder, **options)
    assert not (folder / "exported").exists()


def test_an_empty_split_is_one_line(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    write_dataset(tmp_path, [sample(1)])
    with pytest.raises(DatasetError, match="no sample in split val"):
        pipeline.export(tmp_path, split="val")


def test_damaged_shards_are_not_exported(folder: Path) -> None:
    path = folder / SHARDS_FOLDER / "train-000000.tar"
    content = bytearray(path.read_bytes())
    entry = next(entry for entry in read_manifest(folder / MANIFEST_NAME).entries if entry.split == "train")
    content[entry.offset + entry.nbytes - 600] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match="CRC-32"):
        pipeline.export(folder, entry.key)
    with pytest.raises(ShardError, match="nothing is exported while 1 samples are damaged"):
        pipeline.export(folder, to="npy")
    assert not (folder / "exported" / "npy" / MANIFEST_NAME).exists()


def test_a_place_that_lies_nowhere_becomes_plain_pictures(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder / MANIFEST_NAME)
    nowhere = dict.fromkeys(("lon", "lat", "epsg", "x", "y"))
    rows = [
        type(entry)(**{name: getattr(entry, name) for name in entry.__slots__} | nowhere) for entry in manifest.entries
    ]
    write_manifest(folder / MANIFEST_NAME, rows, manifest.notes | {"pixel_m": None})
    shards = open_shards(folder)
    meta = {name: value for name, value in shards.meta(0).items() if not name.startswith("proj:")}
    shards.meta = lambda index: meta  # type: ignore[method-assign]
    *paths, card = export_geotiffs(shards, 0, tmp_path / "out")
    assert json.loads(card.read_text()) == meta
    with pytest.warns(NotGeoreferencedWarning):
        raster = rasterio.open(paths[0])
    with raster:
        assert raster.crs is None
        assert raster.descriptions == MEMBERS["s2_10m"].bands
        np.testing.assert_array_equal(raster.read(), shards.read(0, 0)["s2_10m"])


def test_a_grid_of_ones_own_comes_from_the_json(folder: Path) -> None:
    entry = read_manifest(folder / MANIFEST_NAME).entries[0]
    grid = [0.25, 0.1, 5.0, 0.1, -0.25, 7.0]
    assert grid_of(entry, {"proj:wkt2": "WKT", "proj:transform": grid}, None) == ("WKT", tuple(grid))
    assert grid_of(entry, {"proj:code": "EPSG:4326", "proj:transform": grid}, 10.0)[0] == "EPSG:32632"
    for damaged in (grid[:5], [*grid[:5], "x"], [*grid[:5], float("nan")], None):
        assert grid_of(entry, {"proj:code": "EPSG:4326", "proj:transform": damaged}, None) == (None, None)
    assert grid_of(entry, {"proj:code": 4326, "proj:transform": grid}, None) == (None, None)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
def test_every_dtype_of_shards_is_written_as_it_is(tmp_path: Path, dtype: str) -> None:
    values = np.arange(2 * 7 * 5).reshape(2, 7, 5).astype(dtype)
    sheet = Sheet(bands=("one", "two"), crs="EPSG:32632", transform=(10.0, 0.0, 0.0, 0.0, -10.0, 0.0), nodata=None)
    write_geotiff(tmp_path / "a.tif", values, sheet)
    with rasterio.open(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.read(), values)
        assert raster.dtypes[0] == ("float32" if dtype == "float16" else dtype)


def test_overviews_average_numbers_and_pick_classes_and_decibels(tmp_path: Path) -> None:
    checkers = np.indices((600, 600)).sum(axis=0) % 2
    for kind, expected in (("numbers", {30.0}), ("classes", {20.0, 40.0}), ("decibels", {20.0, 40.0})):
        sheet = Sheet(
            bands=("one",), crs="EPSG:32632", transform=(10.0, 0.0, 0.0, 0.0, -10.0, 0.0), nodata=None, kind=kind
        )
        write_geotiff(tmp_path / f"{kind}.tif", (20 + 20 * checkers)[None].astype(np.float32), sheet)
        with rasterio.open(tmp_path / f"{kind}.tif", overview_level=0) as raster:
            assert raster.width == 300
            assert set(np.unique(raster.read())) <= expected


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sheet = Sheet(bands=("one",), crs=None, transform=None, nodata=None)
    with pytest.raises(StorageError, match="cannot be written"):
        write_geotiff(tmp_path / "file" / "a.tif", np.zeros((1, 2, 2), np.uint8), sheet)
    with pytest.raises(StorageError, match="cannot be written"):
        write_geotiff(tmp_path / "a.tif", np.zeros((1, 2, 2), np.uint8), Sheet(
            bands=("one",), crs="EPSG:999999", transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0), nodata=None
        ))  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# ------------------------------------------------------------------------------------------------ plain NumPy shards


@pytest.mark.parametrize("codec", ["blosc", "npy", "archive"])
def test_plain_shards_hold_the_same(tmp_path: Path, sample: Any, write_dataset: Any, codec: str) -> None:
    samples = [sample(number, split) for number, split in ((1, "train"), (3, "train"), (2, "val"), (4, "test"))]
    write_dataset(tmp_path / "data", samples, codec=codec)
    report = pipeline.export(tmp_path / "data", to="npy")
    target = tmp_path / "data" / "exported" / "npy"
    assert report.facts | {"MB": 0} == {"places": 4, "looks": 8, "shards": 3, "MB": 0, "folder": str(target)}
    source, written = open_shards(tmp_path / "data"), open_shards(target)
    assert written.notes["codec"] == "npy"
    assert (written.keys, written.members) == (source.keys, source.members)
    for name in ("statistics", "years", "size_px", "label_names", "pixel_m", "buffer_km"):
        assert written.notes[name] == source.notes[name]
    for index, look in source.looks:
        one, other = source.read(index, look), written.read(index, look)
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])
        assert written.meta(index) == source.meta(index)
    assert verify(target, deep=True) == []
    assert {path.name for path in target.iterdir()} >= {"LICENSE.txt", "collection.json", "croissant.json"}


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_plain_shards_are_the_same_bytes_every_time_and_after_a_cut(folder: Path, tmp_path: Path) -> None:
    pipeline.export(folder, to="npy", out=tmp_path / "one")
    pipeline.export(folder, to="npy", out=tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    (tmp_path / "two" / MANIFEST_NAME).unlink()
    (tmp_path / "two" / SHARDS_FOLDER / "val-000000.tar").write_bytes(b"half")
    assert pipeline.export(folder, to="npy", out=tmp_path / "two").fresh
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert not pipeline.export(folder, to="npy", out=tmp_path / "two").fresh


def test_a_split_as_plain_shards(folder: Path, tmp_path: Path) -> None:
    pipeline.export(folder, to="npy", split="val", out=tmp_path / "val")
    written = open_shards(tmp_path / "val")
    assert written.keys == ["place-002"]
    assert verify(tmp_path / "val", deep=True) == []
    with pytest.raises(DatasetError, match="another export is there already"):
        pipeline.export(folder, to="npy", split="train", out=tmp_path / "val")
    pipeline.export(folder, to="npy", split="train", out=tmp_path / "val", fresh=True)
    assert sorted(open_shards(tmp_path / "val").keys) == ["place-001", "place-003"]
    assert verify(tmp_path / "val", deep=True) == []


def test_no_export_replaces_a_dataset(folder: Path, tmp_path: Path) -> None:
    pipeline.export(folder, to="npy", out=tmp_path / "other")
    (tmp_path / "other" / "recipe.yaml").write_text("geossl: 1\n")
    before = hashes(tmp_path)
    for target in (tmp_path / "other", folder):
        with pytest.raises(DatasetError, match="a dataset of its own, which no export replaces"):
            pipeline.export(folder, to="npy", out=target, fresh=True)
    assert hashes(tmp_path) == before


def test_other_rasters_as_geotiffs(tmp_path: Path) -> None:
    from contextlib import nullcontext

    from geossl_data.shards.manifest import Entry
    from geossl_data.shards.writing.content import Content
    from geossl_data.shards.writing.plan import plan_shards
    from geossl_data.shards.writing.report import manifest_notes
    from geossl_data.shards.writing.writer import write_shards

    members = {
        "drone": Member("drone", "drone", ("red", "green", "blue"), 1, "uint8", "", nodata=255.0),
        "height": Member("height", "height", ("m",), 2, "int16", "m", scale=0.5, offset=3.0, nodata=-32768.0),
    }
    height = np.array([[[0, 1], [-32768, 4]]], np.int16)
    nothing: tuple[None, ...] = (None,)

    def content(planned: Planned) -> Content:
        row = dict.fromkeys(("lon", "lat", "epsg", "x", "y")) | {
            "block": "b", "cell": "", "stratum": "", "weight": 1.0, "inclusion_probability": 1.0, "acquired": nothing,
            "gap_hours": nothing, "s2_ids": ("",), "s1_ids": ("",), "labels": (0,), "cloud_fraction": nothing,
            "s2_valid_fraction": nothing, "s1_valid_fraction": nothing,
        }  # fmt: skip
        look = {"drone": np.arange(48, dtype=np.uint8).reshape(3, 4, 4), "height": members["height"].physical(height)}
        meta = {
            "looks": [{"index": 0}],
            "proj:code": "EPSG:3857",
            "proj:transform": [0.3, 0.0, 100.0, 0.0, -0.4, 200.0],
        }
        return Content(key="own-1", split="train", size_px=4, looks=(look,), meta=meta, row=row)

    plans = plan_shards([Planned("own-1", "train")], shard_mb=1, seed=0, nbytes=lambda _: 1.0)
    reports = write_shards(plans, tmp_path / SHARDS_FOLDER, lambda _: nullcontext(content), members=members)
    entries: list[Entry] = [entry for report in reports for entry in report.entries]
    notes = manifest_notes(reports, fingerprint="f", codec="blosc", members=members, pixel_m=None)
    write_manifest(tmp_path / MANIFEST_NAME, entries, notes)
    pipeline.export(tmp_path, out=tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "own-1" / "0_height.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), np.array([[3.0, 3.5], [np.nan, 5.0]], np.float32))
        assert tuple(raster.transform)[:6] == (0.6, 0.0, 100.0, 0.0, -0.8, 200.0)
        assert raster.crs.to_epsg() == 3857
    with rasterio.open(tmp_path / "out" / "own-1" / "0_drone.tif") as raster:
        np.testing.assert_array_equal(raster.read(), np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
        assert (raster.nodata, raster.descriptions) == (255.0, ("red", "green", "blue"))
    pipeline.export(tmp_path, to="npy", out=tmp_path / "npy")
    assert verify(tmp_path / "npy", deep=True) == []


@dataclass(frozen=True)
class Planned:
    key: str
    split: Any
