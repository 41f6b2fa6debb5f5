"""What the rasters of a sensor share, and with those of other sensors: what most of them are is what all have to be.

Whatever differs is left out with a reason and never resampled.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

from geossl_data.bands import Member
from geossl_data.errors import DatasetError
from geossl_data.records import Skipped
from geossl_data.shards.manifest import MAX_BANDS, MAX_SIZE_PX
from geossl_data.shards.writing.own.samples import key_of
from geossl_data.shards.writing.own.table import Row
from geossl_data.tiles.own import DTYPES, Raster, Reason

CLASS_MAPS = re.compile(r"label|mask(-.*)?")
"""Sensors whose rasters are maps of classes: one band of whole numbers, no statistics; `mask-water` is one of water."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Found:
    """A row with its raster."""

    row: Row
    raster: Raster

    @property
    def size(self) -> tuple[int, int]:
        return self.raster.width, self.raster.height

    @property
    def bands(self) -> tuple[str, ...]:
        return self.row.bands or self.raster.bands


@dataclass(slots=True)
class Sieve:
    """Keeps what is like most, and the reasons of the rest."""

    skipped: list[Skipped] = field(default_factory=list)

    def leave_out(self, found: Iterable[Found], reason: Reason, why: Callable[[Found], str]) -> None:
        for one in found:
            detail = f"{one.row.where}: {why(one)}"
            self.skipped.append(Skipped(stage="shard", id=key_of(one.row.place), reason=reason, detail=detail))

    def keep(
        self, found: Sequence[Found], is_kept: Callable[[Found], bool], reason: Reason, why: Callable[[Found], str]
    ) -> list[Found]:
        kept = [one for one in found if is_kept(one)]
        self.leave_out((one for one in found if not is_kept(one)), reason, why)
        return kept


def majority(values: Iterable[T]) -> T:
    """The most frequent value; of several the one that comes first."""
    counts = Counter(values)
    return max(counts, key=lambda value: counts[value])


def alike(sensor: str, found: Sequence[Found], sieve: Sieve) -> tuple[list[Found], Member]:
    """The rasters of a sensor that share what a member has to share, and that member, with factor 1."""
    count, dtype = majority((len(one.row.bands) or one.raster.n_bands, one.raster.dtype) for one in found)
    plane = CLASS_MAPS.fullmatch(sensor) is not None
    if dtype not in DTYPES:
        raise DatasetError(f"rasters of {sensor} are {dtype}; shards hold {', '.join(DTYPES)}")
    if count > MAX_BANDS:
        raise DatasetError(f"rasters of {sensor} have {count} bands; shards hold up to {MAX_BANDS}")
    if plane and (count != 1 or dtype.startswith("float")):
        raise DatasetError(
            f"rasters of {sensor} have {count} bands of {dtype}; a class map has one of whole numbers; rename it"
        )
    kept = sieve.keep(
        found,
        lambda one: one.raster.n_bands == count,
        "wrong-bands",
        lambda one: f"{one.raster.n_bands} bands where {sensor} has {count}",
    )
    kept = sieve.keep(
        kept,
        lambda one: one.raster.dtype == dtype,
        "wrong-dtype",
        lambda one: f"{one.raster.dtype} where {sensor} is {dtype}",
    )
    named = [one.bands for one in kept if one.bands]
    names = majority(named) if named else ()
    kept = sieve.keep(
        kept,
        lambda one: one.bands in ((), names),
        "wrong-bands",
        lambda one: f"bands {', '.join(one.bands)} where {sensor} has {', '.join(names)}",
    )
    if not kept:
        raise DatasetError(f"no raster of {sensor} has the {count} bands that its column bands names")
    said = {name: _said(found, name) for name in ("scale", "offset", "units")}
    if plane and (said["scale"], said["offset"]) != (None, None):
        raise DatasetError(
            f"rasters of {sensor} are maps of classes, which have no scale and no offset; leave these cells empty"
        )
    scaled = majority(_scaled(one.raster, said) for one in kept)
    kept = sieve.keep(
        kept,
        lambda one: plane or _scaled(one.raster, said) == scaled,
        "wrong-scale",
        lambda one: (
            "scale {:g} and offset {:g}".format(*_scaled(one.raster, said))
            + f" where {sensor} has {scaled[0]:g}, {scaled[1]:g}"
        ),
    )
    nodata = majority(one.raster.nodata for one in kept)
    kept = sieve.keep(
        kept,
        lambda one: one.raster.nodata in (None, nodata),
        "wrong-nodata",
        lambda one: (
            f"no data is {one.raster.nodata:g} where {sensor} has {nodata if nodata is None else f'{nodata:g}'}"
        ),
    )
    return kept, Member(
        name=sensor,
        sensor=sensor,
        bands=names or ((sensor,) if plane else tuple(str(number + 1) for number in range(count))),
        factor=1,
        dtype=dtype,
        units=said["units"] or ("class" if plane else ""),
        scale=1.0 if plane else scaled[0],
        offset=0.0 if plane else scaled[1],
        nodata=nodata,
        plane=plane,
    )


