"""Candidate places: on every band's pixels, inside both footprints, the same whatever the order."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box, union_all

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.errors import SamplingError
from geossl_data.grid import Grid, square_lonlat, to_lonlat
from geossl_data.records import Pair, Scene
from geossl_data.sampling.candidates import find_candidates
from geossl_data.sampling.coverage import _side_by_side
from geossl_data.sampling.draw import draw_samples
from geossl_data.sampling.tile_grids import corners, tile_grid
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


# ------------------------------------------------------------------------------------------------ mosaics


def pair_of(s2: Scene, *s1: Scene, s2_more: Iterable[Scene] = ()) -> Pair:
    """One pair of all these frames and parts, as matching makes them: in time order."""
    return Pair(
        s2_id=s2.id,
        s1_id=s1[0].id,
        s2_acquired=s2.acquired,
        s1_acquired=s1[0].acquired,
        gap_hours=(s1[0].acquired - s2.acquired) / timedelta(hours=1),
        overlap=1.0,
        rank=0,
        n_candidates=1,
        s1_more=tuple(scene.id for scene in s1[1:]),
        s2_more=tuple(scene.id for scene in s2_more),
    )


def strip(west_m: float, east_m: float, *, x: float = 399_960.0, epsg: int = 32632) -> object:
    """Ground between two eastings, metres from the west edge of the tile that `s2_scene` makes."""
    from shapely import Polygon

    ys = np.linspace(4_990_000.0, 5_005_000.0, 12)
    edges = [np.full(12, x + west_m), np.full(12, x + east_m)]
    lon, lat = to_lonlat(epsg, np.concatenate([edges[0], edges[1]]), np.concatenate([ys, ys[::-1]]))
    return Polygon(np.column_stack([lon, lat]))


def needed_frames(scenes: list[Scene], pair: Pair, size_px: int) -> dict[float, tuple[str, ...]]:
    """West edge of each candidate, metres from the tile's, → the frames its pair names."""
    found, _, _ = find_candidates(scenes, [pair], size_px)
    return {entry.place.x - 399_960.0: (entry.pairs[0].s1_id, *entry.pairs[0].s1_more) for entry in found}


def test_1_86_a_place_on_the_seam_of_two_slices_gets_both_and_others_the_one_they_need() -> None:
    s2 = s2_scene("a")
    west, east = s1_scene("west", strip(-9000, 2000), 6.0), s1_scene("east", strip(2000, 9000), 6.25)
    scenes, pair = [s2, west, east], pair_of(s2, west, east)
    assert needed_frames(scenes, pair, 264) == {60.0: ("west", "east"), 2700.0: ("east",)}
    found, _, _ = find_candidates(scenes, [pair], 264)
    gaps = {entry.place.x - 399_960.0: (entry.pairs[0].gap_hours, entry.pairs[0].s1_acquired) for entry in found}
    assert gaps == {60.0: (6.0, west.acquired), 2700.0: (6.25, east.acquired)}


def test_the_frame_that_covers_most_of_a_place_comes_first_whatever_flew_first() -> None:
    s2 = s2_scene("a")
    west, east = s1_scene("west", strip(-9000, 500)), s1_scene("east", strip(500, 9000))
    assert needed_frames([s2, west, east], pair_of(s2, west, east), 264) == {60.0: ("east", "west"), 2700.0: ("east",)}


def test_a_gap_between_slices_costs_the_places_in_it_only() -> None:
    s2 = s2_scene("a")
    west, east = s1_scene("west", strip(-9000, 1000)), s1_scene("east", strip(1100, 9000))
    assert needed_frames([s2, west, east], pair_of(s2, west, east), 264) == {2700.0: ("east",)}
    near = s1_scene("east", strip(1040, 9000))
    assert needed_frames([s2, west, near], pair_of(s2, west, near), 264)[60.0] == ("east", "west")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 60), st.integers(5, 50)), min_size=2, max_size=5))
def test_the_fewest_frames_that_cover_are_taken(strips: list[tuple[int, int]]) -> None:
    """Against every subset, by lengths along the one axis on which the frames differ."""
    s2 = s2_scene("a")
    spans = {f"f{n}": (100.0 * west, 100.0 * (west + width)) for n, (west, width) in enumerate(strips)}
    frames = [s1_scene(name, strip(*span)) for name, span in spans.items()]
    taken = needed_frames([s2, *frames], pair_of(s2, *frames), 264)
    for x in (60.0, 2700.0):
        low, high = x + 52.8, x + 2640.0 - 52.8
        inner = np.linspace(low, high, 2001)

        def missing(names: Iterable[str], inner: np.ndarray = inner) -> float:
            covered = [(inner >= spans[name][0]) & (inner <= spans[name][1]) for name in names]
            return float(1 - np.logical_or.reduce(covered).mean()) if covered else 1.0

        enough = [
            names
            for count in range(1, len(spans) + 1)
            for names in combinations(spans, count)
            if missing(names) <= (0.0 if count == 1 else 0.02)
            and all(spans[name][0] < high and spans[name][1] > low for name in names)
        ]
        if enough:
            assert len(taken[x]) == len(enough[0])
            assert set(taken[x]) in [set(names) for names in enough]
            shares = [1 - missing([name]) for name in taken[x]]
            assert shares == sorted(shares, reverse=True)
        else:
            assert x not in taken


