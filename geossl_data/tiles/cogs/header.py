"""How the pixels of a GeoTIFF lie in its file: what has to be known before tiles can be asked for.

One band in tiles or strips, as cloud-optimised GeoTIFFs of Sentinel scenes have it. A header is made of bytes from
outside, so everything is checked before anything large is allocated; a `Header` that exists can be relied on. GDAL's
notes for readers (the ghost area of a COG) are neither needed nor trusted.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from geossl_data.tiles.cogs.directories import Directory, Field, Read, Tag, Tiff
from geossl_data.tiles.cogs.errors import BrokenTiffError, UnknownLayoutError
from geossl_data.tiles.cogs.georeference import GEO_TAGS, MAX_VALUES, Transform, epsg_of, geo_keys, transform_of

__all__ = ["BrokenTiffError", "Header", "Level", "Read", "UnknownLayoutError", "pack", "read_header", "unpack"]

Compression = Literal["none", "deflate", "zstd", "lzw"]
Predictor = Literal[1, 2, 3]

MAX_TILE_NBYTES = 64 * 2**20
"""Largest tile or strip, decoded: 4096² pixels of float32. GDAL may read what is stored in larger ones."""
MAX_TILES = 2**20
"""Of one level: 200,000² pixels in tiles of 256 are 611,524."""
MAX_LEVELS = 32
MAX_SIDE = 2**31 - 1
"""In pixels, as in GDAL."""

_COMPRESSIONS: dict[int, Compression] = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 50000: "zstd"}
_PREDICTORS: dict[int, Predictor] = {1: 1, 2: 2, 3: 3}
_SAMPLES = {
    **{(1, bits): f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(3, bits): f"f{bits // 8}" for bits in (32, 64)},
}
_DTYPES = {np.dtype(order + sample).str.encode(): order + sample for sample in _SAMPLES.values() for order in "<>"}
_USUAL = {
    Tag.PHOTOMETRIC_INTERPRETATION: (1, 3),
    Tag.FILL_ORDER: (1,),
    Tag.ORIENTATION: (1,),
    Tag.PLANAR_CONFIGURATION: (1, 2),
}
_FULL, _REDUCED, _MASK = 0, 1, 4
_ROWS_UNLIMITED = 2**32 - 1
_FIRST_TILE = 8
"""Nothing but the start of the file lies before this byte."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
_MAX_EXACT = 2**53
"""Whole numbers up to here are float64 numbers too."""
_MAX_NODATA_NBYTES = 256
_MOST_VALUES = {**dict.fromkeys(GEO_TAGS, MAX_VALUES), Tag.GDAL_NODATA: _MAX_NODATA_NBYTES}
_MAX_FILE_NBYTES = 2**62
_LAST_EPSG = 65535

