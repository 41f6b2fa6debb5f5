"""The stage that cuts the looks and stores them, and the check of what it stored."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl_data import tables
from geossl_data.errors import DatasetError, EmptyResultError
from geossl_data.files import exclusive, remove_folder, write_text
from geossl_data.pipeline._folder import (
    HEADERS,
    LICENCE,
    MANIFEST,
    SAMPLES,
    SCENES,
    SHARDS,
    Report,
    access_to,
    fingerprint_of,
    need,
    recipe_of,
    skipped_counts,
    working_on,
    write_skipped,
)
from geossl_data.progress import Progress, silent
from geossl_data.recipe import ShardOptions
from geossl_data.records import Sample

if TYPE_CHECKING:
    from geossl_data.scenes.opening.access import Access
    from geossl_data.shards.manifest import Manifest
    from geossl_data.shards.verify import Finding
    from geossl_data.tiles.build import Demands, Tile
    from geossl_data.tiles.windows import SkipError


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
        """A callable Sample → Tile for these samples, in this order, that reads ahead until the block ends."""
        from geossl_data.scenes.store import read_scenes
        from geossl_data.tiles.build import build_tiles
        from geossl_data.tiles.rasters import Rasters

        scenes = read_scenes(self.folder / SCENES)
        labels = [scene for scene in scenes if scene.sensor == "label"]
        by_id = {scene.id: scene for scene in scenes}
        with Rasters(access=self.access, headers=self.folder / HEADERS, threads=self.threads) as rasters:
            tiles = build_tiles(samples, by_id, labels, rasters, self.demands, catalog_base=self.catalog_base)
            with closing(tiles):
                yield partial(_next_tile, zip(samples, tiles, strict=True))


def _next_tile(tiles: "Iterator[tuple[Sample, Tile | SkipError]]", sample: Sample) -> "Tile":
    """The tile of a sample out of a stream of them; SkipError where it has none."""
    of, built = next(tiles)
    assert of.key == sample.key, f"{sample.key} was asked for where {of.key} is next"
    if isinstance(built, Exception):
        raise built
    return built


def shard(
    folder: Path,
    options: ShardOptions | None = None,
    *,
    workers: int = 1,
    fresh: bool = False,
    progress: Progress = silent,
) -> Report:
    """Cut the samples' looks and write them as shards with a manifest; resumes what an interrupted run left.

    workers: processes of a local dask cluster; 1 stays in this process. The bytes written do not depend on it.
    """
    from geossl_data.pipeline._open import label_names
    from geossl_data.scenes.items import read_items
    from geossl_data.shards.manifest import licence_text, write_manifest
    from geossl_data.shards.plan import plan_shards
    from geossl_data.shards.report import manifest_notes
    from geossl_data.shards.writer import write_shards
    from geossl_data.tiles.build import Demands

    need(folder, SCENES, SAMPLES, stage="sample")
    recipe = recipe_of(folder)
    options = options or recipe.shard or ShardOptions()
    fingerprint = options.fingerprint(fingerprint_of(folder / SAMPLES) or "")
    if fresh:
        with exclusive(folder):
            (folder / MANIFEST).unlink(missing_ok=True)
            remove_folder(folder / SHARDS)
    written = fingerprint_of(folder / MANIFEST)
    if written == fingerprint and _shards_stand(folder):
        return _shard_report(folder, fresh=False)
    if written not in (None, fingerprint):
        raise DatasetError(
            f"{folder}: the shards there were cut from other samples or with other options; "
            "`geossl shard --fresh` deletes them and starts over"
        )
    samples = tables.read_table(folder / SAMPLES, Sample)
    base = str(tables.read_metadata(folder / SCENES).get("base", ""))
    factory = TileFactory(
        folder=folder,
        demands=Demands(min_valid=options.min_valid, max_cloud=options.max_cloud, min_entropy=options.min_entropy),
        catalog_base=None if "://" in base or not base else base,
        access=access_to(folder),
        threads=None if workers == 1 else max(1, len(os.sched_getaffinity(0)) // workers),
    )
    drawn_with = recipe.places if recipe.fetch is not None and recipe.fetch.places else recipe.sample
    with working_on(folder, options):
        plans = plan_shards(samples, shard_mb=options.shard_mb, seed=recipe.sample.seed if recipe.sample else 0)
        reports = write_shards(
            plans,
            folder / SHARDS,
            factory,
            codec=options.codec,
            workers=workers,
            fingerprint=fingerprint,
            progress=progress,
        )
        entries = [entry for report in reports for entry in report.entries]
        skipped = [row for report in reports for row in report.skipped]
        counts = write_skipped(folder, "shard", skipped)
        if not entries:
            common = max(counts, key=lambda reason: counts[reason])
            detail = next(row.detail for row in skipped if row.reason == common)
            raise EmptyResultError(f"all {len(samples)} samples were skipped, most for {common}: {detail}")
        write_text(folder / LICENCE, licence_text(entries))
        notes = manifest_notes(
            reports,
            fingerprint=fingerprint,
            codec=options.codec,
            label_names=label_names(read_items(folder / SCENES)),
            buffer_km=drawn_with.buffer_km if drawn_with else 0.0,
        )
        write_manifest(folder / MANIFEST, entries, notes)
    return _shard_report(folder, fresh=True)


def _shards_stand(folder: Path) -> bool:
    """Whether every shard of the manifest is there in the size in which it was written."""
    shards = tables.read_metadata(folder / MANIFEST)["shards"]
    paths = {folder / SHARDS / name: shard["nbytes"] for name, shard in shards.items()}
    return all(path.is_file() and path.stat().st_size == nbytes for path, nbytes in paths.items())


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


def nearest_splits(folder: Path) -> dict[str, float]:
    """Smallest distance in km between places of two splits, as in `train–test`."""
    from geossl_data.shards.manifest import read_manifest
    from geossl_data.shards.verify import nearest_splits_km

    found = nearest_splits_km(read_manifest(folder / MANIFEST))
    return {f"{one}–{other}": km for (one, other), km in found.items()}


def verify(folder: Path, *, deep: bool = False, progress: Progress = silent) -> "list[Finding]":
    """Everything that is not what the manifest says it is; empty when all is well."""
    from geossl_data.shards.verify import verify as check

    need(folder, MANIFEST, stage="shard")
    with progress("verifying shards") as task:
        findings = check(folder, deep=deep)
        task.advance()
    return findings
