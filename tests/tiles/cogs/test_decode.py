"""Tiles: exactly the rows asked for, or an error; never rows that the data do not hold."""

import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiles.cogs.geotiffs import Bytes, plain_fields, tiff_bytes, write_tiff

from geossl_data.tiles.cogs import BrokenTiffError, Header, decode_tile, read_header

CODES = {"none": 1, "deflate": 8, "zstd": 50000, "lzw": 5}
COMPRESSED = ["deflate", "zstd", "lzw"]
SIDE = 16


def header_of(compression: str = "deflate", predictor: int = 2, **changes: Any) -> Header:
    fields = plain_fields(t259=(3, [CODES[compression]]), t317=(3, [predictor]), **changes)
    return read_header(Bytes(tiff_bytes(fields)))


def encoded(compression: str, content: bytes) -> bytes:
    if compression == "deflate":
        return zlib.compress(content)
    if compression == "zstd":
        return bytes(imagecodecs.zstd_encode(content))
    return bytes(imagecodecs.lzw_encode(content)) if compression == "lzw" else content


PIXELS = np.random.default_rng(0).integers(0, 500, (SIDE, SIDE)).astype("<u2")


def test_differences_by_hand_run_over_as_tiff_says() -> None:
    header = header_of("none", 1)
    stored = np.zeros((SIDE, SIDE), "<u2")
    stored[0, :4] = [5, 1, 0xFFFA, 0xFFFF]
    assert decode_tile(stored.tobytes(), header, header.levels[0], 0, 1)[0, :4].tolist() == [5, 1, 0xFFFA, 0xFFFF]
    header = header_of("deflate", 2)
    rows = decode_tile(zlib.compress(stored.tobytes()), header, header.levels[0], 0, 2)
    assert rows[0, :5].tolist() == [5, 6, 0, 0xFFFF, 0xFFFF]
    assert not rows[1].any()


def test_byte_planes_by_hand() -> None:
    """1.0 is 3f 80 00 00: a row of ones is 3f, then 80, then 0, each once and then as no difference."""
    header = header_of("deflate", 3, t258=(3, [32]), t339=(3, [3]))
    row = np.zeros(4 * SIDE, np.uint8)
    row[[0, SIDE, 2 * SIDE]] = [0x3F, 0x80 - 0x3F, 0x80]
    stored = zlib.compress(np.tile(row, SIDE).tobytes())
    np.testing.assert_array_equal(decode_tile(stored, header, header.levels[0], 3, 5), np.ones((2, SIDE), np.float32))


@pytest.mark.parametrize("compression", CODES)
@given(rows=st.lists(st.integers(0, SIDE), min_size=2, max_size=2, unique=True), view=st.booleans())
@settings(max_examples=30)
def test_any_rows_are_those_of_the_whole_tile(compression: str, rows: list[int], view: bool) -> None:
    first, stop = sorted(rows)
    header = header_of(compression, 1)
    data: Any = encoded(compression, PIXELS.tobytes())
    part = decode_tile(memoryview(data) if view else data, header, header.levels[0], first, stop)
    np.testing.assert_array_equal(part, PIXELS[first:stop])
    part[:] = 0  # an array of its own
    np.testing.assert_array_equal(decode_tile(data, header, header.levels[0], first, stop), PIXELS[first:stop])


@pytest.mark.parametrize("predictor", [2, 3])
@pytest.mark.parametrize("order", ["little", "big"])
def test_any_rows_of_predicted_floats(predictor: int, order: str) -> None:
    pixels = np.random.default_rng(1).normal(size=(32, 48)).astype(np.float32)
    layout = {"tiled": True, "blockxsize": 48, "blockysize": 32, "compress": "deflate", "predictor": predictor}
    content = write_tiff(pixels, endianness=order, **layout)
    header = read_header(Bytes(content))
    start, nbytes = int(header.levels[0].offsets[0, 0]), int(header.levels[0].nbytes[0, 0])
    part = decode_tile(content[start : start + nbytes], header, header.levels[0], 11, 29)
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part, pixels[11:29])


