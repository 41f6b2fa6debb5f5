"""Headers: found in few reads, equal to what is in the file, and never made of what cannot be."""

import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from tiles.cogs.geotiffs import Bytes, plain_fields, tiff_bytes, write_tiff

from geossl_data.grid import Grid
from geossl_data.sandbox.cogs import encode_cog
from geossl_data.tiles.cogs import (
    BrokenTiffError,
    Header,
    Level,
    UnknownLayoutError,
    pack,
    read_header,
    unpack,
)
from geossl_data.tiles.cogs.directories import MAX_DIRECTORIES, MAX_READ_NBYTES, STEP_NBYTES

UTM_KEYS = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632]


def header_of(content: bytes) -> Header:
    return read_header(Bytes(content))


def changed(order: str = "<", big: bool = False, **changes: Any) -> bytes:
    return tiff_bytes(plain_fields(**changes), order=order, big=big)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_a_header_by_hand(order: str, big: bool) -> None:
    header = header_of(changed(order, big, t42113=(2, [b"7", b"\0"])))
    (level,) = header.levels
    assert (level.width, level.height, level.tile_width, level.tile_height) == (40, 30, 16, 16)
    assert level.offsets.tolist() == [[1000, 1100, 1200], [1300, 1400, 1500]]
    assert level.nbytes.tolist() == [[90, 91, 92], [93, 94, 95]]
    assert header.dtype == np.dtype(order + "u2")
    assert (header.compression, header.predictor, header.nodata, header.epsg) == ("deflate", 2, 7.0, 32632)
    assert header.transform == (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_040.0)
    with pytest.raises(ValueError, match="read-only"):
        level.offsets[0, 0] = 1


def test_a_transform_counts_from_the_pixel_that_is_tied() -> None:
    tied = (12, [3.0, 5.0, 0.0, 600_000.0, 5_000_040.0, 0.0])
    assert header_of(changed(t33922=tied)).transform == (10.0, 0.0, 599_970.0, 0.0, -10.0, 5_000_090.0)


def test_a_matrix_is_a_transform_too() -> None:
    matrix = (12, [10.0, 0.0, 0.0, 7.0, 0.0, -20.0, 0.0, 9.0, *[0.0] * 7, 1.0])
    header = header_of(changed(t33550=None, t33922=None, t34264=matrix))
    assert header.transform == (10.0, 0.0, 7.0, 0.0, -20.0, 9.0)


def test_pixels_that_are_points_are_moved_by_half_a_pixel() -> None:
    point = (3, [*UTM_KEYS[:11], 2, *UTM_KEYS[12:]])
    assert header_of(changed(t34735=point)).transform == (10.0, 0.0, 599_995.0, 0.0, -10.0, 5_000_045.0)


def test_an_image_without_geographic_keys_has_no_reference_system() -> None:
    assert header_of(changed(t34735=None)).epsg is None


@pytest.mark.parametrize("epsg", [32601, 32760, 25832, 3035, 3857, 2154, 27700, 2193, 5041, 4326, 4258])
def test_reference_systems_that_gdal_writes(epsg: int) -> None:
    assert header_of(write_tiff(np.ones((3, 4), np.uint8), crs=f"EPSG:{epsg}")).epsg == epsg


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([*UTM_KEYS[:15], 32767], id="user-defined"),
        pytest.param([*UTM_KEYS[:15], 4326], id="of another kind"),
        pytest.param([*UTM_KEYS[:15], 31100], id="in no database"),
        pytest.param([*UTM_KEYS[:15], 32600], id="all zones in one"),
        pytest.param([1, 1, 0, 4, *UTM_KEYS[4:], 3076, 0, 1, 9003], id="in feet"),
        pytest.param([1, 1, 0, 4, *UTM_KEYS[4:], 2048, 0, 1, 4258], id="of another datum"),
        pytest.param([1, 1, 0, 4, *UTM_KEYS[4:], 4096, 0, 1, 5773], id="with heights"),
        pytest.param([1, 1, 0, 1, 1025, 0, 1, 2], id="of no kind"),
        pytest.param([1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 7084], id="longitude first"),
        pytest.param([2, *UTM_KEYS[1:]], id="of a later version"),
        pytest.param([*UTM_KEYS[:11], 7, *UTM_KEYS[12:]], id="neither area nor point"),
    ],
)
def test_reference_systems_that_are_left_to_gdal(keys: list[int]) -> None:
    with pytest.raises(UnknownLayoutError):
        header_of(changed(t34735=(3, keys)))


