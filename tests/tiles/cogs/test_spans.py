"""Blocks that a window touches, and the ranges that hold them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.tiles.cogs.header import Level
from geossl_data.tiles.cogs.spans import Block, Span, merged, touched


def level(width: int, height: int, tile_width: int, tile_height: int) -> Level:
    shape = (-(-height // tile_height), -(-width // tile_width))
    numbers = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int64).reshape(shape)
    return Level(width, height, tile_width, tile_height, numbers * 100, numbers)


def block(offset: int, nbytes: int) -> Block:
    return Block(0, 0, offset, offset, nbytes)


@given(st.data())
def test_a_window_touches_the_blocks_of_its_pixels(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    of = level(width, height, data.draw(st.sampled_from([16, 7, 32])), data.draw(st.sampled_from([16, 5])))
    column, row = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    wide, high = data.draw(st.integers(1, width - column)), data.draw(st.integers(1, height - row))
    rows, columns = np.mgrid[row : row + high, column : column + wide]
    expected = {(int(r), int(c)) for r, c in zip(rows.flat, columns.flat, strict=True)}
    expected = {(r // of.tile_height, c // of.tile_width) for r, c in expected}
    found = list(touched(of, column, row, wide, high))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_ranges_by_hand() -> None:
    near, next_to_it, far = block(100, 50), block(160, 40), block(500, 10)
    assert merged([far, next_to_it, near], gap=10, most=1000) == [
        Span(100, 100, (near, next_to_it)),
        Span(500, 10, (far,)),
    ]
    assert merged([far, next_to_it, near], gap=9, most=1000) == [
        Span(100, 50, (near,)),
        Span(160, 40, (next_to_it,)),
        Span(500, 10, (far,)),
    ]
    assert merged([near, next_to_it], gap=10, most=99) == [Span(100, 50, (near,)), Span(160, 40, (next_to_it,))]
    assert merged([], gap=10, most=99) == []


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 300)), max_size=12),
    st.integers(0, 200),
    st.integers(1, 900),
)
def test_ranges_hold_every_block_once_and_waste_no_more_than_the_gaps(
    places: list[tuple[int, int]], gap: int, most: int
) -> None:
    blocks = [Block(0, 0, number, *place) for number, place in enumerate(places)]
    spans = merged(blocks, gap=gap, most=most)
    inside = [one for span in spans for one in span.blocks]
    assert sorted(inside, key=lambda one: one.column) == blocks
    for span in spans:
        assert all(span.start <= one.offset for one in span.blocks)
        assert span.start + span.nbytes == max(one.offset + one.nbytes for one in span.blocks)
        assert span.nbytes <= most or len(span.blocks) == 1 or span.nbytes <= max(one.nbytes for one in span.blocks)
        covered = np.zeros(span.nbytes, dtype=bool)
        for one in span.blocks:
            covered[one.offset - span.start : one.offset - span.start + one.nbytes] = True
        assert (~covered).sum() <= gap * (len(span.blocks) - 1)
