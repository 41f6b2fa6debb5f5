"""Simple learners on features: votes of neighbours, a ridge in closed form, a linear layer with the rate swept.

All give a response for each test row and class; the class told is the one with the largest, of equal ones the first.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.evaluation.metrics import average_precision, mean_of_defined

Features = NDArray[np.floating[Any]]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Labels = NDArray[Any]
"""Classes (n,) as positions 0 to C − 1, or which classes a row has, (n, C) of 0 and 1."""

TEMPERATURE = 0.07
"""Of the weighted vote among neighbours (Wu et al. 2018, section 3.4)."""
LEARNING_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Of the swept linear layer: half decades, since the best one differs by orders of magnitude between encoders."""
MOMENTUM = 0.9
HELD_OUT = 0.2
"""Share of the train places that the learning rate is chosen on."""
BLOCK = 2**23
"""Similarities that are held at a time."""


def knn_votes(
    train_x: Features,
    train_y: Labels,
    test_x: Features,
    n_classes: int,
    *,
    k: int = 20,
    temperature: float = TEMPERATURE,
) -> FloatArray:
    """The share of the votes of the k most similar train rows that each class gets, shape (m, C), in [0, 1].

    train_x, test_x: features (n, d), (m, d); train_y: classes (n,), or (n, C) of 0 and 1, where a neighbour votes for
    each of its classes; rows of the result then need not sum to 1. Of any other numbers (n, C) it is the neighbours'
    weighted mean. Similarity is the cosine; a vote weighs exp(similarity / temperature) (Wu et al. 2018, section 3.4).
    All train rows vote where there are fewer than k. Equal similarity: the earlier row.
    """
    targets = _targets(train_y, n_classes)
    _expect_rows(train_x, targets, test_x)
    train, test = unit(train_x), unit(test_x)
    k = min(k, len(train))
    votes = np.zeros((len(test), n_classes))
    step = max(1, BLOCK // len(train))
    for start in range(0, len(test), step):
        part = slice(start, start + step)
        similarity, nearest = _nearest(test[part] @ train.T, k)
        # As a share of the largest no vote of the nearest underflows.
        weight = np.exp((similarity - similarity[:, :1]) / temperature)
        # One rank after the other, so that classes with the same votes come out exactly equal.
        for rank in range(k):
            votes[part] += weight[:, rank, None] * targets[nearest[:, rank]]
        votes[part] /= weight.sum(axis=1, keepdims=True)
    return votes


def _nearest(similarity: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """The k largest of each row, largest first, of equal ones the earlier column: values and columns, (m, k)."""
    least = np.partition(similarity, similarity.shape[1] - k, axis=1)[:, -k:].min(axis=1, keepdims=True)
    larger, equal = similarity > least, similarity == least
    room = k - larger.sum(axis=1, keepdims=True)
    chosen = larger | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room))
    columns = np.nonzero(chosen)[1].reshape(-1, k)
    values = np.take_along_axis(similarity, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


def ridge_responses(train_x: Features, targets: NDArray[Any], test_x: Features, *, alpha: float = 1.0) -> FloatArray:
    """Responses of a ridge regression, shape (m, C); exact, with no learning rate to tune.

    targets: any numbers, (n, C): one-hot or multi-hot classes, unit vectors. Features are standardised by the train
    rows (a constant feature counts nothing) and W minimises mean ‖y − ȳ − x W‖² + alpha ‖W‖², so that alpha means the
    same for any number of rows. With as many rows as features or more (XᵀX / n + alpha I) W = Xᵀ(Y − Ȳ) / n is solved,
    with fewer W = Xᵀ V of (XXᵀ / n + alpha I) V = (Y − Ȳ) / n, which is the same (Saunders et al. 1998).
    """
    if not alpha > 0:
        raise TrainingError(f"a ridge of {alpha}, expected a number above 0")
    y = np.asarray(targets, dtype=np.float64)
    _expect_rows(train_x, y, test_x)
    x, test = standardised(train_x, test_x)
    n, d = x.shape
    centre = y.mean(axis=0)
    if n >= d:
        weights = np.linalg.solve(x.T @ x / n + alpha * np.eye(d), x.T @ (y - centre) / n)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T / n + alpha * np.eye(n), (y - centre) / n)
    return test @ weights + centre  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Swept:
    """What a linear layer answers that was trained with the best of several learning rates."""

    responses: FloatArray
    """Logits of the test rows, (m, C)."""
    learning_rate: float
    """The one chosen."""
    tried: tuple[float, ...]
    held_out: tuple[float, ...]
    """Accuracy (mean average precision where rows have several classes) of each on the held-out places."""


