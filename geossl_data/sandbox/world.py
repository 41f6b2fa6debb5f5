"""The planet of size `world`: 64 small regions on six continents, for studies of geography and of methods.

What grows where, when it is green, what the soil looks like and how large fields are follow from latitude and longitude
by the formulas below, which are smooth: regions a few hundred kilometres apart look alike, those on other continents
less so. They know no seed, so that every planet of this size has the same geography; its patches, skies and noise are
drawn by the seed, as on the other planets.

Everything is made of three kinds of numbers of a point with unit vector v at latitude φ:

    field_n(v) = √(2/4) Σ cos(k_i·v + p_i), four plane waves of 3,500 to 9,000 km: mean 0, deviation 1
    warmth     = cos² φ + 0.05 field, in [0.05, 1]
    wetness    = 0.5 + 0.28 cos(2π φ / 55°) + 0.12 field, in [0.02, 0.98]: wet at 0° and 55°, dry at 27°
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import EARTH_RADIUS_KM, from_lonlat, unit_vectors, utm_epsg
from geossl_data.sandbox.noise import stream, uniform
from geossl_data.sandbox.regions import FULL_SIDE, Layout, Region, Slot
from geossl_data.sandbox.surfaces import (
    BARE,
    BROADLEAF,
    CROP,
    NEEDLELEAF,
    OPTICAL_BANDS,
    ORCHARD,
    PASTURE,
    SANDBOX_CLASSES,
    SHRUB,
    URBAN,
    WATER,
    WETLAND,
    Climate,
)

FloatArray = NDArray[np.float64]

SIDE = 240
"""Of a region's scenes in 10 m pixels: sixteen places of 60."""

PLACES: dict[str, tuple[tuple[str, float, float], ...]] = {
    "Africa": (
        ("atlas", -6.5, 33.0),
        ("nile-delta", 31.1, 30.7),
        ("sahel", -2.2, 13.6),
        ("kano", 8.6, 11.8),
        ("ashanti", -1.6, 6.9),
        ("gezira", 33.2, 14.3),
        ("congo", 21.6, 0.9),
        ("rift", 37.6, -0.9),
        ("katanga", 26.6, -9.6),
        ("okavango", 22.7, -19.1),
        ("highveld", 27.6, -27.1),
        ("madagascar", 47.2, -18.6),
    ),
    "Asia": (
        ("anatolia", 32.7, 39.0),
        ("mesopotamia", 44.8, 32.4),
        ("fergana", 71.5, 40.5),
        ("ob", 82.6, 55.1),
        ("baikal", 104.6, 53.1),
        ("indus", 68.6, 27.6),
        ("deccan", 76.6, 18.1),
        ("bengal", 88.4, 24.9),
        ("sichuan", 104.6, 30.7),
        ("shandong", 117.2, 36.2),
        ("manchuria", 125.6, 45.6),
        ("isan", 103.6, 15.8),
        ("sumatra", 103.6, -3.0),
    ),
    "Europe": (
        ("la-mancha", -3.2, 39.2),
        ("gascony", 1.1, 44.0),
        ("champagne", 4.4, 48.8),
        ("east-anglia", 0.9, 52.4),
        ("po-plain", 10.6, 45.1),
        ("puszta", 20.7, 47.3),
        ("mazovia", 20.6, 52.4),
        ("smaland", 15.3, 57.2),
        ("wallachia", 26.2, 44.4),
        ("tula", 37.6, 53.8),
    ),
    "North America": (
        ("fairbanks", -146.3, 64.7),
        ("alberta", -112.6, 53.2),
        ("palouse", -117.3, 46.9),
        ("iowa", -93.6, 42.2),
        ("quebec", -71.6, 46.7),
        ("ohio", -83.6, 40.4),
        ("central-valley", -120.4, 37.1),
        ("texas", -98.1, 31.1),
        ("piedmont", -83.4, 33.1),
        ("veracruz", -97.0, 18.5),
        ("nicaragua", -85.6, 12.8),
    ),
    "Oceania": (
        ("arnhem", 132.6, -14.1),
        ("queensland", 147.9, -23.1),
        ("wheatbelt", 117.9, -31.2),
        ("darling-downs", 151.1, -27.4),
        ("riverina", 145.6, -35.2),
        ("waikato", 175.4, -37.8),
        ("canterbury", 171.9, -43.6),
        ("markham", 146.4, -6.4),
    ),
    "South America": (
        ("llanos", -68.6, 7.8),
        ("cauca", -76.3, 3.6),
        ("para", -49.1, -3.6),
        ("rondonia", -62.4, -10.5),
        ("caatinga", -39.6, -8.6),
        ("mato-grosso", -55.6, -13.5),
        ("sao-paulo", -49.1, -21.8),
        ("chaco", -61.1, -25.1),
        ("la-plata", -60.4, -35.1),
        ("maule", -71.6, -35.6),
    ),
}
"""Continent → name, longitude and latitude of its regions."""

