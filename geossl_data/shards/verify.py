"""Is everything what it says it is? Shards against the manifest, samples against each other, pixels against both."""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from geossl_data.bands import Member
from geossl_data.progress import Progress, silent
from geossl_data.shards.checking.findings import MOST_FINDINGS, Finding, error, limited, warning
from geossl_data.shards.checking.pixels import Measured, offset_findings, shift_findings, statistics_findings
from geossl_data.shards.checking.provenance import Said
from geossl_data.shards.checking.rows import checked_rows, distances_km, row_findings, split_findings
from geossl_data.shards.checking.tar_shard import ShardCheck, check_shard
from geossl_data.shards.checking.texts import leftover_findings, licence_findings, text_findings
from geossl_data.shards.manifest import MANIFEST_NAME, Entry, Manifest, read_manifest
from geossl_data.shards.reading.shards import source_of
from geossl_data.shards.reading.sources import Source
from geossl_data.shards.writing.statistics import merge_sums

__all__ = ["MOST_FINDINGS", "Finding", "nearest_splits_km", "verify"]

MOST_THREADS = 8
"""Shards that are looked at side by side: more would wait for the disk or the network."""


def verify(
    folder: Path,
    *,
    deep: bool = False,
    max_gap_hours: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Finding]:
    """What is wrong with a dataset folder; empty when all is well.

    Every shard is read once: its size and hash, every member's place, checksum, header and padding, and the provenance
    of every sample are held against the manifest; the rows of the manifest against each other, the splits too; the
    recorded times and offsets against the names and baselines of the products; and the texts of the folder are
    searched for secrets. Shards in an object store are read there; what else lies beside them is not looked for.

    deep: decodes every array as well, and compares shares of valid pixels, labels and statistics with what is recorded;
    warns of looks with signs of an offset that was not undone, and of radar images that lie off (`shift_findings` says
    what that sees). max_gap_hours: largest time between the sensors of a pair; None where it is not known.
    threads: how many shards at a time, each with a few tens of MB; one for each processor when left out.

    Errors are what is wrong, warnings what to look at. Of a shard, and of the manifest, MOST_FINDINGS are named and the
    others counted. Raises DatasetError or ShardError when there is no manifest to compare with.
    """
    manifest = read_manifest(folder / MANIFEST_NAME)
    source = source_of(folder, manifest)
    entries, findings = checked_rows(manifest)
    findings = limited([*findings, *row_findings(manifest, entries, max_gap_hours)], MANIFEST_NAME)
    findings += limited(split_findings(manifest, entries), MANIFEST_NAME)
    listed = manifest.notes["shards"] if "location" not in manifest.notes else {}
    findings += limited([*leftover_findings(folder, listed), *text_findings(folder)], folder.name or str(folder))
    with progress("verifying samples", len(entries)) as task:
        checks = _checked(source, manifest, entries, deep, threads, _in_turn(task.advance))
    source.close()
    for check in checks:
        findings += check.findings
    findings += _findings_of_all(folder, manifest, entries, checks)
    shifts = [
        ((one.key, look), *shift)
        for check in checks
        for one in check.said
        for look, shift in enumerate(one.shifts)
        if shift is not None
    ]
    if deep:
        findings += _findings_of_pixels(manifest, entries, checks)
        shifts = [shift for check in checks for shift in check.measured.shifts]
    return [*findings, *shift_findings(shifts)]


def nearest_splits_km(manifest: Manifest) -> dict[tuple[str, str], float]:
    """Smallest distance in km between centres of places of two splits, for every two that have places."""
    return distances_km(manifest.entries)


def _in_turn(advance: Callable[[float], None]) -> Callable[[int], None]:
    """For several threads, which would otherwise lose steps."""
    lock = threading.Lock()

    def one(steps: int) -> None:
        with lock:
            advance(steps)

    return one


def _checked(
    source: Source,
    manifest: Manifest,
    entries: Sequence[Entry],
    deep: bool,
    threads: int | None,
    advance: Callable[[int], None],
) -> list[ShardCheck]:
    """Every shard that the notes list, in the order of their names."""
    by_shard: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_shard[entry.shard].append(entry)
    noted: Mapping[str, Any] = manifest.notes["shards"]
    members: Mapping[str, Member] = manifest.members
    count = threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))
    pool = ThreadPoolExecutor(max_workers=max(1, min(count, len(noted))), thread_name_prefix="verify")
    try:
        check = partial(_check, source, members, manifest.notes["codec"], deep, advance)
        waiting = [pool.submit(check, name, noted[name], by_shard[name]) for name in sorted(noted)]
        return [future.result() for future in waiting]
    finally:
        pool.shutdown(cancel_futures=True)


def _check(
    source: Source,
    members: Mapping[str, Member],
    codec: str,
    deep: bool,
    advance: Callable[[int], None],
    name: str,
    noted: Mapping[str, Any],
    entries: Sequence[Entry],
) -> ShardCheck:
    return check_shard(source, name, noted, entries, members, codec, deep=deep, advance=advance)


def _findings_of_all(
    folder: Path, manifest: Manifest, entries: Sequence[Entry], checks: Sequence[ShardCheck]
) -> Iterator[Finding]:
    said = [one for check in checks for one in check.said]
    years = {year for one in said for year in one.years}
    noted = manifest.notes.get("years")
    # Where a sample could not be read its years are not known, and those that are noted may well be its.
    wrong = years != set(noted) if isinstance(noted, list) and len(said) == len(entries) else False
    if wrong:
        yield error(MANIFEST_NAME, f"the notes say scenes of {noted}, the samples are of {sorted(years)}")
    yield from licence_findings(folder, years)
    yield from _era_findings(said)


def _era_findings(said: Sequence[Said]) -> Iterator[Finding]:
    """Looks that may not be reflectance × 10000 as the others are."""
    offsets = [offset for one in said for offset in one.offsets]
    unknown = offsets.count(None)
    if unknown:
        yield warning(
            MANIFEST_NAME,
            f"nobody stated the offset of {unknown} of {len(offsets)} Sentinel-2 scenes: these may be 1000 high",
        )


def _findings_of_pixels(
    manifest: Manifest, entries: Sequence[Entry], checks: Sequence[ShardCheck]
) -> Iterator[Finding]:
    measured = Measured()
    for check in checks:
        measured.add(check.measured)
    measured.sums = [merge_sums(measured.sums)]
    if measured.n_training == sum(entry.n_looks for entry in entries if entry.split == "train"):
        yield from limited(statistics_findings(measured, manifest.notes["statistics"]), MANIFEST_NAME)
    yield from offset_findings(measured)
