"""The stages wired together: the only reader of the recipe.

Each stage takes a folder and its options, reads what the earlier stage left, writes its files atomically, adds its
section to `recipe.yaml`, and answers with a Report. A stage that has already run with the same options on the same
input does nothing. A folder is worked on by one process at a time.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl_data import tables
from geossl_data.bands import LABEL_BAND, LABEL_NODATA, S2_BANDS
from geossl_data.errors import DatasetError, EmptyResultError, ReadError, RecipeError, TokenError
from geossl_data.files import LOCK_NAME, exclusive, remove_folder, remove_temporaries, sha256, write_text
from geossl_data.grid import square_lonlat
from geossl_data.progress import Progress, silent
from geossl_data.recipe import (
    RECIPE_NAME,
    SECTIONS,
    EvaluateOptions,
    FetchOptions,
    PlacesOptions,
    PretrainOptions,
    Recipe,
    SampleOptions,
    Section,
    ShardOptions,
    parse_duration,
    read_recipe,
    write_recipe,
)
from geossl_data.records import SPLITS, Pair, Sample, Scene, Site, Skipped, Split

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl_data.scenes.access import Access
    from geossl_data.scenes.yields import YieldStep
    from geossl_data.shards.verify import Finding

_LOG = logging.getLogger(__name__)

SCENES, PAIRS, SAMPLES, SKIPPED = "scenes.parquet", "pairs.parquet", "samples.parquet", "skipped.parquet"
YIELD, PLACES = "yield.csv", "places.parquet"
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
    """The folder is ours alone while the block runs; afterwards its recipe holds `section`.

    A folder that was not there before and in which nothing was written is gone again after an error.
    """
    made = not folder.exists()
    with exclusive(folder):
        remove_temporaries(folder)
        try:
            yield
        except BaseException:
            if made and [entry.name for entry in folder.iterdir()] == [LOCK_NAME]:
                remove_folder(folder)
            raise
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


# ---------------------------------------------------------------------------------------------------- places


def draw_places(
    folder: Path, options: PlacesOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Draw places on land before any catalog is asked: writes places.parquet, which `fetch` can search around."""
    from geossl_data.sampling.anywhere import draw_places as draw
    from geossl_data.sampling.anywhere import land_area_km2, site_square
    from geossl_data.scenes.area import area_of

    options = options or recipe_of(folder).places or PlacesOptions()
    fingerprint = options.fingerprint()
    area, path = area_of(options.bbox, options.area), folder / PLACES
    if fresh or _fingerprint(path) != fingerprint:
        with progress("drawing places") as task:
            sites = draw(
                options.count,
                size=options.size,
                strategy=options.strategy,
                area=area,
                allocation=options.allocation,
                min_distance_km=options.min_distance_km,
                block_km=options.block_km,
                buffer_km=options.buffer_km,
                val=options.val,
                test=options.test,
                seed=options.seed,
            )
            task.advance(note=f"{len(sites)} places")
        with _stage(folder, options):
            notes = {"fingerprint": fingerprint, "land_km2": land_area_km2(area)}
            tables.write_table(path, sites, Site, geometry=site_square, metadata=notes)
        return _places_report(path, fresh=True)
    return _places_report(path, fresh=False)


def _places_report(path: Path, *, fresh: bool) -> Report:
    sites = tables.read_table(path, Site)
    splits = Counter(site.split for site in sites)
    facts = {"places drawn": len(sites), "train / val / test": _per_split(splits)}
    drawn = Counter(site.stratum for site in sites)
    land = tables.read_metadata(path)["land_km2"]
    rows = [(name, f"{land[name]:,.0f}", str(drawn[name])) for name in sorted(land)]
    return Report(
        stage="sample --anywhere",
        fresh=fresh,
        facts=facts,
        table=(("stratum", "land, km²", "drawn"), *rows),
        hints=(f"geossl fetch --places {path} --from … --to …",),
    )


def _per_split(splits: Mapping[Split, int]) -> str:
    return " / ".join(str(splits[split]) for split in SPLITS)


# ---------------------------------------------------------------------------------------------------- fetch


_FETCH_PATHS = ("catalog", "area", "places")


