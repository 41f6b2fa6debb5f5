"""Who gets a place: proposals one after the other, while their stratum has seats and nobody sits too close.

What is decided on a proposal follows from those before it alone, so no result depends on how many are looked at
together. A stratum is full when so many of its proposals in a row found no room; its seats go to the others.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import unit_vectors
from geossl_data.sampling.proposals import OUTSIDE_AREA, OUTSIDE_STRATA, SEA, Batch, Keep, Proposals
from geossl_data.sampling.spread import Crowd, pairs
from geossl_data.sampling.strategies import allocation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

GIVE_UP, GIVE_UP_AT_LEAST = 5000, 500
"""A stratum is full when so many of its proposals in a row found no room; fewer, down to the second number, the more
seats above GIVE_UP_SEATS it has: filling the last gaps of much ground would take most of the time."""
GIVE_UP_SEATS = 1000
PATIENCE = 1_000_000
"""And when seats are shared out, what still is free after so many proposals and PATIENCE_PER_PLACE for each place is
passed on: some strata are so rare that they are hardly ever proposed."""
PATIENCE_PER_PLACE = 8

_LEAST, _MOST = 1024, 1 << 20
"""Least and most proposals that are looked at together; no result depends on it."""
_TOO_CLOSE, _BUFFER = 1, 2

REASONS = {SEA: "sea", OUTSIDE_AREA: "outside-area", OUTSIDE_STRATA: "outside-strata"}


class Seated:
    """The places given so far, by whichever part of a draw, and what came to nothing.

    reach: how far they stay apart, a straight line on the unit sphere.
    """

    def __init__(self, reach: float) -> None:
        self.reach = reach
        self.crowd = Crowd(reach)
        self.rejected: Counter[str] = Counter()
        """Reason → proposals that came to nothing."""
        self._columns: list[tuple[FloatArray, FloatArray, IntArray]] = []
        self._n = 0

    def __len__(self) -> int:
        return self._n

    @property
    def columns(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Longitude, latitude and number of the stratum, shape (n,), in the order in which places were given."""
        if not self._columns:
            return np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
        lon, lat, stratum = (np.concatenate(parts) for parts in zip(*self._columns, strict=True))
        self._columns = [(lon, lat, stratum)]
        return lon, lat, stratum

    def add(self, lon: FloatArray, lat: FloatArray, stratum: IntArray, points: FloatArray) -> None:
        """Give places to points that have room; points: as unit vectors."""
        self._columns.append((lon, lat, stratum))
        self._n += len(lon)
        self.crowd.add(points)


@dataclass(slots=True)
class Seats:
    """Seats still free, by stratum."""

    left: list[int]
    in_vain: list[int]
    """How many proposals in a row found no room."""
    give_up: list[int]
    """At how many it is full."""
    is_full: list[bool]
    km2: list[float]
    """Land of each; only told where proposals on less of it can be had."""

    @classmethod
    def of(cls, seats: IntArray, km2: FloatArray) -> "Seats":
        """Seats to begin with."""
        left = seats.tolist()
        return cls(left, [0] * len(left), _patience(left), [False] * len(left), km2.tolist())

    @property
    def open_km2(self) -> float:
        """Land of the strata that have seats left."""
        return sum(km2 for km2, left in zip(self.km2, self.left, strict=True) if left)

    def serve(
        self, strata: list[int], refused: list[int], starts: list[int], later: list[int], least_km2: float
    ) -> tuple[list[int], int]:
        """Go through proposals: which get a place, and how many were looked at.

        strata, refused: of each proposal; `refused` is 0 or why it has no room, and gains those that have a new
        neighbour: of proposal k these are `later[starts[k]:starts[k + 1]]`. Ends when no seat is left, or when strata
        with seats have less land than `least_km2`. Proposals without a seat in their stratum are passed over; their
        `refused` is set to -1.
        """
        left, in_vain, missing = self.left, self.in_vain, sum(self.left)
        taken: list[int] = []
        for number, stratum in enumerate(strata):
            if not left[stratum]:
                refused[number] = -1
                continue
            if refused[number]:
                in_vain[stratum] += 1
                if in_vain[stratum] < self.give_up[stratum]:
                    continue
                self.is_full[stratum] = True
                missing -= left[stratum]
                left[stratum] = 0
            else:
                taken.append(number)
                in_vain[stratum] = 0
                left[stratum] -= 1
                missing -= 1
                for other in later[starts[number] : starts[number + 1]]:
                    refused[other] = _TOO_CLOSE
                if left[stratum]:
                    continue
            if not missing or self.open_km2 < least_km2:
                return taken, number + 1
        return taken, len(strata)


