"""Rows of a table and what their files are → members, and samples in time order with their splits.

Nothing depends on the order of the rows.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from geossl_data.bands import Member
from geossl_data.errors import DatasetError
from geossl_data.records import Skipped, Split
from geossl_data.sampling.splits import SplitRule
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.codec import payload_nbytes
from geossl_data.shards.writing.own.alike import (
    Found,
    Sieve,
    alike,
    factors_of_places,
    factors_of_squares,
    majority,
    with_own_names,
)
from geossl_data.shards.writing.own.classes import stratified_splits
from geossl_data.shards.writing.own.ground import Ground, as_on, ground_of, joined, own_pixel_m
from geossl_data.shards.writing.own.samples import OwnFile, OwnLook, OwnPlan, OwnSample, key_of
from geossl_data.shards.writing.own.table import Row
from geossl_data.shards.writing.plan import group_nbytes
from geossl_data.tiles.own import Raster, RasterError
from geossl_data.tiles.windows import MAX_WINDOW_NBYTES


def inputs_digest(rows: Sequence[Row], rasters: Mapping[str, Raster | RasterError]) -> str:
    """Hex digest of what rows and their files say, whatever their order; file times are no part of it."""
    said = sorted(json.dumps(_said(row, rasters[row.path]), sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _said(row: Row, raster: Raster | RasterError) -> list[Any]:
    # Columns that came later: where they say nothing the digest is the one that it was before.
    later = {
        "more_labels": list(row.more_labels),
        "scale": None if row.scale is None else repr(row.scale),
        "offset": None if row.offset is None else repr(row.offset),
        "units": row.units,
    }
    return [
        row.place,
        row.sensor,
        row.path,
        None if row.time is None else rfc3339(row.time),
        row.look,
        row.split,
        row.label,
        row.lon,
        row.lat,
        list(row.bands),
        raster.sha256 if isinstance(raster, Raster) else raster.reason,
        *([later] if any(later.values()) else []),
    ]


@dataclass(slots=True)
class _Place:
    """What is left of a place."""

    name: str
    key: str
    size: tuple[int, int]
    """Columns and rows of the finest pixels."""
    found: list[Found]
    ground: Ground | None


def _places(
    found: Mapping[str, Sequence[Found]], factors: Mapping[str, int], side: int | None, sieve: Sieve
) -> list[_Place]:
    """The places in the order of their keys, with those of their rasters that lie on one grid of one size."""
    by_place: defaultdict[str, list[Found]] = defaultdict(list)
    for sensor in factors:
        for one in found[sensor]:
            by_place[one.row.place].append(one)
    places = []
    for name, ones in by_place.items():
        size = (side, side) if side else majority(_finest_size(one, factors) for one in ones)
        kept = sieve.keep(
            ones,
            lambda one, size=size: _finest_size(one, factors) == size,  # type: ignore[misc]
            "wrong-size",
            lambda one, size=size: (  # type: ignore[misc]
                f"{one.raster.width} × {one.raster.height} px where {one.row.sensor} has "
                f"{_share(size, factors[one.row.sensor])}"
            ),
        )
        grids = [grid for one in kept if (grid := _finest_ground(one, factors)) is not None]
        ground = None
        if grids:
            distinct = list(dict.fromkeys(grids))
            ground = max(distinct, key=lambda grid: sum(as_on(other, grid, size) for other in grids))
            kept = sieve.keep(
                kept,
                lambda one, size=size, ground=ground: as_on(_finest_ground(one, factors), ground, size),  # type: ignore[misc]
                "off-grid",
                lambda one: f"{one.row.sensor} does not lie where the other rasters of its place lie",
            )
        if kept:
            places.append(_Place(name, key_of(name), size, kept, ground))
    return sorted(places, key=lambda place: place.key)


def _finest_size(one: Found, factors: Mapping[str, int]) -> tuple[int, int]:
    factor = factors[one.row.sensor]
    return one.raster.width * factor, one.raster.height * factor


def _finest_ground(one: Found, factors: Mapping[str, int]) -> Ground | None:
    grid = one.raster.grid
    return None if grid is None else Ground(crs=one.raster.crs, transform=grid).finer(factors[one.row.sensor])


def _share(size: tuple[int, int], factor: int) -> str:
    return " × ".join(f"{side / factor:g}" for side in size)


# ------------------------------------------------------------------------------------------------ looks


def _looks(
    place: _Place, members: Mapping[str, Member], labels: Mapping[str, int], *, several: bool
) -> tuple[OwnLook, ...]:
    """The looks of a place in order. several: whether looks of the table have more than one class.

    Raises DatasetError where times and numbers contradict each other.
    """
    groups: defaultdict[int | datetime | None, list[Found]] = defaultdict(list)
    for one in place.found:
        groups[one.row.time if one.row.look is None else one.row.look].append(one)
    looks = [_look(ones, list(members), labels, several=several) for ones in groups.values()]
    if all(look.number is not None for look in looks):
        looks.sort(key=lambda look: look.number or 0)
    else:
        looks.sort(key=lambda look: look.acquired or datetime.min)
    times = [look.acquired for look in looks if look.acquired is not None]
    if times != sorted(times):
        raise DatasetError(f"place {place.name[:60]!r}: the numbers of its looks are in another order than their times")
    return tuple(looks)


def _look(found: Sequence[Found], order: Sequence[str], labels: Mapping[str, int], *, several: bool) -> OwnLook:
    times = [one.row.time for one in found if one.row.time is not None]
    numbers = next((tuple(labels[name] for name in one.row.labels) for one in found if one.row.labels), ())
    return OwnLook(
        acquired=min(times) if times else None,
        number=found[0].row.look,
        label=numbers[0] if numbers else 0,
        files=tuple(
            OwnFile(
                sensor=one.row.sensor,
                path=one.row.path,
                acquired=one.row.time,
                nbytes=one.raster.nbytes,
                sha256=one.raster.sha256,
            )
            for one in sorted(found, key=lambda one: order.index(one.row.sensor))
        ),
        labels=numbers if several else (),
    )


def _labels(rows: Iterable[Row]) -> tuple[dict[str, int], dict[str, str]]:
    """The number of each label, and the names of the numbers where labels are names.

    Names are counted from 1 in their order; whole numbers, where all labels are, stand for themselves.
    """
    texts = sorted({label for row in rows for label in row.labels})
    if all(text.isascii() and text.isdigit() for text in texts):
        return {text: int(text) for text in texts}, {}
    numbers = {text: number for number, text in enumerate(texts, start=1)}
    return numbers, {str(number): text for text, number in numbers.items()}


# ------------------------------------------------------------------------------------------------ the plan


def plan_own(
    rows: Sequence[Row],
    rasters: Mapping[str, Raster | RasterError],
    *,
    tile: int,
    rule: SplitRule,
    stratified: bool = False,
) -> OwnPlan:
    """What is to be made of the rows of a table and of what their files are.

    tile: side in finest pixels of the squares that places are cut into, from their north-west corner; 0 where each is
    one square. Splits are those of the table, else of the block of ground, else of the place as a whole; squares that
    overlap are in one split. stratified: places of which nobody says where they lie are shared out class by class.
    Raises DatasetError where most rasters of a sensor cannot be stored, or sensors do not fit together.
    """
    sieve = Sieve()
    by_sensor: dict[str, list[Found]] = {}
    for row in sorted(rows, key=_rank):
        raster = rasters[row.path]
        if isinstance(raster, Raster):
            by_sensor.setdefault(row.sensor, []).append(Found(row, raster))
        else:
            detail = f"line {row.line}: {raster}" if row.line else str(raster)
            sieve.skipped.append(Skipped(stage="shard", id=key_of(row.place), reason=raster.reason, detail=detail))
    if not by_sensor:
        raise DatasetError(f"none of the {len(rows)} rasters can be read; the first: {sieve.skipped[0].detail}")
    found_alike = {sensor: alike(sensor, ones, sieve) for sensor, ones in sorted(by_sensor.items())}
    found = {sensor: kept for sensor, (kept, _) in found_alike.items()}
    if tile:
        factors, side = factors_of_places(found, tile), None
    else:
        factors, side = factors_of_squares(found)
    described = [replace(member, factor=factors[sensor]) for sensor, (_, member) in found_alike.items()]
    described.sort(key=lambda member: (member.plane, member.factor, member.name))
    members = {member.name: member for member in with_own_names(described)}
    _check_sizes(members, tile or side or 0)
    places = _places(found, factors, side, sieve)
    labels, label_names = _labels(rows)
    several = any(row.more_labels for row in rows)
    cut = [
        sample
        for place in places
        for sample in _squares(place, tile, _looks(place, members, labels, several=several), sieve)
    ]
    total = sum(place.size[0] * place.size[1] for place in places)
    samples = _with_splits(cut, rows, rule, stratified=stratified)
    return OwnPlan(
        samples=tuple(samples),
        members=members,
        pixel_m=own_pixel_m([sample.ground for sample in samples if sample.ground is not None]),
        label_names=label_names,
        skipped=tuple(sieve.skipped),
        left_over=1 - sum(sample.size_px**2 for sample in samples) / total if total else 0.0,
    )


def _rank(row: Row) -> tuple[str, bool, int, str, str]:
    """An order of rows that does not depend on where they stand in the table."""
    time = "" if row.time is None else rfc3339(row.time)
    return row.place, row.look is None, row.look or 0, time, row.sensor


def _check_sizes(members: Mapping[str, Member], size_px: int) -> None:
    for member in members.values():
        nbytes = payload_nbytes(member.dtype, member.shape(size_px))
        if nbytes > MAX_WINDOW_NBYTES:
            raise DatasetError(
                f"a square of {member.name} takes {nbytes >> 20} MB, at most {MAX_WINDOW_NBYTES >> 20} can be stored: "
                "cut smaller ones with --tile N"
            )


def _squares(place: _Place, tile: int, looks: tuple[OwnLook, ...], sieve: Sieve) -> Iterator[OwnSample]:
    """The squares of a place, row by row, without splits."""
    width, height = place.size
    side = tile or width
    if width < side or height < side:
        sieve.leave_out(place.found[:1], "wrong-size", lambda _: f"{width} × {height} px hold no square of {side} px")
        return
    for row in range(height // side):
        for column in range(width // side):
            yield OwnSample(
                key=f"{place.key}_r{row}c{column}" if tile else place.key,
                split="train",
                block="",
                place=place.name,
                size_px=side,
                column=column * side,
                row=row * side,
                tile=(row, column) if tile else None,
                looks=looks,
                ground=None if place.ground is None else place.ground.moved(column * side, row * side),
            )


def _with_splits(
    samples: Sequence[OwnSample], rows: Sequence[Row], rule: SplitRule, *, stratified: bool
) -> list[OwnSample]:
    given = {row.place: row.split for row in rows if row.split is not None}
    centres = {row.place: (row.lon, row.lat) for row in rows if row.lon is not None and row.lat is not None}
    grounds = ground_of([sample.ground for sample in samples], [sample.size_px for sample in samples])
    placed = [
        replace(sample, ground=ground if ground is not None else _at(centres.get(sample.place)))
        for sample, ground in zip(samples, grounds, strict=True)
    ]
    blocks = [_block(sample, given.get(sample.place), rule) for sample in placed]
    movable = [number for number, sample in enumerate(placed) if sample.place not in given]
    squares = [(placed[number].ground, placed[number].size_px) for number in movable]
    for first, *others in joined(squares):
        for other in others:
            blocks[movable[other]] = blocks[movable[first]]
    splits = rule.splits(blocks).tolist() if blocks else []
    fixed = _by_class(placed, rule) | given if stratified else given
    return [
        replace(sample, block=block, split=fixed.get(sample.place) or split)
        for sample, block, split in zip(placed, blocks, splits, strict=True)
    ]


def _by_class(samples: Iterable[OwnSample], rule: SplitRule) -> dict[str, Split]:
    """The splits of the places of which nobody says where they lie, class by class."""
    lost = (sample for sample in samples if sample.ground is None or sample.ground.lon is None)
    return stratified_splits({sample.place: sample.looks[0].label for sample in lost}, rule)


def _at(centre: tuple[float, float] | None) -> Ground | None:
    """Ground of which only the centre is known."""
    return None if centre is None else Ground(crs="", transform=(), lon=centre[0], lat=centre[1])


def _block(sample: OwnSample, given: Split | None, rule: SplitRule) -> str:
    if given is not None:
        return f"given-{given}"
    ground = sample.ground
    if ground is not None and ground.lon is not None and ground.lat is not None:
        return rule.block(ground.lon, ground.lat)
    return f"place-{key_of(sample.place)}"


def own_nbytes(sample: OwnSample, members: Mapping[str, Member], codec: str) -> float:
    """About how many bytes a sample takes in a shard."""
    sizes = [
        payload_nbytes(members[file.sensor].dtype, members[file.sensor].shape(sample.size_px))
        for look in sample.looks
        for file in look.files
    ]
    return group_nbytes(1, sizes, codec)
