"""Which split a place belongs to: decided by its block of ground, before anything is drawn.

A block's split is a hash of the seed and the block, so a place keeps its split when the dataset grows.
"""

import hashlib
import math
from dataclasses import dataclass

from geossl_data.grid import EARTH_RADIUS_KM, cell, cell_name
from geossl_data.records import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How ground is shared out: blocks of the equal-spacing grid, each wholly train, val or test."""

    block_km: float = 10.0
    val: float = 0.1
    """Chance of a block to be for validation."""
    test: float = 0.2
    """Chance of a block to be for testing."""
    seed: int = 0

    def block(self, lon: float, lat: float) -> str:
        """Name of the block that holds a point in degrees."""
        return cell_name(lon, lat, self.block_km)

    def split(self, block: str) -> Split:
        """The split of a block; the same for ever."""
        digest = hashlib.sha256(f"{self.seed}/{block}".encode()).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        if draw < self.test:
            return "test"
        return "val" if draw < self.test + self.val else "train"

    def near_other_split(self, lon: float, lat: float, buffer_km: float) -> bool:
        """True where a block of another split may lie within `buffer_km` of a point in degrees.

        Every block that meets the longitude/latitude box around the circle of that radius is asked, so the answer
        errs on the side of True. Two points of different splits for which it is False lie at least `buffer_km` apart.
        """
        own = self.split(self.block(lon, lat))
        reach = math.degrees(buffer_km / EARTH_RADIUS_KM)
        south, north = max(lat - reach, -90.0), min(lat + reach, 90.0)
        bulge = math.sin(math.radians(min(reach, 90.0))) / max(math.cos(math.radians(lat)), 1e-12)
        east_reach = math.degrees(math.asin(bulge)) if bulge < 1 and abs(lat) + reach < 90 else 180.0
        row_degrees = math.degrees(self.block_km / EARTH_RADIUS_KM)
        for row in range(math.floor(south / row_degrees), math.floor(north / row_degrees) + 1):
            middle = min(max((row + 0.5) * row_degrees, -90.0), 90.0)
            columns = max(1, math.ceil(2 * math.pi * EARTH_RADIUS_KM * math.cos(math.radians(middle)) / self.block_km))
            width = 360.0 / columns
            first = math.floor((lon - east_reach + 180.0) / width)
            last = math.floor((lon + east_reach + 180.0) / width)
            for column in range(first, min(last, first + columns - 1) + 1):
                centre = (column + 0.5) * width - 180.0
                if cell(centre, middle, self.block_km)[0] == row and self.split(self.block(centre, middle)) != own:
                    return True
        return False
