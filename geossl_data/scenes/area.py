"""The area of a search: from a box or a vector file, and as boxes to ask for."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geossl_data.errors import CatalogError, DatasetError, first_line
from geossl_data.grid import Bounds
from geossl_data.tables import open_parquet
from geossl_data.vector_files import read_vector_file

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_MOST_BOXES = 16
"""More polygons than this are asked for together with their neighbours."""
_CELLS_DEGREES = (1.0, 2.0, 5.0, 10.0)
_METRES_PER_DEGREE = 111_195.0
MAX_SIZE_PX = 10_980
"""A place is never larger than a Sentinel-2 tile."""


def area_of(bbox: Sequence[float] | None, area_file: str | Path | None) -> "BaseGeometry | None":
    """The search area in longitude and latitude; None where neither a box nor a file is given.

    bbox: west, south, east, north in degrees; west > east crosses the antimeridian and gives two boxes.
    area_file: any vector file that geopandas reads, in any CRS; its polygons are merged.
    Raises CatalogError in one line when the file cannot be read or holds no polygon.
    """
    import shapely

    if bbox is not None:
        west, south, east, north = bbox
        if west <= east:
            return shapely.box(west, south, east, north)
        return shapely.union_all([shapely.box(west, south, 180.0, north), shapely.box(-180.0, south, east, north)])
    return None if area_file is None else _area_from_file(Path(area_file))


def _area_from_file(path: Path) -> "BaseGeometry":
    import shapely

    if not path.is_file():
        raise CatalogError(f"{path}: no such area file")
    shapes = read_vector_file(path, CatalogError).geometry
    polygons = [shape for shape in shapes if shape is not None and shape.geom_type in ("Polygon", "MultiPolygon")]
    try:
        # Of a polygon with a spike or a collapsed hole, lines are left over as well; and a mend may nest polygons.
        mended = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapely.force_2d(polygons))))
        area = shapely.disjoint_subset_union_all(mended[shapely.get_dimensions(mended) == 2])
    except shapely.errors.ShapelyError as error:
        raise CatalogError(f"{path}: its polygons cannot be merged: {first_line(error)}") from None
    if area.is_empty or not area.area > 0 or not max(abs(area.bounds[1]), abs(area.bounds[3])) <= 90:
        raise CatalogError(f"{path}: holds no polygon on the Earth; expected polygons that bound the search")
    return area


def area_of_places(path: str | Path) -> "BaseGeometry":
    """The ground of a table of places, longitude/latitude: one box for each, unions of those that touch.

    path: Parquet with columns lon and lat of the centres, degrees, and size_px, the side in 10 m pixels.
    Raises CatalogError in one line when the table cannot be read or holds no place on the Earth.
    """
    import shapely

    path = Path(path)
    if not path.is_file():
        raise CatalogError(f"{path}: no such table of places; `geossl sample DIR --anywhere` writes one")
    try:
        table = open_parquet(path, columns=("lon", "lat", "size_px"))
        lon, lat, size = (np.asarray(table[name].to_numpy(), dtype=float) for name in ("lon", "lat", "size_px"))
    except (DatasetError, KeyError, ValueError) as error:
        raise CatalogError(f"{path}: not a table of places with lon, lat, size_px: {first_line(error)[:200]}") from None
    on_earth = (abs(lon) <= 180) & (abs(lat) < 89) & (size > 0) & (size <= MAX_SIZE_PX)
    if not len(lon) or not on_earth.all():
        raise CatalogError(f"{path}: {len(lon)} places, {int(on_earth.sum())} of them on the Earth")
    half = size * 5.0 / _METRES_PER_DEGREE
    wide = half / np.cos(np.radians(lat))
    # Most places touch none: seconds for a million of them, where a plain union takes many minutes.
    return shapely.disjoint_subset_union_all(shapely.box(lon - wide, lat - half, lon + wide, lat + half))


def query_boxes(area: "BaseGeometry") -> list[Bounds]:
    """Boxes in [-180, 180] that together cover an area, none of them across the antimeridian.

    One for each polygon; where there are many, neighbours whose centres share a cell of a grid also share a box. The
    grid is as coarse as pays: a request costs about what the scenes over one square degree cost.
    """
    import shapely

    parts: list[Bounds] = []
    for polygon in shapely.get_parts(area):
        west, south, east, north = (float(edge) for edge in polygon.bounds)
        if east - west >= 360.0:
            parts.append((-180.0, south, 180.0, north))
            continue
        west, east = (west + 180.0) % 360.0 - 180.0, (west + 180.0) % 360.0 - 180.0 + (east - west)
        parts.append((west, south, min(east, 180.0), north))
        if east > 180.0:
            parts.append((-180.0, south, east - 360.0, north))
    if len(parts) <= _MOST_BOXES:
        return sorted(parts)
    return min((_merged(parts, degrees) for degrees in _CELLS_DEGREES), key=_cost)


def _merged(parts: Sequence[Bounds], degrees: float) -> list[Bounds]:
    """One box for all parts whose centres share a cell of so many degrees of latitude, and as wide in kilometres."""
    cells: dict[tuple[int, int], list[Bounds]] = defaultdict(list)
    for west, south, east, north in parts:
        row = math.floor((south + north) / 2 / degrees)
        width = degrees / max(math.cos(math.radians(min(abs(row * degrees), 85.0))), 0.1)
        cells[row, math.floor((west + east) / 2 / width)].append((west, south, east, north))
    merged = []
    for members in cells.values():
        wests, souths, easts, norths = zip(*members, strict=True)
        merged.append((min(wests), min(souths), max(easts), max(norths)))
    return sorted(merged)


def _cost(boxes: Sequence[Bounds]) -> float:
    """What asking for boxes costs, in requests: each one, and the scenes over each and half a scene around it."""
    return sum(1.0 + (east - west + 1.0) * (north - south + 1.0) for west, south, east, north in boxes)
