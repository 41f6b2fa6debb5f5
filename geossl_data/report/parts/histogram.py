"""How often values fall between edges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from geossl_data.report.numbers import short
from geossl_data.report.parts.colours import classes_of
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
    with_unit,
)

_TOP, _FOOT, _HEIGHT = 8.0, 150.0, 186.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges, one series or several over one another."""

    title: str
    unit: str
    """Of the edges."""
    edges: Sequence[float]
    """n + 1 ascending numbers."""
    counts: Mapping[str, Sequence[float]]
    """Series → n counts or shares, at least 0; not a number counts as none."""
    log: bool = False
    """Counts on a logarithmic scale."""

    def html(self, key: str) -> str:
        """The chart; empty where nothing was counted."""
        edges = [float(edge) for edge in self.edges]
        counts = {name: [_counted(each) for each in of] for name, of in self.counts.items()}
        most = max((max(of, default=0.0) for of in counts.values()), default=0.0)
        if most <= 0:
            return ""
        upright = Axis(low=self._floor(counts), high=most, start=_FOOT, end=_TOP, log=self.log)
        left = room_beside(upright)
        first, last = spanning(edges[0], edges[-1])
        along = Axis(low=first, high=last, start=left, end=WIDTH - 4.0)
        classes = classes_of(tuple(counts))
        body = [*ticks_beside(upright, left), *ticks_below(along, _FOOT)]
        if self.unit:
            body.append(named(self.unit, (left + WIDTH - 4) / 2, _HEIGHT - 4))
        mark = "bar" if len(counts) == 1 else "step"
        for name, of in counts.items():
            body.append(f'<path class="{mark} {classes[name]}" d="{_steps(along, upright, edges, of)}"/>')
        body.append(f'<path class="base" d="M{unit(left)} {unit(_FOOT)}H{WIDTH - 4}"/>')
        for place, (low, high) in enumerate(pairwise(edges)):
            lines = [
                f"{short(low)} to {with_unit(high, self.unit)}",
                *(f"{name}: {short(of[place])}" for name, of in counts.items()),
            ]
            body.append(pointed(along.at(low), _TOP, along.at(high) - along.at(low), _FOOT - _TOP, lines))
        return chart(
            key, title=self.title, says=self._says(edges, counts), height=_HEIGHT, body=body, legend=legend_of(classes)
        )

    def _floor(self, counts: Mapping[str, Sequence[float]]) -> float:
        """Where the upright axis begins: on a logarithmic scale below the least count, far below the most."""
        if not self.log:
            return 0.0
        above = [each for of in counts.values() for each in of if each > 0]
        return min(min(above), max(above) / 100) / 2

    def _says(self, edges: Sequence[float], counts: Mapping[str, Sequence[float]]) -> str:
        said = [f"{len(edges) - 1} bins from {short(edges[0])} to {with_unit(edges[-1], self.unit)}."]
        for name, of in counts.items():
            if any(of):
                top = max(range(len(of)), key=of.__getitem__)
                most = f"most between {short(edges[top])} and {short(edges[top + 1])}: {short(of[top])}"
                said.append(f"{name}: {short(math.fsum(of))} in all, {most}.")
        return " ".join(said)


def _steps(along: Axis, upright: Axis, edges: Sequence[float], counts: Sequence[float]) -> str:
    """The outline of the bars of a series, closed along the foot."""
    path = [f"M{unit(along.at(edges[0]))} {unit(upright.start)}"]
    for high, count in zip(edges[1:], counts, strict=True):
        path.append(f"V{unit(upright.at(count))}H{unit(along.at(high))}")
    return "".join([*path, f"V{unit(upright.start)}Z"])


def _counted(value: float) -> float:
    return max(float(value), 0.0) if math.isfinite(value) else 0.0
