"""What every method is given and what it hands back; with numpy alone, because peers have a Python of their own."""

import json
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MILESTONES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Windows to read: every band at its own resolution, `size_px` 10 m pixels wide."""

    items: list[dict[str, Any]]
    """STAC items, hrefs as they are to be opened."""
    bands: list[tuple[str, int]]
    """Name and resolution in metres; 10, 20 or 60."""
    windows: list[tuple[int, int, int]]
    """Position of the item, column and row of the north-west corner in pixels of 60 m."""
    size_px: int
    root: str
    """Address or folder below which all hrefs lie."""
    result: str
    """Path of the JSON file to write."""
    extra: dict[str, Any]
    """What one method alone needs."""

    def href(self, item: int, band: str) -> str:
        return str(self.items[item]["assets"][band]["href"])

    def pixels(self, window: int, resolution_m: int) -> tuple[int, int, int]:
        """Column, row and side of a window in pixels of a resolution."""
        _, column, row = self.windows[window]
        factor = 60 // resolution_m
        return column * factor, row * factor, self.size_px * 10 // resolution_m

    def corner(self, item: int) -> tuple[int, float, float]:
        """EPSG code and metres of an item's north-west corner."""
        properties = self.items[item]["properties"]
        code = properties.get("proj:epsg") or str(properties["proj:code"]).removeprefix("EPSG:")
        transform = self.items[item]["assets"][self.bands[0][0]]["proj:transform"]
        return int(code), float(transform[2]), float(transform[5])

    def by_resolution(self) -> dict[int, list[str]]:
        """Names of the bands of each resolution."""
        return {
            side: [name for name, own in self.bands if own == side] for side in sorted({own for _, own in self.bands})
        }


def job_from(path: str) -> Job:
    """A job as `reading.runs` writes it."""
    fields = json.loads(Path(path).read_text(encoding="utf-8"))
    fields["windows"] = [tuple(window) for window in fields["windows"]]
    fields["bands"] = [tuple(band) for band in fields["bands"]]
    return Job(**fields)


def resident_mb(field: str = "VmRSS") -> float:
    """Resident memory of this process in MB: now, or at its highest with VmHWM.

    Not from getrusage, whose peak counts the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


class Sums:
    """Takes windows as they come and keeps a checksum of each; safe to use from several threads."""

    def __init__(self, job: Job) -> None:
        self.values = [[-1] * len(job.bands) for _ in job.windows]
        self.memory: list[tuple[int, float]] = []
        self._column = {name: number for number, (name, _) in enumerate(job.bands)}
        self._lock = threading.Lock()
        self._done = 0
        self._step = max(1, len(job.windows) * len(job.bands) // MILESTONES)

    def put(self, window: int, band: str, pixels: NDArray[Any]) -> None:
        """Count one band of one window, shape (height, width), any integer type."""
        content = np.ascontiguousarray(pixels, dtype="<u2")
        self.values[window][self._column[band]] = zlib.adler32(content)
        with self._lock:
            self._done += 1
            reached = self._done if self._done % self._step == 0 else 0
        if reached:
            self.memory.append((reached // len(self._column), resident_mb()))


def measured(job: Job, read: Callable[[Job, Sums], None], versions: dict[str, str]) -> None:
    """Run `read` once and write what it cost. What is imported before is not counted."""
    sums, start_mb = Sums(job), resident_mb()
    wall, processor = time.perf_counter(), time.process_time()
    read(job, sums)
    seconds, cpu_s = time.perf_counter() - wall, time.process_time() - processor
    memory = [*sums.memory]
    answer = {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "start_mb": start_mb,
        "peak_mb": resident_mb("VmHWM"),
        "memory": memory,
        "sums": sums.values,
        "versions": versions,
    }
    Path(job.result).write_text(json.dumps(answer), encoding="utf-8")
