"""Random fields that are functions of position: any window of them, cut anywhere, holds the same numbers.

A hash of the lattice node takes the place of a random generator, so that tiles, sensors and strips of a scene agree on
the ground they share without having been made together.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]

_BSPLINE_STD = 151 / 315
"""Standard deviation of cubic B-spline interpolation of unit white noise: √∫B₃² = √(151/315) along each axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A window on a region's plane, in units of 10 m pixels: columns run east, rows run south."""

    col: float
    """West edge; fractional where a raster does not lie on the plane's lattice."""
    row: float
    """North edge."""
    width: int
    height: int
    step: float = 1.0
    """Pixel side in units of 10 m."""

    def rows(self, start: int, count: int) -> "Frame":
        """The strip of `count` pixel rows that begins at row `start` of this frame."""
        return Frame(col=self.col, row=self.row + start * self.step, width=self.width, height=count, step=self.step)

    def moved(self, cols: float, rows: float) -> "Frame":
        """The same frame elsewhere."""
        return Frame(col=self.col + cols, row=self.row + rows, width=self.width, height=self.height, step=self.step)

    @property
    def cols_at(self) -> NDArray[np.float64]:
        """Column coordinate of every pixel centre, shape (width,)."""
        return np.asarray(self.col + (np.arange(self.width) + 0.5) * self.step, np.float64)

    @property
    def rows_at(self) -> NDArray[np.float64]:
        """Row coordinate of every pixel centre, shape (height,)."""
        return np.asarray(self.row + (np.arange(self.height) + 0.5) * self.step, np.float64)


def stream(*parts: int | str) -> int:
    """A 64-bit key for one random field, from a seed and the field's name; unequal names give unrelated fields."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hashed(key: int, i: ArrayLike, j: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for every pair of integers, a function of (key, i, j) alone; broadcasts.

    The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), applied after each coordinate.
    """
    with np.errstate(over="ignore"):
        value = np.asarray(i).astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        value = _mixed(value)
        return _mixed(value + np.asarray(j).astype(np.int64).view(np.uint64) * np.uint64(0xD1B54A32D192ED03))


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def uniform(key: int, i: ArrayLike, j: ArrayLike) -> NDArray[np.float64]:
    """Random numbers in [0, 1), one for each pair of integers; broadcasts."""
    return (hashed(key, i, j) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _spline(position: NDArray[np.float64]) -> tuple[NDArray[np.int64], FloatArray]:
    """First lattice node and the four cubic B-spline weights at each position, shapes (n,) and (4, n)."""
    node = np.floor(position)
    t = position - node
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3],
    )
    return node.astype(np.int64) - 1, (weights / 6).astype(np.float32)


def smooth_noise(frame: Frame, wavelength: float, key: int) -> FloatArray:
    """A smooth random field of mean 0 and standard deviation 1, shape (height, width), nearly Gaussian.

    wavelength: distance of the lattice nodes, in units of 10 m. Cubic B-spline interpolation of white noise.
    """
    first_col, weights_col = _spline(frame.cols_at / wavelength)
    first_row, weights_row = _spline(frame.rows_at / wavelength)
    lattice_cols = np.arange(first_col[0], first_col[-1] + 4)
    lattice_rows = np.arange(first_row[0], first_row[-1] + 4)
    white = uniform(key, lattice_rows[:, None], lattice_cols[None, :]) - 0.5
    lattice = (white * (12**0.5 / _BSPLINE_STD)).astype(np.float32)
    at_col, at_row = first_col - first_col[0], first_row - first_row[0]
    along = lattice[:, at_col] * weights_col[0]
    for k in (1, 2, 3):
        along += lattice[:, at_col + k] * weights_col[k]
    field = along[at_row] * weights_row[0][:, None]
    for k in (1, 2, 3):
        field += along[at_row + k] * weights_row[k][:, None]
    return np.asarray(field)


def fractal_noise(frame: Frame, wavelength: float, key: int, *, octaves: int) -> FloatArray:
    """A rough random field of standard deviation 1: octaves at half the wavelength and half the height each."""
    field = smooth_noise(frame, wavelength, key)
    for octave in range(1, octaves):
        field += smooth_noise(frame, wavelength / 2**octave, stream(key, octave)) * np.float32(0.5**octave)
    return np.asarray(field / np.float32(sum(0.25**octave for octave in range(octaves)) ** 0.5))


def smoothstep(value: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, and a smooth rise between."""
    clipped = np.clip(value, np.float32(0), np.float32(1))
    return np.asarray(clipped * clipped * (np.float32(3) - np.float32(2) * clipped))


def block_mean(image: FloatArray, factor: int) -> FloatArray:
    """Mean of square blocks of `factor` pixels a side; the shape must be a multiple of `factor`."""
    height, width = image.shape
    columns = image.reshape(height, width // factor, factor)
    narrow = sum(columns[:, :, k] for k in range(factor))
    rows = np.asarray(narrow).reshape(height // factor, factor, width // factor)
    return np.asarray(sum(rows[:, k] for k in range(factor)), dtype=np.float32) / np.float32(factor * factor)
