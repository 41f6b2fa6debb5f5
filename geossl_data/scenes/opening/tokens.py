"""Access tokens for blobs: one for each container, in this process's memory and nowhere else.

How long a token lives is reckoned by the token service's own clock and counted down by a clock that nobody sets, so
that a wrong clock on this machine neither wastes tokens nor asks for them without end.
"""

import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import parse_qs

from geossl_data.errors import TokenAlreadyExpired, TokenError
from geossl_data.scenes.hrefs import redact, split
from geossl_data.scenes.http import BACKOFF_S, Answer, Http, HttpError
from geossl_data.scenes.items import parse_time
from geossl_data.scenes.providers import TokenService

_LOG = logging.getLogger(__name__)

Container = tuple[str, str]
"""Storage account and container."""

DEADLINE_S = 60.0
"""Longest time that one token is waited for, repeats included."""
REFRESH_S = 120.0
"""A token is replaced this long before its end, or after four fifths of a shorter life."""
SHORTEST_S = 1.0
"""A token that lives shorter than this has expired."""
PAUSE_S = 30.0
"""After a failure nobody asks again for this long; also the shortest time between two renewals of a refused token."""
BREAK_S = 300.0
"""How long a container that refuses fresh tokens is left alone."""
REFUSALS = 3
"""Blobs that have to refuse a renewed token, while none accepts it, before its container is left alone."""

_ATTEMPTS = 3
_MAX_NBYTES = 64 * 2**10
_QUERY = re.compile(r"[A-Za-z0-9%&=._~:/+,;*-]{1,8192}")
_CLOCKS_DIFFER_S = 60.0
_KEY_HEADER = "Ocp-Apim-Subscription-Key"


class ContainerRefusedError(TokenError):
    """Fresh tokens do not open the blobs of a container; other containers are not concerned."""


KINDS: dict[str, type[TokenError]] = {
    kind.__name__: kind for kind in (TokenError, TokenAlreadyExpired, ContainerRefusedError)
}
"""What can go wrong, by the name under which another process hears of it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A shared access signature; it neither shows itself nor can be pickled."""

    value: str = field(repr=False)
    valid_until: float
    """Its end, in seconds of time.monotonic()."""
    refresh_at: float
    """When to ask for the next one, in seconds of time.monotonic()."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token stays in its process")


def token_of(value: str, lifetime_s: float) -> Token:
    """A token that lives from now for so many seconds."""
    valid_until = time.monotonic() + lifetime_s
    return Token(value, valid_until, valid_until - min(REFRESH_S, lifetime_s / 5))


def digest(value: str) -> str:
    """What names a token without telling it: SHA-256 in hexadecimal digits."""
    return hashlib.sha256(value.encode()).hexdigest()


Ask = Callable[[Container, str], Token]
"""(container, digest of its token that was refused, or nothing) → a fresh token; raises TokenError."""


class _Shelf:
    """What is known of one container. All fields are read and changed under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.token: Token | None = None
        self.accepted = False
        self.refused = ""
        self.refusals: set[str] = set()
        self.renewed_at: float | None = None
        self.failure: tuple[type[TokenError], str] = (TokenError, "")
        self.failed_until = 0.0

    def fail(self, error: TokenError, pause_s: float) -> None:
        self.failure, self.failed_until = (type(error), str(error)), time.monotonic() + pause_s


