"""Points on the sphere that keep a distance from each other, the earlier ones first.

Neighbours are found in a hash grid of cubes on the unit sphere, as wide as the distance, so that cell borders, the
antimeridian and the poles need no special care. All arrays of points are unit vectors, shape (n, 3).
"""

import math

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import EARTH_RADIUS_KM

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def chord(distance_km: float) -> float:
    """Length of the straight line between two points of the unit sphere that lie `distance_km` apart on the Earth."""
    return 2 * math.sin(min(distance_km / EARTH_RADIUS_KM, math.pi) / 2)


def neighbours(points: FloatArray, others: FloatArray, reach: float) -> tuple[IntArray, IntArray]:
    """Indices (i, j) of all `points[i]` and `others[j]` less than `reach` apart, a straight line on the unit sphere.

    reach: at least 2e-6 (13 m on the Earth), so that the number of a cube fits 63 bits.
    """
    order, keys = _sorted(points, reach)
    other_order, other_keys = _sorted(others, reach)
    i, j = _all_near(points[order], keys, others[other_order], other_keys, reach)
    return order[i], other_order[j]


def _all_near(
    points: FloatArray, keys: IntArray, others: FloatArray, other_keys: IntArray, reach: float
) -> tuple[IntArray, IntArray]:
    """`neighbours` of points and others that are in the order of their keys."""
    near = _Near(points, others, reach)
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            first = np.searchsorted(other_keys, keys + _step(a, b, -1), side="left")
            near.add(first, np.searchsorted(other_keys, keys + _step(a, b, 1), side="right"))
    return near.found()


def pairs(points: FloatArray, reach: float) -> tuple[IntArray, IntArray]:
    """Indices (i, j), i < j, of all points less than `reach` apart, each pair once; `reach` as for `neighbours`."""
    order, keys = _sorted(points, reach)
    points = points[order]
    near = _Near(points, points, reach)
    near.add(np.arange(1, len(keys) + 1), np.searchsorted(keys, keys + _step(0, 0, 1), side="right"))
    # Half of the neighbouring cubes: the other half are the same pairs, seen from the other side.
    for a, b in ((0, 1), (1, -1), (1, 0), (1, 1)):
        first = np.searchsorted(keys, keys + _step(a, b, -1), side="left")
        near.add(first, np.searchsorted(keys, keys + _step(a, b, 1), side="right"))
    one, other = (order[rows] for rows in near.found())
    return np.minimum(one, other), np.maximum(one, other)


def _step(a: int, b: int, c: int) -> int:
    """How much larger the number of a cube is that lies so many cubes away."""
    return (a << 42) + (b << 21) + c


def _sorted(points: FloatArray, reach: float) -> tuple[IntArray, IntArray]:
    """The order of points by cube, and the numbers of their cubes in this order.

    Neighbours along the last axis have neighbouring numbers. Working in this order keeps what is looked up in the
    processor's cache, which is most of the speed.
    """
    cubes = np.floor((points + 1.0) / reach).astype(np.int64) + 1
    keys = (cubes[:, 0] << 42) + (cubes[:, 1] << 21) + cubes[:, 2]
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


class _Near:
    """Collects the pairs of points and others, both in order, that are less than `reach` apart."""

    def __init__(self, points: FloatArray, others: FloatArray, reach: float) -> None:
        self._points, self._others, self._reach = points, others, reach
        self._i: list[IntArray] = []
        self._j: list[IntArray] = []

    def add(self, first: IntArray, last: IntArray) -> None:
        """Look at others `first` to `last`, that not included, of each point; arrays of shape (len(points),)."""
        counts = np.maximum(last - first, 0)
        i = np.repeat(np.arange(len(counts)), counts)
        j = np.arange(len(i)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        apart = self._points[i]
        apart -= self._others[j]
        near = np.einsum("ij,ij->i", apart, apart) < self._reach**2
        self._i.append(i[near])
        self._j.append(j[near])

    def found(self) -> tuple[IntArray, IntArray]:
        """Positions of points and others."""
        return np.concatenate(self._i), np.concatenate(self._j)


def clear_of(points: FloatArray, others: FloatArray, reach: float) -> BoolArray:
    """Which points have none of the others nearer than `reach`."""
    clear = np.ones(len(points), dtype=bool)
    if len(points) and len(others):
        clear[neighbours(points, others, reach)[0]] = False
    return clear


class Crowd:
    """Points that have come so far, ready to be asked who else has room; what it costs does not grow with the crowd.

    Kept as runs, each in order and at most half as long as the one before it, so that a point is merged into a longer
    run only some twenty times.
    """

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._runs: list[tuple[FloatArray, IntArray]] = []

    def add(self, points: FloatArray) -> None:
        """Let points in, whether they have room or not."""
        if not len(points):
            return
        order, keys = _sorted(points, self._reach)
        self._runs.append((points[order], keys))
        while len(self._runs) > 1 and 2 * len(self._runs[-1][1]) > len(self._runs[-2][1]):
            joined = [np.concatenate(parts) for parts in zip(self._runs.pop(-2), self._runs.pop(), strict=True)]
            order = np.argsort(joined[1], kind="stable")
            self._runs.append((joined[0][order], joined[1][order]))

    def has_room(self, points: FloatArray) -> BoolArray:
        """Which points have none of the crowd nearer than the reach."""
        order, keys = _sorted(points, self._reach)
        points = points[order]
        room = np.ones(len(points), dtype=bool)
        for others, other_keys in self._runs:
            # Each of the fewer looks for its neighbours among the more.
            if len(others) < len(points):
                near = _all_near(others, other_keys, points, keys, self._reach)[1]
            else:
                near = _all_near(points, keys, others, other_keys, self._reach)[0]
            room[order[near]] = False
        return room


def first_come(points: FloatArray, reach: float) -> BoolArray:
    """Which points stay when each in turn is refused that lies nearer than `reach` to an earlier one that stayed."""
    earlier, later = pairs(points, reach)
    stays, open_ = np.zeros(len(points), dtype=bool), np.ones(len(points), dtype=bool)
    while open_.any():
        first = open_.copy()
        first[later] = False
        stays |= first
        open_ &= ~first
        open_[later[stays[earlier]]] = False
        waiting = open_[later] & open_[earlier]
        later, earlier = later[waiting], earlier[waiting]
    return stays
