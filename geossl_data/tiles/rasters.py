"""Windows of rasters, near or far, on a place's grid: the one door to GDAL.

A window is exact or it is refused with a reason: nothing is padded, filled, taken from an overview or moved by part of
a pixel. Sentinel-1 alone may be resampled, in linear power. Only GeoTIFF is opened, whatever the name says.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import ReadError
from geossl_data.grid import Grid
from geossl_data.records import Place
from geossl_data.scenes.hrefs import redact
from geossl_data.scenes.opening.access import Access, AccessError
from geossl_data.scenes.opening.tokens import ContainerRefusedError
from geossl_data.tiles.radiometry import mask_power

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Reason = Literal[
    "missing-scene",
    "missing-asset",
    "forbidden",
    "refused-address",
    "read-failed",
    "not-geotiff",
    "wrong-bands",
    "wrong-dtype",
    "wrong-crs",
    "wrong-resolution",
    "off-grid",
    "outside",
    "too-large",
    "few-valid-pixels",
]

ALIGNMENT_PX = 1e-3
"""Largest distance between a place's corner and a pixel corner, in pixels, that still counts as the same."""
MAX_WINDOW_NBYTES = 256 * 2**20
"""Largest window or storage block that is decoded; far above any place, far below a decompression bomb."""
MAX_ENLARGEMENT = 6
"""60 m values stored at 10 m; nothing sensible is enlarged further."""
FORGET_S = 1.0
"""How long GDAL may take to forget what it remembers of an address."""
MARGIN_PX = 3
"""Source pixels read around a window that is resampled: bilinear needs one, a curved edge the rest."""

T = TypeVar("T")

_SCHEMES = ("file", "http", "https", "s3", "gs", "az")
_GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 128,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_LOW_SPEED_TIME": 20,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_MULTIRANGE": "SERIAL",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_NETRC": "NO",
    "CPL_CURL_VERBOSE": "NO",
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "VSI_CACHE": True,
}


