"""What the shards hold: one row per sample, found again by byte range, and notes about the whole.

The file is valid GeoParquet and valid stac-geoparquet: each sample is a STAC item whose asset is its shard. Reading
it needs pyarrow only, so that a training node works without the geospatial stack.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl_data.bands import Member
from geossl_data.errors import DatasetError, ShardError, first_line
from geossl_data.files import from_json
from geossl_data.records import KEY_PATTERN, SPLITS, Split
from geossl_data.scenes.items import parse_time, rfc3339
from geossl_data.shards.codec import CODECS
from geossl_data.tables import METADATA_KEY, schema

MANIFEST_NAME = "manifest.parquet"
SHARDS_FOLDER = "shards"
LICENCE_NAME = "LICENSE.txt"
COLLECTION = "geossl"
SHARD_PATTERN = re.compile(r"(train|val|test)-\d{6}\.tar")
MEMBER_PATTERN = re.compile(r"[a-z0-9_-]{1,40}")
"""What a member may be called: WebDataset cuts names at dots and lowers their letters."""
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
MAX_SIZE_PX = 16_384
MAX_BANDS = 1024

PREFIX = "geossl:"
"""Of the columns that STAC has no name for."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One sample of the shards. Tuples hold one value per look, in time order."""

    key: str
    """Of the sample, unique in the dataset."""
    split: Split
    """train, val or test; all of a block is in one."""
    block: str
    """Spatial block that decided the split."""
    shard: str
    """File name inside the shards folder."""
    offset: int
    """First byte of the sample's member group in the tar."""
    nbytes: int
    """Length of the group, headers and padding included."""
    lon: float | None
    """Of the centre; None, as the four below, for pixels that lie nowhere on the Earth."""
    lat: float | None
    """Degrees north; `lon` is in degrees east."""
    epsg: int | None
    """Code of the place's CRS."""
    x: float | None
    """West edge, in the units of the CRS: metres."""
    y: float | None
    """North edge."""
    size_px: int
    """Side in pixels, 10 m for Sentinel."""
    cell: str
    """Cell of the 10 km equal-spacing grid that holds the centre."""
    stratum: str
    """The class of ground that the allocation counted the place in."""
    weight: float
    """Importance weight, mean 1."""
    inclusion_probability: float
    """Chance of the place to be drawn, in (0, 1]."""
    n_looks: int
    """How many looks the sample has."""
    members: tuple[tuple[str, ...], ...]
    """Member names that each look has."""
    acquired: tuple[datetime | None, ...]
    """Sentinel-2 sensing times, UTC; the times that other rasters are said to be of, None where only their order is."""
    gap_hours: tuple[float | None, ...]
    """Sentinel-1 minus Sentinel-2 acquisition time; None where a look is not a pair of scenes."""
    s2_ids: tuple[str, ...]
    """Ids of the scenes; empty text where a look has none."""
    s1_ids: tuple[str, ...]
    """The same for Sentinel-1."""
    member_nbytes: tuple[int, ...]
    """Bytes of the sample's files in the tar, without header and padding: the JSON, then look by look its members."""
    member_crc32: tuple[int, ...]
    """CRC-32 of the same files."""
    labels: tuple[int, ...]
    """Most frequent land class; 0 where no label map holds for the look."""
    cloud_fraction: tuple[float | None, ...]
    """Share of the classified pixels that are cloud or cloud shadow; None without a scene classification."""
    s2_valid_fraction: tuple[float | None, ...]
    """Share of the pixels that have a number in every band of Sentinel-2."""
    s1_valid_fraction: tuple[float | None, ...]
    """The same for Sentinel-1."""
    s2_more: tuple[tuple[str, ...], ...] = ()
    """Further parts of each look's Sentinel-2 acquisition; empty where no look of the sample is such a mosaic."""
    s1_more: tuple[tuple[str, ...], ...] = ()
    """Further frames of each look's Sentinel-1 pass; empty where no look of the sample is such a mosaic."""
    labels_more: tuple[tuple[int, ...], ...] = ()
    """All classes of each look, the one of `labels` first, of a dataset whose looks may have several; empty where no
    look of the sample has any, and in every other dataset."""
    drawn_by: str | None = None
    """The strategy that took the place."""
    change_score: float | None = None
    """How much more the place changed over years than over seasons; None where not measured, as below."""
    change_score_s2: float | None = None
    """The same from Sentinel-2 alone."""
    change_score_s1: float | None = None
    """The same from Sentinel-1 alone."""
    spectral_entropy: float | None = None
    """How varied the place's spectra are."""

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
            *(more for more in (self.s2_more, self.s1_more, self.labels_more) if more),
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
        elif not 0 < self.size_px <= MAX_SIZE_PX:
            problem = f"size {self.size_px} px is not in 1 to {MAX_SIZE_PX}"
        elif len({value is None for value in (self.lon, self.lat, self.epsg, self.x, self.y)}) > 1:
            problem = "it lies partly somewhere"
        elif self.n_looks < 1 or any(len(values) != self.n_looks for values in per_look):
            problem = f"columns disagree on the {self.n_looks} looks"
        elif not len(self.member_nbytes) == len(self.member_crc32) == 1 + sum(map(len, self.members)):
            problem = f"{len(self.member_nbytes)} sizes and {len(self.member_crc32)} checksums for its members"
        elif any(time is not None and time.utcoffset() != timedelta(0) for time in self.acquired):
            problem = "times are not UTC"
        if problem:
            raise ShardError(f"sample {self.key[:130]!r}: {problem}")


