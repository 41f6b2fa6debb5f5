"""The sandbox's regions: where they are, what grows there, which orbits see them, and how large each planet size is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from geossl_data.sandbox.surfaces import BOREAL, MONSOON, PAMPAS, SAVANNA, TEMPERATE, TROPICAL, Climate

PlanetSize = Literal["tiny", "small", "large", "world"]

PERIODS = (2021, 2022, 2023)
"""Years; the land of a year is one and the same, planted changes happen between years."""

FULL_SIDE = 10980
"""Side of a real Sentinel-2 tile in 10 m pixels."""
FULL_OVERLAP = 978
"""What two real neighbours share, in 10 m pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One region of the planet. Shares are relative frequencies of classes 1 to 10 among the patches."""

    name: str
    epsg: int
    tile: str
    """MGRS tile of the region's own scenes."""
    corner: tuple[float, float]
    """North-west corner of the real tile, metres."""
    inset: tuple[int, int]
    """Columns and rows, in 10 m pixels, by which smaller scenes lie inside the real tile; multiples of 6."""
    latitude: float
    longitude: float
    """Of about the region's middle."""
    climate: Climate
    shares: tuple[float, ...]
    relief_m: float
    """Standard deviation of the longest waves of the terrain."""
    rivers: float
    """Half width of the rivers, as a share of a noise field's standard deviation; 0: none."""
    s2_orbit: int
    s1_ascending: int
    s1_descending: int
    neighbour: str | None = None
    """MGRS tile to the east that overlaps this one."""
    s1_shift_m: float = 0.0
    """By how much the Sentinel-1 grid lies off the 10 m lattice, east and south."""
    wet: bool = False
    """Cloudier than the others."""
    continent: str = ""
    """Named where geography is what the planet is for."""
    patch: float = 140.0
    """Mean distance of the centres of patches, 10 m pixels."""
    field_size: float = 1.0
    """Factor on the sides of fields and blocks."""
    palette: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Material → factor on its reflectance in each band, where it is not the common one."""
    yearly: float = 0.0
    """How far fields and stands differ from one year to the next, 0 to 1; see `Units.in_year`."""
    first_change: int = 0
    """Which kind of change is planted first, as a position among them; the others follow in turn."""


# The corners are those of the real MGRS tiles of these names.
REGIONS: tuple[Region, ...] = (
    Region(
        name="lake-constance",
        epsg=32632,
        tile="32TMT",
        corner=(399960.0, 5300040.0),
        inset=(0, 1200),
        latitude=47.7,
        longitude=9.07,
        climate=TEMPERATE,
        shares=(0.07, 0.14, 0.14, 0.19, 0.14, 0.09, 0.06, 0.08, 0.07, 0.10),
        relief_m=90.0,
        rivers=0.022,
        s2_orbit=108,
        s1_ascending=15,
        s1_descending=66,
        neighbour="32TNT",
    ),
    Region(
        name="pampas",
        epsg=32720,
        tile="20HQG",
        corner=(699960.0, 6200020.0),
        inset=(3000, 1800),
        latitude=-34.5,
        longitude=-60.5,
        climate=PAMPAS,
        shares=(0.08, 0.10, 0.05, 0.22, 0.18, 0.11, 0.07, 0.08, 0.06, 0.07),
        relief_m=25.0,
        rivers=0.03,
        s2_orbit=24,
        s1_ascending=68,
        s1_descending=141,
    ),
    Region(
        name="ontario",
        epsg=32616,
        tile="16UFA",
        corner=(600000.0, 5600040.0),
        inset=(2400, 4200),
        latitude=50.1,
        longitude=-85.1,
        climate=BOREAL,
        shares=(0.14, 0.14, 0.20, 0.09, 0.08, 0.09, 0.06, 0.12, 0.09, 0.04),
        relief_m=60.0,
        rivers=0.035,
        s2_orbit=97,
        s1_ascending=92,
        s1_descending=121,
    ),
    Region(
        name="zambia",
        epsg=32735,
        tile="35LND",
        corner=(499980.0, 8400040.0),
        inset=(4800, 3600),
        latitude=-14.8,
        longitude=27.6,
        climate=SAVANNA,
        shares=(0.06, 0.15, 0.05, 0.14, 0.15, 0.10, 0.10, 0.08, 0.16, 0.07),
        relief_m=50.0,
        rivers=0.02,
        s2_orbit=92,
        s1_ascending=72,
        s1_descending=152,
        s1_shift_m=3.7,
    ),
    Region(
        name="fiji",
        epsg=32760,
        tile="60KYG",
        corner=(699960.0, 8200000.0),
        inset=(9600, 4800),
        latitude=-17.2,
        longitude=179.85,
        climate=TROPICAL,
        shares=(0.20, 0.20, 0.06, 0.09, 0.09, 0.10, 0.05, 0.08, 0.08, 0.10),
        relief_m=140.0,
        rivers=0.025,
        s2_orbit=29,
        s1_ascending=102,
        s1_descending=168,
        wet=True,
    ),
    Region(
        name="punjab",
        epsg=32643,
        tile="43REQ",
        corner=(499980.0, 3500040.0),
        inset=(5400, 4200),
        latitude=31.2,
        longitude=75.6,
        climate=MONSOON,
        shares=(0.05, 0.08, 0.05, 0.25, 0.09, 0.15, 0.08, 0.06, 0.08, 0.12),
        relief_m=15.0,
        rivers=0.03,
        s2_orbit=5,
        s1_ascending=27,
        s1_descending=136,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One Sentinel-2 date to find: when about, how cloudy, and what Sentinel-1 passes go with it."""

    year: int
    season: float
    """Part of the year, 0 to 1, about which the date is sought; moved by half a year in the south."""
    cloud: float
    """Share of the scene under cloud to aim at."""
    radar: Literal["near", "both", "far"] = "near"
    """near: an ascending pass within 3 days; both: a descending one too; far: none within 3 days."""
    reprocessed: bool = False
    """Baseline 05.00 whatever the date."""
    wedge: bool = False
    """A corner of the scene lies outside the swath."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How large a planet is."""

    regions: tuple[str, ...]
    side: int
    """Side of a Sentinel-2 scene in 10 m pixels; a multiple of 6."""
    overlap: int
    """Columns that neighbouring tiles share, in 10 m pixels; a multiple of 6."""
    slots: tuple[Slot, ...]
    neighbour_slots: tuple[int, ...]
    """Which slots the neighbouring tile is also written for; its overlap is the same pixels."""
    changes: int
    """Planted changes tried per region."""
    whole_region: bool
    """Whether a region's land is kept in memory as a whole, or worked out strip by strip for every scene."""
    change_radius: tuple[float, float] = (30.0, 52.0)
    """Smallest and largest mean radius of a change, 10 m pixels."""
    change_years: tuple[int, ...] = PERIODS[1:]
    """Years in which changes begin."""


