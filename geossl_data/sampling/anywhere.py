"""Places drawn before any catalog is asked: sites spread over the land of the Earth, or of an area.

A site is known by its centre only; `candidates.candidates_at` puts it on the grid of a scene, at most 43 m away. Sites
keep so far from each other that their squares never overlap there, whichever way the grids are turned.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import cell_name, from_lonlat, square_lonlat, unit_vectors, utm_epsg
from geossl_data.records import Site
from geossl_data.sampling.candidates import CELL_KM
from geossl_data.sampling.draw import DEFAULT_COUNT
from geossl_data.sampling.land import NORTHERNMOST, SOUTHERNMOST, LandPoints, Pieces, land_pieces
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.spread import chord, clear_of, first_come
from geossl_data.sampling.strategies import POWERS, allocate

if TYPE_CHECKING:
    from shapely import Polygon
    from shapely.geometry.base import BaseGeometry

SNAP_KM = 0.1
"""How much nearer two sites may come when both move to the nearest square of a 60 m lattice; 2 × 30 m × √2, rounded up
for the scale of UTM."""
GIVE_UP = 5000
"""A stratum is full when so many proposals in a row found no room."""

_PROPOSALS = 256
"""Least number of proposals that are looked at together; no result depends on it."""
_OFFERS = 256
"""Least number of points that a stratum may offer at once."""

FloatArray = NDArray[np.float64]
Keep = Callable[[FloatArray, FloatArray], NDArray[np.bool_]]
"""Which points, by longitude and latitude, may be drawn."""


def land_area_km2(area: "BaseGeometry | None" = None) -> dict[str, float]:
    """Land between 56° S and 83° N by stratum, km²; of an area where one is given. Strata without land are absent."""
    pieces = land_pieces(area)
    return {str(name): float(pieces.km2[pieces.stratum == name].sum()) for name in np.unique(pieces.stratum)}


def draw_places(
    count: int | None = None,
    *,
    size: int = 264,
    strategy: str = "geography",
    area: "BaseGeometry | None" = None,
    allocation: str = "sqrt",
    min_distance_km: float = 0.0,
    block_km: float = 10.0,
    buffer_km: float = 0.0,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> list[Site]:
    """Draw `count` sites of `size` 10 m pixels on land between 56° S and 83° N, sorted by key.

    count: None draws DEFAULT_COUNT, or as many as there is room for. strategy: `uniform`, every square kilometre of
    land alike, or `geography`, the count spread over the strata by their land (`allocate`) and evenly inside each.
    area: longitude/latitude, may run beyond ±180; sites have their centre in it. min_distance_km: between centres;
    √2 times the side in any case. buffer_km: no site nearer than this to a block of another split.
    A site's inclusion probability is the share of the stratum's land (of all land with `uniform`) that drawn squares
    cover. The result depends on the arguments and the seed alone.
    Raises SamplingError when the area has no land, or fewer than `count` fit.
    """
    if strategy not in ("uniform", "geography"):
        raise SamplingError(f"strategy {strategy!r} needs candidates; --anywhere draws with uniform or geography")
    pieces = land_pieces(area)
    if not len(pieces):
        raise SamplingError(
            f"no land between {-SOUTHERNMOST:g}° S and {NORTHERNMOST:g}° N in the area; places are drawn on land only"
        )
    rule = SplitRule(block_km=block_km, val=val, test=test, seed=seed)
    least_km = least_distance_km(size, min_distance_km)

    def keep(lon: FloatArray, lat: FloatArray) -> NDArray[np.bool_]:
        if buffer_km == 0:
            return np.ones(len(lon), dtype=bool)
        points = zip(lon.tolist(), lat.tolist(), strict=True)
        return np.array([not rule.near_other_split(x, y, buffer_km) for x, y in points], dtype=bool)

    names = ["everywhere"] if strategy == "uniform" else [str(name) for name in np.unique(pieces.stratum)]
    queues = [
        _Queue(
            pieces=pieces if strategy == "uniform" else pieces.of(pieces.stratum == name),
            key=(seed, 0xA7, *name.encode()),
        )
        for name in names
    ]
    wanted = DEFAULT_COUNT if count is None else count
    square_km2 = (size / 100) ** 2
    drawn = _draw(queues, wanted, least_km=least_km, square_km2=square_km2, power=POWERS[allocation], keep=keep)
    if count is not None and len(drawn.lon) < count:
        raise SamplingError(
            f"asked for {count} places, but only {len(drawn.lon)} of {size} px fit on the land of the area at least "
            f"{least_km:.3g} km apart; lower --count, --size, --min-distance-km or --buffer-km"
        )
    per_queue = np.bincount(drawn.queue, minlength=len(queues))
    chance = np.minimum(per_queue * square_km2 / np.array([queue.pieces.km2.sum() for queue in queues]), 1.0)
    inverse = 1.0 / chance[drawn.queue]
    rows = zip(drawn.lon, drawn.lat, drawn.stratum, chance[drawn.queue], inverse / inverse.mean(), strict=True)
    sites = [
        _site(float(lon), float(lat), str(name), float(share), float(weight), size, rule)
        for lon, lat, name, share, weight in rows
    ]
    return sorted(sites, key=lambda site: site.key)


def least_distance_km(size: int, min_distance_km: float) -> float:
    """How far apart the centres of sites of `size` 10 m pixels stay: their places keep clear after moving to a grid."""
    return max(min_distance_km, math.sqrt(2) * size / 100 * 1.01) + SNAP_KM


def site_square(site: Site) -> "Polygon":
    """The ground around a site as a longitude/latitude polygon, for maps; a place's is up to 43 m away."""
    epsg, half = utm_epsg(site.lon, site.lat), site.size_px * 5.0
    x, y = from_lonlat(epsg, site.lon, site.lat)
    return square_lonlat(epsg, float(x) - half, float(y) + half, 2 * half)


