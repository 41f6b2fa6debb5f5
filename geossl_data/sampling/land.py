"""Where there is land, how much of it, and points spread evenly over it.

Land is Natural Earth's 1:50m land (see `LAND.txt`), kept as small pieces: boxes, each within one stratum, with the
polygon inside them where they are not all land. So an area is the sum over its pieces, and a point is tested against
one small polygon at most. Areas are those on a sphere, where strips of equal sin(latitude) are equally large.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import EARTH_RADIUS_KM
from geossl_data.sampling.strata import BAND_DEGREES, SECTOR_DEGREES, stratum

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

SOUTHERNMOST, NORTHERNMOST = -56.0, 83.0
"""Degrees of latitude between which Sentinel-2 observes all land."""

_MOST_VERTICES = 48
"""A piece with more than this is divided further."""
_LEAST_FILLED = 0.3
"""And one that fills less of the box around it, so that few points are drawn in vain."""
_SMALLEST_DEGREES = 0.1
"""A piece is not divided below this."""
_ROOT = 1.324717957244746
"""The real root of x³ = x + 1."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Pieces of land that do not overlap, as arrays of shape (k,)."""

    west: FloatArray
    south: FloatArray
    east: FloatArray
    north: FloatArray
    """Edges of the box around the piece, degrees; within ±180."""
    shapes: NDArray[np.object_]
    """The land in the box, longitude/latitude; None where all of it is land."""
    km2: FloatArray
    """Land in the piece, square kilometres."""
    stratum: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.west)

    def of(self, rows: NDArray[Any]) -> "Pieces":
        """Some of the pieces; rows: indices or a mask."""
        return Pieces(
            west=self.west[rows],
            south=self.south[rows],
            east=self.east[rows],
            north=self.north[rows],
            shapes=self.shapes[rows],
            km2=self.km2[rows],
            stratum=self.stratum[rows],
        )


def area_km2(shapes: NDArray[np.object_]) -> FloatArray:
    """Area on the sphere of polygons in degrees whose edges are straight in longitude and latitude, shape (k,), km².

    The area under an edge from (λ₁, φ₁) to (λ₂, φ₂) is ∫ sin φ dλ = Δλ sin(φ̄) sin(h) / h with h = Δφ / 2.
    """
    import shapely

    parts, part_of = shapely.get_parts(shapes, return_index=True)
    polygons = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    parts, part_of = parts[polygons], part_of[polygons]
    rings, ring_of = shapely.get_rings(parts, return_index=True)
    points, point_of = shapely.get_coordinates(rings, return_index=True)
    lam, phi = np.radians(points).T
    same = point_of[1:] == point_of[:-1]
    under = np.diff(lam) * np.sin((phi[1:] + phi[:-1]) / 2) * np.sinc(np.diff(phi) / 2 / np.pi)
    of_ring = np.abs(np.bincount(point_of[1:][same], weights=under[same], minlength=len(rings)))
    is_outer = np.diff(ring_of, prepend=-1) > 0
    signed = np.where(is_outer, of_ring, -of_ring)
    of_shape = np.bincount(part_of[ring_of], weights=signed, minlength=len(shapes))
    return np.asarray(of_shape * EARTH_RADIUS_KM**2, dtype=np.float64)


def land_polygons() -> NDArray[np.object_]:
    """The land of the Earth as valid polygons within ±180°, Antarctica without its ice shelves included."""
    import shapely

    with files("geossl_data.sampling").joinpath("land.npz").open("rb") as file, np.load(file) as stored:
        steps = np.cumsum(stored["differences"], axis=1, dtype=np.int64).T
        points = np.ascontiguousarray(steps * float(stored["step_degrees"]))
        offsets = (stored["rings"].astype(np.int64), stored["polygons"].astype(np.int64))
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, offsets))


def is_land(lon: FloatArray, lat: FloatArray) -> NDArray[np.bool_]:
    """Which points in degrees, shape (n,), lie on land; whole turns of longitude do not matter."""
    import shapely

    return np.asarray(shapely.contains_xy(_all_land(), (lon + 180.0) % 360.0 - 180.0, lat), dtype=bool)


