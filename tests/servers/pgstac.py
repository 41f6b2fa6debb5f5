"""A real STAC API on loopback: PostgreSQL with pgstac, and stac-fastapi before it, of this process's own.

What `install.sh` puts in place. All of it ends with this process, however that ends: the servers are told by the kernel
when their parent is gone.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SERVERS = Path(os.environ.get("GEOSSL_SERVERS") or ROOT / ".servers")
ABSENT = "run `bash tests/servers/install.sh`"

_PYTHON = SERVERS / "venv" / "bin" / "python"
_TOOL = Path(__file__).with_name("pgstac_tool.py")
_START_S = 120.0
_STOP_S = 20.0


def is_installed() -> bool:
    """Is there all that `serve_pgstac` needs?"""
    return _PYTHON.is_file() and _postgres() is not None


@dataclass(frozen=True, slots=True)
class Pgstac:
    """A running STAC API over its own database."""

    url: str
    folder: Path
    """Scratch, logs and the socket of the database."""
    environment: Mapping[str, str] = field(repr=False)
    """What a client of the database needs."""

    def load(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Add items, and the collections that they name; an item of the same id is replaced."""
        path = self.folder / "items.ndjson"
        path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        self.tool("load", path)

    def tool(self, *arguments: object) -> None:
        """Run a command of pgstac_tool.py."""
        command = [str(_PYTHON), str(_TOOL), *map(str, arguments)]
        done = subprocess.run(
            command, env=dict(self.environment), cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr[-2000:]}")

    def tell_matched(self, yes: bool) -> None:
        """Let answers say how many items match in all, or not."""
        self.sql(f"update pgstac.pgstac_settings set value = '{'on' if yes else 'off'}' where name = 'context'")

    def sql(self, statement: str, *, database: str = "pgstac") -> str:
        """What psql prints for a statement."""
        command = [str(_program("psql")), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
        return subprocess.run(
            command, env=dict(self.environment), capture_output=True, text=True, check=True
        ).stdout.strip()

    def searches(self) -> int:
        """How many searches the server has answered so far."""
        return (self.folder / "api.log").read_text(encoding="utf-8").count(" /search")


@contextmanager
def serve_pgstac(workers: int = 1) -> Iterator[Pgstac]:
    """An empty STAC API of this process's own, gone when the block ends; so many processes answer."""
    owner = "postgres" if os.geteuid() == 0 else None
    with ExitStack() as stack:
        # Not below pytest's folder, which nobody but its owner may enter; PostgreSQL refuses to run as root.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geossl-pgstac-")))
        folder.chmod(0o755)
        database = folder / "database"
        database.mkdir()
        if owner is not None:
            shutil.chown(database, owner)
        host = database / "run"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PGHOST": str(host),
            "PGPORT": "5432",
            "PGUSER": "postgres",
            "PGPASSWORD": "-",
            "PGDATABASE": "pgstac",
        }
        options = ["-D", str(database / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
        user = [f"--reuid={owner}", f"--regid={owner}", "--clear-groups"] if owner is not None else []
        subprocess.run(
            ["setpriv", *user, str(_program("initdb")), *options, "--no-sync"],
            cwd=database,
            check=True,
            capture_output=True,
        )
        host.mkdir()
        if owner is not None:
            shutil.chown(host, owner)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(host),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": "40",
            "jit": "off",
        }
        command = [str(_program("postgres")), "-D", str(database / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # SIGINT is PostgreSQL's fast shutdown: clients are sent away.
        stack.enter_context(_running([*user, *command], signal.SIGINT, folder / "postgres.log", cwd=database))
        served = socket.create_server(("127.0.0.1", 0), backlog=128)
        stack.callback(served.close)
        pgstac = Pgstac(f"http://127.0.0.1:{served.getsockname()[1]}", folder, environment)
        _until(lambda: (host / ".s.PGSQL.5432").exists() and _answers(pgstac), folder / "postgres.log")
        pgstac.sql("create database pgstac", database="postgres")
        pgstac.tool("migrate")
        # asyncpg takes the folder of a socket in a URL only when it is quoted.
        api = environment | {"PGHOST": str(host).replace("/", "%2F")}
        command = [str(_PYTHON), str(_TOOL), "serve", str(served.fileno())]
        inherited = (served.fileno(),)
        for _ in range(workers):
            stack.enter_context(
                _running(command, signal.SIGTERM, folder / "api.log", cwd=folder, env=api, pass_fds=inherited)
            )
        _until(lambda: _pings(pgstac.url), folder / "api.log")
        yield pgstac


@contextmanager
def _running(command: Sequence[str], last: signal.Signals, log: Path, **options: Any) -> Iterator[None]:
    """A process that runs while the block does; `last` asks it to end, as it does when this process is gone."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", last.name.removeprefix("SIG"), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield
    finally:
        process.send_signal(last)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"did not start within {_START_S:.0f} s: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _answers(pgstac: Pgstac) -> bool:
    try:
        return pgstac.sql("select 1", database="postgres") == "1"
    except subprocess.CalledProcessError:
        return False


def _pings(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/_mgmt/ping", timeout=2.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _postgres() -> Path | None:
    """The folder of PostgreSQL's programs, of the newest version that has PostGIS."""
    for programs in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if Path("/usr/share/postgresql", programs.parent.name, "extension/postgis.control").is_file():
            return programs
    return None


def _program(name: str) -> Path:
    folder = _postgres()
    if folder is None:
        raise RuntimeError(f"PostgreSQL with PostGIS is absent; {ABSENT}")
    return folder / name
