"""Scores with what is known of their error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geossl_data.report.numbers import shown
from geossl_data.report.parts.colours import classes_of
from geossl_data.report.parts.drawing import (
    WIDTH,
    Axis,
    chart,
    legend_of,
    named,
    pointed,
    spanning,
    ticks_below,
    unit,
    width_of,
)
from geossl_data.report.words import cut

_TOP, _NAME, _LINE, _GAP = 2.0, 16.0, 13.0, 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalRow:
    """What one name scored in each series."""

    name: str
    series: Mapping[str, tuple[float, float, float] | None]
    """Series → value, low and high end of its interval, NaN where there is no interval; None without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Values as dots on their intervals, row by row."""

    title: str
    unit: str
    rows: Sequence[IntervalRow]

    def html(self, key: str) -> str:
        """The chart; empty without a value."""
        rows = {row.name: known for row in self.rows if (known := _known(row))}
        ends = [each for of in rows.values() for three in of.values() for each in three if math.isfinite(each)]
        if not ends:
            return ""
        series = list(dict.fromkeys(name for row in self.rows for name in row.series))
        series = [name for name in series if any(name in of for of in rows.values())]
        low, high = spanning(min(ends), max(ends))
        right = WIDTH - max(width_of(shown(of[0])) for each in rows.values() for of in each.values()) - 10
        axis = Axis(low=low, high=high, start=8.0, end=right - 6)
        classes = classes_of(series)
        foot = _TOP + sum(_NAME + _LINE * len(of) + _GAP for of in rows.values())
        body = ticks_below(axis, foot, top=_TOP)
        if self.unit:
            body.append(named(self.unit, right / 2, foot + 31))
        top = _TOP
        for name, of in rows.items():
            body.append(named(cut(name, 42), 2, top + 12, anchor="start"))
            for place, one in enumerate(each for each in series if each in of):
                body += _whisker(axis, top + _NAME + _LINE * (place + 0.5), of[one], classes[one], right)
            high_here = _NAME + _LINE * len(of) + _GAP
            lines = [name, *(f"{one}: {_interval(of[one])}" for one in series if one in of)]
            body.append(pointed(0, top, WIDTH, high_here, lines))
            top += high_here
        says = f"{len(rows)} rows. " + " ".join(
            f"{name}: {'; '.join(f'{one} {_interval(of[one])}' for one in series if one in of)}."
            for name, of in rows.items()
        )
        height = foot + (36 if self.unit else 20)
        return chart(key, title=self.title, says=says, height=height, body=body, legend=legend_of(classes))


def _known(row: IntervalRow) -> dict[str, tuple[float, float, float]]:
    return {name: three for name, three in row.series.items() if three is not None and math.isfinite(three[0])}


def _whisker(axis: Axis, y: float, three: tuple[float, float, float], kind: str, right: float) -> list[str]:
    value, low, high = three
    parts = []
    if math.isfinite(low) and math.isfinite(high):
        parts.append(f'<path class="whisker {kind}" d="M{unit(axis.at(low))} {unit(y)}H{unit(axis.at(high))}"/>')
    parts.append(f'<circle class="dot {kind}" cx="{unit(axis.at(value))}" cy="{unit(y)}" r="4"/>')
    return [*parts, named(shown(value), right + 4, y + 4, anchor="start")]


def _interval(three: tuple[float, float, float]) -> str:
    value, low, high = three
    return (
        f"{shown(value)} ({shown(low)} to {shown(high)})"
        if math.isfinite(low) and math.isfinite(high)
        else shown(value)
    )
