"""Windows are exact, resampled where that is allowed, or refused with a reason."""

import logging
import pickle
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import serve

from geossl_data.grid import Grid, from_lonlat, to_lonlat
from geossl_data.records import Place
from geossl_data.scenes.hrefs import redact
from geossl_data.scenes.opening.access import Access
from geossl_data.tiles.rasters import MAX_WINDOW_NBYTES, Rasters, SkipError, place_grid

WriteRaster = Callable[..., str]

WEST, NORTH = 600_000.0, 5_000_040.0


def distinct(height: int, width: int, dtype: str = "uint16", start: int = 1) -> np.ndarray:
    return np.arange(start, start + height * width).reshape(height, width).astype(dtype)


def reason_of(act: Callable[[], object]) -> str:
    with pytest.raises(SkipError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_place_has_whole_pixels_at_every_resolution() -> None:
    place = Place(lon=10.0, lat=45.0, epsg=32632, x=WEST, y=NORTH, size_px=12, cell="0500U_0070R")
    assert place_grid(place, 60) == Grid(32632, WEST, NORTH, 60.0, 2, 2)
    assert place_grid(place, 10).bounds == place_grid(place, 20).bounds == place.bounds


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=st.integers(0, 25), row=st.integers(0, 17))
def test_an_exact_window_is_what_rasterio_reads(write_raster: WriteRaster, column: int, row: int) -> None:
    array = distinct(30, 37)
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=20.0)
    grid = Grid(32632, WEST + 20 * column, NORTH - 20 * row, 20.0, 12, 13)
    with Rasters() as rasters:
        window = rasters.read_exact(href, grid, "uint16")
    np.testing.assert_array_equal(window, array[row : row + 13, column : column + 12])
    assert window.dtype == np.uint16
    assert window.flags.c_contiguous


def test_a_lattice_that_is_not_a_multiple_of_ten_metres_is_as_good_as_any(write_raster: WriteRaster) -> None:
    array = distinct(20, 24)
    href = write_raster("a.tif", array, x=617301.8198784497, y=9625098.22745184, resolution_m=10.0, epsg=32736)
    grid = Grid(32736, 617301.8198784497 + 30, 9625098.22745184 - 50, 10.0, 6, 12)
    with Rasters() as rasters:
        np.testing.assert_array_equal(rasters.read_exact(href, grid, "uint16"), array[5:17, 3:9])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": WEST + 3.7}, "off-grid"),
        ({"y": NORTH + 0.05}, "off-grid"),
        ({"epsg": 32633}, "wrong-crs"),
        ({"x": WEST - 20}, "outside"),
        ({"y": NORTH + 20}, "outside"),
        ({"x": WEST + 20 * 26}, "outside"),
        ({"y": NORTH - 20 * 20}, "outside"),
        ({"resolution_m": 10.0, "width": 6, "height": 6}, "wrong-resolution"),
        ({"resolution_m": 30.0, "width": 6, "height": 6}, "wrong-resolution"),
        ({"resolution_m": 60.0, "width": 2, "height": 2}, "wrong-resolution"),
    ],
)
def test_a_window_that_is_not_exact_is_refused(write_raster: WriteRaster, change: dict, reason: str) -> None:
    href = write_raster("a.tif", distinct(30, 37), x=WEST, y=NORTH, resolution_m=20.0)
    wanted = {"epsg": 32632, "x": WEST, "y": NORTH, "resolution_m": 20.0, "width": 12, "height": 12} | change
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_exact(href, Grid(**wanted), "uint16")) == reason


def test_an_exact_enlargement_gives_its_values_back(write_raster: WriteRaster) -> None:
    array = distinct(10, 11)
    href = write_raster("a.tif", array.repeat(6, 0).repeat(6, 1), x=WEST, y=NORTH, resolution_m=10.0)
    with Rasters() as rasters:
        window = rasters.read_exact(href, Grid(32632, WEST + 120, NORTH - 60, 60.0, 4, 5), "uint16")
        shifted = Grid(32632, WEST + 130, NORTH - 60, 60.0, 4, 5)
        np.testing.assert_array_equal(window, array[1:6, 2:6])
        assert reason_of(lambda: rasters.read_exact(href, shifted, "uint16")) == "wrong-resolution"


