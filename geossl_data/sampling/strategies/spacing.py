"""Places that neither overlap nor lie closer than the least distance."""

import math
from collections.abc import Callable

import numpy as np

from geossl_data.grid import unit_vectors
from geossl_data.sampling.spread import chord, neighbours
from geossl_data.sampling.strategies.ground import BoolArray, Ground, IntArray

MARGIN = 1.006
"""The Earth's radius of curvature differs from the sphere's by so much at most."""

_LEAST_BLOCK, _MOST_BLOCK = 256, 65_536
"""Candidates that are looked at together; no result depends on it."""
_COLUMNS = np.array([(a << 42) + (b << 21) for a in (-1, 0, 1) for b in (-1, 0, 1)], dtype=np.int64)
"""From the number of a cube to the middles of the nine columns of three cubes around it."""
_STEPS = [(a << 42) + (b << 21) + c for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
"""From the number of a cube to those of its neighbours and itself."""


class Spacing:
    """Which candidates still have room: no two taken places overlap or lie closer than the least distance.

    Squares of one UTM zone overlap when both |Δx| and |Δy| are below the side; across zones, where they are turned
    against each other, when their centres are nearer than √2 sides. A hash grid on the unit sphere finds the
    neighbours, so that cell borders, the antimeridian and the poles need no special care.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._points = unit_vectors(ground.lon, ground.lat)
        diagonal_km = math.sqrt(2) * ground.side_m / 1000
        self._far = chord(ground.min_distance_km) * (1 - 1e-9)
        self._apart = chord(diagonal_km * MARGIN)
        # Within a zone, true lengths also differ from those of the map, by less than the rest of this one per cent.
        self._reach = chord(max(ground.min_distance_km, diagonal_km * 1.01))
        self._cubes = (np.floor((self._points + 1.0) / self._reach).astype(np.int64) + 1) @ np.array(
            [1 << 42, 1 << 21, 1], dtype=np.int64
        )
        self._of_cube: dict[int, list[int]] = {}
        self._taken: list[int] = []

    @property
    def taken(self) -> IntArray:
        """The candidates taken so far, in the order in which they were."""
        return np.array(self._taken, dtype=np.int64)

    def clash(self, one: IntArray | np.int64, other: IntArray) -> BoolArray:
        """Whether candidates `one` and `other` exclude each other; broadcasts."""
        ground, limit = self._ground, self._ground.side_m - 1e-3
        squared = ((self._points[one] - self._points[other]) ** 2).sum(axis=-1)
        overlap = (np.abs(ground.x[one] - ground.x[other]) < limit) & (np.abs(ground.y[one] - ground.y[other]) < limit)
        near = np.where(ground.epsg[one] == ground.epsg[other], overlap, squared < self._apart**2)
        return np.asarray((squared < self._far**2) | near)

    def has_room(self, indices: IntArray) -> BoolArray:
        """Which candidates no taken place excludes, shape as `indices`."""
        taken, room = self.taken, np.ones(len(indices), dtype=bool)
        if not len(taken):
            return room
        for start in range(0, len(indices), _MOST_BLOCK):
            block = indices[start : start + _MOST_BLOCK]
            i, j = neighbours(self._points[block], self._points[taken], self._reach)
            room[start + i[self.clash(block[i], taken[j])]] = False
        return room

    def take(self, index: int) -> bool:
        """True, and remembered as taken, when candidate `index` still has room."""
        cube = int(self._cubes[index])
        near = [other for step in _STEPS for other in self._of_cube.get(cube + step, ())]
        if near and self.clash(np.int64(index), np.array(near)).any():
            return False
        self._of_cube.setdefault(cube, []).append(index)
        self._taken.append(index)
        return True

    def excluder(self, rows: IntArray) -> Callable[[int], IntArray]:
        """A function that says which of the candidates `rows`, by position in it, a candidate would exclude."""
        order = np.argsort(self._cubes[rows], kind="stable")
        cubes = self._cubes[rows[order]]

        def excluded(index: int) -> IntArray:
            column = self._cubes[index] + _COLUMNS
            low = np.searchsorted(cubes, column - 1, side="left").tolist()
            high = np.searchsorted(cubes, column + 1, side="right").tolist()
            near = np.concatenate([order[first:last] for first, last in zip(low, high, strict=True)])
            return near[self.clash(np.int64(index), rows[near])]

        return excluded

    def first(self, order: IntArray, n: int) -> IntArray:
        """The first `n` candidates of an order that have room as those before them are taken; remembered as taken.

        The same as `take` one by one. Blocks are cleared of those without room at once; they grow while candidates
        rarely exclude others of their own block.
        """
        got: list[int] = []
        position, size = 0, _LEAST_BLOCK
        while len(got) < n and position < len(order):
            block = order[position : position + size]
            position += len(block)
            before, refused = len(got), 0
            for index in block[self.has_room(block)].tolist():
                if len(got) == n:
                    break
                if self.take(index):
                    got.append(index)
                else:
                    refused += 1
            size = min(size * 2, _MOST_BLOCK) if refused <= len(got) - before else max(size // 2, _LEAST_BLOCK)
        return np.array(got, dtype=np.int64)
