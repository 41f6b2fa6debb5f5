"""Bars: when the looks were taken and how far apart the sensors are, and strata against their targets."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.evaluation.pictures.canvas import (
    INK,
    MUTED,
    PLAIN,
    RULE,
    WARNING,
    WIDTH_PX,
    Canvas,
    multiples,
    round_step,
    steps,
    ticks,
)
from geossl_data.evaluation.pictures.views import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

YEAR_COLOURS = ("#004488", "#3B7EA1", "#7FB3C8", "#C2D9D4", "#EBD9A0", "#DDAA33", "#B5802A", "#7A5217")
"""Years from the earliest to the latest."""
MOST_STRATA = 30
"""Strata that bars are drawn for."""


def histograms(path: Path, acquired: NDArray[np.datetime64], gap_hours: FloatArray) -> None:
    """Write how many looks each month has, stacked by year, and how far Sentinel-1 is from Sentinel-2; 1200 × 460 px.

    acquired: Sentinel-2 times of the looks; gap_hours: Sentinel-1 minus Sentinel-2. More than eight years are put
    together by twos, threes, … Without looks both axes stay empty.
    """
    canvas = Canvas(460)
    times = acquired[~np.isnat(acquired)]
    gaps = gap_hours[np.isfinite(gap_hours)]
    span = "" if not len(times) else f", {str(times.min())[:10]} to {str(times.max())[:10]}"
    canvas.title("When the looks were taken", f"{len(times):,} looks{span}")
    _months(canvas, canvas.axes(60, 50, 470, 285), times)
    _gaps(canvas, canvas.axes(680, 50, 480, 285), gaps)
    canvas.save(path)


def _months(canvas: Canvas, axes: "Axes", times: NDArray[np.datetime64]) -> None:
    month = times.astype("datetime64[M]").astype(np.int64) % 12
    year = times.astype("datetime64[Y]").astype(np.int64) + 1970
    first, last = (int(year.min()), int(year.max())) if len(year) else (0, 0)
    together = -(-(last - first + 1) // len(YEAR_COLOURS))
    below = np.zeros(12)
    entries: list[tuple[str, str, int]] = []
    for start in range(first, last + 1, together):
        end = min(start + together - 1, last)
        counts = np.bincount(month[(year >= start) & (year <= end)], minlength=12)
        colour = YEAR_COLOURS[len(entries)]
        axes.bar(np.arange(12), counts, bottom=below, width=0.8, color=colour, linewidth=0)
        below = below + counts
        entries.append((colour, f"{start}" if start == end else f"{start}–{end}", int(counts.sum())))
    axes.set_xlim(-0.6, 11.6)
    _count_axis(axes, float(below.max()))
    names = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    ticks(axes, "x", range(12), names)
    canvas.text(60, 372, "looks by month, stacked by year", size=10.5, bold=True)
    for number, (colour, name, count) in enumerate(reversed(entries) if len(times) else ()):
        canvas.text(562, 320 - 22 * number, f"{name}  {count:,}", size=9)
        _swatch(canvas, 545, 320 - 22 * number, colour)


def _swatch(canvas: Canvas, x: float, y: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    box = Rectangle((x / WIDTH_PX, y / canvas.height), 10 / WIDTH_PX, 10 / canvas.height, color=colour, linewidth=0)
    canvas.figure.add_artist(box)


def _gaps(canvas: Canvas, axes: "Axes", gaps: FloatArray) -> None:
    canvas.text(680, 372, "hours from Sentinel-2 to Sentinel-1", size=10.5, bold=True)
    reach = max(float(np.abs(gaps).max()) if len(gaps) else 0.0, 1.0)
    step = round_step(reach / 20)
    edges = np.arange(-math.ceil(reach / step), math.ceil(reach / step) + 1) * step
    counts = np.histogram(gaps, edges)[0]
    axes.bar(edges[:-1], counts, width=step * 0.92, align="edge", color=PLAIN, linewidth=0)
    axes.set_xlim(edges[0] - step / 2, edges[-1] + step / 2)
    _count_axis(axes, float(counts.max()))
    axes.axvline(0.0, color=INK, linewidth=0.8)
    marks = multiples(edges[0], edges[-1], round_step(reach / 3))
    ticks(axes, "x", marks, [f"{mark:+g}" if mark else "0" for mark in marks])
    if len(gaps):
        said = f"median distance {np.median(np.abs(gaps)):.1f} h, largest {np.abs(gaps).max():.1f} h"
        canvas.text(680, 353, said, size=9, colour=MUTED, most=60)


def _count_axis(axes: "Axes", most: float) -> None:
    """A vertical axis of counts from 0, with thin lines across."""
    axes.set_ylim(0, max(most, 1.0) * 1.05)
    marks = [mark for mark in steps(max(most, 1.0)) if mark == round(mark)]
    ticks(axes, "y", marks, [f"{mark:,.0f}" for mark in marks])
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=RULE, linewidth=0.6, linestyle="-", alpha=1.0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def strata_bars(path: Path, target: Mapping[str, int], drawn: Mapping[str, int], available: Mapping[str, int]) -> None:
    """Write the places drawn of each stratum beside those it was meant to get, 1200 px wide; short ones stand out.

    target: {} where the draw had none. available: candidates there were, as numbers only. Strata come by what they
    were meant to get; beyond MOST_STRATA those that miss fewest places are left out, and the picture says how many.
    """
    names = sorted({*target, *drawn, *available}, key=lambda name: (-target.get(name, 0), -drawn.get(name, 0), name))
    kept = sorted(names, key=lambda name: drawn.get(name, 0) - target.get(name, 0))[:MOST_STRATA]
    shown = [name for name in names if name in set(kept)]
    rows = max(len(shown), 1)
    canvas = Canvas(140 + 24 * rows)
    short = sum(drawn.get(name, 0) < count for name, count in target.items())
    left_out = f"; {len(names) - len(shown)} more strata not shown" if len(names) > len(shown) else ""
    aims = f", {short} short of their target" if target else ""
    canvas.title("Places of each stratum", f"{sum(drawn.values()):,} places, {len(names)} strata{aims}{left_out}")
    axes = canvas.axes(230, 50, 690, 24 * rows)
    most = max([1, *(max(target.get(name, 0), drawn.get(name, 0)) for name in shown)])
    for number, name in enumerate(shown):
        at, got, aim = rows - 1 - number, drawn.get(name, 0), target.get(name, 0)
        axes.barh(at, got, height=0.62, color=WARNING if got < aim else PLAIN, linewidth=0, zorder=2)
        if target:
            axes.plot([aim, aim], [at - 0.42, at + 0.42], color=INK, linewidth=1.6, zorder=3, solid_capstyle="butt")
        meant = f" of {aim:,}" if target else ""
        y = 50 + 24 * at + 8
        canvas.text(220, y, name or "(none)", size=9, ha="right", most=26)
        canvas.text(935, y, f"{got:,}{meant} drawn", size=9, colour=WARNING if got < aim else INK)
        canvas.text(1180, y, f"{available.get(name, 0):,} candidates", size=9, colour=MUTED, ha="right")
    axes.set_xlim(0, most * 1.03)
    axes.set_ylim(-0.5, rows - 0.5)
    marks = [mark for mark in steps(float(most)) if mark == round(mark)]
    ticks(axes, "x", marks, [f"{mark:,.0f}" for mark in marks])
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x", color=RULE, linewidth=0.6, linestyle="-", alpha=1.0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    if target:
        canvas.text(230, 50 + 24 * rows + 8, "bar: drawn     upright line: target", size=9, colour=MUTED)
    canvas.save(path)
