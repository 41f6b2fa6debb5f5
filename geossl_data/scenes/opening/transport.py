"""Transport: one try at a range of a file, over HTTP, out of an object store or from disk.

What comes back is what was said, its length checked against what the headers say; who asks again, and what is good
enough, is decided in `access`. Nothing is raised: an exception drags along what it met, addresses and all.
"""

import asyncio
import logging
import os
import re
import socket
import ssl
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin
from urllib.request import getproxies_environment, proxy_bypass

from geossl_data.scenes.hrefs import redact, split
from geossl_data.scenes.opening import stores
from geossl_data.scenes.opening.answers import Answer, Failed, refused
from geossl_data.scenes.opening.background import Loop
from geossl_data.scenes.opening.gates import Gate
from geossl_data.scenes.opening.stores import Stores
from geossl_data.scenes.opening.wire import OddAnswerError, Wire
from geossl_data.scenes.redaction import guard_loggers
from geossl_data.version import VERSION

if TYPE_CHECKING:
    import aiohttp

guard_loggers()
_LOG = logging.getLogger(__name__)

CONNECT_S = 10.0
READ_S = 20.0
"""Longest silence of a server between two bytes."""
MAX_WHOLE_NBYTES = 8 * 2**20
"""Largest file that is taken whole from a server that does not know ranges."""
MOST_UNDER_WAY = 64
"""Requests to one host at a time, unless it is one of GENTLE."""
GENTLE = {"s3://eodata": 4}
"""Hosts that allow fewer. Copernicus Data Space: four connections at a time for each user."""

_MOST_REDIRECTS = 3
_MOST_WORDS_NBYTES = 64 * 2**10
_KEEPALIVE_S = 30.0
_DNS_S = 300
_BUFFER_NBYTES = 2**19
_REDIRECTS = (301, 302, 303, 307, 308)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)
_BEYOND = re.compile(r"bytes \*/(\d{1,18})", re.IGNORECASE)
_UNCLEAN = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")


