"""Stored numbers → physical units: the Sentinel-2 offset, Sentinel-1 decibels, and what counts as a measurement.

Pure functions of arrays. A mask is True where data is valid.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import LABEL_NODATA, MEMBERS, S1_NODATA, S2_MEMBERS, S2_NODATA, SCL_CLOUD, SCL_NODATA
from geossl_data.sampling.change import grown

POWER_FLOOR = 1e-6
"""Linear power below which decibels stop falling (-60 dB): far under the noise floor of Sentinel-1 (about -22 dB)."""
BORDER_POWER = 10**-3.5
"""Linear power (-35 dB) below which a pixel beside no measurement is border noise; calm water is near -30 dB."""
ARTEFACT_POWER = 10**-4.5
"""Linear power (-45 dB) that no region of real ground has: the noise of the instrument alone is 20 dB above it."""
LEAST_BORDER_PX = 32
"""Pixels of noise that make a border; fewer are what speckle leaves of dark ground beside a clean edge."""
LEAST_EDGE_PX = 16
"""Pixels along the window's edge that noise needs where nothing else shows that a scene ends there."""
HOLE_SIDE_PX = 5
"""Side of a square without any measurement, as the ground beyond a scene has it and dark water has not."""
ERODED_PX = 3
"""By how much the ground beside border noise is given up: resampling has mixed the two there."""


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


