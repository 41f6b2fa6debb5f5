"""Countries and continents of points: Natural Earth's 1:50m countries, shipped with the package."""

from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.sampling.layers.polygons import Polygons

_MIXED = 255
"""A cell where the polygons decide; others are 0, no country near, or the number of their country + 1."""
_CHUNK = 16
"""Points of a border that are looked at together when the nearest border is searched for."""
_OVERSEAS: tuple[tuple[str, tuple[float, float, float, float], str], ...] = (
    ("CHL", (-110.0, -28.0, -105.0, -26.0), "Oceania"),
    ("ESP", (-19.0, 27.0, -13.0, 30.0), "Africa"),
    ("ESP", (-5.5, 35.0, -2.5, 35.95), "Africa"),
    ("FRA", (-55.0, 2.0, -51.0, 6.0), "South America"),
    ("FRA", (-63.0, 14.0, -60.5, 18.5), "North America"),
    ("FRA", (43.0, -22.0, 56.0, -12.0), "Africa"),
    ("NLD", (-70.0, 12.0, -62.0, 18.0), "North America"),
    ("RUS", (19.0, 41.0, 60.0, 82.0), "Europe"),
    ("USA", (-179.0, 18.0, -154.0, 30.0), "Oceania"),
)
"""Parts of countries that lie on another continent: letters, west, south, east, north. Russia is divided at 60° E."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Countries:
    """Countries of the Earth by number, in the order of their letters."""

    def __init__(self) -> None:
        import shapely

        with files("geossl_data.sampling.layers").joinpath("countries.npz").open("rb") as file, np.load(file) as stored:
            steps = np.cumsum(stored["differences"], axis=1, dtype=np.int64).T
            points = np.ascontiguousarray(steps * float(stored["step_degrees"]))
            rings, polygons = stored["rings"].astype(np.int64), stored["polygons"].astype(np.int64)
            self._cells: NDArray[np.uint8] = stored["cells"]
            self._near = float(stored["near_degrees"])
            self._owner = stored["owner"].astype(np.int64)
            self.letters: NDArray[np.str_] = stored["letters"]
            """ISO 3166-1 alpha-3; Natural Earth's own for territories that have none."""
            self.continents: NDArray[np.str_] = stored["continents"]
        self.shapes = np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (rings, polygons)))
        self._polygons = Polygons(self.shapes)
        self._borders, self._border_of = _chunks(self.shapes)
        self._tree = shapely.STRtree(self._borders)

    def at(self, lon: FloatArray, lat: FloatArray) -> IntArray:
        """Number of the country of each point, -1 where there is none.

        A point in no country, off a coast that 1:50m draws too far inland, takes the nearest that is at most 0.2° of
        longitude and latitude away.
        """
        rows, columns = self._cells.shape
        row = np.floor((90.0 - lat) / 180.0 * rows).astype(np.int64).clip(0, rows - 1)
        column = np.floor((lon + 180.0) / 360.0 * columns).astype(np.int64).clip(0, columns - 1)
        cells = self._cells[row, column]
        numbers = np.asarray(cells, dtype=np.int64) - 1
        mixed = np.flatnonzero(cells == _MIXED)
        part = self._polygons.first(lon[mixed], lat[mixed])
        numbers[mixed] = np.where(part >= 0, self._owner[part], -1)
        outside = mixed[part < 0]
        numbers[outside] = self._nearest(lon[outside], lat[outside])
        return np.asarray(numbers)

    def _nearest(self, lon: FloatArray, lat: FloatArray) -> IntArray:
        import shapely

        numbers = np.full(len(lon), -1, dtype=np.int64)
        points = shapely.points(lon, lat)
        point, border = self._tree.query_nearest(points, max_distance=self._near, all_matches=False)
        numbers[point] = self._owner[self._border_of[border]]
        return numbers


def _chunks(shapes: NDArray[np.object_]) -> tuple[NDArray[Any], IntArray]:
    """The rings of polygons in short lines, and which polygon each belongs to; those near ±180° on both sides of it."""
    import shapely

    rings, shape_of = shapely.get_rings(shapes, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    place = np.arange(len(points)) - np.flatnonzero(np.diff(ring_of, prepend=-1))[ring_of]
    is_last = np.diff(ring_of, append=ring_of[-1] + 1) > 0
    # Every chunk but a ring's last shares its end with the beginning of the next.
    chunk = np.cumsum((place % _CHUNK == 0) & ~is_last) - 1
    shared = np.flatnonzero((place % _CHUNK == 0) & (place > 0) & ~is_last)
    order = np.concatenate([np.arange(len(points)), shared])
    members = np.concatenate([chunk, chunk[shared] - 1])
    sorting = np.lexsort((order, members))
    lines = shapely.linestrings(points[order[sorting]], indices=members[sorting])
    owner = shape_of[ring_of[np.flatnonzero(np.diff(chunk, prepend=-1))]]
    west, _, east, _ = shapely.bounds(lines).T
    turn = np.array([360.0, 0.0])
    beyond_east = shapely.transform(lines[west < -179.0], lambda line: line + turn)
    beyond_west = shapely.transform(lines[east > 179.0], lambda line: line - turn)
    numbers = np.concatenate([owner, owner[west < -179.0], owner[east > 179.0]])
    return np.concatenate([lines, beyond_east, beyond_west]), numbers


@lru_cache(maxsize=1)
def countries() -> Countries:
    """The countries, read once."""
    return Countries()


def country(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
    """ISO 3166-1 alpha-3 of the country of each point, "" where there is none: `DEU`, `BRA`."""
    known = countries()
    return np.append(known.letters, "")[known.at(lon, lat)]


def continent(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
    """The continent of each point's country, or of the part of it where the point lies; "" where there is none."""
    known = countries()
    number = known.at(lon, lat)
    found = np.append(known.continents, "")[number]
    letters = np.append(known.letters, "")[number]
    for where, (west, south, east, north), name in _OVERSEAS:
        found[(letters == where) & (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)] = name
    return found
