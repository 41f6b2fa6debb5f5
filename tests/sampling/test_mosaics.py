"""Places across the edges of tiles: which tiles hold them together, and which pairs show them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import box, union_all

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.grid import Grid, square_lonlat, to_lonlat
from geossl_data.records import Pair, Scene, Site
from geossl_data.sampling.candidates import Candidate, survey
from geossl_data.sampling.draw import draw_samples
from geossl_data.sampling.mosaics import seam_corners, seams, tile_sets
from geossl_data.sampling.site_candidates import candidates_at
from geossl_data.sampling.tile_grids import TileGrid, corners
from geossl_data.scenes.matching import match

START = datetime(2022, 6, 1, 10, tzinfo=UTC)
ZONE = 32632
X, Y, SIDE_M, STEP = 399_960.0, 5_000_040.0, 10_980.0, 9_960.0
"""Corner of a tile, its side and the distance to the next, metres: real tiles in a tenth of their size."""
EVERYWHERE = box(0, 40, 20, 50)


def tile(west: float, north: float, side_m: float = SIDE_M, *, height_m: float | None = None) -> TileGrid:
    return TileGrid(epsg=ZONE, bounds=(west, north - (height_m or side_m), west + side_m, north))


def s2(name: str, column: float, row: float = 0, *, x: float = X, epsg: int = ZONE, **changes: Any) -> Scene:
    """A scene of the tile so many tiles east and south of the first one."""
    west, north = x + column * STEP, Y - row * STEP
    grids = {
        band: Grid(epsg, west, north, step := BANDS[band].resolution_m, int(SIDE_M) // step, int(SIDE_M) // step)
        for band in S2_BANDS
    }
    values: dict[str, Any] = {
        "id": name,
        "collection": "sentinel-2-l2a",
        "sensor": "s2",
        "acquired": START,
        "footprint": square_lonlat(epsg, west, north, SIDE_M),
        "hrefs": {band: f"{name}/{band}.tif" for band in S2_BANDS},
        "grids": grids,
        "platform": "sentinel-2a",
        "relative_orbit": 65,
        "cloud_percent": 5.0,
        "mgrs_tile": f"{column}-{row}-{x}-{epsg}",
    } | changes
    return Scene(**({"ends": values["acquired"]} | values))


def s1(name: str, *, hours: float = 6.0, footprint: object = EVERYWHERE, **changes: Any) -> Scene:
    time = START + timedelta(hours=hours)
    values: dict[str, Any] = {
        "id": name,
        "collection": "sentinel-1-rtc",
        "sensor": "s1",
        "acquired": time,
        "ends": time,
        "footprint": footprint,
        "hrefs": {"VV": "vv.tif", "VH": "vh.tif"},
        "orbit_state": "ascending",
        "relative_orbit": 15,
        "platform": "sentinel-1a",
    }
    return Scene(**(values | changes))


def pairs_of(scenes: Sequence[Scene]) -> list[Pair]:
    optical, radar = ([scene for scene in scenes if scene.sensor == sensor] for sensor in ("s2", "s1"))
    return match(optical, radar, max_gap=timedelta(days=3), orbit="any")


def found(scenes: Sequence[Scene], size_px: int) -> list[Candidate]:
    return survey(scenes, pairs_of(scenes), size_px).candidates


def across(scenes: Sequence[Scene], size_px: int) -> list[Candidate]:
    """The candidates that lie on no scene's grid whole."""
    grids = [scene.grids["B02"] for scene in scenes if scene.sensor == "s2"]
    held = [(grid.epsg, box(*grid.bounds)) for grid in grids]
    return [
        entry
        for entry in found(scenes, size_px)
        if not any(epsg == entry.place.epsg and ground.covers(box(*entry.place.bounds)) for epsg, ground in held)
    ]


# ------------------------------------------------------------------------------------------------ tiles


def test_tiles_that_share_more_than_a_side_have_no_seam() -> None:
    row = [tile(X, Y), tile(X + STEP, Y)]
    assert seams(row, 1020.0) == []
    assert seams(row, 1080.0) == [row]
    assert seams([row[0], tile(X + SIDE_M + 60, Y)], 1080.0) == [], "a gap"
    assert seams([row[0], tile(X + STEP + 20, Y)], 1080.0) == [], "another lattice"
    assert seams([row[0], TileGrid(epsg=32633, bounds=row[1].bounds)], 1080.0) == []
    touching = [tile(X, Y), tile(X + SIDE_M, Y)]
    assert seams(touching, 60.0) == [touching]