@pytest.mark.parametrize("text", ["ESRI PE String = PROJCS[]|", "IMAGINE GeoTIFF Support|", "a\nb|"])
def test_citations_that_define_a_system_of_their_own_are_left_to_gdal(text: str) -> None:
    keys = [1, 1, 0, 4, *UTM_KEYS[4:12], 1026, 34737, len(text), 0, *UTM_KEYS[12:]]
    with pytest.raises(UnknownLayoutError):
        header_of(changed(t34735=(3, keys), t34737=(2, [bytes([code]) for code in (text + "\0").encode()])))


NODATA = [
    "0",
    "255",
    "-9999",
    "nan",
    "-inf",
    "0.1",
    "-3.4028234663852886e+38",
    "1e5",
    " 7 ",
    "-32768",
    "65535",
    "+2.50",
]


@pytest.mark.parametrize("text", NODATA)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_no_data_is_what_rasterio_says(text: str, dtype: str) -> None:
    kind = np.dtype(dtype)
    fields = {
        "t258": (3, [8 * kind.itemsize]),
        "t339": (3, [{"u": 1, "i": 2, "f": 3}[kind.kind]]),
        "t42113": (2, [bytes([code]) for code in f"{text}\0".encode()]),
    }
    content = changed(**fields)
    with MemoryFile(content) as file, file.open() as dataset:
        np.testing.assert_equal(header_of(content).nodata, dataset.nodata)


GDAL_KNOWS_BETTER: dict[str, dict[str, Any]] = {
    "three bands": {"t277": (3, [3]), "t258": (3, [16, 16, 16])},
    "jpeg": {"t259": (3, [7])},
    "lerc": {"t259": (3, [34887])},
    "webp": {"t259": (3, [50001])},
    "twelve bits": {"t258": (3, [12])},
    "half floats": {"t339": (3, [3])},
    "complex": {"t258": (3, [32]), "t339": (3, [5])},
    "bits from the right": {"t266": (3, [2])},
    "upside down": {"t274": (3, [4])},
    "white is 0": {"t262": (3, [0])},
    "another predictor": {"t317": (3, [34892])},
    "no georeference": {"t33550": None, "t33922": None},
    "no tie point": {"t33922": None},
    "control points": {"t33922": (12, [0.0] * 24), "t33550": None},
    "rotated": {
        "t33550": None,
        "t33922": None,
        "t34264": (12, [10.0, 1.0, 0.0, 7.0, 1.0, -20.0, 0.0, 9.0, *[0.0] * 7, 1.0]),
    },
    "south up": {"t33550": (12, [10.0, -10.0, 0.0])},
    "both a scale and a matrix": {"t34264": (12, [1.0] * 16)},
    "a mask": {"t254": (4, [4])},
    "old kind of overview": {"t254": (4, [2])},
    "no data in words": {"t42113": (2, [b"n", b"o", b"\0"])},
    "no data beyond float64": {
        "t258": (3, [64]),
        "t42113": (2, [bytes([code]) for code in b"18446744073709551615\0"]),
    },
    "one huge tile": {
        "t322": (4, [65536]),
        "t323": (4, [65536]),
        "t324": (4, [1000]),
        "t325": (4, [90]),
    },
    "billions of tiles": {"t256": (4, [2**31 - 1]), "t257": (4, [2**31 - 1])},
}


@pytest.mark.parametrize("case", GDAL_KNOWS_BETTER)
def test_sound_files_of_other_kinds_are_left_to_gdal(case: str) -> None:
    reader = Bytes(changed(**GDAL_KNOWS_BETTER[case]))
    with pytest.raises(UnknownLayoutError) as caught:
        read_header(reader)
    assert "\n" not in str(caught.value)
    assert reader.asked == [(0, STEP_NBYTES)]


