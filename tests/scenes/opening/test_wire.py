"""One range over a bare connection: plain answers as they are, all others left to somebody who knows more."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from geossl_data.scenes.opening import transport as transport_module
from geossl_data.scenes.opening.access import Access
from geossl_data.scenes.opening.background import background_loop
from geossl_data.scenes.opening.wire import HEAD_NBYTES, OddAnswerError, Reply, Wire

Script = Callable[[int, int], list[bytes]]
"""Number of the connection and of the request on it → the parts of the answer; an empty part closes."""


class Server:
    """Answers requests with what a script says, byte for byte."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.requests: list[tuple[int, bytes]] = []
        self._n_connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_connections += 1
        mine, number = self._n_connections, 0
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                self.requests.append((mine, request))
                number += 1
                for part in self._script(mine, number):
                    if not part:
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def no_trust() -> ssl.SSLContext:
    raise AssertionError("nothing here is https")


def most(status: int) -> int:
    return 1000 if status == 206 else 50


def talking(script: Script, ask: Callable[[Wire, str], Awaitable[Any]]) -> tuple[Any, Server]:
    """What a client gets of a server."""
    served = Server(script)

    async def run() -> Any:
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire = Wire(no_trust)
        try:
            return await ask(wire, f"http://127.0.0.1:{port}")
        finally:
            await wire.close()
            server.close()
            await asyncio.sleep(0.01)

    return asyncio.run(run()), served


async def get(wire: Wire, url: str, **change: Any) -> Reply:
    options = {"most": most, "limit_s": 5.0, "connect_s": 2.0, "silence_s": 2.0} | change
    return await wire.get(f"{url}/a/b.tif?sig=%2B", 10, 20, **options)


def plain(body: bytes = b"x" * 20, status: bytes = b"206 Partial Content", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n" % len(body) + more + b"\r\n" + body


def cut_everywhere(answer: bytes) -> Iterator[list[bytes]]:
    yield [answer]
    for at in range(1, len(answer), 7):
        yield [answer[:at], answer[at:]]


def test_an_answer_is_the_same_however_it_is_cut() -> None:
    answer = plain(bytes(range(65, 85)), more=b'ETag: "a"\r\ncontent-range:  bytes 10-29/99 \r\nX-Empty:\r\n')
    pieces = list(cut_everywhere(answer))

    async def ask(wire: Wire, url: str) -> list[Reply]:
        return [await get(wire, url) for _ in pieces]

    replies, server = talking(lambda connection, number: pieces[number - 1], ask)
    for reply in replies:
        assert (reply.status, bytes(reply.body)) == (206, bytes(range(65, 85)))
        assert (reply.headers["Content-Range"], reply.headers["etag"]) == ("bytes 10-29/99", '"a"')
        assert reply.headers["x-empty"] == ""
    assert {connection for connection, _ in server.requests} == {1}
    _, request = server.requests[0]
    assert request.startswith(b"GET /a/b.tif?sig=%2B HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nRange: bytes=10-29\r\n" in request
    assert b"\r\nAccept-Encoding: identity\r\n" in request


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 206 OK\r\n\r\nhello",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 206 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\n folded\r\n\r\nhello",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\nnonsense\r\n\r\nhello",
        b"HTTP/1.1 206 OK\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + plain(),
        b"HTTP/2 206 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"ICY 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\n\r\nhello, and more than that",
        b"HTTP/1.1 206 OK\r\n" + b"X-Long: " + b"y" * HEAD_NBYTES,
    ],
)
def test_what_is_not_plain_is_left_to_others(answer: bytes) -> None:
    async def ask(wire: Wire, url: str) -> str:
        with pytest.raises(OddAnswerError):
            await get(wire, url)
        return "odd"

    assert talking(lambda connection, number: [answer, b""], ask)[0] == "odd"


