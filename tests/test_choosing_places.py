"""Sampling as it is typed: strategies, strata, quotas, measured change, comparisons, and what cannot be drawn."""

import csv
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from geossl_data import pipeline, tables
from geossl_data.bands import S2_BANDS
from geossl_data.errors import GeosslError
from geossl_data.files import exclusive, sha256
from geossl_data.grid import to_lonlat
from geossl_data.pipeline._folder import HEADERS
from geossl_data.recipe import FetchOptions, PlacesOptions, SampleOptions, ShardOptions
from geossl_data.records import RejectedSquare, Sample, Site
from geossl_data.scenes.store import read_scenes
from geossl_data.shards.manifest import read_manifest

Command = Callable[..., tuple[int, str, str]]
BASE = SampleOptions(size=60, block_km=1.0)


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory, planet: Path) -> Path:
    folder = tmp_path_factory.mktemp("fetched") / "data"
    pipeline.fetch(folder, FetchOptions(catalog=str(planet), max_cloud=60))
    return folder


@pytest.fixture
def folder(tmp_path: Path, fetched: Path) -> Path:
    return Path(shutil.copytree(fetched, tmp_path / "data"))


def drawn(folder: Path, **options: object) -> list[Sample]:
    pipeline.sample(folder, BASE.model_copy(update=options))
    return tables.read_table(folder / "samples.parquet", Sample)


def test_a_mixture_notes_who_drew_and_what_was_measured(folder: Path) -> None:
    samples = drawn(folder, strategy="mixture", mixture="geography=0.5,change=0.5", count=20)
    assert Counter(sample.drawn_by for sample in samples) == {"geography": 10, "change": 10}
    by_change = [sample.change_score for sample in samples if sample.drawn_by == "change"]
    assert all(score is not None and score > 0 for score in by_change)
    assert all(0 < sample.inclusion_probability <= 1 for sample in samples)
    assert (folder / "measures.parquet").is_file()
    pipeline.shard(folder, ShardOptions())
    entries = {entry.key: entry for entry in read_manifest(folder / "manifest.parquet").entries}
    for sample in samples:
        if sample.key in entries:
            assert entries[sample.key].change_score == sample.change_score
            assert entries[sample.key].drawn_by == sample.drawn_by
    assert pipeline.verify(folder, deep=True) == []


def test_draws_of_several_seeds_may_share_their_splits(folder: Path) -> None:
    splits = {}
    for seed, split_seed in ((0, None), (1, 0), (1, None)):
        samples = drawn(folder, strategy="uniform", count=25, seed=seed, split_seed=split_seed)
        splits[seed, split_seed] = {sample.key: sample.split for sample in samples}
    first, other, own = splits.values()
    assert set(first) != set(other)
    assert set(other) == set(own)
    both = set(first) & set(other)
    assert both
    assert all(first[key] == other[key] for key in both)
    assert other != own


def test_what_is_tested_can_be_a_region_of_its_own(folder: Path) -> None:
    samples = drawn(folder, strategy="uniform", test_bbox=(-180.0, -60.0, 0.0, 0.0))
    in_the_south = {sample.split for sample in samples if sample.place.lat < 0}
    elsewhere = {sample.split for sample in samples if sample.place.lat > 0}
    assert in_the_south == {"test"}
    assert elsewhere == {"train", "val"}


