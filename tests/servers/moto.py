"""A real emulator of S3 on loopback, of this process's own; what `install.sh` puts in place."""

import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from servers.azurite import SERVERS

ABSENT = "run `bash tests/servers/install.sh`"

_PROGRAM = SERVERS / "moto" / "bin" / "moto_server"
_LISTENS = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_START_S = 60.0


def is_installed() -> bool:
    """Is there all that `serve_moto` needs?"""
    return _PROGRAM.is_file()


@dataclass(frozen=True, slots=True)
class Moto:
    """A running S3 service."""

    url: str

    def create(self, bucket: str) -> None:
        """Make a bucket."""
        self._put(bucket, b"")

    def upload(self, bucket: str, name: str, content: bytes) -> None:
        """Put an object into a bucket."""
        self._put(f"{bucket}/{quote(name)}", content)

    def _put(self, path: str, content: bytes) -> None:
        # Nothing is checked of a signature but whose it says it is, and who may write is whoever signs at all.
        credential = "AKIAEXAMPLE/20240101/us-east-1/s3/aws4_request"
        signature = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00"
        # Without a type it would be taken for a form, of which nothing is left.
        headers = {"Authorization": signature, "Content-Type": "image/tiff"}
        request = urllib.request.Request(f"{self.url}/{path}", data=content, method="PUT", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200


@contextmanager
def serve_moto() -> Iterator[Moto]:
    """An S3 service; it is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="geossl-moto-") as folder:
        log = Path(folder, "moto.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [_PROGRAM, "-H", "127.0.0.1", "-p", "0"],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield Moto(_url(process, log))
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where the service listens, once it does."""
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        found = _LISTENS.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
        threading.Event().wait(0.05)
    raise RuntimeError(f"moto does not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
