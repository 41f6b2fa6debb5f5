"""Random orders whose first m have the inclusion probabilities asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampling.strategies.pools import scattered, shuffled, tile

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies.orders import inclusion, order_of, ranks, uniform_numbers, wanted_weights


def test_inclusion_by_hand() -> None:
    np.testing.assert_allclose(inclusion(np.array([1.0, 1.0, 2.0]), 2), [0.5, 0.5, 1.0])
    np.testing.assert_allclose(inclusion(np.array([1.0, 5.0, 1.0, 1.0]), 2), [1 / 3, 1, 1 / 3, 1 / 3])
    np.testing.assert_allclose(inclusion(np.array([1.0, 0.0, 3.0]), 2), [1, 0, 1])
    np.testing.assert_allclose(inclusion(np.array([1.0, 0.0, 3.0]), 0), [0, 0, 0])


@given(st.lists(st.floats(0, 100).map(lambda value: round(value, 3)), min_size=1, max_size=30), st.integers(0, 40))
def test_inclusion_sums_to_the_count_and_goes_with_the_weight(weights: list[float], m: int) -> None:
    values = np.array(weights)
    chance = inclusion(values, m)
    assert chance.sum() == pytest.approx(min(m, np.count_nonzero(values)))
    assert (chance <= 1).all()
    assert not chance[values == 0].any()
    rest = (chance < 1) & (values > 0)
    if rest.any():
        np.testing.assert_allclose(chance[rest] / values[rest], (chance / np.where(values > 0, values, 1)).max())
        assert values[rest].max() <= values[chance == 1].min(initial=np.inf)


@pytest.mark.parametrize("m", [1, 4, 9])
def test_the_first_of_the_order_are_included_as_asked(m: int) -> None:
    weights = np.array([0.2, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0, 4.0, 0.0, 8.0, 1.0, 1.0])
    rng = np.random.default_rng(m)
    repeats = 4000
    hits = np.zeros(len(weights))
    for _ in range(repeats):
        hits[order_of(weights, m, rng.random(len(weights)))[:m]] += 1
    wanted = inclusion(weights, m)
    error = np.sqrt(wanted * (1 - wanted) / repeats)
    # Pareto sampling itself is off by O(1 / Σ λ(1-λ)) of λ in so small a pool.
    assert (np.abs(hits / repeats - wanted) <= 4 * error + 0.012).all()


def test_the_order_goes_on_beyond_those_that_are_certain_by_weight() -> None:
    weights = np.array([100.0, 1.0, 1.0, 100.0, 0.0])
    rng = np.random.default_rng(0)
    first = [order_of(weights, 5, rng.random(5))[0] for _ in range(300)]
    assert set(first) <= {0, 1, 2, 3}
    assert np.isin(first, [0, 3]).mean() > 0.95
    assert np.isinf(ranks(weights, 5, rng.random(5))[4])


def test_numbers_belong_to_positions() -> None:
    ground = scattered(200, 12.0, 45.0)
    order = np.random.default_rng(1).permutation(200)
    numbers = uniform_numbers(ground, np.random.default_rng(7))
    np.testing.assert_array_equal(uniform_numbers(shuffled(ground, order), np.random.default_rng(7)), numbers[order])


def test_weights_that_are_none() -> None:
    np.testing.assert_array_equal(wanted_weights(tile(3, 1, weight=np.array([np.nan, 2.0, 0.0]))), [0, 2, 0])
    for wrong in (-1.0, np.inf):
        with pytest.raises(SamplingError, match="1 of 2 weights are below 0 or infinite"):
            wanted_weights(tile(2, 1, weight=np.array([1.0, wrong])))
    with pytest.raises(SamplingError, match="none of 2 candidates has a weight above 0"):
        wanted_weights(tile(2, 1, weight=np.zeros(2)))
