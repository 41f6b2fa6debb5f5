"""Writing shards: how fast from local scenes with one worker and with two, and the memory of 100 to 10,000 samples.

    python benchmarks/writing.py

The scenes are those of the sandbox's planet (426 MB, rendered once in half a minute and found again), the samples all
places of 96 px that fit into its scenes, with a look in each season. `geossl shard --fresh` is run as a user runs it,
with one worker and with two in turns; its imports, its dask cluster, manifest and cards are counted. MB/s is of the
numbers in the shards before they are made smaller; peak MB is the resident memory of all processes together, looked at
20 times a second, pages that they share counted for each. "same" says that the shards are the same bytes every time.

Memory: one process writes samples of two looks of 60 px that are made in memory, with manifest and cards, and says the
most that was resident. What is beyond the first row is what a sample leaves behind: its rows of the manifest.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loading.workers.passes import children
from loading.workers.places import content_of, sample_of

import geossl_data as gd
from geossl_data.bands import MEMBERS
from geossl_data.records import Sample
from geossl_data.shards.cards import write_cards
from geossl_data.shards.codec import payload_nbytes
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, read_manifest
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.writing.content import Content
from geossl_data.shards.writing.plan import plan_shards
from geossl_data.shards.writing.report import manifest_notes
from geossl_data.shards.writing.writer import Build, write_shards

DATA = Path(__file__).resolve().parents[1] / "build" / "benchmarks" / "writing"
SMALL_PX, SMALL_DATES, SMALL_SHARD_MB = 60, 2, 16
SHARD_MB = 16
"""Small enough that there are shards to share."""
LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of `geossl shard` cost."""

    seconds: float
    cpu_s: float
    peak_mb: float
    digest: str


def command(*words: str | Path) -> list[str]:
    return [str(Path(sys.executable).with_name("geossl")), *map(str, words)]


def dataset_in(folder: Path, *, size_px: int) -> Path:
    """A dataset folder of the sandbox's planet that is ready to be sharded; made once and found again."""
    planet, dataset = folder / "planet", folder / f"dataset-{size_px}"
    if not (dataset / "samples.parquet").is_file():
        shutil.rmtree(dataset, ignore_errors=True)
        for words in (
            ("sandbox", planet),
            ("fetch", dataset, "--catalog", planet / "catalog.parquet", "--max-cloud", "60"),
            ("sample", dataset, "--size", str(size_px), "--looks", "seasons", "--block-km", "3"),
        ):
            say(" ".join(map(str, words)))
            subprocess.run(command(*words), check=True, stdout=subprocess.DEVNULL)
    return dataset


def shard(dataset: Path, workers: int, codec: str) -> Run:
    """Cut and write all samples, from the start."""
    words = ("shard", dataset, "--workers", str(workers), "--codec", codec, "--shard-mb", str(SHARD_MB), "--fresh")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command(*words), stdout=said, stderr=said)
        peak_mb = 0.0
        while process.poll() is None:
            peak_mb = max(peak_mb, sum(map(resident_mb, [process.pid, *children(process.pid)])))
            time.sleep(LOOK_S)
        seconds = time.monotonic() - began
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    digest = hashlib.sha256()
    for path in sorted((dataset / SHARDS_FOLDER).glob("*.tar")):
        digest.update(path.read_bytes())
    return Run(seconds=seconds, cpu_s=cpu_s, peak_mb=peak_mb, digest=digest.hexdigest())


