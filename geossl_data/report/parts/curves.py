"""Numbers along an axis as lines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.report.numbers import short, shown
from geossl_data.report.parts.colours import COLOURS, classes_of
from geossl_data.report.parts.drawing import (
    WIDTH,
    Axis,
    chart,
    legend_of,
    named,
    pointed,
    room_beside,
    spanning,
    ticks_below,
    ticks_beside,
    unit,
)

MOST_POINTS = 400
"""Points of a line that are drawn."""
_COLUMNS = 60
"""Parts of the axis that tell their numbers."""
_TOP, _FOOT, _HEIGHT = 8.0, 150.0, 186.0

FloatArray = NDArray[np.float64]
Line = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Lines over one axis."""

    title: str
    x_name: str
    y_name: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Series → ascending x and y of the same length; where a y is NaN or infinite the line has a gap."""
    log: bool = False
    """y on a logarithmic scale; what is not above 0 is a gap."""

    def html(self, key: str) -> str:
        """The chart; empty without a point."""
        lines = {name: line for name, xy in self.lines.items() if np.isfinite((line := self._line(*xy))[1]).any()}
        if not lines:
            return ""
        known = {name: (x[np.isfinite(y)], y[np.isfinite(y)]) for name, (x, y) in lines.items()}
        low, high = spanning(min(y.min() for _, y in known.values()), max(y.max() for _, y in known.values()))
        upright = Axis(low=float(low), high=float(high), start=_FOOT, end=_TOP + 16, log=self.log)
        left = room_beside(upright)
        first, last = spanning(min(x[0] for x, _ in known.values()), max(x[-1] for x, _ in known.values()))
        along = Axis(low=float(first), high=float(last), start=left, end=WIDTH - 4.0)
        classes = classes_of(tuple(lines))
        body = [
            *ticks_beside(upright, left),
            *ticks_below(along, _FOOT),
            named(self.y_name, 2, 13, anchor="start"),
            named(self.x_name, (left + WIDTH - 4) / 2, _HEIGHT - 4),
        ]
        for place, (name, (x, y)) in enumerate(lines.items()):
            dash = " dash" if place >= COLOURS else ""
            body.append(f'<path class="line {classes[name]}{dash}" d="{_path(along, upright, *_thinned(x, y))}"/>')
        body += [f'<path class="base" d="M{unit(left)} {unit(_FOOT)}H{WIDTH - 4}"/>', *self._columns(along, known)]
        return chart(
            key, title=self.title, says=self._says(known), height=_HEIGHT, body=body, legend=legend_of(classes)
        )

    def _line(self, x: Sequence[float], y: Sequence[float]) -> Line:
        """x and y where x is known, y NaN where there is none to draw."""
        across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        drawn = np.isfinite(up) & (up > 0 if self.log else True)
        return across[np.isfinite(across)], np.where(drawn, up, np.nan)[np.isfinite(across)]

    def _columns(self, along: Axis, known: Mapping[str, Line]) -> list[str]:
        """Upright areas side by side; each tells the numbers nearest to its middle of the lines that run there."""
        xs = np.unique(np.concatenate([x for x, _ in known.values()]))
        middles = xs if len(xs) <= _COLUMNS else np.linspace(xs[0], xs[-1], _COLUMNS)
        edges = [along.low, *((middles[1:] + middles[:-1]) / 2).tolist(), along.high]
        parts = []
        for middle, start, end in zip(middles.tolist(), edges[:-1], edges[1:], strict=True):
            lines = [f"{self.x_name} {short(middle)}"]
            for name, (x, y) in known.items():
                nearest = int(np.abs(x - middle).argmin())
                if start <= x[nearest] <= end:
                    lines.append(f"{name}: {shown(float(y[nearest]))}")
            if len(lines) > 1:
                parts.append(pointed(along.at(start), _TOP, along.at(end) - along.at(start), _FOOT - _TOP, lines))
        return parts

    def _says(self, known: Mapping[str, Line]) -> str:
        said = [f"{self.y_name} over {self.x_name}."]
        for name, (x, y) in known.items():
            first, last = (f"{shown(float(y[at]))} at {short(x[at])}" for at in (0, -1))
            least, most = shown(float(y.min())), shown(float(y.max()))
            said.append(f"{name}: from {first} to {last}, lowest {least}, highest {most}.")
        return " ".join(said)


def _thinned(x: FloatArray, y: FloatArray) -> Line:
    """At most MOST_POINTS of a line: of each stretch its lowest and its highest, so that no peak is lost."""
    if len(x) <= MOST_POINTS:
        return x, y
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(x)), MOST_POINTS // 2):
        values = y[stretch]
        if np.isnan(values).all():
            kept.append(int(stretch[0]))
        else:
            kept += sorted({int(stretch[np.nanargmin(values)]), int(stretch[np.nanargmax(values)])})
    return x[kept], y[kept]


def _path(along: Axis, upright: Axis, x: FloatArray, y: FloatArray) -> str:
    """A line as a path; a point with gaps on both sides is a dot."""
    path, pen_down = [], False
    for across, up in zip(x.tolist(), y.tolist(), strict=True):
        if math.isnan(up):
            pen_down = False
            continue
        point = f"{unit(along.at(across))} {unit(upright.at(up))}"
        path.append(f"L{point}" if pen_down else f"M{point}h0")
        pen_down = True
    return "".join(path)
