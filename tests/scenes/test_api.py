"""A STAC API that throttles, stops paging, repeats itself and answers with web pages, asked through pystac-client."""

import functools
import json
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from shapely.geometry import box

from geossl_data.errors import CatalogError, EmptyResultError
from geossl_data.scenes import api as api_module
from geossl_data.scenes import http as http_module
from geossl_data.scenes.api import StacApi
from geossl_data.scenes.items import parse_time
from geossl_data.scenes.search import Found, search

Item = dict[str, Any]
Make = Callable[..., Item]
Answer = tuple[int, dict[str, str], str]

WHERE = (8.0, 47.0, 9.0, 48.0)
JUNE = (datetime(2023, 6, 1, tzinfo=UTC), datetime(2023, 7, 1, tzinfo=UTC))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "BACKOFF_S", 0.001)
    monkeypatch.setattr(http_module, "BACKOFF_S", 0.001)


class Catalog:
    """A well-behaved STAC API over a list of items; `spoil` may change any answer to a search."""

    def __init__(self, loopback: Any, items: list[Item], *, page_size: int = 10) -> None:
        self.loopback, self.items, self.page_size = loopback, items, page_size
        self.spoil: Callable[[int, dict[str, Any], Any], dict[str, Any] | Answer] = lambda number, page, body: page
        self.n_searches = 0
        self.get_only = False
        self.tells_matched = False
        loopback.answer = self.answer

    @property
    def url(self) -> str:
        return f"{self.loopback.url}/stac"

    def answer(self, method: str, path: str, body: Any, number: int) -> Answer:
        if path.rstrip("/") == "/stac":
            return 200, {}, json.dumps(self.landing())
        if not path.startswith("/stac/search"):
            return 404, {}, "{}"
        self.n_searches += 1
        result = self.spoil(self.n_searches, self.page(body or {}), body)
        return result if isinstance(result, tuple) else (200, {}, json.dumps(result))

    def landing(self) -> dict[str, Any]:
        link = {"rel": "search", "type": "application/geo+json", "href": f"{self.url}/search"}
        methods = ["GET"] if self.get_only else ["GET", "POST"]
        return {
            "type": "Catalog",
            "id": "loopback",
            "stac_version": "1.0.0",
            "description": "on this machine",
            "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"],
            "links": [link | {"method": method} for method in methods],
        }

    def page(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body.get("datetime", "0001-01-01T00:00:00Z/9999-01-01T00:00:00Z")
        first, last = (parse_time(text) for text in asked.split("/"))
        matching = [
            item
            for item in self.items
            if item["collection"] in body.get("collections", [item["collection"]])
            and first <= parse_time(item["properties"]["datetime"]) <= last
        ]
        offset = body.get("token", 0)
        size = min(self.page_size, body.get("limit", self.page_size))
        shown = matching[offset : offset + size]
        links = []
        if offset + size < len(matching):
            links.append(
                {
                    "rel": "next",
                    "href": f"{self.url}/search",
                    "method": "POST",
                    "merge": True,
                    "body": {"token": offset + size},
                }
            )
        page = {"type": "FeatureCollection", "features": shown, "links": links}
        return page | ({"numberMatched": len(matching)} if self.tells_matched else {})


@pytest.fixture
def catalog(loopback: Any, s2_item: Make) -> Catalog:
    items = [
        s2_item(f"S2A_{number:02}", time=f"2023-06-{number + 1:02}T10:00:00Z", s2__mgrs_tile=None)
        for number in range(25)
    ]
    return Catalog(loopback, items)


def june(catalog: Catalog, page_size: int = 10) -> list[str]:
    return [item["id"] for item in StacApi(catalog.url, page_size).items("sentinel-2-l2a", WHERE, *JUNE)]


ALL = [f"S2A_{number:02}" for number in range(25)]


def test_all_pages(catalog: Catalog) -> None:
    assert june(catalog) == ALL
    assert catalog.n_searches == 3
    _, _, body, headers = catalog.loopback.requests[1]
    assert body["datetime"] == "2023-06-01T00:00:00Z/2023-06-30T23:59:59.999999Z"
    assert body["bbox"] == [8, 47, 9, 48]
    assert headers["User-Agent"].startswith("geossl/")


def test_a_post_that_is_throttled_is_repeated(catalog: Catalog) -> None:
    def throttle(number: int, page: dict[str, Any], body: Any) -> Any:
        return (429, {"Retry-After": "0"}, "slow down") if number == 2 else (503, {}, "") if number == 3 else page

    catalog.spoil = throttle
    assert june(catalog) == ALL
    assert catalog.n_searches == 5


def test_a_server_that_stays_away(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "_TRIES", 3)
    catalog.spoil = lambda number, page, body: (503, {}, "CANARY")
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:\d+: refused the request \(HTTP 503\)") as caught:
        june(catalog)
    assert catalog.n_searches == 3
    assert "CANARY" not in str(caught.value)


def test_a_gateway_that_cannot_answer_for_long_windows(catalog: Catalog) -> None:
    def overloaded(number: int, page: dict[str, Any], body: Any) -> Any:
        first, last = (parse_time(text) for text in body["datetime"].split("/"))
        return (504, {}, "") if (last - first).days > 9 else page

    catalog.spoil = overloaded
    assert june(catalog) == ALL


def test_a_server_that_never_answers(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(http_module, "READ_S", 0.05)
    catalog.spoil = lambda number, page, body: (time.sleep(0.3), page)[1]
    last = JUNE[0].replace(hour=6)
    with pytest.raises(CatalogError, match="no answer in time"):
        StacApi(catalog.url, 10).items("sentinel-2-l2a", (8.0, 47.0, 8.4, 47.4), JUNE[0], last)
    assert catalog.n_searches == 2


def test_lost_next_links_are_made_up_for(catalog: Catalog) -> None:
    catalog.spoil = lambda number, page, body: page | {"links": []}
    assert june(catalog) == ALL


def test_a_truncated_answer_is_an_error(catalog: Catalog) -> None:
    catalog.tells_matched = True
    catalog.spoil = lambda number, page, body: page | {"links": [], "numberMatched": 99}
    with pytest.raises(CatalogError, match=r"truncated: \d+ of 99 items and no next page"):
        june(catalog)


def test_full_pages_without_end_are_an_error(catalog: Catalog) -> None:
    catalog.spoil = lambda number, page, body: page | {"links": [], "features": catalog.items[:10]}
    with pytest.raises(CatalogError, match="truncated: a full page of 10 items and no next page"):
        june(catalog)


def test_a_server_with_smaller_pages_than_asked_for(catalog: Catalog) -> None:
    catalog.tells_matched = True
    assert june(catalog, page_size=250) == ALL


def test_an_empty_page_in_the_middle(catalog: Catalog) -> None:
    catalog.spoil = lambda number, page, body: page | {"features": []} if number == 1 else page
    found = june(catalog)
    assert found == ALL[10:]


def test_pages_that_overlap(catalog: Catalog) -> None:
    catalog.spoil = lambda number, page, body: page | {"features": catalog.items[:2] + page["features"]}
    assert june(catalog, page_size=50) == ALL


def test_a_next_link_that_repeats_itself(catalog: Catalog) -> None:
    link = {"rel": "next", "href": "search", "method": "POST", "merge": True, "body": {"token": 0}}
    catalog.spoil = lambda number, page, body: page | {"links": [link]}
    with pytest.raises(CatalogError, match="the next page is one that was there before"):
        june(catalog)


def test_next_links_that_lead_nowhere(catalog: Catalog) -> None:
    def circle(number: int, page: dict[str, Any], body: Any) -> Any:
        link = {"rel": "next", "href": f"{catalog.url}/search?again={number}", "method": "POST", "merge": True}
        return page | {"features": catalog.items[:10], "links": [link]}

    catalog.spoil = circle
    with pytest.raises(CatalogError, match="paging goes round in circles"):
        june(catalog)
    assert catalog.n_searches < 10


def test_a_next_link_to_another_host_is_not_followed(catalog: Catalog) -> None:
    link = {"rel": "next", "href": "http://127.0.0.2:1/search?token=CANARY", "method": "GET"}
    catalog.spoil = lambda number, page, body: page | {"links": [link]}
    with pytest.raises(CatalogError, match="sends us to another host") as caught:
        june(catalog)
    assert "CANARY" not in str(caught.value)


def test_a_redirect_to_another_host_is_not_followed(catalog: Catalog) -> None:
    catalog.spoil = lambda number, page, body: (307, {"Location": "http://169.254.169.254/search"}, "")
    with pytest.raises(CatalogError, match="sends us to another host"):
        june(catalog)


def test_a_redirect_on_the_same_host_keeps_the_question(catalog: Catalog) -> None:
    def moved(number: int, page: dict[str, Any], body: Any) -> Any:
        return (307, {"Location": "/stac/search/"}, "") if number == 1 else page

    catalog.spoil = moved
    assert june(catalog) == ALL


def test_a_web_page_now_and_then(catalog: Catalog) -> None:
    html = (200, {"Content-Type": "text/html"}, "<html>maintenance CANARY</html>")
    catalog.spoil = lambda number, page, body: html if number in (1, 3) else page
    assert june(catalog) == ALL


def test_a_web_page_for_good(catalog: Catalog) -> None:
    catalog.spoil = lambda number, page, body: (200, {"Content-Type": "text/html"}, "<html>CANARY</html>")
    with pytest.raises(CatalogError, match="something that is not JSON") as caught:
        june(catalog)
    assert "CANARY" not in str(caught.value)


def test_an_answer_that_stops_half_way(catalog: Catalog) -> None:
    def cut(number: int, page: dict[str, Any], body: Any) -> Any:
        return (200, {"Content-Length": "100000", "Connection": "close"}, "{") if number == 1 else page

    catalog.spoil = cut
    assert june(catalog) == ALL


@pytest.mark.parametrize("answer", ["[]", "{}", '{"features": 7}'])
def test_json_without_features(catalog: Catalog, answer: str) -> None:
    catalog.spoil = lambda number, page, body: (200, {}, answer)
    with pytest.raises(CatalogError, match="JSON that holds no features"):
        june(catalog)


def test_an_answer_without_end(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.spoil = lambda number, page, body: (200, {}, " " * 2**21)
    request = http_module.Http.request
    small = functools.partialmethod(request, max_nbytes=2**20)
    monkeypatch.setattr(http_module.Http, "request", small)
    with pytest.raises(CatalogError, match="more than 1048576 bytes"):
        june(catalog)


def test_a_server_that_takes_get_only(catalog: Catalog) -> None:
    catalog.get_only = True
    catalog.page_size = 50
    assert june(catalog, page_size=50) == ALL
    assert {method for method, _, _, _ in catalog.loopback.requests} == {"GET"}
    assert "collections=sentinel-2-l2a" in catalog.loopback.requests[1][1]


@pytest.mark.parametrize("answer", ["{}", "[]", '{"type": "Feature"}', '{"type": "Catalog"}'])
def test_a_landing_page_that_is_none(loopback: Any, answer: str) -> None:
    loopback.answer = lambda *_: (200, {}, answer)
    with pytest.raises(CatalogError, match="not a STAC API"):
        StacApi(loopback.url, 10)


def test_a_catalog_without_search(loopback: Any) -> None:
    landing = {"type": "Catalog", "id": "a", "stac_version": "1.0.0", "description": "static", "links": []}
    loopback.answer = lambda *_: (200, {}, json.dumps(landing))
    with pytest.raises(CatalogError, match="a catalog without item search"):
        StacApi(loopback.url, 10)


def test_nobody_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:1: cannot be reached \(ConnectionError\)"):
        StacApi("http://127.0.0.1:1/stac", 10)


def test_no_credentials_are_sent(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password CANARY\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with caplog.at_level(logging.DEBUG):
        june(catalog)
    assert all("Authorization" not in headers for _, _, _, headers in catalog.loopback.requests)
    assert "CANARY" not in caplog.text


# ---------------------------------------------------------------------------------------------------- whole searches


def ask(catalog: Catalog, **changes: Any) -> Found:
    asked = {
        "area": box(*WHERE),
        "start": date(2023, 5, 15),
        "end": date(2023, 7, 2),
        "max_cloud": 50.0,
        "unknown_baseline": "skip",
        "margin": timedelta(days=2),
    }
    return search(catalog.url, **(asked | changes))


def test_a_search_checks_what_the_server_sends(catalog: Catalog, s2_item: Make, s1_item: Make) -> None:
    folder = "https://data.example.org"
    catalog.items = [
        s2_item("S2A_good", folder=folder),
        s2_item("S2A_cloudy", folder=folder, eo__cloud_cover=80),
        s2_item("S2A_far", folder=folder, bounds=(20, 0, 21, 1)),
        s2_item("S2A_private", folder="http://10.0.0.7"),
        s2_item("S2A_local", folder="/etc"),
        s2_item("S2A_relative", s2__mgrs_tile=None),
        s2_item("S2A_l1c", collection="sentinel-2-l1c", folder=folder),
        s1_item("S1A_good", folder=folder),
    ]
    catalog.items[5]["links"] = [{"rel": "self", "href": f"{catalog.url}/items/x/S2A_relative?token=CANARY"}]
    catalog.spoil = lambda number, page, body: page | {"features": [*catalog.items, "junk", {"id": "x"}], "links": []}
    found = ask(catalog)
    assert [scene.id for scene in found.scenes] == ["S2A_good", "S2A_relative", "S1A_good"]
    assert {row.id: row.reason for row in found.skipped} == {"S2A_private": "href-refused", "S2A_local": "href-refused"}
    assert found.scenes[1].hrefs["B02"] == f"{catalog.url}/items/x/s2/S2A_relative/B02.tif"
    assert "CANARY" not in json.dumps([dict(item) for item in found.items])
    asked = {(body["collections"][0], body["datetime"]) for _, _, body, _ in catalog.loopback.requests[1:]}
    assert asked == {
        ("sentinel-2-l2a", "2023-05-15T00:00:00Z/2023-07-02T23:59:59.999999Z"),
        ("sentinel-1-rtc", "2023-05-13T00:00:00Z/2023-07-04T23:59:59.999999Z"),
    }


def test_a_search_that_finds_nothing(catalog: Catalog) -> None:
    catalog.items = []
    with pytest.raises(EmptyResultError, match="0 items in all; widen the area or the dates"):
        ask(catalog)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ({"area": None}, "searched by place and time; give --bbox, --area or --places"),
        ({"start": None, "end": None}, "give --from, --to"),
    ],
)
def test_an_api_is_never_asked_for_everything(catalog: Catalog, left_out: dict[str, None], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        ask(catalog, **left_out)
    assert catalog.loopback.requests == []
