"""Spares: which pairs may stand in for a look, and that any of them leave the looks as their rule wants them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import box

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.errors import SamplingError, SceneError
from geossl_data.grid import Grid, square_lonlat
from geossl_data.records import Look, Pair, Place, Sample, Scene
from geossl_data.sampling.draw import draw, draw_samples, ground_of
from geossl_data.sampling.looks import LOOKS, choose_looks
from geossl_data.sampling.periods import aligned
from geossl_data.sampling.pool import make_pool
from geossl_data.sampling.spares import spare_looks
from geossl_data.sampling.splits import SplitRule

START = datetime(2016, 1, 1, tzinfo=UTC)
PLACE = Place(lon=7.5, lat=45.25, epsg=32632, x=399_960.0, y=5_000_040.0, size_px=96, cell="0501U_0061R")


def pair(day: str | datetime, *, gap_hours: float = 5.0, s1: str = "", orbit: int | None = None) -> Pair:
    acquired = day if isinstance(day, datetime) else datetime.fromisoformat(day).replace(tzinfo=UTC)
    return Pair(
        s2_id=f"{acquired:%Y-%m-%dT%H:%M}",
        s1_id=s1 or f"s1-{acquired:%Y-%m-%dT%H:%M}-{orbit}",
        s2_acquired=acquired,
        s1_acquired=acquired + timedelta(hours=gap_hours),
        gap_hours=gap_hours,
        overlap=1.0,
        rank=0,
        n_candidates=1,
        s1_relative_orbit=orbit,
    )


def sample(looks: Sequence[Look], spares: Sequence[Sequence[Look]] = ()) -> Sample:
    return Sample(
        key="a",
        place=PLACE,
        looks=tuple(looks),
        spares=tuple(map(tuple, spares)),
        stratum="s",
        weight=1.0,
        inclusion_probability=1.0,
        split="train",
        block="b",
    )


def offered(rule: str, clouds: dict[str, float], count: int = 3, **options: Any) -> dict[str, list[str]]:
    """Day of each look → the days of its spares, for pairs on some days under some clouds."""
    pairs = [pair(day) for day in clouds]
    cloud = {one.s2_id: value for one, value in zip(pairs, clouds.values(), strict=True)}
    looks = choose_looks(rule, pairs, cloud, **options)
    spares = spare_looks(rule, pairs, cloud, count=count, **options)
    assert len(spares) in (0, len(looks))
    days = [[f"{spare.acquired:%Y-%m-%d}" for spare in some] for some in spares or [()] * len(looks)]
    return {f"{look.acquired:%Y-%m-%d}": some for look, some in zip(looks, days, strict=True)}


def test_of_a_single_look_the_next_best_three() -> None:
    clouds = {"2021-02-01": 9.0, "2022-02-01": 2.0, "2022-03-01": 4.0, "2023-03-01": 4.0, "2023-04-01": 30.0}
    assert offered("single", clouds) == {"2022-02-01": ["2022-03-01", "2023-03-01", "2021-02-01"]}
    assert offered("single", clouds, count=1) == {"2022-02-01": ["2022-03-01"]}
    assert offered("single", {"2021-02-01": 9.0}) == {"2021-02-01": []}


def test_another_pass_of_the_same_scene_is_a_spare_once_and_other_dates_follow() -> None:
    day = [pair("2022-02-01", gap_hours=hours, s1=f"r{hours:g}", orbit=int(hours)) for hours in (4, 8, 12)]
    day = [replace(one, rank=rank, n_candidates=3) for rank, one in enumerate(day)]
    other = pair("2022-05-01")
    cloud = {day[0].s2_id: 1.0, other.s2_id: 50.0}
    for pairs in ([*day, other], [other, *day[::-1]]):
        assert [look.s1_id for look in choose_looks("single", pairs, cloud)] == ["r4"]
        ((first, second),) = spare_looks("single", pairs, cloud)
        assert (first.s2_id, first.s1_id, first.gap_hours) == (day[0].s2_id, "r8", 8.0)
        assert second.s2_id == other.s2_id
    ((near, *_),) = spare_looks("single", [*day, other], cloud, "nearest")
    assert near.s2_id == other.s2_id, "a gap of 5 h before one of 8 h"


def test_a_season_is_filled_from_its_own_window_only() -> None:
    clouds = {
        "2022-01-01": 1.0,
        "2022-01-20": 8.0,
        "2022-02-20": 3.0,
        "2022-03-10": 2.0,  # between two windows, however the year is placed around its first and last look
        "2022-04-20": 7.0,
        "2022-05-10": 9.0,
        "2022-07-10": 5.0,
        "2022-11-29": 5.0,
        "2023-01-20": 0.0,  # another year
    }
    assert offered("seasons", clouds) == {
        "2022-01-01": ["2022-02-20", "2022-01-20"],
        "2022-04-20": ["2022-05-10"],
        "2022-07-10": [],
        "2022-11-29": [],
    }


def test_the_year_is_placed_where_most_can_stand_in() -> None:
    clouds = {"2022-07-13": 5.0, "2022-08-13": 5.0, "2022-08-31": 5.0, "2022-10-14": 3.0}
    assert offered("seasons", clouds) == {"2022-07-13": ["2022-08-13", "2022-08-31"], "2022-10-14": []}
    early = {"2021-12-20": 5.0, "2022-01-01": 1.0, "2022-01-15": 5.0, "2022-06-10": 5.0, "2022-07-01": 1.0}
    assert offered("seasons", early) == {"2022-01-01": ["2021-12-20", "2022-01-15"], "2022-07-01": ["2022-06-10"]}


def test_the_year_is_not_moved_off_its_looks() -> None:
    clouds = {"2022-05-02": 3.0, "2022-05-31": 1.0, "2022-06-03": 3.0}
    assert offered("seasons", clouds) == {"2022-05-02": [], "2022-06-03": []}, "31 May is no other season than 3 June"


def test_one_overflight_is_no_spare_of_two_looks() -> None:
    first = START + timedelta(hours=24)
    pairs = [pair(START), pair(START + timedelta(minutes=718)), pair(START + timedelta(minutes=722)), pair(first)]
    cloud = {one.s2_id: float(value) for one, value in zip(pairs, (1, 5, 6, 1), strict=True)}
    spares = spare_looks("series", pairs, cloud, most=2)
    assert [[spare.s2_id for spare in some] for some in spares] == [[pairs[1].s2_id], []]


def test_a_spare_of_an_early_look_is_aligned_with_the_late_one_and_its_spares() -> None:
    clouds = {
        "2018-03-01": 1.0,
        "2018-04-01": 2.0,
        "2018-04-28": 3.0,  # 46 days and more from the late look
        "2018-09-01": 1.0,
        "2022-03-10": 1.0,
        "2022-02-16": 4.0,  # aligned with the look, but not with its first spare, 44 days on
        "2022-02-10": 5.0,  # aligned with the look only
        "2022-09-01": 1.0,
    }
    assert offered("long", clouds, dates=2) == {
        "2018-03-01": ["2018-04-01"],
        "2018-09-01": [],
        "2022-03-10": ["2022-02-16"],
        "2022-09-01": [],
    }


def test_dates_that_a_series_did_not_take_stand_in_for_the_nearest_look() -> None:
    clouds = {
        "2022-01-01": 1.0,
        "2022-01-10": 5.0,
        "2022-01-14": 6.0,
        "2022-01-31": 1.0,
        "2022-02-20": 9.0,
        "2022-03-01": 1.0,
    }
    assert offered("series", clouds, most=3) == {
        "2022-01-01": ["2022-01-10", "2022-01-14"],
        "2022-01-31": [],
        "2022-03-01": ["2022-02-20"],
    }
    assert spare_looks("series", [pair(day) for day in clouds], {}) == ()


@pytest.mark.parametrize("rule", ["seasons", "long", "series"])
def test_spares_are_of_the_orbit_of_the_looks(rule: str) -> None:
    days = [f"{year}-{month}" for year in (2020, 2022) for month in ("01-10", "01-20", "07-10", "07-20")]
    whole = [pair(day, orbit=66) for day in days]
    other = [pair(f"{day[:-2]}15", orbit=15) for day in days[::2]]
    cloud = {one.s2_id: 5.0 for one in whole}
    spares = spare_looks(rule, [*whole, *other], cloud, most=4)
    assert sum(map(len, spares)) >= 2
    assert {spare.s1_id for some in spares for spare in some} <= {one.s1_id for one in whole}
    free = spare_looks(rule, [*whole, *other], cloud, most=4, same_orbit=False)
    assert {spare.s1_id for some in free for spare in some} & {one.s1_id for one in other}


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SamplingError, match="no rule for looks 'season'"):
        spare_looks("season", [], {})


# ------------------------------------------------------------------------------------------------ whichever stand in


@st.composite
def places(draw: st.DrawFn) -> tuple[list[Pair], dict[str, float]]:
    """Pairs of a place over four years, minutes apart now and then, in up to three orbits, with clouds."""
    minutes = draw(st.lists(st.integers(0, 4 * 365 * 24 * 20), unique=True, max_size=30))
    steps = [3 * minute for minute in minutes] + [3 * minute + 3 for minute in minutes[: draw(st.integers(0, 4))]]
    orbits = st.lists(st.sampled_from([15, 66, None]), min_size=1, max_size=2, unique=True)
    pairs = [pair(START + timedelta(minutes=step), orbit=orbit) for step in set(steps) for orbit in draw(orbits)]
    return pairs, {one.s2_id: float(draw(st.integers(0, 3))) for one in pairs}


@given(places(), st.sampled_from(sorted(LOOKS)), st.integers(2, 6), st.booleans(), st.data())
def test_any_spares_at_any_positions_leave_looks_that_the_rule_would_take(
    place: tuple[list[Pair], dict[str, float]], rule: str, dates: int, same_orbit: bool, data: st.DataObject
) -> None:
    """The rule itself is the oracle: told of nothing but the looks after the swaps, it takes them all."""
    pairs, cloud = place
    options: dict[str, Any] = {"dates": dates, "most": dates, "same_orbit": same_orbit}
    looks = choose_looks(rule, pairs, cloud, **options)
    spares = spare_looks(rule, pairs, cloud, **options)
    assert spares == spare_looks(rule, data.draw(st.permutations(pairs)), cloud, **options)
    if not spares:
        return
    names = [(look.s2_ids, look.s1_ids) for some in (looks, *spares) for look in some]
    assert len(names) == len(set(names)), "no look is a spare, no spare is offered twice"
    assert max(map(len, spares)) <= 3

    swaps = {
        position: data.draw(st.integers(0, len(some) - 1), label=f"spare of {position}")
        for position, some in enumerate(spares)
        if some and data.draw(st.booleans(), label=f"swap {position}")
    }
    before = sample(looks, spares)
    after = before.with_spares(swaps)
    assert [look in looks for look in after.looks] == [position not in swaps for position in range(len(looks))]
    times = [look.acquired for look in after.looks]
    assert all(b - a >= timedelta(minutes=5) for a, b in pairwise(times))
    by_name = {(one.s2_ids, one.s1_ids): one for one in pairs}
    used = [by_name[look.s2_ids, look.s1_ids] for look in after.looks]
    if same_orbit and rule != "single":
        assert len({one.s1_relative_orbit for one in used}) == 1
    assert choose_looks(rule, used, cloud, **options) == after.looks
    if rule == "long":
        n = len(looks) // 2
        assert aligned(after.looks) == [(number, n + number) for number in range(n)]
        assert [(b.acquired - a.acquired).days // 200 for a, b in zip(after.looks, after.looks[n:], strict=False)]


# ------------------------------------------------------------------------------------------------ in samples


def look(day: str) -> Look:
    acquired = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return Look(s2_id=f"s2-{day}", s1_id=f"s1-{day}", acquired=acquired, gap_hours=1.0)


def test_taking_spares_keeps_those_not_tried_yet() -> None:
    looks, spares = [look("2020-01-01"), look("2020-06-01")], [[look("2020-01-09"), look("2020-01-05")], []]
    whole = sample(looks, spares)
    once = whole.with_spares({0: 0})
    assert (once.looks, once.spares) == ((spares[0][0], looks[1]), ((spares[0][1],), ()))
    assert whole.with_spares({0: 1}).spares == ()
    assert whole.with_spares({}) == whole
    assert (once.key, once.place, once.weight) == (whole.key, whole.place, whole.weight)
    for position, number in ((0, 2), (0, -1), (1, 0), (2, 0), (-1, 0)):
        with pytest.raises(SceneError, match=rf"a: look {position} has \d spares, no number {number}"):
            whole.with_spares({position: number})


def test_samples_refuse_spares_that_do_not_fit() -> None:
    looks = [look("2020-01-01"), look("2020-06-01")]
    with pytest.raises(SceneError, match="a: 2 looks, but spares for 1"):
        sample(looks, [[]])
    with pytest.raises(SceneError, match="a spare would put the looks out of time order"):
        sample(looks, [[look("2020-06-02")], []])
    with pytest.raises(SceneError, match="a spare would put the looks out of time order"):
        sample(looks, [[look("2020-04-02")], [look("2020-04-01")]])


def planet(n_dates: int) -> tuple[list[Scene], list[Pair]]:
    """A tile of 5.4 km on some days, each with a radar scene."""
    x, y, side_m = 399_960.0, 5_000_040.0, 5400
    grids = {
        band: Grid(32632, x, y, step := BANDS[band].resolution_m, side_m // step, side_m // step) for band in S2_BANDS
    }
    scenes, pairs = [], []
    for number in range(n_dates):
        one = pair(START + timedelta(days=20 * number))
        for name, sensor, at in ((one.s2_id, "s2", one.s2_acquired), (one.s1_id, "s1", one.s1_acquired)):
            scenes.append(
                Scene(
                    id=name,
                    collection=sensor,
                    sensor=sensor,  # type: ignore[arg-type]
                    acquired=at,
                    ends=at,
                    footprint=square_lonlat(32632, x, y, float(side_m)) if sensor == "s2" else box(0, 40, 20, 50),
                    hrefs={},
                    grids=grids if sensor == "s2" else {},
                    cloud_percent=float(number) if sensor == "s2" else None,
                )
            )
        pairs.append(one)
    return scenes, pairs


def test_drawn_samples_have_the_spares_of_their_looks() -> None:
    scenes, pairs = planet(6)
    cloud = {scene.id: scene.cloud_percent for scene in scenes}
    drawn = draw_samples(scenes, pairs, size=96)
    assert len(drawn.samples) > 10
    assert {one.spares for one in drawn.samples} == {spare_looks("single", pairs, cloud)}
    assert [spare.s2_id for spare in drawn.samples[0].spares[0]] == [one.s2_id for one in pairs[1:4]]


def test_spares_are_sought_for_drawn_places_only_and_once_for_the_same_pairs() -> None:
    scenes, pairs = planet(3)
    asked: list[int] = []

    def spare(some: Sequence[Pair]) -> tuple[tuple[Look, ...], ...]:
        asked.append(len(some))
        return spare_looks("single", some, {})

    def choose(some: Sequence[Pair]) -> tuple[Look, ...]:
        return choose_looks("single", some, {})

    pool = make_pool(scenes, pairs, choose=choose, spare=spare, rule=SplitRule(block_km=10.0), size=96)
    assert asked == []
    drawn = draw(pool, ground_of(pool), count=9)
    assert asked == [3]
    assert {len(one.spares[0]) for one in drawn.samples} == {2}
    without = make_pool(scenes, pairs, choose=choose, rule=SplitRule(block_km=10.0), size=96)
    assert [replace(one, spares=()) for one in drawn.samples] == draw(without, ground_of(without), count=9).samples
