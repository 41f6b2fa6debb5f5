"""Candidates: all that are near, each once."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.scenes.matching import nearby
from geossl_data.scenes.matching.nearby import boxes, candidates

HOUR = 3_600_000_000

ROWS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([-180.0, -179.0, 0.0, 179.0, 180.0, 360.0, -540.0]), st.floats(-200, 200)),
        st.sampled_from([-90.0, -1.0, 0.0, 0.5, 88.0]),
        st.sampled_from([0.01, 1.0, 2.0, 20.0, 170.0]),
        st.one_of(st.integers(0, 5).map(lambda hour: hour * HOUR), st.integers(-(10**17), 10**17)),
    ),
    min_size=1,
    max_size=12,
)


def columns(rows: list[Any]) -> tuple[nearby.Boxes, np.ndarray]:
    shapes = [shapely.box(west, south, west + width, south + 1.5) for west, south, width, _ in rows]
    return boxes(np.array(shapes, dtype=object)), np.array([row[3] for row in rows], dtype=np.int64)


@pytest.mark.parametrize("most", [1, 1 << 19])
@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS, st.sampled_from([0, HOUR, 3 * HOUR, 10**18]))
def test_as_brute_force(most: int, first: list[Any], second: list[Any], gap_us: int) -> None:
    first.sort(key=lambda row: row[3])
    (a, a_us), (b, b_us) = columns(first), columns(second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearby, "MOST_CANDIDATES", most)
        blocks = list(candidates(a, a_us, b, b_us, gap_us))
    found = [tuple(row) for block in blocks for row in zip(*(column.tolist() for column in block), strict=True)]
    expected = []
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            for turn in range(-1440, 1441, 360):
                west, east = other[0] + turn, other[0] + other[2] + turn
                in_space = west < one[0] + one[2] and one[0] < east and abs(one[1] - other[1]) < 1.5
                # Rounding decides about boxes that touch, and about those alone.
                slack = min(abs(west - one[0] - one[2]), abs(one[0] - east))
                if in_space and abs(one[3] - other[3]) <= gap_us and slack > 1e-9:
                    expected.append((i, j, float(turn)))
    assert set(expected) <= set(found)
    assert len(found) == len(set(found))
    for i, j, turn in set(found) - set(expected):
        west = second[j][0] + turn
        assert min(abs(west - first[i][0] - first[i][2]), abs(first[i][0] - west - second[j][2])) <= 1e-9
    assert [i for i, _, _ in found] == sorted(i for i, _, _ in found)
    owners = [set(block[0].tolist()) for block in blocks]
    assert sum(len(owner) for owner in owners) == len(set().union(*owners))


def test_a_negative_gap_finds_nothing() -> None:
    a, us = columns([(0.0, 0.0, 1.0, 0)])
    assert list(candidates(a, us, a, us, -1)) == []
    assert [len(block[0]) for block in candidates(a, us, a, us, 0)] == [1]
