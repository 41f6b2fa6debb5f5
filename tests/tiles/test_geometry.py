"""Ground on its place however a raster says where that is, and readers used hard: in threads, forks, by thousands."""

import resource
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from faults.blobs import Cloud, serve_cloud
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject

from geossl_data.grid import Grid, from_lonlat, to_lonlat
from geossl_data.tiles.rasters import BY_POINTS, Rasters, SkipError, Want

WriteRaster = Callable[..., str]

WEST, NORTH = 600_000.0, 5_000_040.0
ZONE = 32632


def reason_of(act: Callable[[], object]) -> str:
    with pytest.raises(SkipError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return caught.value.reason


def distinct(height: int, width: int) -> np.ndarray:
    return np.arange(1, 1 + height * width).reshape(height, width).astype(np.uint16)


# ------------------------------------------------------------------------------------------------ control points

SWATH = Affine.translation(WEST, NORTH) * Affine.rotation(-12.0) * Affine.scale(10.0, -9.5)
"""Pixels of a descending swath, in metres of the zone: turned, and not quite square."""
MARKS = ((2, 3), (2, 117), (96, 3), (96, 117), (50, 60))
"""Rows and columns of bright pixels: near the four corners, and in the middle."""


def write_swath(path: Path, *, lonlat: bool, dtype: str = "float32", points: bool = True) -> str:
    """A raster of 100 rows and 121 columns that four points at its corners alone place."""
    array = np.full((100, 121), 0.05, np.float32)
    for mark in MARKS:
        array[mark] = 40.0
    corners = [(0, 0), (0, 121), (100, 0), (100, 121)]
    gcps = []
    for row, column in corners:
        x, y = SWATH * (column, row)
        if lonlat:
            x, y = (float(value) for value in to_lonlat(ZONE, x, y))
        gcps.append(GroundControlPoint(row=row, col=column, x=x, y=y, z=0.0))
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "height": 100, "width": 121, "dtype": dtype}
    if points:
        profile |= {"gcps": gcps, "crs": "EPSG:4326" if lonlat else f"EPSG:{ZONE}"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(array.astype(dtype), 1)
    return str(path)


def around(x: float, y: float, *, half_px: int = 8) -> Grid:
    """Pixels of a place's lattice around a point."""
    return Grid(ZONE, x // 10 * 10 - 10 * half_px, y // 10 * 10 + 10 * half_px, 10.0, 2 * half_px, 2 * half_px)


def centre_of_mass(power: np.ndarray, grid: Grid, background: float) -> tuple[float, float]:
    """Where, in metres, what is brighter than the background lies."""
    above = np.nan_to_num(np.maximum(power - background, 0))
    rows, columns = np.indices(power.shape) + 0.5
    total = above.sum()
    assert total > 0
    return (
        grid.x + grid.resolution_m * float((above * columns).sum() / total),
        grid.y - grid.resolution_m * float((above * rows).sum() / total),
    )


@pytest.mark.parametrize("lonlat", [True, False])
def test_1_39_four_ground_control_points_place_every_corner_within_a_pixel(tmp_path: Path, lonlat: bool) -> None:
    href = write_swath(tmp_path / "vv.tif", lonlat=lonlat)
    with Rasters() as rasters:
        for row, column in MARKS:
            x, y = SWATH * (column + 0.5, row + 0.5)
            grid = around(x, y)
            pixels = rasters.read(Want(href, grid, "power"))
            assert pixels.resampling == BY_POINTS
            assert "not terrain-corrected" in pixels.resampling
            assert np.hypot(*np.subtract(centre_of_mass(pixels.values, grid, 0.06), (x, y))) < 5.0
        away = around(WEST + 20_000, NORTH)
        assert reason_of(lambda: rasters.read_power(href, away)) == "outside"
        assert reason_of(lambda: rasters.read_exact(href, grid, "uint16")) == "wrong-crs"
        assert rasters.grid_of(href) is None


def test_1_39_ground_control_points_are_taken_as_gdal_takes_them(tmp_path: Path) -> None:
    """A window and its margin give what a warp of the whole raster gives, and what a virtual raster shows."""
    href = write_swath(tmp_path / "vv.tif", lonlat=True)
    with Rasters() as rasters, rasterio.open(href) as dataset:
        whole = {"src_crs": dataset.gcps[1], "resampling": Resampling.bilinear}
        with WarpedVRT(dataset, crs=f"EPSG:{ZONE}", **whole) as warped:
            shown, transform = warped.read(1), warped.transform
        bright = [transform * (column + 0.5, row + 0.5) for row, column in np.argwhere(shown > 8).tolist()]
        for row, column in MARKS:
            grid = around(*(SWATH * (column + 0.5, row + 0.5)), half_px=5)
            power, _ = rasters.read_power(href, grid)
            expected = np.full((grid.height, grid.width), np.nan, np.float32)
            reproject(
                rasterio.band(dataset, 1),
                expected,
                gcps=dataset.gcps[0],
                src_nodata=-32768,
                dst_nodata=np.nan,
                dst_crs=f"EPSG:{ZONE}",
                dst_transform=Affine(10, 0, grid.x, 0, -10, grid.y),
                **whole,
            )
            np.testing.assert_allclose(power, expected, rtol=1e-4)
            found = centre_of_mass(power, grid, 0.06)
            assert min(np.hypot(*np.subtract(found, point)) for point in bright) < 10.0


def test_1_39_1_61_nothing_dark_surrounds_what_control_points_place(tmp_path: Path) -> None:
    """Bilinear at the edge of the data mixes nothing into it."""
    href = write_swath(tmp_path / "vv.tif", lonlat=True)
    grid = around(*SWATH * (0, 0), half_px=20)
    with Rasters() as rasters:
        power, _ = rasters.read_power(href, grid)
    measured = power[np.isfinite(power)]
    assert 0.2 < len(measured) / power.size < 0.5
    assert measured.min() >= np.float32(0.05) * (1 - 1e-5)


def test_1_39_a_raster_that_nothing_places_is_refused(tmp_path: Path, write_raster: WriteRaster) -> None:
    grid = Grid(ZONE, 10.0, -10.0, 10.0, 6, 6)
    identity = {"transform": Affine(1, 0, 0, 0, 1, 0), "resolution_m": 1.0, "x": 0.0, "y": 0.0}
    # rasterio warns of what is written so; what reads it has to keep quiet by itself.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        href = write_swath(tmp_path / "nowhere.tif", lonlat=False, points=False)
        no_crs = write_raster("identity.tif", np.ones((40, 40), np.float32), **identity, epsg=None)
        with_crs = write_raster("crs.tif", np.ones((40, 40), np.float32), **identity)
        whole = write_raster("whole.tif", np.ones((40, 40), np.uint16), **identity, epsg=None)
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_power(href, grid)) == "wrong-crs"
        assert reason_of(lambda: rasters.read_power(no_crs, grid)) == "wrong-crs"
        assert reason_of(lambda: rasters.read_power(with_crs, grid)) == "off-grid"
        assert reason_of(lambda: rasters.read_exact(whole, grid, "uint16")) == "wrong-crs"
        assert [rasters.grid_of(name) for name in (href, no_crs, with_crs, whole)] == [None] * 4


def test_control_points_of_whole_numbers_are_not_taken_for_power(tmp_path: Path) -> None:
    href = write_swath(tmp_path / "vv.tif", lonlat=True, dtype="uint16")
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_power(href, around(*SWATH * (60, 50)))) == "wrong-dtype"


