"""Entries → `manifest.parquet`: each sample a STAC item whose asset is its shard, all of them one table.

Written by hand and not from items, row group by row group: a million samples then take no more memory than a thousand,
and a column has its type whether or not a sample has a value for it.
GeoParquet 1.1: https://geoparquet.org/releases/v1.1.0/
stac-geoparquet 1.0: https://github.com/radiantearth/stac-geoparquet-spec
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geossl_data import tables
from geossl_data.errors import ShardError
from geossl_data.files import atomic_path
from geossl_data.shards.manifest import COLLECTION, PREFIX, SHARDS_FOLDER, Entry, to_plain

ROWS_PER_GROUP = 2000
STAC_VERSION = "1.1.0"
EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
)

_TIME = pa.timestamp("us", tz="UTC")
_BOX_EDGES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(name, pa.float64()) for name in _BOX_EDGES])
_ASSET = pa.struct([("href", pa.string()), ("type", pa.string()), ("roles", pa.list_(pa.string()))])
_LINK = pa.struct([("href", pa.string()), ("rel", pa.string())])


def _schema(*, several_labels: bool) -> pa.Schema:
    stac = [
        ("id", pa.string()),
        ("type", pa.string()),
        ("stac_version", pa.string()),
        ("stac_extensions", pa.list_(pa.string())),
        ("collection", pa.string()),
        ("geometry", pa.binary()),
        ("bbox", _BOX),
        ("links", pa.list_(_LINK)),
        ("assets", pa.struct([("data", _ASSET)])),
        ("datetime", _TIME),
        ("start_datetime", _TIME),
        ("end_datetime", _TIME),
        ("gsd", pa.float64()),
        ("proj:code", pa.string()),
        ("proj:shape", pa.list_(pa.int64())),
        ("proj:transform", pa.list_(pa.float64())),
        ("eo:cloud_cover", pa.float64()),
    ]
    own = [
        (PREFIX + field.name, pa.list_(pa.string()) if field.name == "acquired" else field.type)
        for field in tables.schema(Entry)
        if field.name != "key" and (several_labels or field.name != "labels_more")
    ]
    return pa.schema([*stac, *own])


def _row(entry: Entry, pixel_m: float | None, shards_at: str) -> dict[str, Any]:
    """A sample as a row. `geometry` is null where it lies nowhere on the Earth, and the centre where the side of its
    pixels is not known in metres. Without any time it is no whole STAC item: those have one, and none is made up.
    """
    from shapely import to_wkb
    from shapely.geometry import Point

    from geossl_data.grid import square_lonlat

    clouds = [cloud for cloud in entry.cloud_fraction if cloud is not None]
    times = [time for time in entry.acquired if time is not None]
    row: dict[str, Any] = {
        "id": entry.key,
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "collection": COLLECTION,
        "links": [],
        "assets": {
            "data": {
                "href": f"{shards_at}/{SHARDS_FOLDER}/{entry.shard}",
                "type": "application/x-tar",
                "roles": ["data"],
            }
        },
        "start_datetime": min(times) if times else None,
        "end_datetime": max(times) if times else None,
        "proj:shape": [entry.size_px, entry.size_px],
        "eo:cloud_cover": 100.0 * math.fsum(clouds) / len(clouds) if clouds else None,
    }
    row |= {PREFIX + name: value for name, value in to_plain(entry).items() if name != "key"}
    if entry.epsg is None or entry.x is None or entry.y is None:
        return row
    row["proj:code"] = f"EPSG:{entry.epsg}"
    if pixel_m is None:
        ground = Point(entry.lon, entry.lat)
    else:
        ground = square_lonlat(entry.epsg, entry.x, entry.y, entry.size_px * pixel_m)
        row["gsd"] = pixel_m
        row["proj:transform"] = [pixel_m, 0.0, float(entry.x), 0.0, -pixel_m, float(entry.y)]
    box = dict(zip(_BOX_EDGES, ground.bounds, strict=True))
    return row | {"geometry": to_wkb(ground), "bbox": box}


def write_manifest(path: Path, entries: Sequence[Entry], notes: Mapping[str, Any]) -> None:
    """Write entries and notes as stac-geoparquet at `path`, atomically, rows sorted by shard and offset.

    Raises ShardError when there are no entries or a key comes twice.
    """
    ordered = sorted(entries, key=lambda entry: (entry.shard, entry.offset))
    write_manifest_parts(path, [ordered], notes, several_labels=any(entry.labels_more for entry in entries))


def write_manifest_parts(
    path: Path, parts: Iterable[Sequence[Entry]], notes: Mapping[str, Any], *, several_labels: bool = False
) -> None:
    """As `write_manifest`, of entries that come part by part: whole shards, in the order of their names.

    The parts are taken one after the other, so that they need not be in memory together. several_labels: whether looks
    may have several classes; without, the table has no column for them, and is the one that it was before there was.
    """
    geometry = {
        "encoding": "WKB",
        "geometry_types": [],
        "covering": {"bbox": {name: ["bbox", name] for name in _BOX_EDGES}},
    }
    metadata = {
        b"geo": {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}},
        b"stac-geoparquet": {"version": "1.0.0"},
        tables.METADATA_KEY: dict(notes),
    }
    schema = _schema(several_labels=several_labels).with_metadata(
        {key: json.dumps(value, sort_keys=True).encode() for key, value in metadata.items()}
    )
    shards_at = str(notes.get("location", "."))
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            n_rows = 0
            for group in _groups(_checked(path, chain.from_iterable(parts))):
                rows = [_row(entry, notes["pixel_m"], shards_at) for entry in group]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=len(rows))
                n_rows += len(rows)
        if not n_rows:
            raise ShardError(f"{path}: no sample was written; see skipped.parquet for the reasons")


def _checked(path: Path, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries as they come; ShardError at a key that came before, or at an entry out of order."""
    seen: set[str] = set()
    last = ("", -1)
    for entry in entries:
        if entry.key in seen:
            raise ShardError(f"{path}: sample keys are not unique: {entry.key} comes twice")
        if (entry.shard, entry.offset) <= last:
            raise ShardError(f"{path}: {entry.key} is not in the order of shards and offsets")
        seen.add(entry.key)
        last = (entry.shard, entry.offset)
        yield entry


def _groups(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    for entry in entries:
        group.append(entry)
        if len(group) == ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group
