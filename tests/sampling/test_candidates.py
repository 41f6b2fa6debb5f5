"""Candidate places: on every band's pixels, inside both footprints, the same whatever the order."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import box

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.errors import SamplingError
from geossl_data.grid import Grid, square_lonlat, to_lonlat
from geossl_data.records import Pair, Scene
from geossl_data.sampling.candidates import corners, find_candidates, tile_grid
from geossl_data.sampling.draw import draw_samples
from geossl_data.scenes.matching import match

START = datetime(2022, 6, 1, 10, tzinfo=UTC)


def s2_scene(name: str, *, epsg: int = 32632, x: float = 399_960.0, y: float = 5_000_040.0, side: int = 540) -> Scene:
    grids = {
        band: Grid(
            epsg, x, y, BANDS[band].resolution_m, side * 10 // (step := BANDS[band].resolution_m), side * 10 // step
        )
        for band in S2_BANDS
    }
    return Scene(
        id=name,
        collection="sentinel-2-l2a",
        sensor="s2",
        acquired=START,
        ends=START,
        footprint=square_lonlat(epsg, x, y, side * 10.0),
        hrefs={band: f"{name}/{band}.tif" for band in S2_BANDS},
        grids=grids,
        cloud_percent=5.0,
        baseline="05.09",
        boa_offset=-1000,
    )


def s1_scene(name: str, footprint: object, hours: float = 6.0) -> Scene:
    return Scene(
        id=name,
        collection="sentinel-1-rtc",
        sensor="s1",
        acquired=START + timedelta(hours=hours),
        ends=START + timedelta(hours=hours),
        footprint=footprint,  # type: ignore[arg-type]
        hrefs={"VV": "vv.tif", "VH": "vh.tif"},
        orbit_state="ascending",
    )


def pairs_of(scenes: Iterable[Scene]) -> list[Pair]:
    scenes = list(scenes)
    return match(
        [scene for scene in scenes if scene.sensor == "s2"],
        [scene for scene in scenes if scene.sensor == "s1"],
        max_gap=timedelta(days=3),
        orbit="any",
    )


EVERYWHERE = box(0, 40, 20, 50)


def test_squares_fill_a_tile_side_by_side() -> None:
    scenes = [s2_scene("a", side=540), s1_scene("r", EVERYWHERE)]
    found, skipped, largest = find_candidates(scenes, pairs_of(scenes), 264)
    assert [(entry.place.x, entry.place.y) for entry in found] == [
        (399_960 + dx, 5_000_040 - dy) for dy in (60, 2700) for dx in (60, 2700)
    ]
    assert (skipped, largest) == ([], 540)
    assert found[0].place.cell == "0501U_0060R"


@given(st.integers(60, 700), st.integers(60, 700), st.integers(2, 20))
def test_corners_are_multiples_of_60_m_inside_and_disjoint(width: int, height: int, steps: int) -> None:
    side = 60.0 * steps
    bounds = (1000.0, 2000.0, 1000.0 + 10 * width, 2000.0 + 10 * height)
    found = corners(bounds, side)
    assert len(found) == (10 * width // side) * (10 * height // side)
    if len(found):
        assert ((found[:, 0] - 1000.0) % 60 == 0).all()
        assert ((bounds[3] - found[:, 1]) % 60 == 0).all()
        assert found[:, 0].min() >= bounds[0]
        assert found[:, 0].max() + side <= bounds[2]
        assert found[:, 1].max() <= bounds[3]
        assert found[:, 1].min() - side >= bounds[1]
        assert len(np.unique(found, axis=0)) == len(found)


def test_a_60_m_raster_that_starts_outside_moves_the_first_corner_inwards() -> None:
    ten, sixty = Grid(32632, 100_030.0, 5_000_000.0, 10, 120, 120), Grid(32632, 100_000.0, 5_000_050.0, 60, 21, 21)
    found = tile_grid([ten, sixty])
    assert not isinstance(found, str)
    assert found.bounds == (100_060.0, 4_998_800.0, 101_230.0, 4_999_990.0)
    assert found.side_px == 114


def test_bands_off_each_others_pixels_give_a_reason() -> None:
    reason = tile_grid([Grid(32632, 100_003.7, 5e6, 10, 120, 120), Grid(32632, 100_000.0, 5e6, 60, 20, 20)])
    assert reason == "a 10 m band lies 0.37 pixels off the others"


def test_a_place_needs_both_footprints() -> None:
    middle = to_lonlat(32632, 399_960 + 3000, 5e6)[0]
    scenes = [s2_scene("a", side=540), s1_scene("west", box(0, 40, float(middle), 50))]
    found, _, _ = find_candidates(scenes, pairs_of(scenes), 264)
    assert [entry.place.x for entry in found] == [400_020, 400_020]


def test_the_next_sentinel_1_scene_serves_what_the_nearest_does_not_cover() -> None:
    middle = float(to_lonlat(32632, 399_960 + 3000, 5e6)[0])
    scenes = [s2_scene("a"), s1_scene("west", box(0, 40, middle, 50), 2.0), s1_scene("all", EVERYWHERE, 30.0)]
    found, _, _ = find_candidates(scenes, pairs_of(scenes), 264)
    assert [entry.pairs[0].s1_id for entry in found] == ["west", "all", "west", "all"]


def test_footprints_across_the_antimeridian_cover_places_on_both_sides() -> None:
    scene = s2_scene("fiji", epsg=32760, x=816_000.0, y=8_100_000.0, side=600)
    scenes = [scene, s1_scene("r", box(178, -20, 182, -15))]
    found, _, _ = find_candidates(scenes, pairs_of(scenes), 60)
    assert len(found) == 100
    turned = [scene, s1_scene("r", box(-182, -20, -178, -15))]
    assert find_candidates(turned, pairs_of(turned), 60)[0] == [replace(entry, pairs=entry.pairs) for entry in found]


def test_too_large_a_place_is_refused_with_the_size_that_fits() -> None:
    scenes = [s2_scene("a", side=120), s1_scene("r", EVERYWHERE)]
    with pytest.raises(
        SamplingError, match=r"no pair covers a place of 264 px .* largest side that fits a scene is 120 px"
    ):
        draw_samples(scenes, pairs_of(scenes))


def test_a_count_above_the_candidates_is_refused() -> None:
    scenes = [s2_scene("a"), s1_scene("r", EVERYWHERE)]
    with pytest.raises(SamplingError, match="asked for 5 places of 264 px, but only 4 candidates"):
        draw_samples(scenes, pairs_of(scenes), count=5)


def test_samples_are_the_same_for_any_input_order_and_seeded() -> None:
    scenes = [s2_scene("a", side=1098), s2_scene("b", x=409_980.0, side=1098), s1_scene("r", EVERYWHERE)]
    pairs = pairs_of(scenes)
    first = draw_samples(scenes, pairs, count=20, size=96, seed=1)
    again = draw_samples(scenes[::-1], pairs[::-1], count=20, size=96, seed=1)
    other = draw_samples(scenes, pairs, count=20, size=96, seed=2)
    assert first.samples == again.samples
    assert [row.key for row in first.samples] != [row.key for row in other.samples]
    assert len({row.key for row in first.samples}) == 20
    assert np.mean([row.weight for row in first.samples]) == pytest.approx(1.0)
    assert {row.split for row in first.samples} <= {"train", "val", "test"}