# ------------------------------------------------------------------------------------------------ no data


def test_1_60_zeros_are_no_data_with_and_without_the_tag(write_raster: WriteRaster) -> None:
    array = distinct(48, 60)
    array[:, :20], array[10:13, 30:34] = 0, 0
    tags = {"x": WEST, "y": NORTH}
    for resolution_m, target_m, rule in ((10.0, 10.0, "none"), (10.0, 20.0, "mean"), (10.0, 60.0, "mean")):
        grid = Grid(ZONE, WEST, NORTH, target_m, int(600 / target_m), int(480 / target_m))
        found = []
        for name, nodata in (("with.tif", 0), ("without.tif", None)):
            href = write_raster(f"{target_m}/{name}", array, resolution_m=resolution_m, nodata=nodata, **tags)
            with Rasters() as rasters:
                found.append(rasters.read(Want(href, grid, "uint16")))
        np.testing.assert_array_equal(found[0].values, found[1].values)
        assert found[0].resampling == found[1].resampling
        assert found[0].resampling.startswith(rule)
        assert (found[0].values == 0).any()


@pytest.mark.parametrize("epsg", [ZONE, 32633])
def test_1_61_no_dark_rim_around_power_that_is_warped(write_raster: WriteRaster, epsg: int) -> None:
    array = np.random.default_rng(0).uniform(0.4, 0.5, (90, 96)).astype(np.float32)
    array[:, :30], array[60:] = -32768, 0
    x, y = (float(value) for value in from_lonlat(epsg, *to_lonlat(ZONE, WEST, NORTH)))
    href = write_raster("vv.tif", array, x=x + 3.7, y=y - 1.2, resolution_m=10.0, epsg=epsg, nodata=-32768)
    grid = Grid(ZONE, WEST + 100, NORTH - 100, 10.0, 60, 60)
    with Rasters() as rasters:
        power, is_resampled = rasters.read_power(href, grid)
    measured = power[np.isfinite(power)]
    assert is_resampled
    assert 0 < len(measured) < power.size
    assert measured.min() >= np.float32(0.4) * (1 - 1e-5)
    assert measured.max() <= np.float32(0.5) * (1 + 1e-5)


