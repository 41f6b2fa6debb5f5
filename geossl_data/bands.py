"""What the two sensors measure: band names, native resolution, units, and the members a look is stored as.

Sentinel-2 band wavelengths: ESA Sentinel-2 User Handbook, table 1 (mean of S2A and S2B, rounded to 5 nm).
"""

from dataclasses import dataclass
from typing import Literal

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
    sensor: Literal["s1", "s2", "label"]
    bands: tuple[str, ...]
    resolution_m: int
    dtype: str
    units: str

    @property
    def factor(self) -> int:
        """How many 10 m pixels lie along one pixel of this member: 1, 2 or 6."""
        return self.resolution_m // 10

    def shape(self, size_px: int) -> tuple[int, ...]:
        """Array shape for a place of `size_px` 10 m pixels a side; single-band class maps have no band axis."""
        side = size_px // self.factor
        return (side, side) if self.name in ("scl", "label") else (len(self.bands), side, side)


_REFLECTANCE = "reflectance × 10000, 0 = no data"

MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("s2_10m", "s2", ("B02", "B03", "B04", "B08"), 10, "uint16", _REFLECTANCE),
        Member("s2_20m", "s2", ("B05", "B06", "B07", "B8A", "B11", "B12"), 20, "uint16", _REFLECTANCE),
        Member("s2_60m", "s2", ("B01", "B09"), 60, "uint16", _REFLECTANCE),
        Member("scl", "s2", (SCL_BAND,), 20, "uint8", "Sen2Cor scene class, 0 = no data"),
        Member("s1", "s1", ("VV", "VH"), 10, "float16", "gamma naught in dB, NaN = no data"),
        Member("label", "label", (LABEL_BAND,), 10, "uint8", "land class, 0 = no data"),
    )
}
"""The members of a look, in the order in which they are written."""

S2_MEMBERS = ("s2_10m", "s2_20m", "s2_60m")
S2_BANDS: tuple[str, ...] = tuple(band for name in S2_MEMBERS for band in MEMBERS[name].bands)
"""The twelve bands in the order in which training sees them: 10 m, then 20 m, then 60 m bands."""
S1_BANDS: tuple[str, ...] = MEMBERS["s1"].bands

SIZE_STEP_PX = 6
"""A place's side and corner are multiples of this many 10 m pixels, so that every band has whole pixels (60 m)."""
