"""What charts have in common: axes, coordinates, the frame with its words, legends.

Charts are drawn for a column of 320 px, a phone's width, where text is 12 px high; wider columns show them larger.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geossl_data.report.numbers import short
from geossl_data.report.words import escaped

WIDTH = 320
"""Units across a chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A scale from values to units of the chart."""

    low: float
    high: float
    """Above `low`; both above 0 where `log`."""
    start: float
    end: float
    """Where `low` and `high` are."""
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value is, no further than the ends of the axis."""
        low, high, here = (self._scaled(each) for each in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.start + (self.end - self.start) * (here - low) / (high - low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Round values along the axis with their words, about `most` of them."""
        return _powers(self.low, self.high, most) if self.log else _rounds(self.low, self.high, most)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


def width_of(words: str) -> float:
    """Units across a line of text in a wide font, about."""
    return math.fsum(9.0 if letter.isupper() else 7.7 if letter.isalnum() else 6.0 for letter in words)


def spanning(low: float, high: float) -> tuple[float, float]:
    """A range as it is, or around its only value."""
    return (low, high) if high > low else (low - (abs(low) / 2 or 0.5), low + (abs(low) / 2 or 0.5))


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`, above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1.0, 2.0, 5.0, 10.0) if power * digit >= least * (1 - 1e-9))


def _rounds(low: float, high: float, most: int) -> list[tuple[float, str]]:
    step = round_step((high - low) / most)
    digits = max(-math.floor(math.log10(step)), 0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [number * step for number in range(first, last + 1)]
    if digits > 5 or max(abs(low), abs(high)) >= 1e7:
        return [(value, f"{value:.3g}".replace("-", "\N{MINUS SIGN}", 1)) for value in values]
    return [(value, f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")) for value in values]


def _powers(low: float, high: float, most: int) -> list[tuple[float, str]]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 1:
        between = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
        fits = [(value, _plain(value)) for value in between if low <= value <= high]
        return fits if len(fits) > 1 else _rounds(low, high, most)
    every = -(-(last - first + 1) // most)
    return [(10.0**power, _plain(10.0**power)) for power in range(first, last + 1, every)]


def _plain(value: float) -> str:
    return f"{value:,.{max(-math.floor(math.log10(value)), 0)}f}" if 1e-3 <= value < 1e6 else _short(value)


def _short(value: float) -> str:
    """As in `1e−5`."""
    digits, _, power = f"{value:.0e}".partition("e")
    return f"{digits}e{int(power)}".replace("-", "\N{MINUS SIGN}")


def unit(value: float) -> str:
    """A coordinate with one digit after the point."""
    return f"{value:.1f}".removesuffix(".0")


def chart(key: str, *, title: str, says: str, height: float, body: Sequence[str], legend: str = "") -> str:
    """A chart of WIDTH × height units in its frame: the title above it, the legend below, and what it says in words."""
    return "\n".join(
        [
            f'<figure class="chart"><figcaption>{escaped(title)}</figcaption>',
            f'<svg role="img" aria-labelledby="{key}-t" aria-describedby="{key}-d" '
            f'viewBox="0 0 {WIDTH} {unit(height)}">',
            f'<title id="{key}-t">{escaped(title)}</title><desc id="{key}-d">{escaped(says)}</desc>',
            *body,
            "</svg>",
            *([legend] if legend else []),
            "</figure>",
        ]
    )


def legend_of(classes: Mapping[str, str]) -> str:
    """Names beside their colours; empty for a single one, which needs none."""
    if len(classes) < 2:
        return ""
    entries = "".join(f'<li><span class="swatch {kind}"></span>{escaped(name)}</li>' for name, kind in classes.items())
    return f'<ul class="legend">{entries}</ul>'


def ticks_below(axis: Axis, y: float, *, top: float | None = None, most: int = 5) -> list[str]:
    """Words of an axis along the foot of a chart, and a rule through the chart from `top` for each."""
    parts = []
    for value, words in axis.ticks(most):
        x = axis.at(value)
        end = min(max(x, width_of(words) / 2), WIDTH - width_of(words) / 2)
        if top is not None:
            parts.append(f'<path class="rule" d="M{unit(x)} {unit(top)}V{unit(y)}"/>')
        parts.append(f'<text class="tick" x="{unit(end)}" y="{unit(y + 15)}" text-anchor="middle">{words}</text>')
    return parts


def ticks_beside(axis: Axis, x: float, *, most: int = 4) -> list[str]:
    """Words of an upright axis left of `x`, and a rule from there to the right edge for each."""
    parts = []
    for value, words in axis.ticks(most):
        y = axis.at(value)
        parts.append(f'<path class="rule" d="M{unit(x)} {unit(y)}H{WIDTH - 4}"/>')
        parts.append(f'<text class="tick" x="{unit(x - 5)}" y="{unit(y + 4)}" text-anchor="end">{words}</text>')
    return parts


def room_beside(axis: Axis, *, most: int = 4) -> float:
    """Units that the words of an upright axis need, with the space right of them."""
    return max((width_of(words) for _, words in axis.ticks(most)), default=0.0) + 8


def named(words: str, x: float, y: float, *, anchor: str = "middle") -> str:
    """A line of text with what an axis shows."""
    return f'<text class="name" x="{unit(x)}" y="{unit(y)}" text-anchor="{anchor}">{escaped(words)}</text>'


def pointed(x: float, y: float, width: float, height: float, lines: Sequence[str]) -> str:
    """An unseen area that tells something when it is pointed at."""
    words = escaped("\n".join(lines))
    place = f'x="{unit(x)}" y="{unit(y)}" width="{unit(width)}" height="{unit(height)}"'
    return f'<rect class="hit" {place}><title>{words}</title></rect>'


def with_unit(value: float, name: str) -> str:
    """A number and its unit, if it has one."""
    return f"{short(value)} {name}" if name else short(value)
