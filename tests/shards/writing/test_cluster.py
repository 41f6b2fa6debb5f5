"""Processes change nothing but the time it takes, and Ctrl-C is for the process that started them."""

import multiprocessing.spawn
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import ReadError, ShardError
from geossl_data.progress import silent
from geossl_data.records import Sample
from geossl_data.shards.writing import cluster, writer
from geossl_data.shards.writing.cluster import (
    DIED,
    IN_FLIGHT_PER_THREAD,
    Crew,
    Watch,
    crew_of,
    interrupts_held,
    local_cluster,
    on_crew,
)
from geossl_data.shards.writing.plan import ShardPlan, plan_shards
from geossl_data.shards.writing.report import ShardReport
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.build import Tile, build_tile
from geossl_data.tiles.rasters import Rasters
from geossl_data.version import VERSION

Make = Callable[..., Sample]
Build = Callable[[Sample], Tile]
Hashes = Callable[[Path], dict[str, str]]
Factory = Callable[[Build], Callable[[], Any]]


def test_processes_write_the_same_bytes_as_one(tmp_path: Path, sample: Make, hashes: Hashes, factory: Factory) -> None:
    """Two worker processes cut real windows; one of the places lies outside and is skipped."""
    import rasterio
    from shapely import box

    from geossl_data.bands import BANDS, S1_BANDS, S2_BANDS
    from geossl_data.records import Scene

    samples = [sample(number, "train" if number else "val", n_looks=1) for number in range(4)]
    rng = np.random.default_rng(0)
    scenes = {}
    for sensor, names in (("s2", S2_BANDS), ("s1", S1_BANDS)):
        hrefs = {}
        for band in names:
            size = BANDS[band].resolution_m
            shape = (1200 // size, 2520 // size)  # reaches places 0 to 2
            array = rng.integers(1, 9000, shape) if sensor == "s2" else rng.gamma(4, 0.05, shape)
            array = array.astype(np.uint16 if sensor == "s2" else np.float32)
            hrefs[band] = str(tmp_path / f"{band}.tif")
            profile = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": "EPSG:32632"}
            transform = rasterio.Affine(size, 0, 500_000, 0, -size, 5_000_040)
            with rasterio.open(
                hrefs[band], "w", height=shape[0], width=shape[1], transform=transform, **profile
            ) as target:
                target.write(array, 1)
        for number in range(4):
            look = samples[number].looks[0]
            scene_id = look.s2_id if sensor == "s2" else look.s1_id
            scenes[scene_id] = Scene(
                id=scene_id,
                collection=sensor,
                sensor=sensor,
                acquired=look.acquired,
                ends=look.acquired,
                footprint=box(8, 45, 9, 46),
                hrefs=hrefs,
                grids={},
            )
    plans = [
        plan
        for number, part in enumerate((samples[:1], samples[1:2], samples[2:3], samples[3:]))
        for plan in (replace(plan_shards(part, shard_mb=1, seed=0)[0], name=f"{part[0].split}-{number:06d}"),)
    ]
    build = partial(build_tile, scenes=scenes, labels=[], rasters=Rasters(), min_valid=0.9, catalog_base=str(tmp_path))
    one = write_shards(plans, tmp_path / "one", factory(build), workers=1, fingerprint="f")
    two = write_shards(plans, tmp_path / "two", factory(build), workers=2, fingerprint="f")
    assert one == two
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert [row.reason for report in one for row in report.skipped] == ["outside"]
    assert len(list((tmp_path / "two").glob("*.tar"))) == 3


@pytest.fixture
def other_thread() -> Iterator[None]:
    """A thread that takes signals, as the one that draws a progress bar."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    yield
    ended.set()
    thread.join()


def mask() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, set())}


@pytest.mark.usefixtures("other_thread")
def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    before, handler, reached = mask(), signal.getsignal(signal.SIGINT), []

    def held() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(mask() - before)

    with pytest.raises(KeyboardInterrupt):
        held()
    assert reached == [{signal.SIGINT, signal.SIGTERM}]
    assert (mask(), signal.getsignal(signal.SIGINT)) == (before, handler)


@settings(max_examples=8, deadline=None)
@given(st.sets(st.sampled_from([signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])))
def test_the_mask_is_afterwards_as_it_was(blocked: set[signal.Signals]) -> None:
    outer = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        with interrupts_held():
            assert mask() == {*blocked, signal.SIGINT, signal.SIGTERM}
        assert mask() == blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, outer)


def workers() -> list[str]:
    return [process.name for process in multiprocessing.active_children() if "Worker" in process.name]


def test_ctrl_c_while_a_cluster_closes_waits_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that it cuts short would leave workers that see no signal, and wait for them for ever."""
    close = cluster._close

    def close_interrupted(made: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        close(made)

    monkeypatch.setattr(cluster, "_close", close_interrupted)
    with pytest.raises(KeyboardInterrupt), local_cluster(1) as client:
        assert workers()
    assert client.cluster.status.name == "closed"
    assert not workers()


def test_what_a_cluster_leaves_behind_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "_close", made.append)
        with local_cluster(1):
            assert workers()
        assert not workers()
    cluster._close(made[0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_processes_that_do_not_start_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(ShardError, match="worker processes do not start"), local_cluster(1):
        pass
    assert not workers()


def test_a_slow_disk_is_no_reason_not_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import core
    from distributed.diskutils import WorkSpace

    def slow(folder: str) -> Any:
        time.sleep(1.1)
        return WorkSpace(folder)

    monkeypatch.setattr(core, "WorkSpace", slow)
    with local_cluster(1):
        assert workers()


def test_nothing_looks_at_the_stacks_of_a_worker() -> None:
    def profiled() -> bool:
        import dask

        return bool(dask.config.get("distributed.worker.profile.enabled"))

    with local_cluster(1) as client:
        assert list(client.run(profiled).values()) == [False]


def test_workers_started_from_any_thread_block_ctrl_c() -> None:
    found: list[Any] = []

    def run() -> None:
        before = mask()
        with local_cluster(1) as client:
            blocked = client.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result(timeout=30)
            found.extend([signal.SIGINT in blocked, mask() == before])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True, True]


def test_the_error_of_a_task_comes_back_as_it_was(tmp_path: Path, sample: Make) -> None:
    def work(plan: Any) -> Any:
        raise ReadError(f"{plan.name}: no luck")

    plans = plan_shards([sample(0)], shard_mb=1, seed=0)
    with crew_of(1, None, tmp_path) as crew, pytest.raises(ReadError, match="train-000000: no luck"):
        next(on_crew(crew, work, plans, look=len))


class Task:
    """A future of a task that is run when somebody asks what came of it."""

    def __init__(self, client: "Client", run: Any, payload: bytes) -> None:
        self._client, self._run, self._payload = client, run, payload

    def add_done_callback(self, callback: Callable[["Task"], None]) -> None:
        self.done = callback
        self._client.came(self)

    def exception(self) -> None:
        return None

    def result(self) -> Any:
        return self._run(self._payload)


class Client:
    """A dask client without a cluster: a task is done when no other one is let in, or none is left."""

    def __init__(self, n_tasks: int, threads: dict[str, int]) -> None:
        self.threads, self.n_tasks = threads, n_tasks
        self.waiting: list[Task] = []
        self.most: list[int] = []
        self.cancelled: list[Task] = []
        self.answers: dict[str, Any] = {}
        self.asked: list[list[str]] = []

    def nthreads(self) -> dict[str, int]:
        return dict(self.threads)

    def submit(self, run: Any, payload: bytes, *, key: str, pure: bool) -> Task:
        self.n_tasks -= 1
        return Task(self, run, payload)

    def came(self, task: Task) -> None:
        self.waiting.append(task)
        self.most.append(len(self.waiting))
        hands = max(1, sum(self.threads.values())) * IN_FLIGHT_PER_THREAD
        while self.waiting and (len(self.waiting) >= hands or not self.n_tasks):
            done = self.waiting.pop(0)
            done.done(done)

    def run(self, _: Any, *, workers: list[str], on_error: str) -> dict[str, Any]:
        self.asked.append(list(workers))
        return {worker: self.answers.get(worker, (VERSION, True)) for worker in workers}

    def cancel(self, futures: list[Task], *, force: bool) -> None:
        self.cancelled += futures


def some_plans(count: int) -> list[ShardPlan]:
    return [ShardPlan(name=f"train-{number:06d}", split="train", samples=()) for number in range(count)]


def report_of(plan: ShardPlan) -> ShardReport:
    return ShardReport(name=plan.name, entries=(), skipped=(), nbytes=0, sha256="", sums={})


def test_5_06_as_many_tasks_are_under_way_as_there_are_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "POLL_S", 0.0)
    plans, threads = some_plans(1000), {"a": 1, "b": 2}
    client, found, most = Client(len(plans), threads), [], []

    def look(running: Sequence[ShardPlan]) -> int:
        most.append(len(running))
        return 0

    for plan, report in on_crew(Crew(client), report_of, plans, look=look):
        assert isinstance(report, ShardReport)
        assert report.name == plan.name
        found.append(plan.name)
        if len(found) == 400:
            assert max(client.most) == 3 * IN_FLIGHT_PER_THREAD
            assert max(most) <= 3 * IN_FLIGHT_PER_THREAD
            threads["c"] = 4
        if len(found) == 700:
            assert max(client.most) == 7 * IN_FLIGHT_PER_THREAD
    assert sorted(found) == [plan.name for plan in plans]


def test_what_is_under_way_is_cancelled_when_the_run_ends_early() -> None:
    client = Client(20, {"a": 3})
    running = on_crew(Crew(client), report_of, some_plans(20), look=len)
    next(running)
    running.close()
    assert len(client.cancelled) == 3 * IN_FLIGHT_PER_THREAD - 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ((None, False), "worker tcp://b has no geossl installed; install geossl"),
        (("0.0.1", True), r"worker tcp://b has geossl 0\.0\.1; install geossl"),
        ((VERSION, False), r"worker tcp://b cannot see .*shards, or not write to it"),
    ],
)
def test_a_worker_that_cannot_work_is_named_when_it_comes(tmp_path: Path, answer: Any, line: str) -> None:
    client = Client(0, {"tcp://a": 1})
    crew = Crew(client, tmp_path / "shards")
    assert (crew.threads(), crew.threads()) == (1, 1)
    client.answers["tcp://b"] = answer
    client.threads["tcp://b"] = 1
    with pytest.raises(ShardError, match=line):
        crew.threads()
    assert client.asked == [["tcp://a"], ["tcp://b"]], "each is asked once"
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_worker_tells_what_it_has_and_sees(tmp_path: Path) -> None:
    (tmp_path / "sign").write_text("n")
    assert cluster._fitness(str(tmp_path / "sign"), "n")() == (VERSION, True)
    assert cluster._fitness(str(tmp_path / "sign"), "other")() == (VERSION, False)
    assert cluster._fitness(str(tmp_path / "none"), "n")() == (VERSION, False)


