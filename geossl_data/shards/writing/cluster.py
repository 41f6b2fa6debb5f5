"""More processes, on this machine or on others: dask clusters, and what becomes of tasks whose workers die."""

import logging
import multiprocessing
import os
import pickle
import secrets
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from types import FrameType
from typing import Any

from geossl_data.errors import GeosslError, ShardError
from geossl_data.files import TEMPORARY_SUFFIX, storage_error
from geossl_data.shards.writing.plan import ShardPlan
from geossl_data.shards.writing.report import ShardReport
from geossl_data.version import VERSION

_LOG = logging.getLogger(__name__)

Work = Callable[[ShardPlan], ShardReport]
"""What a worker process runs; picklable. Run twice it does the same: a killed worker's shard is simply made again."""

IN_FLIGHT_PER_THREAD = 2
POLL_S = 1.0
"""How often it is looked at who works and how far they are."""
NO_WORKER_S = 60.0
"""So long without any worker, and it is said."""
STALLED_S = 900.0
"""So long without any sample, and it is said."""
CONNECT_S = 10.0
CLOSE_S = 20.0
"""So long a local cluster may take to close; what is left of it is killed."""
LOCAL_CONFIG = {
    # A worker that dies over a task twice is enough to look closer; dask's own default is four times.
    "distributed.scheduler.allowed-failures": 1,
    # C code may hold the interpreter for minutes, and a worker that is silent meanwhile is not lost.
    "distributed.scheduler.worker-ttl": None,
    # One task at a time: a paused worker would wait for memory that only its end sets free.
    "distributed.worker.memory.pause": False,
    # It looks at the stacks of all threads a hundred times a second, which in CPython 3.11 can lock a process up for
    # good while another thread begins (gh-106883).
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 0,
}


class Died:
    """What came of a task whose worker processes died over it."""


DIED = Died()


