"""A place opened by people: the same from shards and from rasters, where the scenes have it, or one clear line."""

import ast
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr

import geossl_data as gd
from geossl_data import tables
from geossl_data.bands import S1_BANDS, S2_BANDS
from geossl_data.errors import DatasetError, GeosslError, ReadError, ShardError
from geossl_data.pipeline._open import Source, label_names
from geossl_data.records import Sample, Skipped
from geossl_data.scenes.items import read_items
from geossl_data.shards.manifest import read_manifest
from geossl_data.shards.reading.shards import Shards
from geossl_data.shards.stac_table import write_manifest
from geossl_data.tiles.rasters import SkipError

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "open_a_place.py"


def samples_of(folder: Path) -> list[Sample]:
    return tables.read_table(folder / "samples.parquet", Sample)


def write_samples(folder: Path, samples: list[Sample]) -> None:
    tables.write_table(folder / "samples.parquet", samples, Sample)


def without_from_shards(folder: Path, key: str) -> None:
    """Make a dataset one in which the shard stage gave a sample up."""
    manifest = read_manifest(folder / "manifest.parquet")
    entries = [entry for entry in manifest.entries if entry.key != key]
    write_manifest(folder / "manifest.parquet", entries, manifest.notes)
    row = Skipped(stage="shard", id=key, reason="few-valid-pixels", detail="S2_1: 3.0% of the pixels are valid")
    tables.write_table(folder / "skipped.parquet", [row], Skipped)


def message(act: Any, *arguments: Any, **options: Any) -> str:
    """The one line of an error."""
    with pytest.raises(GeosslError) as caught:
        act(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("resolution_m", "positions"), [(10, range(0, 40, 7)), (20, [3]), (60, [3])])
def test_shards_and_rasters_open_alike(built: Path, resolution_m: int, positions: Any) -> None:
    offsets = set()
    for position in positions:
        one = gd.open_sample(built, position, resolution_m=resolution_m, source="shards")
        other = gd.open_sample(built, position, resolution_m=resolution_m, source="rasters")
        xr.testing.assert_identical(one, other)
        assert "label" in one
        offsets |= set(one.offset_applied.values)
    assert offsets == {0, -1000}


def test_values_lie_where_the_scenes_have_them(built: Path) -> None:
    scenes = {scene.id: scene for scene in gd.read_scenes(built / "scenes.parquet")}
    rng = np.random.default_rng(5)
    for position in (0, 11, 23):
        look = gd.open_look(built, position, 1)
        columns, rows = rng.integers(0, 60, 20), rng.integers(0, 60, 20)
        points = list(zip(look.x.values[columns], look.y.values[rows], strict=True))
        s2, s1 = scenes[str(look.s2_id.values)], scenes[str(look.s1_id.values)]
        for band in (*S2_BANDS, *S1_BANDS, "SCL"):
            with rasterio.open((s2 if band in s2.hrefs else s1).hrefs[band]) as raster:
                assert raster.crs.to_epsg() == look.rio.crs.to_epsg()
                stored = np.array([values[0] for values in raster.sample(points)])
            found = look[band].values[rows, columns]
            if band == "SCL":
                np.testing.assert_array_equal(found, stored)
            elif band in S2_BANDS:
                shifted = np.maximum(stored + float(look.offset_applied), 1) / 10_000
                np.testing.assert_allclose(found, np.where(stored == 0, np.nan, shifted), rtol=1e-6)
            else:
                power = np.where(stored > 0, stored, np.nan)
                np.testing.assert_allclose(found, 10 * np.log10(power), atol=0.02)


def test_a_look_is_the_samples_look(built: Path) -> None:
    sample = samples_of(built)[4]
    whole = gd.open_sample(built, sample.key)
    for number, look in enumerate(sample.looks):
        one = gd.open_look(str(built), 4, number)
        assert str(one.s2_id.values) == look.s2_id
        assert one.time.dims == ()
        assert dict(one.sizes) == {"y": 60, "x": 60}
        xr.testing.assert_equal(one, whole.isel(time=number))


