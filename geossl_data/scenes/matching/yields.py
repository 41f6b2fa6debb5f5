"""How many Sentinel-2 scenes find a partner: against the gap allowed, and year by year."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from geossl_data.records import Pair, Scene
from geossl_data.scenes.matching.acquisitions import FloatArray, IntArray
from geossl_data.scenes.matching.matches import Matches

LADDER_HOURS = (1, 3, 6, 12, 24, 36, 48, 72, 96, 120, 144, 192, 240, 288)
"""Gaps of a yield curve: an hour to 12 days, the repeat of one Sentinel-1 satellite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YieldStep:
    """What a largest gap would have given."""

    max_gap_hours: float
    n_s2_with_partner: int
    """Sentinel-2 scenes with a partner within the gap."""
    share: float
    """Of all Sentinel-2 scenes, in [0, 1]; 0 where there are none."""
    n_pairs: int
    """Pairs within the gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YieldOfYear:
    """What the Sentinel-2 scenes of a year gave."""

    year: int
    n_s2: int
    n_s2_with_partner: int
    share: float
    """Of the year's Sentinel-2 scenes, in [0, 1]."""


def yield_share(pairs: Iterable[Pair], n_s2: int) -> float:
    """Share of `n_s2` Sentinel-2 scenes that have at least one partner, in [0, 1]; 0 where there are no scenes."""
    return len(_paired(pairs)) / n_s2 if n_s2 else 0.0


def yield_curve(pairs: Sequence[Pair] | Matches, n_s2: int, max_gap: timedelta) -> tuple[YieldStep, ...]:
    """Scenes and pairs within each gap of LADDER_HOURS below `max_gap`, and within `max_gap`.

    n_s2: Sentinel-2 scenes that were matched, parts of one acquisition counted each. An orbit rule is not chosen anew
    for each gap: the curve counts the pairs given.
    """
    limit = max_gap / timedelta(hours=1)
    gaps = [*(float(hours) for hours in LADDER_HOURS if hours < limit), limit]
    gap, nearest, n_parts = _of_matches(pairs) if isinstance(pairs, Matches) else _of_pairs(pairs)
    order = np.argsort(nearest)
    nearest, served = nearest[order], np.concatenate(([0], np.cumsum(n_parts[order])))
    n_with = served[np.searchsorted(nearest, gaps, side="right")].tolist()
    n_pairs = np.searchsorted(np.sort(gap), gaps, side="right").tolist()
    return tuple(
        YieldStep(
            max_gap_hours=hours, n_s2_with_partner=with_partner, share=with_partner / n_s2 if n_s2 else 0.0, n_pairs=n
        )
        for hours, with_partner, n in zip(gaps, n_with, n_pairs, strict=True)
    )


def yield_by_year(pairs: Iterable[Pair], s2: Iterable[Scene]) -> tuple[YieldOfYear, ...]:
    """The share of Sentinel-2 scenes with a partner for each year in which there are any, in order.

    An archive thins out when a satellite is lost: after December 2021 Sentinel-1 came half as often.
    """
    paired = _paired(pairs)
    scenes = list(s2)
    n_all = Counter(scene.acquired.year for scene in scenes)
    n_with = Counter(scene.acquired.year for scene in scenes if scene.id in paired)
    return tuple(
        YieldOfYear(year=year, n_s2=n, n_s2_with_partner=n_with[year], share=n_with[year] / n)
        for year, n in sorted(n_all.items())
    )


def _paired(pairs: Iterable[Pair]) -> set[str]:
    return {name for pair in pairs for name in pair.s2_ids}


def _of_pairs(pairs: Sequence[Pair]) -> tuple[FloatArray, FloatArray, IntArray]:
    """|gap| of each pair in hours; the smallest for each acquisition, and the number of its parts."""
    gaps = np.array([abs(pair.gap_hours) for pair in pairs], dtype=np.float64)
    nearest: dict[str, tuple[float, int]] = {}
    for pair in pairs:
        known = nearest.get(pair.s2_id, (np.inf, 0))[0]
        nearest[pair.s2_id] = (min(known, abs(pair.gap_hours)), 1 + len(pair.s2_more))
    columns = np.array(list(nearest.values()), dtype=np.float64).reshape(-1, 2)
    return gaps, columns[:, 0], columns[:, 1].astype(np.int64)


def _of_matches(matches: Matches) -> tuple[FloatArray, FloatArray, IntArray]:
    gaps = np.abs(matches.gap_hours)
    first = np.flatnonzero(matches.rank == 0)
    n_parts = 1 + np.diff(matches.s2_more.offsets)
    return gaps, gaps[first], n_parts[first]
