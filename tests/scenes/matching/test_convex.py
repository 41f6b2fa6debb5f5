"""Convex polygons: found, and cut to each other as shapely does it."""

import math
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon, box

from geossl_data.scenes.matching.convex import MOST_CORNERS, area, clip, rings
from geossl_data.scenes.matching.ground import can_cut, ground, shared_area, shared_by_both


def columns(*polygons: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array(polygons, dtype=float)
    return np.ascontiguousarray(corners[..., 0].T), np.ascontiguousarray(corners[..., 1].T)


SQUARE = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ([(1.0, 1.0), (3.0, 1.0), (3.0, 3.0), (1.0, 3.0)], 1.0),
        ([(-1.0, -1.0), (3.0, -1.0), (3.0, 3.0), (-1.0, 3.0)], 4.0),
        ([(0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0)], 0.25),
        ([(2.0, 0.0), (3.0, 0.0), (3.0, 2.0), (2.0, 2.0)], 0.0),
        ([(5.0, 5.0), (6.0, 5.0), (6.0, 6.0), (5.0, 6.0)], 0.0),
        (SQUARE, 4.0),
        ([(1.0, -1.0), (3.0, 1.0), (1.0, 3.0), (-1.0, 1.0)], 4.0),
        ([(1.0, 0.0), (2.0, 1.0), (1.0, 2.0), (0.0, 1.0)], 2.0),
        ([(0.0, 0.0), (2.0, 2.0), (2.0, 2.0), (2.0, 2.0)], 0.0),
    ],
)
def test_what_two_polygons_share(window: list[tuple[float, float]], expected: float) -> None:
    # The second column keeps the polygons of a chunk apart.
    first, second = columns(SQUARE, SQUARE), columns(window, SQUARE)
    assert area(clip(first, second)).tolist() == pytest.approx([expected, 4.0], abs=1e-12)


def test_which_shapes_can_cut() -> None:
    circle = Polygon([(math.cos(turn / 10), math.sin(turn / 10)) for turn in range(60)])
    shapes = [
        box(0, 0, 1, 1),
        box(0, 0, 1, 1).reverse(),
        Polygon([(0, 0), (1, 0), (2, 0), (0, 2)]),  # a corner on an edge
        Polygon([(0, 0), (0, 0), (1, 0), (0, 1)]),  # a corner twice
        Polygon([(0, 0), (4, 0), (4, 4), (2, 1)]),
        Polygon([(0, 0), (4, 0), (2, 1), (2, 1), (4, 4)]),  # twice, where it turns the other way
        Polygon(box(0, 0, 3, 3).exterior, [box(1, 1, 2, 2).exterior]),
        MultiPolygon([box(0, 0, 1, 1)]),
        circle,
        Polygon([(0, 0), (1, 0), (0, 1)]),
    ]
    found = rings(np.array(shapes, dtype=object))
    assert found.n_corners.tolist() == [4, 4, 4, 4, 4, 5, 0, 0, 0, 3]
    assert found.is_convex.tolist() == [True, True, True, *[False] * 6, True]
    # Counter-clockwise, the last corner repeated.
    assert found.corners[9, :4].tolist() == [[0, 0], [1, 0], [0, 1], [0, 1]]
    for number in (0, 1):
        assert area(columns([(x, y) for x, y in found.corners[number, :4].tolist()])).tolist() == [1.0]


def test_no_shapes() -> None:
    assert rings(np.empty(0, dtype=object)).n_corners.tolist() == []


def hulls(draw: np.random.Generator, n: int) -> np.ndarray:
    """Convex polygons of up to nine corners: on a coarse grid, so that they touch, or anywhere; some of them thin."""
    found: list[Polygon] = []
    while len(found) < n:
        points = draw.uniform(-3, 3, (draw.integers(3, 10), 2))
        if draw.random() < 0.5:
            points = np.round(points)
        if draw.random() < 0.2:
            points[:, 1] = points[:, 0] + 1e-3 * points[:, 1]
        hull = shapely.MultiPoint(points).convex_hull
        if hull.area > 1e-4:
            found.append(hull)
    return np.array(found, dtype=object)


def stars(draw: np.random.Generator, n: int) -> np.ndarray:
    """Simple polygons of up to nine corners, most of them not convex, in either direction."""
    found: list[Polygon] = []
    while len(found) < n:
        angle = np.sort(draw.uniform(0, 2 * np.pi, draw.integers(4, 10))) * draw.choice([-1, 1])
        reach = draw.uniform(0.2, 3, len(angle))
        points = draw.uniform(-1, 1, 2) + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
        star = Polygon(np.round(points, 1) if draw.random() < 0.5 else points)
        if star.is_valid and star.area > 1e-4:
            found.append(star)
    return np.array(found, dtype=object)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 179.5, -180.25]))
def test_as_shapely(seed: int, west: float) -> None:
    draw = np.random.default_rng(seed)
    first, second = (shapely.transform(hulls(draw, 50), lambda points: points + np.array([west, 50.0])) for _ in "ab")
    a, b, index = ground(first), ground(second), np.arange(50)
    expected = shapely.area(shapely.intersection(first, second))
    found = shared_area(a, b, index, index, np.zeros(50))
    assert (np.abs(found - expected) <= 1e-9 * np.minimum(a.area, b.area)).all()
    assert can_cut(a, b, index, index).sum() > 30
    assert a.rings.n_corners.max() <= MOST_CORNERS


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.permutations([hulls, stars, stars]))
def test_rings_that_are_not_convex_as_shapely(seed: int, kinds: list[Any]) -> None:
    draw = np.random.default_rng(seed)
    first, second = kinds[0](draw, 40), kinds[1](draw, 40)
    a, b, index = ground(first), ground(second), np.arange(40)
    expected = shapely.area(shapely.intersection(first, second))
    found = shared_area(a, b, index, index, np.zeros(40))
    assert (np.abs(found - expected) <= 1e-9 * np.minimum(a.area, b.area)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_what_three_share_as_shapely(seed: int) -> None:
    draw = np.random.default_rng(seed)
    one, two, three = ground(stars(draw, 50)), ground(hulls(draw, 50)), ground(hulls(draw, 50))
    frames = ground(np.concatenate([two.shapes, three.shapes]))
    index = np.arange(50)
    index = index[can_cut(one, two, index, index) & can_cut(one, three, index, index)]
    zero = np.zeros(len(index))
    found = shared_by_both(one, frames, index, index, index + 50, (zero, zero))
    both = shapely.intersection(shapely.intersection(one.shapes, two.shapes), three.shapes)
    smallest = np.minimum(np.minimum(one.area, two.area), three.area)
    assert (np.abs(found - shapely.area(both)[index]) <= 1e-9 * smallest[index]).all()
