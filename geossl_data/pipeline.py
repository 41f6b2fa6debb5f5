"""The stages wired together: the only reader of the recipe.

Each stage takes a folder and its options, reads what the earlier stage left, writes its files atomically, adds its
section to `recipe.yaml`, and answers with a Report. A stage that has already run with the same options on the same
input does nothing. A folder is worked on by one process at a time.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl_data import tables
from geossl_data.bands import LABEL_BAND, LABEL_NODATA, S2_BANDS
from geossl_data.errors import DatasetError, EmptyResultError, ReadError, RecipeError
from geossl_data.files import exclusive, remove_folder, remove_temporaries, sha256, write_text
from geossl_data.grid import square_lonlat
from geossl_data.progress import Progress, silent
from geossl_data.recipe import (
    RECIPE_NAME,
    SECTIONS,
    EvaluateOptions,
    FetchOptions,
    PretrainOptions,
    Recipe,
    SampleOptions,
    Section,
    ShardOptions,
    parse_duration,
    read_recipe,
    write_recipe,
)
from geossl_data.records import Pair, Sample, Scene, Skipped

if TYPE_CHECKING:
    from geossl_data.shards.verify import Finding

_LOG = logging.getLogger(__name__)

SCENES, PAIRS, SAMPLES, SKIPPED = "scenes.parquet", "pairs.parquet", "samples.parquet", "skipped.parquet"
SHARDS, MANIFEST, RUNS, LICENCE = "shards", "manifest.parquet", "runs", "LICENSE.txt"

Stage = Literal["fetch", "sample", "shard"]
STAGES: tuple[Stage, ...] = ("fetch", "sample", "shard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a stage did, for people and for scripts."""

    stage: str
    fresh: bool
    """False where everything was there already and nothing was done."""
    facts: dict[str, Any]
    """Name → number or short text, in the order in which to show them."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → how many items were given up for it."""
    table: tuple[tuple[str, ...], ...] = ()
    """A table to show below the facts: a header row, then rows; empty where there is none."""
    hints: tuple[str, ...] = ()
    """The next commands to type."""


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a dataset folder; an empty one where the folder has none yet."""
    path = folder / RECIPE_NAME
    return read_recipe(path) if path.is_file() else Recipe()


def _need(folder: Path, *names: str, stage: str) -> None:
    """Raise DatasetError unless the folder holds what an earlier stage writes."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    for name in names:
        if not (folder / name).exists():
            known = any((folder / other).exists() for other in (RECIPE_NAME, SCENES, MANIFEST))
            what = f"{name} is missing; run `geossl {stage}` first" if known else "not a geossl dataset"
            raise DatasetError(f"{folder}: {what}" + ("" if known else f" (no {name}); start with `geossl fetch`"))


@contextmanager
def _stage(folder: Path, section: Section) -> Iterator[None]:
    """The folder is ours alone while the block runs; afterwards its recipe holds `section`."""
    with exclusive(folder):
        remove_temporaries(folder)
        yield
        write_recipe(folder / RECIPE_NAME, recipe_of(folder).with_section(section))


def _write_skipped(folder: Path, stage: Stage, rows: Sequence[Skipped]) -> dict[str, int]:
    """Replace a stage's rows (and those of the stages after it) in skipped.parquet; reasons and their counts."""
    path = folder / SKIPPED
    earlier = STAGES[: STAGES.index(stage)]
    kept = [row for row in tables.read_table(path, Skipped) if row.stage in earlier] if path.is_file() else []
    ordered = sorted(rows, key=lambda row: (row.reason, row.id, row.detail))
    tables.write_table(path, [*kept, *ordered], Skipped)
    return dict(sorted(Counter(row.reason for row in rows).items()))


def _skipped_counts(folder: Path, stage: Stage) -> dict[str, int]:
    path = folder / SKIPPED
    rows = tables.read_table(path, Skipped) if path.is_file() else []
    return dict(sorted(Counter(row.reason for row in rows if row.stage == stage).items()))


def _fingerprint(path: Path) -> str | None:
    found = tables.read_metadata(path).get("fingerprint")
    return found if isinstance(found, str) else None


# ---------------------------------------------------------------------------------------------------- fetch


