"""Land as paths to fill and coasts as lines, laid out flat."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.evaluation.pictures.views import FloatArray, equal_earth
from geossl_data.grid import Bounds
from geossl_data.sampling.land import land_polygons

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

TURNS = (-360.0, 0.0, 360.0)
"""Degrees by which land and rings are turned to be on maps across the antimeridian."""


@lru_cache(maxsize=1)
def world() -> tuple[Any, list[FloatArray]]:
    """Land as a path and its coasts as lines, Equal Earth."""
    import shapely

    land = shapely.segmentize(land_polygons(), 2.0)
    return _path(land, equal_earth), [np.column_stack(equal_earth(*line.T)) for line in _coasts(land)]


def land_within(extent: Bounds, shrink: float) -> Iterator[tuple[Any, list[FloatArray]]]:
    """Land that meets an extent as a path and its coasts as lines, for each turn of the Earth that has some.

    shrink: plane units of a degree of longitude.
    """
    import shapely

    land, (west, south, east, north) = land_polygons(), extent
    for turn in TURNS:
        near = land[shapely.intersects(land, shapely.box(west - turn, south, east - turn, north))]

        def laid(lon: FloatArray, lat: FloatArray, turn: float = turn) -> tuple[FloatArray, FloatArray]:
            return (lon + turn) * shrink, lat

        if len(near):
            yield _path(near, laid), [np.column_stack(laid(*line.T)) for line in _coasts(near)]


def _path(polygons: NDArray[np.object_], laid: Callable[[Any, Any], tuple[FloatArray, FloatArray]]) -> Any:
    """Polygons as one path that fills them but not their holes."""
    import shapely
    from matplotlib.path import Path as Outline

    points, codes = [np.zeros((0, 2))], [np.zeros(0, dtype=np.uint8)]
    for ring, is_outer in _rings(polygons):
        xy = shapely.get_coordinates(ring)
        xy = xy if shapely.is_ccw(ring) == is_outer else xy[::-1]
        points.append(np.column_stack(laid(*xy.T)))
        codes.append(np.array([Outline.MOVETO, *[Outline.LINETO] * (len(xy) - 2), Outline.CLOSEPOLY], dtype=np.uint8))
    return Outline(np.concatenate(points), np.concatenate(codes))


def _rings(polygons: NDArray[np.object_]) -> Iterable[tuple["BaseGeometry", bool]]:
    """The rings of polygons, and whether each is an outer one."""
    import shapely

    rings, of = shapely.get_rings(polygons, return_index=True)
    return zip(rings, (np.diff(of, prepend=-1) > 0).tolist(), strict=True)


def _coasts(polygons: NDArray[np.object_]) -> list[FloatArray]:
    """The outlines of polygons as lines of degrees, without the edges along the antimeridian and the pole."""
    import shapely

    lines = []
    for ring, _ in _rings(polygons):
        xy = shapely.get_coordinates(ring)
        cut = (np.abs(xy[:, 0]) >= 180.0) | (xy[:, 1] <= -90.0)
        breaks = np.flatnonzero(cut[1:] & cut[:-1]) + 1
        lines += [part for part in np.split(xy, breaks) if len(part) > 1]
    return lines
