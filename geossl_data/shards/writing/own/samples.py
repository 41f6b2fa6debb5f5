"""What is planned of a table of rasters: squares of places, their looks, and the files of these."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from geossl_data.bands import Member
from geossl_data.records import Skipped, Split
from geossl_data.shards.writing.own.ground import Ground

_KEY_LENGTH = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """One raster of a look."""

    sensor: str
    path: str
    """Below the folder of the rasters."""
    acquired: datetime | None
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLook:
    """What is seen of a place at one time."""

    acquired: datetime | None
    """The earliest of its rasters' times; None where none is said."""
    number: int | None
    """As the table counts it."""
    label: int
    """Class of the look; 0 where the table says none."""
    files: tuple[OwnFile, ...]
    """By sensor, in the order of the members."""
    labels: tuple[int, ...] = ()
    """All its classes, `label` first, where looks of the table have several; () otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSample:
    """A square of a place with its looks, in order; `Planned`."""

    key: str
    split: Split
    block: str
    """What decided the split: the block of ground, the place where that is not known, or `given-` and the split."""
    place: str
    """As the table calls it."""
    size_px: int
    column: int
    """West edge in the place's rasters, in pixels of the finest members."""
    row: int
    tile: tuple[int, int] | None
    """Row and column among the squares of the place; None where it is one square."""
    looks: tuple[OwnLook, ...]
    ground: Ground | None
    """Where it lies, with the grid of the finest members; None where nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPlan:
    """What is to be made of a table."""

    samples: tuple[OwnSample, ...]
    members: Mapping[str, Member]
    """In the order in which they are written."""
    pixel_m: float | None
    """Side of the finest members' pixels in metres; None where that is not one number for all."""
    label_names: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    left_over: float
    """Share of the pixels of the places that lie beyond their last whole square."""


def key_of(place: str) -> str:
    """A key for a place: its name where that can be one, else as much of it as can with a hash of it behind."""
    plain = unicodedata.normalize("NFKD", place).encode("ascii", "ignore").decode()
    safe = _UNSAFE.sub("-", plain).strip("-")[:_KEY_LENGTH]
    if safe == place:
        return place
    digest = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()
    return f"{safe or 'place'}-{digest}"
