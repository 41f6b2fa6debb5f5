"""Which split a place belongs to: decided by its block of ground, before anything is drawn.

A block's split is a hash of the seed and the block, so a place keeps its split when the dataset grows.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import EARTH_RADIUS_KM, cell_centre, cell_name, cells, named_cell
from geossl_data.records import SPLITS, Split

FloatArray = NDArray[np.float64]

_BY_NAME = np.array(sorted(SPLITS))


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How ground is shared out: blocks of the equal-spacing grid, each wholly train, val or test."""

    block_km: float = 10.0
    val: float = 0.1
    """Chance of a block to be for validation."""
    test: float = 0.2
    """Chance of a block to be for testing."""
    seed: int = 0
    test_bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north, degrees, west > east across the antimeridian: the blocks centred there are for testing,
    and no others."""

    def block(self, lon: float, lat: float) -> str:
        """Name of the block that holds a point in degrees."""
        return cell_name(lon, lat, self.block_km)

    def split(self, block: str) -> Split:
        """The split of a block; the same for ever."""
        found: Split = self.splits([block]).tolist()[0]
        return found

    def splits(self, blocks: Sequence[str]) -> NDArray[np.str_]:
        """The splits of blocks, shape (n,), as `split` gives them one by one."""
        hashes = b"".join(hashlib.sha256(f"{self.seed}/{block}".encode()).digest()[:8] for block in blocks)
        draw = np.frombuffer(hashes, ">u8").astype(np.float64) / 2**64
        if self.test_bbox is not None:
            rest = np.where(draw < self.val, "val", "train")
            return np.where([self._is_held_out(block) for block in blocks], "test", rest)
        return np.where(draw < self.test, "test", np.where(draw < self.test + self.val, "val", "train"))

    def _is_held_out(self, block: str) -> bool:
        assert self.test_bbox is not None
        west, south, east, north = self.test_bbox
        lon, lat = cell_centre(block, self.block_km)
        return south <= lat <= north and (west <= lon <= east if west <= east else lon >= west or lon <= east)

    def near_other_split(self, lon: float, lat: float, buffer_km: float) -> bool:
        """True where a block of another split may lie within `buffer_km` of a point in degrees."""
        return bool(self.near_other_splits(np.array([lon]), np.array([lat]), buffer_km)[0])

    def near_other_splits(self, lon: FloatArray, lat: FloatArray, buffer_km: float) -> NDArray[np.bool_]:
        """Near which points, in degrees and of shape (n,), a block of another split may lie, within `buffer_km`.

        Every block that meets the longitude/latitude box around the circle of that radius is asked, so the answer
        errs on the side of True. Two points of different splits for which it is False lie at least `buffer_km` apart.
        """
        row_degrees = math.degrees(self.block_km / EARTH_RADIUS_KM)
        reach = math.degrees(buffer_km / EARTH_RADIUS_KM)
        south, north = np.maximum(lat - reach, -90.0), np.minimum(lat + reach, 90.0)
        bulge = math.sin(math.radians(min(reach, 90.0))) / np.maximum(np.cos(np.radians(lat)), 1e-12)
        is_polar = (bulge >= 1) | (np.abs(lat) + reach >= 90)
        east_reach = np.where(is_polar, 180.0, np.degrees(np.arcsin(np.minimum(bulge, 1.0))))
        first_row, last_row = (np.floor(edge / row_degrees).astype(np.int64) for edge in (south, north))
        own_row, own_column = cells(lon, lat, self.block_km)
        own = self._numbers(own_row, own_column)
        near = np.zeros(len(lon), dtype=bool)
        for row_step in range(int((last_row - first_row).max(initial=-1)) + 1):
            row = first_row + row_step
            middle = np.clip((row + 0.5) * row_degrees, -90.0, 90.0).astype(np.float64)
            columns = self._columns(middle)
            first, last = (
                np.floor((lon + way * east_reach + 180.0) * columns / 360.0).astype(np.int64) for way in (-1, 1)
            )
            last = np.minimum(last, first + columns - 1)
            is_row = (row <= last_row) & (np.floor(middle / row_degrees) == row)
            for column_step in range(int((last - first)[is_row].max(initial=-1)) + 1):
                column = first + column_step
                counted = column % columns - columns // 2
                is_other = (row != own_row) | (counted != own_column)
                asked = np.flatnonzero(is_row & is_other & ~near & (column <= last))
                near[asked] = self._numbers(row[asked], counted[asked]) != own[asked]
        return near

    def _columns(self, lat: FloatArray) -> NDArray[np.int64]:
        """How many blocks there are around the Earth in the row whose middle lies at a latitude."""
        around_km = 2 * math.pi * EARTH_RADIUS_KM * np.cos(np.radians(lat))
        return np.maximum(1, np.ceil(around_km / self.block_km)).astype(np.int64)

    def _numbers(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for the split of each block, the same for the same split; each block is hashed once."""
        _, first, which = np.unique(row * 2**32 + column, return_index=True, return_inverse=True)
        blocks = zip(row[first].tolist(), column[first].tolist(), strict=True)
        splits = self.splits([named_cell(*block) for block in blocks])
        return np.searchsorted(_BY_NAME, splits)[which]
