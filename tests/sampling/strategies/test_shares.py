"""Ground that several squares lie on counts once, against areas cut with shapely."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling.strategies.pools import SIDE_M, joined, scattered, shuffled, squares, tile

from geossl_data.sampling.strategies import Ground, ground_shares


def inner(ground: Ground, west: float, south: float, east: float, north: float) -> np.ndarray:
    """Candidates wholly within some metres of their zone."""
    x, y, side = ground.x, ground.y, ground.side_m
    return (x >= west) & (x + side <= east) & (y <= north) & (y - side >= south)


@pytest.mark.parametrize("epsg", [32632, 32701])
def test_a_lone_lattice_has_its_ground_to_itself(epsg: int) -> None:
    np.testing.assert_array_equal(ground_shares(tile(30, 20, epsg=epsg, x=399_960.0, y=7_900_020.0)), 1.0)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.12, 0.83)])
def test_two_lattices_of_a_zone_halve_the_ground_wherever_they_lie(offset: tuple[float, float]) -> None:
    first = tile(12, 12)
    second = tile(12, 12, x=450_000.0 + (4 + offset[0]) * SIDE_M, y=5_000_000.0 - (3 + offset[1]) * SIDE_M)
    both = joined(first, second)
    shares = ground_shares(both)
    west, north = second.x.min(), second.y.max()
    east, south = first.x.max() + SIDE_M, first.y.min() - SIDE_M
    within = inner(both, west, south, east, north)
    apart = inner(both, 0, 0, west, 1e7) | inner(both, east, 0, 1e6, 1e7)
    assert within.sum() > 40
    assert apart.sum() > 40
    np.testing.assert_allclose(shares[within], 0.5, rtol=1e-12)
    np.testing.assert_array_equal(shares[apart], 1.0)


@pytest.mark.parametrize(("lon", "lat", "tolerance"), [(12.0, 45.0, 0.02), (180.0, -16.0, 0.01), (-66.0, 72.0, 0.03)])
def test_two_lattices_of_different_zones_halve_it_as_well(lon: float, lat: float, tolerance: float) -> None:
    corners = scattered(50, lon, lat, spread_m=1.0)
    zones = np.unique(corners.epsg)
    assert len(zones) == 2
    x, y = ([float(values[corners.epsg == zone][0]) for zone in zones] for values in (corners.x, corners.y))
    tiles = [tile(40, 40, epsg=int(zone), x=x[k] - 20.3 * SIDE_M, y=y[k] + 20 * SIDE_M) for k, zone in enumerate(zones)]
    both = joined(*tiles)
    middle = np.hypot(both.x - np.repeat(x, 1600), both.y - np.repeat(y, 1600)) < 15 * SIDE_M
    shares = ground_shares(both)[middle]
    assert len(shares) > 1000
    np.testing.assert_allclose(shares, 0.5, atol=tolerance)
    assert shares.mean() == pytest.approx(0.5, abs=0.002)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([3_000.0, 20_000.0]))
def test_shares_agree_with_areas_cut_by_shapely(seed: int, spread_m: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = 500_000.0 + rng.uniform(0, spread_m, 60), 5e6 + rng.uniform(0, spread_m, 60)
    ground = squares(rng.choice([32632, 32712], 60), x, y, side_m=960.0)
    boxes = shapely.box(x, y - 960.0, x + 960.0, y)
    shared = shapely.area(shapely.intersection(boxes[:, None], boxes[None])) / 960.0**2
    shared[ground.epsg[:, None] != ground.epsg[None]] = 0.0
    np.testing.assert_allclose(ground_shares(ground), 1 / shared.sum(axis=1), rtol=1e-6)


def test_squares_at_random_across_zones_agree_with_areas() -> None:
    ground = scattered(250, 12.0, 45.0, spread_m=12_000)
    from geossl_data.grid import square_lonlat

    outlines = [
        square_lonlat(int(epsg), x, y, 960.0) for epsg, x, y in zip(ground.epsg, ground.x, ground.y, strict=True)
    ]
    area = shapely.area(shapely.intersection(np.array(outlines)[:, None], np.array(outlines)[None]))
    np.testing.assert_allclose(ground_shares(ground), np.diag(area) / area.sum(axis=1), rtol=0.05)


def test_shares_belong_to_squares_and_not_to_their_order() -> None:
    ground = scattered(300, 12.0, 45.0)
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(ground_shares(shuffled(ground, order)), ground_shares(ground)[order], rtol=1e-12)


def test_known_shares_are_not_worked_out_again() -> None:
    ground = tile(3, 1, share=np.array([0.2, 0.3, 0.4]))
    np.testing.assert_array_equal(ground_shares(ground), [0.2, 0.3, 0.4])
