"""What can be drawn in a dataset folder: its pairs as a pool of candidate places, by the options of the stage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl_data import tables
from geossl_data.bands import S2_BANDS
from geossl_data.errors import ReadError, TokenError
from geossl_data.pipeline._drawing import resolved, strata_for
from geossl_data.pipeline._fetch import places_of, searched_area
from geossl_data.pipeline._folder import HEADERS, PAIRS, SCENES, access_to, need, recipe_of, require_one_search
from geossl_data.progress import Progress
from geossl_data.recipe import FetchOptions, SampleOptions
from geossl_data.records import Pair, Scene, Site, Skipped

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl_data.sampling.pool import Pool
    from geossl_data.tiles.rasters import Rasters


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawable:
    """The pool of a folder, and what it was made from."""

    pool: "Pool"
    scenes: list[Scene]
    unreadable: list[Skipped]


def complete(folder: Path, options: SampleOptions | None) -> SampleOptions:
    """The options, or the folder's, with absolute paths and the size of places drawn beforehand.

    Raises SamplingError where a place is to lie in a block and is too large for any.
    """
    need(folder, SCENES, PAIRS, stage="fetch")
    options = resolved(options or recipe_of(folder).sample or SampleOptions(), Path.cwd())
    places = places_of(folder, recipe_of(folder).fetch or FetchOptions())
    if places is not None and options.size == SampleOptions().size:
        sizes = tables.open_parquet(places, ["size_px"])["size_px"]
        options = options.model_copy(update={"size": sizes[0].as_py()}) if len(sizes) else options
    if options.snap == "block":
        from geossl_data.sampling.tile_grids import require_block

        require_block(options.size)
    return options


def drawable_of(folder: Path, options: SampleOptions, progress: Progress) -> Drawable:
    """What can be drawn in a folder, with the scenes it is drawn from.

    Raises DatasetError where the scenes and the pairs are of different searches.
    """
    from geossl_data.sampling.looks import choose_looks
    from geossl_data.sampling.pool import make_pool
    from geossl_data.sampling.spares import spare_looks
    from geossl_data.sampling.splits import SplitRule
    from geossl_data.scenes.area import area_of
    from geossl_data.scenes.store import read_scenes
    from geossl_data.tiles.rasters import Rasters

    require_one_search(folder)
    fetched = recipe_of(folder).fetch or FetchOptions()
    places = places_of(folder, fetched)
    sites = None if places is None else tables.read_table(places, Site, progress=progress)
    pairs = tables.read_table(folder / PAIRS, Pair, progress=progress)
    scenes = read_scenes(folder / SCENES, progress=progress)
    told: dict[str, Any] = {
        "cloud": {scene.id: scene.cloud_percent for scene in scenes if scene.sensor == "s2"},
        "tie": fetched.tie,
        "dates": options.dates,
        "least": options.least_dates,
        "most": options.most_looks,
        "years_apart": options.years_apart,
        "same_orbit": options.looks_orbit == "same",
    }
    inside = area_of(options.bbox, options.area)
    if inside is None and sites is None:
        inside = searched_area(folder, fetched)
    with Rasters(access=access_to(folder), headers=folder / HEADERS) as rasters:
        s2_ids = {s2_id for pair in pairs for s2_id in pair.s2_ids}
        scenes, unreadable = _with_grids(rasters, scenes, s2_ids, progress)
        strata = strata_for(folder, options, inside, rasters)
        pool = make_pool(
            scenes,
            pairs,
            choose=partial(choose_looks, options.looks, **told),
            spare=partial(spare_looks, options.looks, **told),
            rule=SplitRule(
                block_km=options.block_km,
                val=options.val,
                test=options.test,
                seed=options.seed if options.split_seed is None else options.split_seed,
                test_bbox=options.test_bbox,
            ),
            size=options.size,
            strata=strata,
            land_km2=_land_km2(inside, strata) if sites is None else None,
            surface=options.surface,
            buffer_km=options.buffer_km,
            area=inside,
            sites=sites,
            snap=options.snap,
            progress=progress,
        )
    return Drawable(pool=pool, scenes=scenes, unreadable=unreadable)


def _land_km2(area: "BaseGeometry | None", strata: Any) -> dict[str, float] | None:
    """Land of the area that was asked for, by stratum; None where no area bounds it."""
    from geossl_data.sampling.anywhere import land_area_km2

    return None if area is None else land_area_km2(area, strata)


def _with_grids(
    rasters: "Rasters", scenes: Sequence[Scene], s2_ids: set[str], progress: Progress
) -> tuple[list[Scene], list[Skipped]]:
    """The scenes with a pixel grid for every Sentinel-2 band, read from the files where the catalog states none."""

    def incomplete(scene: Scene) -> bool:
        return scene.id in s2_ids and not all(band in scene.grids for band in S2_BANDS if band in scene.hrefs)

    missing = [scene for scene in scenes if incomplete(scene)]
    if not missing:
        return list(scenes), []
    filled: dict[str, Scene] = {}
    skipped: list[Skipped] = []
    with progress("reading headers", total=len(missing)) as task:
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
            task.advance(note=f"{len(skipped):,} skipped" if skipped else None)
    return [filled.get(scene.id, scene) for scene in scenes], skipped