def _patience(seats: list[int]) -> list[int]:
    """How many proposals in a row may find no room, by stratum."""
    return [max(min(GIVE_UP, GIVE_UP * GIVE_UP_SEATS // max(number, 1)), GIVE_UP_AT_LEAST) for number in seats]


def seat(
    seated: Seated,
    n: int,
    proposals: Callable[[BoolArray], Proposals],
    *,
    shares: FloatArray,
    room: IntArray,
    km2: FloatArray,
    by_stratum: bool,
    room_at_once: float,
    keep: Keep | None,
) -> None:
    """Give up to `n` more places to proposals, seats shared among strata in proportion to `shares`.

    proposals: from which strata have seats left, a mask of shape (k,), to a row of proposals that has these at least;
    the same row goes on where it stopped. It is asked again when less than half of the land still has seats. shares,
    room, km2: of each stratum, shape (k,); `room` bounds its places, `km2` is its land where fewer strata make fewer
    proposals, else 0. Not by_stratum: all proposals are of stratum 0. room_at_once: places that a km² can hold, which
    bounds what is compared at once.
    """
    got = np.zeros(len(shares), dtype=np.int64)
    seats = Seats.of(allocation.seats_within(shares, room, n), km2)
    position, row = 0, None
    while any(seats.left):
        spent, patience = 0, PATIENCE + PATIENCE_PER_PLACE * n
        while any(seats.left) and spent < patience:
            before, row = row, proposals(np.array(seats.left) > 0)
            position = position if row is before else 0
            rate, least_km2 = 0.6, seats.open_km2 / 2
            most = min(_MOST, _LEAST + int(4 * row.km2 * room_at_once))
            while any(seats.left) and seats.open_km2 >= least_km2 and spent < patience:
                wanted = int(sum(seats.left) / rate * 1.05) + _LEAST
                batch = row.take(position, min(wanted, most, patience - spent))
                members = batch.stratum if by_stratum else np.zeros_like(batch.stratum)
                taken, seen = _serve(seated, batch, members, seats, keep, least_km2)
                got += np.bincount(members[taken], minlength=len(got))
                rate = max((len(taken) + 1) / (seen + 1), 1e-3)
                position, spent = position + seen, spent + seen
        is_full = np.array([full or bool(left) for full, left in zip(seats.is_full, seats.left, strict=True)])
        seats.is_full = is_full.tolist()
        free = np.where(is_full, 0, np.maximum(room - got, 0))
        seats.left = allocation.seats_within(shares, free, n - int(got.sum())).tolist()


def _serve(
    seated: Seated, batch: Batch, members: IntArray, seats: Seats, keep: Keep | None, least_km2: float
) -> tuple[IntArray, int]:
    """Which proposals of a batch get a place, by number, and how many were looked at; notes what came to nothing."""
    is_open = np.append(np.array(seats.left) > 0, False)
    # Strata met for the first time have no seats.
    asked = np.flatnonzero((batch.fault == 0) & is_open[np.where(members < len(is_open), members, -1)])
    points = unit_vectors(batch.lon[asked], batch.lat[asked])
    refused = np.zeros(len(asked), dtype=np.int64)
    if keep is not None:
        refused[~keep(batch.lon[asked], batch.lat[asked])] = _BUFFER
    free = np.flatnonzero(refused == 0)
    refused[free[~seated.crowd.has_room(points[free])]] = _TOO_CLOSE
    free = np.flatnonzero(refused == 0)
    earlier, later = (free[rows] for rows in pairs(points[free], seated.reach))
    order = np.argsort(earlier, kind="stable")
    starts = np.searchsorted(earlier[order], np.arange(len(asked) + 1))
    reasons = refused.tolist()
    taken, served = seats.serve(members[asked].tolist(), reasons, starts.tolist(), later[order].tolist(), least_km2)
    is_last = served == len(asked) and any(seats.left) and seats.open_km2 >= least_km2
    seen = len(batch.fault) if is_last else int(asked[served - 1]) + 1 if served else len(batch.fault)
    rows = asked[taken]
    seated.add(batch.lon[rows], batch.lat[rows], batch.stratum[rows], points[taken])
    faults = np.bincount(batch.fault[:seen], minlength=4)
    for fault, reason in REASONS.items():
        seated.rejected[reason] += int(faults[fault])
    why = np.bincount(np.array(reasons[:served], dtype=np.int64) + 1, minlength=4)
    seated.rejected["too-close"] += int(why[_TOO_CLOSE + 1])
    seated.rejected["buffer"] += int(why[_BUFFER + 1])
    seated.rejected["seats-taken"] += int(faults[0]) - len(taken) - int(why[_TOO_CLOSE + 1] + why[_BUFFER + 1])
    return rows, seen
