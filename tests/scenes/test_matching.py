"""Pairs: the same ground, near in time, the nearest first."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import box

from geossl_data.records import Scene
from geossl_data.scenes.matching import match, yield_share
from geossl_data.scenes.search import search

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
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
        id=name, collection="c", sensor=sensor, acquired=time, ends=time, footprint=box(*bounds), hrefs={}, **more
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


def brute_force(
    s2: Sequence[Scene], s1: Sequence[Scene], max_gap: timedelta, orbit: str
) -> list[tuple[str, str, int, int]]:
    """(s2, s1, rank, candidates) by looking at every combination and every whole turn."""
    rows = []
    for anchor in sorted(s2, key=lambda one: (one.acquired, one.id)):
        near = [
            (abs(radar.acquired - anchor.acquired), radar.id)
            for radar in s1
            if abs(radar.acquired - anchor.acquired) <= max_gap
            and orbit in ("any", radar.orbit_state)
            and any(
                affinity.translate(anchor.footprint, xoff=turn).intersection(radar.footprint).area > 0
                for turn in (-360, 0, 360)
            )
        ]
        rows += [(anchor.id, name, rank, len(near)) for rank, (_, name) in enumerate(sorted(near))]
    return rows


PLACES = st.tuples(st.sampled_from([-180, -179, -178.5, 0, 1, 177, 178.5, 179]), st.sampled_from([0.0, 0.5, 1.0]))
SCENES = st.lists(
    st.tuples(st.integers(0, 60), PLACES, st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from(["ascending", None])),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(SCENES, SCENES, st.integers(0, 40), st.sampled_from(["any", "ascending"]))
def test_as_brute_force(first: list[Any], second: list[Any], gap: int, orbit: Literal["any", "ascending"]) -> None:
    def scenes(rows: list[Any], sensor: Literal["s1", "s2"]) -> list[Scene]:
        return [
            scene(f"{sensor}{number}", sensor, hours, (west, south, west + side, south + side), orbit_state=state)
            for number, (hours, (west, south), side, state) in enumerate(rows)
        ]

    s2, s1 = scenes(first, "s2"), scenes(second, "s1")
    max_gap = timedelta(hours=gap)
    found = match(s2, s1, max_gap=max_gap, orbit=orbit)
    rows = [(pair.s2_id, pair.s1_id, pair.rank, pair.n_candidates) for pair in found]
    assert rows == brute_force(s2, s1, max_gap, orbit)
    assert found == match(s2[::-1], s1[::-1], max_gap=max_gap, orbit=orbit)


def test_the_share_of_scenes_with_a_partner() -> None:
    anchors = [scene("a", "s2", 0), scene("b", "s2", 500)]
    pairs = match(anchors, [scene("c", "s1", 1), scene("d", "s1", 2)], max_gap=timedelta(days=1), orbit="any")
    assert yield_share(pairs, len(anchors)) == 0.5
    assert yield_share([], 0) == 0.0


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
    """A thousand published pairs: the published partner is always among those found for its tile."""
    source = DATA / "pairs" / "bigearthnet_s1_s2_pairs.parquet"
    if not source.is_file():
        pytest.skip("no real pairs: ../shared/data/pairs is absent")
    import pandas as pd

    table = pd.read_parquet(source, columns=["s1_name", "s2_name", "s1_time", "s2_date", "mgrs_tile"])
    table = table.iloc[:: len(table) // 1000].reset_index(drop=True)
    codes = {tile: number for number, tile in enumerate(sorted(table.mgrs_tile.unique()))}
    s2, s1 = [], []
    for row in table.itertuples():
        west = codes[row.mgrs_tile] * 2.0 - 180.0
        day = pd.Timestamp(row.s2_date)
        moment = day if day.tzinfo else day.tz_localize("UTC")
        radar = pd.Timestamp(row.s1_time)
        radar = radar if radar.tzinfo else radar.tz_localize("UTC")
        s2.append(
            scene(row.s2_name, "s2", (moment.to_pydatetime() - START) / timedelta(hours=1), (west, 0, west + 1, 1))
        )
        s1.append(
            scene(row.s1_name, "s1", (radar.to_pydatetime() - START) / timedelta(hours=1), (west, 0, west + 1, 1))
        )
    pairs = match(s2, s1, max_gap=timedelta(days=7), orbit="any")
    found = {(pair.s2_id, pair.s1_id) for pair in pairs}
    assert {(row.s2_name, row.s1_name) for row in table.itertuples()} <= found
    assert yield_share(pairs, len(s2)) == 1.0