@lru_cache(maxsize=1)
def _all_land() -> "BaseGeometry":
    import shapely

    land = shapely.multipolygons(land_polygons())
    shapely.prepare(land)
    return land


def land_pieces(area: "BaseGeometry | None" = None) -> Pieces:
    """The land that Sentinel-2 observes, in pieces; only what lies in `area` where one is given.

    area: longitude/latitude; it may run beyond ±180. Antarctica lies outside the band of latitudes.
    """
    return _all_pieces() if area is None else _clipped(_all_pieces(), area)


@lru_cache(maxsize=1)
def _all_pieces() -> Pieces:
    import shapely

    land = land_polygons()
    shapely.prepare(land)
    souths = np.maximum(np.arange(-90.0, 90.0, BAND_DEGREES), SOUTHERNMOST)
    norths = np.minimum(np.arange(-90.0, 90.0, BAND_DEGREES) + BAND_DEGREES, NORTHERNMOST)
    some = souths < norths
    wests = np.arange(-180.0, 180.0, SECTOR_DEGREES)
    south, west = (edges.ravel() for edges in np.meshgrid(souths[some], wests, indexing="ij"))
    north = np.repeat(norths[some], len(wests))
    cells = shapely.box(west, south, west + SECTOR_DEGREES, north)
    cell, polygon = shapely.STRtree(land).query(cells, predicate="intersects")
    return _pieces(_divided(shapely.intersection(land[polygon], cells[cell])))


def _divided(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """The polygons of shapes, halved along the longer side until each has few vertices and fills much of its box."""
    import shapely

    found: list[NDArray[np.object_]] = []
    parts = shapes
    while len(parts):
        parts = shapely.get_parts(parts)
        parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)]
        west, south, east, north = shapely.bounds(parts).reshape(-1, 4).T
        width, height = east - west, north - south
        is_simple = shapely.get_num_coordinates(parts) <= _MOST_VERTICES
        is_simple &= shapely.area(parts) >= _LEAST_FILLED * width * height
        is_simple |= np.maximum(width, height) < _SMALLEST_DEGREES
        found.append(parts[is_simple])
        parts, west, south, east, north = (values[~is_simple] for values in (parts, west, south, east, north))
        is_wide = east - west > north - south
        x, y = np.where(is_wide, (west + east) / 2, east), np.where(is_wide, north, (south + north) / 2)
        # Not clip_by_rect, though faster: it gives some boxes wholly to land that lies wholly beside them.
        first = shapely.intersection(parts, shapely.box(west, south, x, y))
        x, y = np.where(is_wide, x, west), np.where(is_wide, south, y)
        parts = np.concatenate([first, shapely.intersection(parts, shapely.box(x, y, east, north))])
    return np.concatenate(found) if found else shapes[:0]


def _pieces(shapes: NDArray[np.object_]) -> Pieces:
    import shapely

    shapes = shapes.copy()
    west, south, east, north = shapely.bounds(shapes).reshape(-1, 4).T
    km2 = area_km2(shapes)
    names = [stratum(lon, lat) for lon, lat in zip((west + east) / 2, (south + north) / 2, strict=True)]
    shapes[shapely.area(shapes) >= (east - west) * (north - south) * (1 - 1e-12)] = None
    shapely.prepare(shapes)
    return Pieces(
        west=west, south=south, east=east, north=north, shapes=shapes, km2=km2, stratum=np.array(names, dtype=np.str_)
    )


def _clipped(pieces: Pieces, area: "BaseGeometry") -> Pieces:
    """What of the pieces lies in an area; longitudes that differ by whole turns are the same."""
    import shapely

    ground = ground_of(area)
    boxes = shapely.box(pieces.west, pieces.south, pieces.east, pieces.north)
    shapely.prepare(ground)
    near = shapely.intersects(ground, boxes)
    boxes = boxes[near]
    shapes = _whole(pieces.shapes[near], boxes)
    is_inside = shapely.covers(ground, boxes)
    return _pieces(np.concatenate([shapes[is_inside], _divided(shapely.intersection(shapes[~is_inside], ground))]))


