"""Scores as points with their intervals: the encoder that is judged between a random and a supervised one."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geossl_data.evaluation.pictures.canvas import MUTED, PLAIN, RULE, Canvas, steps, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from geossl_data.evaluation.scores import Score, Scores

COLOURS = {"trained": PLAIN, "random": "#8A9299", "supervised": "#DDAA33"}
ROW_PX, HEAD_PX = 24, 58
LEFT_PX, WIDTH_OF_AXES = 420, 640
MOST_ROWS = 80
"""Rows that a picture has room for."""


def score_bars(path: Path, scores: "Scores") -> None:
    """Write a row for each thing measured, in panels by task and unit; 1200 px wide.

    What `Scores.is_shown` leaves out has none; beyond MOST_ROWS the picture says how many more there are.
    """
    rows = [row for row in scores.scores if row.value is not None and scores.is_shown(row)]
    names = list(dict.fromkeys(_place(row) for row in rows))
    kept = set(names[:MOST_ROWS])
    panels = [
        (title, list(members))
        for title, members in groupby([name for name in names if name in kept], key=lambda name: (name[0], name[1]))
    ]
    height = 110 + sum(HEAD_PX + ROW_PX * len(members) for _, members in panels)
    canvas = Canvas(height)
    left_out = f"; {len(names) - len(kept)} more rows in scores.json" if len(names) > len(kept) else ""
    canvas.title("Scores", f"points: mean over seeds; lines: 95 % interval over places and seeds{left_out}")
    for number, (kind, colour) in enumerate(COLOURS.items()):
        if any(row.encoder == kind for row in rows):
            canvas.text(LEFT_PX + 110 * number, height - 76, f"● {kind}", size=9.5, colour=colour, bold=True)
    top = height - 90
    for (task, unit), members in panels:
        bottom = top - HEAD_PX - ROW_PX * len(members) + 28
        axes = canvas.axes(LEFT_PX, bottom, WIDTH_OF_AXES, ROW_PX * len(members))
        canvas.text(20, top - 24, f"{task}{f', {unit}' if unit else ''}", size=10.5, bold=True)
        _panel(canvas, axes, bottom, members, [row for row in rows if _place(row) in set(members)], unit)
        top -= HEAD_PX + ROW_PX * len(members)
    canvas.save(path)


def _place(row: "Score") -> tuple[str, str, str]:
    """Task, unit and words of a row; all kinds of encoder stand in one."""
    unit = "km" if row.metric.endswith("km") else ""
    fraction = "" if row.fraction == 1 else f", {100 * row.fraction:g} % of labels"
    probe = "" if row.encoder == "supervised" else f", {row.probe}"
    return (row.task, unit, f"{row.features}{probe}: {row.metric}{fraction}")


def _panel(
    canvas: Canvas,
    axes: "Axes",
    bottom: float,
    members: Sequence[tuple[str, str, str]],
    rows: Sequence["Score"],
    unit: str,
) -> None:
    most = max((row.value if row.high is None else row.high) or 0.0 for row in rows) if unit else 1.0
    for number, member in enumerate(members):
        at = len(members) - 1 - number
        same = [row for row in rows if _place(row) == member]
        for row in same:
            shift = 0.2 * (list(COLOURS).index(row.encoder) - 1) if len(same) > 1 else 0.0
            colour, height = COLOURS[row.encoder], at - shift
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [height, height], color=colour, linewidth=2.2, solid_capstyle="butt")
            if row.value is not None:
                axes.plot([row.value], [height], "o", color=colour, markersize=5.5)
        canvas.text(LEFT_PX - 12, bottom + ROW_PX * at + 8, member[2], size=9, ha="right", most=62)
        best = next((row for row in same if row.encoder == "trained"), same[0])
        said = f"{best.value:,.0f}" if unit else f"{best.value:.3f}"
        canvas.text(LEFT_PX + WIDTH_OF_AXES + 14, bottom + ROW_PX * at + 8, said, size=9, colour=COLOURS[best.encoder])
    axes.set_xlim(0, max(most, 1e-6) * 1.02)
    axes.set_ylim(-0.5, len(members) - 0.5)
    marks = steps(most)
    ticks(axes, "x", marks, [f"{mark:,.0f}" if unit else f"{mark:.1f}" for mark in marks], colour=MUTED)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x", color=RULE, linewidth=0.6, linestyle="-", alpha=1.0)
    for at in np.arange(len(members) - 1) + 0.5:
        axes.axhline(at, color=RULE, linewidth=0.4)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
