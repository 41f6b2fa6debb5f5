"""The stage that draws places before any catalog is asked."""

from collections import Counter
from pathlib import Path

from geossl_data import tables
from geossl_data.pipeline._drawing import by_content, resolved, rules_for, short_strata, strata_for
from geossl_data.pipeline._folder import PLACES, Report, fingerprint_of, per_split, recipe_of, settle, working_on
from geossl_data.pipeline._pictures import picture_places, places_picture
from geossl_data.progress import Progress, silent
from geossl_data.recipe import PlacesOptions
from geossl_data.records import Site

DEFAULT_STRATA = "regions"
"""The layer of strata that the pieces of land are cut by."""


def draw_places(
    folder: Path, options: PlacesOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Draw places on land before any catalog is asked: writes places.parquet, which `fetch` can search around."""
    from geossl_data.sampling.anywhere import draw_places as draw
    from geossl_data.scenes.area import area_of
    from geossl_data.scenes.opening.access import Access
    from geossl_data.tiles.rasters import Rasters

    options = resolved(options or recipe_of(folder).places or PlacesOptions(), Path.cwd())
    fingerprint = by_content(options).fingerprint()
    area, path, rules = area_of(options.bbox, options.area), folder / PLACES, rules_for(options)
    if fresh or fingerprint_of(path) != fingerprint or not places_picture(folder).is_file():
        with progress("drawing places") as task, Rasters(access=Access()) as rasters:
            # The land of the default layer is known exactly, piece by piece.
            layer = None if options.strata == DEFAULT_STRATA else strata_for(folder, options, area, rasters)
            sites = draw(
                options.count,
                size=options.size,
                strategy=options.strategy,
                area=area,
                strata=layer,
                allocation=options.allocation,
                quota=rules.quota,
                cities=rules.cities,
                shares=rules.shares,
                min_distance_km=options.min_distance_km,
                block_km=options.block_km,
                buffer_km=options.buffer_km,
                val=options.val,
                test=options.test,
                test_bbox=options.test_bbox,
                seed=options.seed,
                split_seed=options.split_seed,
            )
            task.advance(note=f"{len(sites):,} places")
        with working_on(folder, options):
            notes = {
                "fingerprint": fingerprint,
                "land_km2": dict(sites.land_km2),
                "target": dict(sites.target),
                "rejected": dict(sites.rejected),
            }
            # While there is no picture, the table is not done.
            places_picture(folder).unlink(missing_ok=True)
            tables.write_columns(path, sites.columns, Site, rings=sites.squares, metadata=notes)
            with progress("drawing a picture") as task:
                picture_places(folder, sites)
                task.advance()
        return _places_report(path, fresh=True)
    settle(folder, options)
    return _places_report(path, fresh=False)


def _places_report(path: Path, *, fresh: bool) -> Report:
    columns = tables.open_parquet(path, ["split", "stratum", "drawn_by"])
    notes = tables.read_metadata(path)
    splits, drawn = Counter(columns["split"].to_pylist()), Counter(columns["stratum"].to_pylist())
    land, target = notes["land_km2"], notes["target"]
    facts = {"places drawn": columns.num_rows, "train / val / test": per_split(splits)}
    parts = sorted(Counter(columns["drawn_by"].to_pylist()).items())
    if len(parts) > 1:
        facts["drawn by"] = ", ".join(f"{name} {count:,}" for name, count in parts)
    if notes["rejected"]:
        counts = sorted(notes["rejected"].items(), key=lambda item: -item[1])
        facts["proposals that came to nothing"] = ", ".join(f"{count:,} {reason}" for reason, count in counts)
    short = short_strata(target, drawn)
    if short:
        facts["less than half of their target"] = ", ".join(short[:8]) + (", …" if len(short) > 8 else "")
    head = ("stratum", "land, km²", *(("target",) if target else ()), "drawn")
    rows = [
        (name, f"{land.get(name, 0.0):,.0f}", *((str(target.get(name, 0)),) if target else ()), str(drawn[name]))
        for name in sorted({*land, *target, *drawn})
    ]
    return Report(
        stage="sample --anywhere",
        fresh=fresh,
        facts=facts,
        table=(head, *rows),
        hints=(f"geossl fetch --places {path} --from … --to …",),
    )
