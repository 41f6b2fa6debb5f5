"""The directories of a TIFF file: which field lies where, found in few and large reads.

TIFF 6.0 and BigTIFF. Everything here is what the file states and nothing is trusted: places are checked before they
are read, counts before anything of their size is asked for.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.tiles.cogs.errors import BrokenTiffError, UnknownLayoutError

Read = Callable[[int, int], bytes]
"""(start, nbytes) → those bytes of a file; fewer only where the file ends."""

STEP_NBYTES = 32 * 1024
"""What is asked for at least. It holds all directories, with their tables of tiles, of a band of 10980² pixels in tiles
of 512, and those of a Sentinel-1 scene of 28,000 × 22,000."""
MAX_GAP_NBYTES = 64 * 1024
"""Two pieces that lie nearer are asked for as one."""
MAX_READ_NBYTES = 64 * 2**20
"""Of all reads of one file together, far above any real set of directories."""
MAX_DIRECTORIES = 64
MAX_FIELDS = 1024
"""Of one directory; real ones have twenty."""
_LAST_BYTE = 2**63 - 1


class Tag(IntEnum):
    """The fields that are looked at."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC_INTERPRETATION = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIGURATION = 284
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SAMPLE_FORMAT = 339
    MODEL_PIXEL_SCALE = 33550
    MODEL_TIEPOINT = 33922
    MODEL_TRANSFORMATION = 34264
    GEO_KEY_DIRECTORY = 34735
    GEO_DOUBLE_PARAMS = 34736
    GEO_ASCII_PARAMS = 34737
    GDAL_NODATA = 42113


_TAGS = frozenset(int(tag) for tag in Tag)
_ASCII, _DOUBLE = 2, 12
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_ITEM_NBYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True, slots=True)
class Field:
    """Where the values of one field lie; `at` counts bytes from the start of the file."""

    tag: Tag
    kind: int
    count: int
    at: int

    @property
    def nbytes(self) -> int:
        return self.count * _ITEM_NBYTES[self.kind]


Directory = Mapping[Tag, Field]


class Pieces:
    """The bytes of a file that have been read so far."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._pieces: list[tuple[int, bytes]] = []
        self._asked_nbytes = 0

    def get(self, start: int, nbytes: int) -> bytes:
        """These bytes, read if they are not there yet; BrokenTiffError where the file ends before."""
        found = self._known(start, nbytes)
        if found is None:
            self._ask(start, max(nbytes, STEP_NBYTES))
            found = self._known(start, nbytes)
        if found is None:
            raise BrokenTiffError(f"the file ends before byte {start + nbytes}, up to which its directories reach")
        return found

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read what is missing of these (start, nbytes), near ones in one go."""
        missing: list[tuple[int, int]] = []
        for start, nbytes in sorted(ranges):
            if self._known(start, nbytes) is not None:
                continue
            if missing and start - missing[-1][1] <= MAX_GAP_NBYTES:
                missing[-1] = missing[-1][0], max(missing[-1][1], start + nbytes)
            else:
                missing.append((start, start + nbytes))
        for start, stop in missing:
            self._ask(start, stop - start)

    def _known(self, start: int, nbytes: int) -> bytes | None:
        if nbytes == 0:
            return b""
        for at, piece in self._pieces:
            if at <= start and start + nbytes <= at + len(piece):
                return piece[start - at : start - at + nbytes]
        return None

    def _ask(self, start: int, nbytes: int) -> None:
        self._asked_nbytes += nbytes
        if start + nbytes > _LAST_BYTE or self._asked_nbytes > MAX_READ_NBYTES:
            raise BrokenTiffError(f"its directories claim {nbytes} bytes from byte {start} on; no real file's do")
        self._pieces.append((start, bytes(self._read(start, nbytes)[:nbytes])))


