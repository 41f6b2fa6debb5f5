"""What a draw covers, in words: facts and tables for reports, strategies side by side."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from geossl_data.evaluation.coverage import Band, Coverage, Drawing, cell_size_km, coverage_of

MOST_CLASSES = 4
"""Land-cover classes that a comparison has columns for."""
UNKNOWN = "–"
"""Shown for a figure that cannot be had."""

Rows = tuple[tuple[str, ...], ...]
"""A header and rows, as a stage's report shows them."""


def compare(drawings: Mapping[str, Drawing], pool: Drawing | None = None) -> Rows:
    """A header, then a row for each drawing by name, and one called (candidates) for the pool where there is one.

    All use the equal-area cells of the smallest drawing. A column that no drawing has values for is left out; what one
    lacks is `–`. Land cover has a column for each of the MOST_CLASSES classes that are commonest over all drawings.
    """
    side = cell_size_km(min(map(len, drawings.values()), default=0), pool)
    found = {name: coverage_of(drawing, pool, cell_km=side) for name, drawing in drawings.items()}
    sums = Counter[str]()
    for coverage in found.values():
        sums.update(coverage.landcover)
    classes = sorted(sums, key=lambda name: (-sums[name], name))[:MOST_CLASSES]
    columns = {name: _cells(coverage, classes) for name, coverage in found.items()}
    if pool is not None:
        # How far the candidates lie apart says nothing of a draw, and there may be millions.
        figures = _cells(coverage_of(pool, pool, cell_km=side, apart=False), classes)
        columns["(candidates)"] = figures | {"chi²/dof": UNKNOWN}
    heads = list(next(iter(columns.values()), {}))
    kept = [head for head in heads if any(cells[head] != UNKNOWN for cells in columns.values())]
    return (("strategy", *kept), *((name, *(cells[head] for head in kept)) for name, cells in columns.items()))


def facts(coverage: Coverage) -> dict[str, str]:
    """Name → figure for a stage's report, with what it is compared with; what cannot be had is left out."""
    chi, freedom = coverage.chi_square, coverage.chi_square.degrees_of_freedom
    found = {
        "evenness of strata": f"{coverage.strata_evenness:.2f} ({coverage.effective_strata:.1f} effective strata)",
        "commonest stratum": f"{coverage.commonest} {_percent(coverage.commonest_share)}",
        "chi-square": f"{chi.per_degree:.2f} per degree of freedom (of {freedom}, in cells of {chi.cell_km:g} km)",
        "nearest neighbour": f"{_km(coverage.nearest_km_min)} km least, {_km(coverage.nearest_km_median)} km median",
        "train to test": f"{_km(coverage.train_test_km)} km at the nearest",
        "on land": _percent(coverage.on_land),
        "effective share": f"{_percent(coverage.effective_share)} of the places, corrected by weight",
        "change score": _number(coverage.change_score),
        "spectral entropy": _number(coverage.entropy),
        "land cover": ", ".join(f"{name} {_percent(share)}" for name, share in coverage.landcover.items()) or UNKNOWN,
    }
    without = {
        "evenness of strata": math.isnan(coverage.strata_evenness),
        "commonest stratum": not coverage.places,
        "chi-square": math.isnan(chi.per_degree),
        "nearest neighbour": math.isnan(coverage.nearest_km_min),
    }
    return {name: text for name, text in found.items() if not without.get(name, text.startswith(UNKNOWN))}


def bands_table(bands: Sequence[Band]) -> Rows:
    """Bands of latitude with target, actual share and their ratio; a further column where one is to be warned of."""
    rows = [(band.name, _percent(band.target), _percent(band.actual), _number(band.ratio)) for band in bands]
    heads = ("latitude", "target", "drawn", "ratio")
    if not any(band.is_short for band in bands):
        return (heads, *rows)
    return (
        (*heads, "warning"),
        *((*row, "low" if band.is_short else "") for row, band in zip(rows, bands, strict=True)),
    )


def strata_table(target: Mapping[str, int], drawn: Mapping[str, int], available: Mapping[str, int]) -> Rows:
    """Places of each stratum: candidates there were, meant to be drawn, drawn, and how many are missing.

    target: {} where the draw had none; then only what was there and what was drawn are shown.
    """
    names = sorted({*target, *drawn, *available})
    if not target:
        rows = [(name, f"{available.get(name, 0):,}", f"{drawn.get(name, 0):,}") for name in names]
        return (("stratum", "candidates", "drawn"), *rows)
    counts = [(name, available.get(name, 0), target.get(name, 0), drawn.get(name, 0)) for name in names]
    return (
        ("stratum", "candidates", "target", "drawn", "short of"),
        *((name, f"{all_:,}", f"{aim:,}", f"{got:,}", f"{max(aim - got, 0) or ''}") for name, all_, aim, got in counts),
    )


def _cells(coverage: Coverage, classes: Sequence[str]) -> dict[str, str]:
    """Head of a column → what a comparison shows for one drawing."""
    return {
        "places": f"{coverage.places:,}",
        "chi²/dof": _number(coverage.chi_square.per_degree),
        "evenness": _number(coverage.strata_evenness),
        "eff. strata": _number(coverage.effective_strata, 1),
        "largest stratum": _percent(coverage.commonest_share),
        "nearest km": _km(coverage.nearest_km_min),
        "median km": _km(coverage.nearest_km_median),
        "train–test km": _km(coverage.train_test_km),
        "on land": _percent(coverage.on_land),
        "eff. share": _percent(coverage.effective_share),
        "change": _number(coverage.change_score),
        "entropy": _number(coverage.entropy),
        **{name: _percent(coverage.landcover.get(name, 0.0)) if coverage.landcover else UNKNOWN for name in classes},
    }


def _number(value: float, digits: int = 2) -> str:
    return UNKNOWN if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def _percent(share: float) -> str:
    """With a digit more below 10 % and between 99 and 100 %, so that little is not none and most not all."""
    digits = 1 if 0 < share < 0.1 or 0.99 < share < 1 else 0
    return UNKNOWN if math.isnan(share) else f"{100 * share:.{digits}f} %"


def _km(value: float) -> str:
    """With two digits below ten kilometres, where squares nearly touch."""
    return UNKNOWN if not math.isfinite(value) else f"{value:.2f}" if value < 10 else f"{value:,.0f}"
