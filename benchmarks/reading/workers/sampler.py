"""Where a method's processor time goes: a thread that charges what each thread has used to the function it is in."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from work import Job, Sums

INTERVAL_S = 0.002
OURS = ("geossl_data", "reading/workers")


def sampled(job: Job, read: Callable[[Job, Sums], None]) -> None:
    """Run `read` and write the seconds of processor time by function.

    A function stands for all that it calls outside our own code. Threads without a Python frame (those of compiled
    libraries) are what is left of the process's time.
    """
    used: Counter[str] = Counter()
    last: dict[int, float] = {}
    ended = threading.Event()

    def watch() -> None:
        me = threading.get_ident()
        while not ended.wait(INTERVAL_S):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                if thread.ident is None or thread.native_id is None or thread.ident == me:
                    continue
                now = processor_s(thread.native_id)
                if thread.ident in frames and now is not None:
                    used[name_of(frames[thread.ident])] += now - last.get(thread.native_id, now)
                    last[thread.native_id] = now

    watcher = threading.Thread(target=watch, daemon=True)
    sums = Sums(job)
    watcher.start()
    wall, processor = time.perf_counter(), time.process_time()
    read(job, sums)
    seconds, cpu_s = time.perf_counter() - wall, time.process_time() - processor
    ended.set()
    watcher.join()
    answer = {"seconds": seconds, "cpu_s": cpu_s, "used": dict(used.most_common())}
    Path(job.result).write_text(json.dumps(answer), encoding="utf-8")


def processor_s(thread: int) -> float | None:
    """Processor time of a thread so far; None where it has ended since it was listed."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except OSError:
        return None


def name_of(frame: FrameType | None) -> str:
    """Module and function of the innermost frame of our own, what it calls, and the file in which that has got to."""
    called, inside = "", frame
    while frame is not None:
        path = frame.f_code.co_filename
        if any(part in path for part in OURS):
            module = path.rsplit("geossl_data/", 1)[-1].rsplit("/workers/", 1)[-1]
            return f"{module}:{frame.f_code.co_name}{called and f' → {called} in {_file(inside)}'}"
        called = frame.f_code.co_name
        frame = frame.f_back
    return f"{called} in {_file(inside)}"


def _file(frame: FrameType | None) -> str:
    """Last two parts of the path of the code that a frame is in."""
    return "" if frame is None else "/".join(Path(frame.f_code.co_filename).parts[-2:])
