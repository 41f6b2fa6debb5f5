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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.records import Look, Pair
from geossl_data.sampling.periods import ALIGNED, ALIGNED_DAYS, MEAN_YEAR, YEAR, day_of_year

Tie = Literal["clearest", "nearest"]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAME_PASS = timedelta(minutes=5)
"""Sentinel-2 scenes closer in time than this belong to one overflight and never make two looks."""
MOST_DATES = 52

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MEAN_YEAR_US = MEAN_YEAR // _MICROSECOND
_ALIGNED_US = ALIGNED // _MICROSECOND
_BLOCK = 500_000
"""Numbers worked on at once, which bounds memory; no result depends on it."""
_EVER = np.iinfo(np.int64)
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
    spans: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    """From when to before when another date may stand in for each of `rows`, microseconds, shape (rows, 2), none of
    them into another; shape (0, 2) where nothing may."""
    may_slide: bool = False
    """Whether the spans may all be moved by the same time, as long as each still holds its date."""
    years: int = 0
    """How many whole years lie between the two halves of `rows`, which are aligned one by one; 0: no halves."""


Rule = Callable[[Dates, LookOptions], Choice]
NOTHING = Choice(rows=np.zeros(0, dtype=np.int64))


def single(dates: Dates, options: LookOptions) -> Choice:
    """The best date of all."""
    rows = np.lexsort((dates.at_us, dates.second, dates.first))[:1]
    return Choice(rows=rows, worth=1.0, spans=_between(dates.at_us, rows))


def seasons(dates: Dates, options: LookOptions) -> Choice:
    """The best date in each window of the year that has most windows filled; the earliest of such years."""
    rows, windows = _best_year(dates.at_us, dates.at_us, (dates.first, dates.second, dates.at_us), options.dates)
    if len(rows) < options.least:
        return NOTHING
    return Choice(rows=rows, worth=float(len(rows)), spans=windows, may_slide=True)


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
            best = replace(choice, worth=worth)
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
    rows, windows = _best_year(low[order], high[order], ranks, options.dates)
    if len(rows) < options.least:
        return NOTHING
    return Choice(
        rows=np.concatenate([early[rows], late[rows]]),
        worth=float(len(rows)),
        spans=np.concatenate([windows, windows + years * _MEAN_YEAR_US]),
        may_slide=True,
        years=years,
    )


def series(dates: Dates, options: LookOptions) -> Choice:
    """All dates, or where there are too many the best in each of so many equal slots, then the best of the rest."""
    n, at = len(dates.at_us), dates.at_us
    ranked = np.lexsort((at, dates.second, dates.first))
    if n > options.most:
        slot = (at - at[0]) // ((at[-1] - at[0]) // options.most + 1)
        in_slots = ranked[np.argsort(slot[ranked], kind="stable")]
        best = in_slots[np.diff(slot[in_slots], prepend=-1) > 0]
        ranked = np.concatenate([best, ranked[~np.isin(ranked, best)]])[: options.most]
    return Choice(rows=ranked, worth=float(len(ranked)), spans=_between(at, ranked))


LOOKS: Mapping[str, Rule] = {"single": single, "seasons": seasons, "long": long, "series": series}
"""Look rules by name: (dates that a place was seen on, options) → which of them it keeps, maybe none."""


def _between(at_us: IntArray, rows: IntArray) -> IntArray:
    """The times that are nearer to each of some dates than to the others, shape (rows, 2): to half-way between."""
    order = np.argsort(at_us[rows])
    middle = (at_us[rows[order[:-1]]] + at_us[rows[order[1:]]] + 1) // 2
    spans = np.empty((len(rows), 2), dtype=np.int64)
    spans[order, 0] = np.concatenate([[_EVER.min], middle])
    spans[order, 1] = np.concatenate([middle, [_EVER.max]])
    return spans


def _days_between(a: FloatArray, b: FloatArray) -> FloatArray:
    """Days between days of the year, the shorter way round; of both lengths of a year the one that gives more."""
    days = np.abs(a - b)
    return np.minimum(days, 366.0 - days)


