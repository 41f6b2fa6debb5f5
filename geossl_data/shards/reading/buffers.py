"""Memory for batches that is used again once nobody holds it: fresh memory costs a page fault every 4 KiB."""

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Allocate = Callable[[int], NDArray[np.uint8]]
"""Bytes → that much memory, as a C-contiguous array of uint8."""

MAX_IDLE = 8
"""Blocks of one size that are kept for later."""


def plain_memory(nbytes: int) -> NDArray[np.uint8]:
    """Memory that can be paged out; the GPU's driver copies from it through a buffer of its own."""
    return np.empty(nbytes, np.uint8)


class _Lease:
    """Lends a block to one array; numpy keeps the lease as the base of every view of it."""

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self.block = block
        self.__array_interface__ = block.__array_interface__


class Buffers:
    """Lends arrays; the memory of one comes back when the last view of it is gone. Safe for several threads."""

    def __init__(self, allocate: Allocate = plain_memory) -> None:
        self._allocate = allocate
        self._idle: dict[int, list[NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()

    def lend(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array of any content."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self._lock:
            idle = self._idle.get(nbytes)
            block = idle.pop() if idle else None
        if block is None:
            block = self._allocate(nbytes)
        lease = _Lease(block)
        weakref.finalize(lease, self._take_back, block).atexit = False
        return np.asarray(lease).view(dtype).reshape(shape)

    def _take_back(self, block: NDArray[np.uint8]) -> None:
        # Runs wherever the last view dies, perhaps inside `lend` of the same thread: it must not wait for the lock.
        idle = self._idle.setdefault(block.nbytes, [])
        if len(idle) < MAX_IDLE:
            idle.append(block)
