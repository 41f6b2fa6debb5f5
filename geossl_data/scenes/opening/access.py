"""Access: href → verified bytes of a file, near or far.

Who may be asked, what for, how often and how long is decided here; every byte that comes back was asked for, is all
there, and belongs to one state of its file. Nobody else opens an address that a catalog names.
"""

import asyncio
import logging
import random
import re
import threading
import uuid
from asyncio import sleep
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Literal, Protocol
from urllib.parse import unquote

from geossl_data.errors import ReadError
from geossl_data.scenes.hrefs import host_of, leads_inside, redact, split
from geossl_data.scenes.http import BACKOFF_S
from geossl_data.scenes.opening import stores
from geossl_data.scenes.opening.answers import Answer, Failed, Kind
from geossl_data.scenes.opening.background import Loop, background_loop
from geossl_data.scenes.opening.signing import Signer
from geossl_data.scenes.opening.tokens import REFUSALS
from geossl_data.scenes.opening.transport import Transport, read_local, transport_of

_LOG = logging.getLogger(__name__)

Refusal = Literal["missing-asset", "not-geotiff", "forbidden", "refused-address", "read-failed"]

DEADLINE_S = 60.0
"""Longest time for one range, repeats and pauses included; each SLOWEST bytes that are asked for add a second."""
TRY_S = 25.0
"""Longest time for one try at a range; each SLOWEST bytes that are asked for add a second."""
SLOWEST = 2**18
"""Bytes per second below which a network is too slow to read from."""
TRIES = 7
LONGEST_PAUSE_S = 10.0
"""Longest pause that nobody asked for."""
MAX_KNOWN = 65_536
"""Files whose size and etag are remembered; one more, and all are forgotten."""
MAX_NBYTES = 2**28
"""Largest range that is read at once."""

_MAX_KEPT = 8
_SCHEMES = ("http", "https", *stores.SCHEMES)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PAGES = ("a web page", "XML", "JSON")
_TRIES: dict[Kind, int] = {"unreachable": 3, "page": 3, "slow": TRIES, "broken": TRIES, "busy": TRIES}
"""Tries in all at what may pass; what is not named is not tried again."""
_REASONS: dict[Kind, Refusal] = {
    "missing": "missing-asset",
    "forbidden": "forbidden",
    "redirect": "refused-address",
    "page": "not-geotiff",
}


class AccessError(ReadError):
    """A file that must not or cannot be opened; `reason` is the short class of reason that a summary counts."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason: Refusal = reason

    def __reduce__(self) -> tuple[type["AccessError"], tuple[Refusal, str]]:
        return (AccessError, (self.reason, str(self)))


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a file."""

    data: bytes | bytearray
    file_nbytes: int | None
    """Size of the file; None where its server does not say."""
    etag: str | None
    """What changes when the file does; None where its server does not say."""


class Sign(Protocol):
    """What signs addresses; see Signer. All but `at_once` may wait for a token."""

    def at_once(self, href: str) -> str | None: ...
    def __call__(self, href: str) -> str: ...
    def renewed(self, signed: str) -> str: ...
    def accepted(self, signed: str) -> None: ...


