"""Shards → arrays: random access by byte range, read ahead in threads that release the interpreter lock.

No torch, no raster library. A member is copied once, from the page cache straight into its row of the batch.
"""

import json
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.records import Split
from geossl_data.shards.codec import CODECS, MAX_HEADER_NBYTES, check_header, payload_nbytes
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, Manifest, read_manifest
from geossl_data.shards.tars import members as tar_members
from geossl_data.shards.tars import read_exactly

Array = NDArray[Any]
Batch = dict[str, Array]

MAX_JSON_NBYTES = 4 * 2**20
MAX_OPEN = 256
"""Shards kept open at a time; the usual limit of a process is 1024 files."""


def open_shards(folder: Path, split: Split | None = None) -> "Shards":
    """The samples of a dataset folder, or of one of its splits, in the order of shard and offset.

    Raises DatasetError without a manifest, ShardError when a shard is missing or not as long as it was written.
    """
    return Shards(folder / SHARDS_FOLDER, read_manifest(folder / MANIFEST_NAME), split)


class Shards:
    """Random access to the samples of a dataset. Safe to use from several threads."""

    def __init__(self, folder: Path, manifest: Manifest, split: Split | None = None) -> None:
        self.folder = folder
        self.entries: list[Entry] = [entry for entry in manifest.entries if split is None or entry.split == split]
        """The samples; a sample's index is its position here."""
        self.notes: dict[str, Any] = manifest.notes
        """What the manifest says about the whole; see `manifest.Manifest`."""
        self.members: dict[str, Member] = manifest.members
        """Members that looks may have, by name, with dtype, bands and shape."""
        self.size_px: int = manifest.notes["size_px"]
        self._codec = CODECS[manifest.notes["codec"]]
        self._columns = {name: column for column, name in enumerate(self.members)}
        self._layouts: dict[int, NDArray[np.int64]] = {}
        self._descriptors: dict[str, int] = {}
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _close_all, self._descriptors)
        self._check_sizes()

    def _check_sizes(self) -> None:
        ends: dict[str, int] = {}
        for entry in self.entries:
            ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.nbytes)
            if entry.size_px != self.size_px:
                raise ShardError(f"sample {entry.key}: {entry.size_px} px in a dataset of {self.size_px} px")
        for name, end in ends.items():
            expected = self.notes["shards"].get(name, {}).get("nbytes")
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else None
            if found is None or found != expected or found < end:
                what = "no such file" if found is None else f"{found} bytes where {expected} were written"
                raise ShardError(f"{path}: {what}; run `geossl verify`, then `geossl shard` to cut it again")

    def __len__(self) -> int:
        return len(self.entries)

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        with self._lock:
            _close_all(self._descriptors)

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members that looks may have, in the order in which they are written."""
        return tuple(self.members)

    @property
    def looks(self) -> list[tuple[int, int]]:
        """Every (sample index, look) there is, in order; what an epoch shuffles."""
        return [(index, look) for index, entry in enumerate(self.entries) for look in range(entry.n_looks)]

    def shape(self, member: str) -> tuple[int, ...]:
        """Array shape of a member of one look; ShardError for a name that the manifest does not know."""
        return self._member(member).shape(self.size_px)

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise ShardError(f"no member {name!r} in these shards; they hold {', '.join(self.members)}")
        return self.members[name]

    def has(self, index: int, look: int, member: str) -> bool:
        """Whether a look of a sample has a member, from the manifest alone."""
        return member in self.entries[index].members[look]

    def read(self, index: int, look: int, members: Sequence[str]) -> Batch:
        """The named members of one look as new arrays, keyed by name.

        Raises ShardError when the look lacks a member or the shard is damaged.
        """
        arrays = {name: np.empty(self.shape(name), self._member(name).dtype) for name in members}
        self._read_into(index, look, arrays)
        return arrays

    def meta(self, index: int) -> dict[str, Any]:
        """A sample's provenance: the content of its JSON member."""
        entry = self.entries[index]
        with self._opened(entry) as descriptor:
            member = next(tar_members(descriptor, entry.offset, entry.offset + entry.nbytes), None)
            if member is None or member.name != f"{entry.key}.json" or member.nbytes > MAX_JSON_NBYTES:
                raise ShardError(f"no {entry.key}.json at byte {entry.offset}")
            text = read_exactly(descriptor, member.nbytes, member.offset)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ShardError(f"{self.folder / entry.shard}: {entry.key}.json is not a JSON object; run `geossl verify`")
        return content

    def batches(
        self,
        order: Sequence[tuple[int, int]],
        members: Sequence[str],
        batch_size: int,
        *,
        threads: int = 2,
        drop_last: bool = True,
        reuse: bool = False,
    ) -> Iterator[Batch]:
        """Batches of looks in the given order: member name → array (batch, *member shape), read ahead in threads.

        order: (sample index, look) pairs. The last batch is shorter, or dropped with `drop_last`.
        reuse: fill the same few buffers again and again, which spares the cost of fresh memory; a batch is then
        valid only until the next one is asked for, and the caller copies what has to stay.
        Raises ShardError when a look lacks a member or a shard is damaged, at the batch that holds it.
        """
        if batch_size < 1 or threads < 1:
            raise ShardError(f"batch size {batch_size} and threads {threads} must be at least 1")
        names = list(dict.fromkeys(members))
        for name in names:
            self._member(name)
        stop = len(order) // batch_size * batch_size if drop_last else len(order)
        parts = [order[start : start + batch_size] for start in range(0, stop, batch_size)]
        return self._read_ahead(parts, names, batch_size, threads, reuse)

    def _read_ahead(
        self,
        parts: Sequence[Sequence[tuple[int, int]]],
        names: Sequence[str],
        batch_size: int,
        threads: int,
        reuse: bool,
    ) -> Iterator[Batch]:
        free: deque[Batch] = deque()
        pending: deque[Future[Batch]] = deque()
        todo = iter(parts)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="geossl-stream")

        def submit() -> None:
            part = next(todo, None)
            if part is not None:
                buffers = free.popleft() if free else self._buffers(names, batch_size)
                pending.append(pool.submit(self._fill, part, buffers))

        try:
            for _ in range(threads + 1):
                submit()
            for part in parts:
                buffers = pending.popleft().result()
                yield {name: array[: len(part)] for name, array in buffers.items()}
                if reuse:
                    free.append(buffers)
                submit()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _buffers(self, names: Sequence[str], batch_size: int) -> Batch:
        return {name: np.empty((batch_size, *self.shape(name)), self.members[name].dtype) for name in names}

    def _fill(self, part: Sequence[tuple[int, int]], buffers: Batch) -> Batch:
        for row, (index, look) in enumerate(part):
            self._read_into(index, look, {name: array[row] for name, array in buffers.items()})
        return buffers

    def _read_into(self, index: int, look: int, arrays: Batch) -> None:
        entry = self.entries[index]
        if not 0 <= look < entry.n_looks:
            raise ShardError(f"sample {entry.key} has {entry.n_looks} looks, no look {look}")
        lacking = [name for name in arrays if name not in entry.members[look]]
        if lacking:
            raise ShardError(f"sample {entry.key}, look {look} has no {' or '.join(lacking)}")
        with self._opened(entry) as descriptor:
            layout = self._layout(index, descriptor)
            for name, array in arrays.items():
                _read_array(descriptor, array, int(layout[look, self._columns[name]]))

    def _layout(self, index: int, descriptor: int) -> NDArray[np.int64]:
        """Where the numbers of each look (row) and member (column) start in the tar; -1 for what a look lacks.

        Made once per sample, from the tar headers of its byte range: every name, size and array header is checked
        against the manifest, so that later reads need no check.
        """
        layout = self._layouts.get(index)
        if layout is None:
            layout = self._layouts[index] = self._checked_layout(self.entries[index], descriptor)
        return layout

    def _checked_layout(self, entry: Entry, descriptor: int) -> NDArray[np.int64]:
        layout = np.full((entry.n_looks, len(self.members)), -1, dtype=np.int64)
        expected = {
            f"{entry.key}.{look}.{name}.{self._codec.name}": (look, name)
            for look, names in enumerate(entry.members)
            for name in names
        }
        end = entry.offset + entry.nbytes
        found = list(tar_members(descriptor, entry.offset, end))
        if sorted(member.name for member in found) != sorted([f"{entry.key}.json", *expected]) or found[-1].end != end:
            raise ShardError(f"members of sample {entry.key} are not those of the manifest")
        for member in found:
            if member.name in expected:
                look, name = expected[member.name]
                dtype, shape = self._member(name).dtype, self.shape(name)
                header_nbytes = member.nbytes - payload_nbytes(dtype, shape)
                if not 0 < header_nbytes <= MAX_HEADER_NBYTES:
                    raise ShardError(f"{member.name}: {member.nbytes} bytes do not hold an array {shape} of {dtype}")
                check_header(read_exactly(descriptor, header_nbytes, member.offset), dtype, shape)
                layout[look, self._columns[name]] = member.offset + header_nbytes
        return layout

    @contextmanager
    def _opened(self, entry: Entry) -> Iterator[int]:
        """The descriptor of a sample's shard; whatever goes wrong with it names the file."""
        path = self.folder / entry.shard
        kept = True
        try:
            with self._lock:
                descriptor = self._descriptors.get(entry.shard, -1)
                if descriptor < 0:
                    descriptor = os.open(path, os.O_RDONLY)
                    kept = len(self._descriptors) < MAX_OPEN
                    if kept:
                        self._descriptors[entry.shard] = descriptor
        except OSError as error:
            raise ShardError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            yield descriptor
        except (ShardError, OSError) as error:
            raise ShardError(f"{path}: {error}; run `geossl verify`") from error
        finally:
            if not kept:
                os.close(descriptor)


def _read_array(descriptor: int, array: Array, offset: int) -> None:
    """Fill a C-contiguous array with the bytes at `offset`."""
    view = array.reshape(-1).view(np.uint8)
    done = 0
    while done < view.size:
        count = os.preadv(descriptor, [view[done:].data], offset + done)
        if count == 0:
            raise ShardError(f"file ends at byte {offset + done}")
        done += count


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
