"""Items from a STAC API: complete, or not at all.

Servers stop paging half way, count wrong, go round in circles and answer with web pages. An answer that may have been
cut short is asked for again in halves, of time and then of ground; what stays short is TruncatedSearch.
"""

import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from pystac import STACError
from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from geossl_data.errors import CatalogError, TruncatedSearch
from geossl_data.grid import Bounds
from geossl_data.scenes.hrefs import redact, split
from geossl_data.scenes.http import BACKOFF_S, CONCURRENCY, PER_SECOND, Http, HttpError
from geossl_data.scenes.items import Item, rfc3339

_LOG = logging.getLogger(__name__)

NARROWEST = timedelta(hours=6)
"""Windows of time are not halved below this."""
SMALLEST_DEGREES = 0.5
"""Nor boxes below this."""

_ATTEMPTS = 3
_MOST_STALE_PAGES = 3
"""Pages in a row without a new item after which paging is taken to go round in circles."""


class _OverloadedError(CatalogError):
    """The server could not answer in time; a narrower question may succeed."""


class _SameHostIO(StacApiIO):
    """pystac-client's I/O over our own client, confined to one host.

    Links may name the host with another scheme and without its port; both are then those of the catalog's own URL.
    """

    def __init__(self, url: str, http: Http) -> None:
        super().__init__(max_retries=None)
        parts = urlsplit(url)
        self._root = (parts.scheme, parts.netloc)
        self._host, self._port = parts.hostname, parts.port
        self._http = http
        self.label = http.label

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """What pystac-client asks for; see `ask`."""
        return self.ask((method or "GET").upper(), href, parameters, tries=2)

    def ask(self, method: str, href: str, parameters: dict[str, Any] | None, tries: int) -> str:
        """The text of an answer; CatalogError for one that is not a success or comes from elsewhere.

        tries: how often to ask what the server finds too much.
        """
        content: dict[str, Any] = {"json" if method == "POST" else "params": parameters}
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._http.request(method, self._own(href), tries_when_overloaded=tries, **content)
            except HttpError as error:
                kind = _OverloadedError if error.kind == "overloaded" else CatalogError
                raise kind(str(error)) from None
            text = answer.content.decode("utf-8", errors="replace").strip()
            if text[:1] in ("{", "[") and text[-1:] in ("}", "]"):
                return text
            _LOG.info("%s: an answer that is no JSON", self.label)
            if attempt + 1 < _ATTEMPTS:
                self._http.pause(BACKOFF_S * 2**attempt)
        raise CatalogError(f"{self.label}: answered with something that is not JSON; try again later")

    def _own(self, href: str) -> str:
        parts = split(href)
        own = parts is not None and parts.hostname == self._host and parts.port in (None, self._port)
        if parts is None or parts.scheme not in ("http", "https") or not own:
            raise CatalogError(f"{self.label}: sends us to another host ({redact(href)}); refused")
        return urlunsplit((*self._root, parts.path, parts.query, ""))


