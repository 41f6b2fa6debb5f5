"""Which looks of a place are of one period, and which show the same season years apart: told from their times."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

YEAR = timedelta(days=365)
"""No look of a year, or of one period of `long`, is further from another."""
MEAN_YEAR = timedelta(days=365.25)
"""Whole years later is the same day of the year, give or take one."""
ALIGNED_DAYS = 45.0
"""Days of the year by which the two looks of one season of `long` may differ; 31 December is next to 1 January."""
ALIGNED = timedelta(days=ALIGNED_DAYS + 1)
"""Times that are aligned in the day of the year are so in time elapsed, give or take a day."""


def day_of_year(when: datetime) -> float:
    """Days since the year began, 0 to 366."""
    return (when - when.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)) / timedelta(days=1)


class Dated(Protocol):
    """Anything with a time, as a Look."""

    @property
    def acquired(self) -> datetime: ...


def periods(looks: Sequence[Dated]) -> tuple[int, ...]:
    """For each look of a place, in time order, which of two periods it is of: 0 the early, 1 the late one.

    Told from the times alone, so that it holds for stored looks too and where some are missing: the looks fall into
    two runs of at most 365 days, divided so that most have a look of the same season in the other run. All are 0 where
    there are no two such runs, as with the looks of `seasons`.
    """
    n_early, _ = _divided(looks)
    return (0,) * n_early + (1,) * (len(looks) - n_early)


def aligned(looks: Sequence[Dated]) -> list[tuple[int, int]]:
    """Which looks show the same season years apart: pairs of positions (early, late) in time order.

    Both lie whole years apart, the same number for all, and at most ALIGNED_DAYS of the year. No look is in two pairs;
    all looks of an untouched `long` are in one. Empty where there are no two periods.
    """
    return _divided(looks)[1]


def within(looks: Sequence[Dated]) -> list[tuple[int, int]]:
    """Which looks show different seasons of one period: all pairs of positions (earlier, later) in the same one.

    With one period only, all pairs of looks not more than 365 days apart.
    """
    half = periods(looks)
    return [
        (a, b)
        for a in range(len(looks))
        for b in range(a + 1, len(looks))
        if half[a] == half[b] and looks[b].acquired - looks[a].acquired <= YEAR
    ]


def are_aligned(early: datetime, late: datetime, years: int) -> bool:
    """Whether two times are so many whole years apart and near in the day of the year, as two looks of a season."""
    days = abs(day_of_year(late) - day_of_year(early))
    return abs(late - early - years * MEAN_YEAR) <= ALIGNED and min(days, 366.0 - days) <= ALIGNED_DAYS


def _divided(looks: Sequence[Dated]) -> tuple[int, list[tuple[int, int]]]:
    """How many looks the early period has, all where there is one only, and the aligned pairs."""
    times = [look.acquired for look in looks]
    best: tuple[int, float] = (0, 0.0)
    n_early = len(times)
    pairs: list[tuple[int, int]] = []
    if not times or times[-1] - times[0] <= YEAR:
        return n_early, pairs
    for cut in range(1, len(times)):
        if times[cut - 1] - times[0] > YEAR or times[-1] - times[cut] > YEAR:
            continue
        fewest = max(1, math.floor((times[cut] - times[cut - 1]) / MEAN_YEAR))
        for years in range(fewest, math.ceil((times[-1] - times[0]) / MEAN_YEAR) + 1):
            found = _in_step(times, cut, years)
            rank = (len(found), (times[cut] - times[cut - 1]) / YEAR)
            if found and rank > best:
                best, n_early, pairs = rank, cut, found
    return n_early, pairs


def _in_step(times: Sequence[datetime], cut: int, years: int) -> list[tuple[int, int]]:
    """Pairs of positions before and from `cut` that are aligned so many years apart, most possible, in time order."""
    found: list[tuple[int, int]] = []
    early, late = 0, cut
    while early < cut and late < len(times):
        if are_aligned(times[early], times[late], years):
            found.append((early, late))
            early, late = early + 1, late + 1
        elif times[late] - times[early] < years * MEAN_YEAR:
            late += 1
        else:
            early += 1
    return found
