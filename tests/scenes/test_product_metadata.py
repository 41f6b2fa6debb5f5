"""Where an item leaves its baseline in doubt, the product's own metadata file decides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geossl_data.scenes.items import Item
from geossl_data.scenes.product_metadata import MAX_NBYTES, ProductMetadata, consult, parse_product_metadata
from geossl_data.scenes.search import Found

Make = Callable[..., Item]
Find = Callable[..., Found]

NEW = """<n1:Level-2A_User_Product><Product_Info><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE></Product_Info>
<BOA_ADD_OFFSET_VALUES_LIST><BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET>
<BOA_ADD_OFFSET band_id="1">-1000</BOA_ADD_OFFSET></BOA_ADD_OFFSET_VALUES_LIST></n1:Level-2A_User_Product>"""
OLD = "<x><PROCESSING_BASELINE>02.14</PROCESSING_BASELINE></x>"
TILE = "<x><TILE_ID metadataLevel='Brief'>S2B_OPER_MSI_L2A_TL_2BPS_20231004T122459_A034353_T31UFS_N05.09</TILE_ID></x>"
BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;<PROCESSING_BASELINE>&b;</PROCESSING_BASELINE></x>'
)


@pytest.mark.parametrize(
    ("text", "baseline", "offsets"),
    [
        (NEW, "05.09", {-1000}),
        (NEW.replace("BOA_", "RADIO_"), "05.09", {-1000}),
        (OLD, "02.14", set()),
        (TILE, "05.09", set()),
        (BOMB, None, set()),
        ("<html>not found</html>", None, set()),
        ("", None, set()),
    ],
)
def test_6_09_what_the_file_states(text: str, baseline: str | None, offsets: set[int]) -> None:
    assert parse_product_metadata(text.encode()) == ProductMetadata(baseline=baseline, offsets=frozenset(offsets))


def with_metadata(item: Item, href: str) -> Item:
    item["assets"]["product-metadata"] = {"href": href}
    return item


def doubtful(make: Make, **stated: Any) -> Item:
    return make("S2A_doubt", s2__processing_baseline=None, s2__mgrs_tile=None, **stated)


@pytest.mark.parametrize(("text", "expected"), [(NEW, ("05.09", -1000)), (OLD, ("02.14", 0)), (TILE, ("05.09", -1000))])
def test_1_53_the_file_decides(tmp_path: Path, find: Find, s2_item: Make, text: str, expected: tuple[str, int]) -> None:
    (tmp_path / "MTD_MSIL2A.xml").write_text(text)
    found = find(tmp_path, [with_metadata(doubtful(s2_item), "./MTD_MSIL2A.xml")])
    assert (found.scenes[0].baseline, found.scenes[0].boa_offset) == expected
    assert found.items[0]["properties"]["s2:processing_baseline"] == expected[0]


def test_a_file_that_contradicts_the_item_is_quarantined(tmp_path: Path, find: Find, s2_item: Make) -> None:
    (tmp_path / "m.xml").write_text(OLD)
    item = with_metadata(doubtful(s2_item), "./m.xml")
    item["assets"]["B02"]["raster:bands"] = [{"offset": -0.1, "scale": 0.0001}]
    found = find(tmp_path, [item, s2_item("S2A_good")])
    assert {row.id: row.reason for row in found.skipped} == {"S2A_doubt": "offset-contradiction"}


@pytest.mark.parametrize("href", ["./absent.xml", "/etc/passwd", "http://127.0.0.1:1/m.xml?sig=CANARY", "s3://b/m.xml"])
def test_a_file_that_cannot_be_read_leaves_the_doubt(
    tmp_path: Path, find: Find, s2_item: Make, href: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geossl_data.scenes.http.BACKOFF_S", 0.001)
    found = find(tmp_path, [with_metadata(doubtful(s2_item), href), s2_item("S2A_good")])
    assert [(row.id, row.reason) for row in found.skipped] == [("S2A_doubt", "unknown-baseline")]
    assert "CANARY" not in json.dumps([row.detail for row in found.skipped])


def test_it_is_read_over_http_signed_and_with_a_limit(loopback: Any, s2_item: Make) -> None:
    loopback.answer = lambda method, path, body, number: (200, {}, NEW if "sig=fresh" in path else "")
    item = with_metadata(doubtful(s2_item), f"{loopback.url}/m.xml?sig=stale")
    stated = consult(item, f"{loopback.url}/stac/", lambda href: f"{href}?sig=fresh")
    assert stated is not None
    assert stated.baseline == "05.09"
    assert [path for _, path, _, _ in loopback.requests] == ["/m.xml?sig=fresh"]
    loopback.answer = lambda *_: (200, {}, " " * (MAX_NBYTES + 1))
    assert consult(item, f"{loopback.url}/stac/", str) is None


def test_items_without_doubt_cost_no_request(tmp_path: Path, find: Find, s2_item: Make, loopback: Any) -> None:
    find(tmp_path, [with_metadata(s2_item(), f"{loopback.url}/m.xml")])
    assert loopback.requests == []
