"""How many pairs a catalog gave, and what was given up on the way, and why."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from geossl_data import tables
from geossl_data.errors import DatasetError
from geossl_data.report.dataset.contents import PAIRS
from geossl_data.report.dataset.counting import bars
from geossl_data.report.page import Section
from geossl_data.report.parts import Curves, Table
from geossl_data.scenes.redaction import redact_text

YIELD, SKIPPED, REJECTED = "yield.csv", "skipped.parquet", "rejected.parquet"
EXAMPLES = 3
"""Rows of skipped.parquet that are shown of each reason."""
LONGEST = 300
"""Characters of a detail that are shown."""
REASONS = {
    "no-pair": "no pair of scenes covers the square",
    "no-dates": "the rule for the looks found too few dates",
    "sea": "the centre lies at sea",
    "buffer": "too near a place of another split",
}
"""What the reasons of rejected squares mean."""


def pairs_section(folder: Path) -> list[Section]:
    """How many Sentinel-2 scenes found a partner against the gap allowed, and year by year; [] without a search.

    Raises DatasetError for a yield.csv that is none.
    """
    steps = _steps(folder / YIELD)
    years = tables.read_metadata(folder / PAIRS).get("yield_by_year")
    by_year = [one for one in years if isinstance(one, dict)] if isinstance(years, list) else []
    if not steps and not by_year:
        return []
    parts: list[Any] = []
    if steps:
        hours, shares = [step[0] for step in steps], [100 * step[2] for step in steps]
        parts.append(
            Curves(
                title="Sentinel-2 scenes with a partner",
                x_name="largest gap, h",
                y_name="%",
                lines={"scenes": (hours, shares)},
            )
        )
        rows = [
            (f"{gap:g}", f"{count:,.0f}", f"{100 * share:.1f} %", f"{pairs:,.0f}") for gap, count, share, pairs in steps
        ]
        head = ("largest gap, h", "scenes with a partner", "share", "pairs")
        parts.append(Table(rows=[head, *rows], caption="What a smaller gap would have given."))
    shares_of_years = {
        str(one.get("year")): {"with a partner": 100.0 * float(one.get("share", 0.0))} for one in by_year
    }
    parts += bars("Sentinel-2 scenes with a partner, by year", "%", shares_of_years)
    return [Section(title="Pairs found", parts=tuple(parts))]


def _steps(path: Path) -> list[tuple[float, float, float, float]]:
    """Gap in hours, scenes with a partner, their share, pairs: a row for each gap; [] where there is no such file."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = ("max_gap_hours", "s2_with_partner", "share", "pairs")
        return [tuple(float(row[name]) for name in names) for row in rows]  # type: ignore[misc]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise DatasetError(f"{path}: not a yield curve; `geossl fetch --fresh` writes it again") from None


def given_up_section(folder: Path) -> list[Section]:
    """What was skipped in every stage and which squares could not be drawn: counts and examples; [] where nothing was.

    Raises DatasetError for a table that is none.
    """
    skipped = _rows(folder / SKIPPED, ("stage", "reason", "id", "detail"))
    rejected = Counter(str(row["reason"]) for row in _rows(folder / REJECTED, ("reason",)))
    if not skipped and not rejected:
        return []
    counts = Counter((str(row["stage"]), str(row["reason"])) for row in skipped)
    values = {f"{stage}: {reason}": {"skipped": count} for (stage, reason), count in counts.most_common()}
    parts: list[Any] = [*bars("Skipped", "items", values)]
    if skipped:
        parts.append(_examples(skipped, counts))
    if rejected:
        head = ("reason", "squares", "what it means")
        rows = [(reason, f"{count:,}", REASONS.get(reason, "")) for reason, count in rejected.most_common()]
        parts.append(Table(rows=[head, *rows], caption="Squares of ground that could not be drawn.", words=True))
    facts = {"skipped": len(skipped), "squares that could not be drawn": sum(rejected.values())}
    return [Section(title="Skipped and rejected", facts=facts, parts=tuple(parts))]


def _examples(skipped: list[dict[str, Any]], counts: Counter[tuple[str, str]]) -> Table:
    shown: Counter[tuple[str, str]] = Counter()
    rows: list[tuple[str, ...]] = [("stage", "reason", "how many", "for example", "what was found")]
    for row in skipped:
        of = (str(row["stage"]), str(row["reason"]))
        shown[of] += 1
        if shown[of] <= EXAMPLES:
            rows.append((*of, f"{counts[of]:,}", _short(row["id"]), _short(row["detail"])))
    return Table(rows=rows, caption=f"At most {EXAMPLES} examples of each reason.", words=True)


def _short(text: object) -> str:
    shown = redact_text(" ".join(str(text).split()))
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Some columns of a table, row by row; [] where there is no such file. DatasetError where it lacks one."""
    if not path.is_file():
        return []
    table = tables.open_parquet(path)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: has no {missing[0]}; another version wrote it: run its stage with --fresh")
    rows: list[dict[str, Any]] = table.select(list(columns)).to_pylist()
    return rows