class Crew:
    """The workers of a cluster, as this process sees them."""

    def __init__(self, client: Any, folder: Path | None = None) -> None:
        """folder: what workers that come from elsewhere have to see; None where they are processes of this machine."""
        self.client = client
        self._folder = folder
        self._known: set[str] = set()
        self._count = 0

    def threads(self) -> int:
        """How many tasks can run at once at the moment. Raises ShardError when a worker that came cannot work."""
        with _lost():
            present: dict[str, int] = self.client.nthreads()
        arrived = sorted(set(present) - self._known)
        if arrived and self._folder is not None:
            self._require_fit(arrived, self._folder)
        self._known = set(present)
        return sum(present.values())

    def _require_fit(self, workers: Sequence[str], folder: Path) -> None:
        """Raises ShardError unless these workers have this version of geossl and see the folder."""
        nonce = secrets.token_hex(8)
        sign = folder / f".seen-{nonce}{TEMPORARY_SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sign.write_text(nonce, encoding="utf-8")
            with _lost():
                answers = self.client.run(_fitness(str(sign), nonce), workers=workers, on_error="return")
        except OSError as error:
            raise storage_error(sign, error) from error
        finally:
            sign.unlink(missing_ok=True)
        for worker in workers:
            # A worker that went meanwhile has no answer, or an error of its connection.
            answer = answers.get(worker)
            version, sees = answer if isinstance(answer, tuple) else (VERSION, True)
            if version != VERSION:
                has = "has no geossl installed" if version is None else f"has geossl {version}"
                raise ShardError(f"worker {worker} {has}; install geossl {VERSION} there and start it again")
            if not sees:
                raise ShardError(f"worker {worker} cannot see {folder}, or not write to it; mount the folder there")

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A future of `function(*arguments)`, for `outcome`."""
        from distributed.protocol.pickle import dumps

        self._count += 1
        payload = bytes(dumps((function, arguments)))  # type: ignore[no-untyped-call]
        # Neither scheduler nor worker imports anything of ours before our own code can say that it is not there.
        key = f"geossl-{secrets.token_hex(4)}-{self._count}"
        return self.client.submit(_unpacking(), payload, key=key, pure=False)

    def outcome(self, future: Any) -> Any:
        """What a finished future holds; DIED where worker processes died over it.

        Raises the GeosslError that the task ended with, and ShardError where a worker could not even load it.
        """
        from distributed import KilledWorker

        with _lost():
            error = future.exception()
        if isinstance(error, KilledWorker):
            return DIED
        if error is not None:
            raise error
        with _lost():
            kind, value = future.result()
        if kind == "unknown":
            raise ShardError(f"a worker process cannot load what it has to run: {value}; install the same there")
        if isinstance(value, GeosslError):
            raise value
        return value

    def wait(self, future: Any, look: Callable[[], int]) -> Any:
        """The outcome of one task, with nothing else under way; look: as of `on_crew`."""
        done: SimpleQueue[Any] = SimpleQueue()
        future.add_done_callback(done.put)
        watch = Watch()
        try:
            while True:
                try:
                    return self.outcome(done.get(timeout=POLL_S))
                except Empty:
                    watch.look(self.threads(), look())
        except BaseException:
            self.cancel([future])
            raise

    def cancel(self, futures: list[Any]) -> None:
        """Nobody waits for these any more; what runs already runs on where nobody stops it."""
        with suppress(Exception):
            self.client.cancel(futures, force=True)


def _unpacking() -> Callable[[bytes], tuple[str, Any]]:
    """A function that needs nothing of ours to be loaded: cloudpickle sends inner functions by their code."""

    def run(payload: bytes) -> tuple[str, Any]:
        try:
            function, arguments = pickle.loads(payload)  # noqa: S301 - of the process that started this run
        except (ImportError, AttributeError) as error:
            return "unknown", str(error)
        try:
            return "done", function(*arguments)
        except Exception as error:
            # An expected error is returned, not raised: dask would print its traceback.
            if any(kind.__name__ == "GeosslError" for kind in type(error).__mro__):
                return "done", error
            raise

    return run


def _fitness(sign: str, nonce: str) -> Callable[[], tuple[str | None, bool]]:
    """Asks a worker for its version of geossl, None where it has none, and whether it sees a file of ours."""

    def fitness() -> tuple[str | None, bool]:
        import importlib
        import os
        from pathlib import Path

        try:
            version = importlib.import_module("geossl_data.version").VERSION
        except ImportError:
            return None, False
        try:
            sees = Path(sign).read_text(encoding="utf-8") == nonce and os.access(Path(sign).parent, os.W_OK)
        except OSError:
            sees = False
        return version, sees

    return fitness


@contextmanager
def _lost() -> Iterator[None]:
    """Turns what dask raises when there is no scheduler any more into one line."""
    from asyncio import CancelledError
    from concurrent.futures import CancelledError as FutureCancelled

    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, FutureCancelled, CommClosedError, TimeoutError) as error:
        raise ShardError(
            f"the dask scheduler is gone ({type(error).__name__}); what is finished stays, run the same command again"
        ) from None


class Watch:
    """Says in one line, once, that nothing comes of a run any more."""

    def __init__(self) -> None:
        self._since = self._manned = monotonic()
        self._mark = -1
        self._said: set[str] = set()

    def look(self, n_threads: int, mark: int) -> None:
        """n_threads: how many work; mark: any number that grows with what is done."""
        now = monotonic()
        if mark != self._mark:
            self._mark, self._since = mark, now
            self._said.discard("stalled")
        if n_threads:
            self._manned = now
            self._said.discard("unmanned")
        if now - self._manned >= NO_WORKER_S:
            # Waiting for a worker is no stall of its own.
            self._since = now
            self._say("unmanned", f"no dask worker for {now - self._manned:.0f} s; start some, the run waits for them")
        elif now - self._since >= STALLED_S:
            self._say(
                "stalled", f"no sample was finished for {now - self._since:.0f} s; {n_threads} threads work on it"
            )

    def _say(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            _LOG.warning(text)


def on_crew(
    crew: Crew, work: Work, plans: Sequence[ShardPlan], *, look: Callable[[Sequence[ShardPlan]], int]
) -> Generator[tuple[ShardPlan, ShardReport | Died], None, None]:
    """Plans with what came of them, as they finish, one task a shard.

    A bounded number of tasks is in flight, which follows the number of workers as they come and go. look: called about
    once a second with the plans that are under way; gives any number that grows with what is done.
    Raises the GeosslError of the first task that fails, and cancels the others.
    """
    todo, running = deque(plans), dict[Any, ShardPlan]()
    done: SimpleQueue[Any] = SimpleQueue()
    watch, looked, threads = Watch(), -POLL_S, 0
    try:
        while todo or running:
            if monotonic() - looked >= POLL_S:
                looked, threads = monotonic(), crew.threads()
                watch.look(threads, look(list(running.values())))
            while todo and len(running) < max(1, threads) * IN_FLIGHT_PER_THREAD:
                plan = todo.popleft()
                future = crew.submit(work, plan)
                running[future] = plan
                future.add_done_callback(done.put)
            try:
                future = done.get(timeout=POLL_S)
            except Empty:
                continue
            yield running.pop(future), crew.outcome(future)
    finally:
        if running:
            crew.cancel(list(running))


@contextmanager
def crew_of(workers: int, scheduler: str | None, folder: Path) -> Iterator[Crew]:
    """The workers of a scheduler, or of a fresh cluster of this machine where there is none.

    folder: what the workers of a scheduler have to see.
    """
    if scheduler is None:
        with local_cluster(workers) as client:
            yield Crew(client)
    else:
        with joined(scheduler) as client:
            yield Crew(client, folder)


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """A dask client of a scheduler that runs already, such as `tcp://10.0.0.1:8786`; it runs on afterwards.

    Raises ShardError where none answers.
    """
    import warnings

    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    with ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                # Of its many lines none says what matters here, the version of geossl; see `Crew`.
                warnings.filterwarnings("ignore", category=VersionMismatchWarning)
                client = stack.enter_context(
                    Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
                )
        except (OSError, ValueError, TimeoutError) as error:
            raise ShardError(
                f"{address}: no dask scheduler answers ({type(error).__name__}); give the address that "
                "`dask scheduler` prints, as in tcp://10.0.0.1:8786"
            ) from None
        yield client


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """A dask client of a fresh cluster on the loopback interface, closed whatever happens.

    Its processes never see SIGINT and SIGTERM: Ctrl-C in a terminal reaches every process of the group, and so does the
    end of a service or a job; each worker would print a traceback. This process gets the signal and closes the cluster;
    one that arrives while it starts or closes acts afterwards.
    The environment is afterwards as it was. A worker that holds more than its share of the memory is replaced.
    Raises ShardError where the processes do not start.
    """
    import warnings

    import dask
    from distributed import Client, LocalCluster

    # A nanny writes what its workers should see (one OpenMP thread, among others) into this process's environment.
    before, children = dict(os.environ), set(multiprocessing.active_children())
    with ExitStack() as held, ExitStack() as stack:
        stack.callback(_restore_environment, before)
        stack.enter_context(dask.config.set(LOCAL_CONFIG))
        stack.callback(_end_workers, children)
        with interrupts_held(), warnings.catch_warnings():
            # A busy disk: no worker of ours writes anything there.
            warnings.filterwarnings("ignore", "Creating scratch directories is taking")
            try:
                cluster = LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    # A worker that died, and that it did so twice, is ours to tell.
                    silence_logs=logging.CRITICAL,
                )
                stack.callback(_close, cluster)
                client = stack.enter_context(Client(cluster, set_as_default=False))  # type: ignore[no-untyped-call]
            except (RuntimeError, OSError) as error:
                why = str(error).removesuffix(".")
                raise ShardError(f"the worker processes do not start ({why}); use fewer, or --workers 1") from error
            # Closing that a second Ctrl-C cuts short leaves workers that see no signal, and an end that waits for them.
            stack.callback(held.enter_context, interrupts_held())
        yield client


def _close(cluster: Any) -> None:
    """Close a cluster, but do not wait for it for ever."""
    with suppress(TimeoutError):
        cluster.close(timeout=CLOSE_S)


def _end_workers(before: Set[BaseProcess]) -> None:
    """Kill the worker processes that were not there before: a cluster that has closed has none."""
    for process in set(multiprocessing.active_children()) - before:
        if process.name.startswith(_WORKER):
            process.kill()
            process.join()


_WORKER = "Dask Worker process"
"""What dask's nannies name their processes."""
_HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the block ends; threads and processes started inside never get them.

    They inherit the signal mask of the thread that calls. In the main thread a signal that arrives meanwhile acts when
    the block ends; in another thread the main thread goes on being interrupted at once.
    """
    from multiprocessing import resource_tracker

    # Its start unblocks SIGINT in the thread that needs it first (CPython 3.11, ensure_running): here, not inside.
    resource_tracker.ensure_running()
    with _handlers_held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handlers_held() -> Iterator[None]:
    """In the main thread the signals are noted and act when the block ends; in another thread nothing changes.

    The mask alone would not do: the kernel gives a blocked signal to any other thread that takes it, such as the one
    that draws the progress bar, and Python then runs the handler in the main thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HELD}
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    ours = [number for number in _HELD if callable(before[number])]
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for caught in dict.fromkeys(noted):
            signal.raise_signal(caught)


def _restore_environment(before: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
