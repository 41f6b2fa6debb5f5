"""A STAC API on loopback that misbehaves as it is told, and writes down every request.

Left alone it is right: closed intervals, boxes, pages with next links, POST and GET. `spoil` puts a fault before any of
its answers; faults compose, and each has the name of what goes wrong.
"""

import gzip
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import loopback
from shapely.geometry import box, mapping

from geossl_data.bands import S2_BANDS
from geossl_data.scenes.items import Item, parse_time

CANARY = "CANARY-6b1f0c"
"""A secret that no output of ours may hold."""
MOST_REQUESTS = 400
"""More than any test needs; beyond it the server says 410, which ends a client that would never end."""

Route = Literal["landing", "search", "elsewhere"]
Bounds = tuple[float, float, float, float]


@dataclass(slots=True)
class Asked:
    """A request as it came in."""

    route: Route
    number: int
    """How many requests of this route there have been, this one included."""
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    parameters: dict[str, Any]
    """What a search asks for, by POST or GET."""


@dataclass(slots=True)
class Reply:
    """An answer about to be sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    page: dict[str, Any] | None = None
    """The JSON of an answer; None where `body` is sent as it is."""
    body: bytes = b""
    announced: int | None = None
    """A Content-Length other than the true one: the answer breaks off."""
    stalls: bool = False
    """Nothing is ever sent."""


Fault = Callable[[Asked, Reply], Reply]


class Catalog:
    """The misbehaving API; `items` may be changed at any time."""

    def __init__(self, url: str, items: Sequence[Item]) -> None:
        self.url = f"{url}/stac"
        self.items = list(items)
        self.requests: list[Asked] = []
        self.most_per_page = 1000
        self.tells_matched = False
        self.gets_only = False
        self.stopped = threading.Event()
        self._faults: list[tuple[Route, Container[int] | None, Fault]] = []
        self._lock = threading.Lock()
        self._numbers = {route: itertools.count(1) for route in ("landing", "search", "elsewhere")}

    def spoil(self, fault: Fault, *, at: Container[int] | None = None, route: Route = "search") -> None:
        """Put a fault before the answers of a route: before all of them, or before those of the given numbers."""
        self._faults.append((route, at, fault))

    def forget_faults(self) -> None:
        """Be right from here on."""
        self._faults.clear()

    def searches(self) -> list[Asked]:
        """All searches so far."""
        return [asked for asked in self.requests if asked.route == "search"]

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request, faults included."""
        parts = urlsplit(path)
        routes: dict[str, Route] = {"/stac": "landing", "/stac/search": "search"}
        route = routes.get(parts.path.rstrip("/"), "elsewhere")
        parameters = json.loads(body) if body else _parameters(parts.query)
        with self._lock:
            asked = Asked(route, next(self._numbers[route]), method, path, headers, parameters)
            self.requests.append(asked)
            if len(self.requests) > MOST_REQUESTS:
                return Reply(410)
            faults = [
                fault for where, at, fault in self._faults if where == route and (at is None or asked.number in at)
            ]
            reply = self._right(asked)
        for fault in faults:
            reply = fault(asked, reply)
        return reply

    def _right(self, asked: Asked) -> Reply:
        match asked.route:
            case "landing":
                return Reply(page=self._landing())
            case "search" if not asked.parameters.keys() >= {"collections", "datetime", "bbox"}:
                return Reply(400)  # what a server says that lets nobody ask for everything
            case "search":
                return Reply(page=self._page(asked))
        return Reply(404)

    def _landing(self) -> dict[str, Any]:
        link = {"rel": "search", "type": "application/geo+json", "href": f"{self.url}/search"}
        return {
            "type": "Catalog",
            "id": "misbehaving",
            "stac_version": "1.0.0",
            "description": "on this machine",
            "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"],
            "links": [link | {"method": method} for method in (["GET"] if self.gets_only else ["GET", "POST"])],
        }

    def matching(self, parameters: Mapping[str, Any]) -> list[Item]:
        """The items that a search asks for, in the order of the catalog."""
        first, _, last = parameters["datetime"].partition("/")
        start, end = parse_time(first), parse_time(last or first)
        return [
            item
            for item in self.items
            if item["collection"] in parameters["collections"]
            and start <= parse_time(item["properties"]["datetime"]) <= end
            and _overlap(item["bbox"], parameters["bbox"])
        ]

    def _page(self, asked: Asked) -> dict[str, Any]:
        found = self.matching(asked.parameters)
        first = int(asked.parameters.get("token", 0))
        size = min(int(asked.parameters.get("limit", 10)), self.most_per_page)
        page: dict[str, Any] = {"type": "FeatureCollection", "features": found[first : first + size], "links": []}
        if first + size < len(found):
            page["links"] = [self.next_link(asked, first + size)]
        return page | ({"numberMatched": len(found)} if self.tells_matched else {})

    def next_link(self, asked: Asked, token: object) -> dict[str, Any]:
        """A link to the page of a search that starts at a token."""
        if asked.method == "GET":
            query = re.sub(r"&token=[^&]*", "", urlsplit(asked.path).query)
            return {"rel": "next", "method": "GET", "href": f"{self.url}/search?{query}&token={token}"}
        body = {"token": token}
        return {"rel": "next", "method": "POST", "href": f"{self.url}/search", "merge": True, "body": body}


