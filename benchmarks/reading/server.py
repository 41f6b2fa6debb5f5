"""nginx on loopback: a front that waits before every answer, and behind it a server of files that counts."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULES = Path("/usr/lib/nginx/modules")
NEEDED = ("ndk_http_module.so", "ngx_http_lua_module.so")
ABSENT = "needs nginx with the lua module; on Debian: apt-get install nginx-light libnginx-mod-http-lua"
_CONFIGURATION = """
{user}
{modules}
worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000; default_type image/tiff;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  log_format counted '$request_method $status $body_bytes_sent $uri $http_range';
  upstream files {{ server unix:{home}/files.sock; keepalive 512; }}
  server {{ listen unix:{home}/files.sock; root {root}; }}
  server {{
    listen 127.0.0.1:{port};
    access_log {home}/access.log counted;
    location / {{
      access_by_lua_block {{ ngx.sleep({delay_s}) }}
      proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering on; proxy_buffers 16 64k; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that the server has answered."""

    method: str
    status: int
    nbytes: int
    """Of the body."""
    path: str
    range: str
    """As the header has it, "-" for none."""


@dataclass(slots=True)
class Server:
    """A running nginx."""

    url: str
    process: int
    log: Path
    _read: int = 0

    def asked(self) -> list[Asked]:
        """The requests answered since the last call."""
        # A client may have an answer before its line is in the log.
        time.sleep(0.3)
        with self.log.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        self._read += len(content)
        lines = (line.split(" ", 4) for line in content.decode("utf-8", "replace").splitlines())
        return [Asked(method, int(status), int(size), path, wanted) for method, status, size, path, wanted in lines]

    def cpu_s(self) -> float:
        """Processor time that nginx has used so far."""
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text(encoding="ascii").split()
        return sum(_cpu_s(int(child)) for child in children)


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(folder: Path, *, delay_s: float) -> Iterator[Server]:
    """nginx in front of a folder, every answer `delay_s` late; ended when the block ends. Exits where it is missing."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None or not all((MODULES / name).is_file() for name in NEEDED):
        sys.exit(ABSENT)
    with tempfile.TemporaryDirectory() as scratch:
        home, port = Path(scratch), _free_port()
        # The worker of a root's nginx is somebody else, who may not read the folder.
        text = _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            modules="\n".join(f"load_module {MODULES / name};" for name in NEEDED),
            home=home,
            root=folder.resolve(),
            port=port,
            delay_s=delay_s,
        )
        (home / "nginx.conf").write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")],
            stderr=subprocess.PIPE,
        )
        try:
            _wait(process, port)
            yield Server(f"http://127.0.0.1:{port}", process.pid, home / "access.log")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(200):
        if process.poll() is not None:
            message = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
            sys.exit(f"nginx does not start: {' '.join(message.split())[:300]}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("nginx does not answer within 10 s")
