"""Periods: told from the times of looks alone."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from geossl_data.sampling.periods import aligned, periods, within


@dataclass(frozen=True)
class Seen:
    acquired: datetime


def seen(*dates: str) -> list[Seen]:
    return [Seen(datetime.fromisoformat(day).replace(tzinfo=UTC)) for day in dates]


def test_periods_by_hand() -> None:
    looks = seen("2018-02-01", "2018-05-01", "2018-11-01", "2022-01-20", "2022-05-15", "2022-10-20")
    assert periods(looks) == (0, 0, 0, 1, 1, 1)
    assert aligned(looks) == [(0, 3), (1, 4), (2, 5)]
    assert within(looks) == [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]


def test_periods_of_neighbouring_years_are_told_apart() -> None:
    looks = seen("2020-09-01", "2020-11-20", "2021-02-10", "2021-05-10", "2021-09-10", "2021-11-30", "2022-02-01")
    assert periods(looks) == (0, 0, 0, 0, 1, 1, 1)
    assert aligned(looks) == [(0, 4), (1, 5), (2, 6)]


def test_looks_that_are_missing_leave_the_others_in_their_periods() -> None:
    looks = seen("2018-02-01", "2018-11-01", "2022-01-20", "2022-05-15", "2022-10-20")
    assert periods(looks) == (0, 0, 1, 1, 1)
    assert aligned(looks) == [(0, 2), (1, 4)]


@pytest.mark.parametrize(
    "dates",
    [
        (),
        ("2020-01-01",),
        ("2020-01-10", "2020-05-01", "2020-08-01", "2020-12-30"),
        ("2018-02-01", "2022-08-01"),
        ("2018-02-01", "2019-06-01", "2020-02-01", "2021-06-01", "2022-02-01"),
    ],
)
def test_looks_of_one_period_or_of_many_have_nothing_aligned(dates: tuple[str, ...]) -> None:
    looks = seen(*dates)
    assert aligned(looks) == []
    assert set(periods(looks)) <= {0}
    assert len(periods(looks)) == len(dates)


def test_one_period_is_compared_within_a_year_only() -> None:
    assert within(seen("2018-02-01", "2019-06-01", "2020-02-01", "2020-10-01")) == [(1, 2), (2, 3)]