@contextmanager
def serve(items: Sequence[Item], host: str = "127.0.0.1") -> Iterator[Catalog]:
    """A catalog of these items, served while the block runs; all of 127.0.0.0/8 is this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = catalog.answer(self.command, self.path, headers, body)
            if reply.stalls:
                catalog.stopped.wait()
                return
            content = reply.body if reply.page is None else json.dumps(reply.page).encode()
            self.send_response(reply.status)
            kind = {} if reply.page is None else {"Content-Type": "application/geo+json"}
            length = len(content) if reply.announced is None else reply.announced
            for name, value in {**kind, "Content-Length": str(length), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    with loopback.serve(Handler, host) as server:
        catalog = Catalog(server.url, items)
        try:
            yield catalog
        finally:
            catalog.stopped.set()


def _parameters(query: str) -> dict[str, Any]:
    """The parameters of a search by GET, as a POST has them."""
    given: dict[str, Any] = dict(parse_qsl(query))
    if "collections" in given:
        given["collections"] = given["collections"].split(",")
    if "bbox" in given:
        given["bbox"] = [float(edge) for edge in given["bbox"].split(",")]
    return given


def _overlap(bounds: Sequence[float], asked: Sequence[float]) -> bool:
    """Do two boxes meet? The first may lie across the antimeridian, or whole turns away."""
    west, south, east, north = bounds
    east += 360.0 if east < west else 0.0
    return (
        south <= asked[3]
        and north >= asked[1]
        and any(west + turn <= asked[2] and east + turn >= asked[0] for turn in (-360.0, 0.0, 360.0))
    )


# ---------------------------------------------------------------------------------------------------- answers


def status(code: int, text: str = "", **headers: str) -> Fault:
    """Another status, with a body; `Retry_After="2"` for headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked, reply: Reply(code, named, body=f"{text} {CANARY}".encode())


def html() -> Fault:
    """A web page with status 200."""
    text = f"<!DOCTYPE html><html><body>Maintenance, key {CANARY}</body></html>".encode()
    return lambda asked, reply: Reply(200, {"Content-Type": "text/html"}, body=text)


def text(content: str) -> Fault:
    """Any text with status 200."""
    return lambda asked, reply: Reply(200, {"Content-Type": "application/json"}, body=content.encode())


