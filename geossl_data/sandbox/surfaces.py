"""What the sandbox's land is made of: classes, their materials through the year, and how they look to both sensors.

A pixel belongs to a unit: one of eight kinds of surface (a field, a roof, a stand of trees …) in one patch of land.
Everything that depends on the date is worked out per unit, not per pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geossl_data.sandbox.noise import FloatArray

SANDBOX_CLASSES: dict[int, str] = {
    1: "water",
    2: "broadleaf forest",
    3: "needleleaf forest",
    4: "cropland",
    5: "pasture",
    6: "urban",
    7: "bare ground",
    8: "wetland",
    9: "shrubland",
    10: "orchard",
}
"""Value in the `class` rasters → name; 0 is no data."""
WATER, BROADLEAF, NEEDLELEAF, CROP, PASTURE, URBAN, BARE, WETLAND, SHRUB, ORCHARD = SANDBOX_CLASSES

KINDS = 8
"""Kinds of surface within one patch."""

OPTICAL_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# Reflectance × 10000 in the order of OPTICAL_BANDS: round numbers after the shapes of published spectral libraries.
MATERIALS: dict[str, tuple[int, ...]] = {
    "leaf": (250, 310, 640, 360, 980, 2700, 3350, 3600, 3750, 3800, 1900, 900),
    "needle": (200, 240, 430, 270, 620, 1600, 1950, 2100, 2200, 2250, 1080, 500),
    "straw": (600, 800, 1200, 1600, 1950, 2250, 2450, 2650, 2800, 2850, 3300, 2300),
    "soil": (750, 950, 1300, 1650, 1900, 2100, 2250, 2400, 2550, 2600, 3300, 2850),
    "sand": (1400, 1700, 2200, 2700, 2950, 3100, 3200, 3300, 3400, 3400, 4000, 3700),
    "clear": (450, 420, 380, 220, 190, 150, 140, 110, 100, 90, 50, 30),
    "turbid": (700, 850, 1150, 950, 850, 500, 450, 350, 300, 280, 90, 60),
    "roof": (1300, 1500, 1750, 2000, 2100, 2200, 2300, 2400, 2450, 2450, 2600, 2400),
    "asphalt": (850, 950, 1050, 1150, 1200, 1250, 1280, 1320, 1350, 1350, 1500, 1450),
    "shadow": (120, 110, 120, 90, 110, 200, 230, 250, 260, 260, 150, 90),
    "char": (350, 380, 430, 480, 560, 680, 760, 850, 950, 980, 1700, 1900),
}
_SPECTRA = np.array(list(MATERIALS.values()), dtype=np.float64)
SNOW_SPECTRUM = (8800, 8900, 8800, 8600, 8500, 8200, 8000, 7700, 7500, 7200, 900, 700)

Mixture = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Surface:
    """One kind of surface: what it is made of when bare and when green, and what the radar gets back."""

    low: Mixture
    """Shares of the materials out of season."""
    high: Mixture
    """Shares of the materials at the height of the season."""
    vv: float
    """Backscatter gamma naught, dB."""
    vh: float
    calendar: str = "wild"
    """Which curve of the climate its greenness follows."""
    swing: float = 0.6
    """Rise of VH from bare to green, dB; VV rises by a third of it."""


def _same(mixture: Mixture, vv: float, vh: float) -> Surface:
    return Surface(mixture, mixture, vv, vh, "fixed", 0.0)


_BROAD = Surface({"straw": 0.5, "shadow": 0.35, "soil": 0.15}, {"leaf": 0.72, "shadow": 0.28}, -8.8, -14.6, swing=0.8)
_BROAD_OPEN = Surface(
    {"straw": 0.6, "shadow": 0.2, "soil": 0.2}, {"leaf": 0.8, "shadow": 0.15, "straw": 0.05}, -9.4, -15.2
)
_NEEDLE = Surface(
    {"needle": 0.72, "shadow": 0.28}, {"needle": 0.75, "shadow": 0.2, "leaf": 0.05}, -9.2, -15.0, swing=0.2
)
_NEEDLE_OPEN = Surface(
    {"needle": 0.62, "shadow": 0.2, "straw": 0.18},
    {"needle": 0.6, "shadow": 0.15, "leaf": 0.25},
    -9.8,
    -15.7,
    swing=0.3,
)
_STUBBLE = {"soil": 0.75, "straw": 0.25}
_WINTER = Surface(_STUBBLE, {"leaf": 0.85, "soil": 0.15}, -11.0, -18.6, "winter", 2.2)
_SUMMER = Surface(_STUBBLE, {"leaf": 0.85, "soil": 0.15}, -11.2, -18.8, "summer", 3.0)
_FALLOW = Surface(_STUBBLE, {"straw": 0.5, "leaf": 0.2, "soil": 0.3}, -12.0, -20.0, "wild", 0.8)
_LUCERNE = Surface({"leaf": 0.4, "straw": 0.4, "soil": 0.2}, {"leaf": 0.85, "soil": 0.15}, -10.4, -17.2, "wild", 1.2)
_GRASS = Surface(
    {"leaf": 0.25, "straw": 0.55, "soil": 0.2}, {"leaf": 0.7, "straw": 0.2, "soil": 0.1}, -11.6, -18.8, swing=1.0
)
_HEDGE = Surface({"leaf": 0.2, "straw": 0.5, "shadow": 0.3}, {"leaf": 0.75, "shadow": 0.25}, -9.0, -15.0)
_ROAD = _same({"asphalt": 1.0}, -12.5, -20.0)
_ROOFS = _same({"roof": 0.65, "asphalt": 0.25, "shadow": 0.1}, -1.5, -9.5)
_HALL = _same({"roof": 1.0}, 1.5, -7.0)
_HOUSES = Surface(
    {"roof": 0.35, "asphalt": 0.25, "straw": 0.25, "shadow": 0.15},
    {"roof": 0.35, "asphalt": 0.2, "leaf": 0.3, "shadow": 0.15},
    -4.5,
    -12.0,
)
_GARDEN = Surface({"straw": 0.5, "soil": 0.3, "leaf": 0.2}, {"leaf": 0.65, "straw": 0.2, "asphalt": 0.15}, -8.5, -14.8)
_ROCK = _same({"soil": 0.6, "sand": 0.4}, -13.2, -22.0)
_SAND = _same({"sand": 0.8, "soil": 0.2}, -15.5, -24.0)
_EARTH = Surface({"soil": 0.9, "straw": 0.1}, {"soil": 0.75, "straw": 0.15, "leaf": 0.1}, -11.8, -20.4)
_WATER = _same({"clear": 0.75, "turbid": 0.25}, -18.0, -26.0)
_REED = Surface({"straw": 0.6, "clear": 0.3, "leaf": 0.1}, {"leaf": 0.6, "clear": 0.2, "straw": 0.2}, -8.6, -17.0)
_MARSH = Surface({"straw": 0.5, "clear": 0.2, "soil": 0.3}, {"leaf": 0.55, "clear": 0.15, "straw": 0.3}, -10.6, -18.2)
_POOL = _same({"clear": 0.7, "turbid": 0.3}, -16.0, -24.0)
_BUSH = Surface(
    {"leaf": 0.2, "straw": 0.45, "soil": 0.2, "shadow": 0.15},
    {"leaf": 0.5, "straw": 0.2, "soil": 0.15, "shadow": 0.15},
    -10.4,
    -16.6,
)
_HEATH = Surface({"straw": 0.5, "soil": 0.4, "leaf": 0.1}, {"leaf": 0.3, "straw": 0.35, "soil": 0.35}, -11.8, -18.4)
_TREES = Surface(
    {"straw": 0.35, "soil": 0.3, "shadow": 0.15, "leaf": 0.2}, {"leaf": 0.6, "soil": 0.2, "shadow": 0.2}, -9.8, -16.0
)
_YOUNG = Surface({"straw": 0.3, "soil": 0.6, "leaf": 0.1}, {"leaf": 0.4, "soil": 0.45, "straw": 0.15}, -11.2, -18.0)

SURFACES: dict[int, tuple[Surface, ...]] = {
    WATER: (_WATER,),
    BROADLEAF: (_BROAD_OPEN, _BROAD, _BROAD, _BROAD, _BROAD, _BROAD, _BROAD, _BROAD_OPEN),
    NEEDLELEAF: (_NEEDLE_OPEN, _NEEDLE, _NEEDLE, _NEEDLE, _NEEDLE, _NEEDLE, _NEEDLE, _HEATH),
    CROP: (_WINTER, _WINTER, _WINTER, _SUMMER, _SUMMER, _SUMMER, _LUCERNE, _FALLOW),
    PASTURE: (_GRASS, _GRASS, _GRASS, _GRASS, _GRASS, _GRASS, _LUCERNE, _HEDGE),
    URBAN: (_ROAD, _ROOFS, _ROOFS, _HALL, _HOUSES, _HOUSES, _HOUSES, _GARDEN),
    BARE: (_SAND, _ROCK, _ROCK, _ROCK, _EARTH, _EARTH, _EARTH, _HEATH),
    WETLAND: (_POOL, _POOL, _REED, _REED, _MARSH, _MARSH, _MARSH, _BUSH),
    SHRUB: (_HEATH, _HEATH, _BUSH, _BUSH, _BUSH, _BUSH, _BROAD_OPEN, _EARTH),
    ORCHARD: (_TREES, _TREES, _TREES, _TREES, _TREES, _TREES, _YOUNG, _YOUNG),
}
"""Class → its eight kinds of surface. For classes with blocks (see `land.BLOCKS`) kinds are drawn by block."""

BURNT = (
    _same({"char": 0.8, "soil": 0.2}, -12.0, -20.5),
    _same({"char": 0.55, "straw": 0.2, "soil": 0.25}, -11.2, -19.0),
)
FELLED = (_EARTH, Surface({"straw": 0.4, "soil": 0.6}, {"straw": 0.35, "soil": 0.5, "leaf": 0.15}, -11.2, -19.0))

CROWNS: dict[int, float] = {
    WATER: 0.02,
    BROADLEAF: 0.10,
    NEEDLELEAF: 0.15,
    CROP: 0.025,
    PASTURE: 0.04,
    URBAN: 0.20,
    BARE: 0.06,
    WETLAND: 0.09,
    SHRUB: 0.16,
    ORCHARD: 0.05,
}
"""Relative height of the pixel-to-pixel texture of each class."""

Bump = tuple[float, float, float, float]
"""Days of the year on which greenness starts to rise, is full, starts to fall, is gone; days above 365 run on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate:
    """When things are green. Days are those of the northern hemisphere; `southern` moves them by half a year."""

    name: str
    wild: Bump
    """Natural vegetation."""
    winter: Bump
    """Crops sown in autumn."""
    summer: Bump
    """Crops sown in spring."""
    least: float
    """Greenness of natural vegetation out of season, 0 to 1; near 1 in the evergreen tropics."""
    southern: bool = False
    snow: Bump | None = None
    """When snow lies."""


