"""Which squares the footprints of scenes cover, alone and as mosaics."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.records import Scene

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

FOOTPRINT_TOLERANCE = 0.02
"""Share of a place's side that may stick out of a footprint, or of its area that the seam between two may take:
footprints are polygons with few corners, rounded; the pixels decide in the end."""
TURNS = (-360.0, 0.0, 360.0)
"""Degrees of longitude that make no difference."""


def _ground(scenes: Sequence[Scene]) -> "BaseGeometry":
    """What the footprints cover together, also a whole turn to the west and to the east."""
    import shapely
    from shapely import affinity

    return shapely.union_all([affinity.translate(scene.footprint, xoff=turn) for scene in scenes for turn in TURNS])


class Coverage:
    """Which of a tile's squares scenes cover, alone and together; each question is answered once."""

    def __init__(self, squares: NDArray[np.object_], by_id: dict[str, Scene]) -> None:
        self._squares = squares
        self._by_id = by_id
        self._grounds: dict[str, BaseGeometry] = {}
        self._alone: dict[str, NDArray[np.bool_]] = {}
        self._together: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    def alone(self, scene_id: str) -> NDArray[np.bool_]:
        """Which squares lie inside one scene's footprint."""
        import shapely

        if scene_id not in self._alone:
            self._alone[scene_id] = shapely.covers(self._ground_of(scene_id), self._squares)
        return self._alone[scene_id]

    def together(self, ids: tuple[str, ...]) -> NDArray[np.bool_]:
        """Which squares lie inside the union of some footprints, seams apart."""
        if ids not in self._together:
            covered = np.logical_or.reduce([self.alone(scene_id) for scene_id in ids])
            rest = np.flatnonzero(~covered)
            if len(ids) > 1 and len(rest):
                several = (self._shares(ids, rest) > 0).sum(axis=0) > 1
                covered[rest] = several & (self._missing(ids, rest) <= FOOTPRINT_TOLERANCE)
            self._together[ids] = covered
        return self._together[ids]

    def needed(self, ids: tuple[str, ...], index: int) -> tuple[str, ...]:
        """The fewest of `ids` that cover a square which all cover together, the one that covers most of it first.

        Of equals the earlier in `ids` is taken.
        """
        for scene_id in ids:
            if self.alone(scene_id)[index]:
                return (scene_id,)
        shares = self._shares(ids, np.array([index]))[:, 0]
        meeting = [ids[number] for number in np.argsort(-shares, kind="stable") if shares[number] > 0]
        for count in range(2, len(meeting)):
            for some in combinations(meeting, count):
                if self._missing(some, np.array([index]))[0] <= FOOTPRINT_TOLERANCE:
                    return some
        return tuple(meeting)

    def largest_first(self, ids: tuple[str, ...], index: int) -> tuple[str, ...]:
        """All of `ids`, by how much of a square they cover; of equals the earlier first."""
        shares = self._shares(ids, np.array([index]))[:, 0]
        return tuple(ids[number] for number in np.argsort(-shares, kind="stable"))

    def _ground_of(self, scene_id: str) -> "BaseGeometry":
        """What one footprint covers, prepared for many questions."""
        import shapely

        if scene_id not in self._grounds:
            self._grounds[scene_id] = _ground([self._by_id[scene_id]])
            shapely.prepare(self._grounds[scene_id])
        return self._grounds[scene_id]

    def _shares(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of some squares' area that each scene covers, shape (scenes, rows)."""
        import shapely

        squares = self._squares[rows]
        grounds = [self._ground_of(scene_id) for scene_id in ids]
        covered = np.stack([shapely.area(shapely.intersection(squares, ground)) for ground in grounds])
        return np.asarray(covered / shapely.area(squares))

    def _missing(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of some squares' area that the scenes leave open together, shape (rows,)."""
        import shapely

        squares = self._squares[rows]
        ground = _ground([self._by_id[scene_id] for scene_id in ids])
        return np.asarray(shapely.area(shapely.difference(squares, ground)) / shapely.area(squares))