class SkipError(ReadError):
    """A sample that cannot be cut; `reason` is the short class of reason that the summary counts."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type["SkipError"], tuple[Reason, str]]:
        return (SkipError, (self.reason, str(self)))


def place_grid(place: Place, resolution_m: int) -> Grid:
    """The pixel grid of a place at 10, 20 or 60 m."""
    side = place.size_px * 10 // resolution_m
    return Grid(place.epsg, place.x, place.y, float(resolution_m), side, side)


class Rasters:
    """Reads windows; keeps the most recently used rasters open. Safe to use from several threads.

    access: turns the unsigned href of a scene into an address that may be opened; asked before each read, so that
    signatures may expire, and looks again at a file that could not be read.
    max_open: how many idle rasters stay open.
    """

    def __init__(self, *, access: Access | None = None, max_open: int = 64) -> None:
        self._access = Access() if access is None else access
        self._max_open = max_open
        self._idle: OrderedDict[str, list[DatasetReader]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> "tuple[Callable[..., Rasters], tuple[Access, int]]":
        """Sent to another process, it starts there with nothing open."""
        return _rasters, (self._access, self._max_open)

    def __enter__(self) -> "Rasters":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; a later read opens again."""
        with self._lock:
            idle = [dataset for datasets in self._idle.values() for dataset in datasets]
            self._idle.clear()
        for dataset in idle:
            dataset.close()

    def grid_of(self, href: str) -> Grid | None:
        """The pixel grid of a raster, or None unless it is north-up with square pixels in a UTM zone.

        Raises SkipError when it cannot be opened.
        """
        return self.on_dataset(href, _utm_grid)

    def read_exact(self, href: str, grid: Grid, dtype: Literal["uint8", "uint16"]) -> NDArray[Any]:
        """The pixels of `grid`, exactly as stored: shape (height, width), the given dtype, 0 where there is no data.

        The raster's own header has the last word on where its pixels lie. It must share the CRS, hold the grid
        wholly, and have a pixel corner at its corner. Where its pixels are smaller by a whole factor, the window is
        taken only if it is an exact nearest-neighbour enlargement. Raises SkipError with the reason otherwise.
        """

        def read(dataset: "DatasetReader") -> NDArray[Any]:
            factor, column, row = _exact_window(dataset, grid, href)
            values = _read(dataset, href, column, row, grid.width * factor, grid.height * factor)
            return _integers(_shrink(values, factor, href), dataset.nodata, dtype, href)

        return self.on_dataset(href, read)

    def read_power(self, href: str, grid: Grid) -> tuple[NDArray[np.float32], bool]:
        """Linear power on `grid`, shape (height, width), NaN where there is no measurement; and if it was resampled.

        Read as stored where CRS and pixel lattice agree (ALIGNMENT_PX); else bilinear in linear power, with
        invalid pixels masked before, from any projected CRS. Ground outside the raster is NaN.
        Raises SkipError: no overlap at all, not floating point, no CRS, not north-up, or unreadable.
        """

        def read(dataset: "DatasetReader") -> tuple[NDArray[np.float32], bool]:
            if np.dtype(dataset.dtypes[0]).kind != "f":
                raise SkipError("wrong-dtype", f"{redact(href)}: {dataset.dtypes[0]} where linear power is a float")
            _require_one_north_up_band(dataset, href)
            column, row = _position(dataset, grid)
            aligned = max(abs(column - round(column)), abs(row - round(row))) <= ALIGNMENT_PX
            if _epsg(dataset) == grid.epsg and _has_pixels_of(dataset, grid) and aligned:
                return _read_lattice(dataset, href, grid, round(column), round(row)), False
            return _read_warped(dataset, href, grid), True

        return self.on_dataset(href, read)

    def on_dataset(self, href: str, act: Callable[["DatasetReader"], T]) -> T:
        """What `act` makes of an open raster; a second try, looked at and opened afresh, heals what passes.

        Raises SkipError, and TokenError where no token is to be had for any raster.
        """
        import rasterio
        from rasterio.errors import RasterioError

        failure = ""
        for _ in range(2):
            url = self._url(href)
            try:
                with rasterio.Env(**_GDAL_OPTIONS), self._borrowed(url) as dataset:
                    result = act(dataset)
            except SkipError:
                raise
            except (RasterioError, OSError) as error:
                failure = str(error)
                self._access.failed(href)
                self._close_idle(url)
                _forget(url)
            else:
                self._access.worked(url)
                return result
        # Raised outside the handler: the original text may hold the signed address, also in a printed traceback.
        raise SkipError(*_failure(href, failure))

    def _url(self, href: str) -> str:
        """The address that GDAL may open for an href; SkipError where there is none."""
        scheme = href.split("://", 1)[0].lower() if "://" in href else "file"
        if scheme not in _SCHEMES or href.startswith(("/vsi", "<")):
            raise SkipError("read-failed", f"{redact(href)}: not a local path or one of {', '.join(_SCHEMES)}")
        try:
            return self._access.url(href)
        except AccessError as error:
            raise SkipError(error.reason, str(error)) from None
        except ContainerRefusedError as error:
            raise SkipError("forbidden", f"{redact(href)}: {error}") from None

    @contextmanager
    def _borrowed(self, url: str) -> Iterator["DatasetReader"]:
        """An open raster that no other thread uses meanwhile; kept for later unless its use failed."""
        with self._lock:
            idle = self._idle.get(url)
            dataset = idle.pop() if idle else None
        if dataset is None:
            dataset = _open(url)
        try:
            yield dataset
        except SkipError:
            self._give_back(url, dataset)
            raise
        except BaseException:
            dataset.close()
            raise
        self._give_back(url, dataset)

    def _close_idle(self, url: str) -> None:
        """Close what is open at an address and not in use: what failed once would fail again."""
        with self._lock:
            idle = self._idle.pop(url, [])
        for dataset in idle:
            dataset.close()

    def _give_back(self, url: str, dataset: "DatasetReader") -> None:
        with self._lock:
            self._idle.setdefault(url, []).append(dataset)
            self._idle.move_to_end(url)
            surplus: list[DatasetReader] = []
            while sum(map(len, self._idle.values())) > self._max_open:
                oldest = next(iter(self._idle))
                surplus += self._idle.pop(oldest)
        for old in surplus:
            old.close()


def _rasters(access: Access, max_open: int) -> Rasters:
    return Rasters(access=access, max_open=max_open)


def _open(url: str) -> "DatasetReader":
    import rasterio

    # The driver is named because GDAL looks at content, not at endings: a VRT called .tif would read any local file.
    return rasterio.open(url, driver="GTiff", GEOREF_SOURCES="INTERNAL")


