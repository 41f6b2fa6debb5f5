"""`geossl fetch` of items that lie or point where they must not: understood right, or given up by name.

The numbers in the names are those of the list of known failures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from faults.catalogs import CANARY, STORE, Catalog, adds, s1, s2

from geossl_data.bands import S2_BANDS
from geossl_data.records import Scene
from geossl_data.scenes.items import Item
from geossl_data.scenes.store import read_scenes

from .conftest import ASKED, Fetch, Outcome, day

COMMON = {"B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2"}
COMMON |= {"B07": "rededge3", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22"}
RESOLUTION = {"B01": 60, "B09": 60} | dict.fromkeys(("B02", "B03", "B04", "B08"), 10)


@pytest.fixture
def holds(catalog: Catalog, fetch: Fetch) -> Callable[..., Outcome]:
    """Fetches from a catalog of one good Sentinel-2 scene, one good Sentinel-1 scene, and these items."""

    def run(*items: Item, arguments: tuple[object, ...] = ASKED) -> Outcome:
        catalog.items = [s2("S2A_good", day(1)), s1("S1A_good", day(1, "17:00:00Z")), *items]
        outcome = fetch(*arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    return run


def scenes(outcome: Outcome) -> dict[str, Scene]:
    """The scenes found, by id, without the two good ones."""
    found = read_scenes(outcome.folder / "scenes.parquet")
    return {scene.id: scene for scene in found if not scene.id.endswith("_good")}


def renamed(item: Item, names: dict[str, str]) -> Item:
    return item | {"assets": {names.get(key, key): asset for key, asset in item["assets"].items()}}


# ---------------------------------------------------------------------------------------------------- assets


def test_1_32_1_87_bands_are_absent(holds: Callable[..., Outcome]) -> None:
    items = []
    for band in S2_BANDS:
        items.append(s2(f"S2A_without_{band}", day(2)))
        del items[-1]["assets"][band]
    for number, keys in enumerate((["vv"], ["vh"], ["hh", "hv"], [])):
        items.append(s1(f"S1A_with_{number}", day(2)))
        items[-1]["assets"] = {key: {"href": f"{STORE}/{key}.tif"} for key in keys}
    outcome = holds(*items)
    assert scenes(outcome) == {}
    assert outcome.skipped() == {item["id"]: "missing-asset" for item in items}


def test_1_87_the_order_of_assets_does_not_matter(holds: Callable[..., Outcome]) -> None:
    item = s1("S1A_turned", day(2))
    item["assets"] = dict(reversed(item["assets"].items())) | {"hh": {"href": f"{STORE}/hh.tif"}}
    hrefs = scenes(holds(item))["S1A_turned"].hrefs
    assert hrefs == {"VV": f"{STORE}/S1A_turned/vv.tif", "VH": f"{STORE}/S1A_turned/vh.tif"}


def test_a_class_map_is_of_use_and_not_needed(holds: Callable[..., Outcome]) -> None:
    item = s2("S2A_without_scl", day(2))
    del item["assets"]["SCL"]
    assert set(scenes(holds(item))["S2A_without_scl"].hrefs) == set(S2_BANDS)


TRANSFORM = [10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0]
PROJECTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], int | None]] = {
    "asset code": ({}, {"proj:code": "EPSG:32632"}, 32632),
    "asset epsg": ({}, {"proj:epsg": 32632}, 32632),
    "item code": ({"proj:code": "EPSG:32632"}, {}, 32632),
    "item epsg": ({"proj:epsg": 32632}, {}, 32632),
    "asset before item": ({"proj:epsg": 32633}, {"proj:code": "EPSG:32632"}, 32632),
    "null": ({"proj:epsg": None}, {}, None),
    "wkt only": ({"proj:wkt2": 'PROJCRS["WGS 84 / UTM zone 32N"]'}, {}, None),
    "nothing": ({}, {}, None),
}


def test_1_36_projections_in_all_spellings(holds: Callable[..., Outcome]) -> None:
    items = []
    for number, (properties, of_asset, _) in enumerate(PROJECTIONS.values()):
        item = s2(f"S2A_{number}", day(2 + number), proj__epsg=None)
        item["properties"] |= properties
        for asset in item["assets"].values():
            asset |= {"proj:transform": TRANSFORM, "proj:shape": [10980, 10980]} | of_asset
        items.append(item)
    found = scenes(holds(*items))
    epsgs = [{grid.epsg for grid in found[item["id"]].grids.values()} for item in items]
    assert epsgs == [set() if epsg is None else {epsg} for _, _, epsg in PROJECTIONS.values()]


def test_1_37_bands_by_the_names_of_copernicus(holds: Callable[..., Outcome]) -> None:
    item = s2("S2A_cdse", day(2))
    names = {band: f"{band}_{RESOLUTION.get(band, 20)}m" for band in S2_BANDS} | {"SCL": "SCL_20m"}
    item["assets"] = {
        name: {"href": f"s3://eodata/Sentinel-2/{name}.jp2", "type": "image/jp2"} for name in names.values()
    }
    hrefs = scenes(holds(item))["S2A_cdse"].hrefs
    assert hrefs["B02"] == "s3://eodata/Sentinel-2/B02_10m.jp2"
    assert hrefs["B11"] == "s3://eodata/Sentinel-2/B11_20m.jp2"
    assert hrefs["SCL"] == "s3://eodata/Sentinel-2/SCL_20m.jp2"


def test_1_38_bands_by_common_names(holds: Callable[..., Outcome]) -> None:
    item = renamed(s2("S2A_common", day(2)), COMMON | {"SCL": "scl"})
    hrefs = scenes(holds(item))["S2A_common"].hrefs
    assert hrefs == {band: f"{STORE}/S2A_common/{band}.tif" for band in (*S2_BANDS, "SCL")}


def _grd(name: str, number: int, transform: list[float] | None, **properties: Any) -> Item:
    item = s1(name, day(number, "17:00:00Z"), **properties) | {"collection": "sentinel-1-grd"}
    for asset in item["assets"].values():
        asset |= {} if transform is None else {"proj:transform": transform, "proj:shape": [10000, 20000]}
    return item


def test_1_39_ground_range_products_need_a_grid(catalog: Catalog, fetch: Fetch, named: Callable[..., str]) -> None:
    named(collections={"sentinel-2-l2a": "L2A", "sentinel-1-grd": "GRD"})
    catalog.items = [
        s2("S2A_good", day(1)),
        _grd("S1A_placed", 1, TRANSFORM),
        _grd("S1A_identity", 2, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        _grd("S1A_without", 3, None),
        _grd("S1A_degrees", 4, [0.0001, 0.0, 8.0, 0.0, -0.0001, 48.0], proj__epsg=4326),
    ]
    outcome = fetch(*ASKED, "--s1", "GRD")
    assert outcome.code == 0, outcome.err
    assert outcome.ids("s1") == ["S1A_placed"]
    assert outcome.skipped() == dict.fromkeys(("S1A_identity", "S1A_without", "S1A_degrees"), "not-terrain-corrected")


def test_1_40_platforms_in_all_spellings(holds: Callable[..., Outcome]) -> None:
    spellings = ["SENTINEL-2A", "Sentinel-2A", "sentinel-2a", "sentinel 2A", "Sentinel2A"]
    outcome = holds(*(s2(f"S2A_{n}", day(2 + n), platform=spelling) for n, spelling in enumerate(spellings)))
    assert [scene.platform for scene in scenes(outcome).values()] == ["sentinel-2a"] * len(spellings)


@pytest.mark.parametrize(("platform", "expected"), [("SENTINEL-1C", {}), ("SENTINEL-1A", {"S1_early"})])
def test_1_82_a_platform_before_it_was_calibrated(
    catalog: Catalog, fetch: Fetch, platform: str, expected: set[str]
) -> None:
    catalog.items = [
        s2("S2A_good", "2025-04-10T10:00:00Z"),
        s1("S1A_good", "2025-04-11T10:00:00Z"),
        s1("S1_early", "2025-04-10T17:00:00Z", platform=platform),
    ]
    where = ("--bbox", 8.2, 47.2, 8.8, 47.8, "--from", "2025-04-01", "--to", "2025-04-30")
    outcome = fetch(*where)
    assert outcome.code == 0, outcome.err
    assert set(scenes(outcome)) == set(expected)


# ---------------------------------------------------------------------------------------------------- twice


@pytest.mark.parametrize("turned", [False, True])
def test_1_50_the_newest_baseline_of_one_acquisition(holds: Callable[..., Outcome], turned: bool) -> None:
    same = {"s2__mgrs_tile": "32TMT", "sat__relative_orbit": 108}
    old = s2("S2A_N0301", day(2), s2__processing_baseline="03.01", **same)
    new = s2("S2A_N0500", day(2), s2__processing_baseline="05.00", platform="sentinel-2a", **same)
    outcome = holds(*((new, old) if turned else (old, new)))
    assert set(scenes(outcome)) == {"S2A_N0500"}
    assert outcome.skipped() == {"S2A_N0301": "superseded"}


def test_1_51_halves_from_two_stations_are_both_kept(holds: Callable[..., Outcome]) -> None:
    same = {"s2__mgrs_tile": "32TMT", "sat__relative_orbit": 108}
    north = s2("S2A_north", day(2, "10:20:31Z"), bounds=(8.0, 47.5, 9.0, 48.0), **same)
    south = s2("S2A_south", day(2, "10:20:38Z"), bounds=(8.0, 47.0, 9.0, 47.52), **same)
    outcome = holds(north, south)
    assert set(scenes(outcome)) == {"S2A_north", "S2A_south"}
    assert outcome.skipped() == {}


def test_1_52_one_tile_where_tiles_overlap(holds: Callable[..., Outcome]) -> None:
    tiles = ("32TMT", "32TNT", "31TGN")
    outcome = holds(*(s2(f"S2A_{tile}", day(2), s2__mgrs_tile=tile) for tile in tiles))
    assert len(scenes(outcome)) == 1
    assert sorted(outcome.skipped().values()) == ["tile-overlap"] * 2


BASELINES: dict[str, tuple[dict[str, Any], int | None]] = {
    "before the offset": ({"s2__processing_baseline": "02.14"}, 0),
    "reprocessed": ({"s2__processing_baseline": "05.00"}, -1000),
    "the first with it": ({"s2__processing_baseline": "04.00"}, -1000),
    "from the product's name": (
        {
            "s2__processing_baseline": None,
            "s2__product_uri": "S2A_MSIL2A_20230603T102031_N0500_R108_T32TMT_20230604T000000.SAFE",
        },
        -1000,
    ),
    "a number": ({"s2__processing_baseline": 3.01}, 0),
}


def test_1_53_the_baseline_decides_about_the_offset(holds: Callable[..., Outcome]) -> None:
    given = enumerate(BASELINES.values())
    found = scenes(holds(*(s2(f"S2A_{number}", day(2 + number), **properties) for number, (properties, _) in given)))
    assert [found[f"S2A_{number}"].boa_offset for number in range(len(BASELINES))] == [
        offset for _, offset in BASELINES.values()
    ]


def test_1_53_an_unknown_baseline_is_given_up(holds: Callable[..., Outcome]) -> None:
    outcome = holds(s2("S2A_unknown", day(2), s2__processing_baseline=None))
    assert scenes(outcome) == {}
    assert outcome.skipped() == {"S2A_unknown": "unknown-baseline"}


def test_1_53_an_unknown_baseline_is_taken_where_that_is_asked_for(holds: Callable[..., Outcome]) -> None:
    item = s2("S2A_unknown", day(2), s2__processing_baseline=None)
    outcome = holds(item, arguments=(*ASKED, "--unknown-baseline", "as-stored"))
    assert scenes(outcome)["S2A_unknown"].boa_offset is None


CLAIMS: list[tuple[str, bool | None, float, int | None]] = [
    ("05.10", True, -0.1, 0),
    ("05.10", True, 0, 0),
    ("05.10", False, -0.1, -1000),
    ("05.10", False, 0, None),
    ("05.10", None, 0, None),
    ("02.14", True, 0, None),
    ("02.14", False, -0.1, None),
    ("02.14", False, 0, 0),
]
"""Baseline, Earth Search's flag, the offset in raster:bands; what is to be added, None for a contradiction."""


