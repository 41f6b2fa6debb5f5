"""Searching a real STAC API: items a second from the question to Scenes, beside plain pystac-client paging.

    python benchmarks/search.py              10,000 items and more
    python benchmarks/search.py --copies 2   about 2,000

Needs the servers of `bash tests/servers/install.sh` and the real items of ../shared/data/stac. pgstac runs on loopback
with two workers and the real items, copied with shifted dates; both ways ask it for the same ground and time, one after
the other, three times each, and medians are compared. geossl's figure includes all checks, the choice among versions
and tiles and the making of Scenes; pystac-client's ends with dicts.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pystac_client
from shapely.geometry import box

from geossl_data.scenes import limits
from geossl_data.scenes.items import Item, parse_time, rfc3339
from geossl_data.scenes.providers import COLLECTIONS, PROVIDERS, Provider
from geossl_data.scenes.search import Found, search

ROOT = Path(__file__).resolve().parents[1]
ITEMS = ROOT.parent / "shared" / "data" / "stac" / "items"
sys.path.insert(0, str(ROOT / "tests"))

COLORADO = (-110.0, 36.0, -101.0, 42.0)
LAST = date(2024, 8, 31)
SPAN = timedelta(days=62)
"""The real items are of two months."""
REPEATS = 3
PAGE_SIZES = (250, 1000)
COLLECTIONS_ASKED = ("sentinel-2-l2a", "sentinel-1-rtc")


def copies(items: Sequence[Item], count: int) -> list[Item]:
    """The items so many times, each time 62 days earlier."""
    made = []
    for number in range(count):
        for item in items:
            copy: Item = json.loads(json.dumps(item))
            moment = parse_time(copy["properties"]["datetime"]) - number * SPAN
            copy["properties"] |= {"datetime": rfc3339(moment)}
            copy["id"] = f"{item['id']}_{number:02}"
            made.append(copy)
    return made


def archive(count: int) -> list[Item]:
    """Copies of the real Sentinel-2 items over Colorado, and a Sentinel-1 pass a day made from a real item."""
    s2, s1 = (
        [json.loads(line) for line in (ITEMS / f"planetary-computer__{name}.ndjson").open(encoding="utf-8")]
        for name in COLLECTIONS_ASKED
    )
    over = [item for item in s2 if COLORADO[0] <= item["bbox"][0] <= COLORADO[2] and item["bbox"][1] > COLORADO[1]]
    recent = [item for item in over if item["properties"]["datetime"] >= (LAST - SPAN).isoformat()]
    west, south, east, north = COLORADO
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    passes = []
    for day in range((count * SPAN).days):
        moment = f"{LAST - timedelta(days=day)}T12:00:00Z"
        item = s1[0] | {"id": f"S1A_{moment[:10]}", "bbox": list(COLORADO)}
        item["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        passes.append(item | {"properties": {**s1[0]["properties"], "datetime": moment}})
    return [*copies(recent, count), *passes]


@dataclass(frozen=True, slots=True)
class Way:
    """One way of searching, and what came of it."""

    name: str
    page_size: int
    seconds: float
    """Median."""
    items: int
    searches: float
    """Requests for a page of a search."""
    least: int
    """Pages that the items fill."""

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


def measured(name: str, page_size: int, searches: Callable[[], int], act: Callable[[], Counter[str]]) -> Way:
    """Runs a search REPEATS times; `act` answers with the number of items by collection."""
    before, seconds = searches(), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        counts = act()
        seconds.append(time.perf_counter() - start)
    least = sum(math.ceil(count / page_size) for count in counts.values())
    made = (searches() - before) / REPEATS
    print(f"… {name}: {seconds}", file=sys.stderr)
    return Way(name, page_size, statistics.median(seconds), counts.total(), made, least)


def with_geossl(url: str, page_size: int, first: date) -> Counter[str]:
    """Scenes, and those that were found and can be done without, by collection."""
    PROVIDERS["loopback"] = entry(url, page_size)
    found = look_up(first)
    counts = Counter(scene.collection for scene in found.scenes)
    counts[COLLECTIONS_ASKED[0]] += len(found.skipped)
    return counts


def with_pystac_client(url: str, page_size: int | None, first: date) -> Counter[str]:
    """Items, by collection."""
    client = pystac_client.Client.open(url)
    period = f"{first}T00:00:00Z/{LAST}T23:59:59.999999Z"
    counts: Counter[str] = Counter()
    for name in COLLECTIONS_ASKED:
        asked = client.search(collections=[name], bbox=COLORADO, datetime=period, limit=page_size)
        counts[name] = sum(1 for _ in asked.items_as_dicts())
    return counts


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=10, help="how often the 1,000 real items are there")
    arguments = parser.parse_args()
    from servers.pgstac import ABSENT, is_installed, serve_pgstac

    if not is_installed() or not ITEMS.is_dir():
        sys.exit(f"needs ../shared/data/stac and the servers: {ABSENT}")
    first = LAST - arguments.copies * SPAN + timedelta(days=1)
    limits.BUDGET.most = 10**9
    ways = []
    with serve_pgstac(workers=2) as pgstac:
        pgstac.load(archive(arguments.copies))
        pgstac.tell_matched(True)
        url, searches = pgstac.url, pgstac.searches
        for size in PAGE_SIZES:
            ours, theirs = partial(with_geossl, url, size, first), partial(with_pystac_client, url, size, first)
            ways.append(measured(f"geossl, pages of {size}", size, searches, ours))
            ways.append(measured(f"pystac-client, pages of {size}", size, searches, theirs))
        plain = partial(with_pystac_client, url, None, first)
        ways.append(measured("pystac-client, default pages of 10", 10, searches, plain))
    print(f"{'':36}{'items':>8}{'s':>8}{'items/s':>10}{'searches':>10}{'least':>8}")
    for way in ways:
        print(f"{way.name:36}{way.items:8,}{way.seconds:8.2f}{way.rate:10,.0f}{way.searches:10,.0f}{way.least:8,}")
    for ours, theirs in ((ways[0], ways[1]), (ways[2], ways[3]), (ways[0], ways[4])):
        print(f"{ours.name} beside {theirs.name}: {ours.rate / theirs.rate:.2f} times the items a second")


def entry(url: str, page_size: int) -> Provider:
    """The server as a catalog of its own, without the pace that a shared archive is owed."""
    limit: dict[str, Any] = {"page_size": page_size, "per_second": 1000.0}
    return Provider(name="loopback", url=url, collections=COLLECTIONS, offset="stored", **limit)


def look_up(first: date) -> Found:
    """What geossl finds."""
    return search("loopback", area=box(*COLORADO), start=first, end=LAST, max_cloud=100.0, unknown_baseline="skip")


if __name__ == "__main__":
    main()
