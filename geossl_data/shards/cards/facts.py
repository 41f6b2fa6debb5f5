"""What the entries of a dataset add up to, as far as the cards tell it."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import BANDS, MEMBERS, Band, Member
from geossl_data.errors import ShardError
from geossl_data.grid import Bounds, squares_lonlat
from geossl_data.records import SPLITS
from geossl_data.scenes.redaction import redact_text
from geossl_data.shards.cards.licence import missions
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry
from geossl_data.version import VERSION

_CHUNK = 65_536
_LONGEST_CROSSING = 180.0
_PLATFORM = re.compile(r"S([12])([A-D])[_-]", re.IGNORECASE)
_RTC_ENDING = "_rtc"
"""How the Planetary Computer ends the ids of its terrain-corrected Sentinel-1 items."""
_GROUND_RANGE = "_GRD"
"""In the id of every Sentinel-1 product of detected amplitudes."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A class of ground that the draw counted places in."""

    name: str
    of_places: float
    """Share of the places."""
    of_ground: float
    """Share of the sampled ground, as the inclusion probabilities of its places give it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the entries add up to; does not depend on their order."""

    members: tuple[Member, ...]
    pixel_m: float | None
    """Side in metres of the pixels that a place's size is counted in; None where the ground is not known."""
    n_places: int
    n_looks: int
    looks: tuple[int, int]
    """Fewest and most looks of one place."""
    first: datetime | None
    last: datetime | None
    """Oldest and newest acquisition of either sensor; None where no time is known."""
    n_located: int
    box: Bounds | None
    """West, south, east, north of the places in degrees, west > east across the antimeridian; None where unknown."""
    latitudes: tuple[float, float] | None
    """Southernmost and northernmost centre."""
    codes: tuple[int, ...]
    """EPSG codes of the places' own grids."""
    n_cells: int
    splits: Mapping[str, int]
    strategies: Mapping[str, int]
    strata: tuple[Stratum, ...]
    """The most frequent first."""
    gap_hours: tuple[float, float] | None
    """Smallest and largest, with their sign."""
    days: tuple[float, float, float] | None
    """Least, median and largest distance in time of consecutive looks at one place."""
    sentinels: tuple[str, ...]
    """`s1` and `s2`, as far as the pixels are of Sentinel-1 and Sentinel-2."""
    platforms: tuple[str, ...]
    """As in `sentinel-2a`."""
    rtc: bool | None
    """Whether Sentinel-1 is the Planetary Computer's terrain-corrected product; None where ids do not tell."""

    @property
    def title(self) -> str:
        """One line, the same for the same entries."""
        return f"{missions(self.sentinels)} looks at {_count(self.n_places, 'place')}".strip()

    def resolution_m(self, member: Member) -> float | None:
        """Side of a member's pixels in metres; None where the ground is not known."""
        return None if self.pixel_m is None or self.box is None else self.pixel_m * member.factor


def facts_of(entries: Sequence[Entry], notes: Mapping[str, Any]) -> Facts:
    """The facts of the entries of one dataset and of the notes of its manifest; about 25 µs an entry.

    Raises ShardError without entries.
    """
    if not entries:
        raise ShardError("a dataset without a sample has nothing to describe; see skipped.parquet for the reasons")
    members = tuple(Member(**{**note, "bands": tuple(note["bands"])}) for note in notes["members"])
    counts = Counter(entry.n_looks for entry in entries)
    splits = Counter(entry.split for entry in entries)
    located = [entry for entry in entries if entry.lon is not None]
    gaps = [gap for entry in entries for gap in entry.gap_hours if gap is not None]
    days = np.array(
        [
            (after - before).total_seconds() / 86_400
            for entry in entries
            for before, after in zip(entry.acquired[:-1], entry.acquired[1:], strict=True)
            if before is not None and after is not None
        ]
    )
    first, last = _period(entries)
    s1 = {name[:4] for name in _ids(entries, "s1_ids", "s1_more")}
    s2 = {name[:4] for name in _ids(entries, "s2_ids", "s2_more")}
    platforms = {f"sentinel-{match[1]}{match[2].lower()}" for name in s1 | s2 if (match := _PLATFORM.match(name))}
    # Other rasters have members of other names; where an id is that of a Sentinel product it speaks for itself.
    of_catalog = {member.name for member in members} <= set(MEMBERS)
    sentinels = tuple(
        sensor
        for sensor, names in (("s1", s1), ("s2", s2))
        if names and (of_catalog or any(name.startswith(f"sentinel-{sensor[1]}") for name in platforms))
    )
    latitudes = [entry.lat for entry in located if entry.lat is not None]
    return Facts(
        members=members,
        pixel_m=notes["pixel_m"],
        n_places=len(entries),
        n_looks=sum(count * number for count, number in counts.items()),
        looks=(min(counts), max(counts)),
        first=first,
        last=last,
        n_located=len(located),
        box=_box(located, notes["pixel_m"]) if located else None,
        latitudes=(min(latitudes), max(latitudes)) if latitudes else None,
        codes=tuple(sorted({entry.epsg for entry in located if entry.epsg is not None})),
        n_cells=len({entry.cell for entry in located if entry.cell}),
        splits={split: splits[split] for split in SPLITS if splits[split]},
        strategies=dict(sorted(Counter(entry.drawn_by for entry in entries if entry.drawn_by).items())),
        strata=_strata(entries),
        gap_hours=(min(gaps), max(gaps)) if gaps else None,
        days=(float(days.min()), float(np.median(days)), float(days.max())) if len(days) else None,
        sentinels=sentinels,
        platforms=tuple(sorted(platforms)),
        rtc=_is_rtc(_ids(entries, "s1_ids", "s1_more")),
    )