def _said(found: Iterable[Found], column: str) -> Any:
    """What the rows of a sensor say in a column in which they agree; None, or empty text, where they say nothing."""
    values = [getattr(one.row, column) for one in found]
    return next((value for value in values if value not in (None, "")), values[0])


def _scaled(raster: Raster, said: Mapping[str, Any]) -> tuple[float, float]:
    """Scale and offset of a raster: the table's, else the file's own."""
    scale, offset = said["scale"], said["offset"]
    return raster.scale if scale is None else scale, raster.offset if offset is None else offset


def with_own_names(members: Iterable[Member]) -> list[Member]:
    """Members in which no band has the name of a band of another sensor; statistics are by name."""
    listed = list(members)
    counts = Counter(band for member in listed if not member.plane for band in member.bands)
    return [
        replace(member, bands=tuple(f"{member.name}_{band}" for band in member.bands))
        if not member.plane and any(counts[band] > 1 for band in member.bands)
        else member
        for member in listed
    ]


# ------------------------------------------------------------------------------------------------ sizes


def factors_of_squares(found: Mapping[str, Sequence[Found]]) -> tuple[dict[str, int], int]:
    """How many of the finest pixels lie along one of each sensor's, and the side in finest pixels.

    Raises DatasetError where most rasters of a sensor are no squares, or sides are no whole multiples.
    """
    sizes = {sensor: majority(one.size for one in ones) for sensor, ones in found.items()}
    for sensor, (width, height) in sizes.items():
        if width != height:
            raise DatasetError(
                f"rasters of {sensor} are {width} × {height} px; shards hold squares: cut them with --tile N"
            )
    side = max(width for width, _ in sizes.values())
    for sensor, (width, _) in sizes.items():
        if side % width:
            raise DatasetError(
                f"rasters of {sensor} are {width} px a side, others {side} px: no whole multiple; bring them to sides "
                "that are"
            )
    if side > MAX_SIZE_PX:
        raise DatasetError(f"rasters of {side} px a side, more than {MAX_SIZE_PX}: cut them with --tile N")
    return {sensor: side // width for sensor, (width, _) in sizes.items()}, side


def factors_of_places(found: Mapping[str, Sequence[Found]], tile: int) -> dict[str, int]:
    """How many of the finest pixels lie along one of each sensor's, by what most places say that have several.

    Raises DatasetError where that is no whole number, or `tile` no multiple of one.
    """
    widest: dict[str, int] = {}
    sensors: defaultdict[str, set[str]] = defaultdict(set)
    for sensor, ones in found.items():
        for one in ones:
            widest[one.row.place] = max(widest.get(one.row.place, 0), one.raster.width)
            sensors[one.row.place].add(sensor)
    factors: dict[str, int] = {}
    for sensor, ones in found.items():
        telling = [one for one in ones if len(sensors[one.row.place]) > 1] or ones[:1]
        ratio = majority(Fraction(widest[one.row.place], one.raster.width) for one in telling)
        if ratio.denominator != 1:
            raise DatasetError(
                f"rasters of {sensor} have one pixel for {float(ratio):g} of the finest, no whole number; bring them "
                "to sizes that are whole multiples"
            )
        factors[sensor] = ratio.numerator
    least = math.lcm(*factors.values())
    if tile % least:
        raise DatasetError(f"--tile {tile} is not a multiple of {least}, the finest pixels along the coarsest ones")
    return factors
