"""Ranges out of object stores that real emulators of S3 and of Azure's blobs serve."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import azurite as azurite_server
from servers import moto as moto_server
from servers.azurite import serve_azurite
from servers.moto import serve_moto

from geossl_data.scenes.opening import access as access_module
from geossl_data.scenes.opening import background
from geossl_data.scenes.opening.access import Access, AccessError

CONTENT = random.Random(0).randbytes(300_000)
NAME = "scene 1/B02 é.tif"


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pauses; and a store that is open keeps the credentials it was opened with, so none is."""

    async def sleep(seconds: float) -> None:
        return None

    monkeypatch.setattr(access_module, "sleep", sleep)
    background.stop()
    yield
    background.stop()


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    if not moto_server.is_installed():
        pytest.skip(f"no moto: {moto_server.ABSENT}")
    with serve_moto() as served:
        for bucket in ("scenes", "eodata"):
            served.create(bucket)
            served.upload(bucket, NAME, CONTENT)
        yield served.url


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture(scope="module")
def blobs() -> Iterator[azurite_server.Azurite]:
    if not azurite_server.is_installed():
        pytest.skip(f"no azurite: {azurite_server.ABSENT}")
    with serve_azurite("optical") as served:
        served.create("optical", "scenes")
        served.upload("optical", "scenes", NAME, CONTENT)
        yield served


@pytest.fixture
def azure(blobs: azurite_server.Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "optical")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", blobs.keys["optical"])
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{blobs.url}/optical")


HREFS = {
    "s3": ("s3://scenes/scene%201/B02%20%C3%A9.tif", "s3://eodata/scene%201/B02%20%C3%A9.tif"),
    "azure": (
        "az://scenes/scene%201/B02%20%C3%A9.tif",
        "abfs://scenes/scene%201/B02%20%C3%A9.tif",
        "abfs://scenes@optical.dfs.core.windows.net/scene%201/B02%20%C3%A9.tif",
    ),
}


@pytest.fixture(params=HREFS)
def hrefs(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Addresses of the same content in one of the stores, whose credentials are set."""
    request.getfixturevalue(request.param)
    return HREFS[request.param]


def refusal(href: str, start: int = 0, nbytes: int = 16) -> tuple[str, str]:
    with pytest.raises(AccessError) as caught:
        Access().read(href, start, nbytes)
    assert caught.value.__context__ is None
    assert "\n" not in str(caught.value)
    return caught.value.reason, str(caught.value)


def test_ranges_are_the_files_own(hrefs: tuple[str, ...]) -> None:
    chosen = random.Random(1)
    ranges = [(chosen.choice(hrefs), chosen.randrange(299_000), chosen.randrange(1, 1000)) for _ in range(40)]
    access = Access()
    with ThreadPoolExecutor(8) as pool:
        for (_, start, nbytes), piece in zip(
            ranges, pool.map(lambda wanted: access.read(*wanted), ranges), strict=True
        ):
            assert piece.data == CONTENT[start : start + nbytes]
            assert piece.file_nbytes == len(CONTENT)
            assert piece.etag


def test_a_file_that_ends_before_the_range_does(hrefs: tuple[str, ...]) -> None:
    access = Access()
    for href in hrefs:
        assert access.read(href, 299_990, 100, whole=False).data == CONTENT[299_990:]
        assert access.read(href, 300_000, 100, whole=False).data == b""
        assert refusal(href, 299_990, 100)[0] == "read-failed"
        assert refusal(href, 300_000, 100)[0] == "read-failed"


def test_1_30_an_object_that_is_not_there(hrefs: tuple[str, ...]) -> None:
    for href in hrefs:
        assert refusal(f"{href}.aux")[0] == "missing-asset"


def test_wrong_credentials_are_refused(azure: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "QUFBQQ==")
    reason, text = refusal(HREFS["azure"][0])
    assert reason == "forbidden"
    assert "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" in text
    assert "QUFB" not in text


def test_1_06_credentials_go_to_no_other_account(azure: None, blobs: azurite_server.Azurite) -> None:
    reason, text = refusal("abfs://scenes@elsewhere.dfs.core.windows.net/another-account.tif")
    assert reason == "refused-address"
    assert "another account than AZURE_STORAGE_ACCOUNT_NAME names" in text
    # The service writes its log late: what was asked before is in it once this is.
    blobs.upload("optical", "scenes", "asked-afterwards", b"")
    until = time.monotonic() + 30
    while "asked-afterwards" not in (log := blobs.log.read_text(encoding="utf-8")) and time.monotonic() < until:
        time.sleep(0.05)
    assert "asked-afterwards" in log
    assert "another-account" not in log
