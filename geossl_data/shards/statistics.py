"""Mean and standard deviation of each band, added up look by look."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS

Sums = dict[str, tuple[int, float, float]]
"""Per band: number of valid pixels, sum, sum of squares."""


def look_sums(members: Mapping[str, NDArray[Any]]) -> Sums:
    """Count, sum and sum of squares of the valid pixels of each band of the two sensors, in float64."""
    sums: Sums = {}
    for name, array in members.items():
        member = MEMBERS[name]
        if array.ndim == 3:
            for band, values in zip(member.bands, array, strict=True):
                valid = np.isfinite(values) if values.dtype.kind == "f" else values != 0
                kept = values[valid].astype(np.float64)
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
