"""Places drawn before any catalog is asked: sites spread over the land of the Earth, or of an area.

A site is known by its centre only; `site_candidates` puts it on the grid of a scene, at most 43 m away. Sites keep so
far from each other that their squares never overlap there, whichever way the grids are turned, also where the published
sampler that a preset of `cities` names lets them overlap.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors
from geossl_data.records import Site
from geossl_data.sampling.cities import CityRule, density
from geossl_data.sampling.draw import DEFAULT_COUNT
from geossl_data.sampling.land import (
    NORTHERNMOST,
    SOUTHERNMOST,
    LandMap,
    LandPoints,
    Pieces,
    ground_of,
    land_pieces,
)
from geossl_data.sampling.pool import NO_STRATUM
from geossl_data.sampling.proposals import AroundCities, Keep, Numbered, OnLand, Proposals, lattice
from geossl_data.sampling.seating import Seated, seat
from geossl_data.sampling.sites import Sites, make_sites, squares_lonlat
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.spread import chord
from geossl_data.sampling.strata import Strata
from geossl_data.sampling.strategies import POWERS
from geossl_data.sampling.strategies.allocation import largest_remainder

if TYPE_CHECKING:
    from shapely import Polygon
    from shapely.geometry.base import BaseGeometry

SNAP_KM = 0.1
"""How much nearer two sites may come when both move to the nearest square of a 60 m lattice; 2 × 30 m × √2, rounded up
for the scale of UTM."""
PILOT = 200_000
"""Points on the land by whose share its area is estimated, for strata that are not known piece by piece."""
STRATEGIES = ("uniform", "grid", "geography", "balanced", "cities", "mixture")
"""Strategies that need no candidates."""

_LATTICE_CHORD = 3.08
"""The points of a Fibonacci lattice of k points are at least this / √k apart, on the unit sphere."""
_GRID_ROUNDS = 40
"""How often a lattice is made denser when too few of its points lie on the ground."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Chance = Callable[[FloatArray, FloatArray, IntArray], FloatArray]
"""Longitude, latitude and number of the stratum of points → chance of each to lie in a drawn square."""


def land_area_km2(area: "BaseGeometry | None" = None, strata: Strata | None = None) -> dict[str, float]:
    """Land between 56° S and 83° N by stratum, km²; of an area where one is given. Strata without land are absent.

    strata: None takes the default layer, whose areas are exact. Those of other layers are estimated by the share of
    PILOT evenly spread points, to about 1 % for a stratum of a thousandth of the land; one of less than a hundred
    thousandth may be missing. The name "" is land about which the layer says nothing.
    """
    pieces = land_pieces(area)
    if strata is None:
        return {str(name): float(pieces.km2[pieces.stratum == name].sum()) for name in np.unique(pieces.stratum)}
    if not len(pieces):
        return {}
    lon, lat, _, on_land = LandPoints(pieces, (0,)).even(PILOT)
    numbered = Numbered(pieces, strata)
    numbers = numbered.at(lon[on_land], lat[on_land])
    counts = np.bincount(numbers + 1, minlength=len(numbered.names) + 1)
    shares = dict(zip(["", *numbered.names], (counts / counts.sum()).tolist(), strict=True))
    total = float(pieces.km2.sum())
    return {name: share * total for name, share in sorted(shares.items()) if share > 0}


