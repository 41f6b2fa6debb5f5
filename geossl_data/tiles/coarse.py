"""Whole scenes seen coarsely: windows at 20 to 160 m, taken from the overviews that the rasters bring along.

A score of a thousand places on a tile needs no pixel of 10 m: one overview of a scene serves all of them, for a small
share of the bytes. Numbers are read here as stored; where the raster has no overview, the full resolution is read and
averaged, which gives much the same for many more bytes. Nothing of this is cut into shards.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_NODATA, SCL_NODATA
from geossl_data.files import atomic_path
from geossl_data.grid import Bounds, Grid
from geossl_data.scenes.hrefs import redact
from geossl_data.tiles.radiometry import mask_power
from geossl_data.tiles.rasters import ALIGNMENT_PX, Pixels, Rasters, SkipError
from geossl_data.tiles.warping import bounds_in, warped
from geossl_data.tiles.windows import Array, Layout, Source, power_of, require_one_north_up_band, require_size

RESOLUTIONS_M = (20, 40, 80, 160)
"""What a place may be looked at in: whole multiples of the bands' own pixels, as overviews of factor two have them."""
LEAST_SIDE_PX = 24
"""Pixels along a place's side that a score needs: 5 % of the place are then 29 pixels."""
MARGIN_PX = 2
"""Overview pixels read around a window that is warped."""


def coarse_resolution(size_px: int) -> int:
    """Metres a pixel at which a place of `size_px` 10 m pixels is looked at: 80 for 264, 40 for 96, never below 20."""
    return max((side for side in RESOLUTIONS_M if side * LEAST_SIDE_PX <= size_px * 10), default=RESOLUTIONS_M[0])


def coarse_grid(epsg: int, bounds: Bounds, resolution_m: int) -> Grid:
    """The grid of coarse pixels that covers `bounds` from its north-west corner on; the last ones may stick out."""
    west, south, east, north = bounds
    width = math.ceil((east - west) / resolution_m - ALIGNMENT_PX)
    height = math.ceil((north - south) / resolution_m - ALIGNMENT_PX)
    return Grid(epsg, west, north, float(resolution_m), max(1, width), max(1, height))


@dataclass(frozen=True, slots=True)
class CoarseWant:
    """One window of one band on a coarse grid."""

    href: str
    """Unsigned."""
    grid: Grid
    kind: Literal["numbers", "classes", "power"]

    @property
    def nbytes(self) -> int:
        """Size of its pixels, in the type of power."""
        return 4 * self.grid.width * self.grid.height

    def source(self, layout: Layout) -> Source:
        """The window of whole overview pixels that it is made of. Raises SkipError."""
        kinds = "f" if self.kind == "power" else "ui"
        if layout.dtype.kind not in kinds:
            wanted = "linear power is a float" if kinds == "f" else "whole numbers belong"
            raise SkipError("wrong-dtype", f"{redact(self.href)}: {layout.dtype} where {wanted}")
        require_one_north_up_band(layout, self.href)
        return _power_source(self, layout) if self.kind == "power" else _number_source(self, layout)


def read_coarse_numbers(rasters: Rasters, href: str, grid: Grid) -> NDArray[np.uint16]:
    """Mean digital numbers on a coarse grid, shape (height, width); 0 where nothing is measured.

    0 is no data also where the raster does not say so. The raster must share CRS and pixel lattice with the grid.
    Raises SkipError where it does not, holds no whole numbers, or cannot be read.
    """
    return rasters.read(CoarseWant(href, grid, "numbers")).values


def read_coarse_classes(rasters: Rasters, href: str, grid: Grid) -> NDArray[np.uint8]:
    """The class of one pixel of each coarse one, shape (height, width); 0 where there is none.

    Classes are never averaged: the mean of 4 and 10 is no class. Raises SkipError as `read_coarse_numbers`.
    """
    return rasters.read(CoarseWant(href, grid, "classes")).values


def read_coarse_power(rasters: Rasters, href: str, grid: Grid) -> NDArray[np.float32]:
    """Mean linear power on a coarse grid, shape (height, width), NaN where there is no measurement.

    Masked first, then averaged by area from the coarsest overview that is no coarser than the grid: any projected
    CRS, any lattice. Raises SkipError: no overlap, not floating point, several bands, not north-up, or unreadable.
    """
    return rasters.read(CoarseWant(href, grid, "power")).values