def test_squares_lie_side_by_side_along_the_middle_of_a_seam() -> None:
    row = [tile(X, Y), tile(X + STEP, Y)]
    middle = X + STEP - 840.0  # 60 m to the west of half of 1020 - 2640
    assert seam_corners(row, 2640.0).tolist() == [[middle, Y - 180 - 2640 * number] for number in range(4)]
    quad = [*row, tile(X, Y - STEP), tile(X + STEP, Y - STEP)]
    at = seam_corners(quad, 2640.0)
    assert len(at) == 4 * 4 + 1
    assert [middle, Y - STEP + 840] in at.tolist(), "where the four meet"
    assert seam_corners(quad[::-1], 2640.0).tolist() == at.tolist()


def test_a_square_where_four_tiles_meet_needs_all_and_one_beside_it_two() -> None:
    quad = [tile(X, Y), tile(X + STEP, Y), tile(X, Y - STEP), tile(X + STEP, Y - STEP)]
    side = 2640.0
    at = np.array(
        [
            (X + STEP - 600, Y - STEP + 600),
            (X + STEP - 600, Y),
            (X + 120, Y - STEP + 600),
            (X, Y),
            (X - 60, Y),
            (X + 2 * STEP, Y - 2 * STEP),
        ]
    )
    assert tile_sets(at, side, quad) == {(0, 1): [1], (0, 2): [2], (0, 1, 2, 3): [0]}


def test_a_square_that_several_sets_hold_is_in_all_of_them() -> None:
    lower = Y - STEP + 180
    quad = [tile(X, Y), tile(X + STEP, Y), tile(X, lower), tile(X + STEP, lower)]
    at = np.array([(X + STEP - 60, Y - STEP + 120)])
    assert tile_sets(at, 1140.0, quad) == {(0, 1): [0], (0, 3): [0], (1, 2): [0], (2, 3): [0]}


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=6
    ),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(1, 6),
)
def test_the_smallest_sets_of_tiles_by_brute_force(
    rectangles: list[tuple[int, int, int, int]], left: int, top: int, side: int
) -> None:
    tiles = [tile(60.0 * x, 60_000 - 60.0 * y, 60.0 * w, height_m=60.0 * h) for x, y, w, h in rectangles]
    square = box(60.0 * left, 60_000 - 60.0 * (top + side), 60.0 * (left + side), 60_000 - 60.0 * top)
    sets = tile_sets(np.array([(60.0 * left, 60_000 - 60.0 * top)]), 60.0 * side, tiles)
    meeting = [number for number, one in enumerate(tiles) if box(*one.bounds).intersection(square).area > 0]
    expected: list[tuple[int, ...]] = []
    for count in range(1, len(meeting) + 1):
        some = combinations(meeting, count)
        expected = [names for names in some if union_all([box(*tiles[n].bounds) for n in names]).covers(square)]
        if expected:
            break
    assert sets == {names: [0] for names in expected if len(names) > 1}


@settings(max_examples=60)
@given(st.integers(2, 3), st.integers(1, 3), st.integers(6, 20), st.integers(2, 20), st.integers(0, 5))
def test_squares_of_tiles_and_seams_together_leave_no_ground_between_tiles(
    columns: int, rows: int, side_steps: int, square_steps: int, overlap_steps: int
) -> None:
    side, step, square = 60.0 * side_steps, 60.0 * (side_steps - overlap_steps), 60.0 * square_steps
    assume(square <= side)
    tiles = [tile(step * column, -step * row, side) for row in range(rows) for column in range(columns)]
    of_tiles = [corners(one.bounds, square) for one in tiles]
    groups = seams(tiles, square)
    at = seam_corners(groups[0], square) if groups else np.zeros((0, 2))
    held = sorted({number for numbers in tile_sets(at, square, tiles).values() for number in numbers})
    assert (at % 60.0 == 0).all()
    squares = [box(x, y - square, x + square, y) for x, y in np.concatenate([*of_tiles, at[held]]).tolist()]
    inner = [min(corner[:, 0].min() for corner in of_tiles), max(corner[:, 1].max() for corner in of_tiles)]
    last = [max(corner[:, 0].max() for corner in of_tiles), min(corner[:, 1].min() for corner in of_tiles)]
    # Half a lattice step is what centring may leave on either side.
    ground = box(inner[0], last[1] - square, last[0] + square, inner[1])
    assert ground.difference(union_all(squares).buffer(60.0, join_style="mitre")).area == 0


