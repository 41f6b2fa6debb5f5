"""Chances of uniform, cities and change, against counting many draws of small pools."""

import math

import numpy as np
import pytest
from sampling.strategies.pools import SIDE_M, frequencies, joined, row_of, scattered, tile

from geossl_data.errors import SamplingError
from geossl_data.grid import from_lonlat, haversine_km, to_lonlat
from geossl_data.sampling.cities import Cities, CityRule
from geossl_data.sampling.strategies import STRATEGIES, Ground, Rules, ground_shares
from geossl_data.sampling.strategies.orders import inclusion

REPEATS = 500
uniform, cities, change = STRATEGIES["uniform"], STRATEGIES["cities"], STRATEGIES["change"]


def within_errors(hits: np.ndarray, wanted: np.ndarray, *, slack: float = 0.0) -> bool:
    """Whether frequencies of REPEATS draws are those wanted, by four standard errors."""
    return bool((np.abs(hits - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / REPEATS) + slack + 1e-9).all())


def test_uniform_treats_every_candidate_alike() -> None:
    hits, noted = frequencies(uniform, row_of({"a": 40}), 10, REPEATS)
    chi_square = REPEATS * np.sum((hits - 0.25) ** 2 / (0.25 * 0.75))
    assert chi_square < 72.1  # 0.999 quantile of chi-square with 39 degrees of freedom
    np.testing.assert_allclose(noted, 0.25)


def test_uniform_goes_by_weight_as_noted() -> None:
    weight = np.array([0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 30.0, np.nan, 1.0, 5.0, 1.0, 1.0])
    ground = row_of({"a": 12}, weight=weight)
    hits, noted = frequencies(uniform, ground, 4, REPEATS)
    wanted = inclusion(np.nan_to_num(weight), 4)
    assert within_errors(hits, wanted, slack=0.02)
    assert hits[[0, 7]].sum() == 0
    np.testing.assert_allclose(noted[hits > 0], wanted[hits > 0])


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_ground_that_two_tiles_of_different_zones_show_is_drawn_once(shift: float) -> None:
    """Without its share each candidate there would be as likely as others, the ground twice as likely."""
    x, y = 743_000.0, 5_000_000.0
    lon, lat = to_lonlat(32632, x, y)
    there = [float(value) for value in from_lonlat(32633, lon, lat)]
    first = tile(20, 20, x=x - 14 * SIDE_M, y=y + 10 * SIDE_M)
    second = tile(20, 20, epsg=32633, x=there[0] - (6 + shift) * SIDE_M, y=there[1] + (10 + shift) * SIDE_M)
    shares = ground_shares(joined(first, second))
    both = joined(first, second, share=shares)
    twice = shares < 0.75
    assert 0.5 < twice.mean() < 0.7
    repeats, n = 800, 4
    hits, noted = frequencies(uniform, both, n, repeats)
    expected = shares[twice].sum() / shares.sum()
    found, error = hits[twice].sum() / n, np.sqrt(expected * (1 - expected) / (repeats * n))
    assert abs(found - expected) < 4 * error
    assert abs(found - twice.mean()) > 8 * error
    drawn = hits > 0
    np.testing.assert_allclose(noted[drawn], n * shares[drawn] / shares.sum())


def test_the_noted_chances_correct_a_total() -> None:
    rng = np.random.default_rng(0)
    weight = rng.exponential(size=60)
    value = weight + rng.normal(size=60)
    ground = row_of({"a": 60}, weight=weight)
    totals = []
    for seed in range(REPEATS):
        drawn = uniform(ground, 15, rng=np.random.default_rng(seed))
        totals.append((value[drawn.indices] / drawn.inclusion_probability).sum())
    assert abs(np.mean(totals) - value.sum()) < 4 * np.std(totals) / math.sqrt(REPEATS)


def test_a_thinned_draw_notes_what_it_took() -> None:
    ground = scattered(300, 12.0, 45.0, min_distance_km=4.0)
    drawn = uniform(ground, 200, rng=np.random.default_rng(0))
    shares = ground_shares(ground)
    assert len(drawn.indices) < 20
    np.testing.assert_allclose(drawn.inclusion_probability, inclusion(shares, len(drawn.indices))[drawn.indices])