def test_1_54_flag_and_offset_that_contradict_each_other(holds: Callable[..., Outcome]) -> None:
    items = []
    for number, (baseline, flag, offset, _) in enumerate(CLAIMS):
        applied = {} if flag is None else {"earthsearch__boa_offset_applied": flag}
        item = s2(f"S2A_{number}", day(2 + number), s2__processing_baseline=baseline, **applied)
        for band in S2_BANDS:
            item["assets"][band]["raster:bands"] = [{"scale": 0.0001, "offset": offset}]
        items.append(item)
    outcome = holds(*items)
    expected = {f"S2A_{number}": offset for number, (_, _, _, offset) in enumerate(CLAIMS)}
    assert {name: scene.boa_offset for name, scene in scenes(outcome).items()} == {
        name: offset for name, offset in expected.items() if offset is not None
    }
    assert outcome.skipped() == {name: "offset-contradiction" for name, offset in expected.items() if offset is None}


# ---------------------------------------------------------------------------------------------------- places


def _ring(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


ENCODINGS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "two polygons": (
        {
            "type": "MultiPolygon",
            "coordinates": [_ring(179.4, -17.2, 180.0, -16.2), _ring(-180.0, -17.2, -179.7, -16.2)],
        },
        [179.4, -17.2, -179.7, -16.2],
    ),
    "beyond 180": ({"type": "Polygon", "coordinates": _ring(179.4, -17.2, 180.3, -16.2)}, [179.4, -17.2, 180.3, -16.2]),
    "below -180": (
        {"type": "Polygon", "coordinates": _ring(-180.6, -17.2, -179.7, -16.2)},
        [-180.6, -17.2, -179.7, -16.2],
    ),
    "the wrong way round": (
        {
            "type": "Polygon",
            "coordinates": [[[179.4, -17.2], [-179.7, -17.2], [-179.7, -16.2], [179.4, -16.2], [179.4, -17.2]]],
        },
        [179.4, -17.2, -179.7, -16.2],
    ),
}


