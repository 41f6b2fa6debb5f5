"""Signing: an href that opens, made from the unsigned one that is kept in files.

Tokens go nowhere but into the address to open, and only into addresses below the containers that a catalog's entry
names.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import SplitResult, unquote, urlunsplit

from geossl_data.scenes.hrefs import split
from geossl_data.scenes.opening.broker import Broker, BrokerGoneError, ask_broker
from geossl_data.scenes.opening.tokens import Container, Token, Tokens, ask_service, digest, service_url
from geossl_data.scenes.providers import TokenService

_LOG = logging.getLogger(__name__)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_DOTS = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")


class Signer:
    """Unsigned href → href that opens: with a fresh token below the containers of `tokens`, else unchanged.

    tokens: None signs nothing. All signers of a process share its tokens. Sent to another process on this machine, a
    signer asks the process that it came from, so that a tree of processes asks for each token once; where that one is
    gone it asks the token service itself.
    """

    def __init__(self, tokens: TokenService | None, *, broker: str | None = None) -> None:
        self._service = tokens
        self._broker = broker
        self._prefixes = [] if tokens is None else [_prefix(text, name) for text, name in tokens.containers.items()]

    def __repr__(self) -> str:
        containers = ", ".join("/".join(container) for *_, container in self._prefixes)
        return f"Signer({containers})"

    def __reduce__(self) -> "tuple[Callable[..., Signer], tuple[object, ...]]":
        service = self._service
        if service is None:
            return Signer, (None,)
        stated = (service.url, dict(service.containers), service.url_variable, service.key_variable)
        return _signer, (*stated, self._broker or _SHARED.broker_address(service))

    def __call__(self, href: str) -> str:
        """The signed address; what it carried of older signatures is gone. Raises TokenError.

        Addresses elsewhere come back as they are, also those of the same host in another container.
        """
        container, bare = self._container(href)
        return href if container is None else f"{bare}?{self._tokens().token(container).value}"

    def at_once(self, href: str) -> str | None:
        """The signed address, for who must not wait; None where a token has to be waited for."""
        container, bare = self._container(href)
        if container is None:
            return href
        token = self._tokens().held(container)
        return None if token is None else f"{bare}?{token.value}"

    def renewed(self, signed: str) -> str:
        """The address signed anew, after `signed` was refused; the same one where there is no other token for it.

        However many threads come with one refused token, one new token is asked for. Raises TokenError, its kind
        ContainerRefusedError where fresh tokens are refused as well.
        """
        container, bare = self._container(signed)
        if container is None:
            return signed
        self._tokens().refuse(container, digest(signed.partition("?")[2]), bare)
        return self(signed)

    def accepted(self, signed: str) -> None:
        """Note that a signed address was opened, so that a blob that is refused later does not speak for all."""
        container, _ = self._container(signed)
        if container is not None:
            self._tokens().accept(container, signed.partition("?")[2])

    def _tokens(self) -> Tokens:
        assert self._service is not None
        return _SHARED.tokens(self._service, self._broker)

    def _container(self, href: str) -> tuple[Container | None, str]:
        """The container that a token is asked for, None for none, and the address without query and fragment."""
        parts = split(href) if self._prefixes and "://" in href else None
        if parts is None or "@" in parts.netloc or _DOTS.search(unquote(parts.path)):
            return None, href
        for host, path, container in self._prefixes:
            if _host(parts) == host and parts.path.startswith(path):
                return container, urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        return None, href


def _signer(
    url: str,
    containers: Mapping[str, Container],
    url_variable: str | None,
    key_variable: str | None,
    broker: str | None,
) -> Signer:
    tokens = TokenService(url=url, containers=containers, url_variable=url_variable, key_variable=key_variable)
    return Signer(tokens, broker=broker)


Host = tuple[str, str | None, int | None]


def _host(parts: SplitResult) -> Host:
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _prefix(text: str, container: Container) -> tuple[Host, str, Container]:
    """Host and path, up to and with the slash after the container, that the address of a signed blob starts with."""
    parts = split(text)
    assert parts is not None, text
    assert parts.hostname, text
    assert parts.path.strip("/"), text
    return _host(parts), parts.path.rstrip("/") + "/", container


class _Shared:
    """The tokens that this process holds, by token service and the broker that they come from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, str | None], Tokens] = {}
        self._brokers: dict[str, Broker | None] = {}

    def tokens(self, service: TokenService, broker: str | None) -> Tokens:
        url = service_url(service)
        with self._lock:
            own = self._brokers.get(url)
            if own is not None and broker == own.address:
                broker = None
            known = self._tokens.get((url, broker))
            if known is None:
                known = self._tokens[url, broker] = Tokens(partial(_ask, service, broker))
            return known

    def broker_address(self, service: TokenService) -> str | None:
        """Where other processes get this one's tokens; None where this machine allows no socket for it."""
        url, tokens = service_url(service), self.tokens(service, None)
        with self._lock:
            if url not in self._brokers:
                try:
                    self._brokers[url] = Broker(tokens, frozenset(service.containers.values()))
                except OSError as error:
                    _LOG.info("tokens are not shared between processes: %s", error.strerror)
                    self._brokers[url] = None
            broker = self._brokers[url]
            return None if broker is None else broker.address


_SHARED = _Shared()


def _forget() -> None:
    """A fork has none of its parent's threads, which may have held locks: it starts anew."""
    global _SHARED
    _SHARED = _Shared()


os.register_at_fork(after_in_child=_forget)


def _ask(service: TokenService, broker: str | None, container: Container, refused: str) -> Token:
    if broker is not None:
        try:
            return ask_broker(broker, container, refused)
        except BrokerGoneError as error:
            _LOG.info("%s; asking the token service", error)
    return ask_service(service, container)
