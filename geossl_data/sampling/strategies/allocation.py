"""Seats for strata: largest remainders, sums that are exact, and what a full stratum passes on."""

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies.ground import FloatArray, IntArray

POWERS: dict[str, float] = {"equal": 0.0, "sqrt": 0.5, "proportional": 1.0}
"""Allocation rules by name: the power of a stratum's size that its seats go with."""

_DECIMALS = 9
"""Remainders that agree in so many decimals are equal, so that rounding does not decide who comes first."""


def largest_remainder(shares: FloatArray, n: int) -> IntArray:
    """`n` seats in proportion to `shares`, shape (k,), each ≥ 0 and one of them above 0; sums to exactly `n`.

    Each gets the whole part of its exact seats, and those with the largest remainders one more; ties go to the first.
    """
    exact = np.round(n * (shares / shares.sum()), _DECIMALS)
    seats: IntArray = np.floor(exact).astype(np.int64)
    first = np.argsort(seats - exact, kind="stable")[: n - int(seats.sum())]
    seats[first] += 1
    return seats


def seats_within(shares: FloatArray, room: IntArray, n: int) -> IntArray:
    """`n` seats in proportion to `shares`, none with more than its `room`; all arrays of shape (k,).

    What does not fit is shared among the others in the same way. Fewer than `n` only where those with a share have no
    more room.
    """
    seats = np.zeros(len(shares), dtype=np.int64)
    while (left := n - int(seats.sum())) > 0:
        open_shares = np.where(room > seats, shares, 0.0)
        if not open_shares.any():
            break
        seats = np.minimum(seats + largest_remainder(open_shares, left), room)
    return seats


def allocate(sizes: IntArray, n: int, *, power: float = 0.5) -> IntArray:
    """Seats for each stratum, proportional to size**power, summing to exactly `n`.

    sizes: candidates per stratum, shape (k,), all >= 0. Returns int64, shape (k,), never above `sizes`: what a full
    stratum cannot take is shared among the others by the same rule. Largest-remainder method; ties go to the first.
    Raises SamplingError when fewer than `n` candidates exist.
    """
    if n > int(sizes.sum()):
        raise SamplingError(f"asked for {n} places, there are {int(sizes.sum())} candidates")
    return seats_within(np.power(sizes, power, dtype=np.float64), sizes, n)