def resolved(options: FetchOptions, base: Path) -> FetchOptions:
    """Fetch options whose local paths are absolute: relative ones are looked up below `base`."""
    changes: dict[str, Any] = {}
    for name in _FETCH_PATHS:
        value = getattr(options, name)
        if value is not None and "://" not in value and (base / value).exists():
            changes[name] = str((base / value).resolve())
    return options.model_copy(update=changes)


def _by_content(folder: Path, options: FetchOptions) -> FetchOptions:
    """The same options with local files named by what they hold, so that a moved catalog is the same catalog."""
    paths = {name: Path(value) for name in _FETCH_PATHS if (value := getattr(options, name)) is not None}
    places = _places_of(folder, options)
    paths |= {} if places is None else {"places": places}
    return options.model_copy(update={name: sha256(path) for name, path in paths.items() if path.is_file()})


def _places_of(folder: Path, options: FetchOptions) -> Path | None:
    """The table of places to search around; one of the folder's own is named relative to it."""
    if options.places is None:
        return None
    own = folder / options.places
    return own if own.is_file() else Path(options.places)


def _searched_area(folder: Path, options: FetchOptions) -> "BaseGeometry | None":
    from geossl_data.scenes.area import area_of, area_of_places

    places = _places_of(folder, options)
    return area_of(options.bbox, options.area) if places is None else area_of_places(places)


def _portable(folder: Path, options: FetchOptions) -> FetchOptions:
    """The same options, with the folder's own table of places named so that the folder can be moved."""
    own = options.places is not None and Path(options.places).resolve() == (folder / PLACES).resolve()
    return options.model_copy(update={"places": PLACES}) if own else options


def plan_fetch(folder: Path, options: FetchOptions | None = None) -> Report:
    """What `fetch` would ask a catalog for, and about what it would cost; asks nothing and writes nothing."""
    from geossl_data.scenes.plan import plan_search
    from geossl_data.scenes.providers import provider_for
    from geossl_data.scenes.query import Query, midnight

    options = resolved(options or recipe_of(folder).fetch or FetchOptions(), Path.cwd())
    provider = provider_for(options.catalog)
    if provider.url is None:
        location = provider.snapshot or options.catalog
        facts: dict[str, Any] = {"catalog": location, "requests": "none to a STAC API: the items are in files"}
        return Report(stage="fetch --dry-run", fresh=True, facts=facts)
    query = Query(
        area=_searched_area(folder, options),
        start=midnight(options.start),
        end=midnight(options.end, days=1),
        margin=parse_duration(options.max_gap),
        max_cloud=options.max_cloud,
        s2=options.s2,
        s1=options.s1,
    )
    plan = plan_search(provider, query)
    rows = []
    for collection in dict.fromkeys(question.collection for question in plan.questions):
        asked = [question for question in plan.questions if question.collection == collection]
        days = max((question.end - question.start).total_seconds() / 86400 for question in asked)
        expected = sum(question.expected for question in asked)
        rows.append((collection, str(len(asked)), f"{days:.0f}", f"{expected:.0f}"))
    return Report(
        stage="fetch --dry-run",
        fresh=True,
        facts={
            "catalog": f"{provider.name} ({provider.url})",
            "queries": len(plan.questions),
            "expected items": f"about {plan.expected_items:,}, from how often the satellites pass",
            "expected requests": f"about {plan.expected_requests:,}, {provider.page_size} items a page",
            "expected time": f"at least {plan.expected_seconds:.0f} s, {provider.concurrency} requests at a time",
        },
        table=(("collection", "queries", "longest window, days", "expected items"), *rows),
    )


