"""Pixels onto another grid, through rasterio: what has to be resampled is resampled here."""

import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import Bounds, Grid

if TYPE_CHECKING:
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

Rule = Literal["bilinear", "average"]

_WARPING = threading.Lock()
"""rasterio silences a warning while it warps by what all threads share (`warnings.catch_warnings`)."""


def bounds_in(crs: int | str, grid: Grid) -> Bounds:
    """The bounds of a grid in another CRS, not finite where it has none there. crs: EPSG code or WKT."""
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform_bounds

    try:
        west, south, east, north = transform_bounds(_crs(grid.epsg), _crs(crs), *grid.bounds, densify_pts=21)
    except (CRSError, RasterioError):
        return (np.nan, np.nan, np.nan, np.nan)
    return west, south, east, north


def warped(
    values: NDArray[np.float32],
    transform: tuple[float, float, float, float, float, float],
    crs: int | str | None,
    grid: Grid,
    rule: Rule,
) -> NDArray[np.float32]:
    """Values on another grid, shape (height, width): by the rule over the neighbours that are not NaN, else NaN.

    transform: a b c d e f of the values. bilinear interpolates between the four nearest; average weighs all that a
    pixel of the grid covers by their area.
    """
    from rasterio.transform import Affine
    from rasterio.warp import Resampling, reproject

    onto = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
    with _WARPING:
        reproject(
            values,
            onto,
            src_transform=Affine(*transform),
            src_crs=_crs(crs),
            src_nodata=np.nan,
            dst_transform=Affine(grid.resolution_m, 0, grid.x, 0, -grid.resolution_m, grid.y),
            dst_crs=_crs(grid.epsg),
            dst_nodata=np.nan,
            resampling=Resampling[rule],
            num_threads=1,
            tolerance=0.01,
        )
    return onto


def _crs(crs: int | str | None) -> "CRS | Any":
    from rasterio.crs import CRS

    return CRS.from_epsg(crs) if isinstance(crs, int) else CRS.from_user_input(crs)


def box_by_points(dataset: "DatasetReader", grid: Grid, margin: int) -> tuple[int, int, int, int] | None:
    """The pixels of a raster with ground control points that a grid's edge and a margin touch; None outside.

    As left, top, right, bottom. GDAL's first order polynomial through the points places them.
    """
    from rasterio.transform import GCPTransformer
    from rasterio.warp import transform as transformed

    points, crs = dataset.gcps
    west, south, east, north = grid.bounds
    steps = np.linspace(0.0, 1.0, 9)
    x = np.concatenate([west + steps * (east - west)] * 2 + [np.full(9, west), np.full(9, east)])
    y = np.concatenate([np.full(9, north), np.full(9, south)] + [south + steps * (north - south)] * 2)
    lon, lat = transformed(_crs(grid.epsg), crs, x.tolist(), y.tolist())
    with GCPTransformer(points) as transformer:
        rows, columns = transformer.rowcol(lon, lat, op=np.asarray)
    rows, columns = np.asarray(rows, float), np.asarray(columns, float)
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        return None
    left, right = max(int(columns.min()) - margin, 0), min(int(columns.max()) + margin + 1, dataset.width)
    top, bottom = max(int(rows.min()) - margin, 0), min(int(rows.max()) + margin + 1, dataset.height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def warped_by_points(
    values: NDArray[np.float32], dataset: "DatasetReader", box: tuple[int, int, int, int], grid: Grid
) -> NDArray[np.float32]:
    """Values of a window of a raster with ground control points on a grid: bilinear over what is not NaN, else NaN."""
    from rasterio.control import GroundControlPoint
    from rasterio.transform import Affine
    from rasterio.warp import Resampling, reproject

    points, crs = dataset.gcps
    moved = [
        GroundControlPoint(row=point.row - box[1], col=point.col - box[0], x=point.x, y=point.y, z=point.z)
        for point in points
    ]
    onto = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
    with _WARPING:
        reproject(
            values,
            onto,
            gcps=moved,
            src_crs=crs,
            src_nodata=np.nan,
            dst_transform=Affine(grid.resolution_m, 0, grid.x, 0, -grid.resolution_m, grid.y),
            dst_crs=_crs(grid.epsg),
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
            num_threads=1,
        )
    return onto
