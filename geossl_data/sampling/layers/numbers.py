"""Numbers at points, from a column of a file: how much each place is wanted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data.errors import SamplingError, first_line
from geossl_data.grid import unit_vectors
from geossl_data.sampling.layers.polygons import Polygons
from geossl_data.sampling.layers.vectors import polygons_of, read_layer, require_field
from geossl_data.sampling.positions import (
    LATITUDE_NAMES,
    LONGITUDE_NAMES,
    column,
    numbers,
    read_columns,
    require_lonlat,
)
from geossl_data.sampling.spread import chord, neighbours
from geossl_data.vector_files import PARQUET

REACH_KM = 1.32
"""Half the side of a place of 264 pixels."""
LEAST_REACH_KM = 0.02
"""Rows are searched for in cubes of this size at least."""
_BLOCK = 50_000
"""Points looked up together."""

FloatArray = NDArray[np.float64]
Numbers = Callable[[FloatArray, FloatArray], FloatArray]
"""(lon, lat) in degrees, shape (n,) → numbers ≥ 0, shape (n,), NaN where there is none."""


def values_of(spec: str, *, reach_km: float = REACH_KM) -> Numbers:
    """The numbers that FILE:COLUMN gives points, all finite and ≥ 0, or NaN.

    FILE: polygons (any vector file): the field of the first polygon that holds the point. Points, or a CSV or Parquet
    table with columns lon and lat (or longitude, latitude) in degrees: the mean over the rows at most `reach_km` away.
    The path ends at the last colon and is relative to the current folder. Raises SamplingError in one line where the
    file or the column is not there, or holds something that is no number, negative or infinite, and where lon and lat
    look swapped.
    """
    name, colon, field = spec.rpartition(":")
    if not (colon and name and field):
        raise SamplingError(f"{spec!r}: expected FILE:COLUMN, a table with lon, lat and that column, or a vector file")
    if "://" in name:
        raise SamplingError("a table of weights is a file on this machine, not an address; download it first")
    if not LEAST_REACH_KM <= reach_km <= 20_000:
        raise SamplingError(f"a reach of {reach_km:g} km: give {LEAST_REACH_KM:g} km or more")
    path = Path(name)
    if not path.is_file():
        raise SamplingError(f"{path}: no such file; expected FILE:COLUMN")
    found = _of_rows(*_from_table(path, field), reach_km) if _is_table(path) else _from_features(path, field, reach_km)

    def at(lon: FloatArray, lat: FloatArray) -> FloatArray:
        x, y = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        values = np.full(len(x), np.nan)
        good = np.isfinite(x) & (np.abs(y) <= 90.0)
        values[good] = found((x[good] + 180.0) % 360.0 - 180.0, y[good])
        return values

    return at


def _is_table(path: Path) -> bool:
    """Is it a table with lon and lat rather than a file of features?"""
    if path.suffix.lower() not in PARQUET:
        return path.suffix.lower() in (".csv", ".tsv", ".txt")
    try:
        return b"geo" not in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError) as error:
        raise SamplingError(f"{path}: not a readable Parquet table: {first_line(error)}") from None


def _from_table(path: Path, wanted: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Longitudes, latitudes and numbers of a table's rows, rows without a number left out."""
    columns = read_columns(path)
    lons, lats = column(columns, LONGITUDE_NAMES), column(columns, LATITUDE_NAMES)
    for name, found in (("lon", lons), ("lat", lats), (wanted, columns.get(wanted))):
        if found is None:
            require_field(path, name, columns)
    assert lons is not None
    assert lats is not None
    lon, lat = numbers(lons, f"{path}: lon", missing=np.nan), numbers(lats, f"{path}: lat", missing=np.nan)
    return _checked_rows(path, lon, lat, _weights(path, wanted, columns[wanted]))


def _from_features(path: Path, field: str, reach_km: float) -> Numbers:
    import shapely

    frame = read_layer(path, field)
    values = _weights(path, field, frame[field].tolist())
    shapes = np.array(frame.geometry.to_numpy(), dtype=object)
    is_point = shapely.get_type_id(shapes) == shapely.GeometryType.POINT
    if is_point.any():
        points = shapes[is_point]
        rows = _checked_rows(path, shapely.get_x(points), shapely.get_y(points), values[is_point])
        return _of_rows(*rows, reach_km)
    return _of_polygons(polygons_of(path, frame), values)


def _weights(path: Path, name: str, given: list[Any]) -> FloatArray:
    """A column as weights, NaN where one is missing; SamplingError names the first that cannot be one."""
    values = numbers(given, f"{path}: {name}", missing=np.nan)
    wrong = np.flatnonzero((values < 0) | np.isinf(values))
    if len(wrong):
        row = int(wrong[0])
        raise SamplingError(f"{path}: {name} is {values[row]:g} in row {row + 1}; expected finite numbers, 0 or more")
    if not np.isfinite(values).any():
        raise SamplingError(f"{path}: {name} holds no number")
    return values


def _checked_rows(
    path: Path, lon: FloatArray, lat: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The rows that have a number, after a look at all positions."""
    require_lonlat(lon, lat, str(path), expect_land=True)
    known = np.isfinite(values)
    return lon[known], lat[known], values[known]


def _of_rows(row_lon: FloatArray, row_lat: FloatArray, values: FloatArray, reach_km: float) -> Numbers:
    rows, reach = unit_vectors(row_lon, row_lat), chord(reach_km)

    def at(lon: FloatArray, lat: FloatArray) -> FloatArray:
        total, count = np.zeros(len(lon)), np.zeros(len(lon))
        points = unit_vectors(lon, lat)
        for start in range(0, len(lon), _BLOCK):
            block = slice(start, start + _BLOCK)
            point, row = neighbours(points[block], rows, reach)
            total[block] = np.bincount(point, weights=values[row], minlength=len(points[block]))
            count[block] = np.bincount(point, minlength=len(points[block]))
        return np.asarray(np.divide(total, count, out=np.full(len(lon), np.nan), where=count > 0))

    return at


def _of_polygons(polygons: Polygons, values: FloatArray) -> Numbers:
    known = np.append(values, np.nan)

    def at(lon: FloatArray, lat: FloatArray) -> FloatArray:
        return np.asarray(known[polygons.first(lon, lat)])

    return at