class Tiff:
    """The directories of a file, in their order, and the values of their fields.

    Raises BrokenTiffError for anything that is no TIFF; UnknownLayoutError for more directories than an image has.
    """

    def __init__(self, read: Read) -> None:
        self._pieces = Pieces(read)
        self.order, self._is_big, first = self._head()
        self.directories = self._walk(first)

    def _head(self) -> tuple[Literal["<", ">"], bool, int]:
        start = self._pieces.get(0, 8)
        order: Literal["<", ">"] = ">" if start[:2] == b"MM" else "<"
        version, first = struct.unpack(f"{order}2xHI", start)
        if start[:2] not in (b"II", b"MM") or version not in (42, 43):
            raise BrokenTiffError("no TIFF: it does not start with a byte order and a version")
        if version == 42:
            return order, False, first
        size, zero, first = struct.unpack(f"{order}4xHHQ", self._pieces.get(0, 16))
        if (size, zero) != (8, 0):
            raise BrokenTiffError(f"a BigTIFF whose offsets have {size} bytes where 8 belong")
        return order, True, first

    def _walk(self, first: int) -> tuple[Directory, ...]:
        directories: list[Directory] = []
        seen: set[int] = set()
        while first:
            if first in seen:
                raise BrokenTiffError(f"its directories run in a circle: one at byte {first} follows itself")
            if len(seen) == MAX_DIRECTORIES:
                raise UnknownLayoutError(f"more than {MAX_DIRECTORIES} directories, more than one image has")
            seen.add(first)
            directory, first = self._directory(first)
            directories.append(directory)
        if not directories:
            raise BrokenTiffError("a TIFF without a directory")
        return tuple(directories)

    def _directory(self, start: int) -> tuple[Directory, int]:
        """The fields of the directory at byte `start`, and where the next one is; 0: nowhere."""
        count_format, entry_format, offset_format = ("Q", "HHQ", "Q") if self._is_big else ("H", "HHI", "I")
        count_nbytes, value_nbytes = struct.calcsize(count_format), struct.calcsize(offset_format)
        entry_nbytes = 4 + 2 * value_nbytes
        (count,) = struct.unpack(self.order + count_format, self._pieces.get(start, count_nbytes))
        if not 1 <= count <= MAX_FIELDS:
            raise BrokenTiffError(f"a directory of {count} fields at byte {start}; real ones have 1 to {MAX_FIELDS}")
        at = start + count_nbytes
        content = self._pieces.get(at, count * entry_nbytes + value_nbytes)
        directory: dict[Tag, Field] = {}
        for number in range(count):
            position = number * entry_nbytes
            tag, kind, length = struct.unpack_from(self.order + entry_format, content, position)
            if tag not in _TAGS:
                continue
            if Tag(tag) in directory:
                raise BrokenTiffError(f"{Tag(tag).name} is there twice in the directory at byte {start}")
            if kind not in _ITEM_NBYTES:
                raise BrokenTiffError(f"{Tag(tag).name} is of type {kind}, which TIFF does not know")
            values = position + 4 + value_nbytes
            inline = length * _ITEM_NBYTES[kind] <= value_nbytes
            (far,) = struct.unpack_from(self.order + offset_format, content, values)
            directory[Tag(tag)] = Field(Tag(tag), kind, length, at + values if inline else far)
        return directory, struct.unpack_from(self.order + offset_format, content, count * entry_nbytes)[0]

    def fetch(self, fields: Iterable[tuple[Field, int]]) -> None:
        """Read the values of several fields, each of at most so many values, in as few pieces as possible."""
        self._pieces.fetch([(field.at, _checked_nbytes(field, most)) for field, most in fields])

    def integers(self, field: Field, most: int) -> NDArray[np.int64]:
        """The values of a field, of which there are at most `most`; BrokenTiffError if they are no whole numbers."""
        if field.kind not in _INTEGERS:
            raise BrokenTiffError(f"{field.tag.name} is of type {field.kind}, where whole numbers belong")
        values = np.frombuffer(self._content(field, most), dtype=self.order + _INTEGERS[field.kind])
        if values.dtype.itemsize == 8 and values.size and int(values.max()) > _LAST_BYTE:
            raise BrokenTiffError(f"{field.tag.name} holds {int(values.max())}, more than any file has bytes")
        return values.astype(np.int64)

    def doubles(self, field: Field, most: int) -> tuple[float, ...]:
        """The values of a field, of which there are at most `most`; BrokenTiffError if they are not float64."""
        if field.kind != _DOUBLE:
            raise BrokenTiffError(f"{field.tag.name} is of type {field.kind}, where float64 belongs")
        return struct.unpack(f"{self.order}{field.count}d", self._content(field, most))

    def text(self, field: Field, most: int) -> bytes:
        """The characters of a field, at most `most`; BrokenTiffError if it holds something else."""
        if field.kind != _ASCII:
            raise BrokenTiffError(f"{field.tag.name} is of type {field.kind}, where text belongs")
        return self._content(field, most)

    def number(self, directory: Directory, tag: Tag, default: int | None = None) -> int:
        """The one whole number that a field holds; `default`, or BrokenTiffError, where it is absent."""
        field = directory.get(tag)
        if field is None:
            if default is None:
                raise BrokenTiffError(f"a directory without {tag.name}")
            return default
        if field.count != 1:
            raise BrokenTiffError(f"{tag.name} holds {field.count} numbers where 1 belongs")
        return int(self.integers(field, 1)[0])

    def _content(self, field: Field, most: int) -> bytes:
        return self._pieces.get(field.at, _checked_nbytes(field, most))


def _checked_nbytes(field: Field, most: int) -> int:
    if field.count > most:
        raise BrokenTiffError(f"{field.tag.name} holds {field.count} values where at most {most} belong")
    return field.nbytes
