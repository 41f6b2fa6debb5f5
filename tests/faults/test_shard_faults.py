"""Shards and what befalls the processes that write them: killed, crashed, crowded, absent. The bytes are the same.

The numbers are those of the cases in our list of failures.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import psutil
import pytest
from shards.conftest import hashes_of, make_factory, make_plans, make_tile

from geossl_data.errors import ReadError, ShardError
from geossl_data.records import Sample
from geossl_data.shards.writing import cluster
from geossl_data.shards.writing.cluster import Crew, crew_of, local_cluster
from geossl_data.shards.writing.plan import ShardPlan
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.build import Tile
from geossl_data.tiles.windows import SkipError

cloudpickle.register_pickle_by_value(sys.modules[make_tile.__module__])
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PLANS = make_plans()
KILLER = PLANS[1].samples[2].key
LINE = "geossl: interrupted; run the same command again to go on from here\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hash of every file of an uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("whole")
    write_shards(PLANS, folder, make_factory(make_tile), fingerprint="f")
    return hashes_of(folder)


def poisoned(sample: Sample) -> Tile:
    """A tile, or the end of the process."""
    if sample.key == KILLER:
        os._exit(139)
    return make_tile(sample)


@pytest.fixture(scope="module")
def spared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hash of every shard of a run in one process in which the sample that kills is skipped."""

    def build(sample: Sample) -> Tile:
        if sample.key == KILLER:
            raise SkipError("outside", KILLER)
        return make_tile(sample)

    folder = tmp_path_factory.mktemp("spared")
    write_shards(PLANS, folder, make_factory(build), fingerprint="f")
    return tars_of(folder)


def tars_of(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in hashes_of(folder).items() if name.endswith(".tar")}


def without_the_killer(sample: Sample) -> Tile:
    assert sample.key != KILLER, "it was tried once more"
    return make_tile(sample)


@contextmanager
def gated(folder: Path, plan: ShardPlan) -> Iterator[Callable[[Sample], Tile]]:
    """A build that says when it comes to the second sample of a plan, by a file, and waits there for another file."""
    key, reached, go = plan.samples[1].key, str(folder / "reached"), str(folder / "go")

    def build(sample: Sample) -> Tile:
        if sample.key == key:
            Path(reached).write_text(str(os.getpid()))
            while not Path(go).exists():
                time.sleep(0.01)
        return make_tile(sample)

    try:
        yield build
    finally:
        Path(go).touch()


def until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Run(threading.Thread):
    """`write_shards` in a thread of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self._call = lambda: write_shards(*arguments, fingerprint="f", **options)
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self.join(120)
        assert not self.is_alive()
        assert self.error is None, self.error


def test_5_01_a_killed_worker_costs_time_and_nothing_else(tmp_path: Path, whole: dict[str, str]) -> None:
    with gated(tmp_path, PLANS[0]) as build:
        run = Run(PLANS, tmp_path / "shards", make_factory(build), workers=2)
        until((tmp_path / "reached").exists)
        time.sleep(0.05)
        os.kill(int((tmp_path / "reached").read_text()), signal.SIGKILL)
    run.finish()
    assert hashes_of(tmp_path / "shards") == whole


def test_5_03_a_sample_that_kills_its_worker_is_left_out_and_the_rest_completes(
    tmp_path: Path, spared: dict[str, str]
) -> None:
    folder = tmp_path / "shards"
    reports = write_shards(PLANS, folder, make_factory(poisoned), workers=2, fingerprint="f")
    (row,) = (row for report in reports for row in report.skipped if row.reason == "quarantined")
    assert (row.stage, row.id) == ("shard", KILLER)
    assert "2 worker processes died" in row.detail
    assert tars_of(folder) == spared
    assert not list(folder.rglob("*.building"))

    # Not attempted again, neither by a run that has nothing to do nor by one that has lost the shard.
    before = hashes_of(folder)
    assert write_shards(PLANS, folder, make_factory(without_the_killer), fingerprint="f") == reports
    (folder / f"{PLANS[1].name}.tar").unlink()
    assert write_shards(PLANS, folder, make_factory(without_the_killer), fingerprint="f") == reports
    assert hashes_of(folder) == before


CRASHING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from faults.test_shard_faults import PLANS, make_factory, poisoned
from geossl_data.shards.writing.writer import write_shards
if __name__ == "__main__":
    write_shards(PLANS, Path(sys.argv[2]), make_factory(poisoned), fingerprint="f")
"""