def test_a_body_that_is_too_long_is_not_waited_for() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 51\r\nX-A: 1\r\n\r\n"
    reply, server = talking(lambda connection, number: [head], get)
    assert (reply.status, reply.body, reply.headers["x-a"]) == (200, None, "1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_answers_have_no_body(status: bytes) -> None:
    reply, _ = talking(lambda connection, number: [b"HTTP/1.1 " + status + b"\r\n\r\n"], get)
    assert reply.body == b""


def test_a_kept_connection_that_was_closed_is_made_again() -> None:
    def script(connection: int, number: int) -> list[bytes]:
        return [plain()] if number == 1 else [b""]

    async def ask(wire: Wire, url: str) -> list[Reply]:
        return [await get(wire, url) for _ in range(4)]

    replies, server = talking(script, ask)
    assert [bytes(reply.body) for reply in replies] == [b"x" * 20] * 4
    assert [connection for connection, _ in server.requests] == [1, 1, 2, 2, 3, 3, 4]


def test_a_new_connection_without_a_word_is_odd_and_half_an_answer_is_broken() -> None:
    async def ask(wire: Wire, url: str) -> list[str]:
        kinds = []
        for _ in range(2):
            with pytest.raises((OddAnswerError, ConnectionError)) as caught:
                await get(wire, url)
            kinds.append(type(caught.value).__name__)
        return kinds

    def script(connection: int, number: int) -> list[bytes]:
        return [b""] if connection == 1 else [plain()[:-3], b""]

    assert talking(script, ask)[0] == ["OddAnswerError", "ConnectionError"]


@pytest.mark.parametrize("answer", [plain(more=b"Connection: close\r\n"), plain().replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_a_connection_that_the_host_will_close_is_not_kept(answer: bytes) -> None:
    async def ask(wire: Wire, url: str) -> list[Reply]:
        return [await get(wire, url) for _ in range(2)]

    _, server = talking(lambda connection, number: [answer], ask)
    assert [connection for connection, _ in server.requests] == [1, 2]


def test_words_that_nobody_asked_for_end_a_connection() -> None:
    async def ask(wire: Wire, url: str) -> list[Reply]:
        first = await get(wire, url)
        await asyncio.sleep(0.05)
        return [first, await get(wire, url)]

    replies, server = talking(lambda connection, number: [plain(), plain(b"forged" * 3)], ask)
    assert [bytes(reply.body) for reply in replies] == [b"x" * 20] * 2
    assert [connection for connection, _ in server.requests] == [1, 2]


@pytest.mark.parametrize(
    ("parts", "change"),
    [
        ([plain()[:30]], {"silence_s": 0.1}),
        ([plain()[:-3]], {"silence_s": 0.1}),
        ([bytes([byte]) for byte in plain()], {"limit_s": 0.08}),
        ([], {"limit_s": 0.1}),
    ],
)
def test_nothing_is_waited_for_without_end(parts: list[bytes], change: dict[str, float]) -> None:
    async def ask(wire: Wire, url: str) -> str:
        with pytest.raises(TimeoutError):
            await get(wire, url, **change)
        return "in time"

    assert talking(lambda connection, number: parts, ask)[0] == "in time"


def test_who_stops_waiting_leaves_no_connection_behind() -> None:
    async def ask(wire: Wire, url: str) -> Reply:
        waiting = asyncio.create_task(get(wire, url))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await get(wire, url)

    reply, server = talking(lambda connection, number: [] if connection == 1 else [plain()], ask)
    assert bytes(reply.body) == b"x" * 20
    assert [connection for connection, _ in server.requests] == [1, 2]


def test_an_answer_in_parts_comes_through_the_general_client(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"II*\x00" * 5
    chunked = (
        b"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 10-29/99\r\n"
        b"Connection: close\r\n\r\n14\r\n" + body + b"\r\n0\r\n\r\n"
    )
    served = Server(lambda connection, number: [chunked, b""])

    async def start() -> asyncio.Server:
        return await asyncio.start_server(served, "127.0.0.1", 0)

    loop = background_loop()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        port = server.sockets[0].getsockname()[1]
        piece = Access().read(f"http://127.0.0.1:{port}/a.tif", 10, 20)
    finally:
        loop.call_soon_threadsafe(server.close)
    assert bytes(piece.data) == body
    agents = [request for _, request in served.requests]
    assert len(agents) == 2


def test_https_is_checked_against_the_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    served = Server(lambda connection, number: [plain(b"y" * 20, more=b"Content-Range: bytes 10-29/99\r\n")])

    async def start() -> asyncio.Server:
        return await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)

    loop = background_loop()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    try:
        port = server.sockets[0].getsockname()[1]
        wire = Wire(lambda: trusting)
        url = f"https://localhost:{port}"
        reply = asyncio.run_coroutine_threadsafe(get(wire, url), loop).result()
        assert bytes(reply.body) == b"y" * 20
        asyncio.run_coroutine_threadsafe(wire.close(), loop).result()
        wary = Wire(transport_module._trusted)
        with pytest.raises(ssl.SSLError):
            asyncio.run_coroutine_threadsafe(get(wary, url), loop).result()
    finally:
        loop.call_soon_threadsafe(server.close)
