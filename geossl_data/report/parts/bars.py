"""Numbers of categories as bars."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from geossl_data.report.numbers import UNKNOWN, shown
from geossl_data.report.parts.colours import classes_of
from geossl_data.report.parts.drawing import (
    WIDTH,
    Axis,
    chart,
    legend_of,
    named,
    pointed,
    ticks_below,
    unit,
    width_of,
    with_unit,
)
from geossl_data.report.words import cut

MOST_BARS = 40
"""Categories of a chart; where there are more, the smallest are one."""
_MOST_LETTERS = 18
_TOP, _GAP = 4.0, 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Horizontal bars, one for each series of each category."""

    title: str
    unit: str
    values: Mapping[str, Mapping[str, float]]
    """Category → series → number, at least 0; NaN where it is not known."""

    def html(self, key: str) -> str:
        """The chart; empty without a known number."""
        rows = _fewer(self.values)
        series = list(dict.fromkeys(name for of in rows.values() for name in of))
        most = max((each for of in rows.values() for each in of.values() if math.isfinite(each)), default=None)
        if most is None:
            return ""
        alone = len(series) == 1
        thick = 13.0 if alone else 8.0
        high = max(thick * len(series), 12.0) + _GAP
        foot = _TOP + high * len(rows)
        left = max(width_of(cut(name, _MOST_LETTERS)) for name in rows) + 8
        numbers = {name: of.get(series[0], math.nan) for name, of in rows.items()}
        right = WIDTH - (max(width_of(shown(each)) for each in numbers.values()) + 8 if alone else 8)
        axis = Axis(low=0.0, high=most if most > 0 else 1.0, start=left, end=right)
        classes = classes_of(series)
        body = ticks_below(axis, foot, top=_TOP, most=4)
        if self.unit:
            body.append(named(self.unit, (left + right) / 2, foot + 31))
        for place, (name, of) in enumerate(rows.items()):
            top = _TOP + high * place + _GAP / 2
            middle = top + (high - _GAP) / 2 + 4
            body.append(named(cut(name, _MOST_LETTERS), left - 6, middle, anchor="end"))
            for number, (one, kind) in enumerate(classes.items()):
                end = axis.at(value) if math.isfinite(value := of.get(one, math.nan)) else left
                if end > left:
                    y = top + thick * number
                    across = f"M{unit(left)} {unit(y)}H{unit(end)}v{unit(thick - 1)}H{unit(left)}Z"
                    body.append(f'<path class="bar {kind}" d="{across}"/>')
            if alone:
                body.append(
                    named(
                        shown(numbers[name]),
                        axis.at(numbers[name]) + 5 if math.isfinite(numbers[name]) else left + 5,
                        middle,
                        anchor="start",
                    )
                )
            lines = [name, *(f"{one}: {with_unit(of.get(one, math.nan), self.unit)}" for one in series)]
            body.append(pointed(0, top - _GAP / 2, WIDTH, high, lines))
        body.append(f'<path class="base" d="M{unit(left)} {unit(_TOP)}V{unit(foot)}"/>')
        height = foot + (36 if self.unit else 20)
        return chart(
            key, title=self.title, says=self._says(rows, series), height=height, body=body, legend=legend_of(classes)
        )

    def _says(self, rows: Mapping[str, Mapping[str, float]], series: list[str]) -> str:
        said = [f"{len(self.values)} categories."]
        for one in series:
            known = {name: of[one] for name, of in rows.items() if math.isfinite(of.get(one, math.nan))}
            if known:
                top, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
                said.append(
                    f"{one}: most {with_unit(known[top], self.unit)} ({top}), least {shown(known[least])} ({least})."
                )
            else:
                said.append(f"{one}: {UNKNOWN}.")
        return " ".join(said)


def _fewer(values: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The largest categories in their order, and the sums of all others as one."""
    if len(values) <= MOST_BARS:
        return dict(values)
    sizes = {name: math.fsum(filter(math.isfinite, of.values())) for name, of in values.items()}
    kept = set(sorted(sizes, key=sizes.__getitem__, reverse=True)[: MOST_BARS - 1])
    rest = [of for name, of in values.items() if name not in kept]
    series = dict.fromkeys(one for of in rest for one in of)
    others = {one: math.fsum(filter(math.isfinite, (of.get(one, 0.0) for of in rest))) for one in series}
    return {name: of for name, of in values.items() if name in kept} | {f"others ({len(rest):,})": others}