def mask_border_noise(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear power with NaN wherever `mask_power` has it, and where a scene's edge is noise; same shape.

    power: one polarisation, (rows, columns), or several, (bands, rows, columns): better, since noise of the border is
    low in all of them, and water and shadow seldom are. Masked in all where found.

    Up to March 2018, and in single products later, the processor left very low values where a scene has none (Masking
    "No-value" Pixels on GRD Products, ESA MPC-0243, 2015; Ali et al. 2018, doi:10.1109/JSTARS.2017.2787650). Power
    alone does not tell them from calm water, the limitation that ESA's note names; as Stasolla and Neyt 2018
    (doi:10.3390/s18103454) do, connection with the border decides. Regions of pixels without a measurement, or below
    BORDER_POWER in all polarisations, joined by their sides, are border noise where they hold LEAST_BORDER_PX pixels
    that are low or exactly 0, and

    - a hole of HOLE_SIDE_PX squared without any measurement: the ground beyond the scene, or filled with zeros; or
    - on the window's edge LEAST_EDGE_PX pixels below ARTEFACT_POWER, which are more than half of its measured ones
      there: a rim whose own border lies outside the window.

    The whole region goes, with ERODED_PX around it. So a lake that touches the window's edge stays, also where speckle
    takes single pixels of it below BORDER_POWER, and a clean edge costs nothing. Noise above BORDER_POWER is not found.
    """
    planes = power if power.ndim == 3 else power[None]
    measured = mask_power(planes)
    no_measurement = np.asarray(np.isnan(measured).all(axis=0))
    brightest = np.where(no_measurement, np.float32(0), np.fmax.reduce(measured, axis=0))
    is_noise = np.asarray((brightest < BORDER_POWER) & (~no_measurement | (planes == 0).any(axis=0)))
    if np.count_nonzero(is_noise) >= LEAST_BORDER_PX:
        border = _border(no_measurement, is_noise, brightest)
        if border.any():
            measured[:, grown(border, ERODED_PX)] = np.nan
    return measured.reshape(power.shape)


def _border(
    no_measurement: NDArray[np.bool_], is_noise: NDArray[np.bool_], brightest: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """The regions that are border noise, with the ground without measurement that belongs to them.

    brightest: of all polarisations, 0 where there is no measurement.
    """
    numbers = regions(no_measurement | is_noise)
    n = int(numbers.max()) + 1

    def count(where: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(numbers[where], minlength=n)

    on_edge = np.ones(numbers.shape, dtype=bool)
    on_edge[1:-1, 1:-1] = False
    measured = on_edge & ~no_measurement
    has_hole = count(_squares(no_measurement, HOLE_SIDE_PX)) > 0
    artefacts = count(measured & (brightest < ARTEFACT_POWER))
    is_rim = (artefacts >= LEAST_EDGE_PX) & (2 * artefacts > count(measured & is_noise))
    is_border = (count(is_noise) >= LEAST_BORDER_PX) & (has_hole | is_rim)
    return is_border[numbers]


def _squares(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The north-west corners of all squares of `side` pixels that are True throughout; same shape."""
    corners = np.zeros(mask.shape, dtype=bool)
    if min(mask.shape) >= side:
        views = np.lib.stride_tricks.sliding_window_view(mask, side, axis=0).all(axis=-1)
        views = np.lib.stride_tricks.sliding_window_view(views, side, axis=1).all(axis=-1)
        corners[: views.shape[0], : views.shape[1]] = views
    return corners


def regions(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number from 1 on for every region of True pixels joined by their sides, 0 elsewhere; mask: (rows, columns).

    Numbered in the order of their first pixels. Runs along rows are joined by passing on the smallest number, which
    takes as many rounds as a region has turns at worst and the logarithm of that as a rule.
    """
    begins = mask.copy()
    begins[:, 1:] &= ~mask[:, :-1]
    runs = np.where(mask, np.cumsum(begins).reshape(mask.shape), 0)
    joined = mask[:-1] & mask[1:]
    # Of pixels side by side that join the same two runs the first is enough.
    joined[:, 1:] &= ~(joined[:, :-1] & mask[:-1, :-1] & mask[1:, :-1])
    above, below = runs[:-1][joined], runs[1:][joined]
    root = np.arange(int(begins.sum()) + 1)
    while True:
        least = np.minimum(root[above], root[below])
        before = root.copy()
        np.minimum.at(root, before[above], least)
        np.minimum.at(root, before[below], least)
        root = root[root]
        if np.array_equal(root, before):
            break
    _, numbers = np.unique(root, return_inverse=True)
    return np.asarray(numbers[runs])


def backscatter_db(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Backscatter in dB, 10 log10(power), NaN where `power` is no measurement; same shape, never infinite.

    Rounded to what a shard stores, 0.01 dB, so that a look has the same values before and after: the rounding is at
    most 0.005 dB, speckle is about 2 dB. Resample before, in linear power: the mean of decibels is not the decibel of
    the mean.
    """
    floored = np.maximum(mask_power(power), np.float32(POWER_FLOOR))
    radar = MEMBERS["s1"]
    return radar.physical(radar.stored(10.0 * np.log10(floored)))


def s2_valid(dn: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Where every band has a measurement; dn: (bands, rows, columns) → (rows, columns)."""
    return np.asarray((dn != S2_NODATA).all(axis=0))


def s1_valid(db: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where every polarisation has a measurement; db: (bands, rows, columns) → (rows, columns)."""
    return np.asarray(np.isfinite(db).all(axis=0))


def fraction(mask: NDArray[np.bool_]) -> float:
    """Share of True, in [0, 1]."""
    return float(np.count_nonzero(mask)) / mask.size


def s2_valid_10m(members: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """The 10 m pixels at which all bands of all resolutions have a measurement, shape (rows, columns).

    members: `s2_10m`, `s2_20m` and `s2_60m` of one look; a coarse pixel speaks for all 10 m pixels under it.
    """
    valid = s2_valid(members[S2_MEMBERS[0]])
    for name in S2_MEMBERS[1:]:
        factor = MEMBERS[name].factor
        valid = valid & s2_valid(members[name]).repeat(factor, axis=0).repeat(factor, axis=1)
    return valid


def s2_valid_fraction(members: Mapping[str, NDArray[Any]]) -> float:
    """Share of the 10 m pixels at which all bands of all resolutions have a measurement; as `s2_valid_10m`."""
    return fraction(s2_valid_10m(members))


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
