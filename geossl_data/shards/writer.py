"""Tiles → tar shards: whole or absent, resumable, the same bytes on one worker or many.

A shard is written aside, fsynced and renamed; then its journal entry, so that a run that was cut off does only what is
missing.
"""

import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geossl_data.bands import MEMBERS
from geossl_data.errors import GeosslError, ReadError, ShardError, StorageError, TokenError
from geossl_data.files import atomic_path, sha256
from geossl_data.progress import Progress, silent
from geossl_data.records import Sample, Skipped
from geossl_data.shards.cluster import on_cluster
from geossl_data.shards.codec import CODECS
from geossl_data.shards.journal import finished, remove_foreign, remove_unfinished, write_journal
from geossl_data.shards.manifest import Entry, mosaic
from geossl_data.shards.plan import ShardPlan
from geossl_data.shards.report import ShardReport
from geossl_data.shards.statistics import Sums, look_sums, merge_sums
from geossl_data.shards.tars import BLOCK
from geossl_data.tiles.build import Tile
from geossl_data.version import VERSION

Build = Callable[[Sample], Tile]
"""Sample → Tile; raises a GeosslError for a sample that has to be skipped."""
BuildFactory = Callable[[Sequence[Sample]], AbstractContextManager[Build]]
"""Opens what a Build needs and closes it again; picklable, so that a worker process can call it.

It is told which samples the Build will be asked for, in that order, so that it can read ahead."""

SCHEMA_VERSION = 1
SECRET_PATTERN = re.compile(
    r"[?&](sig|token|x-amz-[a-z-]+|x-goog-[a-z-]+|signature|key)=|://[^/\s\"]*:[^/\s\"]*@", re.I
)
"""What a signed URL or one with a password looks like."""


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
    write_journal(report, plan, folder, fingerprint=fingerprint)
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
        except (StorageError, TokenError):
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
        "geossl:drawn_by": sample.drawn_by,
        "geossl:change_score": sample.change_score,
        "geossl:change_score_s2": sample.change_score_s2,
        "geossl:change_score_s1": sample.change_score_s1,
        "geossl:spectral_entropy": sample.spectral_entropy,
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
        file.write(b"\0" * (2 * BLOCK))
    return tuple(entries), sums


def _write_member(file: BinaryIO, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 0
    file.write(info.tobuf(format=tarfile.GNU_FORMAT))
    file.write(data)
    file.write(b"\0" * (-len(data) % BLOCK))


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
        s2_more=mosaic([look.s2_more for look in sample.looks]),
        s1_more=mosaic([look.s1_more for look in sample.looks]),
        drawn_by=sample.drawn_by or None,
        change_score=sample.change_score,
        change_score_s2=sample.change_score_s2,
        change_score_s1=sample.change_score_s1,
        spectral_entropy=sample.spectral_entropy,
        labels=tuple(int(meta["label"]["geossl:majority_class"]) if "label" in meta else 0 for meta in metas),
        cloud_fraction=tuple(meta["s2"]["geossl:cloud_fraction"] for meta in metas),
        s2_valid_fraction=tuple(float(meta["s2"]["geossl:valid_fraction"]) for meta in metas),
        s1_valid_fraction=tuple(float(meta["s1"]["geossl:valid_fraction"]) for meta in metas),
    )


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
    remove_foreign(folder, plans)
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
            work = partial(_write_apart, folder.absolute(), build_factory, codec, fingerprint)
            try:
                with closing(on_cluster(work, todo, workers=min(workers, len(todo)))) as finishing:
                    for plan, report in finishing:
                        done(plan, report, len(plan.samples))
            finally:
                remove_unfinished(folder)
        elif todo:
            with build_factory([sample for plan in todo for sample in plan.samples]) as build:
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


def _write_apart(
    folder: Path, build_factory: BuildFactory, codec: str, fingerprint: str, plan: ShardPlan
) -> ShardReport:
    """What a worker process runs."""
    with build_factory(plan.samples) as build:
        return write_shard(plan, folder, build, codec=codec, fingerprint=fingerprint)
