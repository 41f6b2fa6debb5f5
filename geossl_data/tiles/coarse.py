"""Whole scenes seen coarsely: windows at 20 to 160 m, taken from the overviews that the rasters bring along.

A score of a thousand places on a tile needs no pixel of 10 m: one overview of a scene serves all of them, for a small
share of the bytes. Numbers are read here as stored; where the raster has no overview, the full resolution is read and
averaged, which gives much the same for many more bytes. Nothing of this is cut into shards.
"""

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_NODATA, SCL_NODATA
from geossl_data.files import atomic_path
from geossl_data.grid import Bounds, Grid
from geossl_data.scenes.hrefs import redact
from geossl_data.tiles.radiometry import mask_power
from geossl_data.tiles.rasters import ALIGNMENT_PX, MAX_WINDOW_NBYTES, Rasters, SkipError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

RESOLUTIONS_M = (20, 40, 80, 160)
"""What a place may be looked at in: whole multiples of the bands' own pixels, as overviews of factor two have them."""
LEAST_SIDE_PX = 24
"""Pixels along a place's side that a score needs: 5 % of the place are then 29 pixels."""
MARGIN_PX = 2
"""Source pixels read around a window that is warped."""

_WARPING = threading.Lock()
"""rasterio silences a warning while it warps by what all threads share (`warnings.catch_warnings`)."""


def coarse_resolution(size_px: int) -> int:
    """Metres a pixel at which a place of `size_px` 10 m pixels is looked at: 80 for 264, 40 for 96, never below 20."""
    return max((side for side in RESOLUTIONS_M if side * LEAST_SIDE_PX <= size_px * 10), default=RESOLUTIONS_M[0])


def coarse_grid(epsg: int, bounds: Bounds, resolution_m: int) -> Grid:
    """The grid of coarse pixels that covers `bounds` from its north-west corner on; the last ones may stick out."""
    west, south, east, north = bounds
    width = math.ceil((east - west) / resolution_m - ALIGNMENT_PX)
    height = math.ceil((north - south) / resolution_m - ALIGNMENT_PX)
    return Grid(epsg, west, north, float(resolution_m), max(1, width), max(1, height))


def read_coarse_numbers(rasters: Rasters, href: str, grid: Grid) -> NDArray[np.uint16]:
    """Mean digital numbers on a coarse grid, shape (height, width); 0 where nothing is measured.

    0 is no data also where the raster does not say so. The raster must share CRS and pixel lattice with the grid.
    Raises SkipError where it does not, holds no whole numbers, or cannot be read.
    """

    def read(dataset: "DatasetReader") -> NDArray[np.uint16]:
        values, factor = _decimated(dataset, href, grid)
        nodata = 0 if dataset.nodata is None else dataset.nodata
        valid = (values != nodata) & (values != S2_NODATA)
        mean = _block_means(np.where(valid, values, 0).astype(np.float64), valid, factor)
        return np.where(np.isnan(mean), S2_NODATA, np.clip(np.rint(mean), 1, 65535)).astype(np.uint16)

    return rasters.on_dataset(href, read)