def fetch(
    folder: Path,
    options: FetchOptions | None = None,
    *,
    fresh: bool = False,
    max_requests: int | None = None,
    progress: Progress = silent,
) -> Report:
    """Search the catalog and match the two sensors: writes scenes.parquet, pairs.parquet and yield.csv.

    options: None takes the folder's recipe, or the defaults. max_requests: how many requests this process may make;
    None leaves the budget as it is. An interrupted search of an API goes on where it stopped. Raises EmptyResultError
    when nothing is found or nothing matches; the folder is then left as it was.
    """
    from geossl_data.scenes import limits, matching, search, store
    from geossl_data.scenes.journal import JOURNAL_NAME, holds_answers
    from geossl_data.scenes.providers import provider_for
    from geossl_data.scenes.signing import Signer

    options = _portable(folder, resolved(options or recipe_of(folder).fetch or FetchOptions(), Path.cwd()))
    fingerprint = _by_content(folder, options).fingerprint()
    if not fresh and _fingerprint(folder / PAIRS) == fingerprint == _fingerprint(folder / SCENES):
        return _fetch_report(folder, fresh=False)
    if max_requests is not None:
        limits.BUDGET.grant(max_requests)
    area, max_gap = _searched_area(folder, options), parse_duration(options.max_gap)
    journal = folder / JOURNAL_NAME
    with _stage(folder, options):
        if fresh:
            remove_folder(journal)
        try:
            found = search.search(
                options.catalog,
                area=area,
                start=options.start,
                end=options.end,
                max_cloud=options.max_cloud,
                margin=max_gap,
                s2=options.s2,
                s1=options.s1,
                unknown_baseline=options.unknown_baseline,
                journal_folder=journal,
                sign=Signer(provider_for(options.catalog).tokens),
                progress=progress,
            )
            s2 = [scene for scene in found.scenes if scene.sensor == "s2"]
            s1 = [scene for scene in found.scenes if scene.sensor == "s1"]
            with progress("matching") as task:
                pairs = matching.match(s2, s1, max_gap=max_gap, orbit=options.orbit)
                task.advance(note=f"{len(pairs)} pairs")
            if not pairs:
                raise EmptyResultError(_no_pairs(s2, s1, options, found.skipped))
        except BaseException as error:
            if isinstance(error, EmptyResultError) or not holds_answers(journal):
                remove_folder(journal)
            raise
        notes = {"fingerprint": fingerprint, "n_s2": len(s2), "n_s1": len(s1), "tie": options.tie}
        store.write_scenes(folder / SCENES, found, metadata=notes)
        curve = matching.yield_curve(pairs, len(s2), max_gap)
        tables.write_table(folder / PAIRS, pairs, Pair, metadata=notes | {"yield": [asdict(step) for step in curve]})
        write_text(folder / YIELD, _yield_csv(curve))
        _write_skipped(folder, "fetch", found.skipped)
        remove_folder(journal)
    return _fetch_report(folder, fresh=True)


def _yield_csv(curve: "Sequence[YieldStep]") -> str:
    rows = ["max_gap_hours,s2_with_partner,share,pairs"]
    rows += [f"{step.max_gap_hours:g},{step.n_s2_with_partner},{step.share:.6f},{step.n_pairs}" for step in curve]
    return "\n".join(rows) + "\n"


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
    rows = [
        (_gap_text(step["max_gap_hours"]), f"{step['n_pairs']:,}", f"{100 * step['share']:.0f} %")
        for step in notes["yield"]
    ]
    return Report(
        stage="fetch",
        fresh=fresh,
        facts=facts,
        skipped=_skipped_counts(folder, "fetch"),
        table=(("gap up to", "pairs", "Sentinel-2 scenes with a partner"), *rows),
        hints=("geossl sample --strategy geography",),
    )


def _gap_text(hours: float) -> str:
    return f"{hours:g} h" if hours < 48 else f"{hours / 24:g} d"


# ---------------------------------------------------------------------------------------------------- sample


