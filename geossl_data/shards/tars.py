"""The members of an uncompressed tar: names and byte ranges, read from the headers alone and never extracted.

Header layout: POSIX.1-1988 (ustar); names over 100 bytes as GNU tar and Python's `tarfile` write them (type L).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from geossl_data.errors import ShardError

BLOCK = 512
"""Everything in a tar starts at a multiple of this many bytes."""
MAX_MEMBER_NBYTES = 256 * 2**20
"""No array or JSON of ours comes near; a larger size in a header is damage."""
SHORT_NAME_NBYTES = 100
"""The longest name that a header itself holds."""
MAX_NAME_NBYTES = 1024
MAX_JSON_NBYTES = 4 * 2**20
"""The most that the JSON of a sample may have."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """One file inside a tar."""

    name: str
    start: int
    """Offset of its (first) header."""
    offset: int
    """Offset of its bytes."""
    nbytes: int

    @property
    def end(self) -> int:
        """Offset of what follows it."""
        return self.offset + padded(self.nbytes)


def padded(nbytes: int) -> int:
    """Bytes that a member of `nbytes` takes after its header."""
    return -(-nbytes // BLOCK) * BLOCK


def header_nbytes(name_nbytes: int) -> int:
    """Bytes before a member's own, for a name of this length: a long one comes as a member before it."""
    return BLOCK if name_nbytes <= SHORT_NAME_NBYTES else 3 * BLOCK


def read_exactly(descriptor: int, nbytes: int, offset: int) -> bytes:
    """`nbytes` bytes at `offset`; ShardError where the file ends before."""
    data = os.pread(descriptor, nbytes, offset)
    if len(data) != nbytes:
        raise ShardError(f"file ends at byte {offset + len(data)}, before byte {offset + nbytes}")
    return data


def members(descriptor: int, start: int, end: int) -> Iterator[TarMember]:
    """The members whose bytes lie in [start, end) of an open tar, in order; stops at the end-of-archive block.

    Raises ShardError at a damaged header, at anything but a regular file, and at a member that runs beyond `end`.
    """
    position = start
    while position < end:
        header = read_exactly(descriptor, BLOCK, position)
        if not header.strip(b"\0"):
            return
        first, (name, kind, nbytes) = position, _parse(header, position)
        if kind == b"L":
            if nbytes > MAX_NAME_NBYTES:
                raise ShardError(f"member name of {nbytes} bytes at byte {position}")
            name = _text(read_exactly(descriptor, nbytes, position + BLOCK), position)
            position += BLOCK + padded(nbytes)
            _, kind, nbytes = _parse(read_exactly(descriptor, BLOCK, position), position)
        if kind not in (b"0", b"\0"):
            raise ShardError(f"member {name!r} at byte {first} is not a regular file")
        member = TarMember(name, first, position + BLOCK, nbytes)
        if nbytes > MAX_MEMBER_NBYTES or member.end > end:
            raise ShardError(f"member {name!r} of {nbytes} bytes runs beyond byte {end}")
        yield member
        position = member.end


def _parse(header: bytes, position: int) -> tuple[str, bytes, int]:
    """Name, type and size of a header block."""
    try:
        checksum = int(header[148:156].rstrip(b"\0 "), 8)
        nbytes = int(header[124:136].rstrip(b"\0 "), 8)
    except ValueError:
        raise ShardError(f"damaged tar header at byte {position}") from None
    if sum(header[:148]) + sum(header[156:]) + 8 * ord(" ") != checksum or nbytes < 0:
        raise ShardError(f"damaged tar header at byte {position}: its checksum does not fit")
    return _text(header[:100], position), header[156:157], nbytes


def _text(raw: bytes, position: int) -> str:
    try:
        return raw.split(b"\0", 1)[0].decode("ascii")
    except UnicodeDecodeError:
        raise ShardError(f"member name at byte {position} is not ASCII") from None
