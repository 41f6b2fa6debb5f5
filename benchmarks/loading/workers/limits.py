"""What copying alone costs: members of geossl's npy shards, from the page cache into batch buffers used again.

`preadv` asks the kernel to scatter the members of a sample into the buffers, one call a sample; `mmap` copies each
member out of mapped files. Neither looks at a name, a header or a checksum, nor shuffles. Threads take whole batches.
"""

import mmap
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from passes import DATE, Ask, Batch, Job, serve

SHAPES = {"s2_10m": (4, 264, 264), "s2_20m": (6, 132, 132), "s2_60m": (2, 44, 44), "s1": (2, 264, 264)}
DATES = 4
BUFFERS = 2
"""Batch buffers of a thread, used by turns."""


class Piece(NamedTuple):
    """Where the numbers of one member lie."""

    offset: int
    date: int
    name: str


class Placed(NamedTuple):
    """Where a sample lies."""

    shard: str
    pieces: list[Piece]


@lru_cache
def placed(folder: str, one: bool) -> list[Placed]:
    """All samples in the order of the shards."""
    found: dict[tuple[str, str], list[Piece]] = {}
    for path in sorted(map(str, Path(folder).rglob("*.tar"))):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, rest = member.name.partition(".")
                date, _, name = rest.removesuffix(".npy").partition(".")
                if name in SHAPES and (not one or int(date) == DATE):
                    nbytes = 2 * int(np.prod(SHAPES[name]))
                    offset = member.offset_data + member.size - nbytes
                    found.setdefault((path, key), []).append(Piece(offset, 0 if one else int(date), name))
    return [Placed(path, sorted(pieces)) for (path, _), pieces in found.items()]


@lru_cache
def descriptor(path: str) -> int:
    return os.open(path, os.O_RDONLY)


@lru_cache
def mapped(path: str) -> np.ndarray:
    with Path(path).open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


@lru_cache
def buffers(batch: int, one: bool, thread: int) -> list[dict[str, np.ndarray]]:
    """The buffers of a thread, their pages touched."""
    dates = 1 if one else DATES
    return [
        {name: np.ones((batch, dates, *shape), np.uint16) for name, shape in SHAPES.items()} for _ in range(BUFFERS)
    ]


def scatter(sample: Placed, rows: dict[str, np.ndarray], skipped: memoryview) -> None:
    """One preadv; what lies between the members goes into `skipped`."""
    views: list[Any] = []
    end = sample.pieces[0].offset
    for piece in sample.pieces:
        row = rows[piece.name][piece.date]
        if piece.offset > end:
            views.append(skipped[: piece.offset - end])
        views.append(row)
        end = piece.offset + row.nbytes
    wanted, offset = end - sample.pieces[0].offset, sample.pieces[0].offset
    if os.preadv(descriptor(sample.shard), views, offset) != wanted:
        raise OSError(f"{sample.shard}: short read")


def copy(sample: Placed, rows: dict[str, np.ndarray]) -> None:
    data = mapped(sample.shard)
    for piece in sample.pieces:
        row = rows[piece.name][piece.date].reshape(-1).view(np.uint8)
        row[:] = data[piece.offset : piece.offset + row.nbytes]


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    threads = 1 if ask.check else ask.extra["threads"]
    samples = placed(job.folder, ask.one)
    firsts = range(0, len(samples), ask.batch)
    skipped = memoryview(bytearray(2**16))

    def fill(number: int, thread: int) -> Batch:
        kept = buffers(ask.batch, ask.one, thread)[number // threads % BUFFERS]
        these = samples[firsts[number] : firsts[number] + ask.batch]
        for row, sample in enumerate(these):
            rows = {name: array[row] for name, array in kept.items()}
            if ask.extra["how"] == "preadv":
                scatter(sample, rows, skipped)
            else:
                copy(sample, rows)
        return {name: array[: len(these)] for name, array in kept.items()}

    def run(thread: int) -> list[Batch]:
        return [fill(number, thread) for number in range(thread, len(firsts), threads)]

    if threads == 1:
        for number in range(len(firsts)):
            yield fill(number, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in pool.map(run, range(threads)):
                yield from done


if __name__ == "__main__":
    serve(None, batches, {})  # from the shards that geossl wrote
