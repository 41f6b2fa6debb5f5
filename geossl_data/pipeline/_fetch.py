"""The stage that searches a catalog and matches the two sensors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl_data import tables
from geossl_data.errors import EmptyResultError
from geossl_data.files import exclusive, remove_folder, sha256, write_text
from geossl_data.pipeline._folder import (
    PAIRS,
    PLACES,
    SCENES,
    YIELD,
    Report,
    fingerprint_of,
    recipe_of,
    settle,
    skipped_counts,
    working_on,
    write_skipped,
)
from geossl_data.progress import Progress, silent
from geossl_data.recipe import FetchOptions, parse_duration
from geossl_data.records import Pair, Scene, Skipped

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl_data.scenes.matching.yields import YieldStep

FETCH_PATHS = ("catalog", "area", "places")


def resolved(options: FetchOptions, base: Path) -> FetchOptions:
    """Fetch options whose local paths are absolute: relative ones are looked up below `base`."""
    changes: dict[str, Any] = {}
    for name in FETCH_PATHS:
        value = getattr(options, name)
        if value is not None and "://" not in value and (base / value).exists():
            changes[name] = str((base / value).resolve())
    return options.model_copy(update=changes)


def _by_content(folder: Path, options: FetchOptions) -> FetchOptions:
    """The same options with local files named by what they hold, so that a moved catalog is the same catalog."""
    paths = {name: Path(value) for name in FETCH_PATHS if (value := getattr(options, name)) is not None}
    places = places_of(folder, options)
    paths |= {} if places is None else {"places": places}
    return options.model_copy(update={name: sha256(path) for name, path in paths.items() if path.is_file()})


def fingerprint_for(folder: Path, options: FetchOptions) -> str:
    """The fingerprint of what `fetch` makes of these options in a folder, by what the files that they name hold."""
    return _by_content(folder, options).fingerprint()


def places_of(folder: Path, options: FetchOptions) -> Path | None:
    """The table of places to search around; one of the folder's own is named relative to it."""
    if options.places is None:
        return None
    own = folder / options.places
    return own if own.is_file() else Path(options.places)


def searched_area(folder: Path, options: FetchOptions) -> "BaseGeometry | None":
    from geossl_data.scenes.area import area_of, area_of_places

    places = places_of(folder, options)
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
        area=searched_area(folder, options),
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
        rows.append((collection, f"{len(asked):,}", f"{days:.0f}", f"{expected:,.0f}"))
    return Report(
        stage="fetch --dry-run",
        fresh=True,
        facts={
            "catalog": f"{provider.name} ({provider.url})",
            "queries": len(plan.questions),
            "expected items": f"about {plan.expected_items:,}, from how often the satellites pass",
            "expected requests": f"about {plan.expected_requests:,}, {provider.page_size} items a page",
            "expected time": f"at least {_time_text(plan.expected_seconds)}, {provider.concurrency} requests at a time",
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
    from geossl_data.scenes.journal import JOURNAL_NAME, holds_answers, is_left_over
    from geossl_data.scenes.opening.signing import Signer
    from geossl_data.scenes.providers import provider_for

    options = _portable(folder, resolved(options or recipe_of(folder).fetch or FetchOptions(), Path.cwd()))
    fingerprint, journal = fingerprint_for(folder, options), folder / JOURNAL_NAME
    if not fresh and fingerprint_of(folder / PAIRS) == fingerprint == fingerprint_of(folder / SCENES):
        # Of a process that was killed when all was written; one begun since is of another search, that may go on.
        if is_left_over(journal, (folder / PAIRS).stat().st_mtime):
            with exclusive(folder):
                remove_folder(journal)
        settle(folder, options)
        return _fetch_report(folder, fresh=False)
    area, max_gap = searched_area(folder, options), parse_duration(options.max_gap)
    with limits.BUDGET.granting(max_requests), working_on(folder, options):
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
        store.write_scenes(folder / SCENES, found, metadata=notes, progress=progress)
        curve = matching.yield_curve(pairs, len(s2), max_gap)
        notes |= {"yield": [asdict(step) for step in curve]}
        notes |= {"yield_by_year": [asdict(year) for year in matching.yield_by_year(pairs, s2)]}
        write_text(folder / YIELD, _yield_csv(curve))
        write_skipped(folder, "fetch", found.skipped)
        # Last: scenes and pairs of one search stand for all that lies between them.
        tables.write_table(folder / PAIRS, pairs, Pair, metadata=notes, progress=progress)
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
    notes = tables.read_metadata(folder / PAIRS)
    pairs = tables.open_parquet(folder / PAIRS, ["gap_hours", "rank"])
    gaps = np.sort(np.abs(pairs["gap_hours"].to_numpy()[pairs["rank"].to_numpy() == 0]))
    within = notes["yield"][-1]["share"]
    facts = {
        "Sentinel-2 scenes": notes["n_s2"],
        "Sentinel-1 scenes": notes["n_s1"],
        "pairs": pairs.num_rows,
        "Sentinel-2 scenes with a partner": f"{100 * within:.0f} %",
        "median gap": f"{gaps[len(gaps) // 2]:.1f} h",
    }
    years = notes["yield_by_year"]
    if len(years) > 1:
        facts["by year"] = ", ".join(f"{year['year']} {100 * year['share']:.0f} %" for year in years)
    rows = [
        (_gap_text(step["max_gap_hours"]), f"{step['n_pairs']:,}", f"{100 * step['share']:.0f} %")
        for step in notes["yield"]
    ]
    return Report(
        stage="fetch",
        fresh=fresh,
        facts=facts,
        skipped=skipped_counts(folder, "fetch"),
        table=(("gap up to", "pairs", "Sentinel-2 scenes with a partner"), *rows),
        hints=("geossl sample --strategy geography",),
    )


def _time_text(seconds: float) -> str:
    """Seconds, minutes or hours, whichever a person counts in."""
    for length, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _gap_text(hours: float) -> str:
    return f"{hours:g} h" if hours < 48 else f"{hours / 24:g} d"
