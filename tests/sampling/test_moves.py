"""Places that move: never nearer to each other than they may be, and none stays without a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.grid import haversine_km, unit_vectors
from geossl_data.sampling.moves import may_move


def test_one_alone_goes_where_it_wants() -> None:
    point = unit_vectors([9.0], [45.0])
    for wants in ([True], [False]):
        assert may_move(point, point, point, np.array(wants), np.array(["train"]), least_km=5.0).tolist() == wants


@pytest.mark.parametrize(
    ("splits", "expected"), [(("train", "train"), [True, True]), (("train", "test"), [True, False])]
)
def test_other_splits_keep_a_longer_distance(splits: tuple[str, str], expected: list[bool]) -> None:
    """Two that come from 11 to 9 km: the nearest two were drawn 1 km apart, those of two splits 10."""
    lon = np.array([0.0, 0.1, 5.0, 5.009, 8.0, 8.09])
    split = np.array([*splits, "train", "train", "val", "train"])
    drawn = unit_vectors(lon, np.zeros(6))
    then = unit_vectors(lon + np.array([0.01, -0.01, 0, 0, 0, 0]), np.zeros(6))
    wants = np.array([True, True, False, False, False, False])
    goes = may_move(drawn, drawn, then, wants, split, least_km=0.5)
    assert goes[:2].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.1, 8.0))
def test_no_two_come_nearer_than_they_may_and_the_first_goes(seed: int, n: int, least_km: float) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = 179.8 + rng.random(n) * 0.6, 60 + rng.random(n) * 0.3
    to_lon, to_lat = lon + rng.normal(0, 0.03, n), lat + rng.normal(0, 0.015, n)
    wants, split = rng.random(n) < 0.7, rng.choice(["train", "val", "test"], n)
    drawn, then = unit_vectors(lon, lat), unit_vectors(to_lon, to_lat)
    goes = may_move(drawn, drawn, then, wants, split, least_km=least_km)
    assert not (goes & ~wants).any()

    def apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        km = haversine_km(x[:, None], y[:, None], x, y)
        np.fill_diagonal(km, np.inf)
        return km

    before = apart(lon, lat)
    differ = split[:, None] != split
    alike_km = max(least_km, before.min())
    across_km = max(alike_km, before[differ].min()) if differ.any() else alike_km
    after = apart(np.where(goes, to_lon, lon), np.where(goes, to_lat, lat))
    too_near = (after < alike_km - 1e-6) | (differ & (after < across_km - 1e-6))
    assert not (too_near & (goes[:, None] | goes)).any()
    # Who would be clear of all others, wherever these are, has no reason to stay.
    lons, lats = np.concatenate([lon, to_lon]), np.concatenate([lat, to_lat])
    for row in np.flatnonzero(wants & ~goes).tolist():
        others = np.delete(np.arange(2 * n), [row, row + n])
        km = haversine_km(to_lon[row], to_lat[row], lons[others], lats[others])
        assert (km < np.where(np.tile(split, 2)[others] == split[row], alike_km, across_km) + 1e-6).any()
    if wants.all() and not ((apart(to_lon, to_lat) < across_km + 1e-6).any()):
        assert goes.all()