def _site(lon: float, lat: float, name: str, chance: float, weight: float, size: int, rule: SplitRule) -> Site:
    lon = (lon + 180.0) % 360.0 - 180.0
    cell, block = cell_name(lon, lat, CELL_KM), rule.block(lon, lat)
    digest = hashlib.sha256(f"{lon!r}/{lat!r}/{size}".encode()).hexdigest()[:8]
    return Site(
        key=f"{cell}_{digest}",
        lon=lon,
        lat=lat,
        size_px=size,
        cell=cell,
        stratum=name,
        weight=weight,
        inclusion_probability=chance,
        split=rule.split(block),
        block=block,
    )


# ------------------------------------------------------------------------------------------------ the draw


@dataclass(frozen=True, slots=True, kw_only=True)
class _Points:
    """Points drawn, arrays of shape (n,)."""

    lon: FloatArray
    lat: FloatArray
    stratum: NDArray[np.str_]
    queue: NDArray[np.int64]
    """Number of the queue that each came from."""


@dataclass(slots=True, kw_only=True)
class _Queue:
    """Proposals on some land, taken one after the other."""

    pieces: Pieces
    key: tuple[int, ...]
    position: int = 0
    """Number of the next proposal."""
    in_vain: int = 0
    """How many proposals in a row found no room."""
    points: LandPoints = field(init=False)

    def __post_init__(self) -> None:
        self.points = LandPoints(self.pieces, self.key)

    @property
    def is_full(self) -> bool:
        return self.in_vain >= GIVE_UP

    def next(
        self, n: int, taken: FloatArray, reach: float, keep: Keep
    ) -> tuple[FloatArray, FloatArray, NDArray[np.str_]]:
        """Longitude, latitude and stratum of the next `n` proposals clear of what is taken; fewer when it is full."""
        found: list[tuple[FloatArray, FloatArray, NDArray[np.str_]]] = []
        missing = n
        while missing > 0 and not self.is_full:
            asked = max(missing + missing // 3, _PROPOSALS)
            lon, lat, piece, good = self.points.take(self.position, asked)
            for test in (keep, lambda x, y: clear_of(unit_vectors(x, y), taken, reach)):
                rows = np.flatnonzero(good)
                good[rows] = test(lon[rows], lat[rows])
            hits = np.flatnonzero(good)[:missing]
            in_vain = np.diff(hits, prepend=-1 - self.in_vain) - 1
            hits = hits[: int(np.argmax(in_vain >= GIVE_UP))] if (in_vain >= GIVE_UP).any() else hits
            missing -= len(hits)
            seen = int(hits[-1]) + 1 if missing == 0 else asked
            self.in_vain = seen - 1 - int(hits[-1]) if len(hits) else self.in_vain + seen
            self.position += seen
            found.append((lon[hits], lat[hits], self.pieces.stratum[piece[hits]]))
        if not found:
            return np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.str_)
        lons, lats, names = zip(*found, strict=True)
        return np.concatenate(lons), np.concatenate(lats), np.concatenate(names)


def _draw(queues: Sequence[_Queue], n: int, *, least_km: float, square_km2: float, power: float, keep: Keep) -> _Points:
    """Up to `n` points at least `least_km` apart, the count shared among the queues by their land.

    Queues take turns, so that those which share a border share the room there; what a full queue cannot take is shared
    among the others. What is offered at once is bounded by how many could fit, so that a distance far too large for
    the count does not compare everything with everything.
    """
    reach = chord(least_km)
    sizes = np.array([max(1, int(queue.pieces.km2.sum() / square_km2)) for queue in queues], dtype=np.int64)
    seats = allocate(sizes, min(n, int(sizes.sum())), power=power)
    at_once = np.array([_OFFERS + int(4 * queue.pieces.km2.sum() / least_km**2) for queue in queues])
    got = np.zeros(len(queues), dtype=np.int64)
    drawn = _Points(lon=np.zeros(0), lat=np.zeros(0), stratum=np.zeros(0, "U1"), queue=np.zeros(0, np.int64))
    while int(got.sum()) < n:
        taken = unit_vectors(drawn.lon, drawn.lat)
        offers = [
            queue.next(min(int(seat - have), int(most)), taken, reach, keep)
            for queue, seat, have, most in zip(queues, seats, got, at_once, strict=True)
        ]
        number = np.repeat(np.arange(len(queues)), [len(lon) for lon, _, _ in offers])
        turn = np.concatenate([np.arange(len(lon)) for lon, _, _ in offers])
        lon, lat, names = (np.concatenate(columns) for columns in zip(*offers, strict=True))
        order = np.lexsort((number, turn))
        stays = order[first_come(unit_vectors(lon[order], lat[order]), reach)]
        drawn = _Points(
            lon=np.concatenate([drawn.lon, lon[stays]]),
            lat=np.concatenate([drawn.lat, lat[stays]]),
            stratum=np.concatenate([drawn.stratum, names[stays]]),
            queue=np.concatenate([drawn.queue, number[stays]]),
        )
        got = np.bincount(drawn.queue, minlength=len(queues)).astype(np.int64)
        is_open = np.array([not queue.is_full for queue in queues])
        if not ((got < seats) & is_open).any():
            room = np.where(is_open, np.maximum(sizes - got, 0), 0)
            more = min(n - int(got.sum()), int(room.sum()))
            if more == 0:
                break
            seats = got + allocate(room, more, power=power)
    return drawn