def test_other_whole_number_types_are_taken_when_the_values_fit(write_raster: WriteRaster) -> None:
    grid = Grid(32632, WEST, NORTH, 10.0, 5, 4)
    tags = {"x": WEST, "y": NORTH, "resolution_m": 10.0}
    small = write_raster("small.tif", distinct(4, 5, "int32") * 3000, **tags)
    large = write_raster("large.tif", distinct(4, 5, "int32") * 4000, **tags)
    negative = write_raster("negative.tif", distinct(4, 5, "int16") - 5, **tags)
    real = write_raster("real.tif", distinct(4, 5, "float32"), **tags)
    classes = write_raster("classes.tif", distinct(4, 5, "uint16", start=250), **tags)
    other = write_raster("other.tif", distinct(4, 5, "int16") - 3, nodata=-2, **(tags | {"x": WEST - 20}))
    with Rasters() as rasters:
        assert rasters.read_exact(small, grid, "uint16").max() == 60_000
        assert reason_of(lambda: rasters.read_exact(large, grid, "uint16")) == "wrong-dtype"
        assert reason_of(lambda: rasters.read_exact(negative, grid, "uint16")) == "wrong-dtype"
        assert reason_of(lambda: rasters.read_exact(real, grid, "uint16")) == "wrong-dtype"
        assert reason_of(lambda: rasters.read_exact(classes, grid, "uint8")) == "wrong-dtype"
        first = rasters.read_exact(other, Grid(32632, WEST, NORTH, 10.0, 3, 1), "uint16")
        assert first.tolist() == [[0, 1, 2]]


def test_a_nodata_value_other_than_zero_becomes_zero(write_raster: WriteRaster) -> None:
    href = write_raster("a.tif", np.array([[7, 65535, 9]], np.uint16), x=WEST, y=NORTH, resolution_m=10.0, nodata=65535)
    with Rasters() as rasters:
        assert rasters.read_exact(href, Grid(32632, WEST, NORTH, 10.0, 3, 1), "uint16").tolist() == [[7, 0, 9]]


def test_overviews_are_never_used(write_raster: WriteRaster) -> None:
    import rasterio

    array = distinct(64, 64)
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0)
    with rasterio.open(href, "r+") as dataset:
        dataset.build_overviews([2, 4], rasterio.enums.Resampling.average)
    with Rasters() as rasters:
        grid = Grid(32632, WEST, NORTH, 10.0, 64, 64)
        np.testing.assert_array_equal(rasters.read_exact(href, grid, "uint16"), array)


def test_files_that_are_not_one_north_up_band_in_a_known_crs_are_refused(write_raster: WriteRaster) -> None:
    from rasterio.transform import Affine

    tags = {"x": WEST, "y": NORTH, "resolution_m": 10.0}
    grid = Grid(32632, WEST, NORTH, 10.0, 2, 2)
    several = write_raster("several.tif", np.ones((3, 4, 4), np.uint16), **tags)
    nowhere = write_raster("nowhere.tif", np.ones((4, 4), np.uint16), **(tags | {"epsg": None}))
    south_up = write_raster("south.tif", np.ones((4, 4), np.uint16), transform=Affine(10, 0, WEST, 0, 10, 0), **tags)
    oblong = write_raster("oblong.tif", np.ones((4, 4), np.uint16), transform=Affine(10, 0, WEST, 0, -20, 0), **tags)
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_exact(several, grid, "uint16")) == "wrong-bands"
        assert reason_of(lambda: rasters.read_exact(nowhere, grid, "uint16")) == "wrong-crs"
        assert reason_of(lambda: rasters.read_exact(south_up, grid, "uint16")) == "off-grid"
        assert reason_of(lambda: rasters.read_exact(oblong, grid, "uint16")) == "outside"
        assert [rasters.grid_of(href) for href in (nowhere, south_up, oblong)] == [None, None, None]
        assert rasters.grid_of(several) == Grid(32632, WEST, NORTH, 10.0, 4, 4)