def _forget(url: str) -> None:
    """Make GDAL ask again about an address: left alone it remembers a failure as long as the process lives.

    A handle that may not cache takes with it what is remembered of its file. GDAL gives no other way to say so for one
    address; where nothing is remembered this costs one request that is not waited for.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if "://" not in url:
        return
    uncached = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/", "GDAL_HTTP_MAX_RETRY": 0, "GDAL_HTTP_TIMEOUT": FORGET_S}
    with rasterio.Env(**(_GDAL_OPTIONS | uncached)), suppress(RasterioError, OSError):
        _open(url).close()


def _failure(href: str, text: str) -> tuple[Reason, str]:
    """Reason and one line for an error of GDAL, without any address but the redacted one."""
    reason: Reason = "not-geotiff" if "not recognized as being in a supported file format" in text else "read-failed"
    words = [word for word in text.split() if "/" not in word and "?" not in word and href not in word]
    return reason, f"{redact(href)}: cannot be read as GeoTIFF: {' '.join(words)[:200]}"


def _epsg(dataset: "DatasetReader") -> int | None:
    code = None if dataset.crs is None else dataset.crs.to_epsg()
    return None if code is None else int(code)


def _is_utm(epsg: int | None) -> bool:
    return epsg is not None and (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760)


def _is_square(dataset: "DatasetReader") -> bool:
    width, height = dataset.transform.a, -dataset.transform.e
    return bool(width > 0 and abs(width - height) <= 1e-9 * width)


def _utm_grid(dataset: "DatasetReader") -> Grid | None:
    epsg, transform = _epsg(dataset), dataset.transform
    if epsg is None or not _is_utm(epsg) or transform.b or transform.d or not _is_square(dataset):
        return None
    return Grid(epsg, transform.c, transform.f, transform.a, dataset.width, dataset.height)


def _require_one_north_up_band(dataset: "DatasetReader", href: str) -> None:
    transform = dataset.transform
    if dataset.count != 1:
        raise SkipError("wrong-bands", f"{redact(href)}: {dataset.count} bands in one file where 1 belongs")
    if dataset.crs is None:
        raise SkipError("wrong-crs", f"{redact(href)}: states no coordinate reference system")
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise SkipError("off-grid", f"{redact(href)}: not north-up, its transform is {tuple(transform)[:6]}")


def _position(dataset: "DatasetReader", grid: Grid) -> tuple[float, float]:
    """Column and row, in pixels of the raster, of a grid's north-west corner."""
    transform = dataset.transform
    return (grid.x - transform.c) / transform.a, (grid.y - transform.f) / transform.e


def _has_pixels_of(dataset: "DatasetReader", grid: Grid) -> bool:
    return _is_square(dataset) and abs(grid.resolution_m / dataset.transform.a - 1) <= 1e-6


def _exact_window(dataset: "DatasetReader", grid: Grid, href: str) -> tuple[int, int, int]:
    """How many stored pixels lie along one of the grid's, and column and row of the window; SkipError if not exact."""
    name, epsg = redact(href), _epsg(dataset)
    _require_one_north_up_band(dataset, href)
    if epsg != grid.epsg:
        raise SkipError("wrong-crs", f"{name}: lies in EPSG:{epsg}, the place in EPSG:{grid.epsg}")
    ratio = grid.resolution_m / dataset.transform.a
    factor = round(ratio)
    if not (_is_square(dataset) and 1 <= factor <= MAX_ENLARGEMENT and abs(ratio - factor) <= 1e-6 * factor):
        pixel = f"{dataset.transform.a:g} × {-dataset.transform.e:g} m"
        raise SkipError("wrong-resolution", f"{name}: pixels of {pixel} where {grid.resolution_m:g} m belong")
    column, row = _position(dataset, grid)
    width, height = grid.width * factor, grid.height * factor
    shift = max(abs(column - round(column)), abs(row - round(row)))
    if shift > ALIGNMENT_PX:
        raise SkipError("off-grid", f"{name}: the place's corner lies {shift:.3g} px off a pixel corner")
    column, row = round(column), round(row)
    if column < 0 or row < 0 or column + width > dataset.width or row + height > dataset.height:
        window = f"columns {column} to {column + width}, rows {row} to {row + height}"
        raise SkipError("outside", f"{name}: {window} of a raster of {dataset.width} × {dataset.height} pixels")
    return factor, column, row