# ------------------------------------------------------------------------------------------------ candidates


def test_a_place_across_an_edge_is_a_mosaic_of_both_tiles_larger_part_first() -> None:
    scenes = [s2("west", 0, acquired=START + timedelta(seconds=14)), s2("east", 1), s1("r")]
    entries = across(scenes, 264)
    assert {(entry.pairs[0].s2_id, entry.pairs[0].s2_more) for entry in entries} == {("west", ("east",))}
    for entry in entries:
        west, _, east, _ = entry.place.bounds
        assert west < X + STEP
        assert east > X + SIDE_M
        assert X + SIDE_M - west > east - (X + STEP), "more of it lies on the western tile"
        assert entry.pairs[0].s2_acquired == scenes[0].acquired
        assert entry.pairs[0].gap_hours == pytest.approx(6 - 14 / 3600)
        assert (entry.pairs[0].s1_id, entry.pairs[0].s1_more) == ("r", ())
    assert len(entries) == 4
    assert found(scenes[::-1], 264) == found(scenes, 264)
    drawn = draw_samples(scenes, pairs_of(scenes), size=264)
    assert {look.s2_more for row in drawn.samples for look in row.looks} == {(), ("east",)}
    squares = [box(*row.place.bounds) for row in drawn.samples]
    assert all(a.intersection(b).area == 0 for a, b in combinations(squares, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"acquired": START + timedelta(seconds=61)},
        {"acquired": START + timedelta(days=5)},
        {"platform": "sentinel-2b"},
        {"relative_orbit": 108},
        {"relative_orbit": None},
        {"x": X + 20.0},
        {"epsg": 32633},
    ],
)
def test_tiles_of_another_overflight_lattice_or_zone_make_no_mosaic(changes: dict[str, Any]) -> None:
    assert across([s2("west", 0), s2("east", 1), s1("r")], 264)
    assert across([s2("west", 0), s2("east", 1, **changes), s1("r")], 264) == []


def test_a_chain_of_scenes_does_not_make_a_datatake_longer() -> None:
    far = s2("far", 2, acquired=START + timedelta(seconds=50))
    for seconds, n in ((60, 8), (100, 4)):
        late = s2("east", 1, acquired=START + timedelta(seconds=seconds))
        assert len(across([s2("west", 0), far, late, s1("r")], 264)) == n


def test_places_that_a_tile_holds_stay_as_they_are() -> None:
    one, other, radar = s2("west", 0), s2("east", 1), s1("r")
    for size_px in (60, 102):
        apart = [s2("east", 1, acquired=START + timedelta(minutes=2)), one, radar]
        together = found([one, other, radar], size_px)
        assert [entry.place for entry in together] == [entry.place for entry in found(apart, size_px)]
        assert all(not pair.s2_more for entry in together for pair in entry.pairs)
    alone = found([one, radar], 264) + found([other, radar], 264)
    assert found([one, other, radar], 264)[: len(alone)] == alone
    bare = survey([one, other, radar], pairs_of([one, other, radar]), 264)
    assert len(bare.bare_lon) == 0


def test_a_square_where_four_tiles_meet_takes_its_dates_from_those_that_saw_it_all() -> None:
    names = [("a", 0, 0), ("b", 1, 0), ("c", 0, 1), ("d", 1, 1)]
    later = START + timedelta(days=10)
    scenes = [s2(name, column, row) for name, column, row in names]
    scenes += [s2(f"{name}2", column, row, acquired=later) for name, column, row in names[:3]]
    scenes += [s1("r"), s1("r2", hours=246.0)]
    by_count = {len(entry.pairs[0].s2_ids): entry for entry in across(scenes, 480)}
    assert set(by_count) == {2, 4}
    assert {name for pair in by_count[4].pairs for name in pair.s2_ids} == {"a", "b", "c", "d"}
    assert {pair.s2_acquired for pair in by_count[2].pairs} <= {START, later}


