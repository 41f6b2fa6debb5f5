"""Small pictures of one look, as a page shows them: colours, false colours, radar and scene classes.

The stretch is fixed, so that the looks of a place, and places of one dataset, can be compared by eye.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from imagecodecs import jpeg8_encode, png_encode
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, S2_QUANTIFICATION, SCL_BAND, SCL_CLASSES, SCL_NODATA, Member

SIDE_PX = 96
"""Side of a picture."""
TRUE_COLOUR, FALSE_COLOUR, RADAR, CLASSES, IMAGE = "true colour", "false colour", "radar", "classes", "image"

JPEG_QUALITY = 80
GREY = 128
"""Level of a pixel without a measurement, in all three colours."""
GAMMA = 0.75
"""Power of a share of the stretch: dark ground, which most ground is, is shown brighter."""
BRIGHTEST = {"nir": 0.5, "red": 0.3, "green": 0.3, "blue": 0.3}
"""Reflectance shown as the brightest level; 0 is black."""
VV_DB, VH_DB, RATIO_DB = (-25.0, 0.0), (-32.0, -5.0), (2.0, 14.0)
"""Backscatter shown as black and as full red, green and blue (VV less VH)."""
_LEAST_POWER = 1e-12

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("B04", "red", "R"),
    "green": ("B03", "green", "G"),
    "blue": ("B02", "blue", "B"),
    "nir": ("B08", "B8A", "nir", "nir08", "NIR"),
}
"""What bands are called that see a colour, the first that is there counts."""
SCL_PALETTE = np.array(
    [
        (GREY, GREY, GREY),  # no data
        (255, 0, 0),  # saturated
        (64, 64, 64),  # dark
        (130, 80, 30),  # cloud shadow
        (60, 160, 60),  # vegetation
        (235, 215, 90),  # bare
        (40, 90, 200),  # water
        (120, 120, 130),  # unclassified
        (190, 190, 190),  # cloud, medium probability
        (255, 255, 255),  # cloud, high probability
        (120, 200, 240),  # thin cirrus
        (255, 150, 255),  # snow
    ],
    dtype=np.uint8,
)
"""Colour of each scene class, close to those that the Sentinel-2 level-2A processor is documented with."""

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


def thumbnails(look: Mapping[str, Array], members: Mapping[str, Member], side: int = SIDE_PX) -> dict[str, bytes]:
    """Name → picture of one look, `side` pixels a side: JPEG, the classes PNG.

    look: stored numbers by member name, as `Shards.read` gives them. members: what they are.
    There are `true colour` (red, green, blue up to a reflectance of 0.3), `false colour` (near infrared up to 0.5, red,
    green), `radar` (VV, VH and their ratio in dB; grey where one of the two is missing) and `classes` (SCL), each where
    its bands are there; a look without any of the first three has an `image` of its first bands, stretched between
    their 2nd and 98th percentile, or as they are where they are bytes. Pixels without a measurement are grey.
    """
    bands = {
        band: (members[name], array if members[name].plane else array[position])
        for name, array in look.items()
        for position, band in enumerate(members[name].bands)
    }
    found: dict[str, bytes] = {}
    true = _colours(bands, ("red", "green", "blue"), side)
    if true is not None:
        found[TRUE_COLOUR] = _jpeg(true)
    false = _colours(bands, ("nir", "red", "green"), side)
    if false is not None:
        found[FALSE_COLOUR] = _jpeg(false)
    radar = _radar(bands, side)
    if radar is not None:
        found[RADAR] = _jpeg(radar)
    if not found:
        image = _image(look, members, side)
        found |= {} if image is None else {IMAGE: _jpeg(image)}
    if SCL_BAND in bands:
        found[CLASSES] = _classes(bands[SCL_BAND][1], side)
    return found


Bands = Mapping[str, tuple[Member, Array]]


def _colours(bands: Bands, colours: tuple[str, ...], side: int) -> FloatArray | None:
    """Shares of the brightest level in [0, 1], NaN without a measurement, (side, side, 3); None where one is missing.

    Bytes are levels themselves; other numbers have to be reflectance.
    """
    layers = []
    for colour in colours:
        name = next((name for name in COLOURS[colour] if name in bands), None)
        if name is None:
            return None
        member, stored = bands[name]
        unit = _brightest(member, colour)
        if unit is None:
            return None
        share = np.clip(resized(_physical(member, stored), side) / unit, 0.0, 1.0)
        layers.append(share if _is_bytes(member) else share**GAMMA)
    return np.stack(layers, axis=-1)


def _brightest(member: Member, colour: str) -> float | None:
    """The physical number shown as the brightest level; None where the member's unit says nothing of it."""
    if member.units == MEMBERS["s2_10m"].units:
        return BRIGHTEST[colour] * S2_QUANTIFICATION
    if member.units == "reflectance":
        return BRIGHTEST[colour]
    return 255.0 if _is_bytes(member) else None


