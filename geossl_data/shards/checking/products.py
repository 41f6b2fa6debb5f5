"""When a Sentinel scene was sensed, as the name of its product tells.

Names: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), 3.4.1; Sentinel-1 Product Specification
(S1-RS-MDA-52-7441), 2.4. A Sentinel-2 name holds the start of the datatake, a Sentinel-1 name start and stop of the
slice.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

BEFORE = timedelta(minutes=1)
"""How much earlier than its product's name says a scene may be recorded: catalogs round."""
AFTER_S2 = timedelta(minutes=40)
"""How much later than the start of its datatake a Sentinel-2 tile may be seen: the longest datatakes last as long."""
AFTER_S1 = timedelta(minutes=1)
"""The same for Sentinel-1, from the slice's stop, or its start where the name holds no stop; a slice lasts 25 s."""

_S2 = re.compile(r"S2[A-D]_MSIL[12][A-C]_(\d{8}T\d{6})")
_S2_OLD = re.compile(r"S2[A-D]_\w{4}_PRD_MSIL.*_V(\d{8}T\d{6})")
_S2_DAY = re.compile(r"S2[A-D]_\d{1,2}[C-X][A-Z]{2}_(\d{8})_\d+_L[12][A-C]")
_S1 = re.compile(r"S1[A-D]_\w{2}_(?:GRD|SLC)[FHM_]_\w{4}_(\d{8}T\d{6})(?:_(\d{8}T\d{6}))?")


@dataclass(frozen=True, slots=True)
class Sensed:
    """The times in a product's name, and the times at which its scene may be recorded."""

    named: datetime
    """Start of sensing, UTC; midnight where the name holds a day only."""
    earliest: datetime
    latest: datetime


def sensed(name: str) -> Sensed | None:
    """When the scene of an item id or product id was sensed; None where the name does not tell."""
    for pattern, later in ((_S2, AFTER_S2), (_S2_OLD, AFTER_S2), (_S1, AFTER_S1)):
        match = pattern.match(name)
        if match is not None:
            start = _time(match[1])
            stop = _time(match[2]) if pattern is _S1 and match[2] else start
            if start is None or stop is None or stop < start:
                return None
            return Sensed(start, start - BEFORE, stop + later)
    day = _S2_DAY.match(name)
    start = _time(f"{day[1]}T000000") if day else None
    if start is None:
        return None
    # The day of the datatake's start or of the tile itself, as the archive has it.
    return Sensed(start, start - BEFORE, start + timedelta(days=1) + AFTER_S2)


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