class StacApi:
    """A STAC API with item search, safe to use from several threads.

    page_size: items asked for per page; concurrency, per_second: how hard the host may be leant on.
    Raises CatalogError when the URL cannot be reached or is not one.
    """

    def __init__(
        self, url: str, page_size: int, *, concurrency: int = CONCURRENCY, per_second: float = PER_SECOND
    ) -> None:
        self._http = Http(url, concurrency=concurrency, per_second=per_second, patient=True)
        self._io = _SameHostIO(url, self._http)
        self._page_size = page_size
        self._lock = threading.Lock()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client = Client.open(url, stac_io=self._io)
                link = self._client.get_search_link()
        except (STACError, ClientTypeError, APIError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CatalogError(f"{self._io.label}: not a STAC API; expected a landing page in JSON") from None
        if link is None:
            raise CatalogError(f"{self._io.label}: a catalog without item search; give a STAC API or a parquet file")
        links = [
            entry for entry in self._client.links if entry.rel == "search" and isinstance(entry.extra_fields, dict)
        ]
        offered = {str(entry.extra_fields.get("method", "")).upper() for entry in links}
        self._method = "GET" if offered == {"GET"} else "POST"
        # pystac-client reads these again before each search, and trusts them to be what they should.
        for entry in links:
            entry.extra_fields["method"] = self._method
        stated = self._client.extra_fields.get("conformsTo")
        self._client.extra_fields["conformsTo"] = [
            text for text in (stated if isinstance(stated, list) else []) if isinstance(text, str)
        ]
        if not self._client.conforms_to("ITEM_SEARCH"):
            self._client.add_conforms_to("ITEM_SEARCH")

    def stop(self) -> None:
        """Make searches in other threads end soon, with an error."""
        self._http.stop()

    def items(self, collection: str, box: Bounds, start: datetime, end: datetime) -> list[Item]:
        """All items of a collection that meet `box`, acquired from `start` until before `end`, each once.

        Raises TruncatedSearch when the server does not give all of them, CatalogError when it does not answer.
        """
        overloaded: _OverloadedError | None = None
        parts = _halves(box, start, end)
        try:
            found, what_is_missing = self._pages(collection, box, start, end, tries=1 if parts else 2)
        except _OverloadedError as error:
            found, what_is_missing, overloaded = {}, "overloaded", error
        if not what_is_missing:
            return list(found.values())
        if not parts:
            raise overloaded or TruncatedSearch(
                f"{self._io.label}: the answer for {collection} is truncated: {what_is_missing}; "
                "try again later, or narrow the area"
            )
        _LOG.info("%s: %s, asking for %s to %s in halves", self._io.label, what_is_missing, start, end)
        halves = [item for part in parts for item in self.items(collection, *part)]
        return list({_key(item): item for item in halves}.values())

    def _pages(
        self, collection: str, box: Bounds, start: datetime, end: datetime, tries: int
    ) -> tuple[dict[tuple[str, str], Item], str]:
        """The items of all pages, and what shows that some are missing; empty where nothing does."""
        with self._lock:
            search = self._client.search(
                method=self._method,
                collections=[collection],
                bbox=box,
                datetime=f"{rfc3339(start)}/{rfc3339(end - timedelta(microseconds=1))}",
                limit=self._page_size,
            )
        found: dict[tuple[str, str], Item] = {}
        matched: int | None = None
        last_size = stale = 0
        url = search.url_with_parameters() if self._method == "GET" else search.url
        for page in self._walk(url, search, tries):
            features = page["features"]
            before = len(found)
            for item in features:
                if isinstance(item, dict):
                    found.setdefault(_key(item), item)
            stale = 0 if len(found) > before else stale + 1
            if stale > _MOST_STALE_PAGES:
                raise TruncatedSearch(f"{self._io.label}: paging goes round in circles; try again later")
            matched = _matched(page) or matched
            last_size = len(features)
        if matched is not None:
            return found, f"{len(found)} of {matched} items and no next page" if len(found) < matched else ""
        is_full = last_size == self._page_size or (last_size > 0 and last_size % 100 == 0)
        return found, f"a full page of {last_size} items and no next page" if is_full else ""

    def _walk(self, url: str, search: Any, tries: int) -> Iterator[dict[str, Any]]:
        """The pages of a search, to the last one; an empty page in the middle does not end it."""
        method, body = self._method, dict(search.get_parameters()) if self._method == "POST" else {}
        asked: set[str] = set()
        while True:
            request = json.dumps([method, url, body], sort_keys=True, default=list)
            if request in asked:
                raise TruncatedSearch(f"{self._io.label}: the next page is one that was there before; try again later")
            asked.add(request)
            page = self._page(method, url, body, tries)
            yield page
            link = _next_link(page)
            if link is None:
                return
            href = link.get("href")
            if not isinstance(href, str):
                raise TruncatedSearch(f"{self._io.label}: a next link without an address")
            with suppress(ValueError):  # an address that cannot be taken apart is refused when it is asked for
                href = urljoin(url, href)
            url, given = href, link.get("body")
            given = given if isinstance(given, dict) else {}
            if str(link.get("method", "GET")).upper() == "POST":
                method, body = "POST", {**body, **given} if link.get("merge") else given or body
            else:
                method, body = "GET", {}

    def _page(self, method: str, url: str, body: dict[str, Any], tries: int) -> dict[str, Any]:
        try:
            page = json.loads(self._io.ask(method, url, body or None, tries))
        except (ValueError, RecursionError):
            raise CatalogError(f"{self._io.label}: answered with something that is not JSON; try again later") from None
        if not isinstance(page, dict) or not isinstance(page.get("features"), list):
            raise CatalogError(f"{self._io.label}: answered a search with JSON that holds no features")
        return page


def _halves(box: Bounds, start: datetime, end: datetime) -> list[tuple[Bounds, datetime, datetime]]:
    """A question in two, the window halved or the box along its longer side; empty where both are small already.

    A day weighs as much as a degree.
    """
    west, south, east, north = box
    degrees, days = max(east - west, north - south), (end - start) / timedelta(days=1)
    may_halve_time, may_halve_box = end - start > NARROWEST, degrees > SMALLEST_DEGREES
    if may_halve_time and (days >= degrees or not may_halve_box):
        middle = start + (end - start) / 2
        return [(box, start, middle), (box, middle, end)]
    if not may_halve_box:
        return []
    if east - west >= north - south:
        centre = (west + east) / 2
        return [((west, south, centre, north), start, end), ((centre, south, east, north), start, end)]
    centre = (south + north) / 2
    return [((west, south, east, centre), start, end), ((west, centre, east, north), start, end)]


def _key(item: Item) -> tuple[str, str]:
    return str(item.get("collection")), str(item.get("id"))


def _matched(page: dict[str, Any]) -> int | None:
    """How many items the server says there are in all."""
    context = page.get("context")
    for value in (page.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _next_link(page: dict[str, Any]) -> dict[str, Any] | None:
    links = page.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "next":
            return link
    return None
