"""Bytes of shards by range: from a folder, or from an object store."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from geossl_data.errors import ShardError

MAX_THREADS = 16
MAX_OPEN = 256
"""Shards of a folder kept open at a time; the usual limit of a process is 1024 files."""


class Source(Protocol):
    """Where the shards of a dataset lie. Safe for several threads."""

    threads: int
    """How many that read at the same time are worth having."""
    max_span: int
    """The most bytes that are worth asking for at once."""
    max_encoded: int
    """The same where they are decoded from memory that should stay in a cache."""
    max_gap: int
    """The most unwanted bytes between two wanted ones that are read along."""

    def nbytes(self, name: str) -> int | None:
        """The size of a shard; None where there is none of that name."""

    def read_into(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill the buffers, one after the other, with the bytes at `offset`; ShardError where there are not as many."""

    def where(self, name: str) -> str:
        """What messages call a shard."""

    def close(self) -> None:
        """Let go of what is open; a later read opens it again."""


class Folder:
    """Shards in a folder of this machine."""

    max_span = 2**22
    max_encoded = 2**20
    max_gap = 2**16

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()

    def nbytes(self, name: str) -> int | None:
        """The size of a shard; None where there is none of that name."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def read_into(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill the buffers with the bytes at `offset`; ShardError where the file is gone or ends before."""
        file = self._file(name)
        wanted = sum(map(len, buffers))
        try:
            done = os.preadv(file.descriptor, buffers, offset)
            while done < wanted:
                rest = _after(buffers, done)
                count = os.preadv(file.descriptor, rest, offset + done)
                if count == 0:
                    raise ShardError(f"{self.path / name}: file ends at byte {offset + done}; run `geossl verify`")
                done += count
        except OSError as error:
            raise ShardError(f"{self.path / name}: cannot be read: {error.strerror}") from error

    def where(self, name: str) -> str:
        """The path of a shard."""
        return str(self.path / name)

    def _file(self, name: str) -> "_File":
        with self._lock:
            file = self._open.get(name)
            if file is None:
                try:
                    file = _File(os.open(self.path / name, os.O_RDONLY))
                except OSError as error:
                    raise ShardError(f"{self.path / name}: cannot be opened: {error.strerror}") from error
                self._open[name] = file
                if len(self._open) > MAX_OPEN:
                    # Whoever reads from it at the moment keeps it open until he is done.
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(name)
        return file

    def close(self) -> None:
        """Let go of the files; a later read opens them again."""
        with self._lock:
            self._open.clear()


class _File:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False


def _after(buffers: Sequence[memoryview], nbytes: int) -> list[memoryview]:
    """What is left of the buffers once their first bytes are filled."""
    rest: list[memoryview] = []
    for buffer in buffers:
        if nbytes < len(buffer):
            rest.append(buffer[nbytes:])
        nbytes = max(0, nbytes - len(buffer))
    return rest