ENDLESS_TEXT = changed(t34737=(2, [b"a"] * 9)).replace(
    struct.pack("<HHI", 34737, 2, 9), struct.pack("<HHI", 34737, 2, 2**24)
)
NO_GEOTIFF: dict[str, bytes] = {
    "nothing": b"",
    "four bytes": b"II*\0",
    "a web page": b"<html><body>secret</body></html>",
    "no version": b"II\0\0\x08\0\0\0" + bytes(100),
    "a BigTIFF of 4 bytes": struct.pack("<2sHHHQ", b"II", 43, 4, 0, 16) + bytes(100),
    "no directory": b"II*\0" + bytes(100),
    "a directory behind the end": struct.pack("<2sHI", b"II", 42, 4_000_000_000),
    "a directory at the end of numbers": struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**64 - 1),
    "an empty directory": struct.pack("<2sHIH", b"II", 42, 8, 0) + bytes(100),
    "a directory of 2**60 fields": struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2**60) + bytes(100),
    "a directory that is cut": changed()[:100],
    "a circle": tiff_bytes(plain_fields(), back_to=8),
    "a longer circle": tiff_bytes(plain_fields(), plain_fields(t254=(4, [1])), back_to=8),
    "a circle into the middle": tiff_bytes(plain_fields(), back_to=10),
    "a field twice": changed().replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 259, 3)),
    "no width": changed(t256=None),
    "width 0": changed(t256=(3, [0])),
    "tiles of no height": changed(t323=(3, [0])),
    "no tile height": changed(t323=None),
    "a width of text": changed(t256=(2, [b"4", b"\0"])),
    "two widths": changed(t256=(3, [40, 40])),
    "wider than GDAL counts": changed(t256=(4, [2**32 - 1])),
    "tables of other sizes": changed(t325=(4, [90, 91])),
    "too few tiles": changed(t324=(4, [1000]), t325=(4, [90])),
    "too many tiles": changed(t324=(4, [1000] * 7), t325=(4, [90] * 7)),
    "a table of floats": changed(t324=(12, [1000.0] * 6)),
    "no table": changed(t324=None),
    "strips without lengths": changed(t322=None, t323=None, t324=None, t325=None, t273=(4, [1000])),
    "a tile in front of the file": changed(t324=(4, [0, 1100, 1200, 1300, 1400, 1500])),
    "a tile at the end of numbers": changed(t324=(16, [2**64 - 1, 1, 2, 3, 4, 5])),
    "a tile behind any file": changed(t324=(16, [2**62, 1100, 1200, 1300, 1400, 1500])),
    "a tile of 4 GB": changed(t325=(4, [2**32 - 1, 91, 92, 93, 94, 95])),
    "floats predicted from integers": changed(t317=(3, [3])),
    "pixels without end": changed(t33550=(12, [float("inf"), 10.0, 0.0])),
    "nowhere": changed(t33922=(12, [0.0, 0.0, 0.0, float("nan"), 0.0, 0.0])),
    "too far": changed(t33922=(12, [1e308, 0.0, 0.0, 0.0, 0.0, 0.0])),
    "keys that are cut": changed(t34735=(3, UTM_KEYS[:14])),
    "65535 keys": changed(t34735=(3, [1, 1, 0, 65535, *UTM_KEYS[4:]])),
    "a key twice": changed(t34735=(3, [*UTM_KEYS[:12], *UTM_KEYS[4:8]])),
    "a key that lies nowhere": changed(t34735=(3, [1, 1, 0, 1, 1024, 34736, 1, 9])),
    "endless no data": changed(t42113=(2, [b"0"] * 1000)),
    "endless text": ENDLESS_TEXT,
}


@pytest.mark.parametrize("case", NO_GEOTIFF)
def test_what_is_no_tiff_or_contradicts_itself_is_refused(case: str) -> None:
    reader = Bytes(NO_GEOTIFF[case])
    with pytest.raises(BrokenTiffError) as caught:
        read_header(reader)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert sum(nbytes for _, nbytes in reader.asked) <= 4 * STEP_NBYTES


@pytest.mark.parametrize("tag", [324, 325])
def test_2_19_a_table_that_the_file_does_not_hold_is_asked_for_once_and_never_trusted(tag: int) -> None:
    """A million tiles stated, a few bytes there."""
    content = bytearray(changed(t256=(4, [16 * 1000]), t257=(4, [16 * 1000]), t324=(4, [1000] * 4), t325=(4, [90] * 4)))
    for table in (324, 325):
        position = content.index(struct.pack("<HHI", table, 4, 4))
        struct.pack_into("<I", content, position + 4, 1_000_000)
    struct.pack_into("<I", content, content.index(struct.pack("<HH", tag, 4)) + 8, 2**32 - 1)
    reader = Bytes(bytes(content))
    with pytest.raises(BrokenTiffError, match="ends before byte"):
        read_header(reader)
    assert len(reader.asked) <= 4


