"""Items of several catalogs become Scenes, or are given up for a stated reason."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import box, mapping

from geossl_data.bands import S1_BANDS, S2_BANDS
from geossl_data.errors import CatalogError, ReadError
from geossl_data.grid import Grid
from geossl_data.scenes import providers
from geossl_data.scenes.providers import (
    PROVIDERS,
    ItemError,
    footprint_of,
    platform_name,
    provider_for,
    scene_from_item,
    sensor_of,
    sign,
)

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


# ---------------------------------------------------------------------------------------------------- catalogs


def test_catalogs_by_name_url_and_file(tmp_path: Path) -> None:
    assert provider_for("planetary-computer") is PC
    assert provider_for("https://earth-search.aws.element84.com/v1/") is ES
    assert provider_for("http://127.0.0.1:8080/stac").url == "http://127.0.0.1:8080/stac"
    assert provider_for(str(tmp_path / "any.parquet")).url is None
    assert ES.collections == ("sentinel-2-l2a", "sentinel-1-grd")


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ("planetary", "unknown catalog 'planetary'; known: planetary-computer, earth-search, or give a STAC API URL"),
        ("ftp://example.org", "not the URL of a STAC API"),
        ("https://user:CANARY@example.org/stac", "without password, query and fragment"),
        ("https://example.org/stac?token=CANARY", "without password, query and fragment"),
    ],
)
def test_other_catalogs_are_refused(catalog: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        provider_for(catalog)
    assert "CANARY" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- scenes


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


def given_up(item: Item, provider: providers.Provider = FILE, base: str = BASE) -> tuple[str, str]:
    with pytest.raises(ItemError) as caught:
        scene_from_item(item, provider, base)
    return caught.value.reason, str(caught.value)


def test_missing_bands(s2_item: Make, s1_item: Make) -> None:
    reason, text = given_up(s2_item(drop=("B04",)))
    assert (reason, "no asset for B04; has B01" in text) == ("missing-asset", True)
    assert given_up(s1_item(keys=("vv",)))[0] == "missing-asset"
    assert given_up(s1_item(keys=("hh", "hv")))[0] == "missing-asset"
    assert given_up(s2_item() | {"assets": None})[0] == "missing-asset"


def test_ground_range_data(s1_item: Make) -> None:
    item = s1_item(collection="sentinel-1-grd")
    assert given_up(item)[0] == given_up(item, ES)[0] == "not-terrain-corrected"


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


# ---------------------------------------------------------------------------------------------------- offset


@pytest.mark.parametrize(
    ("baseline", "product", "expected"),
    [
        ("05.10", None, ("05.10", -1000)),
        ("04.00", None, ("04.00", -1000)),
        ("03.01", None, ("03.01", 0)),
        ("2.12", None, ("02.12", 0)),
        (4.0, None, ("04.00", -1000)),
        (None, "S2A_MSIL2A_20190601T102031_N0500_R065_T32TMT_20230601T170000.SAFE", ("05.00", -1000)),
        (None, "S2A_MSIL2A_20230601T102031_N0301_R065_T32TMT_20230601T170000.SAFE", ("03.01", 0)),
        ("garbage", None, (None, None)),
        (None, None, (None, None)),
    ],
)
def test_the_baseline_decides_never_the_date(
    s2_item: Make, baseline: Any, product: str | None, expected: tuple[str | None, int | None]
) -> None:
    item = s2_item(s2__processing_baseline=baseline, s2__product_uri=product)
    scene = scene_from_item(item, FILE, BASE)
    assert (scene.baseline, scene.boa_offset) == expected


def with_offset(item: Item, offset: float | None) -> Item:
    for band in S2_BANDS:
        item["assets"][band]["raster:bands"] = [{"scale": 0.0001, **({} if offset is None else {"offset": offset})}]
    return item


@pytest.mark.parametrize(
    ("baseline", "flag", "offset", "expected"),
    [
        ("05.10", True, -0.1, 0),  # as Earth Search publishes it: raster:bands describe the product before the shift
        ("05.10", True, 0, 0),
        ("05.10", False, -0.1, -1000),
        ("05.10", False, 0, "contradiction"),
        ("05.10", None, -0.1, -1000),
        ("05.10", None, 0, "contradiction"),
        ("05.10", None, -0.7, "contradiction"),
        ("03.01", True, 0, "contradiction"),
        ("03.01", False, 0, 0),
        ("03.01", None, -0.1, "contradiction"),
        (None, True, None, 0),
        (None, False, -0.1, None),
        (None, None, -0.1, None),
    ],
)
def test_what_the_catalog_has_already_subtracted(
    s2_item: Make, baseline: str | None, flag: bool | None, offset: float | None, expected: int | str | None
) -> None:
    item = with_offset(s2_item(s2__processing_baseline=baseline, earthsearch__boa_offset_applied=flag), offset)
    if expected == "contradiction":
        assert given_up(item, ES, "https://x.org/")[0] == "offset-contradiction"
    else:
        assert scene_from_item(item, ES, "https://x.org/").boa_offset == expected


def test_a_baseline_that_the_name_contradicts(s2_item: Make) -> None:
    item = s2_item(s2__product_uri="S2A_MSIL2A_20190601T102031_N0301_R065_T32TMT_20230601T170000.SAFE")
    assert given_up(item)[0] == "offset-contradiction"


# ---------------------------------------------------------------------------------------------------- grids


@pytest.mark.parametrize(
    ("asset", "item", "known"),
    [
        ({"proj:code": "EPSG:32632"}, {}, True),
        ({"proj:epsg": 32632}, {}, True),
        ({}, {"proj:epsg": 32632}, True),
        ({}, {"proj:code": "EPSG:32632"}, True),
        ({"proj:code": None, "proj:epsg": 32632.0}, {}, True),
        ({}, {"proj:epsg": None}, False),
        ({}, {"proj:code": "EPSG:4326"}, False),
        ({}, {"proj:code": "IAU_2015:30100"}, False),
        ({"proj:transform": [10, 0, 0, 0, 10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 1, 0, 1, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, 0, 0, -20, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, None, 0, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, [], 0, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, float("nan"), 0, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:shape": [60, -60]}, {"proj:epsg": 32632}, False),
        ({"proj:shape": [60, 10**9]}, {"proj:epsg": 32632}, False),
        ({"proj:shape": [60]}, {"proj:epsg": 32632}, False),
    ],
)
def test_grids_that_are_north_up_in_a_utm_zone(s2_item: Make, asset: Item, item: Item, known: bool) -> None:
    given = s2_item()
    del given["properties"]["proj:code"]
    given["properties"] |= item
    given["assets"]["B02"] |= asset
    scene = scene_from_item(given, FILE, BASE)
    assert scene.grids.get("B02") == (Grid(32632, 399960.0, 5300040.0, 10.0, 60, 60) if known else None)


def test_a_grid_of_the_item_holds_for_bands_of_its_resolution(s2_item: Make) -> None:
    item = s2_item(proj__shape=[60, 60], proj__transform=[10, 0, 399960, 0, -10, 5300040])
    for asset in item["assets"].values():
        asset.pop("proj:transform", None)
        asset.pop("proj:shape", None)
    assert sorted(scene_from_item(item, FILE, BASE).grids) == ["B02", "B03", "B04", "B08"]


# ---------------------------------------------------------------------------------------------------- footprints


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
    collection_1 = replace(ES, s2_collection="sentinel-2-c1-l2a")
    shifted = [
        scene_from_item(item, collection_1, "https://x.org/") for item in real("earth-search__sentinel-2-c1-l2a")
    ]
    assert {scene.boa_offset for scene in shifted} == {-1000}
    for item in real("earth-search__sentinel-1-grd"):
        assert given_up(item, ES)[0] == "not-terrain-corrected"


def test_other_collections_are_of_no_use(s2_item: Make) -> None:
    assert sensor_of(s2_item(collection="sentinel-2-l1c"), FILE) is None
    assert sensor_of(s2_item(collection="sentinel-2-c1-l2a"), FILE) == "s2"
    assert sensor_of(s2_item(collection="sentinel-2-c1-l2a"), PC) is None


# ---------------------------------------------------------------------------------------------------- signing

HREF = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/35/X/QA/B02.tif"


@pytest.fixture
def tokens(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A token service on loopback; `valid_s` is how long its tokens live."""
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{loopback.url}/token")
    monkeypatch.setattr(providers, "_TOKENS", {})
    monkeypatch.setattr(providers, "_FAILURES", {})
    loopback.valid_s = 3600

    def answer(method: str, path: str, body: Any, number: int) -> tuple[int, dict[str, str], str]:
        expiry = datetime.now(UTC) + timedelta(seconds=loopback.valid_s)
        return 200, {}, json.dumps({"token": f"sig=T{number}", "msft:expiry": expiry.isoformat()})

    loopback.answer = answer
    return loopback


