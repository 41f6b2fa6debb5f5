"""The places and looks of a dataset folder as columns: those in its shards, else those that were drawn.

Nothing here makes a value of each row, so that a million places take seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data import tables
from geossl_data.errors import DatasetError, first_line
from geossl_data.records import SPLITS
from geossl_data.shards.manifest import MANIFEST_NAME, read_manifest

PLACES, SCENES, PAIRS, SAMPLES = "places.parquet", "scenes.parquet", "pairs.parquet", "samples.parquet"
"""Tables of a dataset folder, in the order in which its stages write them."""
PIXEL_M = 10.0
"""Side of the pixels in which the size of a place of Sentinel scenes is counted."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Names = NDArray[np.str_]
Times = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """n places with l looks in all, numbered place by place."""

    is_written: bool
    """Whether they are what the shards hold; else they are only drawn."""
    key: pa.Array = field(repr=False)
    lon: FloatArray
    """Degrees, NaN for what lies nowhere, shape (n,)."""
    lat: FloatArray
    size_px: IntArray
    pixel_m: float | None
    """Side of these pixels in metres; None where it is not known."""
    split: Names
    stratum: Names
    block: Names
    change: FloatArray
    """Change score, shape (n,); NaN where not measured."""
    entropy: FloatArray
    """Spectral entropy of the place, likewise."""
    n_looks: IntArray
    place: IntArray
    """Of each look, shape (l,)."""
    acquired: Times
    """Shape (l,), microseconds UTC; NaT where not known."""
    gap_hours: FloatArray
    """Shape (l,), NaN where a look is not a pair, as below where a value is not known."""
    cloud: FloatArray
    """Share of cloud and cloud shadow in [0, 1]."""
    s2_valid: FloatArray
    s1_valid: FloatArray
    s2_id: pa.Array = field(repr=False)
    """Shape (l,); empty text where a look has none."""
    s1_id: pa.Array = field(repr=False)
    label: IntArray
    """Most frequent land class, shape (l,); 0 where none is known."""
    notes: Mapping[str, Any] = field(repr=False)
    """What the table says of itself: the manifest's notes, or those of the draw."""

    def __len__(self) -> int:
        return len(self.lon)

    @property
    def located(self) -> NDArray[np.bool_]:
        """Which places lie somewhere, shape (n,)."""
        return np.isfinite(self.lon) & np.isfinite(self.lat)

    @property
    def first_look(self) -> IntArray:
        """Number of each place's first look, shape (n,)."""
        return np.asarray(np.cumsum(self.n_looks) - self.n_looks)

    @property
    def label_names(self) -> Mapping[str, str]:
        """Land class, as text → its name."""
        names = self.notes.get("label_names")
        return names if isinstance(names, dict) else {}

    def per_split(self, counts: bool = True) -> dict[str, int]:
        """Split → places, or looks, in the order train, val, test; those without any are left out."""
        weight = np.ones(len(self), dtype=np.int64) if counts else self.n_looks
        found = {name: int(weight[self.split == name].sum()) for name in SPLITS}
        return {name: count for name, count in found.items() if count}


def contents_of(folder: Path, *, shards: bool = True) -> Contents | None:
    """The places of a folder: in its shards; drawn with looks; drawn without a catalog. None where there are none.

    shards: False looks at what is drawn only. Raises DatasetError or ShardError in one line for a damaged table.
    """
    try:
        if shards and (folder / MANIFEST_NAME).is_file():
            return _written(folder / MANIFEST_NAME)
        if (folder / SAMPLES).is_file():
            return _drawn(folder / SAMPLES)
        if (folder / PLACES).is_file():
            return _sites(folder / PLACES)
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise DatasetError(f"{folder}: a table is damaged: {first_line(error)}; run `geossl verify`") from None
    return None


