"""The wire: one range of a file over HTTP/1.1, received straight into one buffer, on connections that are kept.

A general client spends 0.4 ms of Python on a request and copies the body twice, which is a third of what reading a
window costs. This one knows the plain answer: a status, headers, and as many bytes as Content-Length says. Whatever is
less plain is an OddAnswerError, for the general client to make sense of.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from geossl_data.version import VERSION

KEPT_S = 20.0
"""Longest time that an idle connection is used again: servers close theirs after a minute or so."""
HEAD_NBYTES = 64 * 2**10
"""Longest head of an answer."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_LENGTH = re.compile(r"\d{1,15}")
_BODILESS = (204, 304)

Most = Callable[[int], int]
"""Status → the longest body that is worth having."""


class OddAnswerError(Exception):
    """An answer, or none, of which only a general client can tell what it means."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes | bytearray | None
    """None where it is longer than is worth having."""


class Wire:
    """Connections to hosts, used on one event loop. trust: makes what certificates are checked against."""

    def __init__(self, trust: Callable[[], ssl.SSLContext]) -> None:
        self._trust = trust
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}

    async def get(
        self, url: str, start: int, nbytes: int, *, most: Most, limit_s: float, connect_s: float, silence_s: float
    ) -> Reply:
        """What a host answers to a request for a range.

        url: clean, http or https, without credentials. limit_s: longest time for all of it; connect_s: for the
        connection; silence_s: between two bytes. Raises TimeoutError, OSError, and OddAnswerError.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        parts = urlsplit(url)
        assert parts.hostname is not None
        is_safe = parts.scheme == "https"
        host = (parts.scheme, parts.hostname, parts.port or (443 if is_safe else 80))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nRange: bytes={start}-{start + nbytes - 1}\r\n"
            f"Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: geossl/{VERSION}\r\n\r\n"
        ).encode("ascii")
        while True:
            connection = self._kept(host, loop.time())
            is_new = connection is None
            if connection is None:
                connection = await self._connected(host, min(connect_s, limit_s))
            try:
                reply = await connection.ask(request, most, until, silence_s)
            except _StaleError:
                # The host had closed what was kept; that says nothing about this request.
                if is_new:
                    raise OddAnswerError from None
                continue
            if connection.is_reusable:
                connection.idle_since = loop.time()
                self._idle.setdefault(host, []).append(connection)
            else:
                connection.abort()
            return reply

    async def close(self) -> None:
        """Close what is idle."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _kept(self, host: tuple[str, str, int], now: float) -> "_Connection | None":
        idle = self._idle.get(host, [])
        while idle:
            connection = idle.pop()
            if connection.is_reusable and now - connection.idle_since < KEPT_S:
                return connection
            connection.abort()
        return None

    async def _connected(self, host: tuple[str, str, int], limit_s: float) -> "_Connection":
        scheme, name, port = host
        loop = asyncio.get_running_loop()
        safe: dict[str, Any] = {"ssl": self._trust(), "server_hostname": name} if scheme == "https" else {}
        async with asyncio.timeout(limit_s):
            _, connection = await loop.create_connection(_Connection, name, port, **safe)
        return connection


class _StaleError(Exception):
    """A kept connection was closed before it said a word."""


class _Connection(asyncio.BufferedProtocol):
    """One connection, for one request after the other."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = memoryview(bytearray(HEAD_NBYTES))
        self._n_head = 0
        self._body: bytearray | None = None
        self._view = memoryview(b"")
        self._n_body = 0
        self._reply: asyncio.Future[Reply] | None = None
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._most: Most = lambda status: 0
        self._is_kept_by_host = True
        self._is_spoilt = False
        self._last = 0.0
        self._timer: asyncio.TimerHandle

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow."""
        transport = self._transport
        return not (self._is_spoilt or transport is None or transport.is_closing()) and self._is_kept_by_host

    async def ask(self, request: bytes, most: Most, until: float, silence_s: float) -> Reply:
        """Send a request and wait for the answer; after an error the connection is of no use."""
        loop, transport = self._loop, self._transport
        if transport is None or transport.is_closing():
            raise _StaleError
        self._n_head = self._n_body = 0
        self._body = None
        self._most = most
        self._last = loop.time()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._reply = reply
        self._watch(reply, until, silence_s)
        try:
            transport.write(request)
            return await reply
        except BaseException:
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._reply = None

    def _watch(self, reply: "asyncio.Future[Reply]", until: float, silence_s: float) -> None:
        """End what takes too long, or look again when it might."""
        left = min(until, self._last + silence_s) - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._watch, reply, until, silence_s)
        elif not reply.done():
            reply.set_exception(TimeoutError())

    def abort(self) -> None:
        """Close at once."""
        self._is_spoilt = True
        if self._transport is not None:
            self._transport.abort()

    # -------------------------------------------------------------------------------------------- what arrives

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_spoilt = True
        if self._reply is not None and not self._reply.done():
            is_silent = not self._n_head and self._body is None
            self._reply.set_exception(_StaleError() if is_silent else ConnectionError("closed half way"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._head[self._n_head :] if self._body is None else self._view[self._n_body :]

    def buffer_updated(self, nbytes: int) -> None:
        reply = self._reply
        if reply is None or reply.done():
            # Nobody asked for this.
            self.abort()
            return
        self._last = self._loop.time()
        if self._body is not None:
            self._n_body += nbytes
        else:
            self._n_head += nbytes
            end = bytes(self._head[: self._n_head]).find(b"\r\n\r\n")
            if end < 0:
                if self._n_head == HEAD_NBYTES:
                    reply.set_exception(OddAnswerError())
                return
            try:
                self._begin_body(bytes(self._head[:end]), bytes(self._head[end + 4 : self._n_head]))
            except OddAnswerError as error:
                reply.set_exception(error)
                return
        if self._body is None:
            self._is_spoilt = True
            reply.set_result(Reply(self._status, self._headers, None))
        elif self._n_body == len(self._body):
            self._view = memoryview(b"")
            body, self._body = self._body, None
            self._n_head = 0
            reply.set_result(Reply(self._status, self._headers, body))

    def _begin_body(self, head: bytes, rest: bytes) -> None:
        """Make room for the body that a head announces, unless it is too long; OddAnswerError unless it is plain."""
        from multidict import CIMultiDict

        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        found = [_HEADER.fullmatch(line) for line in lines]
        if status is None or not all(found) or int(status[2]) < 200:
            raise OddAnswerError
        headers: CIMultiDict[str] = CIMultiDict(
            (match[1].decode("ascii"), match[2].decode("utf-8", "replace")) for match in found if match is not None
        )
        self._status, self._headers = int(status[2]), headers
        self._is_kept_by_host = status[1] == b"1" and "close" not in headers.get("Connection", "").lower()
        lengths = set(headers.getall("Content-Length", ["0"] if self._status in _BODILESS else []))
        if "Transfer-Encoding" in headers or len(lengths) != 1:
            raise OddAnswerError
        (length,) = lengths
        if not _LENGTH.fullmatch(length) or len(rest) > int(length):
            raise OddAnswerError
        if int(length) > self._most(self._status):
            return
        self._body = bytearray(int(length))
        self._view = memoryview(self._body)
        self._view[: len(rest)] = rest
        self._n_body = len(rest)