@dataclass(frozen=True)
class Manifest:
    """The rows and the notes of a `manifest.parquet`.

    table: one row a sample, in the order of shard and offset, with a column for each field of `Entry` that the file
    has; times are texts.

    notes: `codec`, `size_px`, `pixel_m`, `fingerprint`; `members` [{name, sensor, bands, factor, dtype, units, scale,
    offset, nodata, plane}], in the order in which they are written; `statistics` {band: {mean, std, count}} over the
    valid pixels of the training split, in physical units; `years` in which the Sentinel scenes were acquired;
    `buffer_km`, the least distance between splits that the places were drawn with; `label_names` {"1": …}; `shards`
    {file: {nbytes, sha256, n_samples}}; `n_skipped`; `location`, the URL below which the shards lie, absent where they
    lie beside the manifest.
    """

    table: pa.Table
    notes: dict[str, Any]

    @cached_property
    def entries(self) -> list[Entry]:
        """The rows as values that have checked themselves; made when first asked for, 0.1 ms each."""
        return [from_plain(row) for row in self.table.to_pylist()]

    @property
    def members(self) -> dict[str, Member]:
        """The members that looks may have, in the order in which they are written."""
        described = [_member(note) for note in self.notes["members"]]
        return {member.name: member for member in described}


def member_note(member: Member) -> dict[str, Any]:
    """A member as the notes describe it."""
    return {
        "name": member.name,
        "sensor": member.sensor,
        "bands": list(member.bands),
        "factor": member.factor,
        "dtype": member.dtype,
        "units": member.units,
        "scale": member.scale,
        "offset": member.offset,
        "nodata": member.nodata,
        "plane": member.plane,
    }


