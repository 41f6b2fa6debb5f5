"""Cloud-optimised GeoTIFFs read without GDAL: bytes → header, compressed tile → pixels.

No file and no network here: `read_header` is given the function that reads.
"""

from geossl_data.tiles.cogs.decode import decode_tile
from geossl_data.tiles.cogs.header import (
    BrokenTiffError,
    Header,
    Level,
    Read,
    UnknownLayoutError,
    pack,
    read_header,
    unpack,
)

__all__ = [
    "BrokenTiffError",
    "Header",
    "Level",
    "Read",
    "UnknownLayoutError",
    "decode_tile",
    "pack",
    "read_header",
    "unpack",
]
