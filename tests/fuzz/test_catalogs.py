"""What catalogs answer, after something has happened to it: items, pages, tables of items, tokens, metadata files."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faults import catalogs
from faults.catalogs import Catalog, s1, s2, serve
from fuzz.mutations import CANARY, STRANGE, changed, fuzzed, nested, spoilt, spoilt_json, told, twisted
from hypothesis import given
from hypothesis import strategies as st

from geossl_data import tables
from geossl_data.errors import CatalogError
from geossl_data.records import Skipped
from geossl_data.scenes.api import StacApi
from geossl_data.scenes.http import Answer, Http
from geossl_data.scenes.items import Item, read_items, write_items
from geossl_data.scenes.opening.tokens import _told
from geossl_data.scenes.product_metadata import parse_product_metadata
from geossl_data.scenes.providers import COLLECTIONS, FILE_PROVIDER, Provider
from geossl_data.scenes.query import Query, midnight
from geossl_data.scenes.scene import scene_from_item
from geossl_data.scenes.search import search
from geossl_data.scenes.selection import Findings, Selector
from geossl_data.scenes.snapshots import read_snapshot
from geossl_data.scenes.store import read_scenes

PROVIDER = Provider(name=FILE_PROVIDER, url=None, collections=COLLECTIONS)
OPTICAL = s2(
    "S2A_a", "2023-06-01T10:20:31Z", sat__relative_orbit=108, s2__mgrs_tile="32TMT", proj__shape=[10980, 10980]
)
OPTICAL["assets"]["B02"] |= {"proj:transform": [10, 0, 399960, 0, -10, 5300040], "proj:shape": [10980, 10980]}
OPTICAL["assets"]["B02"]["raster:bands"] = [{"nodata": 0, "scale": 0.0001, "offset": -0.1, "data_type": "uint16"}]
OPTICAL["links"] = [{"rel": "self", "href": "https://data.example.org/a.json"}]
RADAR = s1("S1A_a", "2023-06-01T17:00:00Z")
SOUND = (s2("S2A_sound", "2023-06-02T10:20:31Z"), s1("S1A_sound", "2023-06-02T17:00:00Z"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogs")


# ------------------------------------------------------------------------------------------------ items


def selected(items: list[Item]) -> Findings:
    """What a search in no file makes of items."""
    selector = Selector(
        provider=PROVIDER, base="/", query=Query(), unknown_baseline="as-stored", consult=lambda item, base: None
    )
    return selector.select(items)


@pytest.mark.parametrize("item", [OPTICAL, RADAR], ids=["s2", "s1"])
@fuzzed(7)
@given(data=st.data())
def test_an_item_is_understood_or_given_up_and_costs_no_other(folder: Path, item: Item, data: st.DataObject) -> None:
    """Whatever is kept can be written beside the others, and comes back the same; whatever is not has a reason."""
    strange = data.draw(twisted(item))
    if not isinstance(strange, dict):
        strange = item | {"properties": strange}
    found = selected([strange, *SOUND])
    assert len(found.found) + len(found.skipped) + sum(found.outside.values()) == found.n_items == 3
    scenes = {scene.id: scene for scene, _ in found.found}
    assert {"S2A_sound", "S1A_sound"} <= set(scenes)
    write_items(folder / "scenes.parquet", [kept for _, kept in found.found])
    for kept in read_items(folder / "scenes.parquet"):
        again = scene_from_item(kept, PROVIDER, "/")
        before = scenes[again.id]
        assert (again.acquired, again.hrefs, again.boa_offset) == (before.acquired, before.hrefs, before.boa_offset)
    tables.write_table(folder / "skipped.parquet", found.skipped, Skipped)
    assert tables.read_table(folder / "skipped.parquet", Skipped) == list(found.skipped)
    for row in found.skipped:
        assert len(row.detail.splitlines()) == 1
        assert CANARY not in row.detail
    for path in ("scenes.parquet", "skipped.parquet"):
        assert CANARY.encode() not in (folder / path).read_bytes()


PLACES = (
    "datetime",
    "start_datetime",
    "end_datetime",
    "platform",
    "proj:code",
    "proj:epsg",
    "eo:cloud_cover",
    "s2:product_uri",
)


@pytest.mark.parametrize("name", [*PLACES, "geometry", "assets", "properties", "links", "id", "stac_version", "href"])
def test_every_strange_value_in_every_place(folder: Path, name: str) -> None:
    items = []
    for number, strange in enumerate((*STRANGE, nested(600))):
        item = json.loads(json.dumps(OPTICAL)) | {"id": f"S2A_{number}"}
        if name in PLACES:
            item["properties"][name] = strange
        elif name == "href":
            item["assets"]["B04"]["href"] = strange
        else:
            item[name] = strange
        items.append(item)
    found = selected([*items, *SOUND])
    assert len(found.found) + len(found.skipped) + sum(found.outside.values()) == len(items) + 2
    write_items(folder / "scenes.parquet", [kept for _, kept in found.found])
    assert len(read_items(folder / "scenes.parquet")) == len(found.found)
    tables.write_table(folder / "skipped.parquet", found.skipped, Skipped)
    assert all(CANARY.encode() not in (folder / path).read_bytes() for path in ("scenes.parquet", "skipped.parquet"))


# ------------------------------------------------------------------------------------------------ tables of items


@pytest.fixture(scope="module")
def snapshot(folder: Path) -> bytes:
    write_items(folder / "items.parquet", [OPTICAL, RADAR, *SOUND])
    return (folder / "items.parquet").read_bytes()


@fuzzed(5)
@given(data=st.data())
def test_a_damaged_table_of_items(folder: Path, snapshot: bytes, data: st.DataObject) -> None:
    path = folder / "damaged.parquet"
    path.write_bytes(data.draw(spoilt(snapshot)))
    items = told(lambda: [item for part in read_snapshot(str(path), PROVIDER, Query()) for item in part])
    if items is not None:
        selected(items)
    told(lambda: read_scenes(path))


@fuzzed(7)
@given(data=st.data())
def test_a_table_of_items_with_other_columns(folder: Path, snapshot: bytes, data: st.DataObject) -> None:
    path = folder / "changed.parquet"
    (folder / "whole.parquet").write_bytes(snapshot)
    pq.write_table(data.draw(changed(pq.read_table(folder / "whole.parquet"))), path)
    items = told(lambda: [item for part in read_snapshot(str(path), PROVIDER, Query()) for item in part])
    if items is not None:
        selected(items)


@pytest.mark.parametrize("catalog", ["x" * 300, "a/" * 3000, "a\0b", "\ud800", "~", "https://", "http://[::1"])
def test_a_catalog_that_nobody_can_open(catalog: str) -> None:
    def asked() -> Any:
        return search(catalog, area=None, start=None, end=None, max_cloud=100.0, unknown_baseline="skip")

    with pytest.raises(CatalogError):
        asked()


# ------------------------------------------------------------------------------------------------ answers


@pytest.fixture(scope="module")
def catalog() -> Iterator[Catalog]:
    with serve([OPTICAL, RADAR]) as served:
        yield served


PAGE = {"type": "FeatureCollection", "features": [OPTICAL], "links": [{"rel": "next", "href": "?token=1"}]}
LANDING = {
    "type": "Catalog",
    "id": "x",
    "stac_version": "1.0.0",
    "description": "x",
    "conformsTo": ["https://api.stacspec.org/v1.0.0/item-search"],
    "links": [{"rel": "search", "href": "{url}/search", "method": "POST", "type": "application/geo+json"}],
}


@pytest.mark.parametrize(("route", "answer"), [("search", PAGE), ("landing", LANDING)])
@fuzzed(5)
@given(data=st.data())
def test_an_answer_is_understood_or_told(
    catalog: Catalog, route: catalogs.Route, answer: dict[str, Any], data: st.DataObject
) -> None:
    catalog.forget_faults()
    catalog.requests.clear()
    content = data.draw(spoilt_json(json.loads(json.dumps(answer).replace("{url}", catalog.url))))
    catalog.spoil(
        lambda asked, reply: catalogs.Reply(200, {"Content-Type": "application/json"}, body=content), route=route
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Http, "pause", lambda self, seconds: None)

        def asked() -> list[Item]:
            api = StacApi(catalog.url, 20, per_second=10_000.0)
            day = date(2023, 6, 1)
            return api.items("sentinel-2-l2a", (8.0, 47.0, 9.0, 48.0), midnight(day), midnight(day, days=1))

        items = told(asked)
    if items is not None:
        selected(items)
    assert len(catalog.requests) < catalogs.MOST_REQUESTS


TOKEN = {"msft:expiry": "2030-01-01T00:00:00Z", "token": "se=2030-01-01T00%3A00%3A00Z&sp=rl&sig=abc"}


@fuzzed(7)
@given(
    content=spoilt_json(TOKEN),
    date=st.sampled_from(("", "Thu, 01 Jun 2023 10:00:00 GMT", "x" * 99, "Thu, 99 Jun 9999")),
)
def test_a_token_is_one_or_told(content: bytes, date: str) -> None:
    answer = Answer(200, {"Date": date}, content)
    found = told(lambda: _told(answer, "account/container"))
    assert found is None or (isinstance(found[0], str) and isinstance(found[1], float))


METADATA = (
    b"<?xml version='1.0'?><n1><PROCESSING_BASELINE>05.10</PROCESSING_BASELINE><BOA_ADD_OFFSET band_id='0'>-1000"
    b"</BOA_ADD_OFFSET></n1>"
)


@fuzzed(7)
@given(spoilt(METADATA))
def test_a_metadata_file(content: bytes) -> None:
    found = parse_product_metadata(content)
    assert found.baseline is None or len(found.baseline) == 5


def test_6_09_a_bomb_of_entities_is_text_and_nothing_more() -> None:
    lines = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    content = f'<!DOCTYPE x [<!ENTITY a0 "ha">{lines}]><x>&a9;</x>'.encode() + METADATA
    assert parse_product_metadata(content).baseline == "05.10"
