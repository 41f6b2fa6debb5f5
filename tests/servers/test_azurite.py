"""Reading through signatures that a real emulator of Azure's blobs checks: real 403s, real ends of tokens."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import serve
from servers.azurite import ABSENT, Azurite, is_installed, serve_azurite

from geossl_data.grid import Grid
from geossl_data.scenes.opening.access import Access
from geossl_data.scenes.opening.signing import Signer
from geossl_data.scenes.providers import TokenService
from geossl_data.tiles.rasters import Rasters, SkipError

OPTICAL, RADAR, ANYBODYS = ("optical", "s2-l2a"), ("radar", "s1-rtc"), ("optical", "other")


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    if not is_installed():
        pytest.skip(f"no azurite: {ABSENT}")
    with serve_azurite("optical", "radar") as served:
        yield served


@pytest.fixture(scope="session")
def bands(azurite: Azurite, planet: Path) -> dict[tuple[str, str], list[Path]]:
    """Container → the rasters of the tiny planet that it holds."""
    optical = sorted(planet.parent.rglob("B0[2-4].tif"))[:6]
    radar = sorted(planet.parent.rglob("vv.tif"))[:4]
    held = {OPTICAL: optical, RADAR: radar, ANYBODYS: optical[:1]}
    for container, paths in held.items():
        azurite.create(*container)
        for number, path in enumerate(paths):
            azurite.upload(*container, f"scene {number}/{path.name}", path.read_bytes())
    return held


@dataclass
class Tokens:
    """A token service that signs with the emulator's keys."""

    azurite: Azurite
    url: str = ""
    valid_s: float = 3600.0
    asked: list[str] = field(default_factory=list)

    def service(self) -> TokenService:
        prefixes = {self.azurite.container(*container): container for container in (OPTICAL, RADAR)}
        return TokenService(url=self.url, containers=prefixes)

    def answer(self, path: str) -> dict[str, str]:
        account, container = path.strip("/").split("/")[-2:]
        self.asked.append(f"{account}/{container}")
        token = self.azurite.container_sas(account, container, valid_s=self.valid_s)
        return {"token": token, "msft:expiry": "2999-01-01T00:00:00Z"}


@pytest.fixture
def tokens(azurite: Azurite) -> Iterator[Tokens]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(served.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    served = Tokens(azurite)
    with serve(Handler) as server:
        served.url = f"{server.url}/{time.monotonic_ns()}/token"
        yield served


def href_of(azurite: Azurite, container: tuple[str, str], number: int, path: Path) -> str:
    return f"{azurite.container(*container)}/scene%20{number}/{path.name}"


def stored(path: Path) -> tuple[Grid, np.ndarray[Any, Any]]:
    """Grid and pixels of a local raster, read with rasterio alone."""
    import rasterio

    with rasterio.open(path) as dataset:
        transform = dataset.transform
        grid = Grid(dataset.crs.to_epsg(), transform.c, transform.f, transform.a, dataset.width, dataset.height)
        return grid, dataset.read(1)


def assert_same(rasters: Rasters, href: str, path: Path) -> None:
    grid, pixels = stored(path)
    if pixels.dtype.kind == "f":
        window, resampled = rasters.read_power(href, grid)
        assert not resampled
        is_valid = np.isfinite(window)
        assert is_valid.any()
        np.testing.assert_array_equal(window[is_valid], pixels[is_valid])
    else:
        np.testing.assert_array_equal(rasters.read_exact(href, grid, "uint16"), pixels)


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_emulator_checks_signatures(azurite: Azurite, bands: dict[tuple[str, str], list[Path]]) -> None:
    href = href_of(azurite, OPTICAL, 0, bands[OPTICAL][0])
    assert status_of(href) in (403, 404)
    assert status_of(f"{href}?{azurite.container_sas(*OPTICAL)}") == 200
    assert status_of(f"{href}?{azurite.container_sas(*OPTICAL, valid_s=-60)}") == 403
    assert status_of(f"{href}?{azurite.container_sas('optical', 'other')}") == 403


def test_1_04_32_threads_read_all_files_with_one_token_per_container(
    azurite: Azurite, tokens: Tokens, bands: dict[tuple[str, str], list[Path]]
) -> None:
    todo = [
        (href_of(azurite, container, number, path), path)
        for container in (OPTICAL, RADAR)
        for number, path in enumerate(bands[container])
    ]
    with Rasters(access=Access(Signer(tokens.service()))) as rasters, ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda work: assert_same(rasters, *work), todo * 4))
    assert sorted(tokens.asked) == ["optical/s2-l2a", "radar/s1-rtc"]


def test_1_01_tokens_that_end_in_the_middle_of_a_run_are_replaced(
    azurite: Azurite, tokens: Tokens, bands: dict[tuple[str, str], list[Path]]
) -> None:
    path = bands[OPTICAL][0]
    href = href_of(azurite, OPTICAL, 0, path)
    tokens.valid_s = 3.0
    signer = Signer(tokens.service())
    with Rasters(access=Access(signer)) as rasters:
        assert_same(rasters, href, path)
        first = signer(href)
        until = time.monotonic() + 20
        while status_of(first) == 200 and time.monotonic() < until:
            time.sleep(0.2)
        assert status_of(first) == 403
        tokens.valid_s = 3600.0
        for number, other in enumerate(bands[OPTICAL]):
            assert_same(rasters, href_of(azurite, OPTICAL, number, other), other)
        assert status_of(signer(href)) == 200
    assert tokens.asked == ["optical/s2-l2a"] * 2


def test_1_01_a_token_that_is_revoked_is_renewed_once(
    azurite: Azurite, tokens: Tokens, bands: dict[tuple[str, str], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bands[OPTICAL][0]
    monkeypatch.setattr(Azurite, "container_sas", _signed_with_another_key(Azurite.container_sas))
    signer, href = Signer(tokens.service()), href_of(azurite, OPTICAL, 0, path)
    assert status_of(signer(href)) == 403
    monkeypatch.undo()
    with Rasters(access=Access(signer)) as rasters:
        assert_same(rasters, href, path)
    assert tokens.asked == ["optical/s2-l2a"] * 2


def _signed_with_another_key(sign: Any) -> Any:
    def container_sas(self: Azurite, *arguments: Any, **named: Any) -> str:
        return str(sign(Azurite(self.url, dict.fromkeys(self.keys, "QUFBQQ=="), self.log), *arguments, **named))

    return container_sas


def test_1_06_a_container_beside_the_known_ones_gets_no_token(
    azurite: Azurite, tokens: Tokens, bands: dict[tuple[str, str], list[Path]]
) -> None:
    path = bands[ANYBODYS][0]
    with (
        Rasters(access=Access(Signer(tokens.service()))) as rasters,
        pytest.raises(SkipError, match=r"refuses to hand it out|HTTP 404") as caught,
    ):
        rasters.grid_of(href_of(azurite, ANYBODYS, 0, path))
    assert caught.value.reason in ("forbidden", "missing-asset")
    assert tokens.asked == []


def test_1_30_a_blob_that_is_not_there(
    azurite: Azurite, tokens: Tokens, bands: dict[tuple[str, str], list[Path]]
) -> None:
    with Rasters(access=Access(Signer(tokens.service()))) as rasters, pytest.raises(SkipError) as caught:
        rasters.grid_of(f"{azurite.container(*OPTICAL)}/absent.tif")
    assert caught.value.reason == "missing-asset"
