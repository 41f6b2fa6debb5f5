"""What has room, against comparing every candidate with every other on the ellipsoid and in shapely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sampling.strategies.pools import scattered, squares, tile

from geossl_data.grid import from_lonlat, haversine_km, to_lonlat
from geossl_data.sampling.strategies import Ground, Spacing

WHERE = {
    "zone border": (12.0, 45.0),
    "antimeridian": (180.0, -17.0),
    "equator": (6.0, 0.0),
    "far north": (30.0, 82.5),
    "southern": (-66.0, -54.0),
}


def overlaps(ground: Ground, one: int, other: int) -> bool:
    """Whether two squares share ground, by their corners and edges in the zone of the first (shapely)."""
    from shapely import Polygon, box

    side = ground.side_m
    first = box(ground.x[one], ground.y[one] - side, ground.x[one] + side, ground.y[one])
    xs = ground.x[other] + np.array([0, side, side, 0])
    ys = ground.y[other] - np.array([0, 0, side, side])
    lon, lat = to_lonlat(int(ground.epsg[other]), xs, ys)
    x, y = from_lonlat(int(ground.epsg[one]), lon, lat)
    return bool(first.intersection(Polygon(np.column_stack([x, y]))).area > 1.0)


def one_by_one(ground: Ground, order: NDArray[np.int64], n: int) -> list[int]:
    """Candidates taken in order, each compared with all that were taken before it."""
    taken: list[int] = []
    for index in order.tolist():
        before = np.array(taken, dtype=np.int64)
        apart = haversine_km(ground.lon[index], ground.lat[index], ground.lon[before], ground.lat[before])
        in_zone = ground.epsg[before] == ground.epsg[index]
        dx, dy = np.abs(ground.x[before] - ground.x[index]), np.abs(ground.y[before] - ground.y[index])
        overlap = np.where(
            in_zone, np.maximum(dx, dy) < ground.side_m - 1e-3, apart < np.sqrt(2) * ground.side_m / 1000 * 1.006
        )
        if len(taken) < n and not (overlap | (apart < ground.min_distance_km)).any():
            taken.append(index)
    return taken


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 2.5, 6.0]), st.sampled_from(sorted(WHERE)))
def test_no_two_places_overlap_or_come_too_close(seed: int, min_distance_km: float, where: str) -> None:
    ground = scattered(120, *WHERE[where], seed=seed, min_distance_km=min_distance_km)
    taken = Spacing(ground).first(np.arange(len(ground)), 50)
    for position, one in enumerate(taken.tolist()):
        for other in taken[position + 1 :].tolist():
            assert not overlaps(ground, one, other)
            apart = haversine_km(ground.lon[one], ground.lat[one], ground.lon[other], ground.lat[other])
            assert apart >= min_distance_km * (1 - 1e-6)


@settings(max_examples=12)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 1.5, 4.0, 40.0]),
    st.sampled_from(sorted(WHERE)),
    st.sampled_from([8_000.0, 60_000.0]),
)
def test_the_first_are_those_taken_one_by_one(seed: int, min_distance_km: float, where: str, spread_m: float) -> None:
    ground = scattered(500, *WHERE[where], seed=seed, spread_m=spread_m, min_distance_km=min_distance_km)
    order = np.random.default_rng(seed).permutation(len(ground))
    for n in (30, 500):
        expected = one_by_one(ground, order, n)
        assert Spacing(ground).first(order, n).tolist() == expected
        spacing = Spacing(ground)
        assert [index for index in order.tolist() if len(spacing.taken) < n and spacing.take(index)] == expected


@pytest.mark.parametrize("where", sorted(WHERE))
def test_what_has_room_and_what_is_excluded_agree_with_taking(where: str) -> None:
    ground = scattered(400, *WHERE[where], spread_m=20_000, min_distance_km=1.7)
    everything = np.arange(len(ground))
    spacing = Spacing(ground)
    excluded = spacing.excluder(everything)
    room = np.ones(len(ground), dtype=bool)
    for index in range(40):
        if spacing.take(index):
            assert index in excluded(index)
            room[excluded(index)] = False
        np.testing.assert_array_equal(spacing.has_room(everything), room)


def test_a_full_ground_is_not_asked_candidate_by_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = tile(150, 150, side_m=120.0, min_distance_km=5.0)
    asked = []
    monkeypatch.setattr(
        Spacing, "take", lambda self, index, take=Spacing.take: bool(asked.append(index)) or take(self, index)
    )
    order = np.random.default_rng(0).permutation(len(ground))
    taken = Spacing(ground).first(order, len(ground))
    assert 10 < len(taken) < 30
    assert len(asked) < 1500


def test_spacing_sees_neighbours_across_the_antimeridian() -> None:
    near = Ground(
        lon=np.array([179.999, -179.999, 170.0]),
        lat=np.zeros(3),
        epsg=np.array([32660, 32601, 32659]),
        x=np.array([833_000.0, 166_000.0, 500_000.0]),
        y=np.zeros(3),
        side_m=60.0,
        stratum=["s"] * 3,
        min_distance_km=1.0,
    )
    spacing = Spacing(near)
    assert [spacing.take(index) for index in range(3)] == [True, False, True]
    np.testing.assert_array_equal(spacing.taken, [0, 2])


def test_touching_squares_of_one_zone_do_not_clash() -> None:
    spacing = Spacing(squares(32632, [500_000.0, 500_960.0, 500_900.0], [5e6] * 3, side_m=960.0))
    assert [spacing.take(index) for index in range(3)] == [True, True, False]


def test_a_distance_as_wide_as_the_earth_leaves_one_place() -> None:
    ground = scattered(50, 12.0, 45.0, min_distance_km=20_020.0)
    assert len(Spacing(ground).first(np.arange(50), 50)) == 1
