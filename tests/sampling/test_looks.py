"""Looks: which dates a place gets."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import SamplingError
from geossl_data.records import Look, Pair
from geossl_data.sampling.looks import LOOKS, Tie, choose_all, choose_looks
from geossl_data.sampling.periods import aligned, periods
from geossl_data.sandbox.regions import LAYOUTS, REGIONS, PlanetSize
from geossl_data.sandbox.schedule import passes

DAY = timedelta(days=1)
YEAR = 365 * DAY


def pair(day: str | datetime, *, gap_hours: float = 5.0, name: str = "", orbit: int | None = None) -> Pair:
    acquired = day if isinstance(day, datetime) else datetime.fromisoformat(day).replace(tzinfo=UTC)
    return Pair(
        s2_id=name or f"s2-{acquired:%Y-%m-%d}" + ("" if orbit is None else f"-{orbit}"),
        s1_id=f"s1-{acquired:%Y-%m-%d}",
        s2_acquired=acquired,
        s1_acquired=acquired + timedelta(hours=gap_hours),
        gap_hours=gap_hours,
        overlap=1.0,
        rank=0,
        n_candidates=1,
        s1_relative_orbit=orbit,
        s1_orbit_state=None if orbit is None else "ascending" if orbit % 2 else "descending",
    )


def days(looks: Sequence[Look]) -> list[str]:
    return [f"{look.acquired:%Y-%m-%d}" for look in looks]


def chosen(rule: str, *dates: str, cloud: dict[str, float] | None = None, **options: Any) -> list[str]:
    return days(choose_looks(rule, [pair(day) for day in dates], cloud or {}, **options))


PAIRS = [
    pair(day)
    for day in ("2021-02-01", "2021-05-01", "2022-01-15", "2022-02-15", "2022-06-01", "2022-11-01", "2023-05-20")
]
CLOUD = {entry.s2_id: cloud for entry, cloud in zip(PAIRS, (30.0, 2.0, 40.0, 5.0, 10.0, 10.0, 9.0), strict=True)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("single", ["2021-05-01"]),
        ("seasons", ["2022-01-15", "2022-02-15", "2022-06-01"]),
        ("long", ["2021-02-01", "2021-05-01", "2022-02-15", "2022-06-01"]),
        ("series", [f"{entry.s2_acquired:%Y-%m-%d}" for entry in PAIRS]),
    ],
)
def test_rules_by_hand(rule: str, expected: list[str]) -> None:
    assert days(choose_looks(rule, PAIRS, CLOUD)) == expected


def test_unknown_cloud_counts_as_the_cloudiest() -> None:
    assert choose_looks("single", PAIRS, {PAIRS[0].s2_id: 99.0})[0].s2_id == PAIRS[0].s2_id


def test_two_tiles_of_one_overflight_make_one_look() -> None:
    twice = [pair("2022-06-01T10:00:00", name="a"), pair("2022-06-01T10:00:12", name="b"), pair("2022-09-01", name="c")]
    assert [look.s2_id for look in choose_looks("seasons", twice, {})] == ["a", "c"]
    assert [look.s2_id for look in choose_looks("series", twice, {})] == ["a", "c"]


@pytest.mark.parametrize("rule", ["seasons", "long"])
def test_one_date_is_no_series(rule: str) -> None:
    assert choose_looks(rule, PAIRS[:1], CLOUD) == ()


@pytest.mark.parametrize("rule", sorted(LOOKS))
def test_no_pair_gives_no_look(rule: str) -> None:
    assert choose_looks(rule, [], {}) == ()


def test_ties_go_to_the_clearest_or_to_the_nearest_in_time() -> None:
    clear = pair("2022-01-10", gap_hours=-30.0)
    near = pair("2022-01-20", gap_hours=2.0)
    as_near = pair("2022-01-30", gap_hours=-2.0)
    cloud = {clear.s2_id: 1.0, near.s2_id: 50.0, as_near.s2_id: 40.0}
    summer = pair("2022-07-01")

    def taken(tie: Tie, rule: str = "single") -> list[str]:
        looks = choose_looks(rule, [clear, near, as_near, summer], cloud | {summer.s2_id: 60.0}, tie)
        return [look.s2_id for look in looks]

    assert (taken("clearest"), taken("nearest")) == ([clear.s2_id], [as_near.s2_id])
    assert taken("clearest", "seasons") == [clear.s2_id, summer.s2_id]
    assert taken("nearest", "seasons") == [as_near.s2_id, summer.s2_id]
    assert [look.s2_id for look in choose_looks("single", [clear, near], cloud)] == [clear.s2_id]


def test_a_look_names_all_frames_and_parts_of_its_pair() -> None:
    whole = replace(pair("2022-01-10"), s1_more=("f2", "f3"), s2_more=("half",))
    (look,) = choose_looks("single", [whole], {})
    assert (look.s1_more, look.s2_more) == (("f2", "f3"), ("half",))


# ------------------------------------------------------------------------------------------------ seasons


def test_a_southern_summer_is_not_cut_at_the_end_of_the_year() -> None:
    summer = ("2021-10-20", "2021-12-28", "2022-03-15", "2022-06-20")
    assert chosen("seasons", *summer) == list(summer)


def test_the_fullest_year_counts_wherever_it_begins_then_the_earliest() -> None:
    twice = [f"{year}-{month}" for year in (2019, 2020, 2021) for month in ("02-10", "05-10", "08-10", "11-10")]
    assert chosen("seasons", "2017-06-01", *twice) == twice[:4]
    assert chosen("seasons", *twice, "2021-12-31") == twice[:4]


def test_dates_a_few_days_apart_are_one_season() -> None:
    assert chosen("seasons", "2022-03-30", "2022-04-02", "2022-04-12") == []
    assert chosen("seasons", "2022-03-30", "2022-04-02", "2022-08-12", cloud={"s2-2022-04-02": 3.0}) == [
        "2022-04-02",
        "2022-08-12",
    ]


def test_winter_and_the_next_winter_are_not_two_seasons() -> None:
    assert chosen("seasons", "2022-01-10", "2022-12-31") == []


@pytest.mark.parametrize(("least", "n"), [(2, 3), (3, 3), (4, 0)])
def test_a_missing_season_can_be_refused(least: int, n: int) -> None:
    assert len(chosen("seasons", "2022-01-10", "2022-04-10", "2022-10-10", least=least)) == n


@pytest.mark.parametrize("dates", [2, 3, 6, 12])
def test_as_many_dates_a_year_as_asked_for(dates: int) -> None:
    start = datetime(2022, 3, 1, tzinfo=UTC)
    many = [pair(start + 5 * DAY * number) for number in range(150)]
    looks = choose_looks("seasons", many, {}, dates=dates)
    gaps = [b.acquired - a.acquired for a, b in pairwise(looks)]
    assert len(looks) == dates
    assert min(gaps) >= YEAR / dates / 3


@settings(max_examples=40)
@given(st.sets(st.integers(0, 800), min_size=1, max_size=12))
def test_the_fullest_of_all_years_by_brute_force(offsets: set[int]) -> None:
    """Starts every six hours hold all that matter when dates are whole days and parts of the year 91.25 days."""

    def filled(start: float) -> int:
        parts = [divmod(day - start, 91.25) for day in offsets]
        return len({part for part, rest in parts if 0 <= part < 4 and rest < 91.25 * 2 / 3})

    most = max(filled(quarter / 4) for quarter in range(-4 * 365, 4 * 801))
    looks = choose_looks("seasons", [pair(datetime(2020, 1, 1, tzinfo=UTC) + day * DAY) for day in offsets], {})
    assert len(looks) == (most if most >= 2 else 0)


# ------------------------------------------------------------------------------------------------ long


def test_two_periods_as_far_apart_as_there_are() -> None:
    months = ("02-10", "05-10", "08-10", "11-10")
    found = chosen("long", *(f"{year}-{month}" for year in range(2017, 2022) for month in months))
    assert found == [f"{year}-{month}" for year in (2017, 2021) for month in months]


@pytest.mark.parametrize(("asked", "given_"), [(1.0, 1), (2.0, 2), (2.5, 3), (4.05, 4), (3.8, 4)])
def test_two_periods_as_far_apart_as_asked(asked: float, given_: int) -> None:
    months = ("02-10", "05-10", "08-10", "11-10")
    dates = [f"{year}-{month}" for year in range(2017, 2025) for month in months]
    found = chosen("long", *dates, years_apart=asked)
    assert [int(b[:4]) - int(a[:4]) for a, b in zip(found[:4], found[4:], strict=True)] == [given_] * 4


def test_periods_that_are_not_far_enough_apart_are_none() -> None:
    dates = [f"{year}-{month}" for year in (2020, 2021) for month in ("02-10", "05-10", "08-10")]
    assert len(chosen("long", *dates)) == 6
    assert chosen("long", *dates, years_apart=2) == []


def test_a_year_more_does_not_cost_half_of_the_seasons() -> None:
    months = ("02-10", "05-10", "08-10", "11-10")
    dates = [f"{year}-{month}" for year in range(2017, 2022) for month in months]
    found = chosen("long", *dates, "2022-02-10", "2022-05-10")
    assert [day[:4] for day in found] == ["2017"] * 4 + ["2021"] * 4
    assert chosen("long", *dates[:4], "2022-02-10", "2022-05-10") == [*dates[:2], "2022-02-10", "2022-05-10"]
    as_much = chosen("long", *dates[:8], "2019-02-10", "2019-05-10")
    assert as_much == [*dates[:2], "2019-02-10", "2019-05-10"], "two years × two seasons before one × four"


def test_one_season_in_common_is_not_enough() -> None:
    assert chosen("long", "2018-05-10", "2018-09-10", "2022-05-10") == []


def test_looks_of_a_season_differ_by_at_most_45_days_of_the_year() -> None:
    early = ("2018-03-01", "2018-06-01")
    assert len(chosen("long", *early, "2022-04-15", "2022-07-16")) == 4
    assert chosen("long", *early, "2022-04-16", "2022-07-17") == []


def test_seasons_are_aligned_across_the_end_of_the_year_and_in_leap_years() -> None:
    assert chosen("long", "2015-12-20", "2016-02-29", "2020-01-15", "2020-03-10") == [
        "2015-12-20",
        "2016-02-29",
        "2020-01-15",
        "2020-03-10",
    ]
    assert len(chosen("long", "2019-12-31", "2020-03-01", "2020-12-31", "2021-03-01")) == 4


def test_the_best_two_of_a_season_are_taken_together() -> None:
    cloud = {"s2-2018-03-01": 0.0, "s2-2018-04-10": 5.0, "s2-2022-05-18": 0.0, "s2-2022-03-20": 50.0}
    found = chosen(
        "long", "2018-03-01", "2018-04-10", "2018-09-01", "2022-03-20", "2022-05-18", "2022-09-01", cloud=cloud
    )
    assert found == ["2018-04-10", "2018-09-01", "2022-05-18", "2022-09-01"]


# ------------------------------------------------------------------------------------------------ series


def test_a_series_beyond_its_cap_is_spread_and_the_clearest_in_each_slot() -> None:
    start = datetime(2022, 1, 1, tzinfo=UTC)
    many = [pair(start + 10 * DAY * number) for number in range(40)]
    cloud = {entry.s2_id: 20.0 for entry in many} | {many[number].s2_id: 1.0 for number in range(3, 40, 5)}
    looks = choose_looks("series", many, cloud, most=8)
    assert [look.s2_id for look in looks] == [many[number].s2_id for number in range(3, 40, 5)]


def test_a_series_with_empty_slots_still_reaches_its_cap() -> None:
    start = datetime(2022, 1, 1, tzinfo=UTC)
    many = [pair(start + 5 * DAY * number) for number in range(20)] + [pair("2024-12-01")]
    looks = choose_looks("series", many, {}, most=10)
    assert len(looks) == 10
    assert looks[-1].acquired == many[-1].s2_acquired
    assert len(choose_looks("series", many, {}, most=50)) == 21


# ------------------------------------------------------------------------------------------------ orbits


@pytest.mark.parametrize("rule", ["seasons", "long", "series"])
def test_looks_keep_to_the_orbit_with_most_dates(rule: str) -> None:
    months = ("01-10", "04-10", "07-10", "10-10")
    whole = [pair(f"{year}-{month}", orbit=66) for year in (2020, 2022) for month in months]
    # In between and clearer, but fewer.
    other = [pair(f"{year}-{month}", orbit=15) for year in (2020, 2022) for month in ("02-20", "05-20", "08-20")]
    cloud = {entry.s2_id: 0.0 for entry in other}
    looks = choose_looks(rule, whole + other, cloud, dates=4)
    assert {look.s2_id for look in looks} <= {entry.s2_id for entry in whole}
    assert {look.s2_id for look in choose_looks(rule, whole + other, cloud, same_orbit=False)} & set(cloud)


def test_of_orbits_with_as_many_dates_the_clearest_is_taken() -> None:
    first, second = ([pair(f"2020-{month}", orbit=orbit) for month in ("01-10", "06-10")] for orbit in (7, 8))
    cloud = {entry.s2_id: 9.0 for entry in first} | {entry.s2_id: 8.0 for entry in second}
    assert [look.s2_id for look in choose_looks("seasons", first + second, cloud)] == [entry.s2_id for entry in second]


def test_one_relative_orbit_seen_both_ways_is_two() -> None:
    up, down = pair("2020-01-10", orbit=7), replace(pair("2020-06-10", orbit=7), s1_orbit_state="descending")
    assert choose_looks("seasons", [up, down], {}) == ()
    assert len(choose_looks("seasons", [up, down], {}, same_orbit=False)) == 2


def test_unknown_orbits_go_together_with_each_other_only() -> None:
    known, unknown, also = pair("2020-01-10", orbit=7), pair("2020-04-10"), pair("2020-10-10")
    assert days(choose_looks("seasons", [known, unknown, also], {})) == ["2020-04-10", "2020-10-10"]
    assert choose_looks("seasons", [known, unknown], {}) == ()


# ------------------------------------------------------------------------------------------------ of all rules


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dates": 1}, "looks on 1 dates a year; give 2 to 52"),
        ({"least": 5}, "at least 5 of 4 dates; give 2 to 4"),
        ({"least": 1}, "at least 1 of 4 dates"),
        ({"most": 0}, "a series of at most 0 looks"),
        ({"years_apart": 0.0}, "periods 0 years apart"),
        ({"years_apart": float("nan")}, "periods nan years apart"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        choose_looks("seasons", PAIRS, CLOUD, **options)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SamplingError, match="no rule for looks 'season'; there are single, seasons, long, series"):
        choose_looks("season", PAIRS, CLOUD)


def test_many_places_get_what_each_would_alone() -> None:
    places = [PAIRS, PAIRS[:4], PAIRS, PAIRS[2:], []]
    for rule in LOOKS:
        together = choose_all(rule, places, CLOUD, "nearest", dates=3)
        assert together == [choose_looks(rule, pairs, CLOUD, "nearest", dates=3) for pairs in places]
        assert together[0] is together[2]


START = datetime(2016, 1, 1, tzinfo=UTC)


@st.composite
def places(draw: st.DrawFn) -> tuple[list[Pair], dict[str, float]]:
    """Pairs of a place over nine years, several a day now and then, in up to three orbits, with clouds."""
    hours = draw(st.lists(st.integers(0, 9 * 365 * 24), unique=True, max_size=40))
    found = [
        pair(START + timedelta(hours=hour), name=f"s2-{hour}", orbit=draw(st.sampled_from([15, 66, None])))
        for hour in hours
    ]
    return found, {entry.s2_id: float(draw(st.integers(0, 3))) for entry in found}


def orbits(looks: Sequence[Look], pairs: Sequence[Pair]) -> set[tuple[int | None, str | None]]:
    by_id = {entry.s2_id: (entry.s1_relative_orbit, entry.s1_orbit_state) for entry in pairs}
    return {by_id[look.s2_id] for look in looks}


def days_of_year_apart(a: Look, b: Look) -> int:
    """The larger of what both lengths of a year give."""
    apart = abs(a.acquired.timetuple().tm_yday - b.acquired.timetuple().tm_yday)
    return max(min(apart, 365 - apart), min(apart, 366 - apart))


@given(places(), st.sampled_from(sorted(LOOKS)), st.integers(2, 6), st.randoms())
def test_looks_are_in_time_order_without_repeats_in_one_orbit_whatever_the_input_order(
    place: tuple[list[Pair], dict[str, float]], rule: str, dates: int, random: Any
) -> None:
    pairs, cloud = place
    looks = choose_looks(rule, pairs, cloud, dates=dates, most=dates)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert looks == choose_looks(rule, shuffled, cloud, dates=dates, most=dates)
    times = [look.acquired for look in looks]
    assert times == sorted(set(times))
    assert all(b - a >= timedelta(minutes=5) for a, b in pairwise(times))
    assert len(orbits(looks, pairs)) <= 1
    assert len(looks) <= (dates if rule != "long" else 2 * dates)
    assert bool(looks) or not pairs or rule in ("seasons", "long")


@given(places(), st.integers(2, 6))
def test_seasons_lie_in_windows_of_their_own_within_a_year(
    place: tuple[list[Pair], dict[str, float]], dates: int
) -> None:
    looks = choose_looks("seasons", *place, dates=dates)
    part = YEAR / dates
    times = [look.acquired for look in looks]
    starts = [when - part * number for when in times for number in range(dates)]
    # A microsecond is what cutting a year into windows may round.
    slack = timedelta(microseconds=dates)
    assert not looks or any(
        len({(when - start + slack) // part for when in times}) == len(times)
        and all(0 <= (when - start + slack) // part < dates for when in times)
        for start in starts
    )
    assert not looks or times[-1] - times[0] <= YEAR - part / 3 + slack
    assert all(b - a >= part / 3 - slack for a, b in pairwise(times))


@given(places(), st.integers(2, 6), st.sampled_from([None, 1.0, 2.0, 3.5]))
def test_long_has_two_aligned_years(
    place: tuple[list[Pair], dict[str, float]], dates: int, years_apart: float | None
) -> None:
    looks = choose_looks("long", *place, dates=dates, years_apart=years_apart)
    n = len(looks) // 2
    assert len(looks) == 2 * n
    early, late = looks[:n], looks[n:]
    for half in (early, late):
        assert not half or half[-1].acquired - half[0].acquired <= YEAR
    years = {round((b.acquired - a.acquired) / (365.25 * DAY)) for a, b in zip(early, late, strict=True)}
    assert len(years) <= 1
    for a, b in zip(early, late, strict=True):
        assert days_of_year_apart(a, b) <= 45
        assert abs((b.acquired - a.acquired) / DAY - 365.25 * next(iter(years))) <= 46
        assert years_apart is None or next(iter(years)) >= years_apart - 45 / 365.25
    assert not looks or n >= 2
    assert periods(looks) == (0,) * n + (1,) * n
    assert aligned(looks) == [(number, n + number) for number in range(n)]


# ------------------------------------------------------------------------------------------------ the sandbox


@pytest.mark.parametrize(("size", "n_seasons"), [("tiny", 2), ("small", 4)])
def test_the_sandbox_has_the_seasons_it_was_made_for(size: PlanetSize, n_seasons: int) -> None:
    layout = LAYOUTS[size]
    for region in REGIONS:
        if region.name not in layout.regions:
            continue
        optical, _ = passes(region, layout, seed=0)
        clear = [
            pair(entry.acquired, name=f"s2-{entry.number}", orbit=region.s1_ascending)
            for entry in optical
            if entry.slot.radar != "far"
        ]
        cloud = {f"s2-{entry.number}": 100 * entry.slot.cloud for entry in optical}
        assert len(choose_looks("seasons", clear, cloud)) == n_seasons, region.name
        looks = choose_looks("long", clear, cloud)
        assert (len(looks), sum(periods(looks))) == (2 * n_seasons, n_seasons), region.name
        assert looks[-1].acquired - looks[0].acquired > 2 * YEAR, region.name


def test_dates_that_fit_no_window_whole_make_no_year() -> None:
    # Early and late look of a season lie 40 days of the year apart; of twelve windows none is as long.
    pairs = [pair("2019-01-01"), pair("2019-07-01"), pair("2023-02-10"), pair("2023-08-10")]
    assert choose_looks("long", pairs, {}, dates=12) == ()
    assert len(choose_looks("long", pairs, {}, dates=2)) == 4