@pytest.mark.parametrize("where", [(179.5, -179.8), (179.5, 179.9), (-179.95, -179.8)], ids=["across", "east", "west"])
def test_1_90_items_on_the_antimeridian_in_all_encodings(
    catalog: Catalog, fetch: Fetch, where: tuple[float, float]
) -> None:
    shapes = [{"geometry": geometry, "bbox": bbox} for geometry, bbox in ENCODINGS.values()]
    catalog.items = [s2(f"S2A_{number}", day(1)) | shape for number, shape in enumerate(shapes)]
    catalog.items += [s1(f"S1A_{number}", day(1, "17:00:00Z")) | shape for number, shape in enumerate(shapes)]
    outcome = fetch("--bbox", where[0], -17.0, where[1], -16.5, "--from", "2023-06-01", "--to", "2023-06-05")
    assert outcome.code == 0, outcome.err
    assert outcome.ids() == [f"S2A_{number}" for number in range(4)]
    assert outcome.ids("s1") == [f"S1A_{number}" for number in range(4)]
    assert {a for a, _ in outcome.pairs()} == set(outcome.ids())
    assert all(asked.parameters["bbox"][0] < asked.parameters["bbox"][2] for asked in catalog.searches())


def test_1_90_items_on_the_antimeridian_are_not_everywhere(holds: Callable[..., Outcome]) -> None:
    shapes = [{"geometry": geometry, "bbox": [-180.0, -90.0, 180.0, 90.0]} for geometry, _ in ENCODINGS.values()]
    outcome = holds(*(s2(f"S2A_{number}", day(2)) | shape for number, shape in enumerate(shapes)))
    assert scenes(outcome) == {}


