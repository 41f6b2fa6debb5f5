"""How far it is to the nearest of many points on the Earth.

A k-d tree in arrays, so that whole sets of points are looked up at once. It holds unit vectors and compares straight
lines through the sphere, so that the antimeridian and the poles need no special care; clusters, lone points and
repeated points cost no more than evenly spread ones.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors

LEAF = 12
"""Most points in a leaf of the tree."""
_QUERIES = 1 << 15
"""Points looked up together, and pairs of point and leaf compared together: bounds the memory, changes no result."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Tree:
    """Points that answer how near they come to others; `points`: unit vectors, shape (n, 3), n ≥ 1."""

    def __init__(self, points: FloatArray) -> None:
        self._depth = 0
        while len(points) > LEAF << self._depth:
            self._depth += 1
        leaf = -(-len(points) // (1 << self._depth))
        padded = np.minimum(np.arange(leaf << self._depth), len(points) - 1)
        order, numbers = padded[None], np.arange(len(padded))[None]
        for _ in range(self._depth):
            placed = points[order]
            longest = (placed.max(axis=1) - placed.min(axis=1)).argmax(axis=1)
            along = np.take_along_axis(placed, longest[:, None, None], axis=2)[:, :, 0]
            sorting = np.argpartition(along, along.shape[1] // 2, axis=1)
            order, numbers = (np.take_along_axis(rows, sorting, axis=1) for rows in (order, numbers))
            order, numbers = (rows.reshape(2 * len(rows), -1) for rows in (order, numbers))
        self._points = points[order]  # (leaves, leaf, 3)
        self._index = np.where(numbers < len(points), order, -1)
        self._boxes = [(self._points.min(axis=1), self._points.max(axis=1))]
        for _ in range(self._depth):
            low, high = self._boxes[0]
            self._boxes.insert(0, (np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2])))

    def nearest(self, points: FloatArray, *, own: IntArray | None = None) -> FloatArray:
        """Distance of each of some unit vectors, shape (m, 3), to the nearest point of the tree, in km, shape (m,).

        own: number of each one in the tree, which does not count for itself; inf where there is no other.
        """
        found = [
            self._search(points[start : start + _QUERIES], None if own is None else own[start : start + _QUERIES])
            for start in range(0, len(points), _QUERIES)
        ]
        return _km(np.concatenate([np.zeros(0), *found]))

    def least(self, points: FloatArray) -> float:
        """The smallest distance between any of some unit vectors, shape (m, 3), m ≥ 1, and any point, in km."""
        least = np.inf
        for start in range(0, len(points), _QUERIES):
            least = min(least, float(self._search(points[start : start + _QUERIES], None, at_most=least).min()))
        return float(_km(np.array([least]))[0])

    def _search(self, points: FloatArray, own: IntArray | None, *, at_most: float | None = None) -> FloatArray:
        """Squares of the lengths of the shortest lines; with `at_most` only the smallest of all is right, if below."""
        rows = np.arange(len(points))
        node = np.zeros(len(points), dtype=np.int64)
        for level in range(1, self._depth + 1):
            left, right = (self._to_box(points, level, 2 * node + side) for side in (0, 1))
            node = 2 * node + (right < left)
        best = self._in_leaf(points, own, rows, node)
        if at_most is not None:
            best = np.full(len(points), min(at_most, float(best.min())))
        row, node = rows, np.zeros(len(points), dtype=np.int64)
        for level in range(1, self._depth + 1):
            row, node = np.repeat(row, 2), (2 * node[:, None] + np.array([0, 1])).ravel()
            open_ = self._to_box(points[row], level, node) < best[row]
            row, node = row[open_], node[open_]
        for start in range(0, len(row), _QUERIES):
            some = slice(start, start + _QUERIES)
            np.minimum.at(best, row[some], self._in_leaf(points, own, row[some], node[some]))
        return best

    def _to_box(self, points: FloatArray, level: int, node: IntArray) -> FloatArray:
        low, high = self._boxes[level]
        outside = np.maximum(np.maximum(low[node] - points, points - high[node]), 0.0)
        return np.asarray((outside**2).sum(axis=1))

    def _in_leaf(self, points: FloatArray, own: IntArray | None, row: IntArray, node: IntArray) -> FloatArray:
        squares = ((self._points[node] - points[row][:, None]) ** 2).sum(axis=2)
        index = self._index[node]
        ignored = index < 0 if own is None else (index < 0) | (index == own[row][:, None])
        return np.asarray(np.where(ignored, np.inf, squares).min(axis=1))


def nearest_neighbour_km(lon: ArrayLike, lat: ArrayLike) -> FloatArray:
    """Great-circle distance in km of each point in degrees to the nearest other one, shape (n,); inf for a lone one."""
    points = unit_vectors(lon, lat)
    return Tree(points).nearest(points, own=np.arange(len(points))) if len(points) else np.zeros(0)


def _km(squares: FloatArray) -> FloatArray:
    """Arcs on the Earth of squared straight lines through the unit sphere; inf stays inf."""
    half = np.sqrt(squares) / 2
    arcs = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(half, 1.0))
    return np.asarray(np.where(np.isinf(half), np.inf, arcs))
