"""The ground below a map: land as one small path, and a net of degrees."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geossl_data.evaluation.pictures.coasts import TURNS
from geossl_data.evaluation.pictures.views import View, equal_earth
from geossl_data.grid import Bounds
from geossl_data.report.parts.drawing import round_step
from geossl_data.sampling.land import land_polygons

_STEP = 0.1
"""Units of the map to which coasts are rounded: less than a pixel before it is enlarged."""
_AROUND = 1.5
"""Of a part of the Earth, how much further its map can be moved to each side, in its own widths and heights."""

FloatArray = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A map without places; plane coordinates as in `View.project`, units of the map with y downwards."""

    west: float
    north: float
    """Plane coordinates of the upper left corner of what is shown first."""
    scale: float
    """Units of the map for each of the plane."""
    home: Box
    """Left, top, width, height of what is shown first."""
    whole: Box
    """And of all there is."""
    svg: str = field(default="", repr=False)

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Units of the map of plane coordinates."""
        return (np.asarray(x, float) - self.west) * self.scale, (self.north - np.asarray(y, float)) * self.scale


def ground_of(view: View, *, across: float) -> Ground:
    """The ground of a view that is so many units wide: its land and its net of degrees."""
    west, south, east, north = view.bounds
    scale = across / (east - west)
    home = (0.0, 0.0, across, (north - south) * scale)
    if view.extent is None:
        ground = Ground(west=west, north=north, scale=scale, home=home, whole=home)
        return _drawn(ground, *_of_the_earth(ground))
    around = _around(view.extent)
    left, top = (around[0] * view.shrink - west) * scale, (north - around[3]) * scale
    size = ((around[2] - around[0]) * view.shrink * scale, (around[3] - around[1]) * scale)
    ground = Ground(west=west, north=north, scale=scale, home=home, whole=(left, top, *size))
    return _drawn(ground, *_of_a_part(ground, around, view.shrink))


def _around(extent: Bounds) -> Bounds:
    """Degrees around an extent, no more than once around the Earth and to the poles."""
    west, south, east, north = extent
    wide = min((east - west) * _AROUND, (360.0 - (east - west)) / 2)
    high = (north - south) * _AROUND
    return west - wide, min(max(south - high, -90.0), south), east + wide, max(min(north + high, 90.0), north)


def _drawn(ground: Ground, sea: str, land: str, net: str) -> Ground:
    land = f'<path class="land" transform="scale({_STEP})" fill-rule="evenodd" d="{land}"/>'
    return replace(ground, svg=f'{sea}{land}<path class="net" d="{net}"/>')


@lru_cache(maxsize=1)
def _of_the_earth(ground: Ground) -> tuple[str, str, str]:
    """Sea, land and net of the whole Earth, Equal Earth."""
    import shapely

    around = np.linspace(-90.0, 90.0, 61)
    edge_lat = np.concatenate([around, around[::-1]])
    edge_lon = np.repeat([-180.0, 180.0], len(around))
    edge = np.column_stack(ground.at(*equal_earth(edge_lon, edge_lat)))
    sea = f'<path class="sea" d="{_line(edge)}Z"/>'
    land = shapely.segmentize(shapely.simplify(land_polygons(), 0.1), 5.0)
    lines = [(np.full(37, lon), np.linspace(-90.0, 90.0, 37)) for lon in range(-150, 180, 30)]
    lines += [(np.array([-180.0, 180.0]), np.full(2, lat)) for lat in range(-60, 90, 30)]
    net = "".join(_line(np.column_stack(ground.at(*equal_earth(lon, lat)))) for lon, lat in lines)
    return sea, _land(land, lambda xy: np.column_stack(ground.at(*equal_earth(*xy.T)))), net


def _of_a_part(ground: Ground, around: Bounds, shrink: float) -> tuple[str, str, str]:
    """Sea, land and net of a part of the Earth in degrees."""
    import shapely

    west, south, east, north = around
    left, top, width, height = ground.whole
    sea = f'<path class="sea" d="M{left:.1f} {top:.1f}h{width:.1f}v{height:.1f}H{left:.1f}Z"/>'
    # Half a pixel of a map a thousand pixels wide that is enlarged four times.
    tolerance = ground.home[2] / ground.scale / 8000
    land = []
    for turn in TURNS:
        shapes = shapely.clip_by_rect(land_polygons(), west - turn, south, east - turn, north)
        shapes = shapely.simplify(shapes[~shapely.is_empty(shapes)], tolerance)

        def laid(xy: FloatArray, turn: float = turn) -> FloatArray:
            return np.column_stack(ground.at((xy[:, 0] + turn) * shrink, xy[:, 1]))

        land.append(_land(shapes, laid))
    step = round_step((ground.home[2] / ground.scale / shrink) / 8)
    meridians = [step * number for number in range(int(np.ceil(west / step)), int(np.floor(east / step)) + 1)]
    parallels = [step * number for number in range(int(np.ceil(south / step)), int(np.floor(north / step)) + 1)]
    lines = [(np.full(2, lon), np.array([south, north])) for lon in meridians]
    lines += [(np.array([west, east]), np.full(2, lat)) for lat in parallels]
    net = "".join(_line(np.column_stack(ground.at(lon * shrink, lat))) for lon, lat in lines)
    return sea, "".join(land), net


def _line(points: FloatArray) -> str:
    """Points in units of the map as a path."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points.tolist())


def _land(polygons: NDArray[np.object_], laid: Callable[[FloatArray], FloatArray]) -> str:
    """The rings of polygons as a path in steps of _STEP; islands smaller than a step are left out."""
    import shapely

    rings: NDArray[np.object_] = shapely.get_rings(shapely.get_parts(polygons))
    return "".join(map(_ring, (laid(shapely.get_coordinates(ring)) for ring in rings)))


def _ring(points: FloatArray) -> str:
    steps = np.rint(points / _STEP).astype(np.int64)
    moved = np.flatnonzero((np.diff(steps, axis=0) != 0).any(axis=1))
    kept = steps[np.concatenate([[0], moved + 1])]
    if len(kept) < 4:
        return ""
    # A minus sign parts two numbers as a space does.
    moves = " ".join(f"{x} {y}" for x, y in np.diff(kept[:-1], axis=0).tolist()).replace(" -", "-")
    return f"M{kept[0, 0]} {kept[0, 1]}l{moves}z"
