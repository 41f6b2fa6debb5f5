"""Places on the Earth: pixel grids, UTM windows, great-circle distance, cells and spatial blocks.

Coordinates are x before y (west, south, east, north); longitudes lie in [-180, 180), latitudes in [-90, 90].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from pyproj import Transformer
    from shapely import Polygon

EARTH_RADIUS_KM = 6371.0088
"""Mean Earth radius (IUGG R1)."""

Bounds = tuple[float, float, float, float]
"""west, south, east, north."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A north-up raster grid with square pixels in a metric CRS."""

    epsg: int
    x: float
    """West edge of the first pixel, metres."""
    y: float
    """North edge of the first pixel, metres."""
    resolution_m: float
    width: int
    height: int

    @property
    def bounds(self) -> Bounds:
        """west, south, east, north in metres."""
        return (self.x, self.y - self.height * self.resolution_m, self.x + self.width * self.resolution_m, self.y)


@lru_cache(maxsize=256)
def _transformer(source: int, target: int) -> "Transformer":
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def to_lonlat(epsg: int, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in degrees of projected coordinates; same shapes as given."""
    lon, lat = _transformer(epsg, 4326).transform(np.asarray(x, float), np.asarray(y, float))
    return np.asarray(lon), np.asarray(lat)


def from_lonlat(epsg: int, lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Projected coordinates in metres of longitudes and latitudes in degrees; same shapes as given."""
    x, y = _transformer(4326, epsg).transform(np.asarray(lon, float), np.asarray(lat, float))
    return np.asarray(x), np.asarray(y)


def square_lonlat(epsg: int, x: float, y: float, side_m: float) -> "Polygon":
    """The square with north-west corner (x, y) as a longitude/latitude polygon, three points a side.

    A square across the antimeridian keeps its longitudes together by running beyond ±180.
    """
    polygon: Polygon = squares_lonlat(epsg, np.array([x]), np.array([y]), side_m)[0]
    return polygon


def squares_lonlat(epsg: int, x: NDArray[np.float64], y: NDArray[np.float64], side_m: float) -> NDArray[np.object_]:
    """The squares with north-west corners (x, y) in one CRS, as `square_lonlat` has them; arrays of shape (n,)."""
    import shapely

    steps, full, none = np.linspace(0.0, side_m, 4)[:-1], np.full(3, side_m), np.zeros(3)
    east = np.concatenate([steps, full, side_m - steps, none])
    south = np.concatenate([none, steps, full, side_m - steps])
    lon, lat = to_lonlat(epsg, x[:, None] + east, y[:, None] - south)
    lon = lon[:, :1] + (lon - lon[:, :1] + 180.0) % 360.0 - 180.0
    return np.asarray(shapely.polygons(np.stack([lon, lat], axis=-1)), dtype=object)


def haversine_km(lon_a: ArrayLike, lat_a: ArrayLike, lon_b: ArrayLike, lat_b: ArrayLike) -> NDArray[np.float64]:
    """Great-circle distance in km between points in degrees; broadcasts. Sphere of radius EARTH_RADIUS_KM."""
    phi_a, phi_b = np.radians(lat_a), np.radians(lat_b)
    half = np.sin((phi_b - phi_a) / 2) ** 2
    half = half + np.cos(phi_a) * np.cos(phi_b) * np.sin(np.radians(np.subtract(lon_b, lon_a)) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def unit_vectors(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """Points on the unit sphere, shape (n, 3), of longitudes and latitudes in degrees."""
    lam, phi = np.radians(np.asarray(lon, float)), np.radians(np.asarray(lat, float))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def cell(lon: float, lat: float, spacing_km: float) -> tuple[int, int]:
    """Row and column of the equal-spacing grid cell that holds a point; negative south of 0° and west of 0°.

    Rows are `spacing_km` high; the row at latitude φ has ceil(2πR cos φ / spacing_km) columns, so that cells have
    nearly equal area at every latitude (the construction of the Major TOM grid).
    """
    row = math.floor(lat / _row_degrees(spacing_km))
    columns = _columns(row, spacing_km)
    column = math.floor(((lon + 180.0) % 360.0) / 360.0 * columns) - columns // 2
    return row, column


def cells(
    lon: NDArray[np.float64], lat: NDArray[np.float64], spacing_km: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the cells that hold points, as `cell` gives them one by one; arrays of shape (n,)."""
    rows, row_of = np.unique(np.floor(lat / _row_degrees(spacing_km)).astype(np.int64), return_inverse=True)
    columns = np.array([_columns(row, spacing_km) for row in rows.tolist()], dtype=np.int64)[row_of]
    column = np.floor(((lon + 180.0) % 360.0) / 360.0 * columns).astype(np.int64) - columns // 2
    return rows[row_of], column


def _row_degrees(spacing_km: float) -> float:
    return math.degrees(spacing_km / EARTH_RADIUS_KM)


def _columns(row: int, spacing_km: float) -> int:
    """How many cells a row has."""
    phi = math.radians((row + 0.5) * _row_degrees(spacing_km))
    return max(1, math.ceil(2 * math.pi * EARTH_RADIUS_KM * math.cos(phi) / spacing_km))


def cell_name(lon: float, lat: float, spacing_km: float) -> str:
    """A readable cell id such as `0506U_0119R`: rows Up/Down of the equator, columns Right/Left of Greenwich."""
    return named_cell(*cell(lon, lat, spacing_km))


def named_cell(row: int, column: int) -> str:
    """The id of the cell of a row and a column, as `cell` counts them."""
    return f"{_named(row, 'UD')}_{_named(column, 'RL')}"


def cell_centre(name: str, spacing_km: float) -> tuple[float, float]:
    """Longitude and latitude of the middle of a cell, degrees, by the name that `cell_name` gives it."""
    row, column = (int(part[:-1]) * (1 if part[-1] in "UR" else -1) for part in name.split("_"))
    n_columns = _columns(row, spacing_km)
    lat = (row + 0.5) * _row_degrees(spacing_km)
    return (column + n_columns // 2 + 0.5) / n_columns * 360.0 - 180.0, max(-90.0, min(lat, 90.0))


def cell_names(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.str_]:
    """The ids of cells as `named_cell` gives them one by one; arrays of shape (n,)."""
    parts = []
    for numbers, sides in ((rows, "UD"), (columns, "RL")):
        known, position = np.unique(numbers, return_inverse=True)
        parts.append(np.array([_named(number, sides) for number in known.tolist()], dtype=np.str_)[position])
    return np.strings.add(np.strings.add(parts[0], "_"), parts[1])


def _named(number: int, sides: str) -> str:
    return f"{number:04d}{sides[0]}" if number >= 0 else f"{-number:04d}{sides[1]}"


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone of a point, with the exceptions for south-west Norway and Svalbard."""
    zone = int((lon + 180.0) % 360.0 // 6) + 1
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif 72 <= lat < 84 and 0 <= lon < 42:
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return (32600 if lat >= 0 else 32700) + zone


def utm_epsgs(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
    """EPSG codes of the UTM zones of points, as `utm_epsg` gives them one by one; arrays of shape (n,)."""
    zone = ((lon + 180.0) % 360.0 // 6).astype(np.int64) + 1
    norway = (lat >= 56) & (lat < 64) & (lon >= 3) & (lon < 12)
    svalbard = (lat >= 72) & (lat < 84) & (lon >= 0) & (lon < 42)
    of_svalbard = np.array([31, 33, 35, 37])[np.searchsorted([9, 21, 33], lon, side="right")]
    zone = np.where(norway, 32, np.where(svalbard, of_svalbard, zone))
    return np.where(lat >= 0, 32600, 32700) + zone


def common_bounds(grids: Sequence[Grid]) -> Bounds:
    """The ground that all grids of one CRS cover, in metres; west ≥ east where they do not meet."""
    west, south, east, north = zip(*(grid.bounds for grid in grids), strict=True)
    return (max(west), max(south), min(east), min(north))