_Table = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One resolution of an image, and where its tiles lie. BrokenTiffError when made of what cannot be.

    A strip is a tile of the full width; the last one holds only the rows that are left.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: NDArray[np.int64]
    """First byte of each tile, shape (tile rows, tile columns)."""
    nbytes: NDArray[np.int64]
    """Compressed length of each tile; 0: not stored, its pixels are the no-data value, or 0 in a file without one."""

    def __post_init__(self) -> None:
        sides = (self.width, self.height, self.tile_width, self.tile_height)
        if not all(1 <= side <= MAX_SIDE for side in sides):
            _refuse(
                f"a level of {self.width} × {self.height} pixels in tiles of {self.tile_width} × {self.tile_height}"
            )
        shape = tile_counts(*sides)
        for array in (self.offsets, self.nbytes):
            if array.shape != shape or array.dtype != np.int64 or int(array.min()) < 0:
                _refuse(
                    f"a table of tiles of shape {array.shape} and type {array.dtype}, where {shape} and int64 belong"
                )
        stored = self.nbytes > 0
        if bool((stored & ((self.offsets < _FIRST_TILE) | (self.offsets > _MAX_FILE_NBYTES - self.nbytes))).any()):
            _refuse("a tile outside of any file")


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What a file of one band holds. BrokenTiffError when made of what cannot be."""

    levels: tuple[Level, ...]
    """Full resolution first, then the overviews inside the file by falling size; masks are left out."""
    dtype: np.dtype[Any]
    """In the byte order of the file: 8 to 64 bit integers, float32 or float64."""
    compression: Compression
    predictor: Predictor
    nodata: float | None
    """As rasterio states it: None where the file has none, or one that its type cannot hold."""
    epsg: int | None
    """None: no coordinate reference system."""
    transform: Transform
    """a, b, c, d, e, f: pixel corners to coordinates, without rotation."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            _refuse(f"{len(self.levels)} levels")
        for larger, smaller in zip(self.levels, self.levels[1:], strict=False):
            if smaller.width > larger.width or smaller.height > larger.height:
                _refuse("an overview that is larger than what it is an overview of")
        if self.dtype.str[1:] not in _SAMPLES.values():
            _refuse(f"pixels of type {self.dtype}")
        if self.compression not in get_args(Compression) or self.predictor not in get_args(Predictor):
            _refuse(f"compression {self.compression} and predictor {self.predictor}")
        if self.predictor == 3 and self.dtype.kind != "f":
            _refuse(f"the predictor of floating-point numbers (3) on {self.dtype}")
        if self.predictor != 1 and self.compression == "none":
            _refuse(f"predictor {self.predictor} without compression")
        if self.epsg is not None and not 1 <= self.epsg <= _LAST_EPSG:
            _refuse(f"EPSG:{self.epsg}")
        a, b, _, d, e, _ = self.transform
        if not all(map(isfinite, self.transform)) or b or d or not a or not e:
            _refuse(f"the transform {self.transform}")
        for level in self.levels:
            full = level.tile_width * level.tile_height * self.dtype.itemsize
            if full > MAX_TILE_NBYTES:
                _refuse(f"a tile of {full} bytes, where at most {MAX_TILE_NBYTES} are taken")
            # libtiff's own bound on what is plausible; no compression makes a tile grow by half.
            if int(level.nbytes.max()) > 10 * full + 4096:
                _refuse(f"{int(level.nbytes.max())} bytes that are to hold a tile of {full}")


def _refuse(found: str) -> NoReturn:
    raise BrokenTiffError(f"its header states {found}; no sound file does")


