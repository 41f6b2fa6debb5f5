"""What the satellites take: which tile is seen from which orbit, which frames Sentinel-1 has, and when.

Sentinel-2 takes all land in daylight, in strips 290 km wide that run south. Sentinel-1 takes land in frames of 25 s:
over Europe with both satellites in both directions, elsewhere with one of them in one direction, which is about what
its observation scenario of 2017 to 2021 was.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import unit_vectors
from geossl_data.sampling.land import is_land
from planet.orbits import DAY_US, SENTINEL_1, SENTINEL_2, SLICE_US, FloatArray, IntArray
from planet.tiles import Tiles

LEAST_SHARE = 0.02
"""Tiles of which an orbit sees less have no item of it."""
DARKEST_DEGREES = 84.0
"""Zenith of the sun beyond which Sentinel-2 takes nothing."""
EUROPE = (-25.0, 34.0, 45.0, 72.0)
_CORNER_KM = 160.0
"""No point of a tile is further from another than this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """What Sentinel-2 sees of tiles from its relative orbits; arrays of shape (n,)."""

    tile: IntArray
    """Position of the tile."""
    orbit: IntArray
    """Number in the cycle, from 0."""
    since_us: IntArray
    """From the orbit's start to when the middle of the tile is seen."""
    share: FloatArray
    """Of the tile."""
    rings: list[NDArray[np.float64]]
    """Longitude and latitude of the corners of what is seen, closed, shape (corners, 2) each."""


def views_of(tiles: Tiles) -> Views:
    """Every tile with every orbit that sees at least LEAST_SHARE of it."""
    middles = unit_vectors(tiles.centre[:, 0], tiles.centre[:, 1])
    corners = unit_vectors(tiles.corners[..., 0].ravel(), tiles.corners[..., 1].ravel()).reshape(-1, 4, 3)
    seen: list[tuple[int, int, float, float]] = []
    rings: list[NDArray[np.float64]] = []
    for number in range(SENTINEL_2.orbits):
        node = SENTINEL_2.node_lon(number)
        aside, u = SENTINEL_2.seen_southwards(middles, node)
        near = np.flatnonzero(np.abs(aside) < SENTINEL_2.far_km + _CORNER_KM)
        at_corners, _ = SENTINEL_2.seen_southwards(corners[near].reshape(-1, 3), node)
        for row, beside in zip(near.tolist(), at_corners.reshape(-1, 4), strict=True):
            if not np.isfinite(beside).all():
                continue
            ring, share = _within_swath(tiles.corners[row], beside)
            if share >= LEAST_SHARE:
                seen.append((row, number, float(u[row]), share))
                rings.append(ring)
    tile, orbit, angle, shares = (np.array(column) for column in zip(*seen, strict=True))
    return Views(
        tile=tile.astype(np.int64),
        orbit=orbit.astype(np.int64),
        since_us=np.rint(angle / (2 * np.pi) * SENTINEL_2.period_us).astype(np.int64),
        share=shares,
        rings=rings,
    )


def _within_swath(corners: FloatArray, beside: FloatArray) -> tuple[NDArray[np.float64], float]:
    """The part of a tile in the swath as a closed ring, and its share.

    beside: km right of the track of each corner; linear in between. Sutherland and Hodgman (1974), both edges.
    """
    lon = corners[0, 0] + (corners[:, 0] - corners[0, 0] + 180.0) % 360.0 - 180.0
    points = np.column_stack([lon, corners[:, 1], beside])
    whole = _area(points)
    for sign, limit in ((1.0, SENTINEL_2.far_km), (-1.0, -SENTINEL_2.near_km)):
        signed = sign * points[:, 2] - limit
        kept: list[NDArray[np.float64]] = []
        for k in range(len(points)):
            before, after = signed[k - 1], signed[k]
            if (before <= 0) != (after <= 0):
                kept.append(points[k - 1] + before / (before - after) * (points[k] - points[k - 1]))
            if after <= 0:
                kept.append(points[k])
        if len(kept) < 3:
            return points[:0, :2], 0.0
        points = np.array(kept)
    share = min(1.0, _area(points) / whole)
    # Outer rings run counter-clockwise; corners were given clockwise.
    ring = np.concatenate([points[::-1, :2], points[-1:, :2]])
    return _on_the_globe(ring), share


