"""Grid against values worked out by hand and against pyproj's geodesics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from geossl_data.grid import (
    Grid,
    cell,
    cell_centre,
    cell_name,
    cell_names,
    cells,
    common_bounds,
    haversine_km,
    named_cell,
    square_lonlat,
    unit_vectors,
    utm_epsg,
    utm_epsgs,
)

CITIES = [(13.40, 52.52), (2.35, 48.85), (-3.70, 40.42), (12.50, 41.90), (18.07, 59.33), (-9.14, 38.72)]
LONLAT = st.tuples(st.floats(-180, 179.999), st.floats(-89.9, 89.9))


def test_distances_from_berlin() -> None:
    lon, lat = np.array(CITIES).T
    expected = [0, 877.67774, 1868.407816, 1182.821721, 810.722703, 2312.073474]
    np.testing.assert_allclose(haversine_km(lon[0], lat[0], lon, lat), expected, atol=1e-5)


@given(LONLAT, LONLAT)
def test_distance_is_the_angle_between_unit_vectors(a: tuple[float, float], b: tuple[float, float]) -> None:
    u, v = unit_vectors(*a), unit_vectors(*b)
    angle = math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v))
    assert float(haversine_km(*a, *b)) == pytest.approx(6371.0088 * angle, abs=1e-3)


@given(LONLAT, LONLAT)
def test_distance_is_near_the_geodesic(a: tuple[float, float], b: tuple[float, float]) -> None:
    geodesic = Geod(ellps="WGS84").inv(*a, *b)[2] / 1000
    assert float(haversine_km(*a, *b)) == pytest.approx(geodesic, rel=0.006, abs=0.01)


def test_lon_and_lat_are_not_interchangeable() -> None:
    assert float(haversine_km(120, 10, 121, 10)) == pytest.approx(109.5, abs=0.1)
    assert float(haversine_km(10, 60, 11, 60)) == pytest.approx(55.6, abs=0.1)


@given(LONLAT, st.sampled_from([5.0, 10.0, 50.0]))
def test_cells_are_never_wider_or_higher_than_their_spacing(point: tuple[float, float], spacing: float) -> None:
    lon, lat = point
    row, _ = cell(lon, lat, spacing)
    row_degrees = math.degrees(spacing / 6371.0088)
    assert row * row_degrees <= lat < (row + 1) * row_degrees
    east = (lon + 181.0) % 360.0 - 180.0
    apart = float(haversine_km(lon, lat, east, lat))
    if apart > 1.6 * spacing:
        assert cell(lon, lat, spacing) != cell(east, lat, spacing)


@given(st.floats(-180, 179.999), st.floats(-89.9, 89.9), st.sampled_from([1.0, 10.0, 50.0, 700.0]))
def test_the_centre_of_a_cell_lies_in_it(lon: float, lat: float, spacing_km: float) -> None:
    name = cell_name(lon, lat, spacing_km)
    assert cell_name(*cell_centre(name, spacing_km), spacing_km) == name


def test_cell_names_by_hand() -> None:
    assert cell_name(0.01, 0.01, 10) == "0000U_0000R"
    assert cell_name(-0.01, -0.01, 10) == "0001D_0001L"
    assert cell_name(180.0, 0.01, 10) == cell_name(-180.0, 0.01, 10) == "0000U_2002L"


@pytest.mark.parametrize(
    ("lon", "lat", "expected"),
    [(4, 60, 32632), (8, 78, 32631), (10, 78, 32633), (20, -10, 32734), (179.9, -17, 32760), (-180, 65, 32601)],
)
def test_utm_zones_with_their_exceptions(lon: float, lat: float, expected: int) -> None:
    assert utm_epsg(lon, lat) == expected


@given(st.lists(LONLAT, min_size=1, max_size=40), st.sampled_from([0.7, 5.0, 10.0, 1000.0, 30_000.0]))
def test_many_points_have_the_cells_and_zones_of_each(points: list[tuple[float, float]], spacing: float) -> None:
    lon, lat = np.array([*points, (-180.0, -90.0), (179.999, 90.0), (0.0, -0.0), (8.999, 72.0), (9.0, 72.0)]).T
    rows, columns = cells(lon, lat, spacing)
    for x, y, row, column, name, epsg in zip(
        lon, lat, rows, columns, cell_names(rows, columns), utm_epsgs(lon, lat), strict=True
    ):
        assert (row, column) == cell(x, y, spacing)
        assert name == named_cell(row, column) == cell_name(x, y, spacing)
        assert epsg == utm_epsg(x, y)


def test_a_square_at_the_antimeridian_stays_together() -> None:
    square = square_lonlat(32760, 818_000.0, 8_100_000.0, 6000.0)
    west, _, east, _ = square.bounds
    assert east - west < 0.1
    assert square.area == pytest.approx(0.0029, rel=0.1)


def test_common_bounds_of_grids() -> None:
    grids = [Grid(32632, 100.0, 1000.0, 10, 10, 20), Grid(32632, 80.0, 1040.0, 60, 2, 3)]
    assert common_bounds(grids) == (100.0, 860.0, 200.0, 1000.0)
