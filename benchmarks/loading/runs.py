"""The data sets, the ways of reading them, and the processes that do it."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Literal, Self

from loading.workers.passes import Ask, Job

WORKERS = Path(__file__).parent / "workers"
SHARD_SAMPLES = 12
"""Samples in a file of a set that has such files, so that each worker of a loader has some of its own."""
OURS = "geossl"

Python = Literal["own", "peers", "streaming"]
"""Whose interpreter: this one, that of the peers, or that of mosaicml-streaming, which pins an old numpy."""
Dates = Literal["all", "one"]
Form = Literal["native", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """One way of storing the samples."""

    name: str
    """Also of its folder."""
    script: str
    """File of `workers`."""
    python: Python = "peers"
    extra: dict[str, Any] = field(default_factory=dict)
    form: Form = "stack"
    """Whether bands are kept at their own resolution and Sentinel-1 in steps of 0.01 dB, or all at 10 m and float32."""
    most: int | None = None
    """So many samples are enough, of a set of which only the size is wanted."""


DATA_SETS = (
    DataSet(name="geossl-npy", script="geossl_batches.py", python="own", extra={"codec": "npy"}, form="native"),
    DataSet(name="geossl-blosc", script="geossl_batches.py", python="own", extra={"codec": "blosc"}, form="native"),
    DataSet(name="geossl-archive", script="geossl_batches.py", python="own", extra={"codec": "archive"}, form="native"),
    DataSet(name="webdataset", script="webdataset_tars.py"),
    DataSet(name="litdata", script="litdata_chunks.py"),
    DataSet(name="mosaicml-streaming", script="mosaicml_streams.py", python="streaming"),
    DataSet(name="zarr-in-tar", script="zarr_tars.py"),
    DataSet(name="geotiff", script="geotiff_files.py"),
)
SETS = {data.name: data for data in DATA_SETS}
SIZED = tuple(
    DataSet(
        name=f"{kind}-{form}",
        script="plain_files.py",
        extra={"format": kind, "native": form == "native"},
        form=form,
        most=16,
    )
    for form, kind in (("native", "npz"), ("native", "zarr"), ("native", "geotiff"), ("stack", "npz"))
)
"""Sets that nobody reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way of reading a data set, whole samples or one of their dates."""

    name: str
    data: str
    """Name of the DataSet."""
    script: str = ""
    """File of `workers`; that of the data set when left out."""
    python: Python | None = None
    dates: Dates = "all"
    extra: tuple[tuple[str, Any], ...] = ()
    one_in: int = 1
    """Only the first of so many samples are read, by what is slow."""

    @property
    def reader(self) -> tuple[str, Python, str]:
        """Script, interpreter and data set: cases that share them share a process."""
        data = SETS[self.data]
        return self.script or data.script, self.python or data.python, self.data


def _ours(codec: str) -> list[Case]:
    return [
        Case(
            name=f"{OURS} {codec}, {threads} thread{'s' * (threads > 1)}",
            data=f"{OURS}-{codec}",
            dates=dates,
            extra=(("threads", threads),),
        )
        for dates in ("all", "one")
        for threads in (1, 2)
    ]


def _limits(how: str) -> list[Case]:
    return [
        Case(
            name=f"limit: {how}, {threads} thread{'s' * (threads > 1)}",
            data=f"{OURS}-npy",
            script="limits.py",
            dates=dates,
            extra=(("how", how), ("threads", threads)),
        )
        for dates in ("all", "one")
        for threads in (1, 2)
    ]


def _peer(name: str, data: str, *, extra: tuple[tuple[str, Any], ...] = (), **change: Any) -> list[Case]:
    return [
        Case(name=f"{name}, {workers} workers", data=data, dates=dates, extra=(("workers", workers), *extra), **change)
        for dates in ("all", "one")
        for workers in (0, 2)
    ]


WEBDATASET, LITDATA, MOSAIC = "webdataset as documented", "litdata", "mosaicml-streaming"
CASES = (
    *_limits("preadv"),
    *_limits("mmap"),
    *_ours("npy"),
    *_ours("blosc"),
    *_ours("archive"),
    *_peer(WEBDATASET, "webdataset", extra=(("kind", "stack"),)),
    *_peer(
        "webdataset on geossl's npy shards",
        "geossl-npy",
        script="webdataset_tars.py",
        python="peers",
        extra=(("kind", "members"),),
    ),
    *_peer(LITDATA, "litdata"),
    *_peer(MOSAIC, "mosaicml-streaming"),
    *_peer("Zarr in tar", "zarr-in-tar", one_in=4),
    *_peer("Dataset of GeoTIFFs", "geotiff", one_in=4),
)
DEFAULT = f"{OURS} blosc, 2 threads"
"""What geossl does where nothing else is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass over a data set cost."""

    seconds: float
    cpu_s: float
    samples: int
    nbytes: int
    """Of the arrays handed out."""
    total: int
    """Of all bytes, as `passes.total_of` adds them up; 0 where the pass was timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians over passes."""

    per_second: float
    """Samples."""
    mb_per_second: float
    """Of the arrays handed out."""
    mb: float
    """Of a sample, handed out."""
    cpu_ms: float
    """Of a sample; all processes of the loader together."""


def times_as_fast(ours: list[Pass], theirs: list[Pass]) -> float:
    """Median over rounds of what one does a second by what the other does in the same round."""
    pairs = zip(ours, theirs, strict=False)
    return median(one.samples / one.seconds / (other.samples / other.seconds) for one, other in pairs)


def cost(passes: list[Pass]) -> Cost:
    """Medians of passes of one case."""
    return Cost(
        per_second=median(one.samples / one.seconds for one in passes),
        mb_per_second=median(one.nbytes / one.seconds / 1e6 for one in passes),
        mb=passes[0].nbytes / passes[0].samples / 1e6,
        cpu_ms=median(one.cpu_s / one.samples * 1e3 for one in passes),
    )


class ReaderError(Exception):
    """A process that did not answer; the last line of what it said."""


def environment(scratch: str) -> dict[str, str]:
    """Of the processes: without settings of GDAL, and with nothing to be found in a home folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "CPL_"))}
    return kept | {"PYTHONWARNINGS": "ignore", "TMPDIR": scratch, "XDG_CACHE_HOME": scratch, "HOME": scratch}


