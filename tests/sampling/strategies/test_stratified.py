"""Seats of strata, what they pass on, and the chances inside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling.strategies.pools import counts, frequencies, joined, row_of, tile

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies import STRATEGIES, Draw, Ground, Rules
from geossl_data.sampling.strategies.orders import inclusion

geography, balanced = STRATEGIES["geography"], STRATEGIES["balanced"]


def drawn(ground: Ground, n: int, *, seed: int = 0) -> Draw:
    return geography(ground, n, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("power", "expected"),
    [(0.0, {"a": 10, "b": 10, "c": 4}), (0.5, {"a": 15, "b": 6, "c": 3}), (1.0, {"a": 19, "b": 4, "c": 1})],
)
def test_geography_spreads_the_count_as_stated(power: float, expected: dict[str, int]) -> None:
    ground = row_of({"a": 100, "b": 20, "c": 4}, rules=Rules(power=power))
    draw = drawn(ground, 24)
    assert counts(ground, draw) == expected
    chance = {"a": expected["a"] / 100, "b": expected["b"] / 20, "c": expected["c"] / 4}
    np.testing.assert_allclose(draw.inclusion_probability, [chance[ground.stratum[index]] for index in draw.indices])


def test_the_target_is_what_a_stratum_would_get_if_it_could() -> None:
    ground = row_of({"a": 100, "b": 20, "c": 4}, rules=Rules(power=0.0))
    assert drawn(ground, 24).target == {"a": 8, "b": 8, "c": 8}


def test_a_stratum_under_clouds_falls_short_of_its_target_and_the_count_is_reached() -> None:
    """The ground is alike in both; of `wet` only five candidates are left, of `lost` none."""
    ground = row_of(
        {"dry": 80, "wet": 5}, rules=Rules(power=1.0, ground_km2={"dry": 300.0, "wet": 300.0, "lost": 150.0})
    )
    draw = drawn(ground, 50)
    assert draw.target == {"dry": 20, "lost": 10, "wet": 20}
    assert counts(ground, draw) == {"dry": 45, "wet": 5}
    without = row_of({"dry": 80, "wet": 5}, rules=Rules(power=1.0))
    assert drawn(without, 50).target == {"dry": 47, "wet": 3}


def test_ground_that_is_given_for_some_strata_is_in_the_units_of_the_rest() -> None:
    """A candidate of 960 m covers 0.9216 km²."""
    ground = row_of({"a": 100, "b": 100}, rules=Rules(power=1.0, ground_km2={"b": 92.16 * 3}))
    assert drawn(ground, 40).target == {"a": 10, "b": 30}


def test_ground_of_two_tiles_counts_once_in_a_stratum_too() -> None:
    names = ["a"] * 100
    once, again = tile(10, 10, stratum=names), tile(10, 10, stratum=names)
    apart = tile(10, 10, x=600_000.0, stratum=["b"] * 100)
    ground = joined(once, again, apart, rules=Rules(power=1.0))
    assert drawn(ground, 40).target == {"a": 20, "b": 20}


def test_geography_passes_on_the_seats_of_a_stratum_without_room() -> None:
    ground = row_of({"a": 2, "b": 60}, min_distance_km=1.5, rules=Rules(power=0.0))
    draw = drawn(ground, 10, seed=1)
    assert counts(ground, draw) == {"a": 1, "b": 9}
    assert draw.target == {"a": 5, "b": 5}


def test_strata_share_the_room_at_their_border() -> None:
    """Every square of one stratum lies on one of the other; taken in turns, each gets about half."""
    a, b = tile(12, 12, stratum=["a"] * 144), tile(12, 12, stratum=["b"] * 144)
    ground = joined(a, b, rules=Rules(power=0.0))
    found = counts(ground, drawn(ground, 288))
    assert sum(found.values()) == 144
    assert abs(found["a"] - found["b"]) <= 24


def test_ground_of_which_nothing_is_known_is_a_stratum_of_its_own() -> None:
    ground = row_of({"": 30, "a": 30}, rules=Rules(power=0.0))
    draw = drawn(ground, 10)
    assert draw.target == {"(none)": 5, "a": 5}
    assert counts(ground, draw) == {"": 5, "a": 5}


@pytest.mark.parametrize("quota", [{"a": 3, "c": 9}, {"a": 0.25, "c": 0.75}, {"a": 1, "b": 0, "c": 3}])
def test_a_quota_gives_each_stratum_its_count_or_share(quota: dict[str, float]) -> None:
    ground = row_of({"a": 50, "b": 50, "c": 50}, rules=Rules(quota=quota))
    draw = drawn(ground, 12)
    assert draw.target == {"a": 3, "b": 0, "c": 9}
    assert counts(ground, draw) == {"a": 3, "c": 9}


def test_what_a_quota_cannot_fill_goes_to_the_strata_it_names() -> None:
    ground = row_of({"a": 4, "b": 50, "c": 50}, rules=Rules(quota={"a": 10, "c": 10}))
    draw = drawn(ground, 20)
    assert draw.target == {"a": 10, "b": 0, "c": 10}
    assert counts(ground, draw) == {"a": 4, "c": 16}
    assert counts(ground, drawn(ground, 60)) == {"a": 4, "c": 50}


def test_a_quota_may_name_a_stratum_that_no_candidate_shows() -> None:
    ground = row_of({"a": 20}, rules=Rules(quota={"a": 1, "lost": 1}, ground_km2={"lost": 5.0}))
    draw = drawn(ground, 10)
    assert draw.target == {"a": 5, "lost": 5}
    assert len(draw.indices) == 10


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ({"a": 1, "x": 2, "y": 0}, "the quota names x, y, not among the strata here: a, b"),
        ({"a": -1}, "the quota of a is -1; give a finite count"),
        ({"a": float("nan"), "b": 1}, "the quota of a is nan"),
        ({"a": 0}, "the quota gives no stratum a place"),
        ({}, "the quota gives no stratum a place"),
    ],
)
def test_quotas_that_cannot_be(quota: dict[str, float], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        drawn(row_of({"a": 5, "b": 5}, rules=Rules(quota=quota)), 4)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 25), min_size=1, max_size=6),
    st.one_of(st.floats(0, 1), st.lists(st.integers(0, 5), min_size=6, max_size=6)),
    st.integers(0, 100),
    st.integers(0, 1000),
)
def test_the_count_is_reached_whenever_it_can_be(sizes: list[int], rule: float | list[int], n: int, seed: int) -> None:
    supply = {f"s{number}": size for number, size in enumerate(sizes)}
    if isinstance(rule, float):
        rules, allowed = Rules(power=rule), dict(supply)
    else:
        quota = dict(zip(supply, rule, strict=False))
        if not any(quota.values()):
            return
        rules, allowed = Rules(quota=quota), {name: supply[name] for name, share in quota.items() if share}
    ground = row_of(supply, rules=rules)
    draw = drawn(ground, n, seed=seed)
    found = counts(ground, draw)
    assert len(draw.indices) == min(n, sum(allowed.values()))
    assert set(found) <= set(allowed)
    assert sum(draw.target.values()) == n
    for name, target in draw.target.items():
        assert found.get(name, 0) >= min(target, allowed.get(name, 0))


def test_chances_inside_strata_are_those_noted() -> None:
    weight = np.array([1.0, 2.0, 3.0, 0.0, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0])
    ground = row_of({"a": 6, "b": 4}, weight=weight, rules=Rules(power=0.0))
    repeats = 600
    hits, noted = frequencies(geography, ground, 5, repeats)
    wanted = np.concatenate([inclusion(weight[:6], 3), inclusion(weight[6:], 2)])
    error = np.sqrt(wanted * (1 - wanted) / repeats)
    assert (np.abs(hits - wanted) <= 4 * error + 0.025).all()
    np.testing.assert_allclose(noted[hits > 0], wanted[hits > 0])
    assert hits[3] == 0


def test_the_noted_chances_correct_a_total_over_strata() -> None:
    ground = row_of({"a": 120, "b": 12}, rules=Rules(power=0.5))
    value = np.random.default_rng(0).normal(3.0, 1.0, 132) + np.where(np.asarray(ground.stratum) == "b", 20.0, 0.0)
    totals = []
    for seed in range(300):
        draw = drawn(ground, 30, seed=seed)
        totals.append((value[draw.indices] / draw.inclusion_probability).sum())
    assert abs(np.mean(totals) - value.sum()) < 4 * np.std(totals) / np.sqrt(300)


def test_balanced_gives_every_stratum_as_many() -> None:
    ground = row_of({"a": 100, "b": 20, "c": 4}, rules=Rules(power=1.0, quota={"a": 1}))
    draw = balanced(ground, 24, rng=np.random.default_rng(0))
    assert draw.target == {"a": 8, "b": 8, "c": 8}
    assert counts(ground, draw) == {"a": 10, "b": 10, "c": 4}


def test_many_strata_take_turns_in_a_crowd() -> None:
    """Round by round, as one by one: no stratum gets less than another could have given up."""
    names = [f"s{number % 50}" for number in range(2500)]
    ground = tile(50, 50, side_m=120.0, stratum=names, min_distance_km=0.5, rules=Rules(power=0.0))
    draw = drawn(ground, 100)
    found = counts(ground, draw)
    assert len(draw.indices) == 100 or max(found.values()) - min(found.values()) <= 3
