"""Cells of equal area that cover the Earth."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import EARTH_RADIUS_KM

DEFAULT_KM = 1000.0
SMALLEST_KM, LARGEST_KM = 1.0, 10_000.0
"""Sides between which cells can be asked for; the largest are quarters of a hemisphere."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def rows_of(km: float) -> tuple[FloatArray, IntArray]:
    """Upper edges of the rows of a hemisphere as sin(latitude), shape (m,), and cells per row, shape (m,).

    Rows are first given the same height, about `km`, and as many cells as fit (the construction of the Major TOM
    grid); then their edges are moved so that each row holds its number of cells of one and the same area, the
    hemisphere's over their number.
    """
    n_rows = max(1, round(EARTH_RADIUS_KM * math.pi / 2 / km))
    edges = np.sin(np.linspace(0.0, math.pi / 2, n_rows + 1))
    areas = 2 * math.pi * EARTH_RADIUS_KM**2 * np.diff(edges)
    columns = np.maximum(1, np.round(areas / km**2)).astype(np.int64)
    upper = np.cumsum(columns) / columns.sum()
    return upper, columns


def equal_area_cells(km: float = DEFAULT_KM) -> Callable[[FloatArray, FloatArray], NDArray[np.str_]]:
    """Cells of about `km` × `km`, all of the same area on the sphere, named by row and column: `N3C12`.

    Rows count from the equator towards the pole, columns eastwards from 180°. Raises SamplingError for a side outside
    1 to 10,000 km.
    """
    if not SMALLEST_KM <= km <= LARGEST_KM:
        raise SamplingError(f"cells of {km:g} km: give a side between {SMALLEST_KM:g} and {LARGEST_KM:g} km")
    upper, columns = rows_of(km)
    widths = (len(str(len(columns) - 1)), len(str(int(columns.max()) - 1)))

    def cells(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
        height = np.abs(np.sin(np.radians(lat)))
        row = np.searchsorted(upper, height, side="right").clip(0, len(columns) - 1)
        turn = (lon + 180.0) / 360.0
        column = np.minimum(np.floor(turn * columns[row]).astype(np.int64), columns[row] - 1)
        numbers = (row * 2 + (lat < 0)) * int(columns.max()) + column
        found, which = np.unique(numbers, return_inverse=True)
        names = [_name(int(number), int(columns.max()), widths) for number in found]
        return np.array(names, dtype=np.str_)[which]

    return cells


def _name(number: int, most_columns: int, widths: tuple[int, int]) -> str:
    row, column = divmod(number, most_columns)
    return f"{'NS'[row % 2]}{row // 2:0{widths[0]}d}C{column:0{widths[1]}d}"