NO_FOOTPRINTS: list[Any] = [
    {"type": "Polygon", "coordinates": _ring(-180.0, -90.0, 180.0, 90.0)},
    {"type": "Polygon", "coordinates": _ring(-100.0, 40.0, 100.0, 50.0)},
    {"type": "Polygon", "coordinates": []},
    {"type": "Point", "coordinates": [8.5, 47.5]},
    {"type": "Polygon", "coordinates": "x"},
    {"type": "Polygon", "coordinates": [[[1e308, 47], [9, 47], [9, 48], [1e308, 47]]]},
    None,
    7,
]


def test_1_90_footprints_that_are_none(holds: Callable[..., Outcome]) -> None:
    outcome = holds(*(s2(f"S2A_{n}", day(2)) | {"geometry": given} for n, given in enumerate(NO_FOOTPRINTS)))
    assert scenes(outcome) == {}
    assert set(outcome.skipped().values()) == {"bad-item"}


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"), [(4.0, 60.0, 32632), (8.0, 78.0, 32631), (10.0, 78.0, 32633), (20.0, -10.0, 32734)]
)
def test_1_92_the_items_zone_is_taken(catalog: Catalog, fetch: Fetch, lon: float, lat: float, epsg: int) -> None:
    bounds = (lon - 0.5, lat - 0.4, lon + 0.5, lat + 0.4)
    catalog.items = [
        s2("S2A_there", day(1), bounds=bounds, proj__epsg=epsg),
        s1("S1A_there", day(1, "17:00:00Z"), bounds=bounds, proj__epsg=epsg),
    ]
    for asset in catalog.items[0]["assets"].values():
        asset |= {"proj:transform": TRANSFORM, "proj:shape": [10980, 10980]}
    days = ("--from", "2023-06-01", "--to", "2023-06-05")
    outcome = fetch("--bbox", lon - 0.1, lat - 0.1, lon + 0.1, lat + 0.1, *days)
    assert outcome.code == 0, outcome.err
    assert {grid.epsg for scene in scenes(outcome).values() for grid in scene.grids.values()} == {epsg}


