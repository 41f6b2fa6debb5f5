"""Where windows lie: at random, or moved into one block of every band; and what of the files they touch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from reading.workers.work import Job, Sums

BLOCK_PX = 512
SIDE_60M = 1830
"""Pixels of 60 m along a scene."""

Windows = list[tuple[int, int, int]]
"""Item, column and row in pixels of 60 m."""


def random_windows(count: int, scenes: int, *, size_px: int, seed: int) -> Windows:
    """Windows at multiples of 60 m, equally many of each scene, in the random order in which shards would want them."""
    rng = np.random.default_rng(seed)
    items = rng.permutation(np.arange(count) % scenes)
    corners = rng.integers(0, SIDE_60M - size_px // 6 + 1, size=(count, 2))
    return [(int(item), int(column), int(row)) for item, (column, row) in zip(items, corners, strict=True)]


def one_block_positions(size_px: int) -> NDArray[np.int64]:
    """Positions along a side, in pixels of 60 m, from which a window lies inside one block in every band."""
    at = np.arange(SIDE_60M - size_px // 6 + 1)
    inside = np.ones(len(at), bool)
    for factor in (6, 3, 1):
        inside &= at * factor % BLOCK_PX + size_px * factor // 6 <= BLOCK_PX
    return at[inside]


def snapped(windows: Windows, *, size_px: int) -> Windows:
    """The same windows, each moved along both axes to the nearest position inside one block of every band."""
    allowed = one_block_positions(size_px)

    def nearest(position: int) -> int:
        return int(allowed[np.abs(allowed - position).argmin()])

    return [(item, nearest(column), nearest(row)) for item, column, row in windows]


def furthest_move_km(windows: Windows, moved: Windows) -> float:
    """The longest way that a window was moved."""
    return max(np.hypot(a[1] - b[1], a[2] - b[2]) for a, b in zip(windows, moved, strict=True)) * 0.06


@dataclass(frozen=True, slots=True)
class Touched:
    """What windows need of their files, compressed."""

    each_mb: float
    """MB of all blocks that a window touches, summed over windows."""
    shared_mb: float
    """The same with a block counted once, however many windows touch it."""
    each: int
    shared: int


def oracle(job: Job) -> list[list[int]]:
    """Checksums of all windows as a plain rasterio.open of the local files reads them."""
    sums = Sums(job)
    for (item, band), numbers in _by_file(job).items():
        side = dict(job.bands)[band]
        with rasterio.open(job.href(item, band)) as dataset:
            for number in numbers:
                column, row, size = job.pixels(number, side)
                sums.put(number, band, dataset.read(1, window=Window(column, row, size, size)))
    return sums.values


def touched(job: Job) -> Touched:
    """What the windows of a job on local files touch, by the sizes that GDAL finds in the files."""
    seen: dict[tuple[int, str, int, int], int] = {}
    total = count = 0
    for (item, band), numbers in _by_file(job).items():
        side = dict(job.bands)[band]
        with rasterio.open(job.href(item, band)) as dataset:
            height, width = dataset.block_shapes[0]
            for number in numbers:
                column, row, size = job.pixels(number, side)
                for down in range(row // height, (row + size - 1) // height + 1):
                    for across in range(column // width, (column + size - 1) // width + 1):
                        key = (item, band, down, across)
                        if key not in seen:
                            seen[key] = int(dataset.get_tag_item(f"BLOCK_SIZE_{across}_{down}", "TIFF", bidx=1) or 0)
                        total, count = total + seen[key], count + 1
    return Touched(total / 1e6, sum(seen.values()) / 1e6, count, len(seen))


def _by_file(job: Job) -> dict[tuple[int, str], list[int]]:
    files: dict[tuple[int, str], list[int]] = {}
    for number, (item, _, _) in enumerate(job.windows):
        for band, _ in job.bands:
            files.setdefault((item, band), []).append(number)
    return files


def agreeing(sums: Sequence[Sequence[int]], truth: Sequence[Sequence[int]]) -> float:
    """Share of bands of windows whose checksums are the true ones; of as many windows as both have."""
    n = min(len(sums), len(truth))
    return float((np.array(sums[:n]) == np.array(truth[:n])).mean())
