"""The stage that stores one's own rasters, named by a table, as shards: no catalog and no drawing before it."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data import tables
from geossl_data.errors import DatasetError
from geossl_data.pipeline._folder import (
    MANIFEST,
    SAMPLES,
    SHARDS,
    Report,
    per_split,
    settle,
    skipped_counts,
    working_on,
)
from geossl_data.pipeline._stored import entries_of, output_of, publish, require_own, shards_below, stand, start_over
from geossl_data.progress import Progress, silent
from geossl_data.recipe import ShardOptions

if TYPE_CHECKING:
    from geossl_data.bands import Member
    from geossl_data.shards.writing.content import Content
    from geossl_data.shards.writing.own.samples import OwnPlan, OwnSample
    from geossl_data.shards.writing.own.table import Row
    from geossl_data.tiles.own import Raster, RasterError

RASTERS = "rasters.parquet"
"""What the files of the table are: a cache, safe to delete."""
AHEAD = 4
"""Samples that are read at once, for each thread, as long as they take no more than AHEAD_NBYTES."""
AHEAD_NBYTES = 256 * 2**20
THREADS_ELSEWHERE = 2
"""How many read in each worker of a scheduler, whose processors are not known here."""


@dataclass(frozen=True, slots=True)
class OwnFactory:
    """Reads the rasters of samples; small enough to send to a worker."""

    folder: Path
    """That the paths of the samples are relative to."""
    members: "Mapping[str, Member]"
    min_valid: float
    threads: int

    @contextmanager
    def __call__(self, samples: "Sequence[OwnSample]") -> "Iterator[Callable[[OwnSample], Content]]":
        """A callable OwnSample → Content for these samples, in this order, that reads ahead until the block ends."""
        from geossl_data.shards.writing.own.content import own_content
        from geossl_data.shards.writing.own.plan import own_nbytes

        largest = max((own_nbytes(sample, self.members, "npy") for sample in samples), default=1.0)
        most = max(1, min(self.threads * AHEAD, int(AHEAD_NBYTES / largest)))
        read = partial(own_content, folder=self.folder, members=self.members, min_valid=self.min_valid)
        todo = iter(samples)
        under_way: deque[tuple[str, Future[Content]]] = deque()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="rasters") as pool:

            def build(sample: "OwnSample") -> "Content":
                for coming in islice(todo, most - len(under_way)):
                    under_way.append((coming.key, pool.submit(read, coming)))
                key, future = under_way.popleft()
                assert key == sample.key, f"{sample.key} was asked for where {key} is next"
                return future.result()

            try:
                yield build
            finally:
                for _, future in under_way:
                    future.cancel()


def with_table(options: ShardOptions, base: Path) -> ShardOptions:
    """Options whose table and folder of rasters are named absolutely: relative ones are looked up below `base`."""

    def absolute(path: str) -> str:
        return str((base / path).resolve()) if path and "://" not in path and (base / path).exists() else path

    return options.model_copy(update={"from_table": absolute(options.from_table), "rasters": absolute(options.rasters)})


def _portable(folder: Path, options: ShardOptions) -> ShardOptions:
    """The same options with what lies in the dataset folder named so that the folder can be moved."""
    base = folder.resolve()

    def relative(path: str) -> str:
        inside = path != "" and Path(path).is_relative_to(base) and Path(path) != base
        return Path(path).relative_to(base).as_posix() if inside else path

    return options.model_copy(update={"from_table": relative(options.from_table), "rasters": relative(options.rasters)})


def shard_own(
    folder: Path,
    options: ShardOptions,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Report:
    """Store the rasters of a table as shards with a manifest; resumes what an interrupted run left.

    options: `from_table` names the table, see `shards.writing.own.table` for what it says, or a folder of classes, see
    `shards.writing.own.classes`. The rest is as of `shard`; the workers of a scheduler have to see the rasters too.
    Raises DatasetError for a table that contradicts itself or whose rasters do not fit together; single rasters that
    cannot be used are left out with a reason.
    """
    from geossl_data.sampling.splits import SplitRule
    from geossl_data.scenes.hrefs import redact
    from geossl_data.shards.writing.own.plan import inputs_digest, own_nbytes, plan_own
    from geossl_data.shards.writing.plan import plan_shards
    from geossl_data.shards.writing.report import manifest_notes
    from geossl_data.shards.writing.writer import write_shards

    for name in (options.from_table, options.rasters):
        if "://" in name:
            raise DatasetError(f"{redact(name)}: an address where a file or folder of this machine belongs")
    options = with_table(with_table(options, Path.cwd()), folder)
    table = Path(options.from_table)
    of_classes = table.is_dir()
    root = Path(options.rasters or (table if of_classes else table.parent))
    if (folder / SAMPLES).exists():
        raise DatasetError(f"{folder}: holds samples of a catalog; give your own rasters a folder of their own")
    if options.rasters and not root.is_dir():
        raise DatasetError(f"{root}: no such folder of rasters")
    rows = _rows(folder, table, root, options)
    rasters = survey(rows, root, _known(folder), progress)
    fingerprint = _by_content(options, of_classes=of_classes).fingerprint(inputs_digest(rows, rasters))
    if fresh:
        start_over(folder)
    if stand(folder, fingerprint):
        settle(folder, _portable(folder, options))
        return _report(folder, None, fresh=False)
    store = output_of(options)
    if store is not None:
        require_own(store, fingerprint)
    rule = SplitRule(block_km=options.block_km, val=options.val, test=options.test, seed=options.seed)
    plan = plan_own(rows, rasters, tile=options.tile, rule=rule, stratified=of_classes)
    threads = max(1, len(os.sched_getaffinity(0)) // workers) if scheduler is None else THREADS_ELSEWHERE
    with working_on(folder, _portable(folder, options)):
        _remember(folder, rasters)
        reports = write_shards(
            plan_shards(
                plan.samples,
                shard_mb=options.shard_mb,
                seed=options.seed,
                nbytes=lambda sample: own_nbytes(sample, plan.members, options.codec),
            ),
            folder / SHARDS,
            OwnFactory(root.resolve(), dict(plan.members), options.min_valid, threads),
            members=plan.members,
            codec=options.codec,
            workers=workers,
            scheduler=scheduler,
            fingerprint=fingerprint,
            store=shards_below(store),
            progress=progress,
        )
        entries = entries_of(folder, reports, plan.skipped, none_left=f"no place is left of {table.name}")
        notes = manifest_notes(
            reports,
            fingerprint=fingerprint,
            codec=options.codec,
            members=plan.members,
            pixel_m=plan.pixel_m,
            label_names=plan.label_names,
        )
        publish(folder, entries, notes, store)
    return _report(folder, plan, fresh=True)


def _rows(folder: Path, table: Path, root: Path, options: ShardOptions) -> "list[Row]":
    """The rows of a table, or of a folder of classes. folder: that of the dataset, which may not lie among these."""
    from geossl_data.shards.writing.own.classes import read_classes
    from geossl_data.shards.writing.own.table import read_rows

    if not table.is_dir():
        if options.bands:
            raise DatasetError(f"{table}: --bands is for a folder of classes; a table names them in its column bands")
        return read_rows(table, root)
    if folder.resolve().is_relative_to(table.resolve()):
        raise DatasetError(f"{folder}: lies in {table}, whose folders are classes; give the dataset a folder elsewhere")
    return read_classes(table, root, [name.strip() for name in options.bands.split(",") if name.strip()])


def _by_content(options: ShardOptions, *, of_classes: bool) -> ShardOptions:
    """The options without the names of files and bands: what they hold, and what rows say, is counted apart."""
    return options.model_copy(update={"from_table": "classes" if of_classes else "own", "rasters": "", "bands": ""})


def survey(
    rows: "Sequence[Row]", root: Path, known: "Mapping[str, Raster]", progress: Progress = silent
) -> "dict[str, Raster | RasterError]":
    """What the files of a table are, by path, or why they cannot be used; every one is read once, for its hash.

    known: what was found before; it holds for a file that has the size and time of change that it had then.
    """
    from geossl_data.tiles.own import RasterError, inspect

    def look_at(path: str) -> "Raster | RasterError":
        before = known.get(path)
        try:
            if before is not None and _state(root / path) == (before.nbytes, before.modified_ns):
                return before
            return inspect(root, path)
        except RasterError as error:
            return error.with_traceback(None)

    paths = list(dict.fromkeys(row.path for row in rows))
    n_unusable = 0
    found: dict[str, Raster | RasterError] = {}
    with (
        progress("looking at rasters", len(paths)) as task,
        ThreadPoolExecutor(max(2, len(os.sched_getaffinity(0)))) as pool,
    ):
        for path, raster in zip(paths, pool.map(look_at, paths, chunksize=1), strict=True):
            found[path] = raster
            n_unusable += isinstance(raster, RasterError)
            task.advance(note=f"{n_unusable:,} cannot be used" if n_unusable else None)
    return found


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _known(folder: Path) -> "dict[str, Raster]":
    """What an earlier run found out about the rasters; nothing where there was none, or one of another version."""
    from geossl_data.tiles.own import Raster

    path = folder / RASTERS
    try:
        rasters = tables.read_table(path, Raster) if path.is_file() else []
    except DatasetError:
        return {}
    return {raster.path: raster for raster in rasters}


def _remember(folder: Path, rasters: "Mapping[str, Raster | RasterError]") -> None:
    from geossl_data.tiles.own import Raster

    found = sorted((raster for raster in rasters.values() if isinstance(raster, Raster)), key=lambda one: one.path)
    tables.write_table(folder / RASTERS, found, Raster)


def _report(folder: Path, plan: "OwnPlan | None", *, fresh: bool) -> Report:
    from geossl_data.shards.manifest import read_manifest

    manifest = read_manifest(folder / MANIFEST)
    splits = Counter(entry.split for entry in manifest.entries)
    members = ", ".join(f"{member.name} {len(member.bands)}×{member.dtype}" for member in manifest.members.values())
    left_over = 0.0 if plan is None else plan.left_over
    nbytes = sum(shard["nbytes"] for shard in manifest.notes["shards"].values())
    return Report(
        stage="shard",
        fresh=fresh,
        facts={
            "places written": len(manifest.entries),
            "train / val / test": per_split(splits),
            "looks": sum(entry.n_looks for entry in manifest.entries),
            "members": members,
            **({"pixels in strips left over, %": round(100 * left_over, 1)} if left_over > 0 else {}),
            "shards": len(manifest.notes["shards"]),
            "MB": round(nbytes / 1e6, 1),
        },
        skipped=skipped_counts(folder, "shard"),
        hints=("geossl verify", "geossl pretrain"),
    )