def test_1_51_two_halves_of_one_acquisition_cover_what_neither_does() -> None:
    west = replace(s2_scene("west"), footprint=strip(0, 1500))
    east = replace(s2_scene("east"), footprint=strip(1500, 5400), ends=START + timedelta(seconds=9))
    east = replace(east, acquired=START + timedelta(seconds=4))
    radar = s1_scene("r", EVERYWHERE)
    pair = pair_of(west, radar, s2_more=[east])
    found, skipped, _ = find_candidates([west, east, radar], [pair], 264)
    halves = {entry.place.x - 399_960.0: (entry.pairs[0].s2_id, *entry.pairs[0].s2_more) for entry in found}
    assert halves == {60.0: ("west", "east"), 2700.0: ("east",)}
    assert {entry.pairs[0].s2_acquired for entry in found if entry.pairs[0].s2_id == "east"} == {east.acquired}
    assert skipped == []
    drawn = draw_samples([west, east, radar], [pair])
    assert {(look.s2_id, look.s2_more) for row in drawn.samples for look in row.looks} == {
        ("west", ("east",)),
        ("east", ()),
    }


def test_a_part_on_another_grid_is_no_part() -> None:
    west = replace(s2_scene("west"), footprint=strip(0, 1500))
    east = replace(s2_scene("east", x=399_970.0), footprint=strip(1500, 5400))
    radar = s1_scene("r", EVERYWHERE)
    found, skipped, _ = find_candidates([west, east, radar], [pair_of(west, radar, s2_more=[east])], 264)
    assert found == []
    assert [(row.id, row.reason) for row in skipped] == [("east", "off-grid")]


def test_1_90_slices_on_both_sides_of_the_antimeridian_cover_a_place_across_it() -> None:
    s2 = s2_scene("fiji", epsg=32760, x=816_000.0, y=8_100_000.0, side=600)
    west, east = s1_scene("west", box(178, -20, 180, -15)), s1_scene("east", box(-180, -20, -178, -15))
    found, _, _ = find_candidates([s2, west, east], [pair_of(s2, west, east)], 60)
    assert len(found) == 100
    counts = Counter((entry.pairs[0].s1_id, *entry.pairs[0].s1_more) for entry in found)
    assert {len(names): set(names) for names in counts}[2] == {"west", "east"}
    assert counts["west",] > 10
    assert counts["east",] > 10
    both = s1_scene("both", union_all([west.footprint, east.footprint]))
    assert len(find_candidates([s2, both], [pair_of(s2, both)], 60)[0]) == 100


# ------------------------------------------------------------------------------------------------ area, tiles


def test_only_places_centred_in_the_area_are_candidates() -> None:
    scenes = [s2_scene("a"), s1_scene("r", EVERYWHERE)]
    lon, lat = to_lonlat(32632, 399_960 + 2700, 5_000_040 - 2700)
    north_west = box(0, float(lat), float(lon), 50)
    found, _, _ = find_candidates(scenes, pairs_of(scenes), 264, area=north_west)
    assert [(entry.place.x, entry.place.y) for entry in found] == [(400_020, 4_999_980)]
    turned = box(360, float(lat), 360 + float(lon), 50)
    assert find_candidates(scenes, pairs_of(scenes), 264, area=turned)[0] == found
    drawn = draw_samples(scenes, pairs_of(scenes), area=north_west)
    assert [(row.place.x, row.place.y) for row in drawn.samples] == [(400_020, 4_999_980)]
    with pytest.raises(SamplingError, match=r"no pair covers a place of 264 px .* inside the area"):
        draw_samples(scenes, pairs_of(scenes), area=box(100, 0, 101, 1))


def test_the_looks_of_a_place_share_one_tile() -> None:
    days = [timedelta(0), timedelta(days=100), timedelta(days=200)]
    scenes = [
        replace(s2_scene(f"{name}{n}", x=x), acquired=START + day, ends=START + day)
        for name, x in (("a", 399_960.0), ("b", 401_040.0))
        for n, day in enumerate(days)
    ]
    radars = [
        replace(s1_scene(f"r{n}", EVERYWHERE), acquired=START + day, ends=START + day) for n, day in enumerate(days)
    ]
    drawn = draw_samples([*scenes, *radars], pairs_of([*scenes, *radars]), looks="seasons", size=96)
    assert {len(row.looks) for row in drawn.samples} == {3}
    assert {len({look.s2_id[0] for look in row.looks}) for row in drawn.samples} == {1}


def test_squares_on_both_sides_of_the_antimeridian_are_side_by_side() -> None:
    squares = np.array([box(179.8, 0, 179.9, 0.1), box(-179.9, 0, -179.8, 0.1), box(180.0, 0, 180.1, 0.1)])
    moved, middle = _side_by_side(squares)
    assert middle == pytest.approx(180.0)
    assert shapely.bounds(moved)[:, 0] == pytest.approx([179.8, 180.1, 180.0])
    moved, middle = _side_by_side(squares[1::-1])
    assert shapely.bounds(moved)[:, 0] == pytest.approx([-179.9, -180.2])
    assert middle == pytest.approx(-180.0)
    assert _side_by_side(squares[:1])[0][0] is squares[0]
