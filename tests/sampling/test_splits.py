"""Splits: by block, for ever, with a buffer that holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.grid import cells, haversine_km, named_cell
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import stratum


def test_blocks_take_their_shares() -> None:
    rule = SplitRule(block_km=10, val=0.1, test=0.2, seed=1)
    names = [rule.split(f"{row:04d}U_{column:04d}R") for row in range(100) for column in range(100)]
    assert names.count("test") == pytest.approx(2000, abs=150)
    assert names.count("val") == pytest.approx(1000, abs=120)


def test_a_known_block_keeps_its_split() -> None:
    rule = SplitRule(block_km=10, val=0.1, test=0.2, seed=0)
    assert rule.block(13.4, 52.52) == "0583U_0091R"
    assert rule.split("0583U_0091R") == "val"  # sha256("0/0583U_0091R") as a fraction is 0.2122


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 62.0, -78.0]), st.sampled_from([12.0, 179.99]))
def test_no_two_splits_come_nearer_than_the_buffer(seed: int, lat: float, lon: float) -> None:
    rule = SplitRule(block_km=4.0, val=0.3, test=0.3, seed=seed)
    rng = np.random.default_rng(seed)
    lats = lat + rng.uniform(-0.1, 0.1, 250)
    lons = (lon + rng.uniform(-0.1, 0.1, 250) / np.cos(np.radians(lat)) + 180) % 360 - 180
    near = rule.near_other_splits(lons, lats, 1.0)
    assert near.any()
    kept = [(x, y, rule.split(rule.block(x, y))) for x, y in zip(lons[~near], lats[~near], strict=True)]
    for x, y, name in kept:
        for other_x, other_y, other in kept:
            if name != other:
                assert haversine_km(x, y, other_x, other_y) >= 1.0


def test_the_buffer_leaves_the_middle_of_a_block_alone() -> None:
    rule = SplitRule(block_km=10.0, val=0.3, test=0.3, seed=0)
    rng = np.random.default_rng(0)
    near = rule.near_other_splits(rng.uniform(10, 11, 300), rng.uniform(10, 11, 300), 0.5)
    assert 0.02 < np.mean(near) < 0.3


@pytest.mark.parametrize("lat", [-90.0, -89.99, -56.0, 0.0, 62.3, 89.95, 90.0])
def test_a_point_within_its_own_block_asks_for_its_own_split(lat: float) -> None:
    rule = SplitRule(block_km=50.0, val=0.3, test=0.3, seed=3)
    lons = np.array([-180.0, -179.999, -0.0001, 0.0, 12.3, 179.999])
    for lon in lons:
        row, column = cells(np.array([lon]), np.array([lat]), rule.block_km)
        assert named_cell(int(row[0]), int(column[0])) == rule.block(float(lon), lat)
    assert not SplitRule(block_km=50.0, val=0.0, test=0.0).near_other_splits(lons, np.full(6, lat), 100.0).any()


def test_a_buffer_wider_than_the_blocks_leaves_only_lone_ground() -> None:
    rule = SplitRule(block_km=1.0, val=0.3, test=0.3, seed=0)
    assert rule.near_other_splits(np.array([10.0, 179.999]), np.array([50.0, -80.0]), 20.0).all()


def test_a_box_holds_the_blocks_that_are_tested_and_no_others() -> None:
    rule = SplitRule(block_km=50.0, val=0.2, test=0.5, seed=2, test_bbox=(110.0, -45.0, 180.0, -10.0))
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    found = rule.splits([rule.block(*point) for point in zip(lon, lat, strict=True)])
    inside = (lon > 111) & (lat > -44) & (lat < -11)
    outside = (lon < 109) | (lat < -46) | (lat > -9)
    assert set(found[inside]) == {"test"}
    assert set(found[outside]) == {"train", "val"}
    assert np.mean(found[outside] == "val") == pytest.approx(0.2, abs=0.03)


def test_a_box_across_the_antimeridian() -> None:
    rule = SplitRule(block_km=50.0, test_bbox=(170.0, -30.0, -170.0, 0.0))
    found = [rule.split(rule.block(lon, -15.0)) for lon in (179.0, -179.0, 171.0, -171.0, 168.0, -168.0, 0.0)]
    assert [split == "test" for split in found] == [True] * 4 + [False] * 3


def test_ground_near_the_box_is_near_another_split() -> None:
    rule = SplitRule(block_km=50.0, val=0.0, test_bbox=(0.0, 0.0, 20.0, 20.0))
    lon = np.array([-5.0, -0.6, 0.6, 10.0])
    assert rule.near_other_splits(lon, np.full(4, 10.0), 80.0).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("lon", "lat", "expected"),
    [
        (13.4, 52.5, "N45E000"),
        (-60.0, -3.1, "S00W060"),
        (-0.1, 51.5, "N45W030"),
        (179.9, -17.0, "S15E150"),
        (-180.0, 65.0, "N60W180"),
        (180.0, 65.0, "N60W180"),
        (30.0, 90.0, "N75E030"),
    ],
)
def test_strata_by_hand(lon: float, lat: float, expected: str) -> None:
    assert stratum(lon, lat) == expected
