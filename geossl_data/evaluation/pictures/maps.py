"""Maps of places on coastlines, one at a time or side by side, with their legends.

Where several kinds of places crowd, they are drawn in random order, so that no kind hides the others.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from geossl_data.evaluation.coverage import Drawing
from geossl_data.evaluation.pictures.canvas import DPI, HEIGHT_PX, MUTED, PLAIN, WIDTH_PX, Canvas
from geossl_data.evaluation.pictures.ground import draw_ground, draw_locator
from geossl_data.evaluation.pictures.kinds import MARKERS, Kind, by_split, by_stratum, tells_splits
from geossl_data.evaluation.pictures.views import GLOBE_ASPECT, View, view_of
from geossl_data.grid import Bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_SHAPE = 4.0
"""Pixels from which a marker has a shape of its own; smaller ones are squares."""


def map_of(
    path: Path,
    drawing: Drawing,
    title: str,
    *,
    extent: Bounds | None = None,
    by: Literal["split", "stratum"] = "split",
) -> None:
    """Write a map of places on coastlines, 1200 × 700 px: the whole Earth, or as much as holds the places.

    by: what the colour tells. A map by stratum has a colour for each of the nine commonest strata and one for all
    others; up to MOST_MARKED places it tells the split by the marker. extent: degrees, west, south, east, north, east
    beyond 180 across the antimeridian; the map shows at least that. A map without places says so.
    Raises SamplingError for an impossible extent, StorageError where the file cannot be written.
    """
    _map(drawing, title, extent=extent, by=by)[0].save(path)


def _map(
    drawing: Drawing, title: str, *, extent: Bounds | None = None, by: Literal["split", "stratum"] = "split"
) -> tuple[Canvas, "Axes", View]:
    canvas = Canvas()
    view = view_of(drawing.lon, drawing.lat, aspect=830 / 560, extent=extent)
    kinds = by_split(drawing) if by == "split" else by_stratum(drawing)
    noun = "place" if len(drawing) == 1 else "places"
    projected = "Equal Earth, an equal-area projection" if view.extent is None else "degrees of longitude and latitude"
    if view.extent is None:
        axes = canvas.axes(40, 76, 1120, 1120 / GLOBE_ASPECT)
    else:
        axes = canvas.axes(60, 60, 830, 560)
        draw_locator(canvas.axes(918, 60, 262, 262 / GLOBE_ASPECT), view.extent)
    draw_ground(axes, view)
    has_shapes = _dots(axes, view, drawing, kinds)
    what = "stratum, their shape by split" if has_shapes and tells_splits(kinds) else by
    canvas.title(title, f"{len(drawing):,} {noun}, coloured by {what}; {projected}")
    if view.extent is None:
        _legend(canvas, _entries(drawing, kinds, has_shapes), left=44, top=56, columns=5, width=226)
    else:
        _legend(canvas, _entries(drawing, kinds, has_shapes), left=918, top=612, columns=1, width=270)
    if not len(drawing):
        canvas.text(WIDTH_PX / 2, HEIGHT_PX / 2, "no places", size=16, colour=MUTED, ha="center")
    return canvas, axes, view


def compare_maps(path: Path, drawings: Mapping[str, Drawing]) -> None:
    """Write one small map for each drawing by name, of the same ground, with dots of the same size; 1200 px wide.

    Raises StorageError where the file cannot be written.
    """
    columns = 1 if len(drawings) < 2 else 2 if len(drawings) < 5 else 3
    lines = max(1, -(-len(drawings) // columns))
    lon, lat = (
        np.concatenate([np.zeros(0), *(getattr(drawing, name) for drawing in drawings.values())])
        for name in ("lon", "lat")
    )
    view = view_of(lon, lat, aspect=1.6)
    west, south, east, north = view.bounds
    width = (1160 - 20 * (columns - 1)) / columns
    height = width * (north - south) / (east - west)
    canvas = Canvas(round(70 + lines * (height + 40)))
    canvas.title("Where each strategy draws", "the same ground and the same size of dot in each map")
    most = max(map(len, drawings.values()), default=0)
    for number, (name, drawing) in enumerate(drawings.items()):
        left = 20 + (number % columns) * (width + 20)
        bottom = canvas.height - 70 - (number // columns + 1) * (height + 40) + 10
        axes = canvas.axes(left, bottom, width, height)
        canvas.text(left, bottom + height + 8, f"{name}  ·  {len(drawing):,} places", size=10.5, bold=True)
        draw_ground(axes, view, labels=False)
        kind = Kind(name=name, colour=PLAIN, rows=np.ones(len(drawing), dtype=bool))
        _dots(axes, view, drawing, [kind], as_if=most)
    canvas.save(path)


_Entry = tuple[str, str, str, int]
"""Marker, colour, name and count in a legend."""


def _entries(drawing: Drawing, kinds: Sequence[Kind], has_shapes: bool) -> list[list[_Entry]]:
    """What a legend says, in groups: the colours, then the shapes where these tell something of their own."""
    colours: dict[str, _Entry] = {}
    for kind in kinds:
        count = colours[kind.name][3] if kind.name in colours else 0
        colours[kind.name] = ("s", kind.colour, kind.name, count + int(kind.rows.sum()))
    if not len(drawing):
        return []
    if drawing.split is None or not tells_splits(kinds):
        return [[(kind.marker if has_shapes else "s", *colours[kind.name][1:]) for kind in kinds]]
    counts = {split: int((drawing.split == split).sum()) for split in MARKERS if has_shapes}
    shapes = [(MARKERS[split], MUTED, split, count) for split, count in counts.items() if count]
    return [list(colours.values()), shapes]


def _legend(
    canvas: Canvas, groups: Sequence[Sequence[_Entry]], *, left: float, top: float, columns: int, width: float
) -> None:
    """Marker, name and count of each kind of place, line by line; each group begins a line."""
    from matplotlib.lines import Line2D

    for group in groups:
        for number, (marker, colour, name, count) in enumerate(group):
            x, y = left + (number % columns) * width, top - (number // columns) * 22
            at = ([(x + 6) / WIDTH_PX], [y / canvas.height])
            canvas.figure.add_artist(
                Line2D(*at, linestyle="none", marker=marker, markersize=7, color=colour, markeredgewidth=0)
            )
            canvas.text(x + 20, y - 4, f"{_cut(name, 18)}  {count:,}", size=9.5)
        top -= -(-len(group) // columns) * 22 + (10 if columns == 1 else 0)


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _dots(axes: "Axes", view: View, drawing: Drawing, kinds: Sequence[Kind], *, as_if: int | None = None) -> bool:
    """Draw the places, in random order, as large as leaves room between them; whether they are large enough for shapes.

    as_if: the size for so many places.
    """
    count = len(drawing) if as_if is None else as_if
    if not len(drawing):
        return False
    x, y = view.project(drawing.lon, drawing.lat)
    pixels = axes.transData.transform(np.column_stack([x, y]))
    if view.extent is None:
        ground = 0.29 * float(axes.bbox.width * axes.bbox.height)
    else:
        ground = max(float(np.prod(np.ptp(pixels, axis=0))), 0.02 * float(axes.bbox.width * axes.bbox.height))
    side = min(max(math.sqrt(0.3 * ground / count), 1.0), 8.0)
    alpha = min(max(0.5 * ground / (count * side**2), 0.15), 1.0)
    order = np.random.default_rng(0).permutation(len(drawing))
    kind_of = np.full(len(drawing), -1)
    for number, kind in enumerate(kinds):
        kind_of[kind.rows] = number
    for part in np.array_split(order, min(16, len(order))):
        for number in np.unique(kind_of[part]):
            kind, rows = kinds[number], part[kind_of[part] == number]
            axes.plot(
                x[rows],
                y[rows],
                linestyle="none",
                marker=kind.marker if side >= _LEAST_SHAPE else "s",
                markersize=side * 72 / DPI,
                color=kind.colour,
                markeredgecolor="white",
                markeredgewidth=0.5 if side >= _LEAST_SHAPE else 0.0,
                alpha=alpha,
                zorder=3,
                scalex=False,
                scaley=False,
            )
    return side >= _LEAST_SHAPE
