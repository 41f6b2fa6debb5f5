"""Signing: an href that opens, made from the unsigned one that is kept in files.

The only place where tokens exist; they stay in this process's memory and go nowhere but into the address to open.
"""

import os
import threading
import time
from typing import Any
from urllib.parse import urlunsplit

from geossl_data.errors import ReadError
from geossl_data.scenes.hrefs import BLOB_HOST, split
from geossl_data.scenes.items import parse_time

TOKEN_URL_VARIABLE = "PC_SDK_SAS_URL"  # noqa: S105 - a name, not a secret
"""Environment variable that names another token service; the same as Microsoft's own client uses."""
SUBSCRIPTION_VARIABLE = "PC_SDK_SUBSCRIPTION_KEY"
"""Environment variable with an optional key, which lifts limits of the token service."""

_TOKEN_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/token"  # noqa: S105 - an address, not a secret
_SIGNED_CONTAINERS = frozenset({("sentinel2l2a01", "sentinel2-l2"), ("sentinel1euwestrtc", "sentinel1-grd-rtc")})
"""(storage account, container) of the Planetary Computer that a token is ever asked for."""
_REFRESH_S = 60.0
"""A token that lives shorter than this is not used any more."""
_ATTEMPTS = 3
_PAUSE_AFTER_FAILURE_S = 30.0
_TIMEOUT_S = (10.0, 30.0)

_TOKEN_LOCK = threading.Lock()
_TOKENS: dict[str, tuple[str, float]] = {}
_FAILURES: dict[str, tuple[str, float]] = {}


def sign(href: str) -> str:
    """An href that opens: with a fresh token where it lies in a container of the Planetary Computer, else unchanged.

    Tokens are kept per container and process and are asked for by one thread at a time. Raises ReadError when the
    token service does not answer, or answers with a token that has already expired; further calls within half a
    minute then fail at once instead of asking again.
    """
    parts = split(href)
    if parts is None or parts.scheme != "https" or not (parts.hostname or "").endswith(BLOB_HOST):
        return href
    container = (str(parts.hostname).removesuffix(BLOB_HOST), parts.path.lstrip("/").partition("/")[0])
    if container not in _SIGNED_CONTAINERS:
        return href
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return f"{bare}?{_token('/'.join(container))}"


def _token(container: str) -> str:
    with _TOKEN_LOCK:
        now = time.time()
        token, expiry = _TOKENS.get(container, ("", 0.0))
        if expiry - now >= _REFRESH_S:
            return token
        reason, until = _FAILURES.get(container, ("", 0.0))
        if now < until:
            raise ReadError(reason)
        try:
            _TOKENS[container] = _fresh_token(container)
        except ReadError as error:
            _FAILURES[container] = (str(error), now + _PAUSE_AFTER_FAILURE_S)
            raise
        return _TOKENS[container][0]


def _fresh_token(container: str) -> tuple[str, float]:
    """Token and its expiry in seconds of the Unix epoch, asked for over the network."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    service = os.environ.get(TOKEN_URL_VARIABLE, _TOKEN_URL).rstrip("/")
    key = os.environ.get(SUBSCRIPTION_VARIABLE)
    retry = Retry(total=4, read=1, backoff_factor=0.8, status_forcelist=(429, 500, 502, 503, 504), retry_after_max=60)
    with requests.Session() as session:
        session.auth = without_netrc
        session.mount(service, HTTPAdapter(max_retries=retry))
        session.headers.update({"Ocp-Apim-Subscription-Key": key} if key else {})
        for _ in range(_ATTEMPTS):
            try:
                answer = session.get(f"{service}/{container}", timeout=_TIMEOUT_S, allow_redirects=False)
                answer.raise_for_status()
                content = answer.json()
                token, expiry = str(content["token"]), parse_time(content["msft:expiry"]).timestamp()
            except (requests.RequestException, ValueError, TypeError, KeyError) as error:
                raise ReadError(f"no access token for {container}: {type(error).__name__}; try again later") from None
            if expiry - time.time() >= _REFRESH_S:
                return token, expiry
    raise ReadError(f"the token service hands out expired tokens for {container}; check this machine's clock")


def without_netrc(request: Any) -> Any:
    """An `auth` for requests that adds nothing, so that the user's netrc stays out of them."""
    return request
