"""How far the radar image of a look lies from its optical image: an estimate to audit a data set with.

The two sensors see different things, but field borders, shores and streets are edges to both. So the strength of the
edges is compared, not the images: its phase correlation (Kuglin and Hines 1975) has a peak where the one lies on the
other. How well this tells the shift depends on the ground; `peak` says how far it stands out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.sampling.change import grown

REACH_PX = 12
"""Largest shift that is looked for along each axis; products that are further off are not of this place."""
LEAST_SIDE_PX = 5 * REACH_PX
"""Windows with a shorter side hold too few edges beside those that a shift moves out."""
LEAST_VALID = 0.3
"""Share of the window in which both sensors have to see the ground."""
LEAST_PEAK = 7.0
"""How many standard deviations the peak has to stand above the rest of what is searched.

Unrelated ground reached it in 1 % of windows of 72 px and in 0.2 % of 120 px; at 264 px it stayed below 5.
"""
OPTICAL_PASSES, RADAR_PASSES = 1, 4
"""How often each image is smoothed by (1 2 1)/4 along both axes before its edges are taken; radar for its speckle."""
PASSBAND = 0.1
"""Standard deviation, in cycles per pixel, of the Gaussian that weighs frequencies: higher ones are speckle."""
PEAK_RADIUS_PX = 3
"""What belongs to the peak and not to the rest."""

EVEN = 1e-6
"""Gradients below this share of the mean are no edges but rounding."""

Edges = NDArray[np.float32]
Spectrum = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Where the radar image lies, seen from the optical one, in pixels."""

    dx_px: float
    """To the right (east)."""
    dy_px: float
    """Downwards (south)."""
    peak: float
    """How many standard deviations the peak stands above the rest, at least LEAST_PEAK."""


def estimated_shift(
    optical: NDArray[np.floating[Any]], radar_db: NDArray[np.floating[Any]], valid: NDArray[np.bool_]
) -> Shift | None:
    """The shift between the two images of a look; None where the ground does not tell.

    optical: reflectance or digital numbers, shape (height, width) or (bands, height, width). radar_db: decibels, shape
    (height, width) or (bands, height, width). valid: where both images show the ground, shape (height, width); what the
    images hold elsewhere, NaN as well, has no influence.

    Edge strength is the gradient's magnitude of every band after smoothing, over its own mean square, added over the
    bands; its square root is taken so that a few bright edges do not decide. Under a Hann window, the cross power
    spectrum is normalised, weighed with PASSBAND and transformed back; the peak within REACH_PX is refined by a
    parabola along each axis. None: a side below LEAST_SIDE_PX, less than LEAST_VALID valid, a band without edges, a
    peak at the limit of the search, or one below LEAST_PEAK.
    """
    height, width = valid.shape
    if min(height, width) < LEAST_SIDE_PX or np.count_nonzero(valid) < LEAST_VALID * valid.size:
        return None
    # A pixel's edge strength is made of the pixels up to one further than it was smoothed.
    reach = RADAR_PASSES + 1
    known = ~grown(~valid, reach)[reach:-reach, reach:-reach]
    if not known.any():
        return None
    window = _hann(*known.shape) * known
    spectra = []
    for image, passes in ((optical, OPTICAL_PASSES), (radar_db, RADAR_PASSES)):
        strength = _edge_strength(_planes(image), valid, known, passes)
        if strength is None:
            return None
        spectra.append(_spectrum(strength, window))
    return _peak(_correlation(*spectra))


def _planes(image: NDArray[np.floating[Any]]) -> Sequence[NDArray[np.floating[Any]]]:
    return [image] if image.ndim == 2 else list(image)


