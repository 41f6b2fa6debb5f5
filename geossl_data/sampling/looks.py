"""Which of the pairs that cover a place become its looks.

A season is a quarter of the calendar year (January to March, …); a year is a calendar year. Of several pairs that
would do, the tie rule takes one: the one with the clearest Sentinel-2 scene, then the smallest gap (`clearest`), or
the one with the smallest gap, then the clearest (`nearest`); of equals the earliest.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Literal

from geossl_data.records import Look, Pair

Tie = Literal["clearest", "nearest"]
Best = Callable[[Sequence[Pair]], Pair]
"""Takes one of several pairs."""

SAME_PASS = timedelta(minutes=5)
"""Sentinel-2 scenes closer in time than this belong to one overflight and never make two looks."""


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs without second copies of one overflight, in time order."""
    kept: list[Pair] = []
    for pair in sorted(pairs, key=lambda pair: (pair.s2_acquired, pair.s2_id)):
        if not kept or pair.s2_acquired - kept[-1].s2_acquired >= SAME_PASS:
            kept.append(pair)
    return kept


def _best(tie: Tie, cloud: Mapping[str, float | None]) -> Best:
    """The tie rule as a function; a scene of unknown cloud cover counts as the cloudiest."""

    def rank(pair: Pair) -> tuple[float, float, str]:
        known = cloud.get(pair.s2_id)
        cloudy, gap = 100.0 if known is None else known, abs(pair.gap_hours)
        first, second = (cloudy, gap) if tie == "clearest" else (gap, cloudy)
        return (first, second, pair.s2_acquired.isoformat())

    return lambda pairs: min(pairs, key=rank)


def _seasons(pairs: Sequence[Pair], best: Best) -> dict[int, dict[int, Pair]]:
    """Year → quarter (0 to 3) → the best pair in it."""
    groups: dict[int, dict[int, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        groups[pair.s2_acquired.year][(pair.s2_acquired.month - 1) // 3].append(pair)
    return {
        year: {quarter: best(group) for quarter, group in sorted(quarters.items())}
        for year, quarters in sorted(groups.items())
    }


def single(pairs: Sequence[Pair], best: Best) -> list[Pair]:
    """The best pair of all."""
    return [best(pairs)]


def seasons(pairs: Sequence[Pair], best: Best) -> list[Pair]:
    """One pair for each season of the year that has most seasons (the earliest such year); at least two, or none."""
    years = _seasons(pairs, best)
    chosen = max(years.values(), key=len, default={})
    return list(chosen.values()) if len(chosen) >= 2 else []


def long(pairs: Sequence[Pair], best: Best) -> list[Pair]:
    """The seasons that two years have in common, as far apart as the pairs allow; none where all are of one year.

    Of all pairs of years the one furthest apart that shares at least one season is taken.
    """
    years = _seasons(pairs, best)
    spans = sorted(((last - first, -first) for first in years for last in years if last > first), reverse=True)
    for span, minus_first in spans:
        first, last = years[-minus_first], years[span - minus_first]
        common = [quarter for quarter in first if quarter in last]
        if common:
            return [first[quarter] for quarter in common] + [last[quarter] for quarter in common]
    return []


LOOKS: dict[str, Callable[[Sequence[Pair], Best], list[Pair]]] = {"single": single, "seasons": seasons, "long": long}
"""Look rules by name: (pairs that cover a place, the tie rule) → the chosen pairs, maybe none."""


def choose_looks(
    rule: str, pairs: Sequence[Pair], cloud: Mapping[str, float | None], tie: Tie = "clearest"
) -> tuple[Look, ...]:
    """The looks of a place in time order; empty where the rule finds too few dates.

    cloud: percent of the whole scene, by Sentinel-2 id. tie: which of several pairs that would do is taken.
    """
    chosen = LOOKS[rule](_distinct(pairs), _best(tie, cloud)) if pairs else []
    return tuple(
        Look(
            s2_id=pair.s2_id,
            s1_id=pair.s1_id,
            acquired=pair.s2_acquired,
            gap_hours=pair.gap_hours,
            s1_more=pair.s1_more,
            s2_more=pair.s2_more,
        )
        for pair in sorted(chosen, key=lambda pair: pair.s2_acquired)
    )
