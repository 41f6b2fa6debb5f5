"""The plan covers a query without gap, in questions whose answers fit a few pages."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box

from geossl_data.errors import CatalogError
from geossl_data.scenes.plan import LONGEST_WINDOW, PAGES_PER_QUESTION, expected_items, plan_search
from geossl_data.scenes.providers import PROVIDERS
from geossl_data.scenes.query import Query

PC, ES = PROVIDERS["planetary-computer"], PROVIDERS["earth-search"]
SWITZERLAND = box(5.9, 45.8, 10.5, 47.8)


def utc(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_a_small_query_is_one_question_for_each_sensor() -> None:
    query = Query(area=box(8, 47, 8.1, 47.1), start=utc(2023, 1, 1), end=utc(2023, 3, 1), margin=timedelta(days=3))
    plan = plan_search(PC, query)
    assert [(question.collection, question.start, question.end) for question in plan.questions] == [
        ("sentinel-2-l2a", utc(2023, 1, 1), utc(2023, 3, 1)),
        ("sentinel-1-rtc", utc(2022, 12, 29), utc(2023, 3, 4)),
    ]
    assert plan.expected_requests == 3


@settings(max_examples=60, deadline=None)
@given(
    west=st.floats(-180, 150),
    south=st.floats(-60, 60),
    size=st.floats(0.01, 20),
    days=st.integers(1, 4000),
)
def test_windows_cover_the_period_without_gap_or_overlap(west: float, south: float, size: float, days: int) -> None:
    start = utc(2015, 7, 1)
    query = Query(area=box(west, south, west + size, south + size), start=start, end=start + timedelta(days=days))
    plan = plan_search(PC, query)
    for product in ("L2A", "RTC"):
        questions = [question for question in plan.questions if question.product == product]
        assert questions[0].start == query.start
        assert questions[-1].end == query.end
        assert all(first.end == second.start for first, second in pairwise(questions))
        assert all(question.end - question.start <= LONGEST_WINDOW + timedelta(days=1) for question in questions)
        one_day = expected_items(questions[0].product, questions[0].box, 1)
        largest = PAGES_PER_QUESTION * PC.page_size + 2 * one_day
        assert all(question.expected <= largest for question in questions)


def test_every_part_of_an_area_is_asked_for_and_neighbours_share() -> None:
    places = MultiPolygon([box(lon, lat, lon + 0.03, lat + 0.03) for lon in (5.0, 5.1, 5.2, 80.0) for lat in range(20)])
    plan = plan_search(PC, Query(area=places, start=utc(2023, 1, 1), end=utc(2023, 2, 1)))
    boxes = {question.box for question in plan.questions}
    assert len(boxes) < len(places.geoms)
    for place in places.geoms:
        assert any(box(*each).buffer(1e-9).covers(place) for each in boxes)


def test_1_22_a_thousand_places_in_one_region_need_few_questions() -> None:
    places = MultiPolygon(
        [box(8 + i * 0.05, 46 + j * 0.03, 8.02 + i * 0.05, 46.02 + j * 0.03) for i in range(40) for j in range(25)]
    )
    plan = plan_search(PC, Query(area=places, start=utc(2023, 1, 1), end=utc(2023, 4, 1)))
    assert len(plan.questions) <= 8


def test_names_are_distinct_and_stable() -> None:
    query = Query(area=SWITZERLAND, start=utc(2022, 1, 1), end=utc(2024, 1, 1))
    names = [question.name for question in plan_search(PC, query).questions]
    assert len(set(names)) == len(names) > 2
    assert names == [question.name for question in plan_search(PC, query).questions]


def test_what_a_catalog_does_not_have_is_refused() -> None:
    query = Query(area=SWITZERLAND, start=utc(2022, 1, 1), end=utc(2022, 2, 1))
    with pytest.raises(CatalogError, match="earth-search: has no RTC products"):
        plan_search(ES, query)
    with pytest.raises(CatalogError, match="planetary-computer: has no L1C products"):
        plan_search(PC, Query(area=SWITZERLAND, start=query.start, end=query.end, s2="L1C"))


def test_an_estimate_in_the_range_of_the_archive() -> None:
    # 1,066 items of sentinel-2-l2a over Colorado (102 to 109 W, 37 to 41 N), July and August 2024, as published.
    expected = expected_items("L2A", (-109.05, 36.99, -102.04, 41.0), 62)
    assert 0.5 < expected / 1066 < 2.0
