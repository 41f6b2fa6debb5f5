"""Sentinel-1 images of the sandbox: backscatter of the land, moisture, viewing geometry and speckle."""

import math
from dataclasses import dataclass

import numpy as np

from geossl_data.bands import S1_BANDS
from geossl_data.sandbox.land import Ground, Land
from geossl_data.sandbox.noise import FloatArray, Frame, smooth_noise, stream, uniform
from geossl_data.sandbox.schedule import RadarPass, day_of_year
from geossl_data.sandbox.surfaces import WATER

LOOKS = 4.4
"""Equivalent number of looks of ground-range-detected products (Sentinel-1 product specification)."""
_MANTISSA_BITS = 6
"""Kept of the 23: off by at most 0.034 dB, a sixtieth of the speckle, at half the size of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swath:
    """Moisture, wind and geometry of one Sentinel-1 pass; unknown to Sentinel-2."""

    key: int
    year: int
    day: float
    moisture_db: float
    wind_db: float
    tilt_db: float
    """Change of backscatter from the middle to the east edge of the region, by the incidence angle."""
    look_east: float
    """1 where the radar looks east (ascending), -1 where it looks west."""


def make_swath(land: Land, item: RadarPass, seed: int) -> Swath:
    """The state of a pass, from seed, region and date."""
    key = stream(seed, land.region.name, "swath", item.acquired.isoformat())
    draws = uniform(key, 0, np.arange(4))
    look_east = 1.0 if item.state == "ascending" else -1.0
    return Swath(
        key=key,
        year=item.acquired.year,
        day=day_of_year(item.acquired),
        moisture_db=float((draws[0] - 0.5) * 2.0),
        wind_db=float(draws[1] ** 2 * 6.0 - 1.5),
        tilt_db=float(-look_east * (0.5 + 1.3 * draws[2])),
        look_east=look_east,
    )


def powers(land: Land, swath: Swath) -> FloatArray:
    """Mean linear power of every unit in a pass, shape (2, units): VV, VH, before geometry and speckle."""
    table = land.units_in(swath.year).gamma_naught(land.region.climate, swath.day)
    wet = np.where(land.units.klass == WATER, swath.wind_db, swath.moisture_db)
    return np.asarray(10 ** ((table + np.array([[1.0], [0.7]]) * wet) / 10), np.float32)


def render(
    frame: Frame,
    ground: Ground,
    table: FloatArray,
    swath: Swath,
    middle: float,
    reach: float,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """One strip of a Sentinel-1 scene, before any pixel is lost: VV and VH, gamma naught in linear power, > 0.

    table: `powers` of the pass. middle, reach: column of the region's middle and half its width, between which the
    incidence angle varies. rng: of this strip of this scene, for the speckle, which is gamma-distributed with mean 1
    and shape LOOKS.
    """
    common = np.float32(0.8) * smooth_noise(frame, 170.0, stream(swath.key, "moisture"))
    common += np.float32(swath.tilt_db) * np.clip((frame.cols_at - middle) / reach, -1.2, 1.2).astype(np.float32)
    factor = np.exp(common * np.float32(math.log(10) / 10))
    factor *= np.clip(
        np.float32(1) + np.float32(0.8 * swath.look_east) * ground.slope_east, np.float32(0.6), np.float32(1.5)
    )
    texture = np.float32(1) + np.float32(0.9) * ground.crowns
    texture += _CLUMPING[ground.klass] * ground.clumps
    factor *= np.maximum(texture, np.float32(0.15))
    unit = ground.unit.astype(np.intp)
    images: dict[str, FloatArray] = {}
    for index, band in enumerate(S1_BANDS):
        speckle = rng.standard_gamma(LOOKS, size=unit.shape, dtype=np.float32) / np.float32(LOOKS)
        images[band] = rounded(np.maximum(table[index][unit] * factor * speckle, np.float32(1e-5)))
    return images


# Relative height of the coarse texture that the radar sees, by class 0 to 10.
_CLUMPING = np.array([0, 0.03, 0.10, 0.16, 0.03, 0.04, 0.25, 0.08, 0.22, 0.12, 0.05], np.float32)


def rounded(power: FloatArray) -> FloatArray:
    """Powers rounded to _MANTISSA_BITS binary digits after the leading one, half away from 0; finite float32."""
    drop = 23 - _MANTISSA_BITS
    bits = power.view(np.uint32) + np.uint32(1 << (drop - 1))
    return (bits & np.uint32(~((1 << drop) - 1) & 0xFFFFFFFF)).view(np.float32)
