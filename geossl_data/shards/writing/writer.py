"""Tiles → tar shards: whole or absent, resumable, the same bytes on one worker or many.

A shard is written aside, fsynced and renamed; then its journal entry, so that a run that was cut off does only what is
missing.
"""

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import GeosslError, ReadError, ShardError, StorageError, TokenError
from geossl_data.files import sha256
from geossl_data.progress import Progress, Task, silent
from geossl_data.records import Skipped
from geossl_data.shards.codec import CODECS, Codec, crc32
from geossl_data.shards.manifest import Entry
from geossl_data.shards.secrets import SECRET_PATTERN
from geossl_data.shards.store import Store
from geossl_data.shards.tars import BLOCK
from geossl_data.shards.writing.attempts import attempt, deaths, forget_attempts, samples_done
from geossl_data.shards.writing.cluster import DIED, Crew, crew_of, on_crew
from geossl_data.shards.writing.content import Content, members_meta, stored_looks
from geossl_data.shards.writing.journal import (
    exchange_journals,
    finished,
    remove_foreign,
    remove_unfinished,
    write_journal,
)
from geossl_data.shards.writing.output import kept, require_space
from geossl_data.shards.writing.plan import ShardPlan
from geossl_data.shards.writing.quarantine import (
    DEATHS,
    probe,
    probed,
    quarantine_row,
    quarantined,
    stop_probing,
)
from geossl_data.shards.writing.report import ShardReport
from geossl_data.shards.writing.statistics import Sums, look_sums, merge_sums

Build = Callable[[Any], Content]
"""Planned sample → Content; raises a GeosslError for a sample that has to be skipped."""
BuildFactory = Callable[[Sequence[Any]], AbstractContextManager[Build]]
"""Opens what a Build needs and closes it again; picklable, so that a worker process can call it.

It is told which samples the Build will be asked for, in that order, so that it can read ahead."""

TRIES = 3
"""So often is tried again what others' deaths may have stopped."""


def write_shard(
    plan: ShardPlan,
    folder: Path,
    build: Build,
    *,
    members: Mapping[str, Member] = MEMBERS,
    codec: str = "blosc",
    fingerprint: str = "",
    store: Store | None = None,
) -> ShardReport:
    """Build the samples of a plan and write them to `{folder}/{name}.tar`, then its journal entry.

    store: keep the tar there instead, under the same name, and the journal entry in both places.
    A sample whose build raises a GeosslError becomes a Skipped row and the shard goes on without it, as it does without
    the samples in quarantine, which `build` is not asked for; where nothing is left, no tar is written. Raises
    StorageError when the disk is full or the folder is not writable: then nothing stands under the final name.
    """
    skipped: list[Skipped] = []
    with attempt(folder, plan) as trial:
        killers = quarantined(folder, plan, fingerprint)
        groups = _groups(plan, build, members, codec, killers, skipped, trial.advance)
        report = _written(plan, folder, groups, skipped, store)
        write_journal(report, plan, folder, fingerprint=fingerprint, store=store)
    return report


def _written(
    plan: ShardPlan, folder: Path, groups: Iterator["_Group"], skipped: list[Skipped], store: Store | None
) -> ShardReport:
    file_name = f"{plan.name}.tar"
    first = next(groups, None)
    if first is None:
        (folder / file_name).unlink(missing_ok=True)
        return ShardReport(name=plan.name, entries=(), skipped=tuple(skipped), nbytes=0, sha256="", sums={})
    with kept(folder, file_name, store) as temporary:
        entries, sums, years = _write_tar(temporary, file_name, chain([first], groups))
        nbytes, digest = temporary.stat().st_size, sha256(temporary)
    return ShardReport(
        name=plan.name,
        entries=entries,
        skipped=tuple(skipped),
        nbytes=nbytes,
        sha256=digest,
        sums=sums,
        years=tuple(sorted(years)),
    )


def _groups(
    plan: ShardPlan,
    build: Build,
    members: Mapping[str, Member],
    codec: str,
    killers: Mapping[str, int],
    skipped: list[Skipped],
    advance: Callable[[], None],
) -> Iterator["_Group"]:
    """The groups of the samples that could be built; the others are appended to `skipped`."""
    for sample in plan.samples:
        try:
            if sample.key in killers:
                skipped.append(quarantine_row(sample.key, killers[sample.key]))
            else:
                yield _group(build(sample), members, CODECS[codec])
        except (StorageError, TokenError):
            raise
        except (GeosslError, OSError) as error:
            skipped.append(Skipped(stage="shard", id=sample.key, reason=_reason(error), detail=_one_line(error)))
        advance()


@dataclass(frozen=True, slots=True)
class _Group:
    """A sample ready to be written: the files of its group, in order, and what is noted of it."""

    content: Content
    files: tuple[tuple[str, bytes], ...]
    present: tuple[tuple[str, ...], ...]
    """Member names of each look."""
    sums: Sums


