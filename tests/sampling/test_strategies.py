"""Draws against hand-worked counts, brute force and equal treatment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import SamplingError
from geossl_data.grid import haversine_km, to_lonlat
from geossl_data.sampling.strategies import Ground, Spacing, allocate, geography, uniform


def ground(n: int, *, seed: int = 0, side_m: float = 960.0, spread_m: float = 40_000.0, **options: object) -> Ground:
    """Candidates at random on both sides of a UTM zone border, 12° E at 45° N."""
    rng = np.random.default_rng(seed)
    epsg = rng.choice([32632, 32633], n)
    x = np.where(epsg == 32632, 730_000.0, 250_000.0) + rng.uniform(-spread_m, spread_m, n) / 2
    y = 5_000_000.0 + rng.uniform(-spread_m, spread_m, n) / 2
    lon, lat = np.empty(n), np.empty(n)
    for zone in (32632, 32633):
        here = epsg == zone
        lon[here], lat[here] = to_lonlat(zone, x[here] + side_m / 2, y[here] - side_m / 2)
    values = {"stratum": ["a" if value < 12 else "b" for value in lon], **options}
    return Ground(lon=lon, lat=lat, epsg=epsg.astype(np.int64), x=x, y=y, side_m=side_m, **values)  # type: ignore[arg-type]


def test_allocate_by_hand() -> None:
    sizes = np.array([100, 25, 1, 0])
    np.testing.assert_array_equal(allocate(sizes, 16, power=0.5), [10, 5, 1, 0])
    np.testing.assert_array_equal(allocate(sizes, 9, power=0.0), [4, 4, 1, 0])
    np.testing.assert_array_equal(allocate(sizes, 126, power=1.0), [100, 25, 1, 0])


def test_allocate_refuses_more_than_there_is() -> None:
    with pytest.raises(SamplingError, match="asked for 4 places, there are 3"):
        allocate(np.array([1, 2]), 4)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(sum),
    st.floats(0, 1),
    st.integers(0, 600),
)
def test_allocate_sums_exactly_and_stays_within_sizes(sizes: list[int], power: float, n: int) -> None:
    n = min(n, sum(sizes))
    seats = allocate(np.array(sizes), n, power=power)
    assert seats.sum() == n
    assert (seats <= sizes).all()
    assert (seats >= 0).all()


def overlaps(ground: Ground, one: int, other: int) -> bool:
    """Whether two squares share ground, by their corners and edges in the zone of the first (shapely)."""
    from shapely import Polygon, box

    from geossl_data.grid import from_lonlat

    first = box(ground.x[one], ground.y[one] - ground.side_m, ground.x[one] + ground.side_m, ground.y[one])
    side = ground.side_m
    xs = ground.x[other] + np.array([0, side, side, 0])
    ys = ground.y[other] - np.array([0, 0, side, side])
    lon, lat = to_lonlat(int(ground.epsg[other]), xs, ys)
    x, y = from_lonlat(int(ground.epsg[one]), lon, lat)
    return bool(first.intersection(Polygon(np.column_stack([x, y]))).area > 1.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 2.5, 6.0]))
def test_no_two_places_overlap_or_come_too_close(seed: int, min_distance_km: float) -> None:
    candidates = ground(150, seed=seed, spread_m=12_000, min_distance_km=min_distance_km)
    drawn = uniform(candidates, 60, rng=np.random.default_rng(seed)).indices
    for position, one in enumerate(drawn):
        for other in drawn[position + 1 :]:
            assert not overlaps(candidates, int(one), int(other))
            apart = haversine_km(candidates.lon[one], candidates.lat[one], candidates.lon[other], candidates.lat[other])
            assert apart >= min_distance_km * (1 - 1e-6)


def test_spacing_sees_neighbours_across_the_antimeridian() -> None:
    lon, lat = np.array([179.999, -179.999, 170.0]), np.zeros(3)
    zones, x = np.array([32660, 32601, 32659]), np.array([833_000.0, 166_000.0, 500_000.0])
    near = Ground(lon=lon, lat=lat, epsg=zones, x=x, y=np.zeros(3), side_m=60.0, stratum=["s"] * 3, min_distance_km=1.0)
    spacing = Spacing(near)
    assert [spacing.take(index) for index in range(3)] == [True, False, True]


def test_touching_squares_of_one_zone_do_not_clash() -> None:
    x = np.array([500_000.0, 500_960.0, 500_900.0])
    lon, lat = to_lonlat(32632, x + 480, np.full(3, 5e6))
    tiles = Ground(lon=lon, lat=lat, epsg=np.full(3, 32632), x=x, y=np.full(3, 5e6), side_m=960.0, stratum=["s"] * 3)
    spacing = Spacing(tiles)
    assert [spacing.take(index) for index in range(3)] == [True, True, False]


def lattice(sizes: dict[str, int], **options: object) -> Ground:
    """Candidates side by side in one row, the strata one after the other."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    x = 300_000.0 + 960.0 * np.arange(len(names))
    lon, lat = to_lonlat(32632, x, np.full(len(names), 5e6))
    return Ground(
        lon=lon,
        lat=lat,
        epsg=np.full(len(names), 32632),
        x=x,
        y=np.full(len(names), 5e6),
        side_m=960.0,
        stratum=names,
        **options,  # type: ignore[arg-type]
    )