def draw_places(
    count: int | None = None,
    *,
    size: int = 264,
    strategy: str = "geography",
    area: "BaseGeometry | None" = None,
    strata: Strata | None = None,
    allocation: str = "sqrt",
    quota: Mapping[str, float] | None = None,
    cities: CityRule | None = None,
    shares: Mapping[str, float] | None = None,
    min_distance_km: float = 0.0,
    block_km: float = 10.0,
    buffer_km: float = 0.0,
    val: float = 0.1,
    test: float = 0.2,
    test_bbox: tuple[float, float, float, float] | None = None,
    seed: int = 0,
    split_seed: int | None = None,
) -> Sites:
    """Draw `count` sites of `size` 10 m pixels on land between 56° S and 83° N.

    count: None draws DEFAULT_COUNT, or as many as there is room for. strategy: one of STRATEGIES.
    `uniform`: every square kilometre of land alike. `grid`: a Fibonacci lattice over the whole Earth, as wide as the
    count allows; the few points of it on land that are too many are left out at random. `geography`: the count shared
    among the strata by their land and `allocation`, or by `quota` (stratum → count or share; only ratios matter), and
    evenly inside each; `balanced`: as many for each. What a stratum has no room for is passed on to the others by the
    same rule; `target` of the answer tells what each was meant to get. `cities`: Gaussians around cities, as `cities`
    says; with `land_only` a point at sea is drawn again, without it sites may lie at sea. `mixture`: the strategies of
    `shares` one after the other, beside each other's sites; a part that finds no room does not pass on its seats.
    strata: None takes the default layer, latitude band × region. area: longitude/latitude, may run beyond ±180; sites
    have their centre in it. min_distance_km: between centres; √2 times the side in any case. buffer_km: no site nearer
    than this to a block of another split. split_seed: of the splits; None takes `seed`.

    A site's inclusion probability is the chance of a spot of land to lie in a drawn square: the share of all land that
    they cover, with `uniform` and `grid`; of the stratum's land, with `geography` and `balanced`; with `cities` the
    density of the Gaussians times the area of the squares, over the share of proposals that fell on the ground asked
    for. Of a mixture it is 1 - Π(1 - πₖ) over its parts. Weights are its inverse, with mean 1. That takes no notice of
    the room that sites leave each other: where distance thins a draw, crowded ground has a little less.
    The result depends on the arguments alone. Raises SamplingError when the area has no land, fewer than `count` fit,
    or a strategy needs what is not given.
    """
    parts = _parts(strategy, shares or {}, cities, quota, allocation)
    pieces = land_pieces(area)
    if not len(pieces):
        raise SamplingError(
            f"no land between {-SOUTHERNMOST:g}° S and {NORTHERNMOST:g}° N in the area; places are drawn on land only"
        )
    split_seed = seed if split_seed is None else split_seed
    rule = SplitRule(block_km=block_km, val=val, test=test, seed=split_seed, test_bbox=test_bbox)
    least_km = least_distance_km(size, min_distance_km)
    draw = _Draw(
        pieces=pieces,
        area=area,
        layer=strata,
        strata=Numbered(pieces, strata),
        seated=Seated(chord(least_km)),
        size=size,
        least_km=least_km,
        keep=None if buffer_km == 0 else lambda x, y: ~rule.near_other_splits(x, y, buffer_km),
        power=0.0 if strategy == "balanced" else POWERS.get(allocation, 0.5),
        quota=quota if allocation == "quota" else None,
        cities=cities,
        seed=seed,
    )
    wanted = DEFAULT_COUNT if count is None else count
    numbers = largest_remainder(np.array(list(parts.values()), dtype=np.float64), wanted).tolist()
    chances: list[Chance] = []
    drawn_by: list[str] = []
    for part, (name, number) in enumerate(zip(parts, numbers, strict=True)):
        before = len(draw.seated)
        chances.append(draw.part(name, number, part))
        drawn_by += [name] * (len(draw.seated) - before)
    seated = draw.seated
    if count is not None and len(seated) < count:
        ground = "around the cities" if strategy == "cities" else "on the land of the area"
        raise SamplingError(
            f"asked for {count} places, but only {len(seated)} of {size} px fit {ground} at least "
            f"{draw.least_km:.3g} km apart; lower --count, --size, --min-distance-km or --buffer-km"
        )
    lon, lat, stratum = seated.columns
    missed = np.ones(len(seated))
    for chance in chances:
        missed *= 1.0 - np.clip(chance(lon, lat, stratum), 0.0, 1.0)
    names = np.array([*draw.strata.names, NO_STRATUM], dtype=np.str_)
    return make_sites(
        lon,
        lat,
        stratum=names[stratum],
        chance=np.maximum(1.0 - missed, 1e-12),
        drawn_by=np.array(drawn_by, dtype=np.str_),
        size=size,
        rule=rule,
        target={} if strategy == "mixture" else draw.target,
        land_km2={name or NO_STRATUM: km2 for name, km2 in draw.land_km2.items()},
        rejected={reason: n for reason, n in sorted(seated.rejected.items()) if n},
    )


def least_distance_km(size: int, min_distance_km: float) -> float:
    """How far apart the centres of sites of `size` 10 m pixels stay: their places keep clear after moving to a grid."""
    return max(min_distance_km, math.sqrt(2) * size / 100 * 1.01) + SNAP_KM


def site_square(site: Site) -> "Polygon":
    """The ground around a site as a longitude/latitude polygon, for maps; a place's is up to 43 m away."""
    from shapely import Polygon

    return Polygon(squares_lonlat(np.array([site.lon]), np.array([site.lat]), np.array([site.size_px]))[0])


# ------------------------------------------------------------------------------------------------ the draw