class Transport:
    """What is open to hosts and stores; all of it lives on one loop and is used there only."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._session: aiohttp.ClientSession | None = None
        self.probes: dict[int, asyncio.Semaphore] = {}
        """What limits how many requests carry a signature of which nobody knows yet whether it opens anything."""
        self._wire = Wire(self._trusting)
        self._stores = Stores()
        self._gates: dict[str, Gate] = {}
        self._ways: dict[str, dict[str, Any]] = {}
        self._trust: ssl.SSLContext | None = None
        loop.at_close.append(self._wire.close)

    def _general_client(self) -> "aiohttp.ClientSession":
        """The client for what is not plain; most processes never need it, and it takes a while to import."""
        import aiohttp

        if self._session is None:
            # Any other setting would let the user's netrc, cookies or a compressed answer in.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=_DNS_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=_BUFFER_NBYTES,
                headers={"User-Agent": f"geossl/{VERSION}", "Accept-Encoding": "identity"},
            )
            self._loop.at_close.append(self._session.close)
        return self._session

    def gate(self, url: str) -> Gate:
        """What limits how many requests to the host or store of a URL are under way."""
        host = _host_of(url)
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = Gate(GENTLE.get(host, MOST_UNDER_WAY))
        return gate

    async def attempt(self, url: str, start: int, nbytes: int, limit_s: float) -> Answer | Failed:
        """What one request for a range brings within `limit_s`, on the host of the URL and nowhere else.

        An answer may be shorter than `nbytes`, and empty where the file ends before `start`.
        """
        if url.partition("://")[0].lower() in stores.SCHEMES:
            answer = await self._stores.attempt(url, start, nbytes, limit_s)
        else:
            answer = await self._from_host(url, start, nbytes, limit_s)
        if _LOG.isEnabledFor(logging.DEBUG):
            what = f"{len(answer.data)} bytes" if isinstance(answer, Answer) else answer.text
            _LOG.debug("GET %s from byte %d: %s", redact(url), start, what)
        return answer

    async def _from_host(self, url: str, start: int, nbytes: int, limit_s: float) -> Answer | Failed:
        host = _host_of(url)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._asked(url, start, nbytes, limit_s)
            if not isinstance(answer, str):
                return answer
            url = answer
            if _host_of(url) != host:
                return Failed("redirect", f"sends us to another host ({redact(url)}); refused")
        return Failed("redirect", f"redirects more than {_MOST_REDIRECTS} times")

    async def _asked(self, url: str, start: int, nbytes: int, limit_s: float) -> Answer | Failed | str:
        """The answer to one request; the address that it is redirected to, as a text."""
        way = self._way(url)
        try:
            if "proxy" not in way:
                try:
                    return await self._wired(url, start, nbytes, limit_s)
                except OddAnswerError:
                    _LOG.info("%s: no plain answer; asking again with another client", redact(url))
            return await self._by_general_client(url, start, nbytes, limit_s, way)
        except TimeoutError:
            return Failed("slow", "no answer in time; try again later")
        except (OSError, ValueError):
            return Failed("broken", "an answer stopped half way; try again later")

    async def _wired(self, url: str, start: int, nbytes: int, limit_s: float) -> Answer | Failed | str:
        """The answer to one request, where it is plain; OddAnswerError where it is not."""
        most = partial(_most_nbytes, nbytes=nbytes)
        try:
            reply = await self._wire.get(
                clean(url), start, nbytes, most=most, limit_s=limit_s, connect_s=CONNECT_S, silence_s=READ_S
            )
        except ssl.SSLError as error:
            return Failed("final", f"its certificate is not trusted ({type(error).__name__})")
        except (ConnectionRefusedError, socket.gaierror) as error:
            return Failed("unreachable", f"cannot be reached ({type(error).__name__}); check the network and the URL")
        return _heard(url, reply.status, reply.headers, reply.body, start, nbytes)

    async def _by_general_client(
        self, url: str, start: int, nbytes: int, limit_s: float, way: dict[str, Any]
    ) -> Answer | Failed | str:
        """The answer to one request, through aiohttp: by way of a proxy, in parts, without a length."""
        import aiohttp
        from aiohttp.http_exceptions import HttpProcessingError
        from yarl import URL

        try:
            async with self._general_client().get(
                URL(clean(url), encoded=True),
                headers={"Range": f"bytes={start}-{start + nbytes - 1}"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_S, sock_read=READ_S),
                **way,
            ) as response:
                body = await _body(response, _most_nbytes(response.status, nbytes))
                return _heard(url, response.status, response.headers, body, start, nbytes)
        except aiohttp.ClientSSLError as error:
            return Failed("final", f"its certificate is not trusted ({type(error).__name__})")
        except aiohttp.ClientConnectorError as error:
            return Failed("unreachable", f"cannot be reached ({type(error).__name__}); check the network and the URL")
        except (aiohttp.ClientError, HttpProcessingError) as error:
            if isinstance(error, TimeoutError):
                raise
            return Failed("broken", "an answer stopped half way; try again later")

    def _trusting(self) -> ssl.SSLContext:
        self._trust = self._trust or _trusted()
        return self._trust

    def _way(self, url: str) -> dict[str, Any]:
        """Whom to trust on the way to a host, and the proxy that the environment names for it."""
        host = _host_of(url)
        way = self._ways.get(host)
        if way is None:
            scheme, _, netloc = host.partition("://")
            way = self._ways[host] = {}
            if scheme == "https":
                way["ssl"] = self._trusting()
            proxy = getproxies_environment().get(scheme)
            if proxy and not proxy_bypass(netloc):
                way["proxy"] = proxy
        return way


_TRANSPORTS: dict[Loop, Transport] = {}


def transport_of(loop: Loop) -> Transport:
    """What is open on a loop; asked for on its thread."""
    transport = _TRANSPORTS.get(loop)
    if transport is None:
        transport = _TRANSPORTS[loop] = Transport(loop)
        loop.at_close.append(partial(_drop, loop))
    return transport


async def _drop(loop: Loop) -> None:
    del _TRANSPORTS[loop]


def clean(url: str) -> str:
    """A URL that may stand in a request: without fragment, and what does not belong into one percent-encoded."""
    url = url.partition("#")[0]
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~") if _UNCLEAN.search(url) else url


def read_local(path: Path, start: int, nbytes: int) -> Answer | Failed:
    """A range of a file on disk; its etag is made of its time, its size and its inode."""
    try:
        # A named pipe would be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Failed("final", "there is no such file")
    except OSError as error:
        return Failed("final", f"cannot be opened ({error.strerror})")
    except ValueError:
        return Failed("final", "is not a path")
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Failed("final", "is not a file")
        # Never more than there is: the buffer is made before anything is read.
        data = _pread(descriptor, start, min(nbytes, max(0, found.st_size - start)))
    except OSError as error:
        return Failed("final", f"cannot be read ({error.strerror})")
    finally:
        os.close(descriptor)
    return Answer(start, data, found.st_size, f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}")


def _pread(descriptor: int, start: int, nbytes: int) -> bytes:
    """So many bytes, or those up to the end of the file: one call may give fewer."""
    parts: list[bytes] = []
    while nbytes > 0:
        part = os.pread(descriptor, nbytes, start)
        if not part:
            break
        parts.append(part)
        start, nbytes = start + len(part), nbytes - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _most_nbytes(status: int, nbytes: int) -> int:
    """The longest body worth having of an answer with a status to a request for so many bytes."""
    if status == 206:
        return nbytes
    return MAX_WHOLE_NBYTES if status == 200 else _MOST_WORDS_NBYTES


def _heard(
    url: str, status: int, headers: Mapping[str, str], body: bytes | bytearray | None, start: int, nbytes: int
) -> Answer | Failed | str:
    """What an answer brings; the address that it redirects to, as a text. body: None where it is too long."""
    if status in _REDIRECTS and "Location" in headers:
        return _joined(url, headers["Location"])
    if status not in (200, 206, 416):
        return refused(status, headers, bytes(body or b""))
    etag = headers.get("ETag", "").strip().removeprefix("W/") or None
    stated = headers.get("Content-Range", "").strip()
    if status == 416:
        beyond = _BEYOND.fullmatch(stated)
        return Answer(start, b"", int(beyond[1]) if beyond else None, etag)
    if headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        return Failed("broken", "answers compressed, though asked not to")
    if status == 200:
        if body is None:
            return Failed(
                "broken", "sends a large file whole where a part was asked for; its server has to know ranges"
            )
        return Answer(0, body, len(body), etag, is_range=False)
    told = _RANGE.fullmatch(stated)
    if told is None:
        return Failed("broken", "does not say which part of the file it sends")
    first, last, size = int(told[1]), int(told[2]), None if told[3] == "*" else int(told[3])
    if first != start or not 0 < last - first + 1 <= nbytes or (size is not None and size <= last):
        return Failed("broken", "sends another part of the file than was asked for")
    if body is None or len(body) != last - first + 1:
        return Failed("broken", "sends more or fewer bytes than it says")
    return Answer(first, body, size, etag)


async def _body(response: "aiohttp.ClientResponse", most: int) -> bytes | None:
    """All of an answer; None where it has more than `most` bytes, which are not waited for."""
    stated = response.content_length
    if stated is not None:
        return await response.read() if stated <= most else None
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > most:
            return None
    return b"".join(parts)


def _host_of(url: str) -> str:
    """Scheme and host, or scheme and bucket, of a URL."""
    parts = split(url)
    return "" if parts is None else f"{parts.scheme}://{parts.netloc}"


def _joined(url: str, href: str) -> str:
    """An address relative to another; unchanged where it cannot be taken apart, so that it is refused later."""
    try:
        return urljoin(url, href)
    except ValueError:
        return href


def _trusted() -> ssl.SSLContext:
    """The authorities of this machine, those that requests trusts too, and those of the file the environment names."""
    import certifi

    context = ssl.create_default_context()
    for path in (certifi.where(), os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("CURL_CA_BUNDLE")):
        if path and Path(path).is_file():
            context.load_verify_locations(path)
    return context
