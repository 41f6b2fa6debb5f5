"""Files are looked at once before they may be opened, and what must not be opened is refused with a reason."""

import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.blobs import CANARY, Cloud, Reply, serve_cloud
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.scenes.hrefs import leads_inside
from geossl_data.scenes.http import Http
from geossl_data.scenes.opening import access as access_module
from geossl_data.scenes.opening.access import TIFF_BEGINS, Access, AccessError
from geossl_data.scenes.opening.signing import Signer
from geossl_data.scenes.opening.tokens import ContainerRefusedError


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud with an empty TIFF."""
    (tmp_path / "a.tif").write_bytes(TIFF_BEGINS[0] + bytes(100))
    with serve_cloud(tmp_path) as served:
        yield served


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(Http, "pause", lambda self, seconds: made.append(seconds))
    return made


@pytest.fixture
def access(cloud: Cloud) -> Access:
    return Access(Signer(cloud.service()))


def refusal(access: Access, href: str) -> tuple[str, str]:
    with pytest.raises(AccessError) as caught:
        access.url(href)
    text = str(caught.value)
    assert "\n" not in text
    assert CANARY not in text
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, str(copy)) == (caught.value.reason, text)
    return caught.value.reason, text


def test_one_small_look_for_each_file_until_it_fails(cloud: Cloud, access: Access) -> None:
    href = cloud.href("a.tif")
    urls = {access.url(href) for _ in range(5)}
    assert urls == {f"{href}?{cloud.blobs[0].query}"}
    assert [seen.headers["range"] for seen in cloud.blobs] == ["bytes=0-15"]
    access.failed(href)
    access.url(href)
    access.url(href)
    assert len(cloud.blobs) == 2


def test_a_process_remembers_however_often_it_is_sent_the_same_access(cloud: Cloud, access: Access) -> None:
    content = pickle.dumps(access)
    assert CANARY.encode() not in content
    for _ in range(3):
        pickle.loads(content).url(cloud.href("a.tif"))
    assert len(cloud.blobs) == 1


def test_the_oldest_files_are_forgotten(cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MAX_REMEMBERED", 2)
    for name in ("b.tif", "c.tif"):
        (cloud.folder / name).write_bytes(TIFF_BEGINS[1])
    for name in ("a.tif", "b.tif", "c.tif", "c.tif", "b.tif", "a.tif"):
        access.url(cloud.href(name))
    assert [seen.path[-5:] for seen in cloud.blobs] == ["a.tif", "b.tif", "c.tif", "a.tif"]


def test_addresses_that_no_http_server_has_are_signed_only(access: Access) -> None:
    for href in ("/data/B02.tif", "s3://bucket/B02.tif", "file:///data/B02.tif"):
        assert access.url(href) == href


CONTENTS = {
    "a web page": b"\n <!DOCTYPE HTML><html>CANARYbdf0c2</html>",
    "XML": b"\xef\xbb\xbf<?xml version='1.0'?><Error/>",
    "a VRT": b"<VRTDataset rasterXSize='9'/>",
    "JSON": b'{"code": "CANARYbdf0c2"}',
    "an empty file": b"   ",
    "something else": b"\xff\xd8\xff\xe0 a photograph",
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_1_31_and_6_05_what_is_no_tiff_is_refused_by_its_first_bytes(cloud: Cloud, access: Access, kind: str) -> None:
    (cloud.folder / "b.tif").write_bytes(CONTENTS[kind])
    reason, text = refusal(access, cloud.href("b.tif"))
    assert (reason, text) == ("not-geotiff", f"{cloud.href('b.tif')}: begins like {kind}, not like a TIFF")


@pytest.mark.parametrize("begin", TIFF_BEGINS)
def test_both_byte_orders_and_sizes_of_tiff_pass(cloud: Cloud, access: Access, begin: bytes) -> None:
    (cloud.folder / "b.tif").write_bytes(begin + bytes(20))
    assert CANARY in access.url(cloud.href("b.tif"))


def test_1_30_a_missing_file_is_not_asked_for_again(cloud: Cloud, access: Access) -> None:
    reason, text = refusal(access, cloud.href("b.tif"))
    assert reason == "missing-asset"
    assert text.startswith(cloud.href("b.tif"))
    assert len(cloud.blobs) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_host_is_waited_for(cloud: Cloud, access: Access, waits: list[float], status: int) -> None:
    cloud.on_blob = lambda seen, number: Reply(status, {"Retry-After": "3"}) if number < 3 else None
    assert CANARY in access.url(cloud.href("a.tif"))
    assert waits == [3.0, 3.0]


def test_a_host_that_stays_busy_is_a_failed_read(cloud: Cloud, access: Access) -> None:
    cloud.on_blob = lambda seen, number: Reply(503)
    assert refusal(access, cloud.href("a.tif"))[0] == "read-failed"
    assert len(cloud.blobs) == 7


def test_an_empty_file_and_a_host_without_ranges(cloud: Cloud, access: Access) -> None:
    (cloud.folder / "b.tif").write_bytes(b"")
    assert refusal(access, cloud.href("b.tif"))[0] == "not-geotiff"
    whole = TIFF_BEGINS[0] + bytes(2 * 2**20)
    cloud.on_blob = lambda seen, number: Reply(content=whole)
    assert refusal(access, cloud.href("a.tif"))[0] == "read-failed"
    cloud.on_blob = lambda seen, number: Reply(content=whole[:1000])
    assert CANARY in access.url(cloud.href("a.tif"))


# ---------------------------------------------------------------------------------------------------- refusals


def test_1_01_a_refused_signature_is_renewed_once(cloud: Cloud, access: Access) -> None:
    href = cloud.href("a.tif")
    access.url(href)
    cloud.generation = 2
    access.failed(href)
    assert access.url(href).endswith(f"{CANARY}2")
    assert (len(cloud.tokens), len(cloud.blobs)) == (2, 3)


def test_1_07_one_account_that_refuses_everything(cloud: Cloud, access: Access) -> None:
    cloud.forbidden = {"optical"}
    for number in range(2):
        assert refusal(access, cloud.href(f"{number}.tif"))[0] == "forbidden"
    for number in range(2, 20):
        with pytest.raises(ContainerRefusedError, match="optical/s2: refuses fresh access tokens; try again later"):
            access.url(cloud.href(f"{number}.tif"))
    assert (len(cloud.tokens), len(cloud.blobs)) == (2, 4)
    assert CANARY in access.url(cloud.href("a.tif", "radar", "s1"))


def test_a_file_that_nobody_may_have_is_refused_without_a_token(cloud: Cloud) -> None:
    reason, _ = refusal(Access(), cloud.href("a.tif"))
    assert reason == "forbidden"
    assert (len(cloud.tokens), len(cloud.blobs)) == (0, 1)


def test_6_04_a_redirect_to_another_host_is_refused_before_anybody_follows(
    cloud: Cloud, access: Access, tmp_path: Path
) -> None:
    with serve_cloud(tmp_path) as other:
        to = f"{other.url}/optical/s2/a.tif"
        cloud.on_blob = lambda seen, number: Reply(302, {"Location": f"{to}?{seen.query}"})
        reason, text = refusal(access, cloud.href("a.tif"))
        assert other.blobs + other.tokens + other.others == []
    assert reason == "refused-address"
    assert "sends us to another host" in text


# ---------------------------------------------------------------------------------------------------- where names lead

API = "https://catalog.example.org/stac/v1/"


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.5", "100.64.1.1", "::1", "fc00::1", "::ffff:10.0.0.1"]
NEVER = ["169.254.169.254", "fe80::1", "0.0.0.0", "100.100.100.200", "fd00:ec2::254", "224.0.0.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_6_04_a_public_name_that_leads_inside(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, "93.184.215.14", address)
    assert leads_inside("innocent.example.org", "catalog.example.org")
    assert not leads_inside("catalog.example.org", "catalog.example.org")
    assert not leads_inside("Catalog.example.org.", "catalog.example.org")
    assert not leads_inside("store.example.org", None)


@pytest.mark.parametrize("address", NEVER)
def test_6_04_addresses_with_credentials_are_never_reached(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, address)
    assert leads_inside("innocent.example.org", "catalog.example.org")
    assert leads_inside("catalog.example.org", "catalog.example.org")
    assert leads_inside("innocent.example.org", None)


def test_a_name_that_nobody_knows_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not leads_inside("innocent.example.org", "catalog.example.org")


@given(st.ip_addresses(v=4))
def test_literal_addresses_inside_are_seen_as_such(address: Any) -> None:
    assert leads_inside(str(address), "catalog.example.org") or address.is_global


def test_6_04_hosts_inside_get_no_request(cloud: Cloud) -> None:
    cloud.needs_signature = False
    assert refusal(Access(base=API), cloud.href("a.tif"))[0] == "refused-address"
    assert cloud.blobs == []
    assert Access(base=str(cloud.folder)).url(cloud.href("a.tif")) == cloud.href("a.tif")
    assert Access(base=f"{cloud.host}/stac").url(cloud.href("a.tif")) == cloud.href("a.tif")
    assert Access(Signer(cloud.service()), base=API).url(cloud.href("a.tif")) != cloud.href("a.tif")
    assert refusal(Access(base=str(cloud.folder)), "http://169.254.169.254/latest/meta-data")[0] == "refused-address"
