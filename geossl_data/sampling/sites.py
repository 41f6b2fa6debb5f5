"""Sites as columns: what a draw of a million places is until somebody wants records."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import cell_names, cells, from_lonlat, to_lonlat, utm_epsgs
from geossl_data.records import Site
from geossl_data.sampling.candidates import CELL_KM
from geossl_data.sampling.splits import SplitRule

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Names = NDArray[np.str_]

_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8).astype(np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sites:
    """Sites sorted by key, as arrays of shape (n,) named as the fields of `Site`, and how they came about."""

    key: Names
    lon: FloatArray
    lat: FloatArray
    size_px: IntArray
    cell: Names
    stratum: Names
    weight: FloatArray
    inclusion_probability: FloatArray
    split: Names
    block: Names
    drawn_by: Names
    """The strategy that took each; of a mixture the part."""
    target: Mapping[str, int] = field(default_factory=dict)
    """Stratum → places it was meant to get; empty where the strategy has no strata."""
    land_km2: Mapping[str, float] = field(default_factory=dict)
    """Stratum → its land, km²."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason → proposals that came to nothing."""

    def __len__(self) -> int:
        return len(self.key)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns of the table of sites, by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(Site)}

    @property
    def squares(self) -> FloatArray:
        """The ground around each, for maps: rings of five corners in degrees, shape (n, 5, 2); see `squares_lonlat`."""
        return squares_lonlat(self.lon, self.lat, self.size_px)

    def records(self) -> list[Site]:
        """The sites as records, in the same order."""
        columns = {name: values.tolist() for name, values in self.columns.items()}
        return [Site(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def make_sites(
    lon: FloatArray,
    lat: FloatArray,
    *,
    stratum: Names,
    chance: FloatArray,
    drawn_by: Names,
    size: int,
    rule: SplitRule,
    target: Mapping[str, int],
    land_km2: Mapping[str, float],
    rejected: Mapping[str, int],
) -> Sites:
    """Sites at points in degrees, with keys, cells, weights and splits; all arrays of shape (n,).

    chance: inclusion probabilities in (0, 1]. A site's key follows from its position and size, whatever was drawn with
    it, and its split from its block.
    """
    # -0.0 and 180 are other names of the same meridians.
    lon, lat = np.where(lon >= 180.0, lon - 360.0, lon) + 0.0, lat + 0.0
    order = np.argsort(_ranks(*cells(lon, lat, CELL_KM)) << np.int64(32) | _hashes(lon, lat, size), kind="stable")
    lon, lat, chance = lon[order], lat[order], chance[order]
    cell = cell_names(*cells(lon, lat, CELL_KM))
    block, split = _splits(lon, lat, rule)
    inverse = 1.0 / chance
    return Sites(
        key=np.strings.add(np.strings.add(cell, "_"), _hex(_hashes(lon, lat, size))),
        lon=lon,
        lat=lat,
        size_px=np.full(len(lon), size, dtype=np.int64),
        cell=cell,
        stratum=stratum[order],
        weight=inverse / inverse.mean() if len(lon) else inverse,
        inclusion_probability=chance,
        split=split,
        block=block,
        drawn_by=drawn_by[order],
        target=target,
        land_km2=land_km2,
        rejected=rejected,
    )


def _ranks(rows: IntArray, columns: IntArray) -> IntArray:
    """Numbers that sort cells as their names do: four digits, then D before U, L before R."""
    return np.asarray(((2 * np.abs(rows) + (rows >= 0)) << 13) + 2 * np.abs(columns) + (columns >= 0))


def squares_lonlat(lon: FloatArray, lat: FloatArray, size_px: IntArray) -> FloatArray:
    """The squares around points, upright in their UTM zones, as closed rings of corners in degrees, shape (n, 5, 2).

    A square across the antimeridian keeps its longitudes together by running beyond ±180.
    """
    epsgs = utm_epsgs(lon, lat)
    rings = np.empty((len(lon), 5, 2))
    for epsg in np.unique(epsgs).tolist():
        rows = np.flatnonzero(epsgs == epsg)
        x, y = from_lonlat(epsg, lon[rows], lat[rows])
        half = size_px[rows] * 5.0
        for corner, (east, north) in enumerate(((-1, 1), (1, 1), (1, -1), (-1, -1))):
            rings[rows, corner, 0], rings[rows, corner, 1] = to_lonlat(epsg, x + east * half, y + north * half)
    rings[:, 4] = rings[:, 0]
    first = rings[:, :1, 0]
    rings[:, :, 0] = first + (rings[:, :, 0] - first + 180.0) % 360.0 - 180.0
    return rings


def _splits(lon: FloatArray, lat: FloatArray, rule: SplitRule) -> tuple[Names, Names]:
    """Block and split of each point; each block is asked once."""
    rows, columns = cells(lon, lat, rule.block_km)
    known, position = np.unique(rows * (1 << 32) + columns, return_inverse=True)
    first = np.zeros(len(known), dtype=np.int64)
    first[position] = np.arange(len(lon))
    names = cell_names(rows[first], columns[first])
    return names[position], rule.splits(names.tolist())[position]


def _hashes(lon: FloatArray, lat: FloatArray, size: int) -> IntArray:
    """A number of 32 bits for each exact position and the size."""
    mixed = _mix(_mix(_mix(lon.view(np.uint64)) ^ lat.view(np.uint64)) ^ np.uint64(size))
    return (mixed >> np.uint64(32)).astype(np.int64)


def _hex(numbers: IntArray) -> Names:
    """Numbers of 32 bits as eight hex digits."""
    digits = (numbers[:, None] >> np.arange(28, -4, -4)) & 15
    return cast(Names, np.ascontiguousarray(_HEX[digits]).view("U8").ravel())


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): each bit of the answer depends on every bit given."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
