"""Which looks an encoder finds alike, and along which axes they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_QUERIES = 41
"""Key of the generator that draws queries, beside those of other parts."""


def unit(x: NDArray[np.floating]) -> FloatArray:
    """Rows of length 1, so that products are cosines; a row of zeros stays as it is."""
    rows = np.asarray(x, dtype=np.float64)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norm > 0, norm, 1.0))


def axes_of(x: FloatArray) -> tuple[FloatArray, tuple[float, float]]:
    """Rows on the two axes along which they differ most, (n, 2), and each axis' share of the whole variance, in [0, 1].

    Principal component analysis of x, (n, d), by the eigenvectors of its (n, n) inner products, since n is small. On
    each axis the row that lies farthest out has a positive coordinate. Shares are 0 where all rows are equal.
    """
    centred = x - x.mean(axis=0)
    size, rows = np.linalg.eigh(centred @ centred.T)
    size, rows = np.pad(size[::-1][:2], (0, 2))[:2], np.pad(rows[:, ::-1][:, :2], ((0, 0), (0, 2)))[:, :2]
    total = float((centred**2).sum())
    # What is left of equal rows is rounding, whose axes mean nothing.
    size = np.where(size > 1e-12 * float((x**2).sum()), size, 0.0)
    if not size[0]:
        return np.zeros((len(x), 2)), (0.0, 0.0)
    xy = rows * np.sqrt(size)
    farthest = xy[np.abs(xy).argmax(axis=0), np.arange(2)]
    return xy * np.where(farthest < 0, -1.0, 1.0), (float(size[0]) / total, float(size[1]) / total)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """The rows most like one of them, of other places, each place once."""

    query: int
    found: IntArray
    """Positions, the most alike first."""
    cosine: FloatArray
    """Of each with the query."""


def neighbours(x: FloatArray, place: IntArray, query: int, k: int = 5) -> Neighbours:
    """The `k` rows (fewer where there are fewer places) whose cosine with row `query` is largest.

    x: rows of length 1, (n, d). place: where each row is, (n,). Of equal ones the first.
    """
    cosine = x @ x[query]
    order = np.argsort(-cosine, kind="stable")
    order = order[place[order] != place[query]]
    _, first = np.unique(place[order], return_index=True)
    found = order[np.sort(first)[:k]]
    return Neighbours(query=query, found=found, cosine=cosine[found])


def queries(group: Sequence[str], place: IntArray, most: int, *, seed: int) -> list[int]:
    """At most so many rows of different places, drawn from each group in turn."""
    order = np.random.default_rng((seed, _QUERIES)).permutation(len(group)).tolist()
    _, first = np.unique(place[order], return_index=True)
    waiting: dict[str, list[int]] = {}
    for row in (order[at] for at in np.sort(first).tolist()):
        waiting.setdefault(group[row], []).append(row)
    found: list[int] = []
    while len(found) < most and any(waiting.values()):
        for name in sorted(waiting):
            if waiting[name] and len(found) < most:
                found.append(waiting[name].pop(0))
    return found


def agreement(x: FloatArray, place: IntArray, group: Sequence[str], known: BoolArray) -> tuple[float, float] | None:
    """How often the nearest row of another place is of the same group, and how often one drawn at random is.

    Over the rows of a known group, in [0, 1]; None where no two of them are of different places.
    """
    rows = np.flatnonzero(known)
    x, place = x[rows], place[rows]
    _, own = np.unique(np.asarray(group)[rows], return_inverse=True)
    hits, chances = [], []
    for row in range(len(rows)):
        elsewhere = np.flatnonzero(place != place[row])
        if len(elsewhere):
            same = own[elsewhere] == own[row]
            hits.append(bool(same[(x[elsewhere] @ x[row]).argmax()]))
            chances.append(same.mean())
    return (float(np.mean(hits)), float(np.mean(chances))) if hits else None
