"""Points in a plane that a reader can move about in: coloured by one of several things, filtered by the legend.

The picture is complete without the script; the script reads the same points from a block of data below it.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geossl_data.records import SPLITS
from geossl_data.report.numbers import short
from geossl_data.report.parts.colours import COLOURS, OTHERS, STEPS, classes_of, step_class
from geossl_data.report.parts.drawing import round_step, unit
from geossl_data.report.words import embedded, escaped, printable

MOST_POINTS = 20_000
"""Points that are shown; of more a sample drawn by seed."""
ACROSS = 1000.0
"""Units across the plane as it is shown first."""
_MANY, _VERY_MANY = 500, 5000
"""Points from which dots are smaller."""
_NOT_KNOWN = "not known"
_NAMELESS = "(none)"

FloatArray = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Points of one colour."""

    name: str
    kind: str
    """Class of the page's style."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Colouring:
    """What the colours of n points tell."""

    name: str
    entries: tuple[Entry, ...]
    codes: NDArray[np.uint8] = field(repr=False)
    """Position of each point's entry, shape (n,)."""
    values: NDArray[np.float32] | None = field(default=None, repr=False)
    """The number of each point, where it is one; NaN where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """Where n points lie, and what is around them; units as in ACROSS, y downwards."""

    x: FloatArray = field(repr=False)
    y: FloatArray = field(repr=False)
    home: Box
    """Left, top, width, height of what is shown first."""
    whole: Box
    """And of the most that can be shown."""
    deepest: float
    """How many times larger it can be shown."""
    ground: str = field(default="", repr=False)
    """SVG below the points."""


def by_name(name: str, of: Sequence[str]) -> Colouring:
    """Colours for the commonest names, one for all others."""
    names, inverse, counts = np.unique(np.array(of, dtype=np.str_), return_inverse=True, return_counts=True)
    found = names.tolist()
    if set(found) <= set(SPLITS):
        order = [found.index(split) for split in SPLITS if split in found]
    else:
        order = sorted(range(len(found)), key=lambda at: (-int(counts[at]), found[at]))
    kept = order[: COLOURS if len(order) <= COLOURS else COLOURS - 1]
    classes = classes_of([found[at] for at in kept])
    entries = [Entry(name=found[at] or _NAMELESS, kind=classes[found[at]], count=int(counts[at])) for at in kept]
    if len(order) > len(kept):
        rest = sum(int(counts[at]) for at in order[len(kept) :])
        entries.append(Entry(name=f"others ({len(order) - len(kept):,})", kind=OTHERS, count=rest))
    position = np.full(len(found), len(kept), dtype=np.uint8)
    position[kept] = np.arange(len(kept), dtype=np.uint8)
    return Colouring(name=name, entries=tuple(entries), codes=position[inverse])


def by_value(name: str, of: ArrayLike) -> Colouring:
    """Colours for ranges between round numbers, the ends open where single values lie far out; one for what is NaN."""
    values = np.asarray(of, dtype=np.float64)
    known = np.isfinite(values)
    codes = np.zeros(len(values), dtype=np.uint8)
    entries: list[Entry] = []
    if known.any():
        step = _step(values[known])
        low, high = (math.floor(end / step + 1e-9) for end in np.percentile(values[known], (2.0, 98.0)))
        least, most = values[known].min() / step, values[known].max() / step
        codes[known] = np.clip(np.floor(values[known] / step + 1e-9), low, high) - low
        whole = bool((values[known] == np.floor(values[known])).all())
        for number in range(low, high + 1):
            ends = {"below": number == low > least + 1e-9, "above": number == high <= most - 1}
            kind = step_class(number - low, high - low + 1)
            count = int((codes[known] == number - low).sum())
            entries.append(Entry(name=_range(number, step, whole=whole, **ends), kind=kind, count=count))
    if not known.all():
        codes[~known] = len(entries)
        entries.append(Entry(name=_NOT_KNOWN, kind=OTHERS, count=int((~known).sum())))
    with np.errstate(over="ignore"):
        return Colouring(name=name, entries=tuple(entries), codes=codes, values=values.astype(np.float32))


def _step(values: FloatArray) -> float:
    """Width of the ranges of values, so that there are about STEPS of them; at least 1 for whole numbers."""
    low, high = np.percentile(values, (2.0, 98.0)).tolist()
    whole = bool((values == np.floor(values)).all())
    least = (high - low) / STEPS if high > low else abs(high) / STEPS or 1.0
    return round_step(max(least, 1.0) if whole else least)


def _range(number: int, step: float, *, whole: bool, below: bool, above: bool) -> str:
    low, high = _round(number * step, step), _round((number + 1) * step, step)
    if below:
        return f"below {high}"
    if above:
        return f"{low} and more"
    if whole:
        return low if step == 1 else f"{low} to {_round((number + 1) * step - 1, step)}"
    return f"{low} to {high}"


def _round(value: float, step: float) -> str:
    return f"{value:,.{max(-math.floor(math.log10(step)), 0)}f}".replace("-", "\N{MINUS SIGN}")


def thinned(n: int) -> NDArray[np.int64]:
    """Positions of the points that are shown, ascending: all, or MOST_POINTS drawn by seed."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False))


