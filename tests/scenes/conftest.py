"""Items by hand, and a STAC API on loopback that misbehaves as it is told."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from loopback import Server, serve
from shapely.geometry import box, mapping

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.scenes.items import write_items
from geossl_data.scenes.search import Found, search

Item = dict[str, Any]
Answer = tuple[int, dict[str, str], str]


@pytest.fixture
def s2_item() -> Callable[..., Item]:
    """A Sentinel-2 item shaped like the Planetary Computer's; keyword arguments replace properties or parts."""

    def make(
        name: str = "S2A_a",
        *,
        time: str | None = "2023-06-01T10:20:31.024000Z",
        bounds: tuple[float, float, float, float] = (8.0, 47.0, 9.0, 48.0),
        folder: str = "./s2",
        collection: str = "sentinel-2-l2a",
        drop: tuple[str, ...] = (),
        **properties: Any,
    ) -> Item:
        assets = {
            band: {
                "href": f"{folder}/{name}/{band}.tif",
                "proj:shape": [600 // BANDS[band].resolution_m] * 2,
                "proj:transform": [BANDS[band].resolution_m, 0, 399960, 0, -BANDS[band].resolution_m, 5300040],
            }
            for band in S2_BANDS
            if band not in drop
        }
        assets["SCL"] = {"href": f"{folder}/{name}/SCL.tif"}
        stated = {"s2:processing_baseline": "05.10", "s2:mgrs_tile": "32TMT", "platform": "Sentinel-2A"}
        stated |= {"proj:code": "EPSG:32632", "eo:cloud_cover": 12.5, "sat:relative_orbit": 108, "datetime": time}
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": collection,
            "geometry": json.loads(json.dumps(mapping(box(*bounds)))),
            "bbox": list(bounds),
            "properties": stated | {key.replace("__", ":"): value for key, value in properties.items()},
            "links": [],
            "assets": assets,
        }

    return make


@pytest.fixture
def s1_item() -> Callable[..., Item]:
    """A Sentinel-1 RTC item."""

    def make(
        name: str = "S1A_a",
        *,
        time: str = "2023-06-01T17:10:00Z",
        bounds: tuple[float, float, float, float] = (7.5, 46.5, 9.5, 48.5),
        folder: str = "./s1",
        collection: str = "sentinel-1-rtc",
        keys: tuple[str, ...] = ("vv", "vh"),
        **properties: Any,
    ) -> Item:
        stated = {"datetime": time, "platform": "SENTINEL-1A", "sat:orbit_state": "ascending", "proj:epsg": 32632}
        stated |= {"proj:shape": [90, 120], "proj:transform": [10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0, 0, 0, 1]}
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": collection,
            "geometry": json.loads(json.dumps(mapping(box(*bounds)))),
            "bbox": list(bounds),
            "properties": stated | {key.replace("__", ":"): value for key, value in properties.items()},
            "links": [],
            "assets": {key: {"href": f"{folder}/{name}/{key}.tif"} for key in keys},
        }

    return make


class Loopback:
    """An HTTP server whose answers come from one function of (method, path, body, number of the request)."""

    server: Server

    def __init__(self) -> None:
        self.answer: Callable[[str, str, Any, int], Answer] = lambda *_: (500, {}, "not told what to say")
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return self.server.url

    def handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._serve("GET")

            def do_POST(self) -> None:
                self._serve("POST")

            def _serve(self, method: str) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(text) if text else None
                loopback.requests.append((method, self.path, body, dict(self.headers)))
                if len(loopback.requests) > 200:
                    status, headers, content = 410, {}, "too many requests for a test"
                else:
                    status, headers, content = loopback.answer(method, self.path, body, len(loopback.requests))
                payload = content.encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *arguments: Any) -> None:
                return None

        return Handler


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A server on this machine; set its `answer`."""
    served = Loopback()
    with serve(served.handler()) as served.server:
        yield served


@pytest.fixture
def find() -> Callable[..., Found]:
    """Writes items into a catalog file and searches it, without limits unless keyword arguments set them."""

    def search_in(folder: Path, items: list[Item], **changes: Any) -> Found:
        path = folder / "catalog.parquet"
        write_items(path, items)
        asked = {"area": None, "start": None, "end": None, "max_cloud": 100.0, "unknown_baseline": "skip"} | changes
        return search(str(path), **asked)

    return search_in
