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


def land_pieces(area: "BaseGeometry | None" = None) -> Pieces:
    """The land that Sentinel-2 observes, in pieces; only what lies in `area` where one is given.

    area: longitude/latitude; it may run beyond ±180. Antarctica lies outside the band of latitudes.
    """
    return _all_pieces() if area is None else _clipped(_all_pieces(), area)


@lru_cache(maxsize=1)
def _all_pieces() -> Pieces:
    import shapely

    land = shapely.multipolygons(land_polygons())
    found: list[Any] = []
    for south in np.arange(-90.0, 90.0, BAND_DEGREES):
        low, high = max(float(south), SOUTHERNMOST), min(float(south) + BAND_DEGREES, NORTHERNMOST)
        if low < high:
            belt = shapely.intersection(land, shapely.box(-180.0, low, 180.0, high))
            for west in np.arange(-180.0, 180.0, SECTOR_DEGREES):
                found += _divided(shapely.intersection(belt, shapely.box(west, low, west + SECTOR_DEGREES, high)))
    return _pieces(found)


def _divided(shape: Any) -> list[Any]:
    """The polygons of a shape, halved along the longer side until each has few vertices and fills much of its box."""
    import shapely

    found: list[Any] = []
    for part in shapely.get_parts(shape):
        if part.geom_type != "Polygon" or not part.area > 0:
            continue
        west, south, east, north = part.bounds
        width, height = east - west, north - south
        is_simple = shapely.get_num_coordinates(part) <= _MOST_VERTICES and part.area >= _LEAST_FILLED * width * height
        if is_simple or max(width, height) < _SMALLEST_DEGREES:
            found.append(part)
            continue
        if width > height:
            middle = (west + east) / 2
            halves = ((west, south, middle, north), (middle, south, east, north))
        else:
            middle = (south + north) / 2
            halves = ((west, south, east, middle), (west, middle, east, north))
        for half in halves:
            # Not clip_by_rect, though faster: it gives some boxes wholly to land that lies wholly beside them.
            found += _divided(shapely.intersection(part, shapely.box(*half)))
    return found


def _pieces(polygons: list[Any]) -> Pieces:
    import shapely

    shapes = np.empty(len(polygons), dtype=object)
    shapes[:] = polygons
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
    from shapely import affinity

    turned = [affinity.translate(area, xoff=turn) for turn in (-360.0, 0.0, 360.0)]
    ground = shapely.intersection(shapely.union_all(turned), shapely.box(-180.0, -90.0, 180.0, 90.0))
    boxes = shapely.box(pieces.west, pieces.south, pieces.east, pieces.north)
    shapely.prepare(ground)
    near = shapely.intersects(ground, boxes)
    boxes = boxes[near]
    shapes = [box if shape is None else shape for box, shape in zip(boxes, pieces.shapes[near], strict=True)]
    is_inside = shapely.covers(ground, boxes)
    found: list[Any] = []
    for shape, is_whole in zip(shapes, is_inside, strict=True):
        found += [shape] if is_whole else _divided(shapely.intersection(shape, ground))
    return _pieces(found)


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
        import shapely

        pieces = self._pieces
        # One step of the counter is four 64-bit words: one proposal.
        words = np.random.Generator(np.random.Philox(key=self._key, counter=first)).random((n, 4))
        piece = np.searchsorted(self._ends, words[:, 0] * self._ends[-1], side="right").clip(0, len(pieces) - 1)
        lon = pieces.west[piece] + words[:, 1] * (pieces.east[piece] - pieces.west[piece])
        lat = np.degrees(np.arcsin(self._low[piece] + words[:, 2] * (self._high[piece] - self._low[piece])))
        on_land = np.ones(n, dtype=bool)
        coast = np.flatnonzero(self._is_coast[piece])
        on_land[coast] = shapely.contains_xy(pieces.shapes[piece[coast]], lon[coast], lat[coast])
        return lon, lat, piece.astype(np.int64), on_land
