"""A folder served over HTTP with byte ranges, as an object store serves it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from loopback import serve

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The URL, without a slash at its end, below which a folder's files are served while the block runs."""
    root = folder.resolve()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._serve(with_body=False)

        def do_GET(self) -> None:
            self._serve(with_body=True)

        def _serve(self, *, with_body: bool) -> None:
            path = (root / self.path.partition("?")[0].lstrip("/")).resolve()
            if not path.is_relative_to(root) or not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            size, wanted = len(content), _RANGE.fullmatch(self.headers.get("Range", ""))
            self.send_response(200 if wanted is None else 206)
            if wanted is not None:
                first = int(wanted[1])
                content = content[first : int(wanted[2]) + 1 if wanted[2] else size]
                self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", "image/tiff")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    with serve(Handler) as server:
        yield server.url
