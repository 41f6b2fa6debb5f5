"""Access: which address a raster reader may be given for an href, signed, and looked at before it is opened.

GDAL follows redirects wherever they lead, sniffs content and repeats what will never work. So our own client reads the
first bytes of a file before GDAL sees its address: once for each file and process, and again after a failure.
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, Protocol

from geossl_data.errors import ReadError
from geossl_data.scenes.hrefs import host_of, leads_inside, redact, split
from geossl_data.scenes.http import Http, HttpError
from geossl_data.scenes.limits import Budget
from geossl_data.scenes.opening.signing import Signer

Refusal = Literal["missing-asset", "not-geotiff", "forbidden", "refused-address", "read-failed"]

TIFF_BEGINS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""The first four bytes of TIFF and BigTIFF, in both byte orders."""
LOOK_NBYTES = 16
DEADLINE_S = 60.0
"""Longest time for one look, repeats included."""
MAX_REMEMBERED = 65_536
"""Files known to be what they should; the oldest are forgotten, and looked at again."""

_CONCURRENCY = 32
_PER_SECOND = 200.0
_MAX_NBYTES = 2**20
_MAX_HOSTS = 64
_MAX_KEPT = 8
_MISSING = (404, 410)
_FORBIDDEN = (401, 403)
_EMPTY = 416


class AccessError(ReadError):
    """A file that must not or cannot be opened; `reason` is the short class of reason that a summary counts."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason: Refusal = reason

    def __reduce__(self) -> tuple[type["AccessError"], tuple[Refusal, str]]:
        return (AccessError, (self.reason, str(self)))


class Sign(Protocol):
    """What signs addresses; see Signer."""

    def __call__(self, href: str) -> str: ...
    def renewed(self, signed: str) -> str: ...
    def accepted(self, signed: str) -> None: ...


class Access:
    """Unsigned href → address that may be opened. Safe to use from several threads.

    sign: signs addresses; None opens them as they are. base: folder or URL of the catalog that the hrefs come from; a
    catalog on the network cannot lead into this machine's own network, except to its own host.
    Sent to another process it remembers there what it has looked at, however often it is sent.
    """

    def __init__(self, sign: Sign | None = None, *, base: str = "") -> None:
        self._sign: Sign = Signer(None) if sign is None else sign
        self._base = base
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._clients: OrderedDict[str, Http] = OrderedDict()
        self._inside: dict[str, bool] = {}

    def __reduce__(self) -> "tuple[Callable[..., Access], tuple[str, Sign, str]]":
        return _access, (self._name, self._sign, self._base)

    def url(self, href: str) -> str:
        """The address to open for an href, signed; looked at when it is asked for first, or after `failed`.

        Raises AccessError with the reason, and TokenError where there is no signature to be had. Addresses other than
        http(s) are signed only.
        """
        signed = self._sign(href)
        parts = split(signed) if "://" in signed else None
        if parts is None or parts.scheme not in ("http", "https"):
            return signed
        with self._lock:
            if href in self._known:
                return signed
        if signed == href and self._leads_inside(str(parts.hostname)):
            raise AccessError("refused-address", f"{redact(href)}: leads into a private network")
        signed = self._looked_at(href, signed)
        with self._lock:
            self._known[href] = None
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return signed

    def failed(self, href: str) -> None:
        """Note that an address could not be read after all, so that the next `url` looks at it again."""
        with self._lock:
            self._known.pop(href, None)

    def worked(self, url: str) -> None:
        """Note that an address was read."""
        self._sign.accepted(url)

    def _looked_at(self, href: str, signed: str) -> str:
        """The signed address, or one signed anew where the first was refused; AccessError unless it is a TIFF."""
        for _ in range(2):
            content = self._first_bytes(signed)
            if isinstance(content, HttpError):
                if content.status not in _FORBIDDEN:
                    raise AccessError(_reason(content), f"{redact(href)}: {content}")
                renewed = self._sign.renewed(signed)
                if renewed == signed:
                    break
                signed = renewed
                continue
            self._sign.accepted(signed)
            if not content.startswith(TIFF_BEGINS):
                raise AccessError("not-geotiff", f"{redact(href)}: begins like {_kind(content)}, not like a TIFF")
            return signed
        raise AccessError("forbidden", f"{redact(href)}: the server refuses to hand it out (HTTP 403)")

    def _first_bytes(self, url: str) -> bytes | HttpError:
        """What a file begins with, or why it cannot be had: returned, as what is raised drags along what it met."""
        wanted = {"Range": f"bytes=0-{LOOK_NBYTES - 1}", "Accept-Encoding": "identity"}
        try:
            answer = self._client(url).request(
                "GET", url, headers=wanted, deadline_s=DEADLINE_S, max_nbytes=_MAX_NBYTES
            )
        except HttpError as error:
            return error
        return answer.content

    def _client(self, url: str) -> Http:
        parts = split(url)
        assert parts is not None
        host = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            client = self._clients.get(host)
            if client is None:
                client = Http(host, concurrency=_CONCURRENCY, per_second=_PER_SECOND, budget=_BUDGET)
                self._clients[host] = client
            self._clients.move_to_end(host)
            while len(self._clients) > _MAX_HOSTS:
                self._clients.popitem(last=False)
        return client

    def _leads_inside(self, host: str) -> bool:
        found = self._inside.get(host)
        if found is None:
            found = self._inside[host] = leads_inside(host, host_of(self._base))
        return found


_BUDGET = Budget(10**12)
"""Looks count against nothing: reading pixels makes far more requests, which nobody counts."""

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


def _reason(error: HttpError) -> Refusal:
    if error.status in _MISSING:
        return "missing-asset"
    if error.status == _EMPTY:
        return "not-geotiff"
    return "refused-address" if error.kind == "redirect" else "read-failed"


def _kind(content: bytes) -> str:
    """What a file that is no TIFF seems to be, in a word or two, without quoting it."""
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "an empty file"
    if start.startswith(b"<vrt"):
        return "a VRT"
    if start.startswith((b"<!doctype h", b"<html", b"<head", b"<body")):
        return "a web page"
    if start.startswith(b"<"):
        return "XML"
    return "JSON" if start.startswith((b"{", b"[")) else "something else"
