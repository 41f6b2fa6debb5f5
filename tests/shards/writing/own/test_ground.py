"""Where one's own rasters lie: grids, pixel sides, centres, squares that share ground."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.grid import to_lonlat
from geossl_data.shards.writing.own.ground import Ground, as_on, ground_of, joined, own_pixel_m

UTM = Ground(crs="EPSG:32632", transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))
CENTRED = ground_of([UTM], [100])[0]


def at(x: float, y: float, *, crs: str = "EPSG:32632", pixel: float = 10.0) -> Ground:
    return Ground(crs=crs, transform=(pixel, 0.0, x, 0.0, -pixel, y))


def test_the_centre_is_that_of_the_square() -> None:
    lon, lat = to_lonlat(32632, 500_500.0, 4_999_500.0)
    assert CENTRED is not None
    assert (CENTRED.lon, CENTRED.lat) == (float(lon), float(lat))
    assert CENTRED.epsg == 32632


@pytest.mark.parametrize(
    "ground",
    [
        at(1e12, 1e12),
        at(0, 0, crs="EPSG:1"),
        at(0, 0, crs="nonsense"),
        at(0, 200, crs="EPSG:4326"),
        Ground(crs="", transform=()),
        None,
    ],
)
def test_what_has_no_place_on_the_earth_lies_nowhere(ground: Ground | None) -> None:
    assert ground_of([ground], [10]) == [None]


def test_a_rotated_grid_has_a_centre_but_no_corner_to_tell() -> None:
    (rotated,) = ground_of([Ground(crs="EPSG:32632", transform=(8.0, 6.0, 5e5, 6.0, -8.0, 5e6))], [10])
    assert rotated is not None
    assert rotated.lon is not None
    assert rotated.epsg is None


@given(columns=st.integers(0, 500), rows=st.integers(0, 500), factor=st.integers(1, 12))
def test_a_finer_grid_that_begins_further_has_its_corners_where_they_were(columns: int, rows: int, factor: int) -> None:
    finer = UTM.finer(factor).moved(columns * factor, rows * factor)
    assert finer.at(0, 0) == pytest.approx(UTM.at(columns, rows))
    assert finer.at(factor, factor) == pytest.approx(UTM.at(columns + 1, rows + 1))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (UTM, True),
        (None, True),
        (at(500_000.05, 5_000_000.0), True),
        (at(500_000.2, 5_000_000.0), False),
        (at(500_000.0, 5_000_000.0, pixel=10.0005), True),
        (at(500_000.0, 5_000_000.0, pixel=10.01), False),
        (at(500_000.0, 5_000_000.0, crs="EPSG:32633"), False),
    ],
)
def test_grids_are_one_where_all_corners_meet(other: Ground | None, expected: bool) -> None:
    assert as_on(other, UTM, (100, 100)) is expected


@pytest.mark.parametrize(
    ("grounds", "expected"),
    [
        ([], None),
        ([at(5e5, 5e6)], 10.0),
        ([at(5e5, 5e6), at(5e5, 5e6, pixel=10.02), at(5e5, 5e6, pixel=10.04)], 10.02),
        ([at(5e5, 5e6), at(5e5, 5e6, pixel=20.0)], None),
        ([at(5e5, 5e6), at(7.0, 46.0, crs="EPSG:4326", pixel=1e-4)], None),
        ([at(6e6, 2e6, crs="EPSG:2263", pixel=10.0)], None),  # feet
        ([Ground(crs="EPSG:32632", transform=(10.0, 0.0, 5e5, 0.0, -12.0, 5e6))], None),
        ([Ground(crs="", transform=(), lon=7.0, lat=46.0)], None),
    ],
)
def test_pixels_have_one_side_or_none_that_can_be_told(grounds: list[Ground], expected: float | None) -> None:
    located = [ground for ground in ground_of(grounds, [10] * len(grounds)) if ground is not None]
    assert own_pixel_m(located) == expected


def test_squares_that_share_ground_are_joined_also_across_zones() -> None:
    x, y = (float(value) for value in np.array([500_000.0, 5_000_000.0]))
    east = ground_of([at(x, y)], [100])[0]
    assert east is not None
    squares = [
        (at(x, y), 100),
        (at(x + 1000, y), 100),  # touches the first
        (at(x + 1900, y), 100),  # overlaps the second
        (None, 100),
        (at(x + 2800, y - 50), 100),  # overlaps the third
        (at(8.9995, 45.15, crs="EPSG:4326", pixel=1e-5), 100),  # inside the first
        (at(x + 50_000, y), 100),
        (Ground(crs="", transform=(), lon=9.0, lat=45.1), 100),
    ]
    assert joined(squares) == [[0, 5], [1, 2, 4]]


def test_nothing_is_joined_where_nothing_lies() -> None:
    assert joined([(None, 10)]) == []
    assert joined([]) == []
