"""How much ground counts as a candidate's own where the squares of several tiles lie over each other."""

import math
from collections.abc import Iterator

import numpy as np

from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors
from geossl_data.sampling.spread import chord, neighbours
from geossl_data.sampling.strategies.ground import FloatArray, Ground, IntArray

_BLOCK = 262_144
"""Candidates whose neighbours are looked for together, which bounds memory."""
_WIDE = 16.0
"""Cubes in which a second UTM zone is looked for are so many times wider than those for neighbours."""
_LEAST_SHARED = 1e-9
"""A square that touches shares nothing; rounding must not make it share a little."""


def ground_shares(ground: Ground) -> FloatArray:
    """Part of its square that counts as a candidate's own, shape (n,), in (0, 1]; 1 where no other square lies on it.

    The inverse of how many squares lie over a point of the candidate's square on average, its own included. So ground
    that two tiles show counts once, however their squares lie to each other: over a lattice of squares the shared parts
    (1 - |Δx| / side) (1 - |Δy| / side) add up to 1. Across UTM zones the squares' turn against each other, a few
    degrees, is left out, which changes less than a hundredth of one share and nothing on average.
    """
    if ground.share is not None:
        return ground.share
    covered = np.ones(len(ground))
    for i, j in _pairs_within_zones(ground):
        _add(covered, i, j, ground.x[j] - ground.x[i], ground.y[j] - ground.y[i], ground.side_m)
    points = unit_vectors(ground.lon, ground.lat)
    for i, j in _pairs_across_zones(ground, points):
        # Of the chord from i to j, the parts along east and north half-way, so that both share alike.
        x, y, z = (points[i] + points[j]).T
        lon, lat = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
        dx, dy, dz = ((points[j] - points[i]) * EARTH_RADIUS_KM * 1000).T
        outward = dx * np.cos(lon) + dy * np.sin(lon)
        east, north = dy * np.cos(lon) - dx * np.sin(lon), dz * np.cos(lat) - outward * np.sin(lat)
        _add(covered, i, j, east, north, ground.side_m)
    return np.asarray(1.0 / covered)


def _add(covered: FloatArray, i: IntArray, j: IntArray, dx: FloatArray, dy: FloatArray, side_m: float) -> None:
    """Add to both of each pair of candidates the part of the square that they share; dx, dy: metres between them."""
    part = np.clip(1 - np.abs(dx) / side_m, 0.0, None) * np.clip(1 - np.abs(dy) / side_m, 0.0, None)
    shared = np.flatnonzero(part > _LEAST_SHARED)
    for ends in (i, j):
        covered += np.bincount(ends[shared], weights=part[shared], minlength=len(covered))


def _pairs_within_zones(ground: Ground) -> Iterator[tuple[IntArray, IntArray]]:
    """Candidates i, j of one zone whose squares may overlap, each pair once: neighbours among buckets of one side."""
    column, row = (np.floor(values / ground.side_m).astype(np.int64) + (1 << 20) for values in (ground.x, ground.y))
    bucket = (ground.epsg << 44) + (row << 22) + column
    order = np.argsort(bucket, kind="stable")
    bucket = bucket[order]
    for start in range(0, len(bucket), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(bucket)))
        here, above = bucket[rows], bucket[rows] + (1 << 22)
        beside = (rows + 1, np.searchsorted(bucket, here + 1, side="right"))
        in_next_row = (np.searchsorted(bucket, above - 1, "left"), np.searchsorted(bucket, above + 1, "right"))
        for first, last in (beside, in_next_row):
            count = last - first
            i = np.repeat(rows, count)
            j = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
            yield order[i], order[j]


def _pairs_across_zones(ground: Ground, points: FloatArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Candidates i, j of different zones whose squares may overlap, each pair once."""
    reach = chord(math.sqrt(2) * ground.side_m / 1000 * 1.01)
    rows = _near_another_zone(ground, points, _WIDE * reach)
    near = points[rows]
    for start in range(0, len(rows), _BLOCK):
        i, j = neighbours(near[start : start + _BLOCK], near, reach)
        i, j = rows[i + start], rows[j]
        across = (i < j) & (ground.epsg[i] != ground.epsg[j])
        yield i[across], j[across]


def _near_another_zone(ground: Ground, points: FloatArray, wide: float) -> IntArray:
    """Candidates with one of another zone in their cube, `wide` on the unit sphere, or in one beside it."""
    if len(ground) == 0 or (ground.epsg == ground.epsg[0]).all():
        return np.zeros(0, dtype=np.int64)
    cubes = np.floor(points / wide).astype(np.int64)
    keys = ((cubes + (1 << 20)) * np.array([1 << 42, 1 << 21, 1])).sum(axis=1)
    order = np.lexsort((ground.epsg, keys))
    is_new = (np.diff(keys[order], prepend=-1) != 0) | (np.diff(ground.epsg[order], prepend=-1) != 0)
    first = order[is_new]
    i, j = neighbours((cubes[first] + 0.5) * wide, (cubes[first] + 0.5) * wide, math.sqrt(3) * wide * 1.01)
    is_near = np.zeros(len(first), dtype=bool)
    is_near[i[ground.epsg[first[i]] != ground.epsg[first[j]]]] = True
    return np.sort(order[is_near[np.cumsum(is_new) - 1]])
