"""Counts add up, edges are round, and a choice is spread over its groups."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.report.dataset.counting import bars, histogram, round_edges, spread_choice

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def test_edges_by_hand() -> None:
    assert round_edges(0, 72, 24).tolist() == [5.0 * step for step in range(16)]
    assert round_edges(-0.9, 0.9, 4).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert round_edges(2.0, 2.0).tolist() == [1.9, 2.1]
    assert round_edges(0.0, 5e-324).tolist() == [-0.05, 0.05]
    assert round_edges(2.0, 2.0 + 4e-16).tolist() == [1.9, 2.1]


@settings(max_examples=40)
@given(low=numbers, width=st.floats(0, 1e6), bins=st.integers(2, 50))
def test_edges_hold_what_they_are_asked_to_hold(low: float, width: float, bins: int) -> None:
    edges = round_edges(low, low + width, bins)
    slack = 1e-6 * max(abs(low), width, 1.0)
    assert edges[0] <= low + slack
    assert edges[-1] >= low + width - slack
    assert 2 <= len(edges) <= bins + 3
    assert (np.diff(edges) > 0).all()


@settings(max_examples=40)
@given(st.lists(numbers | st.just(float("nan")), max_size=30))
def test_a_histogram_counts_every_known_value_once(values: list[float]) -> None:
    found = histogram("title", "h", {"a": np.array(values), "b": np.array(values)})
    known = [value for value in values if value == value]
    assert [sum(one.counts["a"]) for one in found] == ([len(known)] if known else [])


def test_values_beyond_given_edges_count_in_the_last_bins() -> None:
    (found,) = histogram("title", "%", {"a": np.array([-5.0, 1.0, 99.0, 400.0])}, edges=np.array([0.0, 50.0, 100.0]))
    assert found.counts == {"a": [2, 2]}


def test_bars_of_nothing_are_left_out() -> None:
    assert bars("title", "looks", {}) == ()
    assert bars("title", "looks", {"a": {"x": 0.0}}) == ()
    assert len(bars("title", "looks", {"a": {"x": 0.0}, "b": {"x": 1.0}})) == 1


groups = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz")), min_size=1, max_size=60)


@settings(max_examples=40)
@given(groups, st.integers(0, 70), st.integers(0, 9))
def test_a_choice_is_spread_over_the_first_groups(pairs: list[tuple[str, str]], count: int, seed: int) -> None:
    first, second = ([pair[way] for pair in pairs] for way in (0, 1))
    chosen = spread_choice([first, second], count, np.random.default_rng(seed)).tolist()
    assert len(chosen) == len(set(chosen)) == min(count, len(pairs))
    taken, there = Counter(first[number] for number in chosen), Counter(first)
    most = max(taken.values(), default=0)
    assert all(taken[name] >= min(there[name], most - 1) for name in there)
    again = spread_choice([first, second], count, np.random.default_rng(seed)).tolist()
    assert again == chosen


def test_a_choice_takes_every_stratum_before_a_second_of_one() -> None:
    strata = ["common"] * 50 + ["rare", "rarer"]
    chosen = spread_choice([["train"] * 52, strata], 3, np.random.default_rng(1))
    assert sorted(strata[number] for number in chosen) == ["common", "rare", "rarer"]


@pytest.mark.parametrize("groups", [[], [[], []]])
def test_a_choice_among_nothing_is_empty(groups: list[list[str]]) -> None:
    assert len(spread_choice(groups, 3, np.random.default_rng(0))) == 0
