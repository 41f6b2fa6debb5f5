"""What a catalog file holds for an area and a period, and why the rest is left out."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from geossl_data.errors import CatalogError, DatasetError, EmptyResultError
from geossl_data.scenes.items import read_items, write_items
from geossl_data.scenes.search import Found, area_of, month_windows, query_boxes, read_scenes, search, write_scenes
from geossl_data.tables import read_metadata

STAC = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stac"

Item = dict[str, Any]
Make = Callable[..., Item]


def find(folder: Path, items: list[Item], **changes: Any) -> Found:
    path = folder / "catalog.parquet"
    write_items(path, items)
    asked = {"area": None, "start": None, "end": None, "max_cloud": 100.0, "unknown_baseline": "skip"} | changes
    return search(str(path), **asked)


def ids(found: Found) -> list[str]:
    return [scene.id for scene in found.scenes]


def reasons(found: Found) -> dict[str, str]:
    return {row.id: row.reason for row in found.skipped}


def test_days_are_whole_and_both_included(tmp_path: Path, s2_item: Make) -> None:
    times = {
        "S2A_before": "2023-05-31T23:59:59.999999Z",
        "S2A_first": "2023-06-01T00:00:00Z",
        "S2A_last": "2023-06-02T23:59:59.999999Z",
        "S2A_after": "2023-06-03T00:00:00Z",
        "S2A_zone": "2023-06-03T01:30:00+02:00",
    }
    items = [s2_item(name, time=time, s2__mgrs_tile=None) for name, time in times.items()]
    found = find(tmp_path, items, start=date(2023, 6, 1), end=date(2023, 6, 2))
    assert ids(found) == ["S2A_first", "S2A_zone", "S2A_last"]
    assert found.skipped == []


def test_cloud_area_and_collection(tmp_path: Path, s2_item: Make, s1_item: Make) -> None:
    items = [
        s2_item("S2A_clear", eo__cloud_cover=30, s2__mgrs_tile=None),
        s2_item("S2A_cloudy", eo__cloud_cover=30.1, s2__mgrs_tile=None),
        s2_item("S2A_unstated", eo__cloud_cover=None, s2__mgrs_tile=None),
        s2_item("S2A_far", bounds=(20, 47, 21, 48)),
        s2_item("S2A_l1c", collection="sentinel-2-l1c"),
        s1_item(eo__cloud_cover=99),
    ]
    found = find(tmp_path, items, max_cloud=30.0, area=area_of((8.5, 47.5, 8.6, 47.6), None))
    assert ids(found) == ["S2A_clear", "S2A_unstated", "S1A_a"]
    assert found.skipped == []


def test_items_that_cannot_be_used_are_listed_where_they_were_asked_for(
    tmp_path: Path, s2_item: Make, s1_item: Make
) -> None:
    hostile = s2_item("S2A_hostile")
    hostile["assets"]["B02"]["href"] = "file:///etc/passwd"
    shifted = s2_item("S2A_shifted", s2__processing_baseline="03.01", earthsearch__boa_offset_applied=True)
    items = [
        s2_item("S2A_good"),
        s2_item("S2A_short", drop=("B12",)),
        s2_item("S2A_short_elsewhere", drop=("B12",), bounds=(20, 47, 21, 48)),
        s2_item("S2A_short_later", drop=("B12",), time="2024-01-01T00:00:00Z"),
        s2_item("S2A_timeless", time=None, start_datetime="2023-01-01T00:00:00Z", end_datetime="2023-12-31T00:00:00Z"),
        s2_item("S2A_unknown", s2__processing_baseline=None),
        hostile,
        shifted,
        s1_item("S1A_grd", collection="sentinel-1-grd"),
        s2_item("S2A bad id"),
    ]
    found = find(tmp_path, items, area=box(8, 47, 9, 48), start=date(2023, 6, 1), end=date(2023, 6, 30))
    assert ids(found) == ["S2A_good"]
    assert reasons(found) == {
        "S2A_short": "missing-asset",
        "S2A_timeless": "no-time",
        "S2A_unknown": "unknown-baseline",
        "S2A_hostile": "href-refused",
        "S2A_shifted": "offset-contradiction",
        "S1A_grd": "not-terrain-corrected",
        "S2A bad id": "bad-item",
    }
    assert {row.stage for row in found.skipped} == {"fetch"}


def test_unknown_baselines_as_stored(tmp_path: Path, s2_item: Make) -> None:
    found = find(tmp_path, [s2_item(s2__processing_baseline=None)], unknown_baseline="as-stored")
    assert (found.scenes[0].baseline, found.scenes[0].boa_offset) == (None, None)


def test_the_newest_version_of_an_acquisition_is_kept(tmp_path: Path, s2_item: Make) -> None:
    items = [
        s2_item("S2A_new", s2__processing_baseline="05.10"),
        s2_item("S2A_old", s2__processing_baseline="02.12", time="2023-06-01T10:20:40Z"),
        s2_item("S2A_again", s2__processing_baseline="05.10", s2__generation_time="2023-06-02T00:00:00Z"),
        s2_item("S2A_half", s2__processing_baseline="05.10", bounds=(8.9, 47, 9.9, 48)),
        s2_item("S2B_other", platform="sentinel-2b"),
        s2_item("S2A_tile", s2__mgrs_tile="32TNT"),
        s2_item("S2A_next", time="2023-06-11T10:20:31Z"),
    ]
    for order in (items, items[::-1]):
        found = find(tmp_path, order)
        assert sorted(ids(found)) == ["S2A_again", "S2A_half", "S2A_next", "S2A_tile", "S2B_other"]
        assert reasons(found) == {"S2A_new": "superseded", "S2A_old": "superseded"}
    assert "the same acquisition as S2A_again" in found.skipped[0].detail


def test_labels_come_whatever_their_date(tmp_path: Path, s2_item: Make, s1_item: Make) -> None:
    period = {"start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2020-01-01T00:00:00Z"}
    near = s1_item("near", keys=("class",), collection="any-labels", time=None, **period)
    far = s1_item("far", keys=("class",), collection="any-labels", time=None, bounds=(0, 0, 1, 1), **period)
    found = find(tmp_path, [near, far, s2_item()], start=date(2023, 6, 1), max_cloud=20.0, area=box(8, 47, 9, 48))
    assert [(scene.id, scene.sensor) for scene in found.scenes] == [("near", "label"), ("S2A_a", "s2")]


def test_one_id_twice(tmp_path: Path, s2_item: Make, s1_item: Make) -> None:
    found = find(tmp_path, [s2_item(), s2_item(), s1_item("S2A_a")])
    assert (ids(found), reasons(found)) == (["S2A_a"], {"S2A_a": "bad-item"})


def test_the_antimeridian(tmp_path: Path, s2_item: Make) -> None:
    crossing = {"type": "Polygon", "coordinates": [[[179, 10], [-179, 10], [-179, 12], [179, 12], [179, 10]]]}
    spellings = [crossing, mapping(box(179, 10, 181, 12)), mapping(box(-181, 10, -179, 12))]
    items = [
        s2_item(f"S2A_{number}", s2__mgrs_tile=None) | {"geometry": json.loads(json.dumps(geometry)), "bbox": None}
        for number, geometry in enumerate(spellings)
    ]
    items.append(s2_item("S2A_else", bounds=(0, 10, 1, 12)))
    for bbox in [(179.5, 11, -179.5, 11.5), (-179.9, 11, -179.5, 11.5), (179.5, 11, 179.9, 11.5)]:
        found = find(tmp_path, items, area=area_of(bbox, None))
        assert ids(found) == ["S2A_0", "S2A_1", "S2A_2"]
    assert found.scenes[0].footprint.bounds == (179, 10, 181, 12)


def test_nothing_found_says_what_was_asked_and_what_there_was(tmp_path: Path, s2_item: Make) -> None:
    items = [
        s2_item(eo__cloud_cover=80),
        s2_item("S2A_b", collection="sentinel-2-l1c"),
        s2_item("S2A_c", s2__processing_baseline=None),
    ]
    expected = (
        r"no scenes of sentinel-2-l2a and sentinel-1-rtc for 2023-06-01 to 2023-06-30, area 8 47 9 48, "
        r"cloud up to 30 %: "
        r"3 items in all \(1 too cloudy, 1 of other collections \(sentinel-2-l1c\), 1 unknown-baseline\); widen"
    )
    with pytest.raises(EmptyResultError, match=expected):
        find(tmp_path, items, max_cloud=30.0, area=box(8, 47, 9, 48), start=date(2023, 6, 1), end=date(2023, 6, 30))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such catalog file"):
        search(str(tmp_path / "x.parquet"), area=None, start=None, end=None, max_cloud=1, unknown_baseline="skip")


# ---------------------------------------------------------------------------------------------------- scenes.parquet


def test_scenes_come_back_and_hold_no_secret(tmp_path: Path, s2_item: Make, s1_item: Make) -> None:
    folder = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2"
    item = s2_item("S2A_signed", folder=folder, canary="CANARY")
    for asset in item["assets"].values():
        asset["href"] += "?st=2024-01-01&se=2024-01-02&sp=rl&sig=CANARY"
        asset["alternate"] = {"s3": {"href": "s3://key:CANARY@bucket/x"}}
    item["assets"]["preview"] = {"href": "https://example.org/p.png?token=CANARY"}
    item["links"] = [{"rel": "self", "href": "https://example.org/a?token=CANARY"}]
    period = {"start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2020-01-01T00:00:00Z"}
    label = s1_item("map", keys=("class",), collection="any-labels", time=None, **period)
    numeric = s2_item("S2A_number", time="2023-07-01T00:00:00Z")
    numeric["assets"]["B02"]["raster:bands"] = [{"offset": -0.1, "scale": 0.0001, "data_type": "uint16"}]
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    items = [item, s1_item(), label, numeric]
    found = find(catalog, items, unknown_baseline="as-stored")
    path = tmp_path / "data" / "scenes.parquet"
    write_scenes(path, found, metadata={"fingerprint": "f"})
    assert read_scenes(path) == found.scenes
    assert read_scenes(path)[2].hrefs["VV"] == str(catalog.resolve() / "s1" / "S1A_a" / "vv.tif")
    assert "CANARY" not in json.dumps(read_items(path))
    assert b"CANARY" not in path.read_bytes()
    notes = read_metadata(path)
    assert (notes["fingerprint"], notes["provider"], notes["unknown_baseline"]) == ("f", "file", "as-stored")
    before = path.read_bytes()
    again = find(catalog, items, unknown_baseline="as-stored")
    write_scenes(path, again, metadata={"fingerprint": "f"})
    assert path.read_bytes() == before


def test_no_table_of_scenes(tmp_path: Path, s2_item: Make) -> None:
    write_items(tmp_path / "scenes.parquet", [s2_item()])
    with pytest.raises(DatasetError, match="not a table of scenes"):
        read_scenes(tmp_path / "scenes.parquet")


def test_a_table_of_scenes_that_was_tampered_with(tmp_path: Path, s2_item: Make) -> None:
    found = find(tmp_path, [s2_item()])
    found.items[0]["assets"]["B02"]["href"] = "/etc/passwd"
    write_scenes(tmp_path / "scenes.parquet", found)
    with pytest.raises(DatasetError, match=r"damaged .*not below the catalog's folder"):
        read_scenes(tmp_path / "scenes.parquet")


def test_no_file_of_scenes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_scenes(tmp_path / "scenes.parquet")


# ---------------------------------------------------------------------------------------------------- area


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


def test_months() -> None:
    def day(month: int, number: int, year: int = 2023) -> datetime:
        return datetime(year, month, number, tzinfo=UTC)

    assert month_windows(day(11, 15), day(1, 2, 2024)) == [
        (day(11, 15), day(12, 1)),
        (day(12, 1), day(1, 1, 2024)),
        (day(1, 1, 2024), day(1, 2, 2024)),
    ]
    assert month_windows(day(5, 1), day(5, 1)) == []


# ---------------------------------------------------------------------------------------------------- real catalogs


def test_the_real_planet(real_planet: Path) -> None:
    asked = {"area": None, "start": None, "end": None, "max_cloud": 100.0}
    found = search(str(real_planet), unknown_baseline="skip", **asked)
    assert Counter(scene.sensor for scene in found.scenes) == {"s1": 19, "s2": 5}
    assert Counter(row.reason for row in found.skipped) == {
        "no-time": 28,
        "missing-asset": 12,
        "unknown-baseline": 6,
    }
    assert {scene.boa_offset for scene in found.scenes if scene.sensor == "s2"} == {0}
    stored = search(str(real_planet), unknown_baseline="as-stored", **asked)
    assert Counter(scene.sensor for scene in stored.scenes) == {"s1": 19, "s2": 11}
    assert all(Path(href).is_file() for scene in stored.scenes for href in scene.hrefs.values())


def test_a_real_parquet_of_another_writer() -> None:
    path = STAC / "planetary-computer__sentinel-2-l2a__1000.parquet"
    if not path.is_file():
        pytest.skip("no real items: ../shared/data/stac is absent")
    found = search(str(path), area=None, start=None, end=None, max_cloud=100, unknown_baseline="skip")
    assert len(found.scenes) + len(found.skipped) == 1000
    assert set(reasons(found).values()) == {"superseded"}
    assert {scene.boa_offset for scene in found.scenes} == {-1000}
