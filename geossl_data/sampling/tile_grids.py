"""The ground of a Sentinel-2 tile on which all bands have whole pixels, and the squares that fill it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import Bounds, Grid, common_bounds

STEP_M = 60.0
"""Corners of places are multiples of this from their grid's origin."""

_ON_GRID = 1e-3
"""Largest misfit of two grids, in pixels, that counts as agreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """The ground on which all Sentinel-2 bands of a scene have whole pixels."""

    epsg: int
    bounds: Bounds
    """west, south, east, north in metres; west and north are multiples of 60 m from the coarsest band's origin."""

    @property
    def side_px(self) -> int:
        """Side of the largest place that fits, in 10 m pixels."""
        west, south, east, north = self.bounds
        return max(0, int((min(east - west, north - south) + 1e-6) // STEP_M) * 6)


def tile_grid(grids: Sequence[Grid]) -> TileGrid | str:
    """The common ground of a scene's bands, or one line that says why there is none.

    A band's grid agrees with the coarsest when its origin differs by a whole number of its own pixels. Bounds are
    moved inwards to the next multiple of 60 m from the coarsest band's origin, so the answer may be a little smaller
    than the scene.
    """
    if len({grid.epsg for grid in grids}) != 1:
        return f"bands in different CRSs: {sorted({grid.epsg for grid in grids})}"
    coarsest = max(grids, key=lambda grid: grid.resolution_m)
    for grid in grids:
        for origin, reference in ((grid.x, coarsest.x), (grid.y, coarsest.y)):
            pixels = (origin - reference) / grid.resolution_m
            if abs(pixels - round(pixels)) > _ON_GRID:
                return f"a {grid.resolution_m:g} m band lies {abs(pixels - round(pixels)):.2f} pixels off the others"
    west, south, east, north = common_bounds(grids)
    west = coarsest.x + np.ceil((west - coarsest.x) / STEP_M - _ON_GRID) * STEP_M
    north = coarsest.y - np.ceil((coarsest.y - north) / STEP_M - _ON_GRID) * STEP_M
    return TileGrid(epsg=coarsest.epsg, bounds=(float(west), south, east, float(north)))


def corners(bounds: Bounds, side_m: float) -> NDArray[np.float64]:
    """North-west corners of the squares of `side_m` that fill `bounds`, shape (n, 2), row by row from the north.

    What is left over at the edges is shared evenly, in steps of 60 m.
    """
    west, south, east, north = bounds
    columns, rows = int((east - west + 1e-6) // side_m), int((north - south + 1e-6) // side_m)
    if columns <= 0 or rows <= 0:
        return np.empty((0, 2))
    shift_x = (east - west - columns * side_m) / 2 // STEP_M * STEP_M
    shift_y = (north - south - rows * side_m) / 2 // STEP_M * STEP_M
    xs = west + shift_x + side_m * np.arange(columns)
    ys = north - shift_y - side_m * np.arange(rows)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def lattice_of(tile: TileGrid) -> tuple[int, float, float]:
    """Zone and origin, metres, of the 60 m lattice on which the corners of a tile's places lie: equal for tiles that
    share it."""
    west, _, _, north = tile.bounds
    return tile.epsg, round(west % STEP_M, 3) % STEP_M, round(north % STEP_M, 3) % STEP_M
