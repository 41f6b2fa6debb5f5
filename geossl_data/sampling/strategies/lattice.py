"""The strategy that spreads places evenly, whatever the density of the candidates: grid."""

import math

import numpy as np

from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors
from geossl_data.sampling.strategies.ground import Draw, FloatArray, Ground, IntArray, Taken
from geossl_data.sampling.strategies.orders import order_of, scale, uniform_numbers, wanted_weights
from geossl_data.sampling.strategies.spacing import Spacing

_TURNS = 8
"""Turns of the grid over which the number of candidates that share a cell is averaged."""
_CLOSE_ENOUGH = 1.01
"""A grid with so much more than the wanted number of cells will do."""
_MOST_STEPS = 40
_FINEST_KM = 1e-3
"""No grid is finer; its cells' numbers would not fit 64 bits."""


def grid(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """Evenly over the Earth: of each cell of an equal-spacing grid the candidate nearest to the cell's centre.

    The grid is that of `grid.cell`, turned at random about the Earth's centre, with cells so large that just over `n`
    hold a candidate; of these, as many as are too many are dropped at random. Where neighbours exclude each other,
    grids of half the spacing fill up. With `Ground.weight`, cells are made smaller by the largest weight over the mean
    one, and the candidates found are drawn by weight. A place sits at most half a spacing north, south, east or west of
    a centre. Candidates of one cell differ in when they are nearest, not in how often, so the inclusion probability is
    the mean of 1 / candidates in the cell, times the chance of not being dropped. It is approximate: next to ground
    without candidates it is up to a third off.
    """
    return take_grid(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def take_grid(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`grid` beside what was taken before."""
    numbers = uniform_numbers(ground, rng)
    weights = wanted_weights(ground)
    left = weights.copy()
    left[spacing.taken] = 0.0
    pool = np.flatnonzero(left)
    if n <= 0 or not len(pool):
        return Taken(indices=np.zeros(0, dtype=np.int64), chance=lambda rows: np.zeros(len(rows)))
    points = unit_vectors(ground.lon, ground.lat)
    turned = points[pool] @ _random_turn(rng).T
    wanted = min(len(pool), math.ceil(n * float(left[pool].max() / left[pool].mean())))
    spacing_km = _spacing_km(turned, wanted, ground.side_m / 1000 * math.sqrt(len(pool) / wanted))
    hits = pool[_nearest_to_centres(turned, spacing_km, numbers[pool])]
    indices = spacing.first(order_of(_only(left, hits), n, numbers), n)
    finer_km, more = spacing_km, hits
    while len(indices) < n and len(more) < len(pool):
        finer_km /= 2
        is_fine = finer_km < ground.side_m / 8000
        more = pool if is_fine else pool[_nearest_to_centres(turned, finer_km, numbers[pool])]
        missing = n - len(indices)
        others = _only(left, np.setdiff1d(more, indices))
        indices = np.concatenate([indices, spacing.first(order_of(others, missing, numbers), missing)])
    c = scale(left[hits], len(indices))
    alone = _mean_share_of_cell(points, pool, spacing_km, rng)
    return Taken(indices=indices, chance=lambda rows: alone[rows] * np.minimum(1.0, c * weights[rows]))


def _only(weights: FloatArray, rows: IntArray) -> FloatArray:
    """The weights of some candidates, 0 for all others."""
    kept = np.zeros(len(weights))
    kept[rows] = weights[rows]
    return kept


def _random_turn(rng: np.random.Generator) -> FloatArray:
    """A turn of the sphere about its centre, all alike likely, as an orthogonal matrix of shape (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def _cells(points: FloatArray, spacing_km: float) -> tuple[IntArray, FloatArray]:
    """Number of the grid cell of each unit vector, and its squared distance from the cell's centre, radians²."""
    step = spacing_km / EARTH_RADIUS_KM
    lat = np.arcsin(np.clip(points[:, 2], -1.0, 1.0))
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2 * math.pi) + 0.5
    row = np.floor(lat / step)
    columns = np.maximum(1.0, np.ceil(2 * math.pi * np.cos((row + 0.5) * step) / step))
    column = np.minimum(np.floor(turn * columns), columns - 1)
    north = lat - (row + 0.5) * step
    east = ((turn * columns - column - 0.5) / columns) * 2 * math.pi * np.cos(lat)
    return row.astype(np.int64) * (1 << 32) + column.astype(np.int64), north**2 + east**2


def _spacing_km(points: FloatArray, wanted: int, guess_km: float) -> float:
    """The width of cells of which `wanted` or a little more hold a point; the least tried where so many never do."""

    def enough(spacing_km: float) -> int:
        return len(np.unique(_cells(points, spacing_km)[0])) - wanted

    narrow, over = guess_km, enough(guess_km)
    while over < 0 and narrow > _FINEST_KM:
        narrow /= 1.5
        over = enough(narrow)
    wide = narrow * 1.5
    while wide < math.pi * EARTH_RADIUS_KM and (surplus := enough(wide)) >= 0:
        narrow, over, wide = wide, surplus, wide * 1.5
    for _ in range(_MOST_STEPS):
        if over <= (_CLOSE_ENOUGH - 1) * wanted or wide / narrow < 1 + 1e-4:
            break
        middle = math.sqrt(narrow * wide)
        if (surplus := enough(middle)) >= 0:
            narrow, over = middle, surplus
        else:
            wide = middle
    return narrow


def _nearest_to_centres(points: FloatArray, spacing_km: float, numbers: FloatArray) -> IntArray:
    """Of each cell that holds points the one nearest to the cell's centre; `numbers` decide between equals."""
    cell, distance = _cells(points, spacing_km)
    order = np.lexsort((numbers, distance, cell))
    return np.asarray(order[np.diff(cell[order], prepend=-(1 << 62)) != 0])


def _mean_share_of_cell(points: FloatArray, pool: IntArray, spacing_km: float, rng: np.random.Generator) -> FloatArray:
    """Mean over turns of the grid of 1 / points of the pool that share a cell, shape (n,), for all points."""
    total = np.zeros(len(points))
    for _ in range(_TURNS):
        cell = _cells(points @ _random_turn(rng).T, spacing_km)[0]
        cells, counts = np.unique(cell[pool], return_counts=True)
        position = np.minimum(np.searchsorted(cells, cell), len(cells) - 1)
        total += np.where(cells[position] == cell, 1.0 / counts[position], 1.0)
    return total / _TURNS