def test_a_vrt_posing_as_geotiff_reads_no_other_file(write_raster: WriteRaster, tmp_path: Path) -> None:
    target = write_raster("target.tif", distinct(4, 4), x=WEST, y=NORTH, resolution_m=10.0)
    vrt = (
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>EPSG:32632</SRS><GeoTransform>{WEST},10,0,{NORTH},0,-10'
        '</GeoTransform><VRTRasterBand dataType="UInt16" band="1"><SimpleSource><SourceFilename>'
        f"{target}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "B02.tif").write_text(vrt)
    grid = Grid(32632, WEST, NORTH, 10.0, 4, 4)
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_exact(str(tmp_path / "B02.tif"), grid, "uint16")) == "not-geotiff"
        for href in ("ftp://host/a.tif", f"vrt://{target}", f"zip://{target}!a"):
            assert reason_of(lambda href=href: rasters.read_exact(href, grid, "uint16")) == "refused-address"
        for href in (vrt, f"/vsizip/{tmp_path}/a.zip", f"GTIFF_DIR:1:{target}"):
            refused = reason_of(lambda href=href: rasters.read_exact(href, grid, "uint16"))
            assert refused in ("read-failed", "refused-address")


def test_a_missing_or_cut_file_is_a_failed_read(write_raster: WriteRaster, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(1, 60_000, (256, 256)).astype(np.uint16)
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, tiled=True, blockxsize=64, blockysize=64)
    whole = Path(href).read_bytes()
    Path(href).write_bytes(whole[: len(whole) // 2])
    grid = Grid(32632, WEST, NORTH, 10.0, 256, 256)
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_exact(href, grid, "uint16")) == "read-failed"
        assert reason_of(lambda: rasters.read_exact(str(tmp_path / "no.tif"), grid, "uint16")) == "read-failed"
        assert reason_of(lambda: rasters.grid_of(str(tmp_path / "no.tif"))) == "read-failed"


def test_a_window_or_block_of_absurd_size_is_refused(write_raster: WriteRaster) -> None:
    side = int((MAX_WINDOW_NBYTES / 2) ** 0.5) // 16 * 16 + 32
    options = {"width": side, "height": side, "tiled": True, "sparse_ok": True, "compress": "deflate"}
    import rasterio
    from rasterio.transform import Affine

    small = Path(write_raster("dummy.tif", distinct(2, 2), x=WEST, y=NORTH, resolution_m=10.0))
    for name, block in (("many.tif", 256), ("one.tif", side)):
        profile = options | {"driver": "GTiff", "count": 1, "dtype": "uint16", "crs": "EPSG:32632"}
        profile |= {"transform": Affine(10, 0, WEST, 0, -10, NORTH), "blockxsize": block, "blockysize": block}
        rasterio.open(small.with_name(name), "w", **profile).close()
    with Rasters() as rasters:
        many, one = str(small.with_name("many.tif")), str(small.with_name("one.tif"))
        whole, part = Grid(32632, WEST, NORTH, 10.0, side, side), Grid(32632, WEST, NORTH, 10.0, 6, 6)
        assert reason_of(lambda: rasters.read_exact(many, whole, "uint16")) == "too-large"
        assert reason_of(lambda: rasters.read_exact(one, part, "uint16")) == "too-large"
        assert rasters.read_exact(many, part, "uint16").shape == (6, 6)


# ---------------------------------------------------------------------------------------------- Sentinel-1


def test_power_on_the_same_lattice_is_read_as_stored_and_masked(write_raster: WriteRaster) -> None:
    array = distinct(20, 24, "float32") / 1000
    array[3, 4], array[5, 6], array[7, 8], array[9, 9] = -32768, 0, np.nan, -1
    href = write_raster("vv.tif", array, x=WEST, y=NORTH, resolution_m=10.0, nodata=-32768)
    with Rasters() as rasters:
        power, resampled = rasters.read_power(href, Grid(32632, WEST + 20, NORTH - 10, 10.0, 12, 13))
    expected = np.where(np.isfinite(array) & (array > 0), array, np.nan)[1:14, 2:14]
    np.testing.assert_array_equal(power, expected)
    assert (resampled, np.isnan(power).sum()) == (False, 4)


def test_ground_outside_the_radar_scene_is_nan(write_raster: WriteRaster) -> None:
    array = distinct(20, 24, "float32")
    href = write_raster("vv.tif", array, x=WEST, y=NORTH, resolution_m=10.0)
    with Rasters() as rasters:
        power, _ = rasters.read_power(href, Grid(32632, WEST - 30, NORTH + 20, 10.0, 6, 6))
        np.testing.assert_array_equal(power[2:, 3:], array[:4, :3])
        assert np.isnan(power[:2]).all()
        assert np.isnan(power[:, :3]).all()
        away = Grid(32632, WEST + 10_000, NORTH, 10.0, 6, 6)
        assert reason_of(lambda: rasters.read_power(href, away)) == "outside"
        off_lattice_away = Grid(32632, WEST + 10_003, NORTH, 10.0, 6, 6)
        assert reason_of(lambda: rasters.read_power(href, off_lattice_away)) == "outside"


def test_power_off_the_lattice_is_the_bilinear_mean_of_its_neighbours(write_raster: WriteRaster) -> None:
    rng = np.random.default_rng(1)
    array = rng.gamma(4, 0.05, (40, 44)).astype(np.float32)
    array[20, 20] = 30.0
    href = write_raster("vv.tif", array, x=WEST + 3.7, y=NORTH - 1.2, resolution_m=10.0)
    with Rasters() as rasters:
        power, resampled = rasters.read_power(href, Grid(32632, WEST + 60, NORTH - 60, 10.0, 24, 24))
    assert resampled
    # Centre of target pixel (r, c) in source pixel centres, by hand: 6 - 0.37 columns, 6 - 0.12 rows further on.
    rows, columns = np.arange(24) + 6 - 0.12, np.arange(24) + 6 - 0.37
    i, j = np.floor(rows).astype(int), np.floor(columns).astype(int)
    v, u = (rows - i)[:, None], (columns - j)[None]
    at = array.astype(np.float64)
    expected = (1 - v) * ((1 - u) * at[np.ix_(i, j)] + u * at[np.ix_(i, j + 1)])
    expected += v * ((1 - u) * at[np.ix_(i + 1, j)] + u * at[np.ix_(i + 1, j + 1)])
    np.testing.assert_allclose(power, expected, rtol=1e-5)
    # The dot's centre lies 3.7 m east and 1.2 m south of the centre of pixel (20, 20) of the place's lattice.
    assert np.unravel_index(np.argmax(power), power.shape) == (14, 14)


def test_invalid_power_never_leaks_into_its_neighbours(write_raster: WriteRaster) -> None:
    array = np.full((40, 44), 0.1, np.float32)
    array[:, :20], array[30:, :], array[5, 30] = -32768, 0, np.nan
    href = write_raster("vv.tif", array, x=WEST + 3.7, y=NORTH - 1.2, resolution_m=10.0)
    with Rasters() as rasters:
        power, _ = rasters.read_power(href, Grid(32632, WEST + 60, NORTH - 60, 10.0, 30, 30))
    assert np.isnan(power).any()
    np.testing.assert_allclose(power[np.isfinite(power)], 0.1, rtol=1e-6)


def test_a_dot_seen_from_the_next_utm_zone_lands_in_its_pixel(write_raster: WriteRaster) -> None:
    lon, lat = 12.02, 45.1
    (x, y), (x_33, y_33) = from_lonlat(32632, lon, lat), from_lonlat(32633, lon, lat)
    grid = Grid(32632, float(x) // 10 * 10 - 150, float(y) // 10 * 10 + 150, 10.0, 30, 30)
    array = np.full((120, 120), 0.01, np.float32)
    origin = (float(x_33) - 605.0, float(y_33) + 605.0)  # the dot is the centre of pixel (60, 60)
    array[60, 60] = 50.0
    href = write_raster("vv.tif", array, x=origin[0], y=origin[1], resolution_m=10.0, epsg=32633)
    with Rasters() as rasters:
        power, resampled = rasters.read_power(href, grid)
    row, column = np.unravel_index(np.nanargmax(power), power.shape)
    found = to_lonlat(32632, grid.x + (column + 0.5) * 10, grid.y - (row + 0.5) * 10)
    moved = np.hypot(*(np.array(from_lonlat(32632, *found)) - (x, y)))
    assert resampled
    assert moved <= 7.1  # half a pixel's diagonal
    assert np.isfinite(power).all()


def test_power_in_whole_numbers_is_refused(write_raster: WriteRaster) -> None:
    href = write_raster("vv.tif", distinct(4, 4), x=WEST, y=NORTH, resolution_m=10.0)
    with Rasters() as rasters:
        assert reason_of(lambda: rasters.read_power(href, Grid(32632, WEST, NORTH, 10.0, 2, 2))) == "wrong-dtype"


# ---------------------------------------------------------------------------------------------- opening


def test_hrefs_are_signed_before_opening_and_never_shown_signed(write_raster: WriteRaster, tmp_path: Path) -> None:
    asked = []

    class Recorder(Stamp):
        def __call__(self, href: str) -> str:
            asked.append(href)
            return "http://127.0.0.1:9/gone.tif?sig=CANARY"

    array = distinct(4, 4)
    href = write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0)
    grid = Grid(32632, WEST, NORTH, 10.0, 4, 4)
    with Rasters(access=Access(Recorder())) as rasters:
        np.testing.assert_array_equal(rasters.read_exact(href, grid, "uint16"), array)
        assert asked == []
        with pytest.raises(SkipError, match="cannot be reached") as caught:
            rasters.read_exact("https://host.example/gone.tif", grid, "uint16")
    assert set(asked) == {"https://host.example/gone.tif"}
    shown, error = [], caught.value
    while error is not None:
        shown.append(repr(error))
        error = error.__context__ or error.__cause__
    assert "CANARY" not in " ".join(shown)


class Stamp:
    """Signs every address with what `query` says."""

    def __init__(self, query: Callable[[], str] = str) -> None:
        self._query = query

    def at_once(self, href: str) -> str | None:
        return None

    def __call__(self, href: str) -> str:
        return f"{href}?{self._query()}"

    def renewed(self, signed: str) -> str:
        return self(signed.partition("?")[0])

    def accepted(self, signed: str) -> None:
        return None


class _Blobs(BaseHTTPRequestHandler):
    """A blob store that answers ranges, to the current signature only."""

    folder: Path
    current = "sig=FIRST"
    refused = 0

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if query != type(self).current:
            type(self).refused += 1
            self.send_error(403)
            return
        content = (self.folder / path.lstrip("/")).read_bytes()
        start, stop = 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted:
            start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:stop])

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        return None