def read_coarse_classes(rasters: Rasters, href: str, grid: Grid) -> NDArray[np.uint8]:
    """The class of one pixel of each coarse one, shape (height, width); 0 where there is none.

    Classes are never averaged: the mean of 4 and 10 is no class. Raises SkipError as `read_coarse_numbers`.
    """

    def read(dataset: "DatasetReader") -> NDArray[np.uint8]:
        values, factor = _decimated(dataset, href, grid)
        if values.size and int(values.max()) > 255:
            raise SkipError("wrong-dtype", f"{redact(href)}: class {int(values.max())} where 0 to 255 belong")
        picked = values[factor // 2 :: factor, factor // 2 :: factor].astype(np.uint8)
        return np.where(picked == (dataset.nodata or SCL_NODATA), np.uint8(SCL_NODATA), picked)

    return rasters.on_dataset(href, read)


def read_coarse_power(rasters: Rasters, href: str, grid: Grid) -> NDArray[np.float32]:
    """Mean linear power on a coarse grid, shape (height, width), NaN where there is no measurement.

    Masked first, then averaged by area from the coarsest overview that is no coarser than the grid: any projected
    CRS, any lattice. Raises SkipError: no overlap, not floating point, several bands, not north-up, or unreadable.
    """

    def read(dataset: "DatasetReader") -> NDArray[np.float32]:
        from rasterio.crs import CRS
        from rasterio.transform import Affine
        from rasterio.warp import Resampling, reproject, transform_bounds

        _require_readable(dataset, href, "f")
        target, transform = CRS.from_epsg(grid.epsg), dataset.transform
        west, south, east, north = transform_bounds(target, dataset.crs, *grid.bounds, densify_pts=21)
        if not all(map(np.isfinite, (west, south, east, north))):
            raise SkipError("outside", f"{redact(href)}: the tile lies outside its coordinate reference system")
        finest = min(transform.a, -transform.e)
        factor = max((level for level in dataset.overviews(1) if level * finest <= grid.resolution_m * 1.01), default=1)
        margin = MARGIN_PX * factor
        columns = [int(np.clip((x - transform.c) / transform.a, -1e9, 1e9)) for x in (west, east)]
        rows = [int(np.clip((y - transform.f) / transform.e, -1e9, 1e9)) for y in (north, south)]
        # From and to whole overview pixels, so that each comes as it is stored.
        left, top = (max(first - margin, 0) // factor * factor for first in (columns[0], rows[0]))
        right = min(-(-(columns[1] + margin + 1) // factor) * factor, dataset.width)
        bottom = min(-(-(rows[1] + margin + 1) // factor) * factor, dataset.height)
        if left >= right or top >= bottom:
            raise SkipError("outside", f"{redact(href)}: the tile lies outside this raster")
        values = _read(dataset, href, left, top, right - left, bottom - top, factor)
        with np.errstate(over="ignore"):
            power = values.astype(np.float32)
        if dataset.nodata is not None:
            power[values == dataset.nodata] = np.nan
        coarse = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
        with _WARPING:
            reproject(
                mask_power(power),
                coarse,
                src_transform=Affine(
                    transform.a * factor,
                    0,
                    transform.c + left * transform.a,
                    0,
                    transform.e * factor,
                    transform.f + top * transform.e,
                ),
                src_crs=dataset.crs,
                src_nodata=np.nan,
                dst_transform=Affine(grid.resolution_m, 0, grid.x, 0, -grid.resolution_m, grid.y),
                dst_crs=target,
                dst_nodata=np.nan,
                resampling=Resampling.average,
                num_threads=1,
                tolerance=0.01,
            )
        return mask_power(coarse)

    return rasters.on_dataset(href, read)


def _require_readable(dataset: "DatasetReader", href: str, kinds: str) -> None:
    name, transform = redact(href), dataset.transform
    if np.dtype(dataset.dtypes[0]).kind not in kinds:
        wanted = "linear power is a float" if kinds == "f" else "whole numbers belong"
        raise SkipError("wrong-dtype", f"{name}: {dataset.dtypes[0]} where {wanted}")
    if dataset.count != 1:
        raise SkipError("wrong-bands", f"{name}: {dataset.count} bands in one file where 1 belongs")
    if dataset.crs is None:
        raise SkipError("wrong-crs", f"{name}: states no coordinate reference system")
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise SkipError("off-grid", f"{name}: not north-up, its transform is {tuple(transform)[:6]}")


def _decimated(dataset: "DatasetReader", href: str, grid: Grid) -> tuple[NDArray[Any], int]:
    """A window of whole overview pixels on the grid's lattice, and how many of them lie along a coarse pixel.

    The coarsest overview is taken whose pixels fill the grid's exactly. 0 beyond the raster.
    """
    _require_readable(dataset, href, "ui")
    name, transform = redact(href), dataset.transform
    epsg = dataset.crs.to_epsg()
    if epsg != grid.epsg:
        raise SkipError("wrong-crs", f"{name}: lies in EPSG:{epsg}, the tile in EPSG:{grid.epsg}")
    ratio = grid.resolution_m / transform.a
    side = round(ratio)
    square = abs(transform.a + transform.e) <= 1e-9 * transform.a
    if not (square and side >= 1 and abs(ratio - side) <= 1e-6 * side):
        pixel = f"{transform.a:g} × {-transform.e:g} m"
        raise SkipError("wrong-resolution", f"{name}: pixels of {pixel} do not fill pixels of {grid.resolution_m:g} m")
    column, row = (grid.x - transform.c) / transform.a, (grid.y - transform.f) / transform.e
    shift = max(abs(column - round(column)), abs(row - round(row)))
    if shift > ALIGNMENT_PX:
        raise SkipError("off-grid", f"{name}: the tile's corner lies {shift:.3g} px off a pixel corner")
    column, row = round(column), round(row)
    levels = [1, *dataset.overviews(1)]
    factor = max(level for level in levels if not (side % level or column % level or row % level))
    left, right = max(column, 0), min(column + grid.width * side, dataset.width)
    top, bottom = max(row, 0), min(row + grid.height * side, dataset.height)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{name}: the tile lies outside this raster")
    whole = np.zeros((grid.height * side // factor, grid.width * side // factor), np.dtype(dataset.dtypes[0]))
    part = _read(dataset, href, left, top, right - left, bottom - top, factor)
    first_row, first_column = (top - row) // factor, (left - column) // factor
    whole[first_row : first_row + part.shape[0], first_column : first_column + part.shape[1]] = part
    return whole, side // factor


def _read(
    dataset: "DatasetReader", href: str, column: int, row: int, width: int, height: int, factor: int
) -> NDArray[Any]:
    """A window in pixels of the overview of that factor; SkipError where it, or a storage block, is absurdly large."""
    from rasterio.windows import Window

    shape = (math.ceil(height / factor), math.ceil(width / factor))
    itemsize = np.dtype(dataset.dtypes[0]).itemsize
    block_height, block_width = dataset.block_shapes[0]
    largest = max(shape[0] * shape[1], block_height * block_width) * itemsize
    if largest > MAX_WINDOW_NBYTES:
        raise SkipError("too-large", f"{redact(href)}: {largest} bytes to decode, at most {MAX_WINDOW_NBYTES} allowed")
    return np.asarray(dataset.read(1, window=Window(column, row, width, height), out_shape=shape))


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
