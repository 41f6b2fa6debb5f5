"""How many scenes find a partner."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from geossl_data.records import Scene
from geossl_data.scenes.matching import match, match_acquisitions
from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.scenes.matching.yields import (
    LADDER_HOURS,
    YieldOfYear,
    YieldStep,
    yield_by_year,
    yield_curve,
    yield_share,
)

START = datetime(2021, 12, 1, tzinfo=UTC)


def scene(name: str, sensor: Any, hours: float, **more: Any) -> Scene:
    time = START + timedelta(hours=hours)
    ground = box(8, 47, 9, 48)
    return Scene(id=name, collection="c", sensor=sensor, acquired=time, ends=time, footprint=ground, hrefs={}, **more)


def test_1_84_the_curve_of_a_catalog_with_known_counts() -> None:
    s2 = [scene("a", "s2", 0), scene("b", "s2", 1000), scene("c", "s2", 2000), scene("d", "s2", 3000)]
    s1 = [scene("p", "s1", -2), scene("q", "s1", 12), scene("r", "s1", 1024), scene("s", "s1", 2096)]
    pairs = match(s2, s1, max_gap=timedelta(days=4), orbit="any")
    curve = yield_curve(pairs, len(s2), timedelta(days=4))
    assert [step.max_gap_hours for step in curve] == [1, 3, 6, 12, 24, 36, 48, 72, 96]
    assert [step.n_pairs for step in curve] == [0, 1, 1, 2, 3, 3, 3, 3, 4]
    assert [step.n_s2_with_partner for step in curve] == [0, 1, 1, 1, 2, 2, 2, 2, 3]
    assert curve[-1] == YieldStep(max_gap_hours=96.0, n_s2_with_partner=3, share=0.75, n_pairs=4)
    assert {pair.s1_id: pair.gap_hours for pair in pairs} == {"p": -2, "q": 12, "r": 24, "s": 96}


@pytest.mark.parametrize(
    ("max_gap", "gaps"),
    [
        (timedelta(minutes=30), [0.5]),
        (timedelta(hours=3), [1, 3]),
        (timedelta(hours=100), [1, 3, 6, 12, 24, 36, 48, 72, 96, 100]),
        (timedelta(days=12), LADDER_HOURS),
        (timedelta(days=20), [*LADDER_HOURS, 480]),
    ],
)
def test_the_last_step_is_the_largest_gap(max_gap: timedelta, gaps: list[float]) -> None:
    curve = yield_curve([], 0, max_gap)
    assert [step.max_gap_hours for step in curve] == list(gaps)
    assert {(step.n_s2_with_partner, step.share, step.n_pairs) for step in curve} == {(0, 0.0, 0)}


HOURS = st.lists(st.integers(0, 400).map(float), max_size=8, unique=True)


@settings(max_examples=20, deadline=None)
@given(HOURS, HOURS, st.integers(0, 15))
def test_the_curve_is_what_smaller_gaps_give(first: list[float], second: list[float], days: int) -> None:
    s2 = [scene(f"a{n}", "s2", hours, mgrs_tile="32TMT", relative_orbit=1) for n, hours in enumerate(first)]
    s2 += [scene(f"h{n}", "s2", hours + 0.01, mgrs_tile="32TMT", relative_orbit=1) for n, hours in enumerate(first[:2])]
    s1 = [scene(f"p{n}", "s1", hours) for n, hours in enumerate(second)]
    max_gap = timedelta(days=days)
    pairs = match(s2, s1, max_gap=max_gap, orbit="any")
    curve = yield_curve(pairs, len(s2), max_gap)
    found = match_acquisitions(Acquisitions.of(s2), Acquisitions.of(s1), max_gap=max_gap, orbit="any")
    assert yield_curve(found, len(s2), max_gap) == curve
    for step in curve:
        within = match(s2, s1, max_gap=timedelta(hours=step.max_gap_hours), orbit="any")
        assert step.n_pairs == len(within)
        assert step.share == yield_share(within, len(s2))
        assert step.n_s2_with_partner == round(step.share * len(s2))


def test_the_share_of_scenes_with_a_partner() -> None:
    anchors = [scene("a", "s2", 0), scene("b", "s2", 500)]
    pairs = match(anchors, [scene("c", "s1", 1), scene("d", "s1", 2)], max_gap=timedelta(days=1), orbit="any")
    assert yield_share(pairs, len(anchors)) == 0.5
    assert yield_share([], 0) == 0.0


def test_both_parts_of_an_acquisition_have_a_partner() -> None:
    parts = [scene(name, "s2", 0, mgrs_tile="32TMT") for name in ("a", "b")]
    pairs = match(parts, [scene("c", "s1", 1)], max_gap=timedelta(days=1), orbit="any")
    assert len(pairs) == 1
    assert yield_share(pairs, 2) == 1.0
    assert yield_curve(pairs, 2, timedelta(hours=1))[-1].n_s2_with_partner == 2


def test_1_83_a_lost_satellite_shows_in_the_yield_of_the_year() -> None:
    """A pass every 6 days while there are two satellites, every 12 days from 23 December 2021 on; a scene every 5."""
    loss = datetime(2021, 12, 23, tzinfo=UTC)
    s1 = [scene(f"p{n}", "s1", 144 * n) for n in range(60)]
    s1 = [one for n, one in enumerate(s1) if one.acquired < loss or n % 2 == 0]
    s2 = [scene(f"a{n}", "s2", 120 * n + 1) for n in range(72)]
    pairs = match(s2, s1, max_gap=timedelta(days=3), orbit="any")
    years = yield_by_year(pairs, s2)
    assert years == (
        YieldOfYear(year=2021, n_s2=7, n_s2_with_partner=6, share=6 / 7),
        YieldOfYear(year=2022, n_s2=65, n_s2_with_partner=33, share=33 / 65),
    )
    assert yield_by_year([], []) == ()
