"""Bytes of files are those that were asked for, or there is a reason; nobody is asked who must not be."""

import asyncio
import gzip
import logging
import os
import pickle
import random
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from faults.blobs import CANARY, Cloud, Reply, Seen, serve_cloud
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import TokenError
from geossl_data.scenes.hrefs import leads_inside
from geossl_data.scenes.opening import access as access_module
from geossl_data.scenes.opening import transport as transport_module
from geossl_data.scenes.opening.access import TRIES, Access, AccessError, Piece, kind_of, piece_of
from geossl_data.scenes.opening.answers import Answer, Failed
from geossl_data.scenes.opening.background import background_loop
from geossl_data.scenes.opening.signing import Signer
from geossl_data.scenes.opening.tokens import REFUSALS, ContainerRefusedError
from geossl_data.scenes.opening.transport import MOST_UNDER_WAY, clean, transport_of

CONTENT = b"II*\x00" + bytes(random.Random(0).randbytes(100_000))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud with one file, of bytes at random."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a.tif").write_bytes(CONTENT)
    with serve_cloud(tmp_path / "blobs") as served:
        yield served


@pytest.fixture
def access(cloud: Cloud) -> Access:
    return Access(Signer(cloud.service()))


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(access_module, "sleep", sleep)
    return made


def refusal(access: Access, href: str, start: int = 0, nbytes: int = 16) -> tuple[str, str]:
    """Reason and text with which a range is refused; both survive pickling, and the text is one line."""
    with pytest.raises(AccessError) as caught:
        access.read(href, start, nbytes)
    text = str(caught.value)
    assert "\n" not in text
    assert CANARY not in text
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, str(copy)) == (caught.value.reason, text)
    return caught.value.reason, text


def on_loop(access: Access, *ranges: tuple[str, int, int]) -> list[Piece]:
    """All ranges, fetched side by side on the loop."""

    async def fetch_all() -> list[Piece]:
        return await asyncio.gather(*(access.fetch(*wanted) for wanted in ranges))

    return asyncio.run_coroutine_threadsafe(fetch_all(), access.loop()).result(60)


# ---------------------------------------------------------------------------------------------------- what comes


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """A path, a file address and a URL of one file."""
    path = tmp_path_factory.mktemp("files") / "a file.tif"
    path.write_bytes(CONTENT)
    with serve_cloud(path.parent) as served:
        served.needs_signature = False
        yield str(path), f"file://{path.parent}/a%20file.tif", served.href("a file.tif")


@given(start=st.integers(0, len(CONTENT) + 9), nbytes=st.integers(0, 3000), whole=st.booleans())
def test_any_range_is_the_files_own(everywhere: tuple[str, ...], start: int, nbytes: int, whole: bool) -> None:
    expected = CONTENT[start : start + nbytes]
    access = Access()
    for href in everywhere:
        if whole and len(expected) < nbytes:
            assert refusal(access, href, start, nbytes)[0] == "read-failed"
            continue
        piece = access.read(href, start, nbytes, whole=whole)
        assert piece.data == expected
        assert isinstance(piece.data, bytes | bytearray)
        assert piece.file_nbytes == (len(CONTENT) if nbytes else None)


def test_fetch_runs_on_the_loop_of_its_process_and_on_any_other(cloud: Cloud, access: Access) -> None:
    href = cloud.href("a.tif")
    expected = CONTENT[5:105]
    assert on_loop(access, (href, 5, 100))[0].data == expected
    assert asyncio.run(access.fetch(href, 5, 100)).data == expected
    assert asyncio.run(access.fetch(str(cloud.folder / "a.tif"), 5, 100)).data == expected
    assert access.loop() is Access().loop() is background_loop()


def test_a_piece_names_the_state_of_its_file(cloud: Cloud, access: Access, tmp_path: Path) -> None:
    cloud.etag = '"0x8D"'
    assert access.read(cloud.href("a.tif"), 0, 4) == Piece(CONTENT[:4], len(CONTENT), '"0x8D"')
    first = access.read(str(cloud.folder / "a.tif"), 0, 4)
    assert first.etag == access.read(str(cloud.folder / "a.tif"), 4, 4).etag
    (tmp_path / "other.tif").write_bytes(CONTENT)
    assert first.etag != access.read(str(tmp_path / "other.tif"), 0, 4).etag


