"""What the two sensors measure: band names, native resolution, units, and the members a look is stored as.

Sentinel-2 band wavelengths: ESA Sentinel-2 User Handbook, table 1 (mean of S2A and S2B, rounded to 5 nm).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Sensor = Literal["s1", "s2"]
"""The two sensors of a look."""


@dataclass(frozen=True, slots=True)
class Band:
    """One band of one sensor."""

    name: str
    sensor: Sensor
    resolution_m: int
    """Native pixel side in metres."""
    common_name: str
    """STAC `eo:bands` common name, or the polarisation."""
    wavelength_nm: float | None = None
    """Centre wavelength in nanometres; None for radar."""


BANDS: dict[str, Band] = {
    band.name: band
    for band in (
        Band("B01", "s2", 60, "coastal", 443),
        Band("B02", "s2", 10, "blue", 490),
        Band("B03", "s2", 10, "green", 560),
        Band("B04", "s2", 10, "red", 665),
        Band("B05", "s2", 20, "rededge071", 705),
        Band("B06", "s2", 20, "rededge075", 740),
        Band("B07", "s2", 20, "rededge078", 783),
        Band("B08", "s2", 10, "nir", 842),
        Band("B8A", "s2", 20, "nir08", 865),
        Band("B09", "s2", 60, "nir09", 945),
        Band("B11", "s2", 20, "swir16", 1610),
        Band("B12", "s2", 20, "swir22", 2190),
        Band("VV", "s1", 10, "vv"),
        Band("VH", "s1", 10, "vh"),
    )
}

S2_NODATA = 0
"""Digital number that marks a Sentinel-2 pixel without a measurement."""
S2_QUANTIFICATION = 10_000
"""Digital number of reflectance 1.0 (without offset)."""
S2_BOA_OFFSET = -1000
"""Added to the digital numbers of products from processing baseline 04.00 on (BOA_ADD_OFFSET)."""
S1_NODATA = -32768.0
"""Linear power that marks a Sentinel-1 pixel without a measurement on the Planetary Computer."""
SCL_BAND = "SCL"
"""Scene classification of the Sentinel-2 level-2A processor, 20 m."""
SCL_NODATA = 0
SCL_CLOUD = (3, 8, 9, 10)
"""Cloud shadow, cloud medium and high probability, thin cirrus."""
SCL_CLASSES = 12
"""How many numbers the classification has, 0 to 11."""
SCL_SHADOW = 3
SCL_WATER = 6
SCL_SNOW = 11
SCL_GROUPS: dict[str, tuple[int, ...]] = {
    "saturated": (1,),
    "dark": (2,),
    "shadow": (SCL_SHADOW,),
    "vegetation": (4,),
    "bare": (5,),
    "water": (SCL_WATER,),
    "unclassified": (7,),
    "cloud": (8, 9, 10),
    "snow": (SCL_SNOW,),
}
"""The classes by what they say of a view: each in one group, so that the shares of all groups add up to 1.

Clouds are counted as `eo:cloud_cover` counts them, thin cirrus with them; their shadows stand by themselves.
"""
LABEL_BAND = "class"
"""Land-class map that a catalog may hold beside its scenes, 10 m."""
LABEL_NODATA = 0


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a look inside a shard, `{key}.{look}.{name}.<codec>`: shape (bands, H / factor, W / factor)."""

    name: str
    sensor: str
    """`s1`, `s2`, `label`, or whatever the owner of other rasters calls his."""
    bands: tuple[str, ...]
    factor: int
    """How many pixels of the place's grid lie along one pixel of this member; 1, 2 or 6 of 10 m for Sentinel."""
    dtype: str
    """Of the stored numbers."""
    units: str
    """Of `stored × scale + offset`."""
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    """The stored number that is no measurement; with floating point numbers NaN and infinities are none either."""
    plane: bool = False
    """Whether the array is (rows, columns), as class maps are."""

    @property
    def resolution_m(self) -> int:
        """Pixel side in metres, on the 10 m grid of Sentinel-2."""
        return 10 * self.factor

    def shape(self, size_px: int) -> tuple[int, ...]:
        """Array shape for a place of `size_px` pixels a side."""
        side = size_px // self.factor
        return (side, side) if self.plane else (len(self.bands), side, side)

    @property
    def is_scaled(self) -> bool:
        """Whether stored numbers are not the physical ones."""
        return (self.scale, self.offset) != (1.0, 0.0)

    def valid(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the stored numbers are measurements; same shape."""
        mask = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(stored.shape, dtype=np.bool_)
        return np.asarray(mask if self.nodata is None else mask & (stored != self.nodata))

    def physical(self, stored: NDArray[Any]) -> NDArray[Any]:
        """What the stored numbers mean: float32, NaN where they are no measurement; unscaled ones as they are."""
        if not self.is_scaled:
            return stored
        values = (stored.astype(np.float64) * self.scale + self.offset).astype(np.float32)
        return np.where(self.valid(stored), values, np.float32(np.nan))

    def stored(self, physical: NDArray[Any]) -> NDArray[Any]:
        """The nearest numbers that can be stored, `nodata` for what is not finite; the array itself if not scaled.

        Values beyond what the dtype holds become its first or last number that is a measurement.
        """
        if not self.is_scaled:
            return physical
        limits = np.iinfo(self.dtype)
        assert self.nodata == limits.min, f"{self.name}: scaled numbers keep {limits.min} for no data"
        codes = np.rint((physical.astype(np.float64) - self.offset) / self.scale)
        codes = np.clip(codes, limits.min + 1, limits.max)
        return np.where(np.isfinite(physical), codes, limits.min).astype(self.dtype)


_REFLECTANCE = "reflectance × 10000"

MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("s2_10m", "s2", ("B02", "B03", "B04", "B08"), 1, "uint16", _REFLECTANCE, nodata=S2_NODATA),
        Member("s2_20m", "s2", ("B05", "B06", "B07", "B8A", "B11", "B12"), 2, "uint16", _REFLECTANCE, nodata=S2_NODATA),
        Member("s2_60m", "s2", ("B01", "B09"), 6, "uint16", _REFLECTANCE, nodata=S2_NODATA),
        Member("scl", "s2", (SCL_BAND,), 2, "uint8", "Sen2Cor scene class", nodata=SCL_NODATA, plane=True),
        Member("s1", "s1", ("VV", "VH"), 1, "uint16", "gamma naught in dB", scale=0.01, offset=-100.0, nodata=0),
        Member("label", "label", (LABEL_BAND,), 1, "uint8", "land class", nodata=LABEL_NODATA, plane=True),
    )
}
"""The members of a look, in the order in which they are written."""

S2_MEMBERS = ("s2_10m", "s2_20m", "s2_60m")
S2_BANDS: tuple[str, ...] = tuple(band for name in S2_MEMBERS for band in MEMBERS[name].bands)
"""The twelve bands in the order in which training sees them: 10 m, then 20 m, then 60 m bands."""
S1_BANDS: tuple[str, ...] = MEMBERS["s1"].bands

SIZE_STEP_PX = 6
"""A place's side and corner are multiples of this many 10 m pixels, so that every band has whole pixels (60 m)."""
