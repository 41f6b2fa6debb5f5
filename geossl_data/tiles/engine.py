"""Windows of many cloud-optimised GeoTIFFs at once: planned file by file, fetched in merged ranges, decoded in threads.

What a batch wants of one file is planned together: its header is read once, a stored block that several windows touch
is fetched and decoded once, blocks near each other come in one request. Many requests are under way; what arrives is
inflated no further than its last wanted row and put straight into the windows.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.scenes.hrefs import redact
from geossl_data.scenes.opening.access import Access, AccessError, Piece, local_path
from geossl_data.scenes.opening.tokens import ContainerRefusedError
from geossl_data.tiles.cogs.decode import decode_tile
from geossl_data.tiles.cogs.header import BrokenTiffError, Header, Level, UnknownLayoutError, read_header
from geossl_data.tiles.cogs.spans import Block, Span, merged, touched
from geossl_data.tiles.gdal import TIFF_BEGINS, driver_of
from geossl_data.tiles.headers import Headers, Known
from geossl_data.tiles.windows import Layout, Pixels, SkipError, Source, Wanted

HEADER_NBYTES = 32 * 2**10
"""Read of a file that nothing is known of: holds the header of a full-size band with 512 pixel blocks."""
UNDER_WAY = 96
"""Ranges that are asked for, or have come and wait to be decoded."""

Elsewhere = Callable[[Wanted], Pixels]
"""Reads what the fast path does not know; blocks."""


def layout_of(header: Header) -> Layout:
    """What one has to know of a raster to find a window in it."""
    level = header.levels[0]
    return Layout(
        width=level.width,
        height=level.height,
        dtype=header.dtype.newbyteorder("="),
        n_bands=1,
        crs=header.epsg,
        transform=header.transform,
        nodata=header.nodata,
        block_shape=(level.tile_height, level.tile_width),
        factors=tuple(round(level.width / other.width) for other in header.levels),
    )


@dataclass(slots=True, eq=False)
class Job:
    """One want on its way to pixels."""

    want: Wanted
    source: Source | None = None
    values: NDArray[Any] | None = None
    n_missing: int = 0
    """Stored blocks that have not arrived."""
    outcome: Pixels | SkipError | None = None
    """Set where nothing is left to do."""
    is_done: bool = False
    """Whether everything has arrived, or it has failed."""

    def result(self) -> Pixels | SkipError:
        """The pixels, or why there are none; finishing them is left to whoever asks first."""
        if self.outcome is None:
            assert self.source is not None
            assert self.values is not None
            self.outcome = _finished(self.source, self.values)
        return self.outcome


def _finished(source: Source, values: NDArray[Any]) -> Pixels | SkipError:
    try:
        return source.finish(values)
    except SkipError as error:
        return error.again()


@dataclass(slots=True, eq=False)
class Batch:
    """Groups of wants that are read together; each group can be waited for."""

    groups: list[list[Job]]
    done: list[Future[None]] = field(default_factory=list)
    """One for each group; a failure that concerns everything, as a token service that is down, is raised by it."""
    running: "Future[None] | None" = None

    def cancel(self) -> None:
        """Stop reading; what is under way is dropped."""
        if self.running is not None:
            self.running.cancel()


Needing = dict[tuple[int, int, int], list[Job]]
"""Level, row and column of a stored block → the jobs whose windows touch it."""


class _StaleError(Exception):
    """A file is not the one that its remembered header was read from."""


class Engine:
    """Reads batches of wants. Safe to use from several threads.

    elsewhere: reads what is no plain GeoTIFF. threads: how many decode; one for each processor when left out.
    """

    def __init__(self, access: Access, headers: Headers, elsewhere: Elsewhere, *, threads: int | None = None) -> None:
        self._access, self._headers, self._elsewhere = access, headers, elsewhere
        self.threads = threads or len(os.sched_getaffinity(0))
        self._decoders: ThreadPoolExecutor | None = None
        self._others: ThreadPoolExecutor | None = None
        self._slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._reading: dict[str, asyncio.Task[Known | SkipError | None]] = {}
        self._batches: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def close(self) -> None:
        """End the threads; a later read starts new ones."""
        with self._lock:
            self._forget_parent()
            pools = [pool for pool in (self._decoders, self._others) if pool is not None]
            if not pools:
                return
            asyncio.run_coroutine_threadsafe(self._wind_up(), self._access.loop()).result()
            for pool in pools:
                pool.shutdown(wait=True, cancel_futures=True)
            self._decoders = self._others = None

    def start(self, groups: Sequence[Sequence[Wanted]]) -> Batch:
        """Begin to read; comes back at once."""
        batch = Batch([[Job(want) for want in group] for group in groups])
        batch.done = [Future() for _ in batch.groups]
        self._start_threads()
        batch.running = asyncio.run_coroutine_threadsafe(self._read(batch), self._access.loop())
        return batch

    def layout(self, href: str) -> Layout | None:
        """The layout of a raster; None where the fast path does not know it. Blocks. Raises SkipError."""
        known = self._headers.get(href)
        if known is None:
            self._start_threads()
            found = asyncio.run_coroutine_threadsafe(self._known(href), self._access.loop()).result()
            if isinstance(found, SkipError):
                raise found.again()
            known = found
        return None if known is None else layout_of(known.header)

    def _forget_parent(self) -> None:
        """In a fork: it has none of its parent's threads, and waits for none of its reads."""
        if self._pid != os.getpid():
            self._pid, self._decoders, self._others = os.getpid(), None, None
            self._reading, self._batches = {}, set()

    def _start_threads(self) -> None:
        with self._lock:
            self._forget_parent()
            if self._decoders is None:
                self._decoders = ThreadPoolExecutor(self.threads, thread_name_prefix="geossl-decode")
                self._others = ThreadPoolExecutor(8, thread_name_prefix="geossl-rasterio")

    # -------------------------------------------------------------------------------------------- on the loop

    async def _wind_up(self) -> None:
        """End what is still under way."""
        tasks = [*self._batches, *self._reading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, batch: Batch) -> None:
        """Read a batch, file by file in the order in which they are first wanted."""
        by_href: dict[str, list[Job]] = {}
        for group in batch.groups:
            for job in group:
                by_href.setdefault(job.want.href, []).append(job)
        left = [len(group) for group in batch.groups]
        group_of = {id(job): number for number, group in enumerate(batch.groups) for job in group}

        def done(job: Job) -> None:
            job.is_done = True
            number = group_of[id(job)]
            left[number] -= 1
            if not left[number]:
                batch.done[number].set_result(None)

        for number, group in enumerate(batch.groups):
            if not group:
                batch.done[number].set_result(None)
        task = asyncio.current_task()
        assert task is not None
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        try:
            await _all(self._file(href, jobs, done) for href, jobs in by_href.items())
        except BaseException as error:
            for future in batch.done:
                if not future.done():
                    future.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _file(self, href: str, jobs: Sequence[Job], done: Callable[[Job], None]) -> None:
        """Read all that is wanted of one file."""
        for _ in range(2):
            known = await self._known(href)
            if isinstance(known, SkipError):
                _fail(jobs, known, done)
                return
            if known is None:
                await _all(self._read_elsewhere(job, done) for job in jobs if not job.is_done)
                return
            open_ = [job for job in jobs if not job.is_done]
            try:
                await self._windows(href, known, open_, done)
            except _StaleError:
                self._headers.forget(href)
                continue
            return
        _fail(jobs, SkipError("read-failed", f"{redact(href)}: changed while it was read"), done)

    async def _read_elsewhere(self, job: Job, done: Callable[[Job], None]) -> None:
        job.outcome = await asyncio.get_running_loop().run_in_executor(self._others, self._by_rasterio, job.want)
        done(job)

    def _by_rasterio(self, want: Wanted) -> Pixels | SkipError:
        try:
            return self._elsewhere(want)
        except SkipError as error:
            return error.again()

    async def _windows(self, href: str, known: Known, jobs: Sequence[Job], done: Callable[[Job], None]) -> None:
        """Read windows of a file whose header is known; _StaleError where it is that of another state of the file."""
        header = known.header
        layout = layout_of(header)
        needing: Needing = {}
        for job in jobs:
            try:
                source = job.source = job.want.source(layout)
            except SkipError as error:
                _fail([job], error.again(), done)
                continue
            job.values = np.empty((source.height, source.width), layout.dtype)
            level = header.levels[source.level]
            at = list(touched(level, source.column, source.row, source.width, source.height))
            job.n_missing = len(at)
            for row, column in at:
                needing.setdefault((source.level, row, column), []).append(job)
        blocks: list[Block] = []
        fill = _fill_value(header)
        for (number, row, column), waiting in needing.items():
            level = header.levels[number]
            nbytes = int(level.nbytes[row, column])
            if nbytes:
                blocks.append(Block(number, row, column, int(level.offsets[row, column]), nbytes))
                continue
            for job in waiting:
                _scatter(job, level, row, column, 0, np.broadcast_to(fill, (level.tile_height, level.tile_width)))
                await self._arrived(job, done)
        await _all(self._span(href, known, span, needing, done) for span in merged(blocks))

    async def _span(
        self,
        href: str,
        known: Known,
        span: Span,
        needing: Needing,
        done: Callable[[Job], None],
    ) -> None:
        """Fetch a range, decode its blocks, put them into the windows."""
        loop, is_local = asyncio.get_running_loop(), local_path(href) is not None
        for _ in range(2):
            async with self._slot(loop):
                piece = None if is_local else await self._piece(href, span.start, span.nbytes)
                if isinstance(piece, SkipError):
                    failure = piece
                    break
                try:
                    decode = partial(self._decoded, href, known, span, needing, piece)
                    await loop.run_in_executor(self._decoders, decode)
                except AccessError as error:
                    failure = SkipError(error.reason, str(error))
                    break
                except BrokenTiffError as error:
                    # Once more: what arrived may have been damaged on its way.
                    failure = SkipError("read-failed", f"{redact(href)}: {error}")
                    continue
            for block in span.blocks:
                for job in needing[block.level, block.row, block.column]:
                    await self._arrived(job, done)
            return
        jobs = {id(job): job for block in span.blocks for job in needing[block.level, block.row, block.column]}
        _fail(list(jobs.values()), failure, done)

    def _decoded(self, href: str, known: Known, span: Span, needing: Needing, piece: Piece | None) -> None:
        """Decode what has arrived, or is read here where it is near: a disk needs no waiting for."""
        if piece is None:
            piece = self._access.read(href, span.start, span.nbytes)
        if _is_another_file(known, piece):
            raise _StaleError
        _decode(piece.data, span, known.header, needing)

    async def _arrived(self, job: Job, done: Callable[[Job], None]) -> None:
        """Count one block less; finish a window whose blocks are all there."""
        job.n_missing -= 1
        if job.n_missing or job.is_done:
            return
        assert job.source is not None
        if job.source.is_heavy:
            assert job.values is not None
            finish = partial(_finished, job.source, job.values)
            job.outcome = await asyncio.get_running_loop().run_in_executor(self._decoders, finish)
        done(job)

    def _slot(self, loop: asyncio.AbstractEventLoop) -> asyncio.Semaphore:
        if self._slots is None or self._slots[0] is not loop:
            self._slots = (loop, asyncio.Semaphore(UNDER_WAY))
        return self._slots[1]

    async def _piece(self, href: str, start: int, nbytes: int, *, whole: bool = True) -> Piece | SkipError:
        """Some bytes of a file, or why they cannot be had."""
        try:
            return await self._access.fetch(href, start, nbytes, whole=whole)
        except AccessError as error:
            return SkipError(error.reason, str(error))
        except ContainerRefusedError as error:
            return SkipError("forbidden", f"{redact(href)}: {error}")

    # -------------------------------------------------------------------------------------------- headers

    async def _known(self, href: str) -> Known | SkipError | None:
        """The header of a file, read once however many ask; None where rasterio has to read the file."""
        known = self._headers.get(href)
        if known is not None:
            return known
        task = self._reading.get(href)
        if task is None:
            task = self._reading[href] = asyncio.create_task(self._header(href))
            task.add_done_callback(lambda _: self._reading.pop(href, None))
        return await asyncio.shield(task)

    async def _header(self, href: str) -> Known | SkipError | None:
        loop = asyncio.get_running_loop()
        async with self._slot(loop):
            piece = await self._piece(href, 0, HEADER_NBYTES, whole=False)
            if isinstance(piece, SkipError):
                return piece
            try:
                driver_of(href, piece.data[:16])
            except SkipError as error:
                return error.again()
            if not piece.data.startswith(TIFF_BEGINS):
                return None
            try:
                header = await loop.run_in_executor(self._others, read_header, self._reader(href, bytes(piece.data)))
            except UnknownLayoutError:
                return None
            except AccessError as error:
                return SkipError(error.reason, str(error))
            except BrokenTiffError as error:
                return SkipError("read-failed", f"{redact(href)}: {error}")
        known = Known(header, piece.file_nbytes, piece.etag)
        self._headers.put(href, known)
        return known

    def _reader(self, href: str, start: bytes) -> Callable[[int, int], bytes]:
        """Reads a file, its beginning from what is there already."""

        def read(at: int, nbytes: int) -> bytes:
            if at + nbytes <= len(start) or len(start) < HEADER_NBYTES:
                return start[at : at + nbytes]
            return bytes(self._access.read(href, at, nbytes, whole=False).data)

        return read


