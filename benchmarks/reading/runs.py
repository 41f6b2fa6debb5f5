"""The methods, and one run of one of them in a process of its own."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from reading.server import Asked, Server
from reading.workers.work import Job

WORKERS = Path(__file__).parent / "workers"
LIMIT_S = 1800.0
"""Longest run of one method."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Method:
    """One way of reading windows."""

    name: str
    script: str
    """File of `workers`."""
    python: Literal["own", "peers"]
    """Whose interpreter runs it."""
    extra: dict[str, Any] = field(default_factory=dict)
    one_in: int = 1
    """Only the first of so many windows are read, for what is slow."""


OURS = Method(name="geossl", script="geossl_reads.py", python="own")
METHODS = (
    OURS,
    Method(
        name="rasterio, 32 threads, by window",
        script="rasterio_threads.py",
        python="peers",
        extra={"threads": 32, "chunk": 1},
    ),
    Method(
        name="rasterio, 32 threads, by file",
        script="rasterio_threads.py",
        python="peers",
        extra={"threads": 32, "chunk": 25},
    ),
    Method(
        name="async-geotiff + obstore, 64 reads",
        script="async_geotiff_reads.py",
        python="peers",
        extra={"concurrency": 64},
    ),
    Method(
        name="stackstac, by block, 64 threads",
        script="stackstac_stacks.py",
        python="peers",
        extra={"threads": 64, "together": 50},
    ),
    Method(
        name="odc-stac, by window, 16 at once",
        script="odc_stac_loads.py",
        python="peers",
        extra={"threads": 16},
        one_in=4,
    ),
    Method(
        name="odc-stac, by block, 64 threads",
        script="odc_stac_blocks.py",
        python="peers",
        extra={"threads": 64, "together": 50},
        one_in=2,
    ),
)
LIMITS = (
    Method(name="transfer", script="limits.py", python="own", extra={"what": "transfer"}),
    Method(name="decode", script="limits.py", python="own", extra={"what": "decode", "whole": False}),
    Method(name="decode whole", script="limits.py", python="own", extra={"what": "decode", "whole": True}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of a method cost."""

    windows: int
    seconds: float
    cpu_s: float
    peak_mb: float = float("nan")
    start_mb: float = float("nan")
    server_cpu_s: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    sums: list[list[int]] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    """Windows done so far, and MB resident then."""
    used: dict[str, float] = field(default_factory=dict)
    """Seconds of processor time by function, of a sampled run."""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians over runs; of a window unless the name says otherwise."""

    windows: int
    per_second: float
    cpu_ms: float
    server_ms: float
    peak_mb: float
    start_mb: float
    requests: float
    mb: float
    headers_mb: float
    """Of it, in answers that begin at the first byte of a file."""


def cost(runs: list[Run]) -> Cost:
    """Medians of runs of one method over the same windows."""
    n = runs[0].windows
    return Cost(
        windows=n,
        per_second=median(n / run.seconds for run in runs),
        cpu_ms=median(run.cpu_s / n * 1e3 for run in runs),
        server_ms=median(run.server_cpu_s / n * 1e3 for run in runs),
        peak_mb=median(run.peak_mb for run in runs),
        start_mb=median(run.start_mb for run in runs),
        requests=median(len(run.asked) / n for run in runs),
        mb=median(sum(asked.nbytes for asked in run.asked) / n / 1e6 for run in runs),
        headers_mb=median(
            sum(asked.nbytes for asked in run.asked if asked.range.startswith("bytes=0-")) / n / 1e6 for run in runs
        ),
    )


class RunError(Exception):
    """A method that did not come to an end; the last line of what it said."""


def run_once(method: Method, job: Job, python: str, server: Server | None) -> Run:
    """Run a method over a job in a fresh process, with nothing known from earlier. RunError where it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = Path(scratch) / "job.json", Path(scratch) / "result.json"
        fields = asdict(job) | {"result": str(paths[1]), "extra": {**method.extra, **job.extra}}
        paths[0].write_text(json.dumps(fields), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "CPL_"))}
        environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
        environment |= {"XDG_CACHE_HOME": scratch, "TMPDIR": scratch}
        before = server.cpu_s() if server else 0.0
        if server:
            server.asked()
        try:
            done = subprocess.run(
                [python, str(WORKERS / method.script), str(paths[0])],
                env=environment,
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RunError(f"did not end within {LIMIT_S:g} s") from None
        if done.returncode or not paths[1].is_file():
            raise RunError(_cause(done.returncode, done.stderr.strip().splitlines()))
        answer = json.loads(paths[1].read_text(encoding="utf-8"))
        asked = server.asked() if server else []
        after = server.cpu_s() if server else 0.0
    return Run(windows=len(job.windows), server_cpu_s=after - before, asked=asked, **answer)


def _cause(code: int, said: list[str]) -> str:
    """One line for a process that failed: the crash that Python tells of, else the last it said."""
    fatal = [line for line in said if line.startswith("Fatal Python error")]
    return f"ended with {code}: {(fatal or said or [''])[-1][:300]}"
