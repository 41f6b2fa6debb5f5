"""Which part of the Earth a map shows, and how degrees are laid out flat on it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import Bounds

GLOBE_ASPECT = 2.05458
"""Width over height of the Earth in the Equal Earth projection."""

_GLOBAL_FROM = 150.0
"""Degrees of longitude from which the whole Earth is shown."""
_LEAST_DEGREES = 6.0
"""Least width of a map, in degrees of latitude, so that a single place has something around it."""

FloatArray = NDArray[np.float64]


def equal_earth(lon: ArrayLike, lat: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Equal Earth projection of degrees, on a sphere of radius 1, centred on Greenwich: equal areas stay equal.

    Šavrič, Patterson and Jenny 2018, "The Equal Earth map projection", equations 6 and 7 (sphere).
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    theta = np.arcsin(math.sqrt(3) / 2 * np.sin(np.radians(np.asarray(lat, float))))
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    x = 2 * math.sqrt(3) * np.radians(np.asarray(lon, float)) * np.cos(theta) / (3 * slope)
    return x, theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Which part of the Earth a map shows, and how it is laid out flat."""

    extent: Bounds | None = None
    """Degrees, east up to 360 beyond west; None for the whole Earth."""

    def project(self, lon: ArrayLike, lat: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Plane coordinates: Equal Earth for the whole Earth, else longitude shrunk as at the middle latitude."""
        if self.extent is None:
            return equal_earth((np.asarray(lon, float) + 180.0) % 360.0 - 180.0, lat)
        west = self.extent[0]
        return (west + (np.asarray(lon, float) - west) % 360.0) * self.shrink, np.asarray(lat, float)

    @property
    def shrink(self) -> float:
        """Plane units of a degree of longitude where a degree of latitude is one."""
        assert self.extent is not None
        return _shrink(self.extent[1], self.extent[3])

    @property
    def bounds(self) -> Bounds:
        """Edges of the map in plane coordinates."""
        if self.extent is None:
            wide, high = float(equal_earth(180.0, 0.0)[0]), float(equal_earth(0.0, 90.0)[1])
            return -wide, -high, wide, high
        west, south, east, north = self.extent
        return west * self.shrink, south, east * self.shrink, north


def view_of(lon: ArrayLike, lat: ArrayLike, *, aspect: float, extent: Bounds | None = None) -> View:
    """The view that shows places in degrees with a margin, or at least `extent`; the whole Earth for wide draws.

    aspect: width over height of the map. Longitudes are cut at their largest gap, so that places on both sides of the
    antimeridian lie together. Without places the whole Earth. Raises SamplingError for an impossible extent.
    """
    if extent is not None:
        west, south, east, north = extent
        if not (west < east <= west + 360 and -90 <= south < north <= 90):
            raise SamplingError(f"extent {extent} is not west, south, east, north in degrees, west < east")
        return View(extent=_filled(extent, aspect))
    around, lats = np.unique(np.asarray(lon, float) % 360.0), np.asarray(lat, float)
    if not len(around):
        return View()
    gaps = np.diff(around, append=around[0] + 360.0)
    first = (int(gaps.argmax()) + 1) % len(around)
    west, width = float(around[first]), 360.0 - float(gaps.max())
    west = west - 360.0 if west + width / 2 >= 180.0 else west
    south, north = float(lats.min()), float(lats.max())
    shrink = _shrink(south, north)
    margin = 0.08 * max(width * shrink, north - south)
    wide = max(width * shrink + 2 * margin, _LEAST_DEGREES) / shrink
    high = max(north - south + 2 * margin, _LEAST_DEGREES / aspect)
    x, y = west + width / 2, (south + north) / 2
    filled = _filled((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), aspect)
    return View(extent=filled) if filled[2] - filled[0] < _GLOBAL_FROM else View()


def _shrink(south: float, north: float) -> float:
    return math.cos(math.radians(min(abs(south + north) / 2, 80.0)))


def _filled(extent: Bounds, aspect: float) -> Bounds:
    """An extent widened or heightened to the map's aspect, moved to stay between the poles where it fits there."""
    west, south, east, north = extent
    high = max(north - south, (east - west) * _shrink(south, north) / aspect)
    middle = (south + north) / 2
    if high < 180.0:
        middle = min(max(middle, high / 2 - 90.0), 90.0 - high / 2)
    south, north = middle - high / 2, middle + high / 2
    wide = max(east - west, high * aspect / _shrink(south, north))
    return (west + east - wide) / 2, south, (west + east + wide) / 2, north
