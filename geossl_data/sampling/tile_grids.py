"""The ground of a Sentinel-2 tile on which all bands have whole pixels, and the squares that fill it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import SIZE_STEP_PX
from geossl_data.errors import SamplingError
from geossl_data.grid import Bounds, Grid, common_bounds

STEP_M = 60.0
"""Corners of places are multiples of this from their grid's origin."""

BLOCK_PX = 512
"""Side of the blocks that Sentinel-2 rasters are stored in, pixels; blocks of 1024 hold whole ones of these."""

_ON_GRID = 1e-3
"""Largest misfit of two grids, in pixels, that counts as agreement."""

Snap = Literal["none", "block"]
"""Where places may lie: anywhere on the 60 m lattice, or inside one block of every band."""
Spans = NDArray[np.float64]
"""First and last position along an axis of a tile, metres from its north-west corner, shape (n, 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """The ground on which all Sentinel-2 bands of a scene have whole pixels."""

    epsg: int
    bounds: Bounds
    """west, south, east, north in metres; west and north are multiples of 60 m from the coarsest band's origin."""

    @property
    def side_px(self) -> int:
        """Side of the largest place that fits, in 10 m pixels."""
        west, south, east, north = self.bounds
        return max(0, int((min(east - west, north - south) + 1e-6) // STEP_M) * 6)


def tile_grid(grids: Sequence[Grid]) -> TileGrid | str:
    """The common ground of a scene's bands, or one line that says why there is none.

    A band's grid agrees with the coarsest when its origin differs by a whole number of its own pixels. Bounds are
    moved inwards to the next multiple of 60 m from the coarsest band's origin, so the answer may be a little smaller
    than the scene.
    """
    if len({grid.epsg for grid in grids}) != 1:
        return f"bands in different CRSs: {sorted({grid.epsg for grid in grids})}"
    coarsest = max(grids, key=lambda grid: grid.resolution_m)
    for grid in grids:
        for origin, reference in ((grid.x, coarsest.x), (grid.y, coarsest.y)):
            pixels = (origin - reference) / grid.resolution_m
            if abs(pixels - round(pixels)) > _ON_GRID:
                return f"a {grid.resolution_m:g} m band lies {abs(pixels - round(pixels)):.2f} pixels off the others"
    west, south, east, north = common_bounds(grids)
    west = coarsest.x + np.ceil((west - coarsest.x) / STEP_M - _ON_GRID) * STEP_M
    north = coarsest.y - np.ceil((coarsest.y - north) / STEP_M - _ON_GRID) * STEP_M
    return TileGrid(epsg=coarsest.epsg, bounds=(float(west), south, east, float(north)))


def corners(bounds: Bounds, side_m: float) -> NDArray[np.float64]:
    """North-west corners of the squares of `side_m` that fill `bounds`, shape (n, 2), row by row from the north.

    What is left over at the edges is shared evenly, in steps of 60 m.
    """
    west, south, east, north = bounds
    columns, rows = int((east - west + 1e-6) // side_m), int((north - south + 1e-6) // side_m)
    if columns <= 0 or rows <= 0:
        return np.empty((0, 2))
    shift_x = (east - west - columns * side_m) / 2 // STEP_M * STEP_M
    shift_y = (north - south - rows * side_m) / 2 // STEP_M * STEP_M
    xs = west + shift_x + side_m * np.arange(columns)
    ys = north - shift_y - side_m * np.arange(rows)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def lattice_of(tile: TileGrid) -> tuple[int, float, float]:
    """Zone and origin, metres, of the 60 m lattice on which the corners of a tile's places lie: equal for tiles that
    share it."""
    west, _, _, north = tile.bounds
    return tile.epsg, round(west % STEP_M, 3) % STEP_M, round(north % STEP_M, 3) % STEP_M


# ------------------------------------------------------------------------------------------------ blocks


@dataclass(frozen=True, slots=True, eq=False)
class Squares:
    """Squares of one size that share out a tile."""

    corners: NDArray[np.float64]
    """North-west corners, shape (n, 2), row by row from the north."""
    km2: float
    """Ground that each stands for."""
    are_in_blocks: bool
    """Whether each lies in one block of every band."""


def require_block(size_px: int) -> None:
    """SamplingError where no block can hold a place of `size_px` 10 m pixels."""
    most_px = BLOCK_PX // SIZE_STEP_PX * SIZE_STEP_PX
    if size_px > most_px:
        raise SamplingError(
            f"--snap block: a place of {size_px} px does not fit a block of {BLOCK_PX} px; "
            f"give --size {most_px} or less, or --snap none"
        )


def pitch_m(side_m: float) -> float:
    """How far apart the centres of neighbouring squares of `blocked_squares` lie on average, metres.

    side_m: that of a place which a block can hold.
    """
    block_m = BLOCK_PX * 10.0
    return block_m / (block_m // side_m)


def block_spans(tile: TileGrid, grids: Iterable[Grid], side_m: float) -> tuple[Spans, Spans]:
    """Where a square of `side_m` lies in one block of each grid: spans eastwards and spans southwards of its corner.

    Blocks of a grid are counted from its own corner; ground where blocks of two grids end apart belongs to neither. All
    positions in a span are multiples of 60 m; its ends are as well. A square may lie in any span eastwards with any
    southwards. Empty where no block leaves room. The last block of a grid ends with the tile.
    """
    west, south, east, north = tile.bounds
    placed = {(grid.x - west, north - grid.y, grid.resolution_m * BLOCK_PX) for grid in grids}
    return (
        _spans({(start, block_m) for start, _, block_m in placed}, east - west, side_m),
        _spans({(start, block_m) for _, start, block_m in placed}, north - south, side_m),
    )


def _spans(rows: Iterable[tuple[float, float]], length_m: float, side_m: float) -> Spans:
    """Spans along an axis from 0 to `length_m`; rows: where a row of blocks begins, and how long a block is, metres."""
    edges = {0.0, length_m}
    for start, block_m in rows:
        first, last = math.floor(-start / block_m) + 1, math.ceil((length_m - start) / block_m)
        edges.update((start + block_m * np.arange(first, last)).tolist())
    cuts = np.array(sorted(edges))
    low = np.ceil(cuts[:-1] / STEP_M - _ON_GRID) * STEP_M
    high = np.floor((cuts[1:] - side_m) / STEP_M + _ON_GRID) * STEP_M
    return np.asarray(np.column_stack([low, high])[low <= high])


def blocked_squares(tile: TileGrid, grids: Iterable[Grid], side_m: float) -> Squares:
    """The squares of `side_m` that lie in one block of each grid, as many as fit each block, evenly over it.

    Where no block leaves room for one, those of `plain_squares`. Together they stand for the same ground as these.
    """
    plain = plain_squares(tile, side_m)
    eastwards, southwards = (_spread(spans, side_m) for spans in block_spans(tile, grids, side_m))
    if not len(eastwards) or not len(southwards):
        return plain
    at = np.stack(np.meshgrid(tile.bounds[0] + eastwards, tile.bounds[3] - southwards), axis=-1).reshape(-1, 2)
    return Squares(at, plain.km2 * len(plain.corners) / len(at), are_in_blocks=True)


def plain_squares(tile: TileGrid, side_m: float) -> Squares:
    """The squares of `side_m` that fill a tile side by side, as `corners` has them."""
    return Squares(corners(tile.bounds, side_m), (side_m / 1000) ** 2, are_in_blocks=False)


def _spread(spans: Spans, side_m: float) -> NDArray[np.float64]:
    """Positions, each multiples of 60 m, of as many squares as fit beside each other in each span, evenly over it."""
    found = [np.zeros(0)]
    for low, high in spans.tolist():
        count = int((high - low) // side_m) + 1
        left_over = high - low - (count - 1) * side_m
        number = np.arange(count)
        found.append(low + number * side_m + left_over * (2 * number + 1) / (2 * count) // STEP_M * STEP_M)
    return np.concatenate(found)


def nearest_in(spans: Spans, wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of all positions in some spans, at least one, the nearest to each of those wanted, shape (n,); metres."""
    at = np.clip(np.round(wanted / STEP_M)[:, None] * STEP_M, spans[:, 0], spans[:, 1])
    nearest = np.abs(at - wanted[:, None]).argmin(axis=1)
    return np.asarray(at[np.arange(len(wanted)), nearest])