def _member(note: Mapping[str, Any]) -> Member:
    """The member of a note; ShardError in one line where the note says something else."""
    try:
        member = Member(
            name=str(note["name"]),
            sensor=str(note["sensor"]),
            bands=tuple(map(str, note["bands"])),
            factor=int(note["factor"]),
            dtype=str(note["dtype"]),
            units=str(note["units"]),
            scale=float(note["scale"]),
            offset=float(note["offset"]),
            nodata=None if note["nodata"] is None else float(note["nodata"]),
            plane=bool(note["plane"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ShardError("manifest: damaged notes about a member") from None
    usable = (
        MEMBER_PATTERN.fullmatch(member.name)
        and member.dtype in DTYPES
        and 1 <= member.factor <= MAX_SIZE_PX
        and 1 <= len(member.bands) <= (1 if member.plane else MAX_BANDS)
        and math.isfinite(member.scale)
        and math.isfinite(member.offset)
        and member.scale != 0
    )
    if not usable:
        raise ShardError(f"manifest describes a member as {str(note)[:200]}; read it with the geossl it names")
    return member


_MOSAIC = ("s2_more", "s1_more")
_MEASURED = ("change_score", "change_score_s2", "change_score_s1", "spectral_entropy")
_OPTIONAL = (*_MOSAIC, "labels_more", "drawn_by", *_MEASURED)
"""Fields that not every dataset has: mosaics, several labels, and what was measured when places were drawn."""


def per_look(more: Sequence[tuple[T, ...]]) -> tuple[tuple[T, ...], ...]:
    """What each look has any number of, as an entry holds it: empty where no look has any."""
    return tuple(more) if any(more) else ()


def to_plain(entry: Entry) -> dict[str, Any]:
    """An entry as JSON-able values: tuples become lists, times RFC 3339 text."""
    return {field.name: _plain(getattr(entry, field.name)) for field in fields(entry)}


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
        plain |= {name: plain[name] or () for name in (*_MOSAIC, "labels_more")}
        plain |= {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        for name in ("members", *_MOSAIC):
            plain[name] = tuple(tuple(map(str, names)) for names in plain[name])
        plain["labels_more"] = tuple(tuple(map(int, numbers)) for numbers in plain["labels_more"])
        plain["acquired"] = tuple(None if text is None else parse_time(text) for text in plain["acquired"])
        return Entry(**plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ShardError(f"a row of the manifest is damaged: {type(error).__name__} {error}") from None


def read_manifest(path: Path, *, key: str | None = None) -> Manifest:
    """The manifest at `path`, rows in the order of shard and offset; needs pyarrow and nothing else.

    key: read only the row of this sample, no row where it was not written.
    Raises DatasetError when the file is absent or not Parquet, ShardError when it is not a manifest of ours.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; run `geossl shard` first")
    return parse_manifest(path, str(path), key=key)


def parse_manifest(file: Path | pa.NativeFile, name: str, *, key: str | None = None) -> Manifest:
    """The manifest in a file or a buffer; name: what messages call it. See `read_manifest`."""
    columns = {field.name: "id" if field.name == "key" else PREFIX + field.name for field in fields(Entry)}
    try:
        parquet = pq.ParquetFile(file)
        present = Counter(parquet.schema_arrow.names)
        notes = from_json((parquet.metadata.metadata or {}).get(METADATA_KEY, b"{}"))
        _check_notes(name, notes)
        kept = {field: column for field, column in columns.items() if field not in _OPTIONAL or column in present}
        lacking = sorted(column for column in kept.values() if present[column] == 0)
        if lacking:
            raise ShardError(f"{name}: no column {lacking[0]}; another version wrote it: `geossl shard --fresh`")
        twice = sorted(column for column in kept.values() if present[column] > 1)
        if twice:
            raise ShardError(f"{name}: column {twice[0]} is there {present[twice[0]]} times; `geossl shard --fresh`")
        table = parquet.read(columns=list(kept.values()))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{name}: not a readable Parquet table: {first_line(error)}") from error
    typed = {}
    for field, column in kept.items():
        try:
            typed[field] = table[column].cast(_types()[field])
            typed[field].validate(full=True)
        except pa.ArrowException as error:
            problem = f"column {column} is damaged: {first_line(error)}"
            raise ShardError(f"{name}: {problem}; `geossl shard --fresh`") from None
    table = pa.table(typed)
    return Manifest(table if key is None else table.filter(pc.equal(table["key"], key)), notes)


@cache
def _types() -> dict[str, pa.DataType]:
    """Arrow type of every field of `Entry` as the file has it: its times are texts."""
    return {field.name: field.type for field in schema(Entry)} | {"acquired": pa.list_(pa.string())}


def _check_notes(path: str, notes: Any) -> None:
    kinds = {"codec": str, "size_px": int, "members": list, "statistics": dict, "label_names": dict, "shards": dict}
    for name, kind in kinds.items():
        if not isinstance(notes, dict) or not isinstance(notes.get(name), kind):
            raise ShardError(f"{path}: not a manifest of shards: its notes lack {name!r}")
    if notes["codec"] not in CODECS:
        raise ShardError(f"{path}: codec {notes['codec']!r} is not one of {sorted(CODECS)}; update geossl")
    size_px = notes["size_px"]
    if not 0 < size_px <= MAX_SIZE_PX:
        raise ShardError(f"{path}: size {size_px} px is not in 1 to {MAX_SIZE_PX}")
    for name, shard in notes["shards"].items():
        if (
            not isinstance(shard, dict)
            or SHARD_PATTERN.fullmatch(name) is None
            or not isinstance(shard.get("nbytes"), int)
        ):
            raise ShardError(f"{path}: damaged notes about shard {name!r}")