class Tokens:
    """The tokens of a process: asked for once, by one thread for each container, however many want them.

    ask: where they come from.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._shelves: dict[Container, _Shelf] = {}

    def token(self, container: Container) -> Token:
        """A token that is good for a while. Raises TokenError; within PAUSE_S after a failure at once, unasked."""
        shelf = self._shelf(container)
        with shelf.lock:
            now, held = time.monotonic(), shelf.token
            if held is not None and now < held.refresh_at:
                return held
            is_usable = held is not None and now < held.valid_until - SHORTEST_S
            try:
                if now < shelf.failed_until:
                    kind, text = shelf.failure
                    raise kind(text)
                fresh = self._fresh(shelf, container)
            except TokenError:
                if held is not None and is_usable:
                    return held
                raise
            shelf.token = fresh
            return fresh

    def held(self, container: Container) -> Token | None:
        """The token in use, without waiting for anybody; None where there is none that is good for a while."""
        shelf = self._shelf(container)
        if not shelf.lock.acquire(blocking=False):
            return None
        try:
            held = shelf.token
            return held if held is not None and time.monotonic() < held.refresh_at else None
        finally:
            shelf.lock.release()

    def _fresh(self, shelf: _Shelf, container: Container) -> Token:
        try:
            fresh = self._ask(container, shelf.refused)
        except TokenError as error:
            shelf.fail(error, PAUSE_S)
            raise
        if shelf.token is None or fresh.value != shelf.token.value:
            shelf.accepted = False
            shelf.refusals.clear()
        shelf.refused = ""
        return fresh

    def refuse(self, container: Container, refused: str, blob: str) -> None:
        """Note that a blob was not opened by the token of this digest; the next `token` may then be another.

        Only the token in use is given up, once in PAUSE_S: a token that opens other blobs is good. Where a renewed one
        opens none, its container is left alone for BREAK_S, and `token` raises ContainerRefusedError.
        """
        shelf = self._shelf(container)
        with shelf.lock:
            held, now = shelf.token, time.monotonic()
            if held is None or digest(held.value) != refused:
                return
            if shelf.renewed_at is None or now - shelf.renewed_at >= PAUSE_S:
                shelf.token, shelf.refused, shelf.renewed_at = None, refused, now
                return
            if shelf.accepted:
                return
            shelf.refusals.add(blob)
            if len(shelf.refusals) >= REFUSALS:
                name = "/".join(container)
                _LOG.warning("%s refuses fresh tokens; left alone for %.0f s", name, BREAK_S)
                shelf.token, shelf.refused = None, refused
                shelf.fail(ContainerRefusedError(f"{name}: refuses fresh access tokens; try again later"), BREAK_S)

    def accept(self, container: Container, value: str) -> None:
        """Note that a token opened a blob."""
        shelf = self._shelf(container)
        with shelf.lock:
            if shelf.token is not None and shelf.token.value == value:
                shelf.accepted = True

    def _shelf(self, container: Container) -> _Shelf:
        with self._lock:
            return self._shelves.setdefault(container, _Shelf())


def service_url(service: TokenService) -> str:
    """Where a token service is, the environment considered; raises TokenError for what is no http(s) address."""
    url = (service.url_variable and os.environ.get(service.url_variable)) or service.url
    parts = split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in url:
        raise TokenError(f"{redact(url)}: not the address of a token service; expected https://host/path")
    return url.rstrip("/")


def ask_service(service: TokenService, container: Container) -> Token:
    """A fresh token from the token service. Raises TokenError within DEADLINE_S, TokenAlreadyExpired after 3 tries."""
    url, name = service_url(service), "/".join(container)
    key = service.key_variable and os.environ.get(service.key_variable)
    headers = {_KEY_HEADER: key} if key and _may_carry_a_key(url) else {}
    until, advice = time.monotonic() + DEADLINE_S, ""
    with Http(url) as http:
        for attempt in range(_ATTEMPTS):
            if attempt:
                http.pause(BACKOFF_S * attempt)
            answer = _asked(http, f"{url}/{name}", headers, max(until - time.monotonic(), 0.1))
            if isinstance(answer, HttpError):
                raise TokenError(f"no access token for {name}: {answer}")
            value, lifetime_s, advice = _told(answer, name)
            if lifetime_s > SHORTEST_S:
                return token_of(value, lifetime_s)
    raise TokenAlreadyExpired(f"the token service hands out expired tokens for {name}; {advice}")


def _asked(http: Http, url: str, headers: dict[str, str], deadline_s: float) -> Answer | HttpError:
    """The answer, or what went wrong: returned, as what is raised drags along what it met, addresses and all."""
    try:
        return http.request("GET", url, headers=headers, deadline_s=deadline_s, max_nbytes=_MAX_NBYTES)
    except HttpError as error:
        return error


def _may_carry_a_key(url: str) -> bool:
    """A key travels encrypted, or not beyond this machine."""
    parts = split(url)
    return parts is not None and (parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1"))


def _told(answer: Answer, name: str) -> tuple[str, float, str]:
    """Token, seconds it has left by the service's clock, and what to do where it has none; TokenError for nonsense."""
    try:
        content = json.loads(answer.content)
        value = content["token"].removeprefix("?")
        if not _QUERY.fullmatch(value):
            raise ValueError
        stated = [content.get("msft:expiry"), *parse_qs(value).get("se", [])]
        ends = min(parse_time(text) for text in stated if text is not None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise TokenError(
            f"no access token for {name}: the token service answers with something else; try again later"
        ) from None
    ours, theirs = datetime.now(UTC), _moment(answer.headers.get("Date", ""))
    if theirs is None:
        return value, (ends - ours).total_seconds(), "check this machine's clock"
    ahead_s = (ours - theirs).total_seconds()
    advice = "by its own clock: try again later"
    if abs(ahead_s) > _CLOCKS_DIFFER_S:
        _LOG.info("this machine's clock is %.0f s ahead of the token service's", ahead_s)
        advice += f" (this machine's clock is {ahead_s:.0f} s ahead of it)"
    return value, (ends - theirs).total_seconds(), advice


def _moment(text: str) -> datetime | None:
    """The time in a Date header; None where it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