# ------------------------------------------------------------------------------------------------ what rasterio reads

ODD = {"compress": "packbits", "tiled": True, "blockxsize": 64, "blockysize": 64}
"""A TIFF that the fast path does not know."""
PLAIN = ODD | {"compress": "deflate", "predictor": 2}
BOTH = pytest.mark.parametrize("profile", [PLAIN, ODD], ids=["fast", "rasterio"])


@BOTH
def test_2_16_a_window_half_outside_is_refused_and_never_filled(write_raster: WriteRaster, profile: dict) -> None:
    array = distinct(80, 90)
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, **profile)
    for column, row in ((-12, 20), (78, 20), (20, -12), (20, 68), (-12, -12), (78, 68)):
        grid = Grid(ZONE, WEST + 10 * column, NORTH - 10 * row, 10.0, 24, 24)
        with Rasters(threads=1) as rasters:
            assert reason_of(lambda rasters=rasters, grid=grid: rasters.read_exact(href, grid, "uint16")) == "outside"
            partly = rasters.read(Want(href, grid, "uint16", partly=True)).values
        expected = np.pad(array, 24)[24 + row : 48 + row, 24 + column : 48 + column]
        np.testing.assert_array_equal(partly, expected)
        assert (expected == 0).sum() in (288, 432)


@BOTH
def test_2_18_a_doctored_overview_is_not_looked_at(write_raster: WriteRaster, profile: dict) -> None:
    array = distinct(128, 160)
    href = write_raster("a.tif", np.full_like(array, 60_000), x=WEST, y=NORTH, resolution_m=10.0, **profile)
    with rasterio.open(href, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)
    with rasterio.open(href, "r+") as dataset:
        dataset.write(array, 1)
    with rasterio.open(href, overview_level=0) as dataset:
        assert (dataset.read(1) == 60_000).all()
    whole, coarse = Grid(ZONE, WEST, NORTH, 10.0, 160, 128), Grid(ZONE, WEST, NORTH, 20.0, 80, 64)
    with Rasters() as rasters:
        np.testing.assert_array_equal(rasters.read_exact(href, whole, "uint16"), array)
        assert rasters.read(Want(href, coarse, "uint16")).values.max() < 21_000


@BOTH
def test_2_12_sixteen_threads_on_one_file(write_raster: WriteRaster, profile: dict) -> None:
    array = np.random.default_rng(0).integers(1, 60_000, (256, 300)).astype(np.uint16)
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, **profile)
    wrong: list[object] = []
    with Rasters(threads=4) as rasters:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(8):
                column, row = int(rng.integers(240)), int(rng.integers(200))
                grid = Grid(ZONE, WEST + 10 * column, NORTH - 10 * row, 10.0, 60, 56)
                if not np.array_equal(
                    rasters.read_exact(href, grid, "uint16"), array[row : row + 56, column : column + 60]
                ):
                    wrong.append((column, row))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with serve_cloud(tmp_path) as served:
        served.needs_signature = False
        yield served


