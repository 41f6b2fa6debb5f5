"""Axes, neighbours and agreement are what brute force finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.report.runs.neighbours import agreement, axes_of, neighbours, queries, unit

SEEDS = st.integers(0, 2**32 - 1)


def test_axes_of_points_on_a_cross_are_its_arms() -> None:
    x = np.array([[4.0, 0, 5], [-2, 0, 5], [-2, 0, 5], [0, -2, 5], [0, 1, 5], [0, 1, 5]])
    xy, shares = axes_of(x)
    # The farthest row on each axis is on its positive side.
    np.testing.assert_allclose(xy, x[:, :2] * [1, -1], atol=1e-12)
    assert shares == pytest.approx((0.8, 0.2))


@given(SEEDS, st.integers(2, 7), st.integers(2, 6))
@settings(max_examples=30)
def test_axes_are_the_eigenvectors_of_the_covariance(seed: int, n: int, d: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, d)) * np.arange(1, d + 1)
    xy, shares = axes_of(x)
    sizes, _ = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(xy.var(axis=0, ddof=1), sizes[::-1][:2], atol=1e-9)
    np.testing.assert_allclose(shares, sizes[::-1][:2] / sizes.sum(), atol=1e-9)
    np.testing.assert_allclose(xy.mean(axis=0), 0, atol=1e-9)
    again, _ = axes_of(x[:, ::-1])
    np.testing.assert_allclose(np.abs(again), np.abs(xy), atol=1e-7)


@pytest.mark.parametrize("x", [np.ones((4, 3)) / 3, np.zeros((3, 2)), np.full((1, 5), 0.1)])
def test_equal_rows_have_no_axes(x: np.ndarray) -> None:
    xy, shares = axes_of(x)
    assert shares == (0.0, 0.0)
    np.testing.assert_array_equal(xy, np.zeros((len(x), 2)))


def test_one_column_has_one_axis() -> None:
    xy, shares = axes_of(np.array([[1.0], [2.0], [6.0]]))
    np.testing.assert_allclose(xy, [[-2, 0], [-1, 0], [3, 0]], atol=1e-12)
    assert shares == pytest.approx((1.0, 0.0))


def test_neighbours_are_of_other_places_each_once() -> None:
    angles = np.radians([0, 1, 10, 11, 30, 180])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = neighbours(x, np.array([7, 7, 3, 3, 5, 9]), 0, k=5)
    assert found.found.tolist() == [2, 4, 5]
    np.testing.assert_allclose(found.cosine, np.cos(np.radians([10, 30, 180])), atol=1e-12)
    assert neighbours(x, np.zeros(6, dtype=np.int64), 0).found.tolist() == []


@given(SEEDS, st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=30)
def test_neighbours_are_those_that_brute_force_finds(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x, place = unit(rng.standard_normal((n, 3))), rng.integers(0, 4, n)
    found = neighbours(x, place, 0, k)
    nearest = {
        one: max((float(x[row] @ x[0]), row) for row in range(n) if place[row] == one)
        for one in set(place[1:].tolist())
    }
    nearest.pop(int(place[0]), None)
    assert found.found.tolist() == [row for _, row in sorted(nearest.values(), reverse=True)][:k]


def test_queries_are_drawn_from_each_group_and_of_different_places() -> None:
    group = ["a"] * 20 + ["b"] * 2 + ["c"]
    place = np.array([*range(10), *range(10), 20, 20, 30])
    found = queries(group, place, 5, seed=3)
    assert sorted(group[row] for row in found) == ["a", "a", "a", "b", "c"]
    assert len({place[row] for row in found}) == 5
    assert [group[row] for row in found[:3]] == ["a", "b", "c"]
    assert queries(group, place, 5, seed=3) == found
    assert queries(group, place, 5, seed=4) != found
    assert len(queries(group, place, 99, seed=3)) == 12


def test_agreement_counts_the_nearest_of_other_places() -> None:
    x = unit(np.array([[1, 0], [1, 0.01], [1, 0.2], [0, 1], [0.1, 1], [0.3, 1]]))
    place = np.array([0, 0, 1, 2, 3, 4])
    known = np.array([True, True, True, True, True, False])
    # The nearest elsewhere of rows 0 to 4 are 2, 2, 1, 4, 3; of their class are 0, 0, 2, 2, 2 of 3, 3, 4, 4, 4.
    assert agreement(x, place, ["a", "a", "b", "b", "b", "-"], known) == pytest.approx((2 / 5, 1.5 / 5))


def test_agreement_of_one_place_is_unknown() -> None:
    assert agreement(np.eye(3), np.zeros(3, dtype=np.int64), ["a", "b", "c"], np.ones(3, dtype=bool)) is None
    assert agreement(np.eye(3), np.arange(3), ["a", "b", "c"], np.zeros(3, dtype=bool)) is None


def test_a_row_of_zeros_is_like_nothing() -> None:
    np.testing.assert_array_equal(unit(np.array([[0, 0], [3, 4]], dtype=np.float32)), [[0, 0], [0.6, 0.8]])