# ---------------------------------------------------------------------------------------------------- hostile

HOSTILE = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file:/etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "/vsicurl/http://127.0.0.2/B02.tif",
    "/vsizip//vsicurl/http://127.0.0.2/a.zip/B02.tif",
    "/VSIMEM/B02.tif",
    "vsicurl:http://127.0.0.2/B02.tif",
    "<VRTDataset rasterXSize='1' rasterYSize='1'/>",
    "NETCDF:/etc/passwd:band",
    "ftp://example.org/B02.tif",
    "data:image/tiff;base64,AAAA",
    "javascript:alert(1)",
    f"https://user:{CANARY}@example.org/B02.tif",
    f"s3://key:{CANARY}@bucket/B02.tif",
    "http://127.0.0.2/B02.tif",
    "http://localhost/B02.tif",
    "http://10.0.0.7/B02.tif",
    "http://192.168.1.1/B02.tif",
    "http://[::1]/B02.tif",
    "http://[::ffff:127.0.0.2]/B02.tif",
    "http://169.254.169.254/latest/meta-data",
    "http://metadata.google.internal/computeMetadata",
    "http://2130706434/B02.tif",
    "http://0x7f.2/B02.tif",
    "http://0177.0.0.2/B02.tif",
    "http://0.0.0.0/B02.tif",
    "https://example.org\\@127.0.0.2/B02.tif",
    "https://example.org/B02.tif\r\nAuthorization: x",
    "B02.tif\x00.png",
    "x" * 5000,
    "",
]
"""Addresses that no catalog on the network may give for an asset."""


def test_6_04_hostile_addresses_are_refused_by_name(holds: Callable[..., Outcome]) -> None:
    items = []
    for number, href in enumerate(HOSTILE):
        item = s2(f"S2A_hostile_{number:02}", day(2))
        item["assets"]["B02"]["href"] = href
        items.append(item)
    outcome = holds(*items)
    assert scenes(outcome) == {}
    assert outcome.skipped() == {item["id"]: "href-refused" for item in items}


def test_6_04_addresses_that_are_no_text(holds: Callable[..., Outcome]) -> None:
    items = []
    for number, href in enumerate([None, 7, ["https://example.org/B02.tif"], {"href": "x"}]):
        items.append(s2(f"S2A_{number}", day(2)))
        items[-1]["assets"]["B02"]["href"] = href
    outcome = holds(*items)
    assert scenes(outcome) == {}
    assert outcome.skipped() == {item["id"]: "missing-asset" for item in items}


def test_6_04_metadata_files_at_hostile_addresses_are_not_asked_for(
    holds: Callable[..., Outcome], strangers: tuple[Catalog, Catalog]
) -> None:
    far, _ = strangers
    items = []
    for number, href in enumerate([far.url, "file:///etc/passwd", "http://169.254.169.254/x", "http://localhost:1/x"]):
        item = s2(f"S2A_{number}", day(2), s2__processing_baseline=None)
        item["assets"]["product-metadata"] = {"href": href}
        items.append(item)
    outcome = holds(*items)
    assert outcome.skipped() == {item["id"]: "unknown-baseline" for item in items}
    assert far.requests == []


