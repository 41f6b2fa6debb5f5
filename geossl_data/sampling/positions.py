"""Tables of positions on the Earth that users bring: read, checked, and told when their columns are swapped."""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geossl_data.errors import DatasetError, SamplingError, first_line
from geossl_data.tables import open_parquet

LONGITUDE_NAMES = ("lon", "longitude", "lng")
LATITUDE_NAMES = ("lat", "latitude")

_COAST_DEGREES = 0.1
"""Points so near land count as on it; the map of the land is about as coarse, and cities lie on coasts."""
_MOST_TESTED = 2000
"""Points of a table that are tested against the land."""
_LEAST_TESTED = 3
_FEW_ON_LAND, _MOST_ON_LAND = 0.8, 0.95
"""Columns look swapped where a smaller share of points than the first lies on land, and than the second if swapped."""

FloatArray = NDArray[np.float64]


def read_columns(path: Path) -> dict[str, list[Any]]:
    """The columns of a CSV, TSV or Parquet table by name; numbers or text, None or empty where a value is missing.

    Raises SamplingError in one line where the file is absent or no such table.
    """
    if not path.is_file():
        raise SamplingError(f"{path}: no such file; give a CSV or Parquet table with columns lon and lat")
    if path.suffix.lower() in (".parquet", ".pq", ".geoparquet"):
        try:
            table = open_parquet(path)
            return {name: table[name].to_pylist() for name in table.column_names}
        except DatasetError as error:
            raise SamplingError(str(error)) from None
        except (KeyError, ValueError, OverflowError) as error:  # a name that comes twice, a time that no year has
            raise SamplingError(f"{path}: a column cannot be read: {first_line(error)}") from None
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file, delimiter=delimiter) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SamplingError(f"{path}: not a readable CSV table in UTF-8: {first_line(error)}") from None
    uneven = next((number for number, row in enumerate(rows, start=1) if len(row) != len(header)), None)
    if uneven is not None:
        found = f"{len(rows[uneven - 1])} values in row {uneven}, {len(header)} in the header"
        separator = "commas" if delimiter == "," else "tabs"
        raise SamplingError(f"{path}: not a readable table: {found}; separate by {separator}")
    return {name: [row[position] for row in rows] for position, name in enumerate(header)}


def column(columns: Mapping[str, list[Any]], names: Sequence[str]) -> list[Any] | None:
    """The first column that has one of some names, in any case; None where there is none."""
    known = {name.strip().lower(): name for name in reversed(list(columns))}
    return next((columns[known[name]] for name in names if name in known), None)


def numbers(values: Sequence[Any], what: str, *, missing: float | None = None) -> FloatArray:
    """Values as float64; SamplingError names the first that is no number. missing: stands for an absent value."""
    try:
        given = [missing if missing is not None and value in (None, "") else value for value in values]
        return np.array([float(value) for value in given], dtype=np.float64)
    except (TypeError, ValueError):
        row, value = next((row, value) for row, value in enumerate(given, start=1) if not _is_number(value))
        raise SamplingError(f"{what} is {str(value)[:40]!r} in row {row}; expected a number") from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def require_lonlat(lon: ArrayLike, lat: ArrayLike, what: str, *, expect_land: bool = True) -> None:
    """Check that longitudes lie within ±180° and latitudes within ±90°, and do not look swapped.

    what: begins the message, as a file's name. expect_land: most points should lie on land or within 0.1° of it; where
    few do, and nearly all would with the two columns swapped, they are taken to be swapped. A swap within a region
    that its mirror image also finds on land, as in central Africa, cannot be told; nor where there are fewer than
    three points. Raises SamplingError with the first row at fault, counted from 1.
    """
    lon, lat = np.asarray(lon, dtype=np.float64).ravel(), np.asarray(lat, dtype=np.float64).ravel()
    for name, values, limit in (("lat", lat, 90.0), ("lon", lon, 180.0)):
        good = np.abs(values) <= limit
        if good.all():
            continue
        row = int(np.argmin(good))
        fits_swapped = bool((np.abs(lat) <= 180.0).all() and (np.abs(lon) <= 90.0).all())
        hint = (
            "; lon and lat look swapped"
            if fits_swapped
            else "; longitudes from 0 to 360 need 360 taken off those above 180"
            if name == "lon" and bool(((lon >= 0.0) & (lon <= 360.0)).all())
            else ""
        )
        raise SamplingError(f"{what}: {name} {values[row]:g} in row {row + 1} is not within ±{limit:g}{hint}")
    if expect_land and len(lon) >= _LEAST_TESTED and bool((np.abs(lon) <= 90.0).all()):
        rows = np.unique(np.linspace(0, len(lon) - 1, min(len(lon), _MOST_TESTED)).astype(np.int64))
        as_given = _share_on_land(lon[rows], lat[rows])
        if as_given < _FEW_ON_LAND and (swapped := _share_on_land(lat[rows], lon[rows])) >= _MOST_ON_LAND:
            raise SamplingError(
                f"{what}: {as_given:.0%} of the points lie on land, {swapped:.0%} would with lon and lat swapped; "
                f"swap the two columns"
            )


def _share_on_land(lon: FloatArray, lat: FloatArray) -> float:
    """Share of points on land or near it, 0 to 1."""
    import shapely

    near, _ = _land_tree().query(shapely.points(lon, lat), predicate="dwithin", distance=_COAST_DEGREES)
    return len(np.unique(near)) / len(lon)


@lru_cache(maxsize=1)
def _land_tree() -> Any:
    import shapely

    # Not at the top: land stands on strata, and strata on what reads tables of weights.
    from geossl_data.sampling.land import land_polygons

    return shapely.STRtree(land_polygons())
