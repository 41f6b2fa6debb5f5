"""Which class of ground a place belongs to, for spreading a count over the Earth.

A layer answers whole arrays of points with names. Some come from a formula, some from small maps that install with
the package (`layers/LAYERS.txt`), others from files of one's own; several can be crossed.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.sampling.layers import class_grid, continent, country, equal_area_cells, names_from_file, values_of

__all__ = ["BAND_DEGREES", "LAYERS", "SECTOR_DEGREES", "Strata", "strata_of", "stratum", "values_of"]

BAND_DEGREES = 15
"""Height of a latitude band."""
SECTOR_DEGREES = 30
"""Width of a longitude sector."""

RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img")
"""Files with these endings are rasters of classes."""
NOT_BUILT_IN = ("biome", "ecoregion", "ecoregions")
"""Layers that many expect, of which no copy comes with the package."""

FloatArray = NDArray[np.float64]
Strata = Callable[[FloatArray, FloatArray], NDArray[np.str_]]
"""(lon, lat) in degrees, shape (n,) → names, shape (n,); "" where the layer says nothing."""


def stratum(lon: float, lat: float) -> str:
    """Latitude band × region of a point in degrees, named by its corner nearest to 0° N 0° E: `N45E000`, `S15W060`.

    A band is 15° of latitude (so it stands for a belt of climate), a region 30° of longitude. Points on an edge
    belong to the band or sector that begins there, counted away from the equator and eastwards.
    """
    band = min(int(abs(lat) // BAND_DEGREES) * BAND_DEGREES, 90 - BAND_DEGREES)
    hemisphere = "N" if lat >= 0 else "S"
    west = math.floor(((lon + 180.0) % 360.0 - 180.0) / SECTOR_DEGREES) * SECTOR_DEGREES
    side = f"E{west:03d}" if west >= 0 else f"W{-west:03d}"
    return f"{hemisphere}{band:02d}{side}"


def _bands(lat: FloatArray) -> NDArray[np.int64]:
    """Number of the 15° band of each latitude: from the equator northwards, then from the equator southwards."""
    per_hemisphere = 90 // BAND_DEGREES
    band = np.minimum(np.abs(lat) // BAND_DEGREES, per_hemisphere - 1).astype(np.int64)
    return np.asarray(band + per_hemisphere * (lat < 0))


def _latitude(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
    """The 15° latitude band of each point, named by its edge nearest to the equator: `N45`."""
    names = [f"{side}{band:02d}" for side in "NS" for band in range(0, 90, BAND_DEGREES)]
    return np.array(names)[_bands(lat)]


def _regions(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
    """The `stratum` of each point."""
    sectors = 360 // SECTOR_DEGREES
    middles = (np.arange(sectors) + 0.5) * SECTOR_DEGREES - 180.0
    bands = [side * (band + 0.5) for side in (1, -1) for band in range(0, 90, BAND_DEGREES)]
    names = np.array([[stratum(float(west), float(band)) for west in middles] for band in bands])
    return np.asarray(names[_bands(lat), np.floor((lon + 180.0) / SECTOR_DEGREES).astype(np.int64)])


def _on_earth(layer: Strata) -> Strata:
    """The layer for any longitudes; "" for points that are no places, as NaN or a latitude beyond 90."""

    def at(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
        x, y = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(f"expected lon and lat of one shape (n,), got {x.shape} and {y.shape}")
        good = np.isfinite(x) & (np.abs(y) <= 90.0)
        wrapped = (x[good] + 180.0) % 360.0 - 180.0
        # A tiny negative number plus 360 rounds to 360 itself, which is the other name of the same meridian.
        found = layer(np.where(wrapped >= 180.0, -180.0, wrapped), y[good])
        if good.all():
            return found
        names = np.zeros(len(x), dtype=found.dtype)
        names[good] = found
        return names

    return at


@cache
def _built_in(name: str) -> Strata:
    """A layer of LAYERS, its data read once."""
    if name in ("climate", "koppen", "landcover"):
        return _on_earth(class_grid(name))
    if name == "cells":
        return _on_earth(equal_area_cells())
    formulas: dict[str, Strata] = {
        "continent": continent,
        "country": country,
        "latitude": _latitude,
        "regions": _regions,
    }
    return _on_earth(formulas[name])


LAYERS: Mapping[str, Callable[[], Strata]] = MappingProxyType(
    {
        name: partial(_built_in, name)
        for name in ("regions", "latitude", "cells", "climate", "koppen", "landcover", "continent", "country")
    }
)
"""Layers that need no file, by name; calling one reads its data.

