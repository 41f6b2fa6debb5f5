"""Pairs: the same ground, near in time, the nearest first."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Literal

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, affinity
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from geossl_data.grid import Grid
from geossl_data.records import Pair, Scene
from geossl_data.scenes.matching import OrbitRule, match, match_acquisitions
from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.scenes.search import search

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
START = datetime(2023, 6, 1, tzinfo=UTC)


def scene(
    name: str,
    sensor: Literal["s1", "s2"],
    hours: float,
    bounds: tuple[float, float, float, float] = (8, 47, 9, 48),
    **more: Any,
) -> Scene:
    time = START + timedelta(hours=hours)
    return Scene(
        id=name,
        collection="c",
        sensor=sensor,
        acquired=time,
        ends=time,
        footprint=more.pop("footprint", None) or box(*bounds),
        hrefs={},
        **more,
    )


def test_the_nearest_in_time_comes_first() -> None:
    anchor = scene("a", "s2", 100, relative_orbit=65)
    radar = [
        scene("late", "s1", 110),
        scene("early", "s1", 92, (8.5, 47, 9.5, 48), orbit_state="ascending", relative_orbit=15),
        scene("tie", "s1", 90),
        scene("far", "s1", 173),
        scene("elsewhere", "s1", 100, (20, 47, 21, 48)),
        scene("beside", "s1", 100, (9, 47, 10, 48)),
    ]
    pairs = match([anchor], radar, max_gap=timedelta(hours=72), orbit="any")
    assert [(pair.s1_id, pair.gap_hours, pair.rank, pair.n_candidates) for pair in pairs] == [
        ("early", -8.0, 0, 3),
        ("late", 10.0, 1, 3),
        ("tie", -10.0, 2, 3),
    ]
    assert [pair.overlap for pair in pairs] == pytest.approx([0.5, 1.0, 1.0])
    assert (pairs[0].s1_orbit_state, pairs[0].s1_relative_orbit, pairs[0].s2_relative_orbit) == ("ascending", 15, 65)


def test_the_limit_is_included() -> None:
    radar = [scene("b", "s1", 72), scene("c", "s1", -72.001)]
    found = match([scene("a", "s2", 0)], radar, max_gap=timedelta(days=3), orbit="any")
    assert [pair.s1_id for pair in found] == ["b"]


def test_the_orbit_rule() -> None:
    radar = [scene("up", "s1", 1, orbit_state="ascending"), scene("down", "s1", 2, orbit_state="descending")]
    radar.append(scene("unknown", "s1", 3))
    found = match([scene("a", "s2", 0)], radar, max_gap=timedelta(days=1), orbit="descending")
    assert [(pair.s1_id, pair.rank, pair.n_candidates) for pair in found] == [("down", 0, 1)]


def test_nothing_to_match() -> None:
    assert match([], [], max_gap=timedelta(days=1), orbit="any") == []
    assert match([scene("a", "s2", 0)], [], max_gap=timedelta(days=1), orbit="any") == []
    assert match([scene("a", "s2", 0)], [scene("b", "s1", 0)], max_gap=timedelta(0), orbit="any")[0].gap_hours == 0.0


def test_footprints_meet_across_the_antimeridian() -> None:
    anchor = scene("a", "s2", 0, (179.5, 10, 180.5, 11))
    radar = [
        scene("beyond", "s1", 1, (178, 9, 182, 12)),
        scene("west", "s1", 2, (-180, 10, -179, 11)),
        scene("east", "s1", 3, (179, 10, 180, 11)),
    ]
    found = match([anchor], radar, max_gap=timedelta(days=1), orbit="any")
    assert [(pair.s1_id, pair.overlap) for pair in found] == [("beyond", 1.0), ("west", 0.5), ("east", 0.5)]


SECOND = 1 / 3600
TILE = {"mgrs_tile": "32TMT", "platform": "sentinel-2a", "relative_orbit": 65, "baseline": "05.09"}
PASS = {"platform": "sentinel-1a", "relative_orbit": 15, "orbit_state": "ascending"}


def test_1_86_frames_of_one_pass_are_one_pair() -> None:
    """Two slices, 25 s apart, of which each sees a part of the tile."""
    radar = [
        scene("south", "s1", 5, (7, 45, 11, 47.25), **PASS),
        scene("north", "s1", 5 + 25 * SECOND, (7, 47.125, 11, 49.5), **PASS),
        scene("beyond", "s1", 5 + 50 * SECOND, (7, 49.5, 11, 51), **PASS),
    ]
    (pair,) = match([scene("a", "s2", 0)], radar, max_gap=timedelta(days=1), orbit="any")
    assert (pair.s1_id, pair.s1_more, pair.rank, pair.n_candidates) == ("north", ("south",), 0, 1)
    assert pair.gap_hours == pytest.approx(5 + 25 * SECOND)
    assert pair.overlap == 1.0
    (pair,) = match([scene("a", "s2", 0)], radar[:1], max_gap=timedelta(days=1), orbit="any")
    assert (pair.s1_id, pair.s1_more, pair.overlap) == ("south", (), 0.25)


def test_1_86_one_frame_is_enough_where_it_covers_what_the_pass_covers() -> None:
    radar = [
        scene("part", "s1", 5, (8, 46, 9, 47.5), **PASS),
        scene("whole", "s1", 5 + 25 * SECOND, (8.5, 46, 10, 49), **PASS),
        scene("same", "s1", 5 + 50 * SECOND, (8.5, 46, 10, 49), **PASS),
    ]
    (pair,) = match([scene("a", "s2", 0, (8.5, 47, 9.5, 48))], radar, max_gap=timedelta(days=1), orbit="any")
    assert (pair.s1_id, pair.s1_more, pair.overlap) == ("whole", (), 1.0)


def test_1_86_the_overlap_of_a_mosaic_is_that_of_the_union() -> None:
    """Frames of 4 square degrees that share 2: together 6, of which the tile of 20 sees 5."""
    radar = [
        scene("p", "s1", 5, (8, 45, 10, 47), **PASS),
        scene("q", "s1", 5 + 25 * SECOND, (9, 45, 11, 47), **PASS),
    ]
    (pair,) = match([scene("a", "s2", 0, (8.5, 44, 12.5, 49))], radar, max_gap=timedelta(days=1), orbit="any")
    assert (pair.s1_id, pair.s1_more) == ("q", ("p",))
    assert pair.overlap == pytest.approx(5 / 6, rel=1e-12)


@pytest.mark.parametrize(
    ("later", "change"),
    [(61, {}), (25, {"platform": "sentinel-1c"}), (25, {"relative_orbit": 16}), (25, {"orbit_state": None})],
)
def test_1_81_what_differs_in_platform_orbit_or_time_is_another_pass(later: int, change: Mapping[str, Any]) -> None:
    radar = [
        scene("south", "s1", 5, (7, 45, 11, 47.5), **PASS),
        scene("north", "s1", 5 + later * SECOND, (7, 47.5, 11, 50), **{**PASS, **change}),
    ]
    pairs = match([scene("a", "s2", 0, **TILE)], radar, max_gap=timedelta(days=1), orbit="any")
    assert [(pair.s1_id, pair.s1_more, pair.rank, pair.n_candidates) for pair in pairs] == [
        ("south", (), 0, 2),
        ("north", (), 1, 2),
    ]
    assert [(pair.s1_platform, pair.s2_platform) for pair in pairs] == [
        ("sentinel-1a", "sentinel-2a"),
        (change.get("platform", "sentinel-1a"), "sentinel-2a"),
    ]


def test_only_frames_within_the_gap_take_part() -> None:
    radar = [
        scene("south", "s1", 24, (7, 45, 11, 47.5), **PASS),
        scene("north", "s1", 24 + 25 * SECOND, (7, 47.25, 11, 50), **PASS),
    ]
    (pair,) = match([scene("a", "s2", 0)], radar, max_gap=timedelta(days=1), orbit="any")
    assert (pair.s1_id, pair.s1_more, pair.gap_hours) == ("south", (), 24.0)


def test_parts_that_two_stations_received_are_one_acquisition() -> None:
    halves = [
        scene("b", "s2", 0, (8, 47, 8.25, 48), **TILE),
        scene("c", "s2", 10 * SECOND, (8.25, 47, 9, 48), **TILE),
        scene("other-tile", "s2", 0, (8, 47, 9, 48), **{**TILE, "mgrs_tile": "32TNT"}),
        scene("other-baseline", "s2", 0, (8, 47, 9, 48), **{**TILE, "baseline": "05.10"}),
        scene("other-grid", "s2", 0, (8, 47, 9, 48), grids={"B02": Grid(32632, 4e5, 5e6, 10, 96, 96)}, **TILE),
        scene("no-tile", "s2", 0, (8, 47, 9, 48), **{**TILE, "mgrs_tile": None}),
        scene("no-tile-2", "s2", 0, (8, 47, 9, 48), **{**TILE, "mgrs_tile": None}),
    ]
    pairs = match(halves, [scene("r", "s1", 1, (8.125, 40, 12, 50))], max_gap=timedelta(days=1), orbit="any")
    assert {pair.s2_id: (pair.s2_more, pair.overlap) for pair in pairs} == {
        "c": (("b",), 0.875),
        "other-tile": ((), 0.875),
        "other-baseline": ((), 0.875),
        "other-grid": ((), 0.875),
        "no-tile": ((), 0.875),
        "no-tile-2": ((), 0.875),
    }
    assert [pair.s2_acquired for pair in pairs if pair.s2_id == "c"] == [halves[1].acquired]


def test_parts_on_both_sides_of_the_antimeridian_are_one_acquisition() -> None:
    halves = [
        scene("east", "s2", 0, (-180, 10, -179.75, 11), **TILE),
        scene("west", "s2", SECOND, (179, 10, 180, 11), **TILE),
    ]
    radar = [scene("r", "s1", 1, (-181, 9, -179.875, 12)), scene("q", "s1", 2, (178, 9, 185, 12))]
    pairs = match(halves, radar, max_gap=timedelta(days=1), orbit="any")
    assert [(pair.s2_id, pair.s2_more, pair.s1_id, pair.overlap) for pair in pairs] == [
        ("west", ("east",), "r", 0.9),
        ("west", ("east",), "q", 1.0),
    ]


def test_1_70_1_80_same_relative_takes_the_orbit_that_serves_most_dates() -> None:
    """Orbit 15 serves two dates, 88 one of them twice, 117 three, but its number is not stated on the third."""
    dates = [scene(f"a{day}", "s2", 24 * 10 * day, **TILE) for day in range(3)]
    radar = [
        scene("p0", "s1", 1, relative_orbit=15, orbit_state="ascending"),
        scene("p1", "s1", 241, relative_orbit=15, orbit_state="ascending"),
        scene("q0", "s1", 2, relative_orbit=88, orbit_state="descending"),
        scene("q1", "s1", 3, relative_orbit=88, orbit_state="descending"),
        scene("r0", "s1", 0.5, relative_orbit=117, orbit_state="descending"),
        scene("r1", "s1", 480.5, orbit_state="descending"),
    ]
    pairs = match(dates, radar, max_gap=timedelta(days=1), orbit="same-relative")
    assert [(pair.s2_id, pair.s1_id, pair.rank, pair.n_candidates) for pair in pairs] == [
        ("a0", "p0", 0, 1),
        ("a1", "p1", 0, 1),
    ]
    pairs = match(dates, radar, max_gap=timedelta(days=1), orbit="auto")
    # Ascending and descending serve two dates each; descending shares more ground in all.
    assert [(pair.s2_id, pair.s1_id) for pair in pairs] == [("a0", "r0"), ("a0", "q0"), ("a0", "q1"), ("a2", "r1")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "p"),  # all equal: the smaller number
        ({"q": {"bounds": (8, 47, 9, 48)}, "p": {"bounds": (8, 47, 8.5, 49)}}, "q"),  # the larger overlap
        ({"q": {"hours": 1}}, "q"),  # the smaller gap
    ],
)
def test_ties_between_orbits(changes: Mapping[str, Any], expected: str) -> None:
    fields: dict[str, dict[str, Any]] = {
        "p": {"hours": -2, "bounds": (8, 47, 9, 48), "relative_orbit": 15},
        "q": {"hours": 2, "bounds": (8, 47, 9, 48), "relative_orbit": 88},
    }
    radar = [scene(name, "s1", **{**given, **changes.get(name, {})}) for name, given in fields.items()]
    (pair,) = match([scene("a", "s2", 0, **TILE)], radar, max_gap=timedelta(days=1), orbit="same-relative")
    assert pair.s1_id == expected


def test_the_ground_of_a_scene_without_a_tile_is_a_degree_cell() -> None:
    """The centre of `b` lies a whole turn away from that of `a`, `c` in the next cell."""
    dates = [
        scene("a", "s2", 0, (179.25, 10, 179.75, 11)),
        scene("b", "s2", 100, (-180.875, 10, -180.125, 11)),
        scene("c", "s2", 100, (180.125, 10, 180.875, 11)),
    ]
    radar = [
        scene("p0", "s1", 1, (178, 9, 182, 12), relative_orbit=15),
        scene("q0", "s1", 2, (178, 9, 182, 12), relative_orbit=88),
        scene("q1", "s1", 101, (178, 9, 182, 12), relative_orbit=88),
    ]
    pairs = match(dates, radar, max_gap=timedelta(hours=10), orbit="same-relative")
    assert [(pair.s2_id, pair.s1_id) for pair in pairs] == [("a", "q0"), ("b", "q1"), ("c", "q1")]


def test_platform_spellings_do_not_part_a_pass() -> None:
    from geossl_data.scenes.scene import platform_name

    spellings = ["SENTINEL-1A", "Sentinel-1A", "sentinel1a", "sentinel_1a"]
    radar = [
        scene(str(n), "s1", n * 25 * SECOND, (8 + n / 4, 46, 8.25 + n / 4, 49), platform=platform_name(name))
        for n, name in enumerate(spellings)
    ]
    (pair,) = match([scene("a", "s2", 0)], radar, max_gap=timedelta(days=1), orbit="any")
    assert (pair.s1_id, pair.s1_more, pair.overlap, pair.s1_platform) == ("0", ("1", "2", "3"), 1.0, "sentinel-1a")


def test_a_footprint_at_the_pole_is_matched() -> None:
    anchor = scene("a", "s2", 0, (170, 88, 200, 90))
    radar = [scene("b", "s1", 1, (-175, 87, -60, 90)), scene("c", "s1", 2, (0, 88, 90, 90))]
    pairs = match([anchor], radar, max_gap=timedelta(days=1), orbit="any")
    assert [(pair.s1_id, pair.overlap) for pair in pairs] == [("b", pytest.approx(0.5))]


def partner_of(anchor: BaseGeometry, frame: BaseGeometry) -> BaseGeometry:
    """The frame at the longitudes of the anchor."""
    near = [affinity.translate(frame, xoff=turn) for turn in (-720, -360, 0, 360, 720)]
    return max(near, key=lambda shape: shape.intersection(anchor).area)


def runs(scenes: Iterable[Scene], key: Callable[[Scene], Any]) -> list[list[Scene]]:
    """Scenes with equal keys that follow each other within a minute."""
    found: dict[Any, list[list[Scene]]] = defaultdict(list)
    for one in sorted(scenes, key=lambda one: one.acquired):
        members = found[key(one)]
        if members and one.acquired - members[-1][-1].acquired <= timedelta(seconds=60):
            members[-1].append(one)
        else:
            members.append([one])
    return [run for members in found.values() for run in members]


Row = tuple[str, tuple[str, ...], str, tuple[str, ...], int, int, float]
"""s2, s2_more, s1, s1_more, rank, candidates, overlap."""


def brute_force(s2: Sequence[Scene], s1: Sequence[Scene], max_gap: timedelta, orbit: str) -> list[Row]:
    """Every acquisition with every pass, one frame after the other, with shapely's overlay."""
    passes = runs(s1, lambda one: (one.platform, one.relative_orbit, one.orbit_state))
    parts = runs(
        s2, lambda one: (one.platform, one.relative_orbit, one.mgrs_tile or one.id, one.baseline, one.boa_offset)
    )
    found: list[dict[str, Any]] = []
    for members in parts:
        members.sort(key=lambda one: (-one.footprint.area, one.id))
        main = members[0]
        ground = shapely.union_all([partner_of(main.footprint.buffer(9), one.footprint) for one in members])
        rest = sorted(members[1:], key=lambda one: (one.acquired, one.id))
        for frames in passes:
            if orbit in ("ascending", "descending") and frames[0].orbit_state != orbit:
                continue
            near = [one for one in frames if abs(one.acquired - main.acquired) <= max_gap]
            seen = {one.id: partner_of(ground, one.footprint).intersection(ground) for one in near}
            near = [one for one in near if seen[one.id].area > 1e-9 * min(ground.area, one.footprint.area)]
            near.sort(key=lambda one: (-round(seen[one.id].area / ground.area, 9), one.acquired, one.id))
            chosen: list[Scene] = []
            covered: BaseGeometry = Polygon()
            for one in near:
                gain = covered.union(seen[one.id]).area - covered.area
                if gain > 1e-9 * min(ground.area, one.footprint.area):
                    chosen.append(one)
                    covered = covered.union(seen[one.id])
            if chosen:
                union = shapely.union_all([partner_of(ground, one.footprint) for one in chosen])
                more = sorted(chosen[1:], key=lambda one: (one.acquired, one.id))
                found.append(
                    {
                        "s2": main,
                        "s2_more": tuple(one.id for one in rest),
                        "s1": chosen[0],
                        "s1_more": tuple(one.id for one in more),
                        "gap": abs(chosen[0].acquired - main.acquired),
                        "overlap": min(1.0, covered.area / min(ground.area, union.area)),
                    }
                )
    if orbit in ("same-relative", "auto"):
        found = [row for row in found if orbit_of(row["s1"], orbit) == kept_orbits(found, orbit)[tile_of(row["s2"])]]
    found.sort(key=lambda row: (row["s2"].acquired, row["s2"].id, row["gap"], row["s1"].id))
    rows: list[Row] = []
    for number, row in enumerate(found):
        same = [position for position, other in enumerate(found) if other["s2"] is row["s2"]]
        place = (number - same[0], len(same))
        rows.append((row["s2"].id, row["s2_more"], row["s1"].id, row["s1_more"], *place, row["overlap"]))
    return rows