def swept_responses(
    train_x: Features,
    train_y: Labels,
    test_x: Features,
    n_classes: int,
    *,
    group: IntArray,
    seed: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    epochs: int = 100,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
) -> Swept:
    """Logits of a linear layer trained by gradient descent, its learning rate chosen on held-out train places.

    train_y: classes (n,), told apart by softmax cross-entropy, or (n, C) of 0 and 1, each class by a sigmoid of its
    own. group: place of each train row, (n,); a fifth of the places, drawn by `seed`, is held out while all rates are
    tried at the same time. The best one (of equal ones the first) is then trained on all rows. Where there is only one
    place, the rows that teach also choose.

    Standardised features, weights from zero, stochastic gradient descent with momentum 0.9 and a cosine down to zero;
    no weight decay: a small rate regularises. The same seed gives the same result.
    """
    targets = _targets(train_y, n_classes)
    _expect_rows(train_x, targets, test_x)
    if len(group) != len(targets):
        raise TrainingError(f"{len(group)} places for {len(targets)} train rows; give each row its place")
    if not learning_rates:
        raise TrainingError("no learning rate to try; give at least one")
    single = np.ndim(train_y) == 1
    device = torch.device(device)

    def trained(teach: NDArray[Any], test: Features, rates: Sequence[float]) -> FloatArray:
        x, z = standardised(train_x[teach], test)
        with _one_thread():
            return _descended(
                *(torch.as_tensor(array, dtype=torch.float32, device=device) for array in (x, targets[teach], z)),
                rates=torch.tensor(rates, dtype=torch.float32, device=device),
                single=single,
                epochs=epochs,
                batch_size=batch_size,
                generator=torch.Generator().manual_seed(seed),
            )

    held = _held_out(group, seed)
    rest = ~held if held.any() else held | True
    held = held if held.any() else rest
    tried = trained(rest, train_x[held], learning_rates)
    scores = [_score(responses, targets[held], single) for responses in tried]
    best = learning_rates[int(np.argmax(np.nan_to_num(scores)))]
    return Swept(
        responses=trained(np.ones(len(targets), dtype=bool), test_x, [best])[0],
        learning_rate=best,
        tried=tuple(learning_rates),
        held_out=tuple(scores),
    )


def _descended(
    x: Tensor,
    y: Tensor,
    test: Tensor,
    *,
    rates: Tensor,
    single: bool,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
) -> FloatArray:
    """Logits of the test rows by a linear layer for each rate, (L, m, C).

    The gradient of both losses by the logits is (p − y) / B with p the softmax, or the sigmoids (Bishop 2006,
    equations 4.91 and 4.109), so all layers are one product: no graph is needed.
    """
    x, test = (torch.cat([part, part.new_ones(len(part), 1)], dim=1) for part in (x, test))  # the last weight: bias
    n, n_rates, n_classes = len(x), len(rates), y.shape[1]
    weights = x.new_zeros(n_rates * n_classes, x.shape[1])
    speed = torch.zeros_like(weights)
    rate = rates.repeat_interleave(n_classes)[:, None]
    truth = y.T.contiguous()
    starts = range(0, n, batch_size)
    steps = epochs * len(starts)
    for epoch in range(epochs):
        order = torch.randperm(n, generator=generator).to(x.device)
        for position, start in enumerate(starts, epoch * len(starts)):
            batch = order[start : start + batch_size]
            rows = x.index_select(0, batch)  # (B, d + 1)
            logits = (weights @ rows.T).view(n_rates, n_classes, -1)
            told = logits.softmax(dim=1) if single else logits.sigmoid()
            slope = told.sub_(truth.index_select(1, batch)).div_(len(batch)).view(n_rates * n_classes, -1)
            speed.mul_(MOMENTUM).addmm_(slope, rows)
            weights.addcmul_(speed, rate, value=-(1 + math.cos(math.pi * position / steps)) / 2)
    logits = (weights @ test.T).view(n_rates, n_classes, -1)
    return logits.transpose(1, 2).double().cpu().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small products gain nothing from threads, and lose much by their waiting on a machine that does more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _held_out(group: IntArray, seed: int) -> NDArray[np.bool_]:
    """Which rows lie on the held-out fifth of the places, at least one; none where there is only one place."""
    places = np.unique(group)
    n = max(1, round(HELD_OUT * len(places))) if len(places) > 1 else 0
    chosen = np.random.default_rng(seed).permutation(places)[:n]
    return np.isin(group, chosen)


