"""Random orders in which the first m are a sample with known inclusion probabilities.

Pareto sampling (B. Rosén, On sampling with probability proportional to size, J. Statist. Plann. Inference 62, 1997):
each candidate has a wanted inclusion probability λ, their sum is m, and a uniform number U of its own; those with the
m smallest values of U/(1-U) · (1-λ)/λ are drawn. Their inclusion probabilities are λ but for a few thousandths, also
in small pools.
"""

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies.ground import FloatArray, Ground, IntArray
from geossl_data.sampling.strategies.shares import ground_shares


def uniform_numbers(ground: Ground, rng: np.random.Generator) -> FloatArray:
    """A random number in [0, 1) for each candidate, shape (n,).

    They belong to positions and not to places in a list, so that the order of the candidates does not matter; only
    between candidates on the very same square it does.
    """
    numbers = np.empty(len(ground))
    numbers[np.lexsort((ground.y, ground.x, ground.epsg))] = rng.random(len(ground))
    return numbers


def wanted_weights(ground: Ground) -> FloatArray:
    """`Ground.weight` with 0 for NaN and 1 where there is none, shape (n,).

    Raises SamplingError where one is below 0 or infinite, and where none is above 0.
    """
    if ground.weight is None:
        return np.ones(len(ground))
    weights = np.nan_to_num(np.asarray(ground.weight, dtype=np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    wrong = np.flatnonzero((weights < 0) | np.isinf(weights))
    if len(wrong):
        raise SamplingError(
            f"{len(wrong)} of {len(ground)} weights are below 0 or infinite, as {weights[wrong[0]]:g}; give finite ones"
        )
    if len(ground) and not weights.any():
        raise SamplingError(f"none of {len(ground)} candidates has a weight above 0, so none can be drawn")
    return weights


def base_weights(ground: Ground) -> FloatArray:
    """Relative chance of each candidate: what is wanted times the ground that is its own, shape (n,)."""
    return wanted_weights(ground) * ground_shares(ground)


def scale(weights: FloatArray, m: float) -> float:
    """The number c for which min(1, c · weight) sums to `m`; where no more have a weight, so large that they get 1."""
    positive = np.sort(weights[weights > 0])[::-1]
    if m <= 0 or not len(positive):
        return 0.0
    if m >= len(positive):
        return float(1.0 / positive[-1])
    sure = np.arange(len(positive))
    rest = np.cumsum(positive[::-1])[::-1]
    c = (m - sure) / rest
    return float(c[np.argmax(c * positive <= 1.0 + 1e-12)])


def inclusion(weights: FloatArray, m: float) -> FloatArray:
    """Inclusion probabilities min(1, c · weight) whose sum is `m`, or how many have a weight; shape of `weights`."""
    return np.minimum(1.0, scale(weights, m) * weights)


def ranks(weights: FloatArray, m: float, numbers: FloatArray) -> FloatArray:
    """Values by which candidates are taken, smallest first, so that the first `m` have `inclusion(weights, m)`.

    m: counts as 1 where it is less. numbers: `uniform_numbers`. Infinite where the weight is 0. Those that are certain
    come first, the heavier sooner, for it may be that not all of them fit.
    """
    wanted = inclusion(weights, max(m, 1))
    certain = wanted > 1.0 - 1e-9
    result = np.full(len(weights), np.inf)
    chance = (weights > 0) & ~certain
    with np.errstate(over="ignore"):
        result[certain] = -1.0 / (1.0 - np.log1p(-numbers[certain]) / weights[certain])
        odds = wanted[chance] / (1.0 - wanted[chance])
        result[chance] = numbers[chance] / (1.0 - numbers[chance]) / odds
    return result


def order_of(weights: FloatArray, m: float, numbers: FloatArray) -> IntArray:
    """The candidates with a weight in the order of their `ranks`."""
    values = ranks(weights, m, numbers)
    rows = np.flatnonzero(weights > 0)
    return rows[np.argsort(values[rows], kind="stable")]