def _is_bytes(member: Member) -> bool:
    return member.dtype == "uint8" and not member.is_scaled


def _radar(bands: Bands, side: int) -> FloatArray | None:
    """As `_colours`; grey where only one polarisation is there. Averages are those of linear power."""
    decibels = {
        name: 10 * np.log10(np.maximum(resized(10 ** (_physical(*bands[name]) / 10), side), _LEAST_POWER))
        for name in ("VV", "VH")
        if name in bands and "dB" in bands[name][0].units
    }
    if not decibels:
        return None
    if len(decibels) == 1:
        ((name, values),) = decibels.items()
        return np.repeat(_share(values, VV_DB if name == "VV" else VH_DB)[..., None], 3, axis=-1)
    vv, vh = decibels["VV"], decibels["VH"]
    return np.stack([_share(vv, VV_DB), _share(vh, VH_DB), _share(vv - vh, RATIO_DB)], axis=-1)


def _share(values: FloatArray, ends: tuple[float, float]) -> FloatArray:
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)


def _image(look: Mapping[str, Array], members: Mapping[str, Member], side: int) -> FloatArray | None:
    """The first three bands (or one) of the first member that is no class map, as `_colours`; None where all are."""
    name = next((name for name in look if not members[name].plane), None)
    if name is None:
        return None
    member, layers = members[name], []
    for stored in look[name][: 3 if len(member.bands) >= 3 else 1]:
        values = resized(_physical(member, stored), side)
        if _is_bytes(member):
            layers.append(values / 255.0)
        else:
            known = values[np.isfinite(values)]
            low, high = np.percentile(known, (2, 98)) if len(known) else (0.0, 1.0)
            layers.append(_share(values, (low, high if high > low else low + 1.0)))
    return np.stack(layers if len(layers) == 3 else layers * 3, axis=-1)


def _physical(member: Member, stored: Array) -> FloatArray:
    """What the numbers mean, NaN where they are no measurement."""
    return np.where(member.valid(stored), member.physical(stored).astype(np.float64), np.nan)


def resized(values: FloatArray, side: int) -> FloatArray:
    """A plane brought to (side, side): each pixel the mean of the ground it covers, weighted by area.

    NaN where less than half of that ground is measured.
    """
    known = np.isfinite(values)
    share = _along_rows(_along_rows(known.astype(np.float64), side).T, side).T
    means = _along_rows(_along_rows(np.where(known, values, 0.0), side).T, side).T
    # Shares are differences of running sums, so that a half may come out a rounding below.
    return np.asarray(np.where(share > 0.499999, means / np.maximum(share, 0.25), np.nan))


def _along_rows(values: FloatArray, side: int) -> FloatArray:
    """Means of the rows, shape (n, m), over `side` stretches of equal length, shape (side, m).

    Differences of running sums: products of matrices would start threads that wait for each other.
    """
    count = len(values)
    at = np.arange(side + 1) * count / side
    whole = np.minimum(at.astype(np.int64), count - 1)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    ends = sums[whole] + (at - whole)[:, None] * values[whole]
    return np.asarray(np.diff(ends, axis=0) * (side / count))


def _jpeg(shares: FloatArray) -> bytes:
    """A picture of shares in [0, 1], grey where any colour is NaN."""
    unknown = np.isnan(shares).any(axis=-1, keepdims=True)
    levels = np.where(unknown, GREY, np.rint(255 * np.nan_to_num(shares))).astype(np.uint8)
    return bytes(jpeg8_encode(np.ascontiguousarray(levels), level=JPEG_QUALITY))


def _classes(stored: Array, side: int) -> bytes:
    """A picture of scene classes, the class in the middle of each pixel; unknown numbers as no data."""
    rows, columns = (((np.arange(side) + 0.5) / side * count).astype(np.int64) for count in stored.shape)
    classes = stored[rows[:, None], columns[None, :]]
    return bytes(png_encode(SCL_PALETTE[np.where(classes < SCL_CLASSES, classes, SCL_NODATA)], level=9))
