"""Simple learners: votes worked by hand, loops, least squares and a general solver as oracles."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.evaluation import classifiers
from geossl_data.evaluation.classifiers import (
    knn_accuracy,
    knn_votes,
    linear_probe,
    ridge_responses,
    standardised,
    swept_responses,
    unit,
)
from geossl_data.evaluation.metrics import average_precision

# ----------------------------------------------------------------------------------------------------------- neighbours


def test_votes_worked_by_hand() -> None:
    train_x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0], [-1.0, 0.0]])
    train_y = np.array([0, 2, 2, 1])
    test_x = np.array([[0.8, 0.6]])  # cosines 0.8, 0.6, 0.6, -0.8

    def votes(k: int, temperature: float) -> list[float]:
        return list(knn_votes(train_x, train_y, test_x, 4, k=k, temperature=temperature)[0])

    a, b, c = np.exp([0.8, 0.6, -0.8])
    assert votes(3, 1.0) == pytest.approx([a / (a + 2 * b), 0, 2 * b / (a + 2 * b), 0])
    assert votes(100, 1.0) == pytest.approx(np.array([a, c, 2 * b, 0]) / (a + 2 * b + c))
    assert votes(1, 0.07) == [1, 0, 0, 0]
    assert votes(2, 1.0) == pytest.approx([a / (a + b), 0, b / (a + b), 0])
    # e^0.8 < 2 e^0.6 at temperature 1; e^8 > 2 e^6 at temperature 0.1.
    assert (np.argmax(votes(3, 1.0)), np.argmax(votes(3, 0.1))) == (2, 0)


def test_what_neighbours_say_is_their_weighted_mean() -> None:
    """Of any numbers, such as the unit vectors of where they lie."""
    train_x, test_x = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]), np.array([[1.0, 0.0]])
    said = np.array([[1.0, -2.0], [3.0, 4.0], [99.0, 99.0]])
    found = knn_votes(train_x, said, test_x, 2, k=2, temperature=1.0)
    assert found[0] == pytest.approx((np.e * said[0] + np.exp(0.6) * said[1]) / (np.e + np.exp(0.6)))


def test_neighbours_vote_for_each_of_their_classes() -> None:
    train_x, test_x = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    train_y = np.array([[1, 1, 0], [0, 1, 0]])
    share = 1 / (1 + np.exp(-1 / 0.5))
    assert knn_votes(train_x, train_y, test_x, 3, temperature=0.5)[0] == pytest.approx([share, 1.0, 0.0])


def by_loops(train_x: Any, train_y: Any, test_x: Any, n_classes: int, k: int, temperature: float) -> np.ndarray:
    votes = np.zeros((len(test_x), n_classes))
    for row, found in zip(test_x, votes, strict=True):
        cosines = [float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)) for other in train_x]
        nearest = sorted(range(len(train_x)), key=lambda i: -cosines[i])[:k]
        for i in nearest:
            found[int(train_y[i])] += np.exp(cosines[i] / temperature)
    return votes / votes.sum(axis=1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 12))
def test_neighbours_agree_with_loops(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    train_x, test_x = rng.standard_normal((9, 3)), rng.standard_normal((5, 3))
    train_y = rng.integers(0, 4, 9)
    votes = knn_votes(train_x, train_y, test_x, 4, k=k, temperature=0.2)
    np.testing.assert_allclose(votes, by_loops(train_x, train_y, test_x, 4, k, 0.2), atol=1e-12)
    np.testing.assert_allclose(votes, knn_votes(train_x, np.eye(4)[train_y], test_x, 4, k=k, temperature=0.2))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 8))
def test_of_equal_neighbours_the_earlier_ones_vote(seed: int, k: int) -> None:
    """Features on the axes, so that many cosines are exactly equal."""
    rng = np.random.default_rng(seed)
    axes = np.vstack([np.eye(3), -np.eye(3)])
    train_x, test_x = axes[rng.integers(0, 6, 9)] * 4, axes[rng.integers(0, 6, 5)]
    found = knn_votes(train_x, np.arange(9), test_x, 9, k=k, temperature=1.0)  # each row a class of its own
    for row, votes in zip(test_x, found, strict=True):
        nearest = sorted(range(9), key=lambda i: (-float(row @ train_x[i]), i))[:k]
        assert set(np.flatnonzero(votes)) == set(nearest)


def test_of_equal_votes_the_first_class_is_told() -> None:
    train_x = np.array([[1.0, 0.2], [1.0, -0.2], [1.0, 0.3], [1.0, -0.3], [1.0, 0.1], [1.0, -0.1]])
    votes = knn_votes(train_x, np.array([2, 1, 1, 2, 1, 2]), np.array([[1.0, 0.0]]), 3)
    assert votes[0, 1] == votes[0, 2] > 0
    assert votes[0].argmax() == 1


def test_a_small_temperature_leaves_the_nearest_its_vote() -> None:
    train_x = np.array([[-1.0, 0.0], [-1.0, 0.01]])
    votes = knn_votes(train_x, np.array([0, 1]), np.array([[1.0, 0.0]]), 2, temperature=1e-7)
    assert votes[0].tolist() == [pytest.approx(0, abs=1e-99), 1.0]


def test_many_test_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train_x, train_y, test_x = rng.standard_normal((20, 4)), rng.integers(0, 3, 20), rng.standard_normal((11, 4))
    whole = knn_votes(train_x, train_y, test_x, 3, k=5)
    monkeypatch.setattr(classifiers, "BLOCK", 60)
    np.testing.assert_allclose(knn_votes(train_x, train_y, test_x, 3, k=5), whole, rtol=1e-12)
    assert knn_votes(train_x, train_y, test_x[:0], 3).shape == (0, 3)


# ---------------------------------------------------------------------------------------------------------------- ridge


def by_least_squares(train_x: Any, targets: Any, test_x: Any, alpha: float) -> np.ndarray:
    """The penalty written as rows of data: √(alpha n) on the diagonal, aimed at zero."""
    n, d = train_x.shape
    x = (train_x - train_x.mean(0)) / train_x.std(0)
    rows = np.vstack([x, np.sqrt(alpha * n) * np.eye(d)])
    aims = np.vstack([targets - targets.mean(0), np.zeros((d, targets.shape[1]))])
    weights = np.linalg.lstsq(rows, aims, rcond=None)[0]
    return (test_x - train_x.mean(0)) / train_x.std(0) @ weights + targets.mean(0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), alpha=st.floats(1e-3, 10), d=st.sampled_from([5, 12, 30]))
def test_the_ridge_agrees_with_least_squares(seed: int, alpha: float, d: int) -> None:
    """With fewer features than rows, as many, and more: two ways to solve it."""
    rng = np.random.default_rng(seed)
    train_x, test_x = rng.standard_normal((12, d)) * 3 + 7, rng.standard_normal((6, d)) * 3 + 7
    targets = rng.standard_normal((12, 3)) * 2 + 1
    found = ridge_responses(train_x, targets, test_x, alpha=alpha)
    np.testing.assert_allclose(found, by_least_squares(train_x, targets, test_x, alpha), atol=1e-7)


def test_a_line_worked_by_hand() -> None:
    train_x, targets = np.array([[0.0, 4.0], [2.0, 4.0]]), np.eye(2)  # the second feature says nothing
    test_x = np.array([[0.9, 4.0], [1.1, -100.0]])
    # x = ∓1, y − ȳ = ±1/2: W (1 + 1/2) = ∓1/2.
    responses = ridge_responses(train_x, targets, test_x, alpha=0.5)
    assert responses == pytest.approx(np.array([[0.5 + 0.1 / 3, 0.5 - 0.1 / 3], [0.5 - 0.1 / 3, 0.5 + 0.1 / 3]]))


# ---------------------------------------------------------------------------------------------------------------- swept


def blobs(n: int, *, classes: int = 3, noise: float = 0.7, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = 5 * np.eye(classes, 6)[y] + noise * 5 * rng.standard_normal((n, 6)) + 11
    return x.astype(np.float32), y


def newton(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Logits of unpenalised logistic regression of one class, by Newton's method."""
    x, test = (np.column_stack([part, np.ones(len(part))]) for part in standardised(x, test))
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ w))
        w -= np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (p - y))
    return test @ w


