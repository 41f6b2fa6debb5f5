"""The values that travel between stages: frozen, and checked when made, so that the rest of the code trusts them.

A record's fields are the columns of its stage's table (see `tables`). Times are UTC and timezone-aware.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from geossl_data.bands import SIZE_STEP_PX
from geossl_data.errors import SceneError
from geossl_data.grid import Grid

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
OrbitState = Literal["ascending", "descending"]
Product = Literal["L2A", "L1C", "RTC", "GRD", "class"]
"""A level of Sentinel-2, a product of Sentinel-1, or land-class maps."""

KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,120}")
"""What a sample key may look like: WebDataset cuts a member name at the first dot, so a key holds none."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SceneError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One STAC item: one acquisition of one sensor, or one label map, with its bands as assets."""

    id: str
    """Of the item."""
    collection: str
    """Of the catalog, as it names it."""
    sensor: Literal["s1", "s2", "label"]
    """Whose pixels, or `label` for maps."""
    acquired: datetime
    """Sensing time, UTC; for a label map the start of the period it holds for."""
    ends: datetime
    """End of sensing; equal to `acquired` when the item states one time only."""
    footprint: "BaseGeometry"
    """Longitude/latitude polygon; runs beyond ±180 where it crosses the antimeridian."""
    hrefs: Mapping[str, str]
    """Band name (B02 …, SCL, VV, VH, class) → unsigned absolute href."""
    grids: Mapping[str, Grid] = field(default_factory=lambda: MappingProxyType({}))
    """Band name → pixel grid, as far as the item states them; the file has the last word."""
    platform: str | None = None
    """Lower case, as in `sentinel-2a`."""
    orbit_state: OrbitState | None = None
    """Direction of flight; None where the item does not tell."""
    relative_orbit: int | None = None
    """Number of the track: 1 to 143 for Sentinel-2, 1 to 175 for Sentinel-1."""
    cloud_percent: float | None = None
    """Share of the whole scene, 0 to 100."""
    mgrs_tile: str | None = None
    """Sentinel-2 tile, as in `32TQM`."""
    baseline: str | None = None
    """Sentinel-2 processing baseline, as in `05.10`."""
    boa_offset: int | None = None
    """What has to be added to the file's digital numbers (0 or -1000); None where nobody states it."""
    product_id: str | None = None
    """Name of the product at the agency, without `.SAFE`."""
    product: Product | None = None
    """What the item is of; None where nobody said."""

    def __post_init__(self) -> None:
        _require(bool(self.id), "item without an id")
        _require(self.acquired.utcoffset() == timedelta(0), f"{self.id}: acquisition time is not UTC")
        _require(self.ends >= self.acquired, f"{self.id}: ends before it starts")
        _require(not self.footprint.is_empty, f"{self.id}: empty footprint")
        _require(self.cloud_percent is None or 0 <= self.cloud_percent <= 100, f"{self.id}: cloud cover out of 0…100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A Sentinel-2 scene and the Sentinel-1 scene, or frames of one pass, that see its ground near it in time."""

    s2_id: str
    """Item of the Sentinel-2 scene."""
    s1_id: str
    """Item of the Sentinel-1 scene, the first of its pass."""
    s2_acquired: datetime
    """Sensing time of Sentinel-2, UTC."""
    s1_acquired: datetime
    """Sensing time of Sentinel-1, UTC."""
    gap_hours: float
    """Sentinel-1 minus Sentinel-2 acquisition time."""
    overlap: float
    """Shared footprint area over the smaller footprint, in (0, 1]."""
    rank: int
    """0 for the Sentinel-1 pass nearest in time to this Sentinel-2 scene, then 1, 2, …"""
    n_candidates: int
    """How many Sentinel-1 passes qualified for this Sentinel-2 scene."""
    s1_more: tuple[str, ...] = ()
    """Further frames of the same Sentinel-1 pass, in time order; together they cover what `s1_id` alone does not."""
    s2_more: tuple[str, ...] = ()
    """Further parts of the same Sentinel-2 acquisition: of the same tile (two ground stations), in time order; for a
    place that no tile holds, of neighbouring tiles too."""
    s1_platform: str | None = None
    """As in `sentinel-1a`; None where the item does not tell, as below."""
    s2_platform: str | None = None
    """As in `sentinel-2b`."""
    s1_orbit_state: OrbitState | None = None
    """Direction of flight of Sentinel-1."""
    s1_relative_orbit: int | None = None
    """Number of its track, 1 to 175."""
    s2_relative_orbit: int | None = None
    """Number of its track, 1 to 143."""

    def __post_init__(self) -> None:
        _require(0 < self.overlap <= 1, f"{self.s2_id} × {self.s1_id}: overlap {self.overlap} is not in (0, 1]")
        _require(math.isfinite(self.gap_hours), f"{self.s2_id} × {self.s1_id}: gap is not finite")
        _require(0 <= self.rank < self.n_candidates, f"{self.s2_id} × {self.s1_id}: rank out of range")

    @property
    def s2_ids(self) -> tuple[str, ...]:
        """All parts of the Sentinel-2 acquisition, `s2_id` first."""
        return (self.s2_id, *self.s2_more)

    @property
    def s1_ids(self) -> tuple[str, ...]:
        """All frames of the Sentinel-1 pass, `s1_id` first."""
        return (self.s1_id, *self.s1_more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A square of ground: a window on the Sentinel-2 grid of its UTM zone."""

    lon: float
    """Centre, degrees east, in [-180, 180)."""
    lat: float
    """Centre, degrees north."""
    epsg: int
    """UTM zone of the Sentinel-2 grid."""
    x: float
    """West edge in metres."""
    y: float
    """North edge in metres."""
    size_px: int
    """Side in 10 m pixels; a multiple of 6."""
    cell: str
    """Cell of the 10 km equal-spacing grid that holds the centre, as in `0506U_0119R`."""

    def __post_init__(self) -> None:
        _require(-180 <= self.lon < 180, f"longitude {self.lon} is not in [-180, 180)")
        _require(-90 <= self.lat <= 90, f"latitude {self.lat} is not in [-90, 90]")
        _require(
            self.size_px > 0 and self.size_px % SIZE_STEP_PX == 0,
            f"size {self.size_px} px is not a positive multiple of {SIZE_STEP_PX}",
        )

    @property
    def side_m(self) -> float:
        """Side in metres."""
        return self.size_px * 10.0

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """west, south, east, north in metres of the place's UTM zone."""
        return (self.x, self.y - self.side_m, self.x + self.side_m, self.y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a place shall be, drawn before any catalog was asked: only a scene's grid makes it a Place."""

    key: str
    """Unique name among the sites of a draw: cell and eight hex digits of the exact position."""
    lon: float
    """Centre, degrees east, in [-180, 180)."""
    lat: float
    """Centre, degrees north."""
    size_px: int
    """Side in 10 m pixels; a multiple of 6."""
    cell: str
    """Cell of the 10 km equal-spacing grid that holds the centre."""
    stratum: str
    """The class of ground that the allocation counted this site in."""
    weight: float
    """Importance weight: proportional to one over the inclusion probability, mean 1."""
    inclusion_probability: float
    """Chance of a spot of land in the stratum to lie in a drawn square, in (0, 1]."""
    split: Split
    """Which part of the dataset it belongs to; all of a block is in one."""
    block: str
    """Spatial block that decided the split."""
    drawn_by: str = ""
    """The strategy that took this site; of a mixture the one whose share it fell into."""

    def __post_init__(self) -> None:
        _require(KEY_PATTERN.fullmatch(self.key) is not None, f"site key {self.key!r} is not {KEY_PATTERN.pattern}")
        _require(-180 <= self.lon < 180, f"{self.key}: longitude {self.lon} is not in [-180, 180)")
        _require(-90 <= self.lat <= 90, f"{self.key}: latitude {self.lat} is not in [-90, 90]")
        _require(
            self.size_px > 0 and self.size_px % SIZE_STEP_PX == 0,
            f"{self.key}: size {self.size_px} px is not a positive multiple of {SIZE_STEP_PX}",
        )
        _require(self.split in SPLITS, f"{self.key}: split {self.split!r} is not one of {SPLITS}")
        _require(0 < self.inclusion_probability <= 1, f"{self.key}: inclusion probability out of (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One pair seen at one place."""

    s2_id: str
    """Item of the Sentinel-2 scene."""
    s1_id: str
    """Item of the Sentinel-1 scene."""
    acquired: datetime
    """Sentinel-2 sensing time."""
    gap_hours: float
    """Sentinel-1 minus Sentinel-2 acquisition time."""
    s1_more: tuple[str, ...] = ()
    """Further frames of the same Sentinel-1 pass, needed where `s1_id` alone does not cover the place."""
    s2_more: tuple[str, ...] = ()
    """Further parts of the same Sentinel-2 acquisition, needed likewise: of the same tile, or of neighbouring tiles on
    one pixel grid; together they cover the place."""

    @property
    def s2_ids(self) -> tuple[str, ...]:
        """All parts of the Sentinel-2 acquisition, `s2_id` first."""
        return (self.s2_id, *self.s2_more)

    @property
    def s1_ids(self) -> tuple[str, ...]:
        """All frames of the Sentinel-1 pass, `s1_id` first."""
        return (self.s1_id, *self.s1_more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A place with its looks in time order; what one member group of a shard holds."""

    key: str
    """Unique name inside the dataset: letters, digits, `_` and `-`."""
    place: Place
    """The square of ground."""
    looks: tuple[Look, ...]
    """In order of time, at least one."""
    spares: tuple[tuple[Look, ...], ...] = ()
    """For each look, in the same order, others that may stand in for it, the best first; () where there are none for
    any. Whichever of them do, the looks stay in time order and keep to the rule that chose them."""
    stratum: str
    """The class of ground that the allocation counted this place in."""
    weight: float
    """Importance weight, mean 1: proportional to the ground that the place alone stands for over the inclusion
    probability. Ground that two tiles show has two candidates, each with half of it."""
    inclusion_probability: float
    """Chance of this place to be drawn, in (0, 1]."""
    split: Split
    """Which part of the dataset it belongs to; all of a block is in one."""
    block: str
    """Spatial block that decided the split."""
    drawn_by: str = ""
    """The strategy that took this place, of a mixture the one whose share it fell into; for a place drawn without a
    catalog the one that drew it there."""
    change_score: float | None = None
    """How much more the place changed over years than over seasons, see `sampling.change`; None where not measured."""
    change_score_s2: float | None = None
    """The same from Sentinel-2 alone."""
    change_score_s1: float | None = None
    """The same from Sentinel-1 alone."""
    spectral_entropy: float | None = None
    """How varied the place's spectra are, see `sampling.change`; None where not measured."""

    def __post_init__(self) -> None:
        _require(KEY_PATTERN.fullmatch(self.key) is not None, f"sample key {self.key!r} is not {KEY_PATTERN.pattern}")
        _require(len(self.looks) > 0, f"{self.key}: no looks")
        times = [look.acquired for look in self.looks]
        _require(times == sorted(times), f"{self.key}: looks are not in time order")
        _require(
            len(self.spares) in (0, len(times)), f"{self.key}: {len(times)} looks, but spares for {len(self.spares)}"
        )
        stays = [
            [look.acquired, *(spare.acquired for spare in spares)]
            for look, spares in zip(self.looks, self.spares, strict=False)
        ]
        in_order = all(max(before) <= min(after) for before, after in pairwise(stays))
        _require(in_order, f"{self.key}: a spare would put the looks out of time order")
        _require(self.split in SPLITS, f"{self.key}: split {self.split!r} is not one of {SPLITS}")
        _require(0 < self.inclusion_probability <= 1, f"{self.key}: inclusion probability out of (0, 1]")

    def with_spares(self, numbers: Mapping[int, int]) -> "Sample":
        """The sample in which the spare `numbers[i]` stands in for look i, for every position i that it names.

        Key and all else stay. A position keeps those of its spares that come after the one taken.
        Raises SceneError where there is no such spare.
        """
        looks, spares = list(self.looks), list(self.spares)
        for position, number in numbers.items():
            there = len(spares[position]) if 0 <= position < len(spares) else 0
            _require(0 <= number < there, f"{self.key}: look {position} has {there} spares, no number {number}")
            looks[position], spares[position] = spares[position][number], spares[position][number + 1 :]
        return replace(self, looks=tuple(looks), spares=tuple(spares) if any(spares) else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something that was given up, and why."""

    stage: Literal["fetch", "sample", "shard"]
    """Which gave it up."""
    id: str
    """Item id or sample key."""
    reason: str
    """A short class of reason, as in `missing-asset`; the summary counts these."""
    detail: str
    """One line with what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedSquare:
    """Ground that scenes show and that could not be drawn, and why."""

    lon: float
    """Centre, degrees east."""
    lat: float
    """Centre, degrees north."""
    stratum: str
    """The class of ground that it would have counted in."""
    reason: str
    """no-pair: no pair covers it; no-dates: the look rule found too few; sea; buffer: another split is near."""
