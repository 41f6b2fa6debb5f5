"""Which squares the footprints of scenes cover, alone and as mosaics."""

from collections.abc import Sequence
from functools import partial
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


def _ground(scenes: Sequence[Scene], lon: float) -> "BaseGeometry":
    """What the footprints cover together, each by whole turns as near to a longitude as can be; a new geometry."""
    import shapely
    from shapely import affinity

    grounds = []
    for scene in scenes:
        west, _, east, _ = scene.footprint.bounds
        nearest = 360.0 * round((lon - (west + east) / 2) / 360.0)
        # One that spans half the globe has a part on either side of the antimeridian.
        turns = (nearest,) if east - west < 180.0 else (nearest - 360.0, nearest, nearest + 360.0)
        grounds += [affinity.translate(scene.footprint, xoff=turn) if turn else scene.footprint for turn in turns]
    # A copy, so that what is prepared for many questions goes with them.
    return shapely.force_2d(grounds[0]) if len(grounds) == 1 else shapely.union_all(grounds)


def _side_by_side(squares: NDArray[np.object_]) -> tuple[NDArray[np.object_], float]:
    """Squares of one tile, or of neighbours, with longitudes that do not jump by a turn, and the middle of these."""
    import shapely

    west, _, east, _ = shapely.bounds(squares).T
    jumps = np.flatnonzero((west + east) / 2 < (west[0] + east[0]) / 2 - 180.0)
    falls = np.flatnonzero((west + east) / 2 > (west[0] + east[0]) / 2 + 180.0)
    if len(jumps) or len(falls):
        squares = squares.copy()
        for rows, turn in ((jumps, 360.0), (falls, -360.0)):
            squares[rows] = shapely.transform(squares[rows], partial(np.add, (turn, 0.0)))
        west, _, east, _ = shapely.bounds(squares).T
    return squares, float((west.min() + east.max()) / 2)


class Coverage:
    """Which of a tile's squares scenes cover, alone and together; each question is answered once."""

    def __init__(self, squares: NDArray[np.object_], by_id: dict[str, Scene]) -> None:
        self._squares, self._lon = _side_by_side(squares)
        self._by_id = by_id
        self._grounds: dict[str, BaseGeometry] = {}
        self._alone: dict[str, NDArray[np.bool_]] = {}
        self._met: dict[str, NDArray[np.bool_]] = {}
        self._share: dict[str, NDArray[np.float64]] = {}
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
            if len(ids) > 1 and not covered.all():
                # Most of the rest lies in one footprint or in none; areas are only worked out for what is left.
                n_met = np.sum([self._met_by(scene_id) for scene_id in ids], axis=0)
                rows = np.flatnonzero(~covered & (n_met > 1))
                if len(rows):
                    rows = rows[(self._shares(ids, rows) > 0).sum(axis=0) > 1]
                    covered[rows] = self._missing(ids, rows) <= FOOTPRINT_TOLERANCE
            self._together[ids] = covered
        return self._together[ids]

    def needed(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> list[tuple[str, ...]]:
        """For some squares that all of `ids` cover together the fewest that do, the one that covers most of it first.

        Of equals the earlier in `ids` is taken.
        """
        alone = np.stack([self.alone(scene_id)[rows] for scene_id in ids])
        first = alone.argmax(axis=0)
        found: list[tuple[str, ...]] = [(ids[number],) for number in first.tolist()]
        for position in np.flatnonzero(~alone.any(axis=0)).tolist():
            found[position] = self._fewest(ids, rows[position : position + 1])
        return found

    def _fewest(self, ids: tuple[str, ...], row: NDArray[np.int64]) -> tuple[str, ...]:
        """The fewest of `ids` that cover one square, shape (1,), which none covers alone."""
        shares = self._shares(ids, row)[:, 0]
        meeting = [ids[number] for number in np.argsort(-shares, kind="stable") if shares[number] > 0]
        for count in range(2, len(meeting)):
            for some in combinations(meeting, count):
                if self._missing(some, row)[0] <= FOOTPRINT_TOLERANCE:
                    return some
        return tuple(meeting)

    def largest_first(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> list[tuple[str, ...]]:
        """For some squares all of `ids`, by how much of it they cover; of equals the earlier first."""
        order = np.argsort(-self._shares(ids, rows), axis=0, kind="stable")
        return [tuple(ids[number] for number in column) for column in order.T.tolist()]

    def _met_by(self, scene_id: str) -> NDArray[np.bool_]:
        """Which squares meet one scene's footprint, if only at its edge."""
        import shapely

        if scene_id not in self._met:
            self._met[scene_id] = shapely.intersects(self._ground_of(scene_id), self._squares)
        return self._met[scene_id]

    def _ground_of(self, scene_id: str) -> "BaseGeometry":
        """What one footprint covers, prepared for many questions."""
        import shapely

        if scene_id not in self._grounds:
            self._grounds[scene_id] = _ground([self._by_id[scene_id]], self._lon)
            shapely.prepare(self._grounds[scene_id])
        return self._grounds[scene_id]

    def _shares(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of some squares' area that each scene covers, shape (scenes, rows)."""
        return np.stack([self._share_of(scene_id, rows) for scene_id in ids])

    def _share_of(self, scene_id: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of some squares' area that one scene covers, shape (rows,)."""
        import shapely

        known = self._share.setdefault(scene_id, np.full(len(self._squares), np.nan))
        lacking = rows[np.isnan(known[rows])]
        if len(lacking):
            squares = self._squares[lacking]
            covered = shapely.area(shapely.intersection(squares, self._ground_of(scene_id)))
            known[lacking] = covered / shapely.area(squares)
        return known[rows]

    def _missing(self, ids: tuple[str, ...], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of some squares' area that the scenes leave open together, shape (rows,)."""
        import shapely

        squares = self._squares[rows]
        ground = _ground([self._by_id[scene_id] for scene_id in ids], self._lon)
        return np.asarray(shapely.area(shapely.difference(squares, ground)) / shapely.area(squares))
