"""The ground of a search area as scenes see it, of which only the polygons near a scene are looked at."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_LARGE = 32
"""Coordinates of a polygon that is worth preparing; what is prepared stays in memory, and of boxes there are many."""
_AT_A_TIME = 16


class AreaIndex:
    """An area in longitude and latitude; longitudes that differ by a whole turn are the same.

    Around places there may be a million polygons. A prepared geometry of so many looks at each of them whenever a scene
    meets none: 50 ms, where those near the scene take 0.1 ms.
    """

    def __init__(self, area: "BaseGeometry") -> None:
        import shapely

        self._polygons = shapely.get_parts(area)
        shapely.prepare(self._polygons[shapely.get_num_coordinates(self._polygons) > _LARGE])
        self._tree = shapely.STRtree(self._polygons)

    def meets(self, footprint: "BaseGeometry") -> bool:
        """Does a footprint touch the area?"""
        import shapely

        for copy in _turned(footprint):
            near = self._tree.query(copy)
            # The first few nearly always tell.
            for start in range(0, len(near), _AT_A_TIME):
                if shapely.intersects(self._polygons[near[start : start + _AT_A_TIME]], copy).any():
                    return True
        return False

    def seen_by(self, footprint: "BaseGeometry") -> "BaseGeometry":
        """What a footprint shows of the area, at the longitudes of the area."""
        import shapely

        seen = []
        for copy in _turned(footprint):
            near = np.sort(self._tree.query(copy))
            if len(near):
                # Parts of one area do not overlap: nothing has to be united.
                seen.append(shapely.intersection(copy, shapely.multipolygons(self._polygons[near])))
        return seen[0] if len(seen) == 1 else shapely.union_all(seen)


def _turned(shape: "BaseGeometry") -> "Iterator[BaseGeometry]":
    """A shape and its copies a whole turn to the west and to the east."""
    from shapely import affinity

    for turn in (0.0, -360.0, 360.0):
        yield affinity.translate(shape, xoff=turn) if turn else shape