IDS = [
    "../../x",
    "..",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "S2A\x00",
    "x" * 300,
    "",
    " ",
    "-rf",
    "=cmd()|' /C calc'!A0",
    "<script>alert(1)</script>",
    "S2A\n2",
    "日本",
]


def test_6_10_6_11_ids_that_are_no_names(holds: Callable[..., Outcome], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    outcome = holds(*(s2("S2A", day(2)) | {"id": name} for name in IDS))
    assert scenes(outcome) == {}
    assert set(outcome.skipped().values()) == {"bad-item"}
    assert len(outcome.skipped()) == len(IDS)
    assert set(tmp_path.iterdir()) - before == {outcome.folder}
    for path in [*outcome.folder.rglob("*.csv"), *outcome.folder.rglob("*.html"), outcome.folder / "recipe.yaml"]:
        text = path.read_text(encoding="utf-8")
        assert [name for name in IDS if len(name) > 3 and name in text] == []


def test_6_01_secrets_in_every_corner_of_an_item(holds: Callable[..., Outcome]) -> None:
    item = s2("S2A_secret", day(2), sign=f"?sv=1&sr=b&sig={CANARY}&se=2030-01-01")
    item["assets"]["B03"]["href"] += f"&token={CANARY}"
    item["assets"]["B04"]["href"] = f"{STORE}/B04.tif?X-Amz-Signature={CANARY}&X-Amz-Credential={CANARY}"
    item["assets"]["B05"] |= {"title": "B05", "alternate": {"s3": {"href": f"s3://x?sig={CANARY}"}}}
    item["assets"]["preview"] = {"href": f"{STORE}/preview?sig={CANARY}"}
    item["links"] = [{"rel": "self", "href": f"{STORE}/item?sig={CANARY}"}, {"rel": "via", "href": CANARY}]
    item["properties"] |= {"token": CANARY, "msft:sas": {"sig": CANARY}, "storage:options": [CANARY]}
    item |= {"secret": CANARY, "stac_extensions": [f"https://example.org/schema.json?sig={CANARY}"]}
    outcome = holds(item)
    assert scenes(outcome)["S2A_secret"].hrefs["B04"] == f"{STORE}/B04.tif"


@pytest.mark.parametrize("part", ["assets", "properties", "links", "bbox", "geometry", "stac_extensions"])
def test_parts_of_an_item_of_the_wrong_kind(holds: Callable[..., Outcome], catalog: Catalog, part: str) -> None:
    """Either the part is not needed, or the item is given up; the others come through."""
    for number, value in enumerate([None, 7, [], "x", {"a": {"b": [None]}}]):
        catalog.spoil(adds(s2(f"S2A_odd_{number}", day(2)) | {part: value}), at={1})
    outcome = holds()
    assert "S2A_good" in outcome.ids()
    assert {*scenes(outcome), *outcome.skipped()} <= {f"S2A_odd_{number}" for number in range(5)}


def test_times_that_are_none(holds: Callable[..., Outcome], catalog: Catalog) -> None:
    moments = [None, 7, "", "yesterday", "2023-13-01T00:00:00Z", "0000-00-00", "9" * 400]
    for number, moment in enumerate(moments):
        odd = s2(f"S2A_odd_{number}", day(2))
        odd["properties"]["datetime"] = moment
        catalog.spoil(adds(odd), at={1})
    outcome = holds()
    assert scenes(outcome) == {}
    assert set(outcome.skipped().values()) <= {"no-time", "bad-item"}


def test_6_13_the_users_passwords_are_not_sent(holds: Callable[..., Outcome], catalog: Catalog) -> None:
    """The netrc of the tests names this host; that a careless client does send it shows that the test can fail."""
    requests.get(catalog.url, timeout=10)
    assert "authorization" in catalog.requests.pop().headers
    holds()
    assert catalog.requests != []
    assert all("authorization" not in asked.headers for asked in catalog.requests)
