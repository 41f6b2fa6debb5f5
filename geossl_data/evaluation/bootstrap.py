"""How sure a number is: places drawn anew with replacement, and seeds with them.

Looks of one place are alike, so places are drawn, not looks (a cluster bootstrap; Davison & Hinkley 1997, section
3.8). Intervals are percentiles of the replicates (Efron & Tibshirani 1993, section 13.3); they say nothing about
places unlike those judged. Three seeds drawn with replacement vary less than seeds do, by √(2/3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.evaluation.metrics import Metric, mean_of_defined

FloatArray = NDArray[np.float64]

REPLICATES = 1000
LEVEL = 0.95
"""Share of the replicates that lie in an interval."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """A value and the interval that it may as well have come out in."""

    value: float
    """On the places as they are; NaN where it is not defined."""
    low: float
    high: float
    """Percentiles of the replicates that are defined; NaN where none is."""
    replicates: FloatArray
    """(R,), NaN where not defined; the same replicate of two estimates saw the same places."""


def resampled(groups: int, *, replicates: int = REPLICATES, seed: int = 0) -> FloatArray:
    """How often each place is drawn in each replicate, shape (replicates, groups), read-only.

    Each row is a draw of `groups` places with replacement and sums to `groups`.
    """
    return _resampled(groups, replicates, seed)


@lru_cache(maxsize=2)
def _resampled(groups: int, replicates: int, seed: int) -> FloatArray:
    rng = np.random.default_rng([seed, 0])
    drawn = np.empty((replicates, groups))
    for row in drawn:
        row[:] = np.bincount(rng.integers(max(1, groups), size=groups), minlength=groups)
    drawn.setflags(write=False)
    return drawn


def estimate(
    metrics: Sequence[Metric], *, replicates: int = REPLICATES, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """The mean of one metric over seeds, with the interval of drawing places and seeds anew.

    metrics: one for each seed (of weights, labels, order), all about the same places. A replicate draws the places
    once for all seeds, draws as many seeds with replacement, and takes their mean. Both draws depend on `seed` and
    their sizes alone, so replicates of estimates about the same places pair (see `difference`). A seed for which the
    metric is not defined leaves the mean to the others. Raises TrainingError without metrics, or where their places
    differ in number.
    """
    groups = {metric.groups for metric in metrics}
    if len(groups) != 1:
        found = ", ".join(map(str, sorted(groups))) or "no"
        raise TrainingError(f"an estimate of metrics that judge {found} places; expected one number for all seeds")
    weights = resampled(groups.pop(), replicates=replicates, seed=seed)
    as_they_are = np.ones((1, weights.shape[1]))
    value = mean_of_defined(np.concatenate([metric(as_they_are) for metric in metrics]))
    values = np.stack([metric(weights) for metric in metrics], axis=1)  # (R, seeds)
    seeds = np.random.default_rng([seed, 1]).integers(len(metrics), size=values.shape)
    return _estimate(float(value), mean_of_defined(np.take_along_axis(values, seeds, axis=1)), level)


def difference(one: Estimate, other: Estimate, level: float = LEVEL) -> Estimate:
    """one − other, replicate by replicate.

    What both share (hard and easy places) cancels, so the interval is that of the difference, mostly narrower than
    both intervals suggest. Both have to come from as many places and one seed of `estimate`; raises TrainingError
    where they have not as many replicates.
    """
    if len(one.replicates) != len(other.replicates):
        raise TrainingError(
            f"estimates of {len(one.replicates)} and {len(other.replicates)} replicates cannot be paired; "
            "estimate both with the same number"
        )
    return _estimate(one.value - other.value, one.replicates - other.replicates, level)


def _estimate(value: float, replicates: FloatArray, level: float) -> Estimate:
    defined = replicates[~np.isnan(replicates)]
    outside = (1 - level) / 2
    low, high = np.quantile(defined, [outside, 1 - outside]) if len(defined) else (np.nan, np.nan)
    return Estimate(value=value, low=float(low), high=float(high), replicates=replicates)