def test_5_03_a_sample_that_kills_the_only_process_is_left_out_by_the_third_run(
    tmp_path: Path, spared: dict[str, str]
) -> None:
    script = tmp_path / "crashing.py"
    script.write_text(CRASHING)
    command = [sys.executable, "-W", "ignore", str(script), str(Path(__file__).parents[1]), str(tmp_path / "one")]
    codes = [subprocess.run(command, capture_output=True, timeout=120, check=False).returncode for _ in range(3)]
    assert codes == [139, 139, 0]
    assert tars_of(tmp_path / "one") == spared


def test_5_02_two_copies_of_a_task_at_once_do_no_harm(tmp_path: Path, whole: dict[str, str]) -> None:
    with gated(tmp_path, PLANS[0]) as build:
        # Both wait in the middle of the same shard.
        runs = [Run(PLANS, tmp_path / "shards", make_factory(build)) for _ in range(2)]
        until(lambda: len(list((tmp_path / "shards").glob(".*.tmp"))) == 2)
    for run in runs:
        run.finish()
    assert hashes_of(tmp_path / "shards") == whole


def test_5_04_a_task_that_holds_the_interpreter_is_not_taken_for_dead(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    def hold() -> int:
        with Path(count).open("a") as file:
            file.write("x")
        ctypes.PyDLL(None).usleep(1_500_000)
        return os.getpid()

    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "300 ms"}),
        crew_of(1, None, tmp_path) as crew,
    ):
        first, again = (crew.wait(crew.submit(function), lambda: 0) for function in (hold, os.getpid))
    assert Path(count).read_text() == "x"
    assert first == again, "the worker was replaced"


