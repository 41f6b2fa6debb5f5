"""What scenes see of an area, and whether they see anything of it, however many polygons it has."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, box

from geossl_data.scenes.area_index import AreaIndex
from geossl_data.scenes.query import Query


def test_a_whole_turn_makes_no_difference() -> None:
    footprint = box(179, 10, 181, 12)
    assert AreaIndex(box(-180, 11, -179.5, 12)).meets(footprint)
    assert AreaIndex(box(-181, 11, -179, 12)).meets(footprint)
    assert not AreaIndex(box(-178.9, 10, 178.9, 12)).meets(footprint)


def test_a_query_without_an_area_meets_everything_and_one_with_it_looks_at_it_once() -> None:
    assert Query().meets(box(0, 0, 1, 1))
    query = Query(area=box(5, 5, 6, 6))
    assert not query.meets(box(0, 0, 1, 1))
    assert query.meets(box(6, 6, 7, 7))  # a corner is enough
    assert query.area_index is query.area_index


tenths = st.integers(-40, 40).map(lambda tenth: tenth / 10)
sides = st.integers(1, 30).map(lambda tenth: tenth / 10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(tenths, tenths, sides), min_size=1, max_size=30), tenths, tenths, sides)
def test_it_answers_as_the_whole_area_does(
    squares: list[tuple[float, float, float]], west: float, south: float, side: float
) -> None:
    # Discs have more corners than what is left unprepared.
    shapes = [
        box(x, y, x + s, y + s) if number % 2 else Point(x, y).buffer(s) for number, (x, y, s) in enumerate(squares)
    ]
    area = shapely.union_all(shapes)
    footprint = box(west, south, west + side, south + 2 * side)
    index = AreaIndex(area)
    assert index.meets(footprint) == footprint.intersects(area)
    assert np.isclose(index.seen_by(footprint).area, footprint.intersection(area).area)


def test_inside_a_hole_is_outside() -> None:
    ring = Point(0, 0).buffer(3, quad_segs=32).difference(Point(0, 0).buffer(2, quad_segs=32))
    assert not AreaIndex(ring).meets(box(-1, -1, 1, 1))
    assert AreaIndex(ring).meets(box(-1, -1, 2, 1))
    assert AreaIndex(ring).meets(box(-4, -4, 4, 4))


def test_around_places_only_those_near_a_scene_are_looked_at() -> None:
    places = [box(lon, 47.5, lon + 0.02, 47.52) for lon in (-170.0, 8.5, 8.6, 60.0, 171.0)]
    assert (
        AreaIndex(shapely.union_all(places)).seen_by(box(8.4, 47.0, 9.6, 48.0)).equals(shapely.union_all(places[1:3]))
    )
    # A footprint is the same a whole turn away, and what it shows lies where the area does.
    area = box(189.9, 47.0, 190.1, 47.2)
    assert AreaIndex(area).seen_by(box(-170.5, 47.0, -169.5, 48.0)).equals(area)
