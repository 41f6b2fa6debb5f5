"""Stores: ranges of files in S3, Google Cloud Storage and Azure, through obstore.

Credentials, endpoint and region come from the environment, by the names that obstore knows.
"""

import asyncio
import os
import re
from typing import Any
from urllib.parse import unquote

from geossl_data.scenes.hrefs import split
from geossl_data.scenes.opening.answers import Answer, Failed, refused
from geossl_data.version import VERSION

SCHEMES = ("s3", "gs", "az", "abfs")
CONNECT_S = 10.0
EODATA_URL = "https://eodata.dataspace.copernicus.eu"
"""Where the bucket eodata of Copernicus Data Space is, unless the environment names an endpoint."""

_LONGEST_S = 600
_STATED_STATUS = re.compile(r"status code: (\d{3})")
_BEYOND = re.compile(r"object was only (\d+) bytes|<ActualObjectSize>(\d+)|InvalidRange|status code: 416")
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google\.internal|credential", re.IGNORECASE)
_UNREACHABLE = "kind: Connect"
_AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": (),
    "az": _AZURE_ENDPOINTS,
    "abfs": _AZURE_ENDPOINTS,
}
_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
_AZURE_NEEDS = f"{_ACCOUNT} and AZURE_STORAGE_ACCOUNT_KEY"
NEEDS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_SERVICE_ACCOUNT, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": _AZURE_NEEDS,
    "abfs": _AZURE_NEEDS,
}


class Stores:
    """Object stores by bucket or container, opened when they are asked for."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    async def attempt(self, url: str, start: int, nbytes: int, limit_s: float) -> Answer | Failed:
        """What one request for a range brings within `limit_s`; empty where the file ends before `start`."""
        import obstore
        from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

        parts = split(url)
        if parts is None or not parts.netloc:
            return Failed("final", "is not a clean address")
        store = self._store(parts.scheme, parts.netloc)
        if isinstance(store, Failed):
            return store
        path = unquote(parts.path).lstrip("/")
        try:
            async with asyncio.timeout(limit_s):
                result = await obstore.get_async(store, path, options={"range": (start, start + nbytes)})
                data = bytes(await result.bytes_async())
        except TimeoutError:
            return Failed("slow", "no answer in time; try again later")
        except (FileNotFoundError, NotFoundError):
            return Failed("missing", "there is no such object (HTTP 404)")
        except (PermissionDeniedError, UnauthenticatedError):
            return Failed("forbidden", f"the store refuses to hand it out; set {NEEDS[parts.scheme]}")
        except (BaseError, OSError, ValueError) as error:
            return _refused(str(error), parts.scheme, start)
        meta = result.meta
        return Answer(result.range[0], data, meta["size"], (meta["e_tag"] or "").removeprefix("W/") or None)

    def _store(self, scheme: str, bucket: str) -> Any:
        """A bucket, open; Failed where there is no opening it."""
        global _OPENED_BY
        if _OPENED_BY not in (None, os.getpid()):
            # The threads of the library stay behind in the parent, and nobody would ever answer.
            return Failed("final", "object stores cannot be read in a forked process; start it with spawn")
        name = f"{scheme}://{bucket}"
        if name not in self._open:
            account, named = _account_of(bucket), os.environ.get(_ACCOUNT)
            if account is not None and named and account != named:
                return Failed("redirect", f"lies in another account than {_ACCOUNT} names, whose credentials are set")
            _OPENED_BY = os.getpid()
            store = open_bucket(scheme, name)
            if store is None:
                return Failed("final", f"cannot be opened as an object store; set {NEEDS[scheme]}")
            self._open[name] = store
        return self._open[name]


_OPENED_BY: int | None = None
"""The process in which object stores were opened first; None for none."""


def open_bucket(scheme: str, name: str, *, retries: int = 0) -> Any:
    """A bucket or container as obstore has it, `scheme://name`; None where there is no opening it.

    retries: how often obstore itself repeats a request that failed.
    """
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    make: Any = from_url
    endpoints = [os.environ[variable] for variable in _ENDPOINTS[scheme] if os.environ.get(variable)]
    options: dict[str, Any] = {}
    if name == "s3://eodata":
        endpoints = endpoints or [EODATA_URL]
    if scheme == "s3" and endpoints:
        options["endpoint"] = endpoints[0]
    if scheme == "s3" and os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("yes", "true", "1"):
        options["skip_signature"] = True
    try:
        return make(
            name,
            client_options={
                "timeout": f"{_LONGEST_S}s",
                "connect_timeout": f"{CONNECT_S:g}s",
                "user_agent": f"geossl/{VERSION}",
                "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints),
            },
            # `access` repeats by itself, so that repeats count against its deadline and the limit of the host.
            retry_config={"max_retries": retries},
            **options,
        )
    except (BaseError, ValueError, TypeError):
        return None


def _refused(text: str, scheme: str, start: int) -> Answer | Failed:
    """What an error of an object store means, told from its text, which is not passed on."""
    beyond, stated = _BEYOND.search(text), _STATED_STATUS.search(text)
    if beyond is not None:
        size = beyond[1] or beyond[2]
        return Answer(start, b"", int(size) if size else None, None)
    if _NO_CREDENTIALS.search(text):
        return Failed("forbidden", f"no credentials for this store; set {NEEDS[scheme]}")
    if stated is not None:
        return refused(int(stated[1]), {}, b"")
    if _UNREACHABLE in text:
        return Failed("unreachable", "the store cannot be reached; check the network and its endpoint")
    return Failed("broken", "an answer of the store was not whole; try again later")


def _account_of(bucket: str) -> str | None:
    """The account that an address in Azure's long form names, container@account.host; None in the short one."""
    _, at, host = bucket.partition("@")
    return host.partition(".")[0] if at else None
