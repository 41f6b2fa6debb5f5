"""Where one's own rasters lie, as far as their files say: any CRS, any pixel size, or nowhere."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TOLERANCE_PX = 0.01
"""Largest distance of corners, in pixels, at which two grids count as one."""
SAME_PIXEL = 0.01
"""Largest difference of pixel sides, as a share, at which one number stands for all."""
OVERLAP = 1e-4
"""Share of the smaller square from which on two of them share ground; neighbours that touch do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A grid of pixels, its first one in the north-west where it is `upright`."""

    crs: str
    """`EPSG:32632`, or WKT where there is no such code; empty text where only the centre is known."""
    transform: tuple[float, ...]
    """a b c d e f: x = a column + b row + c, y = d column + e row + f, in units of the CRS."""
    lon: float | None = None
    """Of the centre, degrees east, in [-180, 180)."""
    lat: float | None = None

    @property
    def is_upright(self) -> bool:
        """Whether rows run east and columns south."""
        if len(self.transform) != 6:
            return False
        a, b, _, d, e, _ = self.transform
        return b == d == 0 and a > 0 > e

    @property
    def epsg(self) -> int | None:
        """The code of the CRS of an upright grid whose centre is known; None for any other."""
        code = self.crs.removeprefix("EPSG:")
        return int(code) if code != self.crs and self.is_upright and self.lon is not None else None

    def finer(self, factor: int) -> "Ground":
        """The grid with `factor` pixels along each of this one."""
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(a / factor, b / factor, c, d / factor, e / factor, f))

    def moved(self, columns: int, rows: int) -> "Ground":
        """The grid that begins so many pixels further."""
        a, b, _, d, e, _ = self.transform
        x, y = self.at(columns, rows)
        return replace(self, transform=(a, b, x, d, e, y))

    def at(self, column: float, row: float) -> tuple[float, float]:
        """Coordinates of a pixel corner."""
        a, b, c, d, e, f = self.transform
        return a * column + b * row + c, d * column + e * row + f


def as_on(other: Ground | None, ground: Ground, size: tuple[int, int]) -> bool:
    """Whether a raster lies on a grid of that many columns and rows; what lies nowhere is taken at its table's word."""
    if other is None:
        return True
    pixel = math.hypot(ground.transform[0], ground.transform[3])
    return other.crs == ground.crs and all(
        math.dist(other.at(*corner), ground.at(*corner)) <= TOLERANCE_PX * pixel
        for corner in ((0, 0), (size[0], 0), (0, size[1]))
    )


def ground_of(grounds: Sequence[Ground | None], sizes_px: Sequence[int]) -> list[Ground | None]:
    """The same grids with the centres of their squares; None for those whose CRS has no place on the Earth for them."""
    found: list[Ground | None] = [None] * len(grounds)
    for crs, numbers in _by_crs(grounds).items():
        middles = [_corner(grounds, sizes_px, number, 0.5) for number in numbers]
        lons, lats = _lonlat(crs, np.array(middles))
        for number, lon, lat in zip(numbers, lons.tolist(), lats.tolist(), strict=True):
            ground = grounds[number]
            if ground is not None and math.isfinite(lon) and -90 <= lat <= 90:
                east = lon if -180 <= lon < 180 else (lon + 180.0) % 360.0 - 180.0
                found[number] = replace(ground, lon=east, lat=lat)
    return found


def _by_crs(grounds: Sequence[Ground | None]) -> dict[str, list[int]]:
    """Positions of the grids by their CRS."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for number, ground in enumerate(grounds):
        if ground is not None and ground.crs:
            positions[ground.crs].append(number)
    return positions


def _corner(
    grounds: Sequence[Ground | None], sizes_px: Sequence[int], number: int, share: float
) -> tuple[float, float]:
    ground = grounds[number]
    assert ground is not None
    return ground.at(share * sizes_px[number], share * sizes_px[number])


def _lonlat(crs: str, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of points, shape (n, 2); infinite where there are none."""
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        transformer = Transformer.from_crs(crs, 4326, always_xy=True)
        lon, lat = transformer.transform(points[:, 0], points[:, 1])
    except ProjError:
        return np.full(len(points), np.inf), np.full(len(points), np.inf)
    return np.asarray(lon), np.asarray(lat)


@lru_cache(maxsize=256)
def _is_metric(crs: str) -> bool:
    """Whether a CRS is projected and counts metres."""
    from pyproj import CRS
    from pyproj.exceptions import ProjError

    try:
        found = CRS.from_user_input(crs)
    except ProjError:
        return False
    return found.is_projected and all(axis.unit_conversion_factor == 1.0 for axis in found.axis_info)


def own_pixel_m(grounds: Sequence[Ground]) -> float | None:
    """Side in metres of the pixels of all grids that lie somewhere; None where that is not one number.

    It is one where all are upright with square pixels in projected CRSs of metres, no more than 1 % apart; then the
    middle of them.
    """
    sides = []
    for ground in grounds:
        if ground.epsg is None:
            continue
        a, e = ground.transform[0], -ground.transform[4]
        if not _is_metric(ground.crs) or abs(a - e) > SAME_PIXEL * a:
            return None
        sides.append(a)
    if not sides or max(sides) - min(sides) > SAME_PIXEL * max(sides):
        return None
    return float(np.median(sides))


def joined(squares: Sequence[tuple[Ground | None, int]]) -> list[list[int]]:
    """Positions of squares that share ground, directly or by way of others: each group in order, two or more in each.

    squares: a grid, and how many pixels a side. Those whose grid is not known share none.
    """
    import shapely

    grounds, sizes = [ground for ground, _ in squares], [side for _, side in squares]
    numbers: list[int] = []
    corners: list[NDArray[np.float64]] = []
    for crs, positions in _by_crs(grounds).items():
        points = []
        for number in positions:
            ground, side = grounds[number], sizes[number]
            assert ground is not None
            points += [ground.at(*corner) for corner in ((0, 0), (side, 0), (side, side), (0, side))]
        lon, lat = (values.reshape(-1, 4) for values in _lonlat(crs, np.array(points)))
        lon = lon[:, :1] + (lon - lon[:, :1] + 180.0) % 360.0 - 180.0
        placed = np.asarray(np.isfinite(lon + lat).all(axis=1))
        numbers += [number for number, known in zip(positions, placed.tolist(), strict=True) if known]
        corners.append(np.stack([lon, lat], axis=-1)[placed])
    if not numbers:
        return []
    polygons = shapely.polygons(np.concatenate(corners))
    one, other = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    one, other = one[one < other], other[one < other]
    area = shapely.area(polygons)
    shared = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    touching = shared > OVERLAP * np.minimum(area[one], area[other])
    return _groups(numbers, one[touching].tolist(), other[touching].tolist())


def _groups(numbers: Sequence[int], one: Sequence[int], other: Sequence[int]) -> list[list[int]]:
    """Connected groups of two or more, as positions in order."""
    leader = list(range(len(numbers)))

    def found(position: int) -> int:
        while leader[position] != position:
            leader[position] = leader[leader[position]]
            position = leader[position]
        return position

    for first, second in zip(one, other, strict=True):
        low, high = sorted((found(first), found(second)))
        leader[high] = low
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for position, number in enumerate(numbers):
        groups[found(position)].append(number)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