class Access:
    """Unsigned href → bytes of the file. Safe to use from several threads and on any event loop.

    sign: signs addresses; None opens them as they are. base: folder or URL of the catalog that the hrefs come from; a
    catalog on the network cannot lead into this machine's own network, except to its own host.
    Sent to another process it starts there with nothing known, and remembers there however often it is sent.
    """

    def __init__(self, sign: Sign | None = None, *, base: str = "") -> None:
        self._sign: Sign = Signer(None) if sign is None else sign
        self._base = base
        self._name = uuid.uuid4().hex
        self._inside: dict[str, bool] = {}
        self._files: dict[str, tuple[int | None, str | None]] = {}
        self._noted: set[int] = set()

    def __reduce__(self) -> "tuple[Callable[..., Access], tuple[str, Sign, str]]":
        return _access, (self._name, self._sign, self._base)

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of this process on which files are read, running in a thread of its own.

        `fetch` costs least there. It is shared by all Access, ends with the process, and is another one after a fork.
        """
        return background_loop()

    async def fetch(self, href: str, start: int, nbytes: int, *, whole: bool = True) -> Piece:
        """Bytes `start` to `start + nbytes` of a file.

        href: a path, or an address of a file, http, https, s3, gs, az or abfs. whole: False where fewer bytes are as
        good because the file ends.
        Repeats what may pass, as the server asks, within DEADLINE_S; waiting for other requests to the same host does
        not count. Raises AccessError with the reason, and TokenError where there is no signature to be had.
        """
        loop = background_loop()
        reading = self._fetched(loop, href, start, nbytes, whole)
        if asyncio.get_running_loop() is loop:
            return await reading
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(reading, loop))

    def read(self, href: str, start: int, nbytes: int, *, whole: bool = True) -> Piece:
        """The same, for who waits in a thread other than that of `loop`."""
        path = local_path(href)
        if path is not None and 0 < nbytes <= MAX_NBYTES:
            return self._piece(href, read_local(path, start, nbytes), start, nbytes, whole)
        loop = background_loop()
        reading = asyncio.run_coroutine_threadsafe(self._fetched(loop, href, start, nbytes, whole), loop)
        try:
            return reading.result()
        finally:
            # After Ctrl-C, for instance, nobody waits any more.
            reading.cancel()

    def forget(self, href: str) -> None:
        """Take a file as it is when it is read next, though it may have changed since it was read first."""
        self._files.pop(href, None)

    async def _fetched(self, loop: Loop, href: str, start: int, nbytes: int, whole: bool) -> Piece:
        if nbytes <= 0:
            return Piece(b"", None, None)
        if nbytes > MAX_NBYTES:
            raise AccessError("read-failed", f"{redact(href)}: {nbytes} bytes at once, at most {MAX_NBYTES} allowed")
        path = local_path(href)
        if path is not None:
            answer = await loop.in_thread(partial(read_local, path, start, nbytes))
            return self._piece(href, answer, start, nbytes, whole)
        url, is_renewed, tries = await self._opened(loop, href), False, 0
        transport = transport_of(loop)
        left_s = DEADLINE_S + nbytes / SLOWEST
        while True:
            async with self._probe(transport, href, url) as probed:
                if probed:
                    url = await self._signed(loop, href)
                answer, took_s = await _asked(transport, url, start, nbytes, left_s)
                found = self._checked(href, answer, start, nbytes, whole)
                if isinstance(found, Piece):
                    if url != href:
                        await self._accepted(loop, url)
                    return found
                if found.kind == "forbidden":
                    self._noted.clear()
                    renewed = await loop.in_thread(partial(self._sign.renewed, url))
                    if is_renewed or renewed == url:
                        raise _refusal(href, found)
                    url, is_renewed = renewed, True
                    continue
            tries, left_s = tries + 1, left_s - took_s
            pause_s = _pause_s(found, tries)
            if tries >= _TRIES.get(found.kind, 1) or pause_s >= left_s:
                raise _refusal(href, found)
            _LOG.info("%s: %s; asking again in %.1f s", redact(href), found.text, pause_s)
            left_s -= pause_s
            await sleep(pause_s)

    @asynccontextmanager
    async def _probe(self, transport: Transport, href: str, url: str) -> AsyncIterator[bool]:
        """Wait for one's turn with a signature that has opened nothing yet; False where it needs no turn.

        Else every request that is under way would meet the refusal of one and the same token.
        """
        signature = hash(url.partition("?")[2])
        if url == href or signature in self._noted:
            yield False
            return
        async with transport.probes.setdefault(signature, asyncio.Semaphore(REFUSALS)):
            if signature not in self._noted:
                yield True
                return
        transport.probes.pop(signature, None)
        yield False

    async def _opened(self, loop: Loop, href: str) -> str:
        """The signed address of a file elsewhere; AccessError where it must not be asked for."""
        parts = split(href)
        if parts is None or parts.scheme not in _SCHEMES or not parts.hostname or not parts.netloc.isascii():
            allowed = ", ".join(("file", *_SCHEMES))
            raise AccessError("refused-address", f"{redact(href)}: neither a local path nor one of {allowed}")
        if "@" in parts.netloc and (parts.scheme != "abfs" or ":" in parts.netloc.rpartition("@")[0]):
            raise AccessError("refused-address", f"{redact(href)}: carries a user name; leave it out")
        signed = await self._signed(loop, href)
        if signed == href and parts.scheme in ("http", "https"):
            inside = self._inside.get(parts.hostname)
            if inside is None:
                inside = await loop.in_thread(partial(self._leads_inside, parts.hostname))
            if inside:
                raise AccessError("refused-address", f"{redact(href)}: leads into a private network")
        return signed

    async def _signed(self, loop: Loop, href: str) -> str:
        signed = self._sign.at_once(href)
        return signed if signed is not None else await loop.in_thread(partial(self._sign, href))

    async def _accepted(self, loop: Loop, signed: str) -> None:
        """Note, once for each signature, that it opened a file."""
        signature = hash(signed.partition("?")[2])
        if signature not in self._noted:
            self._noted.add(signature)
            await loop.in_thread(partial(self._sign.accepted, signed))

    def _piece(self, href: str, answer: Answer | Failed, start: int, nbytes: int, whole: bool) -> Piece:
        """What was asked for; AccessError where an answer is anything else."""
        found = self._checked(href, answer, start, nbytes, whole)
        if isinstance(found, Failed):
            raise _refusal(href, found)
        return found

    def _checked(self, href: str, answer: Answer | Failed, start: int, nbytes: int, whole: bool) -> Piece | Failed:
        """What was asked for, of the file that was read before."""
        known = self._files.get(href, (None, None))
        found = piece_of(answer, start, nbytes, whole=whole, known_nbytes=known[0])
        if isinstance(found, Piece):
            size, etag = found.file_nbytes, found.etag
            if _differ(known[0], size) or _differ(known[1], etag):
                return Failed("final", "changed while it was read; run again once it is written")
            if None in known:
                if len(self._files) >= MAX_KNOWN:
                    self._files.clear()
                self._files[href] = (known[0] or size, known[1] or etag)
        return found

    def _leads_inside(self, host: str) -> bool:
        found = self._inside.get(host)
        if found is None:
            found = self._inside[host] = leads_inside(host, host_of(self._base))
        return found


async def _asked(
    transport: Transport, url: str, start: int, nbytes: int, left_s: float
) -> tuple[Answer | Failed, float]:
    """What one try brings, and how many seconds it took once it was its turn with the host."""
    gate = transport.gate(url)
    era = await gate.enter()
    began = monotonic()
    try:
        answer = await transport.attempt(url, start, nbytes, max(0.1, min(left_s, TRY_S + nbytes / SLOWEST)))
        # Before the place is given back, so that nobody takes it who should wait now.
        if isinstance(answer, Answer):
            gate.answered()
        elif answer.kind in ("busy", "slow"):
            gate.complained(era)
    finally:
        gate.leave()
    return answer, monotonic() - began


def piece_of(
    answer: Answer | Failed, start: int, nbytes: int, *, whole: bool, known_nbytes: int | None = None
) -> Piece | Failed:
    """The range that was asked for, out of an answer that holds it; else what is wrong.

    whole: False where fewer bytes are as good because the file ends. known_nbytes: size of the file as it was read
    before; None where it was not, or nobody said.
    """
    if isinstance(answer, Failed):
        return answer
    data, size = answer.data, answer.file_nbytes
    if not answer.is_range:
        kind = kind_of(data)
        if kind in _PAGES:
            return Failed("page", f"the server answers with {kind} instead of a file; try again later")
        if _differ(known_nbytes, size):
            return Failed("broken", f"the server answers with {size} bytes of something else; try again later")
        data = data[start : start + nbytes]
    if whole and (start + nbytes > size if size is not None else not data):
        ends = "before" if size is None else f"at byte {size},"
        return Failed("final", f"ends {ends} the {nbytes} bytes that were asked for from byte {start} on")
    expected = nbytes if size is None else min(nbytes, max(0, size - start))
    if len(data) != expected and (whole or size is not None):
        return Failed("broken", f"{len(data)} bytes came where {expected} were asked for; try again later")
    return Piece(data, size, answer.etag)


def _differ(known: object, found: object) -> bool:
    return known is not None and found is not None and known != found


def _refusal(href: str, failed: Failed) -> AccessError:
    return AccessError(_REASONS.get(failed.kind, "read-failed"), f"{redact(href)}: {failed.text}")


def _pause_s(failed: Failed, tries: int) -> float:
    """Seconds to wait before the next try: what the server asks for and a little more, else by full jitter."""
    if failed.wait_s is not None:
        return failed.wait_s + random.uniform(0.0, BACKOFF_S)
    return random.uniform(0.0, min(LONGEST_PAUSE_S, BACKOFF_S * 2.0 ** (tries - 1)))


def local_path(href: str) -> Path | None:
    """The path that a href names; None for what is no path."""
    scheme = _SCHEME.match(href)
    if scheme is None:
        return None if href.lower().startswith("/vsi") else Path(href)
    parts = split(href) if scheme[1].lower() == "file" else None
    return Path(unquote(parts.path)) if parts is not None and parts.netloc in ("", "localhost") else None


_KEPT: OrderedDict[str, Access] = OrderedDict()
_KEPT_LOCK = threading.Lock()


def _access(name: str, sign: Sign, base: str) -> Access:
    """The Access of this process that stands for one from elsewhere."""
    with _KEPT_LOCK:
        if name not in _KEPT:
            access = _KEPT[name] = Access(sign, base=base)
            access._name = name
        _KEPT.move_to_end(name)
        while len(_KEPT) > _MAX_KEPT:
            _KEPT.popitem(last=False)
        return _KEPT[name]


def kind_of(content: bytes | bytearray) -> str:
    """What a file that is no TIFF seems to be, in a word or two, without quoting it."""
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "an empty file"
    if start.startswith(b"<vrt"):
        return "a VRT"
    if start.startswith((b"<!doctype h", b"<html", b"<head", b"<body")):
        return "a web page"
    if start.startswith(b"<"):
        return "XML"
    return "JSON" if start.startswith((b"{", b"[")) else "something else"