def test_a_weight_counts_also_where_all_are_wanted_and_few_fit() -> None:
    weight = np.array([1.0] * 30 + [40.0] * 10)
    ground = tile(8, 5, weight=weight, min_distance_km=9.0)
    heavy = [np.mean(weight[uniform(ground, 40, rng=np.random.default_rng(seed)).indices] > 1) for seed in range(100)]
    assert np.mean(heavy) > 0.4


# ------------------------------------------------------------------------------------------------ cities


def around(lon: float, lat: float, *, sigma_km: float = 5.0, land_only: bool = False) -> Rules:
    here = Cities(lon=np.array([lon]), lat=np.array([lat]), population=np.array([1.0]))
    return Rules(cities=CityRule(cities=here, sigma_km=sigma_km, land_only=land_only, apart=True))


def test_cities_draw_in_proportion_to_the_gaussian() -> None:
    ground = tile(25, 25, side_m=960.0)
    rules = around(float(ground.lon[312]), float(ground.lat[312]), sigma_km=4.0)
    ground = tile(25, 25, side_m=960.0, rules=rules)
    hits, noted = frequencies(cities, ground, 20, REPEATS)
    away = haversine_km(ground.lon, ground.lat, ground.lon[312], ground.lat[312])
    weight = np.exp(-((away / 4.0) ** 2) / 2)
    wanted = inclusion(weight, 20)
    assert within_errors(hits, wanted, slack=0.012)
    np.testing.assert_allclose(noted[hits > 0], wanted[hits > 0], rtol=1e-3)


def test_cities_draw_nothing_far_from_any_and_so_fewer() -> None:
    ground = tile(60, 1, rules=around(*map(float, to_lonlat(32632, 451_000.0, 4_999_000.0)), sigma_km=5.0))
    drawn = cities(ground, 60, rng=np.random.default_rng(0))
    away = haversine_km(ground.lon, ground.lat, ground.lon[0], ground.lat[0])
    assert 8 < len(drawn.indices) < 16
    assert away[drawn.indices].max() < 31.5


def test_cities_on_land_leave_the_sea_out() -> None:
    coast = tile(40, 1, epsg=32632, x=450_000.0, y=4_920_000.0, rules=around(8.93, 44.41, sigma_km=50, land_only=True))
    column = Ground(
        lon=np.full(40, 8.93),
        lat=44.41 + np.linspace(-0.8, 0.8, 40),
        epsg=coast.epsg,
        x=coast.x,
        y=4_900_000.0 + 5000.0 * np.arange(40),
        side_m=960.0,
        stratum=coast.stratum,
        rules=coast.rules,
    )
    drawn = cities(column, 40, rng=np.random.default_rng(0))
    assert 15 < len(drawn.indices) < 25
    assert column.lat[drawn.indices].min() > 44.3


def test_cities_need_cities() -> None:
    with pytest.raises(SamplingError, match=r"strategy cities needs cities; give Rules\.cities"):
        cities(row_of({"a": 3}), 1, rng=np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------ change


def test_change_draws_in_proportion_to_the_score_and_never_what_is_not_known() -> None:
    score = np.array([0.0, 0.1, 0.2, 0.4, 0.8, 0.8, np.nan, -0.3, 0.1, 0.1])
    weight = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 4.0, 0.0])
    hits, noted = frequencies(change, row_of({"a": 10}, change=score, weight=weight), 3, REPEATS)
    wanted = inclusion(np.maximum(np.nan_to_num(score), 0) * weight, 3)
    assert within_errors(hits, wanted, slack=0.02)
    assert not hits[[0, 6, 7, 9]].any()
    np.testing.assert_allclose(noted[hits > 0], wanted[hits > 0])
    everything = change(row_of({"a": 10}, change=score, weight=weight), 10, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(everything.indices, [1, 2, 3, 4, 5, 8])


def test_change_needs_scores() -> None:
    with pytest.raises(SamplingError, match="needs change scores; measure them"):
        change(row_of({"a": 3}), 1, rng=np.random.default_rng(0))
    with pytest.raises(SamplingError, match=r"none of 3 candidates has a change score above 0 \(1 could be measured\)"):
        change(row_of({"a": 3}, change=np.array([np.nan, 0.0, np.nan])), 1, rng=np.random.default_rng(0))
