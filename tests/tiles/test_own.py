"""Rasters of one's own: what files are, their pixels, and files that are not what they seem."""

import hashlib
import os
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import numbers, write_raster
from rasterio.transform import Affine

from geossl_data.errors import DatasetError
from geossl_data.tiles import own
from geossl_data.tiles.own import RasterError, inspect, path_below, read_window


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reason_of(error: pytest.ExceptionInfo[RasterError]) -> str:
    return error.value.reason


def test_a_geotiff_tells_all_about_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_raster(
        path,
        numbers(2, 5, 7),
        names=("red", "nir"),
        crs="EPSG:32632",
        transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
        nodata=9,
        scales=(0.5, 0.5),
        offsets=(-3, -3),
    )
    found = inspect(tmp_path, "a.tif")
    assert (found.width, found.height, found.n_bands, found.dtype) == (7, 5, 2, "uint16")
    assert (found.bands, found.nodata, found.scale, found.offset) == (("red", "nir"), 9.0, 0.5, -3.0)
    assert (found.crs, found.grid) == ("EPSG:32632", (10, 0, 500_000, 0, -10, 5_000_000))
    assert (found.sha256, found.nbytes) == (digest(path), path.stat().st_size)


def test_a_picture_lies_nowhere_and_names_nothing(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.png", numbers(3, 4, 4, dtype="uint8"))
    found = inspect(tmp_path, "a.png")
    assert (found.crs, found.transform, found.grid, found.bands, found.nodata) == ("", (), None, (), None)
    assert (found.scale, found.offset) == (1.0, 0.0)


@pytest.mark.parametrize(("nodata", "expected"), [(np.nan, None), (-5.0, -5.0), (None, None)])
def test_no_data_that_is_no_number_goes_without_saying(
    tmp_path: Path, nodata: float | None, expected: float | None
) -> None:
    write_raster(tmp_path / "a.tif", numbers(1, 4, 4, dtype="float32"), nodata=nodata)
    assert inspect(tmp_path, "a.tif").nodata == expected


def test_bands_that_disagree_share_neither_scale_nor_names(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", numbers(2, 4, 4), names=("x", "x"), scales=(1, 2))
    found = inspect(tmp_path, "a.tif")
    assert (found.bands, found.scale) == ((), 1.0)


@pytest.mark.parametrize(
    ("name", "dtype", "bands"),
    [
        ("a.tif", "uint8", 1),
        ("a.tif", "int16", 13),
        ("a.tif", "float32", 2),
        ("a.tif", "float64", 1),
        ("a.tif", "int8", 1),
        ("a.png", "uint8", 3),
        ("a.png", "uint16", 1),
        ("a.jp2", "uint16", 1),
    ],
)
def test_pixels_are_those_of_the_file(tmp_path: Path, name: str, dtype: str, bands: int) -> None:
    array = write_raster(tmp_path / name, numbers(bands, 20, 30, dtype=dtype))
    found = inspect(tmp_path, name)
    read = read_window(tmp_path, name, found.sha256, column=3, row=5, width=11, height=7)
    assert read.dtype == array.dtype == found.dtype
    np.testing.assert_array_equal(read, array[:, 5:12, 3:14])


def test_a_jpeg_is_read(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.jpg", np.full((3, 16, 16), 77, dtype=np.uint8))
    found = inspect(tmp_path, "a.jpg")
    read = read_window(tmp_path, "a.jpg", found.sha256, column=0, row=0, width=16, height=16)
    assert (read.shape, int(read.min()), int(read.max())) == ((3, 16, 16), 77, 77)


def test_a_vrt_called_otherwise_reads_no_other_file(tmp_path: Path) -> None:
    write_raster(tmp_path / "secret.tif", numbers(1, 4, 4))
    vrt = (
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path}/secret.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    for name in ("a.png", "a.tif", "a.vrt"):
        (tmp_path / name).write_text(vrt)
        with pytest.raises(RasterError, match="begins like no TIFF") as error:
            inspect(tmp_path, name)
        assert reason_of(error) == "not-an-image"


@pytest.mark.parametrize("name", ["gone.png", "folder", "x" * 300 + ".png"])
def test_what_is_no_file_is_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RasterError, match="no such file") as error:
        inspect(tmp_path, name)
    assert reason_of(error) == "missing-file"


def test_a_message_tells_no_path_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\x00" + bytes(100))
    with pytest.raises(RasterError, match=r"a\.tif: damaged") as error:
        inspect(tmp_path, "a.tif")
    assert str(tmp_path) not in str(error.value)
    assert reason_of(error) == "unreadable"


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.jp2"])
@settings(max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_is_never_read_as_something_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    compress = {"compress": "deflate"} if name == "a.tif" else {}
    random = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    write_raster(folder / name, random, **compress)
    whole = read_window(folder, name, digest(folder / name), column=0, row=0, width=64, height=64)
    data = (folder / name).read_bytes()
    cut = folder / f"cut{Path(name).suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with suppress(RasterError):
        read = read_window(folder, cut.name, digest(cut), column=0, row=0, width=64, height=64)
        np.testing.assert_array_equal(read, whole)


def test_a_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", numbers(1, 4, 4))
    before = inspect(tmp_path, "a.tif")
    write_raster(tmp_path / "a.tif", numbers(1, 4, 4)[:, ::-1])
    os.utime(tmp_path / "a.tif", ns=(1, before.modified_ns + 1))
    with pytest.raises(RasterError, match="was replaced") as error:
        read_window(tmp_path, "a.tif", before.sha256, column=0, row=0, width=4, height=4)
    assert reason_of(error) == "changed"


def test_a_window_beyond_the_raster_is_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", numbers(1, 4, 4))
    with pytest.raises(RasterError, match="fewer than were planned with"):
        read_window(tmp_path, "a.tif", digest(tmp_path / "a.tif"), column=1, row=0, width=4, height=4)


def test_no_more_than_a_bound_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raster(tmp_path / "a.tif", numbers(2, 8, 8))
    monkeypatch.setattr(own, "MAX_WINDOW_NBYTES", 255)
    with pytest.raises(RasterError, match="256 bytes to decode, at most 255") as error:
        read_window(tmp_path, "a.tif", digest(tmp_path / "a.tif"), column=0, row=0, width=8, height=8)
    assert reason_of(error) == "too-large"


def test_the_reason_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RasterError("off-grid", "a.tif: elsewhere")))
    assert (error.reason, str(error)) == ("off-grid", "a.tif: elsewhere")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b.png", "a/b.png"), ("./a//b.png", "a/b.png"), ("a/../b.png", "b.png"), ("à é.png", "à é.png")],
)
def test_a_path_is_told_below_its_folder(tmp_path: Path, text: str, expected: str) -> None:
    assert path_below(tmp_path, text) == expected
    assert path_below(tmp_path, str(tmp_path / text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("https://host/a.tif", "s3://bucket/a.tif", "file:///etc/passwd", "FILE:/etc/passwd", "/vsicurl/http://a/b"),
        *("/vsizip/a.zip/b.tif", "/vsimem/a", "../a.tif", "a/../../b.tif", "/etc/passwd", "", "a\0b"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetError):
        path_below(tmp_path / "data", text)


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "a.png").write_bytes(b"x")
    (folder / "inside.png").write_bytes(b"x")
    (folder / "file.png").symlink_to(outside / "a.png")
    (folder / "folder").symlink_to(outside)
    (folder / "good.png").symlink_to("inside.png")
    (folder / "loop.png").symlink_to("loop.png")
    assert path_below(folder, "good.png") == "good.png"
    assert path_below(folder, "loop.png") == "loop.png"  # found missing later
    for text in ("file.png", "folder/a.png"):
        with pytest.raises(DatasetError, match="link out of the folder"):
            path_below(folder, text)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert path_below(tmp_path / "link", "a.png") == "a.png"