def _read(dataset: "DatasetReader", href: str, column: int, row: int, width: int, height: int) -> NDArray[Any]:
    """A window as stored, at full resolution; SkipError where it, or one storage block of it, is absurdly large."""
    from rasterio.windows import Window

    itemsize = np.dtype(dataset.dtypes[0]).itemsize
    block_height, block_width = dataset.block_shapes[0]
    largest = max(width * height, block_height * block_width) * itemsize
    if largest > MAX_WINDOW_NBYTES:
        raise SkipError("too-large", f"{redact(href)}: {largest} bytes to decode, at most {MAX_WINDOW_NBYTES} allowed")
    return np.asarray(dataset.read(1, window=Window(column, row, width, height)))


def _shrink(values: NDArray[Any], factor: int, href: str) -> NDArray[Any]:
    """One value of each factor × factor block; SkipError unless every block is constant."""
    if factor == 1:
        return values
    kept = values[::factor, ::factor]
    if not np.array_equal(kept.repeat(factor, axis=0).repeat(factor, axis=1), values):
        raise SkipError(
            "wrong-resolution", f"{redact(href)}: stored {factor} times finer than the band measures, and not by copies"
        )
    return kept


def _integers(values: NDArray[Any], nodata: float | None, dtype: Literal["uint8", "uint16"], href: str) -> NDArray[Any]:
    """The same whole numbers in another type, the raster's own no-data value as 0; SkipError if they do not fit."""
    if values.dtype.kind not in "ui":
        raise SkipError("wrong-dtype", f"{redact(href)}: {values.dtype} where {dtype} belongs")
    if nodata:
        values = np.where(values == nodata, values.dtype.type(0), values)
    if int(values.min()) < 0 or int(values.max()) > np.iinfo(dtype).max:
        found = f"{values.dtype} values from {values.min()} to {values.max()}"
        raise SkipError("wrong-dtype", f"{redact(href)}: {found} do not fit {dtype}")
    return np.ascontiguousarray(values, dtype=dtype)


def _power(values: NDArray[Any], nodata: float | None) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        power = values.astype(np.float32)
    if nodata is not None:
        power[values == nodata] = np.nan
    return mask_power(power)


def _read_lattice(dataset: "DatasetReader", href: str, grid: Grid, column: int, row: int) -> NDArray[np.float32]:
    """Power on a grid whose pixels are the raster's own; NaN beyond the raster."""
    left, right = max(column, 0), min(column + grid.width, dataset.width)
    top, bottom = max(row, 0), min(row + grid.height, dataset.height)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{redact(href)}: the place lies outside this raster")
    power = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
    values = _read(dataset, href, left, top, right - left, bottom - top)
    power[top - row : bottom - row, left - column : right - column] = _power(values, dataset.nodata)
    return power


def _read_warped(dataset: "DatasetReader", href: str, grid: Grid) -> NDArray[np.float32]:
    """Power resampled onto a grid: bilinear over the valid neighbours, NaN where there are none."""
    from rasterio.crs import CRS
    from rasterio.transform import Affine
    from rasterio.warp import Resampling, reproject, transform_bounds

    target, transform = CRS.from_epsg(grid.epsg), dataset.transform
    west, south, east, north = transform_bounds(target, dataset.crs, *grid.bounds, densify_pts=21)
    if not all(map(np.isfinite, (west, south, east, north))):
        raise SkipError("outside", f"{redact(href)}: the place lies outside its coordinate reference system")
    columns = [int(np.clip((x - transform.c) / transform.a, -1e9, 1e9)) for x in (west, east)]
    rows = [int(np.clip((y - transform.f) / transform.e, -1e9, 1e9)) for y in (north, south)]
    left, right = max(columns[0] - MARGIN_PX, 0), min(columns[1] + MARGIN_PX + 1, dataset.width)
    top, bottom = max(rows[0] - MARGIN_PX, 0), min(rows[1] + MARGIN_PX + 1, dataset.height)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{redact(href)}: the place lies outside this raster")
    power = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
    reproject(
        _power(_read(dataset, href, left, top, right - left, bottom - top), dataset.nodata),
        power,
        src_transform=Affine(
            transform.a, 0, transform.c + left * transform.a, 0, transform.e, transform.f + top * transform.e
        ),
        src_crs=dataset.crs,
        src_nodata=np.nan,
        dst_transform=Affine(grid.resolution_m, 0, grid.x, 0, -grid.resolution_m, grid.y),
        dst_crs=target,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
        num_threads=1,
        tolerance=0.01,
    )
    return mask_power(power)
