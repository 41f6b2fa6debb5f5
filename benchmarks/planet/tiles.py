"""The Sentinel-2 tile grid: the 100 km squares of the military grid reference system, as ESA lays tiles over them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import from_lonlat, to_lonlat, utm_epsgs
from geossl_data.sampling.land import is_land

SIDE_M = 109_800.0
SQUARE_M = 100_000
SOUTH, NORTH = -56.0, 83.0
"""Latitudes between which land is imaged on every pass."""
_STEP_M = 60
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_EQUATOR_M = 10_000_000
"""Northing of the equator in the zones of the south."""
_LOOKS = np.array([0.02, 0.26, 0.5, 0.74, 0.98])
"""Where a tile is asked for land, in sides from its corner."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiles:
    """n tiles; all arrays have shape (n,) where nothing else is said."""

    name: NDArray[np.str_]
    """As in `32TMT`."""
    epsg: NDArray[np.int64]
    x: NDArray[np.float64]
    """West edge, metres; a multiple of 60 m."""
    y: NDArray[np.float64]
    """North edge, metres; a multiple of 60 m from the equator."""
    corners: NDArray[np.float64]
    """Longitude and latitude of the corners from north-west clockwise, shape (n, 4, 2)."""
    centre: NDArray[np.float64]
    """Longitude and latitude, shape (n, 2)."""

    def __len__(self) -> int:
        return len(self.name)

    def take(self, index: NDArray[np.int64]) -> "Tiles":
        """The tiles at `index`."""
        return Tiles(
            name=self.name[index],
            epsg=self.epsg[index],
            x=self.x[index],
            y=self.y[index],
            corners=self.corners[index],
            centre=self.centre[index],
        )


def land_tiles() -> Tiles:
    """The tiles on which there is land between 56° S and 83° N, from west to east, then from south to north."""
    parts = [_of_zone(zone, is_north) for zone in range(1, 61) for is_north in (False, True)]
    epsg, x, y, names = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    corners, centre = np.empty((len(x), 4, 2)), np.empty((len(x), 2))
    has_land = np.zeros(len(x), dtype=bool)
    for code in np.unique(epsg).tolist():
        rows = np.flatnonzero(epsg == code)
        for number, (east, south) in enumerate(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))):
            corners[rows, number] = _lonlat(code, x[rows] + east * SIDE_M, y[rows] - south * SIDE_M)
        centre[rows] = _lonlat(code, x[rows] + SIDE_M / 2, y[rows] - SIDE_M / 2)
        for east in _LOOKS:
            for south in _LOOKS:
                at = _lonlat(code, x[rows] + east * SIDE_M, y[rows] - south * SIDE_M)
                has_land[rows] |= is_land(at[:, 0], at[:, 1])
    kept = np.flatnonzero(has_land & (centre[:, 1] > SOUTH) & (centre[:, 1] < NORTH))
    order = kept[np.lexsort((centre[kept, 1], centre[kept, 0]))]
    return Tiles(name=names, epsg=epsg, x=x, y=y, corners=corners, centre=centre).take(order)


def _lonlat(epsg: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    lon, lat = to_lonlat(epsg, x, y)
    return np.column_stack([(lon + 180.0) % 360.0 - 180.0, lat])


def _of_zone(
    zone: int, is_north: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    """Zone code, corner and name of the tiles of half a zone: the squares of which some ground lies in it."""
    epsg = (32600 if is_north else 32700) + zone
    equator = 0 if is_north else _EQUATOR_M
    middle = 6.0 * zone - 183.0
    _, top = from_lonlat(epsg, middle, NORTH + 1.0 if is_north else 0.0)
    _, bottom = from_lonlat(epsg, middle, 0.0 if is_north else SOUTH - 1.0)
    columns = np.arange(1, 9)
    rows = np.arange(math.floor((float(bottom) - equator) / SQUARE_M), math.ceil((float(top) - equator) / SQUARE_M))
    column, row = (part.ravel() for part in np.meshgrid(columns, rows))
    inside = np.zeros(len(column), dtype=bool)
    for east in (0.01, 0.5, 0.99):
        for north in (0.01, 0.5, 0.99):
            lon, lat = to_lonlat(epsg, (column + east) * SQUARE_M, (row + north) * SQUARE_M + equator)
            inside |= utm_epsgs(np.asarray(lon), np.asarray(lat)) == epsg
    column, row = column[inside], row[inside]
    x = np.floor(column * SQUARE_M / _STEP_M) * _STEP_M
    y = np.ceil((row + 1) * SQUARE_M / _STEP_M) * _STEP_M + equator
    _, lat = to_lonlat(epsg, (column + 0.5) * SQUARE_M, (row + 0.5) * SQUARE_M + equator)
    bands = np.clip(np.floor((np.asarray(lat) + 80.0) / 8.0), 0, len(_BANDS) - 1).astype(int)
    # Letters of rows begin anew every 2000 km, those of even zones five further.
    numbers = row + equator // SQUARE_M + (5 if zone % 2 == 0 else 0)
    names = [
        f"{zone:02d}{_BANDS[band]}{_COLUMNS[(zone - 1) % 3][one - 1]}{_ROWS[number % 20]}"
        for band, one, number in zip(bands.tolist(), column.tolist(), numbers.tolist(), strict=True)
    ]
    return np.full(len(x), epsg), x, y, np.array(names, dtype="U5")
