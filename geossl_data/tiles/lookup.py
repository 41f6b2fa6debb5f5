"""Classes of ground at points, from rasters of any size: strata that do not come along with the package."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import from_lonlat
from geossl_data.scenes.hrefs import redact
from geossl_data.tiles.rasters import MAX_WINDOW_NBYTES, Rasters, SkipError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

FloatArray = NDArray[np.float64]
Names = NDArray[np.str_]
NamesAt = Callable[[FloatArray, FloatArray], Names]
"""Longitudes and latitudes in degrees, shape (n,) → names, "" where there is none."""

_METRES_PER_DEGREE = 111_195.0
_MOST_CHARACTERS = 80


def classes_at(
    rasters: Rasters, href: str, lon: FloatArray, lat: FloatArray, *, names: Mapping[int, str] | None = None
) -> Names:
    """The class of the pixel under each point in degrees, shape (n,), "" outside the raster and where it has no data.

    names: value → name; other values are named by their number. Each storage block is decoded once, whatever the
    order of the points. Raises SkipError where the raster cannot be read or states no CRS with an EPSG code.
    """

    def read(dataset: "DatasetReader") -> Names:
        epsg = None if dataset.crs is None else dataset.crs.to_epsg()
        if epsg is None or dataset.transform.b or dataset.transform.d:
            raise SkipError("wrong-crs", f"{redact(href)}: not north-up in a CRS with an EPSG code")
        x, y = from_lonlat(int(epsg), (lon + 180.0) % 360.0 - 180.0, lat)
        transform = dataset.transform
        with np.errstate(invalid="ignore"):
            column, row = (x - transform.c) / transform.a, (y - transform.f) / transform.e
            inside = (column >= 0) & (row >= 0) & (column < dataset.width) & (row < dataset.height)
        found = np.zeros(len(lon), dtype=f"<U{_MOST_CHARACTERS}")
        rows = np.flatnonzero(inside)
        values = _values(dataset, href, column[rows].astype(np.int64), row[rows].astype(np.int64))
        distinct, which = np.unique(values, return_inverse=True)
        texts = [_name(value, dataset.nodata, names or {}) for value in distinct.tolist()]
        if len(rows):
            found[rows] = np.array(texts, dtype=found.dtype)[which.reshape(-1)]
        return found

    return rasters.on_dataset(href, read)


def _name(value: float, nodata: float | None, names: Mapping[int, str]) -> str:
    if value != value or value == nodata:
        return ""
    whole = int(value) if float(value).is_integer() else None
    return names.get(whole, f"{value:g}") if whole is not None else f"{value:g}"


def _values(dataset: "DatasetReader", href: str, column: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[Any]:
    """The first band at some pixels, shape (n,)."""
    height, width = dataset.block_shapes[0]
    if height * width * np.dtype(dataset.dtypes[0]).itemsize > MAX_WINDOW_NBYTES:
        raise SkipError("too-large", f"{redact(href)}: storage blocks of {height} × {width} pixels")
    values = np.zeros(len(column), dtype=dataset.dtypes[0])
    block = (row // height) * (dataset.width // width + 1) + column // width
    order = np.argsort(block, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        if len(rows):
            top, left = int(row[rows[0]]) // height * height, int(column[rows[0]]) // width * width
            bottom, right = min(top + height, dataset.height), min(left + width, dataset.width)
            pixels = dataset.read(1, window=((top, bottom), (left, right)))
            values[rows] = pixels[row[rows] - top, column[rows] - left]
    return values


def first_of(layers: Sequence[NamesAt]) -> NamesAt:
    """At each point the first name that one of several layers has."""

    def names_at(lon: FloatArray, lat: FloatArray) -> Names:
        found = np.zeros(len(lon), dtype=f"<U{_MOST_CHARACTERS}")
        for layer in layers:
            open_ = np.flatnonzero(found == "")
            if len(open_):
                found[open_] = layer(lon[open_], lat[open_])
        return found

    return names_at


def majority_of(layer: NamesAt, side_m: float) -> NamesAt:
    """The commonest name among nine points spread over the square of `side_m` around each point; of equals the first.

    "" only where none of the nine has a name.
    """
    shift = side_m / 3 / _METRES_PER_DEGREE

    def names_at(lon: FloatArray, lat: FloatArray) -> Names:
        wide = shift / np.maximum(np.cos(np.radians(lat)), 1e-6)
        spread = [(east, north) for north in (-1, 0, 1) for east in (-1, 0, 1)]
        asked = [layer(lon + east * wide, np.clip(lat + north * shift, -90.0, 90.0)) for east, north in spread]
        columns = np.stack(asked, axis=1).tolist() if len(lon) else []
        return np.array([_commonest(row) for row in columns], dtype=f"<U{_MOST_CHARACTERS}")

    return names_at


def _commonest(names: Sequence[str]) -> str:
    counts = Counter(sorted(name for name in names if name))
    return counts.most_common(1)[0][0] if counts else ""
