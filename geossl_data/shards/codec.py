"""Arrays ↔ bytes: NumPy's own file format, version 1.0, never pickled, its header checked before memory is taken.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import ShardError

Array = NDArray[Any]

MAGIC = b"\x93NUMPY\x01\x00"
MAX_HEADER_NBYTES = 1024
"""NumPy writes 128 bytes for our shapes; anything much longer is not ours."""


def encode(array: Array) -> bytes:
    """The bytes of a `.npy` file holding `array` in C order, little-endian. Same array, same bytes."""
    stored = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, stored, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def payload_nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of the numbers alone, without the header."""
    size = np.dtype(dtype).itemsize
    for side in shape:
        size *= side
    return size


def check_header(header: bytes, dtype: str, shape: tuple[int, ...]) -> None:
    """ShardError unless `header`, the bytes before the numbers, announces exactly this dtype and shape in C order."""
    found = _parse_header(header)
    expected = (np.dtype(dtype).newbyteorder("<").str, shape)
    if found != expected:
        raise ShardError(f"array of dtype {found[0]} and shape {found[1]} where {expected[0]} {expected[1]} belongs")


@lru_cache(maxsize=64)
def _parse_header(header: bytes) -> tuple[str, tuple[int, ...]]:
    start = len(MAGIC) + 2
    if not start < len(header) <= MAX_HEADER_NBYTES or not header.startswith(MAGIC):
        raise ShardError("not a .npy array of format 1.0")
    (length,) = struct.unpack("<H", header[len(MAGIC) : start])
    if start + length != len(header):
        raise ShardError(f".npy header of {start + length} bytes where {len(header)} belong")
    try:
        fields = ast.literal_eval(header[start:].decode("latin-1").strip())
        dtype, shape, fortran_order = fields["descr"], fields["shape"], fields["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise ShardError("damaged .npy header") from None
    if fortran_order is not False or not isinstance(dtype, str) or not isinstance(shape, tuple):
        raise ShardError(".npy header that is not a plain C-ordered array")
    return dtype, shape


def decode(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """The array of `encode`, shape `shape`; a read-only view of `data`, nothing is copied.

    Raises ShardError when the header announces another dtype, shape or order, or the length does not fit.
    """
    nbytes = payload_nbytes(dtype, shape)
    if len(data) <= nbytes:
        raise ShardError(f"{len(data)} bytes where an array {shape} of {dtype} needs more than {nbytes}")
    start = len(data) - nbytes
    check_header(bytes(data[: min(start, MAX_HEADER_NBYTES + 1)]), dtype, shape)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=start).reshape(shape)


@dataclass(frozen=True, slots=True)
class Codec:
    """How one array becomes the bytes of one shard member, and back."""

    name: str
    """Also the ending of the member's name."""
    encode: Callable[[Array], bytes]
    decode: Callable[[bytes, str, tuple[int, ...]], Array]


CODECS: dict[str, Codec] = {"npy": Codec("npy", encode, decode)}
