"""Endless rows of proposed points: on land, around cities. The k-th is the same however many are asked for at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geossl_data.sampling.cities import CityRule, around
from geossl_data.sampling.land import NORTHERNMOST, SOUTHERNMOST, LandPoints, Pieces
from geossl_data.sampling.strata import Strata, strata_of

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Keep = Callable[[FloatArray, FloatArray], NDArray[np.bool_]]
"""Which points, by longitude and latitude in degrees, may be drawn."""

SEA, OUTSIDE_AREA, OUTSIDE_STRATA = 1, 2, 3
"""Why a proposal is none: it lies at sea, beside the area or its latitudes, or where the layer of strata is silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Proposals one after the other, arrays of shape (n,)."""

    lon: FloatArray
    lat: FloatArray
    stratum: IntArray
    """Number of the stratum; any where `fault` is not 0."""
    fault: IntArray
    """0, or why this is no proposal."""


class Proposals(Protocol):
    """A row of proposals, numbered from 0."""

    km2: float
    """The ground over which most of them lie."""

    def take(self, first: int, n: int) -> Batch:
        """Proposals number `first` to `first + n`."""


class Numbered:
    """Strata by number: their names in the order in which they were first met, the land's own ones in advance.

    layer: None takes the default one, which is known for each piece of land.
    """

    def __init__(self, pieces: Pieces, layer: Strata | None) -> None:
        self._layer = layer
        self._numbers: dict[str, int] = {}
        if layer is None:
            self._of_piece = self._known(np.unique(pieces.stratum))[np.unique(pieces.stratum, return_inverse=True)[1]]

    @property
    def names(self) -> list[str]:
        """All names met so far, by number."""
        return list(self._numbers)

    def know(self, names: Sequence[str]) -> None:
        """Number names that have not been met."""
        self._known(np.array(names, dtype=np.str_))

    def at(self, lon: FloatArray, lat: FloatArray, piece: IntArray | None = None) -> IntArray:
        """Numbers of the strata of points, shape (n,); -1 where the layer is silent. piece: of land that has each."""
        if self._layer is None and piece is not None:
            return np.asarray(self._of_piece[piece])
        layer = self._layer or strata_of("regions")
        if not len(lon):
            return np.zeros(0, dtype=np.int64)
        # Arrow finds distinct strings by hashing, which is ten times quicker than sorting them.
        coded = pa.array(np.asarray(layer(lon, lat), dtype=np.str_)).dictionary_encode()
        return np.asarray(self._known(coded.dictionary.to_numpy(zero_copy_only=False))[coded.indices.to_numpy()])

    def _known(self, names: NDArray[np.str_] | NDArray[np.object_]) -> IntArray:
        for name in names.tolist():
            if name:
                self._numbers.setdefault(name, len(self._numbers))
        return np.array([self._numbers[name] if name else -1 for name in names.tolist()], dtype=np.int64)


class OnLand:
    """Proposals spread evenly over pieces of land.

    must_have: ground of no stratum is no proposal. piece_numbers: the pieces' numbers among those that the strata were
    made with.
    """

    def __init__(
        self,
        pieces: Pieces,
        key: tuple[int, ...],
        strata: Numbered,
        *,
        must_have: bool,
        piece_numbers: IntArray | None = None,
    ) -> None:
        self.km2 = float(pieces.km2.sum())
        self._points = LandPoints(pieces, key)
        self._strata = strata
        self._must_have = must_have
        self._numbers = np.arange(len(pieces)) if piece_numbers is None else piece_numbers

    def take(self, first: int, n: int) -> Batch:
        """Proposals number `first` to `first + n`."""
        lon, lat, piece, on_land = self._points.take(first, n)
        rows = np.flatnonzero(on_land)
        stratum = np.full(n, -1, dtype=np.int64)
        stratum[rows] = self._strata.at(lon[rows], lat[rows], self._numbers[piece[rows]])
        silent = OUTSIDE_STRATA if self._must_have else 0
        fault = np.where(on_land, np.where(stratum < 0, silent, 0), SEA)
        return Batch(lon=lon, lat=lat, stratum=stratum, fault=fault)


class AroundCities:
    """Proposals around cities: a city, each alike, and a Gaussian offset in kilometres.

    on_land: which points lie on land; asked where the rule wants land only. inside: which lie in the area.
    """

    def __init__(
        self, rule: CityRule, key: tuple[int, ...], strata: Numbered, *, on_land: Keep, inside: Keep | None
    ) -> None:
        self.km2 = 2 * np.pi * rule.sigma_km**2 * len(rule.cities)
        self._rule, self._strata, self._on_land, self._inside = rule, strata, on_land, inside
        self._key = np.random.SeedSequence(key).generate_state(2, np.uint64)

    def take(self, first: int, n: int) -> Batch:
        """Proposals number `first` to `first + n`."""
        # One step of the counter is four 64-bit words: one proposal.
        words = np.random.Generator(np.random.Philox(key=self._key, counter=first)).random((n, 4))
        city = (words[:, 0] * len(self._rule.cities)).astype(np.int64)
        # Box and Muller (1958): two independent normal numbers of two uniform ones.
        radius, angle = np.sqrt(-2.0 * np.log1p(-words[:, 1])), 2 * np.pi * words[:, 2]
        lon, lat = around(self._rule.cities, city, self._rule.sigma_km, radius * np.sin(angle), radius * np.cos(angle))
        inside = (lat >= SOUTHERNMOST) & (lat <= NORTHERNMOST)
        if self._inside is not None:
            inside &= self._inside(lon, lat)
        fault = np.where(inside, 0, OUTSIDE_AREA)
        if self._rule.land_only:
            rows = np.flatnonzero(inside)
            fault[rows[~self._on_land(lon[rows], lat[rows])]] = SEA
        rows = np.flatnonzero(fault == 0)
        stratum = np.full(n, -1, dtype=np.int64)
        stratum[rows] = self._strata.at(lon[rows], lat[rows])
        return Batch(lon=lon, lat=lat, stratum=stratum, fault=fault)


def lattice(cells: int, phase: tuple[float, float], *, south: float, north: float) -> tuple[FloatArray, FloatArray]:
    """Longitudes and latitudes of the points between two latitudes of a Fibonacci lattice, each alone in equal areas.

    cells: points on the whole Earth. phase: how far the lattice is moved along its spiral and turned, both in [0, 1).
    Neighbours are √(4π / cells) radians apart within a few per cent (González 2010, Mathematical Geosciences 42).
    """
    low, high = np.sin(np.radians([south, north]))
    first, last = int((1 + low) / 2 * cells - phase[0]), int((1 + high) / 2 * cells - phase[0]) + 1
    number = np.arange(max(first, 0), min(last, cells - 1) + 1)
    sine = 2 * (number + phase[0]) / cells - 1
    turn = (number * ((np.sqrt(5.0) - 1) / 2) + phase[1]) % 1.0
    keep = (sine >= low) & (sine <= high)
    return 360.0 * turn[keep] - 180.0, np.degrees(np.arcsin(sine[keep]))
