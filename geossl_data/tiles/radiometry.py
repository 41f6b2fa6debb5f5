"""Stored numbers → physical units: the Sentinel-2 offset, Sentinel-1 decibels, and what counts as a measurement.

Pure functions of arrays. A mask is True where data is valid.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import LABEL_NODATA, MEMBERS, S1_NODATA, S2_MEMBERS, S2_NODATA, SCL_CLOUD, SCL_NODATA

POWER_FLOOR = 1e-6
"""Linear power below which decibels stop falling (-60 dB): far under the noise floor of Sentinel-1 (about -22 dB)."""


def harmonise(dn: NDArray[np.uint16], offset: int) -> NDArray[np.uint16]:
    """Digital numbers as processing baselines before 04.00 write them: reflectance × 10000, 0 where nothing is valid.

    offset: what has to be added, -1000 from baseline 04.00 on (BOA_ADD_OFFSET), else 0. A valid pixel stays valid:
    its result is at least 1; computed in int32, so that dark pixels do not wrap. Same shape as `dn`.
    """
    if offset == 0:
        return dn
    shifted = np.clip(dn.astype(np.int32) + offset, 1, np.iinfo(np.uint16).max)
    return np.where(dn == S2_NODATA, np.uint16(S2_NODATA), shifted.astype(np.uint16))


def mask_power(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear power with NaN wherever it is no measurement: not finite, ≤ 0 (border noise), or -32768. Same shape."""
    valid = np.isfinite(power) & (power > 0) & (power != S1_NODATA)
    return np.where(valid, power, np.float32(np.nan))


def backscatter_db(power: NDArray[np.float32]) -> NDArray[np.float16]:
    """Backscatter in dB, 10 log10(power), NaN where `power` is no measurement; same shape, never infinite.

    float16 rounds by at most 0.008 dB between -32 and -16 dB and 0.016 dB below; speckle is about 2 dB.
    Resample before, in linear power: the mean of decibels is not the decibel of the mean.
    """
    floored = np.maximum(mask_power(power), np.float32(POWER_FLOOR))
    return (10.0 * np.log10(floored)).astype(np.float16)


def s2_valid(dn: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Where every band has a measurement; dn: (bands, rows, columns) → (rows, columns)."""
    return np.asarray((dn != S2_NODATA).all(axis=0))


def s1_valid(db: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Where every polarisation has a measurement; db: (bands, rows, columns) → (rows, columns)."""
    return np.asarray(np.isfinite(db).all(axis=0))


def fraction(mask: NDArray[np.bool_]) -> float:
    """Share of True, in [0, 1]."""
    return float(np.count_nonzero(mask)) / mask.size


def s2_valid_fraction(members: Mapping[str, NDArray[Any]]) -> float:
    """Share of the 10 m pixels at which all bands of all resolutions have a measurement.

    members: `s2_10m`, `s2_20m` and `s2_60m` of one look; a coarse pixel speaks for all 10 m pixels under it.
    """
    valid = s2_valid(members[S2_MEMBERS[0]])
    for name in S2_MEMBERS[1:]:
        factor = MEMBERS[name].factor
        valid = valid & s2_valid(members[name]).repeat(factor, axis=0).repeat(factor, axis=1)
    return fraction(valid)


def cloud_fraction(scl: NDArray[np.uint8]) -> float | None:
    """Share of the classified pixels that are cloud or cloud shadow (classes 3, 8, 9, 10); None where none is."""
    classified = np.count_nonzero(scl != SCL_NODATA)
    return float(np.count_nonzero(np.isin(scl, SCL_CLOUD))) / classified if classified else None


def majority_class(label: NDArray[np.uint8]) -> tuple[int, float]:
    """The most frequent land class and its share of all pixels; (0, 0.0) where nothing is classified.

    Of equally frequent classes the lower number wins.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    counts[LABEL_NODATA] = 0
    winner = int(counts.argmax())
    return (winner, float(counts[winner]) / label.size) if counts[winner] else (LABEL_NODATA, 0.0)