def test_directories_that_claim_more_than_any_file_has_are_not_read() -> None:
    tables = {"t324": (4, [1000] * 4), "t325": (4, [90] * 4), "t256": (4, [16 * 1000]), "t257": (4, [16 * 1000])}
    directories = [plain_fields(**tables), *(plain_fields(t254=(4, [1]), **tables) for _ in range(20))]
    content = bytearray(tiff_bytes(*directories))
    for table in (324, 325):
        position = -1
        while (position := content.find(struct.pack("<HHI", table, 4, 4), position + 1)) >= 0:
            struct.pack_into("<I", content, position + 4, 1_000_000)
    reader = Bytes(bytes(content) + bytes(1_000_000))
    with pytest.raises(BrokenTiffError):
        read_header(reader)
    assert sum(nbytes for _, nbytes in reader.asked) <= MAX_READ_NBYTES


def test_more_directories_than_an_image_has_are_left_to_gdal() -> None:
    directories = [plain_fields(), *(plain_fields(t254=(4, [1])) for _ in range(MAX_DIRECTORIES))]
    with pytest.raises(UnknownLayoutError, match="directories"):
        header_of(tiff_bytes(*directories))


@pytest.mark.parametrize("kind", [0, 2])
def test_several_images_in_one_file_are_left_to_gdal(kind: int) -> None:
    with pytest.raises(UnknownLayoutError, match="several images"):
        header_of(tiff_bytes(plain_fields(), plain_fields(t254=(4, [kind]))))


SMALLER: dict[str, Any] = {"t254": (4, [1]), "t256": (3, [20]), "t257": (3, [15])}
ONE_ROW: dict[str, Any] = {"t324": (4, [2000, 2100]), "t325": (4, [50, 51])}


def test_overviews_come_by_size_and_masks_are_left_out() -> None:
    smallest = plain_fields(t254=(4, [1]), t256=(3, [10]), t257=(3, [8]), t324=(4, [3000]), t325=(4, [5]))
    mask = plain_fields(t254=(4, [4]), t258=(3, [1]))
    small_mask = plain_fields(t254=(4, [5]), t258=(3, [1]))
    content = tiff_bytes(plain_fields(), mask, smallest, small_mask, plain_fields(**SMALLER, **ONE_ROW))
    assert [(level.width, level.height) for level in header_of(content).levels] == [(40, 30), (20, 15), (10, 8)]


@pytest.mark.parametrize("change", [{"t317": (3, [1])}, {"t259": (3, [5])}, {"t339": (3, [2])}, {"t257": (3, [31])}])
def test_overviews_that_are_not_like_the_image_are_left_to_gdal(change: dict[str, Any]) -> None:
    tables = {"t324": (4, [2000] * 4), "t325": (4, [50] * 4)} if "t257" in change else ONE_ROW
    with pytest.raises(UnknownLayoutError):
        header_of(tiff_bytes(plain_fields(), plain_fields(**(SMALLER | tables | change))))


def test_strips_are_tiles_of_the_full_width() -> None:
    strips = {"t322": None, "t323": None, "t324": None, "t325": None, "t278": (4, [8])}
    content = changed(**strips, t273=(4, [1000, 2000, 3000, 4000]), t279=(4, [9, 9, 9, 8]))
    (level,) = header_of(content).levels
    assert (level.tile_width, level.tile_height, level.offsets.shape) == (40, 8, (4, 1))
    one = changed(**(strips | {"t278": (4, [2**32 - 1])}), t273=(4, [1000]), t279=(4, [9]))
    assert header_of(one).levels[0].tile_height == 30


def test_a_predictor_means_nothing_without_compression() -> None:
    assert header_of(changed(t259=(3, [1]))).predictor == 1


def test_what_the_reader_raises_passes_through() -> None:
    def read(start: int, nbytes: int) -> bytes:
        raise TimeoutError("too slow")

    with pytest.raises(TimeoutError):
        read_header(read)


# ---------------------------------------------------------------------------------------------------- few reads


def scene_grid(width: int, height: int) -> Grid:
    return Grid(32632, 600_000.0, 5_000_040.0, 10.0, width, height)


def test_the_header_of_a_sandbox_raster_is_one_read() -> None:
    pixels = np.arange(2200 * 2100, dtype=np.uint32).reshape(2100, 2200).astype(np.uint16)
    reader = Bytes(b"".join(encode_cog(pixels, scene_grid(2200, 2100), nodata=0)))
    header = read_header(reader)
    assert reader.asked == [(0, STEP_NBYTES)]
    assert [level.offsets.shape for level in header.levels] == [(5, 5), (3, 3), (2, 2), (1, 1)]
    assert header.transform == (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_040.0)


