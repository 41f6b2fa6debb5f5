"""Items of several catalogs become Scenes, or are given up for a stated reason."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from geossl_data.bands import S1_BANDS, S2_BANDS
from geossl_data.grid import Grid
from geossl_data.scenes.providers import PROVIDERS, Provider, provider_for
from geossl_data.scenes.reasons import ItemError
from geossl_data.scenes.scene import platform_name, product_of, scene_from_item

STAC = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stac" / "items"
PC, ES = PROVIDERS["planetary-computer"], PROVIDERS["earth-search"]
FILE = provider_for("catalog.parquet")
BASE = "/data/planet"

Item = dict[str, Any]
Make = Callable[..., Item]


def real(name: str) -> list[Item]:
    path = STAC / f"{name}.ndjson"
    if not path.is_file():
        pytest.skip("no real items: ../shared/data/stac is absent")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_sentinel_2_item(s2_item: Make) -> None:
    item = s2_item(s2__product_uri="S2A_MSIL2A_20230601T102031_N0510_R065_T32TMT_20230601T170000.SAFE")
    scene = scene_from_item(item, FILE, BASE)
    assert (scene.id, scene.sensor, scene.collection) == ("S2A_a", "s2", "sentinel-2-l2a")
    assert scene.acquired == scene.ends == datetime(2023, 6, 1, 10, 20, 31, 24000, UTC)
    assert tuple(scene.hrefs) == (*S2_BANDS, "SCL")
    assert scene.hrefs["B02"] == "/data/planet/s2/S2A_a/B02.tif"
    assert scene.grids["B11"] == Grid(32632, 399960.0, 5300040.0, 20.0, 30, 30)
    assert "SCL" not in scene.grids
    assert (scene.platform, scene.relative_orbit, scene.mgrs_tile) == ("sentinel-2a", 108, "32TMT")
    assert (scene.baseline, scene.boa_offset, scene.cloud_percent) == ("05.10", -1000, 12.5)
    assert scene.product_id == "S2A_MSIL2A_20230601T102031_N0510_R065_T32TMT_20230601T170000"
    assert scene.footprint.bounds == (8, 47, 9, 48)


def test_a_sentinel_1_item(s1_item: Make) -> None:
    item = s1_item(start_datetime="2023-06-01 17:09:50+00:00", end_datetime="2023-06-01 17:10:10+00:00")
    scene = scene_from_item(item, FILE, BASE)
    assert tuple(scene.hrefs) == S1_BANDS
    assert scene.grids["VV"] == Grid(32632, 399960.0, 5300040.0, 10.0, 120, 90)
    assert (scene.platform, scene.orbit_state, scene.baseline) == ("sentinel-1a", "ascending", None)
    assert (scene.acquired, scene.ends) == (datetime(2023, 6, 1, 17, 10, tzinfo=UTC), scene.acquired + timedelta(0, 10))


def test_a_label_item(s1_item: Make) -> None:
    period = {"start_datetime": "2023-01-01T00:00:00Z", "end_datetime": "2024-01-01T00:00:00Z"}
    item = s1_item("labels", keys=("class",), collection="any-labels", time=None, **period)
    scene = scene_from_item(item, FILE, BASE)
    assert (scene.sensor, scene.acquired.year, scene.ends.year) == ("label", 2023, 2024)
    assert tuple(scene.hrefs) == ("class",)


COMMON = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22"
IN_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@pytest.mark.parametrize(
    "keys",
    [
        COMMON.split(),
        [f"{band}_{'10' if band in ('B02', 'B03', 'B04', 'B08') else '60' if band in ('B01', 'B09') else '20'}m"
         for band in IN_ORDER],
        list(IN_ORDER),
    ],
    ids=["earth-search", "cdse", "planetary-computer"],
)  # fmt: skip
def test_three_catalogs_name_the_same_bands(s2_item: Make, keys: list[str]) -> None:
    item = s2_item()
    item["assets"] = {key: {"href": f"./{band}.tif"} for key, band in zip(keys, IN_ORDER, strict=True)}
    item["assets"] = dict(reversed(item["assets"].items())) | {"blue-jp2": {"href": "./no.jp2"}}
    hrefs = scene_from_item(item, FILE, BASE).hrefs
    assert hrefs == {band: f"/data/planet/{band}.tif" for band in S2_BANDS}


def given_up(item: Item, provider: Provider = FILE, base: str = BASE) -> tuple[str, str]:
    with pytest.raises(ItemError) as caught:
        scene_from_item(item, provider, base)
    return caught.value.reason, str(caught.value)


def test_missing_bands(s2_item: Make, s1_item: Make) -> None:
    reason, text = given_up(s2_item(drop=("B04",)))
    assert (reason, "no asset for B04; has B01" in text) == ("missing-asset", True)
    assert given_up(s1_item(keys=("vv",)))[0] == "missing-asset"
    assert given_up(s1_item(keys=("hh", "hv")))[0] == "missing-asset"
    assert given_up(s2_item() | {"assets": None})[0] == "missing-asset"


IDENTITY = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_1_39_ground_range_data_needs_a_projected_grid(s1_item: Make) -> None:
    item = s1_item(collection="sentinel-1-grd")
    assert scene_from_item(item, FILE, BASE).grids["VV"].epsg == 32632
    in_degrees = s1_item(collection="sentinel-1-grd", proj__epsg=4326, proj__transform=[2e-4, 0, 8, 0, -1e-4, 48])
    without = s1_item(collection="sentinel-1-grd", proj__transform=None)
    for bad in (in_degrees, without):
        assert given_up(bad)[0] == "not-terrain-corrected"


@pytest.mark.parametrize("collection", ["sentinel-1-grd", "sentinel-1-rtc"])
def test_1_39_an_identity_transform_is_radar_geometry(s1_item: Make, collection: str) -> None:
    on_item = s1_item(collection=collection, proj__transform=IDENTITY)
    on_asset = s1_item(collection=collection)
    on_asset["assets"]["vh"]["proj:transform"] = [*IDENTITY, 0, 0, 1]
    assert given_up(on_item)[1] == "S1A_a: VV has an identity transform: in radar geometry"
    assert given_up(on_asset)[1] == "S1A_a: VH has an identity transform: in radar geometry"


def test_no_time(s2_item: Make) -> None:
    period = {"start_datetime": "2021-01-01T00:00:00Z", "end_datetime": "2023-05-17T23:59:59Z"}
    expected = "no acquisition time (a composite from 2021-01-01T00:00:00Z to 2023-05-17T23:59:59Z)"
    assert given_up(s2_item(time=None, **period)) == ("no-time", f"S2A_a: {expected}")
    assert given_up(s2_item(time=None)) == ("no-time", "S2A_a: no acquisition time")
    assert given_up(s2_item(**period))[0] == "no-time"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../x"},
        {"id": "a" * 300},
        {"id": "a\x00b"},
        {"id": "<script>"},
        {"id": 7},
        {"id": "a..b"},
        {"properties": []},
        {"properties": {"datetime": 12}},
        {"properties": {"datetime": "yesterday"}},
        {"geometry": None},
        {"geometry": {"type": "Point", "coordinates": [1, 2]}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [0, 99], [99, 99], [0, 0]]]}},
        {"geometry": {"type": "Polygon", "coordinates": [[["a", 0], [0, 9], [9, 9], [0, 0]]]}},
        {"geometry": {"type": "Nothing"}},
    ],
    ids=repr,
)
def test_broken_items(s2_item: Make, change: Item) -> None:
    assert given_up(s2_item() | change)[0] == "bad-item"


def test_a_cloud_cover_beyond_100(s2_item: Make) -> None:
    assert given_up(s2_item(eo__cloud_cover=140))[0] == "bad-item"


def test_a_hostile_address(s2_item: Make) -> None:
    item = s2_item()
    item["assets"]["B05"]["href"] = "file:///etc/passwd?sig=CANARY"
    reason, text = given_up(item)
    assert reason == "href-refused"
    assert "CANARY" not in text


@pytest.mark.parametrize("given", ["Sentinel-2A", "SENTINEL-2A", "sentinel-2a", "Sentinel 2A", "sentinel_2a"])
def test_platforms_have_one_spelling(given: str) -> None:
    assert platform_name(given) == "sentinel-2a"


def test_platforms_that_are_none() -> None:
    assert [platform_name(value) for value in (None, 7, " ", "Landsat-8")] == [None, None, None, "landsat-8"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"s2__mgrs_tile": "4QFJ"}, "04QFJ"),
        ({"s2__mgrs_tile": None, "grid__code": "MGRS-13TEF"}, "13TEF"),
        ({"s2__mgrs_tile": None, "s2__product_uri": "S2A_MSIL2A_X_N0510_R065_T32TMT_Y.SAFE"}, "32TMT"),
        ({"s2__mgrs_tile": "no tile"}, None),
    ],
)
def test_tiles(s2_item: Make, stated: Item, expected: str | None) -> None:
    assert scene_from_item(s2_item(**stated), FILE, BASE).mgrs_tile == expected


# ---------------------------------------------------------------------------------------------------- real items


def test_real_planetary_computer_items() -> None:
    scenes = [
        scene_from_item(item, PC, "https://planetarycomputer.microsoft.com/api/stac/v1/")
        for item in real("planetary-computer__sentinel-2-l2a")
    ]
    counts = Counter((scene.baseline, scene.boa_offset) for scene in scenes)
    assert counts == {("05.11", -1000): 739, ("05.10", -1000): 266, ("04.00", -1000): 5, ("02.12", 0): 56}
    assert {scene.platform for scene in scenes} == {"sentinel-2a", "sentinel-2b"}
    assert all(len(scene.grids) == 13 and scene.mgrs_tile and scene.relative_orbit for scene in scenes)
    assert all(scene.grids[band].resolution_m == 60 for scene in scenes for band in ("B01", "B09"))


def test_real_sentinel_1_items() -> None:
    scenes = [
        scene_from_item(item, PC, "https://planetarycomputer.microsoft.com/api/stac/v1/")
        for item in real("planetary-computer__sentinel-1-rtc")
    ]
    assert all(scene.orbit_state and scene.relative_orbit and len(scene.grids) == 2 for scene in scenes)


def test_real_earth_search_items() -> None:
    scenes = [scene_from_item(item, ES, "https://x.org/") for item in real("earth-search__sentinel-2-l2a")]
    counts = Counter((scene.baseline, scene.boa_offset) for scene in scenes)
    assert counts == {("05.11", 0): 6, ("05.09", 0): 5, (None, None): 14}
    shifted = [scene_from_item(item, ES, "https://x.org/") for item in real("earth-search__sentinel-2-c1-l2a")]
    assert {scene.boa_offset for scene in shifted} == {-1000}
    for item in real("earth-search__sentinel-1-grd"):  # single polarisation HH
        assert given_up(item, ES)[0] == "missing-asset"


def test_real_level_1c_items() -> None:
    scenes = [scene_from_item(item, ES, "https://x.org/") for item in real("earth-search__sentinel-2-l1c")]
    assert {(scene.baseline, scene.boa_offset) for scene in scenes} == {("05.11", -1000)}
    assert all(set(scene.hrefs) == set(S2_BANDS) for scene in scenes)


def test_real_ground_range_items() -> None:
    for item in real("planetary-computer__sentinel-1-grd"):
        assert given_up(item, PC)[0] == "not-terrain-corrected"


def test_other_collections_are_of_no_use(s2_item: Make) -> None:
    assert product_of(s2_item(collection="landsat-c2-l2"), FILE) is None
    assert product_of(s2_item(collection="sentinel-2-l1c"), FILE) == "L1C"
    assert product_of(s2_item(collection="sentinel-2-c1-l2a"), FILE) == "L2A"
    assert product_of(s2_item(collection="sentinel-2-c1-l2a"), PC) is None
