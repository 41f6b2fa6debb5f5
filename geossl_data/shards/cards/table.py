"""The manifest as a file: what a card says of its size, hash and columns."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geossl_data.files import sha256

PARQUET_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of plain values or of lists of them."""

    name: str
    data_type: str
    """As Croissant calls it, such as `sc:Float`."""
    levels: int
    """How deep its lists are nested; 0 for plain values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A Parquet file from outside."""

    nbytes: int
    sha256: str
    columns: tuple[Column, ...]
    """Those that hold plain values."""


def table_of(path: Path) -> Table:
    """Size, hash and columns of the Parquet file at `path`; columns of structures and of bytes are left out."""
    columns = []
    for field in pq.read_schema(path):
        kind, levels = field.type, 0
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind, levels = kind.value_type, levels + 1
        data_type = _data_type(kind)
        if data_type is not None:
            columns.append(Column(field.name, data_type, levels))
    return Table(nbytes=path.stat().st_size, sha256=sha256(path), columns=tuple(columns))


def _data_type(kind: pa.DataType) -> str | None:
    types = pa.types
    known = (
        (types.is_timestamp(kind), "sc:DateTime"),
        (types.is_boolean(kind), "sc:Boolean"),
        (types.is_integer(kind), "sc:Integer"),
        # A column of nothing but nulls has no type of its own; only numbers are ever missing.
        (types.is_floating(kind) or types.is_null(kind), "sc:Float"),
        (types.is_string(kind) or types.is_large_string(kind), "sc:Text"),
    )
    return next((name for holds, name in known if holds), None)