def ground_of(area: "BaseGeometry") -> "BaseGeometry":
    """An area within ±180°; longitudes that differ by whole turns are the same."""
    import shapely
    from shapely import affinity

    # Two turns each way: an area at 511° to 541° also has ground at 180° W.
    turned = [affinity.translate(area, xoff=turn) for turn in (-720.0, -360.0, 0.0, 360.0, 720.0)]
    return shapely.intersection(shapely.union_all(turned), shapely.box(-180.0, -90.0, 180.0, 90.0))


def _whole(shapes: NDArray[np.object_], boxes: NDArray[np.object_]) -> NDArray[np.object_]:
    """The land in boxes as polygons."""
    is_box = np.array([shape is None for shape in shapes], dtype=bool)
    return np.where(is_box, boxes, shapes)


class LandMap:
    """Tells which points lie on pieces of land."""

    def __init__(self, pieces: Pieces) -> None:
        import shapely

        boxes = shapely.box(pieces.west, pieces.south, pieces.east, pieces.north)
        self._tree = shapely.STRtree(_whole(pieces.shapes, boxes))

    def holds(self, lon: FloatArray, lat: FloatArray) -> NDArray[np.bool_]:
        """Which points, degrees within ±180 and of shape (n,), lie on the land or on its edge."""
        import shapely

        found = np.zeros(len(lon), dtype=bool)
        found[self._tree.query(shapely.points(lon, lat), predicate="intersects")[0]] = True
        return found


class LandPoints:
    """An endless row of points spread evenly over pieces of land; the k-th is the same however many are asked for."""

    def __init__(self, pieces: Pieces, key: tuple[int, ...]) -> None:
        self._pieces = pieces
        self._key = np.random.SeedSequence(key).generate_state(2, np.uint64)
        self._low, self._high = np.sin(np.radians(pieces.south)), np.sin(np.radians(pieces.north))
        self._ends = np.cumsum((pieces.east - pieces.west) * (self._high - self._low))
        self._is_coast = np.array([shape is not None for shape in pieces.shapes], dtype=bool)

    def take(self, first: int, n: int) -> tuple[FloatArray, FloatArray, NDArray[np.int64], NDArray[np.bool_]]:
        """Proposals number `first` to `first + n`: longitude, latitude, piece, and whether they lie on land.

        Those on land are spread evenly over it; the others fell into a piece's box beside its polygon.
        """
        # One step of the counter is four 64-bit words: one proposal.
        return self._at(np.random.Generator(np.random.Philox(key=self._key, counter=first)).random((n, 4)))

    def even(self, n: int) -> tuple[FloatArray, FloatArray, NDArray[np.int64], NDArray[np.bool_]]:
        """As `take`, but `n` points that leave fewer gaps and clumps than chance would, to estimate areas with.

        As many in each piece as its box is large, in it by the additive recurrence of Roberts (2018, "The unreasonable
        effectiveness of quasirandom sequences"): multiples of the powers of the root of x³ = x + 1. Keys do not matter.
        """
        number = np.arange(n) + 0.5
        return self._at(np.column_stack([number / n, number / _ROOT % 1.0, number / _ROOT**2 % 1.0]))

    def _at(self, words: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.int64], NDArray[np.bool_]]:
        """Points for numbers in [0, 1), shape (n, 3 or more): which piece, how far east, how far north."""
        import shapely

        pieces = self._pieces
        piece = np.searchsorted(self._ends, words[:, 0] * self._ends[-1], side="right").clip(0, len(pieces) - 1)
        lon = pieces.west[piece] + words[:, 1] * (pieces.east[piece] - pieces.west[piece])
        lat = np.degrees(np.arcsin(self._low[piece] + words[:, 2] * (self._high[piece] - self._low[piece])))
        on_land = np.ones(len(words), dtype=bool)
        # Point by point in the order of the pieces, so that a piece is looked at while it is in the processor's cache.
        coast = np.flatnonzero(self._is_coast[piece])
        coast = coast[np.argsort(piece[coast], kind="stable")]
        on_land[coast] = shapely.contains_xy(pieces.shapes[piece[coast]], lon[coast], lat[coast])
        return lon, lat, piece.astype(np.int64), on_land
