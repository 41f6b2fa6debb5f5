"""Mean and standard deviation of each band, added up look by look."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import Member

Sums = dict[str, tuple[int, float, float]]
"""Per band: number of valid pixels, sum, sum of squares."""


def look_sums(stored: Mapping[str, NDArray[Any]], members: Mapping[str, Member]) -> Sums:
    """Count, sum and sum of squares of the valid pixels of each band in physical units; class maps are left out."""
    sums: Sums = {}
    for name, array in stored.items():
        member = members[name]
        for band, values in () if member.plane else zip(member.bands, array, strict=True):
            kept = member.physical(values)[member.valid(values)].astype(np.float64)
            sums[band] = (int(kept.size), float(kept.sum()), float(np.square(kept).sum()))
    return sums


def merge_sums(parts: Iterable[Sums]) -> Sums:
    """Sums of several parts, added in the given order, so that the result has the same bits every time."""
    total: Sums = {}
    for part in parts:
        for band, (count, first, second) in part.items():
            before = total.get(band, (0, 0.0, 0.0))
            total[band] = (before[0] + count, before[1] + first, before[2] + second)
    return total


def statistics(sums: Sums) -> dict[str, dict[str, float]]:
    """Mean and (population) standard deviation of each band that has a valid pixel, with the pixel count."""
    return {
        band: {"mean": first / count, "std": max(second / count - (first / count) ** 2, 0.0) ** 0.5, "count": count}
        for band, (count, first, second) in sums.items()
        if count
    }
