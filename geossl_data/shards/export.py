"""Samples of shards as files that other programs open: GeoTIFFs of places, or shards of plain NumPy files."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, S2_MEMBERS, S2_QUANTIFICATION, Member
from geossl_data.errors import DatasetError, ShardError
from geossl_data.files import write_text
from geossl_data.progress import Progress, silent
from geossl_data.records import Split
from geossl_data.scenes.items import finite, parse_time
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry
from geossl_data.shards.reading.shards import Shards, open_shards
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.writing.content import Content
from geossl_data.shards.writing.plan import ShardPlan
from geossl_data.shards.writing.report import ShardReport, manifest_notes
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.geotiffs import Sheet, write_geotiff

Array = NDArray[Any]


# ------------------------------------------------------------------------------------------------ GeoTIFF


def geotiff_names(entry: Entry) -> dict[tuple[int, str], str]:
    """The file of each look and member of a sample: `{look}_{day}_{member}.tif`, the day that of the look."""
    return {
        (look, member): f"{look}_{_day(entry.acquired[look])}{member}.tif"
        for look, present in enumerate(entry.members)
        for member in present
    }


def _day(acquired: datetime | None) -> str:
    return "" if acquired is None else f"{acquired:%Y%m%d}_"


def export_geotiffs(shards: Shards, index: int, folder: Path) -> list[Path]:
    """Write a sample as `{folder}/{key}/`: a GeoTIFF for each member of each look, and its provenance as JSON.

    Every member keeps its own resolution; nothing is resampled. Sentinel-2 as stored, with the scale to reflectance in
    its metadata; members that are stored in steps, as Sentinel-1 in those of 0.01 dB, as float32 in their own unit with
    NaN for no data. Files that are there are replaced. Returns what was written, the JSON last.
    Raises ShardError for damaged shards, StorageError where a file cannot be written.
    """
    entry, meta = shards.entries[index], shards.meta(index)
    names = geotiff_names(entry)
    written: list[Path] = []
    for look, present in enumerate(entry.members):
        arrays = shards.read(index, look, present)
        for name in present:
            member = shards.members[name]
            path = folder / entry.key / names[look, name]
            values = member.physical(arrays[name])
            sheet = sheet_of(member, entry, meta, finite(shards.notes.get("pixel_m")), _said_of(member, meta, look))
            write_geotiff(path, values[None] if member.plane else values, sheet)
            written.append(path)
    card = folder / entry.key / f"{entry.key}.json"
    write_text(card, json.dumps(meta, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return [*written, card]


def sheet_of(
    member: Member, entry: Entry, meta: Mapping[str, Any], pixel_m: float | None, tags: Mapping[str, str]
) -> Sheet:
    """What the GeoTIFF of a member says of itself. meta: the sample's JSON; pixel_m: side of the finest pixels."""
    crs, transform = grid_of(entry, meta, pixel_m)
    is_reflectance = member.name in S2_MEMBERS and member == MEMBERS[member.name]
    is_decibel = "dB" in member.units.split()
    return Sheet(
        bands=member.bands,
        crs=crs,
        transform=None if transform is None else _coarser(transform, member.factor),
        nodata=math.nan if member.is_scaled else member.nodata,
        scale=1 / S2_QUANTIFICATION if is_reflectance else 1.0,
        units="reflectance" if is_reflectance else "dB" if is_decibel else "" if member.plane else member.units,
        kind="classes" if member.plane else "decibels" if is_decibel else "numbers",
        tags=tags,
    )


Transform = tuple[float, float, float, float, float, float]


def grid_of(entry: Entry, meta: Mapping[str, Any], pixel_m: float | None) -> tuple[str | None, Transform | None]:
    """CRS and transform of the finest pixels of a sample, both None where it lies nowhere.

    From its row of the manifest, else from its JSON, which also tells of grids that are not square or have no code.
    """
    if entry.epsg is not None and entry.x is not None and entry.y is not None and pixel_m is not None:
        return f"EPSG:{entry.epsg}", (pixel_m, 0.0, float(entry.x), 0.0, -pixel_m, float(entry.y))
    crs, given = meta.get("proj:code", meta.get("proj:wkt2")), meta.get("proj:transform")
    numbers = [finite(value) for value in given] if isinstance(given, list) else []
    known = [number for number in numbers if number is not None]
    if not isinstance(crs, str) or len(numbers) not in (6, 9) or len(known) != len(numbers):
        return None, None
    a, b, c, d, e, f = known[:6]
    return crs, (a, b, c, d, e, f)


def _coarser(transform: Transform, factor: int) -> Transform:
    a, b, c, d, e, f = transform
    return a * factor, b * factor, c, d * factor, e * factor, f


