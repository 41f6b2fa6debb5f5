"""Cloud-optimised GeoTIFFs: the sandbox's rasters on disk.

Written here and not by GDAL for three reasons: threads share the work (GDAL's COG driver holds the interpreter's lock),
overviews of radar are rounded like the image itself, and no version of a library changes the bytes.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.files import atomic_path
from geossl_data.grid import Grid

Raster = NDArray[Any]
Overview = Literal["average", "nearest"]

# GDAL's notes for readers, which show them as LAYOUT=COG: the directories come first, then the tiles row by row, each
# between its size and a repetition of its last bytes (GDAL documentation, "COG driver").
_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_LAYOUT) + _LAYOUT
_FIRST_DIRECTORY = 8 + len(_GHOST) + (8 + len(_GHOST)) % 2
_DEFLATE, _HORIZONTAL, _FLOATING = 8, 2, 3
_LEVEL = 1
"""Of deflate: noisy images come out 3 % larger than at level 6, in a third of the time."""
_SLICE_ROWS = 512
_ASCII, _SHORT, _LONG, _DOUBLE = 2, 3, 4, 12
_FORMATS = {_ASCII: "s", _SHORT: "H", _LONG: "I", _DOUBLE: "d"}


def block_side(width: int, height: int) -> int:
    """Side of the internal tiles in pixels: 512, less for small rasters."""
    longer = max(width, height)
    return 128 if longer <= 256 else 256 if longer <= 1200 else 512


def halved(image: Raster, nodata: float, how: Overview) -> Raster:
    """The next overview: half the size, rounded up; averages leave out no-data pixels.

    average: mean of the valid ones of four pixels, no data where there is none; integers are rounded.
    nearest: the north-western of four pixels.
    """
    if how == "nearest":
        return np.ascontiguousarray(image[::2, ::2])
    # In slices, because the temporary arrays of a whole scene would be larger than the scene.
    slices = [image[top : top + _SLICE_ROWS] for top in range(0, image.shape[0], _SLICE_ROWS)]
    return np.concatenate([_averaged(part, nodata) for part in slices])


def _averaged(image: Raster, nodata: float) -> Raster:
    height, width = image.shape
    padded = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    total = np.zeros((padded.shape[0] // 2, padded.shape[1] // 2), np.float32)
    count = np.zeros(total.shape, np.float32)
    for row in (0, 1):
        for col in (0, 1):
            part = padded[row::2, col::2]
            valid = part != nodata
            total += np.where(valid, part, 0)
            count += valid
    mean = total / np.maximum(count, np.float32(1))
    if np.issubdtype(image.dtype, np.integer):
        mean = np.rint(mean)
    return np.where(count > 0, mean, nodata).astype(image.dtype)


def _predicted(block: Raster) -> bytes:
    """A tile with the TIFF predictor applied: differences along rows, of numbers or of the byte planes of floats."""
    height = block.shape[0]
    if block.dtype == np.float32:
        planes = block.astype(">f4").view(np.uint8).reshape(height, -1, 4).transpose(0, 2, 1).reshape(height, -1)
        return _differences(planes).tobytes()
    return _differences(block).tobytes()


def _differences(rows: Raster) -> Raster:
    result = rows.copy()
    result[:, 1:] -= rows[:, :-1]
    return result


def _blocks(image: Raster, side: int, nodata: float) -> list[bytes]:
    """The compressed tiles of an image, row by row; tiles at the edges are filled up with no data."""
    height, width = image.shape
    blocks = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            part = image[top : top + side, left : left + side]
            if part.shape != (side, side):
                full = np.full((side, side), nodata, image.dtype)
                full[: part.shape[0], : part.shape[1]] = part
                part = full
            blocks.append(zlib.compress(_predicted(part), _LEVEL))
    return blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    tag: int
    kind: int
    values: Sequence[Any]

    def packed(self) -> bytes:
        if self.kind == _ASCII:
            return b"".join(self.values)
        return struct.pack(f"<{len(self.values)}{_FORMATS[self.kind]}", *self.values)

    @property
    def count(self) -> int:
        return len(self.packed()) if self.kind == _ASCII else len(self.values)


def _directory(entries: Sequence[_Entry], start: int, following: int) -> bytes:
    """One image file directory placed at byte `start`, with the values that do not fit into it right behind."""
    size = 2 + 12 * len(entries) + 4
    head, tail = [struct.pack("<H", len(entries))], b""
    for entry in sorted(entries, key=lambda item: item.tag):
        data = entry.packed()
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack("<I", start + size + len(tail))
            tail += data + b"\0" * (len(data) % 2)
        head.append(struct.pack("<HHI", entry.tag, entry.kind, entry.count) + field)
    return b"".join(head) + struct.pack("<I", following) + tail


def _entries(
    image: Raster, side: int, grid: Grid, nodata: float, offsets: Sequence[int], sizes: Sequence[int], *, reduced: bool
) -> list[_Entry]:
    """The TIFF 6.0 and GeoTIFF 1.1 tags of one image."""
    floating = image.dtype == np.float32
    height, width = image.shape
    entries = [
        _Entry(tag=254, kind=_LONG, values=[int(reduced)]),
        _Entry(tag=256, kind=_LONG, values=[width]),
        _Entry(tag=257, kind=_LONG, values=[height]),
        _Entry(tag=258, kind=_SHORT, values=[image.dtype.itemsize * 8]),
        _Entry(tag=259, kind=_SHORT, values=[_DEFLATE]),
        _Entry(tag=262, kind=_SHORT, values=[1]),
        _Entry(tag=277, kind=_SHORT, values=[1]),
        _Entry(tag=284, kind=_SHORT, values=[1]),
        _Entry(tag=317, kind=_SHORT, values=[_FLOATING if floating else _HORIZONTAL]),
        _Entry(tag=322, kind=_LONG, values=[side]),
        _Entry(tag=323, kind=_LONG, values=[side]),
        _Entry(tag=324, kind=_LONG, values=offsets),
        _Entry(tag=325, kind=_LONG, values=sizes),
        _Entry(tag=339, kind=_SHORT, values=[3 if floating else 1]),
        _Entry(tag=42113, kind=_ASCII, values=[f"{nodata:g}".encode() + b"\0"]),
    ]
    if not reduced:
        # Geo keys: version 1.1.0; projected model, pixel is area, EPSG code of the projected system.
        keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, grid.epsg]
        entries += [
            _Entry(tag=33550, kind=_DOUBLE, values=[grid.resolution_m, grid.resolution_m, 0.0]),
            _Entry(tag=33922, kind=_DOUBLE, values=[0.0, 0.0, 0.0, grid.x, grid.y, 0.0]),
            _Entry(tag=34735, kind=_SHORT, values=keys),
        ]
    return entries


def encode_cog(
    image: Raster,
    grid: Grid,
    *,
    nodata: float,
    overviews: Overview = "average",
    finish: Callable[[Raster], Raster] | None = None,
) -> list[bytes]:
    """The bytes of a cloud-optimised GeoTIFF, in pieces to be written one after the other.

    image: shape (height, width) of `grid`; uint8, uint16 or float32. Overviews follow until one is at most a tile
    wide. finish: applied to every overview. Layout: directories, then the tiles of the smallest overview first.
    """
    assert image.shape == (grid.height, grid.width)
    side = block_side(grid.width, grid.height)
    images = [image]
    while max(images[-1].shape) > side:
        smaller = halved(images[-1], nodata, overviews)
        images.append(smaller if finish is None else finish(smaller))
    blocks = [_blocks(level, side, nodata) for level in images]
    sizes = [[len(block) for block in level] for level in blocks]

    def directories(offsets: Sequence[Sequence[int]]) -> list[bytes]:
        starts, built = [_FIRST_DIRECTORY], []
        for _ in range(2):
            built = [
                _directory(
                    _entries(level, side, grid, nodata, at, size, reduced=number > 0),
                    starts[min(number, len(starts) - 1)],
                    starts[number + 1] if number + 1 < min(len(images), len(starts)) else 0,
                )
                for number, (level, at, size) in enumerate(zip(images, offsets, sizes, strict=True))
            ]
            starts = [_FIRST_DIRECTORY + sum(map(len, built[:number])) for number in range(len(built))]
        return built

    position = _FIRST_DIRECTORY + sum(map(len, directories(sizes)))
    offsets: list[list[int]] = [[] for _ in images]
    for number in reversed(range(len(images))):
        for size in sizes[number]:
            offsets[number].append(position + 4)
            position += size + 8
    header = struct.pack("<2sHI", b"II", 42, _FIRST_DIRECTORY) + _GHOST
    pieces = [header.ljust(_FIRST_DIRECTORY, b"\0"), *directories(offsets)]
    for level in reversed(blocks):
        for block in level:
            pieces += [struct.pack("<I", len(block)), block, block[-4:]]
    return pieces


def write_cog(
    path: Path,
    image: Raster,
    grid: Grid,
    *,
    nodata: float,
    overviews: Overview = "average",
    finish: Callable[[Raster], Raster] | None = None,
) -> None:
    """Write one band as a cloud-optimised GeoTIFF (see `encode_cog`), atomically; the same bytes for the same input.

    Raises StorageError where the file cannot be written.
    """
    pieces = encode_cog(image, grid, nodata=nodata, overviews=overviews, finish=finish)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)