def resolved(options: FetchOptions, base: Path) -> FetchOptions:
    """Fetch options whose local paths are absolute: relative ones are looked up below `base`."""
    changes: dict[str, Any] = {}
    for name in ("catalog", "area"):
        value = getattr(options, name)
        if value is not None and "://" not in value and (base / value).exists():
            changes[name] = str((base / value).resolve())
    return options.model_copy(update=changes)


def _by_content(options: FetchOptions) -> FetchOptions:
    """The same options with local files named by what they hold, so that a moved catalog is the same catalog."""
    paths = {name: Path(value) for name in ("catalog", "area") if (value := getattr(options, name)) is not None}
    return options.model_copy(update={name: sha256(path) for name, path in paths.items() if path.is_file()})


def fetch(
    folder: Path, options: FetchOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Search the catalog and match the two sensors: writes scenes.parquet and pairs.parquet.

    options: None takes the folder's recipe, or the defaults. Raises EmptyResultError when nothing is found or nothing
    matches; the folder is then left as it was.
    """
    from geossl_data.scenes import area, matching, search, store

    options = resolved(options or recipe_of(folder).fetch or FetchOptions(), Path.cwd())
    fingerprint = _by_content(options).fingerprint()
    if not fresh and _fingerprint(folder / PAIRS) == fingerprint == _fingerprint(folder / SCENES):
        return _fetch_report(folder, fresh=False)
    found = search.search(
        options.catalog,
        area=area.area_of(options.bbox, options.area),
        start=options.start,
        end=options.end,
        max_cloud=options.max_cloud,
        unknown_baseline=options.unknown_baseline,
        progress=progress,
    )
    s2 = [scene for scene in found.scenes if scene.sensor == "s2"]
    s1 = [scene for scene in found.scenes if scene.sensor == "s1"]
    pairs = matching.match(s2, s1, max_gap=parse_duration(options.max_gap), orbit=options.orbit)
    if not pairs:
        raise EmptyResultError(_no_pairs(s2, s1, options, found.skipped))
    with _stage(folder, options):
        notes = {"fingerprint": fingerprint, "n_s2": len(s2), "n_s1": len(s1)}
        store.write_scenes(folder / SCENES, found, metadata=notes)
        tables.write_table(folder / PAIRS, pairs, Pair, metadata=notes)
        _write_skipped(folder, "fetch", found.skipped)
    return _fetch_report(folder, fresh=True)


def _no_pairs(s2: Sequence[Scene], s1: Sequence[Scene], options: FetchOptions, skipped: Sequence[Skipped]) -> str:
    counts = f"{len(s2)} Sentinel-2 and {len(s1)} Sentinel-1 scenes found"
    reasons = Counter(row.reason for row in skipped)
    given_up = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
    more = f" (given up: {given_up})" if given_up else ""
    advice = "widen --max-gap, dates or area"
    if reasons["unknown-baseline"] and not s2:
        advice += ", or take numbers of unknown offset with --unknown-baseline as-stored"
    return f"no pairs within {options.max_gap}, orbit {options.orbit}: {counts}{more}; {advice}"


def _fetch_report(folder: Path, *, fresh: bool) -> Report:
    from geossl_data.scenes.matching import yield_share

    notes = tables.read_metadata(folder / PAIRS)
    pairs = tables.read_table(folder / PAIRS, Pair)
    gaps = sorted(abs(pair.gap_hours) for pair in pairs if pair.rank == 0)
    facts = {
        "Sentinel-2 scenes": notes["n_s2"],
        "Sentinel-1 scenes": notes["n_s1"],
        "pairs": len(pairs),
        "Sentinel-2 scenes with a partner": f"{100 * yield_share(pairs, notes['n_s2']):.0f} %",
        "median gap": f"{gaps[len(gaps) // 2]:.1f} h",
    }
    return Report(
        stage="fetch",
        fresh=fresh,
        facts=facts,
        skipped=_skipped_counts(folder, "fetch"),
        hints=("geossl sample --strategy geography",),
    )


# ---------------------------------------------------------------------------------------------------- sample


def sample(
    folder: Path, options: SampleOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Draw places among the pairs: writes samples.parquet.

    options: None takes the folder's recipe, or the defaults. Pixel grids that the catalog does not state are read
    from the files' headers.
    """
    from geossl_data.sampling.draw import draw_samples
    from geossl_data.scenes.store import read_scenes

    _need(folder, SCENES, PAIRS, stage="fetch")
    options = options or recipe_of(folder).sample or SampleOptions()
    fingerprint = options.fingerprint(_fingerprint(folder / PAIRS) or "")
    if not fresh and _fingerprint(folder / SAMPLES) == fingerprint:
        return _sample_report(folder, fresh=False)
    pairs = tables.read_table(folder / PAIRS, Pair)
    with progress("reading scenes") as task:
        scenes = read_scenes(folder / SCENES)
        task.advance()
    scenes, unreadable = _with_grids(scenes, {pair.s2_id for pair in pairs}, progress)
    with progress("drawing places") as task:
        drawn = draw_samples(
            scenes,
            pairs,
            strategy=options.strategy,
            count=options.count,
            looks=options.looks,
            size=options.size,
            allocation=options.allocation,
            min_distance_km=options.min_distance_km,
            block_km=options.block_km,
            buffer_km=options.buffer_km,
            val=options.val,
            test=options.test,
            seed=options.seed,
        )
        task.advance()
    with _stage(folder, options):
        notes = {
            "fingerprint": fingerprint,
            "n_candidates": drawn.n_candidates,
            "n_without_looks": drawn.n_without_looks,
            "n_in_buffer": drawn.n_in_buffer,
            "available": drawn.available,
        }
        tables.write_table(folder / SAMPLES, drawn.samples, Sample, geometry=_footprint, metadata=notes)
        _write_skipped(folder, "sample", [*unreadable, *drawn.skipped])
    return _sample_report(folder, fresh=True)


def _footprint(drawn: Sample) -> Any:
    return square_lonlat(drawn.place.epsg, drawn.place.x, drawn.place.y, drawn.place.side_m)


def _with_grids(scenes: Sequence[Scene], s2_ids: set[str], progress: Progress) -> tuple[list[Scene], list[Skipped]]:
    """The scenes with a pixel grid for every Sentinel-2 band, read from the files where the catalog states none."""
    from geossl_data.tiles.rasters import Rasters

    def incomplete(scene: Scene) -> bool:
        return scene.id in s2_ids and not all(band in scene.grids for band in S2_BANDS if band in scene.hrefs)

    missing = [scene for scene in scenes if incomplete(scene)]
    if not missing:
        return list(scenes), []
    filled: dict[str, Scene] = {}
    skipped: list[Skipped] = []
    with _rasters() as rasters, progress("reading headers", total=len(missing)) as task:
        assert isinstance(rasters, Rasters)
        for scene in missing:
            grids = dict(scene.grids)
            try:
                for band in S2_BANDS:
                    if band in scene.hrefs and band not in grids:
                        grid = rasters.grid_of(scene.hrefs[band])
                        if grid is not None:
                            grids[band] = grid
                filled[scene.id] = replace(scene, grids=grids)
            except ReadError as error:
                skipped.append(Skipped(stage="sample", id=scene.id, reason="read-failed", detail=str(error)))
            task.advance()
    return [filled.get(scene.id, scene) for scene in scenes], skipped


def _rasters() -> Any:
    from geossl_data.scenes.signing import sign
    from geossl_data.tiles.rasters import Rasters

    return Rasters(sign=sign)


def _sample_report(folder: Path, *, fresh: bool) -> Report:
    notes = tables.read_metadata(folder / SAMPLES)
    samples = tables.read_table(folder / SAMPLES, Sample)
    drawn = Counter(row.stratum for row in samples)
    splits = Counter(row.split for row in samples)
    rows = [(name, str(available), str(drawn[name])) for name, available in notes["available"].items()]
    facts = {
        "candidate places": notes["n_candidates"],
        "places drawn": len(samples),
        "looks": sum(len(row.looks) for row in samples),
        "train / val / test": " / ".join(str(splits[split]) for split in ("train", "val", "test")),
    }
    if notes["n_without_looks"]:
        facts["without the dates"] = notes["n_without_looks"]
    if notes["n_in_buffer"]:
        facts["in the buffer between splits"] = notes["n_in_buffer"]
    return Report(
        stage="sample",
        fresh=fresh,
        facts=facts,
        skipped=_skipped_counts(folder, "sample"),
        table=(("stratum", "candidates", "drawn"), *rows),
        hints=("geossl shard",),
    )


# ---------------------------------------------------------------------------------------------------- shard


@dataclass(frozen=True, slots=True)
class TileFactory:
    """Builds tiles from a dataset folder; small enough to send to a worker, which reads the scenes itself."""

    folder: Path
    min_valid: float
    catalog_base: str | None

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """A callable Sample → Tile that keeps its rasters open until the block ends."""
        from functools import partial

        from geossl_data.scenes.store import read_scenes
        from geossl_data.tiles.build import build_tile

        scenes = read_scenes(self.folder / SCENES)
        labels = [scene for scene in scenes if scene.sensor == "label"]
        by_id = {scene.id: scene for scene in scenes}
        with _rasters() as rasters:
            yield partial(
                build_tile,
                scenes=by_id,
                labels=labels,
                rasters=rasters,
                min_valid=self.min_valid,
                catalog_base=self.catalog_base,
            )


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
    from geossl_data.shards.manifest import licence_text, write_manifest
    from geossl_data.shards.plan import plan_shards
    from geossl_data.shards.report import manifest_notes
    from geossl_data.shards.writer import write_shards

    _need(folder, SCENES, SAMPLES, stage="sample")
    recipe = recipe_of(folder)
    options = options or recipe.shard or ShardOptions()
    fingerprint = options.fingerprint(_fingerprint(folder / SAMPLES) or "")
    if fresh:
        with exclusive(folder):
            (folder / MANIFEST).unlink(missing_ok=True)
            remove_folder(folder / SHARDS)
    written = _fingerprint(folder / MANIFEST)
    if written == fingerprint and _shards_stand(folder):
        return _shard_report(folder, fresh=False)
    if written not in (None, fingerprint):
        raise DatasetError(
            f"{folder}: the shards there were cut from other samples or with other options; "
            "`geossl shard --fresh` deletes them and starts over"
        )
    samples = tables.read_table(folder / SAMPLES, Sample)
    catalog = recipe.fetch.catalog if recipe.fetch else ""
    factory = TileFactory(
        folder=folder,
        min_valid=options.min_valid,
        catalog_base=str(Path(catalog).parent) if Path(catalog).is_file() else None,
    )
    with _stage(folder, options):
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
        counts = _write_skipped(folder, "shard", skipped)
        if not entries:
            common = max(counts, key=lambda reason: counts[reason])
            detail = next(row.detail for row in skipped if row.reason == common)
            raise EmptyResultError(f"all {len(samples)} samples were skipped, most for {common}: {detail}")
        write_text(folder / LICENCE, licence_text(entries))
        notes = manifest_notes(
            reports, fingerprint=fingerprint, codec=options.codec, label_names=_label_names(folder / SCENES)
        )
        write_manifest(folder / MANIFEST, entries, notes)
    return _shard_report(folder, fresh=True)


def _shards_stand(folder: Path) -> bool:
    """Whether every shard of the manifest is there in the size in which it was written."""
    shards = tables.read_metadata(folder / MANIFEST)["shards"]
    paths = {folder / SHARDS / name: shard["nbytes"] for name, shard in shards.items()}
    return all(path.is_file() and path.stat().st_size == nbytes for path, nbytes in paths.items())


def _label_names(scenes_path: Path) -> dict[str, str]:
    """Class value → name, from the classification extension of the label maps among the scenes."""
    from geossl_data.scenes.items import read_items

    classes = [
        entry
        for item in read_items(scenes_path)
        for entry in item["assets"].get(LABEL_BAND, {}).get("classification:classes") or []
    ]
    return {str(entry["value"]): entry["name"] for entry in classes if entry["value"] != LABEL_NODATA}


def _shard_report(folder: Path, *, fresh: bool) -> Report:
    from geossl_data.shards.manifest import read_manifest

    manifest = read_manifest(folder / MANIFEST)
    nbytes = sum(shard["nbytes"] for shard in manifest.notes["shards"].values())
    facts = {
        "places written": len(manifest.entries),
        "looks": sum(entry.n_looks for entry in manifest.entries),
        "shards": len(manifest.notes["shards"]),
        "MB": round(nbytes / 1e6, 1),
    }
    return Report(
        stage="shard",
        fresh=fresh,
        facts=facts,
        skipped=_skipped_counts(folder, "shard"),
        hints=("geossl verify", "geossl pretrain"),
    )


def verify(folder: Path, *, deep: bool = False, progress: Progress = silent) -> "list[Finding]":
    """Everything that is not what the manifest says it is; empty when all is well."""
    from geossl_data.shards.verify import verify as check

    _need(folder, MANIFEST, stage="shard")
    with progress("verifying shards") as task:
        findings = check(folder, deep=deep)
        task.advance()
    return findings


# ---------------------------------------------------------------------------------------------------- pretrain


def pretrain(
    folder: Path, options: PretrainOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Train the reference encoder on the train split; resumes an interrupted run. Writes runs/<run>/."""
    from geossl_data.pretrain.loop import train
    from geossl_data.shards.stream import open_shards

    _need(folder, MANIFEST, SHARDS, stage="shard")
    options = options or recipe_of(folder).pretrain or PretrainOptions()
    run = folder / RUNS / options.run
    with _stage(folder, options):
        if fresh:
            remove_folder(run)
        result = train(
            open_shards(folder, "train"),
            run,
            objective=options.objective,
            encoder=options.encoder,
            epochs=options.epochs,
            batch_size=options.batch_size,
            crop=options.crop,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            warmup=options.warmup,
            temperature=options.temperature,
            projection_dim=options.projection_dim,
            checkpoint_every=options.checkpoint_every,
            device=options.device,
            seed=options.seed,
            progress=progress,
        )
        write_recipe(run / RECIPE_NAME, recipe_of(folder).with_section(options))
    facts = {"run": options.run, **result.facts()}
    name = "" if options.run == "default" else f" --run {options.run}"
    return Report(stage="pretrain", fresh=result.trained, facts=facts, hints=(f"geossl evaluate{name}",))


def evaluate(folder: Path, options: EvaluateOptions | None = None, *, progress: Progress = silent) -> Report:
    """Probe a run's encoders beside random ones of the same shape. Writes runs/<run>/scores.json."""
    from geossl_data.evaluation.probes import evaluate as probe

    _need(folder, MANIFEST, SHARDS, stage="shard")
    options = options or recipe_of(folder).evaluate or EvaluateOptions()
    run = folder / RUNS / options.run
    if not run.is_dir():
        raise DatasetError(
            f"{folder}: no run named {options.run!r}; train one with `geossl pretrain --run {options.run}`"
        )
    with _stage(folder, options):
        scores = probe(
            folder,
            run,
            k=options.k,
            ridge=options.ridge,
            batch_size=options.batch_size,
            device=options.device,
            seed=options.seed,
            progress=progress,
        )
    return Report(stage="evaluate", fresh=True, facts=scores.facts(), table=scores.table())


# ---------------------------------------------------------------------------------------------------- replay

_STAGE_FUNCTIONS = {"fetch": fetch, "sample": sample, "shard": shard, "pretrain": pretrain, "evaluate": evaluate}


def run(recipe_path: Path, folder: Path, *, workers: int = 1, progress: Progress = silent) -> Iterator[Report]:
    """Replay every section of a recipe into `folder`, one Report after the other.

    A relative catalog or area path in the recipe is looked up beside the recipe first.
    """
    recipe = read_recipe(recipe_path)
    present = [kind.name for kind in SECTIONS if getattr(recipe, kind.name) is not None]
    if not present:
        raise RecipeError(f"{recipe_path}: no section to run; `geossl config` prints a complete recipe")
    for name in present:
        options: Any = getattr(recipe, name)
        if name == "fetch":
            options = resolved(options, recipe_path.resolve().parent)
        extra: dict[str, Any] = {"workers": workers} if name == "shard" else {}
        yield _STAGE_FUNCTIONS[name](folder, options, progress=progress, **extra)  # type: ignore[operator]


def digest(folder: Path) -> str:
    """sha256 over the names and contents of all shards and the manifest: equal for equal datasets."""
    total = hashlib.sha256()
    for path in [*sorted((folder / SHARDS).glob("*.tar")), folder / MANIFEST]:
        total.update(f"{path.name} {sha256(path)}\n".encode())
    return total.hexdigest()