def resident_mb(process: int, field: str = "VmRSS") -> float:
    """Resident memory of a process in MB, at its highest with VmHWM; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field + ":"))


def sizes_mb(dataset: Path) -> tuple[int, float, float]:
    """Samples, megabytes of their numbers, and of the shards."""
    manifest = read_manifest(dataset / MANIFEST_NAME)
    raw = sum(
        payload_nbytes(MEMBERS[name].dtype, MEMBERS[name].shape(entry.size_px))
        for entry in manifest.entries
        for names in entry.members
        for name in names
    )
    stored = sum(path.stat().st_size for path in (dataset / SHARDS_FOLDER).glob("*.tar"))
    return len(manifest.entries), raw / 1e6, stored / 1e6


def speed(folder: Path, *, size_px: int, rounds: int, codec: str) -> None:
    """Write the same samples with one worker and with two, in turns, and print a table."""
    dataset = dataset_in(folder, size_px=size_px)
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for number in range(rounds):
        for workers, these in runs.items():
            these.append(shard(dataset, workers, codec))
            say(f"round {number + 1} of {rounds}, {workers} workers: {these[-1].seconds:.1f} s")
    samples, raw_mb, stored_mb = sizes_mb(dataset)
    digests = {run.digest for these in runs.values() for run in these}
    print(f"\n{samples} samples of {size_px} px from local scenes, {raw_mb:.0f} MB as {stored_mb:.0f} MB of {codec}")
    print(
        f"{'workers':>8}{'samples/s':>11}{'MB/s':>8}{'stored MB/s':>13}{'CPU ms/sample':>15}{'peak MB':>9}{'same':>6}"
    )
    for workers, these in runs.items():
        seconds, cpu_s, peak_mb = (
            statistics.median(getattr(run, name) for run in these) for name in ("seconds", "cpu_s", "peak_mb")
        )
        rates = f"{samples / seconds:11.1f}{raw_mb / seconds:8.1f}{stored_mb / seconds:13.1f}"
        same = "yes" if len(digests) == 1 else "NO"
        print(f"{workers:8}{rates}{cpu_s / samples * 1e3:15.1f}{peak_mb:9.0f}{same:>6}")
    gain = statistics.median(one.seconds / two.seconds for one, two in zip(runs[1], runs[2], strict=True))
    print(f"two workers are {gain:.2f} times as fast as one; medians of {rounds} rounds, interleaved")


def write_small(folder: Path, count: int) -> dict[str, float]:
    """Write `count` small samples whose pixels are made in memory; MB resident before, and at most."""
    rng = np.random.default_rng(0)
    names = ("s2_10m", "s2_20m", "s2_60m", "s1")
    shapes = {name: MEMBERS[name].shape(SMALL_PX) for name in names}
    pixels = {name: rng.integers(1000, 2000, shape).astype(np.uint16) for name, shape in shapes.items()}

    def build(sample: Sample) -> Content:
        number = int(sample.key.removeprefix("place-"))
        return content_of(sample, [{name: array + number % 1000 for name, array in pixels.items()}] * SMALL_DATES)

    def open_build(_: Sequence[Any]) -> AbstractContextManager[Build]:
        return nullcontext(build)

    samples = [sample_of(number, size_px=SMALL_PX, dates=SMALL_DATES) for number in range(count)]
    before = resident_mb(os.getpid())
    began = time.monotonic()
    plans = plan_shards(samples, shard_mb=SMALL_SHARD_MB, seed=0)
    reports = write_shards(plans, folder / SHARDS_FOLDER, open_build, fingerprint="benchmark")
    written = resident_mb(os.getpid(), "VmHWM")
    entries = [entry for report in reports for entry in report.entries]
    notes = manifest_notes(reports, fingerprint="benchmark", codec="blosc")
    write_manifest(folder / MANIFEST_NAME, entries, notes)
    write_cards(folder, entries, notes)
    assert len(entries) == count
    seconds = time.monotonic() - began
    return {"before": before, "written": written, "peak": resident_mb(os.getpid(), "VmHWM"), "seconds": seconds}


def memory(counts: Sequence[int]) -> None:
    """Print the most memory that writing so many samples takes, each in a process of its own."""
    print(f"\nmemory of writing samples of {SMALL_DATES} looks of {SMALL_PX} px, one process, MB resident")
    print(f"{'samples':>9}{'before':>9}{'shards':>9}{'and manifest':>14}{'samples/s':>11}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, __file__, "--small", str(count), "--data", folder],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        found = json.loads(done.stdout)
        rate = count / found["seconds"]
        print(f"{count:9}{found['before']:9.0f}{found['written']:9.0f}{found['peak']:14.0f}{rate:11.0f}", flush=True)


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(f"… {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the planet; build/benchmarks/writing")
    parser.add_argument("--size", type=int, default=96, help="side of a place, pixels of 10 m")
    parser.add_argument("--codec", default="blosc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 1_000, 10_000], help="samples, for the memory")
    parser.add_argument("--small", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        print(json.dumps(write_small(options.data, options.small)))
        return
    if options.rounds:
        options.data.mkdir(parents=True, exist_ok=True)
        speed(options.data, size_px=options.size, rounds=options.rounds, codec=options.codec)
    if options.counts:
        memory(options.counts)
    print(f"\ngeossl {gd.__version__}")


if __name__ == "__main__":
    main()
