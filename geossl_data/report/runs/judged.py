"""What an encoder was found to be worth, as intervals and as a table."""

from collections.abc import Sequence

from geossl_data.evaluation.scores import ENCODERS, Score, Scores
from geossl_data.report.page import Part
from geossl_data.report.parts import IntervalRow, Intervals, Table

MOST_ROWS = 40
"""Of one picture; the table has them all."""


def score_parts(scores: Scores) -> tuple[Part, ...]:
    """A picture of the main metric of each task, and the table of all of them."""
    table = scores.table()
    if len(table) < 2:
        return ()
    pictures = [_intervals(task, scores) for task in dict.fromkeys(row.task for row in scores.scores)]
    caption = "value (95 % interval over places and seeds)"
    return (*(picture for picture in pictures if picture), Table(rows=table, caption=caption))


def main_metric(task: str, scores: Scores) -> str:
    """The metric that a task names first, which is the one it is known by; "" where it has no score."""
    return next((row.metric for row in scores.scores if row.task == task), "")


def best(scores: Scores) -> str:
    """The best score of the trained encoder in the first task, in words; "" where there is none."""
    task = next((row.task for row in scores.scores), "")
    metric = main_metric(task, scores)
    found = [
        row
        for row in _main_rows(task, scores)
        if row.encoder == "trained" and row.fraction == 1.0 and row.value is not None
    ]
    if not found:
        return ""
    row = (min if _unit(metric) else max)(found, key=lambda row: row.value or 0.0)
    said = f"{row.value:,.0f}" if _unit(metric) else f"{row.value:.3f}"
    return f"{task} {metric} {said} ({row.features}, {row.probe})"


def _unit(metric: str) -> str:
    return "km" if metric.endswith("km") else ""


def _main_rows(task: str, scores: Scores) -> list[Score]:
    metric = main_metric(task, scores)
    return [row for row in scores.scores if (row.task, row.metric) == (task, metric)]


def _intervals(task: str, scores: Scores) -> Intervals | None:
    """A row for each thing looked at and each probe, the kinds of encoder in one row; None where nothing has a value.

    Encoders that were trained with the labels have no probe, and a row of their own.
    """
    rows = [row for row in _main_rows(task, scores) if row.value is not None]
    names = list(dict.fromkeys(_name(row) for row in rows))
    if not names:
        return None
    metric = main_metric(task, scores)
    kinds = [kind for kind in ENCODERS if any(row.encoder == kind for row in rows)]
    left_out = f" ({len(names) - MOST_ROWS} more in the table)" if len(names) > MOST_ROWS else ""
    return Intervals(
        title=f"{task}: {metric}{left_out}",
        unit=_unit(metric),
        rows=[
            IntervalRow(name=name, series={kind: _ends(name, kind, rows) for kind in kinds})
            for name in names[:MOST_ROWS]
        ],
    )


def _name(row: Score) -> str:
    what = row.probe if row.features == "none" else f"{row.features}, {row.probe}"
    return what if row.fraction == 1.0 else f"{what}, {100 * row.fraction:g} % of labels"


def _ends(name: str, kind: str, rows: Sequence[Score]) -> tuple[float, float, float] | None:
    """Value and interval of a kind of encoder in a row."""
    row = next((row for row in rows if row.encoder == kind and _name(row) == name), None)
    if row is None or row.value is None:
        return None
    return (row.value, row.value if row.low is None else row.low, row.value if row.high is None else row.high)
