"""Parquet tables of records: the schema is the dataclass.

A field that is itself a record is spread over columns of its own; a tuple of records is a list of structs. A table
of things with a place gets a `geometry` column of WKB polygons and GeoParquet 1.1 metadata, so that geopandas,
QGIS and DuckDB open it as a map. Files are written atomically and with the same bytes for the same records.
"""

import json
import struct
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data.errors import DatasetError, GeosslError, first_line
from geossl_data.files import atomic_path, from_json
from geossl_data.memory import gc_paused
from geossl_data.progress import Progress, silent

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Record = TypeVar("Record")

METADATA_KEY = b"geossl"
"""Parquet key-value entry that holds what the stage wants to say about itself, as JSON."""

_MOST_BYTES = 1 << 30
"""Largest chunk of polygons; Arrow counts bytes in 31 bits."""
_MOST_ROWS = 1 << 16
"""Rows that are Python values at a time, of which each takes a dozen times the room that it has in a table."""
_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def _arrow_type(hint: Any) -> tuple[pa.DataType, bool]:
    """Arrow type of a field's annotation, and whether it may be null."""
    origin = get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [argument for argument in get_args(hint) if argument is not type(None)]
        return _arrow_type(inner)[0], True
    if origin is Literal:
        return _arrow_type(type(get_args(hint)[0]))[0], False
    if origin is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0])[0]), False
    if is_dataclass(hint):
        return pa.struct(_fields(cast(type, hint))), False
    return _SCALARS[hint], False


def _fields(kind: type) -> list[pa.Field]:
    hints = _hints(kind)
    columns: list[pa.Field] = []
    for entry in fields(kind):
        hint = hints[entry.name]
        if is_dataclass(hint):
            columns += _fields(cast(type[Any], hint))
        else:
            arrow_type, nullable = _arrow_type(hint)
            columns.append(pa.field(entry.name, arrow_type, nullable=nullable))
    return columns


def schema(kind: type) -> pa.Schema:
    """Arrow schema of a record class."""
    return pa.schema(_fields(kind))


class _Field(NamedTuple):
    """How a field of a record is stored and comes back; None where the value is stored as it is."""

    name: str
    kind: type[Any] | None
    """Of a record that is spread over columns of its own."""
    store: Callable[[Any], Any] | None
    restore: Callable[[Any], Any] | None


@cache
def _plan(kind: type) -> tuple[_Field, ...]:
    """How the fields of a record class are stored, by their annotations."""
    hints = _hints(kind)
    return tuple(
        _Field(entry.name, cast(type[Any], hint), None, None)
        if is_dataclass(hint := hints[entry.name])
        else _Field(entry.name, None, *_conversions(hint))
        for entry in fields(kind)
    )


def _conversions(hint: Any) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    """To what Arrow takes, tuples as lists and records inside them as structs, and back."""
    if get_origin(hint) is tuple:
        store, restore = _conversions(get_args(hint)[0])
        return (
            list if store is None else lambda values: [store(value) for value in values],
            tuple if restore is None else lambda values: tuple([restore(value) for value in values]),
        )
    if is_dataclass(hint):
        return _row, partial(_record, cast(type[Any], hint))
    return None, None


