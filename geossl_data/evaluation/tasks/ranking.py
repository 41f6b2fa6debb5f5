"""Similarities → how well looks are found: average precision, precision and recall at k of each query.

Rows of equal similarity come in no order: what is returned is what a random one gives, so that an encoder that tells
nothing apart is as good as a guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.evaluation.classifiers import unit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Features = NDArray[np.floating[Any]]

BLOCK = 2**22
"""Similarities that are held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """Looks that are compared by the cosine of their features."""

    x: Features
    """(n, d)"""
    place: IntArray
    """Where each look is, (n,)."""


def class_rankings(
    queries: Looks, query_y: IntArray, gallery: Looks, gallery_y: IntArray, *, k: int = 10
) -> tuple[FloatArray, FloatArray]:
    """Average precision and precision at k of each query's ranking of the gallery, two arrays of shape (m,).

    query_y, gallery_y: classes (m,), (n,). A gallery look of the query's class is relevant; looks of the query's own
    place do not count at all. NaN where nothing that counts is relevant.
    """
    by_class = np.argsort(gallery_y, kind="stable")
    gallery = Looks(x=gallery.x[by_class], place=gallery.place[by_class])
    begin, end = (np.searchsorted(gallery_y[by_class], query_y, side=side) for side in ("left", "right"))
    own_place = np.isin(queries.place, gallery.place)
    precision, at_k = np.full(len(query_y), np.nan), np.full(len(query_y), np.nan)
    for row, similarity in _similarities(queries, gallery):
        relevant = slice(begin[row], end[row])
        found, others = similarity[relevant], np.delete(similarity, relevant)
        if own_place[row]:
            elsewhere = gallery.place != queries.place[row]
            found, others = found[elsewhere[relevant]], others[np.delete(elsewhere, relevant)]
        precision[row], at_k[row] = average_precision(found, others), precision_at(k, found, others)
    return precision, at_k


def recall_at(ks: Sequence[int], queries: Looks, gallery: Looks) -> FloatArray:
    """Whether a look of the query's place is among the k most similar of the gallery, (m, len(ks)), in [0, 1].

    Between 0 and 1 where equal similarities leave it to chance; NaN where the gallery has no look of the place.
    """
    found = np.full((len(queries.x), len(ks)), np.nan)
    for row, similarity in _similarities(queries, gallery):
        own = similarity[gallery.place == queries.place[row]]
        if not len(own):
            continue
        best = own.max()
        above, level = int(np.count_nonzero(similarity > best)), int(np.count_nonzero(similarity == best))
        hits = int(np.count_nonzero(own == best))
        # Drawing from those that are level without putting back: the chance that none of the first so many is a hit.
        drawn = range(min(level, max(ks)))
        missed = np.cumprod([1.0, *(max(0, level - hits - before) / (level - before) for before in drawn)])
        found[row] = [1.0 - missed[min(max(0, k - above), level)] for k in ks]
    return found


def _similarities(queries: Looks, gallery: Looks) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of each query and its cosine with every look of the gallery, (n,)."""
    # float32 halves the time of both the product and the sorting.
    x, others = (unit(looks.x).astype(np.float32) for looks in (queries, gallery))
    step = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(x), step):
        yield from enumerate(x[start : start + step] @ others.T, start)


def average_precision(relevant: Features, others: Features) -> float:
    """Mean over the relevant rows of the precision among all rows that score at least as high, in (0, 1].

    relevant, others: scores of the rows that are relevant and of those that are not. As
    `evaluation.metrics.average_precision`, for one ranking and without weights. NaN without relevant rows.
    """
    if not len(relevant):
        return np.nan
    relevant, others = np.sort(relevant), np.sort(others)
    position = np.arange(len(relevant))
    # The first of those that score the same.
    first = np.maximum.accumulate(np.where(np.append(True, relevant[1:] != relevant[:-1]), position, 0))
    good = len(relevant) - first
    bad = len(others) - np.searchsorted(others, relevant, side="left")
    return float(np.mean(good / (good + bad)))


def precision_at(k: int, relevant: Features, others: Features) -> float:
    """Share of relevant rows among the k that score highest, in [0, 1]; among all where there are fewer than k.

    relevant, others: as for `average_precision`. NaN without relevant rows.
    """
    if not len(relevant):
        return np.nan
    scores = np.concatenate([relevant, others])
    k = min(k, len(scores))
    last = np.partition(scores, len(scores) - k)[len(scores) - k]
    left = k - np.count_nonzero(scores > last)
    share = np.count_nonzero(relevant == last) / np.count_nonzero(scores == last)
    return float((np.count_nonzero(relevant > last) + left * share) / k)
