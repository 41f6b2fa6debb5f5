"""Scenes → Pairs: which Sentinel-1 scenes see the ground of a Sentinel-2 scene near it in time.

Time first, then space: scenes are put into time slots as long as the largest gap, so that a partner lies in the same
or a neighbouring slot, and only those footprints meet in a spatial index. Footprints are compared in degrees;
longitudes that differ by a whole turn are the same.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.records import Pair, Scene

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST_SLOT = timedelta(hours=6)
"""Shorter time slots would only be more of them."""


def match(
    s2: Sequence[Scene], s1: Sequence[Scene], *, max_gap: timedelta, orbit: Literal["any", "ascending", "descending"]
) -> list[Pair]:
    """Every Sentinel-1 scene that qualifies for each Sentinel-2 scene, ranked by |gap|, then by id.

    A scene qualifies when it was acquired within `max_gap` (the limit included), shares ground (area above 0) and, with
    an `orbit` other than any, says that it flew that way. Sorted by (s2_acquired, s2_id, rank); the order of the
    inputs has no influence. Gaps are taken between the `acquired` times.
    """
    wanted = sorted((scene for scene in s1 if orbit in ("any", scene.orbit_state)), key=_order)
    anchors = sorted(s2, key=_order)
    if not wanted or not anchors:
        return []
    of_anchor: dict[int, list[tuple[float, str, int, float]]] = defaultdict(list)
    for anchor, partner, overlap in _meetings(anchors, wanted, max_gap):
        gap = (wanted[partner].acquired - anchors[anchor].acquired) / timedelta(hours=1)
        of_anchor[anchor].append((abs(gap), wanted[partner].id, partner, overlap))
    return [
        _pair(anchors[anchor], wanted[partner], overlap, rank, len(of_anchor[anchor]))
        for anchor in sorted(of_anchor)
        for rank, (_, _, partner, overlap) in enumerate(sorted(of_anchor[anchor]))
    ]


def yield_share(pairs: Sequence[Pair], n_s2: int) -> float:
    """Share of `n_s2` Sentinel-2 scenes that have at least one partner, in [0, 1]; 0 where there are no scenes."""
    return len({pair.s2_id for pair in pairs}) / n_s2 if n_s2 else 0.0


def _order(scene: Scene) -> tuple[datetime, str]:
    return scene.acquired, scene.id


def _pair(anchor: Scene, partner: Scene, overlap: float, rank: int, n_candidates: int) -> Pair:
    return Pair(
        s2_id=anchor.id,
        s1_id=partner.id,
        s2_acquired=anchor.acquired,
        s1_acquired=partner.acquired,
        gap_hours=(partner.acquired - anchor.acquired) / timedelta(hours=1),
        overlap=overlap,
        rank=rank,
        n_candidates=n_candidates,
        s1_orbit_state=partner.orbit_state,
        s1_relative_orbit=partner.relative_orbit,
        s2_relative_orbit=anchor.relative_orbit,
    )


def _meetings(anchors: Sequence[Scene], partners: Sequence[Scene], max_gap: timedelta) -> list[tuple[int, int, float]]:
    """(anchor, partner, overlap) for all that are near in time and share ground; each once, in no given order."""
    from shapely import STRtree

    slot = max(max_gap, _LEAST_SLOT)
    limit = max_gap // timedelta(microseconds=1)
    anchor_us, partner_us = _microseconds(anchors), _microseconds(partners)
    partner_shapes = np.array([scene.footprint for scene in partners], dtype=object)
    anchor_copies, anchor_index = _turned(anchors, partner_shapes)
    anchors_of_slot = _slots(anchors, anchor_index, slot)
    partners_of_slot = _slots(partners, np.arange(len(partners)), slot)
    found: dict[tuple[int, int], float] = {}
    for number in sorted(partners_of_slot):
        near = [copy for step in (-1, 0, 1) for copy in anchors_of_slot.get(number + step, ())]
        if not near:
            continue
        members = np.array(partners_of_slot[number])
        copies = np.array(near)
        left, right = STRtree(partner_shapes[members]).query(anchor_copies[copies], predicate="intersects")
        copies, members = copies[left], members[right]
        in_time = np.abs(partner_us[members] - anchor_us[anchor_index[copies]]) <= limit
        copies, members = copies[in_time], members[in_time]
        overlaps = _overlap_fraction(anchor_copies[copies], partner_shapes[members])
        for copy, member, overlap in zip(copies.tolist(), members.tolist(), overlaps.tolist(), strict=True):
            key = (int(anchor_index[copy]), member)
            found[key] = min(1.0, found.get(key, 0.0) + overlap)
    return [(anchor, partner, overlap) for (anchor, partner), overlap in found.items() if overlap > 0]


def _slots(scenes: Sequence[Scene], index: NDArray[np.int64], slot: timedelta) -> dict[int, list[int]]:
    """Time slot → positions in `index`, which holds scene numbers."""
    numbers = [(scene.acquired - _EPOCH) // slot for scene in scenes]
    members: dict[int, list[int]] = defaultdict(list)
    for position, scene in enumerate(index.tolist()):
        members[numbers[scene]].append(position)
    return members


def _microseconds(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    return np.array([(scene.acquired - _EPOCH) // timedelta(microseconds=1) for scene in scenes], dtype=np.int64)


def _turned(scenes: Sequence[Scene], others: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Footprints, and their copies a whole turn away where those can meet `others`; and whose footprint each is."""
    import shapely
    from shapely import affinity

    others_west, _, others_east, _ = shapely.total_bounds(others)
    shapes: list[BaseGeometry] = []
    index: list[int] = []
    for number, scene in enumerate(scenes):
        west, _, east, _ = scene.footprint.bounds
        for turn in (-360.0, 0.0, 360.0):
            if east + turn >= others_west and west + turn <= others_east:
                shapes.append(affinity.translate(scene.footprint, xoff=turn) if turn else scene.footprint)
                index.append(number)
    copies = np.empty(len(shapes), dtype=object)
    copies[:] = shapes
    return copies, np.array(index, dtype=np.int64)


def _overlap_fraction(a: NDArray[np.object_], b: NDArray[np.object_]) -> NDArray[np.float64]:
    """Shared area over the smaller area, element by element, in [0, 1]; 0 where both have no area."""
    import shapely

    shared = shapely.area(shapely.intersection(a, b))
    smaller = np.minimum(shapely.area(a), shapely.area(b))
    fraction = np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
    return np.where(fraction > 0, np.clip(fraction, math.ulp(0.0), 1.0), 0.0)
