"""Shared ground of any shapes, at any turn."""

import numpy as np
import pytest
from shapely import MultiPolygon, box

from geossl_data.scenes.matching.ground import ground, is_ground, moved, shared_area

SHAPES = np.array(
    [
        box(179, 10, 181, 11),
        box(-180, 10, -179, 12),
        MultiPolygon([box(179, 10, 180, 11), box(-180.0 + 360, 10, -179.5 + 360, 11)]),
        box(179, 10, 181, 11).difference(box(180, 10, 181, 10.5)),
    ],
    dtype=object,
)


@pytest.mark.parametrize(
    ("a", "b", "turn", "expected"),
    [
        (0, 1, 360.0, 1.0),
        (1, 0, -360.0, 1.0),
        (0, 1, 0.0, 0.0),
        (2, 1, 360.0, 0.5),
        (1, 3, -360.0, 0.5),
        (3, 2, 0, 1.25),
    ],
)
def test_shared_area(a: int, b: int, turn: float, expected: float) -> None:
    every = ground(SHAPES)
    # The pair beside it has an answer of its own.
    found = shared_area(every, every, np.array([a, 0]), np.array([b, 0]), np.array([turn, 0.0]))
    assert found.tolist() == pytest.approx([expected, 2.0])


def test_shapes_are_moved_one_by_one() -> None:
    found = moved(SHAPES[:3], np.array([0.0, 360.0, -360.0]))
    assert found[0] is SHAPES[0]
    assert [shape.bounds[0] for shape in found] == [179, 180, -181]
    assert SHAPES[1].bounds[0] == -180


def test_slivers_are_no_ground() -> None:
    shared, small, large = np.array([0.0, 1e-10, 2e-9]), np.ones(3), np.full(3, 50.0)
    assert is_ground(shared, small, large).tolist() == [False, False, True]
    assert is_ground(shared, large, small).tolist() == [False, False, True]
    assert not is_ground(np.zeros(1), np.zeros(1), np.zeros(1)).any()