def tile_counts(width: int, height: int, tile_width: int, tile_height: int) -> tuple[int, int]:
    """How many rows and columns of tiles cover an image."""
    return -(-height // tile_height), -(-width // tile_width)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What one directory says of its image, before its table of tiles is read."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: Field
    nbytes: Field
    sample: str
    compression: Compression
    predictor: Predictor

    @property
    def kind(self) -> tuple[str, Compression, Predictor]:
        return self.sample, self.compression, self.predictor


def read_header(read: Read) -> Header:
    """The header of a GeoTIFF, in one read where the directories of a cloud-optimised one lie in its first 32 KiB.

    What lies further behind is asked for in pieces of 32 KiB, and all tables of tiles together in as few as possible.
    Raises BrokenTiffError for what is no TIFF or contradicts itself, UnknownLayoutError for what is not read here:
    several bands, other compressions, rotated images, ground control points, no georeference. What `read` raises
    passes through.
    """
    tiff = Tiff(read)
    first, *later = tiff.directories
    if tiff.number(first, Tag.NEW_SUBFILE_TYPE, 0) not in (_FULL, _REDUCED):
        raise UnknownLayoutError("its first image is a page or a mask")
    image = _layout(tiff, first)
    overviews = [_layout(tiff, directory) for directory in later if _is_overview(tiff, directory)]
    for overview in overviews:
        if overview.kind != image.kind or overview.width > image.width or overview.height > image.height:
            raise UnknownLayoutError("an overview is larger than the image, or stored in another way")
    layouts = [image, *sorted(overviews, key=lambda layout: (-layout.width, -layout.height))]
    tables = [(field, MAX_TILES) for layout in layouts for field in (layout.offsets, layout.nbytes)]
    others = [(first[tag], most) for tag, most in _MOST_VALUES.items() if tag in first]
    tiff.fetch(tables + others)
    keys, dtype = geo_keys(tiff, first), np.dtype(tiff.order + image.sample)
    return Header(
        levels=tuple(_level(tiff, layout) for layout in layouts),
        dtype=dtype,
        compression=image.compression,
        predictor=image.predictor,
        nodata=_nodata(tiff, first, dtype),
        epsg=epsg_of(keys),
        transform=transform_of(tiff, first, keys),
    )


def _is_overview(tiff: Tiff, directory: Directory) -> bool:
    """Whether a later directory is an overview, not a mask; UnknownLayoutError where it is an image of its own."""
    kind = tiff.number(directory, Tag.NEW_SUBFILE_TYPE, 0)
    if Tag.SUBFILE_TYPE in directory or kind not in (_REDUCED, _MASK, _REDUCED | _MASK):
        raise UnknownLayoutError("several images in one file")
    return kind == _REDUCED


def _layout(tiff: Tiff, directory: Directory) -> _Layout:
    bands = tiff.number(directory, Tag.SAMPLES_PER_PIXEL, 1)
    if bands != 1:
        raise UnknownLayoutError(f"{bands} bands in one file")
    for tag, usual in _USUAL.items():
        if tiff.number(directory, tag, usual[0]) not in usual:
            raise UnknownLayoutError(f"{tag.name} is {tiff.number(directory, tag)}, not one of {usual}")
    bits, form = tiff.number(directory, Tag.BITS_PER_SAMPLE, 1), tiff.number(directory, Tag.SAMPLE_FORMAT, 1)
    code = tiff.number(directory, Tag.COMPRESSION, 1)
    sample, compression = _SAMPLES.get((form, bits)), _COMPRESSIONS.get(code)
    if sample is None or compression is None:
        raise UnknownLayoutError(f"pixels of {bits} bits, format {form}, compression {code}")
    # libtiff looks at the predictor with these compressions only, whatever is stated.
    stated = 1 if compression == "none" else tiff.number(directory, Tag.PREDICTOR, 1)
    predictor = _PREDICTORS.get(stated)
    if predictor is None:
        raise UnknownLayoutError(f"predictor {stated}")
    width, height = tiff.number(directory, Tag.IMAGE_WIDTH), tiff.number(directory, Tag.IMAGE_LENGTH)
    if Tag.TILE_WIDTH in directory or Tag.TILE_LENGTH in directory:
        sides = tiff.number(directory, Tag.TILE_WIDTH), tiff.number(directory, Tag.TILE_LENGTH)
        tables = Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS
    else:
        sides = width, min(tiff.number(directory, Tag.ROWS_PER_STRIP, _ROWS_UNLIMITED), height)
        tables = Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS
    if not all(1 <= side <= MAX_SIDE for side in (width, height, *sides)):
        _refuse(f"an image of {width} × {height} pixels in tiles of {sides[0]} × {sides[1]}")
    rows, columns = tile_counts(width, height, *sides)
    if rows * columns > MAX_TILES or sides[0] * sides[1] * bits // 8 > MAX_TILE_NBYTES:
        raise UnknownLayoutError(
            f"{width} × {height} pixels in tiles of {sides[0]} × {sides[1]}: too many or too large"
        )
    for tag in tables:
        if tag not in directory or directory[tag].count != rows * columns:
            found = directory[tag].count if tag in directory else "nothing"
            raise BrokenTiffError(f"{tag.name} holds {found} where {rows} × {columns} tiles belong")
    offsets, nbytes = (directory[tag] for tag in tables)
    return _Layout(width, height, *sides, offsets, nbytes, sample, compression, predictor)


def _level(tiff: Tiff, layout: _Layout) -> Level:
    shape = tile_counts(layout.width, layout.height, layout.tile_width, layout.tile_height)
    offsets, nbytes = (tiff.integers(field, MAX_TILES).reshape(shape) for field in (layout.offsets, layout.nbytes))
    return _frozen_level(layout.width, layout.height, layout.tile_width, layout.tile_height, offsets, nbytes)


def _frozen_level(width: int, height: int, tile_width: int, tile_height: int, offsets: _Table, nbytes: _Table) -> Level:
    offsets.setflags(write=False)
    nbytes.setflags(write=False)
    return Level(width, height, tile_width, tile_height, offsets, nbytes)


def _nodata(tiff: Tiff, directory: Directory, dtype: np.dtype[Any]) -> float | None:
    """The no-data value as GDAL reads it and rasterio passes it on."""
    field = directory.get(Tag.GDAL_NODATA)
    if field is None:
        return None
    text = tiff.text(field, _MAX_NODATA_NBYTES).split(b"\0")[0].decode("latin-1").strip()
    if not _NUMBER.fullmatch(text):
        raise UnknownLayoutError("its no-data value is no plain number")
    value = float(text)
    if dtype.kind == "f":
        return _single(value) if dtype.itemsize == 4 else value
    if dtype.itemsize == 8 and not (value.is_integer() and abs(value) <= _MAX_EXACT):
        raise UnknownLayoutError("its no-data value is no whole number that float64 holds")
    limits = np.iinfo(dtype)
    return value if int(limits.min) <= value <= int(limits.max) else None


def _single(value: float) -> float:
    """The nearest float32, which is what GDAL compares pixels with."""
    with np.errstate(over="ignore"):
        nearest = float(np.float32(value))
    if isfinite(value) and not isfinite(nearest):
        raise UnknownLayoutError("its no-data value is larger than any float32")
    return nearest


_MAGIC = b"GSSLTIF1"
_HEAD = struct.Struct("<3sBBBdI6dB")
_LEVEL = struct.Struct("<4I")
_TILE_NBYTES = 12
_MAX_PACKED_NBYTES = _HEAD.size + MAX_LEVELS * _LEVEL.size + 2 * MAX_TILES * _TILE_NBYTES


def pack(header: Header) -> bytes:
    """A header as a few bytes for each tile, for a cache; the same header gives the same bytes."""
    compression = get_args(Compression).index(header.compression)
    nodata = 0.0 if header.nodata is None else header.nodata
    dtype = header.dtype.str.encode()
    flags = compression, header.predictor, header.nodata is not None
    pieces = [_HEAD.pack(dtype, *flags, nodata, header.epsg or 0, *header.transform, len(header.levels))]
    for level in header.levels:
        offsets, nbytes = level.offsets.ravel(), level.nbytes.ravel()
        pieces += [
            _LEVEL.pack(level.width, level.height, level.tile_width, level.tile_height),
            nbytes.astype("<u4").tobytes(),
            # Nearly always the same small number, so that this table packs to almost nothing.
            np.diff(offsets - _lengths_before(nbytes), prepend=0).astype("<i8").tobytes(),
        ]
    return _MAGIC + zlib.compress(b"".join(pieces), 6)


def _lengths_before(nbytes: _Table) -> _Table:
    """Of all earlier tiles together."""
    return np.cumsum(nbytes) - nbytes


def unpack(data: bytes) -> Header:
    """The header that `pack` was given. BrokenTiffError for anything else: cut, damaged, or of another version."""
    content = _inflated(data)
    try:
        dtype, compression, predictor, has_nodata, nodata, epsg, *rest = _HEAD.unpack_from(content)
        transform, count, at = rest[:6], rest[6], _HEAD.size
        levels = []
        for _ in range(count):
            sides = _LEVEL.unpack_from(content, at)
            levels.append(_unpacked_level(content, at + _LEVEL.size, *sides))
            at += _LEVEL.size + levels[-1].offsets.size * _TILE_NBYTES
        header = Header(
            levels=tuple(levels),
            dtype=np.dtype(_DTYPES[dtype]),
            compression=get_args(Compression)[compression],
            predictor=predictor,
            nodata=nodata if has_nodata else None,
            epsg=epsg or None,
            transform=(transform[0], transform[1], transform[2], transform[3], transform[4], transform[5]),
        )
    except (struct.error, LookupError):
        raise BrokenTiffError("a packed header that is cut or damaged; delete it") from None
    if at != len(content) or has_nodata not in (0, 1):
        raise BrokenTiffError("a packed header with something left over; delete it")
    return header


def _unpacked_level(content: bytes, at: int, width: int, height: int, tile_width: int, tile_height: int) -> Level:
    if not all(1 <= side <= MAX_SIDE for side in (width, height, tile_width, tile_height)):
        _refuse(f"a level of {width} × {height} pixels in tiles of {tile_width} × {tile_height}")
    shape = tile_counts(width, height, tile_width, tile_height)
    count = shape[0] * shape[1]
    if at + count * _TILE_NBYTES > len(content):
        raise BrokenTiffError("a packed header that ends within its table of tiles; delete it")
    nbytes = np.frombuffer(content, "<u4", count, at).astype(np.int64)
    gaps = np.frombuffer(content, "<i8", count, at + 4 * count).astype(np.int64)
    offsets = np.cumsum(gaps) + _lengths_before(nbytes)
    return _frozen_level(width, height, tile_width, tile_height, offsets.reshape(shape), nbytes.reshape(shape))


def _inflated(data: bytes) -> bytes:
    if not data.startswith(_MAGIC):
        raise BrokenTiffError("no packed header, or one of another version; delete it")
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data[len(_MAGIC) :], _MAX_PACKED_NBYTES)
    except zlib.error:
        raise BrokenTiffError("a packed header that is damaged; delete it") from None
    if not inflater.eof or inflater.unused_data:
        raise BrokenTiffError("a packed header that is cut, or longer than any; delete it")
    return content
