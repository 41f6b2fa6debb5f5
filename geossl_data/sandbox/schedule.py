"""When the sandbox's satellites pass: the acquisitions of a region, on the real repeat cycles of both missions."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from geossl_data.sandbox.noise import stream, uniform
from geossl_data.sandbox.regions import Layout, Region, Slot

EPOCH = datetime(2021, 1, 1, tzinfo=UTC)
S2_REPEAT = timedelta(days=5)
"""Of the two satellites together; each alone passes every 10 days."""
S1_REPEAT = timedelta(days=12)
PARTNER = timedelta(days=3)
OFFSET_FROM = datetime(2022, 1, 25, tzinfo=UTC)
"""First day of baseline 04.00, which brought the offset of +1000 in the digital numbers."""
S2_HOUR = 10.5
"""Local solar time of Sentinel-2 passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpticalPass:
    """One Sentinel-2 acquisition of a region."""

    acquired: datetime
    platform: Literal["A", "B"]
    orbit: int
    baseline: str
    processed: datetime
    slot: Slot
    number: int
    """Position among the region's passes."""

    @property
    def offset(self) -> int:
        """What the processor added to the digital numbers: 0 before baseline 04.00, 1000 from then on."""
        return 1000 if float(self.baseline) >= 4 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarPass:
    """One Sentinel-1 acquisition of a region."""

    acquired: datetime
    orbit: int
    state: Literal["ascending", "descending"]

    @property
    def absolute_orbit(self) -> int:
        """Orbits since launch; relative orbit = (absolute - 73) mod 175 + 1 for Sentinel-1A."""
        guess = 36000 + (self.acquired - EPOCH) / S1_REPEAT * 175
        return self.orbit + 72 + 175 * round((guess - self.orbit - 72) / 175)


def day_of_year(when: datetime) -> float:
    """Days since the year began, 0 to 366."""
    return (when - datetime(when.year, 1, 1, tzinfo=UTC)) / timedelta(days=1)


def sun_position(latitude: float, day: float, hour: float) -> tuple[float, float]:
    """Elevation and azimuth (clockwise from north) of the sun in radians, at local solar time.

    Declination after Cooper (1969): 23.45° sin(2π (284 + day) / 365).
    """
    declination = math.radians(23.45) * math.sin(2 * math.pi * (285 + day) / 365)
    phi, angle = math.radians(latitude), math.radians(15 * (hour - 12))
    sine = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(angle)
    east = -math.cos(declination) * math.sin(angle)
    north = math.cos(phi) * math.sin(declination) - math.sin(phi) * math.cos(declination) * math.cos(angle)
    return math.asin(sine), math.atan2(east, north) % (2 * math.pi)


def _local(hour: float, longitude: float) -> timedelta:
    """Local solar time as a time after midnight UTC."""
    return timedelta(hours=(hour - longitude / 15.0) % 24.0)


def _nearest(when: datetime, first: datetime, repeat: timedelta) -> datetime:
    return first + repeat * round((when - first) / repeat)


def passes(region: Region, layout: Layout, seed: int) -> tuple[list[OpticalPass], list[RadarPass]]:
    """The acquisitions of a region, each list in time order.

    Sentinel-2 comes every 5 days and each Sentinel-1 orbit every 12, as in reality; for every slot the first
    Sentinel-2 date near the wanted season is taken whose nearest Sentinel-1 passes lie as the slot asks.
    """
    key = stream(seed, region.name, "orbits")
    days = [int(draw * span) for draw, span in zip(uniform(key, 0, [0, 1, 2]), (5, 12, 12), strict=True)]
    s2_first = EPOCH + timedelta(days=days[0]) + _local(S2_HOUR, region.longitude)
    up_first = EPOCH + timedelta(days=days[1]) + _local(18.1, region.longitude)
    down_first = EPOCH + timedelta(days=days[2]) + _local(6.0, region.longitude)
    optical: list[OpticalPass] = []
    radar: dict[datetime, RadarPass] = {}
    for number, slot in enumerate(layout.slots):
        season = slot.season + (0.5 if region.climate.southern else 0.0)
        wanted = datetime(slot.year, 1, 1, tzinfo=UTC) + timedelta(days=365 * (season % 1.0))
        nearest = round((wanted - s2_first) / S2_REPEAT)
        for away in sorted(range(-12, 13), key=abs):
            count = nearest + away
            acquired = s2_first + S2_REPEAT * count
            up = _nearest(acquired, up_first, S1_REPEAT)
            down = _nearest(acquired, down_first, S1_REPEAT)
            near_up, near_down = abs(up - acquired) < PARTNER, abs(down - acquired) < PARTNER
            fits = {"near": near_up, "both": near_up and near_down, "far": not near_up}[slot.radar]
            if fits and acquired.year == slot.year:
                break
        else:
            acquired, count = s2_first + S2_REPEAT * nearest, nearest
            up = _nearest(acquired, up_first, S1_REPEAT)
            down = _nearest(acquired, down_first, S1_REPEAT)
        optical.append(_optical(region, slot, number, acquired, count))
        radar[up] = RadarPass(acquired=up, orbit=region.s1_ascending, state="ascending")
        if slot.radar == "both":
            radar[down] = RadarPass(acquired=down, orbit=region.s1_descending, state="descending")
    optical.sort(key=lambda item: item.acquired)
    return optical, [radar[when] for when in sorted(radar)]


def _optical(region: Region, slot: Slot, number: int, acquired: datetime, count: int) -> OpticalPass:
    if slot.reprocessed:
        baseline, processed = "05.00", acquired + timedelta(days=760, hours=3)
    elif acquired < OFFSET_FROM:
        baseline, processed = "03.01", acquired + timedelta(hours=5)
    else:
        baseline, processed = ("04.00" if acquired.year == 2022 else "05.09"), acquired + timedelta(hours=7)
    return OpticalPass(
        acquired=acquired.replace(microsecond=24000),
        platform="A" if count % 2 == 0 else "B",
        orbit=region.s2_orbit,
        baseline=baseline,
        processed=processed.replace(microsecond=0),
        slot=slot,
        number=number,
    )
