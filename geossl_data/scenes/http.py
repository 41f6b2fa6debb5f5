"""HTTP as a well-behaved guest: the one client for catalogs, tokens and metadata files.

Every call has a deadline, is repeated as the server asks, counts against the budget of the process, and stays on its
host: a redirect elsewhere is refused, and neither cookies nor the user's netrc are sent anywhere.
"""

import logging
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, HTTPError, ProtocolError, ReadTimeoutError

from geossl_data.errors import GeosslError
from geossl_data.scenes.hrefs import redact, split
from geossl_data.scenes.limits import BUDGET, Budget, limiter_for
from geossl_data.scenes.redaction import guard_loggers
from geossl_data.version import VERSION

guard_loggers()
_LOG = logging.getLogger(__name__)

Kind = Literal["status", "overloaded", "broken", "unreachable", "redirect", "too-large", "stopped"]
"""status: an answer that is no success; overloaded: no answer in time; broken: it stopped half way."""

CONNECT_S = 10.0
READ_S = 60.0
"""Longest silence of a server between two bytes."""
DEADLINE_S = 300.0
"""Longest time for one call, repeats and waits included."""
LONGEST_WAIT_S = 120.0
"""Longest wait between two tries that a server may ask for."""
BACKOFF_S = 0.5
"""The first pause lasts up to this; each later one up to twice the one before."""
MAX_NBYTES = 256 * 2**20
"""Largest answer, after decompression."""
CONCURRENCY = 4
PER_SECOND = 20.0

_BUSY = frozenset({429, 503})
_PASSING = _BUSY | {425, 500, 502}
_TOO_MUCH = frozenset({408, 413, 504})
_TRIES = 7
_TRIES_WHEN_FORBIDDEN = 3
"""Firewalls of some catalogs say 403 where they mean 429."""
_MOST_REDIRECTS = 3
_ASKED_TO_WAIT = re.compile(r"try again in (\d{1,4}) second", re.IGNORECASE)


