"""What the fast path does not know, read through rasterio: JPEG 2000, ground control points, odd TIFFs.

GDAL never sees an address. It reads through a file object over Access, so that deadlines, signatures, refused redirects
and verified lengths are the same for every byte, and a driver is named by what the file begins with: a VRT called .tif
would read any local file.
"""

import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from geossl_data.scenes.hrefs import redact
from geossl_data.scenes.opening.access import Access, kind_of
from geossl_data.tiles.windows import Layout, SkipError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

T = TypeVar("T")

PAGE_NBYTES = 256 * 2**10
"""What is read at once: GDAL asks for a few kilobytes at a time."""
MAX_PAGES = 64
"""Pages that a file keeps."""

TIFF_BEGINS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""The first four bytes of TIFF and BigTIFF, in both byte orders."""
JPEG2000_BEGINS = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
"""A JP2 file, and a bare code stream."""

_NAME = "raster"
OPENING = threading.Lock()
"""Warnings are silenced for all threads of a process at once."""
_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 128,
}


class Pages:
    """A file near or far in pages, the most recently used of which are kept.

    What goes wrong is kept in `error` and looks like the end of the file, since an exception cannot pass through GDAL.
    """

    def __init__(self, access: Access, href: str) -> None:
        self._access, self._href = access, href
        self._nbytes: int | None = None
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.error: Exception | None = None

    @property
    def nbytes(self) -> int:
        """Size of the whole file; 0 where it cannot be read."""
        if self._nbytes is None:
            self.read(0, 1)
        return self._nbytes or 0

    def read(self, start: int, size: int) -> bytes:
        """Bytes from `start` on, fewer where the file ends."""
        parts = []
        while size > 0:
            number, skip = divmod(start, PAGE_NBYTES)
            with self._lock:
                part = self._page(number)[skip : skip + size]
            if not part:
                break
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return b"".join(parts)

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            if self.error is not None or (self._nbytes is not None and number * PAGE_NBYTES >= self._nbytes):
                return b""
            try:
                piece = self._access.read(self._href, number * PAGE_NBYTES, PAGE_NBYTES, whole=False)
            except Exception as error:  # whatever it is, it is raised again by `on_dataset`
                self.error = error
                return b""
            page = self._pages[number] = bytes(piece.data)
            if piece.file_nbytes is not None:
                self._nbytes = piece.file_nbytes
            elif len(page) < PAGE_NBYTES:
                self._nbytes = number * PAGE_NBYTES + len(page)
            while len(self._pages) > MAX_PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(number)
        return page


class PageFile(io.RawIOBase):
    """A file object over pages: GDAL opens and closes a file several times while it opens a dataset."""

    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self._pages = pages
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = max(0, offset + (self._pages.nbytes if start is None else start))
        return self._position

    def read(self, size: int = -1) -> bytes:
        data = self._pages.read(self._position, self._pages.nbytes - self._position if size < 0 else size)
        self._position += len(data)
        return data


class GdalRasters:
    """Opens rasters through rasterio. Safe to use from several threads.

    Datasets are opened, used and closed by one thread, which is the only way in which rasterio 1.4 gives up its file
    objects; what was read of a file stays, so that opening it again costs no request. max_files: how many stay so.
    """

    def __init__(self, access: Access, max_files: int) -> None:
        self._access = access
        self._max_files = max_files
        self._files: OrderedDict[str, Pages] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget what was read."""
        with self._lock:
            self._files.clear()

    def on_dataset(self, href: str, act: "Callable[[DatasetReader], T]", *, level: int = 0) -> T:
        """What `act` makes of an open raster; of one of its overviews where `level` is not 0, counted from 1.

        Raises SkipError, AccessError, and TokenError where no token is to be had for any raster.
        """
        import rasterio
        from rasterio.errors import RasterioError

        pages, failure = self._pages(href), ""
        try:
            with rasterio.Env(**_OPTIONS), _opened(href, pages, level) as dataset:
                result = act(dataset)
        except SkipError:
            raise
        except (RasterioError, OSError) as error:
            failure = str(error)
        if failure or pages.error is not None:
            self._forget(href)
        if pages.error is not None:
            # Raised outside the handler: GDAL's own text says nothing more.
            raise pages.error
        if failure:
            words = [word for word in failure.split() if "/" not in word and "?" not in word]
            raise SkipError("read-failed", f"{redact(href)}: cannot be read: {' '.join(words)[:200]}")
        return result

    def _pages(self, href: str) -> Pages:
        with self._lock:
            pages = self._files.get(href)
            if pages is None:
                pages = self._files[href] = Pages(self._access, href)
            self._files.move_to_end(href)
            while len(self._files) > self._max_files:
                self._files.popitem(last=False)
            return pages

    def _forget(self, href: str) -> None:
        with self._lock:
            self._files.pop(href, None)


@contextmanager
def _opened(href: str, pages: Pages, level: int) -> "Iterator[DatasetReader]":
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    start = pages.read(0, 16)
    if pages.error is not None:
        raise pages.error
    options: dict[str, Any] = {"driver": driver_of(href, start)}
    if options["driver"] == "GTiff":
        options["GEOREF_SOURCES"] = "INTERNAL"
    if level:
        options["overview_level"] = level - 1

    def opener(path: str, mode: str = "rb") -> PageFile:
        if path != _NAME:
            raise FileNotFoundError(path)
        return PageFile(pages)

    with OPENING, warnings.catch_warnings():
        # What lies nowhere is refused with a reason; a line on the terminal would say nothing more.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(_NAME, opener=opener, **options)
    with dataset:
        yield dataset


def driver_of(href: str, start: bytes | bytearray) -> str:
    """The GDAL driver for a file that begins so; SkipError where it is neither TIFF nor JPEG 2000."""
    if start.startswith(TIFF_BEGINS):
        return "GTiff"
    if start.startswith(JPEG2000_BEGINS):
        return "JP2OpenJPEG"
    raise SkipError("not-geotiff", f"{redact(href)}: begins like {kind_of(start)}, not like a TIFF")


def layout_of(dataset: "DatasetReader") -> Layout:
    """What one has to know of an open raster to find a window in it."""
    crs: int | str | None = None
    if dataset.crs is not None:
        code = dataset.crs.to_epsg()
        crs = dataset.crs.to_wkt() if code is None else int(code)
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    return Layout(
        width=dataset.width,
        height=dataset.height,
        dtype=np.dtype(dataset.dtypes[0]),
        n_bands=dataset.count,
        crs=crs,
        transform=(a, b, c, d, e, f),
        nodata=dataset.nodata,
        block_shape=tuple(dataset.block_shapes[0]),
        factors=(1, *dataset.overviews(1)),
    )
