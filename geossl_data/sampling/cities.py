"""Cities, and points scattered around them in kilometres.

Around a city points are spread by a Gaussian of the same width to the east and to the north, in kilometres on the
ground: an offset becomes a bearing and a distance, and the sphere says where that leads. Offsets in degrees would be
too narrow from east to west by the cosine of the latitude, and wrong across the antimeridian. Of such points a share
of 1 - e⁻² = 0.865 lies within 2 σ of the city and 95 % within 2.448 σ (not 2 σ, which is so along one axis only).

The cities that come with the package are the 10,000 most populous of GeoNames (see `CITIES.txt`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors
from geossl_data.sampling.positions import (
    LATITUDE_NAMES,
    LONGITUDE_NAMES,
    column,
    numbers,
    read_columns,
    require_lonlat,
)
from geossl_data.sampling.spread import chord, neighbours

POPULATION_NAMES = ("population", "pop")
WIDEST_KM = 1000.0
"""Largest σ that makes sense: beyond it the Gaussians of all cities run into one another."""
REACH_SIGMAS = 6.0
"""Beyond so many σ the density of a city counts as nothing; e⁻¹⁸ of its peak."""

_BLOCK = 250_000
"""Numbers worked on at once, which bounds memory."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cities:
    """Cities as arrays of shape (k,), k ≥ 1; most populous first where `read_cities` made them."""

    lon: FloatArray
    """Degrees east, in [-180, 180)."""
    lat: FloatArray
    """Degrees north."""
    population: FloatArray
    """People; 0 where unknown."""

    def __post_init__(self) -> None:
        if not len(self.lon) == len(self.lat) == len(self.population) > 0:
            raise SamplingError(f"cities need one lon, lat and population each, at least one city; got {len(self.lon)}")

    def __len__(self) -> int:
        return len(self.lon)


@dataclass(frozen=True, slots=True, kw_only=True)
class CityRule:
    """How places are drawn around cities: a city, each with the same chance, and a Gaussian offset."""

    cities: Cities
    sigma_km: float
    """Standard deviation of the offset to the east and to the north."""
    land_only: bool
    """A point at sea is given up and both city and offset are drawn again."""
    apart: bool
    """So is a point whose place would overlap one that was drawn before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The numbers of a published sampler."""

    sigma_km: float
    land_only: bool
    apart: bool
    source: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "caco": Preset(sigma_km=5.0, land_only=True, apart=False, source="Mall et al., CVPR 2023"),
        "seco": Preset(sigma_km=50.0, land_only=False, apart=False, source="Mañas et al., ICCV 2021"),
        "ssl4eo": Preset(sigma_km=50.0, land_only=False, apart=True, source="Wang et al., SSL4EO-S12, 2023"),
    }
)
"""Samplers around cities by name, as published except that offsets are in kilometres, where the code of the last two
takes degrees, and that the overlap of `ssl4eo` is looked for among all neighbours."""


def city_rule(preset: str, *, path: Path | None = None, sigma_km: float | None = None) -> CityRule:
    """The rule of a preset, with cities and σ of one's own where given.

    path: a table for `read_cities`; None takes the cities that come with the package. SamplingError for a preset that
    is not in PRESETS and a σ that is not in (0, WIDEST_KM].
    """
    if preset not in PRESETS:
        raise SamplingError(f"no cities preset {preset!r}; there are {', '.join(sorted(PRESETS))}")
    chosen = PRESETS[preset]
    sigma = chosen.sigma_km if sigma_km is None else sigma_km
    if not 0 < sigma <= WIDEST_KM:
        raise SamplingError(f"sigma of {sigma:g} km around cities; give more than 0 and at most {WIDEST_KM:g} km")
    return CityRule(cities=read_cities(path), sigma_km=sigma, land_only=chosen.land_only, apart=chosen.apart)


# ------------------------------------------------------------------------------------------------ tables


def read_cities(path: Path | None = None, most: int = 10_000) -> Cities:
    """The `most` most populous cities of a table, or of those that come with the package; equal ones in file order.

    path: CSV or Parquet with columns lon and lat in degrees (or longitude, lng; latitude; in any case) and maybe
    population; without it the first rows are taken. SamplingError in one line where the file cannot be read, lacks a
    column, holds something that is no position, or has its columns the wrong way round (`require_lonlat`).
    """
    if most < 1:
        raise SamplingError(f"asked for {most} cities; give 1 or more")
    cities = _own_cities() if path is None else _cities_of(path)
    order = np.argsort(-cities.population, kind="stable")[:most]
    return Cities(lon=cities.lon[order], lat=cities.lat[order], population=cities.population[order])


@lru_cache(maxsize=1)
def _own_cities() -> Cities:
    with files("geossl_data.sampling").joinpath("cities.npz").open("rb") as file, np.load(file) as stored:
        step = float(stored["step_degrees"])
        lon, lat, people = (stored[name].astype(np.float64) for name in ("lon", "lat", "population"))
    return Cities(lon=np.round(lon * step, 4), lat=np.round(lat * step, 4), population=people)