@pytest.mark.parametrize("source", ["shards", "rasters"])
def test_of_one_look_no_other_look_is_read(built: Path, monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    from geossl_data.tiles import build

    read: list[Any] = []
    read_shards, build_tile = Shards.read, build.build_tile

    def reading(self: Shards, index: int, look: int) -> Any:
        read.append((index, look))
        return read_shards(self, index, look)

    def building(sample: Sample, *arguments: Any, **options: Any) -> Any:
        read.extend(look.s2_id for look in sample.looks)
        return build_tile(sample, *arguments, **options)

    monkeypatch.setattr(Shards, "read", reading)
    monkeypatch.setattr(build, "build_tile", building)
    look = gd.open_look(built, 2, 1, source=source)
    assert read == ([(0, 1)] if source == "shards" else [str(look.s2_id.values)])


def test_a_number_is_a_row_of_the_table_of_samples(built: Path) -> None:
    keys = [sample.key for sample in samples_of(built)]
    assert [gd.open_look(built, position).attrs["key"] for position in (0, 17, 39)] == [keys[0], keys[17], keys[39]]
    assert gd.open_look(built, np.int64(17)).attrs["key"] == keys[17]
    assert keys != [entry.key for entry in read_manifest(built / "manifest.parquet").entries]


def test_before_the_shards_are_cut_the_rasters_are_read(dataset: Path, built: Path) -> None:
    shutil.rmtree(dataset / "shards")
    (dataset / "manifest.parquet").unlink()
    xr.testing.assert_identical(gd.open_sample(dataset, 6), gd.open_sample(built, 6, source="shards"))
    assert message(gd.open_look, dataset, 6, source="shards").endswith("as it is drawn now; run `geossl shard`")


def test_shards_alone_are_enough(tmp_path: Path, built: Path) -> None:
    shutil.copytree(built / "shards", tmp_path / "shards")
    shutil.copy(built / "manifest.parquet", tmp_path)
    entry = read_manifest(built / "manifest.parquet").entries[8]
    alone = gd.open_sample(tmp_path, 8)
    assert alone.attrs["key"] == entry.key
    xr.testing.assert_identical(alone, gd.open_sample(built, entry.key))
    assert "scenes.parquet is missing; run `geossl fetch` first" in message(gd.open_look, tmp_path, 8, source="rasters")


def test_a_sample_that_was_skipped_opens_from_the_rasters(dataset: Path) -> None:
    key = samples_of(dataset)[3].key
    without_from_shards(dataset, key)
    assert gd.open_look(dataset, 3).attrs["key"] == key
    text = message(gd.open_look, dataset, 3, source="shards")
    assert text.endswith(f"do not hold sample {key} (few-valid-pixels: S2_1: 3.0% of the pixels are valid)")


def test_shards_of_an_earlier_draw_are_not_taken_for_this_one(dataset: Path) -> None:
    samples = samples_of(dataset)
    first, second = samples[0].looks
    later = replace(second, s1_id=first.s1_id, gap_hours=first.gap_hours)
    samples[0] = replace(samples[0], looks=(first, later), spares=())
    write_samples(dataset, samples)
    with pytest.raises(DatasetError, match="as it is drawn now; run `geossl shard`"):
        gd.open_sample(dataset, source="shards")
    samples[0] = replace(samples[0], looks=(later,))
    write_samples(dataset, samples)
    with pytest.raises(DatasetError, match="as it is drawn now; run `geossl shard`"):
        gd.open_sample(dataset, source="shards")
    moved = replace(samples[1].place, x=samples[1].place.x + 60)
    samples[1] = replace(samples[1], place=moved)
    write_samples(dataset, samples)
    assert float(gd.open_look(dataset, 1).x[0]) == moved.x + 5


def test_a_spare_that_the_shards_took_is_the_look_that_is_shown(dataset: Path, built: Path) -> None:
    samples = samples_of(dataset)
    written = samples[0].looks[0]
    drawn = replace(written, s2_id="S2_cloudy", acquired=written.acquired - timedelta(hours=1))
    samples[0] = replace(samples[0], looks=(drawn, *samples[0].looks[1:]), spares=((written,), ()))
    write_samples(dataset, samples)
    for source in ("auto", "shards", "rasters"):
        xr.testing.assert_identical(gd.open_sample(dataset, source=source), gd.open_sample(built))


def test_too_few_valid_pixels_are_shown_all_the_same(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geossl_data.tiles import build

    asked: list[float] = []

    def building(*arguments: Any, min_valid: float, **options: Any) -> Any:
        asked.append(min_valid)
        raise SkipError("outside", "not here")

    monkeypatch.setattr(build, "build_tile", building)
    with pytest.raises(SkipError, match="not here"):
        gd.open_look(dataset, source="rasters")
    assert asked == [0.0]


def test_only_the_scenes_of_the_looks_are_parsed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geossl_data.scenes import scene

    parsed: list[str] = []
    scene_from_item = scene.scene_from_item

    def parsing(item: Any, *arguments: Any) -> Any:
        parsed.append(item["id"])
        return scene_from_item(item, *arguments)

    monkeypatch.setattr(scene, "scene_from_item", parsing)
    look = gd.open_look(built, source="rasters")
    maps = [item["id"] for item in read_items(built / "scenes.parquet") if "class" in item["assets"]]
    assert sorted(parsed) == sorted([str(look.s2_id.values), str(look.s1_id.values), *maps])


def test_land_classes_have_their_names(built: Path) -> None:
    look = gd.open_look(built)
    names = look.label.attrs["flag_meanings"].split()
    assert dict(zip(look.label.attrs["flag_values"].tolist(), names, strict=True))[6] == "urban"
    assert (
        label_names(read_items(built / "scenes.parquet"))
        == read_manifest(built / "manifest.parquet").notes["label_names"]
    )


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("nobody",), {}, "no sample 'nobody' among 40"),
        ((40,), {}, "no sample '40' among 40"),
        ((-1,), {}, "no sample '-1' among 40"),
        ((0, 2), {}, "has no look 2; it has 2, from 0 on"),
        ((0, -1), {}, "has no look -1"),
        ((0, 0), {"source": "cloud"}, "source 'cloud' is not one of auto, shards, rasters"),
        ((0, 0), {"resolution_m": 30}, "resolution 30 m is not one of"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(built: Path, arguments: Any, options: Any, words: str) -> None:
    assert words in message(gd.open_look, built, *arguments, **options)


def test_a_folder_that_is_no_dataset_is_said_in_one_line(tmp_path: Path, dataset: Path) -> None:
    assert message(gd.open_look, tmp_path / "none").endswith("none: no such folder")
    assert "not a geossl dataset" in message(gd.open_sample, tmp_path)
    for name in ("samples.parquet", "manifest.parquet"):
        (dataset / name).unlink()
    assert "samples.parquet is missing; run `geossl sample` first" in message(gd.open_sample, dataset)


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("samples.parquet", "key", "not a readable Parquet table"),
        ("scenes.parquet", "collection", "not a table of scenes; run `geossl fetch --fresh`"),
    ],
)
def test_a_table_that_lacks_a_column_is_said_in_one_line(dataset: Path, name: str, column: str, words: str) -> None:
    table = pq.read_table(dataset / name)
    pq.write_table(table.drop_columns([column]), dataset / name)
    assert words in message(gd.open_look, dataset, source="rasters")


