"""What is asked of every look's own window: pixels and not the catalog decide, and the next best pair stands in."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from planets import S2_KEYS, Change, Planet, grid_of, paint, resolution_of

from geossl_data import tables
from geossl_data.bands import SCL_CLOUD
from geossl_data.grid import Grid
from geossl_data.records import Look, Sample, Scene, Skipped
from geossl_data.shards.reading.shards import open_shards
from geossl_data.tiles.build import Demands, Tile, build_tile, build_tiles
from geossl_data.tiles.rasters import Rasters, SkipError

Command = Callable[..., tuple[int, str, str]]

CLEAR = "S2A_MSIL2A_20210722T095343_R108_T32TMT"
CLOUDY = "S2A_MSIL2A_20230513T095343_R108_T32TMT"
"""74 % of it is cloud; from baseline 04.00, so that its numbers carry the offset."""
RADAR_2021 = "S1A_IW_GRDH_1SDV_20210723T172931"
RADAR_2023 = "S1A_IW_GRDH_1SDV_20230514T172931"


def outcomes(
    samples: Sequence[Sample], scenes: Mapping[str, Scene], *, min_valid: float = 0.9, max_cloud: float | None = None
) -> list[Tile | SkipError]:
    """Tiles of samples without their spares, or the reasons for which there are none."""
    alone = [replace(sample, spares=()) for sample in samples]
    demands = Demands(min_valid=min_valid, max_cloud=max_cloud)
    with Rasters() as rasters:
        return list(build_tiles(alone, scenes, [], rasters, demands))


def short(found: Tile | SkipError) -> str:
    """The reason for which there is no tile, or that there is one."""
    return "kept" if isinstance(found, Tile) else found.reason


def window_of(scene: Scene, band: str, sample: Sample) -> np.ndarray:
    """The stored numbers of a sample's place, by rasterio."""
    place, factor = sample.place, resolution_of(band) // 10
    with rasterio.open(scene.hrefs[band]) as dataset:
        column, row = (round(value) for value in ~dataset.transform * (place.x, place.y))
        return dataset.read(1)[row : row + place.size_px // factor, column : column + place.size_px // factor]


def cloud_percent(scene: Scene, sample: Sample) -> float:
    """Share of cloud and shadow among the classified pixels of a place."""
    classes = window_of(scene, "SCL", sample)
    return 100 * float(np.isin(classes, SCL_CLOUD).sum()) / float((classes > 0).sum())


# ------------------------------------------------------------------------------------------------ pixels decide


class Pair:
    """One scene of each sensor with samples of it; each test paints rasters of its own."""

    def __init__(self, planet: Path, folder: Path, optical: str, radar: str) -> None:
        self.planet = Planet(planet, folder / "planet", optical, radar)
        self.samples, self.scenes = self.planet.sampled(folder / "data")
        self.optical = self.scenes[self.planet.one(optical)["id"]]
        self.radar = self.scenes[self.planet.one(radar)["id"]]
        assert len(self.samples) > 20

    def painted(
        self, folder: Path, change: Change, *bands: str, tagged: bool = True, **changes: Any
    ) -> Mapping[str, Scene]:
        """The scenes, some rasters of which were changed in a copy, and the optical one otherwise changed as well."""
        scenes = {}
        for scene in (self.optical, self.radar):
            hrefs = dict(scene.hrefs)
            for band in set(bands) & set(hrefs):
                hrefs[band] = str(shutil.copy(hrefs[band], folder / f"{band}.tif"))
                paint(Path(hrefs[band]), change, tagged=tagged)
            scenes[scene.id] = replace(scene, hrefs=hrefs)
        scenes[self.optical.id] = replace(scenes[self.optical.id], **changes)
        return scenes


@pytest.fixture(scope="module")
def clear(planet: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(planet, tmp_path_factory.mktemp("clear"), CLEAR, RADAR_2021)


@pytest.fixture(scope="module")
def cloudy(planet: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(planet, tmp_path_factory.mktemp("cloudy"), CLOUDY, RADAR_2023)


def test_1_63_a_cloudy_tile_keeps_its_clear_windows_and_loses_the_others(cloudy: Pair, tmp_path: Path) -> None:
    def only_a_gap(classes: np.ndarray, grid: Grid) -> np.ndarray:
        """Cloud but for a clear north-western part, 20 % of the tile."""
        sky = np.full_like(classes, 9)
        sky[: round(0.4 * grid.height), : round(0.5 * grid.width)] = 4
        return sky

    scenes = cloudy.painted(tmp_path, only_a_gap, "SCL", cloud_percent=80.0)
    kinds: Counter[str] = Counter()
    for sample, found in zip(cloudy.samples, outcomes(cloudy.samples, scenes, max_cloud=20.0), strict=True):
        covered = cloud_percent(scenes[cloudy.optical.id], sample)
        if isinstance(found, Tile):
            meta = found.looks[0].meta["s2"]
            assert (meta["eo:cloud_cover"], 100 * meta["geossl:cloud_fraction"]) == (80.0, pytest.approx(covered))
        assert short(found) == ("kept" if covered <= 20 else "cloudy")
        kinds[short(found)] += 1
    assert kinds["kept"] >= 4
    assert kinds["cloudy"] >= 4


def test_1_63_a_clear_tile_loses_a_window_that_a_cloud_crosses(clear: Pair, tmp_path: Path) -> None:
    def one_cloud(classes: np.ndarray, grid: Grid) -> np.ndarray:
        classes = np.full_like(classes, 4)
        classes[80:120, 90:130] = 8
        return classes

    scenes = clear.painted(tmp_path, one_cloud, "SCL", cloud_percent=4.0)
    covered = [cloud_percent(scenes[clear.optical.id], sample) for sample in clear.samples]
    assert 1 <= sum(share > 10 for share in covered) < len(covered) / 2
    expected = ["cloudy" if share > 10 else "kept" for share in covered]
    assert [short(found) for found in outcomes(clear.samples, scenes, max_cloud=10.0)] == expected
    assert {short(found) for found in outcomes(clear.samples, scenes)} == {"kept"}


@pytest.mark.parametrize("tagged", [True, False])
def test_1_62_1_34_1_60_a_footprint_that_lies_is_told_by_the_pixels(cloudy: Pair, tmp_path: Path, tagged: bool) -> None:
    """The item claims the whole square; part of one raster of twelve is empty, with and without a tag for no data."""

    def half_empty(image: np.ndarray, grid: Grid) -> np.ndarray:
        image[:, round(0.6 * grid.width) :] = 0
        return image

    scenes = cloudy.painted(tmp_path, half_empty, "B05", tagged=tagged)
    scene = scenes[cloudy.optical.id]
    assert scene.boa_offset == -1000
    kinds: Counter[str] = Counter()
    for sample, found in zip(cloudy.samples, outcomes(cloudy.samples, scenes), strict=True):
        stored = window_of(scene, "B05", sample)
        share = float((stored > 0).mean())
        assert short(found) == ("few-valid-pixels" if share < 0.9 else "kept")
        kinds[short(found)] += 1
        if isinstance(found, Tile):
            expected = np.where(stored > 0, np.maximum(stored.astype(int) - 1000, 1), 0)
            np.testing.assert_array_equal(found.looks[0].members["s2_20m"][0], expected)
            assert found.looks[0].meta["s2"]["geossl:valid_fraction"] <= share
    assert kinds["few-valid-pixels"] >= 4
    assert kinds["kept"] >= 4


def test_1_62_one_half_empty_radar_date_decides(clear: Pair, tmp_path: Path) -> None:
    def half_empty(image: np.ndarray, grid: Grid) -> np.ndarray:
        image[: round(0.5 * grid.height)] = -32768
        return image

    scenes = clear.painted(tmp_path, half_empty, "VH")
    grid = grid_of(clear.radar.hrefs["VH"])
    middle = grid.y - 10 * round(0.5 * grid.height)
    expected = ["few-valid-pixels" if sample.place.y - 60 > middle else "kept" for sample in clear.samples]
    assert 4 <= expected.count("kept") <= len(expected) - 4
    assert [short(found) for found in outcomes(clear.samples, scenes)] == expected


@pytest.mark.parametrize(("shift_m", "expected"), [(60.0, "kept"), (20.0, "off-grid")])
def test_1_35_the_file_and_not_the_item_says_where_its_pixels_lie(
    planet: Path, tmp_path: Path, shift_m: float, expected: str
) -> None:
    ours = Planet(planet, tmp_path / "planet", CLEAR, RADAR_2021)
    optical = ours.one(CLEAR)
    for key in S2_KEYS:
        transform = optical["assets"][key]["proj:transform"]
        optical["assets"][key]["proj:transform"] = [*transform[:2], transform[2] + shift_m, *transform[3:]]
    samples, scenes = ours.sampled(tmp_path / "data", count=4)
    scene = scenes[optical["id"]]
    assert scene.grids["B02"].x - grid_of(scene.hrefs["B02"]).x == shift_m
    found = outcomes(samples, scenes)
    assert [short(one) for one in found] == [expected] * 4
    for sample, tile in zip(samples, found, strict=True):
        if isinstance(tile, Tile):
            for number, band in enumerate(("B02", "B03", "B04", "B08")):
                stored = window_of(scene, band, sample)
                np.testing.assert_array_equal(tile.looks[0].members["s2_10m"][number], stored)


# ------------------------------------------------------------------------------------------------ the next best pair


def half_cloudy(classes: np.ndarray, grid: Grid) -> np.ndarray:
    classes[:, : grid.width // 2] = 9
    return classes


def with_holes(image: np.ndarray, grid: Grid) -> np.ndarray:
    image[: grid.height // 2 : 4] = 0
    return image


class Drawn:
    """The whole sandbox with samples of it: places seen once, and places seen on two dates, most with spares."""

    def __init__(self, planet: Path, folder: Path) -> None:
        ours = Planet(planet, folder / "planet", "S2", "S1")
        for item in ours.items.values():
            # The best that the catalog knows are not what it says.
            if item["properties"].get("eo:cloud_cover") == 0:
                ours.paint(item, "SCL", half_cloudy)
                ours.paint(item, "B05", with_holes)
        self.folder = folder / "once"
        self.once, self.scenes = ours.sampled(self.folder, count=12)
        self.twice, _ = ours.sampled(folder / "twice", looks="series", most_looks=2, count=12)
        assert sum(len(some) for sample in self.once for some in sample.spares) > 20
        assert sum(len(some) for sample in self.twice for some in sample.spares) > 6
        self._known: dict[tuple[str, Look], dict[str, float]] = {}

    def measures_of(self, look: Look, sample: Sample, rasters: Rasters) -> dict[str, float]:
        """Valid shares of both sensors, cloud in percent and entropy of one look at the place of a sample."""
        known = self._known.get((sample.key, look))
        if known is None:
            alone = replace(sample, looks=(look,), spares=())
            tile = build_tile(alone, self.scenes, [], rasters, min_valid=0.0)
            meta = tile.looks[0].meta
            cloud, entropy = meta["s2"]["geossl:cloud_fraction"], meta["quality"]["spectral_entropy"]
            known = self._known[sample.key, look] = {
                "valid": min(meta["s2"]["geossl:valid_fraction"], meta["s1"]["geossl:valid_fraction"]),
                "cloud": 100.0 if cloud is None else 100 * cloud,
                "entropy": -1.0 if entropy is None else entropy,
            }
        return known


@pytest.fixture(scope="module")
def drawn(planet: Path, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(planet, tmp_path_factory.mktemp("demands"))


def fault_of(found: Mapping[str, float], demands: Demands) -> str | None:
    """The reason for which a look does not do, in the order in which it is told."""
    if found["valid"] < demands.min_valid:
        return "few-valid-pixels"
    if demands.max_cloud is not None and found["cloud"] > demands.max_cloud:
        return "cloudy"
    if demands.min_entropy is not None and found["entropy"] < demands.min_entropy:
        return "uniform"
    return None


def chosen(looks: Sequence[Look], faults: Mapping[Look, str | None]) -> tuple[Look | None, str | None]:
    """Of a look and its spares the first without a fault, or the look's own fault."""
    return next(((look, None) for look in looks if faults[look] is None), (None, faults[looks[0]]))


@pytest.mark.parametrize(
    "demands",
    [
        Demands(max_cloud=5.0),
        Demands(min_valid=1.0),
        Demands(min_valid=0.5, min_entropy=2.8),
        Demands(min_valid=0.95, max_cloud=20.0, min_entropy=2.5),
    ],
    ids=["max-cloud", "min-valid", "min-entropy", "all"],
)
def test_the_first_spare_that_will_do_stands_in_or_the_look_says_why(drawn: Drawn, demands: Demands) -> None:
    """Against brute force: every look and spare measured by itself."""
    samples = [*drawn.once, *drawn.twice]
    kinds: Counter[str] = Counter()
    with Rasters() as rasters:
        built = list(build_tiles(samples, drawn.scenes, [], rasters, demands))
        for sample, result in zip(samples, built, strict=True):
            faults, takes = [], []
            for look, spares in zip(sample.looks, sample.spares or ((),) * len(sample.looks), strict=True):
                known = {one: fault_of(drawn.measures_of(one, sample, rasters), demands) for one in (look, *spares)}
                faults.append(known[look])
                takes.append(chosen((look, *spares), known))
            failed = next((reason for look, reason in takes if look is None), None)
            if failed is not None:
                assert isinstance(result, SkipError)
                assert result.reason == failed
                kinds[failed] += 1
                continue
            assert isinstance(result, Tile)
            assert list(result.sample.looks) == [look for look, _ in takes]
            for look, now, own, tile_look in zip(sample.looks, result.sample.looks, faults, result.looks, strict=True):
                assert tile_look.meta["s2"]["id"] == now.s2_id
                said = tile_look.meta.get("geossl:replaces")
                replaces = {"geossl:s2_ids": [*look.s2_ids], "geossl:s1_ids": [*look.s1_ids], "geossl:reason": own}
                assert said == (None if own is None else replaces)
                kinds["as drawn" if own is None else "replaced"] += 1
    assert kinds["as drawn"] > 0
    assert kinds["replaced"] > 0


def test_demands_as_they_are_typed(drawn: Drawn, tmp_path: Path, geossl: Command) -> None:
    folder = Path(shutil.copytree(drawn.folder, tmp_path / "data"))
    code, out, err = geossl("shard", folder, "--max-cloud", 5, "--min-valid", 0.95, "--min-entropy", 2, "--json")
    assert code == 0, err
    before = {sample.key: sample for sample in drawn.once}
    shards = open_shards(folder)
    n_replaced = 0
    for index, entry in enumerate(shards.entries):
        sample, (meta,) = before[entry.key], shards.meta(index)["looks"]
        (look,) = sample.looks
        said = meta.get("geossl:replaces")
        assert (said is not None) == ((entry.s2_ids[0], entry.s1_ids[0]) != (look.s2_id, look.s1_id))
        assert cloud_percent(drawn.scenes[entry.s2_ids[0]], sample) <= 5
        assert min(meta["s2"]["geossl:valid_fraction"], meta["s1"]["geossl:valid_fraction"]) >= 0.95
        assert meta["quality"]["spectral_entropy"] >= 2
        if said is not None:
            n_replaced += 1
            assert said["geossl:s2_ids"] == [*look.s2_ids]
            assert said["geossl:reason"] in ("cloudy", "few-valid-pixels", "uniform")
    assert json.loads(out)["facts"]["looks replaced by the next best pair"] == n_replaced > 0
    skipped = [row for row in tables.read_table(folder / "skipped.parquet", Skipped) if row.stage == "shard"]
    assert {row.id for row in skipped} == set(before) - {entry.key for entry in shards.entries}
    assert {row.reason for row in skipped} <= {"cloudy", "few-valid-pixels", "uniform"}
    assert geossl("verify", folder, "--deep")[0] == 0
