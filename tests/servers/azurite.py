"""A real emulator of Azure's blobs on loopback, of this process's own, and the signatures that it checks.

What `install.sh` puts in place. Accounts and keys are made up anew for each emulator. Source of the strings to sign:
"Create a service SAS" and "Create an account SAS" in the documentation of Azure Storage, version 2020-12-06.
"""

import base64
import hashlib
import hmac
import os
import re
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

ROOT = Path(__file__).resolve().parents[2]
SERVERS = Path(os.environ.get("GEOSSL_SERVERS") or ROOT / ".servers")
ABSENT = "run `bash tests/servers/install.sh`"

_PROGRAM = SERVERS / "node_modules" / ".bin" / "azurite-blob"
_LISTENS = re.compile(r"successfully listens on http://127\.0\.0\.1:(\d+)")
_START_S = 60.0
_VERSION = "2020-12-06"


def is_installed() -> bool:
    """Is there all that `serve_azurite` needs?"""
    return _PROGRAM.is_file()


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running blob service with accounts of its own."""

    url: str
    keys: Mapping[str, str] = field(repr=False)
    """Account → key, base64."""
    log: Path

    def container(self, account: str, container: str) -> str:
        """The address of a container."""
        return f"{self.url}/{account}/{container}"

    def container_sas(self, account: str, container: str, *, valid_s: float = 3600.0, permissions: str = "rl") -> str:
        """A signature for all blobs of a container, as a query without question mark."""
        expiry = _stamp(valid_s)
        resource = f"/blob/{account}/{container}"
        fields = [permissions, "", expiry, resource, "", "", "", _VERSION, "c", "", "", "", "", "", "", ""]
        query = {"sv": _VERSION, "sr": "c", "sp": permissions, "se": expiry}
        return urlencode(query | {"sig": self._signature(account, fields)}, quote_via=quote)

    def account_sas(self, account: str, *, valid_s: float = 600.0) -> str:
        """A signature that may do anything in an account."""
        expiry, may = _stamp(valid_s), "rwdlac"
        fields = [account, may, "b", "sco", "", expiry, "", "", _VERSION, "", ""]
        query = {"sv": _VERSION, "ss": "b", "srt": "sco", "sp": may, "se": expiry}
        return urlencode(query | {"sig": self._signature(account, fields)}, quote_via=quote)

    def create(self, account: str, container: str) -> None:
        """Make a container that nobody may read without a signature."""
        self._put(f"{self.container(account, container)}?restype=container&{self.account_sas(account)}", b"", {})

    def upload(self, account: str, container: str, name: str, content: bytes) -> None:
        """Put a blob into a container."""
        url = f"{self.container(account, container)}/{quote(name)}?{self.account_sas(account)}"
        self._put(url, content, {"x-ms-blob-type": "BlockBlob"})

    def _put(self, url: str, content: bytes, headers: Mapping[str, str]) -> None:
        request = urllib.request.Request(url, data=content, method="PUT", headers={"x-ms-version": _VERSION, **headers})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 201

    def _signature(self, account: str, fields: list[str]) -> str:
        key = base64.b64decode(self.keys[account])
        return base64.b64encode(hmac.new(key, "\n".join(fields).encode(), hashlib.sha256).digest()).decode()


def _stamp(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def serve_azurite(*accounts: str) -> Iterator[Azurite]:
    """A blob service with these accounts; it is gone when the block ends."""
    keys = {account: base64.b64encode(os.urandom(32)).decode() for account in accounts}
    with tempfile.TemporaryDirectory(prefix="geossl-azurite-") as folder:
        log = Path(folder, "azurite.log")
        command = [_PROGRAM, "--blobHost", "127.0.0.1", "--blobPort", "0"]
        environment = os.environ | {"AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in keys.items())}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"],
                env=environment,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield Azurite(f"http://127.0.0.1:{_port(process, log)}", keys, log)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """The port that the service has chosen, once it listens there."""
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        found = _LISTENS.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"azurite does not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