def test_a_run_that_makes_no_progress_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(cluster, "monotonic", lambda: clock[0])
    watch, said = Watch(), {}
    steps = {0: (0, 0), 59: (0, 0), 60: (0, 0), 300: (0, 0), 301: (1, 0), 400: (1, 5), 1299: (1, 5), 1300: (1, 5)}
    for now, (threads, mark) in {**steps, 2000: (1, 5), 2001: (1, 6), 2900: (1, 6), 2901: (1, 6)}.items():
        clock[0] = float(now)
        caplog.clear()
        watch.look(threads, mark)
        said[now] = [record.getMessage().split(" for ")[0] for record in caplog.records]
    assert {now: texts for now, texts in said.items() if texts} == {
        60: ["no dask worker"],
        1300: ["no sample was finished"],
        2901: ["no sample was finished"],
    }


class Dying:
    """Workers that survive no task but those that are named."""

    def __init__(self, *survived: str) -> None:
        self._survived = survived

    def submit(self, function: Any, _: ShardPlan) -> str:
        return getattr(function, "__name__", "cut")

    def wait(self, task: str, look: Callable[[], int]) -> Any:
        assert look() == 0
        return None if task in self._survived else DIED


@pytest.mark.parametrize(
    ("survived", "line"),
    [((), "die before they build anything"), (("probe",), "though none of its samples kills one by itself")],
)
def test_a_shard_that_nobody_survives_ends_in_one_line(
    tmp_path: Path, sample: Make, survived: tuple[str, ...], line: str
) -> None:
    (plan,) = plan_shards([sample(1)], shard_mb=1, seed=0)
    job = writer._Job(
        folder=tmp_path, build_factory=nullcontext, members={}, codec="blosc", fingerprint="f", store=None
    )
    with silent("") as task, pytest.raises(ShardError, match=line):
        writer._isolated(job, Dying(*survived), plan, writer._Tally(tmp_path, task))  # type: ignore[arg-type]
