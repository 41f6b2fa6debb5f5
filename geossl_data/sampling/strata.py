"""Which class of ground a place belongs to, for spreading a count over the Earth."""

import math

BAND_DEGREES = 15
"""Height of a latitude band."""
SECTOR_DEGREES = 30
"""Width of a longitude sector."""


def stratum(lon: float, lat: float) -> str:
    """Latitude band × region of a point in degrees, named by its corner nearest to 0° N 0° E: `N45E000`, `S15W060`.

    A band is 15° of latitude (so it stands for a belt of climate), a region 30° of longitude. Points on an edge
    belong to the band or sector that begins there, counted away from the equator and eastwards.
    """
    band = min(int(abs(lat) // BAND_DEGREES) * BAND_DEGREES, 90 - BAND_DEGREES)
    hemisphere = "N" if lat >= 0 else "S"
    west = math.floor(((lon + 180.0) % 360.0 - 180.0) / SECTOR_DEGREES) * SECTOR_DEGREES
    side = f"E{west:03d}" if west >= 0 else f"W{-west:03d}"
    return f"{hemisphere}{band:02d}{side}"
