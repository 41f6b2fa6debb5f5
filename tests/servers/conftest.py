"""Real servers on loopback, started once for all tests; without what they need, tests are skipped and say so."""

import fcntl
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from servers.files import serve_folder
from servers.pgstac import ABSENT, SERVERS, Pgstac, is_installed, serve_pgstac
from shapely.geometry import box, mapping

from geossl_data.scenes.items import Item, read_items, rfc3339

if (SERVERS / ".lock").is_file():
    with (SERVERS / ".lock").open() as lock:  # install.sh may be at work beside
        fcntl.flock(lock, fcntl.LOCK_SH)

ITEMS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stac" / "items"
"""Real STAC items beside the checkout; absent on most machines."""

COLORADO = (-110.0, 36.0, -101.0, 42.0)
FIRST_PASS, LAST_PASS = datetime(2024, 6, 28, 12, tzinfo=UTC), datetime(2024, 9, 3, 12, tzinfo=UTC)


def _read(name: str) -> list[Item]:
    return [json.loads(line) for line in (ITEMS / f"{name}.ndjson").read_text(encoding="utf-8").splitlines()]


def _made_from(item: Item, name: str, moment: datetime, bounds: tuple[float, float, float, float]) -> Item:
    """A Sentinel-1 item at another place and time: the real ones meet none of the real Sentinel-2 items."""
    made: Item = json.loads(json.dumps(item))
    made |= {"id": name, "bbox": list(bounds), "geometry": json.loads(json.dumps(mapping(box(*bounds))))}
    made["properties"] |= {"datetime": rfc3339(moment), "start_datetime": None, "end_datetime": None}
    made["properties"] = {key: value for key, value in made["properties"].items() if value is not None}
    return made


@pytest.fixture(scope="session")
def real_items() -> list[Item]:
    """Real items of the Planetary Computer and one on the antimeridian, with Sentinel-1 passes made to match."""
    if not ITEMS.is_dir():
        pytest.skip("no real items: ../shared/data/stac is absent")
    s2, s1 = _read("planetary-computer__sentinel-2-l2a"), _read("planetary-computer__sentinel-1-rtc")
    (across,) = (item for item in _read("other__no-collection") if "T01KAB" in item["id"])
    across |= {"collection": "sentinel-2-l2a", "links": []}
    days = [FIRST_PASS + timedelta(days=day) for day in range((LAST_PASS - FIRST_PASS).days + 1)]
    passes = [_made_from(s1[0], f"S1A_colorado_{day:%Y%m%d}", day, COLORADO) for day in days]
    moment = datetime(2023, 8, 21, 6, tzinfo=UTC)
    passes.append(_made_from(s1[0], "S1A_fiji_east", moment, (178.5, -18.0, 180.0, -15.5)))
    passes.append(_made_from(s1[0], "S1A_fiji_west", moment, (-180.0, -18.0, -179.0, -15.5)))
    return [*s2, *s1, across, *passes]


@pytest.fixture(scope="session")
def files(planet: Path) -> Iterator[str]:
    """URL of a server of the tiny planet's rasters."""
    with serve_folder(planet.parent) as url:
        yield url


@pytest.fixture(scope="session")
def planet_items(planet: Path, files: str) -> list[Item]:
    """The tiny planet's scenes, their rasters on the network."""

    def hosted(item: Item) -> Item:
        assets = {
            name: asset | {"href": f"{files}/{asset['href'].removeprefix('./')}"}
            for name, asset in item["assets"].items()
        }
        return item | {"assets": assets}

    return [hosted(item) for item in read_items(planet) if not item["collection"].endswith("labels")]


@pytest.fixture(scope="session")
def pgstac_server(planet_items: list[Item]) -> Iterator[Pgstac]:
    """pgstac with the tiny planet in it, and the real items where there are any."""
    if not is_installed():
        pytest.skip(f"no pgstac: {ABSENT}")
    with serve_pgstac() as served:
        served.load(planet_items)
        yield served


@pytest.fixture(scope="session")
def _loaded(pgstac_server: Pgstac, real_items: list[Item]) -> None:
    pgstac_server.load(real_items)


@pytest.fixture
def pgstac(pgstac_server: Pgstac) -> Pgstac:
    """The running server, telling how many items match."""
    pgstac_server.tell_matched(True)
    return pgstac_server


@pytest.fixture
def real_pgstac(pgstac: Pgstac, _loaded: Any) -> Pgstac:
    """The running server with the real items in it."""
    return pgstac
