"""Arrays ↔ bytes of one member: NumPy's own file format, or one Blosc chunk; never pickled.

`npy`: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0.
`blosc`, `archive`: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst. A chunk names its compressor
and filter itself, so that any Blosc reader decodes it; dtype and shape stand in the manifest and in the sample's JSON.
A header is checked before memory is taken or anything is decoded.
"""

import ast
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from imagecodecs import BloscError, blosc_decode, blosc_encode
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from geossl_data.errors import ShardError

__all__ = ["CODECS", "Codec", "crc32", "payload_nbytes"]

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview
Specification = tuple[str, tuple[int, ...]]
"""dtype and shape that an array has to have."""

MAGIC = b"\x93NUMPY\x01\x00"
MAX_HEADER_NBYTES = 1024
"""NumPy writes 128 bytes for our shapes; anything much longer is not ours."""
BLOSC_HEADER_NBYTES = 16


@dataclass(frozen=True, slots=True)
class Codec:
    """How one array becomes the bytes of one shard member, and back."""

    name: str
    extension: str
    """The ending of a member's name."""
    encode: Callable[[Array], bytes]
    """C order, little-endian. Same array and library version, same bytes."""
    decode_into: Callable[[Buffer, Array], None]
    """Fills a C-contiguous array; ShardError unless the bytes hold exactly one array of its dtype and shape."""
    numbers_at: Callable[[Buffer, Specification], int] | None = None
    """For bytes that hold the numbers as they are: where these start. ShardError as above."""

    def decode(self, data: Buffer, dtype: str, shape: tuple[int, ...]) -> Array:
        """The array of `encode` as a new one; ShardError as `decode_into`."""
        array = np.empty(shape, dtype)
        self.decode_into(data, array)
        return array


def payload_nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of the numbers alone, without a header."""
    size = np.dtype(dtype).itemsize
    for side in shape:
        size *= side
    return size


def _stored(array: Array) -> Array:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


# ------------------------------------------------------------------------------------------------ npy


def _encode_npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, _stored(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _npy_numbers_at(data: Buffer, specification: Specification) -> int:
    """Where the numbers start; `data` may end with the header."""
    start = len(MAGIC) + 2
    head = bytes(data[:start])
    if len(head) < start or not head.startswith(MAGIC):
        raise ShardError("not a .npy array of format 1.0")
    length = int.from_bytes(head[len(MAGIC) :], "little")
    if start + length > MAX_HEADER_NBYTES:
        raise ShardError(f".npy header of {start + length} bytes, more than {MAX_HEADER_NBYTES}")
    found = _parse_npy(bytes(data[: start + length]), start)
    expected = (np.dtype(specification[0]).newbyteorder("<").str, specification[1])
    if found != expected:
        raise ShardError(f"array of dtype {found[0]} and shape {found[1]} where {expected[0]} {expected[1]} belongs")
    return start + length


@lru_cache(maxsize=64)
def _parse_npy(header: bytes, start: int) -> tuple[str, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header[start:].decode("latin-1").strip())
        dtype, shape, fortran_order = fields["descr"], fields["shape"], fields["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise ShardError("damaged .npy header") from None
    if fortran_order is not False or not isinstance(dtype, str) or not isinstance(shape, tuple):
        raise ShardError(".npy header that is not a plain C-ordered array")
    return dtype, shape


def _decode_npy_into(data: Buffer, array: Array) -> None:
    start = _npy_numbers_at(data, (array.dtype.name, array.shape))
    if len(data) != start + array.nbytes:
        raise ShardError(
            f"{len(data)} bytes where an array {array.shape} of {array.dtype} needs {start + array.nbytes}"
        )
    array.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8, offset=start)


# ------------------------------------------------------------------------------------------------ Blosc


def _encode_blosc(array: Array, *, compressor: str, level: int, shuffle: str) -> bytes:
    stored = _stored(array)
    # Of bytes, imagecodecs takes the numbers to be one byte wide, whatever typesize says: it has to see the array.
    encoded = blosc_encode(
        stored,  # type: ignore[arg-type]
        level=level,
        compressor=compressor,
        shuffle=shuffle if stored.itemsize > 1 else "bitshuffle",
        typesize=stored.itemsize,
        numthreads=1,
    )
    return bytes(encoded)


def _decode_blosc_into(data: Buffer, array: Array) -> None:
    """Decodes on the calling thread, without the interpreter's lock."""
    if len(data) < BLOSC_HEADER_NBYTES:
        raise ShardError(f"{len(data)} bytes are no Blosc chunk")
    nbytes, _, encoded_nbytes = struct.unpack_from("<III", data, 4)
    if (nbytes, encoded_nbytes) != (array.nbytes, len(data)):
        raise ShardError(
            f"Blosc chunk of {nbytes} bytes in {encoded_nbytes} where {array.nbytes} in {len(data)} belong"
        )
    try:
        blosc_decode(data, numthreads=1, out=array.reshape(-1).view(np.uint8))  # type: ignore[arg-type] # any buffer
    except BloscError:
        raise ShardError("damaged Blosc chunk") from None


def _blosc(name: str, *, compressor: str, level: int, shuffle: str) -> Codec:
    encode = partial(_encode_blosc, compressor=compressor, level=level, shuffle=shuffle)
    return Codec(name, "blosc", encode, _decode_blosc_into)


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        _blosc("blosc", compressor="lz4hc", level=2, shuffle="shuffle"),
        Codec("npy", "npy", _encode_npy, _decode_npy_into, _npy_numbers_at),
        _blosc("archive", compressor="zstd", level=5, shuffle="shuffle"),
    )
}