def _edge_strength(
    planes: Sequence[NDArray[np.floating[Any]]], valid: NDArray[np.bool_], known: NDArray[np.bool_], passes: int
) -> Edges | None:
    """Square root of the summed gradients' magnitudes, smaller by RADAR_PASSES + 1 on each side; None without edges."""
    total = np.zeros(known.shape, dtype=np.float32)
    spare = RADAR_PASSES - passes
    inner = tuple(slice(spare, side - spare) for side in valid.shape)
    for plane in planes:
        values = np.where(valid, plane, np.float32(0)).astype(np.float32, copy=False)
        mean = values.sum(dtype=np.float64) / np.count_nonzero(valid)
        smooth = _smoothed(np.where(valid, values - np.float32(mean), np.float32(0))[inner], passes)
        squares = np.square(smooth[1:-1, 2:] - smooth[1:-1, :-2]) + np.square(smooth[2:, 1:-1] - smooth[:-2, 1:-1])
        power = np.where(known, squares, np.float32(0)).sum(dtype=np.float64) / np.count_nonzero(known)
        # What rounding alone makes of an even image is no edge.
        if not power > (EVEN * max(abs(mean), 1.0)) ** 2:
            return None
        total += np.sqrt(squares * np.float32(1 / power))
    return np.sqrt(total)


def _smoothed(values: Edges, passes: int) -> Edges:
    """The image after so many passes of (1 2 1)/4 along both axes; smaller by a pixel on each side for each pass."""
    for _ in range(passes):
        rows = values[:-2] + 2 * values[1:-1] + values[2:]
        values = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / np.float32(16)
    return values


def _hann(height: int, width: int) -> Edges:
    """Hann window without the zeros at its ends."""
    return np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)


def _spectrum(strength: Edges, window: Edges) -> Spectrum:
    """Transform of what differs from the mean under the window, so that the window itself does not correlate.

    Filled up with zeros to a size that transforms quickly.
    """
    mean = np.float32((strength * window).sum(dtype=np.float64) / window.sum(dtype=np.float64))
    height, width = (_quick_size(side) for side in strength.shape)
    return np.fft.rfft2((strength - mean) * window, s=(height, width))


def _quick_size(least: int) -> int:
    """The smallest whole number from `least` on whose only prime factors are 2, 3 and 5."""
    size = least
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1 and size % 2 == 0:
            return size
        size += 1


def _correlation(optical: Spectrum, radar: Spectrum) -> NDArray[np.floating[Any]]:
    """Phase correlation for shifts of -REACH_PX - 1 to REACH_PX + 1, rows then columns."""
    height, width = len(optical), 2 * (optical.shape[1] - 1)
    cross = radar * np.conj(optical)
    weights = np.outer(_passband(np.fft.fftfreq(height)), _passband(np.fft.rfftfreq(width)))
    normalised = cross * (weights / np.maximum(np.abs(cross), np.finfo(np.float32).tiny))
    reach = np.arange(-REACH_PX - 1, REACH_PX + 2)
    return np.asarray(np.fft.irfft2(normalised, s=(height, width))[np.ix_(reach, reach)])


def _passband(frequency: NDArray[np.floating[Any]]) -> Edges:
    return np.asarray(np.exp(-np.square(frequency) / (2 * PASSBAND**2)), dtype=np.float32)


def _peak(surface: NDArray[np.floating[Any]]) -> Shift | None:
    """The highest point, refined, and how far it stands out; None at the rim or where it stands out too little."""
    row, column = (int(at) for at in np.unravel_index(int(surface.argmax()), surface.shape))
    last = len(surface) - 1
    if not (0 < row < last and 0 < column < last):
        return None
    rest = np.ones(surface.shape, dtype=bool)
    radius = PEAK_RADIUS_PX
    rest[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1] = False
    peak = float((surface[row, column] - surface[rest].mean()) / surface[rest].std())
    if not peak >= LEAST_PEAK:
        return None
    middle = REACH_PX + 1
    return Shift(
        dx_px=column - middle + _vertex(*surface[row, column - 1 : column + 2]),
        dy_px=row - middle + _vertex(*surface[row - 1 : row + 2, column]),
        peak=peak,
    )


def _vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three neighbouring values has its top, from the middle one, in (-1/2, 1/2]."""
    bend = before - 2 * at + after
    return float((before - after) / (2 * bend)) if bend < 0 else 0.0