TEMPERATE = Climate(
    name="temperate", wild=(85, 145, 260, 315), winter=(65, 125, 175, 200), summer=(140, 195, 245, 280), least=0.0
)
PAMPAS = Climate(
    name="humid subtropical",
    wild=(70, 130, 290, 340),
    winter=(60, 115, 165, 190),
    summer=(150, 200, 260, 290),
    least=0.25,
    southern=True,
)
BOREAL = Climate(
    name="boreal",
    wild=(125, 165, 245, 285),
    winter=(130, 165, 215, 240),
    summer=(145, 190, 235, 260),
    least=0.0,
    snow=(310, 330, 450, 475),
)
SAVANNA = Climate(
    name="savanna",
    wild=(125, 175, 270, 345),
    winter=(170, 210, 270, 300),
    summer=(140, 185, 250, 280),
    least=0.12,
    southern=True,
)
TROPICAL = Climate(
    name="tropical", wild=(100, 150, 300, 350), winter=(20, 60, 120, 150), summer=(200, 240, 300, 330), least=0.85
)
MONSOON = Climate(
    name="monsoon", wild=(175, 215, 285, 345), winter=(325, 375, 445, 475), summer=(180, 225, 275, 305), least=0.2
)


def bump(day: NDArray[np.float64], when: Bump) -> NDArray[np.float64]:
    """A smooth curve over the year in [0, 1]: rises, stays, falls at the days given; `day` may be any number."""
    start, full, fall, gone = when
    since = (day - start) % 365.0
    rise = np.clip(since / (full - start), 0, 1)
    descent = np.clip((gone - start - since) / (gone - fall), 0, 1)
    return _eased(rise) * _eased(descent)


