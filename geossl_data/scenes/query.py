"""What is asked of a catalog."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from geossl_data.records import Product, Scene
from geossl_data.scenes.area_index import AreaIndex

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

S2Level = Literal["L2A", "L1C"]
S1Product = Literal["RTC", "GRD"]


def midnight(day: date | None, *, days: int = 0) -> datetime | None:
    """The first moment of a day, UTC, or of the one so many days later; None for None."""
    return None if day is None else datetime.combine(day, time_of_day(), UTC) + timedelta(days=days)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for; None means no limit."""

    area: "BaseGeometry | None" = None
    """Longitude/latitude."""
    start: datetime | None = None
    end: datetime | None = None
    """Exclusive."""
    margin: timedelta = timedelta(0)
    """How much earlier and later than that Sentinel-1 is of use: the largest gap of a pair."""
    max_cloud: float = 100.0
    """Percent of a whole Sentinel-2 scene; scenes that state none pass."""
    s2: S2Level = "L2A"
    s1: S1Product = "RTC"

    def __str__(self) -> str:
        parts = []
        if self.start is not None or self.end is not None:
            last = "…" if self.end is None else str((self.end - timedelta(microseconds=1)).date())
            parts.append(f"{'…' if self.start is None else self.start.date()} to {last}")
        if self.area is not None:
            parts.append("area " + " ".join(f"{edge:g}" for edge in self.area.bounds))
        return ", ".join([*parts, f"cloud up to {self.max_cloud:g} %"])

    @property
    def products(self) -> tuple[Product, ...]:
        """What is wanted of both sensors, and land-class maps beside them."""
        return (self.s2, self.s1, "class")

    @cached_property
    def area_index(self) -> AreaIndex | None:
        """The area as scenes see it; made once."""
        return None if self.area is None else AreaIndex(self.area)

    def meets(self, footprint: "BaseGeometry") -> bool:
        """Does a footprint touch the area?"""
        return self.area_index is None or self.area_index.meets(footprint)

    def period(self, product: Product) -> tuple[datetime | None, datetime | None]:
        """First moment, and the first one after the last, in which scenes of a product are wanted."""
        margin = self.margin if product == self.s1 else timedelta(0)
        return self.start and self.start - margin, self.end and self.end + margin

    def miss(self, scene: Scene) -> str | None:
        """Which limit a scene is beyond; None where it is within all of them. Label maps pass whatever their dates."""
        if scene.sensor != "label":
            first, end = self.period(self.s1 if scene.sensor == "s1" else self.s2)
            if first is not None and scene.acquired < first:
                return "before the first day"
            if end is not None and scene.acquired >= end:
                return "after the last day"
            if scene.cloud_percent is not None and scene.cloud_percent > self.max_cloud:
                return "too cloudy"
        return None if self.meets(scene.footprint) else "outside the area"
