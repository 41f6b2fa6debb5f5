"""Which pairs may stand in for the looks of a place, should a look turn out to be of no use.

A spare is of the same window as its look, of the same period and of the same Sentinel-1 orbit, where the rule for looks
asks for these; of a series it is a date that was not taken and is nearer to its look than to any other. So a position
may be filled from its spares whatever the others are filled with, and the looks still keep to their rule.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np

from geossl_data.records import Look, Pair
from geossl_data.sampling.looks import (
    SAME_PASS,
    Chosen,
    IntArray,
    LookOptions,
    Tie,
    choose_pairs,
    dates_of,
    look_of,
    rule_named,
)
from geossl_data.sampling.periods import are_aligned

MOST_SPARES = 3
"""For each look: a fourth attempt is rarely the one that helps."""


def spare_looks(
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
    count: int = MOST_SPARES,
) -> tuple[tuple[Look, ...], ...]:
    """For each look that `choose_looks` gives for the same arguments, at most `count` that may stand in for it.

    The best by the tie rule first, each of another overflight than the others; one of them may be of the look's own,
    with another Sentinel-1 pass. Whichever stand in, the looks are in time order, of different overflights and as the
    rule wants them; none is offered for two looks. Empty where no look has any.
    """
    options = LookOptions(dates=dates, least=least, most=most, years_apart=years_apart)
    chosen = choose_pairs(rule_named(rule), pairs, cloud, tie, options, same_orbit and rule != "single")
    if chosen is None or not len(chosen.spans):
        return ()
    kept = _stand_ins(chosen, cloud, tie, count)
    spares = tuple(tuple(look_of(chosen.pairs[row]) for row in rows[1:]) for rows in kept)
    return spares if any(spares) else ()


def _stand_ins(chosen: Chosen, cloud: Mapping[str, float | None], tie: Tie, count: int) -> list[list[int]]:
    """For each look its row among the pairs, then those of its spares."""
    seen = dates_of(chosen.pairs, cloud, tie)
    ranked = np.lexsort((np.arange(len(chosen.pairs)), seen.at_us, seen.second, seen.first))
    spans = _widest(chosen, seen.at_us, count) if chosen.may_slide else chosen.spans
    position = np.searchsorted(spans[:, 0], seen.at_us, side="right") - 1
    inside = (position >= 0) & (seen.at_us < spans[position, 1])
    kept = [[row] for row in chosen.rows.tolist()]
    for row in ranked[inside[ranked]].tolist():
        own = int(position[row])
        if len(kept[own]) <= count and _fits(row, own, kept, chosen):
            kept[own].append(row)
    return kept


def _widest(chosen: Chosen, at_us: IntArray, count: int) -> IntArray:
    """The spans, all moved by the same time so that they hold most pairs beside the looks, at most `count` for each.

    at_us: time of each pair, in order. The year of the rule begins as early as it can and so would leave out what comes
    a day after a look. Of equal moves the smallest is taken. What a span holds changes for the worse only where a pair
    comes to lie at its beginning, so only such moves are tried.
    """
    spans, looks = chosen.spans, at_us[chosen.rows]
    moves = np.unique(at_us[:, None] - spans[:, 0])
    moves = moves[(moves > (looks - spans[:, 1]).max()) & (moves <= (looks - spans[:, 0]).min())]
    moves = moves[np.argsort(np.abs(moves), kind="stable")]
    edges = spans + moves[:, None, None]
    inside = np.diff(np.searchsorted(at_us, edges, side="left"), axis=2)[:, :, 0]
    return np.asarray(spans + moves[np.argmax(np.minimum(inside - 1, count).sum(axis=1))])


def _fits(row: int, own: int, kept: Sequence[Sequence[int]], chosen: Chosen) -> bool:
    """Whether a pair may stand in for look `own` beside all that the other looks may become."""
    pairs, pair = chosen.pairs, chosen.pairs[row]
    look, *spares = kept[own]
    if row == look or (pair.s2_ids, pair.s1_ids) == (pairs[look].s2_ids, pairs[look].s1_ids):
        return False
    beside = [other for near in (own - 1, own + 1) if 0 <= near < len(kept) for other in kept[near]]
    if any(_apart(pair, pairs[other]) < SAME_PASS for other in (*spares, *beside)):
        return False
    if not chosen.years:
        return True
    n = len(kept) // 2
    times = [pairs[other].s2_acquired for other in kept[(own + n) % len(kept)]]
    if own < n:
        return all(are_aligned(pair.s2_acquired, late, chosen.years) for late in times)
    return all(are_aligned(early, pair.s2_acquired, chosen.years) for early in times)


def _apart(a: Pair, b: Pair) -> timedelta:
    return abs(a.s2_acquired - b.s2_acquired)