def test_a_raster_that_is_gone_is_said_in_one_line(dataset: Path, tmp_path: Path, planet: Path) -> None:
    moved = Path(shutil.copytree(planet.parent, tmp_path / "elsewhere"))
    gd.pipeline.fetch(tmp_path / "other", gd.FetchOptions(catalog=str(moved / planet.name), max_cloud=60))
    shutil.copy(dataset / "samples.parquet", tmp_path / "other")
    shutil.rmtree(moved)
    with pytest.raises(ReadError, match=r"\A[^\n]+\Z"):
        gd.open_look(tmp_path / "other")


@pytest.mark.parametrize("document", [{}, {"looks": 3}, {"looks": [{"s2": {}}]}, {"looks": [{"s2": {}}, {"s2": 1}]}])
def test_a_damaged_description_is_said_in_one_line(
    built: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    monkeypatch.setattr(Shards, "meta", lambda self, index: document)
    with pytest.raises(ShardError, match=r"does not describe its looks; run `geossl verify`"):
        gd.open_look(built)


def test_a_notebook_plots_it_in_two_lines(built: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot

    ds = gd.open_look(built)
    image = ds[["B04", "B03", "B02"]].to_array().plot.imshow(robust=True)

    west, south, east, north = ds.rio.bounds()
    assert image.get_extent() == [west, east, south, north]
    assert image.origin == "upper"
    assert image.axes.get_ylim() == (south, north)
    assert image.axes.get_ylabel() == "northing [m]"
    north_up = ds.sortby("y", ascending=False)
    colours = np.stack([north_up[band].values for band in ("B04", "B03", "B02")], axis=-1)
    darkest, brightest = np.percentile(colours, [2, 98])
    expected = np.clip((colours - darkest) / (brightest - darkest), 0, 1)
    np.testing.assert_allclose(np.asarray(image.get_array())[..., :3], expected, atol=1e-3)
    pyplot.close("all")


def test_the_example_runs(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mpl.use("Agg")
    place = runpy.run_path(str(EXAMPLE))["main"](built, tmp_path / "place.png")
    assert dict(place.sizes) == {"time": 2, "y": 30, "x": 30}
    assert (tmp_path / "place.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3
    assert "NDVI" in out[1]


def test_xarray_is_imported_when_a_place_is_opened_and_warns_of_nothing(built: Path) -> None:
    code = (
        "import sys, geossl_data as gd; open_look = gd.open_look; heavy = {'xarray', 'rioxarray', 'rasterio'}\n"
        f"print(sorted(heavy & set(sys.modules))); print(open_look({str(built)!r}).sizes['x'])"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True).stdout
    before, side = out.splitlines()
    assert (ast.literal_eval(before), int(side)) == ([], 60)
