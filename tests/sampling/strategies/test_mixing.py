"""Shares of strategies over one pool."""

from collections import Counter

import numpy as np
import pytest
from sampling.strategies.pools import counts, frequencies, row_of, scattered

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies import STRATEGIES, Ground, Rules, Spacing

mixture = STRATEGIES["mixture"]


def mixed(shares: dict[str, float], n: int = 200, **options: object) -> Ground:
    rng = np.random.default_rng(0)
    values = {"change": rng.exponential(size=n), "features": rng.normal(size=(n, 3)), **options}
    return row_of({"a": n - n // 4, "b": n // 4}, rules=Rules(power=0.0, shares=shares), **values)


def test_every_strategy_gets_its_seats_by_largest_remainder() -> None:
    ground = mixed({"geography": 0.5, "change": 0.3, "grid": 0.15, "diverse": 0.05})
    draw = mixture(ground, 30, rng=np.random.default_rng(0))
    assert draw.drawn_by is not None
    assert Counter(draw.drawn_by.tolist()) == {"geography": 15, "change": 9, "grid": 5, "diverse": 1}
    assert (np.diff(draw.indices) > 0).all()
    assert draw.target == {}
    by_geography = [ground.stratum[index] for index in draw.indices[draw.drawn_by == "geography"]]
    assert sorted(Counter(by_geography).values()) == [7, 8]


def test_shares_are_ratios() -> None:
    one, other = (
        mixture(mixed(shares), 21, rng=np.random.default_rng(5))
        for shares in ({"uniform": 2.0, "change": 1.0}, {"uniform": 0.5, "change": 0.25})
    )
    np.testing.assert_array_equal(one.indices, other.indices)


def test_parts_keep_clear_of_each_other() -> None:
    rng = np.random.default_rng(0)
    ground = scattered(
        500,
        12.0,
        45.0,
        spread_m=25_000,
        min_distance_km=2.0,
        change=rng.exponential(size=500),
        features=rng.normal(size=(500, 2)),
        rules=Rules(shares=dict.fromkeys(("uniform", "geography", "balanced", "change", "grid", "diverse"), 1.0)),
    )
    draw = mixture(ground, 60, rng=rng)
    assert len(draw.indices) == 60
    clash = Spacing(ground).clash(draw.indices[:, None], draw.indices)
    assert not (clash & ~np.eye(60, dtype=bool)).any()


def test_the_chances_of_the_parts_are_put_together() -> None:
    weight = np.where(np.arange(40) < 20, 1.0, 2.0)
    ground = mixed({"uniform": 0.5, "change": 0.5}, 40, change=np.arange(40) % 4 / 3.0, weight=weight)
    repeats = 600
    hits, noted = frequencies(mixture, ground, 16, repeats)
    assert noted[hits > 0] @ np.ones((hits > 0).sum()) == pytest.approx(16, rel=0.02)
    assert (np.abs(hits - noted) <= 4 * np.sqrt(noted * (1 - noted) / repeats) + 0.03).all()


def test_two_parts_of_one_kind_are_one_draw() -> None:
    hits, noted = frequencies(mixture, mixed({"uniform": 1.0, "geography": 1.0}, 40), 20, 300)
    assert hits.sum() == pytest.approx(20)
    assert noted.sum() == pytest.approx(20, rel=0.03)


def test_a_part_that_finds_too_few_leaves_its_seats_empty() -> None:
    change = np.where(np.arange(200) < 4, 1.0, 0.0)
    draw = mixture(mixed({"change": 0.5, "uniform": 0.5}, change=change), 40, rng=np.random.default_rng(0))
    assert draw.drawn_by is not None
    assert Counter(draw.drawn_by.tolist()) == {"change": 4, "uniform": 20}


def test_a_part_without_seats_is_not_asked() -> None:
    ground = row_of({"a": 10}, rules=Rules(shares={"uniform": 0.9, "diverse": 0.1}))
    assert len(mixture(ground, 4, rng=np.random.default_rng(0)).indices) == 4


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "strategy mixture needs shares"),
        ({"uniform": 0.5, "mixture": 0.5}, "cannot mix 'mixture'; it mixes balanced, change, cities"),
        ({"unifrom": 1.0}, "cannot mix 'unifrom'"),
        ({"uniform": 1.0, "change": 0.0}, "the share of change is 0; give one above 0"),
        ({"uniform": -1.0}, "the share of uniform is -1"),
        ({"uniform": float("nan")}, "the share of uniform is nan"),
    ],
)
def test_shares_that_cannot_be(shares: dict[str, float], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        mixture(mixed(shares), 10, rng=np.random.default_rng(0))


def test_a_part_is_drawn_as_it_would_be_alone() -> None:
    ground = mixed({"geography": 1.0})
    alone = STRATEGIES["geography"](ground, 30, rng=np.random.default_rng(1))
    draw = mixture(ground, 30, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(draw.indices, alone.indices)
    np.testing.assert_allclose(draw.inclusion_probability, alone.inclusion_probability)
    assert counts(ground, draw) == counts(ground, alone)
