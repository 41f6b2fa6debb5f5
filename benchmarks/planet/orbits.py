"""Real orbits: where the ground tracks of Sentinel-1 and Sentinel-2 run, and what their swaths show when.

Circular orbits that repeat exactly: Sentinel-2 flies 143 orbits in 10 days at 98.62°, Sentinel-1 175 in 12 at 98.18°,
two satellites each half a cycle apart (ESA, mission pages). Both are sun-synchronous, so that local time at the node
fixes where the track is when. Numbers of relative orbits count in time, from a node of our own choice.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DAY_US = 86_400_000_000
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Microseconds of this module count from here; the satellites keep their phase from here on."""
_STEP = 1e-5
"""Radians along the orbit over which directions are taken."""
_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Orbit:
    """The repeating orbit of a pair of satellites."""

    orbits: int
    """In a cycle."""
    days: int
    """Of a cycle."""
    inclination: float
    """Degrees."""
    node_hours: float
    """Local solar time where the satellite crosses the equator northwards."""
    near_km: float
    """Where the swath begins, right of the track; negative is left of it."""
    far_km: float
    """Where it ends."""

    @property
    def turn(self) -> float:
        """Degrees of longitude between one northward crossing of the equator and the next."""
        return 360.0 * self.days / self.orbits

    @property
    def period_us(self) -> float:
        """Of one orbit, microseconds."""
        return self.days * DAY_US / self.orbits

    def node_lon(self, number: IntArray | int) -> FloatArray:
        """Longitude of the northward crossing of the equator of orbits of the cycle, counted from 0; degrees."""
        return np.asarray(-self.turn * np.asarray(number, dtype=np.float64))

    def starts_us(self, first_us: int, end_us: int, phase: float) -> tuple[IntArray, IntArray]:
        """Number in the cycle and time of the northward crossing of all orbits that begin in a period.

        phase: how far ahead the satellite is, in cycles.
        """
        # At the first node, on the meridian of Greenwich, local time is UTC.
        zero_us = self.node_hours / 24 * DAY_US - phase * self.days * DAY_US
        counts = np.arange(
            np.ceil((first_us - zero_us) / self.period_us), np.ceil((end_us - zero_us) / self.period_us)
        ).astype(np.int64)
        return counts % self.orbits, np.rint(zero_us + counts * self.period_us).astype(np.int64)

    def track(self, u: FloatArray, node_lon: FloatArray | float) -> FloatArray:
        """Unit vectors of the ground track where the satellite is `u` radians beyond its node, shape (n, 3)."""
        tilt = np.radians(self.inclination)
        lat = np.arcsin(np.sin(tilt) * np.sin(u))
        lon = np.arctan2(np.cos(tilt) * np.sin(u), np.cos(u)) - np.radians(self.turn) * u / (2 * np.pi)
        return unit_vectors(np.degrees(lon) + node_lon, np.degrees(lat))

    def frame(self, u: FloatArray, node_lon: FloatArray | float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Ground track, its derivative by `u`, and the direction to the right of it, unit length; shape (n, 3) each."""
        at = self.track(u, node_lon)
        along = (self.track(u + _STEP, node_lon) - self.track(u - _STEP, node_lon)) / (2 * _STEP)
        right = np.cross(along, at)
        return at, along, right / np.linalg.norm(right, axis=-1, keepdims=True)

    def beside(self, u: FloatArray, node_lon: FloatArray | float, right_km: float) -> FloatArray:
        """Longitude and latitude of what lies so far to the right of the track, shape (n, 2)."""
        at, _, right = self.frame(u, node_lon)
        angle = right_km / EARTH_RADIUS_KM
        points = np.cos(angle) * at + np.sin(angle) * right
        lon = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
        return np.column_stack([lon, np.degrees(np.arcsin(np.clip(points[:, 2], -1.0, 1.0)))])

    def seen_southwards(self, points: FloatArray, node_lon: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """How far right of the southward half of the track points lie, km, and where on it; infinite far from it.

        points: unit vectors, shape (n, 3). Newton's method from where the track has the latitude of the point.
        """
        tilt = np.radians(self.inclination)
        u = np.pi - np.arcsin(np.clip(points[:, 2] / np.sin(tilt), -1.0, 1.0))
        for _ in range(_ROUNDS):
            at, along, right = self.frame(u, node_lon)
            u = u + np.einsum("ij,ij->i", points - at, along) / np.einsum("ij,ij->i", along, along)
        at, _, right = self.frame(u, node_lon)
        aside = EARTH_RADIUS_KM * np.arcsin(np.clip(np.einsum("ij,ij->i", points, right), -1.0, 1.0))
        is_near = (np.einsum("ij,ij->i", points, at) > 0.99) & (u > np.pi / 2) & (u < 3 * np.pi / 2)
        return np.where(is_near, aside, np.inf), u


SENTINEL_2 = Orbit(orbits=143, days=10, inclination=98.62, node_hours=22.5, near_km=-145.0, far_km=145.0)
SENTINEL_1 = Orbit(orbits=175, days=12, inclination=98.18, node_hours=18.0, near_km=340.0, far_km=590.0)
SLICE_US = 25_000_000
"""Length of a Sentinel-1 frame in flight."""


def microseconds(moment: datetime) -> int:
    """Since EPOCH."""
    since = moment - EPOCH
    return since.days * DAY_US + since.seconds * 1_000_000 + since.microseconds
