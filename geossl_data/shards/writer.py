"""Tiles → tar shards: whole or absent, resumable, the same bytes on one worker or many.

What goes into which shard is decided by a plan before anything is read, so that it depends neither on the order of the
samples nor on who is fastest. A shard is written aside, fsynced and renamed; then its journal entry, which says what it
holds and how its bytes hash, so that a run that was cut off does only what is missing.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS
from geossl_data.errors import GeosslError, ReadError, ShardError, StorageError
from geossl_data.files import atomic_path, remove_temporaries, sha256, write_text
from geossl_data.progress import Progress, silent
from geossl_data.records import SPLITS, Sample, Skipped, Split
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.codec import CODECS, payload_nbytes
from geossl_data.shards.manifest import SHARD_PATTERN, Entry, from_plain, member_notes, to_plain
from geossl_data.tiles.build import Tile
from geossl_data.version import VERSION

Build = Callable[[Sample], Tile]
"""Sample → Tile; raises a GeosslError for a sample that has to be skipped."""
BuildFactory = Callable[[], AbstractContextManager[Build]]
"""Opens what a Build needs and closes it again; picklable, so that a worker process can call it."""
Sums = dict[str, tuple[int, float, float]]
"""Per band: number of valid pixels, sum, sum of squares."""

SCHEMA_VERSION = 1
JOURNAL_FOLDER = ".journal"
IN_FLIGHT_PER_WORKER = 2
SECRET_PATTERN = re.compile(
    r"[?&](sig|token|x-amz-[a-z-]+|x-goog-[a-z-]+|signature|key)=|://[^/\s\"]*:[^/\s\"]*@", re.I
)
"""What a signed URL or one with a password looks like."""

_BLOCK = 512
_JSON_ESTIMATE = 8 * _BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """What one shard will hold, in order."""

    name: str
    """As in `train-000000`; the file adds `.tar`."""
    split: Split
    samples: tuple[Sample, ...]

    @property
    def digest(self) -> str:
        """Hex digest of name and samples: two plans with the same digest write the same shard."""
        text = json.dumps([self.name, [asdict(sample) for sample in self.samples]], sort_keys=True, default=rfc3339)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What one shard holds now."""

    name: str
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]
    nbytes: int
    """Size of the tar; 0 where every sample was skipped and there is none."""
    sha256: str
    sums: Sums
    """Sums over the valid pixels of all its looks."""

    @property
    def file_name(self) -> str:
        """The tar's name inside the shards folder."""
        return f"{self.name}.tar"


# ------------------------------------------------------------------------------------------------ plan


def plan_shards(samples: Iterable[Sample], *, shard_mb: int, seed: int) -> list[ShardPlan]:
    """Which sample goes into which shard: per split a shuffle over regions and dates, cut into equal counts.

    The order is that of a hash of seed and key, so that neighbours in a shard are neighbours nowhere else, and it
    depends on nothing but the set of samples. Shards of one split differ by one sample at most and are planned for
    `shard_mb` megabytes. Raises ShardError when a key comes twice or sizes differ.
    """
    ranked = sorted(samples, key=lambda sample: (_rank(seed, sample.key), sample.key))
    for before, after in pairwise(ranked):
        if before.key == after.key:
            raise ShardError(f"sample key {after.key} comes twice; keys name the members of a shard")
    sizes = sorted({sample.place.size_px for sample in ranked})
    if len(sizes) > 1:
        raise ShardError(f"places of {sizes} px a side; one dataset has one size")
    return [plan for split in SPLITS for plan in _plan_split(ranked, split, shard_mb * 1_000_000)]


def _rank(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=16).digest()