def _group(content: Content, members: Mapping[str, Member], codec: Codec) -> _Group:
    looks = stored_looks(content, members)
    text = json.dumps({**content.meta, "members": members_meta(content, members)}, sort_keys=True, allow_nan=False)
    if SECRET_PATTERN.search(text):
        raise ShardError(f"{content.key}: an href is signed or holds a password; scenes keep unsigned hrefs only")
    arrays = [
        (f"{content.key}.{position}.{name}.{codec.extension}", codec.encode(array))
        for position, stored in enumerate(looks)
        for name, array in stored.items()
    ]
    return _Group(
        content=content,
        files=((f"{content.key}.json", text.encode()), *arrays),
        present=tuple(tuple(stored) for stored in looks),
        sums=merge_sums(look_sums(stored, members) for stored in looks),
    )


def _reason(error: Exception) -> str:
    given = getattr(error, "reason", None)
    if isinstance(given, str):
        return given
    return "read-failed" if isinstance(error, ReadError | OSError) else "not-written"


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _write_tar(path: Path, file_name: str, groups: Iterable[_Group]) -> tuple[tuple[Entry, ...], Sums, set[int]]:
    entries: list[Entry] = []
    sums: Sums = {}
    years: set[int] = set()
    with path.open("wb") as file:
        for group in groups:
            start = file.tell()
            for name, data in group.files:
                _write_member(file, name, data)
            entries.append(_entry(group, file_name, start, file.tell() - start))
            sums = merge_sums([sums, group.sums])
            years.update(group.content.years)
        file.write(b"\0" * (2 * BLOCK))
    return tuple(entries), sums, years


