"""What is near in time and may share ground: time and a coarse grid first, so that few candidates are ever made.

Each footprint is entered in the cells of a longitude/latitude grid that its box meets, and the entries of a cell are
in order of time. A candidate shows up in every cell that both boxes meet and is taken in the first of them only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.scenes.matching.acquisitions import BoolArray, FloatArray, IntArray, ObjectArray

MOST_CANDIDATES = 1 << 19
"""Candidates that are looked at together, unless one acquisition alone has more."""

_LEAST_CELL, _LARGEST_CELL = 0.25, 5.0
"""Side of a grid cell, degrees."""
_WEST = -540.0
_N_COLUMN_BITS, _N_TIME_BITS = 12, 31
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """The bounding boxes of n footprints."""

    edges: FloatArray
    """west, south, east, north in degrees; west in [-180, 180); shape (n, 4)."""
    turn: FloatArray
    """What was added to the longitudes of the footprint: a multiple of 360, shape (n,)."""

    def __len__(self) -> int:
        return len(self.edges)


def boxes(shapes: ObjectArray) -> Boxes:
    """The bounding boxes of shapely geometries."""
    import shapely

    edges = shapely.bounds(shapes).reshape(-1, 4)
    turn = -360.0 * np.floor((edges[:, 0] + 180.0) / 360.0)
    edges[:, [0, 2]] += turn[:, None]
    return Boxes(edges=edges, turn=turn)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Entries:
    """Boxes in the cells that they meet."""

    owner: IntArray
    """Which box."""
    cell: IntArray
    edges: NDArray[np.uint8]
    """1 where the cell is of the first column of its box, plus 2 where it is of the first row."""


def candidates(
    a: Boxes, a_us: IntArray, b: Boxes, b_us: IntArray, max_gap_us: int
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Blocks of (a, b, turn): footprints whose boxes overlap and whose times differ by at most `max_gap_us`.

    turn: degrees to move the footprint of b east, a multiple of 360. `a` never decreases and no `a` is in two blocks;
    the order of `b` is not given. No block is empty.
    """
    if not len(a) or not len(b) or max_gap_us < 0:
        return
    copy_of, copy_turn = _copies(a.edges, b.edges)
    copy_box = b.edges[copy_of]
    copy_box[:, [0, 2]] += copy_turn[:, None]
    side = _cell_side(a.edges, b.edges)
    start = int(min(a_us.min(), b_us.min()))
    span = int(max(a_us.max(), b_us.max())) - start
    unit = max(_SECOND, span // ((1 << _N_TIME_BITS) - 2) + 1)
    reach = min(max_gap_us, span)

    entries_b = _entries(copy_box, side)
    keys = (entries_b.cell << _N_TIME_BITS) | ((b_us[copy_of] - start) // unit)[entries_b.owner]
    order = np.argsort(keys)
    keys, copies, edges_b = keys[order], entries_b.owner[order], entries_b.edges[order]

    entries_a = _entries(a.edges, side)
    earliest = np.maximum(a_us - start - reach, 0) // unit
    latest = np.minimum(a_us - start + reach, span) // unit
    cells = entries_a.cell << _N_TIME_BITS
    low = _searched(keys, cells | earliest[entries_a.owner], "left")
    n_meetings = _searched(keys, cells | latest[entries_a.owner], "right") - low
    for first, last in _blocks(entries_a.owner, n_meetings):
        repeats = n_meetings[first:last]
        entry = np.repeat(np.arange(first, last), repeats)
        position = np.arange(len(entry)) + np.repeat(low[first:last] - np.cumsum(repeats) + repeats, repeats)
        is_first_cell = (entries_a.edges[entry] | edges_b[position]) == 3
        own, copy = entries_a.owner[entry[is_first_cell]], copies[position[is_first_cell]]
        near = _overlap(a.edges[own], copy_box[copy])
        near &= np.abs(a_us[own] - b_us[copy_of[copy]]) <= max_gap_us
        own, copy = own[near], copy[near]
        other = copy_of[copy]
        if len(own):
            yield own, other, b.turn[other] + copy_turn[copy] - a.turn[own]


def _copies(a_box: FloatArray, b_box: FloatArray) -> tuple[IntArray, FloatArray]:
    """The boxes of b and their copies a whole turn away where those can meet boxes of a: which one, and the turn."""
    here = np.arange(len(b_box))
    ahead = np.flatnonzero(b_box[:, 0] + 360.0 < a_box[:, 2].max())
    behind = np.flatnonzero(b_box[:, 2] - 360.0 > a_box[:, 0].min())
    turns = np.repeat([0.0, 360.0, -360.0], [len(here), len(ahead), len(behind)])
    return np.concatenate([here, ahead, behind]), turns


def _cell_side(*boxes: FloatArray) -> float:
    """About the side of a box: smaller cells are met more often, larger ones hold more that is not near."""
    sides = [(box[:, 2:] - box[:, :2]).mean() for box in boxes]
    return float(np.clip(np.mean(sides), _LEAST_CELL, _LARGEST_CELL))


def _entries(box: FloatArray, side: float) -> _Entries:
    column, last_column = (np.floor((box[:, edge] - _WEST) / side).astype(np.int64) for edge in (0, 2))
    row, last_row = (np.floor((box[:, edge] + 90.0) / side).astype(np.int64) for edge in (1, 3))
    width = last_column - column + 1
    n_cells = width * (last_row - row + 1)
    owner = np.repeat(np.arange(len(box)), n_cells)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(n_cells) - n_cells, n_cells)
    rows, columns = np.divmod(step, width[owner])
    return _Entries(
        owner=owner,
        cell=((row[owner] + rows) << _N_COLUMN_BITS + 1) | (column[owner] + columns),
        edges=((columns == 0) + 2 * (rows == 0)).astype(np.uint8),
    )


def _searched(keys: IntArray, values: IntArray, side: Literal["left", "right"]) -> IntArray:
    """np.searchsorted for many values: in their own order the search stays in the processor's cache."""
    order = np.argsort(values)
    found = np.empty(len(values), dtype=np.int64)
    found[order] = np.searchsorted(keys, values[order], side=side)
    return found


def _blocks(owner: IntArray, n_meetings: IntArray) -> Iterator[tuple[int, int]]:
    """Ranges of entries that belong together and make about MOST_CANDIDATES candidates."""
    total = np.cumsum(n_meetings)
    first = 0
    while first < len(owner):
        done = total[first - 1] if first else 0
        last = int(np.searchsorted(total, done + MOST_CANDIDATES, side="right"))
        if last < len(owner):
            last = max(int(np.searchsorted(owner, owner[last])), int(np.searchsorted(owner, owner[first] + 1)))
        yield first, last
        first = last


def _overlap(a: FloatArray, b: FloatArray) -> BoolArray:
    return (a[:, 0] < b[:, 2]) & (b[:, 0] < a[:, 2]) & (a[:, 1] < b[:, 3]) & (b[:, 1] < a[:, 3])