class HttpError(GeosslError):
    """A request that was not answered with a success; the text names the host and holds nothing secret."""

    def __init__(self, kind: Kind, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.status = status

    def __reduce__(self) -> tuple[type["HttpError"], tuple[Kind, str, int | None]]:
        return (HttpError, (self.kind, str(self), self.status))


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    content: bytes
    """Decompressed."""


class Http:
    """A client for one host, safe to use from several threads.

    url: names the host; other hosts are refused. concurrency, per_second: how hard the host may be leant on by this
    process, whoever asks. budget: what requests are counted against. patient: also wait out a 403, as a catalog's
    firewall says it when it means too many requests.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = CONCURRENCY,
        per_second: float = PER_SECOND,
        budget: Budget = BUDGET,
        patient: bool = False,
    ) -> None:
        parts = urlsplit(url)
        self.label = parts.netloc.rpartition("@")[2]
        self._host = (parts.scheme, self.label)
        self._budget = budget
        self._limiter = limiter_for(self.label, concurrency, per_second)
        self._patient = patient
        self._stopped = threading.Event()
        self._session = requests.Session()
        self._session.auth = without_netrc
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["User-Agent"] = f"geossl/{VERSION}"
        self._session.mount(f"{parts.scheme}://", HTTPAdapter(pool_maxsize=concurrency))

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._session.close()

    def stop(self) -> None:
        """Make other threads' calls end with an HttpError of kind stopped, instead of waiting on."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait before asking again; HttpError when the client is stopped meanwhile."""
        if self._stopped.wait(seconds):
            raise HttpError("stopped", f"{self.label}: stopped")

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
        max_nbytes: int = MAX_NBYTES,
        tries_when_overloaded: int = 2,
    ) -> Answer:
        """The answer to a request, asked again where that may help, within `deadline_s`.

        Repeats: 429 and 5xx as long as there is time and as the server's Retry-After says, a broken-off answer, a
        refused connection, and what takes the server too long (408, 413, 504, silence). tries_when_overloaded: 1 for
        who would rather ask for less than ask that again. Raises HttpError, and BudgetError when the process may ask
        no more.
        """
        until = time.monotonic() + deadline_s
        failure = HttpError("overloaded", f"{self.label}: no answer in time; try again later")
        for attempt in range(_TRIES):
            wait: float | None = None
            try:
                with self._limiter.slot():
                    self._budget.spend()
                    answer = self._once(method, url, params, json, headers, until, max_nbytes)
            except HttpError as error:
                if error.kind not in ("overloaded", "broken", "unreachable"):
                    raise
                failure, tries = error, tries_when_overloaded if error.kind == "overloaded" else _TRIES // 2
            else:
                if 200 <= answer.status < 300:
                    self._limiter.answered()
                    return answer
                failure = _refusal(self.label, answer.status)
                tries = tries_when_overloaded if answer.status in _TOO_MUCH else self._tries(answer.status)
                wait = wait_asked_for(answer)
                if answer.status in _BUSY:
                    self._limiter.complained()
            if attempt + 1 >= tries:
                break
            pause = random.uniform(0.5, 1.0) * BACKOFF_S * 2**attempt if wait is None else wait
            if pause > LONGEST_WAIT_S or time.monotonic() + pause > until:
                break
            _LOG.info("%s; asking again in %.1f s", failure, pause)
            self.pause(pause)
        raise failure

    def _tries(self, status: int) -> int:
        if status in _PASSING:
            return _TRIES
        return _TRIES_WHEN_FORBIDDEN if status == 403 and self._patient else 1

    def _once(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        json: Any,
        headers: Mapping[str, str] | None,
        until: float,
        max_nbytes: int,
    ) -> Answer:
        """One try: the answer, whatever its status, after redirects on the same host."""
        if self._stopped.is_set():
            raise HttpError("stopped", f"{self.label}: stopped")
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                left = max(until - time.monotonic(), 0.1)
                with self._session.request(
                    method,
                    self._checked(url),
                    params=params,
                    json=json,
                    headers=headers,
                    timeout=(min(CONNECT_S, left), min(READ_S, left)),
                    stream=True,
                    allow_redirects=False,
                ) as answer:
                    if not answer.is_redirect:
                        return Answer(answer.status_code, answer.headers, self._body(answer, until, max_nbytes))
                    url, params = _joined(url, answer.headers["location"]), None
        except (ProtocolError, DecodeError):
            raise HttpError("broken", f"{self.label}: an answer stopped half way; try again later") from None
        except (requests.Timeout, ReadTimeoutError) as error:
            if isinstance(error, requests.ConnectTimeout):
                raise self._unreachable(error) from None
            raise HttpError("overloaded", f"{self.label}: no answer in time; try again later") from None
        except (requests.RequestException, HTTPError) as error:
            if "timed out" in str(error):
                raise HttpError("overloaded", f"{self.label}: no answer in time; try again later") from None
            raise self._unreachable(error) from None
        raise HttpError("redirect", f"{self.label}: redirects more than {_MOST_REDIRECTS} times; give the final URL")

    def _unreachable(self, error: Exception) -> HttpError:
        return HttpError(
            "unreachable", f"{self.label}: cannot be reached ({type(error).__name__}); check the network and the URL"
        )

    def _checked(self, url: str) -> str:
        parts = split(url)
        if parts is None or (parts.scheme, parts.netloc) != self._host:
            raise HttpError("redirect", f"{self.label}: sends us to another host ({redact(url)}); refused")
        return url

    def _body(self, answer: requests.Response, until: float, max_nbytes: int) -> bytes:
        parts, size = [], 0
        # Bytes as they come: iter_content waits for a whole part, and a server that drips would outlast any deadline.
        for part in iter(lambda: answer.raw.read1(2**16, decode_content=True), b""):
            parts.append(part)
            size += len(part)
            if size > max_nbytes:
                raise HttpError("too-large", f"{self.label}: an answer of more than {max_nbytes} bytes; refused")
            if time.monotonic() > until:
                raise HttpError("overloaded", f"{self.label}: an answer that does not end; try again later")
        return b"".join(parts)


def _refusal(label: str, status: int) -> HttpError:
    if status in _TOO_MUCH:
        return HttpError("overloaded", f"{label}: could not answer in time (HTTP {status})", status)
    return HttpError("status", f"{label}: refused the request (HTTP {status}); try again later", status)


def wait_asked_for(answer: Answer) -> float | None:
    """Seconds that a server asks to wait: Retry-After in seconds or as a date, or in words; None where it does not.

    A date is taken relative to the server's own clock where it tells it.
    """
    text = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    until = _date(text)
    if until is not None:
        now = _date(answer.headers.get("Date", "")) or datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    words = _ASKED_TO_WAIT.search(answer.content[:4096].decode("utf-8", errors="replace"))
    return float(words[1]) if words else None


def _date(text: str) -> datetime | None:
    """The time in an HTTP header; None where it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _joined(url: str, href: str) -> str:
    """An address relative to another; unchanged where it cannot be taken apart, so that it is refused later."""
    try:
        return urljoin(url, href)
    except ValueError:
        return href


def without_netrc(request: Any) -> Any:
    """An `auth` for requests that adds nothing, so that the user's netrc stays out of them."""
    return request