def test_5_05_workers_give_memory_back_and_never_wait_for_it() -> None:
    with local_cluster(1) as client:
        (trim,) = client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()
        (pause,) = client.run(dask.config.get, "distributed.worker.memory.pause").values()
        (worker,) = client.scheduler_info()["workers"].values()
    assert (trim, pause) == ("0", False)
    assert 0 < worker["memory_limit"] <= psutil.virtual_memory().total


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """Address of a dask scheduler, a process of its own."""
    file = tmp_path / "scheduler.json"
    command = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    with started([*command, "--scheduler-file", str(file)], tmp_path):
        until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        yield next(line.split('"')[3] for line in file.read_text().splitlines() if '"address"' in line)


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A dask process of the command line, ended with the block."""
    command = [sys.executable, "-W", "ignore", "-m", "dask", *arguments]
    with (folder / f"{arguments[0]}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def worker_of(address: str, folder: Path) -> Any:
    """A worker of a scheduler, one process that nobody replaces."""
    options = ["--nthreads", "1", "--no-nanny", "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1"]
    return started(["worker", address, *options], folder)


def test_workers_of_a_scheduler_come_and_go(
    tmp_path: Path, scheduler: str, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(cluster, "POLL_S", 0.05)
    monkeypatch.setattr(cluster, "NO_WORKER_S", 0.2)
    caplog.set_level(logging.WARNING, cluster.__name__)

    def warned() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == cluster.__name__]

    with gated(tmp_path, PLANS[0]) as build:
        run = Run(PLANS, tmp_path / "shards", make_factory(build), scheduler=scheduler)
        until(lambda: warned() or run.error)
        with worker_of(scheduler, tmp_path) as first:
            until((tmp_path / "reached").exists)
            first.kill()
            first.wait()
            until(lambda: len(warned()) == 2 or run.error)
    with worker_of(scheduler, tmp_path):
        run.finish()
    assert hashes_of(tmp_path / "shards") == whole
    assert all("no dask worker for" in text for text in warned())


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(ShardError, match="no dask scheduler answers"):
            write_shards(PLANS, tmp_path, make_factory(make_tile), scheduler=address)


STOPPED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import typer
from faults.test_shard_faults import PLANS, gated, make_factory
from geossl_cli.console import run_app
from geossl_data.shards.writing.writer import write_shards
app = typer.Typer()
@app.command()
def run() -> None:
    folder = Path(sys.argv[2])
    with gated(folder, PLANS[1]) as build:
        write_shards(PLANS, folder / "shards", make_factory(build), workers=2, fingerprint="f")
if __name__ == "__main__":
    sys.exit(run_app(app, []))
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_5_08_a_stopped_cluster_leaves_nothing_half_and_nobody_behind(
    tmp_path: Path, whole: dict[str, str], how: signal.Signals
) -> None:
    script, folder = tmp_path / "stopped.py", tmp_path / "shards"
    script.write_text(STOPPED)
    command = [sys.executable, "-W", "ignore", str(script), str(Path(__file__).parents[1]), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: (tmp_path / "reached").exists() or process.poll() is not None)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    assert psutil.wait_procs(children, timeout=30)[1] == []
    left = [*folder.rglob(".*.tmp"), *folder.rglob("*.building")]
    if how == signal.SIGTERM:
        assert (process.returncode, err, left) == (143, LINE, [])
    else:
        assert process.returncode == -signal.SIGKILL
        assert left != []
    assert not (folder / f"{PLANS[1].name}.tar").exists()
    write_shards(PLANS, folder, make_factory(make_tile), fingerprint="f")
    assert hashes_of(folder) == whole


def test_a_worker_that_cannot_load_what_it_has_to_run_is_an_error(tmp_path: Path) -> None:
    def gone() -> None:
        """Stands for a function of a module that only this process has."""

    gone.__module__, gone.__qualname__ = "no_such_module", "gone"
    module = type(sys)("no_such_module")
    module.gone = gone  # type: ignore[attr-defined]
    sys.modules["no_such_module"] = module
    try:
        with local_cluster(1) as client:
            crew = Crew(client)
            future = crew.submit(gone)
            with pytest.raises(ShardError, match=r"cannot load .*no_such_module"):
                crew.wait(future, lambda: 0)
    finally:
        del sys.modules["no_such_module"]


def test_5_07_what_was_not_written_is_counted_by_its_reason(tmp_path: Path) -> None:
    failing = {sample.key for plan in PLANS for sample in plan.samples if int(sample.key[-3:]) % 3 == 0}

    def build(sample: Sample) -> Tile:
        if sample.key in failing:
            raise ReadError("no luck")
        return make_tile(sample)

    seen: list[float] = []

    class Bar:
        def advance(self, steps: float = 1, note: str | None = None) -> None:
            seen.append(steps)

    reports = write_shards(
        PLANS, tmp_path, make_factory(build), workers=2, fingerprint="f", progress=lambda *_, **__: nullcontext(Bar())
    )
    n_samples = sum(len(plan.samples) for plan in PLANS)
    rows = [row for report in reports for row in report.skipped]
    outside = {key for plan in PLANS for key in [one.key for one in plan.samples] if key.endswith("7")} - failing
    assert Counter(row.reason for row in rows) == {"read-failed": len(failing), "outside": len(outside)}
    assert sum(len(report.entries) for report in reports) == n_samples - len(failing | outside)
    assert sum(seen) == n_samples


def test_workers_here_and_elsewhere_exclude_each_other(tmp_path: Path, geossl: Callable[..., Any]) -> None:
    code, _, err = geossl("shard", tmp_path, "--workers", 2, "--scheduler", "tcp://127.0.0.1:9")
    assert (code, err) == (1, "geossl: --workers starts processes here, --scheduler has its own; give one of them\n")
    assert "--scheduler" in geossl("shard", "--help")[1]


def test_a_scheduler_that_is_gone_is_one_line_on_the_terminal(
    dataset: Path, geossl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    next(iter((dataset / "shards").glob("*.tar"))).unlink()
    code, _, err = geossl("shard", dataset, "--scheduler", "tcp://127.0.0.1:9")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("geossl: tcp://127.0.0.1:9: no dask scheduler answers")
