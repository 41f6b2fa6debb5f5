"""A tar read once, from its first byte to its last: its members with their checksums, and the hash of all.

Nothing is extracted. Where a header is damaged the scan goes on at the next one that the manifest knows.
"""

import hashlib
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from geossl_data.errors import ShardError
from geossl_data.shards.checking.rows import File
from geossl_data.shards.codec import crc32
from geossl_data.shards.reading.sources import Source
from geossl_data.shards.tars import BLOCK, MAX_MEMBER_NBYTES, MAX_NAME_NBYTES, padded

CHUNK_NBYTES = 8 * 2**20
"""What is read at once: large enough for an object store, small enough to hold many of."""


class UnreadableError(ShardError):
    """The file itself cannot be read on, whatever it holds."""


class Stream:
    """The bytes of a shard in their order, each read once. Holds CHUNK_NBYTES, or one member where that is larger."""

    def __init__(self, source: Source, name: str, nbytes: int) -> None:
        self._source, self._name = source, name
        self.nbytes = nbytes
        self.position = 0
        self._read = 0
        self._memory = bytearray(min(CHUNK_NBYTES, nbytes))
        self._at = self._stop = 0
        self._hash = hashlib.sha256()

    def take(self, nbytes: int) -> memoryview:
        """The next `nbytes` bytes, good until the next call; ShardError where there are not as many."""
        if self.position + nbytes > self.nbytes:
            raise ShardError(f"file ends at byte {self.nbytes}, before byte {self.position + nbytes}")
        if nbytes > self._stop - self._at:
            self._fill(nbytes)
        view = memoryview(self._memory)[self._at : self._at + nbytes]
        self._at += nbytes
        self.position += nbytes
        return view

    def _fill(self, nbytes: int) -> None:
        left = self._memory[self._at : self._stop]
        if len(self._memory) < nbytes:
            self._memory = bytearray(nbytes)
        self._memory[: len(left)] = left
        size = min(len(self._memory) - len(left), self.nbytes - self._read)
        fresh = memoryview(self._memory)[len(left) : len(left) + size]
        try:
            self._source.read_into(self._name, self._read, [fresh])
        except ShardError as error:
            raise UnreadableError(str(error)) from None
        self._hash.update(fresh)
        self._read += size
        self._at, self._stop = 0, len(left) + size

    def skip_to(self, position: int) -> None:
        """Leave out what lies before `position`, which is hashed all the same."""
        while self.position < position:
            self.take(min(CHUNK_NBYTES, position - self.position))

    def sha256(self) -> str:
        """Hex digest of the whole file, of which the rest is read now."""
        self.skip_to(self.nbytes)
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Part:
    """A member as it was found."""

    name: str
    start: int
    crc32: int
    data: memoryview
    """Good until the next part."""


Problem = Callable[[str], None]


def parts(stream: Stream, expected: Sequence[File], problem: Problem, stop: int | None = None) -> Iterator[Part]:
    """The members of a tar up to its end-of-archive blocks; `problem` is told what is wrong on the way.

    expected: the files that the manifest says it holds, in the order of their bytes. stop: where to end, for a tar that
    was cut; None reads on to the end of the archive. Raises UnreadableError where the file cannot be read on.
    """
    starts = [file.start for file in expected]
    end = max((file.end for file in expected), default=0)

    def whose(position: int) -> str:
        number = bisect_right(starts, position) - 1
        return f" ({expected[number].name})" if number >= 0 and position < expected[number].end else ""

    while stream.position < (stream.nbytes if stop is None else stop):
        start = stream.position
        try:
            found = _member(stream)
            if found is None and start < end:
                raise ShardError(f"zeros at byte {start}, where a header belongs")
            if found is None:
                _check_end(stream, start)
                return
            name, data = found
            yield Part(name, start, crc32(data), data)
            padding = bytes(stream.take(padded(len(data)) - len(data)))
            if padding.strip(b"\0"):
                problem(f"bytes after {name} that are not zero, where it is filled up to a whole block")
        except UnreadableError:
            raise
        except ShardError as damage:
            problem(f"{damage}{whose(start)}")
            following = bisect_right(starts, start)
            if following == len(starts):
                return
            # A member that claims to be long has been read beyond where the next one begins.
            following = bisect_right(starts, stream.position - 1, lo=following)
            if following == len(starts) or starts[following] > stream.nbytes:
                return
            stream.skip_to(starts[following])
    if stop is None:
        problem("ends without the two blocks of zeros that end a tar")


def _member(stream: Stream) -> tuple[str, memoryview] | None:
    """Name and bytes of the member whose header is next; None for a block of zeros."""
    start = stream.position
    header = bytes(stream.take(BLOCK))
    if not header.strip(b"\0"):
        return None
    info = _parsed(header, start)
    name = info.name
    if info.type == tarfile.GNUTYPE_LONGNAME:
        if not 0 < info.size <= MAX_NAME_NBYTES:
            raise ShardError(f"member name of {info.size} bytes at byte {start}")
        raw = bytes(stream.take(padded(info.size)))
        if raw[info.size - 1 :].strip(b"\0"):
            raise ShardError(f"damaged member name at byte {start}")
        name = _ascii(raw[: info.size - 1], start)
        info = _parsed(bytes(stream.take(BLOCK)), start)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise ShardError(f"member {name!r} at byte {start} is not a regular file")
    if not 0 <= info.size <= MAX_MEMBER_NBYTES or stream.position + padded(info.size) > stream.nbytes:
        raise ShardError(f"member {name!r} of {info.size} bytes runs beyond byte {stream.nbytes}")
    return name, stream.take(info.size)


def _parsed(header: bytes, start: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except UnicodeDecodeError:
        raise ShardError(f"member name at byte {start} is not ASCII") from None
    except (tarfile.HeaderError, ValueError):
        raise ShardError(f"damaged tar header at byte {start}: its checksum does not fit") from None


def _ascii(raw: bytes, start: int) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise ShardError(f"member name at byte {start} is not ASCII") from None


def _check_end(stream: Stream, start: int) -> None:
    """ShardError unless all that is left is zeros, a second block at least."""
    if stream.nbytes - start < 2 * BLOCK:
        raise ShardError("ends without the two blocks of zeros that end a tar")
    while stream.position < stream.nbytes:
        at = stream.position
        if bytes(stream.take(min(CHUNK_NBYTES, stream.nbytes - at))).strip(b"\0"):
            raise ShardError(f"bytes that are not zero from byte {at} on, behind the end of the archive")


def odd_headers(source: Source, name: str, nbytes: int, expected: Sequence[File]) -> list[str]:
    """Names of the files whose headers are not as they were written, though they can be read.

    A few bits of a header are in none of its checksums.
    """
    odd = []
    for file in expected:
        if file.offset <= nbytes:
            header = bytearray(file.offset - file.start)
            source.read_into(name, file.start, [memoryview(header)])
            if header != header_of(file.name, file.nbytes):
                odd.append(file.name)
    return odd


def header_of(name: str, nbytes: int) -> bytes:
    """The header blocks of a member as shards have them."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = nbytes, 0o644, 0
    return info.tobuf(format=tarfile.GNU_FORMAT)
