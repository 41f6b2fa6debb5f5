"""Footprints as columns: how large they are, and how much ground they share.

All in degrees. Footprints are less than half the globe wide, so that two of them meet at one whole turn at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.scenes.matching import convex
from geossl_data.scenes.matching.acquisitions import BoolArray, FloatArray, IntArray, ObjectArray

LEAST_SHARE = 1e-9
"""Less than this share of a footprint is no ground: a hundredth of a pixel of a Sentinel-2 tile, and above the rounding
of coordinates that were moved by a whole turn."""

_CHUNK = 1 << 13
"""Polygons that are cut at a time: their corners stay in the processor's cache."""
_SIZES = (4, 6, convex.MOST_CORNERS)
"""Polygons are cut together with others of up to as many corners."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """n footprints."""

    shapes: ObjectArray
    area: FloatArray
    """Square degrees, shape (n,)."""
    rings: convex.Rings

    def __len__(self) -> int:
        return len(self.shapes)


def ground(shapes: ObjectArray) -> Ground:
    """The ground of shapely geometries."""
    import shapely

    return Ground(shapes=shapes, area=shapely.area(shapes), rings=convex.rings(shapes))


def shared_area(a: Ground, b: Ground, a_index: IntArray, b_index: IntArray, turn: FloatArray) -> FloatArray:
    """Area that a[a_index] shares with b[b_index] moved east by `turn` degrees, element by element, shape (m,)."""
    import shapely

    shared = np.zeros(len(a_index))
    b_cuts = can_cut(a, b, a_index, b_index)
    a_cuts = can_cut(b, a, b_index, a_index) & ~b_cuts
    for members in _chunks(a, b, a_index, b_index, b_cuts):
        shared[members] = _cut(a, a_index[members], [(b, b_index[members], turn[members])])
    for members in _chunks(a, b, a_index, b_index, a_cuts):
        shared[members] = _cut(b, b_index[members], [(a, a_index[members], -turn[members])])
    general = ~(a_cuts | b_cuts)
    if general.any():
        others = moved(b.shapes[b_index[general]], turn[general])
        shared[general] = shapely.area(shapely.intersection(a.shapes[a_index[general]], others))
    return shared


def shared_by_both(
    a: Ground, b: Ground, a_index: IntArray, b_first: IntArray, b_second: IntArray, turns: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Area that a[a_index] shares with b[b_first] and with b[b_second] at once; both can cut it."""
    shared = np.zeros(len(a_index))
    for members in _chunks(a, b, a_index, b_first, np.ones(len(a_index), dtype=bool)):
        windows = [(b, one[members], turn[members]) for one, turn in zip((b_first, b_second), turns, strict=True)]
        shared[members] = _cut(a, a_index[members], windows)
    return shared


def _cut(subject: Ground, index: IntArray, windows: Sequence[tuple[Ground, IntArray, FloatArray]]) -> FloatArray:
    """Area that subject[index] shares with all of the windows, each moved east by its turn."""
    origin = subject.rings.corners[index, 0]
    return convex.shared_area(
        subject.rings,
        index,
        origin,
        [(one.rings, which, origin - np.column_stack([turn, 0.0 * turn])) for one, which, turn in windows],
    )


def moved(shapes: ObjectArray, turn: FloatArray) -> ObjectArray:
    """Geometries moved east, each by its own number of degrees; the same objects where that is 0."""
    import shapely

    away = np.flatnonzero(turn)
    if not len(away):
        return shapes
    offset = np.repeat(turn[away], shapely.get_num_coordinates(shapes[away]))
    result = shapes.copy()
    result[away] = shapely.transform(shapes[away], lambda points: points + np.column_stack([offset, 0.0 * offset]))
    return result


def is_ground(shared: FloatArray, a_area: FloatArray, b_area: FloatArray) -> BoolArray:
    """Is a shared area more than rounding, measured by the smaller of two footprints?"""
    return shared > LEAST_SHARE * np.minimum(a_area, b_area)


def can_cut(a: Ground, b: Ground, a_index: IntArray, b_index: IntArray) -> BoolArray:
    """Is the second of two footprints convex and the first a ring of few corners, element by element?"""
    return (a.rings.n_corners[a_index] > 0) & b.rings.is_convex[b_index]


def _chunks(
    a: Ground, b: Ground, a_index: IntArray, b_index: IntArray, chosen: BoolArray
) -> Iterator[NDArray[np.int64]]:
    """The chosen positions in chunks of which all have about as many corners."""
    n_corners = np.maximum(a.rings.n_corners[a_index], b.rings.n_corners[b_index])
    least = 0
    for most in _SIZES:
        members = np.flatnonzero(chosen & (n_corners > least) & (n_corners <= most))
        for start in range(0, len(members), _CHUNK):
            yield members[start : start + _CHUNK]
        least = most