# log share of a class = first + second × (warmth − 0.65) + third × (wetness − 0.5) + 0.7 × a field of its own
_SHARES: dict[int, tuple[float, float, float]] = {
    WATER: (-0.1, 0.0, 0.8),
    BROADLEAF: (0.2, 1.0, 1.6),
    NEEDLELEAF: (-0.1, -3.0, 0.8),
    CROP: (0.5, 0.0, 0.0),
    PASTURE: (0.45, -0.6, 0.3),
    URBAN: (0.1, 0.0, 0.0),
    BARE: (-0.5, 0.4, -2.4),
    WETLAND: (-0.1, -0.5, 1.6),
    SHRUB: (0.0, 0.5, -1.6),
    ORCHARD: (0.1, 1.2, -0.6),
}
_LEAST_SHARE = 0.03
_RAMP = np.linspace(-1.0, 1.0, len(OPTICAL_BANDS))

LAYOUT = Layout(
    regions=tuple(name for places in PLACES.values() for name, _, _ in places),
    side=SIDE,
    overlap=0,
    slots=(
        Slot(year=2021, season=0.14, cloud=0.03),
        Slot(year=2021, season=0.42, cloud=0.0, reprocessed=True),
        Slot(year=2021, season=0.70, cloud=0.0),
        Slot(year=2022, season=0.45, cloud=1.0, radar="far"),
        Slot(year=2023, season=0.14, cloud=0.0),
        Slot(year=2023, season=0.42, cloud=0.0),
        Slot(year=2023, season=0.70, cloud=0.03),
    ),
    neighbour_slots=(),
    changes=3,
    change_radius=(14.0, 30.0),
    change_years=(2023,),
    whole_region=True,
)


@cache
def _waves(name: str) -> tuple[FloatArray, FloatArray]:
    """Wave vectors, shape (4, 3), and phases, shape (4,), of a field."""
    number = np.arange(4)
    height, turn, length, phase = (uniform(stream("world", name), axis, number) for axis in range(4))
    up, turn = 2 * height - 1, 2 * math.pi * turn
    ring = np.sqrt(1 - up**2)
    direction = np.column_stack([ring * np.cos(turn), ring * np.sin(turn), up])
    wavenumber = 2 * math.pi * EARTH_RADIUS_KM / (3500.0 + 5500.0 * length)
    return wavenumber[:, None] * direction, 2 * math.pi * phase


def field(name: str, lon: float, lat: float) -> float:
    """A smooth random function of the globe, by name: mean 0 and standard deviation 1, waves of 3,500 to 9,000 km."""
    waves, phases = _waves(name)
    return float(np.cos(waves @ unit_vectors(lon, lat) + phases).sum() / math.sqrt(2))


def warmth(lon: float, lat: float) -> float:
    """How warm it is, from 0.05 near the poles to 1 at the equator."""
    return float(np.clip(math.cos(math.radians(lat)) ** 2 + 0.05 * field("warmth", lon, lat), 0.05, 1.0))


def wetness(lon: float, lat: float) -> float:
    """How much it rains, 0.02 to 0.98."""
    zonal = 0.5 + 0.28 * math.cos(2 * math.pi * lat / 55.0)
    return float(np.clip(zonal + 0.12 * field("wetness", lon, lat), 0.02, 0.98))


def class_shares(lon: float, lat: float) -> tuple[float, ...]:
    """Relative frequencies of classes 1 to 10; each at least 0.03, their sum 1."""
    warm, wet = warmth(lon, lat) - 0.65, wetness(lon, lat) - 0.5
    weights = np.array(
        [
            math.exp(first + by_warmth * warm + by_wetness * wet + 0.7 * field(SANDBOX_CLASSES[klass], lon, lat))
            for klass, (first, by_warmth, by_wetness) in _SHARES.items()
        ]
    )
    shares = _LEAST_SHARE + (1 - _LEAST_SHARE * len(weights)) * weights / weights.sum()
    return tuple(shares.tolist())


def climate(lon: float, lat: float) -> Climate:
    """The seasons: short and late where it is cold, late where it is warm and dry, hardly any in the wet tropics.

    Snow lies about the middle of January, for longer the colder it is, where warmth is below 0.42.
    """
    warm, wet = warmth(lon, lat), wetness(lon, lat)
    cold, dry = 1 - warm, (1 - wet) * warm**2
    rise, fall = 60 + 75 * cold + 70 * dry, 330 - 90 * cold
    autumn, spring = 85 - 60 * warm, 125 + 30 * cold + 40 * dry
    half = 300 * (0.42 - warm)
    return Climate(
        name=_climate_name(warm, wet),
        wild=(rise, rise + 50, max(fall, rise + 95), max(fall, rise + 95) + 45),
        winter=(autumn, autumn + 55, autumn + 110, autumn + 135),
        summer=(spring, spring + 50, spring + 105, spring + 135),
        least=0.9 * warm**2 * wet**2,
        southern=lat < 0,
        snow=(360 - half, 380 - half, 380 + half, 400 + half) if half > 0 else None,
    )


