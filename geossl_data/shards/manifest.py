"""What the shards hold: one row per sample, found again by byte range, and notes about the whole.

The file is valid GeoParquet and valid stac-geoparquet: each sample is a STAC item whose asset is its shard. Reading
it needs pyarrow only, so that a training node works without the geospatial stack.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl_data.bands import MEMBERS, SIZE_STEP_PX, Member
from geossl_data.errors import ShardError
from geossl_data.records import KEY_PATTERN, SPLITS, Split
from geossl_data.scenes.items import parse_time, rfc3339, write_items
from geossl_data.shards.codec import CODECS
from geossl_data.tables import open_parquet, read_metadata

MANIFEST_NAME = "manifest.parquet"
SHARDS_FOLDER = "shards"
LICENCE_NAME = "LICENSE.txt"
COLLECTION = "geossl"
SHARD_PATTERN = re.compile(r"(train|val|test)-\d{6}\.tar")
DTYPES = ("uint8", "uint16", "float16", "float32")
MAX_SIZE_PX = 16_384

_PREFIX = "geossl:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One sample of the shards. Tuples hold one value per look, in time order."""

    key: str
    split: Split
    block: str
    """Spatial block that decided the split."""
    shard: str
    """File name inside the shards folder."""
    offset: int
    """First byte of the sample's member group in the tar."""
    nbytes: int
    """Length of the group, headers and padding included."""
    lon: float
    lat: float
    epsg: int
    x: float
    """West edge in metres."""
    y: float
    """North edge in metres."""
    size_px: int
    """Side in 10 m pixels."""
    cell: str
    stratum: str
    weight: float
    inclusion_probability: float
    n_looks: int
    members: tuple[tuple[str, ...], ...]
    """Member names that each look has."""
    acquired: tuple[datetime, ...]
    """Sentinel-2 sensing times, UTC."""
    gap_hours: tuple[float, ...]
    """Sentinel-1 minus Sentinel-2 acquisition time."""
    s2_ids: tuple[str, ...]
    s1_ids: tuple[str, ...]
    labels: tuple[int, ...]
    """Most frequent land class; 0 where no label map holds for the look."""
    cloud_fraction: tuple[float | None, ...]
    """Share of the classified pixels that are cloud or cloud shadow; None without a scene classification."""
    s2_valid_fraction: tuple[float, ...]
    s1_valid_fraction: tuple[float, ...]
    s2_more: tuple[tuple[str, ...], ...] = ()
    """Further parts of each look's Sentinel-2 acquisition; empty where no look of the sample is such a mosaic."""
    s1_more: tuple[tuple[str, ...], ...] = ()
    """Further frames of each look's Sentinel-1 pass; empty where no look of the sample is such a mosaic."""
    drawn_by: str | None = None
    """The strategy that took the place."""
    change_score: float | None = None
    """How much more the place changed over years than over seasons; None where not measured, as below."""
    change_score_s2: float | None = None
    change_score_s1: float | None = None
    spectral_entropy: float | None = None

    def __post_init__(self) -> None:
        per_look = (
            self.members,
            self.acquired,
            self.gap_hours,
            self.s2_ids,
            self.s1_ids,
            self.labels,
            self.cloud_fraction,
            self.s2_valid_fraction,
            self.s1_valid_fraction,
            *(more for more in (self.s2_more, self.s1_more) if more),
        )
        problem = None
        if KEY_PATTERN.fullmatch(self.key) is None:
            problem = f"key {self.key!r} is not {KEY_PATTERN.pattern}"
        elif self.split not in SPLITS:
            problem = f"split {self.split!r} is not one of {SPLITS}"
        elif SHARD_PATTERN.fullmatch(self.shard) is None or not self.shard.startswith(f"{self.split}-"):
            problem = f"shard {self.shard!r} is not a shard of split {self.split}"
        elif self.offset < 0 or self.offset % 512 or self.nbytes <= 0 or self.nbytes % 512:
            problem = f"bytes {self.offset} + {self.nbytes} are not whole tar blocks"
        elif not 0 < self.size_px <= MAX_SIZE_PX or self.size_px % SIZE_STEP_PX:
            problem = f"size {self.size_px} px is not a multiple of {SIZE_STEP_PX}"
        elif self.n_looks < 1 or any(len(values) != self.n_looks for values in per_look):
            problem = f"columns disagree on the {self.n_looks} looks"
        elif any(time.utcoffset() != timedelta(0) for time in self.acquired):
            problem = "times are not UTC"
        if problem:
            raise ShardError(f"sample {self.key[:130]!r}: {problem}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The rows and the notes of a `manifest.parquet`.

    notes: `codec`, `size_px`, `fingerprint`; `members` {name: {bands, dtype, units, resolution_m}}; `statistics`
    {band: {mean, std, count}} over the valid pixels of the training split, in the units of the stored numbers;
    `buffer_km`, the least distance between splits that the places were drawn with;
    `label_names` {"1": …}; `shards` {file: {nbytes, sha256, n_samples}}; `n_skipped`.
    """

    entries: list[Entry]
    notes: dict[str, Any]

    @property
    def members(self) -> dict[str, Member]:
        """The members that looks may have, in the order of `bands.MEMBERS`; ShardError where one is not readable."""
        described = {name: _member(name, member) for name, member in self.notes["members"].items()}
        return {name: described[name] for name in MEMBERS if name in described}


def member_notes(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The `members` part of the notes, in the order in which members are written."""
    return {
        name: {
            "bands": list(member.bands),
            "dtype": member.dtype,
            "units": member.units,
            "resolution_m": member.resolution_m,
        }
        for name, member in MEMBERS.items()
        if name in names
    }


def _member(name: str, described: Mapping[str, Any]) -> Member:
    known = MEMBERS.get(name)
    dtype, resolution_m = described["dtype"], described["resolution_m"]
    bands = tuple(map(str, described["bands"]))
    if known is None or dtype not in DTYPES or resolution_m != known.resolution_m or bands != known.bands:
        raise ShardError(f"manifest describes member {name!r} as {dict(described)}; read it with the geossl it names")
    return Member(name, known.sensor, bands, resolution_m, dtype, str(described["units"]))


_MOSAIC = ("s2_more", "s1_more")
_OPTIONAL = (*_MOSAIC, "drawn_by", "change_score", "change_score_s2", "change_score_s1", "spectral_entropy")
"""Fields that not every dataset has: mosaics, and what was measured when the places were drawn."""


def mosaic(more: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """The further scenes of each look as an entry holds them: empty where no look has any."""
    return tuple(more) if any(more) else ()


def to_plain(entry: Entry) -> dict[str, Any]:
    """An entry as JSON-able values: tuples become lists, times RFC 3339 text; optional fields only where they are set.

    So a table of samples without mosaics, or without measured change, has no column for them.
    """
    plain = {field.name: _plain(getattr(entry, field.name)) for field in fields(entry)}
    return {name: value for name, value in plain.items() if name not in _OPTIONAL or value not in (None, [])}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return rfc3339(value) if isinstance(value, datetime) else value


def from_plain(values: Mapping[str, Any]) -> Entry:
    """The entry of `to_plain`; ShardError in one line where values are missing or of another type."""
    try:
        plain: dict[str, Any] = {
            field.name: values.get(field.name) if field.name in _OPTIONAL else values[field.name]
            for field in fields(Entry)
        }
        plain |= {name: plain[name] or () for name in _MOSAIC}
        plain |= {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        for name in ("members", *_MOSAIC):
            plain[name] = tuple(tuple(map(str, names)) for names in plain[name])
        plain["acquired"] = tuple(parse_time(text) for text in plain["acquired"])
        return Entry(**plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ShardError(f"a row of the manifest is damaged: {type(error).__name__} {error}") from None


def _item(entry: Entry) -> dict[str, Any]:
    """A sample as a STAC item."""
    from geossl_data.grid import square_lonlat

    footprint = square_lonlat(entry.epsg, entry.x, entry.y, entry.size_px * 10.0)
    west, south, east, north = footprint.bounds
    properties: dict[str, Any] = {
        "datetime": None,
        "start_datetime": rfc3339(min(entry.acquired)),
        "end_datetime": rfc3339(max(entry.acquired)),
        "gsd": 10.0,
        "proj:code": f"EPSG:{entry.epsg}",
        "proj:transform": [10.0, 0.0, float(entry.x), 0.0, -10.0, float(entry.y)],
        "proj:shape": [entry.size_px, entry.size_px],
    }
    clouds = [cloud for cloud in entry.cloud_fraction if cloud is not None]
    properties["eo:cloud_cover"] = 100.0 * math.fsum(clouds) / len(clouds) if clouds else None
    properties |= {_PREFIX + name: value for name, value in to_plain(entry).items() if name != "key"}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
        ],
        "id": entry.key,
        "collection": COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [[list(point) for point in footprint.exterior.coords]]},
        "bbox": [west, south, east, north],
        "properties": properties,
        "links": [],
        "assets": {
            "data": {
                "href": f"./{SHARDS_FOLDER}/{entry.shard}",
                "type": "application/x-tar",
                "roles": ["data"],
            }
        },
    }


def write_manifest(path: Path, entries: Sequence[Entry], notes: Mapping[str, Any]) -> None:
    """Write entries and notes as stac-geoparquet at `path`, atomically, rows sorted by shard and offset.

    Raises ShardError when there are no entries or a key comes twice.
    """
    rows = sorted(entries, key=lambda entry: (entry.shard, entry.offset))
    if not rows:
        raise ShardError(f"{path}: no sample was written; see skipped.parquet for the reasons")
    if len({entry.key for entry in rows}) != len(rows):
        raise ShardError(f"{path}: sample keys are not unique")
    write_items(path, [_item(entry) for entry in rows], metadata=notes)


def read_manifest(path: Path, *, key: str | None = None) -> Manifest:
    """The manifest at `path`, rows in the order of shard and offset; needs pyarrow and nothing else.

    key: read only the row of this sample, no row where it was not written.
    Raises DatasetError when the file is absent or not Parquet, ShardError when it is not a manifest of ours.
    """
    columns = {field.name: "id" if field.name == "key" else _PREFIX + field.name for field in fields(Entry)}
    open_parquet(path, columns=())
    present = set(pq.read_schema(path).names)
    columns = {name: column for name, column in columns.items() if name not in _OPTIONAL or column in present}
    table = open_parquet(path, columns=columns.values())
    rows = (table if key is None else table.filter(pc.equal(table["id"], key))).to_pylist()
    notes = read_metadata(path)
    _check_notes(path, notes)
    return Manifest([from_plain({name: row[column] for name, column in columns.items()}) for row in rows], notes)


def _check_notes(path: Path, notes: Any) -> None:
    kinds = {"codec": str, "size_px": int, "members": dict, "statistics": dict, "label_names": dict, "shards": dict}
    for name, kind in kinds.items():
        if not isinstance(notes, dict) or not isinstance(notes.get(name), kind):
            raise ShardError(f"{path}: not a manifest of shards: its notes lack {name!r}")
    if notes["codec"] not in CODECS:
        raise ShardError(f"{path}: codec {notes['codec']!r} is not one of {sorted(CODECS)}; update geossl")
    size_px = notes["size_px"]
    if not 0 < size_px <= MAX_SIZE_PX or size_px % SIZE_STEP_PX:
        raise ShardError(f"{path}: size {size_px} px is not a positive multiple of {SIZE_STEP_PX}")
    described = [*notes["shards"].values(), *notes["members"].values()]
    if not all(isinstance(value, dict) for value in described):
        raise ShardError(f"{path}: damaged notes")
    for name, shard in notes["shards"].items():
        if SHARD_PATTERN.fullmatch(name) is None or not isinstance(shard.get("nbytes"), int):
            raise ShardError(f"{path}: damaged notes about shard {name!r}")
    for name, member in notes["members"].items():
        if not {"bands", "dtype", "units", "resolution_m"} <= set(member) or not isinstance(member["bands"], list):
            raise ShardError(f"{path}: damaged notes about member {name!r}")


def licence_text(entries: Sequence[Entry]) -> str:
    """The notice that the Copernicus terms ask for, with the years of the scenes used (Regulation (EU) 1159/2013)."""
    times = [
        time + timedelta(hours=gap)
        for entry in entries
        for time, hours in zip(entry.acquired, entry.gap_hours, strict=True)
        for gap in (0.0, hours)
    ]
    years = ", ".join(str(year) for year in sorted({time.year for time in times}))
    return (
        f"Contains modified Copernicus Sentinel data [{years}].\n\n"
        "The pixels derive from Copernicus Sentinel-1 and Sentinel-2 data, free, full and open under the Copernicus "
        "Sentinel data terms\n(Commission Delegated Regulation (EU) No 1159/2013). Keep this notice with copies and "
        "derived works.\n"
        "Radiometrically terrain corrected Sentinel-1 scenes of the Planetary Computer are CC BY 4.0 "
        "(Catalyst / Microsoft).\n"
    )
