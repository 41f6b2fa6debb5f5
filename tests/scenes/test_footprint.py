"""Footprints are areas on the globe, however they are spelled."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import box, mapping

from geossl_data.scenes.footprint import footprint_of


def test_the_antimeridian_in_four_spellings() -> None:
    expected = box(179, 10, 181, 12)
    spellings = [
        {"type": "Polygon", "coordinates": [[[179, 10], [-179, 10], [-179, 12], [179, 12], [179, 10]]]},
        mapping(expected),
        mapping(box(-181, 10, -179, 12)),
        mapping(box(179, 10, 180, 12).union(box(-180, 10, -179, 12))),
    ]
    for geometry in spellings:
        assert footprint_of("a", geometry).equals(expected)


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 179.9), st.floats(-80, 79), st.floats(0.01, 9), st.integers(-1, 1))
def test_a_footprint_starts_on_the_globe_and_keeps_its_area(west: float, south: float, side: float, turn: int) -> None:
    shape = box(west, south, west + side, south + 1)
    found = footprint_of("a", mapping(affinity.translate(shape, xoff=360.0 * turn)))
    assert -180 <= found.bounds[0] < 180
    assert found.area == pytest.approx(shape.area)


def test_a_bow_tie_is_mended() -> None:
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    assert footprint_of("a", geometry).is_valid