def _write_member(file: BinaryIO, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 0
    file.write(info.tobuf(format=tarfile.GNU_FORMAT))
    file.write(data)
    file.write(b"\0" * (-len(data) % BLOCK))


def _entry(group: _Group, file_name: str, offset: int, nbytes: int) -> Entry:
    content = group.content
    return Entry(
        key=content.key,
        split=content.split,
        size_px=content.size_px,
        shard=file_name,
        offset=offset,
        nbytes=nbytes,
        n_looks=len(content.looks),
        members=group.present,
        member_nbytes=tuple(len(data) for _, data in group.files),
        member_crc32=tuple(crc32(data) for _, data in group.files),
        **content.row,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """How shards are written, the same for all of them; sent to workers."""

    folder: Path
    build_factory: BuildFactory
    members: Mapping[str, Member]
    codec: str
    fingerprint: str
    store: Store | None

    def samples(self, plan: ShardPlan) -> list[Any]:
        """Those that are built: not the ones in quarantine."""
        killers = quarantined(self.folder, plan, self.fingerprint)
        return [sample for sample in plan.samples if sample.key not in killers]

    def write(self, plan: ShardPlan, build: Build) -> ShardReport:
        return write_shard(
            plan,
            self.folder,
            build,
            members=self.members,
            codec=self.codec,
            fingerprint=self.fingerprint,
            store=self.store,
        )

    def __call__(self, plan: ShardPlan) -> ShardReport:
        """What a worker process runs, maybe once more where its worker died when all but the report was there."""
        standing = finished(self.folder, plan, self.fingerprint, store=self.store)
        if standing is not None:
            return standing
        with self.build_factory(self.samples(plan)) as build:
            return self.write(plan, build)

    def probe(self, plan: ShardPlan) -> None:
        """What a worker process runs to find the samples over which processes die."""
        probe(self.folder, plan, self.fingerprint, self.build_factory)


def write_shards(
    plans: Sequence[ShardPlan],
    folder: Path,
    build_factory: BuildFactory,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    fingerprint: str = "",
    members: Mapping[str, Member] = MEMBERS,
    codec: str = "blosc",
    store: Store | None = None,
    progress: Progress = silent,
) -> list[ShardReport]:
    """Write all shards that are not finished yet; reports in the order of the plans.

    workers: 1 stays in this process; more start a dask cluster of that many processes on this machine. scheduler: the
    address of a dask scheduler whose workers do it instead; they have to see `folder`. One task a shard, a bounded
    number in flight. The bytes do not depend on any of it. Progress counts samples.
    store: where the shards are kept instead of in `folder`, which then has their journal only.
    A sample over which processes die is put into quarantine, and the rest completes. In this process that takes two
    runs, which end with it; the third cuts the shard in a process of its own.
    Raises StorageError before anything is read where the disk is too small, and as soon as a shard cannot be written;
    what is finished stays, and the next call goes on. Raises ShardError where a scheduler or a store refuses.
    """
    if codec not in CODECS:
        raise ShardError(f"codec {codec!r} is not one of {sorted(CODECS)}")
    folder = folder.absolute()
    remove_foreign(folder, plans)
    job = _Job(
        folder=folder,
        build_factory=build_factory,
        members=dict(members),
        codec=codec,
        fingerprint=fingerprint,
        store=store,
    )
    sizes = None if store is None else store.sizes()
    if store is not None and sizes is not None:
        exchange_journals(folder, plans, store, sizes)
    with progress("cutting looks", sum(len(plan.samples) for plan in plans)) as task:
        tally = _Tally(folder, task)
        todo: list[ShardPlan] = []
        for plan in plans:
            standing = finished(folder, plan, fingerprint, store=store, sizes=sizes)
            if standing is None:
                todo.append(plan)
            else:
                tally.done(plan, standing)
        if store is None:
            require_space(folder, todo)
        if todo and (workers > 1 or scheduler is not None):
            try:
                with crew_of(min(workers, len(todo)), scheduler, folder) as crew:
                    _write_apart(job, crew, todo, tally)
            finally:
                # Of the attempts that end with the cluster none has died.
                for plan in todo:
                    forget_attempts(folder, plan)
                remove_unfinished(folder)
        elif todo:
            _write_here(job, todo, tally)
    return [tally.reports[plan.name] for plan in plans]


class _Tally:
    """The reports so far, and how many samples have been counted of each shard."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.reports: dict[str, ShardReport] = {}
        self._folder, self._task = folder, task
        self._counted: dict[str, int] = {}
        self._n_counted = self._n_skipped = 0

    def count(self, plan: ShardPlan, n_samples: int, note: str | None = None) -> None:
        """So many samples of a shard are done with; fewer than before where it is cut once more."""
        more = max(0, n_samples - self._counted.get(plan.name, 0))
        self._counted[plan.name] = self._counted.get(plan.name, 0) + more
        self._n_counted += more
        if more or note is not None:
            self._task.advance(more, note)

    def look(self, plans: Sequence[ShardPlan]) -> int:
        """Count the samples of shards that others write at the moment; how many are counted in all."""
        for plan in plans:
            self.count(plan, samples_done(self._folder, plan))
        return self._n_counted

    def done(self, plan: ShardPlan, report: ShardReport) -> None:
        self.reports[plan.name] = report
        self._n_skipped += len(report.skipped)
        self.count(plan, len(plan.samples), f"{self._n_skipped:,} skipped" if self._n_skipped else None)


def _write_here(job: _Job, todo: Sequence[ShardPlan], tally: _Tally) -> None:
    """Write shards in this process, but for those over which it has ended without a word twice."""
    doubtful = [plan for plan in todo if deaths(job.folder, plan) >= DEATHS]
    sound = [plan for plan in todo if plan not in doubtful]
    if sound:
        with job.build_factory([sample for plan in sound for sample in job.samples(plan)]) as build:
            for plan in sound:
                tally.done(plan, job.write(plan, _counting(build, plan, tally)))
    if doubtful:
        try:
            with crew_of(1, None, job.folder) as crew:
                for plan in doubtful:
                    tally.done(plan, _isolated(job, crew, plan, tally))
        finally:
            remove_unfinished(job.folder)


def _counting(build: Build, plan: ShardPlan, tally: _Tally) -> Build:
    built = 0

    def counted(sample: Any) -> Content:
        nonlocal built
        built += 1
        try:
            return build(sample)
        finally:
            tally.count(plan, built)

    return counted


def _write_apart(job: _Job, crew: Crew, todo: Sequence[ShardPlan], tally: _Tally) -> None:
    """Write shards with the processes of a cluster; those over which workers die come last, one by one."""
    for plan in todo:
        forget_attempts(job.folder, plan)
    doubtful: list[ShardPlan] = []
    waiting = list(todo)
    # A worker that dies takes along what waits there for its turn: who is not to blame is tried again.
    for _ in range(1 + TRIES):
        again: list[ShardPlan] = []
        with closing(on_crew(crew, job, waiting, look=tally.look)) as finishing:
            for plan, outcome in finishing:
                if isinstance(outcome, ShardReport):
                    tally.done(plan, outcome)
                elif deaths(job.folder, plan) >= DEATHS:
                    doubtful.append(plan)
                else:
                    again.append(plan)
        waiting = again
    for plan in [*doubtful, *waiting]:
        tally.done(plan, _isolated(job, crew, plan, tally))


def _isolated(job: _Job, crew: Crew, plan: ShardPlan, tally: _Tally) -> ShardReport:
    """The report of a shard over which processes die, once the samples to blame are out of it; nothing else runs."""

    def look() -> int:
        return tally.look([plan])

    known, in_vain = None, 0
    try:
        while crew.wait(crew.submit(job.probe, plan), look) is DIED:
            before, known = known, probed(job.folder, plan, job.fingerprint)
            in_vain = in_vain + 1 if known == before else 0
            if in_vain >= TRIES:
                raise ShardError(f"{plan.name}: worker processes die before they build anything; their logs say why")
    finally:
        stop_probing(job.folder, plan, job.fingerprint)
    forget_attempts(job.folder, plan)
    outcome = crew.wait(crew.submit(job, plan), look)
    if not isinstance(outcome, ShardReport):
        raise ShardError(
            f"{plan.name}: worker processes die while they cut it, though none of its samples kills one by itself; "
            "often for want of memory: use fewer workers"
        )
    return outcome
