"""The sandbox's own GeoTIFF writer, with rasterio as the independent reader."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import StorageError
from geossl_data.grid import Grid
from geossl_data.sandbox.cogs import block_side, encode_cog, halved, write_cog


def grid_of(image: np.ndarray[Any, Any], resolution_m: float = 10.0) -> Grid:
    height, width = image.shape
    return Grid(epsg=32735, x=500_003.7, y=8_400_040.0, resolution_m=resolution_m, width=width, height=height)


def decoded(image: np.ndarray[Any, Any], nodata: float) -> np.ndarray[Any, Any]:
    pieces = encode_cog(image, grid_of(image), nodata=nodata)
    with rasterio.open(io.BytesIO(b"".join(pieces))) as file:
        return file.read(1)


def test_halved_average_leaves_out_no_data() -> None:
    image = np.array([[10, 20, 0], [30, 0, 0], [8, 8, 5]], np.uint16)
    # (10 + 20 + 30) / 3; nothing; the last row and column are repeated.
    assert halved(image, 0, "average").tolist() == [[20, 0], [8, 5]]
    assert halved(image, 0, "nearest").tolist() == [[10, 0], [8, 5]]


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    kind=st.sampled_from(["uint8", "uint16", "float32"]),
    seed=st.integers(0, 9),
)
def test_rasterio_reads_back_every_pixel(height: int, width: int, kind: str, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(kind)
    np.testing.assert_array_equal(decoded(image, 0), image)


@pytest.mark.parametrize(("side", "block"), [(256, 128), (257, 256), (1200, 256), (1201, 512)])
def test_small_rasters_have_small_tiles(side: int, block: int) -> None:
    assert block_side(side, 3) == block


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    image = np.arange(700 * 530, dtype=np.float32).reshape(700, 530) / 7
    image[:5] = -32768
    grid = grid_of(image, 20.0)
    write_cog(tmp_path / "a.tif", image, grid, nodata=-32768.0)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.crs.to_epsg() == grid.epsg
        assert file.bounds == grid.bounds
        assert file.transform[:6] == (20.0, 0.0, grid.x, 0.0, -20.0, grid.y)
        assert file.nodata == -32768.0
        assert file.overviews(1) == [2, 4]
        assert file.block_shapes == [(256, 256)]
        assert file.tags(ns="IMAGE_STRUCTURE") == {
            "LAYOUT": "COG",
            "COMPRESSION": "DEFLATE",
            "INTERLEAVE": "BAND",
            "PREDICTOR": "3",
        }
        coarse = file.read(1, out_shape=(350, 265), masked=True)
    expected = image[6:].reshape(347, 2, 265, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse[3:].filled(), expected, rtol=1e-6)
    assert coarse.mask[:2].all()


def test_overviews_lie_before_the_image() -> None:
    image = np.random.default_rng(0).integers(1, 999, (600, 600)).astype(np.uint16)
    data = b"".join(encode_cog(image, grid_of(image), nodata=0))
    (directory,) = struct.unpack_from("<I", data, 4)
    firsts = []
    while directory:
        (n,) = struct.unpack_from("<H", data, directory)
        for k in range(n):
            tag, _, count, value = struct.unpack_from("<HHII", data, directory + 2 + 12 * k)
            if tag == 324:
                firsts.append(value if count == 1 else struct.unpack_from("<I", data, value)[0])
        (directory,) = struct.unpack_from("<I", data, directory + 2 + 12 * n)
    assert firsts == sorted(firsts, reverse=True)
    assert len(firsts) == 3


def test_finish_shapes_the_overviews_only() -> None:
    image = np.ones((300, 300), np.float32)
    pieces = encode_cog(image, grid_of(image), nodata=0, finish=lambda level: level * 3)
    with rasterio.open(io.BytesIO(b"".join(pieces))) as file:
        assert file.read(1).max() == 1
        assert file.read(1, out_shape=(150, 150)).min() == 3


def test_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    image = np.ones((6, 6), np.uint8)
    with pytest.raises(StorageError, match="cannot be written"):
        write_cog(tmp_path / "file" / "a.tif", image, grid_of(image), nodata=0)
