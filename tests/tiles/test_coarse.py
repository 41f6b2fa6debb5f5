"""Coarse windows: overviews as they are stored, masked means where there are none, classes never mixed."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import serve

from geossl_data.grid import Grid, from_lonlat, to_lonlat
from geossl_data.tiles.coarse import (
    coarse_grid,
    coarse_resolution,
    read_coarse_classes,
    read_coarse_numbers,
    read_coarse_power,
    write_map,
)
from geossl_data.tiles.rasters import Rasters, SkipError

WriteRaster = Callable[..., str]

WEST, NORTH = 600_000.0, 5_000_040.0
COARSE = Grid(32632, WEST, NORTH, 40.0, 24, 16)
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}


def add_overviews(path: str, factors: list[int], how: str) -> None:
    import rasterio
    from rasterio.enums import Resampling

    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews(factors, Resampling[how])


def numbers(seed: int = 0, height: int = 64, width: int = 96) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 9000, (height, width)).astype(np.uint16)


def block_mean(values: np.ndarray[Any, Any], factor: int) -> np.ndarray[Any, Any]:
    height, width = values.shape
    return values.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("size_px", "resolution_m"), [(6, 20), (60, 20), (90, 20), (96, 40), (186, 40), (192, 80), (264, 80), (1098, 160)]
)
def test_larger_places_are_seen_more_coarsely(size_px: int, resolution_m: int) -> None:
    assert coarse_resolution(size_px) == resolution_m


def test_a_coarse_grid_covers_its_bounds() -> None:
    assert coarse_grid(32632, (WEST, NORTH - 620, WEST + 800, NORTH), 40) == Grid(32632, WEST, NORTH, 40.0, 20, 16)


# ------------------------------------------------------------------------------------------------ numbers


def test_the_overview_itself_is_read(write_raster: WriteRaster) -> None:
    """Overviews of the nearest kind hold other numbers than means: what comes back tells which were read."""
    array = numbers()
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, nodata=0, **TILED)
    add_overviews(href, [2, 4], "nearest")
    with Rasters() as rasters:
        found = read_coarse_numbers(rasters, href, COARSE)
    assert np.isin(found, array).all()
    assert (found.dtype, found.shape) == (np.uint16, (16, 24))
    assert not np.array_equal(found, np.rint(block_mean(array, 4)))


def test_a_window_inside_is_the_same_pixels_of_the_overview(write_raster: WriteRaster) -> None:
    href = write_raster("a.tif", numbers(), x=WEST, y=NORTH, resolution_m=10.0, nodata=0, **TILED)
    add_overviews(href, [2, 4], "average")
    inner = Grid(32632, WEST + 200, NORTH - 120, 40.0, 7, 5)
    with Rasters() as rasters:
        whole, part = (read_coarse_numbers(rasters, href, grid) for grid in (COARSE, inner))
    np.testing.assert_array_equal(part, whole[3:8, 5:12])


@pytest.mark.parametrize("factors", [[], [2]])
def test_what_overviews_lack_is_averaged(write_raster: WriteRaster, factors: list[int]) -> None:
    array = numbers()
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, nodata=0, **TILED)
    if factors:
        add_overviews(href, factors, "average")
    with Rasters() as rasters:
        found = read_coarse_numbers(rasters, href, COARSE)
    assert np.abs(found - block_mean(array, 4)).max() <= 1


def test_a_grid_that_is_not_on_the_overview_is_averaged_from_a_finer_one(write_raster: WriteRaster) -> None:
    array = numbers()
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, nodata=0, **TILED)
    add_overviews(href, [2, 4], "nearest")
    shifted = Grid(32632, WEST + 30, NORTH - 10, 40.0, 10, 8)
    with Rasters() as rasters:
        found = read_coarse_numbers(rasters, href, shifted)
    np.testing.assert_array_equal(found, np.rint(block_mean(array[1:33, 3:43], 4)))


@pytest.mark.parametrize("nodata", [0, None])
def test_zero_is_no_data_with_and_without_the_tag(write_raster: WriteRaster, nodata: int | None) -> None:
    array = numbers()
    array[:8, :8] = 0
    array[8, 8] = 0
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, nodata=nodata)
    with Rasters() as rasters:
        found = read_coarse_numbers(rasters, href, COARSE)
    assert (found == 0).sum() == 4
    corner = array[8:12, 8:12].astype(float)
    assert found[2, 2] == round(corner.sum() / 15)


def test_bands_of_20_m_share_the_grid_of_those_of_10_m(write_raster: WriteRaster) -> None:
    array = numbers(height=32, width=48)
    href = write_raster("b.tif", array, x=WEST, y=NORTH, resolution_m=20.0, nodata=0)
    with Rasters() as rasters:
        np.testing.assert_array_equal(read_coarse_numbers(rasters, href, COARSE), np.rint(block_mean(array, 2)))


def test_beyond_the_raster_there_is_no_data(write_raster: WriteRaster) -> None:
    href = write_raster("a.tif", numbers(), x=WEST, y=NORTH, resolution_m=10.0, nodata=0)
    beyond = Grid(32632, WEST - 80, NORTH + 40, 40.0, 30, 20)
    with Rasters() as rasters:
        found = read_coarse_numbers(rasters, href, beyond)
    assert (found[1:17, 2:26] > 0).all()
    assert (found > 0).sum() == 16 * 24


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": WEST + 5}, "off-grid"),
        ({"epsg": 32633}, "wrong-crs"),
        ({"epsg": None}, "wrong-crs"),
        ({"resolution_m": 60.0}, "wrong-resolution"),
        ({"x": WEST + 5000}, "outside"),
        ({"dtype": "float32"}, "wrong-dtype"),
    ],
)
def test_what_does_not_fit_is_refused(write_raster: WriteRaster, change: dict[str, Any], reason: str) -> None:
    array = numbers().astype(change.pop("dtype", "uint16"))
    href = write_raster("a.tif", array, **({"x": WEST, "y": NORTH, "resolution_m": 10.0} | change))
    with Rasters() as rasters, pytest.raises(SkipError) as caught:
        read_coarse_numbers(rasters, href, COARSE)
    assert caught.value.reason == reason


def test_a_file_that_is_not_there_is_a_skip(tmp_path: Path) -> None:
    with Rasters() as rasters, pytest.raises(SkipError, match="there is no such file"):
        read_coarse_numbers(rasters, str(tmp_path / "none.tif"), COARSE)


# ------------------------------------------------------------------------------------------------ classes


@pytest.mark.parametrize("factors", [[], [2]])
def test_classes_are_picked_and_never_mixed(write_raster: WriteRaster, factors: list[int]) -> None:
    board = np.where(np.indices((32, 48)).sum(axis=0) % 2, 4, 10).astype(np.uint8)
    board[:, 40:] = 0
    href = write_raster("scl.tif", board, x=WEST, y=NORTH, resolution_m=20.0)
    if factors:
        add_overviews(href, factors, "nearest")
    with Rasters() as rasters:
        found = read_coarse_classes(rasters, href, COARSE)
    assert set(np.unique(found)) <= {0, 4, 10}
    assert (found[:, 20:] == 0).all()
    assert (found[:, :20] > 0).all()


# ------------------------------------------------------------------------------------------------ power


def test_power_is_averaged_in_linear_units(write_raster: WriteRaster) -> None:
    power = np.where(np.indices((64, 96)).sum(axis=0) % 2, 1.0, 0.01).astype(np.float32)
    href = write_raster("vv.tif", power, x=WEST, y=NORTH, resolution_m=10.0)
    with Rasters() as rasters:
        found = read_coarse_power(rasters, href, COARSE)
    np.testing.assert_allclose(found, 0.505, rtol=1e-5)


@pytest.mark.parametrize("nothing", [-32768.0, 0.0, np.nan, -1.0, np.inf])
@pytest.mark.parametrize("nodata", [None, -32768.0])
def test_what_is_no_measurement_is_masked_before_it_is_averaged(
    write_raster: WriteRaster, nothing: float, nodata: float | None
) -> None:
    power = np.full((64, 96), 0.1, np.float32)
    power[:, :46] = nothing
    href = write_raster("vv.tif", power, x=WEST, y=NORTH, resolution_m=10.0, nodata=nodata)
    with Rasters() as rasters:
        found = read_coarse_power(rasters, href, COARSE)
    assert np.isnan(found[:, :11]).all()
    np.testing.assert_allclose(found[:, 11:], 0.1, rtol=1e-5)


def test_power_off_the_lattice_is_weighted_by_area(write_raster: WriteRaster) -> None:
    columns = np.arange(96, dtype=np.float32)[None, :].repeat(64, axis=0) + 1
    href = write_raster("vv.tif", columns, x=WEST + 3.7, y=NORTH, resolution_m=10.0)
    with Rasters() as rasters:
        found = read_coarse_power(rasters, href, COARSE)
    # A pixel centred at x metres from WEST sees the value (x - 3.7) / 10 + 0.5.
    expected = (np.arange(24) * 40 + 20 - 3.7) / 10 + 0.5
    np.testing.assert_allclose(found[8, 1:-1], expected[1:-1], atol=0.02)


def test_power_of_another_zone_comes_to_its_place(write_raster: WriteRaster) -> None:
    lon, lat = to_lonlat(32632, WEST + 480, NORTH - 320)
    x, y = from_lonlat(32633, lon, lat)
    power = np.full((200, 200), 0.1, np.float32)
    power[95:105, 95:105] = 10.0
    href = write_raster("vv.tif", power, x=float(x) - 1000, y=float(y) + 1000, resolution_m=10.0, epsg=32633)
    with Rasters() as rasters:
        found = read_coarse_power(rasters, href, COARSE)
    assert found[7:9, 11:13].min() > 3
    assert np.unravel_index(int(found.argmax()), found.shape) in {(7, 11), (7, 12), (8, 11), (8, 12)}
    assert float(np.median(found)) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(
    ("array", "change", "reason"),
    [
        (numbers(), {}, "wrong-dtype"),
        (np.ones((2, 8, 8), np.float32), {}, "wrong-bands"),
        (np.ones((8, 8), np.float32), {"epsg": None}, "wrong-crs"),
        (np.ones((8, 8), np.float32), {"x": WEST + 9000}, "outside"),
    ],
)
def test_power_that_cannot_be_placed_is_refused(
    write_raster: WriteRaster, array: np.ndarray[Any, Any], change: dict[str, Any], reason: str
) -> None:
    href = write_raster("vv.tif", array, **({"x": WEST, "y": NORTH, "resolution_m": 10.0} | change))
    with Rasters() as rasters, pytest.raises(SkipError) as caught:
        read_coarse_power(rasters, href, COARSE)
    assert caught.value.reason == reason


def test_threads_warp_side_by_side_without_a_warning(write_raster: WriteRaster) -> None:
    draw = np.random.default_rng(1)
    hrefs = [
        write_raster(f"{number}.tif", draw.random((64, 96), np.float32) + 0.1, x=WEST + 3, y=NORTH, resolution_m=10.0)
        for number in range(16)
    ]
    with Rasters() as rasters, ThreadPoolExecutor(8) as pool:
        alone = [read_coarse_power(rasters, href, COARSE) for href in hrefs]
        together = list(pool.map(lambda href: read_coarse_power(rasters, href, COARSE), hrefs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------------ bytes and maps


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """A folder on loopback, and how many bytes each answer held."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (folder / self.path.lstrip("/")).read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first, last = (int(wanted[1]), min(int(wanted[2]), len(content) - 1)) if wanted else (0, len(content) - 1)
            self.send_response_only(206 if wanted else 200)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                sent.append(last - first + 1)
                self.wfile.write(content[first : last + 1])

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            return None

    with serve(Handler) as server:
        yield server.url, sent


