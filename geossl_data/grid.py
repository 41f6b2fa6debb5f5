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
    from shapely import Polygon

    steps = np.linspace(0.0, side_m, 4)[:-1]
    xs = np.concatenate([x + steps, np.full(3, x + side_m), x + side_m - steps, np.full(3, x)])
    ys = np.concatenate([np.full(3, y), y - steps, np.full(3, y - side_m), y - side_m + steps])
    lon, lat = to_lonlat(epsg, xs, ys)
    lon = lon[0] + (lon - lon[0] + 180.0) % 360.0 - 180.0
    return Polygon(np.column_stack([lon, lat]))


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
    row_degrees = math.degrees(spacing_km / EARTH_RADIUS_KM)
    row = math.floor(lat / row_degrees)
    phi = math.radians((row + 0.5) * row_degrees)
    columns = max(1, math.ceil(2 * math.pi * EARTH_RADIUS_KM * math.cos(phi) / spacing_km))
    column = math.floor(((lon + 180.0) % 360.0) / 360.0 * columns) - columns // 2
    return row, column


def cell_name(lon: float, lat: float, spacing_km: float) -> str:
    """A readable cell id such as `0506U_0119R`: rows Up/Down of the equator, columns Right/Left of Greenwich."""
    row, column = cell(lon, lat, spacing_km)
    vertical = f"{row:04d}U" if row >= 0 else f"{-row:04d}D"
    horizontal = f"{column:04d}R" if column >= 0 else f"{-column:04d}L"
    return f"{vertical}_{horizontal}"


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone of a point, with the exceptions for south-west Norway and Svalbard."""
    zone = int((lon + 180.0) % 360.0 // 6) + 1
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif 72 <= lat < 84 and 0 <= lon < 42:
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return (32600 if lat >= 0 else 32700) + zone


def common_bounds(grids: Sequence[Grid]) -> Bounds:
    """The ground that all grids of one CRS cover, in metres; west ≥ east where they do not meet."""
    west, south, east, north = zip(*(grid.bounds for grid in grids), strict=True)
    return (max(west), max(south), min(east), min(north))
