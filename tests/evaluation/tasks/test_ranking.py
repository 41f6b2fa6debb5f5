"""Rankings: values worked by hand, ties that are a guess, brute force, and the metric for whole sets as an oracle."""

from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.evaluation import metrics
from geossl_data.evaluation.tasks import ranking
from geossl_data.evaluation.tasks.ranking import Looks, average_precision, class_rankings, precision_at, recall_at

scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12).map(lambda own: np.array(own, dtype=np.float64))


def looks(x: Any, place: Any) -> Looks:
    return Looks(x=np.array(x, dtype=np.float32), place=np.array(place))


def test_average_precision_worked_by_hand() -> None:
    # Ranked: relevant, other, relevant, other: precisions 1 and 2/3 at the relevant ones.
    assert average_precision(np.array([0.3, 0.9]), np.array([0.1, 0.5])) == pytest.approx(5 / 6)
    assert average_precision(np.array([0.3]), np.empty(0)) == 1.0
    assert average_precision(np.array([1.0, 1.0]), np.array([1.0, 1.0, 1.0])) == pytest.approx(2 / 5)
    assert np.isnan(average_precision(np.empty(0), np.array([1.0])))


@settings(max_examples=60, deadline=None)
@given(relevant=scores, others=scores)
def test_average_precision_is_that_of_the_metric(relevant: np.ndarray, others: np.ndarray) -> None:
    truth = np.repeat([True, False], [len(relevant), len(others)])
    expected = metrics.average_precision(np.concatenate([relevant, others]), truth)
    assert average_precision(relevant, others) == pytest.approx(expected[0])


def test_precision_at_k_worked_by_hand() -> None:
    relevant, others = np.array([0.9, 0.5, 0.1]), np.array([0.7, 0.3])
    assert [precision_at(k, relevant, others) for k in (1, 2, 3, 5, 10)] == pytest.approx(
        [1, 1 / 2, 2 / 3, 3 / 5, 3 / 5]
    )
    # One sure relevant row, then one slot for a relevant and two others that are level.
    assert precision_at(2, np.array([0.9, 0.5]), np.array([0.5, 0.5])) == pytest.approx((1 + 1 / 3) / 2)
    assert np.isnan(precision_at(1, np.empty(0), np.array([1.0])))


@settings(max_examples=40, deadline=None)
@given(relevant=scores, others=scores, k=st.integers(1, 9), seed=st.integers(0, 99))
def test_precision_at_k_is_what_random_order_gives(relevant: np.ndarray, others: np.ndarray, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    together = np.concatenate([relevant, others])
    k = min(k, len(together))
    jitter = rng.random((4000, len(together))) * 0.5
    first = np.argsort(-(together + jitter), axis=1)[:, :k]
    share = (first < len(relevant)).mean()
    assert precision_at(k, relevant, others) == pytest.approx(share, abs=0.04)


def test_rankings_by_class_worked_by_hand() -> None:
    queries = looks([[1, 0]], [7])
    gallery = looks(
        [[1, 0], [3, 4], [0, 1], [-1, 0]], [7, 1, 2, 3]
    )  # cosines 1, 0.6, 0, -1; the first is its own place
    precision, first = class_rankings(queries, np.array([5]), gallery, np.array([5, 5, 6, 5]), k=2)
    assert precision.tolist() == pytest.approx([(1 + 2 / 3) / 2])  # of three that count: relevant, other, relevant
    assert first.tolist() == [0.5]


def test_nothing_to_find_is_no_number() -> None:
    gallery = looks([[1, 0], [0, 1]], [1, 2])
    precision, first = class_rankings(
        looks([[1, 0], [1, 0], [1, 0]], [1, 9, 9]), np.array([5, 8, 5]), gallery, np.array([5, 6])
    )
    # The first query's only relevant look is its own place, the second's class is not there at all.
    assert np.isnan(precision).tolist() == np.isnan(first).tolist() == [True, True, False]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rankings_by_class_agree_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, place = rng.standard_normal((14, 3)), rng.integers(0, 3, 14), rng.integers(0, 6, 14)
    queries, gallery = looks(x[:6], place[:6]), looks(x[6:], place[6:])
    precision, _ = class_rankings(queries, y[:6], gallery, y[6:])
    for query in range(6):
        others = [i for i in range(6, 14) if place[i] != place[query]]
        others.sort(key=lambda i: -float(x[i] @ x[query] / np.linalg.norm(x[i])))
        hits = [y[i] == y[query] for i in others]
        at = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        assert precision[query] == pytest.approx(np.mean(at) if at else np.nan, nan_ok=True)


def test_queries_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = (looks(rng.integers(-2, 3, (n, 3)), np.arange(n) % 5) for n in (9, 11))
    y = rng.integers(0, 2, 20)
    whole = class_rankings(queries, y[:9], gallery, y[9:]), recall_at((1, 3), queries, gallery)
    monkeypatch.setattr(ranking, "BLOCK", 22)  # two queries at a time
    parts = class_rankings(queries, y[:9], gallery, y[9:]), recall_at((1, 3), queries, gallery)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])


def test_recall_worked_by_hand() -> None:
    gallery = looks([[1, 0], [4, 3], [3, 4], [0, 1]], [1, 2, 3, 3])  # cosines with (1, 0): 1, 0.8, 0.6, 0
    found = recall_at((1, 2, 3), looks([[1, 0]] * 4, [1, 2, 3, 4]), gallery)
    np.testing.assert_array_equal(found, [[1, 1, 1], [0, 1, 1], [0, 0, 1], [np.nan] * 3])


def test_what_is_level_is_left_to_chance() -> None:
    # One above, then six that are level, of which two are of the place.
    gallery = looks([[1, 0], *[[0, 1]] * 6], [9, 1, 1, 2, 3, 4, 5])
    found = recall_at((1, 2, 4, 7, 50), looks([[1, 0]], [1]), gallery)
    by_counting = [1 - comb(4, drawn) / comb(6, drawn) for drawn in (0, 1, 3, 6, 6)]
    np.testing.assert_allclose(found[0], by_counting)


def test_features_that_say_nothing_are_a_guess() -> None:
    place = np.arange(40)
    same = looks(np.ones((40, 3)), place)
    y = place % 4
    precision, first = class_rankings(looks(np.ones((4, 3)), place[:4] + 100), y[:4], same, y)
    np.testing.assert_allclose(precision, 0.25)
    np.testing.assert_allclose(first, 0.25)
    np.testing.assert_allclose(recall_at((1, 10), same, same), [[1 / 40, 10 / 40]] * 40)
