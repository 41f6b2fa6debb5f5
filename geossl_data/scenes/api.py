"""Items from a STAC API: asked for politely, in windows of time, and complete or not at all.

Servers drop connections, throttle, stop paging half way and answer with web pages. Requests are repeated as the
server asks; an answer that may have been cut short is asked for again in halves; what stays short is an error.
"""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
from pystac import STACError
from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from urllib3 import Retry
from urllib3.exceptions import ReadTimeoutError

from geossl_data.errors import CatalogError
from geossl_data.grid import Bounds
from geossl_data.scenes.hrefs import redact, split
from geossl_data.scenes.items import Item, rfc3339
from geossl_data.scenes.signing import without_netrc
from geossl_data.version import VERSION

_LOG = logging.getLogger(__name__)

TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two bytes of an answer."""
RETRIES = 6
BACKOFF_S = 0.5
"""First pause before a request is repeated; doubled each time."""
LONGEST_WAIT_S = 120
"""Longest wait that a server may ask for."""
NARROWEST = timedelta(hours=6)
"""Windows of time are not halved below this."""
LARGEST_ANSWER_NBYTES = 256 * 2**20

_ATTEMPTS = 3
_MOST_REDIRECTS = 3
_MOST_STALE_PAGES = 3
"""Pages in a row without a new item after which paging is taken to go round in circles."""


class _OverloadedError(CatalogError):
    """The server could not answer in time; a narrower question may succeed."""


class _BrokenError(CatalogError):
    """An answer that stopped half way or is no JSON; asking again may help."""


class _SameHostIO(StacApiIO):
    """pystac-client's I/O, confined to one host, without credentials, with retries also for POST.

    Links may name the host with another scheme; they are asked over the scheme and port of the catalog's own URL.
    """

    def __init__(self, url: str) -> None:
        super().__init__(max_retries=None)
        parts = urlsplit(url)
        self._root = (parts.scheme, parts.netloc)
        self._host = parts.hostname
        self.label = parts.netloc
        self.session.auth = without_netrc
        self.session.headers["User-Agent"] = f"geossl/{VERSION}"
        retry = Retry(
            total=RETRIES,
            connect=3,
            read=2,
            backoff_factor=BACKOFF_S,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
            retry_after_max=LONGEST_WAIT_S,
        )
        self.session.mount(f"{parts.scheme}://", HTTPAdapter(max_retries=retry))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of an answer; CatalogError for one that is not a success or comes from elsewhere."""
        verb = (method or "GET").upper()
        content: dict[str, Any] = {"json" if verb == "POST" else "params": parameters}
        url = href
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                with self.session.request(
                    verb, self._own(url), timeout=TIMEOUT_S, stream=True, allow_redirects=False, **content
                ) as answer:
                    if not answer.is_redirect:
                        return self._text(answer)
                    url = _joined(url, answer.headers["location"])
            except (ChunkedEncodingError, ContentDecodingError):
                raise _BrokenError(f"{self.label}: an answer stopped half way; try again later") from None
            except requests.RequestException as error:
                if _is_timeout(error):
                    raise _OverloadedError(f"{self.label}: no answer in time; try again later") from None
                raise CatalogError(
                    f"{self.label}: cannot be reached ({type(error).__name__}); check the network and the URL"
                ) from None
        raise CatalogError(f"{self.label}: redirects more than {_MOST_REDIRECTS} times; give the final URL")

    def _own(self, href: str) -> str:
        parts = split(href)
        if parts is None or parts.scheme not in ("http", "https") or parts.hostname != self._host:
            raise CatalogError(f"{self.label}: sends us to another host ({redact(href)}); refused")
        return urlunsplit((*self._root, parts.path, parts.query, ""))

    def _text(self, answer: requests.Response) -> str:
        if answer.status_code in (408, 413, 504):
            raise _OverloadedError(f"{self.label}: could not answer in time (HTTP {answer.status_code})")
        if not 200 <= answer.status_code < 300:
            raise CatalogError(f"{self.label}: refused the request (HTTP {answer.status_code}); try again later")
        parts, size = [], 0
        for part in answer.iter_content(2**16):
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER_NBYTES:
                raise CatalogError(f"{self.label}: an answer of more than {LARGEST_ANSWER_NBYTES >> 20} MiB; refused")
        return b"".join(parts).decode("utf-8", errors="replace")


