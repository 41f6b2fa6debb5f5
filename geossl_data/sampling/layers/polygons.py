"""Which of many polygons on the Earth hold a point."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK = 100_000
"""Points looked at together, so that memory does not grow with their number."""
_JUMP_DEGREES = 270.0
"""An edge longer than this, but not a whole turn, steps across the antimeridian."""


class Polygons:
    """Polygons in longitude and latitude that may overlap and may run beyond ±180°."""

    def __init__(self, shapes: "NDArray[np.object_]") -> None:
        """shapes: valid polygons or multipolygons, shape (n,); None and empty ones hold nothing."""
        import shapely

        parts, owner = shapely.get_parts(shapes, return_index=True)
        keep = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
        self._parts, self._owner = parts[keep], owner[keep].astype(np.int64)
        self._n = len(shapes)
        shapely.prepare(self._parts)
        self._tree = shapely.STRtree(self._parts)
        west, _, east, _ = shapely.total_bounds(self._parts) if len(self._parts) else (0.0, 0.0, 0.0, 0.0)
        self._turns = [0.0] + [360.0] * bool(east >= 180.0) + [-360.0] * bool(west < -180.0)

    def first(self, lon: FloatArray, lat: FloatArray) -> IntArray:
        """Number of the first polygon, in the order given, that holds each point or has it on its edge; -1 for none."""
        found = np.full(len(lon), self._n, dtype=np.int64)
        for start in range(0, len(lon), _BLOCK):
            block = slice(start, start + _BLOCK)
            for turn in self._turns:
                self._lower(found[block], lon[block] + turn, lat[block])
        return np.where(found == self._n, -1, found)

    def _lower(self, found: IntArray, lon: FloatArray, lat: FloatArray) -> None:
        """Put into `found` the lowest number of what is there and the polygons that hold the points."""
        import shapely

        point, part = self._tree.query(shapely.points(lon, lat))
        holds = shapely.intersects_xy(self._parts[part], lon[point], lat[point])
        np.minimum.at(found, point[holds], self._owner[part[holds]])


def on_earth(shapes: "NDArray[np.object_]") -> "NDArray[np.object_]":
    """Polygons made valid and two-dimensional; those that step across the antimeridian run on beyond ±180° instead.

    A ring around a pole is closed over the pole. Edges of a whole turn, -180° to 180°, are left as they are.
    """
    import shapely

    flat = shapely.force_2d(shapes)
    points, point_of = shapely.get_coordinates(flat, return_index=True)
    jumps = np.abs(np.diff(points[:, 0]))
    steps_over = (jumps > _JUMP_DEGREES) & (jumps < 360.0 - 1e-9) & (np.diff(point_of) == 0)
    for number in np.unique(point_of[1:][steps_over]):
        flat[number] = shapely.union_all([_unrolled(part) for part in shapely.get_parts(flat[number])])
    return np.asarray(shapely.make_valid(flat))


def _unrolled(shape: "BaseGeometry") -> Any:
    """A polygon whose rings go on beyond ±180° instead of jumping; its holes are cut out wherever they come to lie."""
    import shapely

    if shape.geom_type != "Polygon":
        return shape
    outer, *holes = [_ring(shapely.get_coordinates(ring)) for ring in (shape.exterior, *shape.interiors)]
    turns = np.array([[turn, 0.0] for turn in (-720.0, -360.0, 0.0, 360.0, 720.0)])
    turned = [shapely.Polygon(hole + turn) for hole in holes for turn in turns]
    inner = shapely.union_all(shapely.make_valid(np.array(turned, dtype=object)))
    return shapely.difference(shapely.make_valid(shapely.Polygon(outer)), inner)


def _ring(points: FloatArray) -> FloatArray:
    unrolled = points.copy()
    unrolled[1:, 0] -= 360.0 * np.cumsum(np.round(np.diff(points[:, 0]) / 360.0))
    first, last = unrolled[0], unrolled[-1]
    if abs(last[0] - first[0]) > 180.0:
        pole = 90.0 if points[:, 1].mean() > 0 else -90.0
        unrolled = np.concatenate([unrolled, [[last[0], pole], [first[0], pole], first]])
    return unrolled
