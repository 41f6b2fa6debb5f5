"""STAC items in a stac-geoparquet file: the door through which item dicts come and go.

An item here is a plain dict as in GeoJSON, JSON-able throughout: times are RFC 3339 strings, geometries are GeoJSON.
A columnar file has every field in every row, so that a field which an item lacks comes back as null; `read_items`
takes those out again and the items are as they were written.
"""

import json
import logging
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geossl_data.errors import CatalogError, DatasetError, first_line
from geossl_data.files import atomic_path, scratch_path
from geossl_data.memory import gc_paused
from geossl_data.progress import Progress, silent
from geossl_data.tables import METADATA_KEY

# It logs a schema with an argument that the message has no place for, which breaks whoever listens at DEBUG.
logging.getLogger("stac_geoparquet.arrow._api").setLevel(logging.INFO)

Item = dict[str, Any]
"""A STAC item as parsed from JSON."""


class _Fresh(Item):
    """An item that nobody else holds: stac-geoparquet, which copies what it changes, need not copy this one."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Fresh":
        return self


_SCALARS = (str, float, int, bool, type(None))

_TOP_LEVEL = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
_TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated", "expires", "published", "unpublished")
_PROJECTED = "proj:geometry"
_MOST_ITEMS = 4096
"""Items that are Python values at a time, and rows of a row group."""


def rfc3339(moment: datetime) -> str:
    """A UTC time as text, with microseconds only where there are any: `2024-07-01T10:20:30Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as UTC; a time without a zone is taken as UTC, digits beyond microseconds are cut off.

    Raises ValueError when the text is no time.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time before the first year or after the last") from None


_SURROGATE = re.compile("[\ud800-\udfff]")


def is_text(value: Any) -> bool:
    """Whether a value is text that a file takes; JSON can hold halves of characters, which no encoding has."""
    return isinstance(value, str) and _SURROGATE.search(value) is None


def finite(value: Any) -> float | None:
    """A finite number of an item; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


class Packed(Mapping[str, Any]):
    """An item that is kept small: a tenth of the memory, and made anew whenever something of it is asked for."""

    __slots__ = ("_packed",)

    def __init__(self, item: Mapping[str, Any]) -> None:
        self._packed = zlib.compress(json.dumps(item).encode(), level=1)

    @property
    def item(self) -> Item:
        """The item, a new dict each time."""
        content: Item = json.loads(zlib.decompress(self._packed))
        return content

    def __getitem__(self, key: str) -> Any:
        return self.item[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.item)

    def __len__(self) -> int:
        return len(self.item)


def unpacked(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The item as a dict that can be read many times."""
    return item.item if isinstance(item, Packed) else item


def read_items(path: Path) -> list[Item]:
    """The STAC items of a stac-geoparquet file, in the order of its rows.

    Raises DatasetError when the file is absent or is not Parquet, CatalogError when it holds no STAC items. A row
    with an unreadable geometry comes back with `geometry: None`.
    """
    return list(each_item(path))


def each_item(path: Path) -> Iterator[Item]:
    """The same items one by one, of which only some are in memory at a time."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; run the earlier stage first")
    try:
        with pq.ParquetFile(path) as file:
            empty = file.schema_arrow.empty_table()
            yield from items_of(empty, str(path))
            for batch in file.iter_batches(batch_size=_MOST_ITEMS):
                yield from items_of(pa.Table.from_batches([batch]), str(path))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet table: {first_line(error)}") from error


def items_of(table: pa.Table, name: str) -> list[Item]:
    """The STAC items in the rows of a stac-geoparquet table; CatalogError where it is none. name: for messages."""
    missing = [column for column in ("id", "geometry") if column not in table.column_names]
    if missing:
        raise CatalogError(
            f"{name}: not stac-geoparquet: no column {', '.join(missing)}; expected one row per STAC item"
        )
    try:
        rows = [_item(row) for row in _plain(table).to_pylist()]
    except (pa.ArrowException, LookupError, ValueError, OverflowError, RecursionError) as error:
        raise CatalogError(f"{name}: not stac-geoparquet: a row cannot be read: {first_line(error)}") from None
    bad = next((row for row in rows if not isinstance(row["id"], str) or not isinstance(row["assets"], dict)), None)
    if bad is not None:
        raise CatalogError(f"{name}: not stac-geoparquet: a row without an id or with assets that are not a mapping")
    return rows


@gc_paused()
def write_items(
    path: Path,
    items: Sequence[Mapping[str, Any]],
    *,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> None:
    """Write STAC items as one stac-geoparquet (GeoParquet 1.1) file, atomically; same items, same bytes.

    items: at least one; each with id, geometry and properties. A missing bbox is taken from the geometry.
    metadata: JSON-able notes, read back by `tables.read_metadata`.
    Raises CatalogError when items cannot share one table: none at all, no geometry, or one field with two types.
    """
    if not items:
        raise CatalogError(f"{path}: no items to write; a stac-geoparquet file holds at least one")
    column = {"encoding": "WKB", "geometry_types": [], "covering": {"bbox": _COVERING}}
    notes = {
        b"geo": {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}},
        b"stac-geoparquet": {"version": "1.0.0"},
        METADATA_KEY: dict(metadata or {}),
    }
    written = {key: json.dumps(value, sort_keys=True).encode() for key, value in notes.items()}
    with atomic_path(path) as temporary:
        if len(items) <= _MOST_ITEMS:
            table = _table_of(path, items).replace_schema_metadata(written)
            pq.write_table(table, temporary, compression="zstd")
        else:
            _write_in_parts(path, temporary, items, written, progress)


def _table_of(path: Path, items: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Items as a table, with the columns that they need."""
    from shapely.errors import ShapelyError
    from stac_geoparquet.arrow import parse_stac_items_to_arrow

    try:
        table = parse_stac_items_to_arrow([_complete(unpacked(item)) for item in items]).read_all()
    except (pa.ArrowException, ShapelyError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CatalogError(f"{path}: items do not fit one table: {first_line(error)}") from error
    return table.drop_columns([field.name for field in table.schema if field.type == pa.struct([])])


def _write_in_parts(
    path: Path,
    into: Path,
    items: Sequence[Mapping[str, Any]],
    metadata: Mapping[bytes, bytes],
    progress: Progress,
) -> None:
    """Write items a row group at a time. Which columns there are is known after the last one only, so that the groups
    wait in a file of their own."""
    known, starts = pa.schema([]), []
    with scratch_path(path) as waiting, progress(f"writing {path.stem}", total=len(items)) as task:
        with waiting.open("wb") as file:
            for start in range(0, len(items), _MOST_ITEMS):
                table = _table_of(path, items[start : start + _MOST_ITEMS]).replace_schema_metadata(None)
                try:
                    known = pa.unify_schemas([known, table.schema], promote_options="permissive")
                except pa.ArrowException as error:
                    raise CatalogError(f"{path}: items do not fit one table: {first_line(error)}") from error
                starts.append(file.tell())
                with pa.ipc.new_stream(file, table.schema, options=_WAITING) as stream:
                    stream.write_table(table)
                task.advance(table.num_rows / 2)
        schema = known.with_metadata(dict(metadata))
        with waiting.open("rb") as file, pq.ParquetWriter(into, schema, compression="zstd") as writer:
            for start in starts:
                file.seek(start)
                table = pa.ipc.open_stream(file).read_all()
                whole = pa.concat_tables([known.empty_table(), table], promote_options="permissive")
                writer.write_table(whole.replace_schema_metadata(schema.metadata))
                task.advance(table.num_rows / 2)


_WAITING = pa.ipc.IpcWriteOptions(compression="zstd")


_COVERING = {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}


def without_nulls(value: Any) -> Any:
    """A JSON value without the null members of its objects, at any depth; list elements stay."""
    if isinstance(value, dict):
        return {
            key: member if type(member) in _SCALARS else without_nulls(member)
            for key, member in value.items()
            if member is not None
        }
    if isinstance(value, list):
        return [without_nulls(member) for member in value] if value and isinstance(value[0], dict | list) else value
    return value


def geojson(shape: Any) -> dict[str, Any] | None:
    """A shapely geometry as GeoJSON with lists for coordinates; None for None."""
    from shapely import get_coordinates
    from shapely.geometry import mapping

    if shape is None:
        return None
    if shape.geom_type == "Polygon" and not shape.is_empty and not shape.has_z and not shape.interiors:
        # Nearly every footprint: a fifth of the time.
        return {"type": "Polygon", "coordinates": [get_coordinates(shape).tolist()]}
    return _lists(mapping(shape))  # type: ignore[no-any-return]


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(member) for key, member in value.items()}
    return [_lists(member) for member in value] if isinstance(value, list | tuple) else value


def _plain(table: pa.Table) -> pa.Table:
    """The table with times as microseconds, so that Python reads them whatever unit the writer chose."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type != pa.timestamp("us", tz="UTC"):
            column = table.column(index).cast(pa.timestamp("us", tz=field.type.tz), safe=False)
            table = table.set_column(index, field.name, column.cast(pa.timestamp("us", tz="UTC")))
    return table


def _item(row: Mapping[str, Any]) -> Item:
    """One row of the table as an item."""
    item: Item = {"type": "Feature"}
    properties: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            properties[name] = rfc3339(value)
        elif value is None:
            continue
        elif name in _TOP_LEVEL:
            item[name] = without_nulls(value)
        else:
            properties[name] = without_nulls(value)
    item["geometry"] = _from_wkb(row["geometry"])
    box = item.get("bbox")
    if isinstance(box, dict):
        order = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
        item["bbox"] = [box[name] for name in order if name in box]
    for holder in (properties, *_members(item.get("assets"))):
        if _PROJECTED in holder:
            holder[_PROJECTED] = _from_wkb(holder[_PROJECTED])
    if "start_datetime" in properties:
        properties.setdefault("datetime", None)
    return item | {"id": row["id"], "properties": properties, "assets": item.get("assets", {})}


def _members(assets: Any) -> list[dict[str, Any]]:
    return [asset for asset in assets.values() if isinstance(asset, dict)] if isinstance(assets, dict) else []


def _from_wkb(value: Any) -> Any:
    """GeoJSON of WKB bytes; None where they are unreadable; anything else unchanged."""
    if not isinstance(value, bytes):
        return value if isinstance(value, dict) else None
    import shapely

    shape = shapely.from_wkb(value, on_invalid="ignore")
    return None if shape is None or shape.is_empty else geojson(shape)


def _complete(item: Mapping[str, Any]) -> _Fresh:
    """A copy in which every top-level field that the table needs is there, and no empty object or null is left.

    Parquet has no type for an object without members.
    """
    from shapely.geometry import shape

    full = _Fresh({"type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "links": [], **item})
    full["assets"] = {name: _stored(asset) for name, asset in (item.get("assets") or {}).items()}
    full["properties"] = _stored(item["properties"])
    full["properties"].setdefault("datetime", None)
    for name in _TIMES:
        if isinstance(full["properties"].get(name), str):
            full["properties"][name] = rfc3339(parse_time(full["properties"][name]))
    box = item.get("bbox")
    full["bbox"] = [float(edge) for edge in (shape(item["geometry"]).bounds if box is None else _flat(box))]
    return full


def _flat(box: Sequence[float]) -> Sequence[float]:
    """A bbox without heights: west, south, east, north."""
    return (box[0], box[1], box[3], box[4]) if len(box) == 6 else box


def _stored(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        members = {key: _stored(member) for key, member in value.items() if member is not None}
        return {key: member for key, member in members.items() if member != {}}
    return [_stored(member) for member in value] if isinstance(value, list | tuple) else value