def counts(candidates: Ground, indices: np.ndarray) -> dict[str, int]:
    names = [candidates.stratum[index] for index in indices]
    return {name: names.count(name) for name in sorted(set(names))}


@pytest.mark.parametrize(
    ("power", "expected"),
    [(0.0, {"a": 10, "b": 10, "c": 4}), (0.5, {"a": 15, "b": 6, "c": 3}), (1.0, {"a": 19, "b": 4, "c": 1})],
)
def test_geography_spreads_the_count_as_stated(power: float, expected: dict[str, int]) -> None:
    candidates = lattice({"a": 100, "b": 20, "c": 4}, power=power)
    drawn = geography(candidates, 24, rng=np.random.default_rng(0))
    assert counts(candidates, drawn.indices) == expected
    chance = {"a": expected["a"] / 100, "b": expected["b"] / 20, "c": expected["c"] / 4}
    np.testing.assert_allclose(
        drawn.inclusion_probability, [chance[candidates.stratum[index]] for index in drawn.indices]
    )


def test_geography_passes_on_the_seats_of_a_stratum_without_room() -> None:
    candidates = lattice({"a": 2, "b": 60}, power=0.0, min_distance_km=1.5)
    drawn = geography(candidates, 10, rng=np.random.default_rng(1))
    assert counts(candidates, drawn.indices) == {"a": 1, "b": 9}


@pytest.mark.parametrize("strategy", [uniform, geography])
def test_weights_correct_the_mean_of_an_unequal_draw(strategy: object) -> None:
    candidates = lattice({"a": 300, "b": 30})
    value = np.array([1.0 if name == "a" else 5.0 for name in candidates.stratum])
    estimates = []
    for seed in range(40):
        drawn = strategy(candidates, 60, rng=np.random.default_rng(seed))  # type: ignore[operator]
        weight = 1 / drawn.inclusion_probability
        estimates.append(np.sum(weight * value[drawn.indices]) / weight.sum())
    assert np.mean(estimates) == pytest.approx(value.mean(), abs=0.1)


def test_uniform_treats_every_candidate_alike() -> None:
    candidates = lattice({"a": 40})
    hits = np.zeros(40)
    for seed in range(600):
        hits[uniform(candidates, 10, rng=np.random.default_rng(seed)).indices] += 1
    chi_square = np.sum((hits - 150) ** 2 / (150 * 0.75))
    assert chi_square < 72.1  # 0.999 quantile of chi-square with 39 degrees of freedom


@pytest.mark.parametrize("strategy", [uniform, geography])
def test_the_same_seed_draws_the_same_places(strategy: object) -> None:
    candidates = ground(200)
    first, second, third = (
        strategy(candidates, 30, rng=np.random.default_rng(seed)).indices  # type: ignore[operator]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, second)
    assert set(first) != set(third)
