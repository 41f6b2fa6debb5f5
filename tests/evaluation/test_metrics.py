"""Metrics: values worked by hand, definitions written as loops, and weights that mean rows given several times."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.evaluation import metrics
from geossl_data.evaluation.metrics import (
    ClassShare,
    Detection,
    FirstPrecision,
    MeanPrecision,
    Median,
    Metric,
    Overlap,
    RankedPrecision,
    Share,
    accuracy_of,
    average_precision,
    balanced_of,
    confusions,
    groups_of,
    mean_of_defined,
)


def once(metric: Metric) -> float:
    (value,) = metric(np.ones((1, metric.groups)))
    return float(value)


def rows(*values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float64)


# ------------------------------------------------------------------------------------------------------------- by hand


def test_accuracies_worked_by_hand() -> None:
    predicted, truth = np.array([1, 1, 1, 2, 0]), np.array([1, 1, 1, 2, 2])
    group, groups = np.array([0, 0, 1, 1, 2]), 3
    plain, balanced = accuracy_of(predicted, truth, group, groups), balanced_of(predicted, truth, group, groups)
    assert (plain.name, balanced.name, plain.groups, balanced.groups) == ("accuracy", "balanced accuracy", 3, 3)
    assert once(plain) == 0.8
    assert once(balanced) == 0.75  # all of class 1, half of class 2; class 0 does not occur in the truth
    # Without the last place; with the first place alone; with the last place three times.
    weights = rows([1, 1, 0], [1, 0, 0], [0, 1, 3])
    assert plain(weights).tolist() == [1.0, 1.0, 2 / 5]
    assert balanced(weights).tolist() == [1.0, 1.0, (1 + 1 / 4) / 2]


def test_overlaps_worked_by_hand() -> None:
    first = [[3, 1, 0], [0, 2, 0], [0, 0, 0]]  # class 2 was never there
    second = [[0, 0, 2], [0, 4, 0], [0, 0, 0]]  # and was wrongly told
    confusion = rows(first, second)
    assert once(Overlap(name="IoU a", confusion=confusion, of=0)) == 3 / 6
    assert once(Overlap(name="IoU b", confusion=confusion, of=1)) == 6 / 7
    assert once(Overlap(name="IoU c", confusion=confusion, of=2)) == 0
    assert once(Overlap(name="mIoU", confusion=confusion)) == pytest.approx((3 / 6 + 6 / 7) / 2)
    weights = rows([1, 0], [0, 2])
    np.testing.assert_equal(Overlap(name="IoU c", confusion=confusion, of=2)(weights), [np.nan, 0.0])
    assert Overlap(name="mIoU", confusion=confusion)(weights) == pytest.approx([(3 / 4 + 2 / 3) / 2, (0 + 1) / 2])


def test_detections_worked_by_hand() -> None:
    confusion = rows([[5, 1], [2, 3]], [[4, 3], [0, 0]], [[4, 0], [0, 0]])
    found = {kind: Detection(name=kind, kind=kind, confusion=confusion) for kind in ("precision", "recall", "F1")}
    assert [once(found[kind]) for kind in found] == [3 / 7, 3 / 5, 6 / 12]
    alone = np.eye(3)
    np.testing.assert_equal(found["precision"](alone), [3 / 4, 0.0, np.nan])
    np.testing.assert_equal(found["recall"](alone), [3 / 5, np.nan, np.nan])
    np.testing.assert_equal(found["F1"](alone), [6 / 9, 0.0, np.nan])


def test_a_ranking_worked_by_hand() -> None:
    scores, truth = rows(0.9, 0.8, 0.7, 0.6, 0.5), np.array([True, False, True, True, False])
    group = np.arange(5)
    ranked = RankedPrecision(name="AP", scores=scores, truth=truth, group=group)
    assert once(ranked) == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    # The second row three times, the first not at all: at the thresholds 0/3, 1/4, 2/5.
    assert ranked(rows([0, 3, 1, 1, 1]))[0] == pytest.approx((1 / 4 + 2 / 5) / 2)

    def first(k: int | None) -> FirstPrecision:
        return FirstPrecision(name="P", scores=scores, truth=truth, group=group, first=k)

    assert [once(first(k)) for k in (1, 2, 4, 5, 100)] == [1, 1 / 2, 3 / 4, 3 / 5, 3 / 5]
    assert once(first(None)) == pytest.approx(2 / 3)  # among the first three, since three are relevant
    assert first(2)(rows([0, 1, 3, 0, 1]))[0] == 1 / 2


def test_rows_of_equal_score_come_in_together() -> None:
    scores, truth = rows(0.9, 0.5, 0.5, 0.5, 0.1), np.array([False, True, False, False, True])
    assert average_precision(scores, truth)[0] == pytest.approx((1 / 4 + 2 / 5) / 2)
    for order in ([4, 3, 2, 1, 0], [0, 2, 3, 1, 4]):
        assert average_precision(scores[order], truth[order])[0] == average_precision(scores, truth)[0]
        metric = FirstPrecision(name="P@2", scores=scores[order], truth=truth[order], group=np.arange(5), first=2)
        assert once(metric) == pytest.approx((0 + 1 / 3) / 2)  # one of three equal rows, one of which is relevant


def test_mean_precision_leaves_out_classes_without_positives() -> None:
    scores = np.array([[0.1, 0.5, 0.3], [0.9, 0.4, 0.2], [0.2, 0.3, 0.1]])
    truth = np.array([[False, True, False], [False, False, False], [True, True, False]])
    metric = MeanPrecision(name="mAP", scores=scores, truth=truth, group=np.array([0, 1, 2]))
    assert once(metric) == pytest.approx((1 / 2 + (1 / 1 + 2 / 3) / 2) / 2)
    # Without the last place the first class has no positives either.
    assert metric(rows([1, 1, 0])) == pytest.approx([1.0])


def test_medians_worked_by_hand() -> None:
    values, group = rows(5.0, 1.0, 3.0, 40.0), np.array([0, 1, 2, 0])
    metric = Median(name="median km", values=values, group=group)
    assert metric.groups == 3
    assert once(metric) == 4.0
    # 1 3 3 ; 1 1 5 40 ; 5 40 ; nothing
    np.testing.assert_equal(metric(rows([0, 1, 2], [1, 2, 0], [1, 0, 0], [0, 0, 0])), [3.0, 3.0, 22.5, np.nan])


def test_places_are_numbered_in_order() -> None:
    group, groups = groups_of(np.array([70, -3, 70, 5]))
    assert (group.tolist(), groups, group.dtype) == ([2, 0, 2, 1], 3, np.int64)
    assert groups_of(np.array([], dtype=np.int64))[1] == 0


# -------------------------------------------------------------------------------------------------- against definitions


def by_thresholds(scores: np.ndarray, truth: np.ndarray) -> float:
    """Average precision as its definition says, threshold after threshold."""
    area = recall_before = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        precision, recall = truth[taken].mean(), truth[taken].sum() / truth.sum()
        area, recall_before = area + (recall - recall_before) * precision, recall
    return area


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), distinct=st.integers(1, 9))
def test_average_precision_is_the_sum_over_thresholds(seed: int, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, distinct, 11) / 7, rng.random(11) < 0.4
    truth[0] = True
    assert average_precision(scores, truth)[0] == pytest.approx(by_thresholds(scores, truth), abs=1e-12)


def of_rows(rng: np.random.Generator, group: np.ndarray) -> dict[str, Callable[[np.ndarray], Metric]]:
    """Metrics by name, each made of some of the rows, given with their places: rows may come several times."""
    n, groups = len(group), int(group.max()) + 1
    scores, values = np.round(rng.standard_normal((n, 3)), 1), rng.integers(0, 9, n) / 2
    truth = rng.random((n, 3)) < 0.4
    predicted, label = rng.integers(0, 3, n), rng.integers(0, 3, n)

    def confusion(taken: np.ndarray, classes: int) -> np.ndarray:
        found = np.zeros((groups, classes, classes))
        np.add.at(found, (group[taken], label[taken] % classes, predicted[taken] % classes), 1)
        return found

    rank: dict[str, Any] = {"scores": scores[:, 0], "truth": truth[:, 0]}
    return {
        "accuracy": lambda i: accuracy_of(predicted[i], label[i], group[i], groups),
        "balanced": lambda i: balanced_of(predicted[i], label[i], group[i], groups),
        "mIoU": lambda i: Overlap(name="", confusion=confusion(i, 3)),
        "IoU": lambda i: Overlap(name="", confusion=confusion(i, 3), of=1),
        "precision": lambda i: Detection(name="", kind="precision", confusion=confusion(i, 2)),
        "recall": lambda i: Detection(name="", kind="recall", confusion=confusion(i, 2)),
        "F1": lambda i: Detection(name="", kind="F1", confusion=confusion(i, 2)),
        "mAP": lambda i: MeanPrecision(name="", scores=scores[i], truth=truth[i], group=group[i]),
        "AP": lambda i: RankedPrecision(name="", group=group[i], **{name: x[i] for name, x in rank.items()}),
        "P@4": lambda i: FirstPrecision(name="", first=4, group=group[i], **{name: x[i] for name, x in rank.items()}),
        "R-precision": lambda i: FirstPrecision(name="", group=group[i], **{name: x[i] for name, x in rank.items()}),
        "median": lambda i: Median(name="", values=values[i], group=group[i]),
        "mean": lambda i: Share(
            name="",
            hits=np.bincount(group[i], weights=values[i], minlength=groups),
            counts=np.bincount(group[i], minlength=groups).astype(float),
        ),
    }


@pytest.mark.parametrize("name", of_rows(np.random.default_rng(0), np.arange(3)))
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_place_that_counts_several_times_is_its_rows_given_several_times(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = groups_of(rng.integers(0, 5, 12))[0]
    weights = rng.integers(0, 4, (4, int(group.max()) + 1)).astype(float)
    metric = of_rows(rng, group)[name]
    found = metric(np.arange(12))(weights)
    for value, weight in zip(found, weights, strict=True):
        repeated = np.repeat(np.arange(12), weight[group].astype(int))
        if not len(repeated):
            assert np.isnan(value)
            continue
        again = metric(repeated)
        np.testing.assert_allclose(again(np.ones((1, again.groups)))[0], value, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", of_rows(np.random.default_rng(0), np.arange(3)))
def test_replicates_are_alike_however_many_are_computed_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    group = groups_of(rng.integers(0, 5, 12))[0]
    metric = of_rows(rng, group)[name](np.arange(12))
    weights = rng.integers(0, 4, (7, metric.groups)).astype(float)
    whole = metric(weights)
    assert whole.shape == (7,)
    monkeypatch.setattr(metrics, "BLOCK", 25)
    np.testing.assert_array_equal(metric(weights), whole)
    np.testing.assert_allclose([metric(weight[None])[0] for weight in weights], whole, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), block=st.sampled_from([1, 40, 10**6]))
def test_confusions_agree_with_loops(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 3, (2, 5, 3, 4)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    group = rng.integers(0, 3, 5)
    expected = np.zeros((4, 3, 3))
    for i, y, x in np.ndindex(truth.shape):
        if truth[i, y, x] != 255:
            expected[group[i], truth[i, y, x], predicted[i, y, x]] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK", block)
        np.testing.assert_array_equal(confusions(predicted, truth, group, 4, 3), expected)


def test_what_is_predicted_where_the_truth_is_unknown_counts_nothing() -> None:
    truth, predicted = np.array([[[0, 7]]], np.uint8), np.array([[[0, 200]]], np.uint8)
    found = confusions(predicted, truth, np.array([0]), 1, 2, ignore=7)
    assert found.tolist() == [[[1, 0], [0, 0]]]


def test_the_mean_of_what_is_defined() -> None:
    np.testing.assert_equal(mean_of_defined(rows([1, np.nan, 2], [np.nan] * 3)), [1.5, np.nan])


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("side", "value"), [("truth", 2), ("truth", 254), ("predicted", 2), ("predicted", 255)])
def test_classes_that_cannot_be_are_refused(side: str, value: int) -> None:
    maps = {"truth": np.zeros((3, 2, 2), np.uint8), "predicted": np.zeros((3, 2, 2), np.uint8)}
    maps[side][1, 0, 1] = value
    with pytest.raises(TrainingError, match=r"^1 pixels of class maps .* expected 0 to 1, and 255 where the truth"):
        confusions(maps["predicted"], maps["truth"], np.arange(3), 3, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Share(name="accuracy", hits=np.ones(2), counts=np.ones(3)), r"accuracy: counts has shape \(3,\)"),
        (lambda: ClassShare(name="b", hits=np.ones((2, 1)), counts=np.ones((2, 2))), r"b: counts has shape \(2, 2\)"),
        (lambda: Overlap(name="mIoU", confusion=np.ones((4, 2, 3))), r"mIoU: confusions have shape \(4, 2, 3\)"),
        (lambda: Detection(name="F1", kind="F1", confusion=np.ones((4, 3, 3))), "F1: confusions of 3 classes"),
        (lambda: Median(name="km", values=np.ones(2), group=np.arange(3)), r"km: group has shape \(3,\)"),
        (
            lambda: MeanPrecision(name="mAP", scores=np.ones((2, 3)), truth=np.ones((2, 3)) > 0, group=np.arange(3)),
            r"mAP: .* has shape \(2,\), .* has \(3,\)",
        ),
        (
            lambda: RankedPrecision(name="AP", scores=np.ones(2), truth=np.ones(3) > 0, group=np.arange(2)),
            r"AP: truth has shape \(3,\), scores has \(2,\); give one of each",
        ),
        (
            lambda: FirstPrecision(name="AP@10", scores=np.ones(2), truth=np.ones(2) > 0, group=np.arange(1)),
            r"AP@10: group has shape \(1,\)",
        ),
        (lambda: accuracy_of(np.ones(2), np.ones(3), np.arange(2), 2), r"accuracy: truth has shape \(3,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make()
