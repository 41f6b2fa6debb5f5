"""Rasters of one's own: what a file on this machine is, and its pixels as they are stored.

Pictures, GeoTIFFs or JPEG 2000, georeferenced or not. A driver is named by what a file begins with, so that a VRT
called .png reads no other file; side-car files are not looked for; a file that is cut short is an error, never grey or
zeros.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import DatasetError, ReadError
from geossl_data.tiles.gdal import JPEG2000_BEGINS, OPENING, TIFF_BEGINS, layout_of
from geossl_data.tiles.windows import MAX_WINDOW_NBYTES, Transform

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Reason = Literal[
    "missing-file",
    "not-an-image",
    "unreadable",
    "changed",
    "too-large",
    "wrong-bands",
    "wrong-dtype",
    "wrong-scale",
    "wrong-nodata",
    "wrong-size",
    "off-grid",
    "few-valid-pixels",
]

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Numbers that shards hold and rasters have."""
_BEGINS: tuple[tuple[bytes, str], ...] = (
    *((begin, "GTiff") for begin in TIFF_BEGINS),
    *((begin, "JP2OpenJPEG") for begin in JPEG2000_BEGINS),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
)
_OPTIONS = {
    "GDAL_CACHEMAX": 128,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",  # else what a cut file lacks is grey
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # that way of reading does not notice that a file is cut
}