def test_what_is_measured_does_not_depend_on_workers_or_on_who_asks(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    options = BASE.model_copy(update={"strategy": "change", "looks": "long"})
    pipeline.sample(folder, options, workers=1)
    pipeline.sample(other, options, workers=8)
    assert sha256(folder / "samples.parquet") == sha256(other / "samples.parquet")
    # Drawn by geography, only the places taken are measured: they get the same scores.
    shutil.rmtree(other / "change")
    (other / "measures.parquet").unlink()
    scores = {sample.place: sample.change_score for sample in tables.read_table(folder / "samples.parquet", Sample)}
    few = [sample for sample in drawn(other, looks="long", count=6) if sample.place in scores]
    assert few
    assert all(scores[sample.place] == sample.change_score for sample in few)


def test_quotas_by_land_cover_of_the_catalog(folder: Path, tmp_path: Path, geossl: Command) -> None:
    quota = tmp_path / "quota.csv"
    quota.write_text("stratum,count\nwater,3\npasture,9\n")
    options = ("--strata", "stac:geossl-sandbox-labels/class", "--allocation", "quota", "--quota", quota)
    code, _, err = geossl("sample", folder, "--size", 60, "--count", 12, *options)
    assert code == 0, err
    samples = tables.read_table(folder / "samples.parquet", Sample)
    assert Counter(sample.stratum for sample in samples) == {"water": 3, "pasture": 9}
    again = tmp_path / "again"
    (tmp_path / "recipe.yaml").write_text((folder / "recipe.yaml").read_text())
    list(pipeline.run(tmp_path / "recipe.yaml", again))
    assert sha256(again / "samples.parquet") == sha256(folder / "samples.parquet")
    quota.write_text("stratum,count\nwater,3\nwoods,9\n")
    code, _, err = geossl("sample", folder)
    assert code == 1
    assert "woods" in err


def test_the_ledger_holds_what_could_not_be_drawn(folder: Path) -> None:
    drawn(folder, looks="seasons")
    report = pipeline.sample(folder)
    rejected = tables.read_table(folder / "rejected.parquet", RejectedSquare)
    reasons = Counter(row.reason for row in rejected)
    assert reasons["no-dates"] == report.facts["without the dates"] > 0
    assert {row.stratum for row in rejected} <= {"N45E000", "S30W090"}


def test_pictures_and_a_page_of_what_was_drawn(folder: Path) -> None:
    drawn(folder, count=10)
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == ["looks.png", "map.png", "splits.png", "strata.png"]
    page = (folder / "report.html").read_text()
    assert "N45E000" in page
    assert "evenness of strata" in page


@pytest.mark.parametrize("options", [("--strategy", "change", "--looks", "long"), ("--compare", "uniform")])
def test_a_folder_that_another_process_works_on_is_left_alone(
    folder: Path, geossl: Command, options: tuple[str, ...]
) -> None:
    with exclusive(folder):
        code, _, err = geossl("sample", folder, "--size", 60, *options)
    assert code == 1
    assert "another" in err
    assert not (folder / "measures.parquet").exists()
    assert not (folder / "compare.csv").exists()


def test_strategies_compared_over_one_pool(folder: Path, geossl: Command) -> None:
    before = {path.name for path in folder.iterdir()}
    code, out, _ = geossl("sample", folder, "--size", 60, "--count", 30, "--compare", "uniform,geography,diverse")
    assert code == 0
    rows = list(csv.DictReader((folder / "compare.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["strategy"] for row in rows] == ["uniform", "geography", "diverse", "(candidates)"]
    assert {row["places"] for row in rows[:3]} == {"30"}
    assert "eff. strata" in out
    made = {path.name for path in folder.iterdir()} - before
    assert made - {HEADERS} == {"compare.csv", "compare.png", "measures.parquet", "change"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--compare", "uniform,best"), "no strategy 'best'"),
        (("--compare", "uniform,mixture"), "--compare mixture: "),
        (("--strata", "biome"), "give a file"),
        (("--strata", "none.tif"), "no such raster"),
        (("--weight-by", "none.csv:people"), "none.csv"),
        (("--weight-by", "change", "--measure", "off"), "need --measure"),
        (("--strategy", "mixture"), "needs shares"),
        (("--strategy", "cities", "--cities-file", "none.csv"), "none.csv"),
        (("--looks", "long", "--years-apart", 9), "has the dates"),
        (("--anywhere", "--strategy", "change"), "change"),
        (("--anywhere", "--weight-by", "entropy"), "need candidates"),
        (("--snap", "block", "--size", 516), "516 px does not fit a block of 512 px; give --size 510 or less"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Path, geossl: Command, options: tuple[object, ...], message: str) -> None:
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = geossl("sample", folder, "--size", 60, *options)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_table_with_swapped_columns_is_told_by_the_land(folder: Path, tmp_path: Path) -> None:
    rows = [(47.7 + i / 50, 9.0 + i / 50, 5) for i in range(12)] + [(30.0, -100.0 + i, 3) for i in range(12)]
    table = tmp_path / "people.csv"
    table.write_text("lon,lat,people\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    with pytest.raises(GeosslError, match="swapped"):
        drawn(folder, weight_by=f"{table}:people")


def test_a_place_across_the_edge_of_a_tile_is_measured_from_both(folder: Path) -> None:
    # Places of 2.64 km are wider than the 1.2 km that the tiles of the tiny planet share.
    drawn(folder, size=264, strategy="diverse")
    grids = [scene.grids["B02"] for scene in read_scenes(folder / "scenes.parquet") if scene.sensor == "s2"]
    rows = tables.open_parquet(folder / "measures.parquet").to_pylist()
    across = [
        row
        for row in rows
        if not any(grid.x <= row["x"] and row["x"] + 2640 <= grid.x + 10 * grid.width for grid in grids)
    ]
    assert 0 < len(across) < len(rows)
    for row in across:
        assert 2 < row["entropy"] < 6
        assert all(map(math.isfinite, row["features"]))


# ------------------------------------------------------------------------------------------------ blocks


BLOCK = 128
"""The tiles of the tiny planet are smaller than real blocks."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geossl_data.sampling.tile_grids.BLOCK_PX", BLOCK)


def across_blocks(folder: Path) -> list[Sample]:
    """The samples with a window in two blocks of some band that one of their looks is of."""
    scenes = {scene.id: scene for scene in read_scenes(folder / "scenes.parquet")}
    return [
        one
        for one in tables.read_table(folder / "samples.parquet", Sample)
        if any(
            first // BLOCK != (first + one.place.side_m / grid.resolution_m - 1) // BLOCK
            for look in one.looks
            for name in look.s2_ids
            for band, grid in scenes[name].grids.items()
            if band in S2_BANDS
            for first in ((one.place.x - grid.x) / grid.resolution_m, (grid.y - one.place.y) / grid.resolution_m)
        )
    ]


@pytest.mark.usefixtures("small_blocks")
def test_places_in_blocks_are_drawn_and_cut(folder: Path, geossl: Command) -> None:
    assert geossl("sample", folder, "--size", 60, "--block-km", 1, "--looks", "seasons")[0] == 0
    assert across_blocks(folder)
    code, out, _ = geossl("sample", folder, "--snap", "block", "--count", 20)
    assert code == 0
    assert "across blocks" not in out
    assert across_blocks(folder) == []
    assert len(tables.read_table(folder / "samples.parquet", Sample)) == 20
    assert "  snap: block" in (folder / "recipe.yaml").read_text().splitlines()
    pipeline.shard(folder, ShardOptions())
    assert pipeline.verify(folder, deep=True) == []


def test_places_across_the_edge_of_a_tile_stay_and_are_counted(folder: Path) -> None:
    west, east = sorted(
        {
            scene.grids["B02"]
            for scene in read_scenes(folder / "scenes.parquet")
            if scene.mgrs_tile in ("32TMT", "32TNT")
        },
        key=lambda grid: grid.x,
    )
    lon, lat = to_lonlat(west.epsg, (west.bounds[2] + east.x) / 2, west.y - 2000.0)
    around = (float(lon) - 0.008, float(lat) - 0.01, float(lon) + 0.008, float(lat) + 0.01)
    report = pipeline.sample(folder, BASE.model_copy(update={"size": 264, "snap": "block", "bbox": around}))
    assert report.facts["places drawn"] == report.facts["places left across blocks"] == 1


def test_what_was_sampled_before_the_option_came_stands(folder: Path) -> None:
    later = ("snap", "test_bbox", "split_seed")
    kept = {name: value for name, value in BASE.model_dump(mode="json", by_alias=True).items() if name not in later}
    before = hashlib.sha256(f"sample\n{json.dumps(kept, sort_keys=True)}\npairs".encode()).hexdigest()[:16]
    assert BASE.fingerprint("pairs") == before
    assert BASE.model_copy(update={"snap": "block"}).fingerprint("pairs") != before
    assert pipeline.sample(folder, BASE).fresh
    assert not pipeline.sample(folder, BASE).fresh
    assert pipeline.sample(folder, BASE.model_copy(update={"snap": "block"})).fresh


@pytest.mark.usefixtures("small_blocks")
def test_places_drawn_beforehand_move_into_blocks_and_keep_the_buffer(
    folder: Path, planet: Path, tmp_path: Path
) -> None:
    world = tmp_path / "world"
    scene = next(scene for scene in read_scenes(folder / "scenes.parquet") if scene.sensor == "s2")
    given = PlacesOptions(
        count=14, size=30, bbox=scene.footprint.bounds, strategy="uniform", block_km=1.0, buffer_km=0.2, test=0.4
    )
    pipeline.draw_places(world, given)
    pipeline.fetch(world, FetchOptions(catalog=str(planet), places=str(world / "places.parquet"), max_cloud=60))
    pipeline.sample(world, SampleOptions())
    plain, across = tables.read_table(world / "samples.parquet", Sample), across_blocks(world)
    assert across
    report = pipeline.sample(world, SampleOptions(snap="block"))
    moved = tables.read_table(world / "samples.parquet", Sample)
    assert len(moved) == len(plain)
    assert len(across_blocks(world)) == report.facts.get("places left across blocks", 0) < len(across)
    splits = {site.block: site.split for site in tables.read_table(world / "places.parquet", Site)}
    assert all(splits[one.block] == one.split for one in moved)
    pipeline.shard(world, ShardOptions(min_valid=0.0))
    assert pipeline.verify(world, deep=True) == []
