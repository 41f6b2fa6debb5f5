"""An HTTP server on this machine, for tests that ask one."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """A client that hangs up is no error of it: the traceback would stand in what another test captures."""

    daemon_threads = True

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return "http://{}:{}".format(*self.server_address[:2])

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> Iterator[Server]:
    """A server that answers while the block runs; all of 127.0.0.0/8 is this machine."""
    with Server((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(timeout=5)
