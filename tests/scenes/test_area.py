"""The area of a search, from a box or a file, and the boxes that an API is asked for."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from geossl_data.errors import CatalogError
from geossl_data.scenes.area import area_of, meets, query_boxes


def test_boxes() -> None:
    assert area_of(None, None) is None
    assert area_of((8, 47, 9, 48), None).equals(box(8, 47, 9, 48))
    crossing = area_of((179, 10, -178, 12), None)
    assert crossing.equals(box(179, 10, 180, 12).union(box(-180, 10, -178, 12)))
    assert query_boxes(crossing) == [(-180, 10, -178, 12), (179, 10, 180, 12)]
    assert query_boxes(box(179, 10, 182, 12)) == [(-180, 10, -178, 12), (179, 10, 180, 12)]
    assert query_boxes(box(-200, -10, 200, 10)) == [(-180, -10, 180, 10)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 179), st.floats(-80, 79)), min_size=1, max_size=40))
def test_query_boxes_cover_the_area(corners: list[tuple[float, float]]) -> None:
    from shapely import union_all

    area = union_all([box(west, south, west + 0.5, south + 0.5) for west, south in corners])
    boxes = query_boxes(area)
    covered = union_all([box(*edges) for edges in boxes]).buffer(1e-9)
    assert covered.covers(area)
    assert all(-180 <= west < east <= 180 for west, _, east, _ in boxes)


def test_a_whole_turn_makes_no_difference() -> None:
    footprint = box(179, 10, 181, 12)
    assert [meets(footprint, area) for area in (None, box(-180, 11, -179.5, 12), box(-181, 11, -179, 12))] == [True] * 3
    assert not meets(footprint, box(-178.9, 10, 178.9, 12))


def test_an_area_file_in_another_crs(tmp_path: Path) -> None:
    import geopandas

    path = tmp_path / "area.gpkg"
    geopandas.GeoDataFrame(geometry=[box(500_000, 5_300_000, 510_000, 5_310_000)], crs=32632).to_file(path)
    west, south, east, north = area_of(None, path).bounds
    assert (round(west, 3), round(south, 2)) == (9.0, 47.85)
    assert (round(east, 2), round(north, 2)) == (9.13, 47.94)


def test_an_area_file_of_points(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text('{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [8, 47]}}')
    with pytest.raises(CatalogError, match="holds no polygon"):
        area_of(None, path)


def test_an_area_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text("<html>")
    with pytest.raises(CatalogError, match="not a readable vector file"):
        area_of(None, path)


def test_no_area_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such area file"):
        area_of(None, tmp_path / "area.geojson")