def test_one_signature_and_one_connection_serve_many_ranges(cloud: Cloud, access: Access) -> None:
    href = cloud.href("a.tif")
    for start in range(0, 1000, 100):
        access.read(href, start, 100)
    assert (len(cloud.tokens), len(cloud.blobs)) == (1, 10)
    assert {seen.headers["accept-encoding"] for seen in cloud.blobs} == {"identity"}
    assert cloud.blobs[3].headers["range"] == "bytes=300-399"


def test_a_process_remembers_however_often_it_is_sent_the_same_access(cloud: Cloud, access: Access) -> None:
    cloud.etag = "one"
    access.read(cloud.href("a.tif"), 0, 4)
    content = pickle.dumps(access)
    assert CANARY.encode() not in content
    sent = pickle.loads(content)
    assert sent is pickle.loads(content)
    cloud.etag = "two"
    assert sent.read(cloud.href("a.tif"), 0, 4).etag == "two"


def test_of_a_server_without_ranges_small_files_are_taken_whole(
    cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.on_blob = lambda seen, number: Reply(content=CONTENT)
    assert access.read(cloud.href("a.tif"), 100, 50).data == CONTENT[100:150]
    assert len(cloud.blobs) == 1
    monkeypatch.setattr(transport_module, "MAX_WHOLE_NBYTES", 10_000)
    reason, text = refusal(access, cloud.href("a.tif"))
    assert reason == "read-failed"
    assert "has to know ranges" in text


def test_nothing_is_asked_for_nothing(cloud: Cloud, access: Access) -> None:
    assert access.read(cloud.href("a.tif"), 7, 0) == Piece(b"", None, None)
    assert refusal(access, cloud.href("a.tif"), 0, 2**40)[0] == "read-failed"
    assert cloud.blobs == []


def test_an_empty_file_is_told_from_a_missing_one(cloud: Cloud, access: Access) -> None:
    (cloud.folder / "empty.tif").write_bytes(b"")
    assert access.read(cloud.href("empty.tif"), 0, 100, whole=False) == Piece(b"", 0, None)
    assert refusal(access, cloud.href("empty.tif"))[1].endswith(
        "ends at byte 0, the 16 bytes that were asked for from byte 0 on"
    )
    cloud.on_blob = lambda seen, number: Reply(416)
    assert access.read(cloud.href("b.tif"), 0, 100, whole=False) == Piece(b"", None, None)
    assert refusal(access, cloud.href("b.tif"))[0] == "read-failed"


CONTENTS = {
    "a web page": b"\n <!DOCTYPE HTML><html>CANARYbdf0c2</html>",
    "XML": b"\xef\xbb\xbf<?xml version='1.0'?><Error/>",
    "a VRT": b"<VRTDataset rasterXSize='9'/>",
    "JSON": b'{"code": "CANARYbdf0c2"}',
    "an empty file": b"   ",
    "something else": b"\xff\xd8\xff\xe0 a photograph",
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_1_31_and_6_05_what_is_no_tiff_is_told_by_its_first_bytes(cloud: Cloud, access: Access, kind: str) -> None:
    (cloud.folder / "b.tif").write_bytes(CONTENTS[kind])
    assert kind_of(access.read(cloud.href("b.tif"), 0, 1000, whole=False).data) == kind
    assert len(cloud.blobs) == 1


# ---------------------------------------------------------------------------------------------------- what passes


def spoilt(cloud: Cloud, times: int, reply: Callable[[Reply], Reply]) -> None:
    """Spoil the first answers; `reply` gets what would have been right."""
    cloud.on_blob = lambda seen, number: reply(cloud.file(seen)) if number <= times else None


def with_range(right: Reply, stated: str) -> Reply:
    return Reply(206, right.headers | {"Content-Range": stated}, right.content)


SIZE = len(CONTENT)
PASSING: dict[str, Callable[[Reply], Reply]] = {
    "1-11 too many requests": lambda right: Reply(429),
    "2-01 busy": lambda right: Reply(503),
    "2-01 broken": lambda right: Reply(500),
    "2-01 bad gateway": lambda right: Reply(502),
    "2-01 no answer from behind": lambda right: Reply(504),
    "2-03 cut": lambda right: Reply(206, right.headers, right.content, cut=len(right.content) // 2),
    "2-03 cut at the start": lambda right: Reply(206, right.headers, right.content, cut=0),
    "2-04 short": lambda right: Reply(206, right.headers, right.content[:50]),
    "2-04 short and says so": lambda right: with_range(
        Reply(206, right.headers, right.content[:50]), f"bytes 1000-1049/{SIZE}"
    ),
    "2-04 long": lambda right: Reply(206, right.headers, right.content + b"more"),
    "2-04 elsewhere": lambda right: with_range(right, f"bytes 0-99/{SIZE}"),
    "2-04 a larger part": lambda right: with_range(right, f"bytes 1000-1199/{SIZE}"),
    "2-04 beyond its own end": lambda right: with_range(right, "bytes 1000-1099/1050"),
    "2-04 of nothing": lambda right: with_range(right, ""),
    "2-04 nonsense": lambda right: with_range(right, "bytes 1000-/x"),
    "2-05 web page": lambda right: Reply(200, {}, b"<html>maintenance</html>" * 100),
    "2-05 other file": lambda right: Reply(200, {}, b"maintenance" * 100),
    "2-06 stalled": lambda right: Reply(206, right.headers, right.content, cut=10, stall=True),
    "2-06 dripping": lambda right: Reply(206, right.headers, right.content, drip_s=0.05),
    "6-12 compressed": lambda right: Reply(
        206, right.headers | {"Content-Encoding": "gzip"}, gzip.compress(right.content)[:100].ljust(100)
    ),
    "no content": lambda right: Reply(204),
}


@pytest.mark.parametrize("how", PASSING)
def test_what_passes_is_asked_again_until_the_bytes_are_right(
    cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch, waits: list[float], how: str
) -> None:
    href = cloud.href("a.tif")
    access.read(href, 0, 16)
    cloud.blobs.clear()
    monkeypatch.setattr(transport_module, "READ_S", 0.3)
    monkeypatch.setattr(access_module, "TRY_S", 0.5)
    spoilt(cloud, 2, PASSING[how])
    assert access.read(href, 1000, 100).data == CONTENT[1000:1100]
    assert len(cloud.blobs) == 3
    assert len(waits) == 2
    assert all(0 <= pause <= 1.0 for pause in waits)


@pytest.mark.parametrize("how", PASSING)
def test_what_does_not_pass_ends_after_so_many_tries_and_never_in_bytes(
    cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    href = cloud.href("a.tif")
    access.read(href, 0, 16)
    cloud.blobs.clear()
    monkeypatch.setattr(transport_module, "READ_S", 0.05)
    monkeypatch.setattr(access_module, "TRY_S", 0.1)
    spoilt(cloud, 10**6, PASSING[how])
    reason, text = refusal(access, href, 1000, 100)
    assert reason == ("not-geotiff" if "page" in how else "read-failed")
    assert text.startswith(f"{href}: ")
    assert len(cloud.blobs) == (3 if "page" in how else TRIES)


def test_1_10_a_host_is_waited_for_as_long_as_it_says(cloud: Cloud, access: Access, waits: list[float]) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
    told = [{"Retry-After": "3"}, {"Retry-After": moment}]
    cloud.on_blob = lambda seen, number: Reply(429 + 74 * (number % 2), told[number - 1]) if number < 3 else None
    assert access.read(cloud.href("a.tif"), 0, 4).data == CONTENT[:4]
    assert 3.0 <= waits[0] <= 3.5
    assert 6.0 <= waits[1] <= 8.5
    assert len(waits) == 2


def test_a_host_that_wants_longer_than_there_is_time_is_not_waited_for(
    cloud: Cloud, access: Access, waits: list[float]
) -> None:
    cloud.on_blob = lambda seen, number: Reply(503, {"Retry-After": "3600"})
    assert refusal(access, cloud.href("a.tif"))[0] == "read-failed"
    assert (len(cloud.blobs), waits) == (1, [])


def test_2_06_pauses_and_tries_together_have_one_deadline(
    cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(access_module, "DEADLINE_S", 10.0)
    cloud.on_blob = lambda seen, number: Reply(503, {"Retry-After": "4"})
    assert refusal(access, cloud.href("a.tif"))[0] == "read-failed"
    assert len(waits) == 2
    assert sum(waits) <= 10.0


def test_2_06_one_try_takes_no_longer_than_what_is_left(
    cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "DEADLINE_S", 0.4)
    cloud.on_blob = lambda seen, number: Reply(206, {"Content-Range": "bytes 0-15/99"}, bytes(16), drip_s=0.2)
    assert "no answer in time" in refusal(access, cloud.href("a.tif"))[1]
    assert cloud.n_dripped < 16


def test_nobody_who_listens_is_asked_three_times(waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reason, text = refusal(Access(), f"http://127.0.0.1:{unused.getsockname()[1]}/a.tif?sig={CANARY}")
    assert reason == "read-failed"
    assert "cannot be reached (ConnectionRefusedError); check the network and the URL" in text
    assert len(waits) == 2


def test_1_30_a_missing_file_is_not_asked_for_again(cloud: Cloud, access: Access) -> None:
    for status in (404, 410):
        cloud.on_blob = lambda seen, number, status=status: Reply(status)
        reason, text = refusal(access, cloud.href("b.tif"))
        assert reason == "missing-asset"
        assert text == f"{cloud.href('b.tif')}: there is no such file (HTTP {status})"
    assert len(cloud.blobs) == 2


def test_a_request_that_is_wrong_for_good_is_made_once(cloud: Cloud, access: Access) -> None:
    cloud.on_blob = lambda seen, number: Reply(400, content=CANARY.encode())
    assert refusal(access, cloud.href("a.tif"))[0] == "read-failed"
    assert len(cloud.blobs) == 1


# ---------------------------------------------------------------------------------------------------- files that change


@pytest.mark.parametrize("what", ["etag", "size"])
def test_a_file_that_changes_between_two_reads_is_refused_until_it_is_forgotten(
    cloud: Cloud, access: Access, what: str
) -> None:
    href = cloud.href("a.tif")
    cloud.etag = 'W/"one"'
    access.read(href, 0, 16)
    if what == "size":
        (cloud.folder / "a.tif").write_bytes(CONTENT + b"more")
    else:
        cloud.etag = '"two"'
    reason, text = refusal(access, href)
    assert (reason, text) == ("read-failed", f"{href}: changed while it was read; run again once it is written")
    assert len(cloud.blobs) == 2
    access.forget(href)
    assert access.read(href, 0, 16).data == CONTENT[:16]
    cloud.etag = 'W/"one"' if what == "size" else 'W/"two"'
    assert access.read(href, 0, 16).data == CONTENT[:16]


def test_a_file_on_disk_that_is_written_again_is_refused(tmp_path: Path) -> None:
    path, access = tmp_path / "a.tif", Access()
    path.write_bytes(CONTENT)
    access.read(str(path), 0, 16)
    (tmp_path / "b.tif").write_bytes(CONTENT[::-1])
    (tmp_path / "b.tif").replace(path)
    assert "changed while it was read" in refusal(access, str(path))[1]


def test_what_is_known_of_files_is_bounded(cloud: Cloud, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MAX_KNOWN", 2)
    for name in "abc":
        (cloud.folder / f"{name}.tif").write_bytes(CONTENT)
        access.read(cloud.href(f"{name}.tif"), 0, 4)
    assert len(access._files) == 1


# ---------------------------------------------------------------------------------------------------- refusals


def test_1_01_a_refused_signature_is_renewed_once(cloud: Cloud, access: Access) -> None:
    href = cloud.href("a.tif")
    access.read(href, 0, 16)
    cloud.generation = 2
    pieces = on_loop(access, *((href, start, 16) for start in range(64)))
    assert [piece.data for piece in pieces] == [CONTENT[start : start + 16] for start in range(64)]
    assert len(cloud.tokens) == 2
    assert cloud.blobs[-1].query.endswith(f"{CANARY}2")
    assert len(cloud.blobs) <= 1 + 2 * 64


def test_1_07_one_account_that_refuses_everything(cloud: Cloud, access: Access) -> None:
    cloud.forbidden = {"optical"}
    for number in range(2):
        reason, text = refusal(access, cloud.href(f"{number}.tif"))
        assert reason == "forbidden"
        assert text == f"{cloud.href(f'{number}.tif')}: the server refuses to hand it out (HTTP 403)"
    for number in range(2, 20):
        with pytest.raises(ContainerRefusedError, match="optical/s2: refuses fresh access tokens; try again later"):
            access.read(cloud.href(f"{number}.tif"), 0, 4)
    assert (len(cloud.tokens), len(cloud.blobs)) == (2, 4)
    assert access.read(cloud.href("a.tif", "radar", "s1"), 0, 4).data == CONTENT[:4]


def test_1_07_many_requests_at_once_do_not_all_meet_the_same_refusal(cloud: Cloud, access: Access) -> None:
    cloud.forbidden = {"optical"}

    async def fetch_all() -> list[BaseException | Piece]:
        wanted = (access.fetch(cloud.href(f"{number}.tif"), 0, 16) for number in range(100))
        return await asyncio.gather(*wanted, return_exceptions=True)

    ends = asyncio.run_coroutine_threadsafe(fetch_all(), access.loop()).result(60)
    assert {type(end) for end in ends} == {AccessError, ContainerRefusedError}
    assert len(cloud.blobs) <= 4 * REFUSALS
    assert len(cloud.tokens) == 2


def test_1_07_blobs_that_open_speak_for_their_container(cloud: Cloud, access: Access) -> None:
    cloud.on_blob = lambda seen, number: None if seen.path.endswith("a.tif") else Reply(403)
    for number in range(6):
        assert access.read(cloud.href("a.tif"), 0, 4).data == CONTENT[:4]
        assert refusal(access, cloud.href(f"{number}.tif"))[0] == "forbidden"
    assert len(cloud.tokens) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_file_that_nobody_may_have_is_refused_without_a_token(cloud: Cloud, status: int) -> None:
    cloud.on_blob = lambda seen, number: Reply(status)
    assert refusal(Access(), cloud.href("a.tif"))[0] == "forbidden"
    assert (len(cloud.tokens), len(cloud.blobs)) == (0, 1)


def test_a_token_service_that_is_down_is_no_refusal_of_a_file(cloud: Cloud, access: Access) -> None:
    cloud.on_token = lambda seen, number: Reply(400, content=CANARY.encode())
    with pytest.raises(TokenError, match="no access token for optical/s2") as caught:
        access.read(cloud.href("a.tif"), 0, 4)
    assert not isinstance(caught.value, AccessError)
    assert cloud.blobs == []


def test_1_04_32_threads_ask_for_one_token(cloud: Cloud, access: Access) -> None:
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda start: access.read(cloud.href("a.tif"), start, 16), range(64)))
    assert len(cloud.tokens) == 1


# ---------------------------------------------------------------------------------------------------- where it leads


def test_6_04_a_redirect_to_another_host_is_refused_before_anybody_follows(
    cloud: Cloud, access: Access, tmp_path: Path
) -> None:
    with serve_cloud(tmp_path) as other:
        for status in (301, 302, 303, 307, 308):
            to = f"{other.url}/optical/s2/a.tif"
            cloud.on_blob = lambda seen, number, to=to, status=status: Reply(status, {"Location": f"{to}?{seen.query}"})
            reason, text = refusal(access, cloud.href("a.tif"))
            assert reason == "refused-address"
            assert text == f"{cloud.href('a.tif')}: sends us to another host ({to}); refused"
        assert other.blobs + other.tokens + other.others == []
    assert len(cloud.blobs) == 5


HOSTILE_LOCATIONS = ("file:///etc/passwd", "//127.0.0.2:1/a.tif", "http://[", "ftp://127.0.0.1/", "gopher:x", "https:")


@pytest.mark.parametrize("location", HOSTILE_LOCATIONS)
def test_6_04_hostile_redirects_are_refused(cloud: Cloud, access: Access, location: str) -> None:
    cloud.on_blob = lambda seen, number: Reply(302, {"Location": location})
    reason, _ = refusal(access, cloud.href("a.tif"))
    assert reason in ("refused-address", "read-failed")
    assert len(cloud.blobs) <= TRIES


def test_a_redirect_within_the_host_is_followed_and_told_nothing(cloud: Cloud, access: Access) -> None:
    (cloud.folder / "b.tif").write_bytes(CONTENT[::-1])

    def behave(seen: Seen, number: int) -> Reply | None:
        if seen.path.endswith("a.tif"):
            return Reply(302, {"Location": f"b.tif?{seen.query}", "Set-Cookie": f"session={CANARY}"})
        return None

    cloud.on_blob = behave
    assert access.read(cloud.href("a.tif"), 3, 8).data == CONTENT[::-1][3:11]
    assert len(cloud.blobs) == 2
    assert cloud.blobs[1].headers["range"] == "bytes=3-10"
    assert all({"referer", "cookie", "authorization"}.isdisjoint(seen.headers) for seen in cloud.blobs)


def test_redirects_without_end_are_refused(cloud: Cloud, access: Access) -> None:
    cloud.on_blob = lambda seen, number: Reply(302, {"Location": f"{number}.tif?{seen.query}"})
    assert refusal(access, cloud.href("a.tif")) == (
        "refused-address",
        f"{cloud.href('a.tif')}: redirects more than 3 times",
    )
    assert len(cloud.blobs) == 4


def test_6_13_neither_netrc_nor_cookies_nor_users_reach_a_host(
    cloud: Cloud, access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    cloud.on_blob = lambda seen, number: Reply(503, {"Set-Cookie": f"session={CANARY}"}) if number == 1 else None
    for start in range(3):
        access.read(cloud.href("a.tif"), start, 4)
    assert len(cloud.blobs) == 4
    kept = {"authorization", "cookie", "referer", "proxy-authorization"}
    assert all(kept.isdisjoint(seen.headers) for seen in cloud.blobs)
    reason, text = refusal(access, cloud.href("a.tif").replace("://", f"://user:{CANARY}@"))
    assert (reason, text) == ("refused-address", f"{cloud.href('a.tif')}: carries a user name; leave it out")
    assert len(cloud.blobs) == 4


HOSTILE = (
    "/vsicurl/http://127.0.0.1/a.tif",
    "/VSIZIP//etc/a.zip",
    "ftp://127.0.0.1/a.tif",
    "data://127.0.0.1/a",
    "file://elsewhere.example/etc/passwd",
    "gopher://127.0.0.1:1/",
    "http://",
    "http://[::1/a.tif",
    "http://127.0.0.1:99999/a.tif",
    "http://müller.example/a.tif",
)


@pytest.mark.parametrize("href", HOSTILE)
def test_6_04_addresses_that_nobody_should_open(href: str) -> None:
    assert refusal(Access(), href)[0] == "refused-address"


@pytest.mark.parametrize("name", ["absent.tif", "", "a\0b", "fifo", "a.tif/b", '<VRTDataset rasterXSize="9"/>'])
def test_paths_that_are_no_files(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a.tif").write_bytes(CONTENT)
    assert refusal(Access(), str(tmp_path / name) if not name.startswith("<") else name)[0] == "read-failed"


def test_addresses_are_sent_as_they_are_signed() -> None:
    signed = "https://h/a%20b/c.tif?sig=a%2Bb%3D&se=2030-01-01T00%3A00%3A00Z"
    assert clean(signed) == signed
    assert clean("http://h/a b/ü.tif?q=\r\nX: y#part") == "http://h/a%20b/%C3%BC.tif?q=%0D%0AX:%20y"


@given(st.text(max_size=60))
def test_no_address_breaks_out_of_its_request(text: str) -> None:
    assert re.fullmatch(r"[\x21-\x7e]*", clean(f"http://h/{text}"))


def test_a_proxy_is_taken_from_the_environment_alone(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_cloud(tmp_path) as proxy:
        monkeypatch.setenv("http_proxy", proxy.host)
        href = "http://nowhere.example/a.tif"
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
        assert refusal(Access(), href)[0] == "missing-asset"
        assert [seen.path for seen in proxy.others] == [href]
    monkeypatch.undo()
    with serve_cloud(tmp_path) as proxy, serve_cloud(cloud.folder) as direct:
        monkeypatch.setenv("http_proxy", proxy.host)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        direct.needs_signature = False
        assert Access().read(direct.href("a.tif"), 0, 4).data == CONTENT[:4]
        assert proxy.others == []


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
    assert refusal(Access(base=API), "http://innocent.example.org/a.tif")[0] == "refused-address"


@pytest.mark.parametrize("address", NEVER)
def test_6_04_addresses_with_credentials_are_never_reached(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, address)
    assert leads_inside("innocent.example.org", "catalog.example.org")
    assert leads_inside("catalog.example.org", "catalog.example.org")
    assert leads_inside("innocent.example.org", None)
    assert refusal(Access(), "http://innocent.example.org/a.tif")[0] == "refused-address"


def test_a_name_that_nobody_knows_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not leads_inside("innocent.example.org", "catalog.example.org")
    assert "cannot be reached" in refusal(Access(), "http://innocent.example.org/a.tif")[1]


@given(st.ip_addresses(v=4))
def test_literal_addresses_inside_are_seen_as_such(address: Any) -> None:
    assert leads_inside(str(address), "catalog.example.org") or address.is_global


def test_6_04_hosts_inside_get_no_request(cloud: Cloud) -> None:
    cloud.needs_signature = False
    assert refusal(Access(base=API), cloud.href("a.tif"))[0] == "refused-address"
    assert cloud.blobs == []
    for access in (
        Access(base=str(cloud.folder)),
        Access(base=f"{cloud.host}/stac"),
        Access(Signer(cloud.service()), base=API),
    ):
        assert access.read(cloud.href("a.tif"), 0, 4).data == CONTENT[:4]
    assert refusal(Access(base=str(cloud.folder)), "http://169.254.169.254/latest/meta-data")[0] == "refused-address"


# ---------------------------------------------------------------------------------------------------- many at a time


def until(condition: Callable[[], bool]) -> bool:
    """Does a condition come true while it is worth waiting for?"""
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_1_11_no_more_than_so_many_requests_are_under_way(cloud: Cloud, access: Access) -> None:
    access.read(cloud.href("a.tif"), 0, 4)
    opened = threading.Event()

    def behave(seen: Seen, number: int) -> None:
        opened.wait(30)

    cloud.on_blob = behave
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(on_loop, access, *((cloud.href("a.tif"), start, 16) for start in range(100)))
        try:
            assert until(lambda: cloud.under_way == MOST_UNDER_WAY)
        finally:
            opened.set()
        assert [piece.data for piece in reading.result(60)] == [CONTENT[start : start + 16] for start in range(100)]
    assert cloud.most_under_way == MOST_UNDER_WAY


def test_1_11_a_host_that_is_over_its_limit_gets_fewer_requests_and_everybody_is_served(
    cloud: Cloud, access: Access
) -> None:
    access.read(cloud.href("a.tif"), 0, 4)
    cloud.most_under_way = 0
    first = threading.Barrier(MOST_UNDER_WAY, timeout=30)

    def behave(seen: Seen, number: int) -> Reply | None:
        if number <= MOST_UNDER_WAY + 1:
            # All of them are under way at a time, whatever else the machine does.
            first.wait()
            return Reply(503)
        return Reply(503) if cloud.under_way > MOST_UNDER_WAY // 2 else None

    cloud.on_blob = behave
    pieces = on_loop(access, *((cloud.href("a.tif"), start, 16) for start in range(150)))
    assert [piece.data for piece in pieces] == [CONTENT[start : start + 16] for start in range(150)]

    async def allowed() -> int:
        return transport_of(background_loop()).gate(cloud.href("a.tif")).allowed

    # Halved once for the 64 together, and one more after each 20 good answers.
    now = asyncio.run_coroutine_threadsafe(allowed(), access.loop()).result(10)
    assert MOST_UNDER_WAY // 2 <= now <= MOST_UNDER_WAY // 2 + 150 // 20


def test_who_gives_up_waiting_leaves_nothing_behind(cloud: Cloud, access: Access) -> None:
    access.read(cloud.href("a.tif"), 0, 4)
    opened = threading.Event()

    def behave(seen: Seen, number: int) -> None:
        opened.wait(30)

    cloud.on_blob = behave

    async def give_up() -> None:
        tasks = [asyncio.ensure_future(access.fetch(cloud.href("a.tif"), start, 16)) for start in range(80)]
        while cloud.under_way < MOST_UNDER_WAY:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}

    asyncio.run_coroutine_threadsafe(give_up(), access.loop()).result(60)
    opened.set()
    pieces = on_loop(access, *((cloud.href("a.tif"), start, 16) for start in range(80)))
    assert len(pieces) == 80


# ---------------------------------------------------------------------------------------------------- the canary


def mode_403(cloud: Cloud) -> None:
    cloud.forbidden = {"optical"}


def mode_404(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(404, content=seen.query.encode())


def mode_503(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(503, content=seen.query.encode())


def mode_cut(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(206, {"Content-Range": "bytes 0-15/16"}, bytes(16), cut=3)


def mode_stall(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(206, {"Content-Range": "bytes 0-15/16"}, bytes(16), cut=3, stall=True)


def mode_redirect(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(
        302, {"Location": f"http://user:{CANARY}@127.0.0.2:1/a.tif?{seen.query}"}
    )


def mode_endless_redirect(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(302, {"Location": f"a.tif?{seen.query}"})


def mode_html(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(200, content=f"<html>{seen.query}</html>".encode())


def mode_nonsense(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(206, {"Content-Range": seen.query, "Content-Length": seen.query})


def mode_service_down(cloud: Cloud) -> None:
    cloud.on_token = lambda seen, number: Reply(400, content=CANARY.encode())


def mode_expired(cloud: Cloud) -> None:
    cloud.valid_s = -3600.0


MODES = [value for name, value in sorted(globals().items()) if name.startswith("mode_")]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_6_02_no_secret_is_shown_however_a_read_fails(
    cloud: Cloud,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    mode: Callable[[Cloud], None],
) -> None:
    from geossl_data.scenes.http import Http

    monkeypatch.setattr(Http, "pause", lambda self, seconds: None)
    monkeypatch.setattr(transport_module, "READ_S", 0.05)
    monkeypatch.setenv("SOME_KEY", f"{CANARY}KEY")
    caplog.set_level(logging.DEBUG)
    for name in [*logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        logger.manager._clear_cache()
    signer = Signer(cloud.service(key_variable="SOME_KEY"))
    access = Access(signer)
    mode(cloud)
    monkeypatch.setattr(access.loop(), "_debug", True)
    with pytest.raises((AccessError, TokenError)) as caught:
        access.read(cloud.href("a.tif"), 0, 16)
    shown = [*map(repr, (access, signer, caught.value)), str(vars(access)), str(vars(signer)), caplog.text]
    shown += traceback.format_exception(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error))
        error = error.__context__ or error.__cause__
    assert caught.value.__context__ is None
    assert "GET" in caplog.text or not cloud.blobs, "the client's own log was listened to"
    shown += capfd.readouterr()
    assert CANARY not in "".join(shown)
    assert CANARY.encode() not in pickle.dumps(access) + pickle.dumps(caught.value)
    assert cloud.tokens, "the mode was not met"


# ---------------------------------------------------------------------------------------------------- what is right

sizes = st.none() | st.integers(0, 40)


@given(
    answer=st.builds(Answer, st.just(0), st.binary(max_size=40), sizes, st.none(), is_range=st.booleans()),
    start=st.integers(0, 40),
    nbytes=st.integers(1, 40),
    whole=st.booleans(),
    known=sizes,
)
def test_a_piece_holds_what_was_asked_for_whatever_came(
    answer: Answer, start: int, nbytes: int, whole: bool, known: int | None
) -> None:
    found = piece_of(answer, start, nbytes, whole=whole, known_nbytes=known)
    if isinstance(found, Failed):
        assert "\n" not in found.text
        return
    assert found.file_nbytes == answer.file_nbytes
    if whole:
        assert len(found.data) == nbytes
    elif answer.file_nbytes is not None:
        assert len(found.data) == max(0, min(nbytes, answer.file_nbytes - start))
    if not answer.is_range:
        assert found.data == answer.data[start : start + nbytes]
        assert known is None or answer.file_nbytes in (None, known)
