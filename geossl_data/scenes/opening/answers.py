"""Answers: what one try at a range of a file can bring, and what a status that is no success means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geossl_data.scenes import http

Kind = Literal["missing", "forbidden", "redirect", "busy", "slow", "broken", "unreachable", "page", "final"]
"""busy: asks for less; slow: no answer in time; broken: no whole answer; page: a web page instead of a file; final:
asking again would not help."""

_BUSY = (429, 503)
_SLOW = (408, 504)
_PASSING = (425, 500, 502)
_MISSING = (404, 410)
_FORBIDDEN = (401, 403)


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of a file as they came."""

    first: int
    """Where in the file they begin."""
    data: bytes | bytearray
    file_nbytes: int | None
    """Size of the file; None where nobody says."""
    etag: str | None
    """What changes when the file does; None where nobody says."""
    is_range: bool = True
    """False for the whole file, where a range was asked for."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A try that brought nothing; the text holds no secret."""

    kind: Kind
    text: str
    wait_s: float | None = None
    """Seconds that the server asks to wait; None where it does not."""


def refused(status: int, headers: Mapping[str, str], words: bytes) -> Failed:
    """What an answer that is no success means; words: how its body begins."""
    text, kind = f"(HTTP {status})", _kind(status)
    match kind:
        case "missing":
            return Failed(kind, f"there is no such file {text}")
        case "forbidden":
            return Failed(kind, f"the server refuses to hand it out {text}")
        case "busy" | "slow" | "broken":
            wait_s = http.wait_asked_for(http.Answer(status, headers, words))
            return Failed(kind, f"the server could not answer {text}; try again later", wait_s)
    return Failed("final", f"the server refused the request {text}")


def _kind(status: int) -> Kind:
    if status in _MISSING:
        return "missing"
    if status in _FORBIDDEN:
        return "forbidden"
    if status in _BUSY:
        return "busy"
    if status in _SLOW:
        return "slow"
    return "broken" if status in _PASSING or status >= 505 or 200 <= status < 300 else "final"