@cache
def cog_of(width: int, height: int, side: int) -> bytes:
    """A COG of the full size of a scene and hardly a pixel in it."""
    profile = {"width": width, "height": height, "dtype": "uint8", "crs": "EPSG:32632", "nodata": 0}
    layout = {"tiled": True, "blockxsize": side, "blockysize": side, "compress": "deflate", "sparse_ok": True}
    sparse = write_tiff(None, **profile, **layout)
    import rasterio
    from rasterio.shutil import copy

    options = {"driver": "COG", "blocksize": side, "compress": "deflate", "sparse_ok": True, "overviews": "AUTO"}
    with MemoryFile(sparse) as source, MemoryFile() as target, rasterio.Env(GDAL_NUM_THREADS=1):
        copy(source.name, target.name, **options)
        return bytes(target.getbuffer())


def test_the_header_of_a_whole_sentinel_2_band_is_one_read() -> None:
    reader = Bytes(cog_of(10980, 10980, 512))
    header = read_header(reader)
    assert reader.asked == [(0, STEP_NBYTES)]
    assert header.levels[0].offsets.shape == (22, 22)
    assert len(header.levels) == 6


def test_overviews_at_the_end_of_the_file_take_one_read_more() -> None:
    pixels = np.random.default_rng(0).integers(0, 60_000, (600, 700)).astype(np.uint16)
    reader = Bytes(write_tiff(pixels, overviews=(2, 4), tiled=True, blockxsize=64, blockysize=64))
    assert len(read_header(reader).levels) == 3
    assert len(reader.asked) == 2


def test_tables_behind_the_first_piece_are_asked_for_together() -> None:
    side = 16 * 200
    size = {"t256": (4, [side]), "t257": (4, [side])}
    tables = {"t324": (4, range(1000, 41_000)), "t325": (4, range(1, 40_001))}
    content = tiff_bytes(plain_fields(**size, t325=(4, [90] * 40_000), t324=tables["t324"]))
    reader = Bytes(content)
    level = read_header(reader).levels[0]
    assert level.offsets.ravel().tolist() == list(range(1000, 41_000))
    assert len(reader.asked) == 2
    assert sum(nbytes for _, nbytes in reader.asked) <= len(content) + STEP_NBYTES


