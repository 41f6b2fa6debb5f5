"""More processes on this machine: a dask cluster that lives as long as its work."""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from geossl_data.errors import GeosslError, ShardError
from geossl_data.shards.plan import ShardPlan
from geossl_data.shards.report import ShardReport

Work = Callable[[ShardPlan], ShardReport]
"""What a worker process runs; picklable. Run twice it does the same: a killed worker's shard is simply made again."""

IN_FLIGHT_PER_WORKER = 2


def on_cluster(
    work: Work, plans: Sequence[ShardPlan], *, workers: int
) -> Generator[tuple[ShardPlan, ShardReport], None, None]:
    """Plans with their reports, as they finish on a fresh cluster of `workers` processes, one task a shard.

    A bounded number of tasks is in flight. The cluster is closed, its processes gone, when the iterator ends or is
    closed. Raises the GeosslError of the first task that fails, and ShardError when worker processes die over a shard.
    """
    from distributed import KilledWorker, as_completed

    with local_cluster(workers) as client:
        todo = iter(plans)
        running: dict[Any, ShardPlan] = {}

        def submit(plan: ShardPlan) -> Any:
            future = client.submit(_outcome, work, plan, key=plan.name, pure=False)
            running[future] = plan
            return future

        first = [submit(plan) for _, plan in zip(range(workers * IN_FLIGHT_PER_WORKER), todo, strict=False)]
        completed = as_completed(first)  # type: ignore[no-untyped-call]
        for future in completed:
            plan = running.pop(future)
            try:
                outcome = future.result()
            except KilledWorker:
                raise ShardError(
                    f"{plan.name}: worker processes died while cutting it, often for want of memory; use fewer workers"
                ) from None
            if isinstance(outcome, GeosslError):
                raise outcome
            yield plan, outcome
            following = next(todo, None)
            if following is not None:
                completed.add(submit(following))  # type: ignore[no-untyped-call]


def _outcome(work: Work, plan: ShardPlan) -> ShardReport | GeosslError:
    """An expected error is returned, not raised: dask would print its traceback."""
    try:
        return work(plan)
    except GeosslError as error:
        return error


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """A dask client of a fresh cluster on the loopback interface, closed whatever happens.

    Its processes never see SIGINT: Ctrl-C in a terminal reaches every process of the group, and each worker would
    print a traceback. This process gets the signal and closes the cluster. The environment is afterwards as it was.
    """
    import logging

    from distributed import Client, LocalCluster

    # A nanny writes what its workers should see (one OpenMP thread, among others) into this process's environment.
    before = dict(os.environ)
    with ExitStack() as stack:
        stack.callback(_restore_environment, before)
        with interrupts_held():
            cluster = stack.enter_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.ERROR,
                )
            )
            client = stack.enter_context(Client(cluster))  # type: ignore[no-untyped-call]
        yield client


@contextmanager
def interrupts_held() -> Iterator[None]:
    """SIGINT waits until the block ends; threads and processes started inside never get it.

    They inherit the signal mask of the thread that calls. In the main thread a SIGINT that arrives meanwhile acts when
    the block ends; in another thread the main thread goes on being interrupted at once.
    """
    from multiprocessing import resource_tracker

    # Its start unblocks SIGINT in the thread that needs it first (CPython 3.11, ensure_running): here, not inside.
    resource_tracker.ensure_running()
    with _handler_held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handler_held() -> Iterator[None]:
    """In the main thread SIGINT is noted and acts when the block ends; in another thread nothing changes.

    The mask alone would not do: the kernel gives a blocked signal to any other thread that takes it, such as the one
    that draws the progress bar, and Python then runs the handler in the main thread all the same.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


def _restore_environment(before: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
