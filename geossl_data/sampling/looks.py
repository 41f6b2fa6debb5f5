"""Which of the pairs that cover a place become its looks.

A year is any 365 days, not the calendar's, so that a winter is not cut at its end and a southern summer neither. It is
divided into equal parts, one for each look, and a season is a window of two thirds of a part: the third between keeps
two dates a few days apart from passing for two seasons. Of several pairs in a window the tie rule takes one: the one
with the clearest Sentinel-2 scene, then the smallest gap (`clearest`), or the one with the smallest gap, then the
clearest (`nearest`); of equals the earliest.

Looks of several dates keep to one Sentinel-1 relative orbit and direction, since a change of either looks like a change
of the land.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.records import Look, Pair

Tie = Literal["clearest", "nearest"]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAME_PASS = timedelta(minutes=5)
"""Sentinel-2 scenes closer in time than this belong to one overflight and never make two looks."""
YEAR = timedelta(days=365)
"""No look of a year, or of one period of `long`, is further from another."""
ALIGNED_DAYS = 45.0
"""Days of the year by which the two looks of one season of `long` may differ; 31 December is next to 1 January."""
MOST_DATES = 52

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_MEAN_YEAR_US = 31_557_600_000_000
"""365.25 days: whole years later is the same day of the year, give or take one."""
_ALIGNED_US = int((ALIGNED_DAYS + 1) * _DAY_US)
"""Times that are aligned in the day of the year are so in time elapsed, give or take that day."""
_BLOCK = 500_000
"""Numbers worked on at once, which bounds memory; no result depends on it."""
_DECIMALS = 6
"""Means that agree to this many decimals are equal: the rest is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookOptions:
    """What the rules for looks can be told."""

    dates: int = 4
    """Windows of a year: most looks of `seasons`, most looks of either period of `long`."""
    least: int = 2
    """Fewest windows that must have a look; as many as `dates` to take no place with a season missing."""
    most: int = 16
    """Most looks of `series`."""
    years_apart: float | None = None
    """Fewest years between the periods of `long`, of which the nearest whole number is taken for which there are
    dates; None: as far apart as there are dates (`long`)."""

    def __post_init__(self) -> None:
        if not 2 <= self.dates <= MOST_DATES:
            raise SamplingError(f"looks on {self.dates} dates a year; give 2 to {MOST_DATES}")
        if not 2 <= self.least <= self.dates:
            raise SamplingError(f"at least {self.least} of {self.dates} dates; give 2 to {self.dates}")
        if self.most < 1:
            raise SamplingError(f"a series of at most {self.most} looks; give 1 or more")
        if self.years_apart is not None and not 0 < self.years_apart < 100:
            raise SamplingError(f"periods {self.years_apart:g} years apart; give more than 0 and less than 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """Pairs of different overflights in time order, as arrays of shape (n,)."""

    at_us: IntArray
    """Sentinel-2 time, microseconds."""
    day: FloatArray
    """Day of the year, 0 to 366."""
    first: FloatArray
    """What the tie rule looks at first: percent of cloud, or hours of gap; less is better."""
    second: FloatArray
    """What it looks at next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a rule takes of some dates."""

    rows: IntArray
    """Which dates; none where there are too few."""
    worth: float = 0.0
    """More is better; what the choice of an orbit goes by."""


Rule = Callable[[Dates, LookOptions], Choice]
NOTHING = Choice(rows=np.zeros(0, dtype=np.int64))


def single(dates: Dates, options: LookOptions) -> Choice:
    """The best date of all."""
    return Choice(rows=np.lexsort((dates.at_us, dates.second, dates.first))[:1], worth=1.0)


def seasons(dates: Dates, options: LookOptions) -> Choice:
    """The best date in each window of the year that has most windows filled; the earliest of such years."""
    rows = _best_year(dates.at_us, dates.at_us, (dates.first, dates.second, dates.at_us), options.dates)
    return Choice(rows=rows, worth=float(len(rows))) if len(rows) >= options.least else NOTHING


def long(dates: Dates, options: LookOptions) -> Choice:
    """Two years of seasonal looks, whole years apart: from each window that has dates of both, the best two.

    The two looks of a window differ by at most ALIGNED_DAYS in the day of the year. Where no distance is asked for,
    the one is taken that makes most of years × seasons, so that one year more does not cost half of the seasons at
    the end of a catalog; of equal ones the further.
    """
    best = NOTHING
    span_us = int(dates.at_us[-1] - dates.at_us[0])
    furthest = (span_us + _ALIGNED_US) // _MEAN_YEAR_US
    if options.years_apart is not None:
        nearest = max(1, math.ceil(options.years_apart - ALIGNED_DAYS / 365.25))
        found = (_years_apart(dates, years, options) for years in range(nearest, furthest + 1))
        return next((choice for choice in found if len(choice.rows)), NOTHING)
    for years in range(furthest, 0, -1):
        if years * options.dates <= best.worth:
            break
        choice = _years_apart(dates, years, options)
        worth = years * choice.worth
        if worth > best.worth:
            best = Choice(rows=choice.rows, worth=worth)
    return best


def _years_apart(dates: Dates, years: int, options: LookOptions) -> Choice:
    """The looks of two periods so many years apart; worth: how many windows have two."""
    at = dates.at_us
    wanted = at + years * _MEAN_YEAR_US
    start = np.searchsorted(at, wanted - _ALIGNED_US, side="left")
    counts = np.searchsorted(at, wanted + _ALIGNED_US, side="right") - start
    early = np.repeat(np.arange(len(at)), counts)
    late = np.arange(len(early)) - np.repeat(np.cumsum(counts) - counts - start, counts)
    moved = at[late] - years * _MEAN_YEAR_US
    low, high = np.minimum(at[early], moved), np.maximum(at[early], moved)
    is_near = _days_between(dates.day[early], dates.day[late]) <= ALIGNED_DAYS
    order = np.lexsort((late, early, low))
    order = order[is_near[order]]
    early, late = early[order], late[order]
    ranks = (dates.first[early] + dates.first[late], dates.second[early] + dates.second[late], early, late)
    rows = _best_year(low[order], high[order], ranks, options.dates)
    if len(rows) < options.least:
        return NOTHING
    return Choice(rows=np.concatenate([early[rows], late[rows]]), worth=float(len(rows)))


def series(dates: Dates, options: LookOptions) -> Choice:
    """All dates, or where there are too many the best in each of so many equal slots, then the best of the rest."""
    n, at = len(dates.at_us), dates.at_us
    ranked = np.lexsort((at, dates.second, dates.first))
    if n > options.most:
        slot = (at - at[0]) // ((at[-1] - at[0]) // options.most + 1)
        in_slots = ranked[np.argsort(slot[ranked], kind="stable")]
        best = in_slots[np.diff(slot[in_slots], prepend=-1) > 0]
        ranked = np.concatenate([best, ranked[~np.isin(ranked, best)]])[: options.most]
    return Choice(rows=ranked, worth=float(len(ranked)))


LOOKS: Mapping[str, Rule] = {"single": single, "seasons": seasons, "long": long, "series": series}
"""Look rules by name: (dates that a place was seen on, options) → which of them it keeps, maybe none."""


def _days_between(a: FloatArray, b: FloatArray) -> FloatArray:
    """Days between days of the year, the shorter way round; of both lengths of a year the one that gives more."""
    days = np.abs(a - b)
    return np.minimum(days, 366.0 - days)


def _best_year(low: IntArray, high: IntArray, ranks: Sequence[NDArray[Any]], n_windows: int) -> IntArray:
    """The best item in each filled window of the year that has most windows filled; in time order, maybe none.

    low, high: where each item begins and ends, microseconds, shape (n,), sorted by low; only an item that lies in a
    window whole fills it, so that there may be none. ranks: shape (n,) each, less is better, the first decides. Of all
    years with so many windows filled the earliest counts, moved later by less than one part as suits the items best: by
    the mean of the first rank of those taken, then of the second. A start can be moved later, losing no item, until one
    lies at the beginning of its window; so only such starts are tried.
    """
    if not len(low):
        return np.zeros(0, dtype=np.int64)
    part = _part_us(n_windows)
    edges = np.unique(low)
    starts = np.unique(edges[None, :] - part * np.arange(n_windows)[:, None])
    filled = _filled(starts, low, high, n_windows)
    n_filled, first = int(filled.max()), int(starts[np.argmax(filled)])
    if not n_filled:
        return np.zeros(0, dtype=np.int64)
    nearby = starts[(starts >= first) & (starts < first + part)]
    rows = np.flatnonzero((low >= first) & (low < first + part + YEAR // _MICROSECOND))
    order = rows[np.lexsort([rank[rows] for rank in reversed(ranks)])]
    best: tuple[float, ...] = (math.inf, math.inf)
    taken = order[:0]
    step = max(1, _BLOCK // len(order))
    for position in range(0, len(nearby), step):
        block = nearby[position : position + step, None]
        window = _windows(low[order][None, :], high[order][None, :], block, n_windows)
        hit = window[:, None, :] == np.arange(n_windows)[None, :, None]
        has = hit.any(axis=2)
        full = np.flatnonzero(has.sum(axis=1) == n_filled)
        if not len(full):
            continue
        # The first that hits is the best, since the items are sorted by rank.
        items, has = order[hit[full].argmax(axis=2)], has[full]
        means = [(np.where(has, rank[items], 0.0).sum(axis=1) / n_filled).round(_DECIMALS) for rank in ranks[:2]]
        top = int(np.lexsort(means[::-1])[0])
        found = tuple(float(mean[top]) for mean in means)
        if found < best:
            best, taken = found, items[top][has[top]]
    return np.asarray(taken)


def _filled(starts: IntArray, low: IntArray, high: IntArray, n_windows: int) -> IntArray:
    """How many windows of the years from each start hold an item; the first ones only, up to one with all filled."""
    found: list[IntArray] = []
    position, step = 0, 32
    while position < len(starts) and not (found and int(found[-1].max()) == n_windows):
        block = starts[position : position + step]
        near = slice(*np.searchsorted(low, [block[0], block[-1] + YEAR // _MICROSECOND]).tolist())
        window = _windows(low[None, near], high[None, near], block[:, None], n_windows)
        bits = np.where(window < 0, 0, 1 << np.maximum(window, 0))
        found.append(np.bitwise_count(np.bitwise_or.reduce(bits, axis=1)).astype(np.int64))
        position, step = position + step, min(4 * step, max(32, _BLOCK // len(low)))
    return np.concatenate(found)


def _part_us(n_windows: int) -> int:
    """Microseconds from the beginning of a window to that of the next."""
    return YEAR // _MICROSECOND // n_windows


def _windows(low: IntArray, high: IntArray, start: IntArray | np.int64, n_windows: int) -> IntArray:
    """Which window of the year from `start` each item lies in whole, -1 for none; broadcasts."""
    part = _part_us(n_windows)
    window = (low - start) // part
    fits = (window >= 0) & (window < n_windows) & (high - start - window * part < part * 2 // 3)
    return np.where(fits, window, -1)


# ------------------------------------------------------------------------------------------------ of a place


def choose_looks(
    rule: str,
    pairs: Sequence[Pair],
    cloud: Mapping[str, float | None],
    tie: Tie = "clearest",
    *,
    dates: int = 4,
    least: int = 2,
    most: int = 16,
    years_apart: float | None = None,
    same_orbit: bool = True,
) -> tuple[Look, ...]:
    """The looks of a place in time order; empty where the rule finds too few dates.

    cloud: percent of the whole scene, by Sentinel-2 id; unknown counts as the cloudiest. tie: which of several pairs
    that would do is taken. dates, least, most, years_apart: see LookOptions. same_orbit: looks of several dates have
    one Sentinel-1 relative orbit and direction, the one that gives the most dates, then the best by the tie rule;
    pairs of unknown orbit go together with each other only. The order of the pairs does not matter.
    """
    options = LookOptions(dates=dates, least=least, most=most, years_apart=years_apart)
    return _looks(_rule(rule), pairs, cloud, tie, options, same_orbit and rule != "single")


def choose_all(
    rule: str,
    places: Iterable[Sequence[Pair]],
    cloud: Mapping[str, float | None],
    tie: Tie = "clearest",
    *,
    dates: int = 4,
    least: int = 2,
    most: int = 16,
    years_apart: float | None = None,
    same_orbit: bool = True,
) -> list[tuple[Look, ...]]:
    """`choose_looks` for many places, worked out once for all that the same pairs cover, as most of a tile are.

    places: the pairs of each. The looks of places with the same pairs are one object.
    """
    options = LookOptions(dates=dates, least=least, most=most, years_apart=years_apart)
    chosen_by, in_one_orbit = _rule(rule), same_orbit and rule != "single"
    known: dict[tuple[object, ...], tuple[Look, ...]] = {}
    found: list[tuple[Look, ...]] = []
    for pairs in places:
        # Scenes make a pair what it is, so their ids stand for it, at a tenth of the time that hashing it takes.
        key = tuple([(pair.s2_id, pair.s1_id, pair.s2_more, pair.s1_more) for pair in pairs])
        looks = known.get(key)
        if looks is None:
            looks = known[key] = _looks(chosen_by, pairs, cloud, tie, options, in_one_orbit)
        found.append(looks)
    return found


def _rule(name: str) -> Rule:
    if name not in LOOKS:
        raise SamplingError(f"no rule for looks {name!r}; there are {', '.join(LOOKS)}")
    return LOOKS[name]


def _looks(
    rule: Rule,
    pairs: Sequence[Pair],
    cloud: Mapping[str, float | None],
    tie: Tie,
    options: LookOptions,
    in_one_orbit: bool,
) -> tuple[Look, ...]:
    groups: dict[tuple[int, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[_orbit(pair) if in_one_orbit else (0, "")].append(pair)
    best: tuple[float, ...] | None = None
    chosen: list[Pair] = []
    for _, group in sorted(groups.items()):
        distinct = _distinct(group)
        dates = _dates(distinct, cloud, tie)
        choice = rule(dates, options)
        if not len(choice.rows):
            continue
        rank = (-choice.worth, float(dates.first[choice.rows].mean()), float(dates.second[choice.rows].mean()))
        if best is None or rank < best:
            best, chosen = rank, [distinct[row] for row in sorted(choice.rows.tolist())]
    return tuple(
        Look(
            s2_id=pair.s2_id,
            s1_id=pair.s1_id,
            acquired=pair.s2_acquired,
            gap_hours=pair.gap_hours,
            s1_more=pair.s1_more,
            s2_more=pair.s2_more,
        )
        for pair in chosen
    )


def _orbit(pair: Pair) -> tuple[int, str]:
    """Sentinel-1 relative orbit and direction; 0 and nothing where they are unknown."""
    return (pair.s1_relative_orbit or 0, pair.s1_orbit_state or "")


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs without second copies of one overflight, in time order."""
    kept: list[Pair] = []
    for pair in sorted(pairs, key=lambda pair: (pair.s2_acquired, pair.s2_id, pair.rank, pair.s1_id)):
        if not kept or pair.s2_acquired - kept[-1].s2_acquired >= SAME_PASS:
            kept.append(pair)
    return kept


def _dates(pairs: Sequence[Pair], cloud: Mapping[str, float | None], tie: Tie) -> Dates:
    """The pairs as the rules see them."""
    known = [cloud.get(pair.s2_id) for pair in pairs]
    cloudy = np.array([100.0 if value is None else value for value in known])
    gap = np.array([abs(pair.gap_hours) for pair in pairs])
    first, second = (cloudy, gap) if tie == "clearest" else (gap, cloudy)
    times = [pair.s2_acquired for pair in pairs]
    return Dates(
        at_us=np.array([(when - _EPOCH) // _MICROSECOND for when in times], dtype=np.int64),
        day=np.array([_day_of_year(when) for when in times]),
        first=first,
        second=second,
    )


def _day_of_year(when: datetime) -> float:
    """Days since the year began, 0 to 366."""
    return (when - when.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)) / timedelta(days=1)


# ------------------------------------------------------------------------------------------------ two periods


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
        mean_year = _MEAN_YEAR_US * _MICROSECOND
        fewest = max(1, math.floor((times[cut] - times[cut - 1]) / mean_year))
        for years in range(fewest, math.ceil((times[-1] - times[0]) / mean_year) + 1):
            found = _in_step(times, cut, years * mean_year)
            rank = (len(found), (times[cut] - times[cut - 1]) / YEAR)
            if found and rank > best:
                best, n_early, pairs = rank, cut, found
    return n_early, pairs


def _in_step(times: Sequence[datetime], cut: int, apart: timedelta) -> list[tuple[int, int]]:
    """Pairs of positions before and from `cut` that are aligned at a distance, most possible, in time order."""
    found: list[tuple[int, int]] = []
    early, late = 0, cut
    while early < cut and late < len(times):
        off = times[late] - times[early] - apart
        days = abs(_day_of_year(times[late]) - _day_of_year(times[early]))
        if abs(off) <= _ALIGNED_US * _MICROSECOND and min(days, 366.0 - days) <= ALIGNED_DAYS:
            found.append((early, late))
            early, late = early + 1, late + 1
        elif off < timedelta(0):
            late += 1
        else:
            early += 1
    return found
