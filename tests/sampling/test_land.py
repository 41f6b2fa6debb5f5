"""Land: as much as there is, where it is, and points spread evenly over it."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, box

from geossl_data.grid import EARTH_RADIUS_KM
from geossl_data.sampling.land import LandMap, LandPoints, area_km2, is_land, land_pieces, land_polygons
from geossl_data.sampling.strata import stratum

SPHERE_KM2 = 4 * np.pi * EARTH_RADIUS_KM**2


def area_of(shape: object) -> float:
    return float(area_km2(np.array([shape], dtype=object))[0])


def land_within(west: float, south: float, east: float, north: float) -> float:
    """Land in a box, km², straight from the polygons."""
    return area_of(shapely.intersection(shapely.multipolygons(land_polygons()), box(west, south, east, north)))


def test_areas_on_the_sphere_by_hand() -> None:
    assert area_of(box(0, 0, 90, 90)) == pytest.approx(SPHERE_KM2 / 8)
    assert area_of(box(-20, 30, 340, 90)) == pytest.approx(SPHERE_KM2 / 4)
    assert area_of(Polygon(box(0, 0, 90, 90).exterior, [box(10, 0.5, 20, 30).exterior])) == pytest.approx(
        SPHERE_KM2 * (1 / 8 - 10 / 360 * (0.5 - np.sin(np.radians(0.5))) / 2)
    )
    several = np.array([box(0, 0, 1, 1), shapely.MultiPolygon([box(0, 0, 1, 1), box(5, -1, 6, 0)]), Polygon()])
    assert area_km2(several) == pytest.approx([12_364.0, 2 * 12_364.0, 0.0], rel=1e-4)


def test_the_area_under_a_sloping_edge_is_that_of_many_thin_strips() -> None:
    triangle = Polygon([(0, 10), (40, 70), (40, 10)])
    lons = (np.arange(40_000) + 0.5) / 1000
    tops = 10 + 60 * lons / 40
    strips = np.radians(0.001) * (np.sin(np.radians(tops)) - np.sin(np.radians(10.0)))
    assert area_of(triangle) == pytest.approx(strips.sum() * EARTH_RADIUS_KM**2, rel=1e-6)


def test_there_is_as_much_land_as_geographers_count() -> None:
    """149 million km² of land include 1.56 of Antarctic ice shelves and 0.37 of the Caspian Sea, which are not land."""
    polygons = land_polygons()
    assert shapely.is_valid(polygons).all()
    total = area_km2(polygons).sum() / 1e6
    assert total == pytest.approx(149.0 - 1.56 - 0.37, rel=0.01)
    antarctica = area_km2(polygons[shapely.bounds(polygons)[:, 3] < -60]).sum() / 1e6
    assert antarctica == pytest.approx(14.0 - 1.56, rel=0.03)
    assert total - antarctica == pytest.approx(134.9 - 0.37, rel=0.01)


@pytest.mark.parametrize(
    ("lon", "lat", "is_land"),
    [
        (13.4, 52.5, True),  # Berlin
        (51.0, 42.0, False),  # the Caspian Sea
        (-30.0, 30.0, False),  # the Atlantic
        (179.95, 68.0, True),  # Chukotka, on both sides of the antimeridian
        (-179.9, 68.0, True),
        (178.0, -17.8, True),  # Fiji
        (0.0, -89.9, True),  # the south pole
        (-179.99, -85.5, True),
        (0.0, 89.9, False),  # the north pole
    ],
)
def test_known_points(lon: float, lat: float, is_land: bool) -> None:
    assert shapely.contains_xy(land_polygons(), lon, lat).any() == is_land


def test_pieces_hold_the_land_of_their_stratum_and_no_more() -> None:
    pieces = land_pieces()
    assert pieces.km2.sum() == pytest.approx(land_within(-180, -56, 180, 83), rel=1e-9)
    for name, box_ in {
        "N30W090": (-90, 30, -60, 45),
        "N00E000": (0, 0, 30, 15),
        "S45W090": (-90, -56, -60, -45),
    }.items():
        assert pieces.km2[pieces.stratum == name].sum() == pytest.approx(land_within(*box_), rel=1e-9)
    boxes = shapely.box(pieces.west, pieces.south, pieces.east, pieces.north)
    shapes = [box_ if shape is None else shape for box_, shape in zip(boxes, pieces.shapes, strict=True)]
    assert area_of(shapely.union_all(shapes)) == pytest.approx(pieces.km2.sum(), rel=1e-9)
    assert pieces.south.min() >= -56
    assert pieces.north.max() <= 83


def degrees(low: float, high: float) -> st.SearchStrategy[float]:
    """Degrees to a hundredth of a metre: the polygon library itself errs on numbers such as 1e-309."""
    return st.floats(low, high).map(lambda value: round(value, 7))


@settings(max_examples=10, deadline=None)
@given(degrees(-180, 170), degrees(-55, 70), degrees(1, 30), degrees(1, 12), st.sampled_from([-360, 0, 360]))
def test_pieces_of_an_area_hold_its_land_whichever_turn_it_is_given_in(
    west: float, south: float, width: float, height: float, turn: int
) -> None:
    area = box(west + turn, south, west + width + turn, south + height)
    expected = land_within(west, south, min(west + width, 180), south + height)
    if west + width > 180:
        expected += land_within(-180, south, west + width - 360, south + height)
    assert land_pieces(area).km2.sum() == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_an_area_a_turn_away_that_crosses_the_antimeridian_keeps_both_sides() -> None:
    here = land_pieces(box(151, 54, 181, 66)).km2.sum()
    assert here == pytest.approx(land_within(151, 54, 180, 66) + land_within(-180, 54, -179, 66))
    for turn in (-720, -360, 360):
        assert land_pieces(box(151 + turn, 54, 181 + turn, 66)).km2.sum() == pytest.approx(here)


def test_an_area_at_sea_has_no_pieces() -> None:
    assert len(land_pieces(box(-35, 25, -30, 30))) == 0
    assert len(land_pieces(box(-180, -90, 180, -70))) == 0


def test_the_same_points_come_however_many_are_asked_for() -> None:
    points = LandPoints(land_pieces(), (7, 1))
    lon, lat, piece, on_land = points.take(0, 1000)
    for first, n in ((0, 1), (17, 5), (400, 600)):
        for whole, part in zip((lon, lat, piece, on_land), points.take(first, n), strict=True):
            np.testing.assert_array_equal(part, whole[first : first + n])
    assert not np.array_equal(lon, LandPoints(land_pieces(), (8, 1)).take(0, 1000)[0])


def test_points_on_land_are_on_land_and_in_their_stratum() -> None:
    pieces = land_pieces()
    lon, lat, piece, on_land = LandPoints(pieces, (0,)).take(0, 2000)
    land = shapely.multipolygons(land_polygons())
    shapely.prepare(land)
    assert shapely.contains_xy(land, lon, lat)[on_land].all()
    assert 0.85 < on_land.mean() < 1
    assert [stratum(x, y) for x, y in zip(lon, lat, strict=True)] == list(pieces.stratum[piece])


def test_1_93_100_000_points_fill_boxes_of_equal_area_by_their_land() -> None:
    """Chi-square over 20 strips of equal area by 12 sectors; at the given seed, so the test is not a matter of luck."""
    lon, lat, _, on_land = LandPoints(land_pieces(), (1,)).take(0, 125_000)
    lon, lat = lon[on_land][:100_000], lat[on_land][:100_000]
    edges = np.degrees(np.arcsin(np.linspace(np.sin(np.radians(-56)), np.sin(np.radians(83)), 21)))
    sectors = np.linspace(-180, 180, 13)
    counts, _, _ = np.histogram2d(lat, lon, bins=[edges, sectors])
    land = shapely.multipolygons(land_polygons())
    grid = np.array(
        [[box(sectors[j], edges[i], sectors[j + 1], edges[i + 1]) for j in range(12)] for i in range(20)], dtype=object
    )
    km2 = area_km2(shapely.intersection(land, grid.ravel())).reshape(20, 12)
    expected = len(lon) * km2 / km2.sum()
    used = expected >= 10
    chi_square = ((counts - expected)[used] ** 2 / expected[used]).sum()
    degrees = used.sum() - 1
    assert degrees > 100
    assert abs(chi_square - degrees) < 3.5 * np.sqrt(2 * degrees)
    assert counts[km2 == 0].sum() == 0


def test_a_map_of_pieces_knows_the_land_in_them() -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    seen = (lat > -56) & (lat < 83)
    np.testing.assert_array_equal(LandMap(land_pieces()).holds(lon, lat), is_land(lon, lat) & seen)
    alps = LandMap(land_pieces(box(6, 45, 14, 48)))
    assert alps.holds(np.array([10.0, 10.0, 5.9]), np.array([46.0, 48.1, 46.0])).tolist() == [True, False, False]


def test_even_points_estimate_areas_better_than_random_ones() -> None:
    """Land north of 30° N and east of 20° E, from 20,000 points: within 0.2 %, where chance gives 0.7 %."""
    pieces = land_pieces()
    lon, lat, piece, on_land = LandPoints(pieces, (3,)).even(20_000)
    assert len(lon) == len(lat) == len(piece) == 20_000
    inside = ((lon > 20) & (lat > 30))[on_land].mean()
    exact = land_pieces(box(20, 30, 180, 83)).km2.sum() / pieces.km2.sum()
    assert inside == pytest.approx(exact, rel=0.002)
