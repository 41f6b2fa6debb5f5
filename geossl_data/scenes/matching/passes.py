"""What belongs together: Sentinel-1 frames of one pass, and the parts of one Sentinel-2 acquisition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geossl_data.scenes.matching.acquisitions import UNKNOWN, Acquisitions, BoolArray, IntArray, ObjectArray
from geossl_data.scenes.matching.ground import moved
from geossl_data.scenes.matching.ragged import Ragged

SAME_PASS_US = 60_000_000
"""Frames of one datatake start 25 s after each other; parts of one tile are sensed within seconds. A satellite comes
back to the same orbit after days only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchors:
    """Sentinel-2 acquisitions in order of (time, id): scenes, or the parts of one that two ground stations received."""

    scene: IntArray
    """The scene that gives id and time, shape (n,): of several parts the one with the largest footprint."""
    more: Ragged
    """The other parts, in order of (time, id)."""
    shapes: ObjectArray
    """Footprints; of several parts their union."""

    def __len__(self) -> int:
        return len(self.scene)


def pass_numbers(s1: Acquisitions) -> IntArray:
    """A number for the pass that each Sentinel-1 frame belongs to, shape (n,).

    Frames belong to one pass when platform, relative orbit and direction agree, or are unknown for both, and each
    starts within 60 s of the one before.
    """
    return _runs(s1.acquired_us, (s1.platform, s1.relative_orbit, s1.orbit_state))


def anchors(s2: Acquisitions, rank_of_id: IntArray) -> Anchors:
    """The acquisitions that Sentinel-2 scenes make up.

    Scenes are parts of one acquisition when platform, relative orbit, tile, processing baseline, offset and pixel grids
    agree, the tile is known, and each was sensed within 60 s of the one before.
    s2: in order of (time, id); rank_of_id: position of each id in sorted order.
    """
    import shapely

    group = _runs(s2.acquired_us, (s2.platform, s2.relative_orbit, s2.tile, s2.version))
    parts = np.flatnonzero((np.bincount(group)[group] > 1) & (s2.tile != UNKNOWN))
    parts = parts[np.lexsort((rank_of_id[parts], -shapely.area(s2.footprints[parts]), group[parts]))]
    is_largest = _starts(group[parts])
    largest, others = parts[is_largest], parts[~is_largest]
    is_anchor = np.ones(len(s2), dtype=bool)
    is_anchor[others] = False
    scene = np.flatnonzero(is_anchor)
    n_others = np.diff(np.append(np.flatnonzero(is_largest), len(parts))) - 1
    of_anchor = np.searchsorted(scene, np.repeat(largest, n_others))
    more = Ragged.grouped(of_anchor, others, len(scene))
    shapes = _joined(s2.footprints[scene], s2.footprints[more.values], more.offsets)
    return Anchors(scene=scene, more=more, shapes=shapes)


def _joined(shapes: ObjectArray, parts: ObjectArray, offsets: IntArray) -> ObjectArray:
    """Each shape with its parts parts[offsets[i]:offsets[i + 1]], at its own longitudes: those may be a turn away."""
    import shapely

    shapes = shapes.copy()
    n_parts = np.diff(offsets)
    for step in range(int(n_parts.max(initial=0))):
        now = np.flatnonzero(n_parts > step)
        part = parts[offsets[now] + step]
        apart = shapely.get_x(shapely.centroid(shapes[now])) - shapely.get_x(shapely.centroid(part))
        shapes[now] = shapely.union(shapes[now], moved(part, 360.0 * np.round(apart / 360.0)))
    return shapes


def _runs(time_us: IntArray, keys: Sequence[IntArray]) -> IntArray:
    """A number for each run of things with equal keys that follow each other within SAME_PASS_US."""
    together = np.zeros(len(time_us), dtype=np.int64)
    for key in keys:
        together = together * (int(key.max(initial=UNKNOWN)) + 2) + (key - UNKNOWN)
    order = np.lexsort((time_us, together))
    starts = _starts(together[order])
    starts[1:] |= np.diff(time_us[order]) > SAME_PASS_US
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(starts)
    return numbers


def _starts(values: IntArray) -> BoolArray:
    """True where a value differs from the one before, and at the first."""
    return np.concatenate(([True], values[1:] != values[:-1]))[: len(values)]