def test_a_signature_that_expires_is_renewed_and_appears_nowhere(
    write_raster: WriteRaster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    array = np.random.default_rng(0).integers(1, 60_000, (512, 512)).astype(np.uint16)
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    write_raster("a.tif", array, x=WEST, y=NORTH, resolution_m=10.0, **tiles)
    handler = type("Blobs", (_Blobs,), {"folder": tmp_path})
    with serve(handler) as server:
        href = f"{server.url}/a.tif"
        first, last = (Grid(32632, WEST + 10 * at, NORTH - 10 * at, 10.0, 60, 60) for at in (0, 450))
        with Rasters(access=Access(Stamp(lambda: handler.current))) as rasters:
            np.testing.assert_array_equal(rasters.read_exact(href, first, "uint16"), array[:60, :60])
            handler.current = "sig=SECOND"
            np.testing.assert_array_equal(rasters.read_exact(href, last, "uint16"), array[450:510, 450:510])
        assert handler.refused == 0
        wrong = Access(Stamp(lambda: "sig=WRONG"))
        with Rasters(access=wrong) as rasters, pytest.raises(SkipError) as caught:
            rasters.read_exact(href, first, "uint16")
        assert handler.refused == 1
    assert caught.value.reason == "forbidden"
    assert "403" in str(caught.value)
    assert "sig=" not in str(caught.value) + caplog.text


def test_redacted_hrefs_hold_no_secret() -> None:
    assert redact("https://user:pw@host/a/b.tif?sig=abc&se=1#x") == "https://host/a/b.tif"
    assert redact("/data/b.tif") == "/data/b.tif"


def test_a_skip_survives_the_way_home_from_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(SkipError("outside", "there")))
    assert (copy.reason, str(copy)) == ("outside", "there")
    assert isinstance(pickle.loads(pickle.dumps(Rasters(max_files=3))), Rasters)


def test_threads_share_rasters_without_mixing_pixels(write_raster: WriteRaster) -> None:
    arrays = [distinct(60, 60, start=1 + 4000 * number) for number in range(4)]
    tiling = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    hrefs = [
        write_raster(f"{number}.tif", array, x=WEST, y=NORTH, resolution_m=10.0, **tiling)
        for number, array in enumerate(arrays)
    ]
    wrong = []
    with Rasters(threads=2) as rasters:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(40):
                number, column, row = rng.integers(4), int(rng.integers(48)), int(rng.integers(48))
                grid = Grid(32632, WEST + 10 * column, NORTH - 10 * row, 10.0, 12, 12)
                window = rasters.read_exact(hrefs[number], grid, "uint16")
                if not np.array_equal(window, arrays[number][row : row + 12, column : column + 12]):
                    wrong.append((number, column, row))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