def _parts(
    strategy: str,
    shares: Mapping[str, float],
    cities: CityRule | None,
    quota: Mapping[str, float] | None,
    allocation: str,
) -> dict[str, float]:
    """Strategies to draw with, one after the other, and their shares of the count."""
    parts = dict(shares) if strategy == "mixture" else {strategy: 1.0}
    if not parts:
        raise SamplingError("strategy mixture needs shares, such as geography=0.6,cities=0.4")
    for name, share in parts.items():
        if name not in STRATEGIES or (strategy == "mixture" and name == "mixture"):
            known = ", ".join(known for known in STRATEGIES if known != "mixture")
            raise SamplingError(f"strategy {name!r} needs candidates; --anywhere draws with {known} or their mixture")
        if not 0 < share < math.inf:
            raise SamplingError(f"the share of {name} is {share:g}; give one above 0")
    if "cities" in parts and cities is None:
        raise SamplingError("strategy cities needs cities, as sampling.cities.city_rule makes them")
    if (allocation == "quota") != (quota is not None):
        raise SamplingError("allocation quota and a quota go together; give both or neither")
    if quota is not None and not (all(0 <= value < math.inf for value in quota.values()) and any(quota.values())):
        raise SamplingError("the quota gives no stratum a place, or less than none; give finite counts or shares")
    return parts


