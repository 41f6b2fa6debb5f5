"""The stage that draws places before any catalog is asked."""

from collections import Counter
from pathlib import Path

from geossl_data import tables
from geossl_data.pipeline._folder import PLACES, Report, fingerprint_of, per_split, recipe_of, working_on
from geossl_data.progress import Progress, silent
from geossl_data.recipe import PlacesOptions
from geossl_data.records import Site


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
    if fresh or fingerprint_of(path) != fingerprint:
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
        with working_on(folder, options):
            notes = {"fingerprint": fingerprint, "land_km2": land_area_km2(area)}
            tables.write_table(path, sites, Site, geometry=site_square, metadata=notes)
        return _places_report(path, fresh=True)
    return _places_report(path, fresh=False)


def _places_report(path: Path, *, fresh: bool) -> Report:
    sites = tables.read_table(path, Site)
    splits = Counter(site.split for site in sites)
    facts = {"places drawn": len(sites), "train / val / test": per_split(splits)}
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
