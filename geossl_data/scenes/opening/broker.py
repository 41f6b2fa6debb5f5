"""Tokens shared by a tree of processes: the first one serves them to its children over a socket, never through a file.

The socket lies in a temporary folder that only its user may enter, and each side looks whose process the other one is.
Messages are a length of four bytes, then JSON.
"""

import json
import os
import shutil
import socket
import socketserver
import struct
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from geossl_data.errors import GeosslError, TokenError
from geossl_data.scenes.opening.tokens import DEADLINE_S, KINDS, Container, Token, Tokens, token_of

_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")
_MAX_NBYTES = 64 * 2**10
_PATIENCE_S = 5.0
"""How long either side waits for a message that should be there."""


class BrokerGoneError(Exception):
    """Nobody serves tokens at an address, or nobody to be trusted."""


class Broker:
    """Serves the tokens of this process until it is closed, at the latest when the process ends.

    containers: those that it serves. Raises OSError where this machine allows no such socket.
    """

    def __init__(self, tokens: Tokens, containers: frozenset[Container]) -> None:
        folder = tempfile.mkdtemp(prefix="geossl-")
        self.address = str(Path(folder, "tokens"))
        try:
            server = _Server(self.address, tokens, containers)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="token-broker", daemon=True
        ).start()
        self._finalizer = weakref.finalize(self, _close, server, folder, os.getpid())

    def close(self) -> None:
        """Stop serving; the socket and its folder are gone."""
        self._finalizer()


def _close(server: "_Server", folder: str, owner: int) -> None:
    """Only the process that made the broker ends it, not a fork of it."""
    if os.getpid() == owner:
        server.shutdown()
        server.server_close()
        shutil.rmtree(folder, ignore_errors=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: str, tokens: Tokens, containers: frozenset[Container]) -> None:
        super().__init__(address, _Conversation)
        self.tokens = tokens
        self.containers = containers

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return is_same_user(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a caller that went away is its own affair, and an error's text could hold what it asked for."""


class _Conversation(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.request.settimeout(_PATIENCE_S)
        _send(self.request, self._answer(_receive(self.request)))

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        container, refused = tuple(question.get("container", ())), str(question.get("refused", ""))
        if container not in self.server.containers:
            return {"error": TokenError.__name__, "text": "no tokens are served for this container"}
        try:
            if refused:
                self.server.tokens.refuse(container, refused, "")
            token = self.server.tokens.token(container)
        except GeosslError as error:
            return {"error": type(error).__name__, "text": str(error)}
        return {"token": token.value, "lifetime_s": token.valid_until - time.monotonic()}


def ask_broker(address: str, container: Container, refused: str) -> Token:
    """A token from the broker at an address; raises TokenError as it says, BrokerGoneError where it does not answer.

    refused: digest of a token of this container that was refused, or nothing.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(address)
            if not is_same_user(connection):
                raise BrokerGoneError(f"{address}: served by another user")
            _send(connection, {"container": container, "refused": refused})
            connection.settimeout(DEADLINE_S + _PATIENCE_S)
            answer = _receive(connection)
            if "error" in answer:
                raise KINDS.get(answer["error"], TokenError)(str(answer["text"]))
            return token_of(str(answer["token"]), float(answer["lifetime_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise BrokerGoneError(f"{address}: no answer") from None


def is_same_user(connection: socket.socket) -> bool:
    """Does the process at the other end belong to our user? Where the system does not tell, the folder has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.getuid())


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(content)) + content)


def _receive(connection: socket.socket) -> dict[str, Any]:
    """The next message; ValueError for what is none, OSError where it does not come."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _MAX_NBYTES:
        raise ValueError(f"a message of {length} bytes")
    message = json.loads(_exactly(connection, length))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def _exactly(connection: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise ConnectionError("a message that stops half way")
        content += part
    return content
