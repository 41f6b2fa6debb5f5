"""npy, and nothing but npy."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from geossl_data.errors import ShardError
from geossl_data.shards.codec import decode, encode

SHAPE = (2, 3)


def hand_made(header: str, payload: bytes = bytes(12)) -> bytes:
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + payload


def test_the_bytes_are_those_of_a_hand_made_npy_file() -> None:
    array = np.array([[1, 2, 3], [4, 5, 258]], dtype=np.uint16)
    payload = bytes([1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 2, 1])
    assert encode(array) == hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", payload)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_arrays_come_back_and_numpy_reads_them_too(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.float16, np.float32]))
    array = data.draw(arrays(dtype, array_shapes(min_dims=2, max_dims=3, max_side=5)))
    stored = encode(array)
    back = decode(stored, str(array.dtype), array.shape)
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(np.load(io.BytesIO(stored), allow_pickle=False), array)
    assert encode(np.asfortranarray(array)) == stored


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
        (hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", bytes(11)), "header"),
        (hand_made("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", bytes(13)), "header"),
        (hand_made("", bytes(5000)), "not a .npy"),
        (b"\x80\x04\x95" + bytes(200), "not a .npy"),
        (b"", "0 bytes"),
        (bytes(12), "12 bytes"),
    ],
)
def test_a_header_that_says_anything_else_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        decode(data, "uint16", SHAPE)