def _best_year(
    low: IntArray, high: IntArray, ranks: Sequence[NDArray[Any]], n_windows: int
) -> tuple[IntArray, IntArray]:
    """The best item in each filled window of the year that has most windows filled, and these windows; maybe none.

    In time order; of each window its beginning and its end, microseconds, shape (items, 2).

    low, high: where each item begins and ends, microseconds, shape (n,), sorted by low; only an item that lies in a
    window whole fills it, so that there may be none. ranks: shape (n,) each, less is better, the first decides. Of all
    years with so many windows filled the earliest counts, moved later by less than one part as suits the items best: by
    the mean of the first rank of those taken, then of the second. A start can be moved later, losing no item, until one
    lies at the beginning of its window; so only such starts are tried.
    """
    if not len(low):
        return NOTHING.rows, NOTHING.spans
    part = _part_us(n_windows)
    edges = np.unique(low)
    starts = np.unique(edges[None, :] - part * np.arange(n_windows)[:, None])
    filled = _filled(starts, low, high, n_windows)
    n_filled, first = int(filled.max()), int(starts[np.argmax(filled)])
    if not n_filled:
        return NOTHING.rows, NOTHING.spans
    nearby = starts[(starts >= first) & (starts < first + part)]
    rows = np.flatnonzero((low >= first) & (low < first + part + YEAR // _MICROSECOND))
    order = rows[np.lexsort([rank[rows] for rank in reversed(ranks)])]
    best: tuple[float, ...] = (math.inf, math.inf)
    taken, windows = NOTHING.rows, NOTHING.spans
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
            begins = block[full[top]] + part * np.flatnonzero(has[top])
            windows = np.column_stack([begins, begins + _length_us(part)])
    return taken, windows


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


def _length_us(part: int) -> int:
    """Microseconds that a window takes of its part of the year."""
    return part * 2 // 3


def _windows(low: IntArray, high: IntArray, start: IntArray | np.int64, n_windows: int) -> IntArray:
    """Which window of the year from `start` each item lies in whole, -1 for none; broadcasts."""
    part = _part_us(n_windows)
    window = (low - start) // part
    fits = (window >= 0) & (window < n_windows) & (high - start - window * part < _length_us(part))
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
    return _looks(rule_named(rule), pairs, cloud, tie, options, same_orbit and rule != "single")


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
    chosen_by, in_one_orbit = rule_named(rule), same_orbit and rule != "single"
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


def rule_named(name: str) -> Rule:
    """The rule of a name in LOOKS; SamplingError where there is none."""
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
    chosen = choose_pairs(rule, pairs, cloud, tie, options, in_one_orbit)
    return () if chosen is None else tuple(look_of(chosen.pairs[row]) for row in chosen.rows.tolist())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """What a rule takes of the pairs that cover a place."""

    pairs: list[Pair]
    """All of the Sentinel-1 orbit that was taken, or of any where the looks may be of several, in time order."""
    rows: IntArray
    """Which of them are looks, in time order, shape (looks,)."""
    spans: IntArray
    """As in Choice, in the same order as `rows`."""
    may_slide: bool
    """As in Choice."""
    years: int
    """As in Choice."""


def choose_pairs(
    rule: Rule,
    pairs: Sequence[Pair],
    cloud: Mapping[str, float | None],
    tie: Tie,
    options: LookOptions,
    in_one_orbit: bool,
) -> Chosen | None:
    """The pairs that become the looks of a place, and when others may stand in; None where there are too few dates."""
    groups: dict[tuple[int, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[_orbit(pair) if in_one_orbit else (0, "")].append(pair)
    best: tuple[float, ...] | None = None
    chosen: Chosen | None = None
    for _, members in sorted(groups.items()):
        group = sorted(members, key=lambda pair: (pair.s2_acquired, pair.s2_id, pair.rank, pair.s1_id))
        distinct = _distinct(group)
        dates = dates_of([group[row] for row in distinct], cloud, tie)
        choice = rule(dates, options)
        if not len(choice.rows):
            continue
        rank = (-choice.worth, float(dates.first[choice.rows].mean()), float(dates.second[choice.rows].mean()))
        if best is None or rank < best:
            order = np.argsort(choice.rows)
            spans = choice.spans[order] if len(choice.spans) else choice.spans
            rows = np.array(distinct, dtype=np.int64)[choice.rows[order]]
            best = rank
            chosen = Chosen(pairs=group, rows=rows, spans=spans, may_slide=choice.may_slide, years=choice.years)
    return chosen


def look_of(pair: Pair) -> Look:
    """A pair as a look."""
    return Look(
        s2_id=pair.s2_id,
        s1_id=pair.s1_id,
        acquired=pair.s2_acquired,
        gap_hours=pair.gap_hours,
        s1_more=pair.s1_more,
        s2_more=pair.s2_more,
    )


def _orbit(pair: Pair) -> tuple[int, str]:
    """Sentinel-1 relative orbit and direction; 0 and nothing where they are unknown."""
    return (pair.s1_relative_orbit or 0, pair.s1_orbit_state or "")


def _distinct(pairs: Sequence[Pair]) -> list[int]:
    """Which of some pairs in time order there are without second copies of one overflight."""
    kept: list[int] = []
    for row, pair in enumerate(pairs):
        if not kept or pair.s2_acquired - pairs[kept[-1]].s2_acquired >= SAME_PASS:
            kept.append(row)
    return kept


def dates_of(pairs: Sequence[Pair], cloud: Mapping[str, float | None], tie: Tie) -> Dates:
    """The pairs as the rules see them."""
    known = [cloud.get(pair.s2_id) for pair in pairs]
    cloudy = np.array([100.0 if value is None else value for value in known])
    gap = np.array([abs(pair.gap_hours) for pair in pairs])
    first, second = (cloudy, gap) if tie == "clearest" else (gap, cloudy)
    times = [pair.s2_acquired for pair in pairs]
    return Dates(
        at_us=np.array([(when - _EPOCH) // _MICROSECOND for when in times], dtype=np.int64),
        day=np.array([day_of_year(when) for when in times]),
        first=first,
        second=second,
    )