def _climate_name(warm: float, wet: float) -> str:
    if warm < 0.38:
        return "boreal"
    if wet < 0.35:
        return "dry"
    if warm < 0.62:
        return "temperate"
    return "savanna" if wet < 0.68 else "tropical"


def palette(lon: float, lat: float) -> dict[str, tuple[float, ...]]:
    """What soil, plants, water and roofs look like beside those of other places: material → factor for each band.

    A factor is exp(level + slope × r), where r runs from −1 in the first band to 1 in the last. Soil is redder where it
    is warm and brighter where it is dry; the rest are fields.
    """
    warm, wet = warmth(lon, lat), wetness(lon, lat)

    def at(name: str) -> float:
        return field(name, lon, lat)

    ground = (0.5 * (0.5 - wet) + 0.10 * at("soil level"), 0.35 * (warm - 0.65) + 0.08 * at("soil hue"))
    plants = (0.10 * at("leaf level"), 0.10 * at("leaf hue"))
    water = (0.20 * at("water level"), 0.20 * at("water hue"))
    built = (0.12 * at("roof level"), 0.12 * at("roof hue"))
    dead = (0.10 * at("straw level"), 0.08 * at("straw hue"))
    tones = {"soil": ground, "sand": ground, "leaf": plants, "needle": plants, "straw": dead, "roof": built}
    tones |= {"clear": water, "turbid": water}
    return {name: tuple(np.exp(level + slope * _RAMP).tolist()) for name, (level, slope) in tones.items()}


def mgrs_tile(lon: float, lat: float) -> tuple[str, tuple[float, float]]:
    """The Sentinel-2 tile of the 100 km square that holds a point, and its north-west corner in metres.

    The letters are those of the Military Grid Reference System (NGA.STND.0037). Tiles begin at the square's western and
    northern edge, moved outwards to a multiple of 60 m, which in the south counts from the equator. Points within 80°
    of the equator, and away from where squares of two latitude bands meet.
    """
    epsg = utm_epsg(lon, lat)
    zone, southern = epsg % 100, epsg // 100 == 327
    x, y = (float(value) for value in from_lonlat(epsg, lon, lat))
    column, row = int(x // 100_000), int(y // 100_000)
    band = "CDEFGHJKLMNPQRSTUVWXX"[int((lat + 80) // 8)]
    easting = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][column - 1]
    northing = "ABCDEFGHJKLMNPQRSTUV"[(row + (0 if zone % 2 else 5)) % 20]
    equator = 10_000_000 if southern else 0
    west = column * 100_000 // 60 * 60
    north = equator + math.ceil(((row + 1) * 100_000 - equator) / 60) * 60
    return f"{zone:02d}{band}{easting}{northing}", (float(west), float(north))


def _region(number: int, continent: str, name: str, lon: float, lat: float) -> Region:
    epsg = utm_epsg(lon, lat)
    tile, corner = mgrs_tile(lon, lat)
    x, y = (float(value) for value in from_lonlat(epsg, lon, lat))
    # Steps of 60 m, and inside the tile.
    most = FULL_SIDE - SIDE
    cols, rows = (
        min(max(6 * round((metres / 10 - SIDE / 2) / 6), 0), most) for metres in (x - corner[0], corner[1] - y)
    )
    orbits = uniform(stream("world", name, "orbits"), 0, np.arange(3))
    wet = wetness(lon, lat)
    return Region(
        name=name,
        epsg=epsg,
        tile=tile,
        corner=corner,
        inset=(cols, rows),
        latitude=lat,
        longitude=lon,
        climate=climate(lon, lat),
        shares=class_shares(lon, lat),
        relief_m=45.0 * math.exp(0.6 * field("relief", lon, lat)),
        rivers=0.012 + 0.02 * wet,
        s2_orbit=1 + int(orbits[0] * 143),
        s1_ascending=1 + int(orbits[1] * 175),
        s1_descending=1 + int(orbits[2] * 175),
        continent=continent,
        patch=84.0,
        field_size=0.8 * math.exp(0.3 * field("field size", lon, lat)),
        palette=palette(lon, lat),
        yearly=0.7,
        first_change=number,
    )


@cache
def regions() -> tuple[Region, ...]:
    """The regions, in the order of `PLACES`."""
    places = [(continent, *place) for continent, places in PLACES.items() for place in places]
    return tuple(_region(number, *place) for number, place in enumerate(places))
