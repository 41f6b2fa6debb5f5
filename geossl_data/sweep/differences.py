"""What differs between arms of a sweep, and how sure that is: over places and over seeds, by paired replicates.

Each cell has bootstrap replicates of its score, made by the same draws of the judged places in every cell. A replicate
of an arm is the mean over as many of its cells, drawn with replacement. With three seeds that says little about other
seeds: they are drawn from three.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bootstrap import LEVEL, Estimate, difference
from geossl_data.evaluation.scores import Scores

FloatArray = NDArray[np.float64]


def compare(one: Sequence[Scores], other: Sequence[Scores], *, level: float = LEVEL, **wanted: Any) -> Estimate:
    """Mean of one score over cells minus that over others, with its interval over places and seeds.

    wanted: fields of `Score` that single out one score of each cell, as in task="change", metric="F1",
    features="s2", probe="decoder"; encoder is trained and fraction 1 unless they say otherwise. Where there are as many
    cells on both sides they are paired in their order, so give them in the same order of seeds. Raises TrainingError
    where a cell has no such score, or several.
    """
    sides = [[estimate_of(scores, **wanted) for scores in cells] for cells in (one, other)]
    return difference(mean_over_seeds(sides[0], level=level), mean_over_seeds(sides[1], level=level), level)


def estimate_of(scores: Scores, **wanted: Any) -> Estimate:
    """The one score of a cell that fits, with its replicates; TrainingError where none does, or several do."""
    asked = {"encoder": "trained", "fraction": 1.0} | wanted
    numbers = scores.find(**asked)
    if len(numbers) != 1:
        said = ", ".join(f"{name} {value}" for name, value in asked.items())
        what = "no score" if not numbers else f"{len(numbers)} scores"
        raise TrainingError(f"{what} with {said}; name one by task, features, encoder, probe, metric and fraction")
    return scores.estimate(numbers[0])


def mean_over_seeds(cells: Sequence[Estimate], *, level: float = LEVEL, seed: int = 0) -> Estimate:
    """The mean of cells that differ by their seed alone; a replicate draws as many of them with replacement.

    The draws depend on the number of cells and `seed` alone, so that two means over as many cells pair cell by cell.
    A cell whose score is not defined leaves the mean to the others. Raises TrainingError without cells, or where they
    have not as many replicates.
    """
    lengths = {len(cell.replicates) for cell in cells}
    if len(lengths) != 1:
        found = " and ".join(map(str, sorted(lengths))) or "no"
        raise TrainingError(f"a mean over cells with {found} replicates; expected as many in each")
    values = np.stack([cell.replicates for cell in cells], axis=1)  # (R, cells)
    drawn = np.random.default_rng([seed, 2]).integers(len(cells), size=values.shape)
    replicates = _mean(np.take_along_axis(values, drawn, axis=1))
    outside = (1 - level) / 2
    defined = replicates[~np.isnan(replicates)]
    low, high = np.quantile(defined, [outside, 1 - outside]) if len(defined) else (np.nan, np.nan)
    value = float(_mean(np.array([[cell.value for cell in cells]]))[0])
    return Estimate(value=value, low=float(low), high=float(high), replicates=replicates)


def _mean(rows: FloatArray) -> FloatArray:
    """Mean of each row over its numbers, NaN where it has none."""
    there = ~np.isnan(rows)
    counts = there.sum(axis=1)
    sums = np.where(there, rows, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