def sample(
    folder: Path, options: SampleOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Draw places among the pairs: writes samples.parquet.

    options: None takes the folder's recipe, or the defaults. Pixel grids that the catalog does not state are read
    from the files' headers. Where the scenes were searched around places, only these are drawn, in their own size.
    """
    from geossl_data.sampling.draw import draw_samples
    from geossl_data.scenes.area import area_of
    from geossl_data.scenes.store import read_scenes

    _need(folder, SCENES, PAIRS, stage="fetch")
    fetched = recipe_of(folder).fetch or FetchOptions()
    places = _places_of(folder, fetched)
    sites = None if places is None else tables.read_table(places, Site)
    options = options or recipe_of(folder).sample or SampleOptions()
    if sites and options.size == SampleOptions().size:
        options = options.model_copy(update={"size": sites[0].size_px})
    fingerprint = options.fingerprint(_fingerprint(folder / PAIRS) or "")
    if not fresh and _fingerprint(folder / SAMPLES) == fingerprint:
        return _sample_report(folder, fresh=False)
    pairs = tables.read_table(folder / PAIRS, Pair)
    with progress("reading scenes") as task:
        scenes = read_scenes(folder / SCENES)
        task.advance()
    scenes, unreadable = _with_grids(
        folder, scenes, {s2_id for pair in pairs for s2_id in (pair.s2_id, *pair.s2_more)}, progress
    )
    inside = area_of(options.bbox, options.area)
    with progress("drawing places") as task:
        drawn = draw_samples(
            scenes,
            pairs,
            strategy=options.strategy,
            count=options.count,
            looks=options.looks,
            tie=fetched.tie,
            area=inside if inside is not None or sites is not None else _searched_area(folder, fetched),
            sites=sites,
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


def _with_grids(
    folder: Path, scenes: Sequence[Scene], s2_ids: set[str], progress: Progress
) -> tuple[list[Scene], list[Skipped]]:
    """The scenes with a pixel grid for every Sentinel-2 band, read from the files where the catalog states none."""
    from geossl_data.tiles.rasters import Rasters

    def incomplete(scene: Scene) -> bool:
        return scene.id in s2_ids and not all(band in scene.grids for band in S2_BANDS if band in scene.hrefs)

    missing = [scene for scene in scenes if incomplete(scene)]
    if not missing:
        return list(scenes), []
    filled: dict[str, Scene] = {}
    skipped: list[Skipped] = []
    with Rasters(access=_access(folder)) as rasters, progress("reading headers", total=len(missing)) as task:
        for scene in missing:
            grids = dict(scene.grids)
            try:
                for band in S2_BANDS:
                    if band in scene.hrefs and band not in grids:
                        grid = rasters.grid_of(scene.hrefs[band])
                        if grid is not None:
                            grids[band] = grid
                filled[scene.id] = replace(scene, grids=grids)
            except TokenError:
                raise
            except ReadError as error:
                reason = getattr(error, "reason", "read-failed")
                skipped.append(Skipped(stage="sample", id=scene.id, reason=reason, detail=str(error)))
            task.advance()
    return [filled.get(scene.id, scene) for scene in scenes], skipped


def _access(folder: Path) -> "Access":
    """What opens the files of a folder's scenes: signed as their catalog says."""
    from geossl_data.scenes.access import Access
    from geossl_data.scenes.signing import Signer
    from geossl_data.scenes.store import provider_of

    base = str(tables.read_metadata(folder / SCENES).get("base", ""))
    return Access(Signer(provider_of(folder / SCENES).tokens), base=base)


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
        "train / val / test": _per_split(splits),
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
    access: "Access"
    """Sent to other processes, it shares this one's tokens with them."""

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """A callable Sample → Tile that keeps its rasters open until the block ends."""
        from functools import partial

        from geossl_data.scenes.store import read_scenes
        from geossl_data.tiles.build import build_tile
        from geossl_data.tiles.rasters import Rasters

        scenes = read_scenes(self.folder / SCENES)
        labels = [scene for scene in scenes if scene.sensor == "label"]
        by_id = {scene.id: scene for scene in scenes}
        with Rasters(access=self.access) as rasters:
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
    base = str(tables.read_metadata(folder / SCENES).get("base", ""))
    factory = TileFactory(
        folder=folder,
        min_valid=options.min_valid,
        catalog_base=None if "://" in base or not base else base,
        access=_access(folder),
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

_STAGE_FUNCTIONS = {
    "places": draw_places,
    "fetch": fetch,
    "sample": sample,
    "shard": shard,
    "pretrain": pretrain,
    "evaluate": evaluate,
}


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
            own = {} if recipe.places is None else {"places": options.places}  # drawn anew in the folder itself
            options = resolved(options, recipe_path.resolve().parent).model_copy(update=own)
        extra: dict[str, Any] = {"workers": workers} if name == "shard" else {}
        yield _STAGE_FUNCTIONS[name](folder, options, progress=progress, **extra)  # type: ignore[operator]


def digest(folder: Path) -> str:
    """sha256 over the names and contents of all shards and the manifest: equal for equal datasets."""
    total = hashlib.sha256()
    for path in [*sorted((folder / SHARDS).glob("*.tar")), folder / MANIFEST]:
        total.update(f"{path.name} {sha256(path)}\n".encode())
    return total.hexdigest()
