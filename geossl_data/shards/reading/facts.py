"""What the manifest says of samples and looks beside where their bytes are: places, times, change scores, splits."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from geossl_data.errors import ShardError, first_line
from geossl_data.shards.manifest import Manifest

FloatArray = NDArray[np.float64]

EPOCH = np.datetime64("2000-01-01", "us")
"""From which days are counted, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of n samples, row by sample index."""

    lonlat: FloatArray
    """Of the centres, degrees, shape (n, 2); NaN where not known."""
    days: FloatArray
    """Of each look, days since 2000-01-01 UTC, shape (n, most looks); NaN where there is no look or no time."""
    change: FloatArray
    """Change score, shape (n,); NaN where not measured."""
    split: NDArray[np.str_]
    """Shape (n,)."""


def facts_of(manifest: Manifest) -> Facts:
    """The facts of a manifest's samples; ShardError where a column is damaged."""
    table = manifest.table
    names = set(table.column_names)
    try:
        n_looks = np.asarray(table["n_looks"].cast(pa.int64()), dtype=np.int64)
        lonlat = np.stack([_floats(table[name]) for name in ("lon", "lat")], axis=1)
        change = _floats(table["change_score"]) if "change_score" in names else np.full(len(n_looks), np.nan)
        times = pc.list_flatten(table["acquired"]).cast(pa.string()).cast(pa.timestamp("us", tz="UTC"))
        split = np.array(table["split"].to_pylist(), dtype=np.str_)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise ShardError(f"manifest: a column is damaged: {first_line(error)}") from None
    at = np.asarray(times.to_numpy(), dtype="datetime64[us]") if len(times) else np.empty(0, dtype="datetime64[us]")
    if len(at) != n_looks.sum():
        raise ShardError("manifest: its columns disagree on the looks")
    days = np.full((len(n_looks), int(n_looks.max(initial=0))), np.nan)
    sample = np.repeat(np.arange(len(n_looks)), n_looks)
    look = np.arange(len(sample)) - np.repeat(np.cumsum(n_looks) - n_looks, n_looks)
    days[sample, look] = np.where(np.isnat(at), np.nan, (at - EPOCH) / np.timedelta64(1, "D"))
    return Facts(lonlat=lonlat, days=days, change=change, split=split)


def _floats(column: pa.ChunkedArray) -> FloatArray:
    """A column of numbers, NaN where it is empty."""
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), dtype=np.float64)
