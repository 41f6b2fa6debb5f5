"""Secrets kept out of what is shown: signatures, passwords and keys in log records and in tracebacks of our bugs."""

import logging
import re
import traceback
from typing import Any

_QUERY = re.compile(r"\?[^\s'\"]*")
_USER = re.compile(r"://[^/\s'\"@]*@")
_SIGNATURE = re.compile(
    r"(?i)\b(sig|signature|token|x-amz-signature|x-amz-security-token|x-goog-signature)=[^&\s'\",]+"
)
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|ocp-apim-subscription-key|x-api-key|api-key|(?:set-)?cookie)"
    r"(b?['\"]?\s*[:=,]\s*)(b?'[^']*'|b?\"[^\"]*\"|[^\r\n]+)"
)

LOGGERS = (
    *(f"rasterio{part}" for part in ("", "._base", "._env", "._err", "._features", "._io", "._warp", "._vsiopener")),
    *(f"rasterio.{part}" for part in ("env", "session", "vrt", "warp")),
    *(f"urllib3{part}" for part in ("", ".connection", ".connectionpool", ".poolmanager", ".response", ".util.retry")),
    *(f"requests{part}" for part in ("", ".adapters", ".auth", ".sessions")),
    *(f"pystac_client{part}" for part in ("", ".client", ".collection_client", ".item_search", ".mixins")),
    *(f"pystac_client.{part}" for part in ("stac_api_io", "conformance")),
    "aiohttp.client",
    "aiohttp.internal",
    "asyncio",
)
"""Loggers of the libraries through which addresses and headers pass. A filter holds for one logger, not for those
below it, hence the list."""


def redact_text(text: str) -> str:
    """A text without the queries and user names of the addresses in it, and without values of telling headers."""
    for pattern, kept in ((_QUERY, ""), (_USER, "://"), (_SIGNATURE, r"\1=…")):
        text = pattern.sub(kept, text)
    return _HEADER.sub(_without_value, text)


def _without_value(header: re.Match[str]) -> str:
    value = header[3].removeprefix("b")
    quote = value[0] if value[0] in "'\"" else ""
    return f"{header[1]}{header[2]}{quote}…{quote}"


def redacted_traceback(error: BaseException) -> str:
    """The traceback that Python would print for an error, redacted."""
    return redact_text("".join(traceback.format_exception(error)))


class Redactor(logging.Filter):
    """Lets every log record pass, redacted: its message and the traceback that it carries."""

    def filter(self, record: logging.LogRecord) -> bool:
        redact_record(record)
        return True


def redact_record(record: logging.LogRecord) -> logging.LogRecord:
    """The same record with nothing secret left in it; whoever formats it finds a plain text."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):
        text = str(record.msg)
    record.msg, record.args = redact_text(text), ()
    if record.exc_info:
        error = record.exc_info[1]
        record.exc_text = None if error is None else redacted_traceback(error).rstrip("\n")
        record.exc_info = None
    return record


def guard_loggers() -> None:
    """Redact what the libraries of LOGGERS log, whoever listens; asked again it changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_REDACTOR)


_REDACTOR = Redactor()


class RedactedRecord(logging.LogRecord):
    """A log record that never held anything else: for `logging.setLogRecordFactory` in a program of our own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        redact_record(self)
