"""Which Sentinel-1 orbit a tile keeps to, so that its looks differ in time and not in the way they were seen."""

from typing import Literal

import numpy as np

from geossl_data.scenes.matching.acquisitions import (
    ORBIT_STATES,
    UNKNOWN,
    Acquisitions,
    BoolArray,
    FloatArray,
    IntArray,
)

OrbitRule = Literal["any", "ascending", "descending", "same-relative", "auto"]

_DECIMALS = 6
"""Sums of overlaps that agree to this many decimals are equal: the rest is rounding."""


def tile_numbers(s2: Acquisitions) -> IntArray:
    """A number for the ground that each Sentinel-2 scene belongs to, shape (n,).

    That is the tile; where it is unknown, the cell of one degree that holds the centre of its footprint.
    """
    import shapely

    numbers = s2.tile.copy()
    unknown = np.flatnonzero(numbers == UNKNOWN)
    centre = shapely.get_coordinates(shapely.centroid(s2.footprints[unknown]))
    column, row = np.floor(centre[:, 0] + 180.0) % 360.0, np.floor(centre[:, 1] + 90.0)
    numbers[unknown] = len(s2.tiles) + (row * 360.0 + column).astype(np.int64)
    return numbers


def orbit_codes(s1: Acquisitions, rule: OrbitRule) -> IntArray:
    """What a rule distinguishes Sentinel-1 scenes by, shape (n,): -1 for what it does not take.

    auto: the direction; same-relative: relative orbit and direction, because near the poles one orbit sees a place
    both ways. Smaller codes are preferred where all else is equal.
    """
    if rule == "auto":
        return s1.orbit_state
    if rule == "same-relative":
        codes = s1.relative_orbit * (len(ORBIT_STATES) + 1) + s1.orbit_state % (len(ORBIT_STATES) + 1)
        return np.where(s1.relative_orbit == UNKNOWN, UNKNOWN, codes)
    if rule == "any":
        return np.zeros(len(s1), dtype=np.int64)
    return np.where(s1.orbit_state == ORBIT_STATES.index(rule), 0, UNKNOWN)


def chosen(tile: IntArray, code: IntArray, anchor: IntArray, overlap: FloatArray, gap_us: IntArray) -> BoolArray:
    """Which pairs belong to the orbit that their tile keeps to; each argument has one value for each pair.

    A tile keeps to the code, -1 apart, that serves most acquisitions (`anchor`); of equal ones the one with the
    larger sum of overlaps, then with the smaller median |gap|, then the smaller code.
    """
    known = np.flatnonzero(code != UNKNOWN)
    keep = np.zeros(len(tile), dtype=bool)
    if not len(known):
        return keep
    known = known[np.lexsort((anchor[known], code[known], tile[known]))]
    tile, code, anchor, overlap = tile[known], code[known], anchor[known], overlap[known]
    starts = np.concatenate(([True], (tile[1:] != tile[:-1]) | (code[1:] != code[:-1])))
    first = np.flatnonzero(starts)
    group = np.cumsum(starts) - 1
    is_new = starts | np.concatenate(([True], anchor[1:] != anchor[:-1]))
    n_served = np.add.reduceat(is_new.astype(np.int64), first)
    total = np.round(np.add.reduceat(overlap, first), _DECIMALS)
    gap = np.abs(gap_us[known])
    gap = gap[np.lexsort((gap, group))]
    count = np.diff(np.append(first, len(group)))
    median = gap[first + (count - 1) // 2] + gap[first + count // 2]
    best = np.lexsort((code[first], median, -total, -n_served, tile[first]))
    wins = best[np.concatenate(([True], tile[first[best[1:]]] != tile[first[best[:-1]]]))]
    is_kept = np.zeros(len(first), dtype=bool)
    is_kept[wins] = True
    keep[known] = is_kept[group]
    return keep
