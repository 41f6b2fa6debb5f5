"""How places are drawn from the candidates: plain callables, chosen by name.

A strategy takes the candidate ground and a count and answers which candidates to take and with what chance each
candidate was taken. It sees positions and strata only, never pixels, and has no state.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where the n candidates lie, as arrays of shape (n,)."""

    lon: FloatArray
    lat: FloatArray
    epsg: IntArray
    x: FloatArray
    """West edge, metres in the candidate's UTM zone."""
    y: FloatArray
    """North edge, metres."""
    side_m: float
    stratum: Sequence[str]
    min_distance_km: float = 0.0
    """Least distance between the centres of two places that are drawn."""
    power: float = 0.5
    """Seats of a stratum of k candidates go like k**power: 0 equal, 0.5 square root, 1 proportional."""

    def __len__(self) -> int:
        return len(self.lon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a strategy took."""

    indices: IntArray
    """Candidates drawn, ascending, shape (m,) with m ≤ n."""
    inclusion_probability: FloatArray
    """Chance of each drawn candidate to be drawn, shape (m,), in (0, 1]."""


class Strategy(Protocol):
    """Any callable of this signature draws at most `n` candidates; fewer only where spacing leaves no more."""

    def __call__(self, candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw: ...


def allocate(sizes: IntArray, n: int, *, power: float = 0.5) -> IntArray:
    """Seats for each stratum, proportional to size**power, summing to exactly `n`.

    sizes: candidates per stratum, shape (k,), all >= 0. Returns int64, shape (k,), never above `sizes`: what a full
    stratum cannot take is shared among the others by the same rule. Largest-remainder method; ties go to the first.
    Raises SamplingError when fewer than `n` candidates exist.
    """
    if n > int(sizes.sum()):
        raise SamplingError(f"asked for {n} places, there are {int(sizes.sum())} candidates")
    seats = np.zeros(len(sizes), dtype=np.int64)
    while (left := n - int(seats.sum())) > 0:
        room = sizes - seats
        share = np.where(room > 0, np.power(sizes, power, dtype=np.float64), 0.0)
        exact = left * share / share.sum()
        seats += np.minimum(np.floor(exact).astype(np.int64), room)
        left = n - int(seats.sum())
        remainder = np.where(sizes > seats, exact - np.floor(exact), -1.0)
        first = np.argsort(-remainder, kind="stable")[:left]
        seats[first] += sizes[first] > seats[first]
    return seats


class Spacing:
    """Which candidates still have room: no two taken places overlap or lie closer than the least distance.

    Squares of one UTM zone overlap when both |Δx| and |Δy| are below the side; across zones, where they are turned
    against each other, when their centres are nearer than √2 sides. A hash grid on the unit sphere finds the
    neighbours, so that cell borders, the antimeridian and the poles need no special care.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._points = unit_vectors(ground.lon, ground.lat)
        reach_km = max(ground.min_distance_km, math.sqrt(2) * ground.side_m / 1000 * 1.01)
        self._reach = 2 * math.sin(min(reach_km / EARTH_RADIUS_KM, math.pi) / 2)
        self._far = 2 * math.sin(min(ground.min_distance_km / EARTH_RADIUS_KM, math.pi) / 2)
        self._apart = math.sqrt(2) * ground.side_m / 1000 / EARTH_RADIUS_KM
        self._cells: dict[tuple[int, int, int], list[int]] = {}

    def _cell(self, index: int) -> tuple[int, int, int]:
        a, b, c = np.floor(self._points[index] / self._reach).astype(int)
        return int(a), int(b), int(c)

    def _clash(self, one: int, other: int) -> bool:
        ground = self._ground
        chord = float(np.linalg.norm(self._points[one] - self._points[other]))
        if chord < self._far * (1 - 1e-9):
            return True
        if ground.epsg[one] == ground.epsg[other]:
            limit = ground.side_m - 1e-3
            near_x = abs(ground.x[one] - ground.x[other]) < limit
            return bool(near_x and abs(ground.y[one] - ground.y[other]) < limit)
        return chord < self._apart

    def take(self, index: int) -> bool:
        """True, and remembered as taken, when candidate `index` still has room."""
        a, b, c = self._cell(index)
        around = [(a + i, b + j, c + k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
        if any(self._clash(index, other) for place in around for other in self._cells.get(place, ())):
            return False
        self._cells.setdefault((a, b, c), []).append(index)
        return True


def uniform(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """Every candidate alike, in random order, as long as there is room."""
    spacing = Spacing(candidates)
    taken: list[int] = []
    for index in rng.permutation(len(candidates)):
        if len(taken) == n:
            break
        if spacing.take(int(index)):
            taken.append(int(index))
    chance = len(taken) / max(len(candidates), 1)
    return Draw(
        indices=np.array(sorted(taken), dtype=np.int64), inclusion_probability=np.full(len(taken), chance, dtype=float)
    )


def geography(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """The count spread over the strata (`allocate`), at random inside each; a stratum without room passes its seats on.

    Strata take turns, one place at a time, so that those which share a border share the room there as well. The
    chance of a candidate is the share of its stratum's candidates that was taken.
    """
    names, member = np.unique(np.asarray(candidates.stratum, dtype=object).astype(str), return_inverse=True)
    sizes = np.bincount(member, minlength=len(names)).astype(np.int64)
    queues = [list(rng.permutation(np.flatnonzero(member == number))) for number in range(len(names))]
    seats = allocate(sizes, min(n, int(sizes.sum())), power=candidates.power)
    spacing = Spacing(candidates)
    taken: list[list[int]] = [[] for _ in names]
    while (missing := n - sum(map(len, taken))) > 0 and any(queues):
        for number, queue in enumerate(queues):
            while queue and len(taken[number]) < seats[number]:
                index = int(queue.pop())
                if spacing.take(index):
                    taken[number].append(index)
                    break
        unfilled = [len(got) < seat for got, seat in zip(taken, seats, strict=True)]
        if not any(open_ and queue for open_, queue in zip(unfilled, queues, strict=True)):
            seats = np.array([len(got) for got in taken], dtype=np.int64)
            room = np.array([len(queue) for queue in queues], dtype=np.int64)
            seats += allocate(room, min(missing, int(room.sum())), power=candidates.power)
    chance = {index: len(got) / int(size) for got, size in zip(taken, sizes, strict=True) for index in got}
    indices = sorted(chance)
    return Draw(
        indices=np.array(indices, dtype=np.int64), inclusion_probability=np.array([chance[i] for i in indices], float)
    )


STRATEGIES: dict[str, Callable[..., Draw]] = {"uniform": uniform, "geography": geography}
"""Strategies by name."""
POWERS: dict[str, float] = {"equal": 0.0, "sqrt": 0.5, "proportional": 1.0}
"""Allocation rules by name: the power of a stratum's size that its seats go with."""
