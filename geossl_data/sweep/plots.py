"""The picture of a sweep: a panel for each main score, a line in it for each group of cells."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geossl_data.evaluation.pictures.canvas import MUTED, PLAIN, RULE, WIDTH_PX, Canvas, multiples, round_step, ticks
from geossl_data.evaluation.pictures.scores import COLOURS
from geossl_data.sweep.table import Group, What

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, ROW_PX, HEAD_PX, NAME_PX, GAP_PX = 2, 22, 62, 210, 28
"""Panels side by side; heights of a line and of what is above the lines, widths of names and between panels."""
MOST_PANELS, MOST_GROUPS = 40, 60


def picture_sweep(path: Path, summary: Mapping[What, Sequence[Group]]) -> None:
    """Write a panel for each main score: dots for cells, a bar for their mean and interval, marks for the others.

    1200 px wide. Beyond MOST_PANELS panels and MOST_GROUPS groups in one, the picture says what it leaves out.
    """
    panels = list(summary.items())[:MOST_PANELS]
    lines = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    heights = [HEAD_PX + ROW_PX * max(min(len(groups), MOST_GROUPS) for _, groups in line) for line in lines]
    canvas = Canvas(130 + sum(heights))
    left_out = len(summary) - len(panels)
    more = f"; {left_out} more in sweep.csv" if left_out else ""
    canvas.title(
        "What the cells came to",
        f"dots: cells; square and line: their mean, and 95 % interval over places and seeds{more}",
    )
    for number, kind in enumerate(_kinds([group for _, groups in panels for group in groups])):
        words = f"{'■' if kind == 'trained' else '|'} {kind}"
        canvas.text(20 + 110 * number, canvas.height - 78, words, size=9.5, colour=COLOURS[kind], bold=True)
    top = canvas.height - 92
    width = (WIDTH_PX - 40 - GAP_PX * (COLUMNS - 1)) / COLUMNS
    for line, height in zip(lines, heights, strict=True):
        for column, (what, groups) in enumerate(line):
            _panel(canvas, 20 + column * (width + GAP_PX), top, width, what, groups)
        top -= height
    canvas.save(path)


def _kinds(groups: Sequence[Group]) -> list[str]:
    """The kinds of encoders that there are numbers of."""
    others = {"random": [one.random for one in groups], "supervised": [one.supervised for one in groups]}
    return ["trained", *(name for name, values in others.items() if any(map(math.isfinite, values)))]


def _panel(canvas: Canvas, left: float, top: float, width: float, what: What, groups: Sequence[Group]) -> None:
    task, features, probe, metric, fraction = what
    shown = groups[:MOST_GROUPS]
    height = ROW_PX * len(shown)
    bottom = top - 34 - height
    share = "" if fraction == 1 else f", {100 * fraction:g} % of labels"
    more = f"; {len(groups) - len(shown)} more" if len(groups) > len(shown) else ""
    canvas.text(left, top - 16, f"{task}: {metric}", size=10.5, bold=True, most=60)
    canvas.text(left, top - 30, f"{features}, {probe}{share}{more}", size=9, colour=MUTED, most=80)
    axes = canvas.axes(left + NAME_PX, bottom, width - NAME_PX - 50, height)
    for number, group in enumerate(shown):
        at = len(shown) - 1 - number
        canvas.text(left + NAME_PX - 8, bottom + ROW_PX * at + 7, group.name, size=9, ha="right", most=34)
        _line(axes, at, group)
        said = f"{group.trained.value:.3f}" if abs(group.trained.value) < 10 else f"{group.trained.value:,.0f}"
        canvas.text(left + width - 44, bottom + ROW_PX * at + 7, said, size=9, colour=PLAIN)
    low, high = _ends(shown)
    axes.set_xlim(low, high)
    axes.set_ylim(-0.5, len(shown) - 0.5)
    marks = multiples(low, high, round_step((high - low) / 4))
    ticks(axes, "x", marks, [f"{mark:,.4g}" for mark in marks], colour=MUTED, size=8)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x", color=RULE, linewidth=0.6, linestyle="-", alpha=1.0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _line(axes: "Axes", at: int, group: Group) -> None:
    for value, kind in ((group.random, "random"), (group.supervised, "supervised")):
        if math.isfinite(value):
            axes.plot([value, value], [at - 0.42, at + 0.42], color=COLOURS[kind], linewidth=2.4, solid_capstyle="butt")
    colour = COLOURS["trained"]
    if math.isfinite(group.trained.low) and math.isfinite(group.trained.high):
        axes.plot([group.trained.low, group.trained.high], [at, at], color=colour, linewidth=2.0, solid_capstyle="butt")
    axes.plot([group.trained.value], [at], "s", color=colour, markersize=5.5)
    spread = at + np.linspace(-0.18, 0.18, len(group.values)) if len(group.values) > 1 else np.array([at - 0.25])
    axes.plot(group.values, spread, "o", color=colour, markersize=3.0, alpha=0.55, markeredgewidth=0)


def _ends(groups: Sequence[Group]) -> tuple[float, float]:
    """What an axis has to show: all numbers of the groups, with room at both ends."""
    numbers = [
        value
        for group in groups
        for value in (*group.values, group.trained.low, group.trained.high, group.random, group.supervised)
        if math.isfinite(value)
    ]
    low, high = min(numbers), max(numbers)
    room = max(0.06 * (high - low), 0.01 * max(abs(low), abs(high)), 1e-3)
    return low - room, high + room
