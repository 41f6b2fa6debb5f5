"""Sentinel-2 images of the sandbox: land in its season, light on slopes, haze, clouds and their shadows, the offset."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import BANDS, SCL_BAND
from geossl_data.sandbox.land import Ground, Land, snow_cover
from geossl_data.sandbox.noise import (
    FloatArray,
    Frame,
    block_mean,
    fractal_noise,
    smooth_noise,
    smoothstep,
    stream,
    uniform,
)
from geossl_data.sandbox.schedule import S2_HOUR, OpticalPass, day_of_year, sun_position
from geossl_data.sandbox.surfaces import OPTICAL_BANDS, SNOW_SPECTRUM, WATER, bump

# How strongly haze acts on each band: falls with the wavelength, about as λ^-1.6.
_HAZE = np.array([1.0, 0.85, 0.68, 0.52, 0.47, 0.44, 0.40, 0.36, 0.34, 0.30, 0.13, 0.08], np.float32)
_CLOUD = np.array([1.0, 1.0, 0.99, 0.98, 0.98, 0.99, 1.0, 1.0, 1.0, 0.6, 0.75, 0.58], np.float32)
# Canopies are dark in visible light, so that their texture shows in the infrared.
_CROWNS = np.array([0.3, 0.3, 0.4, 0.4, 0.6, 0.9, 1.0, 1.0, 1.0, 1.0, 0.8, 0.7], np.float32)
_STEP = 4
"""Digital numbers between two levels of the instrument, which has 12 bits for a range of 1.6 in reflectance."""
_CLOUD_HEIGHT = 90.0
"""Of cloud tops above ground, 10 m pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sky:
    """Sun, air and clouds of one Sentinel-2 pass: shared by all tiles it covers, unknown to Sentinel-1."""

    key: int
    day: float
    elevation: float
    azimuth: float
    cloud_from: float | None
    """Value of the cloud field above which there is cloud; None where the sky is clear."""
    gain: float
    """Factor on all reflectances."""
    tilt: float
    """Rise of that factor from the first band to the last."""
    haze: float
    """Mean haze, 0 to about 0.3."""
    cirrus: bool
    snow: float
    """How far the land lies under snow, 0 to 1."""


