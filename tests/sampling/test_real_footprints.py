"""Real Sentinel-2 items of many tiles and zones: candidates lie inside footprints, and draws are even over them."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import shapely

from geossl_data.grid import square_lonlat
from geossl_data.records import Pair, Sample, Scene
from geossl_data.sampling.candidates import survey
from geossl_data.sampling.draw import draw, ground_of
from geossl_data.sampling.land import is_land
from geossl_data.sampling.looks import choose_looks
from geossl_data.sampling.pool import Pool, make_pool
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import strata_of
from geossl_data.sampling.strategies import ground_shares
from geossl_data.scenes.providers import PROVIDERS
from geossl_data.scenes.reasons import ItemError
from geossl_data.scenes.scene import scene_from_item

ITEMS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stac" / "items"
LAND = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "geo" / "ne_land_50m.geojson"
PC = PROVIDERS["planetary-computer"]


@pytest.fixture(scope="module")
def all_scenes() -> list[Scene]:
    path = ITEMS / "planetary-computer__sentinel-2-l2a.ndjson"
    if not path.is_file():
        pytest.skip("no real items: ../shared/data/stac is absent")
    found: dict[str, Scene] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            scene = scene_from_item(json.loads(line), PC, f"{PC.url}/")
        except ItemError:
            continue
        if scene.grids:
            found.setdefault(scene.id, scene)
    return list(found.values())


@pytest.fixture(scope="module")
def scenes(all_scenes: list[Scene]) -> list[Scene]:
    """Of every tile the scene with most ground."""
    best: dict[str, Scene] = {}
    for scene in all_scenes:
        tile = str(scene.mgrs_tile)
        if tile not in best or scene.footprint.area > best[tile].footprint.area:
            best[tile] = scene
    return [best[tile] for tile in sorted(best)]


def with_radar(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Pair]]:
    """A radar for each scene that sees everything three hours later, and the pairs."""
    radars, pairs = [], []
    for scene in scenes:
        time = scene.acquired + timedelta(hours=3)
        radar = Scene(
            id=f"radar of {scene.id}",
            collection="sentinel-1-rtc",
            sensor="s1",
            acquired=time,
            ends=time,
            footprint=shapely.box(-180, -89, 180, 89),
            hrefs={"VV": "vv.tif", "VH": "vh.tif"},
        )
        radars.append(radar)
        pairs.append(
            Pair(
                s2_id=scene.id,
                s1_id=radar.id,
                s2_acquired=scene.acquired,
                s1_acquired=time,
                gap_hours=3.0,
                overlap=1.0,
                rank=0,
                n_candidates=1,
            )
        )
    return radars, pairs


@pytest.fixture(scope="module")
def pool(scenes: list[Scene]) -> Pool:
    """Places of 2.64 km on all tiles."""
    radars, pairs = with_radar(scenes)
    choose = partial(choose_looks, "single", cloud={})
    rule = SplitRule(block_km=50.0)
    return make_pool([*scenes, *radars], pairs, choose=choose, rule=rule, strata=strata_of("climate"))


def squares(samples: Sequence[Sample]) -> np.ndarray:
    return np.array([square_lonlat(s.place.epsg, s.place.x, s.place.y, s.place.side_m) for s in samples], dtype=object)


def test_the_items_are_of_many_tiles_and_zones(scenes: list[Scene], pool: Pool) -> None:
    assert len(scenes) > 80
    assert len({candidate.place.epsg for candidate in pool.candidates}) > 15
    assert len(pool) > 20_000


def test_places_lie_on_the_valid_ground_of_their_scene(scenes: list[Scene], pool: Pool) -> None:
    by_id = {scene.id: scene for scene in scenes}
    drawn = draw(pool, ground_of(pool), strategy="uniform", count=500, seed=1).samples
    for sample, square in zip(drawn, squares(drawn), strict=True):
        footprint = by_id[sample.looks[0].s2_id].footprint
        turned = [shapely.affinity.translate(square, turn) for turn in (-360.0, 0.0, 360.0)]
        shared = max(footprint.intersection(one).area for one in turned)
        assert shared > 0.92 * square.area  # a rim of 2 % a side may stick out, see FOOTPRINT_TOLERANCE


def test_no_two_places_share_ground_across_tiles_and_zones(pool: Pool) -> None:
    for strategy in ("uniform", "geography", "grid"):
        drawn = draw(pool, ground_of(pool), strategy=strategy, count=3000, seed=2).samples
        shapes = squares(drawn)
        tree = shapely.STRtree(shapes)
        one, other = tree.query(shapes, predicate="intersects")
        apart = one < other
        shared = shapely.area(shapely.intersection(shapes[one[apart]], shapes[other[apart]]))
        assert (shared < 1e-6 * shapely.area(shapes[one[apart]])).all()


def test_uniform_is_even_over_ground_that_several_tiles_show(pool: Pool) -> None:
    shares = ground_shares(ground_of(pool))
    crowded = shares < 0.75
    assert 0.03 < crowded.mean() < 0.6
    wanted = shares[crowded].sum() / shares.sum()
    hits = []
    for seed in range(6):
        drawn = draw(pool, ground_of(pool, share=None), strategy="uniform", count=2000, seed=seed).samples
        row_of = {candidate.place: row for row, candidate in enumerate(pool.candidates)}
        hits += [bool(crowded[row_of[sample.place]]) for sample in drawn]
    error = np.sqrt(wanted * (1 - wanted) / len(hits))
    assert np.mean(hits) == pytest.approx(wanted, abs=4 * error)
    assert abs(crowded.mean() - wanted) > 8 * error  # candidates alone would convict


def test_strata_reach_their_target_where_there_is_ground(pool: Pool) -> None:
    drawn = draw(pool, ground_of(pool), strategy="balanced", count=600, seed=0)
    counts = Counter(sample.stratum for sample in drawn.samples)
    assert sum(drawn.target.values()) == 600 == sum(counts.values())
    full = [name for name, seats in drawn.target.items() if drawn.available.get(name, 0) > 3 * seats]
    assert len(full) >= 3
    assert all(counts[name] >= drawn.target[name] for name in full)


def test_land_agrees_with_the_polygons_it_was_made_from() -> None:
    if not LAND.is_file():
        pytest.skip("no real land: ../shared/data/geo is absent")
    features = json.loads(LAND.read_text(encoding="utf-8"))["features"]
    land = shapely.multipolygons(
        shapely.get_parts([shapely.make_valid(shapely.geometry.shape(one["geometry"])) for one in features])
    )
    shapely.prepare(land)
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    agree = is_land(lon, lat) == shapely.contains_xy(land, lon, lat)
    assert agree[lat > -60].mean() > 0.998


def test_wide_places_across_real_tiles_lie_on_the_rasters_and_footprints_of_their_mosaic(
    all_scenes: list[Scene],
) -> None:
    datatakes: dict[tuple[object, ...], list[Scene]] = defaultdict(list)
    for scene in all_scenes:
        datatakes[(scene.platform, scene.relative_orbit, scene.acquired)].append(scene)
    datatake = max(datatakes.values(), key=len)
    assert len(datatake) > 10
    radars, pairs = with_radar(datatake)
    by_id = {scene.id: scene for scene in datatake}
    sizes = {}
    for size_px in (978, 1200):
        found = survey([*datatake, *radars], pairs, size_px).candidates
        wide = [entry for entry in found if entry.pairs[0].s2_more]
        sizes[size_px] = len(wide)
        for entry in wide:
            parts = [by_id[name] for name in entry.pairs[0].s2_ids]
            assert len({part.mgrs_tile for part in parts}) == len(parts)
            assert {grid.epsg for part in parts for grid in part.grids.values()} == {entry.place.epsg}
            square = shapely.box(*entry.place.bounds)
            rasters = [
                shapely.intersection_all([shapely.box(*grid.bounds) for grid in part.grids.values()]) for part in parts
            ]
            assert shapely.union_all(rasters).covers(square)
            assert not any(raster.covers(square) for raster in rasters)
            ground = square_lonlat(entry.place.epsg, entry.place.x, entry.place.y, entry.place.side_m)
            seen = shapely.union_all([part.footprint for part in parts])
            assert seen.intersection(ground).area > 0.9 * ground.area
            for part in parts:
                for grid in part.grids.values():
                    assert (entry.place.x - grid.x) % grid.resolution_m == 0
                    assert (entry.place.y - grid.y) % grid.resolution_m == 0
    # Real tiles overlap by 9.8 km.
    assert sizes[978] == 0
    assert sizes[1200] > 20
