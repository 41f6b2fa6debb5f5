"""Rasters written for tests: one's own pictures and GeoTIFFs."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

DRIVERS = {".tif": "GTiff", ".png": "PNG", ".jp2": "JP2OpenJPEG", ".jpg": "JPEG"}


def write_raster(
    path: Path,
    array: np.ndarray,
    *,
    names: tuple[str, ...] = (),
    scales: tuple[float, ...] = (),
    offsets: tuple[float, ...] = (),
    **profile: Any,
) -> np.ndarray:
    """A raster of (bands, rows, columns), without loss but for JPEG; the array again."""
    driver = DRIVERS[path.suffix]
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    count, height, width = array.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, count=count, height=height, width=width, dtype=array.dtype, **lossless, **profile
        ) as file:
            file.write(array)
            for number, name in enumerate(names, start=1):
                file.set_band_description(number, name)
            if scales:
                file.scales = scales
            if offsets:
                file.offsets = offsets
    return array


def numbers(*shape: int, dtype: str = "uint16", start: int = 1) -> np.ndarray:
    """Counts on from `start`: every pixel distinct as far as the dtype goes."""
    return np.arange(start, start + np.prod(shape)).reshape(shape).astype(dtype)
