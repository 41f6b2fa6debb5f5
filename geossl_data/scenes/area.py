"""The area of a search: from a box or a vector file, as boxes to ask for, and whether a footprint meets it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data.errors import CatalogError
from geossl_data.grid import Bounds
from geossl_data.scenes.items import first_line

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_MOST_BOXES = 16
"""More polygons than this are asked for together with their neighbours."""


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
    import geopandas
    import shapely

    if not path.is_file():
        raise CatalogError(f"{path}: no such area file")
    try:
        is_parquet = path.suffix in (".parquet", ".geoparquet")
        frame = geopandas.read_parquet(path) if is_parquet else geopandas.read_file(path)
        has_crs = frame.crs is not None
        shapes = frame.to_crs(4326).geometry if has_crs else frame.geometry
    except Exception as error:  # whatever the many drivers below geopandas raise
        raise CatalogError(f"{path}: not a readable vector file: {first_line(error)[:200]}") from error
    if not has_crs:
        raise CatalogError(f"{path}: states no coordinate reference system; write one into the file")
    polygons = [shape for shape in shapes if shape is not None and shape.geom_type in ("Polygon", "MultiPolygon")]
    area = shapely.union_all([shapely.make_valid(shapely.force_2d(shape)) for shape in polygons])
    if area.is_empty or not area.area > 0 or max(abs(area.bounds[1]), abs(area.bounds[3])) > 90:
        raise CatalogError(f"{path}: holds no polygon on the Earth; expected polygons that bound the search")
    return area


def query_boxes(area: "BaseGeometry") -> list[Bounds]:
    """Boxes in [-180, 180] that together cover an area, none of them across the antimeridian.

    One for each polygon; where there are many, one for all polygons whose centres share a cell of 10°.
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
    cells: dict[tuple[int, int], list[Bounds]] = defaultdict(list)
    for part in parts:
        cells[int((part[0] + part[2]) // 20), int((part[1] + part[3]) // 20)].append(part)
    merged = []
    for members in cells.values():
        wests, souths, easts, norths = zip(*members, strict=True)
        merged.append((min(wests), min(souths), max(easts), max(norths)))
    return sorted(merged)


def meets(footprint: "BaseGeometry", area: "BaseGeometry | None") -> bool:
    """Does a footprint touch the area? Longitudes that differ by a whole turn are the same."""
    if area is None:
        return True
    import shapely

    shapely.prepare(area)
    return any(bool(shapely.intersects(area, copy)) for copy in _turned(footprint))


def _turned(shape: "BaseGeometry") -> "Iterator[BaseGeometry]":
    """A shape and its copies a whole turn to the west and to the east."""
    from shapely import affinity

    for turn in (0.0, -360.0, 360.0):
        yield affinity.translate(shape, xoff=turn) if turn else shape