def test_gradient_descent_comes_to_the_optimum() -> None:
    x, y = blobs(60, noise=1.0)
    wanted = np.column_stack([newton(x, (y == c).astype(float), x[:7]) for c in range(3)])
    whole = {"group": np.zeros(60), "seed": 0, "learning_rates": [0.5], "epochs": 250, "batch_size": 60}
    found = swept_responses(x, np.eye(3)[y], x[:7], 3, **whole)
    np.testing.assert_allclose(found.responses, wanted, atol=2e-3)


def test_softmax_and_sigmoid_agree_where_there_are_two_classes() -> None:
    """Softmax of two classes tells them apart by z₁ − z₀, which is the logit of the second class."""
    x, y = blobs(40, classes=2, noise=1.0)
    whole = {"group": np.zeros(40), "seed": 0, "learning_rates": [0.5], "epochs": 250, "batch_size": 40}
    found = swept_responses(x, y, x[:7], 2, **whole).responses
    np.testing.assert_allclose(found[:, 1] - found[:, 0], newton(x, (y == 1).astype(float), x[:7]), atol=2e-3)


def by_autograd(x: np.ndarray, y: np.ndarray, test: np.ndarray, rate: float, epochs: int, batch: int) -> np.ndarray:
    """The same training with torch's own layer, loss and gradients."""
    x_, z_ = (torch.tensor(part, dtype=torch.float32) for part in standardised(x, test))
    single = y.ndim == 1
    y_ = torch.tensor(y) if single else torch.tensor(y, dtype=torch.float32)
    layer = torch.nn.Linear(x.shape[1], 3)
    speeds = [torch.zeros_like(weight) for weight in layer.parameters()]
    for weight in layer.parameters():
        torch.nn.init.zeros_(weight)
    steps, step = epochs * -(-len(x) // batch), 0
    generator = torch.Generator().manual_seed(5)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            logits = layer(x_[rows])
            if single:
                loss = torch.nn.functional.cross_entropy(logits, y_[rows])
            else:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y_[rows], reduction="sum")
                loss = loss / len(rows)
            gradients = torch.autograd.grad(loss, list(layer.parameters()))
            with torch.no_grad():
                for weight, speed, gradient in zip(layer.parameters(), speeds, gradients, strict=True):
                    speed.mul_(0.9).add_(gradient)
                    weight.sub_(rate * (1 + np.cos(np.pi * step / steps)) / 2 * speed)
            step += 1
    with torch.no_grad():
        return layer(z_).numpy()


