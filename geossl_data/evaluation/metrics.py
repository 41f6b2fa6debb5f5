"""What predictions are worth, as functions of how often each judged place counts.

A bootstrap draws places with replacement. A metric that takes the times each place was drawn gives all replicates at
once, and the same draw given to two metrics pairs them. A row that counts twice is worth as much as the row given
twice, in every metric here. A value that is not defined (no place that counts, a class that does not occur) is NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

IGNORED = 255
"""In a class map: the class of this pixel is not known."""
BLOCK = 2**18
"""Pixels, or weights of rows, that are held at a time."""


class Metric(Protocol):
    """A number about judged places."""

    @property
    def name(self) -> str:
        """As shown: `accuracy`, `mIoU`, `recall@1`, `median km`."""

    @property
    def groups(self) -> int:
        """Judged places, g; they are drawn as a whole."""

    def __call__(self, weights: FloatArray) -> FloatArray:
        """The value for each row of `weights`, shape (R,); NaN where it is not defined.

        weights: how often each place counts, shape (R, g), all >= 0.
        """


# ------------------------------------------------------------------------------------- shares of rows that were right


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """Σ w·hits / Σ w·counts: a share of rows, such as accuracy or recall@k, or a mean, such as the error in km."""

    name: str
    hits: FloatArray
    """Sum over the rows of each place, (g,)."""
    counts: FloatArray
    """Rows of each place, (g,)."""

    def __post_init__(self) -> None:
        _same_shape(self.name, hits=self.hits, counts=self.counts)

    @property
    def groups(self) -> int:
        return len(self.hits)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return _ratio(weights @ self.hits, weights @ self.counts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassShare:
    """Mean over the classes that count of Σ w·hits / Σ w·counts of the class, such as balanced accuracy."""

    name: str
    hits: FloatArray
    """Sum over the rows of each place and class, (g, C)."""
    counts: FloatArray
    """Rows of each place and class, (g, C)."""

    def __post_init__(self) -> None:
        _same_shape(self.name, hits=self.hits, counts=self.counts)

    @property
    def groups(self) -> int:
        return len(self.hits)

    def __call__(self, weights: FloatArray) -> FloatArray:
        return mean_of_defined(_ratio(weights @ self.hits, weights @ self.counts))


# ---------------------------------------------------------------------------------------------------------- class maps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlap:
    """Intersection over union: pixels of a class that were found / pixels that are it or were taken for it.

    tp / (tp + fp + fn) of the pixels of all places together (Everingham et al. 2015), not the mean of places.
    """

    name: str
    confusion: FloatArray
    """Pixels of each place by truth (rows) and prediction (columns), (g, C, C)."""
    of: int | None = None
    """The class; None: the mean over all classes that occur in the truth (mIoU)."""

    def __post_init__(self) -> None:
        _square(self.name, self.confusion)

    @property
    def groups(self) -> int:
        return len(self.confusion)

    def __call__(self, weights: FloatArray) -> FloatArray:
        classes = slice(None) if self.of is None else slice(self.of, self.of + 1)
        found = weights @ np.diagonal(self.confusion, axis1=1, axis2=2)[:, classes]  # (R, C)
        truth = weights @ self.confusion.sum(axis=2)[:, classes]
        predicted = weights @ self.confusion.sum(axis=1)[:, classes]
        overlap = _ratio(found, truth + predicted - found)
        if self.of is not None:
            return overlap[:, 0]
        return mean_of_defined(np.where(truth > 0, overlap, np.nan))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """How well the second of two classes is found.

    precision tp / (tp + fp), NaN where nothing was detected; recall tp / (tp + fn), NaN where there is nothing to
    detect; F1 2 tp / (2 tp + fp + fn), their harmonic mean, NaN where both.
    """

    name: str
    kind: Literal["precision", "recall", "F1"]
    confusion: FloatArray
    """Rows or pixels of each place by truth (rows) and prediction (columns), (g, 2, 2)."""

    def __post_init__(self) -> None:
        _square(self.name, self.confusion)
        if self.confusion.shape[1] != 2:
            raise TrainingError(f"{self.name}: confusions of {self.confusion.shape[1]} classes, detection expects 2")

    @property
    def groups(self) -> int:
        return len(self.confusion)

    def __call__(self, weights: FloatArray) -> FloatArray:
        found, taken, missed = (weights @ self.confusion[:, truth, told] for truth, told in ((1, 1), (0, 1), (1, 0)))
        if self.kind == "precision":
            return _ratio(found, found + taken)
        if self.kind == "recall":
            return _ratio(found, found + missed)
        return _ratio(2 * found, 2 * found + taken + missed)


def confusions(
    predicted: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    group: IntArray,
    groups: int,
    classes: int,
    ignore: int = IGNORED,
) -> FloatArray:
    """Pixels of each place by truth (rows) and prediction (columns), shape (groups, classes, classes).

    predicted, truth: class maps (n, H, W) uint8, positions below `classes`; group: the place of each map, (n,). Pixels
    whose truth is `ignore` count nothing, whatever was predicted. Raises TrainingError for other values.
    """
    _same_shape("confusions", predicted=predicted, truth=truth)
    bins = np.full((256, 256), classes**2, dtype=np.intp)  # of truth and prediction; one more bin for what cannot be
    bins[:classes, :classes] = np.arange(classes**2).reshape(classes, classes)
    bins[ignore] = classes**2 + 1
    n_bins = classes**2 + 2
    found = np.zeros((groups, n_bins))
    step = max(1, BLOCK // max(1, predicted[:1].size))
    for start in range(0, len(truth), step):
        part = slice(start, start + step)
        joint = (truth[part].astype(np.uint16) << 8 | predicted[part]).reshape(len(truth[part]), -1)
        places, position = np.unique(group[part], return_inverse=True)
        bin_of = bins.ravel()[joint] + position[:, None] * n_bins
        found[places] += np.bincount(bin_of.ravel(), minlength=len(places) * n_bins).reshape(-1, n_bins)
    strange = int(found[:, classes**2].sum())
    if strange:
        raise TrainingError(
            f"{strange} pixels of class maps have a class of {classes} or above, or were predicted so; expected "
            f"0 to {classes - 1}, and {ignore} where the truth is not known"
        )
    return found[:, : classes**2].reshape(groups, classes, classes)


# ------------------------------------------------------------------------------------------------------------ rankings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanPrecision:
    """Mean over the classes that have positives of the average precision of their scores (mAP, macro)."""

    name: str
    scores: FloatArray
    """Larger: rather of the class; (n, C)."""
    truth: BoolArray
    """(n, C)"""
    group: IntArray
    """Place of each row, (n,), from 0 on without gaps."""

    def __post_init__(self) -> None:
        _same_shape(self.name, scores=self.scores, truth=self.truth)
        _same_shape(self.name, group=self.group, rows=self.scores[:, 0] if self.scores.shape[1] else self.group)

    @property
    def groups(self) -> int:
        return _groups(self.group)

    def __call__(self, weights: FloatArray) -> FloatArray:
        found = np.full((len(weights), self.scores.shape[1]), np.nan)
        for part, rows in _of_rows(weights, self.group):
            for column in range(self.scores.shape[1]):
                found[part, column] = average_precision(self.scores[:, column], self.truth[:, column], rows)
        return mean_of_defined(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedPrecision:
    """Average precision of one ranking; NaN where nothing is relevant."""

    name: str
    scores: FloatArray
    """Larger: earlier in the ranking; (n,)."""
    truth: BoolArray
    """Whether a row is relevant, (n,)."""
    group: IntArray
    """Place of each row, (n,), from 0 on without gaps."""

    def __post_init__(self) -> None:
        _same_shape(self.name, scores=self.scores, truth=self.truth, group=self.group)

    @property
    def groups(self) -> int:
        return _groups(self.group)

    def __call__(self, weights: FloatArray) -> FloatArray:
        found = np.empty(len(weights))
        for part, rows in _of_rows(weights, self.group):
            found[part] = average_precision(self.scores, self.truth, rows)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstPrecision:
    """Share of relevant rows among the first of one ranking (precision at k), or among as many as are relevant.

    Rows of equal score share the places of the ranking that are left for them, as if in random order. Where there are
    fewer rows than asked for, all of them are the first.
    """

    name: str
    scores: FloatArray
    """Larger: earlier in the ranking; (n,)."""
    truth: BoolArray
    """Whether a row is relevant, (n,)."""
    group: IntArray
    """Place of each row, (n,), from 0 on without gaps."""
    first: int | None = None
    """Rows, k; None: as many as are relevant (R-precision)."""

    def __post_init__(self) -> None:
        _same_shape(self.name, scores=self.scores, truth=self.truth, group=self.group)

    @property
    def groups(self) -> int:
        return _groups(self.group)

    def __call__(self, weights: FloatArray) -> FloatArray:
        order = np.argsort(-self.scores, kind="stable")
        starts = np.flatnonzero(np.diff(self.scores[order], prepend=np.nan) != 0)  # of rows of equal score
        found = np.full(len(weights), np.nan)
        if not len(order):
            return found
        for part, rows in _of_rows(weights, self.group[order]):
            width = np.add.reduceat(rows, starts, axis=1)
            hits = np.add.reduceat(rows * self.truth[order], starts, axis=1)
            relevant = hits.sum(axis=1)
            wanted = relevant if self.first is None else np.full(len(rows), float(self.first))
            taken = np.clip(wanted[:, None] - (np.cumsum(width, axis=1) - width), 0.0, width)
            share = np.nan_to_num(_ratio(hits, width))
            found[part] = np.where(relevant > 0, _ratio((taken * share).sum(axis=1), taken.sum(axis=1)), np.nan)
        return found


def average_precision(scores: FloatArray, truth: BoolArray, weights: FloatArray | None = None) -> FloatArray:
    """Σ over thresholds of (recall − recall before) · precision, for each row of `weights`, shape (R,).

    scores, truth: (n,); weights: how often each row counts, (R, n), left out: once. The thresholds are the scores that
    occur, largest first, so that rows of equal score come in together and their order says nothing; not interpolated
    (Manning et al. 2008, section 8.4). NaN where no row that counts is true.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    true = np.flatnonzero(truth[order])
    end = np.searchsorted(ranked, ranked[true], side="right") - 1  # last row at the threshold of each true one
    last_true = np.searchsorted(true, end, side="right") - 1
    weights = weights[:, order]
    of_true = weights[:, true]  # (R, p)
    found = np.cumsum(of_true, axis=1)[:, last_true]
    precision = np.nan_to_num(_ratio(found, np.cumsum(weights, axis=1)[:, end]))
    return _ratio((of_true * precision).sum(axis=1), of_true.sum(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Median:
    """Median over the rows, such as that of the error in km; the mean of both middle ones of an even number."""

    name: str
    values: FloatArray
    """(n,)"""
    group: IntArray
    """Place of each row, (n,), from 0 on without gaps."""

    def __post_init__(self) -> None:
        _same_shape(self.name, values=self.values, group=self.group)

    @property
    def groups(self) -> int:
        return _groups(self.group)

    def __call__(self, weights: FloatArray) -> FloatArray:
        order = np.argsort(self.values, kind="stable")
        ranked = np.append(self.values[order], np.nan)
        found = np.empty(len(weights))
        for part, rows in _of_rows(weights, self.group[order]):
            below = np.cumsum(rows, axis=1)
            half = below[:, -1:] / 2 if len(order) else np.zeros((len(rows), 1))
            lower, upper = (below < half).sum(axis=1), (below <= half).sum(axis=1)
            found[part] = (ranked[lower] + ranked[upper]) / 2
        return found


# ----------------------------------------------------------------------------------------------- metrics of predictions


def groups_of(place: NDArray[Any]) -> tuple[IntArray, int]:
    """The position of each row's place among the places in order of their value, shape (n,), and their number."""
    places, position = np.unique(place, return_inverse=True)
    return position.astype(np.int64), len(places)


def accuracy_of(predicted: IntArray, truth: IntArray, group: IntArray, groups: int) -> Share:
    """Share of rows whose class was told right; predicted, truth: classes (n,); group: place of each row, (n,)."""
    _same_shape("accuracy", predicted=predicted, truth=truth, group=group)
    right = (predicted == truth).astype(np.float64)
    return Share(name="accuracy", hits=_sums(group, right, groups), counts=_sums(group, np.ones(len(group)), groups))


def balanced_of(predicted: IntArray, truth: IntArray, group: IntArray, groups: int) -> ClassShare:
    """Mean over the classes of the share of their rows that were told right; as `accuracy_of`, classes >= 0."""
    _same_shape("balanced accuracy", predicted=predicted, truth=truth, group=group)
    classes = _groups(truth)
    cell = group * classes + truth
    right = (predicted == truth).astype(np.float64)
    hits, counts = (_sums(cell, values, groups * classes) for values in (right, np.ones(len(cell))))
    shape = (groups, classes)
    return ClassShare(name="balanced accuracy", hits=hits.reshape(shape), counts=counts.reshape(shape))


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


# -------------------------------------------------------------------------------------------------------------- helpers


def _sums(cell: IntArray, values: FloatArray, cells: int) -> FloatArray:
    """Sum of the values in each cell, (cells,)."""
    return np.bincount(cell, weights=values, minlength=cells).astype(np.float64)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """above / below; NaN where below is 0."""
    found = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def _of_rows(weights: FloatArray, group: IntArray) -> Iterator[tuple[slice, FloatArray]]:
    """Weights of rows from those of places, some replicates at a time: where in (R,), and (r, n)."""
    step = max(1, BLOCK // max(1, len(group)))
    for start in range(0, len(weights), step):
        part = slice(start, min(start + step, len(weights)))
        yield part, weights[part][:, group]


def _groups(group: IntArray) -> int:
    return int(group.max(initial=-1)) + 1


def _same_shape(what: str, **arrays: NDArray[Any]) -> None:
    (first, expected), *others = ((name, array.shape) for name, array in arrays.items())
    for name, shape in others:
        if shape != expected:
            raise TrainingError(f"{what}: {name} has shape {shape}, {first} has {expected}; give one of each")


def _square(what: str, confusion: FloatArray) -> None:
    if confusion.ndim != 3 or confusion.shape[1] != confusion.shape[2]:
        raise TrainingError(f"{what}: confusions have shape {confusion.shape}, expected (places, classes, classes)")