def test_2_13_only_so_many_files_of_those_that_rasterio_reads_are_kept(write_raster: WriteRaster, cloud: Cloud) -> None:
    array = distinct(64, 64)
    names = [f"{number}.tif" for number in range(12)]
    for name in names:
        write_raster(name, array, x=WEST, y=NORTH, resolution_m=10.0, **ODD)
    grid = Grid(ZONE, WEST, NORTH, 10.0, 64, 64)

    def read(name: str) -> int:
        """How many requests a file costs beyond the look at its beginning."""
        before = len(cloud.blobs)
        np.testing.assert_array_equal(rasters.read_exact(cloud.href(name), grid, "uint16"), array)
        return len(cloud.blobs) - before - 1

    with Rasters(max_files=3) as rasters:
        first = [read(name) for name in names]
        again = [read(name) for name in names[-3:]]
        forgotten = read(names[0])
    assert min(first) >= 1
    assert again == [0, 0, 0]
    assert forgotten == first[0]


# ------------------------------------------------------------------------------------------------ processes

HARD = """
import os, resource, sys
import numpy as np
from pathlib import Path
from geossl_data.grid import Grid
from geossl_data.tiles.rasters import Pixels, Rasters, SkipError, Want

folder, array = Path(sys.argv[1]), np.load(sys.argv[2])

def want(name, column, row):
    return Want(str(folder / name), Grid(32632, 600000.0 + 10 * column, 5000040.0 - 10 * row, 10.0, 24, 20), "uint16")

def is_right(found, column, row):
    return isinstance(found, Pixels) and np.array_equal(found.values, array[row : row + 20, column : column + 24])
"""


def run(script: str, folder: Path, array: np.ndarray, *, files: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script on a folder of rasters in an interpreter of its own, where so many files may be open."""
    np.save(folder / "array.npy", array)

    def limit() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    command = [sys.executable, "-W", "error", "-c", HARD + script, str(folder), str(folder / "array.npy")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=limit, check=False)


@pytest.fixture
def many(tmp_path: Path, write_raster: WriteRaster) -> np.ndarray:
    """320 files of the same pixels, p0 to p319; every fifth goes through rasterio."""
    array = distinct(128, 128)
    tags = {"x": WEST, "y": NORTH, "resolution_m": 10.0}
    sources = [Path(write_raster(name, array, **tags, **profile)) for name, profile in (("p", PLAIN), ("o", ODD))]
    for number in range(320):
        (tmp_path / f"p{number}.tif").hardlink_to(sources[number % 5 == 0])
    return array


def test_2_14_two_thousand_reads_with_256_files(tmp_path: Path, many: np.ndarray) -> None:
    script = """
before = len(os.listdir("/proc/self/fd"))
at = [(n % 320, n * 7 % 100, n * 11 % 100) for n in range(2000)]
with Rasters(headers=folder / "headers.sqlite") as rasters:
    rasters.read(want("p1.tif", 0, 0))
    rasters.read(want("p0.tif", 0, 0))
    settled = len(os.listdir("/proc/self/fd"))
    groups = [[want(f"p{number}.tif", column, row)] for number, column, row in at]
    n_right = sum(is_right(found, *at[k][1:]) for k, (found,) in enumerate(rasters.stream(groups)))
    after = len(os.listdir("/proc/self/fd"))
print(n_right, after - settled, len(os.listdir("/proc/self/fd")) <= settled, resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    ended = run(script, tmp_path, many, files=256)
    assert (ended.returncode, ended.stderr) == (0, "")
    n_right, opened, closed, limits = ended.stdout.split(" ", 3)
    assert (n_right, closed, limits) == ("2000", "True", "(256, 256)\n")
    assert int(opened) <= 16


@BOTH
def test_2_11_a_fork_reads_with_the_rasters_of_its_parent(
    tmp_path: Path, write_raster: WriteRaster, profile: dict
) -> None:
    array = distinct(128, 128)
    write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, **profile)
    script = """
rasters = Rasters(headers=folder / "headers.sqlite")
stream = rasters.stream([want("a.tif", n, n)] for n in range(100))
next(stream)
first = all(is_right(rasters.read(want("a.tif", n, 2 * n)), n, 2 * n) for n in range(12))
child = os.fork()
if not child:
    import faulthandler
    faulthandler.dump_traceback_later(20, exit=True)
    print("child", is_right(rasters.read(want("a.tif", 70, 60)), 70, 60), flush=True)
    rasters.close()
    os._exit(0)
os.waitpid(child, 0)
print("parent", first, is_right(rasters.read(want("a.tif", 7, 90)), 7, 90), len(list(stream)), flush=True)
rasters.close()
"""
    ended = run(script, tmp_path, array)
    assert ended.stderr == ""
    assert (ended.returncode, ended.stdout) == (0, "child True\nparent True True 99\n")