def _plan_split(ranked: Sequence[Sample], split: Split, shard_nbytes: int) -> list[ShardPlan]:
    chosen = [sample for sample in ranked if sample.split == split]
    count = min(len(chosen), -(-sum(map(estimated_nbytes, chosen)) // shard_nbytes))
    edges = [position * len(chosen) // count for position in range(count + 1)] if count else [0]
    return [
        ShardPlan(name=f"{split}-{number:06d}", split=split, samples=tuple(chosen[start:stop]))
        for number, (start, stop) in enumerate(pairwise(edges))
    ]


def estimated_nbytes(sample: Sample) -> int:
    """About how many bytes a sample takes in a shard, if its looks have every member."""
    sizes = [payload_nbytes(member.dtype, member.shape(sample.place.size_px)) for member in MEMBERS.values()]
    return _JSON_ESTIMATE + len(sample.looks) * sum(2 * _BLOCK + nbytes for nbytes in sizes)


# ------------------------------------------------------------------------------------------------ one shard


def write_shard(
    plan: ShardPlan, folder: Path, build: Build, *, codec: str = "npy", fingerprint: str = ""
) -> ShardReport:
    """Build the samples of a plan and write them to `{folder}/{name}.tar`, then its journal entry.

    A sample whose build raises a GeosslError becomes a Skipped row and the shard goes on without it; where nothing is
    left, no tar is written. Raises StorageError when the disk is full or the folder is not writable: then nothing
    stands under the final name.
    """
    path = folder / f"{plan.name}.tar"
    skipped: list[Skipped] = []
    groups = _groups(plan, build, codec, skipped)
    first = next(groups, None)
    if first is None:
        path.unlink(missing_ok=True)
        report = ShardReport(name=plan.name, entries=(), skipped=tuple(skipped), nbytes=0, sha256="", sums={})
    else:
        with atomic_path(path) as temporary:
            entries, sums = _write_tar(temporary, path.name, chain([first], groups))
            nbytes, digest = temporary.stat().st_size, sha256(temporary)
        report = ShardReport(
            name=plan.name, entries=entries, skipped=tuple(skipped), nbytes=nbytes, sha256=digest, sums=sums
        )
    write_text(_journal(folder, plan), _journal_text(report, plan, fingerprint))
    return report


@dataclass(frozen=True, slots=True)
class _Group:
    """A sample ready to be written: the members of its group, in order."""

    tile: Tile
    members: tuple[tuple[str, bytes], ...]


def _groups(plan: ShardPlan, build: Build, codec: str, skipped: list[Skipped]) -> Iterator[_Group]:
    """The groups of the samples that could be built; the others are appended to `skipped`."""
    for sample in plan.samples:
        try:
            yield _group(build(sample), codec)
        except StorageError:
            raise
        except (GeosslError, OSError) as error:
            skipped.append(Skipped(stage="shard", id=sample.key, reason=_reason(error), detail=_one_line(error)))


def _reason(error: Exception) -> str:
    given = getattr(error, "reason", None)
    if isinstance(given, str):
        return given
    return "read-failed" if isinstance(error, ReadError | OSError) else "not-written"


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _group(tile: Tile, codec: str) -> _Group:
    key, size_px = tile.sample.key, tile.sample.place.size_px
    if len(tile.looks) != len(tile.sample.looks):
        raise ShardError(f"{key}: {len(tile.looks)} looks built of {len(tile.sample.looks)}")
    arrays: list[tuple[str, bytes]] = []
    for position, look in enumerate(tile.looks):
        for name in MEMBERS:
            if name in look.members:
                array, member = look.members[name], MEMBERS[name]
                if (array.dtype, array.shape) != (np.dtype(member.dtype), member.shape(size_px)):
                    raise ShardError(f"{key}: {name} is {array.dtype} {array.shape}, not {member.shape(size_px)}")
                arrays.append((f"{key}.{position}.{name}.{codec}", CODECS[codec].encode(array)))
    text = json.dumps(provenance(tile), sort_keys=True, allow_nan=False)
    if SECRET_PATTERN.search(text):
        raise ShardError(f"{key}: an href is signed or holds a password; scenes keep unsigned hrefs only")
    return _Group(tile, ((f"{key}.json", text.encode()), *arrays))


def provenance(tile: Tile) -> dict[str, Any]:
    """What `{key}.json` says: place, grid, looks with product ids, offsets, orbits and gaps, and lineage."""
    from geossl_data.grid import square_lonlat

    sample, place = tile.sample, tile.sample.place
    footprint = square_lonlat(place.epsg, place.x, place.y, place.side_m)
    return {
        "geossl:schema_version": SCHEMA_VERSION,
        "geossl:version": VERSION,
        "geossl:key": sample.key,
        "geossl:split": sample.split,
        "geossl:block": sample.block,
        "geossl:cell": place.cell,
        "geossl:stratum": sample.stratum,
        "geossl:weight": sample.weight,
        "geossl:inclusion_probability": sample.inclusion_probability,
        "proj:code": f"EPSG:{place.epsg}",
        "proj:transform": [10.0, 0.0, float(place.x), 0.0, -10.0, float(place.y)],
        "proj:shape": [place.size_px, place.size_px],
        "gsd": 10.0,
        "bbox": [round(edge, 7) for edge in footprint.bounds],
        "proj:centroid": {"lat": place.lat, "lon": place.lon},
        "looks": [{"index": i, "members": list(look.members), **look.meta} for i, look in enumerate(tile.looks)],
        "attribution": f"Contains modified Copernicus Sentinel data {_years(sample)}",
    }


def _years(sample: Sample) -> list[int]:
    gaps = [(look.acquired, hours) for look in sample.looks for hours in (0.0, look.gap_hours)]
    return sorted({(time + timedelta(hours=hours)).year for time, hours in gaps})


def _write_tar(path: Path, file_name: str, groups: Iterable[_Group]) -> tuple[tuple[Entry, ...], Sums]:
    entries: list[Entry] = []
    sums: Sums = {}
    with path.open("wb") as file:
        for group in groups:
            start = file.tell()
            for name, data in group.members:
                _write_member(file, name, data)
            entries.append(_entry(group.tile, file_name, start, file.tell() - start))
            for look in group.tile.looks:
                sums = merge_sums([sums, look_sums(look.members)])
        file.write(b"\0" * (2 * _BLOCK))
    return tuple(entries), sums


def _write_member(file: BinaryIO, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 0
    file.write(info.tobuf(format=tarfile.GNU_FORMAT))
    file.write(data)
    file.write(b"\0" * (-len(data) % _BLOCK))


def _entry(tile: Tile, file_name: str, offset: int, nbytes: int) -> Entry:
    sample, place, metas = tile.sample, tile.sample.place, [look.meta for look in tile.looks]
    return Entry(
        key=sample.key,
        split=sample.split,
        block=sample.block,
        shard=file_name,
        offset=offset,
        nbytes=nbytes,
        lon=place.lon,
        lat=place.lat,
        epsg=place.epsg,
        x=float(place.x),
        y=float(place.y),
        size_px=place.size_px,
        cell=place.cell,
        stratum=sample.stratum,
        weight=float(sample.weight),
        inclusion_probability=float(sample.inclusion_probability),
        n_looks=len(tile.looks),
        members=tuple(tuple(look.members) for look in tile.looks),
        acquired=tuple(look.acquired for look in sample.looks),
        gap_hours=tuple(float(look.gap_hours) for look in sample.looks),
        s2_ids=tuple(look.s2_id for look in sample.looks),
        s1_ids=tuple(look.s1_id for look in sample.looks),
        labels=tuple(int(meta["label"]["geossl:majority_class"]) if "label" in meta else 0 for meta in metas),
        cloud_fraction=tuple(meta["s2"]["geossl:cloud_fraction"] for meta in metas),
        s2_valid_fraction=tuple(float(meta["s2"]["geossl:valid_fraction"]) for meta in metas),
        s1_valid_fraction=tuple(float(meta["s1"]["geossl:valid_fraction"]) for meta in metas),
    )


# ------------------------------------------------------------------------------------------------ statistics


def look_sums(members: Mapping[str, NDArray[Any]]) -> Sums:
    """Count, sum and sum of squares of the valid pixels of each band of the two sensors, in float64."""
    sums: Sums = {}
    for name, array in members.items():
        member = MEMBERS[name]
        if array.ndim == 3:
            for band, values in zip(member.bands, array, strict=True):
                valid = np.isfinite(values) if values.dtype.kind == "f" else values != 0
                kept = values[valid].astype(np.float64)
                sums[band] = (int(kept.size), float(kept.sum()), float(np.square(kept).sum()))
    return sums


def merge_sums(parts: Iterable[Sums]) -> Sums:
    """Sums of several parts, added in the given order, so that the result has the same bits every time."""
    total: Sums = {}
    for part in parts:
        for band, (count, first, second) in part.items():
            before = total.get(band, (0, 0.0, 0.0))
            total[band] = (before[0] + count, before[1] + first, before[2] + second)
    return total


def statistics(sums: Sums) -> dict[str, dict[str, float]]:
    """Mean and (population) standard deviation of each band that has a valid pixel, with the pixel count."""
    return {
        band: {"mean": first / count, "std": max(second / count - (first / count) ** 2, 0.0) ** 0.5, "count": count}
        for band, (count, first, second) in sums.items()
        if count
    }


def manifest_notes(
    reports: Sequence[ShardReport],
    *,
    fingerprint: str,
    codec: str = "npy",
    label_names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The notes of the manifest for what the reports say was written; see `manifest.Manifest`.

    Statistics are over the training split. Raises ShardError when nothing was written.
    """
    written = [report for report in reports if report.entries]
    entries = [entry for report in written for entry in report.entries]
    if not entries:
        raise ShardError("no sample was written; see skipped.parquet for the reasons")
    present = {name for entry in entries for names in entry.members for name in names}
    training = [report.sums for report in written if report.entries[0].split == "train"]
    return {
        "codec": codec,
        "size_px": entries[0].size_px,
        "fingerprint": fingerprint,
        "members": member_notes(sorted(present)),
        "statistics": statistics(merge_sums(training)),
        "label_names": dict(label_names or {}),
        "shards": {
            report.file_name: {
                "nbytes": report.nbytes,
                "sha256": report.sha256,
                "n_samples": len(report.entries),
            }
            for report in written
        },
        "n_skipped": sum(len(report.skipped) for report in reports),
    }


# ------------------------------------------------------------------------------------------------ journal


def _journal(folder: Path, plan: ShardPlan) -> Path:
    return folder / JOURNAL_FOLDER / f"{plan.name}.json"


def _journal_text(report: ShardReport, plan: ShardPlan, fingerprint: str) -> str:
    content = {
        "plan": plan.digest,
        "fingerprint": fingerprint,
        "entries": [to_plain(entry) for entry in report.entries],
        "skipped": [asdict(row) for row in report.skipped],
        "nbytes": report.nbytes,
        "sha256": report.sha256,
        "sums": {band: list(values) for band, values in report.sums.items()},
    }
    return json.dumps(content, sort_keys=True, allow_nan=False) + "\n"


def finished(folder: Path, plan: ShardPlan, fingerprint: str) -> ShardReport | None:
    """The report of a shard that stands finished, or None where it has to be written (again).

    Finished means: its journal is of this plan and fingerprint, and the tar has the size and hash written there.
    """
    path = folder / f"{plan.name}.tar"
    try:
        content = json.loads(_journal(folder, plan).read_text(encoding="utf-8"))
        if (content["plan"], content["fingerprint"]) != (plan.digest, fingerprint):
            return None
        report = ShardReport(
            name=plan.name,
            entries=tuple(from_plain(row) for row in content["entries"]),
            skipped=tuple(Skipped(**row) for row in content["skipped"]),
            nbytes=int(content["nbytes"]),
            sha256=str(content["sha256"]),
            sums={band: (int(n), float(first), float(second)) for band, (n, first, second) in content["sums"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ShardError):
        return None
    if not report.entries:
        return None if path.exists() else report
    if not path.is_file() or path.stat().st_size != report.nbytes or sha256(path) != report.sha256:
        return None
    return report


def _remove_foreign(folder: Path, plans: Sequence[ShardPlan]) -> None:
    """Delete what an earlier, differently planned or interrupted run left in the shards folder."""
    names = {plan.name for plan in plans}
    remove_temporaries(folder)
    remove_temporaries(folder / JOURNAL_FOLDER)
    for path in (*folder.glob("*.tar"), *(folder / JOURNAL_FOLDER).glob("*.json")):
        if SHARD_PATTERN.fullmatch(f"{path.stem}.tar") and path.stem not in names:
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ all shards


def write_shards(
    plans: Sequence[ShardPlan],
    folder: Path,
    build_factory: BuildFactory,
    *,
    workers: int = 1,
    fingerprint: str = "",
    codec: str = "npy",
    progress: Progress = silent,
) -> list[ShardReport]:
    """Write all shards that are not finished yet; reports in the order of the plans.

    workers: 1 stays in this process; more start a dask cluster of that many processes on this machine, one task a
    shard, a bounded number in flight. The bytes do not depend on it. Progress counts samples.
    Raises StorageError as soon as a shard cannot be written; what is finished stays, and the next call goes on.
    """
    if codec not in CODECS:
        raise ShardError(f"codec {codec!r} is not one of {sorted(CODECS)}")
    _remove_foreign(folder, plans)
    reports: dict[str, ShardReport] = {}
    n_skipped = 0
    with progress("cutting looks", sum(len(plan.samples) for plan in plans)) as task:

        def done(plan: ShardPlan, report: ShardReport, steps: int) -> None:
            nonlocal n_skipped
            reports[plan.name] = report
            n_skipped += len(report.skipped)
            task.advance(steps, f"{n_skipped} skipped" if n_skipped else None)

        todo: list[ShardPlan] = []
        for plan in plans:
            standing = finished(folder, plan, fingerprint)
            if standing is None:
                todo.append(plan)
            else:
                done(plan, standing, len(plan.samples))
        if todo and workers > 1:
            for plan, report in _on_cluster(todo, folder, build_factory, min(workers, len(todo)), fingerprint, codec):
                done(plan, report, len(plan.samples))
        elif todo:
            with build_factory() as build:
                counted = _counting(build, task.advance)
                for plan in todo:
                    done(plan, write_shard(plan, folder, counted, codec=codec, fingerprint=fingerprint), 0)
    return [reports[plan.name] for plan in plans]


def _counting(build: Build, advance: Callable[[float], None]) -> Build:
    def counted(sample: Sample) -> Tile:
        try:
            return build(sample)
        finally:
            advance(1)

    return counted


def _write_remotely(
    plan: ShardPlan, folder: Path, build_factory: BuildFactory, codec: str, fingerprint: str
) -> ShardReport | GeosslError:
    """What a worker process runs. Run twice it does the same: a killed worker's shard is simply written again.

    An expected error is returned, not raised: dask would print its traceback.
    """
    try:
        with build_factory() as build:
            return write_shard(plan, folder, build, codec=codec, fingerprint=fingerprint)
    except GeosslError as error:
        return error


@contextmanager
def _cluster(workers: int) -> Iterator[Any]:
    """A client of a fresh cluster on the loopback interface, closed whatever happens."""
    import logging

    from distributed import Client, LocalCluster

    # A nanny writes what its workers should see (one OpenMP thread, among others) into this process's environment.
    before = dict(os.environ)
    with ExitStack() as stack:
        stack.callback(_restore_environment, before)
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
        yield stack.enter_context(Client(cluster))  # type: ignore[no-untyped-call]


def _restore_environment(before: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def _on_cluster(
    plans: Sequence[ShardPlan],
    folder: Path,
    build_factory: BuildFactory,
    workers: int,
    fingerprint: str,
    codec: str,
) -> Iterator[tuple[ShardPlan, ShardReport]]:
    """Plans with their reports, as they finish."""
    from distributed import KilledWorker, as_completed

    with _cluster(workers) as client:
        todo = iter(plans)
        running: dict[Any, ShardPlan] = {}

        def submit(plan: ShardPlan) -> Any:
            future = client.submit(
                _write_remotely, plan, folder.absolute(), build_factory, codec, fingerprint, key=plan.name, pure=False
            )
            running[future] = plan
            return future

        first = [submit(plan) for _, plan in zip(range(workers * IN_FLIGHT_PER_WORKER), todo, strict=False)]
        completed = as_completed(first)  # type: ignore[no-untyped-call]
        for future in completed:
            plan = running.pop(future)
            try:
                report = future.result()
            except KilledWorker:
                raise ShardError(
                    f"{plan.name}: worker processes died while cutting it, often for want of memory; use fewer workers"
                ) from None
            if isinstance(report, GeosslError):
                raise report
            yield plan, report
            following = next(todo, None)
            if following is not None:
                completed.add(submit(following))  # type: ignore[no-untyped-call]
