"""Furthest first, against a plain loop, the best of all choices, and random draws."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling.strategies.pools import row_of, scattered

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies import STRATEGIES, Ground, centres
from geossl_data.sampling.strategies.centres import standardised
from geossl_data.sampling.strategies.mixing import take_diverse
from geossl_data.sampling.strategies.spacing import Spacing

diverse = STRATEGIES["diverse"]


def pool(n: int, *, seed: int = 0, width: int = 2, **options: object) -> Ground:
    features = np.random.default_rng(seed).standard_t(3, (n, width))
    return row_of({"a": n}, **{"features": features, **options})


def radius(features: np.ndarray, chosen: np.ndarray) -> float:
    """How far the candidate is that is furthest from its nearest chosen one."""
    return float(np.linalg.norm(features[:, None] - features[chosen], axis=2).min(axis=1).max())


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 10), st.integers(1, 4))
def test_no_choice_is_twice_as_good(seed: int, n: int, k: int) -> None:
    ground = pool(n, seed=seed)
    assert ground.features is not None
    features = standardised(ground.features)
    drawn = diverse(ground, k, rng=np.random.default_rng(seed)).indices
    best = min(radius(features, np.array(some)) for some in combinations(range(n), min(k, n)))
    assert radius(features, drawn) <= 2 * best + 1e-9


def test_the_furthest_is_taken_each_time() -> None:
    ground = pool(300, width=5)
    assert ground.features is not None
    features = standardised(ground.features)
    order = take_diverse(ground, 40, rng=np.random.default_rng(3), spacing=Spacing(ground)).indices
    for count in range(1, 40):
        away = np.linalg.norm(features[:, None] - features[order[:count]], axis=2).min(axis=1)
        assert order[count] == np.argmax(away)


def test_it_covers_more_than_chance_does() -> None:
    ground = pool(1500, width=3)
    assert ground.features is not None
    features = standardised(ground.features)
    rng = np.random.default_rng(0)
    drawn = diverse(ground, 60, rng=rng).indices
    at_random = [radius(features, rng.choice(1500, 60, replace=False)) for _ in range(20)]
    assert radius(features, drawn) < 0.6 * min(at_random)


def test_a_large_pool_is_thinned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centres, "MOST_DISTANCES", 2000)
    ground = pool(500, weight=np.where(np.arange(500) < 400, 1.0, 0.0))
    few, many = (diverse(ground, n, rng=np.random.default_rng(0)) for n in (10, 90))
    assert (len(few.indices), len(many.indices)) == (10, 90)
    assert many.indices.max() < 400
    np.testing.assert_allclose(few.inclusion_probability, 10 / 400)
    assert ground.features is not None
    features = standardised(ground.features[:400])
    in_full = pool(500, weight=ground.weight)
    monkeypatch.setattr(centres, "MOST_DISTANCES", 200_000_000)
    full = diverse(in_full, 10, rng=np.random.default_rng(0)).indices
    assert radius(features, full) < radius(features, few.indices)


def test_candidates_without_features_or_weight_are_never_drawn() -> None:
    ground = pool(20, weight=np.where(np.arange(20) == 3, 0.0, 1.0))
    assert ground.features is not None
    ground.features[5, 1] = np.nan
    draw = diverse(ground, 20, rng=np.random.default_rng(0))
    assert set(range(20)) - set(draw.indices.tolist()) == {3, 5}
    np.testing.assert_allclose(draw.inclusion_probability, 1.0)
    assert diverse(ground, 6, rng=np.random.default_rng(0)).inclusion_probability[0] == pytest.approx(6 / 18)


def test_weight_brings_candidates_nearer_to_being_drawn() -> None:
    line = np.array([[0.0], [1.0], [2.0], [3.0]])
    ground = row_of({"a": 4}, features=line, weight=np.array([100.0, 5.0, 1.0, 1.0]))
    drawn = [set(diverse(ground, 2, rng=np.random.default_rng(seed)).indices.tolist()) for seed in range(20)]
    assert drawn.count({0, 1}) >= 15


def test_places_keep_their_distance() -> None:
    features = np.random.default_rng(0).normal(size=(400, 3))
    ground = scattered(400, 12.0, 45.0, spread_m=20_000, min_distance_km=3.0, features=features)
    draw = diverse(ground, 400, rng=np.random.default_rng(0))
    assert 15 < len(draw.indices) < 60
    excluded = Spacing(ground).clash(draw.indices[:, None], draw.indices)
    assert not (excluded & ~np.eye(len(draw.indices), dtype=bool)).any()


def test_what_was_taken_before_counts_as_covered() -> None:
    line = np.concatenate([np.zeros(5), np.full(5, 10.0), np.full(5, 20.0)])[:, None]
    ground = row_of({"a": 15}, features=line)
    spacing = Spacing(ground)
    for index in (0, 14):
        spacing.take(index)
    taken = take_diverse(ground, 1, rng=np.random.default_rng(0), spacing=spacing).indices
    assert 5 <= taken[0] < 10


def test_features_are_put_on_one_scale() -> None:
    features = np.column_stack([np.arange(9.0) * 1000, np.arange(9.0), np.full(9, 7.0), np.eye(9)[0]])
    scaled = standardised(features)
    np.testing.assert_allclose(scaled[:, 0], scaled[:, 1])
    np.testing.assert_allclose(scaled[:, 0], (np.arange(9) - 4) / 4)
    np.testing.assert_array_equal(scaled[:, 2], 0.0)
    assert np.isfinite(scaled[:, 3]).all()
    assert len(standardised(np.zeros((0, 3)))) == 0


def test_diverse_needs_features() -> None:
    with pytest.raises(SamplingError, match="strategy diverse needs features of each candidate; measure them"):
        diverse(row_of({"a": 3}), 1, rng=np.random.default_rng(0))
    with pytest.raises(SamplingError, match="none of 3 candidates has features"):
        diverse(row_of({"a": 3}, features=np.full((3, 2), np.nan)), 1, rng=np.random.default_rng(0))
