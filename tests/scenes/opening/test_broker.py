"""A tree of processes asks for a token once; nobody else gets one, and nothing is left in a file."""

import json
import multiprocessing
import os
import pickle
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.blobs import CANARY, Cloud, serve_cloud
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import TokenAlreadyExpired, TokenError
from geossl_data.scenes.opening import broker as broker_module
from geossl_data.scenes.opening.broker import Broker, BrokerGoneError, ask_broker
from geossl_data.scenes.opening.signing import Signer
from geossl_data.scenes.opening.tokens import Container, Token, Tokens, digest, token_of

OPTICAL, RADAR = ("optical", "s2"), ("radar", "s1")

WORK = """
import threading
from concurrent.futures import ThreadPoolExecutor

def sign(signer, href, signed, start=None):
    if start is not None:
        start.wait()
    with ThreadPoolExecutor(4) as pool:
        signed.put(sorted(set(pool.map(signer, [href] * 4))))
"""
"""Runs in other processes, which have to be able to import it."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with serve_cloud(tmp_path) as served:
        yield served


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "work_of_children.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    import work_of_children

    yield work_of_children.sign
    del sys.modules["work_of_children"]


def in_processes(count: int, work: Any, signer: Signer, href: str) -> list[list[str]]:
    """What `count` fresh processes of four threads each make of an href; they start together."""
    context = multiprocessing.get_context("spawn")
    signed, start = context.Queue(), context.Barrier(count)
    processes = [context.Process(target=work, args=(signer, href, signed, start)) for _ in range(count)]
    for process in processes:
        process.start()
    got = [signed.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        process.close()
    return got


def test_1_04_eight_processes_of_four_threads_ask_for_one_token(cloud: Cloud, work: Any) -> None:
    href, signer = cloud.href("B02.tif"), Signer(cloud.service())
    got = in_processes(8, work, signer, href)
    assert got == [[signer(href)]] * 8
    assert len(cloud.tokens) == 1


def test_without_the_first_process_others_ask_the_service(cloud: Cloud, work: Any) -> None:
    href = cloud.href("B02.tif")
    context = multiprocessing.get_context("spawn")
    signed = context.SimpleQueue()
    orphan = pickle.loads(pickle.dumps(Signer(cloud.service(), broker="/nowhere/tokens")))
    assert orphan._broker == "/nowhere/tokens"
    process = context.Process(target=work, args=(orphan, href, signed))
    process.start()
    assert CANARY in signed.get()[0]
    process.join(60)
    process.close()
    assert len(cloud.tokens) == 1


# ---------------------------------------------------------------------------------------------------- the broker


class Service:
    def __init__(self) -> None:
        self.asked: list[Container] = []
        self.error: TokenError | None = None

    def __call__(self, container: Container, refused: str) -> Token:
        self.asked.append(container)
        if self.error is not None:
            raise self.error
        return token_of(f"sig={CANARY}{len(self.asked)}", 600.0)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def broker(service: Service) -> Iterator[Broker]:
    served = Broker(Tokens(service), frozenset({OPTICAL}))
    yield served
    served.close()


def test_a_token_comes_with_the_life_that_is_left_of_it(broker: Broker, service: Service) -> None:
    token = ask_broker(broker.address, OPTICAL, "")
    assert token.value == f"sig={CANARY}1"
    assert 590 < token.valid_until - time.monotonic() <= 600
    assert ask_broker(broker.address, OPTICAL, digest("sig=another")).value == token.value
    assert ask_broker(broker.address, OPTICAL, digest(token.value)).value == f"sig={CANARY}2"
    assert ask_broker(broker.address, OPTICAL, digest(token.value)).value == f"sig={CANARY}2"
    assert service.asked == [OPTICAL, OPTICAL]


def test_only_known_containers_are_served(broker: Broker, service: Service) -> None:
    with pytest.raises(TokenError, match="no tokens are served for this container"):
        ask_broker(broker.address, RADAR, "")
    assert service.asked == []


def test_errors_arrive_as_what_they_are(broker: Broker, service: Service) -> None:
    service.error = TokenAlreadyExpired("expired; try again later")
    with pytest.raises(TokenAlreadyExpired, match=r"^expired; try again later$"):
        ask_broker(broker.address, OPTICAL, "")


def test_the_socket_is_its_users_alone_and_goes_with_the_broker(broker: Broker) -> None:
    folder = Path(broker.address).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_ISSOCK(path.stat().st_mode) for path in folder.iterdir()] == [True]
    broker.close()
    broker.close()
    assert not folder.exists()
    with pytest.raises(BrokerGoneError):
        ask_broker(broker.address, OPTICAL, "")


def test_another_user_is_not_served(broker: Broker, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    here, user = threading.get_ident(), os.getuid()
    monkeypatch.setattr(broker_module.os, "getuid", lambda: user + (threading.get_ident() != here))
    with pytest.raises(BrokerGoneError, match="no answer"):
        ask_broker(broker.address, OPTICAL, "")
    assert service.asked == []


def test_another_users_broker_is_not_asked(broker: Broker, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "is_same_user", lambda connection: False)
    with pytest.raises(BrokerGoneError, match="served by another user"):
        ask_broker(broker.address, OPTICAL, "")
    assert service.asked == []


def said(address: str, content: bytes) -> bytes:
    """What the broker answers to bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(address)
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(2**16)
        except OSError:
            return b""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["container", "refused", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(lambda value: (lambda text: struct.pack(">I", len(text)) + text)(json.dumps(value).encode()))
)
def test_nonsense_gets_no_token_and_does_no_harm(broker: Broker, service: Service, content: bytes) -> None:
    assert CANARY.encode() not in said(broker.address, content)
    assert service.asked == []


def test_a_broker_still_serves_after_nonsense(broker: Broker) -> None:
    for content in (b"", b"\xff\xff\xff\xff", struct.pack(">I", 9) + b"[[[[[[[[["):
        said(broker.address, content)
    assert CANARY in ask_broker(broker.address, OPTICAL, "").value


def test_a_process_leaves_no_folder_behind(tmp_path: Path) -> None:
    code = (
        "import pickle\n"
        "from geossl_data.scenes.providers import PLANETARY_COMPUTER_TOKENS\n"
        "from geossl_data.scenes.opening.signing import Signer\n"
        "signer = Signer(PLANETARY_COMPUTER_TOKENS)\n"
        "pickle.dumps(signer); pickle.dumps(signer)\n"
        "import os; print(os.listdir(os.environ['TMPDIR']))\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("['geossl-")
    assert list(tmp_path.iterdir()) == []


def test_where_no_socket_can_be_made_tokens_are_not_shared(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    signer = pickle.loads(pickle.dumps(Signer(cloud.service())))
    assert signer._broker is None
    assert list(deep.iterdir()) == []
    assert CANARY in signer(cloud.href("B02.tif"))
