"""The pairs that matching found, as columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl_data.records import Pair
from geossl_data.scenes.matching.acquisitions import ORBIT_STATES, UNKNOWN, Acquisitions, FloatArray, IntArray, moment
from geossl_data.scenes.matching.ragged import Ragged
from geossl_data.tables import schema

if TYPE_CHECKING:
    import pyarrow as pa

_US_PER_HOUR = 3.6e9
_ROWS = 1 << 20
"""Rows of a table that are made at a time: a column of strings holds at most 2 GiB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matches:
    """n pairs sorted by (s2_acquired, s2_id, rank); the fields mean what those of Pair mean."""

    s2: Acquisitions
    s1: Acquisitions
    s2_index: IntArray
    """Position in `s2`, shape (n,)."""
    s1_index: IntArray
    """Position in `s1`, shape (n,)."""
    gap_us: IntArray
    """Sentinel-1 minus Sentinel-2 acquisition time, microseconds."""
    overlap: FloatArray
    rank: IntArray
    n_candidates: IntArray
    s1_more: Ragged
    """Positions in `s1`."""
    s2_more: Ragged
    """Positions in `s2`."""

    def __len__(self) -> int:
        return len(self.s2_index)

    @property
    def gap_hours(self) -> FloatArray:
        """Sentinel-1 minus Sentinel-2 acquisition time, shape (n,)."""
        return self.gap_us / _US_PER_HOUR

    def pairs(self) -> list[Pair]:
        """The same as records."""
        return list(self._records())

    def _records(self) -> Iterator[Pair]:
        s1, s2 = self.s1, self.s2
        rows = zip(
            self.s2_index.tolist(),
            self.s1_index.tolist(),
            self.gap_hours.tolist(),
            self.overlap.tolist(),
            self.rank.tolist(),
            self.n_candidates.tolist(),
            self.s1_more,
            self.s2_more,
            strict=True,
        )
        for anchor, frame, gap_hours, overlap, rank, n_candidates, s1_more, s2_more in rows:
            yield Pair(
                s2_id=s2.ids[anchor],
                s1_id=s1.ids[frame],
                s2_acquired=moment(int(s2.acquired_us[anchor])),
                s1_acquired=moment(int(s1.acquired_us[frame])),
                gap_hours=gap_hours,
                overlap=overlap,
                rank=rank,
                n_candidates=n_candidates,
                s1_more=tuple(s1.ids[other] for other in s1_more),
                s2_more=tuple(s2.ids[other] for other in s2_more),
                s1_platform=_named(s1.platforms, s1.platform[frame]),
                s2_platform=_named(s2.platforms, s2.platform[anchor]),
                s1_orbit_state=_named(ORBIT_STATES, s1.orbit_state[frame]),
                s1_relative_orbit=_known(s1.relative_orbit[frame]),
                s2_relative_orbit=_known(s2.relative_orbit[anchor]),
            )

    def table(self) -> "pa.Table":
        """The same as an Arrow table with the schema of Pair."""
        import pyarrow as pa

        parts = [self._rows(start, min(start + _ROWS, len(self))) for start in range(0, len(self), _ROWS)]
        return pa.concat_tables(parts) if parts else schema(Pair).empty_table()

    def _rows(self, start: int, end: int) -> "pa.Table":
        import pyarrow as pa

        rows = np.arange(start, end)
        s1, s2, frame, anchor = self.s1, self.s2, self.s1_index[start:end], self.s2_index[start:end]
        columns: dict[str, Any] = {
            "s2_id": s2.ids[anchor],
            "s1_id": s1.ids[frame],
            "s2_acquired": s2.acquired_us[anchor],
            "s1_acquired": s1.acquired_us[frame],
            "gap_hours": self.gap_hours[start:end],
            "overlap": self.overlap[start:end],
            "rank": self.rank[start:end],
            "n_candidates": self.n_candidates[start:end],
            "s1_more": _id_lists(s1, self.s1_more.take(rows)),
            "s2_more": _id_lists(s2, self.s2_more.take(rows)),
            "s1_platform": _names(s1.platforms, s1.platform[frame]),
            "s2_platform": _names(s2.platforms, s2.platform[anchor]),
            "s1_orbit_state": _names(ORBIT_STATES, s1.orbit_state[frame]),
            "s1_relative_orbit": _numbers(s1.relative_orbit[frame]),
            "s2_relative_orbit": _numbers(s2.relative_orbit[anchor]),
        }
        fields = schema(Pair)
        arrays = [
            value if isinstance(value := columns[field.name], pa.Array) else pa.array(value, field.type)
            for field in fields
        ]
        return pa.Table.from_arrays(arrays, schema=fields)


def _named(names: tuple[Any, ...], code: int) -> Any:
    return None if code == UNKNOWN else names[code]


def _known(number: int) -> int | None:
    return None if number == UNKNOWN else int(number)


def _names(names: tuple[str, ...], codes: IntArray) -> Any:
    import pyarrow as pa

    numbers = pa.array(codes, pa.int64(), mask=codes == UNKNOWN)
    return pa.DictionaryArray.from_arrays(numbers, pa.array(names, pa.string())).cast(pa.string())


def _numbers(values: IntArray) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.int64(), mask=values == UNKNOWN)


def _id_lists(scenes: Acquisitions, lists: Ragged) -> Any:
    import pyarrow as pa

    ids = pa.array(scenes.ids[lists.values], pa.string())
    return pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), ids)