def _is_timeout(error: requests.RequestException) -> bool:
    """Did the server take the question and not answer in time? Retries hide that in another exception's reason."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ReadTimeout) or isinstance(reason, ReadTimeoutError)


class StacApi:
    """A STAC API with item search.

    Raises CatalogError when the URL cannot be reached or is not one.
    """

    def __init__(self, url: str, page_size: int) -> None:
        self._io = _SameHostIO(url)
        self._page_size = page_size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client = Client.open(url, stac_io=self._io, timeout=TIMEOUT_S[1])
        except (STACError, ClientTypeError, APIError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CatalogError(f"{self._io.label}: not a STAC API; expected a landing page in JSON") from None
        link = self._client.get_search_link()
        if link is None:
            raise CatalogError(f"{self._io.label}: a catalog without item search; give a STAC API or a parquet file")
        offered = {
            str(entry.extra_fields.get("method", "")).upper()
            for entry in self._client.links
            if entry.rel == "search" and isinstance(entry.extra_fields, dict)
        }
        self._method = "GET" if offered == {"GET"} else "POST"
        if not self._client.conforms_to("ITEM_SEARCH"):
            self._client.add_conforms_to("ITEM_SEARCH")

    def items(self, collection: str, box: Bounds, start: datetime, end: datetime) -> list[Item]:
        """All items of a collection that meet `box`, acquired from `start` until before `end`, each once.

        Raises CatalogError when the server does not give all of them.
        """
        narrow = end - start <= NARROWEST
        try:
            found, what_is_missing = self._pages(collection, box, start, end)
        except _OverloadedError:
            if narrow:
                raise
            found, what_is_missing = {}, "overloaded"
        if not what_is_missing:
            return list(found.values())
        if narrow:
            raise CatalogError(
                f"{self._io.label}: the answer for {collection} is truncated: {what_is_missing}; "
                "try again later, or narrow the area"
            )
        _LOG.info("%s: %s, asking for %s to %s in halves", self._io.label, what_is_missing, start, end)
        middle = start + (end - start) / 2
        halves = [*self.items(collection, box, start, middle), *self.items(collection, box, middle, end)]
        return list({_key(item): item for item in halves}.values())

    def _pages(
        self, collection: str, box: Bounds, start: datetime, end: datetime
    ) -> tuple[dict[tuple[str, str], Item], str]:
        """The items of all pages, and what shows that some are missing; empty where nothing does."""
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
        for page in self._walk(search.url_with_parameters() if self._method == "GET" else search.url, search):
            features = page["features"]
            before = len(found)
            for item in features:
                if isinstance(item, dict):
                    found.setdefault(_key(item), item)
            stale = 0 if len(found) > before else stale + 1
            if stale > _MOST_STALE_PAGES:
                raise CatalogError(f"{self._io.label}: paging goes round in circles; try again later")
            matched = _matched(page) or matched
            last_size = len(features)
        if matched is not None:
            return found, f"{len(found)} of {matched} items and no next page" if len(found) < matched else ""
        is_full = last_size >= self._page_size or (last_size > 0 and last_size % 100 == 0)
        return found, f"a full page of {last_size} items and no next page" if is_full else ""

    def _walk(self, url: str, search: Any) -> Iterator[dict[str, Any]]:
        """The pages of a search, to the last one; an empty page in the middle does not end it."""
        method, body = self._method, dict(search.get_parameters()) if self._method == "POST" else {}
        asked: set[str] = set()
        while True:
            request = json.dumps([method, url, body], sort_keys=True, default=list)
            if request in asked:
                raise CatalogError(f"{self._io.label}: the next page is one that was there before; try again later")
            asked.add(request)
            page = self._page(method, url, body)
            yield page
            link = _next_link(page)
            if link is None:
                return
            href = link.get("href")
            if not isinstance(href, str):
                raise CatalogError(f"{self._io.label}: a next link without an address")
            url = _joined(url, href)
            given = link.get("body")
            given = given if isinstance(given, dict) else {}
            if str(link.get("method", "GET")).upper() == "POST":
                method, body = "POST", {**body, **given} if link.get("merge") else given or body
            else:
                method, body = "GET", {}

    def _page(self, method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._features(self._io.request(url, method=method, parameters=body or None))
            except _BrokenError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(BACKOFF_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _features(self, text: str) -> dict[str, Any]:
        try:
            page = json.loads(text)
        except (ValueError, RecursionError):
            raise _BrokenError(f"{self._io.label}: answered with something that is not JSON; try again later") from None
        if not isinstance(page, dict) or not isinstance(page.get("features"), list):
            raise CatalogError(f"{self._io.label}: answered a search with JSON that holds no features")
        return page


def _joined(url: str, href: str) -> str:
    """An address relative to another; unchanged where it cannot be taken apart, so that it is refused later."""
    try:
        return urljoin(url, href)
    except ValueError:
        return href


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