def _eased(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Every unit of a region's land; arrays of one length n."""

    klass: NDArray[np.uint8]
    low: NDArray[np.float64]
    """Shares of the materials out of season, shape (n, materials)."""
    high: NDArray[np.float64]
    calendar: NDArray[np.int64]
    """0 fixed, 1 wild, 2 winter, 3 summer."""
    delay: NDArray[np.float64]
    """Days by which the unit is late."""
    vigour: NDArray[np.float64]
    """Factor on its greenness."""
    tint: NDArray[np.float64]
    """Factor on the reflectance of each band, shape (n, bands)."""
    backscatter: NDArray[np.float64]
    """VV and VH out of season, dB, shape (n, 2)."""
    swing: NDArray[np.float64]
    spectra: NDArray[np.float64]
    """Reflectance × 10000 of the materials, shape (materials, bands)."""

    def in_year(self, key: int, amount: float) -> "Units":
        """The units as they are in the year of a key: some fields have another crop, plants are early or late, lush or
        dry, soils wet or bright.

        amount: 0: as in every year; 1: another crop on half of the fields, 12 days and 2 dB as the largest usual
        differences. Water varies a third as much.
        """
        if not amount:
            return self
        rng = np.random.default_rng(key)
        n = len(self.klass)
        steady = np.where(self.klass == WATER, 0.3, 1.0) * amount
        is_sown = np.isin(self.calendar, (_CALENDARS["winter"], _CALENDARS["summer"]))
        is_changed = is_sown & (rng.random(n) < 0.5 * amount)
        other = _CALENDARS["winter"] + _CALENDARS["summer"] - self.calendar
        delay, vigour, brightness, level = rng.normal(size=(4, n)) * steady
        return replace(
            self,
            calendar=np.where(is_changed, other, self.calendar),
            delay=self.delay + 6.0 * delay,
            vigour=np.clip(self.vigour * np.exp(0.15 * vigour), 0.3, 1.3),
            tint=self.tint * np.exp(0.10 * brightness)[:, None],
            backscatter=self.backscatter + (1.0 * level)[:, None],
        )

    def greenness(self, climate: Climate, day: float) -> NDArray[np.float64]:
        """Greenness of every unit on a day of the year, 0 to 1, shape (n,)."""
        local = day - self.delay - (182.5 if climate.southern else 0.0)
        wild = climate.least + (1 - climate.least) * bump(local, climate.wild)
        curves = [np.zeros_like(local), wild, bump(local, climate.winter), bump(local, climate.summer)]
        return np.clip(np.choose(self.calendar, curves) * self.vigour, 0.0, 1.0)

    def reflectance(self, climate: Climate, day: float) -> FloatArray:
        """Reflectance × 10000 of every unit on a day of the year, shape (bands, n), before light and atmosphere."""
        green = self.greenness(climate, day)[:, None]
        shares = self.low + (self.high - self.low) * green
        # Summed material by material, so that a unit's value does not depend on how many units there are.
        total = np.zeros((len(self.klass), len(OPTICAL_BANDS)))
        for material, spectrum in enumerate(self.spectra):
            total += shares[:, material, None] * spectrum
        return np.ascontiguousarray((total * self.tint).T, dtype=np.float32)

    def gamma_naught(self, climate: Climate, day: float) -> NDArray[np.float64]:
        """Backscatter of every unit on a day of the year, dB, shape (2, n): VV, VH."""
        green = self.greenness(climate, day) * self.swing
        return np.stack([self.backscatter[:, 0] + green / 3, self.backscatter[:, 1] + green])


_CALENDARS = {"fixed": 0, "wild": 1, "winter": 2, "summer": 3}


def shares(mixture: Mixture) -> NDArray[np.float64]:
    """A mixture as an array in the order of MATERIALS."""
    return np.array([mixture.get(name, 0.0) for name in MATERIALS])


def spectra(palette: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    """Reflectance × 10000 of the materials in the order of MATERIALS, shape (materials, bands).

    palette: material → factor for each band; materials that it does not name stay as they are.
    """
    factors = np.array([palette.get(name, (1.0,) * len(OPTICAL_BANDS)) for name in MATERIALS])
    return np.asarray(_SPECTRA * factors)


def make_units(
    klass: NDArray[np.uint8],
    surfaces: list[tuple[Surface, ...]],
    rng: np.random.Generator,
    *,
    variety: float = 1.0,
    palette: Mapping[str, Sequence[float]] | None = None,
) -> Units:
    """Units of patches: KINDS for every patch, in order, each drawn about its surface; water is alike within
    a patch.

    klass: class of each patch, shape (n,). surfaces: the kinds of each patch, n tuples of any length ≥ 1, repeated to
    KINDS. variety: how far patches of a class differ; 0 makes them alike. palette: see `spectra`.
    """
    n = len(klass)
    kinds = [kinds[k % len(kinds)] for kinds in surfaces for k in range(KINDS)]
    low = np.array([shares(surface.low) for surface in kinds])
    high = np.array([shares(surface.high) for surface in kinds])

    def draw(patch_std: float, kind_std: float, *shape: int) -> NDArray[np.float64]:
        patch = np.repeat(rng.normal(size=(n, *shape)), KINDS, axis=0) * patch_std
        kind = rng.normal(size=(n * KINDS, *shape)) * kind_std
        kind[np.repeat(klass == WATER, KINDS)] *= 0.15
        return (patch + kind) * variety

    jitter = np.exp(draw(0.24, 0.18, low.shape[1]))
    low, high = low * jitter, high * jitter
    brightness = np.exp(draw(0.09, 0.05))[:, None]
    slope = draw(0.05, 0.02)[:, None] * np.linspace(-1, 1, len(OPTICAL_BANDS))
    level = draw(0.7, 0.4)
    return Units(
        klass=np.repeat(klass, KINDS),
        low=low / low.sum(axis=1, keepdims=True),
        high=high / high.sum(axis=1, keepdims=True),
        calendar=np.array([_CALENDARS[surface.calendar] for surface in kinds]),
        delay=draw(6.0, 4.0),
        vigour=np.clip(1 + draw(0.10, 0.06), 0.4, 1.3),
        tint=brightness * (1 + slope),
        backscatter=np.array([(surface.vv, surface.vh) for surface in kinds])
        + np.stack([level, level], axis=1)
        + draw(0.5, 0.2, 2),
        swing=np.array([surface.swing for surface in kinds]),
        spectra=spectra(palette or {}),
    )