def test_one_token_serves_many_threads(tokens: Any) -> None:
    signed: list[str] = []
    threads = [threading.Thread(target=lambda: signed.append(sign(HREF))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert signed == [f"{HREF}?sig=T1"] * 16
    assert [path for _, path, _, _ in tokens.requests] == ["/token/sentinel2l2a01/sentinel2-l2"]


def test_an_old_signature_is_replaced(tokens: Any) -> None:
    assert sign(f"{HREF}?st=2020-01-01&se=2020-01-02&sp=rl&sig=OLD") == f"{HREF}?sig=T1"


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.blob.core.windows.net/sentinel2-l2/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net/other/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net.evil.org/sentinel2-l2/B02.tif",
        "http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B02.tif",
        "https://example.org/B02.tif",
        "/data/B02.tif",
        "s3://bucket/B02.tif",
    ],
)
def test_nobody_else_gets_a_token(tokens: Any, href: str) -> None:
    assert sign(href) == href
    assert tokens.requests == []


def test_expired_tokens_make_no_storm(tokens: Any) -> None:
    tokens.valid_s = -3600
    with pytest.raises(ReadError, match="hands out expired tokens for sentinel2l2a01/sentinel2-l2"):
        sign(HREF)
    with pytest.raises(ReadError, match="expired tokens"):
        sign(HREF)
    assert len(tokens.requests) == 3


def test_a_token_service_that_answers_nonsense(tokens: Any) -> None:
    tokens.answer = lambda *_: (200, {}, json.dumps({"token": "sig=CANARY"}))
    with pytest.raises(ReadError, match="no access token for sentinel2l2a01/sentinel2-l2") as caught:
        sign(HREF)
    assert "CANARY" not in str(caught.value)
