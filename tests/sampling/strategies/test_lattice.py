"""The grid: even where candidates are not, and the same grid as elsewhere."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling.strategies.pools import SIDE_M, frequencies, squares, tile

from geossl_data.grid import cell, haversine_km, unit_vectors
from geossl_data.sampling.strategies import STRATEGIES, Draw, Ground
from geossl_data.sampling.strategies.lattice import _cells

grid, uniform = STRATEGIES["grid"], STRATEGIES["uniform"]


def uneven(**options: object) -> Ground:
    """A square of 40 × 40 candidates of which one in ten is left west of its middle."""
    full = tile(40, 40)
    keep = (full.x >= 450_000.0 + 20 * SIDE_M) | (np.random.default_rng(0).random(1600) < 0.1)
    return squares(32632, full.x[keep], full.y[keep], **options)


def nearest_km(ground: Ground, draw: Draw) -> np.ndarray:
    lon, lat = ground.lon[draw.indices], ground.lat[draw.indices]
    away = haversine_km(lon[:, None], lat[:, None], lon, lat)
    np.fill_diagonal(away, np.inf)
    return away.min(axis=1)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(3.0, 4000.0))
def test_cells_are_those_of_the_grid(seed: int, spacing_km: float) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    numbers = _cells(unit_vectors(lon, lat), spacing_km)[0].tolist()
    expected = [cell(float(x), float(y), spacing_km) for x, y in zip(lon, lat, strict=True)]
    together, other = defaultdict(set), defaultdict(set)
    for number, name in zip(numbers, expected, strict=True):
        together[number].add(name)
        other[name].add(number)
    assert all(len(names) == 1 for names in together.values())
    assert all(len(found) == 1 for found in other.values())


@pytest.mark.parametrize("n", [1, 2, 30, 300, 1000])
def test_the_grid_takes_exactly_as_many_as_are_wanted(n: int) -> None:
    ground = uneven()
    for seed in range(3):
        assert len(grid(ground, n, rng=np.random.default_rng(seed)).indices) == min(n, len(ground))


def test_the_grid_is_even_where_candidates_are_not() -> None:
    ground = uneven()
    west = ground.x < 450_000.0 + 20 * SIDE_M
    gridded, drawn = (
        [strategy(ground, 60, rng=np.random.default_rng(seed)) for seed in range(20)] for strategy in (grid, uniform)
    )
    # Of the cells in the west, with 2.6 candidates on average, one in twelve is empty.
    assert 0.38 < np.mean([west[draw.indices].mean() for draw in gridded]) < 0.5
    assert np.mean([west[draw.indices].mean() for draw in drawn]) < 0.14
    even, random = (np.mean([nearest_km(ground, draw).mean() for draw in draws]) for draws in (gridded, drawn))
    assert even > 1.4 * random


def test_the_noted_chance_is_about_how_often_a_candidate_is_drawn() -> None:
    ground = uneven()
    west = ground.x < 450_000.0 + 20 * SIDE_M
    edge = (np.abs(ground.x - 450_000.0 - 30 * SIDE_M) > 8 * SIDE_M) | (
        np.abs(ground.y - 5_000_000.0 + 20 * SIDE_M) > 17 * SIDE_M
    )
    hits, noted = frequencies(grid, ground, 60, 120)
    for some in (west, ~west & ~edge, ~west & edge):
        drawn = some & (hits > 0)
        assert hits[some].mean() == pytest.approx(np.average(noted[drawn]), rel=0.25)
    totals = [(1 / grid(ground, 60, rng=np.random.default_rng(seed)).inclusion_probability).sum() for seed in range(40)]
    assert np.mean(totals) == pytest.approx(len(ground), rel=0.12)


def test_all_candidates_are_alike_away_from_edges() -> None:
    ground = tile(24, 24)
    row, column = np.divmod(np.arange(576), 24)
    inside = (np.minimum(row, column) >= 6) & (np.maximum(row, column) < 18)
    repeats = 300
    hits, _ = frequencies(grid, ground, 30, repeats)
    mean = hits[inside].mean()
    chi_square = repeats * np.sum((hits[inside] - mean) ** 2 / (mean * (1 - mean)))
    assert chi_square < 203.0  # 0.9995 quantile with 143 degrees of freedom


def test_the_grid_goes_by_weight() -> None:
    weight = np.where(np.arange(1600) % 2, 3.0, 1.0)
    weight[::7] = 0.0
    ground = tile(40, 40, weight=weight)
    draws = [grid(ground, 50, rng=np.random.default_rng(seed)) for seed in range(40)]
    hits = np.bincount(np.concatenate([draw.indices for draw in draws]), minlength=1600)
    assert hits[weight == 0].sum() == 0
    assert hits[weight == 3].mean() / hits[weight == 1].mean() == pytest.approx(3.0, rel=0.2)
    for value in (1.0, 3.0):
        totals = [(1 / draw.inclusion_probability)[weight[draw.indices] == value].sum() for draw in draws]
        assert np.mean(totals) == pytest.approx((weight == value).sum(), rel=0.15)


def test_finer_grids_fill_up_where_neighbours_exclude_each_other() -> None:
    ground = tile(20, 20, min_distance_km=8.0)
    draw = grid(ground, 28, rng=np.random.default_rng(0))
    assert len(draw.indices) == 28
    assert nearest_km(ground, draw).min() >= 8.0


def test_candidates_on_the_very_same_square_end_the_search() -> None:
    ground = squares(32632, [450_000.0] * 5 + [460_000.0], [5e6] * 6)
    draw = grid(ground, 6, rng=np.random.default_rng(0))
    assert len(draw.indices) == 2
