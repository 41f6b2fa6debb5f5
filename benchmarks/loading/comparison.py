"""All loaders over the same samples, in turns."""

import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from loading import runs, tables
from loading.runs import (
    CASES,
    DATA_SETS,
    SETS,
    SHARD_SAMPLES,
    SIZED,
    Case,
    DataSet,
    Dates,
    Form,
    Pass,
    Python,
    Reader,
    ReaderError,
)
from loading.workers.passes import DATE, Ask, Job, Pixels, total_of

LEAST_S = 0.7
"""What is faster reads the set more than once in a pass."""
BUSY_MB = 50
"""Read from disk during the measured passes, above which the page cache was not warm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is compared."""

    folder: Path
    """Of the pixels, `pixels`, and of the data sets."""
    samples: int
    batch: int
    pythons: dict[Python, str]
    keep: bool
    """Whether geossl's own data sets are found again too."""
    say: Callable[[str], None]

    def job(self, data: DataSet) -> Job:
        return Job(
            pixels=str(self.folder / "pixels"),
            folder=str(self.folder / data.name),
            samples=min(self.samples, data.most or self.samples),
            shard_samples=SHARD_SAMPLES,
            extra=data.extra,
        )

    def ask(self, case: Case, *, check: bool) -> Ask:
        return Ask(
            batch=self.batch,
            samples=max(1, self.samples // case.one_in),
            one=case.dates == "one",
            check=check,
            least_s=LEAST_S,
            extra=dict(case.extra),
        )


@lru_cache
def truth(folder: Path, form: Form, dates: Dates, samples: int) -> int:
    """What the bytes of the first samples add up to."""
    chosen = slice(DATE, DATE + 1) if dates == "one" else slice(None)
    pixels = Pixels(str(folder))
    total = 0
    for sample in range(samples):
        arrays = pixels.stack(sample) if form == "stack" else [array[sample] for array in pixels.arrays.values()]
        total += total_of({str(number): array[chosen] for number, array in enumerate(arrays)})
    return total % 2**64


def machine_cpu_s() -> float:
    """Processor time that the machine's programs have used so far."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft, steal = map(int, fields[:8])
    return (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")


def disk_mb() -> float:
    """Read from disks by anything so far."""
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        if line.startswith("pgpgin "):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


@dataclass(slots=True, kw_only=True)
class Comparison:
    """The passes of every case, and the cases that failed."""

    setting: Setting
    cases: Sequence[Case]
    passes: dict[Case, list[Pass]] = field(default_factory=dict)
    exact: dict[Case, bool] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    """Cores that other programs kept busy, by round."""
    disk: float = 0.0

    def write(self) -> None:
        """Write the data sets that are not there; geossl's own in any case unless they are kept: geossl changes."""
        for data in (*DATA_SETS, *SIZED):
            job = self.setting.job(data)
            python = self.setting.pythons.get(data.python)
            wanted = data in SIZED or any(case.data == data.name for case in self.cases)
            if not wanted or not python or (Path(job.folder).is_dir() and (self.setting.keep or data.python != "own")):
                continue
            self.setting.say(f"writing {data.name}")
            try:
                runs.write_set(data, python, job)
            except ReaderError as error:
                self.failed[data.name] = str(error)
                self.setting.say(f"{data.name} cannot be written: {error}")

    def measure(self, rounds: int) -> None:
        """A pass of every case that is checked and not timed, then `rounds` that are timed, all cases in each."""
        with ExitStack() as stack:
            readers: dict[tuple[str, Python, str], Reader] = {}
            for case in self.cases:
                script, python, data = case.reader
                if case.reader in readers or data in self.failed or python not in self.setting.pythons:
                    continue
                reader = Reader(script, self.setting.pythons[python], self.setting.job(SETS[data]))
                readers[case.reader] = stack.enter_context(reader)
                try:
                    self.versions |= reader.versions()
                except ReaderError as error:
                    self._give_up(case, error)
            for case in self.cases:
                self._check(case, readers)
            for number in range(rounds):
                self.setting.say(f"round {number + 1} of {rounds}")
                self._round(readers)

    def _check(self, case: Case, readers: dict[tuple[str, Python, str], Reader]) -> None:
        found = self._ask(case, readers, check=True)
        if found:
            pixels = self.setting.folder / "pixels"
            self.exact[case] = found.total == truth(pixels, SETS[case.data].form, case.dates, found.samples)
            self.setting.say(f"{case.name}, {case.dates}: {found.samples} samples")

    def _round(self, readers: dict[tuple[str, Python, str], Reader]) -> None:
        began, before, disk, mine = time.monotonic(), machine_cpu_s(), disk_mb(), time.process_time()
        used = 0.0
        for case in self.cases:
            found = self._ask(case, readers, check=False)
            if found:
                used += found.cpu_s
                self.passes.setdefault(case, []).append(found)
        used += time.process_time() - mine
        self.others.append((machine_cpu_s() - before - used) / (time.monotonic() - began))
        self.disk += disk_mb() - disk

    def _ask(self, case: Case, readers: dict[tuple[str, Python, str], Reader], *, check: bool) -> Pass | None:
        """A pass; None where it fails, and the case is left out from then on."""
        name = f"{case.name}, {case.dates}"
        if case.reader not in readers or name in self.failed:
            return None
        try:
            return readers[case.reader].ask(self.setting.ask(case, check=check))
        except ReaderError as error:
            self._give_up(case, error)
            return None

    def _give_up(self, case: Case, error: ReaderError) -> None:
        self.failed[f"{case.name}, {case.dates}"] = str(error)
        self.setting.say(f"{case.name}, {case.dates} fails and is left out: {error}")

    def show(self) -> None:
        """Print what each case cost, what was reached, and what the figures are worth."""
        for dates in tables.TITLES:
            tables.table(dates, self.passes, self.exact)
        tables.verdicts(self.passes)
        sizes = {}
        for data in (*DATA_SETS, *SIZED):
            job = self.setting.job(data)
            if Path(job.folder).is_dir():
                sizes[data] = size_mb(Path(job.folder)) / job.samples
        tables.sizes(sizes)
        print("\n" + ", ".join(f"{name} {text}" for name, text in sorted(self.versions.items())))
        busy = ", ".join(f"{cores:.1f}" for cores in self.others)
        print(f"other programs kept {busy} of {os.cpu_count()} cores busy: rates are good where that is near 0")
        warm = "" if self.disk < BUSY_MB else ": the page cache was not warm, rates are too low"
        print(f"{self.disk:.0f} MB came from disks during the timed passes{warm}")
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        print(f"the largest process of a loader held {peak_mb:.0f} MB")
        for name, cause in self.failed.items():
            print(f"left out: {name}: {cause}")


def size_mb(folder: Path) -> float:
    """Megabytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def compare(setting: Setting, *, rounds: int, wanted: Sequence[str]) -> None:
    """Write what is missing, read everything `rounds` times and print the tables.

    wanted: how the names of the cases to run begin.
    """
    cases = [case for case in CASES if case.name.startswith(tuple(wanted))]
    comparison = Comparison(setting=setting, cases=[case for case in cases if case.reader[1] in setting.pythons])
    if len(comparison.cases) < len(cases):
        setting.say("without --peers and --streaming only what runs in their absence is measured")
    comparison.write()
    comparison.measure(rounds)
    comparison.show()
    print(f"medians of {rounds} rounds, interleaved; {setting.samples} samples in batches of {setting.batch}")
