"""How a window lies in a raster, and what becomes of its stored pixels: by hand, without any raster."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.grid import Grid
from geossl_data.tiles.windows import EXACT, Kind, Layout, Pixels, SkipError, Want, source_of

WEST, NORTH = 600_000.0, 5_000_040.0


def layout(width: int, height: int, resolution_m: float = 10.0, dtype: str = "uint16", **change: Any) -> Layout:
    values = {
        "width": width,
        "height": height,
        "dtype": np.dtype(dtype),
        "n_bands": 1,
        "crs": 32632,
        "transform": (resolution_m, 0.0, WEST, 0.0, -resolution_m, NORTH),
        "nodata": None,
        "block_shape": (256, 256),
    }
    return Layout(**(values | change))


def read(stored: np.ndarray, of: Layout, grid: Grid, kind: Kind = "uint16", *, partly: bool = False) -> Pixels:
    """The pixels of a window of an array that stands for the raster."""
    source = source_of(Want("a.tif", grid, kind, partly), of)
    part = stored[source.row : source.row + source.height, source.column : source.column + source.width]
    assert part.shape == (source.height, source.width)
    return source.finish(part)


def grid(column: float, row: float, width: int, height: int, resolution_m: float = 10.0) -> Grid:
    return Grid(32632, WEST + column * 10, NORTH - row * 10, resolution_m, width, height)


def numbers(height: int, width: int, dtype: str = "uint16") -> np.ndarray:
    return np.arange(1, height * width + 1).reshape(height, width).astype(dtype)


def test_finer_pixels_that_are_no_copies_are_averaged_where_they_are_valid() -> None:
    stored = np.array([[1, 3, 0, 9], [5, 7, 0, 0]], np.uint16)
    found = read(stored, layout(4, 2), grid(0, 0, 2, 1, 20.0))
    assert found.values.tolist() == [[4, 9]]
    assert found.resampling == "mean of 2 × 2 pixels"
    assert read(np.zeros((2, 4), np.uint16), layout(4, 2), grid(0, 0, 2, 1, 20.0)).resampling == EXACT


def test_the_mean_of_a_valid_block_never_becomes_no_data() -> None:
    stored = np.array([[0, 0], [0, 1]], np.uint16)
    assert read(stored, layout(2, 2), grid(0, 0, 1, 1, 20.0)).values.tolist() == [[1]]


def test_classes_of_finer_pixels_are_picked_and_never_averaged() -> None:
    stored = np.array([[4, 10], [10, 4]], np.uint8).repeat(3, 0).repeat(3, 1)
    found = read(stored, layout(6, 6, dtype="uint8"), grid(0, 0, 3, 3, 20.0), "uint8")
    assert set(found.values.ravel().tolist()) <= {4, 10}
    assert found.resampling == "the middle one of 2 × 2 pixels"


def test_coarser_pixels_are_given_as_often_as_they_are_wanted() -> None:
    stored = numbers(4, 5)
    found = read(stored, layout(5, 4, 20.0), grid(1, 3, 4, 3))
    assert found.resampling == "nearest, from pixels 2 times larger"
    np.testing.assert_array_equal(found.values, stored.repeat(2, 0).repeat(2, 1)[3:6, 1:5])


@given(st.integers(-6, 12), st.integers(-6, 12), st.sampled_from([(10.0, 10.0), (10.0, 20.0), (20.0, 10.0)]))
def test_ground_outside_is_refused_or_zero(column: int, row: int, sides: tuple[float, float]) -> None:
    stored_m, wanted_m = sides
    step = round(max(sides) / 10)
    stored = numbers(12, 14).repeat(round(max(1, wanted_m / stored_m)), 0).repeat(round(max(1, wanted_m / stored_m)), 1)
    of = layout(stored.shape[1], stored.shape[0], stored_m)
    where = grid(column * step, row * step, 6, 6, wanted_m)
    # The raster as pixels of the grid's size, with a rim of zeros.
    fine = stored.repeat(round(stored_m / 10), 0).repeat(round(stored_m / 10), 1)
    framed = np.pad(fine, 400)[400 + row * step : 400 + row * step + 6 * round(wanted_m / 10)]
    framed = framed[:: round(wanted_m / 10), 400 + column * step : 400 + column * step + 6 * round(wanted_m / 10)]
    expected = framed[:, :: round(wanted_m / 10)]
    if not expected.any():
        with pytest.raises(SkipError) as caught:
            read(stored, of, where, partly=True)
        assert caught.value.reason == "outside"
        return
    np.testing.assert_array_equal(read(stored, of, where, partly=True).values, expected)
    if (expected == 0).any():
        with pytest.raises(SkipError) as caught:
            read(stored, of, where)
        assert caught.value.reason == "outside"
    else:
        np.testing.assert_array_equal(read(stored, of, where).values, expected)


def test_pixels_of_an_odd_size_are_averaged_or_interpolated_by_area() -> None:
    plane = np.add.outer(np.arange(60) * 30, np.arange(60) * 50) + 1000
    for side_m, rule in ((15.0, "bilinear"), (7.0, "average")):
        found = read(plane.astype(np.uint16), layout(60, 60, side_m), grid(6, 6, 12, 12))
        assert found.resampling.startswith(rule)
        # Of a plane both rules give the value at the pixel's centre.
        centres = (np.arange(12) * 10 + 65) / side_m - 0.5
        expected = 1000 + np.add.outer(centres * 30, centres * 50)
        np.testing.assert_allclose(found.values, expected, atol=26)
        np.testing.assert_allclose(found.values.mean(), expected.mean(), atol=2)


def test_no_data_stays_out_of_averages_and_interpolations() -> None:
    stored = np.full((60, 60), 5000, np.uint16)
    stored[:, 30:] = 0
    for side_m in (15.0, 7.0):
        found = read(stored, layout(60, 60, side_m), grid(6, 6, 24, 12)).values
        assert set(np.unique(found)) <= {0, 5000}


def test_classes_of_odd_pixels_are_those_under_the_centres() -> None:
    stored = numbers(20, 12, "uint8")
    found = read(stored, layout(12, 20, 12.0, "uint8"), grid(1, 2, 6, 5), "uint8")
    rows = np.floor((20 + np.arange(5) * 10 + 5) / 12).astype(int)
    columns = np.floor((10 + np.arange(6) * 10 + 5) / 12).astype(int)
    np.testing.assert_array_equal(found.values, stored[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    ("change", "where", "reason"),
    [
        ({"crs": 32633}, grid(0, 0, 2, 2), "wrong-crs"),
        ({"crs": None}, grid(0, 0, 2, 2), "wrong-crs"),
        ({"crs": "LOCAL_CS"}, grid(0, 0, 2, 2), "wrong-crs"),
        ({"n_bands": 3}, grid(0, 0, 2, 2), "wrong-bands"),
        ({"dtype": np.dtype("float32")}, grid(0, 0, 2, 2), "wrong-dtype"),
        ({}, grid(0.37, 0, 2, 2), "off-grid"),
        ({}, grid(0, 0.5, 2, 2, 20.0), "off-grid"),
        ({}, grid(0, 0, 1, 1, 70.0), "wrong-resolution"),
        ({"transform": (10.0, 1.0, WEST, 0.0, -10.0, NORTH)}, grid(0, 0, 2, 2), "off-grid"),
        ({"transform": (10.0, 0.0, WEST, 0.0, 10.0, NORTH)}, grid(0, 0, 2, 2), "off-grid"),
        ({"block_shape": (2**14, 2**14)}, grid(0, 0, 2, 2), "too-large"),
    ],
)
def test_what_cannot_be_exact_or_resampled_is_refused(change: dict, where: Grid, reason: str) -> None:
    with pytest.raises(SkipError) as caught:
        source_of(Want("https://host/a.tif?sig=secret", where, "uint16"), layout(40, 40, **change))
    assert caught.value.reason == reason
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_raster_tells_its_grid_where_it_has_one() -> None:
    assert layout(4, 3).grid == Grid(32632, WEST, NORTH, 10.0, 4, 3)
    assert layout(4, 3, crs=4326).grid is None
    assert layout(4, 3, transform=(10.0, 0.0, WEST, 0.0, -20.0, NORTH)).grid is None
