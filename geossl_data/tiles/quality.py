"""How good a look is: what hides the ground, what the numbers are like, how varied they are, how well it fits.

Pure functions of arrays. Results are JSON-able: finite numbers or None, numbers that are not counts rounded to
DIGITS significant digits, so that their text does not depend on the order in which a machine adds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, S2_MEMBERS, S2_NODATA, SCL_CLASSES, SCL_GROUPS, SCL_NODATA
from geossl_data.sampling.change import reflectance, spectral_entropy
from geossl_data.sampling.measures import GROWN_M, MEASURED_S2
from geossl_data.tiles.coarse import coarse_resolution
from geossl_data.tiles.radiometry import fraction, s1_valid, s2_valid_10m
from geossl_data.tiles.registration import estimated_shift

DIGITS = 6
ENTROPY_RESOLUTIONS_M = (20, 40, 60, 80, 160)
"""Pixels on which variety is measured: the coarsest that fills the window and is no coarser than for candidates."""
SHIFT_BANDS = ("B04", "B08")
"""Bands whose edges are compared with those of the radar: soil and roofs in the one, plants and water in the other."""
UNSEEN_CLASSES = (*SCL_GROUPS["shadow"], *SCL_GROUPS["cloud"], *SCL_GROUPS["saturated"])
"""Scene classes whose edges are not those of the ground."""

Statistics = dict[str, float | None]


def scl_fractions(scl: NDArray[np.uint8] | None) -> dict[str, Any]:
    """What the scene classification says of a look.

    scl: classes, shape (rows, columns), 0 where there is none; None for a look without a classification.
    Returns `classified`, the share of all pixels that have a class (1 to 11), in [0, 1]; the share of each group of
    `bands.SCL_GROUPS` among these, so that the groups add up to 1, None where nothing is classified; and `histogram`,
    the number of pixels of classes 0 to 11. `cloud` and `shadow` add up to `radiometry.cloud_fraction`.
    """
    counts = np.zeros(SCL_CLASSES, dtype=np.int64)
    if scl is not None:
        counts = np.bincount(scl.ravel(), minlength=SCL_CLASSES)[:SCL_CLASSES]
    classified = int(counts.sum() - counts[SCL_NODATA])
    shares = {
        name: _rounded(int(counts[list(classes)].sum()) / classified) if classified else None
        for name, classes in SCL_GROUPS.items()
    }
    of_all = 0.0 if scl is None or not scl.size else _rounded(classified / scl.size)
    return {"classified": of_all, **shares, "histogram": counts.tolist()}


def band_statistics(values: NDArray[Any], valid: NDArray[np.bool_]) -> list[Statistics]:
    """Statistics of each band by the names of STAC's `statistics` object, over its valid pixels.

    values: (bands, rows, columns), in any unit. valid: the same shape, or (rows, columns) for all bands.
    Returns for each band minimum, maximum, mean and stddev (of the population) in the unit of the values, None where no
    pixel is valid, and valid_percent, 0 to 100. Computed in float64. Valid pixels have to be finite.
    """
    masks = np.broadcast_to(valid, values.shape)
    return [
        _statistics(band.ravel() if mask.all() else band[mask], band.size)
        for band, mask in zip(values, masks, strict=True)
    ]


def _statistics(known: NDArray[Any], n_pixels: int) -> Statistics:
    if not known.size:
        return {"minimum": None, "maximum": None, "mean": None, "stddev": None, "valid_percent": 0.0}
    numbers = known.astype(np.float64)
    mean = numbers.mean()
    numbers -= mean
    return {
        "minimum": _rounded(known.min()),
        "maximum": _rounded(known.max()),
        "mean": _rounded(mean),
        "stddev": _rounded((np.square(numbers, out=numbers).sum() / known.size) ** 0.5),
        "valid_percent": _rounded(100 * known.size / n_pixels),
    }


def look_quality(members: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """All measures of one look, JSON-able.

    members: arrays by member name as in `bands.MEMBERS`; what is absent is None in the result, or left out of the
    bands. Returns

    - `valid_fraction`: shares of the 10 m pixels at which all bands of `s2`, of `s1`, and of `both` have a measurement;
    - `scl`: as `scl_fractions`;
    - `statistics`: by band name, as `band_statistics`, in stored units (reflectance × 10000 without offset, dB);
    - `spectral_entropy`: bits per band, 0 to 6, as `window_entropy`;
    - `shift`: where the radar image lies, `dx_px` east, `dy_px` south and `peak`, as `registration.estimated_shift`.
    """
    optical_valid, radar_valid = _s2_valid(members), _s1_valid(members)
    both = None if optical_valid is None or radar_valid is None else optical_valid & radar_valid
    masks = {"s2": optical_valid, "s1": radar_valid, "both": both}
    return {
        "valid_fraction": {name: None if mask is None else _rounded(fraction(mask)) for name, mask in masks.items()},
        "scl": scl_fractions(members.get("scl")),
        "statistics": _all_statistics(members),
        "spectral_entropy": _known(window_entropy(members)),
        "shift": _shift(members, both),
    }


def window_entropy(members: Mapping[str, NDArray[Any]]) -> float:
    """Spectral entropy of a look in bits per band, 0 to 6; NaN without its bands or where little is known.

    That of `sampling.change`, taken as for candidates: of the bands of `sampling.measures`, on coarse pixels, with
    cloud, shadow, saturation and snow left out. Candidates are seen on overviews, which each archive averages its way.
    """
    names = [name for name in S2_MEMBERS if set(MEMBERS[name].bands) & set(MEASURED_S2)]
    if any(name not in members for name in names):
        return float("nan")
    size_px = members[names[0]].shape[-1] * MEMBERS[names[0]].factor
    resolution_m = _entropy_resolution(size_px)
    planes: dict[str, NDArray[np.uint16]] = {}
    for name in names:
        coarse = _block_means(members[name], resolution_m // MEMBERS[name].resolution_m)
        planes.update(zip(MEMBERS[name].bands, coarse, strict=True))
    classes = members.get("scl")
    if classes is not None:
        factor = resolution_m // MEMBERS["scl"].resolution_m
        classes = classes[factor // 2 :: factor, factor // 2 :: factor]
    numbers = np.stack([planes[band] for band in MEASURED_S2])
    return spectral_entropy(reflectance(numbers, 0, classes, max(1, round(GROWN_M / resolution_m))))


def _entropy_resolution(size_px: int) -> int:
    """Metres a pixel for a window of `size_px` 10 m pixels: 80 for 264, 60 for 246, 20 for 60."""
    coarsest = coarse_resolution(size_px)
    return max(side for side in ENTROPY_RESOLUTIONS_M if side <= coarsest and size_px * 10 % side == 0)


def _block_means(numbers: NDArray[np.uint16], factor: int) -> NDArray[np.uint16]:
    """Mean over the valid pixels of factor × factor blocks of each band, rounded; 0 where none is."""
    count = np.maximum(_block_sums((numbers != S2_NODATA).astype(np.uint16), factor), 1)
    return np.asarray(np.rint(_block_sums(numbers, factor) / count), dtype=np.uint16)


def _block_sums(values: NDArray[np.uint16], factor: int) -> NDArray[np.int64]:
    """Sums of factor × factor blocks over the last two axes, added row by row, then column by column."""
    rows = values[..., ::factor, :].astype(np.int64)
    for start in range(1, factor):
        rows += values[..., start::factor, :]
    sums = rows[..., ::factor].copy()
    for start in range(1, factor):
        sums += rows[..., start::factor]
    return sums


def _s2_valid(members: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
    return None if any(name not in members for name in S2_MEMBERS) else s2_valid_10m(members)


def _s1_valid(members: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
    return s1_valid(members["s1"]) if "s1" in members else None


def _all_statistics(members: Mapping[str, NDArray[Any]]) -> dict[str, Statistics]:
    found: dict[str, Statistics] = {}
    for name in (*S2_MEMBERS, "s1"):
        if name in members:
            values = members[name]
            valid = np.isfinite(values) if name == "s1" else values != S2_NODATA
            found.update(zip(MEMBERS[name].bands, band_statistics(values, valid), strict=True))
    return found


def _shift(members: Mapping[str, NDArray[Any]], both: NDArray[np.bool_] | None) -> dict[str, float] | None:
    if both is None:
        return None
    seen = both
    if "scl" in members:
        hidden = np.isin(members["scl"], UNSEEN_CLASSES)
        factor = MEMBERS["scl"].factor
        seen = both & ~hidden.repeat(factor, axis=0).repeat(factor, axis=1)
    member = MEMBERS[S2_MEMBERS[0]]
    optical = members[member.name][[member.bands.index(band) for band in SHIFT_BANDS]]
    shift = estimated_shift(optical, members["s1"], seen)
    if shift is None:
        return None
    return {"dx_px": _rounded(shift.dx_px), "dy_px": _rounded(shift.dy_px), "peak": _rounded(shift.peak)}


def _rounded(value: float) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def _known(value: float) -> float | None:
    return _rounded(value) if np.isfinite(value) else None
