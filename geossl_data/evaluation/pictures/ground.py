"""What lies below the places of a map: sea, land, coasts and a net of degrees."""

import math
from typing import TYPE_CHECKING

import numpy as np

from geossl_data.evaluation.pictures.canvas import RULE, WARNING, multiples, round_step, ticks
from geossl_data.evaluation.pictures.coasts import TURNS, land_within, world
from geossl_data.evaluation.pictures.views import View, equal_earth
from geossl_data.grid import Bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEA, LAND, COAST = "#F3F6F8", "#DDDDD8", "#9AA0A0"


def draw_ground(axes: "Axes", view: View, *, labels: bool = True) -> None:
    """Sea, land, coast and a net of degrees."""
    west, south, east, north = view.bounds
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    if view.extent is None:
        _globe(axes)
        return
    axes.set_facecolor(SEA)
    _land_on(axes, view.extent, view.shrink)
    low, bottom, high, top = view.extent
    wide = high - low
    every = round_step(max(wide / 7, (top - bottom) / 5)) if wide < 60 else 15.0 if wide < 120 else 30.0
    lons, lats = multiples(low, high, every), multiples(max(bottom, -90.0), min(top, 90.0), every)
    for lon in lons:
        axes.axvline(lon * view.shrink, color="white", linewidth=0.6, zorder=1.5)
    for lat in lats:
        axes.axhline(lat, color="white", linewidth=0.6, zorder=1.5)
    if labels:
        ticks(axes, "x", [lon * view.shrink for lon in lons], [_degrees(lon, "E", "W", every) for lon in lons])
        ticks(axes, "y", lats, [_degrees(lat, "N", "S", every) for lat in lats])


def _degrees(value: float, plus: str, minus: str, step: float) -> str:
    """As in `12° E`, with the digits that the step needs."""
    value = (value + 180.0) % 360.0 - 180.0 if plus == "E" else value
    side = "" if round(abs(value), 9) in (0.0, 180.0) else f" {plus if value > 0 else minus}"
    return f"{abs(value):.{max(0, -math.floor(math.log10(step) + 1e-9))}f}°{side}"


def _land_on(axes: "Axes", extent: Bounds, shrink: float) -> None:
    """Fill the land and draw the coasts of an extent."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch

    for fill, coast in land_within(extent, shrink):
        # The edge of the fill closes the seam between two halves of an island on the antimeridian.
        axes.add_artist(PathPatch(fill, facecolor=LAND, edgecolor=LAND, linewidth=0.8, zorder=1))
        axes.add_collection(LineCollection(coast, colors=COAST, linewidths=0.6, zorder=1.2), autolim=False)


def _globe(axes: "Axes") -> None:
    """The whole Earth in the Equal Earth projection."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch, Polygon

    axes.set_axis_off()
    lats = np.linspace(-90.0, 90.0, 91)
    edge = np.concatenate(
        [np.column_stack(equal_earth(np.full(91, side), lats[:: int(side / 180)])) for side in (180.0, -180.0)]
    )
    outline = Polygon(edge, closed=True, facecolor=SEA, edgecolor="none", zorder=0)
    axes.add_artist(outline)
    fill, coast = world()
    thin = max(0.35 * float(axes.bbox.width) / 1120, 0.15)
    patch = PathPatch(fill, facecolor=LAND, edgecolor=LAND, linewidth=0.3, zorder=1)
    axes.add_artist(patch)
    patch.set_clip_path(outline)
    axes.add_collection(LineCollection(coast, colors=COAST, linewidths=thin, zorder=1.2), autolim=False)
    net = [np.column_stack(equal_earth(np.full(91, lon), lats)) for lon in range(-150, 180, 30)]
    net += [np.column_stack(equal_earth([-180.0, 180.0], [lat, lat])) for lat in range(-60, 90, 30)]
    axes.add_collection(LineCollection(net, colors="white", linewidths=0.5, zorder=1.5), autolim=False)
    axes.add_patch(Polygon(edge, closed=True, facecolor="none", edgecolor=RULE, linewidth=0.8, zorder=4, clip_on=False))


def draw_locator(axes: "Axes", extent: Bounds) -> None:
    """A small globe with the part of it that the map beside it shows."""
    west, south, east, north = extent
    draw_ground(axes, View())
    south, north = max(south, -90.0), min(north, 90.0)
    lons = np.linspace(west, east, 60)
    ring_lon = np.concatenate([lons, np.full(30, east), lons[::-1], np.full(30, west)])
    up = np.linspace(south, north, 30)
    ring_lat = np.concatenate([np.full(60, south), up, np.full(60, north), up[::-1]])
    for turn in TURNS:
        here = np.abs(ring_lon + turn) <= 180.0
        x, y = equal_earth(np.where(here, ring_lon + turn, np.nan), ring_lat)
        axes.plot(x, y, color=WARNING, linewidth=1.4, zorder=5, scalex=False, scaley=False, clip_on=False)
