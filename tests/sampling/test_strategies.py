"""What holds for every strategy."""

from dataclasses import replace

import numpy as np
import pytest
from sampling.strategies.pools import scattered, shuffled, tile

from geossl_data.errors import SamplingError
from geossl_data.sampling.cities import Cities, CityRule
from geossl_data.sampling.strategies import POWERS, STRATEGIES, Ground, Rules, Spacing

EVERY = pytest.mark.parametrize("name", sorted(STRATEGIES))


def pool(n: int = 300, **options: object) -> Ground:
    """Candidates in two zones, with all that any strategy wants to know."""
    rng = np.random.default_rng(0)
    here = Cities(lon=np.array([12.0, 12.1]), lat=np.array([45.0, 45.05]), population=np.zeros(2))
    rules = Rules(
        cities=CityRule(cities=here, sigma_km=8.0, land_only=False, apart=True),
        shares={"change": 1.0, "cities": 1.0, "grid": 1.0, "diverse": 1.0},
    )
    values = {
        "stratum": rng.choice(["a", "b", ""], n),
        "change": rng.exponential(size=n),
        "features": rng.normal(size=(n, 4)),
        "rules": rules,
        "spread_m": 30_000.0,
        **options,
    }
    return scattered(n, 12.0, 45.0, **values)


def test_the_names_are_those_that_are_promised() -> None:
    assert sorted(STRATEGIES) == sorted(
        ["uniform", "grid", "geography", "cities", "balanced", "diverse", "change", "mixture"]
    )
    assert POWERS == {"equal": 0.0, "sqrt": 0.5, "proportional": 1.0}


@EVERY
def test_the_same_seed_draws_the_same_places(name: str) -> None:
    first, second, third = (STRATEGIES[name](pool(), 30, rng=np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.inclusion_probability, second.inclusion_probability)
    assert set(first.indices) != set(third.indices)


@EVERY
def test_the_order_of_the_candidates_does_not_matter(name: str) -> None:
    ground = pool()
    order = np.random.default_rng(9).permutation(len(ground))
    draw = STRATEGIES[name](ground, 40, rng=np.random.default_rng(1))
    other = STRATEGIES[name](shuffled(ground, order), 40, rng=np.random.default_rng(1))
    back = np.argsort(order[other.indices])
    np.testing.assert_array_equal(order[other.indices][back], draw.indices)
    np.testing.assert_allclose(other.inclusion_probability[back], draw.inclusion_probability)
    if draw.drawn_by is not None:
        assert other.drawn_by is not None
        np.testing.assert_array_equal(other.drawn_by[back], draw.drawn_by)
    assert other.target == draw.target


@EVERY
@pytest.mark.parametrize("min_distance_km", [0.0, 2.5])
def test_a_draw_is_ascending_apart_and_has_chances(name: str, min_distance_km: float) -> None:
    ground = pool(min_distance_km=min_distance_km)
    draw = STRATEGIES[name](ground, 40, rng=np.random.default_rng(2))
    assert len(draw.indices) == 40
    assert draw.indices.dtype == np.int64
    assert (np.diff(draw.indices) > 0).all()
    assert draw.inclusion_probability.shape == (40,)
    assert (draw.inclusion_probability > 0).all()
    assert (draw.inclusion_probability <= 1).all()
    clash = Spacing(ground).clash(draw.indices[:, None], draw.indices)
    assert not (clash & ~np.eye(40, dtype=bool)).any()


@EVERY
def test_what_has_no_weight_is_never_drawn(name: str) -> None:
    weight = np.where(np.arange(300) % 3 == 0, 1.5, np.where(np.arange(300) % 3 == 1, 0.0, np.nan))
    draw = STRATEGIES[name](pool(weight=weight), 300, rng=np.random.default_rng(2))
    assert len(draw.indices) > 20
    assert (draw.indices % 3 == 0).all()


@EVERY
def test_more_than_there_is_gives_what_there_is(name: str) -> None:
    few = Rules(
        cities=CityRule(
            cities=Cities(lon=np.array([9.0]), lat=np.array([45.1]), population=np.zeros(1)),
            sigma_km=100.0,
            land_only=False,
            apart=True,
        ),
        shares={"uniform": 1.0, "change": 1.0},
    )
    ground = tile(4, 3, rules=few, change=np.ones(12), features=np.random.default_rng(0).normal(size=(12, 2)))
    draw = STRATEGIES[name](ground, 24, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(draw.indices, np.arange(12))
    np.testing.assert_allclose(draw.inclusion_probability, 1.0, atol=1e-9)


@EVERY
def test_nothing_wanted_is_nothing_drawn(name: str) -> None:
    draw = STRATEGIES[name](pool(), 0, rng=np.random.default_rng(0))
    assert len(draw.indices) == len(draw.inclusion_probability) == 0


@EVERY
def test_no_candidates_give_an_empty_draw(name: str) -> None:
    empty = shuffled(pool(), np.zeros(0, dtype=np.int64))
    draw = STRATEGIES[name](empty, 5, rng=np.random.default_rng(0))
    assert len(draw.indices) == len(draw.inclusion_probability) == 0


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(SamplingError, match="12 candidates with 5 values of change; give one for each"):
        replace(tile(4, 3), change=np.ones(5))
