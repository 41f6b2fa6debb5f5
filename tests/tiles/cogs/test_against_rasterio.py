"""Every header field and every pixel is what rasterio reads, whatever GDAL can write."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rasterio.io import MemoryFile
from tiles.cogs.geotiffs import Bytes, read_level, write_tiff

from geossl_data.tiles.cogs import pack, read_header, unpack

DTYPES = ("uint8", "uint16", "int16", "uint32", "float32", "float64", "int8", "int32", "int64", "uint64")


def assert_reads_like_rasterio(content: bytes) -> None:
    reader = Bytes(content)
    header = read_header(reader)
    assert all(start >= 0 and nbytes > 0 for start, nbytes in reader.asked)
    with MemoryFile(content) as file, file.open() as dataset:
        level = header.levels[0]
        assert (level.height, level.width) == dataset.shape
        assert header.dtype.newbyteorder("=") == np.dtype(dataset.dtypes[0])
        assert header.transform == tuple(dataset.transform)[:6]
        assert header.epsg == (None if dataset.crs is None else dataset.crs.to_epsg())
        np.testing.assert_equal(header.nodata, dataset.nodata)
        chopped = header.compression == "none" and level.tile_width == level.width
        if not chopped:  # libtiff shows uncompressed strips cut smaller than they are stored
            assert (level.tile_height, level.tile_width) == dataset.block_shapes[0]
        np.testing.assert_array_equal(read_level(content, header), dataset.read(1))
        overviews = len(dataset.overviews(1))
    assert len(header.levels) == 1 + overviews
    for number in range(overviews):
        with MemoryFile(content) as file, file.open(overview_level=number) as dataset:
            assert (header.levels[1 + number].height, header.levels[1 + number].width) == dataset.shape
            np.testing.assert_array_equal(read_level(content, header, 1 + number), dataset.read(1))
    assert pack(unpack(pack(header))) == pack(header)


@st.composite
def profiles(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    compression = draw(st.sampled_from(["none", "deflate", "zstd", "lzw"]))
    profile: dict[str, Any] = {
        "compress": compression,
        "endianness": draw(st.sampled_from(["little", "big"])),
        "bigtiff": draw(st.sampled_from(["yes", "no"])),
        "sparse_ok": draw(st.booleans()),
    }
    if compression != "none":
        profile["predictor"] = draw(st.sampled_from([1, 2, 3] if dtype.kind == "f" else [1, 2]))
    if draw(st.booleans()):
        profile |= {
            "tiled": True,
            "blockxsize": 16 * draw(st.integers(1, 4)),
            "blockysize": 16 * draw(st.integers(1, 4)),
        }
    else:
        profile["blockysize"] = draw(st.integers(1, height))
    if draw(st.booleans()):
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        numbers = st.floats(width=32) if limits is None else st.integers(max(limits.min, -9999), min(limits.max, 9999))
        profile["nodata"] = draw(numbers)
    if draw(st.booleans()):
        seed = draw(st.integers(0, 2**32 - 1))
        bits = np.random.default_rng(seed).integers(0, 256, height * width * dtype.itemsize, dtype=np.uint8)
        pixels = bits.view(dtype).reshape(height, width).copy()
    else:
        pixels = draw(arrays.arrays(dtype, (height, width), fill=arrays.from_dtype(dtype)))
    if draw(st.booleans()):
        pixels[: height // 2] = profile.get("nodata", 0)
    return pixels, profile


@settings(max_examples=150, deadline=None)
@given(made=profiles(), overviews=st.sampled_from([(), (2,), (2, 4), (3, 9)]), cog=st.booleans(), point=st.booleans())
def test_whatever_gdal_writes(
    made: tuple[np.ndarray[Any, Any], dict[str, Any]], overviews: tuple[int, ...], cog: bool, point: bool
) -> None:
    pixels, profile = made
    tags = {"AREA_OR_POINT": "Point"} if point else {}
    # GDAL makes no overviews of a single pixel, and never ends with those of 64-bit integers with no data (3.10.3).
    endless = pixels.dtype in (np.int64, np.uint64) and "nodata" in profile
    if cog and profile["endianness"] == "little" and not endless:
        kept = {name: profile[name] for name in ("compress", "bigtiff", "sparse_ok", "nodata") if name in profile}
        stated = {2: "standard", 3: "floating_point"}.get(profile.get("predictor", 1), "no")
        side = profile.get("blockxsize", 16)
        content = write_tiff(pixels, tags=tags, **(kept | {"driver": "COG", "blocksize": side, "predictor": stated}))
    else:
        some = () if endless or min(pixels.shape) <= 9 else overviews
        content = write_tiff(pixels, overviews=some, tags=tags, **profile)
    assert_reads_like_rasterio(content)


def test_the_sandbox_rasters(planet: Path) -> None:
    files = sorted(planet.parent.rglob("*.tif"))
    assert len(files) > 20
    for file in files[:: max(1, len(files) // 40)]:
        assert_reads_like_rasterio(file.read_bytes())


def test_real_rasters(real_planet: Path) -> None:
    files = sorted(real_planet.parent.rglob("*.tif"))
    assert len(files) > 600
    for file in files:
        assert_reads_like_rasterio(file.read_bytes())
