"""Windows of rasters, near or far, on a place's grid: the one door to pixels.

A window is exact, resampled by a rule that is told, or refused with a reason: nothing is padded, filled or taken from
an overview, and a failed read is never zeros. GeoTIFF is read by `engine`; what that does not know, by `gdal`.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import Grid
from geossl_data.scenes.hrefs import redact
from geossl_data.scenes.opening.access import Access, AccessError
from geossl_data.scenes.opening.tokens import ContainerRefusedError
from geossl_data.tiles.engine import Batch, Engine
from geossl_data.tiles.gdal import GdalRasters, layout_of
from geossl_data.tiles.headers import Headers
from geossl_data.tiles.radiometry import mask_power
from geossl_data.tiles.windows import (
    ALIGNMENT_PX,
    EXACT,
    MARGIN_PX,
    MAX_WINDOW_NBYTES,
    Layout,
    Pixels,
    Reason,
    SkipError,
    Source,
    Want,
    Wanted,
    place_grid,
    power_of,
    require_size,
)

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

__all__ = [
    "ALIGNMENT_PX",
    "EXACT",
    "MAX_WINDOW_NBYTES",
    "Pixels",
    "Rasters",
    "Reason",
    "SkipError",
    "Want",
    "Wanted",
    "place_grid",
]

AHEAD_NBYTES = 192 * 2**20
"""Pixels that are read at once; as many again are read while these are handed out."""

BY_POINTS = "bilinear in linear power, placed by ground control points, not terrain-corrected"

T = TypeVar("T")


class Rasters:
    """Reads windows. Safe to use from several threads.

    access: reads the bytes behind an unsigned href. headers: a file that keeps what was learned of rasters for later
    stages and other processes. ahead_nbytes: how many bytes of pixels `stream` reads at once; it holds up to twice as
    many. threads: how many decode; one for each processor when left out. max_files: of how many
    files that are no plain GeoTIFF what was read stays in memory.
    """

    def __init__(
        self,
        *,
        access: Access | None = None,
        headers: Path | None = None,
        ahead_nbytes: int = AHEAD_NBYTES,
        threads: int | None = None,
        max_files: int = 16,
    ) -> None:
        self._access = Access() if access is None else access
        self._arguments = (headers, ahead_nbytes, threads, max_files)
        self._ahead_nbytes = ahead_nbytes
        self._headers = Headers(headers)
        self._gdal = GdalRasters(self._access, max_files)
        self._engine = Engine(self._access, self._headers, self._elsewhere, threads=threads)

    def __reduce__(self) -> "tuple[Callable[..., Rasters], tuple[Access, tuple[Any, ...]]]":
        """Sent to another process, it starts there with nothing open."""
        return _rasters, (self._access, self._arguments)

    def __enter__(self) -> "Rasters":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def threads(self) -> int:
        """How many threads the work on pixels is worth."""
        return self._engine.threads

    def close(self) -> None:
        """Close what is open and end the threads; a later read starts again."""
        self._engine.close()
        self._gdal.close()
        self._headers.close()

    def stream(self, groups: Iterable[Sequence[Wanted]]) -> Generator[list[Pixels | SkipError], None, None]:
        """For each group of wants, in order, their pixels or why there are none.

        Groups are read many at a time, file by file, in bounded memory, whatever their number: those of one scene may
        stand anywhere. Raises TokenError where no token is to be had for any raster.
        """
        under_way: deque[Batch] = deque()
        try:
            for part in _parts(groups, self._ahead_nbytes):
                under_way.append(self._engine.start(part))
                if len(under_way) == 2:
                    yield from _results(under_way[0])
                    under_way.popleft()
            while under_way:
                yield from _results(under_way[0])
                under_way.popleft()
        finally:
            for batch in under_way:
                batch.cancel()

    def read(self, want: Wanted) -> Pixels:
        """One window. Raises SkipError with the reason where it cannot be had, and TokenError."""
        ((result,),) = self.stream([[want]])
        if isinstance(result, SkipError):
            raise result
        return result

    def read_exact(self, href: str, grid: Grid, dtype: Literal["uint8", "uint16"]) -> NDArray[Any]:
        """The pixels of `grid`, exactly as stored: shape (height, width), the given dtype, 0 where there is no data.

        The raster's own header has the last word on where its pixels lie. It must share the CRS, hold the grid
        wholly, and have a pixel corner at its corner. Where its pixels are smaller by a whole factor, the window is
        taken only if it is an exact nearest-neighbour enlargement. Raises SkipError with the reason otherwise.
        """
        pixels = self.read(Want(href, grid, dtype))
        if pixels.resampling != EXACT:
            found = f"would have to be resampled ({pixels.resampling})"
            raise SkipError("wrong-resolution", f"{redact(href)}: {found} for pixels of {grid.resolution_m:g} m")
        return pixels.values

    def read_power(self, href: str, grid: Grid) -> tuple[NDArray[np.float32], bool]:
        """Linear power on `grid`, shape (height, width), NaN where there is no measurement; and if it was resampled.

        Read as stored where CRS and pixel lattice agree (ALIGNMENT_PX); else bilinear in linear power, with
        invalid pixels masked before, from any projected CRS. Ground outside the raster is NaN.
        Raises SkipError: no overlap at all, not floating point, no CRS, not north-up, or unreadable.
        """
        pixels = self.read(Want(href, grid, "power"))
        return pixels.values, pixels.resampling != EXACT

    def grid_of(self, href: str) -> Grid | None:
        """The pixel grid of a raster, or None unless it is north-up with square pixels in a UTM zone.

        Raises SkipError when it cannot be opened.
        """
        layout = self._engine.layout(href)
        return self.on_dataset(href, lambda dataset: layout_of(dataset).grid) if layout is None else layout.grid

    def on_dataset(self, href: str, act: "Callable[[DatasetReader], T]", *, level: int = 0) -> T:
        """What `act` makes of a raster opened with rasterio, through the same access.

        level: 0 for the full resolution, 1 for the first overview.
        Raises SkipError, and TokenError where no token is to be had for any raster.
        """
        try:
            return self._gdal.on_dataset(href, act, level=level)
        except AccessError as error:
            failure = SkipError(error.reason, str(error))
        except ContainerRefusedError as error:
            failure = SkipError("forbidden", f"{redact(href)}: {error}")
        # Raised outside the handler: what it came from may hold the signed address, also in a printed traceback.
        raise failure

    def _elsewhere(self, want: Wanted) -> Pixels:
        """A window through rasterio."""

        def read(dataset: "DatasetReader") -> Pixels | Source:
            layout = layout_of(dataset)
            if layout.crs is None and dataset.gcps[0] and isinstance(want, Want) and want.kind == "power":
                return _by_points(want, layout, dataset)
            source = want.source(layout)
            require_size(want.href, layout, source.width, source.height)
            return source if source.level else source.finish(_stored(dataset, source))

        found = self.on_dataset(want.href, read)
        if isinstance(found, Pixels):
            return found
        # An overview is opened by itself: asked of the full resolution, GDAL finds its pixels by the ratio of the
        # sides, which is no whole number where they do not divide.
        return found.finish(self.on_dataset(want.href, lambda level: _stored(level, found), level=found.level))


def _stored(dataset: "DatasetReader", source: Source) -> NDArray[Any]:
    from rasterio.windows import Window

    return np.asarray(dataset.read(1, window=Window(source.column, source.row, source.width, source.height)))


def _by_points(want: Want, layout: Layout, dataset: "DatasetReader") -> Pixels:
    """Power placed by ground control points, as in the ground-range products of the archives."""
    from rasterio.windows import Window

    from geossl_data.tiles.warping import box_by_points, warped_by_points

    if layout.n_bands != 1 or layout.dtype.kind != "f":
        found = f"{layout.n_bands} bands of {layout.dtype}"
        raise SkipError("wrong-dtype", f"{redact(want.href)}: {found} where one band of linear power is a float")
    box = box_by_points(dataset, want.grid, MARGIN_PX)
    if box is None:
        raise SkipError("outside", f"{redact(want.href)}: the place lies outside this raster")
    left, top, right, bottom = box
    require_size(want.href, layout, right - left, bottom - top)
    stored = np.asarray(dataset.read(1, window=Window(left, top, right - left, bottom - top)))
    power = warped_by_points(power_of(stored, layout.nodata), dataset, box, want.grid)
    return Pixels(mask_power(power), BY_POINTS)


def _rasters(access: Access, arguments: tuple[Any, ...]) -> Rasters:
    headers, ahead_nbytes, threads, max_files = arguments
    return Rasters(access=access, headers=headers, ahead_nbytes=ahead_nbytes, threads=threads, max_files=max_files)


def _parts(groups: Iterable[Sequence[Wanted]], ahead_nbytes: int) -> Iterator[list[Sequence[Wanted]]]:
    """The groups in runs of about so many bytes of pixels, at least one group each."""
    part: list[Sequence[Wanted]] = []
    nbytes = 0
    for group in groups:
        expected = sum(want.nbytes for want in group)
        if part and nbytes + expected > ahead_nbytes:
            yield part
            part, nbytes = [], 0
        part.append(group)
        nbytes += expected
    if part:
        yield part


def _results(batch: Batch) -> Iterator[list[Pixels | SkipError]]:
    """The results of a batch's groups in order; a group is let go as soon as it is handed out."""
    for number, future in enumerate(batch.done):
        failure: BaseException | None
        try:
            failure = future.exception()
        except CancelledError as error:
            failure = error
        if failure is not None:
            raise failure.with_traceback(None)
        jobs, batch.groups[number] = batch.groups[number], []
        yield [job.result() for job in jobs]