class RasterError(ReadError):
    """A raster that cannot be used; `reason` is the short class of reason that the summary counts."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type["RasterError"], tuple[Reason, str]]:
        return (RasterError, (self.reason, str(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """What a file is, as far as it can be told without decoding its pixels."""

    path: str
    """Below the folder of the rasters, with `/` between its parts."""
    nbytes: int
    modified_ns: int
    """When the file was last changed, as the file system has it: tells only whether the rest still holds."""
    sha256: str
    width: int
    height: int
    n_bands: int
    dtype: str
    """As NumPy names it; not every one can be stored, see DTYPES."""
    bands: tuple[str, ...]
    """Descriptions of the bands; () unless each has one of its own."""
    nodata: float | None
    """None too where it is NaN or no number that the dtype has: floating point numbers that are not finite are no
    measurement in any case."""
    scale: float
    """What the stored numbers are multiplied with, and `offset` then added; 1 and 0 unless all bands agree."""
    offset: float
    crs: str
    """`EPSG:32632`, or WKT where there is no such code; empty text where it lies nowhere on the Earth."""
    transform: tuple[float, ...]
    """a b c d e f, as in `windows.Transform`; () where it lies nowhere."""

    @property
    def grid(self) -> Transform | None:
        """The transform of a georeferenced raster, None for any other."""
        if not self.crs or len(self.transform) != 6:
            return None
        a, b, c, d, e, f = self.transform
        return a, b, c, d, e, f


def path_below(folder: Path, text: str) -> str:
    """A file of a table as a path below `folder`, with `/` between its parts; it need not be there.

    text: relative to the folder, or absolute and in it. Raises DatasetError for an address, for what GDAL would take
    for one (/vsi…), and for a path that leaves the folder, by `..` or by a link.
    """
    if "://" in text or text.lower().startswith(("/vsi", "file:")):
        raise DatasetError("an address where the path of a file on this machine belongs")
    if not text or "\0" in text:
        raise DatasetError("no path")
    base = _real(str(folder), links=True)
    full = os.path.normpath(os.path.join(base, text))  # noqa: PTH118 - Path keeps ..
    if not _is_below(full, base):
        raise DatasetError(f"{text!r} leaves the folder of the rasters; name a folder that holds all with --rasters")
    head, name = os.path.split(full)
    real = os.path.join(_real(head), name)  # noqa: PTH118 - as above
    if os.path.islink(real):  # noqa: PTH114 - Path raises for names that are too long
        real = os.path.realpath(real)
    if not _is_below(real, _real(base)):
        raise DatasetError(f"{text!r} is a link out of the folder of the rasters; name one that holds all: --rasters")
    return full[len(base.rstrip("/")) + 1 :]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


@lru_cache(maxsize=4096)
def _real(folder: str, *, links: bool = False) -> str:
    """A folder as an absolute path, without links unless `links`; asked once, for many files lie in one folder."""
    return os.path.abspath(folder) if links else os.path.realpath(folder)  # noqa: PTH100 - keeps links


def inspect(folder: Path, path: str) -> Raster:
    """What the file at `path` below `folder` is; reads it once, for its hash.

    Raises RasterError: missing-file, not-an-image or unreadable.
    """
    with _opened(folder, path) as dataset:
        layout = layout_of(dataset)
        names = tuple(name or "" for name in dataset.descriptions)
        scales = set(zip(dataset.scales, dataset.offsets, strict=True))
        dtypes = sorted(set(dataset.dtypes))
    nbytes, modified_ns, digest = _state(folder, path)
    scale, offset = next(iter(scales)) if len(scales) == 1 else (1.0, 0.0)
    if not (math.isfinite(scale) and math.isfinite(offset) and scale != 0):
        scale, offset = 1.0, 0.0
    placed = layout.crs is not None
    return Raster(
        path=path,
        nbytes=nbytes,
        modified_ns=modified_ns,
        sha256=digest,
        width=layout.width,
        height=layout.height,
        n_bands=layout.n_bands,
        dtype=dtypes[0] if len(dtypes) == 1 else " and ".join(dtypes),
        bands=names if all(names) and len(set(names)) == len(names) else (),
        nodata=_nodata(layout.nodata, layout.dtype),
        scale=float(scale),
        offset=float(offset),
        crs=(f"EPSG:{layout.crs}" if isinstance(layout.crs, int) else str(layout.crs)) if placed else "",
        transform=layout.transform if placed else (),
    )


def _nodata(value: float | None, dtype: np.dtype[Any]) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return float(value) if limits.min <= value <= limits.max and value == int(value) else None
    return float(value)


def read_window(
    folder: Path, path: str, sha256: str, *, column: int, row: int, width: int, height: int
) -> NDArray[Any]:
    """Pixels as they are stored, (bands, height, width), of a file that has the hash `sha256`.

    Raises RasterError: unreadable, changed where the file holds something else by now, too-large where more than 256 MB
    would have to be decoded.
    """
    from rasterio.windows import Window

    with _opened(folder, path) as dataset:
        layout = layout_of(dataset)
        if column + width > layout.width or row + height > layout.height:
            raise RasterError(
                "changed", f"{path}: {layout.width} × {layout.height} px are fewer than were planned with"
            )
        largest = max(width * height * layout.n_bands, layout.block_shape[0] * layout.block_shape[1])
        if largest * layout.dtype.itemsize > MAX_WINDOW_NBYTES:
            found = f"{largest * layout.dtype.itemsize} bytes to decode, at most {MAX_WINDOW_NBYTES} allowed"
            raise RasterError("too-large", f"{path}: {found}; cut it with --tile")
        values: NDArray[Any] = dataset.read(window=Window(column, row, width, height))
    if _state(folder, path)[2] != sha256:
        raise RasterError("changed", f"{path}: the file was replaced while its dataset was made; run it again")
    return values


def _state(folder: Path, path: str) -> tuple[int, int, str]:
    """Size, time of the last change and SHA-256 of a file."""
    full = folder / path
    try:
        before = full.stat()
        return before.st_size, before.st_mtime_ns, _digest(str(full), before.st_size, before.st_mtime_ns)
    except OSError as error:
        raise RasterError("unreadable", f"{path}: {error.strerror or 'cannot be read'}") from None


@lru_cache(maxsize=131_072)
def _digest(full: str, _nbytes: int, _modified_ns: int) -> str:
    """SHA-256 of a file in that state; computed once in a process."""
    with Path(full).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(folder: Path, path: str) -> "Iterator[DatasetReader]":
    """The open raster; whatever goes wrong with it inside the block is a RasterError."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    full = folder / path
    if not os.path.isfile(full):  # noqa: PTH113 - Path raises for names that are too long
        raise RasterError("missing-file", f"{path}: no such file")
    try:
        with full.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise RasterError("unreadable", f"{path}: {error.strerror or 'cannot be read'}") from None
    driver = next((name for begin, name in _BEGINS if start.startswith(begin)), None)
    if driver is None:
        raise RasterError("not-an-image", f"{path}: begins like no TIFF, JPEG 2000, PNG or JPEG file")
    options = {"GEOREF_SOURCES": "INTERNAL"} if driver in ("GTiff", "JP2OpenJPEG") else {}
    try:
        with rasterio.Env(**_OPTIONS):
            with OPENING, warnings.catch_warnings():
                # Most pictures lie nowhere; a line on the terminal for each would say nothing.
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(full.absolute(), driver=driver, **options)
            with dataset:
                yield dataset
    except (RasterioError, OSError, ValueError):
        # GDAL's text tells paths of this machine.
        raise RasterError("unreadable", f"{path}: damaged or cut short, it cannot be decoded") from None