def make_sky(land: Land, item: OpticalPass, extent: Frame, seed: int) -> Sky:
    """The sky of a pass, from seed, region and date; the share of cloud over `extent` is near the slot's."""
    region = land.region
    key = stream(seed, region.name, "sky", item.number)
    draws = uniform(key, 0, np.arange(6))
    elevation, azimuth = sun_position(region.latitude, day_of_year(item.acquired), S2_HOUR)
    when = region.climate.snow
    cloud = min(1.0, item.slot.cloud * (2.2 if region.wet and item.slot.cloud > 0.1 else 1.0))
    cloud_from = None
    if cloud >= 1:
        cloud_from = -9.0
    elif cloud > 0:
        # A fixed step, so that the threshold does not hang on how the raster is cut.
        step = 8.0 * max(1, extent.width // 2048)
        coarse = Frame(
            col=extent.col,
            row=extent.row,
            width=max(1, int(extent.width / step)),
            height=max(1, int(extent.height / step)),
            step=step,
        )
        cloud_from = float(np.quantile(_cloud_field(coarse, key), 1 - cloud))
    return Sky(
        key=key,
        day=day_of_year(item.acquired),
        elevation=elevation,
        azimuth=azimuth,
        cloud_from=cloud_from,
        gain=float(np.exp((draws[0] - 0.5) * 0.30)),
        tilt=float((draws[1] - 0.5) * 0.24),
        haze=float(0.02 + 0.15 * draws[2] ** 1.5),
        cirrus=bool(draws[3] < 0.3 and 0 < cloud < 1),
        snow=0.0 if when is None else float(bump(np.array(day_of_year(item.acquired)), when)),
    )


def _cloud_field(frame: Frame, key: int) -> FloatArray:
    return fractal_noise(frame, 150.0, stream(key, "cloud"), octaves=4)


def _cloud_cover(frame: Frame, sky: Sky) -> FloatArray:
    """Opacity of the clouds above each pixel, 0 to 1."""
    if sky.cloud_from is None:
        return np.zeros((frame.height, frame.width), np.float32)
    return smoothstep((_cloud_field(frame, sky.key) - np.float32(sky.cloud_from)) * np.float32(4))


def _sunlight(ground: Ground, sky: Sky) -> FloatArray:
    """Light on the slope over light on flat ground, softened by the light of the sky; about 1."""
    east = np.float32(math.sin(sky.azimuth) / math.tan(sky.elevation))
    north = np.float32(math.cos(sky.azimuth) / math.tan(sky.elevation))
    direct = np.float32(1) - ground.slope_east * east - ground.slope_north * north
    return np.asarray(np.clip(np.float32(0.35) + np.float32(0.65) * direct, np.float32(0.3), np.float32(1.8)))


def render(frame: Frame, ground: Ground, table: FloatArray, sky: Sky, offset: int) -> dict[str, NDArray[np.generic]]:
    """One strip of a Sentinel-2 scene, before any pixel is lost: band → raster at its own resolution.

    frame: 10 m pixels; both sides and both edges multiples of 6. Bands are uint16 digital numbers, at least 1,
    averaged from 10 m; SCL is uint8 at 20 m. table: `Units.reflectance` of the sky's day.
    """
    cloud, shade = _cloud_cover(frame, sky), _shadow(frame, sky)
    haze = _haze(frame, sky)
    light = _sunlight(ground, sky)
    light *= np.float32(sky.gain) * (
        np.float32(1) + np.float32(0.07) * smooth_noise(frame, 210.0, stream(sky.key, "light"))
    )
    snow = _snow(frame, ground, sky)
    cirrus = _cirrus(frame, sky)
    bright = np.float32(2600) + np.float32(4600) * cloud
    bright *= np.float32(1) + np.float32(0.12) * smooth_noise(frame, 24.0, stream(sky.key, "cloud tops"))
    unit = ground.unit.astype(np.intp)
    images: dict[str, NDArray[np.generic]] = {}
    clear: dict[str, FloatArray] = {}
    for index, band in enumerate(OPTICAL_BANDS):
        image = table[index][unit]
        if snow is not None:
            image += snow * (np.float32(SNOW_SPECTRUM[index]) - image)
        image *= light * np.float32(1 + sky.tilt * (index / 11 - 0.5))
        image *= np.float32(1) + _CROWNS[index] * ground.crowns
        if shade is not None:
            image *= np.float32(1) - shade * np.float32(0.62 - 0.02 * index)
        if band in ("B03", "B04", "B08", "B11"):
            clear[band] = block_mean(image, 2)
        image += haze * _HAZE[index] * (np.float32(2600) - np.float32(0.7) * image)
        if cirrus is not None:
            image += cirrus * (np.float32(4200) * _CLOUD[index] - image)
        if sky.cloud_from is not None:
            image += cloud * (bright * _CLOUD[index] - image)
        factor = BANDS[band].resolution_m // 10
        native = image if factor == 1 else block_mean(image, factor)
        steps = np.rint(native * np.float32(1 / _STEP)) * np.float32(_STEP) + np.float32(offset)
        images[band] = np.clip(steps, 1, 65535).astype(np.uint16)
    images[SCL_BAND] = _scene_classes(clear, ground, cloud, cirrus, shade, snow)
    return images


def _haze(frame: Frame, sky: Sky) -> FloatArray:
    field = np.float32(0.55) * smooth_noise(frame, 180.0, stream(sky.key, "haze", 0))
    field += np.float32(0.25) * smooth_noise(frame, 60.0, stream(sky.key, "haze", 1))
    return np.asarray(np.clip(np.float32(sky.haze) * (np.float32(1) + field), np.float32(0), np.float32(0.5)))


def _shadow(frame: Frame, sky: Sky) -> FloatArray | None:
    """Darkness of the cloud shadows, 0 to 1: the clouds that stand between a pixel and the sun."""
    if sky.cloud_from is None or sky.cloud_from < -8:
        return None
    reach = min(_CLOUD_HEIGHT / math.tan(sky.elevation), 220.0)
    towards_sun = frame.moved(reach * math.sin(sky.azimuth), -reach * math.cos(sky.azimuth))
    return _cloud_cover(towards_sun, sky)


def _snow(frame: Frame, ground: Ground, sky: Sky) -> FloatArray | None:
    if sky.snow <= 0:
        return None
    # Trees hide most of the snow on the ground; ice on water carries it.
    hidden = np.array([0, 0.95, 0.35, 0.25, 0.95, 0.95, 0.6, 0.85, 0.85, 0.65, 0.6], np.float32)
    return np.asarray(snow_cover(frame, stream(sky.key, "snow"), sky.snow) * hidden[ground.klass])


def _cirrus(frame: Frame, sky: Sky) -> FloatArray | None:
    if not sky.cirrus:
        return None
    veil = smooth_noise(frame, 240.0, stream(sky.key, "cirrus"))
    return np.float32(0.22) * smoothstep((veil - np.float32(1.1)) * np.float32(0.9))


def _scene_classes(
    clear: Mapping[str, FloatArray],
    ground: Ground,
    cloud: FloatArray,
    cirrus: FloatArray | None,
    shade: FloatArray | None,
    snow: FloatArray | None,
) -> NDArray[np.uint8]:
    """The scene classification at 20 m, with the codes of the level-2A processor, from what is really there.

    2 dark, 3 cloud shadow, 4 vegetation, 5 not vegetated, 6 water, 7 unclassified, 8 and 9 cloud of medium and high
    probability, 10 thin cirrus, 11 snow.
    """
    red, near = clear["B04"], clear["B08"]
    greenness = (near - red) / (near + red + np.float32(1))
    classes = np.where(greenness > 0.36, 4, 5).astype(np.uint8)
    classes[(greenness > 0.27) & (greenness <= 0.30)] = 7
    classes[(near < 900) & (red < 500)] = 2
    classes[block_mean((ground.klass == WATER).astype(np.float32), 2) > 0.5] = 6
    if snow is not None:
        classes[block_mean(snow, 2) > 0.4] = 11
    if shade is not None:
        classes[block_mean(shade, 2) > 0.35] = 3
    if cirrus is not None:
        classes[block_mean(cirrus, 2) > 0.04] = 10
    opacity = block_mean(cloud, 2)
    classes[opacity > 0.1] = 8
    classes[opacity > 0.55] = 9
    return classes
