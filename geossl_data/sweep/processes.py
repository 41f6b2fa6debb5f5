"""Work shared out among processes of this machine, one for each device, each of which does one thing at a time.

A process that dies costs what it was doing; another takes its place. Ctrl-C and SIGTERM are for the process that asked:
it passes them on, and the others stop where they can go on from. So do they when it is gone.
"""

import logging
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from geossl_data.errors import GeosslError

Job = Callable[[], None]
"""What a process does; picklable. Done again it goes on where it stopped."""

STOP_S = 60.0
"""How long a process that is asked to stop may take to save; then it is killed."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DEVICES = "CUDA_VISIBLE_DEVICES"
DEVICE_FILES = Path("/dev")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something could not be done: one line, and where it is a bug of ours its traceback."""

    reason: str
    trace: str = ""


def devices() -> tuple[str, ...]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them; () where there are none.

    Counted without torch, which would keep memory of a GPU that others are to use.
    """
    named = os.environ.get(DEVICES)
    if named is not None:
        found = [name.strip() for name in named.split(",")]
        # As CUDA reads it: what follows a name that is no device counts no more.
        ends = next((number for number, name in enumerate(found) if name in ("", "-1")), len(found))
        return tuple(found[:ends])
    numbers = [re.fullmatch(r"nvidia(\d+)", path.name) for path in DEVICE_FILES.glob("nvidia*")]
    return tuple(sorted((match[1] for match in numbers if match is not None), key=int))


def environments(workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """What is set in each of `workers` processes: its GPU, in turn, and its share of the processors."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    shared = {name: os.environ.get(name, threads) for name in THREADS}
    return [{**shared, DEVICES: gpus[number % len(gpus)] if gpus else ""} for number in range(workers)]


def run_jobs(
    jobs: Mapping[str, Job], settings: Sequence[Mapping[str, str]], done: Callable[[str, Failure | None], None]
) -> None:
    """Do all jobs, by name and in order, in as many processes as there are settings (environment variables).

    done: called here with the name of each job as it ends, and why it failed where it did. However this is left, no
    process is. Processes are spawned, so a script that calls this does so below `if __name__ == "__main__"`.
    """
    todo = deque(jobs.items())
    idle = deque(settings[: max(1, len(todo))])
    busy: dict[Connection, tuple[str, Mapping[str, str], SpawnProcess]] = {}
    spare: list[tuple[Connection, Mapping[str, str], SpawnProcess]] = []
    try:
        while todo or busy:
            while todo and (spare or idle):
                connection, setting, process = spare.pop(0) if spare else _started(idle.popleft())
                name, job = todo.popleft()
                busy[connection] = (name, setting, process)
                with suppress(BrokenPipeError, ConnectionResetError):  # it died; reading from it will tell
                    connection.send(job)
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                name, setting, process = busy[ready]
                try:
                    outcome: Failure | None = ready.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    outcome = Failure(_cause_of_death(process.exitcode))
                    ready.close()
                    idle.append(setting)
                else:
                    spare.append((ready, setting, process))
                del busy[ready]
                done(name, outcome)
        for connection, _, _ in spare:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.send(None)
    except BaseException:
        for _, _, process in busy.values():
            process.terminate()
        raise
    finally:
        processes = [*(process for _, _, process in busy.values()), *(process for _, _, process in spare)]
        for connection in (*busy, *(one for one, _, _ in spare)):
            connection.close()  # whoever waits for something to do stops waiting
        _end(processes)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """Wait until all are gone; those that take longer than STOP_S are killed, all of them at a second Ctrl-C."""
    try:
        for process in processes:
            process.join(STOP_S)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


def _started(setting: Mapping[str, str]) -> tuple[Connection, Mapping[str, str], SpawnProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, dict(setting)))
    with _undisturbed():
        process.start()
    theirs.close()
    return ours, setting, process


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Processes started inside pay no attention to Ctrl-C, not even before they run any code of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        more = "; the machine may have run out of memory" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{more}"
    return f"its process ended with code {code}"


# ------------------------------------------------------------------------------------------------ in the process


def _work(connection: Connection, setting: Mapping[str, str]) -> None:
    """Do what comes, until nothing more does or the process that asks is gone."""
    os.environ.update(setting)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from geossl_data.scenes.redaction import RedactedRecord

    logging.setLogRecordFactory(RedactedRecord)
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        while (job := connection.recv()) is not None:
            connection.send(_outcome(job))


def _outcome(job: Job) -> Failure | None:
    from geossl_data.scenes.redaction import redact_text, redacted_traceback

    try:
        job()
    except GeosslError as error:
        return Failure(" ".join(redact_text(str(error)).split()))
    except Exception as error:
        said = " ".join(redact_text(str(error)).split())
        return Failure(f"{type(error).__name__}: {said}"[:500], redacted_traceback(error))
    return None


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: nothing disturbs the tidying up
    raise KeyboardInterrupt


def _stop_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