async def _all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines side by side; the first failure ends the others and is raised."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            for coroutine in coroutines:
                tasks.create_task(coroutine)
    except BaseExceptionGroup as group:
        failure = group.exceptions[0]
    if failure is not None:
        raise failure


def _fail(jobs: Sequence[Job], error: SkipError, done: Callable[[Job], None]) -> None:
    for job in jobs:
        if not job.is_done:
            job.outcome = error.again()
            job.values = None
            done(job)


def _is_another_file(known: Known, piece: Piece) -> bool:
    """Whether a piece is surely of another state of the file than its header."""
    is_other_size = None not in (known.nbytes, piece.file_nbytes) and known.nbytes != piece.file_nbytes
    return is_other_size or bool(known.etag and piece.etag and known.etag != piece.etag)


def _fill_value(header: Header) -> NDArray[Any]:
    """What a block that was never written holds."""
    dtype = header.dtype.newbyteorder("=")
    if header.nodata is None or (dtype.kind in "ui" and not _fits(header.nodata, dtype)):
        return np.zeros((), dtype)
    return np.array(header.nodata).astype(dtype)


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _decode(data: bytes | bytearray, span: Span, header: Header, needing: Needing) -> None:
    """Decode the blocks of a span as far as they are wanted, into the windows."""
    view = memoryview(data)
    for block in span.blocks:
        level, jobs = header.levels[block.level], needing[block.level, block.row, block.column]
        top = block.row * level.tile_height
        first = max(0, min(_source(job).row for job in jobs) - top)
        stop = min(level.tile_height, max(_source(job).row + _source(job).height for job in jobs) - top)
        right = max(_source(job).column + _source(job).width for job in jobs) - block.column * level.tile_width
        start = block.offset - span.start
        width = min(level.tile_width, right)
        pixels = decode_tile(view[start : start + block.nbytes], header, level, first, stop, width)
        for job in jobs:
            _scatter(job, level, block.row, block.column, first, pixels)


def _source(job: Job) -> Source:
    assert job.source is not None
    return job.source


def _scatter(job: Job, level: Level, row: int, column: int, first: int, pixels: NDArray[Any]) -> None:
    """Put what a window needs of a block into it. pixels: the block from its row `first` on."""
    source, values = _source(job), job.values
    if values is None:
        return
    top, left = row * level.tile_height + first - source.row, column * level.tile_width - source.column
    upper, lower = max(top, 0), min(top + pixels.shape[0], source.height)
    west, east = max(left, 0), min(left + pixels.shape[1], source.width)
    values[upper:lower, west:east] = pixels[upper - top : lower - top, west - left : east - left]
