"""A scripted object store: what it says is believed as far as it is whole, and nothing of the keys is shown."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.blobs import CANARY, Cloud, Reply, serve_cloud

from geossl_data.scenes.opening import access as access_module
from geossl_data.scenes.opening import background, stores
from geossl_data.scenes.opening.access import TRIES, Access, AccessError
from geossl_data.scenes.opening.background import background_loop
from geossl_data.scenes.opening.transport import GENTLE, transport_of

CONTENT = bytes(range(256)) * 8
HREF = "s3://optical/s2/a.tif"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud that stands for S3, with keys for it in the environment."""
    (tmp_path / "a.tif").write_bytes(CONTENT)

    async def sleep(seconds: float) -> None:
        return None

    monkeypatch.setattr(access_module, "sleep", sleep)
    with serve_cloud(tmp_path) as served:
        served.needs_signature = False
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SKIP_SIGNATURE", "AWS_NO_SIGN_REQUEST"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIA{CANARY}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
        monkeypatch.setenv("AWS_SESSION_TOKEN", CANARY)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        # Stores that are open keep the credentials they were opened with.
        background.stop()
        yield served
        background.stop()


def refusal(access: Access, href: str = HREF) -> tuple[str, str]:
    with pytest.raises(AccessError) as caught:
        access.read(href, 3, 40)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None
    return caught.value.reason, str(caught.value)


PASSING: dict[str, Callable[[Reply], Reply]] = {
    "busy": lambda right: Reply(503, content=CANARY.encode()),
    "broken": lambda right: Reply(500),
    "cut": lambda right: Reply(206, right.headers, right.content, cut=3),
    "short": lambda right: Reply(206, right.headers, right.content[:2]),
    "elsewhere": lambda right: Reply(206, right.headers | {"Content-Range": "bytes 0-39/2048"}, right.content),
    "whole": lambda right: Reply(200, {}, CONTENT),
    "web page": lambda right: Reply(200, {}, b"<html>maintenance</html>"),
}


@pytest.mark.parametrize("how", PASSING)
def test_2_01_to_2_05_what_passes_is_asked_again_and_never_ends_in_bytes(cloud: Cloud, how: str) -> None:
    access = Access()
    cloud.on_blob = lambda seen, number: PASSING[how](cloud.file(seen)) if number < 3 else None
    assert access.read(HREF, 3, 40).data == CONTENT[3:43]
    assert len(cloud.blobs) == 3
    cloud.blobs.clear()
    cloud.on_blob = lambda seen, number: PASSING[how](cloud.file(seen))
    assert refusal(access)[0] == "read-failed"
    assert len(cloud.blobs) == TRIES


@pytest.mark.parametrize(("status", "reason"), [(403, "forbidden"), (404, "missing-asset"), (400, "read-failed")])
def test_what_does_not_pass_is_asked_for_once(cloud: Cloud, status: int, reason: str) -> None:
    cloud.on_blob = lambda seen, number: Reply(status, content=CANARY.encode())
    assert refusal(Access())[0] == reason
    assert len(cloud.blobs) == 1


def test_a_store_that_stalls_is_not_waited_for(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "TRY_S", 0.05)
    cloud.on_blob = lambda seen, number: Reply(206, {"Content-Range": "bytes 3-42/2048"}, bytes(40), cut=3, stall=True)
    assert "no answer in time" in refusal(Access())[1]
    assert len(cloud.blobs) == TRIES


def test_a_store_that_nobody_listens_for(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert "cannot be reached" in refusal(Access())[1]


def test_an_object_that_changes_is_refused(cloud: Cloud) -> None:
    access = Access()
    cloud.etag = '"one"'
    assert access.read(HREF, 3, 40).etag == '"one"'
    cloud.etag = '"two"'
    assert "changed while it was read" in refusal(access)[1]


def test_public_buckets_are_read_unsigned_where_the_user_says_so(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert Access().read(HREF, 3, 40).data == CONTENT[3:43]
    assert "authorization" not in cloud.blobs[0].headers


def test_6_02_and_6_03_no_key_is_shown(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access = Access()
    shown = [str(access.read(HREF, 3, 4).etag)]
    for status in (301, 400, 403, 404, 416, 500):
        cloud.on_blob = lambda seen, number, status=status: Reply(
            status, content=seen.headers["authorization"].encode()
        )
        shown.append(refusal(access)[1])
    assert CANARY in cloud.blobs[0].headers["authorization"]
    assert "GET s3://optical/s2/a.tif" in caplog.text
    assert CANARY not in "".join([*shown, caplog.text, repr(access), str(vars(access))])


def test_1_23_copernicus_data_space_is_asked_gently_and_at_its_own_endpoint(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    asked: list[tuple[str, object]] = []
    monkeypatch.setattr("obstore.store.from_url", lambda name, **options: asked.append((name, options["endpoint"])))
    refusal(Access(), "s3://eodata/Sentinel-2/B02.jp2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    refusal(Access(), "s3://eodata/Sentinel-2/B02.jp2")
    assert asked == [("s3://eodata", stores.EODATA_URL), ("s3://eodata", cloud.url)]

    async def allowed() -> int:
        return transport_of(background_loop()).gate("s3://eodata/any").allowed

    assert asyncio.run_coroutine_threadsafe(allowed(), background_loop()).result(10) == GENTLE["s3://eodata"] == 4


def test_2_11_a_fork_of_a_process_that_read_from_a_store_is_told_so(cloud: Cloud) -> None:
    script = (
        "import os, sys\n"
        "from geossl_data.scenes.opening.access import Access\n"
        f"Access().read({HREF!r}, 3, 40)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        f"        Access().read({HREF!r}, 3, 40)\n"
        "    except Exception as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.stdout == f"{HREF}: object stores cannot be read in a forked process; start it with spawn\n", (
        done.stderr
    )