def test_2_19_a_header_of_200_000_pixels_squared_is_read_and_its_pixels_are_not() -> None:
    size = {"t256": (4, [200_000]), "t257": (4, [200_000]), "t322": (3, [256]), "t323": (3, [256])}
    tiles = (-(-200_000 // 256)) ** 2
    content = tiff_bytes(plain_fields(**size, t324=(4, [0] * tiles), t325=(4, [0] * tiles)))
    reader = Bytes(content)
    (level,) = read_header(reader).levels
    assert level.nbytes.shape == (782, 782)
    assert not level.nbytes.any()
    assert len(reader.asked) == 2
    assert sum(nbytes for _, nbytes in reader.asked) < 6 * 10**6
    assert len(pack(read_header(Bytes(content)))) < 20_000


# ---------------------------------------------------------------------------------------------------- packing


def packed_again(header: Header) -> Header:
    return unpack(pack(header))


SOUND = header_of(
    tiff_bytes(plain_fields(t42113=(2, [b"0", b"\0"])), plain_fields(**SMALLER, **ONE_ROW), order=">", big=True)
)


def same(one: Header, other: Header) -> bool:
    fields = ("dtype", "compression", "predictor", "epsg", "transform")
    np.testing.assert_equal(one.nodata, other.nodata)
    for level, twin in zip(one.levels, other.levels, strict=True):
        for name in Level.__slots__:
            np.testing.assert_array_equal(getattr(level, name), getattr(twin, name))
    return all(getattr(one, name) == getattr(other, name) for name in fields)


@pytest.mark.parametrize(
    "change", [{}, {"nodata": None}, {"nodata": float("nan")}, {"epsg": None}, {"dtype": np.dtype("u1")}]
)
def test_a_packed_header_comes_back(change: dict[str, Any]) -> None:
    header = replace(SOUND, **change)
    assert same(packed_again(header), header)


def test_tiles_in_any_order_come_back() -> None:
    offsets = np.array([[2**40, 8, 2**61], [100, 99, 0]], np.int64)
    nbytes = np.array([[1, 5000, 17], [2, 3, 0]], np.int64)
    header = replace(SOUND, levels=(Level(40, 30, 16, 16, offsets, nbytes),))
    assert same(packed_again(header), header)


def test_a_packed_header_takes_a_few_bytes_for_each_tile() -> None:
    header = header_of(cog_of(10980, 10980, 512))
    sizes = np.random.default_rng(0).integers(200_000, 300_000, (22, 22))
    offsets = (np.cumsum(sizes.ravel() + 8) - sizes.ravel()).reshape(22, 22) + 8000
    full = replace(header.levels[0], offsets=offsets, nbytes=sizes)
    assert len(pack(replace(header, levels=(full, *header.levels[1:])))) < 5 * 484


@pytest.mark.parametrize("length", range(0, len(pack(SOUND)), 7))
def test_a_packed_header_that_is_cut_is_refused(length: int) -> None:
    with pytest.raises(BrokenTiffError):
        unpack(pack(SOUND)[:length])


@pytest.mark.parametrize("spoilt", [pack(SOUND) + b"\0", b"GSSLTIF0" + pack(SOUND)[8:], b"GSSLTIF1" + bytes(50)])
def test_a_packed_header_with_more_or_of_another_version_is_refused(spoilt: bytes) -> None:
    with pytest.raises(BrokenTiffError, match="packed header"):
        unpack(spoilt)


def test_a_packed_bomb_is_not_unpacked() -> None:
    with pytest.raises(BrokenTiffError, match="longer than any"):
        unpack(b"GSSLTIF1" + zlib.compress(bytes(10**8), 1))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_a_packed_header_that_somebody_changed_is_sound_or_refused(
    changes: Sequence[tuple[int, int]], inside: bool
) -> None:
    packed = pack(SOUND)
    content = bytearray(zlib.decompress(packed[8:]) if inside else packed)
    for position, value in changes:
        content[position % len(content)] = value
    with suppress(BrokenTiffError):
        header = unpack(packed[:8] + zlib.compress(bytes(content)) if inside else bytes(content))
        assert same(packed_again(header), header)


# ---------------------------------------------------------------------------------------------------- spoilt files


SMALL = write_tiff(
    np.arange(50 * 70, dtype=np.uint16).reshape(50, 70),
    overviews=(2,),
    compress="deflate",
    predictor=2,
    tiled=True,
    blockxsize=32,
    blockysize=16,
    nodata=0,
)
FIRST_DIRECTORY = struct.unpack_from("<I", SMALL, 4)[0]


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 7), st.integers(FIRST_DIRECTORY, FIRST_DIRECTORY + 520)),
            st.one_of(st.sampled_from([0, 1, 2, 127, 128, 255]), st.integers(0, 255)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_file_that_somebody_changed_is_read_or_refused(changes: Sequence[tuple[int, int]]) -> None:
    content = bytearray(SMALL)
    for position, value in changes:
        content[position] = value
    reader = Bytes(bytes(content))
    with suppress(BrokenTiffError, UnknownLayoutError):
        header = read_header(reader)
        assert same(packed_again(header), header)
    assert sum(nbytes for _, nbytes in reader.asked) < 20 * STEP_NBYTES


# ---------------------------------------------------------------------------------------------------- values


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "no level": {"levels": ()},
    "levels that grow": {"levels": SOUND.levels[::-1]},
    "bits": {"dtype": np.dtype("?")},
    "complex numbers": {"dtype": np.dtype("c8")},
    "a compression": {"compression": "jpeg"},
    "a predictor": {"predictor": 4},
    "a predictor without compression": {"compression": "none"},
    "a predictor of floats": {"predictor": 3},
    "a negative code": {"epsg": -1},
    "a rotation": {"transform": (10.0, 1.0, 0.0, 0.0, -10.0, 0.0)},
    "pixels of no size": {"transform": (0.0, 0.0, 0.0, 0.0, -10.0, 0.0)},
    "an infinite transform": {"transform": (10.0, 0.0, float("inf"), 0.0, -10.0, 0.0)},
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_header_checks_itself(case: str) -> None:
    with pytest.raises(BrokenTiffError, match="its header states"):
        replace(SOUND, **IMPOSSIBLE[case])


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"tile_height": -1},
        {"offsets": np.zeros((2, 2), np.int64)},
        {"offsets": np.zeros((2, 3), np.int32)},
        {"nbytes": np.full((2, 3), -1)},
        {"offsets": np.full((2, 3), 7)},
        {"offsets": np.full((2, 3), 2**63 - 1)},
    ],
)
def test_a_level_checks_itself(change: dict[str, Any]) -> None:
    with pytest.raises(BrokenTiffError, match="its header states"):
        replace(SOUND.levels[0], **change)
