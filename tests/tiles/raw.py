"""Windows as they are stored, and what rasterio says is stored there: what oracle tests compare."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np
import rasterio

from geossl_data.tiles.rasters import EXACT, Pixels, Rasters
from geossl_data.tiles.windows import Layout, Source

Box = tuple[int, int, int, int]
"""Column, row, width and height of a window, in pixels of its level."""


@dataclass(frozen=True, slots=True)
class RawWindow:
    """A want that names pixels of a level of a raster and takes them as they are."""

    href: str
    box: Box
    level: int = 0

    @property
    def nbytes(self) -> int:
        return self.box[2] * self.box[3] * 8

    def source(self, layout: Layout) -> Source:
        column, row, width, height = self.box
        return Source(column, row, width, height, lambda values: Pixels(values, EXACT), level=self.level)


def levels(path: object) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """The first band at full resolution and of each overview by rasterio, with rows and columns of their blocks."""
    with rasterio.open(path) as dataset:
        found = [(dataset.read(1), dataset.block_shapes[0])]
        n = len(dataset.overviews(1))
    for level in range(n):
        with rasterio.open(path, overview_level=level) as dataset:
            found.append((dataset.read(1), dataset.block_shapes[0]))
    return found


def some_boxes(rng: np.random.Generator, shape: tuple[int, int], block: tuple[int, int], n: int) -> list[Box]:
    """The whole raster, its four corner pixels, windows across the edges of blocks, and `n` anywhere.

    shape: rows and columns; block: rows and columns of a storage block.
    """
    height, width = shape
    boxes = [
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, 0, 1, 1),
        (0, height - 1, 1, 1),
        (width - 1, height - 1, 1, 1),
    ]
    if width > block[1]:
        boxes.append((block[1] - 1, 0, 2, min(height, 5)))
    if height > block[0]:
        boxes.append((0, block[0] - 1, min(width, 7), 2))
    if width > block[1] and height > block[0]:
        boxes.append((block[1] - 3, block[0] - 2, min(8, width - block[1] + 3), min(9, height - block[0] + 2)))
    for _ in range(n):
        left, right = np.sort(rng.choice(width + 1, 2, replace=False)).tolist()
        top, bottom = np.sort(rng.choice(height + 1, 2, replace=False)).tolist()
        boxes.append((left, top, right - left, bottom - top))
    return boxes


def assert_as_stored(
    rasters: Rasters, paths: Iterable[Path], rng: np.random.Generator, *, n: int = 3, href: Callable[[Path], str] = str
) -> None:
    """Read windows of every level of rasters in one stream and hold each against what rasterio reads of that level.

    n: how many windows anywhere, besides those of `some_boxes`. href: what a raster is read by.
    """
    known: deque[list[np.ndarray]] = deque()

    def groups() -> Iterator[list[RawWindow]]:
        for path in paths:
            found = levels(path)
            known.append([pixels for pixels, _ in found])
            yield [
                RawWindow(href(path), box, level)
                for level, (pixels, block) in enumerate(found)
                for box in some_boxes(rng, pixels.shape, block, n)
            ]

    asked, ours = tee(groups())
    for wants, results in zip(asked, rasters.stream(ours), strict=True):
        expected = known.popleft()
        for want, found in zip(wants, results, strict=True):
            if not isinstance(found, Pixels):
                raise AssertionError(f"{want}: {found}")
            column, row, width, height = want.box
            part = expected[want.level][row : row + height, column : column + width]
            assert found.values.dtype == part.dtype
            np.testing.assert_array_equal(found.values, part, err_msg=repr(want))
