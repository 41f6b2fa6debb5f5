"""Small rasters whose every pixel is distinct, written with rasterio alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WriteRaster = Callable[..., str]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """A function that writes one GeoTIFF and gives its path."""
    import rasterio
    from rasterio.transform import Affine

    def write(
        name: str,
        array: np.ndarray[Any, Any],
        *,
        x: float,
        y: float,
        resolution_m: float,
        epsg: int | None = 32632,
        **profile: Any,
    ) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bands = array if array.ndim == 3 else array[None]
        options: dict[str, Any] = {
            "driver": "GTiff",
            "count": bands.shape[0],
            "height": bands.shape[1],
            "width": bands.shape[2],
            "dtype": bands.dtype,
            "crs": None if epsg is None else f"EPSG:{epsg}",
            "transform": Affine(resolution_m, 0, x, 0, -resolution_m, y),
        }
        with rasterio.open(path, "w", **(options | profile)) as dataset:
            dataset.write(bands)
        return str(path)

    return write
