"""The area of a search, from a box or a file, and the boxes that an API is asked for."""

from pathlib import Path

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon, box

from geossl_data.errors import CatalogError
from geossl_data.scenes.area import area_of, area_of_places, query_boxes
from geossl_data.scenes.area_index import AreaIndex


def test_boxes() -> None:
    assert area_of(None, None) is None
    assert area_of((8, 47, 9, 48), None).equals(box(8, 47, 9, 48))
    crossing = area_of((179, 10, -178, 12), None)
    assert crossing.equals(box(179, 10, 180, 12).union(box(-180, 10, -178, 12)))
    assert query_boxes(crossing) == [(-180, 10, -178, 12), (179, 10, 180, 12)]
    assert query_boxes(box(179, 10, 182, 12)) == [(-180, 10, -178, 12), (179, 10, 180, 12)]
    assert query_boxes(box(-200, -10, 200, 10)) == [(-180, -10, 180, 10)]


def degrees(least: int, most: int) -> st.SearchStrategy[float]:
    """To a micro-degree: GEOS warns of numbers like 1e-184."""
    return st.integers(least * 10**6, most * 10**6).map(lambda micro: micro / 1e6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(degrees(-180, 179), degrees(-80, 79)), min_size=1, max_size=40))
def test_query_boxes_cover_the_area(corners: list[tuple[float, float]]) -> None:
    from shapely import union_all

    area = union_all([box(west, south, west + 0.5, south + 0.5) for west, south in corners])
    boxes = query_boxes(area)
    covered = union_all([box(*edges) for edges in boxes]).buffer(1e-9)
    assert covered.covers(area)
    assert all(-180 <= west < east <= 180 for west, _, east, _ in boxes)


def test_an_area_file_in_another_crs(tmp_path: Path) -> None:
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


def test_an_area_file_with_a_spike(tmp_path: Path) -> None:
    """The line that a mend leaves is no ground, and a scene that shows it shows nothing of it."""
    spiked = Polygon([(0, 0), (1, 0), (1, 0.5), (2, 0.5), (1, 0.5), (1, 1), (0, 1)])
    geopandas.GeoDataFrame(geometry=[spiked, box(10, 0, 11, 1)], crs=4326).to_file(tmp_path / "area.gpkg")
    area = area_of(None, tmp_path / "area.gpkg")
    assert area is not None
    assert area.equals(MultiPolygon([box(0, 0, 1, 1), box(10, 0, 11, 1)]))
    index = AreaIndex(area)
    assert not index.meets(box(1.2, 0, 3, 1))
    assert index.seen_by(box(0.5, 0, 3, 1)).equals(box(0.5, 0, 1, 1))


def test_an_area_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text("<html>")
    with pytest.raises(CatalogError, match="not a readable vector file"):
        area_of(None, path)


def test_no_area_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such area file"):
        area_of(None, tmp_path / "area.geojson")


def write_places(path: Path, lon: list[float], lat: list[float], size_px: list[int]) -> Path:
    pq.write_table(pa.table({"lon": lon, "lat": lat, "size_px": size_px}), path)
    return path


def test_the_ground_of_places(tmp_path: Path) -> None:
    area = area_of_places(
        write_places(tmp_path / "p.parquet", [8.0, 20.0, 179.999], [0.0, 60.0, 10.0], [264, 264, 600])
    )
    equator, north, dateline = sorted(area.geoms, key=lambda shape: shape.bounds)
    # 2.64 km: 0.0237 degrees on the equator, and twice that in longitude at 60 degrees
    assert equator.bounds == pytest.approx((7.98813, -0.01187, 8.01187, 0.01187), abs=1e-5)
    assert north.bounds[2] - north.bounds[0] == pytest.approx(2 * 0.02374, abs=1e-4)
    assert AreaIndex(dateline).meets(box(-180, 9, -179.99, 11))
    assert len(query_boxes(area)) == 4


@pytest.mark.parametrize(
    "row", [(181.0, 0.0, 264), (0.0, 89.5, 264), (0.0, 0.0, 0), (0.0, 0.0, 20000), (float("nan"), 0.0, 6)]
)
def test_places_that_are_not_on_the_earth(tmp_path: Path, row: tuple[float, float, int]) -> None:
    path = write_places(tmp_path / "p.parquet", [8.0, row[0]], [47.0, row[1]], [264, row[2]])
    with pytest.raises(CatalogError, match="2 places, 1 of them on the Earth"):
        area_of_places(path)


def test_what_is_no_table_of_places(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such table of places"):
        area_of_places(tmp_path / "absent.parquet")
    pq.write_table(pa.table({"lon": [1.0]}), tmp_path / "p.parquet")
    with pytest.raises(CatalogError, match="not a table of places with lon, lat, size_px"):
        area_of_places(tmp_path / "p.parquet")
    with pytest.raises(CatalogError, match="0 places, 0 of them on the Earth"):
        area_of_places(write_places(tmp_path / "p.parquet", [], [], []))
