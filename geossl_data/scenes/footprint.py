"""The footprint of an item: its GeoJSON geometry, checked and mended."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl_data.scenes.reasons import ItemError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


def footprint_of(name: str, geometry: Any) -> "BaseGeometry":
    """A GeoJSON footprint as a valid polygon or multipolygon in degrees, its west edge in [-180, 180).

    One that spans more than 180° of longitude is understood to cross the antimeridian: its western half is moved east,
    beyond 180. Raises ItemError where it is no area on the Earth.
    """
    import shapely
    from shapely import affinity
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        with np.errstate(invalid="ignore"):  # of numbers that are none; the range tells them below
            given = shapely.force_2d(shape(geometry))
        coordinates = shapely.get_coordinates(given)
    except (ShapelyError, AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError):
        raise ItemError("bad-item", f"{name}: geometry is not GeoJSON") from None
    in_range = len(coordinates) > 0 and (abs(coordinates[:, 0]) <= 720).all() and (abs(coordinates[:, 1]) <= 90).all()
    if not in_range:
        raise ItemError("bad-item", f"{name}: geometry is empty or not in degrees of longitude and latitude")
    west, _, east, _ = given.bounds
    if east - west > 180.0:
        given = shapely.transform(given, _eastwards)
        west, _, east, _ = given.bounds
    area = _polygonal(given if given.is_valid else shapely.make_valid(given))
    if area.is_empty or east - west > 180.0:
        raise ItemError("bad-item", f"{name}: geometry is not a polygon that spans less than half the globe")
    turns = math.floor((west + 180.0) / 360.0)
    return affinity.translate(area, xoff=-360.0 * turns) if turns else area


def _eastwards(coordinates: Any) -> Any:
    moved = coordinates.copy()
    moved[moved[:, 0] < 0, 0] += 360.0
    return moved


def _polygonal(shape: "BaseGeometry") -> "BaseGeometry":
    """The area of a geometry: its polygons merged, without lines and points."""
    import shapely

    if shape.geom_type == "Polygon":
        return shape
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if len(parts) != 1 else parts[0]
