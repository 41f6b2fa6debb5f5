"""Arrays → GeoTIFFs for people: what a desktop GIS shows rightly without being told anything."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import SCL_BAND
from geossl_data.errors import StorageError
from geossl_data.files import atomic_path
from geossl_data.tiles.gdal import OPENING
from geossl_data.tiles.windows import Transform

BLOCK_PX = 256
"""Side of the internal tiles; a place of the usual size has four."""

SCL_COLOURS: dict[int, tuple[int, int, int]] = {
    0: (0, 0, 0),
    1: (255, 0, 0),
    2: (47, 47, 47),
    3: (100, 50, 0),
    4: (0, 160, 0),
    5: (255, 230, 90),
    6: (0, 0, 255),
    7: (128, 128, 128),
    8: (192, 192, 192),
    9: (255, 255, 255),
    10: (100, 200, 255),
    11: (255, 150, 255),
}
"""Red, green and blue of the Sen2Cor scene classes, as ESA shows them."""
_ROLES = {"B02": "blue", "B03": "green", "B04": "red"}
"""What makes a viewer show natural colours, whatever the order of the bands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a GeoTIFF says of its numbers."""

    bands: tuple[str, ...]
    """Names, which become the bands' descriptions."""
    crs: str | None
    """`EPSG:32632` or WKT; None for pixels that lie nowhere."""
    transform: Transform | None
    """a b c d e f; None for pixels that lie nowhere."""
    nodata: float | None
    scale: float = 1.0
    """What a stored number is multiplied with, before `offset` is added."""
    offset: float = 0.0
    units: str = ""
    kind: Literal["numbers", "decibels", "classes"] = "numbers"
    tags: Mapping[str, str] = field(default_factory=dict)


def write_geotiff(path: Path, values: NDArray[Any], sheet: Sheet) -> None:
    """Write bands, shape (bands, rows, columns), as one GeoTIFF, atomically; deflate with a predictor.

    Cloud-optimised where it lies somewhere, with overviews where it is larger than a block: means of numbers, every
    second pixel of decibels and classes, neither of which may be averaged. The scene classification gets its colours.
    float16, which GDAL 3.10 does not write, becomes float32. Raises StorageError where it cannot be written.
    """
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
    from rasterio.transform import Affine

    stored = values.astype(np.float32) if values.dtype == np.float16 else values
    count, height, width = stored.shape
    profile: dict[str, Any] = {
        "count": count,
        "height": height,
        "width": width,
        "dtype": stored.dtype.name,
        "nodata": sheet.nodata,
        "compress": "deflate",
    }
    if sheet.crs is None or sheet.transform is None:
        predictor = 3 if stored.dtype.kind == "f" else 2
        profile |= {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
        profile |= {"predictor": predictor}
    else:
        profile |= {"driver": "COG", "blocksize": BLOCK_PX, "predictor": "yes"}
        profile |= {"overview_resampling": "average" if sheet.kind == "numbers" else "nearest"}
        profile |= {"crs": sheet.crs, "transform": Affine(*sheet.transform)}
    roles = [ColorInterp[_ROLES.get(band, "undefined")] for band in sheet.bands]
    with atomic_path(path) as temporary, OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.Env(GDAL_PAM_ENABLED=False), rasterio.open(temporary, "w", **profile) as dataset:
                dataset.write(stored)
                dataset.descriptions = sheet.bands
                if sheet.units:
                    dataset.units = (sheet.units,) * count
                if (sheet.scale, sheet.offset) != (1.0, 0.0):
                    dataset.scales, dataset.offsets = (sheet.scale,) * count, (sheet.offset,) * count
                if sheet.bands == (SCL_BAND,) and stored.dtype == np.uint8:
                    dataset.write_colormap(1, SCL_COLOURS)
                elif count > 1:
                    dataset.colorinterp = [ColorInterp.gray if count == 1 else role for role in roles]
                dataset.update_tags(**sheet.tags)
        except (RasterioError, CRSError) as problem:
            raise StorageError(f"{path}: cannot be written: {str(problem).splitlines()[0]}") from None
