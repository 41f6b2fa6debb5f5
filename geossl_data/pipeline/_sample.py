"""The stage that draws places among the pairs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geossl_data import tables
from geossl_data.bands import S2_BANDS
from geossl_data.errors import ReadError, TokenError
from geossl_data.grid import square_lonlat
from geossl_data.pipeline._fetch import places_of, searched_area
from geossl_data.pipeline._folder import (
    PAIRS,
    SAMPLES,
    SCENES,
    Report,
    access_to,
    fingerprint_of,
    need,
    per_split,
    recipe_of,
    skipped_counts,
    working_on,
    write_skipped,
)
from geossl_data.progress import Progress, silent
from geossl_data.recipe import FetchOptions, SampleOptions
from geossl_data.records import Pair, Sample, Scene, Site, Skipped


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

    need(folder, SCENES, PAIRS, stage="fetch")
    fetched = recipe_of(folder).fetch or FetchOptions()
    places = places_of(folder, fetched)
    sites = None if places is None else tables.read_table(places, Site)
    options = options or recipe_of(folder).sample or SampleOptions()
    if sites and options.size == SampleOptions().size:
        options = options.model_copy(update={"size": sites[0].size_px})
    fingerprint = options.fingerprint(fingerprint_of(folder / PAIRS) or "")
    if not fresh and fingerprint_of(folder / SAMPLES) == fingerprint:
        return _sample_report(folder, fresh=False)
    pairs = tables.read_table(folder / PAIRS, Pair)
    with progress("reading scenes") as task:
        scenes = read_scenes(folder / SCENES)
        task.advance()
    scenes, unreadable = _with_grids(folder, scenes, {s2_id for pair in pairs for s2_id in pair.s2_ids}, progress)
    inside = area_of(options.bbox, options.area)
    with progress("drawing places") as task:
        drawn = draw_samples(
            scenes,
            pairs,
            strategy=options.strategy,
            count=options.count,
            looks=options.looks,
            tie=fetched.tie,
            area=inside if inside is not None or sites is not None else searched_area(folder, fetched),
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
    with working_on(folder, options):
        notes = {
            "fingerprint": fingerprint,
            "n_candidates": drawn.n_candidates,
            "n_without_looks": drawn.n_without_looks,
            "n_in_buffer": drawn.n_in_buffer,
            "available": drawn.available,
        }
        tables.write_table(folder / SAMPLES, drawn.samples, Sample, geometry=_footprint, metadata=notes)
        write_skipped(folder, "sample", [*unreadable, *drawn.skipped])
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
    with Rasters(access=access_to(folder)) as rasters, progress("reading headers", total=len(missing)) as task:
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
        "train / val / test": per_split(splits),
    }
    if notes["n_without_looks"]:
        facts["without the dates"] = notes["n_without_looks"]
    if notes["n_in_buffer"]:
        facts["in the buffer between splits"] = notes["n_in_buffer"]
    return Report(
        stage="sample",
        fresh=fresh,
        facts=facts,
        skipped=skipped_counts(folder, "sample"),
        table=(("stratum", "candidates", "drawn"), *rows),
        hints=("geossl shard",),
    )
