"""What a sweep found: all scores as one tidy table, and the main ones by what the cells have in common."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.evaluation.scores import SUPERVISED, Score, Scores, read_scores
from geossl_data.files import write_text
from geossl_data.sweep.cells import Cell, Sweep
from geossl_data.sweep.differences import mean_over_seeds
from geossl_data.sweep.folders import CELLS, is_finished, judged_by, state_of
from geossl_data.sweep.spec import plain

SCORE_COLUMNS = (
    "task", "features", "encoder", "probe", "metric", "fraction", "value", "low", "high", "seeds", "n_train", "n_test",
)  # fmt: skip
COST_COLUMNS = ("items", "steps", "seconds")
"""Of training: looks or places it learnt from, steps, and the time, which alone differs from run to run."""

What = tuple[str, str, str, str, float]
"""Task, features, probe, metric and share of the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A cell that is done, and what came of it."""

    cell: Cell
    scores: Scores
    items: int
    steps: int
    seconds: float


def finished_cells(sweep: Sweep, out: Path) -> list[Finished]:
    """The cells that are done, in the order of the spec."""
    found = []
    for cell in sweep.cells:
        if is_finished(out, cell, judged_by(cell, sweep.labelled)):
            folder = out / CELLS / cell.id
            state, scores = state_of(folder), read_scores(folder)
            found.append(
                Finished(cell=cell, scores=scores, items=state.items, steps=state.steps, seconds=state.seconds)
            )
    return found


def write_table(path: Path, sweep: Sweep, finished: Sequence[Finished]) -> None:
    """Write a row for each score of each cell, in the order of the spec; numbers of six digits, empty where undefined.

    Columns: cell, arm where there are arms, one for each option that varies, SCORE_COLUMNS, COST_COLUMNS.
    """
    arms = ("arm",) if sweep.has_arms else ()
    rows: list[list[str]] = [["cell", *arms, *sweep.keys, *SCORE_COLUMNS, *COST_COLUMNS]]
    for one in finished:
        first = [
            one.cell.id,
            *([one.cell.arm or ""] if arms else []),
            *(plain(one.cell.value(key)) for key in sweep.keys),
        ]
        last = [str(one.items), str(one.steps), f"{one.seconds:.1f}"]
        rows += [[*first, *(_text(getattr(row, name)) for name in SCORE_COLUMNS), *last] for row in one.scores.scores]
    write_rows(path, rows)


def write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write rows as CSV, atomically."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------ the main ones


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """One score of the cells that differ by their seed alone."""

    name: str
    """The arm, and the values that its cells share."""
    values: tuple[float, ...]
    """Of the trained encoders, cell by cell."""
    trained: Estimate
    """Their mean, with its interval over places and seeds."""
    random: float
    """Mean of random encoders of the same shape; NaN where there are none."""
    supervised: float
    """Mean of encoders trained with the labels alone; NaN where there are none."""


def summary(finished: Sequence[Finished]) -> dict[What, list[Group]]:
    """The first metric of every task, with all labels that taught, by probe and sensors: its groups in their order."""
    found: dict[What, list[Group]] = {}
    for what in _headlines(finished):
        for name, cells in _groups(finished).items():
            trained = [estimate for one in cells for estimate in _estimates(one.scores, what, "trained")]
            trained = [estimate for estimate in trained if math.isfinite(estimate.value)]
            if trained:
                group = Group(
                    name=name,
                    values=tuple(estimate.value for estimate in trained),
                    trained=mean_over_seeds(trained),
                    random=_mean([one.value for cell in cells for one in _estimates(cell.scores, what, "random")]),
                    supervised=_mean(
                        [one.value for cell in cells for one in _estimates(cell.scores, what, SUPERVISED)]
                    ),
                )
                found.setdefault(what, []).append(group)
    return found


def _headlines(finished: Sequence[Finished]) -> list[What]:
    """What the first metric of each task was measured of, as far as trained encoders have it."""
    rows = [row for one in finished for row in one.scores.scores if row.encoder == "trained"]
    metric: dict[str, str] = {}
    for row in rows:
        metric.setdefault(row.task, row.metric)
    most = {row.task: max(other.fraction for other in rows if other.task == row.task) for row in _firsts(rows)}
    return list(
        dict.fromkeys(row.what for row in rows if row.metric == metric[row.task] and row.fraction == most[row.task])
    )


def _firsts(rows: Sequence[Score]) -> list[Score]:
    """A row of each task."""
    return list({row.task: row for row in rows}.values())


def _groups(finished: Sequence[Finished]) -> dict[str, list[Finished]]:
    groups: dict[str, list[Finished]] = {}
    for one in finished:
        groups.setdefault(" · ".join(one.cell.group) or "all cells", []).append(one)
    return groups


def _estimates(scores: Scores, what: What, encoder: str) -> list[Estimate]:
    """Estimates of one kind of encoder; one trained with the labels is its own probe."""
    task, features, probe, metric, fraction = what
    wanted = {"task": task, "features": features, "metric": metric, "fraction": fraction, "encoder": encoder}
    return [
        scores.estimate(number)
        for number in scores.find(**wanted, **({} if encoder == SUPERVISED else {"probe": probe}))
    ]


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def shown_table(summary: dict[What, list[Group]]) -> tuple[tuple[str, ...], ...]:
    """Header and a row for each group of each main score, for a terminal; () where there are none."""
    rows = [
        (
            *(task, features, probe, metric, group.name, str(len(group.values))),
            *(_interval(group), _short(group.random), _short(group.supervised)),
        )
        for (task, features, probe, metric, _), groups in summary.items()
        for group in groups
    ]
    header = ("task", "features", "probe", "metric", "group", "cells", "trained", "random", "supervised")
    return (header, *rows) if rows else ()


def _interval(group: Group) -> str:
    ends = f" ({_short(group.trained.low)}–{_short(group.trained.high)})" if math.isfinite(group.trained.low) else ""
    return f"{_short(group.trained.value)}{ends}"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
