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


def _keys(cubes: IntArray) -> IntArray:
    """One number for each cube; neighbours along the last axis have neighbouring numbers."""
    return np.asarray((cubes[..., 0] << 42) + (cubes[..., 1] << 21) + cubes[..., 2])


def neighbours(points: FloatArray, others: FloatArray, reach: float) -> tuple[IntArray, IntArray]:
    """Indices (i, j) of all `points[i]` and `others[j]` less than `reach` apart, a straight line on the unit sphere.

    reach: at least 2e-6 (13 m on the Earth), so that the number of a cube fits 63 bits.
    """
    cubes, other_cubes = (np.floor((array + 1.0) / reach).astype(np.int64) + 1 for array in (points, others))
    other_keys = _keys(other_cubes)
    order = np.argsort(other_keys, kind="stable")
    other_keys = other_keys[order]
    found_i: list[IntArray] = []
    found_j: list[IntArray] = []
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            low, high = np.array([a, b, -1]), np.array([a, b, 1])
            first = np.searchsorted(other_keys, _keys(cubes + low), side="left")
            counts = np.searchsorted(other_keys, _keys(cubes + high), side="right") - first
            i = np.repeat(np.arange(len(points)), counts)
            within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
            j = order[np.repeat(first, counts) + within]
            near = ((points[i] - others[j]) ** 2).sum(axis=1) < reach**2
            found_i.append(i[near])
            found_j.append(j[near])
    return np.concatenate(found_i), np.concatenate(found_j)


def clear_of(points: FloatArray, others: FloatArray, reach: float) -> BoolArray:
    """Which points have none of the others nearer than `reach`."""
    clear = np.ones(len(points), dtype=bool)
    if len(points) and len(others):
        clear[neighbours(points, others, reach)[0]] = False
    return clear


def first_come(points: FloatArray, reach: float) -> BoolArray:
    """Which points stay when each in turn is refused that lies nearer than `reach` to an earlier one that stayed."""
    later, earlier = neighbours(points, points, reach)
    ahead = earlier < later
    later, earlier = later[ahead], earlier[ahead]
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