STATES = ["ascending", "descending", None]


def orbit_of(radar: Scene, orbit: str) -> Any:
    if orbit == "auto":
        return None if radar.orbit_state is None else STATES.index(radar.orbit_state)
    return None if radar.relative_orbit is None else (radar.relative_orbit, STATES.index(radar.orbit_state))


def tile_of(anchor: Scene) -> Any:
    centre = anchor.footprint.centroid
    return anchor.mgrs_tile or ((centre.x + 180) % 360 // 1, centre.y // 1)


def kept_orbits(found: Sequence[Mapping[str, Any]], orbit: str) -> dict[Any, Any]:
    """Tile → its orbit; a value that no orbit has where none is known."""
    best: dict[Any, Any] = {}
    for tile in {tile_of(row["s2"]) for row in found}:
        scores = []
        for code in {orbit_of(row["s1"], orbit) for row in found} - {None}:
            rows = [row for row in found if tile_of(row["s2"]) == tile and orbit_of(row["s1"], orbit) == code]
            if rows:
                total = round(sum(row["overlap"] for row in rows), 6)
                scores.append((-len({row["s2"].id for row in rows}), -total, median(row["gap"] for row in rows), code))
        best[tile] = min(scores)[3] if scores else "none"
    return best


def shape_of(kind: str, west: float, south: float, side: float) -> BaseGeometry:
    """A square, a diamond, an L or two squares, in eighths of a degree."""
    if kind == "diamond":
        half = side / 2
        return Polygon(
            [(west, south + half), (west + half, south), (west + side, south + half), (west + half, south + side)]
        )
    whole = box(west, south, west + side, south + side)
    if kind == "L":
        return whole.difference(box(west + side / 2, south + side / 2, west + side, south + side))
    if kind == "two":
        return whole.difference(box(west + side / 4, south, west + side / 2, south + side))
    return whole


PLACES = st.tuples(st.sampled_from([-180, -179.5, -179, 0, 0.5, 179, 179.5, 180.5]), st.sampled_from([0.0, 0.5, 1.0]))
FOOTPRINTS = st.builds(
    lambda kind, place, side: shape_of(kind, *place, side),
    st.sampled_from(["square", "square", "diamond", "L", "two"]),
    PLACES,
    st.sampled_from([0.5, 1.0, 2.0]),
)
SECONDS = st.builds(lambda hours, steps: 3600 * hours + 25 * steps, st.integers(0, 2), st.integers(0, 3))
S2_SCENES = st.lists(
    st.fixed_dictionaries(
        {
            "hours": SECONDS.map(lambda seconds: seconds / 3600),
            "footprint": FOOTPRINTS,
            "mgrs_tile": st.sampled_from(["01CCC", "01CCD", None]),
            "boa_offset": st.sampled_from([-1000, -1000, 0]),
        }
    ),
    max_size=7,
)
S1_SCENES = st.lists(
    st.fixed_dictionaries(
        {
            "hours": SECONDS.map(lambda seconds: seconds / 3600),
            "footprint": FOOTPRINTS,
            "orbit_state": st.sampled_from(STATES),
            "relative_orbit": st.sampled_from([1, 2, None]),
        }
    ),
    max_size=9,
)
RULES: list[OrbitRule] = ["any", "ascending", "descending", "same-relative", "auto"]


def scenes_of(rows: Sequence[Mapping[str, Any]], sensor: Literal["s1", "s2"]) -> list[Scene]:
    scenes = []
    for number, row in enumerate(rows):
        # Parts of one tile lie on the same side of the globe.
        tile, is_far = row.get("mgrs_tile"), abs(row["footprint"].centroid.x) < 90
        more = {"mgrs_tile": f"31{tile[2:]}"} if tile is not None and is_far else {}
        scenes.append(scene(f"{sensor}-{number}", sensor, **{**row, **more}))
    return scenes


@settings(max_examples=100, deadline=None)
@given(S2_SCENES, S1_SCENES, st.integers(0, 3), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_as_brute_force(
    first: list[Any], second: list[Any], hours: int, orbit: OrbitRule, shuffled: random.Random
) -> None:
    s2, s1 = scenes_of(first, "s2"), scenes_of(second, "s1")
    max_gap = timedelta(hours=hours)
    found = match(s2, s1, max_gap=max_gap, orbit=orbit)
    expected = brute_force(s2, s1, max_gap, orbit)
    rows = [(pair.s2_id, pair.s2_more, pair.s1_id, pair.s1_more, pair.rank, pair.n_candidates) for pair in found]
    assert rows == [row[:6] for row in expected]
    assert [pair.overlap for pair in found] == pytest.approx([row[6] for row in expected], rel=1e-9)
    shuffled.shuffle(s2)
    shuffled.shuffle(s1)
    assert match(s2, s1, max_gap=max_gap, orbit=orbit) == found


QUARTERS = st.integers(-6, 6).map(lambda number: number / 4)
FRAMES = st.lists(
    st.tuples(
        st.sampled_from(["square", "square", "square", "diamond", "L", "two"]),
        QUARTERS,
        QUARTERS,
        st.sampled_from([0.5, 1.0, 1.5, 2.0]),
        st.integers(0, 3),
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["square", "diamond", "L"]), FRAMES, st.integers(2, 5), st.sampled_from([0, 179, -180]))
def test_1_86_mosaics_as_brute_force(kind: str, frames: list[Any], most: int, west: float) -> None:
    """Frames of one pass that cover each other in part: which are taken, and how much ground they share in all."""
    anchor = scene("a", "s2", 1, footprint=shape_of(kind, west, 0, 2))
    radar = [
        scene(f"p{n}", "s1", 25 * step * SECOND, footprint=shape_of(form, west + x, y, side))
        for n, (form, x, y, side, step) in enumerate(frames[:most])
    ]
    found = match([anchor], radar, max_gap=timedelta(hours=1), orbit="any")
    expected = brute_force([anchor], radar, timedelta(hours=1), "any")
    assert [(pair.s1_id, pair.s1_more) for pair in found] == [(row[2], row[3]) for row in expected]
    assert [pair.overlap for pair in found] == pytest.approx([row[6] for row in expected], rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(S2_SCENES, S1_SCENES, st.sampled_from(["same-relative", "auto"]))
def test_1_70_1_80_a_tile_keeps_one_orbit_through_time(first: list[Any], second: list[Any], orbit: OrbitRule) -> None:
    s2, s1 = scenes_of(first, "s2"), scenes_of(second, "s1")
    every = match(s2, s1, max_gap=timedelta(hours=3), orbit="any")
    kept = match(s2, s1, max_gap=timedelta(hours=3), orbit=orbit)
    by_id = {one.id: one for one in (*s2, *s1)}

    def orbits(pairs: Sequence[Pair]) -> dict[Any, set[Any]]:
        found = defaultdict(set)
        for pair in pairs:
            for frame in (pair.s1_id, *pair.s1_more):
                found[tile_of(by_id[pair.s2_id])].add(orbit_of(by_id[frame], orbit))
        return found

    assert all(len(codes) == 1 and codes != {None} for codes in orbits(kept).values())
    # A tile goes without only where nobody states an orbit.
    assert set(orbits(kept)) == {tile for tile, codes in orbits(every).items() if codes - {None}}
    # What is kept is kept whole: only ranks change.
    whole = {(pair.s2_id, pair.s1_id, pair.s1_more, pair.overlap) for pair in every}
    assert {(pair.s2_id, pair.s1_id, pair.s1_more, pair.overlap) for pair in kept} <= whole


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pairs, whether looked at together or one acquisition at a time."""
    from geossl_data.scenes.matching import nearby

    draw = random.Random(3)
    rows = [
        {
            "hours": draw.uniform(0, 50),
            "footprint": box(x := draw.uniform(-182, -176), y := draw.uniform(0, 5), x + 1, y + 1),
        }
        for _ in range(200)
    ]
    s2, s1 = Acquisitions.of(scenes_of(rows[:100], "s2")), Acquisitions.of(scenes_of(rows[100:], "s1"))
    together = match_acquisitions(s2, s1, max_gap=timedelta(hours=20), orbit="any")
    monkeypatch.setattr(nearby, "MOST_CANDIDATES", 1)
    apart = match_acquisitions(s2, s1, max_gap=timedelta(hours=20), orbit="any")
    assert len(together) > 500
    assert apart.pairs() == together.pairs()


def test_the_pairs_of_the_real_planet(real_planet: Path) -> None:
    import pandas as pd

    found = search(str(real_planet), area=None, start=None, end=None, max_cloud=100, unknown_baseline="as-stored")
    s2 = [one for one in found.scenes if one.sensor == "s2"]
    s1 = [one for one in found.scenes if one.sensor == "s1"]
    pairs = match(s2, s1, max_gap=timedelta(days=3), orbit="any")
    nearest = {pair.s2_id: (pair.s1_id, round(pair.gap_hours, 2)) for pair in pairs if pair.rank == 0}
    table = pd.read_csv(real_planet.parent / "pairs.csv")
    table = table[(table.s2_collection == "sentinel-2-l2a") & (table.time_precision == "second")]
    expected = {row.s2_item: (row.s1_item, round(row.dt_hours_s1_minus_s2, 2)) for row in table.itertuples()}
    assert len(expected) == 9
    assert nearest == expected


def test_real_pairs_of_bigearthnet() -> None:
    """A fifth of the published pairs of patches: every pair of products is found, with its day gap and in its place.

    Footprints are boxes around a product's patches. A frame may be left out where others of its pass see all it sees.
    """
    source = DATA / "pairs" / "bigearthnet_s1_s2_pairs.parquet"
    if not source.is_file():
        pytest.skip("no real pairs: ../shared/data/pairs is absent")
    import pandas as pd

    table = pd.read_parquet(source, columns=["s1_name", "s2_name", "day_gap"]).iloc[::5]
    s2_parts = table.s2_name.str.extract(
        r"^(?P<s2>S2[AB])_MSIL2A_(?P<s2_day>\d{8})T(?P<s2_time>\d+)_(?P<x>\d+)_(?P<y>\d+)$"
    )
    s1_parts = table.s1_name.str.extract(r"^(?P<s1>S1[AB])_IW_GRDH_1SDV_(?P<s1_time>\d{8}T\d{6})_(?P<tile>\w{5})_")
    rows = pd.concat([table.day_gap, s2_parts, s1_parts], axis=1)
    # Times of day lack leading zeros in one of eight names.
    rows["s2_time"] = rows.s2_day + "T" + rows.s2_time.str.zfill(6)
    rows[["x", "y"]] = rows[["x", "y"]].astype(int)
    west = {tile: 2.0 * number - 170.0 for number, tile in enumerate(sorted(rows.tile.unique()))}

    def scenes(sensor: Literal["s1", "s2"]) -> dict[str, Scene]:
        found = {}
        for (name, time, tile), patches in rows.groupby([sensor, f"{sensor}_time", "tile"], observed=True):
            left, right, top, bottom = patches.x.min(), patches.x.max() + 1, patches.y.min(), patches.y.max() + 1
            day, clock = time.split("T")
            moment = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
            # A name says T94160: 60 seconds.
            moment += timedelta(hours=int(clock[:2]), minutes=int(clock[2:4]), seconds=int(clock[4:]))
            key = f"{name}-{time}-{tile}"
            found[key] = scene(
                key,
                sensor,
                (moment - START) / timedelta(hours=1),
                footprint=box(west[tile] + left / 91, -bottom / 91, west[tile] + right / 91, -top / 91),
                platform=f"sentinel-{name[1:].lower()}",
                mgrs_tile=tile if sensor == "s2" else None,
            )
        return found

    s2, s1 = scenes("s2"), scenes("s1")
    pairs = match(list(s2.values()), list(s1.values()), max_gap=timedelta(days=7), orbit="any")
    of_products = {
        (anchor, frame): pair
        for pair in pairs
        for anchor in (pair.s2_id, *pair.s2_more)
        for frame in (pair.s1_id, *pair.s1_more)
    }
    real = rows.drop_duplicates(["s1", "s1_time", "s2", "s2_time", "tile"])
    assert len(real) == 430
    n_left_out = 0
    for row in real.itertuples():
        anchor, frame = f"{row.s2}-{row.s2_time}-{row.tile}", f"{row.s1}-{row.s1_time}-{row.tile}"
        pair = of_products.get((anchor, frame))
        if pair is None:
            of_pass = [other for other in pairs if anchor in (other.s2_id, *other.s2_more)]
            seen = [
                s1[name].footprint
                for other in of_pass
                for name in (other.s1_id, *other.s1_more)
                if s1[name].platform == s1[frame].platform
                and abs(s1[name].acquired - s1[frame].acquired) <= timedelta(seconds=60)
            ]
            assert shapely.union_all(seen).covers(s1[frame].footprint.intersection(s2[anchor].footprint))
            n_left_out += 1
            continue
        assert (s1[frame].acquired.date() - s2[anchor].acquired.date()).days == row.day_gap
        assert abs(pair.gap_hours) <= 24 * (abs(row.day_gap) + 1)
        # Whoever stands before it is nearer in time.
        before = [other for other in pairs if other.s2_id == pair.s2_id and other.rank < pair.rank]
        assert len(before) == pair.rank
        assert all(abs(other.gap_hours) <= abs(pair.gap_hours) for other in before)
    assert n_left_out < 10
    assert sum(bool(pair.s1_more) for pair in pairs) > 50