_SLOTS = (
    Slot(year=2021, season=0.12, cloud=0.03),
    Slot(year=2021, season=0.36, cloud=0.0, reprocessed=True),
    Slot(year=2021, season=0.56, cloud=0.12, radar="both"),
    Slot(year=2021, season=0.80, cloud=0.40),
    Slot(year=2022, season=0.45, cloud=1.0, radar="far"),
    Slot(year=2023, season=0.12, cloud=0.28),
    Slot(year=2023, season=0.36, cloud=0.05, wedge=True),
    Slot(year=2023, season=0.56, cloud=0.0),
    Slot(year=2023, season=0.80, cloud=0.10),
)
_TINY_SLOTS = (
    Slot(year=2021, season=0.36, cloud=0.05, reprocessed=True),
    Slot(year=2021, season=0.56, cloud=0.0, radar="both"),
    Slot(year=2022, season=0.45, cloud=1.0, radar="far"),
    Slot(year=2023, season=0.36, cloud=0.25, wedge=True),
    Slot(year=2023, season=0.56, cloud=0.10),
)

LAYOUTS: dict[PlanetSize, Layout] = {
    "tiny": Layout(
        regions=("lake-constance", "pampas"),
        side=408,
        overlap=120,
        slots=_TINY_SLOTS,
        neighbour_slots=(1, 3),
        changes=4,
        whole_region=True,
    ),
    "small": Layout(
        regions=tuple(region.name for region in REGIONS),
        side=780,
        overlap=300,
        slots=_SLOTS,
        neighbour_slots=(1, 2, 6),
        changes=8,
        whole_region=True,
    ),
    "large": Layout(
        regions=("lake-constance", "pampas", "punjab"),
        side=FULL_SIDE,
        overlap=FULL_OVERLAP,
        slots=_SLOTS,
        neighbour_slots=(1,),
        changes=200,
        whole_region=False,
    ),
}


def origin(region: Region, layout: Layout) -> tuple[float, float]:
    """North-west corner in metres of the region's own tile, which is the origin of the region's plane.

    A full-size scene is the real tile; smaller ones lie inside it, against its east edge where it has a neighbour.
    """
    if layout.side == FULL_SIDE:
        return region.corner
    cols, rows = region.inset
    if region.neighbour is not None:
        cols = FULL_SIDE - FULL_OVERLAP + layout.overlap - layout.side
    return region.corner[0] + cols * 10.0, region.corner[1] - rows * 10.0
