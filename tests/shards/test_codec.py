"""Arrays come back bit for bit, others can decode them, and a header that says anything else is refused."""

import io
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from geossl_data.errors import ShardError
from geossl_data.shards.codec import CODECS, crc32

SHAPE = (2, 3)
NPY, BLOSC = CODECS["npy"], CODECS["blosc"]


def hand_made(header: str, payload: bytes = bytes(12)) -> bytes:
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + payload


def test_the_bytes_are_those_of_a_hand_made_npy_file() -> None:
    array = np.array([[1, 2, 3], [4, 5, 258]], dtype=np.uint16)
    payload = bytes([1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 2, 1])
    assert NPY.encode(array) == hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", payload)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(CODECS)))
def test_arrays_come_back_whatever_their_type(data: st.DataObject, name: str) -> None:
    codec = CODECS[name]
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64]))
    array = data.draw(arrays(dtype, array_shapes(min_dims=2, max_dims=3, max_side=40)))
    stored = codec.encode(array)
    np.testing.assert_array_equal(codec.decode(stored, str(array.dtype), array.shape), array)
    assert codec.encode(np.asfortranarray(array)) == stored
    if codec.numbers_at is not None:
        start = codec.numbers_at(stored[:200], (str(array.dtype), array.shape))
        assert stored[start:] == array.tobytes()


def test_numpy_reads_npy_members() -> None:
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    np.testing.assert_array_equal(np.load(io.BytesIO(NPY.encode(array)), allow_pickle=False), array)


@pytest.mark.parametrize("name", ["blosc", "archive"])
def test_other_libraries_decode_blosc_members(name: str) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    array = np.random.default_rng(0).integers(1000, 1500, (4, 50, 50)).astype(np.uint16)
    stored = CODECS[name].encode(array)
    assert numcodecs.Blosc().decode(stored) == array.tobytes()
    # Blosc chunk header, by hand: format 2, bytes of the numbers and of the chunk.
    assert (stored[0], stored[3]) == (2, array.itemsize)
    assert struct.unpack_from("<I", stored, 4) == (array.nbytes,)
    assert struct.unpack_from("<I", stored, 12) == (len(stored),)


def test_the_filter_sees_whole_numbers() -> None:
    # Eight of sixteen bits are noise, so that about half is left; bytes by themselves would not shrink at all.
    noise = np.random.default_rng(0).integers(1024, 1280, (4, 264, 264)).astype(np.uint16)
    assert len(BLOSC.encode(noise)) < 0.6 * noise.nbytes
    smooth = np.add.outer(np.arange(264), np.arange(264)).astype(np.uint16)
    assert len(CODECS["archive"].encode(smooth)) < len(BLOSC.encode(smooth)) < smooth.nbytes / 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (3, 2), }"), "shape"),
        (hand_made("{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }"), "dtype"),
        (hand_made("{'descr': '>u2', 'fortran_order': False, 'shape': (2, 3), }"), "dtype"),
        (hand_made("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }"), "dtype"),
        (hand_made("{'descr': '<u2', 'fortran_order': True, 'shape': (2, 3), }"), "C-ordered"),
        (hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000, 1000), }"), "shape"),
        (hand_made("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (2, 3), }"), "C-ordered"),
        (hand_made("__import__('os').abort()"), "damaged"),
        (hand_made("(" * 110), "damaged"),
        (hand_made("{'descr': '<u2'}"), "damaged"),
        (hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", bytes(11)), "139 bytes"),
        (hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", bytes(13)), "141 bytes"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(70_000), "more than"),
        (b"\x80\x04\x95" + bytes(200), "not a .npy"),
        (b"", "not a .npy"),
        (bytes(12), "not a .npy"),
    ],
)
def test_an_npy_header_that_says_anything_else_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        NPY.decode(data, "uint16", SHAPE)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 255), st.integers(0, 400))
def test_a_damaged_blosc_chunk_never_does_more_than_say_so(position: int, flip: int, cut: int) -> None:
    array = np.random.default_rng(0).integers(0, 500, (3, 40, 40)).astype(np.uint16)
    whole = BLOSC.encode(array)
    damaged = bytearray(whole)
    damaged[position % len(whole)] ^= flip
    out = np.zeros_like(array)
    for data in (whole[: max(0, len(whole) - 1 - cut)], whole + bytes(cut + 1)):
        with pytest.raises(ShardError):
            BLOSC.decode_into(data, out)
    assert crc32(damaged) != crc32(whole)
    with suppress(ShardError):  # numbers may have changed without a word: that is what checksums are for
        BLOSC.decode_into(bytes(damaged), out)


def test_a_blosc_header_that_promises_more_is_refused_before_anything_is_decoded() -> None:
    whole = bytearray(BLOSC.encode(np.zeros(SHAPE, np.uint16)))
    whole[4:8] = struct.pack("<I", 2**31)
    with pytest.raises(ShardError, match="2147483648 bytes"):
        BLOSC.decode(bytes(whole), "uint16", SHAPE)
    with pytest.raises(ShardError, match="no Blosc chunk"):
        BLOSC.decode(b"\x02\x01", "uint16", SHAPE)
