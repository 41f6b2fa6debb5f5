"""`geossl fetch` from a catalog that misbehaves: everything, or one line that says what is missing; never endless.

The numbers in the names are those of the list of known failures.
"""

import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from faults import catalogs
from faults.catalogs import CANARY, Catalog

from geossl_data.scenes import http as http_module

from .conftest import ASKED, DAYS, PAGE_SIZE, S1_IDS, S2_IDS, TRUNCATED, Fetch, Waits, day

LEAST = 1 + -(-DAYS // PAGE_SIZE) + 1
"""Landing page, three pages of Sentinel-2, one of Sentinel-1."""


def complete(fetch: Fetch, **options: Any) -> Any:
    """Fetch, and see that everything came."""
    outcome = fetch(**options)
    assert outcome.code == 0, outcome.err
    assert outcome.ids() == S2_IDS
    assert outcome.ids("s1") == S1_IDS
    return outcome


def test_a_right_catalog_is_asked_no_more_than_needed(catalog: Catalog, fetch: Fetch, waits: Waits) -> None:
    outcome = complete(fetch)
    assert len(catalog.requests) == LEAST
    assert waits.pauses == []
    assert ("S2A_00", "S1A_00") in outcome.pairs()
    assert all(asked.headers["user-agent"].startswith("geossl/") for asked in catalog.requests)


def test_a_catalog_that_takes_get_only(catalog: Catalog, fetch: Fetch) -> None:
    catalog.gets_only = True
    complete(fetch)
    assert {asked.method for asked in catalog.requests} == {"GET"}
    assert len(catalog.requests) == LEAST


# ---------------------------------------------------------------------------------------------------- throttled


def _in_a_while(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("code", [429, 503])
def test_1_10_retry_after_in_seconds(catalog: Catalog, fetch: Fetch, waits: Waits, code: int) -> None:
    catalog.spoil(catalogs.status(code, Retry_After="7"), at={2, 3})
    complete(fetch)
    assert waits.pauses == [7.0, 7.0]
    assert len(catalog.requests) == LEAST + 2


def test_1_10_retry_after_as_a_date(catalog: Catalog, fetch: Fetch, waits: Waits) -> None:
    catalog.spoil(lambda asked, reply: catalogs.status(503, Retry_After=_in_a_while(40))(asked, reply), at={2})
    complete(fetch)
    assert len(waits.pauses) == 1
    assert 35 <= waits.pauses[0] <= 41


def test_1_10_a_wait_in_words(catalog: Catalog, fetch: Fetch, waits: Waits) -> None:
    catalog.spoil(catalogs.status(429, "Rate limit is exceeded. Try again in 12 seconds."), at={1})
    complete(fetch)
    assert waits.pauses == [12.0]


@pytest.mark.parametrize("code", [500, 502])
def test_1_10_a_post_is_asked_again(catalog: Catalog, fetch: Fetch, code: int) -> None:
    catalog.spoil(catalogs.status(code), at={2})
    complete(fetch)
    assert len(catalog.requests) == LEAST + 1


def test_1_10_what_a_gateway_found_too_much_is_asked_for_in_halves(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.status(504), at={2})
    complete(fetch)
    assert len(catalog.requests) <= LEAST + 3


def test_1_10_a_connection_that_breaks(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.truncated_body(), at={1, 3})
    complete(fetch)
    assert len(catalog.requests) == LEAST + 2


@pytest.mark.parametrize("code", [429, 500])
def test_1_10_what_stays_busy_is_one_line(catalog: Catalog, fetch: Fetch, waits: Waits, code: int) -> None:
    catalog.spoil(catalogs.status(code))
    outcome = fetch()
    assert outcome.code == 1
    assert f"HTTP {code}" in outcome.err
    assert len(catalog.requests) <= 1 + 2 * 7
    assert sum(waits.pauses) <= 2 * 300


@pytest.mark.parametrize("wait", ["86400", "soon", "-5", "9" * 400])
def test_1_10_a_wait_out_of_reason_is_not_waited_for(catalog: Catalog, fetch: Fetch, waits: Waits, wait: str) -> None:
    catalog.spoil(catalogs.status(503, Retry_After=wait))
    outcome = fetch()
    assert outcome.code == 1
    assert "HTTP 503" in outcome.err
    assert max(waits.pauses, default=0) <= 120
    assert len(catalog.requests) <= 1 + 2 * 7


def test_1_10_the_landing_page_is_asked_again_too(catalog: Catalog, fetch: Fetch, waits: Waits) -> None:
    catalog.spoil(catalogs.status(503, Retry_After="3"), at={1}, route="landing")
    complete(fetch)
    assert waits.pauses == [3.0]


def test_1_23_more_requests_a_second_than_the_host_allows(catalog: Catalog, fetch: Fetch, waits: Waits) -> None:
    catalog.spoil(catalogs.short_pages(catalog, 2))
    catalog.spoil(catalogs.token_bucket(5.0, size=5))
    complete(fetch)
    assert len(catalog.searches()) <= 3 * (DAYS // 2 + DAYS // 6 + 2)
    assert waits.pauses != []


def test_1_23_the_pace_of_an_entry_is_kept(catalog: Catalog, fetch: Fetch, named: Callable[..., str]) -> None:
    named(per_second=4.0)
    catalog.spoil(catalogs.short_pages(catalog, 2))
    bucket = catalogs.token_bucket(5.0, size=2)
    refused: list[int] = []

    def watched(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        answer = bucket(asked, reply)
        refused.extend([asked.number] if answer.status == 429 else [])
        return answer

    catalog.spoil(watched)
    complete(fetch)
    assert len(refused) <= 2


def test_1_24_a_firewall_that_says_forbidden(catalog: Catalog, fetch: Fetch, waits: Waits) -> None:
    catalog.spoil(catalogs.status(403), at={1, 2})
    complete(fetch)
    assert 1 <= len(waits.pauses) <= 2
    assert len(catalog.requests) == LEAST + 2


def test_1_24_forbidden_for_good(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.status(403))
    outcome = fetch()
    assert outcome.code == 1
    assert "HTTP 403" in outcome.err
    assert len(catalog.searches()) <= 2 * 3


@pytest.mark.parametrize("code", [400, 401, 410])
def test_what_will_not_change_is_not_asked_again(catalog: Catalog, fetch: Fetch, code: int) -> None:
    catalog.spoil(catalogs.status(code))
    outcome = fetch()
    assert outcome.code == 1
    assert f"HTTP {code}" in outcome.err
    assert len(catalog.searches()) <= 2


# ---------------------------------------------------------------------------------------------------- silent


def test_1_12_one_answer_that_never_comes(catalog: Catalog, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "READ_S", 0.3)
    catalog.spoil(catalogs.stall(), at={2})
    complete(fetch)
    assert len(catalog.requests) <= LEAST + 3


@pytest.mark.parametrize("route", ["landing", "search"])
def test_1_12_no_answer_ever_comes(
    catalog: Catalog, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, route: catalogs.Route
) -> None:
    monkeypatch.setattr(http_module, "READ_S", 0.05)
    catalog.spoil(catalogs.stall(), route=route)
    outcome = fetch()
    assert outcome.code == 1
    assert "no answer in time" in outcome.err
    assert len(catalog.requests) < 60


def test_1_21_down_for_the_first_requests(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.status(503), at=range(1, 5))
    complete(fetch)
    assert len(catalog.requests) == LEAST + 4


def test_1_21_down_for_long_and_up_again(catalog: Catalog, fetch: Fetch) -> None:
    down = range(2, 40)
    catalog.spoil(catalogs.status(503, Retry_After="30"), at=down)
    outcome = fetch()
    assert outcome.code == 1
    assert len(catalog.searches()) <= 2 * 7
    runs = 1
    while outcome.code and runs < 12:
        outcome, runs = fetch(), runs + 1
    assert runs > 2
    assert outcome.ids() == S2_IDS
    assert outcome.ids("s1") == S1_IDS


def test_1_21_a_finished_window_is_not_asked_for_again(catalog: Catalog, fetch: Fetch, tmp_path: Path) -> None:
    def fail_later(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        """The server fails on Sentinel-2, after the answer on Sentinel-1 was put down."""
        if asked.parameters["collections"] == ["sentinel-1-rtc"]:
            return reply
        for _ in range(1000):
            if any(tmp_path.rglob("*.json.gz")):
                break
            sleep(0.01)
        return catalogs.status(500)(asked, reply)

    catalog.spoil(fail_later, at=range(1, 24))
    codes = [fetch().code for _ in range(6)]
    assert codes[0] == 1
    assert codes[-1] == 0
    assert [asked.parameters["collections"] for asked in catalog.searches()].count(["sentinel-1-rtc"]) == 1


# ---------------------------------------------------------------------------------------------------- short


@pytest.mark.parametrize("code", [302, 307])
def test_6_04_a_search_redirected_to_another_host(catalog: Catalog, stranger: Catalog, fetch: Fetch, code: int) -> None:
    catalog.spoil(catalogs.redirect(f"{stranger.url}/search?token={CANARY}", code))
    outcome = fetch()
    assert outcome.code == 1
    assert "another host" in outcome.err


def test_6_04_a_landing_page_redirected_to_another_host(catalog: Catalog, stranger: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.redirect(f"{stranger.url}?sig={CANARY}"), route="landing")
    outcome = fetch()
    assert outcome.code == 1
    assert "another host" in outcome.err


def test_a_redirect_that_never_ends(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.redirect("/stac/search", 307))
    outcome = fetch()
    assert outcome.code == 1
    assert "redirects" in outcome.err
    assert len(catalog.searches()) <= 2 * 4


@pytest.mark.parametrize("tells_matched", [True, False])
def test_1_13_full_page_without_next(catalog: Catalog, fetch: Fetch, tells_matched: bool) -> None:
    catalog.tells_matched = tells_matched
    catalog.spoil(catalogs.without_next())
    complete(fetch)
    assert len(catalog.requests) <= 3 * LEAST


def test_1_13_full_page_without_next_once(catalog: Catalog, fetch: Fetch) -> None:
    catalog.tells_matched = True
    catalog.spoil(catalogs.without_next(), at={1})
    complete(fetch)


def test_1_13_always_the_same_full_page(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.features(catalog.items[:PAGE_SIZE]))
    outcome = fetch()
    assert outcome.code == 1
    assert TRUNCATED.match(outcome.err), outcome.err
    assert len(catalog.requests) < 60


def test_1_13_more_are_said_to_match_than_there_are(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.matched(1000))
    outcome = fetch()
    assert outcome.code == 1
    assert re.search(r"truncated: \d+ of 1000 items", outcome.err), outcome.err
    assert len(catalog.requests) < 60


def test_1_13_more_are_said_to_match_once(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.matched(1000), at={1, 2, 3})
    complete(fetch)


@pytest.mark.parametrize("number", [0, 7, -1])
def test_1_13_fewer_are_said_to_match_than_there_are(catalog: Catalog, fetch: Fetch, number: int) -> None:
    catalog.spoil(catalogs.matched(number))
    complete(fetch)


@pytest.mark.parametrize("size", [PAGE_SIZE, PAGE_SIZE // 2 + 1, 1])
def test_1_13_pages_of_another_size(catalog: Catalog, fetch: Fetch, size: int) -> None:
    catalog.most_per_page = size
    complete(fetch)


@pytest.mark.parametrize("total", [2 * PAGE_SIZE, PAGE_SIZE])
def test_1_13_no_search_gives_more_than_so_many(catalog: Catalog, fetch: Fetch, total: int) -> None:
    catalog.spoil(catalogs.ends_after(total))
    complete(fetch)
    assert len(catalog.requests) <= 3 * LEAST


def test_1_13_a_cap_with_a_count_that_is_right(catalog: Catalog, fetch: Fetch) -> None:
    catalog.tells_matched = True
    catalog.spoil(catalogs.ends_after(13))
    complete(fetch)


def test_1_14_an_empty_page_in_the_middle(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.empty_page_before(catalog), at={2})
    complete(fetch)


def test_1_14_a_short_page_in_the_middle(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.short_pages(catalog, 3), at={1, 2, 4})
    complete(fetch)


def test_1_14_empty_pages_without_end(catalog: Catalog, fetch: Fetch) -> None:
    count = iter(range(10_000))

    def empty(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        return catalogs.Reply(page={"features": [], "links": [catalog.next_link(asked, f"{next(count)}")]})

    catalog.spoil(empty)
    outcome = fetch()
    assert outcome.code == 1
    assert TRUNCATED.match(outcome.err), outcome.err
    assert len(catalog.requests) < 60


@pytest.mark.parametrize("gets_only", [True, False])
def test_1_15_a_next_link_that_repeats(catalog: Catalog, fetch: Fetch, gets_only: bool) -> None:
    catalog.gets_only = gets_only
    catalog.spoil(catalogs.same_token(catalog))
    outcome = fetch()
    assert outcome.code == 1
    assert TRUNCATED.match(outcome.err), outcome.err
    assert len(catalog.requests) < 60


def test_1_15_next_links_that_go_round_in_circles(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.circle(catalog))
    outcome = fetch()
    assert outcome.code == 1
    assert TRUNCATED.match(outcome.err), outcome.err
    assert len(catalog.requests) < 60


def test_1_16_pages_that_overlap(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.overlap(catalog, 10))
    complete(fetch)


def test_1_16_pages_that_overlap_and_a_count(catalog: Catalog, fetch: Fetch) -> None:
    catalog.tells_matched = True
    catalog.spoil(catalogs.overlap(catalog, 10))
    complete(fetch)


def test_1_16_items_arrive_between_pages(catalog: Catalog, fetch: Fetch) -> None:
    late = catalogs.s2("S2A_late", day(3, "11:00:00Z"))
    catalog.spoil(catalogs.ingest(catalog, late), at={1})
    outcome = fetch()
    assert outcome.code == 0, outcome.err
    assert set(S2_IDS) <= set(outcome.ids()) <= {*S2_IDS, "S2A_late"}


@pytest.mark.parametrize("tells_matched", [True, False])
def test_1_16_items_in_another_order(catalog: Catalog, fetch: Fetch, tells_matched: bool) -> None:
    catalog.tells_matched = tells_matched
    catalog.items.reverse()
    complete(fetch)


def test_1_17_a_window_that_is_too_long(catalog: Catalog, fetch: Fetch, named: Callable[..., str]) -> None:
    named(page_size=1000)
    catalog.spoil(catalogs.too_much_at_once(days=31))
    complete(fetch)
    assert len(catalog.requests) <= 12


def test_1_17_a_box_that_is_too_large(catalog: Catalog, fetch: Fetch) -> None:
    where = ("--bbox", 7.0, 46.0, 10.0, 49.0, "--from", "2023-06-10", "--to", "2023-06-10", "--max-gap", "1h")
    catalog.items[-1]["properties"]["datetime"] = day(9, "10:00:00Z")
    catalog.spoil(catalogs.too_much_at_once(days=1.0, degrees=1.6))
    outcome = fetch(*where)
    assert outcome.code == 0, outcome.err
    assert outcome.ids() == ["S2A_09"]
    assert len(catalog.requests) < 80


def test_1_17_whatever_is_asked_is_too_much(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.status(504))
    outcome = fetch()
    assert outcome.code == 1
    assert "HTTP 504" in outcome.err
    assert len(catalog.requests) < 60


def test_1_17_an_area_of_many_vertices_is_asked_for_as_a_box(catalog: Catalog, fetch: Fetch, tmp_path: Path) -> None:
    import shapely

    area = shapely.Point(8.5, 47.5).buffer(0.3, quad_segs=500)
    path = tmp_path / "area.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(area))}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    outcome = fetch("--area", path, "--from", "2023-06-01", "--to", "2023-07-15")
    assert outcome.code == 0, outcome.err
    assert outcome.ids() == S2_IDS
    assert all("intersects" not in asked.parameters for asked in catalog.searches())


@pytest.mark.parametrize("clock", ["00:00:00Z", "23:59:59.999999Z", "12:00:00.000001Z"])
def test_1_18_items_at_the_edge_of_a_window(catalog: Catalog, fetch: Fetch, clock: str) -> None:
    for number in range(DAYS):
        catalog.items[number]["properties"]["datetime"] = day(number, clock)
    catalog.spoil(catalogs.too_much_at_once(days=4))
    complete(fetch)


def test_1_18_an_item_at_midnight_after_the_last_day_is_not_wanted(catalog: Catalog, fetch: Fetch) -> None:
    catalog.items.append(catalogs.s2("S2A_next_day", "2023-07-16T00:00:00Z"))
    catalog.items.append(catalogs.s2("S2A_day_before", "2023-05-31T23:59:59.999999Z"))
    complete(fetch)


def test_1_19_a_next_link_to_another_host(catalog: Catalog, stranger: Catalog, fetch: Fetch) -> None:
    href = f"{stranger.url}/search?token={CANARY}"
    catalog.spoil(catalogs.next_link({"rel": "next", "href": href, "method": "GET"}))
    outcome = fetch()
    assert outcome.code == 1
    assert "another host" in outcome.err


def test_1_19_a_search_link_to_another_host(catalog: Catalog, stranger: Catalog, fetch: Fetch) -> None:
    def elsewhere(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        assert reply.page is not None
        link = {"rel": "search", "href": f"{stranger.url}/search?key={CANARY}", "type": "application/geo+json"}
        return catalogs.Reply(page=reply.page | {"links": [link | {"method": "POST"}]})

    catalog.spoil(elsewhere, route="landing")
    outcome = fetch()
    assert outcome.code == 1
    assert "another host" in outcome.err


@pytest.mark.parametrize(
    "href", ["http://[", "javascript:alert(1)", "file:///etc/passwd", "//evil.example.org/", 7, ""]
)
def test_1_19_next_links_that_are_no_address(catalog: Catalog, fetch: Fetch, href: Any) -> None:
    catalog.spoil(catalogs.next_link({"rel": "next", "href": href, "method": "POST", "body": {"token": 20}}), at={1, 2})
    outcome = fetch()
    assert outcome.code == 1
    assert len(catalog.requests) < 60


def test_1_19_next_links_relative_to_the_search(catalog: Catalog, fetch: Fetch) -> None:
    def relative(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        assert reply.page is not None
        links = [link | {"href": "search"} for link in reply.page["links"]]
        return catalogs.Reply(page=reply.page | {"links": links})

    catalog.spoil(relative)
    complete(fetch)
    assert len(catalog.requests) == LEAST


def test_1_19_a_next_link_over_another_scheme(catalog: Catalog, fetch: Fetch) -> None:
    def secure(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        assert reply.page is not None
        links = [link | {"href": link["href"].replace("http://", "https://")} for link in reply.page["links"]]
        return catalogs.Reply(page=reply.page | {"links": links})

    catalog.spoil(secure)
    complete(fetch)


def test_1_20_a_web_page_now_and_then(catalog: Catalog, fetch: Fetch) -> None:
    catalog.spoil(catalogs.html(), at={1, 4})
    catalog.spoil(catalogs.html(), at={1}, route="landing")
    complete(fetch)
    assert len(catalog.requests) == LEAST + 3


@pytest.mark.parametrize("route", ["landing", "search"])
def test_1_20_a_web_page_for_good(catalog: Catalog, fetch: Fetch, route: catalogs.Route) -> None:
    catalog.spoil(catalogs.html(), route=route)
    outcome = fetch()
    assert outcome.code == 1
    assert "not JSON" in outcome.err
    assert len(catalog.requests) <= 1 + 2 * 3


NO_ANSWERS = ["", "null", "[]", "{}", "7", '{"features": null}', '{"features": {}}', '{"a": ', "\x00", "[" * 100_000]


@pytest.mark.parametrize("content", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
@pytest.mark.parametrize("route", ["landing", "search"])
def test_1_20_json_that_is_no_answer(catalog: Catalog, fetch: Fetch, content: str, route: catalogs.Route) -> None:
    catalog.spoil(catalogs.text(content), route=route)
    outcome = fetch()
    assert outcome.code == 1
    assert len(catalog.requests) <= 1 + 2 * 3


def test_features_that_are_no_items(catalog: Catalog, fetch: Fetch) -> None:
    junk: list[Any] = [None, 7, "x", [], {}, {"id": None}, {"id": 3, "collection": "sentinel-2-l2a"}]
    kept = list(catalog.items)

    def mixed(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        (collection,) = asked.parameters["collections"]
        items = [item for item in kept if item["collection"] == collection]
        return catalogs.Reply(page={"features": [*junk, *items], "links": []})

    catalog.spoil(mixed)
    complete(fetch)


def test_what_was_not_asked_for_is_left_out(catalog: Catalog, fetch: Fetch) -> None:
    """Servers that ignore the question are common: everything is checked again."""
    far, cloudy = (20.0, 0.0, 21.0, 1.0), {"eo__cloud_cover": 99.0}
    catalog.items += [
        catalogs.s2("S2A_far", day(3), bounds=far),
        catalogs.s2("S2A_cloudy", day(3), **cloudy),
        catalogs.s2("S2A_late", "2024-06-01T00:00:00Z"),
        catalogs.s2("S2A_l1c", day(3)) | {"collection": "sentinel-2-l1c"},
    ]
    catalog.spoil(catalogs.features(catalog.items))
    complete(fetch)


def test_1_22_neighbouring_places_share_requests(
    catalog: Catalog, fetch: Fetch, tmp_path: Path, geossl: Callable[..., tuple[int, str, str]]
) -> None:
    area = tmp_path / "area.geojson"
    ring = [[8.0, 47.0], [9.0, 47.0], [9.0, 48.0], [8.0, 48.0], [8.0, 47.0]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": polygon}))
    places = tmp_path / "places"
    drawn = ("--count", 1000, "--size", 60, "--area", area, "--block-km", 5)
    code, _, err = geossl("sample", places, "--anywhere", *drawn)
    assert code == 0, err
    days = ("--from", "2023-06-01", "--to", "2023-07-15")
    outcome = fetch("--places", places / "places.parquet", *days)
    assert outcome.code == 0, outcome.err
    assert set(outcome.ids()) == set(S2_IDS)
    cells = 4
    assert len(catalog.requests) <= 1 + cells * (LEAST - 1)


def test_1_22_the_budget_of_requests_is_kept(catalog: Catalog, fetch: Fetch) -> None:
    catalog.most_per_page = 1
    outcome = fetch(*ASKED, "--max-requests", 12)
    assert outcome.code == 1
    assert "all 12 requests of the budget are used up" in outcome.err
    assert 10 <= len(catalog.requests) <= 12


def test_1_22_a_dry_run_asks_nothing(catalog: Catalog, fetch: Fetch) -> None:
    outcome = fetch(*ASKED, "--dry-run")
    assert outcome.code == 0
    assert "at least 2 s, " in outcome.out
    assert catalog.requests == []
    assert not outcome.folder.exists()


def test_1_25_a_finished_search_is_not_made_again(catalog: Catalog, fetch: Fetch) -> None:
    first = complete(fetch)
    scenes = (first.folder / "scenes.parquet").read_bytes()
    asked = len(catalog.requests)
    catalog.items = catalog.items[5:]
    assert fetch().code == 0
    assert len(catalog.requests) == asked
    assert (first.folder / "scenes.parquet").read_bytes() == scenes


def test_1_25_what_was_asked_is_on_record(catalog: Catalog, fetch: Fetch) -> None:
    outcome = complete(fetch)
    from geossl_data.tables import read_metadata

    notes = read_metadata(outcome.folder / "scenes.parquet")
    assert notes["catalog"] == catalog.url
    assert "2023-06-01 to 2023-07-15" in notes["query"]


def test_1_25_the_same_answers_give_the_same_bytes(catalog: Catalog, fetch: Fetch) -> None:
    first = complete(fetch)
    before = {path.name: path.read_bytes() for path in first.folder.glob("*.parquet")}
    catalog.items.reverse()
    again = fetch(*ASKED, "--fresh")
    assert {path.name: path.read_bytes() for path in again.folder.glob("*.parquet")} == before


# ---------------------------------------------------------------------------------------------------- hostile


def _with_limit(monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    limited = functools.partialmethod(http_module.Http.request, max_nbytes=nbytes)
    monkeypatch.setattr(http_module.Http, "request", limited)


@pytest.mark.parametrize("route", ["landing", "search"])
def test_6_12_an_answer_that_unpacks_to_too_much(
    catalog: Catalog, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, route: catalogs.Route
) -> None:
    _with_limit(monkeypatch, 2**20)
    catalog.spoil(catalogs.bomb(2**25), route=route)
    outcome = fetch()
    assert outcome.code == 1
    assert "more than 1048576 bytes" in outcome.err
    assert len(catalog.requests) <= 3


def test_6_12_there_is_a_limit_of_its_own_accord() -> None:
    assert http_module.MAX_NBYTES <= 2**28


def test_6_13_cookies_are_not_kept(catalog: Catalog, fetch: Fetch) -> None:
    def cookie(asked: catalogs.Asked, reply: catalogs.Reply) -> catalogs.Reply:
        reply.headers["Set-Cookie"] = f"session={CANARY}; Path=/"
        return reply

    catalog.spoil(cookie)
    catalog.spoil(cookie, route="landing")
    complete(fetch)


@pytest.mark.parametrize("user", ["user:", f"user:{CANARY}@", f"{CANARY}@"])
def test_6_01_a_catalog_named_with_a_password_is_refused(catalog: Catalog, fetch: Fetch, user: str) -> None:
    url = catalog.url.replace("://", f"://{user.removesuffix('@').removesuffix(':')}@")
    outcome = fetch(*ASKED, catalog_name=url)
    assert outcome.code == 1
    assert "without user and password" in outcome.err
    assert catalog.requests == []


def test_6_01_a_catalog_named_with_a_key_is_refused(catalog: Catalog, fetch: Fetch) -> None:
    outcome = fetch(*ASKED, catalog_name=f"{catalog.url}?subscription-key={CANARY}")
    assert outcome.code == 1
    assert "without query" in outcome.err
    assert catalog.requests == []


def test_6_06_the_key_of_a_token_service_does_not_go_to_the_catalog(catalog: Catalog, fetch: Fetch) -> None:
    """The key is in the environment of every test here; `fetch` looks for the canary in all that was sent."""
    complete(fetch)
    sent = json.dumps([[asked.path, dict(asked.headers), asked.parameters] for asked in catalog.requests])
    assert CANARY not in sent
