"""The stage that draws places among the pairs, and the comparison of strategies over what can be drawn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from geossl_data import tables
from geossl_data.errors import SamplingError
from geossl_data.files import exclusive
from geossl_data.grid import square_lonlat
from geossl_data.pipeline._drawing import by_content, finite_or_zero, rules_for, short_strata
from geossl_data.pipeline._folder import (
    PAIRS,
    REJECTED,
    SAMPLES,
    Report,
    fingerprint_of,
    per_split,
    settle,
    skipped_counts,
    working_on,
    write_skipped,
)
from geossl_data.pipeline._pictures import coverage_note, picture_comparison, picture_samples
from geossl_data.pipeline._pool import Drawable, complete, drawable_of
from geossl_data.pipeline._report import report_of_draw
from geossl_data.progress import Progress, silent
from geossl_data.recipe import SampleOptions
from geossl_data.records import Sample, Skipped

if TYPE_CHECKING:
    from geossl_data.sampling.draw import Drawn
    from geossl_data.sampling.measures import Measures
    from geossl_data.sampling.pool import Pool

MEASURED_STRATEGIES = ("change", "diverse")
"""Strategies that need something measured."""
MEASURED_WEIGHTS = ("change", "entropy")


def sample(
    folder: Path,
    options: SampleOptions | None = None,
    *,
    workers: int = 2,
    fresh: bool = False,
    progress: Progress = silent,
) -> Report:
    """Draw places among the pairs: writes samples.parquet, rejected.parquet and pictures of what was drawn.

    options: None takes the folder's recipe, or the defaults. Pixel grids that the catalog does not state are read
    from the files' headers. Where the scenes were searched around places, only these are drawn, in their own size.
    workers: threads that read overviews where change is measured; the result does not depend on it.
    """
    options = complete(folder, options)
    fingerprint = by_content(options).fingerprint(fingerprint_of(folder / PAIRS) or "")
    if not fresh and fingerprint_of(folder / SAMPLES) == fingerprint == fingerprint_of(folder / REJECTED):
        settle(folder, options)
        return _sample_report(folder, fresh=False)
    drawable = drawable_of(folder, options, progress)
    pool, unmeasured = drawable.pool, list(drawable.unreadable)
    measured: Measures | None = None
    if _draws_by_measure(options):
        measured, given_up = _measured(folder, options, drawable, range(len(pool)), workers, fresh, progress)
        unmeasured += given_up
    with progress("drawing places") as task:
        drawn = _draw(options, options.strategy, pool, measured)
        task.advance(note=f"{len(drawn.samples)} places")
    if measured is None and _sensors(options) is not None:
        drawn, given_up = _with_measures(folder, options, drawable, drawn, workers, fresh, progress)
        unmeasured += given_up
    with working_on(folder, options):
        notes = {
            "fingerprint": fingerprint,
            "n_candidates": drawn.n_candidates,
            "n_without_looks": drawn.n_without_looks,
            "n_in_buffer": drawn.n_in_buffer,
            "n_at_sea": pool.n_rejected("sea"),
            "n_without_pair": pool.n_rejected("no-pair"),
            "available": drawn.available,
            "target": drawn.target,
            "coverage": coverage_note(drawn.samples, pool),
        }
        if options.snap == "block":
            in_block = {candidate.place for candidate in pool.candidates if candidate.is_in_block}
            notes["n_across_blocks"] = sum(one.place not in in_block for one in drawn.samples)
        _write_rejected(folder / REJECTED, pool, fingerprint)
        write_skipped(folder, "sample", [*unmeasured, *drawn.skipped])
        with progress("drawing pictures") as task:
            picture_samples(folder, drawn.samples, pool, drawn.target)
            task.advance()
        # Last: what was rejected and what was drawn of one draw stand for all that lies between them.
        tables.write_table(
            folder / SAMPLES, drawn.samples, Sample, geometry=_footprint, metadata=notes, progress=progress
        )
    # After the block, when the recipe that the page shows is written.
    report_of_draw(folder)
    return _sample_report(folder, fresh=True)


def compare(
    folder: Path,
    strategies: Sequence[str],
    options: SampleOptions | None = None,
    *,
    workers: int = 2,
    progress: Progress = silent,
) -> Report:
    """Draw each strategy from one pool and tabulate what it covers: writes compare.csv and compare.png, no samples.

    Raises SamplingError for a strategy that is unknown, or that cannot draw from this pool.
    """
    from geossl_data.sampling.draw import ground_of
    from geossl_data.sampling.strategies import STRATEGIES, ground_shares

    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown or not strategies:
        listed = ", ".join(STRATEGIES)
        raise SamplingError(f"--compare: no strategy {unknown[0] if unknown else ''!r}; there are {listed}")
    options = complete(folder, options)
    drawable = drawable_of(folder, options, progress)
    measured: Measures | None = None
    if _sensors(options) is not None or set(strategies) & set(MEASURED_STRATEGIES):
        measured, _ = _measured(folder, options, drawable, range(len(drawable.pool)), workers, False, progress)
    drawn: dict[str, list[Sample]] = {}
    share = ground_shares(ground_of(drawable.pool))
    with progress("drawing places", total=len(strategies)) as task:
        for name in dict.fromkeys(strategies):
            try:
                drawn[name] = _draw(options, name, drawable.pool, measured, at_most=True, share=share).samples
            except SamplingError as error:
                raise SamplingError(f"--compare {name}: {error}") from None
            task.advance(note=name)
    with exclusive(folder):
        rows = picture_comparison(folder, drawn, drawable.pool, measured)
    facts = {"candidate places": len(drawable.pool), "files": "compare.csv, compare.png"}
    return Report(stage="sample --compare", fresh=True, facts=facts, table=rows)


# ------------------------------------------------------------------------------------------------ the draw


def _draws_by_measure(options: SampleOptions) -> bool:
    """Whether what is drawn depends on what is measured, so that every candidate has to be."""
    strategies = {options.strategy, *options.shares}
    return bool(strategies & set(MEASURED_STRATEGIES)) or options.weight_by in MEASURED_WEIGHTS


def _sensors(options: SampleOptions) -> str | None:
    """With which sensors to measure change; None where nothing is measured."""
    if options.measure == "off" and _draws_by_measure(options):
        raise SamplingError(f"--strategy {options.strategy} and --weight-by {options.weight_by} need --measure")
    if options.measure == "auto":
        return "both" if _draws_by_measure(options) or options.looks == "long" else None
    return None if options.measure == "off" else options.measure


def _measured(
    folder: Path,
    options: SampleOptions,
    drawable: Drawable,
    rows: Sequence[int],
    workers: int,
    fresh: bool,
    progress: Progress,
) -> "tuple[Measures, list[Skipped]]":
    """What is measured of some candidates of the pool, in the order of `rows`."""
    from geossl_data.pipeline._measure import measure

    with exclusive(folder):
        return measure(
            folder,
            [drawable.pool.candidates[row] for row in rows],
            drawable.scenes,
            sensors=_sensors(options) or "both",
            size=options.size,
            workers=workers,
            fresh=fresh,
            progress=progress,
        )


def _weight(options: SampleOptions, pool: "Pool", measured: "Measures | None") -> NDArray[np.float64] | None:
    """The relative chance of each candidate that --weight-by asks for; None where all are alike."""
    if options.weight_by == "none":
        return None
    if options.weight_by in MEASURED_WEIGHTS:
        assert measured is not None
        values = measured.change if options.weight_by == "change" else measured.entropy
    else:
        from geossl_data.sampling.layers import values_of

        values = values_of(options.weight_by)(pool.lon, pool.lat)
    weight = finite_or_zero(values)
    if not (weight > 0).any():
        raise SamplingError(f"--weight-by {options.weight_by}: no candidate place has a weight above 0")
    return weight


def _draw(
    options: SampleOptions,
    strategy: str,
    pool: "Pool",
    measured: "Measures | None",
    *,
    at_most: bool = False,
    share: NDArray[np.float64] | None = None,
) -> "Drawn":
    from geossl_data.sampling.draw import draw, ground_of

    ground = ground_of(
        pool,
        rules=rules_for(options.model_copy(update={"strategy": strategy})),
        min_distance_km=options.min_distance_km,
        weight=_weight(options, pool, measured),
        measures=measured,
        share=share,
    )
    return draw(
        pool,
        ground,
        strategy=strategy,
        count=options.count,
        at_most=at_most,
        seed=options.seed,
        measures=measured,
    )


def _with_measures(
    folder: Path,
    options: SampleOptions,
    drawable: Drawable,
    drawn: "Drawn",
    workers: int,
    fresh: bool,
    progress: Progress,
) -> "tuple[Drawn, list[Skipped]]":
    """The same draw with the change of its places noted."""
    from geossl_data.sampling.draw import with_measures

    row_of = {candidate.place: row for row, candidate in enumerate(drawable.pool.candidates)}
    rows = [row_of[one.place] for one in drawn.samples]
    measured, skipped = _measured(folder, options, drawable, rows, workers, fresh, progress)
    samples = [with_measures(one, measured, number) for number, one in enumerate(drawn.samples)]
    return replace(drawn, samples=samples), skipped


# ------------------------------------------------------------------------------------------------ what is written


def _write_rejected(path: Path, pool: "Pool", fingerprint: str) -> None:
    """The ground that could not be drawn, as a table with a row per square."""
    from geossl_data.records import RejectedSquare

    gone = pool.rejected
    rows = [
        RejectedSquare(lon=lon, lat=lat, stratum=stratum, reason=reason)
        for lon, lat, stratum, reason in zip(
            gone.lon.tolist(), gone.lat.tolist(), gone.stratum.tolist(), gone.reason.tolist(), strict=True
        )
    ]
    tables.write_table(path, rows, RejectedSquare, metadata={"fingerprint": fingerprint})


def _footprint(drawn: Sample) -> Any:
    return square_lonlat(drawn.place.epsg, drawn.place.x, drawn.place.y, drawn.place.side_m)


def _sample_report(folder: Path, *, fresh: bool) -> Report:
    notes = tables.read_metadata(folder / SAMPLES)
    samples = tables.open_parquet(folder / SAMPLES, ["stratum", "split", "looks", "change_score"])
    drawn, splits = Counter(samples["stratum"].to_pylist()), Counter(samples["split"].to_pylist())
    facts: dict[str, Any] = {
        "candidate places": notes["n_candidates"],
        "places drawn": samples.num_rows,
        "looks": pc.sum(pc.list_value_length(samples["looks"])).as_py() or 0,
        "train / val / test": per_split(splits),
    }
    for name, text in (
        ("n_without_pair", "squares without a pair"),
        ("n_without_looks", "without the dates"),
        ("n_at_sea", "at sea"),
        ("n_in_buffer", "in the buffer between splits"),
        ("n_across_blocks", "places left across blocks"),
    ):
        if notes.get(name):
            facts[text] = notes[name]
    scores = samples["change_score"].drop_null().to_pylist()
    if scores:
        facts["change score"] = f"median {np.median(scores):.2f}, highest {max(scores):.2f}, of {len(scores):,} places"
    short = short_strata(notes["target"], drawn)
    if short:
        facts["below half their target"] = ", ".join(short[:8]) + (" …" if len(short) > 8 else "")
    names = sorted({*notes["available"], *notes["target"]})
    rows = [
        (name, f"{notes['available'].get(name, 0):,}", f"{notes['target'].get(name, 0):,}", f"{drawn[name]:,}")
        for name in names
    ]
    header: tuple[str, ...] = ("stratum", "candidates", "target", "drawn")
    if not notes["target"]:
        header, rows = (*header[:2], header[3]), [(*row[:2], row[3]) for row in rows]  # type: ignore[misc]
    return Report(
        stage="sample",
        fresh=fresh,
        facts=facts,
        skipped=skipped_counts(folder, "sample"),
        table=(header, *rows),
        hints=("geossl shard",),
    )