@pytest.mark.parametrize("compression", CODES)
@pytest.mark.parametrize("stop", [1, 7, SIDE - 1, SIDE])
def test_data_that_are_cut_anywhere_give_right_rows_or_none(compression: str, stop: int) -> None:
    header = header_of(compression, 1)
    data = encoded(compression, PIXELS.tobytes())
    given_rows = 0
    for length in range(len(data)):
        try:
            rows = decode_tile(data[:length], header, header.levels[0], 0, stop)
        except BrokenTiffError:
            continue
        given_rows += 1
        np.testing.assert_array_equal(rows, PIXELS[:stop])
    assert given_rows == 0 or stop < SIDE or compression == "zstd"


def test_codes_of_lzw_that_are_cut_are_never_filled_up() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        pixels = rng.integers(0, rng.integers(2, 300), (SIDE, SIDE)).astype("<u2")
        data = encoded("lzw", pixels.tobytes())
        header = header_of("lzw", 1)
        for cut in range(1, 5):
            for stop in (SIDE - 1, SIDE):
                try:
                    rows = decode_tile(data[:-cut], header, header.levels[0], 0, stop)
                except BrokenTiffError:
                    continue
                np.testing.assert_array_equal(rows, pixels[:stop])


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_tile_that_holds_fewer_rows_is_refused(compression: str) -> None:
    header = header_of(compression, 1)
    data = encoded(compression, PIXELS[:9].tobytes())
    np.testing.assert_array_equal(decode_tile(data, header, header.levels[0], 4, 9), PIXELS[4:9])
    with pytest.raises(BrokenTiffError, match="row 10"):
        decode_tile(data, header, header.levels[0], 4, 10)


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("data", [b"", b"\0", b"<html>maintenance</html>" * 20, bytes(1000)])
def test_what_is_not_compressed_pixels_is_refused(compression: str, data: bytes) -> None:
    header = header_of(compression)
    with pytest.raises(BrokenTiffError) as caught:
        decode_tile(data, header, header.levels[0], 0, SIDE)
    assert "\n" not in str(caught.value)
    assert "html" not in str(caught.value)


def test_the_checksum_of_a_whole_tile_is_verified() -> None:
    header = header_of("deflate", 1)
    data = bytearray(zlib.compress(PIXELS.tobytes()))
    data[-1] ^= 1
    with pytest.raises(BrokenTiffError):
        decode_tile(bytes(data), header, header.levels[0], 0, SIDE)
    np.testing.assert_array_equal(decode_tile(bytes(data), header, header.levels[0], 0, 8), PIXELS[:8])


@pytest.mark.parametrize("compression", COMPRESSED)
def test_inflating_stops_at_the_last_row_that_is_needed(compression: str) -> None:
    """Behind it there is no sound data; whoever went on would fail."""
    header = header_of(compression, 1, t256=(3, [512]), t257=(3, [512]), t322=(3, [512]), t323=(3, [512]), **ONE_TILE)
    pixels = np.random.default_rng(2).integers(0, 60_000, (512, 512)).astype("<u2")
    data = bytearray(encoded(compression, pixels.tobytes()))
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    np.testing.assert_array_equal(decode_tile(bytes(data), header, header.levels[0], 3, 100), pixels[3:100])
    with pytest.raises(BrokenTiffError):
        decode_tile(bytes(data), header, header.levels[0], 3, 512)


ONE_TILE: dict[str, Any] = {"t324": (4, [1000]), "t325": (4, [90])}


@pytest.mark.parametrize("compression", ["deflate", "zstd"])
def test_a_bomb_is_not_inflated_beyond_the_rows_asked_for(compression: str) -> None:
    import tracemalloc

    header = header_of(compression, 1)
    data = encoded(compression, bytes(64 * 2**20))
    tracemalloc.start()
    try:
        rows = decode_tile(data, header, header.levels[0], 0, 8)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert not rows.any()


@pytest.mark.parametrize("compression", ["deflate", "lzw"])
def test_a_whole_tile_ends_where_its_last_row_does(compression: str) -> None:
    header = header_of(compression, 1)
    data = encoded(compression, bytes(2**20))
    with pytest.raises(BrokenTiffError):
        decode_tile(data, header, header.levels[0], 0, SIDE)
