"""GeoTIFFs as bytes: written by GDAL, or field by field to be wrong in one way; and read with the code under test."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geossl_data.tiles.cogs import Header, decode_tile

Fields = Mapping[int, tuple[int, Sequence[Any]]]
_FORMATS = {1: "B", 2: "c", 3: "H", 4: "I", 12: "d", 16: "Q"}


@dataclass
class Bytes:
    """The `Read` of some bytes, which remembers what it was asked for."""

    content: bytes
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, start: int, nbytes: int) -> bytes:
        self.asked.append((start, nbytes))
        return self.content[start : start + nbytes]


def tiff_bytes(*directories: Fields, order: str = "<", big: bool = False, back_to: int | None = None) -> bytes:
    """A TIFF of these directories in a row: tag → (type, values). The last one leads back to byte `back_to`."""
    entry, offset, count_format = ("HHQ", "Q", "Q") if big else ("HHI", "I", "H")
    width = struct.calcsize(offset)
    head = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    content = head
    for number, fields in enumerate(directories):
        table = struct.calcsize(order + count_format) + len(fields) * (4 + 2 * width) + width
        behind = len(content) + table
        entries, values = b"", b""
        for tag, (kind, numbers) in sorted(fields.items()):
            packed = struct.pack(f"{order}{len(numbers)}{_FORMATS[kind]}", *numbers)
            entries += struct.pack(order + entry, tag, kind, len(numbers))
            if len(packed) <= width:
                entries += packed.ljust(width, b"\0")
            else:
                entries += struct.pack(order + offset, behind + len(values))
                values += packed
        last = number == len(directories) - 1
        following = (back_to or 0) if last else behind + len(values)
        content += struct.pack(order + count_format, len(fields)) + entries
        content += struct.pack(order + offset, following) + values
    return content


def plain_fields(**changes: Any) -> dict[int, tuple[int, Sequence[Any]]]:
    """Fields of a sound image: 40 × 30 pixels of uint16 in tiles of 16; `t<number>` changes one, or removes it."""
    fields: dict[int, tuple[int, Sequence[Any]]] = {
        256: (3, [40]),
        257: (3, [30]),
        258: (3, [16]),
        259: (3, [8]),
        262: (3, [1]),
        277: (3, [1]),
        317: (3, [2]),
        322: (3, [16]),
        323: (3, [16]),
        324: (4, [1000, 1100, 1200, 1300, 1400, 1500]),
        325: (4, [90, 91, 92, 93, 94, 95]),
        339: (3, [1]),
        33550: (12, [10.0, 10.0, 0.0]),
        33922: (12, [0.0, 0.0, 0.0, 600000.0, 5000040.0, 0.0]),
        34735: (3, [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632]),
    }
    for name, value in changes.items():
        if value is None:
            del fields[int(name[1:])]
        else:
            fields[int(name[1:])] = value
    return fields


def read_level(content: bytes, header: Header, number: int = 0) -> np.ndarray[Any, Any]:
    """All pixels of one level, tile by tile."""
    level = header.levels[number]
    fill = header.nodata if header.nodata is not None else 0
    pixels = np.full((level.height, level.width), fill, header.dtype.newbyteorder("="))
    for (row, column), nbytes in np.ndenumerate(level.nbytes):
        top, left = row * level.tile_height, column * level.tile_width
        rows = min(level.tile_height, level.height - top)
        columns = min(level.tile_width, level.width - left)
        if nbytes:
            start = int(level.offsets[row, column])
            tile = decode_tile(content[start : start + int(nbytes)], header, level, 0, rows)
            assert tile.shape == (rows, level.tile_width)
            assert tile.dtype.isnative
            pixels[top : top + rows, left : left + columns] = tile[:, :columns]
    return pixels


def write_tiff(
    pixels: np.ndarray[Any, Any] | None,
    *,
    overviews: Sequence[int] = (),
    tags: Mapping[str, str] | None = None,
    environment: Mapping[str, Any] | None = None,
    **profile: Any,
) -> bytes:
    """The bytes of one band, with overviews, as GDAL writes it."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    options: dict[str, Any] = {"driver": "GTiff", "count": 1, "crs": "EPSG:32632"}
    options["transform"] = Affine(10, 0, 600_000, 0, -10, 5_000_040)
    if pixels is not None:
        options |= {"height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype}
    with rasterio.Env(**(environment or {})), MemoryFile() as file:
        with file.open(**(options | profile)) as dataset:
            dataset.update_tags(**(tags or {}))
            if pixels is not None:
                dataset.write(pixels, 1)
        if overviews:
            with rasterio.open(file.name, "r+") as dataset:
                dataset.build_overviews(overviews, Resampling.nearest)
        return bytes(file.getbuffer())