def _said_of(member: Member, meta: Mapping[str, Any], look: int) -> dict[str, str]:
    """Scene, time and notice for the metadata of a file."""
    described = meta.get("looks")
    own = described[look] if isinstance(described, list) and len(described) > look else {}
    scene = own.get(member.sensor) if isinstance(own, dict) else None
    found = {
        "TIFFTAG_IMAGEDESCRIPTION": f"{meta.get('geossl:key', '')} look {look} {member.name}",
        "TIFFTAG_COPYRIGHT": meta.get("attribution"),
        "scene": scene.get("id") if isinstance(scene, dict) else None,
        "datetime": scene.get("datetime") if isinstance(scene, dict) else None,
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


# ------------------------------------------------------------------------------------------------ plain NumPy shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A sample of one dataset that is to be written into another; `Planned`."""

    key: str
    split: Split
    checksums: tuple[int, ...]
    """Of its files, so that the plan of a shard changes with what goes into it."""


@dataclass(frozen=True, slots=True)
class StoredFactory:
    """Opens a dataset whose samples are written anew; small enough to send to another process."""

    where: str

    @contextmanager
    def __call__(self, samples: Sequence[Stored]) -> Iterator[Callable[[Stored], Content]]:
        """A callable Stored → Content."""
        with open_shards(self.where) as shards:
            positions = {key: position for position, key in enumerate(shards.keys)}
            yield partial(_content, shards, positions)


def _content(shards: Shards, positions: Mapping[str, int], stored: Stored) -> Content:
    index = positions[stored.key]
    entry, meta = shards.entries[index], shards.meta(index)
    written = {"key", "split", "size_px", "shard", "offset", "nbytes", "n_looks"}
    written |= {"members", "member_nbytes", "member_crc32"}
    looks = tuple(shards.read(index, look) for look in range(entry.n_looks))
    return Content(
        key=entry.key,
        split=entry.split,
        size_px=entry.size_px,
        looks=looks,
        meta={name: value for name, value in meta.items() if name != "members"},
        row={field.name: getattr(entry, field.name) for field in fields(Entry) if field.name not in written},
        years=tuple(sorted(_years(entry, meta))),
        is_stored=True,
    )


def _years(entry: Entry, meta: Mapping[str, Any]) -> set[int]:
    """Years of the Sentinel scenes that a sample's pixels come from."""
    return {
        parse_time(part["datetime"]).year
        for position, look in enumerate(meta["looks"])
        for sensor, name in (("s2", entry.s2_ids[position]), ("s1", entry.s1_ids[position]))
        if name
        for part in (look[sensor], *look[sensor].get("geossl:mosaic", ()))
    }


def export_fingerprint(shards: Shards, keys: Sequence[str]) -> str:
    """Hex digest of what an export holds: the dataset that it is of and the samples that were taken of it."""
    text = json.dumps([shards.notes.get("fingerprint"), shards.notes["shards"], sorted(keys)], sort_keys=True)
    return hashlib.sha256(f"export npy\n{text}".encode()).hexdigest()[:16]


def export_npy(
    where: Path, folder: Path, keys: Sequence[str] | None = None, *, progress: Progress = silent
) -> list[ShardReport]:
    """Write samples of the dataset at `where` as a dataset in `folder` whose members are plain .npy files.

    The arrays are the stored ones, in shards of the same names and in the same order; statistics are of the samples
    that are written. keys: of the samples; all when left out. Goes on where an earlier call was interrupted; the same
    bytes every time. Raises ShardError for damaged shards, DatasetError for a key that is not there, StorageError
    where the disk is full.
    """
    from geossl_data.shards.cards import write_cards

    with open_shards(where) as shards:
        entries, notes, members = shards.entries, shards.notes, shards.members
        known = set(shards.keys)
        chosen = known if keys is None else set(keys)
        if chosen - known:
            raise DatasetError(f"{where}: no sample {min(chosen - known)!r} among {len(known)}")
        fingerprint = export_fingerprint(shards, sorted(chosen))
    reports = write_shards(
        _plans(entry for entry in entries if entry.key in chosen),
        folder / SHARDS_FOLDER,
        StoredFactory(str(where)),
        members=members,
        codec="npy",
        fingerprint=fingerprint,
        progress=progress,
    )
    lost = [row for report in reports for row in report.skipped]
    if lost:
        raise ShardError(f"{lost[0].id}: {lost[0].detail}; nothing is exported while {len(lost)} samples are damaged")
    rows = [entry for report in reports for entry in report.entries]
    written = manifest_notes(
        reports,
        fingerprint=fingerprint,
        codec="npy",
        members=members,
        pixel_m=notes.get("pixel_m"),
        label_names=notes["label_names"],
        buffer_km=notes.get("buffer_km", 0.0),
    )
    write_manifest(folder / MANIFEST_NAME, rows, written)
    write_cards(folder, rows, written)
    return reports


def _plans(entries: Iterator[Entry]) -> list[ShardPlan]:
    """The shards of an export: those of the dataset with what is chosen of them, in their order."""
    by_shard: dict[str, list[Entry]] = {}
    for entry in entries:
        by_shard.setdefault(entry.shard, []).append(entry)
    return [
        ShardPlan(
            name=name.removesuffix(".tar"),
            split=own[0].split,
            samples=tuple(Stored(key=entry.key, split=entry.split, checksums=entry.member_crc32) for entry in own),
        )
        for name, own in sorted(by_shard.items())
    ]