def _row(record: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, kind, store, _ in _plan(cast(Any, type(record))):
        value = getattr(record, name)
        if kind is not None:
            row |= _row(value)
        else:
            row[name] = value if store is None else store(value)
    return row


def _record(kind: type[Record], row: Mapping[str, Any]) -> Record:
    values: dict[str, Any] = {}
    for name, inner, _, restore in _plan(cast(Any, kind)):
        if inner is not None:
            values[name] = _record(inner, row)
        else:
            values[name] = row[name] if restore is None else restore(row[name])
    return kind(**values)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The annotations of a record class by field."""
    return get_type_hints(kind)


@gc_paused()
def write_table(
    path: Path,
    records: Sequence[Record],
    kind: type[Record],
    *,
    geometry: "Callable[[Record], BaseGeometry] | None" = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> None:
    """Write records as Parquet at `path`, atomically.

    geometry: gives each record's longitude/latitude footprint; the file is then GeoParquet 1.1 in OGC:CRS84.
    metadata: JSON-able notes, read back by `read_metadata`.
    """
    parts, chunks = [], []
    kinds: set[str] = set()
    with progress(f"writing {path.stem}", total=len(records)) as task:
        for start in range(0, max(len(records), 1), _MOST_ROWS):
            some = records[start : start + _MOST_ROWS]
            parts.append(pa.Table.from_pylist([_row(record) for record in some], schema=schema(kind)))
            if geometry is not None:
                import shapely

                shapes = [geometry(record) for record in some]
                kinds.update(shape.geom_type for shape in shapes)
                chunks.append(pa.array(shapely.to_wkb(shapes).tolist() if shapes else [], pa.binary()))
            task.advance(len(some))
    wkb = None if geometry is None else pa.chunked_array(chunks, pa.binary())
    _write(path, pa.concat_tables(parts), metadata, wkb=wkb, types=sorted(kinds))


def write_columns(
    path: Path,
    columns: Mapping[str, NDArray[Any]],
    kind: type[Any],
    *,
    rings: NDArray[np.float64] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write columns as the Parquet table that `write_table` makes of the same records, byte for byte.

    columns: an array of shape (n,) for every column of `schema(kind)`, none of them nested. rings: longitude/latitude
    footprints without holes, closed, as corners of shape (n, corners, 2). Nothing is checked: columns that were never
    records are trusted as records are.
    """
    wanted = schema(kind)
    table = pa.table([pa.array(columns[entry.name], entry.type) for entry in wanted], schema=wanted)
    if rings is None:
        _write(path, table, metadata)
    else:
        _write(path, table, metadata, wkb=_wkb(rings), types=["Polygon"] if len(rings) else [])


def _wkb(rings: NDArray[np.float64]) -> pa.ChunkedArray:
    """Polygons of one ring as well-known binary (OGC 06-103r4), little-endian, in chunks that Arrow can address."""
    head = np.frombuffer(struct.pack("<BIII", 1, 3, 1, rings.shape[1]), dtype=np.uint8)
    width = len(head) + 16 * rings.shape[1]
    chunks = []
    for start in range(0, max(len(rings), 1), _MOST_BYTES // width):
        block = np.ascontiguousarray(rings[start : start + _MOST_BYTES // width], dtype="<f8")
        values = np.empty((len(block), width), dtype=np.uint8)
        values[:, : len(head)] = head
        values[:, len(head) :] = block.reshape(len(block), 2 * rings.shape[1]).view(np.uint8)
        offsets = np.arange(len(block) + 1, dtype=np.int32) * np.int32(width)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
        chunks.append(pa.BinaryArray.from_buffers(pa.binary(), len(block), buffers))
    return pa.chunked_array(chunks, pa.binary())


def _write(
    path: Path,
    table: pa.Table,
    metadata: Mapping[str, Any] | None,
    *,
    wkb: pa.Array | pa.ChunkedArray | None = None,
    types: Sequence[str] = (),
) -> None:
    notes: dict[bytes, bytes] = {METADATA_KEY: json.dumps(dict(metadata or {}), sort_keys=True).encode()}
    if wkb is not None:
        table = table.append_column("geometry", wkb)
        column = {"encoding": "WKB", "geometry_types": list(types)}
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        notes[b"geo"] = json.dumps(geo, sort_keys=True).encode()
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(notes), temporary, compression="zstd")


@gc_paused()
def read_table(
    path: Path, kind: type[Record], *, rows: Sequence[int] | None = None, progress: Progress = silent
) -> list[Record]:
    """The records of a table written by `write_table`, or those at the positions `rows`.

    Raises DatasetError when the file is absent, is not Parquet, or lacks a column of the record.
    """
    table = open_parquet(path)
    missing = [entry.name for entry in schema(kind) if entry.name not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: has no {missing[0]}; another version wrote it: run its stage with --fresh")
    chosen = table if rows is None else table.take(rows)
    records: list[Record] = []
    try:
        with progress(f"reading {path.stem}", total=chosen.num_rows) as task:
            for start in range(0, chosen.num_rows, _MOST_ROWS):
                part = chosen.slice(start, _MOST_ROWS)
                records += [_record(kind, row) for row in part.to_pylist()]
                task.advance(part.num_rows)
    except KeyError as error:
        raise DatasetError(f"{path}: has no {error}; another version wrote it: run its stage with --fresh") from None
    except (GeosslError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(f"{path}: a row is damaged: {first_line(error)}; run its stage with --fresh") from None
    return records


def open_parquet(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """A Parquet file as an Arrow table; DatasetError in one line where that is not possible."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; run the earlier stage first")
    try:
        return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet table: {first_line(error)}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The notes given to `write_table`; empty when the file is absent or has none."""
    if not path.is_file():
        return {}
    try:
        notes = pq.read_metadata(path).metadata or {}
        content = from_json(notes.get(METADATA_KEY, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable Parquet table: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: its notes are no mapping; run its stage with --fresh")
    return content