def _number_source(want: CoarseWant, layout: Layout) -> Source:
    """A window of whole overview pixels on the grid's lattice, of the coarsest level whose pixels fill the grid's."""
    name, grid = redact(want.href), want.grid
    a, _, c, _, e, f = layout.transform
    if layout.crs != grid.epsg:
        found = f"EPSG:{layout.crs}" if isinstance(layout.crs, int) else "another reference system"
        raise SkipError("wrong-crs", f"{name}: lies in {found}, the tile in EPSG:{grid.epsg}")
    ratio = grid.resolution_m / a
    side = round(ratio)
    if not (layout.is_square and side >= 1 and abs(ratio - side) <= 1e-6 * side):
        pixel = f"{a:g} × {-e:g} m"
        raise SkipError("wrong-resolution", f"{name}: pixels of {pixel} do not fill pixels of {grid.resolution_m:g} m")
    column, row = (grid.x - c) / a, (grid.y - f) / e
    shift = max(abs(column - round(column)), abs(row - round(row)))
    if shift > ALIGNMENT_PX:
        raise SkipError("off-grid", f"{name}: the tile's corner lies {shift:.3g} px off a pixel corner")
    column, row = round(column), round(row)
    factor, level = max(
        (factor, level)
        for level, factor in enumerate(layout.factors)
        if not (side % factor or column % factor or row % factor)
    )
    left, right = max(column, 0) // factor, -(-min(column + grid.width * side, layout.width) // factor)
    top, bottom = max(row, 0) // factor, -(-min(row + grid.height * side, layout.height) // factor)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{name}: the tile lies outside this raster")
    shape, per_pixel = (grid.height * side // factor, grid.width * side // factor), side // factor
    first_row, first_column = top - row // factor, left - column // factor

    def finish(values: Array) -> Pixels:
        whole = np.zeros(shape, values.dtype)
        whole[first_row : first_row + values.shape[0], first_column : first_column + values.shape[1]] = values
        if want.kind == "classes":
            return Pixels(
                _classes(whole, per_pixel, layout.nodata, want.href), "the middle one of an overview's pixels"
            )
        return Pixels(_means(whole, per_pixel, layout.nodata), f"mean of {side} × {side} pixels")

    require_size(want.href, layout, right - left, bottom - top)
    return Source(left, top, right - left, bottom - top, finish, is_heavy=True, level=level)


def _means(values: Array, factor: int, nodata: float | None) -> NDArray[np.uint16]:
    valid = (values != (0 if nodata is None else nodata)) & (values != S2_NODATA)
    mean = _block_means(np.where(valid, values, 0).astype(np.float64), valid, factor)
    return np.where(np.isnan(mean), S2_NODATA, np.clip(np.rint(mean), 1, 65535)).astype(np.uint16)


def _classes(values: Array, factor: int, nodata: float | None, href: str) -> NDArray[np.uint8]:
    if values.size and int(values.max()) > 255:
        raise SkipError("wrong-dtype", f"{redact(href)}: class {int(values.max())} where 0 to 255 belong")
    picked = values[factor // 2 :: factor, factor // 2 :: factor].astype(np.uint8)
    return np.where(picked == (nodata or SCL_NODATA), np.uint8(SCL_NODATA), picked)


def _power_source(want: CoarseWant, layout: Layout) -> Source:
    """What the grid's ground takes of the coarsest level that is no coarser than the grid, and a margin."""
    assert layout.crs is not None
    name = redact(want.href)
    a, b, c, d, e, f = layout.transform
    west, south, east, north = bounds_in(layout.crs, want.grid)
    if not all(map(math.isfinite, (west, south, east, north))):
        raise SkipError("outside", f"{name}: the tile lies outside its coordinate reference system")
    finest = min(a, -e)
    factor, level = max(
        (factor, level)
        for level, factor in enumerate(layout.factors)
        if level == 0 or factor * finest <= want.grid.resolution_m * 1.01
    )
    margin = MARGIN_PX * factor
    columns = [int(np.clip((x - c) / a, -1e9, 1e9)) for x in (west, east)]
    rows = [int(np.clip((y - f) / e, -1e9, 1e9)) for y in (north, south)]
    left, top = (max(first - margin, 0) // factor for first in (columns[0], rows[0]))
    right = -(-min(columns[1] + margin + 1, layout.width) // factor)
    bottom = -(-min(rows[1] + margin + 1, layout.height) // factor)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{name}: the tile lies outside this raster")
    transform = (a * factor, b, c + left * factor * a, d, e * factor, f + top * factor * e)

    def finish(values: Array) -> Pixels:
        coarse = warped(power_of(values, layout.nodata), transform, layout.crs, want.grid, "average")
        return Pixels(mask_power(coarse), "average in linear power")

    require_size(want.href, layout, right - left, bottom - top)
    return Source(left, top, right - left, bottom - top, finish, is_heavy=True, level=level)


def _block_means(values: NDArray[np.float64], valid: NDArray[np.bool_], factor: int) -> NDArray[np.float64]:
    """Mean of the valid values of each factor × factor block, NaN where there are none; values 0 where invalid."""
    shape = (values.shape[0] // factor, factor, values.shape[1] // factor, factor)
    count = valid.reshape(shape).sum(axis=(1, 3))
    total = values.reshape(shape).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def write_map(path: Path, values: NDArray[np.float32], grid: Grid) -> None:
    """Write one band of numbers as a tiled GeoTIFF with NaN for no data, atomically.

    Raises StorageError where the file cannot be written.
    """
    import rasterio
    from rasterio.transform import Affine

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": 1,
        "height": grid.height,
        "width": grid.width,
        "dtype": "float32",
        "crs": f"EPSG:{grid.epsg}",
        "transform": Affine(grid.resolution_m, 0, grid.x, 0, -grid.resolution_m, grid.y),
        "nodata": float("nan"),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 3,
    }
    with atomic_path(path) as temporary, rasterio.open(temporary, "w", **profile) as dataset:
        dataset.write(values, 1)
