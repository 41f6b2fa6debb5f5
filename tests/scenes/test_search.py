"""What a catalog file holds for an area and a period, and why the rest is left out."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box, mapping

from geossl_data.errors import CatalogError, EmptyResultError
from geossl_data.scenes.area import area_of
from geossl_data.scenes.search import Found, search

STAC = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stac"

Item = dict[str, Any]
Make = Callable[..., Item]
Find = Callable[..., Found]


def ids(found: Found) -> list[str]:
    return [scene.id for scene in found.scenes]


def reasons(found: Found) -> dict[str, str]:
    return {row.id: row.reason for row in found.skipped}


def test_days_are_whole_and_both_included(tmp_path: Path, find: Find, s2_item: Make) -> None:
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


def test_cloud_area_and_collection(tmp_path: Path, find: Find, s2_item: Make, s1_item: Make) -> None:
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
    tmp_path: Path, find: Find, s2_item: Make, s1_item: Make
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
        s1_item("S1A_grd", proj__transform=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
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


def test_unknown_baselines_as_stored(tmp_path: Path, find: Find, s2_item: Make) -> None:
    found = find(tmp_path, [s2_item(s2__processing_baseline=None)], unknown_baseline="as-stored")
    assert (found.scenes[0].baseline, found.scenes[0].boa_offset) == (None, None)


def test_labels_come_whatever_their_date(tmp_path: Path, find: Find, s2_item: Make, s1_item: Make) -> None:
    period = {"start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2020-01-01T00:00:00Z"}
    near = s1_item("near", keys=("class",), collection="any-labels", time=None, **period)
    far = s1_item("far", keys=("class",), collection="any-labels", time=None, bounds=(0, 0, 1, 1), **period)
    found = find(tmp_path, [near, far, s2_item()], start=date(2023, 6, 1), max_cloud=20.0, area=box(8, 47, 9, 48))
    assert [(scene.id, scene.sensor) for scene in found.scenes] == [("near", "label"), ("S2A_a", "s2")]


def test_one_id_twice(tmp_path: Path, find: Find, s2_item: Make, s1_item: Make) -> None:
    found = find(tmp_path, [s2_item(), s2_item(), s1_item("S2A_a")])
    assert (ids(found), reasons(found)) == (["S2A_a"], {"S2A_a": "bad-item"})


def test_the_antimeridian(tmp_path: Path, find: Find, s2_item: Make) -> None:
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


def test_nothing_found_says_what_was_asked_and_what_there_was(tmp_path: Path, find: Find, s2_item: Make) -> None:
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
