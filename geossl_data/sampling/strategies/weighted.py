"""Strategies that draw every candidate with a chance in proportion to a weight: uniform, cities, change."""

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.sampling.cities import density
from geossl_data.sampling.land import is_land
from geossl_data.sampling.strategies.ground import Draw, FloatArray, Ground, Taken
from geossl_data.sampling.strategies.orders import base_weights, order_of, scale, uniform_numbers
from geossl_data.sampling.strategies.spacing import Spacing


def uniform(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """Every square kilometre alike, or as `Ground.weight` wants, in random order as long as there is room.

    Ground that several tiles show counts once (`ground_shares`). The inclusion probability is min(1, c · weight ·
    share) with c such that the sum over all candidates is the number drawn. It holds while candidates do not exclude
    one another; where overlap or distance thin the draw, it is less than that in a crowd, and more for lone candidates.
    """
    return take_uniform(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def cities(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """Around cities: chances as `uniform`, times the density of a mixture of Gaussians around `Rules.cities`.

    Candidates more than 6 σ from every city are never drawn, nor with `land_only` those centred at sea, so that fewer
    than `n` may be drawn. Places never overlap, whatever the rule says of it.
    """
    return take_cities(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def change(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """By measured change: chances as `uniform`, times the change score.

    Candidates whose score is 0, below, or not known are never drawn, so that fewer than `n` may be drawn: a place of
    which nothing is known is no place of change. Mix with `geography` to have others as well. Raises SamplingError
    where no candidate has a score above 0.
    """
    return take_change(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def take_uniform(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`uniform` beside what was taken before."""
    return take_by_weight(ground, n, base_weights(ground), rng=rng, spacing=spacing)


def take_cities(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`cities` beside what was taken before."""
    rule = ground.rules.cities
    if rule is None:
        raise SamplingError("strategy cities needs cities; give Rules.cities, as sampling.cities.city_rule makes it")
    weights = density(rule.cities, rule.sigma_km, ground.lon, ground.lat) * base_weights(ground)
    if rule.land_only:
        near = np.flatnonzero(weights)
        weights[near[~is_land(ground.lon[near], ground.lat[near])]] = 0.0
    return take_by_weight(ground, n, weights, rng=rng, spacing=spacing)


def take_change(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`change` beside what was taken before."""
    if ground.change is None:
        raise SamplingError("strategy change needs change scores; measure them, as --measure auto does")
    score = np.maximum(np.nan_to_num(ground.change, nan=0.0), 0.0)
    if len(ground) and not score.any():
        known = int(np.isfinite(ground.change).sum())
        raise SamplingError(
            f"none of {len(ground)} candidates has a change score above 0 ({known} could be measured); "
            f"choose looks that are years apart, or another strategy"
        )
    return take_by_weight(ground, n, score * base_weights(ground), rng=rng, spacing=spacing)


def take_by_weight(ground: Ground, n: int, weights: FloatArray, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """Up to `n` candidates that have room, with chances in proportion to `weights`, shape (len(ground),)."""
    numbers = uniform_numbers(ground, rng)
    left = weights.copy()
    left[spacing.taken] = 0.0
    indices = spacing.first(order_of(left, n, numbers), n)
    c = scale(left, len(indices))
    return Taken(indices=indices, chance=lambda rows: np.minimum(1.0, c * weights[rows]))
