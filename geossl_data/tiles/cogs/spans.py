"""Which stored blocks windows touch, and which byte ranges of a file hold them with few requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geossl_data.tiles.cogs.header import Level

MERGED_GAP_NBYTES = 64 * 2**10
"""Bytes that are fetched for nothing rather than ask twice: at 50 ms a request and 64 at a time they cost less."""
LARGEST_SPAN_NBYTES = 8 * 2**20
"""Blocks are merged up to this size, so that a few spans under way do not fill the memory."""


@dataclass(frozen=True, slots=True)
class Block:
    """One stored tile."""

    level: int
    """Position among the header's levels."""
    row: int
    column: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes with the blocks in it."""

    start: int
    nbytes: int
    blocks: tuple[Block, ...]


def touched(level: Level, column: int, row: int, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Row and column of each block that a window in pixels touches."""
    last_row, last_column = (row + height - 1) // level.tile_height, (column + width - 1) // level.tile_width
    for block_row in range(row // level.tile_height, last_row + 1):
        for block_column in range(column // level.tile_width, last_column + 1):
            yield block_row, block_column


def merged(blocks: Sequence[Block], *, gap: int = MERGED_GAP_NBYTES, most: int = LARGEST_SPAN_NBYTES) -> list[Span]:
    """The blocks in as few ranges as there are gaps of more than `gap` bytes between them; in order of their bytes.

    A range holds at most `most` bytes, unless one block alone is larger.
    """
    spans: list[Span] = []
    start = end = 0
    inside: list[Block] = []
    for block in sorted(blocks, key=lambda block: (block.offset, block.nbytes)):
        stop = block.offset + block.nbytes
        if inside and (block.offset - end > gap or max(stop, end) - start > most):
            spans.append(Span(start, end - start, tuple(inside)))
            inside = []
        if not inside:
            start, end = block.offset, stop
        end = max(end, stop)
        inside.append(block)
    if inside:
        spans.append(Span(start, end - start, tuple(inside)))
    return spans
