"""Distances on the sphere, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.grid import haversine_km, unit_vectors
from geossl_data.sampling.spread import Crowd, chord, clear_of, first_come, neighbours, pairs


def points(n: int, seed: int, lon: float, lat: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Points around a place, in degrees; also over the pole and across the antimeridian."""
    rng = np.random.default_rng(seed)
    lats = np.clip(lat + rng.uniform(-spread, spread, n), -90, 90)
    return (lon + rng.uniform(-spread, spread, n) + 180) % 360 - 180, lats


CENTRES = st.sampled_from([(10.0, 50.0), (179.999, -17.0), (0.0, 89.99), (-120.0, -89.99), (0.0, 0.0)])


@pytest.mark.parametrize("km", [0.1, 3.0, 500.0, 20_015.0])
def test_a_chord_is_as_long_as_its_arc_says(km: float) -> None:
    ends = unit_vectors([0.0, 0.0], [-90.0, -90.0 + np.degrees(km / 6371.0088)])
    assert chord(km) == pytest.approx(np.linalg.norm(ends[0] - ends[1]), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), CENTRES, st.sampled_from([0.3, 5.0, 60.0]), st.sampled_from([0.05, 1.0, 40.0]))
def test_neighbours_are_those_of_brute_force(seed: int, centre: tuple[float, float], km: float, spread: float) -> None:
    a, b = (points(60, seed + n, *centre, spread) for n in (0, 1))
    apart = haversine_km(a[0][:, None], a[1][:, None], b[0][None], b[1][None])
    i, j = neighbours(unit_vectors(*a), unit_vectors(*b), chord(km))
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [
        tuple(pair) for pair in np.argwhere(apart < km).tolist()
    ]
    np.testing.assert_array_equal(clear_of(unit_vectors(*a), unit_vectors(*b), chord(km)), ~(apart < km).any(axis=1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), CENTRES, st.sampled_from([0.5, 3.0, 30.0]), st.sampled_from([0.05, 0.5]))
def test_the_first_stay_as_when_taken_one_by_one(
    seed: int, centre: tuple[float, float], km: float, spread: float
) -> None:
    lon, lat = points(120, seed, *centre, spread)
    stayed: list[int] = []
    for index in range(len(lon)):
        if all(haversine_km(lon[index], lat[index], lon[other], lat[other]) >= km for other in stayed):
            stayed.append(index)
    np.testing.assert_array_equal(np.flatnonzero(first_come(unit_vectors(lon, lat), chord(km))), stayed)


def test_nothing_is_clear_of_nothing() -> None:
    none = np.zeros((0, 3))
    assert clear_of(none, none, 0.1).tolist() == []
    assert clear_of(unit_vectors([0.0], [0.0]), none, 0.1).tolist() == [True]
    assert first_come(none, 0.1).tolist() == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), CENTRES, st.sampled_from([0.3, 5.0, 60.0]), st.sampled_from([0.05, 1.0, 40.0]))
def test_pairs_are_those_of_brute_force_each_once(
    seed: int, centre: tuple[float, float], km: float, spread: float
) -> None:
    lon, lat = points(90, seed, *centre, spread)
    apart = haversine_km(lon[:, None], lat[:, None], lon[None], lat[None])
    i, j = pairs(unit_vectors(lon, lat), chord(km))
    expected = [tuple(pair) for pair in np.argwhere(np.triu(apart < km, 1)).tolist()]
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == expected


@pytest.mark.parametrize("centre", [(179.9, 65.0), (20.0, 80.0), (0.0, 0.0), (15.0, -89.9)])
def test_five_thousand_dense_points_keep_their_distance(centre: tuple[float, float]) -> None:
    """Across the antimeridian, at 80° north, over the equator and round a pole: none nearer, and no room left over."""
    lon, lat = points(5000, 1, *centre, 1.5)
    stays = first_come(unit_vectors(lon, lat), chord(5.0))
    apart = haversine_km(lon[:, None], lat[:, None], lon[None, stays], lat[None, stays])
    assert 30 < stays.sum() < 4500
    assert np.partition(apart[stays], 1, axis=1)[:, 1].min() >= 5.0
    assert apart[~stays].min(axis=1).max() < 5.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), CENTRES, st.lists(st.integers(0, 30), max_size=12))
def test_a_crowd_that_grew_is_the_crowd(seed: int, centre: tuple[float, float], steps: list[int]) -> None:
    vectors = unit_vectors(*points(sum(steps), seed, *centre, 0.3))
    asked = unit_vectors(*points(80, seed + 1, *centre, 0.3))
    crowd = Crowd(chord(3.0))
    ends = np.cumsum(steps).astype(int)
    for first, last in zip([0, *ends[:-1]], ends, strict=True) if steps else ():
        crowd.add(vectors[first:last])
        np.testing.assert_array_equal(crowd.has_room(asked), clear_of(asked, vectors[:last], chord(3.0)))
    assert len(crowd._runs) <= 8
    assert crowd.has_room(asked[:0]).tolist() == []
