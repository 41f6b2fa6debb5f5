"""How much a place changed over the years, from coarse images of its looks. Pure functions of arrays.

The idea is that of change-aware contrastive learning (CACo, Mall et al. 2023, equation 3): the difference between two
periods, over the difference between the seasons within one. There it is taken between learnt features; here between
pixels, before there is any network, and in units of the noise of each pair of dates:

1. Two dates of one season are compared at every pixel after the later was predicted from the earlier by a linear fit
   over the scene, which takes up baselines, platforms, sun, haze and what the season did to everything alike. What is
   left is divided by its own robust spread over the scene: `distance`, about 1 where nothing changed.
2. Over all seasons the lower median is taken, so that one date under unseen cloud does not count.
3. What exceeds EXCESS times the noise, over the distance between seasons where that is larger than the noise, is the
   change of the pixel: `change_map`, 0 where nothing changed.
4. The score of a place is the mean of the top TOP_SHARE of its pixels: a clearing of a twentieth of it counts in full.

The fit refined on the pixels that changed least is the iterated normalisation of multivariate alteration detection
(Nielsen 2007, doi:10.1109/TIP.2006.888195, "IR-MAD"), with trimming for weighting. Radar is compared as the ratio of
temporal means of linear power, in decibels, along one orbit only (Rignot and van Zyl 1993, doi:10.1109/36.239913).

A NaN is a pixel or a place of which nothing is known. Images are (bands, height, width), maps (height, width).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_NODATA, S2_QUANTIFICATION, SCL_CLOUD, SCL_NODATA

Image = NDArray[np.float32]
"""Shape (bands, height, width); NaN where nothing is measured."""
Map = NDArray[np.float32]
"""Shape (height, width); NaN where nothing is known."""
Mask = NDArray[np.bool_]

EPSILON = 1e-4
"""Keeps the ratio finite (CACo's own value)."""
EXCESS = 1.5
"""Distances up to so many times the noise count as no change: about 95 % of unchanged pixels (chi square)."""
TOP_SHARE = 0.05
"""Share of a place's pixels, the most changed ones, whose mean is its score."""
LEAST_VALID = 0.3
"""Least share of a place's pixels that has to be known for a score."""
LEAST_PIXELS = 500
"""Pixels valid on both dates that a pair of images needs for its fit and noise."""
KEPT_SHARE = 0.9
"""Share of the pixels, the least different ones, on which the fit of two dates rests.

Less would stand more change, but take rare land, which follows seasons of its own, for changed. With this share a
sixth of a block that changed to one and the same thing is still found in full; of a third the fit takes up most.
"""
FIT_ROUNDS = 8
FIT_PIXELS = 10_000
"""How many pixels, drawn at random but always the same, are fitted to at most."""
REFLECTANCE_FLOOR = 0.002
"""Noise below which no pair of optical images is taken to be, as reflectance: a tenth of Sen2Cor's own error."""
DECIBEL_FLOOR = 0.1
"""The same for radar, after multi-looking."""
POWER_FLOOR = 1e-6

SCL_UNUSED = (SCL_NODATA, 1, *SCL_CLOUD, 11)
"""Scene classes that are no view of the ground: none, saturated, shadow, clouds, and snow, which hides it."""
ENTROPY_BINS = 64
ENTROPY_BIN_WIDTH = 0.01
"""As reflectance; the last bin takes all that is brighter."""


def change_ratio(
    d_long: NDArray[np.floating], d_short: NDArray[np.floating], eps: float = EPSILON
) -> NDArray[np.float64]:
    """Difference between periods over difference between seasons, d_long / (d_short + eps); elementwise.

    Both >= 0. 0 where d_long is, also where nothing differs at all. CACo (Mall et al. 2023), equation 3.
    """
    return np.asarray(d_long, dtype=np.float64) / (np.asarray(d_short, dtype=np.float64) + eps)


# ------------------------------------------------------------------------------------------------ images


def reflectance(dn: NDArray[np.uint16], offset: int, classes: NDArray[np.uint8] | None, grown_px: int = 1) -> Image:
    """Reflectance of the ground, NaN where there is no data, cloud, shadow, saturation or snow.

    dn: as stored, shape (bands, height, width), 0 no data. offset: what has to be added, undone here, before anything
    is compared. classes: of the scene classification; None where there is none. grown_px: by so many pixels the
    invalid ground grows, since a class stands for one pixel of those that were averaged.
    """
    hidden = np.zeros(dn.shape[1:], dtype=bool) if classes is None else np.isin(classes, SCL_UNUSED)
    invalid: Mask = np.asarray((dn == S2_NODATA).any(axis=0) | hidden)
    values = np.maximum(dn.astype(np.int32) + offset, 1).astype(np.float32) / np.float32(S2_QUANTIFICATION)
    return np.where(grown(invalid, grown_px), np.float32(np.nan), values)


def decibels(power: Image) -> Image:
    """Backscatter in dB of linear power, averaged over 3 × 3 pixels before; NaN where any polarisation is.

    The invalid ground grows by a pixel: at the edge of a scene overviews mix measurements with nothing.
    """
    unknown = np.asarray(~np.isfinite(power).all(axis=0))
    known = ~grown(unknown, 1)
    mean = smoothed(np.where(known, power, np.float32(np.nan)))
    return (10 * np.log10(np.maximum(mean, POWER_FLOOR))).astype(np.float32)


def mean_power(powers: Sequence[Image]) -> Image:
    """Mean over dates of linear power, over the dates that have a measurement; NaN where none has."""
    total = np.zeros(powers[0].shape, dtype=np.float64)
    count = np.zeros(powers[0].shape, dtype=np.int64)
    for power in powers:
        known = np.isfinite(power)
        total += np.where(known, power, 0)
        count += known
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def period_means(early: Sequence[Image], late: Sequence[Image]) -> tuple[Image, Image]:
    """Temporal means of linear power of two periods, from the dates on which both have a measurement.

    early, late: season by season, of one orbit. A season counts at a pixel with both its dates or not at all, so that
    no season weighs on one side only.
    """
    both = [np.isfinite(a) & np.isfinite(b) for a, b in zip(early, late, strict=True)]
    nothing = np.float32(np.nan)
    return (
        mean_power([np.where(known, image, nothing) for known, image in zip(both, early, strict=True)]),
        mean_power([np.where(known, image, nothing) for known, image in zip(both, late, strict=True)]),
    )


def grown(mask: Mask, pixels: int) -> Mask:
    """The mask and all pixels next to it, corners included, so many times; same shape."""
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        rows = padded[:-2] | padded[1:-1] | padded[2:]
        mask = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return mask


def smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the known values in the 3 × 3 pixels around each, over the last two axes; NaN stays NaN."""
    known = np.isfinite(values)
    total = _summed(np.where(known, values, 0).astype(np.float64))
    count = _summed(known.astype(np.float64))
    return np.where(known, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)])
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return np.asarray(rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:])


# ------------------------------------------------------------------------------------------------ pairs of dates


def distance(before: Image, after: Image, floor: float) -> Map:
    """How far two dates are from each other at every pixel, in units of the pair's noise; NaN unless both are known.

    The later image is fitted by all bands of the earlier one, a constant and a plane, on the KEPT_SHARE of the pixels
    that differ least, refined FIT_ROUNDS times. The distance is the root mean square over the bands of what is left,
    whitened with its covariance, which is scaled so that the median is that of chi square. Averaged over 3 × 3 pixels.
    floor: least noise, in the images' own unit. All NaN where fewer than LEAST_PIXELS are known on both dates.
    """
    n_bands, height, width = after.shape
    result = np.full(height * width, np.nan, dtype=np.float32)
    x, y = before.reshape(len(before), -1), after.reshape(n_bands, -1)
    known = np.flatnonzero(np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0))
    if len(known) < LEAST_PIXELS:
        return result.reshape(height, width)
    plane = np.stack([known // width / height, known % width / width, np.ones(len(known))])
    inputs = np.concatenate([x[:, known].astype(np.float64), plane])
    outputs = y[:, known].astype(np.float64)
    # Drawn, since every other pixel of a row would see one phase only of fields and streets.
    few = np.sort(np.random.default_rng(0).choice(len(known), min(len(known), FIT_PIXELS), replace=False))
    weights, covariance = _fitted(inputs[:, few], outputs[:, few], floor)
    rest = np.linalg.solve(np.linalg.cholesky(covariance), outputs - weights @ inputs)
    result[known] = np.sqrt(np.mean(rest**2, axis=0))
    return smoothed(result.reshape(height, width))


def _fitted(
    x: NDArray[np.float64], y: NDArray[np.float64], floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (bands of y, bands of x) of the robust fit of y by x, and the covariance of the noise around it."""
    n_bands = len(y)
    least = floor**2 * np.eye(n_bands)
    kept = np.ones(x.shape[1], dtype=bool)
    weights: NDArray[np.float64] = np.zeros((n_bands, len(x)))
    covariance, squares = least, np.zeros(x.shape[1])
    for _ in range(FIT_ROUNDS):
        of_kept = x[:, kept]
        weights = y[:, kept] @ of_kept.T @ np.linalg.pinv(of_kept @ of_kept.T, rcond=1e-12, hermitian=True)
        rest = y - weights @ x
        covariance = rest[:, kept] @ rest[:, kept].T / np.count_nonzero(kept)
        squares = np.einsum("in,ij,jn->n", rest, np.linalg.inv(covariance + least), rest)
        kept = squares <= np.quantile(squares, KEPT_SHARE)
    # Median of chi square with k degrees of freedom, to 2 % from k = 2 on (Wilson and Hilferty 1931).
    middle = n_bands * (1 - 2 / (9 * n_bands)) ** 3
    return weights, covariance * (np.median(squares) / middle) + least


def lower_median(maps: Sequence[Map]) -> Map:
    """The median over maps of what is known at each pixel, the lower of the two middle ones; NaN where nothing is."""
    stack = np.sort(np.stack(maps), axis=0)
    known = np.isfinite(stack).sum(axis=0)
    return np.asarray(np.take_along_axis(stack, np.maximum((known - 1) // 2, 0)[None], axis=0)[0])


def change_map(long: Sequence[Map], short: Sequence[Map]) -> Map:
    """Change of every pixel: 0 for none, from about 1 on surely some; NaN where no aligned pair is known.

    long: distances of same-season dates of two periods, at least one. short: distances of seasons within a period;
    where there is none, the noise is what the long-term distance is compared with.
    """
    far = lower_median(long)
    usual = lower_median(short) if short else np.full_like(far, np.nan)
    return change_ratio(np.maximum(far - EXCESS, 0), np.fmax(usual, 1)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ places


def upper_mean(values: Map, share: float = TOP_SHARE) -> float:
    """Mean of the largest values of a place's window: of `share` of its pixels; NaN below LEAST_VALID known ones."""
    known = values[np.isfinite(values)]
    if not values.size or known.size < LEAST_VALID * values.size:
        return float("nan")
    count = max(1, round(share * values.size))
    return float(np.sort(known)[-count:].mean())


def combined(s2: NDArray[np.floating], s1: NDArray[np.floating]) -> NDArray[np.float64]:
    """Change by both sensors: the root of the sum of squares; where one is NaN the other's, NaN where both are."""
    both = np.hypot(np.nan_to_num(s2), np.nan_to_num(s1)).astype(np.float64)
    return np.where(np.isnan(s2) & np.isnan(s1), np.nan, both)


def spectral_entropy(image: Image) -> float:
    """Shannon entropy of a place's reflectances, mean over the bands, in bits, 0 to 6; NaN if little is known.

    Each band's histogram has ENTROPY_BINS bins of ENTROPY_BIN_WIDTH from 0 on, the same for all places, so that
    uniform ground has none and variety counts in its own unit. A definition of ours for what "Pretrain Where?"
    (arXiv 2604.21104) finds to go along with the use of a sample.
    """
    known = image[:, np.isfinite(image).all(axis=0)]
    if not image.size or known.shape[1] < LEAST_VALID * image[0].size:
        return float("nan")
    bins = np.clip(known / ENTROPY_BIN_WIDTH, 0, ENTROPY_BINS - 1).astype(np.int64)
    bits = []
    for band in bins:
        shares = np.bincount(band) / band.size
        shares = shares[shares > 0]
        bits.append(-(shares * np.log2(shares)).sum())
    return float(np.mean(bits))


def moments(images: Sequence[Image]) -> NDArray[np.float64]:
    """Mean of each band over all that is known in a place's images, then the standard deviations, shape (2 × bands,).

    NaN where less than LEAST_VALID of one image is known in all of them together.
    """
    known = [image[:, np.isfinite(image).all(axis=0)] for image in images]
    values = np.concatenate(known, axis=1).astype(np.float64)
    if values.shape[1] < LEAST_VALID * images[0][0].size:
        return np.full(2 * len(images[0]), np.nan)
    return np.concatenate([values.mean(axis=1), values.std(axis=1)])