def write_set(data: DataSet, python: str, job: Job) -> None:
    """Write a data set in a process of its own; whole or not at all. ReaderError where that fails."""
    aside = Path(f"{job.folder}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    fields = json.dumps(asdict(job) | {"folder": str(aside)})
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [python, str(WORKERS / data.script), "write", fields],
            env=environment(scratch),
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ReaderError(_last_line(done.stderr))
    shutil.rmtree(job.folder, ignore_errors=True)
    aside.rename(job.folder)


class Reader:
    """A process that reads a data set as often as it is asked; ends with the block."""

    def __init__(self, script: str, python: str, job: Job) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self._said = (Path(self._scratch.name) / "said").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [python, str(WORKERS / script), "read", json.dumps(asdict(job))],
            env=environment(self._scratch.name),
            cwd=self._scratch.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        # A reader that has ended does not take what was left to be said.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()
        self._scratch.cleanup()

    def versions(self) -> dict[str, str]:
        """Of the libraries; comes once, first."""
        found: dict[str, str] = self._answer()["versions"]
        return found

    def ask(self, ask: Ask) -> Pass:
        """One pass. ReaderError where it fails."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(asdict(ask)) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise ReaderError(self._cause()) from None
        answer = self._answer()
        if "error" in answer:
            raise ReaderError(answer["error"])
        return Pass(**answer)

    def _answer(self) -> Mapping[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ReaderError(self._cause())
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _cause(self) -> str:
        self._said.flush()
        return _last_line(Path(self._said.name).read_text(encoding="utf-8", errors="replace"))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["said nothing"])[-1][:300]