def plane(
    key: str,
    *,
    title: str,
    says: str,
    kind: str,
    noun: str,
    points: Plane,
    label: Sequence[str],
    colourings: Sequence[Colouring],
    pictures: Sequence[str] | None = None,
) -> str:
    """The points as a picture with what moves it, a legend and a hint; pictures: addresses within the page.

    kind: class of the figure. noun: what points are, in the plural.
    """
    shown_rows = thinned(len(points.x))
    x, y = points.x[shown_rows], points.y[shown_rows]
    first = colourings[0]
    entries = sorted(
        range(len(first.entries)), key=lambda at: (first.entries[at].kind != OTHERS, -first.entries[at].count)
    )
    codes = first.codes[shown_rows]
    dots = "".join(_dots(first.entries[at].kind, x[codes == at], y[codes == at]) for at in entries)
    size = "few" if len(x) < _MANY else "many" if len(x) < _VERY_MANY else "very-many"
    options = "".join(f'<option value="{place}">{escaped(each.name)}</option>' for place, each in enumerate(colourings))
    select = f"<label>Colour by <select data-colour>{options}</select></label>" if len(colourings) > 1 else ""
    legend = "".join(
        f'<li><span class="swatch {each.kind}"></span>{escaped(each.name)} <small>{each.count:,}</small></li>'
        for each in first.entries
    )
    left_out = f"{len(x):,} of {len(points.x):,} {noun} are shown, drawn at random. " if len(x) < len(points.x) else ""
    data = {
        "x": _packed(x.astype("<f4")),
        "y": _packed(y.astype("<f4")),
        "label": [printable(label[at]) for at in shown_rows.tolist()],
        "picture": None if pictures is None else [pictures[at] for at in shown_rows.tolist()],
        "home": [round(each, 3) for each in points.home],
        "whole": [round(each, 3) for each in points.whole],
        "deepest": points.deepest,
        "colourings": [_colouring(each, shown_rows) for each in colourings],
    }
    return "\n".join(
        [
            f'<figure class="points {kind}" data-points="{key}-data"><figcaption>{escaped(title)}</figcaption>',
            f'<div class="controls">{select}<span class="zoom">',
            '<button type="button" data-zoom="in" aria-label="Zoom in">+</button>',
            '<button type="button" data-zoom="out" aria-label="Zoom out">\N{MINUS SIGN}</button>',
            '<button type="button" data-zoom="home">Reset</button></span></div>',
            f'<svg class="plane" role="img" aria-labelledby="{key}-t" aria-describedby="{key}-d" '
            f'viewBox="{" ".join(unit(each) for each in points.home)}">',
            f'<title id="{key}-t">{escaped(title)}</title><desc id="{key}-d">{escaped(says)}</desc>',
            points.ground,
            f'<g class="dots {size}">{dots}</g>',
            "</svg>",
            f'<ul class="legend" aria-label="{escaped(first.name)}">{legend}</ul>',
            f'<p class="hint">{left_out}<span class="scripted-only">Drag to move; press twice, pinch, or hold Ctrl and '
            "scroll to zoom; with the keyboard: arrows, + and −, 0. "
            f"Press an entry of the legend to hide its {noun}.</span></p>",
            embedded(f"{key}-data", data),
            "</figure>",
        ]
    )


def in_words(colouring: Colouring) -> str:
    """How many points each entry has."""
    return f"By {colouring.name}: {', '.join(f'{each.name} {each.count:,}' for each in colouring.entries)}."


def extent_in_words(low: float, high: float) -> str:
    """As in `0.2 to 4`."""
    return f"{short(low)} to {short(high)}"


def _dots(kind: str, x: FloatArray, y: FloatArray) -> str:
    """Points as one path of lines without length, which round ends make dots of any size."""
    steps = "".join(f"M{unit(across)} {unit(down)}h0" for across, down in zip(x.tolist(), y.tolist(), strict=True))
    return f'<path class="{kind}" d="{steps}"/>' if steps else ""


def _colouring(colouring: Colouring, rows: NDArray[np.int64]) -> dict[str, object]:
    return {
        "name": printable(colouring.name),
        "entries": [[printable(each.name), each.kind, each.count] for each in colouring.entries],
        "codes": _packed(colouring.codes[rows]),
        "values": None if colouring.values is None else _packed(colouring.values[rows].astype("<f4")),
    }


def _packed(numbers: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
