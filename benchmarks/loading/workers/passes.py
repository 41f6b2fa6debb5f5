"""What every loader is given and what it hands back; with numpy alone, because peers have a Python of their own.

A worker is started with a job. With `write` it writes its data set from the pixels and ends. With `read` it answers
each line that it is asked, one pass over the data set, by a line that says what the pass cost.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
DATE = 1
"""The date that is read where one of four is wanted."""
S1_SCALE, S1_OFFSET = 0.01, -100.0
FACTORS = {"s2_10m": 1, "s2_20m": 2, "s2_60m": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A data set to write or to read."""

    pixels: str
    """Folder of the arrays that all sets are made from: `{member}.npy`, shape (samples, dates, bands, side, side)."""
    folder: str
    """Of the data set."""
    samples: int
    shard_samples: int
    """Samples in one file of the set, where it has such files."""
    extra: dict[str, Any]
    """What one set alone needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One pass."""

    batch: int
    samples: int
    """The first so many are read."""
    one: bool
    """Only date DATE instead of all."""
    check: bool
    """Whether the bytes handed out are added up; such a pass is not timed."""
    least_s: float
    """A pass is as many epochs as take so long."""
    extra: dict[str, Any]
    """What one way of reading alone needs."""


Batch = Mapping[str, Any]
"""Arrays or tensors, the sample along the first axis; names begin with s2 or s1."""


class Pixels:
    """The samples, as geossl stores them and as the peers' documentation does."""

    def __init__(self, folder: str) -> None:
        names = (*FACTORS, "s1")
        self.arrays: dict[str, Array] = {name: np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in names}

    def members(self, sample: int, date: int) -> dict[str, Array]:
        """What is stored of one date: every band at its own resolution, Sentinel-1 in steps of 0.01 dB."""
        return {name: array[sample, date] for name, array in self.arrays.items()}

    def stack(self, sample: int) -> tuple[Array, Array]:
        """All dates at 10 m: Sentinel-2 (4, 12, 264, 264) uint16 and Sentinel-1 (4, 2, 264, 264) float32, dB."""
        fine = [
            self.arrays[name][sample].repeat(factor, axis=-2).repeat(factor, axis=-1)
            for name, factor in FACTORS.items()
        ]
        codes = self.arrays["s1"][sample]
        return np.concatenate(fine, axis=1), (codes * S1_SCALE + S1_OFFSET).astype(np.float32)


def total_of(batch: Batch) -> int:
    """All bytes added up, eight at a time and modulo 2**64: the same for samples in another order.

    Rows are multiples of eight bytes, so that it does not matter how they are grouped into arrays.
    """
    totals = [int(np.ascontiguousarray(values).view(np.uint64).sum()) for values in batch.values()]
    return sum(totals) % 2**64


def processor_s() -> float:
    """Processor time of this process, of its children that have ended, and of those that live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(lived_s, children(os.getpid())))


def children(process: int) -> list[int]:
    """Living children of a process, and theirs."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            direct = [int(number) for number in listed.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in direct:
            found += [child, *children(child)]
    return found


def lived_s(process: int) -> float:
    """Processor time of another process; 0 where it has just ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_pass(ask: Ask, batches: Callable[[Ask], Iterable[Batch]]) -> dict[str, Any]:
    """Read everything once: seconds, processor time, samples and bytes handed out, or the sum."""
    samples = nbytes = total = 0
    wall, processor = time.perf_counter(), processor_s()
    while not samples or (time.perf_counter() - wall < ask.least_s and not ask.check):
        for batch in batches(ask):
            samples += len(next(iter(batch.values())))
            nbytes += sum(values.nbytes for values in batch.values())
            if ask.check:
                total = (total + total_of(batch)) % 2**64
    seconds, cpu_s = time.perf_counter() - wall, processor_s() - processor
    return {"seconds": seconds, "cpu_s": cpu_s, "samples": samples, "nbytes": nbytes, "total": total}


def serve(
    write: Callable[[Job], None] | None,
    batches: Callable[[Job, Ask], Iterator[Batch]] | None,
    versions: dict[str, str],
) -> None:
    """Write the data set, or read it each time a line comes, until there is no more; None for what is never asked."""
    job = Job(**json.loads(sys.argv[2]))
    # What libraries print is not taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if sys.argv[1] == "write":
        assert write is not None, "this worker writes nothing"
        write(job)
        return
    assert batches is not None, "this worker reads nothing"
    answers.write(json.dumps({"versions": versions}) + "\n")
    answers.flush()
    for line in sys.stdin:
        try:
            answer = one_pass(Ask(**json.loads(line)), lambda ask: batches(job, ask))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
