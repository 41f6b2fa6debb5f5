"""A token service and a blob host on loopback that misbehave as they are told, and note what they were asked."""

import json
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from geossl_data.scenes.providers import TokenService

CANARY = "CANARYbdf0c2"
"""Stands in every token and key; must show up nowhere."""


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    path: str
    query: str
    headers: dict[str, str]


@dataclass
class Reply:
    """What to answer instead of a file.

    cut: send so many bytes of what was announced. stall: and then nothing. drip_s: pause after each byte. headers: a
    name with an empty value is left out.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    cut: int | None = None
    stall: bool = False
    drip_s: float = 0.0


Behave = Callable[[Seen, int], Reply | None]


def normal(_seen: Seen, _number: int) -> None:
    """No misbehaviour."""


class Cloud:
    """Tokens at `{url}/{nonce}/sas/{account}/{container}`, blobs at `{url}/{nonce}/{account}/{container}/{path}`.

    The nonce keeps what one test leaves in a cache from another that gets the same port.
    """

    def __init__(self, folder: Path, server: ThreadingHTTPServer) -> None:
        self.folder = folder
        self.root = f"/{uuid.uuid4().hex[:8]}"
        self.host = f"http://127.0.0.1:{server.server_port}"
        self.url = self.host + self.root
        self.generation = 1
        self.valid_s = 3600.0
        self.clock_ahead_s = 0.0
        """How far the clock of the token service is ahead of ours."""
        self.tells_time = True
        self.forbidden: set[str] = set()
        """Accounts that refuse every token."""
        self.needs_signature = True
        self.on_token: Behave = normal
        self.on_blob: Behave = normal
        self.tokens: list[Seen] = []
        self.blobs: list[Seen] = []
        self.others: list[Seen] = []
        self.n_dripped = 0
        """Bytes sent one by one."""
        self.etag = ""
        """What every file is sent with; nothing where it is empty."""
        self.under_way = 0
        """Requests for blobs that are not answered yet."""
        self.most_under_way = 0
        self.released = threading.Event()
        self._lock = threading.Lock()

    def service(self, *containers: tuple[str, str], **changes: Any) -> TokenService:
        """The token service as a catalog's entry would name it."""
        chosen = containers or (("optical", "s2"), ("radar", "s1"))
        prefixes = {f"{self.url}/{account}/{container}": (account, container) for account, container in chosen}
        return TokenService(**({"url": f"{self.url}/sas", "containers": prefixes} | changes))

    def href(self, path: str, account: str = "optical", container: str = "s2") -> str:
        return f"{self.url}/{account}/{container}/{path}"

    def token(self) -> str:
        expiry = datetime.now(UTC) + timedelta(seconds=self.clock_ahead_s + self.valid_s)
        return f"se={quote(expiry.isoformat())}&sp=rl&sig={CANARY}{self.generation}"

    def answer(self, seen: Seen) -> Reply:
        below = seen.path.removeprefix(self.root)
        if below == seen.path:
            with self._lock:
                self.others.append(seen)
            return Reply(404)
        account = below.split("/")[1]
        if account == "sas":
            with self._lock:
                self.tokens.append(seen)
                number = len(self.tokens)
            told = self.on_token(seen, number)
            if told is not None:
                return told
            expiry = datetime.now(UTC) + timedelta(seconds=self.clock_ahead_s + self.valid_s)
            content = {"token": self.token(), "msft:expiry": expiry.isoformat()}
            return Reply(content=json.dumps(content).encode())
        with self._lock:
            self.blobs.append(seen)
            number = len(self.blobs)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return self._blob(seen, account, number)
        finally:
            with self._lock:
                self.under_way -= 1

    def _blob(self, seen: Seen, account: str, number: int) -> Reply:
        told = self.on_blob(seen, number)
        if told is not None:
            return told
        is_current = seen.query.endswith(f"sig={CANARY}{self.generation}") and account not in self.forbidden
        if self.needs_signature and not is_current:
            return Reply(403, content=b"<Error>AuthenticationFailed</Error>")
        return self.file(seen)

    def file(self, seen: Seen) -> Reply:
        """The range of a file that was asked for."""
        path = self.folder / unquote(seen.path).removeprefix(self.root).split("/", 3)[-1]
        if not path.is_file():
            return Reply(404)
        content = path.read_bytes()
        headers = {"ETag": self.etag}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.headers.get("range", ""))
        if wanted is None:
            return Reply(headers=headers, content=content)
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        if first >= len(content):
            return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Reply(206, headers, content=content[first : last + 1])


@contextmanager
def serve_cloud(folder: Path) -> Iterator[Cloud]:
    """A cloud that serves the files of a folder; it ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each answer waits for the acknowledgement of its headers.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            seen = Seen(path, query, {name.lower(): value for name, value in self.headers.items()})
            reply = cloud.answer(seen)
            self.send_response_only(reply.status)
            headers = {"Content-Length": str(len(reply.content)), "Accept-Ranges": "bytes"}
            if cloud.tells_time:
                now = datetime.now(UTC) + timedelta(seconds=cloud.clock_ahead_s)
                headers["Date"] = format_datetime(now, usegmt=True)
            for name, value in (headers | reply.headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if reply.drip_s:
                for byte in reply.content:
                    self.wfile.write(bytes([byte]))
                    cloud.n_dripped += 1
                    cloud.released.wait(reply.drip_s)
                return
            self.close_connection = self.close_connection or reply.cut is not None
            self.wfile.write(reply.content[: reply.cut])
            if reply.stall:
                self.wfile.flush()
                cloud.released.wait(30)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True
        connections: ClassVar[set[socket.socket]] = set()

        def process_request(self, request: Any, client_address: Any) -> None:
            self.connections.add(request)
            super().process_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            self.connections.discard(request)
            super().shutdown_request(request)

        def hang_up(self) -> None:
            """End what is kept alive: another server may get the same port."""
            for connection in list(self.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is what many tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        cloud = Cloud(folder, server)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield cloud
        finally:
            cloud.released.set()
            server.shutdown()
            server.hang_up()
            thread.join(timeout=5)