def _written(path: Path) -> Contents:
    manifest = read_manifest(path)
    table = manifest.table
    n_looks = _integers(table["n_looks"])
    pixel = manifest.notes.get("pixel_m")
    return Contents(
        is_written=True,
        pixel_m=float(pixel) if isinstance(pixel, int | float) and np.isfinite(pixel) else None,
        n_looks=n_looks,
        place=np.repeat(np.arange(len(n_looks)), n_looks),
        acquired=_per_look(n_looks, _times(pc.list_flatten(table["acquired"]).cast(pa.string()))),
        gap_hours=_per_look(n_looks, _floats(pc.list_flatten(table["gap_hours"]))),
        cloud=_per_look(n_looks, _floats(pc.list_flatten(table["cloud_fraction"]))),
        s2_valid=_per_look(n_looks, _floats(pc.list_flatten(table["s2_valid_fraction"]))),
        s1_valid=_per_look(n_looks, _floats(pc.list_flatten(table["s1_valid_fraction"]))),
        s2_id=_texts(pc.list_flatten(table["s2_ids"])),
        s1_id=_texts(pc.list_flatten(table["s1_ids"])),
        label=_per_look(n_looks, _integers(pc.list_flatten(table["labels"]))),
        notes=manifest.notes,
        **_of_places(table),
    )


def _drawn(path: Path) -> Contents:
    """As they were drawn; nothing is known yet of the pixels."""
    columns = ["key", "lon", "lat", "size_px", "looks", "stratum", "split", "block", "change_score", "spectral_entropy"]
    table = some_columns(path, columns)
    n_looks = _integers(pc.list_value_length(table["looks"]))
    looks = pc.list_flatten(table["looks"])
    unknown = np.full(len(looks), np.nan)
    return Contents(
        is_written=False,
        pixel_m=PIXEL_M,
        n_looks=n_looks,
        place=np.repeat(np.arange(len(n_looks)), n_looks),
        acquired=_times(pc.struct_field(looks, "acquired")),
        gap_hours=_floats(pc.struct_field(looks, "gap_hours")),
        cloud=unknown,
        s2_valid=unknown,
        s1_valid=unknown,
        s2_id=_texts(pc.struct_field(looks, "s2_id")),
        s1_id=_texts(pc.struct_field(looks, "s1_id")),
        label=np.zeros(len(looks), dtype=np.int64),
        notes=tables.read_metadata(path),
        **_of_places(table),
    )


def _sites(path: Path) -> Contents:
    """Places drawn before any catalog was asked: none of them has a look."""
    table = some_columns(path, ["key", "lon", "lat", "size_px", "stratum", "split", "block"])
    none: FloatArray = np.zeros(0)
    return Contents(
        is_written=False,
        pixel_m=PIXEL_M,
        n_looks=np.zeros(table.num_rows, dtype=np.int64),
        place=np.zeros(0, dtype=np.int64),
        acquired=np.zeros(0, dtype="datetime64[us]"),
        gap_hours=none,
        cloud=none,
        s2_valid=none,
        s1_valid=none,
        s2_id=pa.array([], pa.string()),
        s1_id=pa.array([], pa.string()),
        label=np.zeros(0, dtype=np.int64),
        notes=tables.read_metadata(path),
        **_of_places(table),
    )


def some_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Those of some columns that a table has, so that tables of other versions can be looked at.

    Raises DatasetError for a file that is no Parquet table.
    """
    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet table: {first_line(error)}") from None
    return tables.open_parquet(path, columns=[name for name in columns if name in present])


def _of_places(table: pa.Table) -> dict[str, Any]:
    """The columns that all tables of places have; what an optional one lacks is NaN."""
    missing = np.full(table.num_rows, np.nan)
    present = set(table.column_names)
    return {
        "key": _texts(table["key"]),
        "lon": _floats(table["lon"]),
        "lat": _floats(table["lat"]),
        "size_px": _integers(table["size_px"]),
        "split": np.array(table["split"].to_pylist(), dtype=np.str_),
        "stratum": np.array(table["stratum"].to_pylist(), dtype=np.str_),
        "block": np.array(table["block"].to_pylist(), dtype=np.str_),
        "change": _floats(table["change_score"]) if "change_score" in present else missing,
        "entropy": _floats(table["spectral_entropy"]) if "spectral_entropy" in present else missing,
    }


def _per_look(n_looks: IntArray, values: Any) -> Any:
    if len(values) != n_looks.sum():
        raise ValueError("its columns disagree on the looks")
    return values


def _floats(column: Any) -> FloatArray:
    """A column of numbers, NaN where it is empty or not finite."""
    values = np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _integers(column: Any) -> IntArray:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0), dtype=np.int64)


def _times(column: Any) -> Times:
    found = column.cast(pa.timestamp("us", tz="UTC"))
    flat = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype="datetime64[us]")


def _texts(column: Any) -> pa.Array:
    """A column of texts as one array, empty text where there is none."""
    texts = pc.fill_null(column.cast(pa.string()), "")
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
