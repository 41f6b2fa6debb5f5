"""The strategy that takes what is least like anything taken so far: diverse."""

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies.ground import BoolArray, Draw, FloatArray, Ground, IntArray, Taken
from geossl_data.sampling.strategies.orders import base_weights, order_of, uniform_numbers, wanted_weights
from geossl_data.sampling.strategies.spacing import Spacing

MOST_DISTANCES = 200_000_000
"""Distances between features that are worked out at most: candidates looked at times places drawn."""
LEAST_CHOICE = 4
"""But so many candidates for each place in any case."""

_NO_ROOM = -1.0
"""Instead of the squared distance of a candidate that an earlier place excludes."""


def diverse(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """Unlike each other: after a random first, always the candidate whose features are furthest from all taken ones.

    The greedy k-centre of Gonzalez (Theoret. Comput. Sci. 38, 1985): no `n` centres leave a candidate less than half as
    far from the nearest as these do, where there is room for all. Features are standardised by `standardised`.
    With `Ground.weight`, distance times weight decides. Candidates without features are never drawn.
    Beyond MOST_DISTANCES, only as many candidates are looked at as that allows, or LEAST_CHOICE for each place, drawn
    at random as `uniform` would.
    This is no probability sample: noted as inclusion probability is the share of the candidates with features that was
    drawn, the same for all. Raises SamplingError without features.
    """
    return take_diverse(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def take_diverse(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`diverse` beside what was taken before, which counts as taken features as well."""
    if ground.features is None:
        raise SamplingError("strategy diverse needs features of each candidate; measure them, as --measure auto does")
    numbers = uniform_numbers(ground, rng)
    known: BoolArray = np.asarray(np.isfinite(ground.features).all(axis=1))
    if len(ground) and not known.any():
        raise SamplingError(f"none of {len(ground)} candidates has features, so strategy diverse cannot draw any")
    weights = np.where(known, base_weights(ground), 0.0)
    before = spacing.taken[known[spacing.taken]]
    left = weights.copy()
    left[spacing.taken] = 0.0
    n_left = int(np.count_nonzero(left))
    most = max(LEAST_CHOICE * n, MOST_DISTANCES // max(1, n + len(before)))
    looked_at = order_of(left, most, numbers)[:most]
    rows = np.concatenate([looked_at, before])
    features = np.zeros((len(ground), ground.features.shape[1]))
    features[rows] = standardised(ground.features[rows])
    indices = _furthest_first(features, looked_at, before, wanted_weights(ground), n, spacing)
    share = len(indices) / max(n_left, 1)
    return Taken(indices=indices, chance=lambda rows: np.where(weights[rows] > 0, share, 0.0))


def standardised(features: FloatArray) -> FloatArray:
    """Features less their median, over their interquartile range, shape (n, f).

    A feature whose quartiles agree is divided by its standard deviation instead, and one that is constant becomes 0.
    """
    if not len(features):
        return features
    low, middle, high = np.quantile(features, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high > low, high - low, features.std(axis=0))
    return np.asarray((features - middle) / np.where(spread > 0, spread, np.inf))


def _furthest_first(
    features: FloatArray, rows: IntArray, before: IntArray, weights: FloatArray, n: int, spacing: Spacing
) -> IntArray:
    """Up to `n` of the candidates `rows`, the first of them first, then always the furthest that has room."""
    own, squared_weight = features[rows], weights[rows] ** 2
    norm = (own**2).sum(axis=1)
    score = np.where(spacing.has_room(rows), np.inf, _NO_ROOM)
    excluded = spacing.excluder(rows)

    def bring_near(centre: FloatArray) -> None:
        squared = np.maximum(norm + float(centre @ centre) - 2.0 * (own @ centre), 0.0)
        np.minimum(score, squared * squared_weight, out=score)

    for index in before:
        bring_near(features[index])
    taken: list[int] = []
    while len(taken) < min(n, len(rows)):
        position = int(np.argmax(score))
        if score[position] == _NO_ROOM:
            break
        index = int(rows[position])
        taken.append(index)
        spacing.take(index)
        score[excluded(index)] = _NO_ROOM
        bring_near(own[position])
    return np.array(taken, dtype=np.int64)