def truncated_body() -> Fault:
    """The connection breaks in the middle of the answer."""

    def cut(asked: Asked, reply: Reply) -> Reply:
        content = json.dumps(reply.page).encode()
        return Reply(200, {"Connection": "close"}, body=content[: len(content) // 2], announced=len(content))

    return cut


def bomb(nbytes: int) -> Fault:
    """A small answer that unpacks to a large one."""
    packed = gzip.compress(b" " * nbytes)
    return lambda asked, reply: Reply(200, {"Content-Encoding": "gzip"}, body=packed)


def stall() -> Fault:
    """No answer at all."""
    return lambda asked, reply: Reply(stalls=True)


def redirect(url: str, code: int = 302) -> Fault:
    """The question is to be asked elsewhere."""
    return lambda asked, reply: Reply(code, {"Location": url})


def too_much_at_once(days: float = 31.0, degrees: float = 360.0) -> Fault:
    """A gateway gives up where the window or the box is too large."""

    def give_up(asked: Asked, reply: Reply) -> Reply:
        first, last = (parse_time(moment) for moment in asked.parameters["datetime"].split("/"))
        west, south, east, north = asked.parameters["bbox"]
        is_large = (last - first).total_seconds() > days * 86400 or max(east - west, north - south) > degrees
        return Reply(504, body=CANARY.encode()) if is_large else reply

    return give_up


def token_bucket(per_second: float, size: int) -> Fault:
    """Too many requests a second are refused, by the clock that everybody in this process reads."""
    lock, left, last = threading.Lock(), float(size), time.monotonic()

    def refuse(asked: Asked, reply: Reply) -> Reply:
        nonlocal left, last
        with lock:
            now = time.monotonic()
            left, last = min(float(size), left + (now - last) * per_second), now
            if left < 1.0:
                return Reply(429, {"Retry-After": "1"})
            left -= 1.0
        return reply

    return refuse


# ---------------------------------------------------------------------------------------------------- pages


def _page(change: Callable[[Asked, dict[str, Any]], dict[str, Any]]) -> Fault:
    def spoiled(asked: Asked, reply: Reply) -> Reply:
        if reply.page is not None:
            reply.page = reply.page | change(asked, reply.page)
        return reply

    return spoiled


def without_next() -> Fault:
    """The next link is missing."""
    return _page(lambda asked, page: {"links": []})


def matched(number: int) -> Fault:
    """So many items are said to match."""
    return _page(lambda asked, page: {"numberMatched": number})


def ends_after(total: int) -> Fault:
    """No search gives more than so many items, and nothing says so."""

    def cap(asked: Asked, page: dict[str, Any]) -> dict[str, Any]:
        left = total - int(asked.parameters.get("token", 0))
        size = len(page["features"])
        return {"features": page["features"][:left], "links": page["links"] if left > size else []}

    return _page(cap)


def empty_page_before(catalog: Catalog) -> Fault:
    """An empty page, and a next link to the one that was asked for."""

    def empty(asked: Asked, page: dict[str, Any]) -> dict[str, Any]:
        token = int(asked.parameters.get("token", 0))
        return {"features": [], "links": [catalog.next_link(asked, f"{token:05}")]}

    return _page(empty)


def short_pages(catalog: Catalog, size: int) -> Fault:
    """Pages of another size than was asked for."""

    def shorten(asked: Asked, page: dict[str, Any]) -> dict[str, Any]:
        if len(page["features"]) <= size:
            return {}
        token = int(asked.parameters.get("token", 0))
        return {"features": page["features"][:size], "links": [catalog.next_link(asked, token + size)]}

    return _page(shorten)


def same_token(catalog: Catalog) -> Fault:
    """The next link leads to the same page, always."""
    return _page(lambda asked, page: {"links": [catalog.next_link(asked, asked.parameters.get("token", 0))]})


def circle(catalog: Catalog) -> Fault:
    """Always another token, and always the first page."""

    def turn(asked: Asked, page: dict[str, Any]) -> dict[str, Any]:
        size = int(asked.parameters["limit"])
        return {
            "features": catalog.matching(asked.parameters)[:size],
            "links": [catalog.next_link(asked, 100_000 + asked.number)],
        }

    return _page(turn)


def overlap(catalog: Catalog, size: int) -> Fault:
    """Each page begins with the last items of the one before."""

    def repeat(asked: Asked, page: dict[str, Any]) -> dict[str, Any]:
        first = int(asked.parameters.get("token", 0))
        return {"features": catalog.matching(asked.parameters)[max(0, first - size) : first] + page["features"]}

    return _page(repeat)


def next_link(link: Mapping[str, Any]) -> Fault:
    """A next link of one's own."""
    return _page(lambda asked, page: {"links": [dict(link)]})


def features(given: Iterable[Any]) -> Fault:
    """Other features than were asked for."""
    kept = list(given)
    return _page(lambda asked, page: {"features": kept, "links": []})


def adds(item: Any) -> Fault:
    """One more feature than was asked for."""
    return _page(lambda asked, page: {"features": [*page["features"], item]})


def ingest(catalog: Catalog, item: Item) -> Fault:
    """An item arrives in front of all others, after the answer was made."""

    def add(asked: Asked, page: dict[str, Any]) -> dict[str, Any]:
        if item not in catalog.items:
            catalog.items.insert(0, item)
        return {}

    return _page(add)


# ---------------------------------------------------------------------------------------------------- items

STORE = "https://data.example.org"
WHERE: Bounds = (8.0, 47.0, 9.0, 48.0)


def _item(name: str, collection: str, moment: str, bounds: Bounds, properties: dict[str, Any]) -> Item:
    """An item without assets."""
    geometry = json.loads(json.dumps(mapping(box(*bounds))))
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": geometry,
        "bbox": list(bounds),
        "properties": {"datetime": moment} | properties,
        "links": [],
        "assets": {},
    }


def s2(name: str, moment: str, *, bounds: Bounds = WHERE, sign: str = "", **properties: Any) -> Item:
    """A Sentinel-2 item; `__` in a keyword stands for a colon, None takes a property away."""
    stated = {"platform": "Sentinel-2A", "s2:processing_baseline": "05.10", "eo:cloud_cover": 10.0, "proj:epsg": 32632}
    stated |= {key.replace("__", ":"): value for key, value in properties.items()}
    stated = {key: value for key, value in stated.items() if value is not None}
    item = _item(name, "sentinel-2-l2a", moment, bounds, stated)
    item["assets"] = {band: {"href": f"{STORE}/{name}/{band}.tif{sign}"} for band in (*S2_BANDS, "SCL")}
    return item


def s1(name: str, moment: str, *, bounds: Bounds = WHERE, sign: str = "", **properties: Any) -> Item:
    """A Sentinel-1 RTC item."""
    stated = {"platform": "SENTINEL-1A", "sat:orbit_state": "ascending", "sat:relative_orbit": 15, "proj:epsg": 32632}
    stated |= {key.replace("__", ":"): value for key, value in properties.items()}
    item = _item(name, "sentinel-1-rtc", moment, bounds, stated)
    item["assets"] = {band: {"href": f"{STORE}/{name}/{band}.tif{sign}"} for band in ("vv", "vh")}
    return item
