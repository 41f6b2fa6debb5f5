"""`geossl fetch` against the misbehaving catalog: waits that take no time, and secrets that must not come out."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults.catalogs import CANARY, Catalog, s1, s2, serve

from geossl_data import tables
from geossl_data.records import Pair, Skipped
from geossl_data.scenes import providers
from geossl_data.scenes.providers import Provider
from geossl_data.scenes.store import read_scenes

PAGE_SIZE = 20
DAYS = 45
"""Days from 2023-06-01 with one Sentinel-2 scene each; every third has a Sentinel-1 scene too."""
ASKED = ("--bbox", 8.2, 47.2, 8.8, 47.8, "--from", "2023-06-01", "--to", "2023-07-15", "--max-gap", "2d")


def day(number: int, clock: str = "10:20:31.024000Z") -> str:
    """A time on the so many-th day from 2023-06-01."""
    return f"2023-{6 + number // 30:02}-{1 + number % 30:02}T{clock}"


S2_IDS = [f"S2A_{number:02}" for number in range(DAYS)]
S1_IDS = [f"S1A_{number:02}" for number in range(0, DAYS, 3)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command."""

    code: int
    out: str
    err: str
    folder: Path

    def ids(self, sensor: str = "s2") -> list[str]:
        """Ids of the scenes found, in order of time."""
        return [scene.id for scene in read_scenes(self.folder / "scenes.parquet") if scene.sensor == sensor]

    def skipped(self) -> dict[str, str]:
        """Id → reason of what was given up."""
        return {row.id: row.reason for row in tables.read_table(self.folder / "skipped.parquet", Skipped)}

    def pairs(self) -> set[tuple[str, str]]:
        """Ids of Sentinel-2 and Sentinel-1 of every pair."""
        return {(pair.s2_id, pair.s1_id) for pair in tables.read_table(self.folder / "pairs.parquet", Pair)}


Fetch = Callable[..., Outcome]


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits that were asked for and not made; this process's clock goes on by them."""

    pauses: list[float]
    """Waits on an event: pauses before asking again."""
    sleeps: list[float]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Nobody waits: time goes on by what would have been waited."""
    wait, monotonic = threading.Event.wait, time.monotonic
    made = Waits([], [])

    def waited(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is None or event.is_set():
            return wait(event, timeout)
        made.pauses.append(timeout)
        return event.is_set()

    monkeypatch.setattr(threading.Event, "wait", waited)
    monkeypatch.setattr(time, "sleep", made.sleeps.append)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + sum(made.pauses) + sum(made.sleeps))
    return made


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """A catalog of DAYS days, its addresses signed with the canary."""
    sign = f"?sv=2020-01-01&se=2030-01-01T00%3A00%3A00Z&sig={CANARY}"
    items = [s2(name, day(number), sign=sign) for number, name in enumerate(S2_IDS)]
    items += [s1(name, day(3 * number, "17:10:00Z"), sign=sign) for number, name in enumerate(S1_IDS)]
    with serve(items) as served:
        yield served


@pytest.fixture
def strangers() -> Iterator[tuple[Catalog, Catalog]]:
    """Two servers that nobody has a reason to ask: on another host, and on another port of the catalog's."""
    with serve([], "127.0.0.2") as far, serve([]) as near:
        yield far, near


@pytest.fixture(params=[0, 1], ids=["other-host", "other-port"])
def stranger(request: pytest.FixtureRequest, strangers: tuple[Catalog, Catalog]) -> Catalog:
    """One of the two."""
    return strangers[request.param]


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user's environment: keys, and passwords for this very host."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login user password {CANARY}\ndefault login u password {CANARY}\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    for name in ("PC_SDK_SUBSCRIPTION_KEY", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def named(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Gives the catalog an entry among the known ones; keyword arguments are fields of the entry."""

    def enter(**changes: Any) -> str:
        fields: dict[str, Any] = {
            "url": catalog.url,
            "collections": {"sentinel-2-l2a": "L2A", "sentinel-1-rtc": "RTC"},
            "page_size": PAGE_SIZE,
            "per_second": 1000.0,
        }
        entry = Provider(name="misbehaving", **(fields | changes))
        monkeypatch.setitem(providers.PROVIDERS, entry.name, entry)
        return entry.name

    return enter


@pytest.fixture
def fetch(
    geossl: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    named: Callable[..., str],
    waits: Waits,
    secrets: None,
    catalog: Catalog,
    strangers: tuple[Catalog, Catalog],
    caplog: pytest.LogCaptureFixture,
) -> Fetch:
    """`geossl fetch` of the catalog into one folder; what must hold in every case is asserted on the way.

    Arguments replace the area and the days. No secret comes out, no credentials go out, nobody else is asked, and a
    failure is one line.
    """
    named()
    folder = tmp_path / "data"

    def run(*arguments: object, catalog_name: str = "misbehaving") -> Outcome:
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            code, out, err = geossl("fetch", folder, "--catalog", catalog_name, *(arguments or ASKED))
        assert CANARY not in out + err
        assert [record.getMessage() for record in caplog.records if CANARY in _formatted(record)] == []
        for path in folder.rglob("*") if folder.exists() else ():
            assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
        for asked in catalog.requests:
            assert {"authorization", "cookie", "proxy-authorization"}.isdisjoint(asked.headers)
            assert CANARY not in str(asked.headers)
        assert [stranger.requests for stranger in strangers] == [[], []]
        if code:
            assert (code, err.count("\n"), err.startswith("geossl: ")) == (1, 1, True), err
            assert not (folder / "scenes.parquet").exists()
        return Outcome(code, out, err, folder)

    return run


def _formatted(record: logging.LogRecord) -> str:
    try:
        return logging.Formatter("%(message)s").format(record)
    except TypeError:  # a library's own mistake: more arguments than places for them
        return f"{record.msg} {record.args}"


TRUNCATED = re.compile(r"geossl: 127\.0\.0\.1:\d+: .*(truncated|round in circles|there before)")
