"""Nearest neighbours and the distance between splits, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.grid import haversine_km, unit_vectors
from geossl_data.sampling import nearest
from geossl_data.sampling.nearest import Tree, nearest_neighbour_km
from geossl_data.sampling.split_distance import split_distance_km

CENTRES = st.sampled_from([(10.0, 50.0), (179.999, -17.0), (0.0, 89.99), (-120.0, -89.99), (0.0, 0.0)])
SPREADS = st.sampled_from([0.0, 0.001, 0.5, 40.0])


def points(n: int, seed: int, lon: float, lat: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Points around a place, in degrees, some of them twice; also over the pole and across the antimeridian."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, n, n)
    lats = np.clip(lat + rng.uniform(-spread, spread, n), -90, 90)[rows]
    return ((lon + rng.uniform(-spread, spread, n) + 180) % 360 - 180)[rows], lats


def all_km(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return haversine_km(a[0][:, None], a[1][:, None], b[0][None], b[1][None])


@settings(max_examples=40)
@given(st.integers(2, 150), st.integers(0, 1000), CENTRES, SPREADS)
def test_the_nearest_neighbour_is_that_of_brute_force(
    n: int, seed: int, centre: tuple[float, float], spread: float
) -> None:
    place = points(n, seed, *centre, spread)
    apart = all_km(place, place)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(nearest_neighbour_km(*place), apart.min(axis=1), rtol=1e-7, atol=1e-6)


@settings(max_examples=40)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(0, 1000), CENTRES, CENTRES, SPREADS)
def test_splits_are_as_far_apart_as_brute_force_says(
    n: int, m: int, seed: int, centre: tuple[float, float], other: tuple[float, float], spread: float
) -> None:
    a, b = points(n, seed, *centre, spread), points(m, seed + 1, *other, spread)
    lon, lat = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
    found = split_distance_km(lon, lat, ["train"] * n + ["test"] * m)
    assert found == {("train", "test"): pytest.approx(float(all_km(a, b).min()), rel=1e-7, abs=1e-6)}


def test_every_two_splits_are_compared_in_their_order() -> None:
    degree = 6371.0088 * np.pi / 180
    found = split_distance_km([0.0, 2.0, 3.0, 9.0], [0.0] * 4, ["test", "train", "val", "train"])
    assert found == {
        ("train", "val"): pytest.approx(degree),
        ("train", "test"): pytest.approx(2 * degree),
        ("val", "test"): pytest.approx(3 * degree),
    }
    assert list(found) == [("train", "val"), ("train", "test"), ("val", "test")]


def test_splits_with_names_of_their_own_come_last() -> None:
    assert list(split_distance_km([0.0, 1.0, 2.0], [0.0] * 3, ["a", "val", "b"])) == [
        ("val", "a"),
        ("val", "b"),
        ("a", "b"),
    ]


def test_one_split_or_no_place_has_no_distance() -> None:
    assert split_distance_km([0.0, 1.0], [0.0, 0.0], ["train", "train"]) == {}
    assert split_distance_km([], [], []) == {}


def test_a_lone_place_has_no_neighbour_and_two_at_one_spot_have_one_at_once() -> None:
    assert nearest_neighbour_km([5.0], [5.0]).tolist() == [np.inf]
    assert nearest_neighbour_km([], []).tolist() == []
    assert nearest_neighbour_km([5.0, 5.0], [5.0, 5.0]).tolist() == [0.0, 0.0]


def test_the_antimeridian_and_the_pole_are_no_border() -> None:
    assert nearest_neighbour_km([179.99, -179.99], [0.0, 0.0])[0] == pytest.approx(0.02 * 111.195, rel=1e-4)
    assert nearest_neighbour_km([0.0, 180.0], [89.99, 89.99])[0] == pytest.approx(0.02 * 111.195, rel=1e-4)


def test_queries_in_parts_answer_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = points(500, 1, 10.0, 50.0, 5.0), points(300, 2, 10.0, 50.0, 5.0)
    whole, least = Tree(unit_vectors(*a)).nearest(unit_vectors(*b)), Tree(unit_vectors(*a)).least(unit_vectors(*b))
    monkeypatch.setattr(nearest, "_QUERIES", 7)
    np.testing.assert_array_equal(Tree(unit_vectors(*a)).nearest(unit_vectors(*b)), whole)
    assert Tree(unit_vectors(*a)).least(unit_vectors(*b)) == least == whole.min()


@pytest.mark.parametrize("kind", ["even", "two far clusters", "one spot", "a ring around a cluster"])
def test_few_leaves_are_opened_whatever_the_points(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Brute force compares four hundred million pairs here; the tree must stay far below."""
    n, rng = 40_000, np.random.default_rng(3)
    is_test = np.arange(n) % 2 == 1
    lon, lat = rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    if kind == "two far clusters":
        lon, lat = np.where(is_test, -100.0, 10.0) + rng.normal(0, 2, n), rng.normal(45, 2, n)
    elif kind == "one spot":
        lon, lat = np.full(n, 5.0), np.full(n, 6.0)
    elif kind == "a ring around a cluster":
        lat = np.where(is_test, 90 - rng.uniform(0, 0.01, n), 60.0)
    compared = 0
    original = Tree._in_leaf

    def counted(
        self: Tree, points: np.ndarray, own: np.ndarray | None, row: np.ndarray, node: np.ndarray
    ) -> np.ndarray:
        nonlocal compared
        compared += len(row) * self._points.shape[1]
        return original(self, points, own, row, node)

    monkeypatch.setattr(Tree, "_in_leaf", counted)
    split_distance_km(lon, lat, np.where(is_test, "test", "train"))
    assert compared < 200 * n
    compared = 0
    nearest_neighbour_km(lon, lat)
    assert compared < 400 * n