def test_only_the_bytes_of_the_overview_are_fetched(write_raster: WriteRaster, tmp_path: Path) -> None:
    from geossl_data.sandbox.cogs import write_cog

    array = numbers(height=1024, width=1024)
    path = tmp_path / "large.tif"
    write_cog(path, array, Grid(32632, WEST, NORTH, 10.0, 1024, 1024), nodata=0)
    grid = Grid(32632, WEST, NORTH, 40.0, 256, 256)
    with served(tmp_path) as (url, sent), Rasters() as rasters:
        found = read_coarse_numbers(rasters, f"{url}/large.tif", grid)
    assert np.abs(found - block_mean(array, 4)).max() <= 1
    overview = 256 * 256 * 2
    assert overview / 2 < sum(sent) < overview + 80_000 < path.stat().st_size / 8


def test_a_map_comes_back_with_its_grid_and_its_gaps(tmp_path: Path) -> None:
    import rasterio

    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    values[1, 2] = np.nan
    grid = Grid(32720, 300_000.0, 6_200_020.0, 80.0, 4, 3)
    paths = [tmp_path / "change" / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        write_map(path, values, grid)
    with rasterio.open(paths[0]) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert (dataset.crs.to_epsg(), dataset.transform.c, dataset.transform.f) == (32720, grid.x, grid.y)
        assert (dataset.res, np.isnan(dataset.nodata)) == ((80.0, 80.0), True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["a.tif"]