def _score(responses: FloatArray, targets: FloatArray, single: bool) -> float:
    if single:
        return float(np.mean(responses.argmax(axis=1) == targets.argmax(axis=1)))
    by_class = [average_precision(responses[:, c], targets[:, c] > 0) for c in range(targets.shape[1])]
    return float(mean_of_defined(np.concatenate(by_class)))


def knn_accuracy(
    train_x: Features,
    train_y: IntArray,
    test_x: Features,
    test_y: IntArray,
    *,
    k: int = 20,
    temperature: float = TEMPERATURE,
) -> float:
    """Share of test rows that their nearest train rows classify right, in [0, 1]; see `knn_votes`.

    train_x, test_x: features (n, d), (m, d); train_y, test_y: any whole numbers as classes, (n,), (m,).
    """
    classes, position = np.unique(train_y, return_inverse=True)
    votes = knn_votes(train_x, position, test_x, len(classes), k=k, temperature=temperature)
    return float(np.mean(classes[votes.argmax(axis=1)] == test_y))


def linear_probe(
    train_x: Features, train_y: IntArray, test_x: Features, test_y: IntArray, *, alpha: float = 1.0
) -> float:
    """Share of test rows that a ridge regression classifies right, in [0, 1]; see `ridge_responses`.

    train_x, test_x: features (n, d), (m, d); train_y, test_y: any whole numbers as classes, (n,), (m,).
    """
    classes, position = np.unique(train_y, return_inverse=True)
    responses = ridge_responses(train_x, np.eye(len(classes))[position], test_x, alpha=alpha)
    return float(np.mean(classes[responses.argmax(axis=1)] == test_y))


def unit(x: Features) -> FloatArray:
    """Rows of length 1, float64; a row of zeros stays as it is."""
    x64 = np.asarray(x, dtype=np.float64)
    norm = np.linalg.norm(x64, axis=1, keepdims=True)
    return x64 / np.where(norm > 0, norm, 1.0)


def standardised(train_x: Features, test_x: Features) -> tuple[FloatArray, FloatArray]:
    """Both with mean 0 and deviation 1 of each feature over the train rows, float64; a constant feature becomes 0."""
    x = np.asarray(train_x, dtype=np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    # Rounding gives a constant feature a deviation that is tiny, not zero.
    scale = np.where(std > 1e-9 * (1.0 + np.abs(mean)), 1.0 / np.where(std > 0, std, 1.0), 0.0)
    return (x - mean) * scale, (np.asarray(test_x, dtype=np.float64) - mean) * scale


def _targets(train_y: Labels, n_classes: int) -> FloatArray:
    """One row of 0 and 1 for each train row, (n, C)."""
    labels = np.asarray(train_y)
    if labels.ndim == 2:
        if labels.shape[1] != n_classes:
            raise TrainingError(f"labels of {labels.shape[1]} classes, expected {n_classes}")
        return labels.astype(np.float64)
    if len(labels) and not (labels.min() >= 0 and labels.max() < n_classes):
        raise TrainingError(f"classes from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1}")
    found: FloatArray = np.eye(n_classes)[labels]
    return found


def _expect_rows(train_x: Features, targets: FloatArray, test_x: Features) -> None:
    """Raise TrainingError where a learner would have nothing to learn from, or numbers that are none."""
    if len(train_x) != len(targets) or not len(targets):
        raise TrainingError(f"{len(train_x)} rows of features for {len(targets)} labels; expected one or more of each")
    if train_x.shape[1] != test_x.shape[1]:
        raise TrainingError(f"features of {train_x.shape[1]} and {test_x.shape[1]} numbers; expected one encoder")
    for what, rows in (("train", train_x), ("test", test_x)):
        broken = int((~np.isfinite(rows)).any(axis=1).sum())
        if broken:
            raise TrainingError(
                f"features of {broken} of {len(rows)} {what} rows are not finite; the encoder or its statistics "
                "do not fit these images"
            )
