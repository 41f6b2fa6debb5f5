"""Rasters that have been damaged: headers and tiles of GeoTIFFs, headers packed for the cache, files of one's own."""

from pathlib import Path

import numpy as np
import pytest
from fuzz.mutations import fuzzed, spoilt, told
from hypothesis import given
from hypothesis import strategies as st
from tiles.cogs.geotiffs import Bytes, plain_fields, read_level, tiff_bytes, write_tiff

from geossl_data.tiles.cogs import (
    BrokenTiffError,
    Header,
    Level,
    UnknownLayoutError,
    decode_tile,
    pack,
    read_header,
    unpack,
)
from geossl_data.tiles.cogs.directories import MAX_READ_NBYTES
from geossl_data.tiles.own import Raster, inspect, read_window

PIXELS = np.arange(40 * 36, dtype=np.uint16).reshape(36, 40) % 251
FILES: dict[str, bytes] = {
    "deflate": write_tiff(PIXELS, tiled=True, blockxsize=16, blockysize=16, compress="deflate", predictor=2, nodata=0),
    "lzw": write_tiff(PIXELS, tiled=True, blockxsize=16, blockysize=16, compress="lzw", overviews=[2]),
    "zstd": write_tiff(PIXELS.astype("f4"), tiled=True, blockxsize=16, blockysize=16, compress="zstd", predictor=3),
    "plain": write_tiff(PIXELS, BIGTIFF="YES"),
    "by hand": tiff_bytes(plain_fields(), order=">", big=True),
}


def header_of(content: bytes) -> Header | None:
    """The header of a file, or None where it is told in one line why there is none; reads are bounded."""
    read = Bytes(content)
    header = told(lambda: read_header(read), BrokenTiffError, UnknownLayoutError)
    assert len(read.asked) < 500
    assert sum(nbytes for _, nbytes in read.asked) <= MAX_READ_NBYTES + 2**20
    return header


def decoded(content: bytes, header: Header, level: Level, stop: int) -> np.ndarray | None:
    """The first rows of a tile, or None where it is told why they are not there."""
    tile = told(lambda: decode_tile(content, header, level, 0, stop), BrokenTiffError)
    assert tile is None or tile.shape == (stop, level.tile_width)
    return tile


def decode_all(content: bytes, header: Header) -> None:
    """Decode the first tiles of every level."""
    for level in header.levels:
        for nbytes, start in list(zip(level.nbytes.ravel().tolist(), level.offsets.ravel().tolist(), strict=True))[:20]:
            if level.tile_width * level.tile_height * header.dtype.itemsize <= 2**24:
                decoded(content[start : start + min(nbytes, 2**20)], header, level, level.tile_height)


@pytest.mark.parametrize("name", FILES)
@fuzzed(7)
@given(data=st.data())
def test_a_damaged_file_is_read_or_told(name: str, data: st.DataObject) -> None:
    content = data.draw(spoilt(FILES[name]))
    header = header_of(content)
    if header is not None:
        decode_all(content, header)
        assert unpack(pack(header)).transform == header.transform


@pytest.mark.parametrize("name", ["deflate", "lzw", "zstd"])
@fuzzed(7)
@given(data=st.data())
def test_a_damaged_tile_is_of_its_shape_or_told(name: str, data: st.DataObject) -> None:
    header = read_header(Bytes(FILES[name]))
    level = header.levels[0]
    start, nbytes = int(level.offsets[0, 0]), int(level.nbytes[0, 0])
    content = data.draw(spoilt(FILES[name][start : start + nbytes]))
    decoded(content, header, level, data.draw(st.integers(1, level.tile_height)))


@pytest.mark.parametrize("name", ["deflate", "zstd"])
@fuzzed(7)
@given(data=st.data())
def test_a_tile_that_was_cut_is_never_filled_up(name: str, data: st.DataObject) -> None:
    header = read_header(Bytes(FILES[name]))
    level = header.levels[0]
    start, nbytes = int(level.offsets[0, 0]), int(level.nbytes[0, 0])
    cut = data.draw(st.integers(0, nbytes - 1))
    whole = read_level(FILES[name], header)[:16, :16]
    tile = decoded(FILES[name][start : start + cut], header, level, level.tile_height)
    assert tile is None or np.array_equal(tile, whole)


@fuzzed(5)
@given(data=st.data())
def test_a_packed_header_is_one_or_told(data: st.DataObject) -> None:
    content = data.draw(spoilt(pack(read_header(Bytes(FILES["lzw"])))))
    header = told(lambda: unpack(content), BrokenTiffError, UnknownLayoutError)
    assert header is None or header.levels


def own_files() -> dict[str, bytes]:
    """Small pictures of the kinds that are taken, as GDAL writes them."""
    from rasterio.io import MemoryFile

    files = {"tif": FILES["deflate"]}
    for driver, ending in (("PNG", "png"), ("JPEG", "jpg"), ("JP2OpenJPEG", "jp2")):
        with MemoryFile() as file:
            with file.open(driver=driver, width=40, height=36, count=3, dtype="uint8") as dataset:
                dataset.write(np.stack([PIXELS.astype(np.uint8)] * 3))
            files[ending] = bytes(file.getbuffer())
    return files


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    return tmp_path_factory.mktemp("own"), own_files()


@pytest.mark.filterwarnings("ignore")  # of GDAL, about what it is given
@pytest.mark.parametrize("ending", ["tif", "png", "jpg", "jp2"])
@fuzzed(5)
@given(data=st.data())
def test_a_damaged_picture_of_ones_own(
    pictures: tuple[Path, dict[str, bytes]], ending: str, data: st.DataObject
) -> None:
    folder, files = pictures
    (folder / f"one.{ending}").write_bytes(data.draw(spoilt(files[ending])))
    raster = told(lambda: seen(folder, f"one.{ending}"))
    assert raster is None or raster.width > 0


def seen(folder: Path, name: str) -> Raster:
    """What a file is; its first pixels were read on the way."""
    raster = inspect(folder, name)
    side = min(raster.width, raster.height, 16)
    pixels = read_window(folder, name, raster.sha256, column=0, row=0, width=side, height=side)
    assert pixels.shape == (raster.n_bands, side, side)
    return raster