def _cities_of(path: Path) -> Cities:
    columns = read_columns(path)
    lons, lats, people = (column(columns, names) for names in (LONGITUDE_NAMES, LATITUDE_NAMES, POPULATION_NAMES))
    if lons is None or lats is None:
        raise SamplingError(
            f"{path}: no columns lon and lat, has {', '.join(list(columns)[:12]) or 'none'}; name them so in the file"
        )
    if not lons:
        raise SamplingError(f"{path}: no city in it; give at least one row with lon and lat")
    lon, lat = numbers(lons, f"{path}: lon"), numbers(lats, f"{path}: lat")
    require_lonlat(lon, lat, str(path))
    population = np.zeros(len(lon)) if people is None else numbers(people, f"{path}: population", missing=0.0)
    population = np.where(np.isnan(population), 0.0, population)
    good = (population >= 0) & (population < math.inf)
    if not good.all():
        row = int(np.argmin(good))
        raise SamplingError(f"{path}: population {population[row]:g} in row {row + 1}; expected 0 or more")
    return Cities(lon=(lon + 180.0) % 360.0 - 180.0, lat=lat, population=population)


# ------------------------------------------------------------------------------------------------ the sphere


def direct(lon: ArrayLike, lat: ArrayLike, bearing: ArrayLike, distance_km: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Longitude in [-180, 180) and latitude of where a great circle leads: the direct problem on the sphere.

    lon, lat: degrees, where it starts. bearing: radians clockwise from north, as atan2(east, north). distance_km:
    along the great circle, on a sphere of EARTH_RADIUS_KM. All broadcast. At a pole itself, north and east are those
    of the longitude given.
    """
    lam, phi = np.radians(np.asarray(lon, dtype=np.float64)), np.radians(np.asarray(lat, dtype=np.float64))
    turn, angle = np.asarray(bearing, dtype=np.float64), np.asarray(distance_km, dtype=np.float64) / EARTH_RADIUS_KM
    # On the unit sphere, along the axes (away from the Earth's axis, east, up) at the longitude of the start.
    north, east = np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn)
    out = np.cos(angle) * np.cos(phi) - north * np.sin(phi)
    up = np.cos(angle) * np.sin(phi) + north * np.cos(phi)
    degrees = np.degrees(lam + np.arctan2(east, out))
    # A tiny negative number plus 360 rounds to 360 itself, which is the other name of the same meridian.
    wrapped = (degrees + 180.0) % 360.0 - 180.0
    return np.where(wrapped >= 180.0, -180.0, wrapped), np.degrees(np.arctan2(up, np.hypot(out, east)))


def around(
    cities: Cities, index: ArrayLike, sigma_km: float, east: ArrayLike, north: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Longitude in [-180, 180) and latitude of points around cities, shape (n,).

    index: which city each belongs to, shape (n,). east, north: offsets in units of `sigma_km`, shape (n,); standard
    normal numbers for a Gaussian.
    """
    of = np.asarray(index, dtype=np.int64)
    x, y = np.asarray(east, dtype=np.float64), np.asarray(north, dtype=np.float64)
    return direct(cities.lon[of], cities.lat[of], np.arctan2(x, y), sigma_km * np.hypot(x, y))


def density(cities: Cities, sigma_km: float, lon: ArrayLike, lat: ArrayLike) -> FloatArray:
    """Density of the points that `around` makes of cities drawn alike, per km², shape (n,).

    The mean over the cities of exp(-d² / 2σ²) / 2πσ² with d the great-circle distance; a city further away than 6 σ
    adds nothing. It integrates to 1 over the Earth, sea included.
    """
    points = unit_vectors(np.ravel(lon), np.ravel(lat))
    total = np.zeros(len(points))
    if not len(points):
        return total
    centres = unit_vectors(cities.lon, cities.lat)
    reach = max(chord(REACH_SIGMAS * sigma_km), 2e-5)
    # Points are taken cube by cube, so that distances are one matrix product of a cube's points and the cities near it.
    side = reach / 2
    along = math.ceil(2 / side) + 1
    cubes = np.floor((points + 1.0) / side).astype(np.int64)
    keys = (cubes[:, 0] * along + cubes[:, 1]) * along + cubes[:, 2]
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    middles: FloatArray = np.asarray((cubes[order[starts]] + 0.5) * side - 1.0, dtype=np.float64)
    ends = np.append(starts[1:], len(points))
    cube, city = neighbours(middles, centres, reach + side * math.sqrt(3) / 2)
    by_cube = np.argsort(cube, kind="stable")
    city = city[by_cube]
    bounds = np.searchsorted(cube[by_cube], np.arange(len(starts) + 1))
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        near = centres[city[bounds[number] : bounds[number + 1]]]
        rows = order[starts[number] : ends[number]]
        step = max(1, _BLOCK // len(near))
        for first in range(0, len(rows), step):
            block = rows[first : first + step]
            total[block] = _sum_of_gaussians(points[block], near, sigma_km, reach)
    return total / (len(cities) * 2 * math.pi * sigma_km**2)


def _sum_of_gaussians(points: FloatArray, centres: FloatArray, sigma_km: float, reach: float) -> FloatArray:
    """Σ exp(-d² / 2σ²) over the centres nearer than `reach`, a straight line, for unit vectors; shape (n,)."""
    squared = np.maximum(2.0 - 2.0 * (points @ centres.T), 0.0)
    is_far = squared > reach**2
    values = np.sqrt(squared, out=squared)
    values *= 0.5
    np.arcsin(np.minimum(values, 1.0, out=values), out=values)
    values *= 2 * EARTH_RADIUS_KM / sigma_km
    values *= values
    values *= -0.5
    np.exp(values, out=values)
    values[is_far] = 0.0
    return np.asarray(values.sum(axis=1))
