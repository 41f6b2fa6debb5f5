"""The stage that cuts the looks and stores them, and the check of what it stored."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl_data import tables
from geossl_data.pipeline._folder import (
    HEADERS,
    MANIFEST,
    SAMPLES,
    SCENES,
    SHARDS,
    Report,
    access_to,
    fingerprint_of,
    need,
    recipe_of,
    settle,
    skipped_counts,
    working_on,
)
from geossl_data.pipeline._own import shard_own
from geossl_data.pipeline._stored import entries_of, output_of, publish, require_own, shards_below, stand, start_over
from geossl_data.progress import Progress, silent
from geossl_data.recipe import ShardOptions
from geossl_data.records import Sample

if TYPE_CHECKING:
    from geossl_data.scenes.opening.access import Access
    from geossl_data.shards.manifest import Manifest
    from geossl_data.shards.writing.content import Content
    from geossl_data.tiles.build import Demands, Tile
    from geossl_data.tiles.windows import SkipError


THREADS_ELSEWHERE = 2
"""How many threads decode in each task of a scheduler; how many of them share a machine is not known."""


@dataclass(frozen=True, slots=True)
class TileFactory:
    """Builds tiles from a dataset folder; small enough to send to a worker, which reads the scenes itself."""

    folder: Path
    demands: "Demands"
    catalog_base: str | None
    access: "Access"
    """Sent to other processes, it shares this one's tokens with them."""
    threads: int | None = None
    """How many decode; one for each processor when left out."""

    @contextmanager
    def __call__(self, samples: Sequence[Sample]) -> Iterator[Any]:
        """A callable Sample → Content for these samples, in this order, that reads ahead until the block ends."""
        from geossl_data.scenes.store import read_scenes
        from geossl_data.tiles.build import build_tiles
        from geossl_data.tiles.rasters import Rasters

        scenes = read_scenes(self.folder / SCENES)
        labels = [scene for scene in scenes if scene.sensor == "label"]
        by_id = {scene.id: scene for scene in scenes}
        with Rasters(access=self.access, headers=self.folder / HEADERS, threads=self.threads) as rasters:
            tiles = build_tiles(samples, by_id, labels, rasters, self.demands, catalog_base=self.catalog_base)
            with closing(tiles):
                yield partial(_next_content, zip(samples, tiles, strict=True))


def _next_content(tiles: "Iterator[tuple[Sample, Tile | SkipError]]", sample: Sample) -> "Content":
    """What a sample's group holds, out of a stream of tiles; SkipError where it has none."""
    from geossl_data.shards.writing.content import tile_content

    of, built = next(tiles)
    assert of.key == sample.key, f"{sample.key} was asked for where {of.key} is next"
    if isinstance(built, Exception):
        raise built
    return tile_content(built)


def shard(
    folder: Path,
    options: ShardOptions | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Report:
    """Cut the samples' looks and write them as shards with a manifest; resumes what an interrupted run left.

    workers: processes of a local dask cluster; 1 stays in this process. scheduler: the address of a dask scheduler,
    whose workers do it instead; they have to see the folder. The bytes written do not depend on either.
    fresh: delete the shards and start over; of an object store, only what this folder says was put there.
    """
    from geossl_data.pipeline._open import label_names
    from geossl_data.scenes.items import each_item
    from geossl_data.shards.writing.plan import estimated_nbytes, plan_shards, require_one_size
    from geossl_data.shards.writing.report import manifest_notes
    from geossl_data.shards.writing.writer import write_shards
    from geossl_data.tiles.build import Demands

    recipe = recipe_of(folder)
    options = options or recipe.shard or ShardOptions()
    if options.from_table:
        return shard_own(folder, options, workers=workers, scheduler=scheduler, fresh=fresh, progress=progress)
    need(folder, SCENES, SAMPLES, stage="sample")
    fingerprint = options.fingerprint(fingerprint_of(folder / SAMPLES) or "")
    if fresh:
        start_over(folder)
    if stand(folder, fingerprint):
        settle(folder, options)
        return _shard_report(folder, fresh=False)
    store = output_of(options)
    if store is not None:
        require_own(store, fingerprint)
    samples = tables.read_table(folder / SAMPLES, Sample)
    require_one_size(samples)
    base = str(tables.read_metadata(folder / SCENES).get("base", ""))
    factory = TileFactory(
        # A worker that was started elsewhere has another working folder.
        folder=folder.absolute(),
        demands=Demands(min_valid=options.min_valid, max_cloud=options.max_cloud, min_entropy=options.min_entropy),
        catalog_base=None if "://" in base or not base else base,
        access=access_to(folder),
        threads=_threads(workers, scheduler),
    )
    drawn_with = recipe.places if recipe.fetch is not None and recipe.fetch.places else recipe.sample
    with working_on(folder, options):
        plans = plan_shards(
            samples,
            shard_mb=options.shard_mb,
            seed=recipe.sample.seed if recipe.sample else 0,
            nbytes=partial(estimated_nbytes, codec=options.codec),
        )
        reports = write_shards(
            plans,
            folder / SHARDS,
            factory,
            codec=options.codec,
            workers=workers,
            scheduler=scheduler,
            fingerprint=fingerprint,
            store=shards_below(store),
            progress=progress,
        )
        entries = entries_of(folder, reports, none_left=f"all {len(samples)} samples were skipped")
        notes = manifest_notes(
            reports,
            fingerprint=fingerprint,
            codec=options.codec,
            label_names=label_names(each_item(folder / SCENES)),
            buffer_km=drawn_with.buffer_km if drawn_with else 0.0,
        )
        publish(folder, entries, notes, store)
    return _shard_report(folder, fresh=True)


def _threads(workers: int, scheduler: str | None) -> int | None:
    """How many threads decode in each process; None for one for each processor."""
    if scheduler is not None:
        return THREADS_ELSEWHERE
    return None if workers == 1 else max(1, len(os.sched_getaffinity(0)) // workers)


def _shard_report(folder: Path, *, fresh: bool) -> Report:
    from geossl_data.shards.manifest import read_manifest

    manifest = read_manifest(folder / MANIFEST)
    nbytes = sum(shard["nbytes"] for shard in manifest.notes["shards"].values())
    n_replaced = _replaced(folder, manifest)
    facts = {
        "places written": len(manifest.entries),
        "looks": sum(entry.n_looks for entry in manifest.entries),
        **({"looks replaced by the next best pair": n_replaced} if n_replaced else {}),
        "shards": len(manifest.notes["shards"]),
        "MB": round(nbytes / 1e6, 1),
    }
    return Report(
        stage="shard",
        fresh=fresh,
        facts=facts,
        skipped=skipped_counts(folder, "shard"),
        hints=("geossl verify", "geossl pretrain"),
    )


def _replaced(folder: Path, manifest: "Manifest") -> int:
    """How many looks are not the ones that were drawn, but one of their spares."""
    drawn = {
        sample.key: [(look.s2_id, look.s1_id) for look in sample.looks]
        for sample in tables.read_table(folder / SAMPLES, Sample)
    }
    return sum(
        look != before
        for entry in manifest.entries
        for look, before in zip(zip(entry.s2_ids, entry.s1_ids, strict=True), drawn.get(entry.key, ()), strict=False)
    )