def _period(entries: Sequence[Entry]) -> tuple[datetime | None, datetime | None]:
    """The oldest and the newest acquisition of either sensor; None where no time is known."""
    times = [
        time + timedelta(hours=hours)
        for entry in entries
        for time, gap in zip(entry.acquired, entry.gap_hours, strict=True)
        for hours in (0.0, gap or 0.0)
        if time is not None
    ]
    return min(times, default=None), max(times, default=None)


def _ids(entries: Sequence[Entry], *columns: str) -> Iterable[str]:
    """The ids of the scenes of one sensor, those of mosaics too."""
    ids, more = columns
    for entry in entries:
        yield from filter(None, getattr(entry, ids))
        for names in getattr(entry, more):
            yield from names


def _is_rtc(names: Iterable[str]) -> bool | None:
    known = {True if name.endswith(_RTC_ENDING) else False if _GROUND_RANGE in name else None for name in names}
    if True in known:
        return True
    return False if known == {False} else None


def _strata(entries: Sequence[Entry]) -> tuple[Stratum, ...]:
    weights: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        weights[entry.stratum].append(entry.weight)
    sums = {name: math.fsum(values) for name, values in weights.items()}
    total = math.fsum(sums[name] for name in sorted(sums))
    found = [
        Stratum(name, len(values) / len(entries), sums[name] / total if total else 0.0)
        for name, values in weights.items()
    ]
    return tuple(sorted(found, key=lambda stratum: (-stratum.of_places, stratum.name)))


def _box(located: Sequence[Entry], pixel_m: float | None) -> Bounds:
    """The smallest box around the places' footprints, or around their centres where their size is not known.

    Rounded outwards to a millionth of a degree.
    """
    import shapely

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(entry, name) for entry in located], dtype=float)

    west, south = column("lon"), column("lat")
    east, north = west.copy(), south.copy()
    if pixel_m is not None:
        x, y, codes = column("x"), column("y"), column("epsg").astype(int)
        for code in np.unique(codes).tolist():
            rows = np.flatnonzero(codes == code)
            for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK)):
                squares = squares_lonlat(code, x[part], y[part], located[0].size_px * pixel_m)
                west[part], south[part], east[part], north[part] = shapely.bounds(squares).T
    left, right = shortest_arc(west, east)
    bottom, top = float(south.min()), float(north.max())
    return (_down(left), _down(bottom), _up(right), _up(top))


def _down(degrees: float) -> float:
    return math.floor(degrees * 1e6) / 1e6


def _up(degrees: float) -> float:
    return math.ceil(degrees * 1e6) / 1e6


def shortest_arc(west: NDArray[np.float64], east: NDArray[np.float64]) -> tuple[float, float]:
    """West and east end, each in [-180, 180], of one arc of a parallel that holds all arcs from `west` to `east`.

    Arcs are given in degrees, west <= east, and may run beyond ±180. The result crosses the antimeridian, west > east
    (RFC 7946, 5.2), only where that makes it shorter and at most half a turn long: a longer one says little, and
    readers that know of no crossing take it for its opposite.
    """
    start = (west + 180.0) % 360.0 - 180.0
    order = np.argsort(start, kind="stable")
    start, reach = start[order], (start + (east - west))[order]
    first, furthest = float(start[0]), float(reach.max())
    # What runs over the antimeridian covers the first degrees of the next turn too.
    reach = np.maximum(np.maximum.accumulate(reach), furthest - 360.0)
    gaps = start[1:] - reach[:-1]
    after = int(gaps.argmax()) + 1 if len(gaps) else 0
    crosses = bool(len(gaps)) and float(gaps[after - 1]) > first + 360.0 - furthest
    left, right = (float(start[after]), float(reach[after - 1]) + 360.0) if crosses else (first, furthest)
    if right <= 180.0:
        return left, right
    if right - left <= _LONGEST_CROSSING:
        return left, right - 360.0
    return (first, furthest) if furthest <= 180.0 else (-180.0, 180.0)


def band_of(member: Member, name: str) -> Band | None:
    """What is known of a band of Sentinel-1 or Sentinel-2; None for bands of other sensors and for class maps."""
    band = BANDS.get(name)
    return band if band is not None and band.sensor == member.sensor else None


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def description(facts: Facts) -> str:
    """What the dataset is, in a few sentences."""
    parts = [
        f"{_count(facts.n_places, 'place')} with {_count(facts.n_looks, 'look')}, cut by geossl {VERSION} for "
        "self-supervised learning.",
        f"The pixels lie in WebDataset tars in {SHARDS_FOLDER}/; {MANIFEST_NAME} has one row a sample, recipe.yaml the "
        "choices that led to them.",
        f"Members of a look: {', '.join(member.name for member in facts.members)}.",
    ]
    if facts.n_located < facts.n_places:
        parts.append(f"Of {_count(facts.n_places - facts.n_located, 'place')} it is not known where on the Earth.")
    return " ".join(parts)


def keywords(facts: Facts) -> list[str]:
    """Words under which the dataset may be looked for."""
    return [*(missions((sensor,)) for sensor in facts.sentinels), "self-supervised learning", "WebDataset"]


def cleaned(value: Any) -> Any:
    """The same JSON value without signatures, keys and queries of addresses in any of its texts.

    Strata, bands and labels have the names that users and catalogs gave them, which may hold anything.
    """
    if isinstance(value, dict):
        return {name: cleaned(member) for name, member in value.items()}
    if isinstance(value, list):
        return [cleaned(member) for member in value]
    return redact_text(value) if isinstance(value, str) else value
