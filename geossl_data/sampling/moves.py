"""Which places may move without coming too near to others: the splits of a dataset stay as far apart as they were."""

import numpy as np
from numpy.typing import NDArray

from geossl_data.sampling.nearest import Tree
from geossl_data.sampling.spread import chord, neighbours, pairs

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Names = NDArray[np.str_]


def may_move(
    drawn: FloatArray, now: FloatArray, then: FloatArray, wants: BoolArray, split: Names, *, least_km: float
) -> BoolArray:
    """Which of n places may move at once, shape (n,).

    drawn: where they were drawn, now: where they are, then: where those that want to move would be; unit vectors, shape
    (n, 3). least_km: no place moves nearer to another than this, nor nearer than the nearest two were drawn, nor nearer
    to one of another split than the nearest two of different splits were. Of two that clash the later stays.
    """
    goes = wants.copy()
    if len(goes) < 2:
        return goes
    least_km = max(least_km, float(Tree(drawn).nearest(drawn, own=np.arange(len(drawn))).min()))
    rows_of = [np.flatnonzero(split == name) for name in np.unique(split)]
    others_of = [np.setdiff1d(np.arange(len(split)), rows) for rows in rows_of]
    between_km = [
        Tree(drawn[others]).least(drawn[rows]) for rows, others in zip(rows_of, others_of, strict=True) if len(others)
    ]
    across_km = max(least_km, min(between_km, default=0.0))
    while True:
        points = np.where(goes[:, None], then, now)
        near = [pairs(points, chord(least_km))]
        for rows, others in zip(rows_of, others_of, strict=True):
            i, j = neighbours(points[rows], points[others], chord(across_km))
            near.append((rows[i], others[j]))
        i, j = (np.concatenate(ends) for ends in zip(*near, strict=True))
        clash = goes[i] | goes[j]
        if not clash.any():
            return goes
        first, later = np.minimum(i, j)[clash], np.maximum(i, j)[clash]
        goes[np.where(goes[later], later, first)] = False