`regions`: 15° of latitude × 30° of longitude. `latitude`: 15°. `cells`: equal area, of 1000 km or as in `cells:500`.
`climate`: the five main groups of Köppen and Geiger. `koppen`: their 31 classes, from another map than `climate`.
`landcover`: 16 classes. `continent`, `country`: by name, by ISO letters."""


def strata_of(spec: str, *, raster: Callable[[str, str], Strata] | None = None) -> Strata:
    """The layer that a text names, for whole arrays of points; names are "" where it says nothing.

    spec: one layer, or several joined by commas, whose names are crossed as `a/b` ("" where any is). A layer is one
    of LAYERS, FILE:FIELD for the polygons of a vector file (the path ends at the last colon and is relative to the
    current folder), FILE.tif for a raster whose values are the classes, or stac:COLLECTION/ASSET.
    raster: opens the last two, called with the file and "", or with "stac" and COLLECTION/ASSET.
    The layer gives names of shape (n,) for longitudes and latitudes of shape (n,); longitudes may differ by whole
    turns. Raises SamplingError in one line for a layer that is unknown or cannot be read.
    """
    layers = [_layer(part.strip(), raster) for part in spec.split(",")]
    if len(layers) == 1:
        return layers[0]

    def crossed(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
        first, *others = [layer(lon, lat) for layer in layers]
        names, known = first, first != ""
        for other in others:
            names, known = np.strings.add(np.strings.add(names, "/"), other), known & (other != "")
        return np.where(known, names, "")

    return crossed


def _layer(text: str, raster: Callable[[str, str], Strata] | None) -> Strata:
    name, colon, argument = text.partition(":")
    if text in LAYERS:
        return LAYERS[text]()
    if name == "cells":
        return _on_earth(equal_area_cells(_side_km(argument)))
    if name in LAYERS:
        raise SamplingError(f"strata {text}: {name} takes no argument; give {name} alone")
    if text.lower() in NOT_BUILT_IN:
        raise SamplingError(f"no layer {text} comes with geossl; give a file: --strata ecoregions.gpkg:BIOME_NAME")
    if name == "stac" and colon:
        collection, slash, asset = argument.partition("/")
        if not (collection and slash and asset):
            raise SamplingError(f"strata {text}: expected stac:COLLECTION/ASSET, as in stac:esa-worldcover/map")
        return _on_earth(_opener(raster)("stac", argument))
    if "://" in text:
        if not text.partition("?")[0].lower().endswith(RASTERS):
            raise SamplingError("strata: a vector layer is a file on this machine, not an address; download it first")
        return _on_earth(_opener(raster)(text, ""))
    if text.lower().endswith(RASTERS):
        return _on_earth(_opener(raster)(text, ""))
    path, colon, field = text.rpartition(":")
    if path and field and not Path(text).is_file():
        if path.lower().endswith(RASTERS):
            raise SamplingError(f"strata {text}: a raster has no field; give {path} alone")
        return _on_earth(names_from_file(Path(path), field))
    raise SamplingError(_unknown(text))


def _opener(raster: Callable[[str, str], Strata] | None) -> Callable[[str, str], Strata]:
    if raster is None:
        raise SamplingError("strata: rasters and stac collections need a reader here; pass one as raster=")
    return raster


def _side_km(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SamplingError(f"strata cells:{text}: expected a side in km, as in cells:500") from None


def _unknown(text: str) -> str:
    file = text.removesuffix(":")
    if file and Path(file).is_file():
        return f"strata {file}: which field? Give it after a colon, as in {file}:FIELD"
    near = difflib.get_close_matches(text, LAYERS, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return (
        f"no layer {text!r}{meant}; there are {', '.join(LAYERS)}, or give FILE:FIELD, FILE.tif, stac:COLLECTION/ASSET"
    )
