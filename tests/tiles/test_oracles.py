"""Every window is what rasterio reads: of the sandbox, of real rasters, and of whatever rasters GDAL writes."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import DATA
from faults.blobs import Cloud, serve_cloud
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.windows import Window
from tiles.raw import assert_as_stored

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.grid import Grid
from geossl_data.scenes.items import read_items
from geossl_data.tiles.rasters import Rasters, SkipError, Want

WEST, NORTH = 600_000.0, 5_000_040.0


def sandbox_rasters(planet: Path) -> list[Path]:
    """Every asset of every scene of the sandbox."""
    return [planet.parent / asset["href"] for item in read_items(planet) for asset in item["assets"].values()]


# ------------------------------------------------------------------------------------------------ the sandbox


def test_every_raster_of_the_sandbox_at_every_level(planet: Path) -> None:
    rng = np.random.default_rng(0)
    paths = sandbox_rasters(planet)
    assert len(paths) == 198
    with Rasters() as rasters:
        assert_as_stored(rasters, paths, rng)


def grid_at(dataset: Any, column: int, row: int, width: int, height: int) -> Grid:
    """So many pixels of a raster as a grid; it may reach beyond."""
    a, c, f = dataset.transform.a, dataset.transform.c, dataset.transform.f
    return Grid(dataset.crs.to_epsg(), c + column * a, f - row * a, a, width, height)


def framed(dataset: Any, column: int, row: int, width: int, height: int, fill: float) -> np.ndarray:
    """The pixels of a window that may reach beyond a raster, `fill` there."""
    return dataset.read(1, window=Window(column, row, width, height), boundless=True, fill_value=fill)


def test_windows_across_the_edges_of_files_are_refused_or_empty_there(planet: Path) -> None:
    rng = np.random.default_rng(1)
    n_crossing = 0
    with Rasters() as rasters:
        for path in sandbox_rasters(planet)[::3]:
            with rasterio.open(path) as dataset:
                size = np.array([dataset.width, dataset.height])
                boxes = [(-7, -5, 20, 11), (int(size[0]) - 4, int(size[1]) - 9, 13, 17), (-3, 8, int(size[0]) + 9, 6)]
                for _ in range(2):
                    width, height = rng.integers(1, 60, 2).tolist()
                    boxes.append((*rng.integers(1 - np.array([width, height]), size).tolist(), width, height))
                for box in boxes:
                    grid = grid_at(dataset, *box)
                    inside = box[0] >= 0 and box[1] >= 0 and box[0] + box[2] <= size[0] and box[1] + box[3] <= size[1]
                    n_crossing += not inside
                    if dataset.dtypes[0] == "float32":
                        power, is_resampled = rasters.read_power(str(path), grid)
                        expected = framed(dataset, *box, fill=-32768)
                        np.testing.assert_array_equal(power, np.where(expected > 0, expected, np.nan))
                        assert not is_resampled
                        continue
                    kind = dataset.dtypes[0]
                    assert kind in ("uint8", "uint16")
                    partly = rasters.read(Want(str(path), grid, kind, partly=True))
                    np.testing.assert_array_equal(partly.values, framed(dataset, *box, fill=0))
                    if inside:
                        np.testing.assert_array_equal(rasters.read_exact(str(path), grid, kind), partly.values)
                    else:
                        with pytest.raises(SkipError) as caught:
                            rasters.read_exact(str(path), grid, kind)
                        assert caught.value.reason == "outside"
    assert n_crossing > 150


def test_every_band_of_a_scene_on_one_grid(planet: Path) -> None:
    """A window at 10 m of one ground is read from rasters of 10, 20 and 60 m and lies where it belongs in each."""
    rng = np.random.default_rng(2)
    scenes = sorted((planet.parent / "sentinel-2-l2a").iterdir())
    with Rasters() as rasters:
        for scene in scenes:
            with rasterio.open(scene / "B02.tif") as dataset:
                west, north, epsg = dataset.transform.c, dataset.transform.f, dataset.crs.to_epsg()
            column, row = (6 * rng.integers(0, 58, 2)).tolist()
            width, height = (6 * rng.integers(1, 10, 2)).tolist()
            for band in (*S2_BANDS, "SCL"):
                side = BANDS[band].resolution_m if band in BANDS else 20
                factor = side // 10
                grid = Grid(epsg, west + 10 * column, north - 10 * row, float(side), width // factor, height // factor)
                with rasterio.open(scene / f"{band}.tif") as dataset:
                    box = (column // factor, row // factor, width // factor, height // factor)
                    expected = dataset.read(1, window=Window(*box))
                kind = "uint8" if band == "SCL" else "uint16"
                np.testing.assert_array_equal(rasters.read_exact(str(scene / f"{band}.tif"), grid, kind), expected)


# ------------------------------------------------------------------------------------------------ real rasters


def real(*patterns: str) -> list[Path]:
    """Rasters of the data pack; the test is skipped where there are none."""
    paths = sorted(path for pattern in patterns for path in DATA.glob(pattern))
    if not paths:
        pytest.skip(f"no real rasters: {', '.join(patterns)} is absent below {DATA}")
    return paths


def test_every_real_raster_at_every_level() -> None:
    rng = np.random.default_rng(3)
    paths = real("planet/items/*/*/*.tif", "planet/extra/*.tif")
    assert len(paths) >= 675
    with Rasters() as rasters:
        assert_as_stored(rasters, paths, rng, n=1)


def test_real_rasters_of_other_kinds_at_every_level() -> None:
    rng = np.random.default_rng(4)
    paths = real("eurosat/ms13/*.tif", "geo/*.tif")
    with Rasters() as rasters:
        assert_as_stored(rasters, paths, rng)


def test_thirteen_bands_in_one_file_are_no_band() -> None:
    path = real("eurosat/ms13/*.tif")[0]
    with rasterio.open(path) as dataset:
        grid = grid_at(dataset, 0, 0, 6, 6)
    with Rasters() as rasters, pytest.raises(SkipError) as caught:
        rasters.read_exact(str(path), grid, "uint16")
    assert caught.value.reason == "wrong-bands"


# ------------------------------------------------------------------------------------------------ any raster

NUMBERS = count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@pytest.fixture(scope="module")
def cloud(folder: Path) -> Iterator[Cloud]:
    with serve_cloud(folder) as served:
        served.needs_signature = False
        yield served


@pytest.fixture(scope="module")
def rasters() -> Iterator[Rasters]:
    with Rasters(threads=2) as opened:
        yield opened


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[str]) -> np.ndarray:
    """Pixels of any bits (no NaN but one kind), in part of one value, so that they compress in every way."""
    dtype, height, width = np.dtype(draw(st.sampled_from(dtypes))), draw(st.integers(2, 150)), draw(st.integers(2, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = rng.integers(0, 256, height * width * dtype.itemsize, dtype=np.uint8).view(dtype).reshape(height, width)
    if dtype.kind == "f":
        pixels = np.where(np.isfinite(pixels), pixels, dtype.type(np.nan))
    pixels = pixels.copy()
    pixels[draw(st.integers(0, height)) :, draw(st.integers(0, width)) :] = draw(st.sampled_from([0, 7]))
    return pixels


@st.composite
def tiffs(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any], tuple[int, ...]]:
    """Pixels, how to write them, and the overviews to make."""
    pixels = draw(arrays(["uint8", "uint16", "int16", "uint32", "float32", "float64"]))
    height, width = pixels.shape
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": pixels.dtype, "height": height, "width": width}
    profile["compress"] = draw(st.sampled_from(["none", "deflate", "zstd", "lzw", "packbits"]))
    if profile["compress"] in ("deflate", "zstd", "lzw"):
        profile["predictor"] = draw(st.sampled_from([1, 2, 3] if pixels.dtype.kind == "f" else [1, 2]))
    if draw(st.booleans()):
        side = st.integers(1, 5).map(lambda n: 16 * n)
        profile |= {"tiled": True, "blockxsize": draw(side), "blockysize": draw(side)}
    else:
        profile["blockysize"] = draw(st.integers(1, height))
    profile["sparse_ok"] = draw(st.booleans())
    if draw(st.booleans()):
        profile["nodata"] = draw(st.sampled_from([0, 7, 200]))
    overviews = draw(st.sampled_from([(), (2,), (2, 4), (3,)])) if min(height, width) >= 16 else ()
    return pixels, profile, overviews


def write(path: Path, pixels: np.ndarray, profile: dict[str, Any], overviews: tuple[int, ...] = ()) -> None:
    options = {"count": 1, "crs": "EPSG:32632", "transform": Affine(10, 0, WEST, 0, -10, NORTH)} | profile
    with rasterio.open(path, "w", **options) as dataset:
        if profile.get("sparse_ok"):
            # Only what is written is stored: the rest stays a hole.
            rows = (pixels.shape[0] + 1) // 2
            dataset.write(pixels[:rows], 1, window=Window(0, 0, pixels.shape[1], rows))
        else:
            dataset.write(pixels, 1)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(overviews, Resampling.nearest)


def assert_near_and_far(rasters: Rasters, cloud: Cloud, path: Path, seed: int) -> None:
    assert_as_stored(rasters, [path], np.random.default_rng(seed))
    assert_as_stored(rasters, [path], np.random.default_rng(seed), href=lambda path: cloud.href(path.name))


@settings(max_examples=40)
@given(made=tiffs(), seed=st.integers(0, 2**32 - 1))
def test_whatever_tiff_gdal_writes_near_and_far(
    folder: Path, cloud: Cloud, rasters: Rasters, made: tuple[Any, Any, Any], seed: int
) -> None:
    path = folder / f"{next(NUMBERS)}.tif"
    write(path, *made)
    assert_near_and_far(rasters, cloud, path, seed)


@settings(max_examples=10)
@given(pixels=arrays(["uint16", "uint8"]), side=st.sampled_from([64, 128, 1024]), seed=st.integers(0, 2**32 - 1))
def test_whatever_jpeg_2000_gdal_writes_near_and_far(
    folder: Path, cloud: Cloud, rasters: Rasters, pixels: np.ndarray, side: int, seed: int
) -> None:
    path = folder / f"{next(NUMBERS)}.jp2"
    profile = {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": 100, "BLOCKXSIZE": side, "BLOCKYSIZE": side}
    profile |= {"height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype}
    write(path, pixels, profile)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)
    assert_near_and_far(rasters, cloud, path, seed)


# ------------------------------------------------------------------------------------------------ odc-stac


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::PendingDeprecationWarning")
def test_odc_stac_reads_the_same_where_no_pixel_is_resampled(planet: Path) -> None:
    """Sentinel-2 on its own grid, and Sentinel-1 where it shares the lattice.

    Elsewhere the two do not compare: odc-stac takes the nearest radar pixel in place of an interpolation, and gives
    numbers with their offset and without masks.
    """
    import odc.stac as odc_stac
    import pystac
    from odc.geo.geobox import GeoBox

    items = {item["id"]: item for item in read_items(planet)}
    for item in items.values():
        for asset in item["assets"].values():
            asset["href"] = str(planet.parent / asset["href"])
    rng = np.random.default_rng(5)
    of_zone = [item for item in items.values() if item["properties"]["proj:epsg"] == 32632]
    optical = [
        item for item in of_zone if item["properties"].get("s2:mgrs_tile") == "32TMT" and "B02" in item["assets"]
    ][:3]
    radar = [item for item in of_zone if item["collection"] == "sentinel-1-rtc"][:1]
    with rasterio.open(optical[0]["assets"]["B02"]["href"]) as dataset:
        corner = dataset.transform.c, dataset.transform.f
    asked = {10: ["B02", "B08"], 20: ["B05", "B12", "SCL"], 60: ["B01", "B09"]}
    n_compared = 0
    with Rasters() as rasters:
        for resolution_m, bands in asked.items():
            x, y = corner[0] + 60 * int(rng.integers(0, 40)), corner[1] - 60 * int(rng.integers(0, 40))
            grid = Grid(32632, x, y, float(resolution_m), 960 // resolution_m, 720 // resolution_m)
            box = GeoBox((grid.height, grid.width), Affine(resolution_m, 0, x, 0, -resolution_m, y), "EPSG:32632")
            of_radar = [(item, ["vv", "vh"]) for item in radar if resolution_m == 10]
            for item, names in [*((item, bands) for item in optical), *of_radar]:
                loaded = odc_stac.load([pystac.Item.from_dict(item)], bands=names, geobox=box)
                for name in names:
                    theirs, href = loaded[name].values[0], item["assets"][name]["href"]
                    if name in ("vv", "vh"):
                        ours, is_resampled = rasters.read_power(href, grid)
                        assert not is_resampled
                        theirs = np.where(theirs > 0, theirs, np.nan)
                    else:
                        ours = rasters.read_exact(href, grid, "uint8" if name == "SCL" else "uint16")
                    np.testing.assert_array_equal(ours, theirs)
                    n_compared += 1
    assert n_compared == 3 * (2 + 3 + 2) + 2