def test_both_sides_need_the_same_pass_and_bring_its_frames() -> None:
    # Beyond the western tile, which one frame therefore covers alone.
    middle = float(to_lonlat(ZONE, X + SIDE_M + 200, Y - 5000)[0])
    two = [s2("west", 0), s2("east", 1)]
    frames = [
        s1("one", footprint=box(0, 40, middle, 50)),
        s1("two", footprint=box(middle, 40, 20, 50), hours=6.005),
    ]
    entries = across([*two, *frames], 264)
    assert len(entries) == 4
    assert {frozenset(entry.pairs[0].s1_ids) for entry in entries} == {frozenset(("one", "two"))}
    apart = [frames[0], replace(frames[1], relative_orbit=88)]
    assert across([*two, *apart], 264) == []
    both = [*apart, s1("whole", hours=30.0, relative_orbit=117)]
    assert {entry.pairs[0].s1_id for entry in across([*two, *both], 264)} == {"whole"}


def test_ground_that_neither_scene_shows_makes_no_mosaic() -> None:
    west, east = s2("west", 0), s2("east", 1)
    edge = float(to_lonlat(ZONE, X + STEP + 2000, Y - 5000)[0])
    cut = replace(east, footprint=east.footprint.intersection(box(edge, 40, 20, 50)))
    assert across([west, cut, s1("r")], 264) == []


def test_every_date_of_a_place_across_an_edge_is_a_mosaic_of_the_same_grid() -> None:
    days = [timedelta(0), timedelta(days=100), timedelta(days=200)]
    scenes = [
        s2(f"{name}{number}", column, acquired=START + day)
        for number, day in enumerate(days)
        for name, column in (("w", 0), ("e", 1))
    ]
    scenes += [s1(f"r{number}", hours=6 + day / timedelta(hours=1)) for number, day in enumerate(days)]
    drawn = draw_samples(scenes, pairs_of(scenes), looks="seasons", size=264)
    wide = [row for row in drawn.samples if row.looks[0].s2_more]
    assert wide
    assert {tuple(sorted(look.s2_ids)[0][0] for look in row.looks) for row in wide} == {("e", "e", "e")}
    assert all(len(look.s2_ids) == 2 for row in wide for look in row.looks)


# ------------------------------------------------------------------------------------------------ sites


def site(x: float, y: float, key: str = "site", size_px: int = 264) -> Site:
    lon, lat = (float(value) for value in to_lonlat(ZONE, x, y))
    return Site(
        key=key,
        lon=lon,
        lat=lat,
        size_px=size_px,
        cell="c",
        stratum="s",
        weight=1.0,
        inclusion_probability=0.5,
        split="train",
        block="b",
    )


def test_a_site_at_the_edge_of_a_tile_takes_the_neighbour_or_both() -> None:
    scenes = [s2("west", 0), s2("east", 1), s1("r")]
    sites = [
        site(X + STEP + 500, Y - 5000, "across"),
        site(X + SIDE_M + 500, Y - 5000, "east"),
        site(X + 500, Y - 5000, "outside"),
        site(X + STEP - 2000, Y - 5000, "west"),
    ]
    entries, skipped = candidates_at(sites, scenes, pairs_of(scenes))
    assert {str(entry.site and entry.site.key): entry.pairs[0].s2_ids for entry in entries} == {
        "across": ("west", "east"),
        "east": ("east",),
        "west": ("west",),
    }
    assert [(row.id, row.reason) for row in skipped] == [("outside", "no-tile")]
    place = entries[0].place
    assert max(abs(place.x + 1320 - (X + STEP + 500)), abs(place.y - 1320 - (Y - 5000))) <= 30.001
    assert ((place.x - X) % 60, (place.y - Y) % 60) == (0, 0)
    assert candidates_at(sites[::-1], scenes[::-1], pairs_of(scenes)) == (entries, skipped)
    alone, _ = candidates_at(sites, [scenes[0], scenes[2]], pairs_of([scenes[0], scenes[2]]))
    assert [entry.site and entry.site.key for entry in alone] == ["west"]
    far = [site(X + 50_000, Y - 50_000, "far")]
    assert [row.reason for row in candidates_at(far, scenes, pairs_of(scenes))[1]] == ["no-tile"]