def _area(points: NDArray[np.float64]) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _on_the_globe(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes in [-180, 180), as catalogs give them also where a ring crosses the antimeridian."""
    return np.column_stack([(ring[:, 0] + 180.0) % 360.0 - 180.0, ring[:, 1]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """Acquisitions of Sentinel-2; arrays of shape (n,)."""

    view: IntArray
    """Position in Views."""
    at_us: IntArray
    """When the middle of the tile was seen."""
    take_us: IntArray
    """When the strip began, which is in the names."""
    satellite: IntArray
    """0 is A, 1 is B."""


def taken_by_day(views: Views, tiles: Tiles, first_us: int, end_us: int) -> Taken:
    """All that both satellites take in a period, in order of time."""
    of_orbit = np.argsort(views.orbit, kind="stable")
    starts = np.searchsorted(views.orbit[of_orbit], np.arange(SENTINEL_2.orbits + 1))
    view, at, take, which = [], [], [], []
    for satellite in (0, 1):
        numbers, begins = SENTINEL_2.starts_us(first_us, end_us, 0.5 * satellite)
        for number, begin in zip(numbers.tolist(), begins.tolist(), strict=True):
            rows = of_orbit[starts[number] : starts[number + 1]]
            rows = rows[_is_lit(tiles.centre[views.tile[rows], 1], begin)]
            if len(rows):
                times = begin + views.since_us[rows]
                view.append(rows)
                at.append(times)
                take.append(np.full(len(rows), times.min() // 1_000_000 * 1_000_000))
                which.append(np.full(len(rows), satellite))
    if not view:
        none = np.zeros(0, dtype=np.int64)
        return Taken(view=none, at_us=none, take_us=none, satellite=none)
    columns = [np.concatenate(parts) for parts in (view, at, take, which)]
    order = np.argsort(columns[1], kind="stable")
    return Taken(
        view=columns[0][order], at_us=columns[1][order], take_us=columns[2][order], satellite=columns[3][order]
    )


def _is_lit(lat: FloatArray, at_us: int) -> NDArray[np.bool_]:
    """Whether the sun stands high enough at half past ten, by the day of the year."""
    day = at_us / DAY_US % 365.25
    declination = np.radians(-23.44 * np.cos(2 * np.pi * (day + 10) / 365.25))
    phi, hour = np.radians(lat), np.radians((10.5 - 12.0) * 15.0)
    height = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour)
    return np.asarray(height > np.cos(np.radians(DARKEST_DEGREES)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """The Sentinel-1 frames of a cycle that show land; arrays of shape (n,)."""

    orbit: IntArray
    """Number in the cycle, from 0."""
    since_us: IntArray
    """From the orbit's start to the frame's."""
    is_ascending: NDArray[np.bool_]
    corners: FloatArray
    """Longitude and latitude, shape (n, 4, 2), counter-clockwise or clockwise."""
    middle: FloatArray
    """Longitude and latitude, shape (n, 2)."""
    in_europe: NDArray[np.bool_]

    def take(self, index: IntArray) -> "Frames":
        """The frames at `index`."""
        return Frames(**{entry.name: getattr(self, entry.name)[index] for entry in fields(self)})


def frames_of() -> Frames:
    """Every frame with land between 60° S and 84° N."""
    n_slices = round(SENTINEL_1.period_us / SLICE_US)
    orbit, number = (part.ravel() for part in np.meshgrid(np.arange(SENTINEL_1.orbits), np.arange(n_slices)))
    node, step = SENTINEL_1.node_lon(orbit), 2 * np.pi / n_slices
    middle = SENTINEL_1.beside((number + 0.5) * step, node, (SENTINEL_1.near_km + SENTINEL_1.far_km) / 2)
    has_land = np.zeros(len(orbit), dtype=bool)
    for along in (0.05, 0.35, 0.65, 0.95):
        for share in (0.02, 0.26, 0.5, 0.74, 0.98):
            aside = SENTINEL_1.near_km + share * (SENTINEL_1.far_km - SENTINEL_1.near_km)
            at = SENTINEL_1.beside((number + along) * step, node, aside)
            has_land |= is_land(at[:, 0], at[:, 1])
    u = (number + 0.5) * step
    is_ascending = np.cos(u) > 0
    west, south, east, north = EUROPE
    lon, lat = middle[:, 0], middle[:, 1]
    in_europe = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    kept = np.flatnonzero(has_land & (lat > -60) & (lat < 84) & (in_europe | is_ascending))
    ends = [
        SENTINEL_1.beside((number[kept] + along) * step, node[kept], aside)
        for along, aside in (
            (0.0, SENTINEL_1.near_km),
            (0.0, SENTINEL_1.far_km),
            (1.0, SENTINEL_1.far_km),
            (1.0, SENTINEL_1.near_km),
        )
    ]
    return Frames(
        orbit=orbit[kept],
        since_us=number[kept] * SLICE_US,
        is_ascending=is_ascending[kept],
        corners=np.stack(ends, axis=1),
        middle=middle[kept],
        in_europe=in_europe[kept],
    )


def frames_taken(frames: Frames, first_us: int, end_us: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Frame, start time, satellite (0 is A, 1 is B) and absolute orbit of all that is taken in a period, in order of
    time. Outside of Europe the two satellites share the frames."""
    of_orbit = np.argsort(frames.orbit, kind="stable")
    starts = np.searchsorted(frames.orbit[of_orbit], np.arange(SENTINEL_1.orbits + 1))
    parts = []
    for satellite in (0, 1):
        numbers, begins = SENTINEL_1.starts_us(first_us, end_us, 0.5 * satellite)
        for number, begin in zip(numbers.tolist(), begins.tolist(), strict=True):
            rows = of_orbit[starts[number] : starts[number + 1]]
            rows = rows[frames.in_europe[rows] | (frames.orbit[rows] % 2 == satellite)]
            absolute = round(begin / SENTINEL_1.period_us)
            parts.append(
                np.stack(
                    [rows, begin + frames.since_us[rows], np.full(len(rows), satellite), np.full(len(rows), absolute)]
                )
            )
    found = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype=np.int64)
    found = found[:, np.argsort(found[1], kind="stable")]
    return found[0], found[1], found[2], found[3]