@dataclass(kw_only=True)
class _Draw:
    """A draw in the making."""

    pieces: Pieces
    area: "BaseGeometry | None"
    layer: Strata | None
    strata: Numbered
    seated: Seated
    size: int
    least_km: float
    keep: Keep | None
    power: float
    quota: Mapping[str, float] | None
    cities: CityRule | None
    seed: int

    def __post_init__(self) -> None:
        self.target: dict[str, int] = {}

    @property
    def square_km2(self) -> float:
        """Area of one site's square."""
        return (self.size / 100) ** 2

    @property
    def total_km2(self) -> float:
        """Land that can be drawn from."""
        return float(self.pieces.km2.sum())

    @cached_property
    def land_km2(self) -> dict[str, float]:
        """Stratum → its land."""
        return land_area_km2(self.area, self.layer)

    @cached_property
    def land(self) -> LandMap:
        """Tells land from sea."""
        return LandMap(self.pieces)

    def part(self, name: str, n: int, number: int) -> Chance:
        """Draw up to `n` more with one strategy; what the chances were. number: of the part, for its random numbers."""
        if name == "geography":
            return self.stratified(n, number, self.power, self.quota)
        if name == "balanced":
            return self.stratified(n, number, 0.0, None)
        return {"uniform": self.uniform, "grid": self.grid, "cities": self.around_cities}[name](n, number)

    def key(self, number: int, stage: int) -> tuple[int, ...]:
        """What random numbers follow from."""
        return (self.seed, 0xA7, number, stage)

    def uniform(self, n: int, number: int) -> Chance:
        """Every square kilometre of land alike."""
        before = len(self.seated)
        self._seat(n, OnLand(self.pieces, self.key(number, 0), self.strata, must_have=False), self.total_km2)
        return self._even(len(self.seated) - before)

    def _even(self, n: int) -> Chance:
        chance = n * self.square_km2 / self.total_km2
        return lambda lon, lat, stratum: np.full(len(lon), chance)

    def around_cities(self, n: int, number: int) -> Chance:
        """Gaussians around cities."""
        assert self.cities is not None
        rule, before, faults = self.cities, len(self.seated), self._faults()
        ground = None if self.area is None else ground_of(self.area)
        proposals = AroundCities(
            rule,
            self.key(number, 0),
            self.strata,
            on_land=self.land.holds,
            inside=None if ground is None else _inside(ground),
        )
        seen = self._seat(n, proposals, min(proposals.km2, self.total_km2))
        drawn = len(self.seated) - before
        on_ground = max(seen - (self._faults() - faults), 1) / max(seen, 1)
        return lambda lon, lat, stratum: (
            density(rule.cities, rule.sigma_km, lon, lat) * (drawn * self.square_km2 / on_ground)
        )

    def _faults(self) -> int:
        return sum(self.seated.rejected[reason] for reason in ("sea", "outside-area"))

    def _seat(self, n: int, proposals: Proposals, km2: float) -> int:
        """Seat up to `n` of a row of proposals, wherever they lie; how many were looked at."""
        rejected, before = sum(self.seated.rejected.values()), len(self.seated)
        room = max(1, int(km2 / self.square_km2))
        seat(
            self.seated,
            n,
            lambda mask: proposals,
            shares=np.ones(1),
            room=np.array([max(room, n)]),
            km2=np.zeros(1),
            by_stratum=False,
            room_at_once=self.least_km**-2,
            keep=self.keep,
        )
        return sum(self.seated.rejected.values()) - rejected + len(self.seated) - before

    def stratified(self, n: int, number: int, power: float, quota: Mapping[str, float] | None) -> Chance:
        """Seats shared among strata."""
        land = {name: km2 for name, km2 in self.land_km2.items() if name}
        self.strata.know([*land, *sorted(quota or {})])
        names = self.strata.names
        km2 = np.array([land.get(name, 0.0) for name in names])
        if quota is not None and not any(quota.get(name, 0.0) > 0 for name in land):
            listed = ", ".join(list(land)[:8])
            raise SamplingError(f"the quota names {', '.join(list(quota)[:8])}; the strata of the land are {listed}")
        if not land:
            raise SamplingError("the layer of strata says nothing about the land of the area; choose another")
        sizes = np.where(km2 > 0, np.power(np.maximum(km2, 1e-9), power), 0.0)
        shares = sizes if quota is None else np.array([quota.get(name, 0.0) for name in names])
        meant = zip(names, largest_remainder(shares, n).tolist(), shares.tolist(), strict=True)
        self.target = dict(sorted((name, seats) for name, seats, share in meant if share > 0))
        by_piece = self.layer is None
        everywhere = OnLand(self.pieces, self.key(number, 0), self.strata, must_have=True)
        before = len(self.seated)
        seat(
            self.seated,
            n,
            _Narrowing(self, number) if by_piece else lambda mask: everywhere,
            shares=shares,
            room=np.where(km2 > 0, np.maximum(km2 / self.square_km2, 1), n).astype(np.int64),
            km2=km2 if by_piece else np.zeros(len(km2)),
            by_stratum=True,
            room_at_once=self.least_km**-2,
            keep=self.keep,
        )
        got = np.bincount(self.seated.columns[2][before:], minlength=len(names))
        # A stratum that no point of the pilot met counts with the land that one of them stands for.
        least_km2 = 0.0 if by_piece else self.total_km2 / PILOT
        chance = np.append(got[: len(names)] * self.square_km2 / np.maximum(km2, least_km2), 0.0)
        return lambda lon, lat, stratum: chance[np.where(stratum < len(names), stratum, -1)]

    def grid(self, n: int, number: int) -> Chance:
        """A lattice over the Earth so dense that `n` points lie on the ground, or as dense as the distance allows."""
        random = np.random.default_rng(np.random.SeedSequence(self.key(number, 0)))
        phase = (float(random.random()), float(random.random()))
        south, north = float(self.pieces.south.min()), float(self.pieces.north.max())
        most = int((_LATTICE_CHORD / chord(self.least_km)) ** 2)
        share, cells = self.total_km2 / (4 * math.pi * EARTH_RADIUS_KM**2), 0
        lon, lat = np.zeros(0), np.zeros(0)
        for _ in range(_GRID_ROUNDS):
            cells = min(max(math.ceil((n + math.sqrt(n)) / share), cells + 1), most)
            lon, lat = self._free(*lattice(cells, phase, south=south, north=north))
            if len(lon) >= n or cells == most:
                break
            share = min(share, max(len(lon), 0.1) / cells)
        rows = np.sort(random.permutation(len(lon))[:n])
        self.seated.rejected["surplus"] += len(lon) - len(rows)
        lon, lat = lon[rows], lat[rows]
        self.seated.add(lon, lat, self.strata.at(lon, lat), unit_vectors(lon, lat))
        return self._even(len(rows))

    def _free(self, lon: FloatArray, lat: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The points that lie on land, outside buffers, and clear of all others."""
        tests: list[Keep] = [self.land.holds]
        tests += [] if self.keep is None else [self.keep]
        tests += [lambda x, y: self.seated.crowd.has_room(unit_vectors(x, y))]
        for test in tests:
            rows = test(lon, lat)
            lon, lat = lon[rows], lat[rows]
        return lon, lat


class _Narrowing:
    """Proposals on the land of fewer and fewer strata, of the layer that is known piece by piece."""

    def __init__(self, draw: _Draw, number: int) -> None:
        self._draw, self._number, self._stage = draw, number, 0
        everywhere = np.zeros(0)
        self._stratum = draw.strata.at(everywhere, everywhere, np.arange(len(draw.pieces)))

    def __call__(self, is_open: NDArray[np.bool_]) -> OnLand:
        rows = np.flatnonzero(is_open[self._stratum])
        key = self._draw.key(self._number, self._stage)
        self._stage += 1
        return OnLand(self._draw.pieces.of(rows), key, self._draw.strata, must_have=True, piece_numbers=rows)


def _inside(ground: "BaseGeometry") -> Keep:
    import shapely

    shapely.prepare(ground)
    return lambda lon, lat: np.asarray(shapely.contains_xy(ground, lon, lat))
