"""Seats against hand-worked counts and against every way there is to hand them out."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies import allocate
from geossl_data.sampling.strategies.allocation import largest_remainder, seats_within


def test_allocate_by_hand() -> None:
    sizes = np.array([100, 25, 1, 0])
    np.testing.assert_array_equal(allocate(sizes, 16, power=0.5), [10, 5, 1, 0])
    np.testing.assert_array_equal(allocate(sizes, 9, power=0.0), [4, 4, 1, 0])
    np.testing.assert_array_equal(allocate(sizes, 126, power=1.0), [100, 25, 1, 0])


def test_allocate_refuses_more_than_there_is() -> None:
    with pytest.raises(SamplingError, match="asked for 4 places, there are 3"):
        allocate(np.array([1, 2]), 4)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(sum), st.floats(0, 1), st.integers(0, 600))
def test_allocate_sums_exactly_and_stays_within_sizes(sizes: list[int], power: float, n: int) -> None:
    n = min(n, sum(sizes))
    seats = allocate(np.array(sizes), n, power=power)
    assert seats.sum() == n
    assert (seats <= sizes).all()
    assert (seats >= 0).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(sum), st.integers(0, 7))
def test_largest_remainder_is_the_nearest_of_all_whole_numbers(shares: list[int], n: int) -> None:
    seats = largest_remainder(np.array(shares, dtype=float), n)
    exact = [Fraction(n * share, sum(shares)) for share in shares]

    def error(given: tuple[int, ...]) -> Fraction:
        return sum(((seat - wanted) ** 2 for seat, wanted in zip(given, exact, strict=True)), Fraction(0))

    ways = [way for way in product(range(n + 1), repeat=len(shares)) if sum(way) == n]
    assert seats.sum() == n
    assert error(tuple(seats.tolist())) == min(map(error, ways))


def test_equal_remainders_go_to_the_first() -> None:
    np.testing.assert_array_equal(largest_remainder(np.array([0.1, 0.1, 0.1]), 4), [2, 1, 1])
    np.testing.assert_array_equal(largest_remainder(np.array([0.7, 0.2, 0.1]), 10), [7, 2, 1])


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 30)), min_size=1, max_size=8),
    st.integers(0, 200),
)
def test_seats_within_fill_what_room_there_is(pairs: list[tuple[float, int]], n: int) -> None:
    shares, room = np.array([share for share, _ in pairs]), np.array([most for _, most in pairs])
    seats = seats_within(shares, room, n)
    assert (seats <= room).all()
    assert not seats[shares == 0].any()
    assert seats.sum() == min(n, room[shares > 0].sum())