@pytest.mark.parametrize("several", [False, True])
def test_training_is_that_of_torch_step_by_step(several: bool) -> None:
    x, y = blobs(25)
    labels = np.minimum(1, np.eye(3)[y] + np.eye(3)[np.arange(25) // 9]) if several else y
    found = swept_responses(
        x, labels, x[:6], 3, group=np.zeros(25), seed=5, learning_rates=[0.03], epochs=4, batch_size=10
    )
    np.testing.assert_allclose(found.responses, by_autograd(x, labels, x[:6], 0.03, 4, 10), atol=1e-5)


def test_the_rate_is_chosen_on_places_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place has labels of its own making: rates that learn them by heart fail on other places."""
    x, y = blobs(60)
    group = np.arange(60) // 3
    taught: list[tuple[int, int, int]] = []
    descended = classifiers._descended

    def watched(x: Any, y: Any, test: Any, **options: Any) -> Any:
        taught.append((len(x), len(test), len(options["rates"])))
        return descended(x, y, test, **options)

    monkeypatch.setattr(classifiers, "_descended", watched)
    found = swept_responses(x, y, x[:5], 3, group=group, seed=0, learning_rates=(1e-9, 0.1), epochs=20)
    assert taught == [(48, 12, 2), (60, 5, 1)]  # four of twenty places held out, then all rows teach
    assert found.tried == (1e-9, 0.1)
    assert found.learning_rate == found.tried[int(np.argmax(found.held_out))]
    held = classifiers._held_out(group, 0)
    assert {int(held[group == place].sum()) for place in range(20)} == {0, 3}
    assert (classifiers._held_out(group, 1) != held).any()


@pytest.mark.parametrize("several", [False, True])
def test_a_rate_that_teaches_beats_one_that_does_not(several: bool) -> None:
    x, y = blobs(90, noise=0.3)
    labels = np.eye(3)[y] if several else y
    found = swept_responses(
        x[::2], labels[::2], x[1::2], 3, group=np.arange(45), seed=0, learning_rates=(1e6, 0.03), epochs=20
    )
    assert found.learning_rate == 0.03 or found.held_out[0] == found.held_out[1]
    assert np.mean(found.responses.argmax(axis=1) == y[1::2]) > 0.95
    assert all(0 <= score <= 1 for score in found.held_out)


def test_of_equal_rates_the_first_is_taken() -> None:
    x, y = blobs(60, noise=0.1)
    found = swept_responses(x, y, x, 3, group=np.arange(60), seed=0, learning_rates=(0.01, 0.03, 0.1), epochs=20)
    assert (found.learning_rate, found.held_out) == (0.01, (1.0, 1.0, 1.0))


def test_several_classes_are_judged_by_mean_average_precision() -> None:
    x, y = blobs(40, noise=1.5)
    labels = np.column_stack([y == 0, y != 0, np.zeros(40, bool)])  # the last class does not occur
    group = np.arange(40)
    found = swept_responses(x, labels, x[:3], 3, group=group, seed=2, learning_rates=[0.01], epochs=8)
    held = classifiers._held_out(group, 2)
    again = swept_responses(
        x[~held], labels[~held], x[held], 3, group=np.zeros(32), seed=2, learning_rates=[0.01], epochs=8
    )
    by_class = [average_precision(again.responses[:, c], labels[held, c])[0] for c in range(2)]
    assert found.held_out == (pytest.approx(np.mean(by_class)),)


def test_the_same_seed_gives_the_same_layer_whatever_the_threads() -> None:
    x, y = blobs(50)
    arguments = {"group": np.arange(50), "epochs": 5, "batch_size": 16}
    one = swept_responses(x, y, x, 3, seed=3, **arguments)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        torch.rand(1)
        two = swept_responses(x, y, x, 3, seed=3, **arguments)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    np.testing.assert_array_equal(one.responses, two.responses)
    assert (swept_responses(x, y, x, 3, seed=4, **arguments).responses != one.responses).any()


def test_rates_are_trained_at_the_same_time_as_if_alone() -> None:
    x, y = blobs(40)
    shared = {"group": np.zeros(40), "seed": 0, "epochs": 3, "batch_size": 16}
    together = swept_responses(x, y, x, 3, learning_rates=(0.001, 0.01, 0.1), **shared)
    alone = [swept_responses(x, y, x, 3, learning_rates=[rate], **shared) for rate in (0.001, 0.01, 0.1)]
    assert together.held_out == tuple(one.held_out[0] for one in alone)
    chosen = alone[together.tried.index(together.learning_rate)]
    np.testing.assert_allclose(together.responses, chosen.responses, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- together


def test_classes_apart_are_told_apart() -> None:
    x, y = blobs(60, noise=0.2)
    names = np.array([4, 7, 9])[y]
    assert knn_accuracy(x[::2], names[::2], x[1::2], names[1::2], k=5) > 0.95
    assert linear_probe(x[::2], names[::2], x[1::2], names[1::2]) > 0.95
    assert knn_accuracy(x[::2], names[::2], x[1::2], names[1::2] + 100, k=5) == 0


def test_a_class_that_no_train_row_has_is_never_told() -> None:
    x, y = blobs(30)
    for responses in (
        knn_votes(x, y, x, 5),
        ridge_responses(x, np.eye(5)[y], x),
        swept_responses(x, y, x, 5, group=np.arange(30), seed=0, epochs=3).responses,
    ):
        assert responses.shape == (30, 5)
        assert responses.argmax(axis=1).max() <= 2


def test_rows_of_length_one_and_standardised_features() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert unit(x).tolist() == [[0.6, 0.8], [0.0, 0.0]]
    a, b = standardised(np.array([[1.0, 0.1], [3.0, 0.1], [5.0, 0.1]]), np.array([[5.0, 9.0]]))
    assert a.mean(axis=0) == pytest.approx([0, 0])
    assert a.std(axis=0) == pytest.approx([1, 0])
    assert b[0] == pytest.approx([2 / np.sqrt(8 / 3), 0.0])


def learners(train_x: Any, train_y: Any, test_x: Any) -> dict[str, Any]:
    group = np.arange(len(train_y))
    return {
        "knn": lambda: knn_votes(train_x, train_y, test_x, 3),
        "ridge": lambda: ridge_responses(train_x, np.asarray(train_y)[:, None], test_x),
        "swept": lambda: swept_responses(train_x, train_y, test_x, 3, group=group, seed=0, epochs=1),
    }


@pytest.mark.parametrize("learner", ["knn", "ridge", "swept"])
@pytest.mark.parametrize(
    ("shapes", "broken", "message"),
    [
        ((4, 5, 2), None, "4 rows of features for 5 labels; expected one or more of each"),
        ((0, 0, 2), None, "0 rows of features for 0 labels"),
        ((4, 4, 2), "train", "features of 1 of 4 train rows are not finite; the encoder or its statistics"),
        ((4, 4, 2), "test", "features of 1 of 2 test rows are not finite"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(
    learner: str, shapes: tuple[int, int, int], broken: str | None, message: str
) -> None:
    n, labels, m = shapes
    sides = {"train": np.ones((n, 2)), "test": np.ones((m, 2))}
    if broken is not None:
        sides[broken][1] = np.nan
    with pytest.raises(TrainingError, match=message):
        learners(sides["train"], np.zeros(labels, int), sides["test"])[learner]()


@pytest.mark.parametrize("learner", ["knn", "ridge", "swept"])
def test_features_of_other_widths_are_refused(learner: str) -> None:
    with pytest.raises(TrainingError, match="features of 2 and 3 numbers; expected one encoder"):
        learners(np.ones((4, 2)), np.zeros(4, int), np.ones((4, 3)))[learner]()


@pytest.mark.parametrize("learner", ["knn", "swept"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "classes from 0 to 3, expected 0 to 2"),
        ([-1, 1], "classes from -1 to 1, expected 0 to 2"),
        ([[0, 1], [1, 1]], "labels of 2 classes, expected 3"),
    ],
)
def test_labels_that_are_no_classes_are_refused(learner: str, labels: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        learners(np.ones((2, 2)), np.array(labels), np.ones((1, 2)))[learner]()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": np.arange(3)}, "3 places for 4 train rows"),
        ({"group": np.arange(4), "learning_rates": ()}, "no learning rate to try"),
    ],
)
def test_sweeps_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        swept_responses(np.ones((4, 2)), np.zeros(4, int), np.ones((1, 2)), 2, seed=0, **options)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_a_ridge_that_does_not_hold_is_refused(alpha: float) -> None:
    with pytest.raises(TrainingError, match=r"a ridge of .*, expected a number above 0"):
        ridge_responses(np.ones((2, 2)), np.eye(2), np.ones((1, 2)), alpha=alpha)
