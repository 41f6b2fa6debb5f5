"""The rows of a manifest: each by itself, and all of them against each other."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.grid import squares_lonlat, to_lonlat
from geossl_data.sampling.split_distance import split_distance_km
from geossl_data.scenes.items import finite
from geossl_data.shards.checking.findings import Finding, error, warning
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, Entry, Manifest, from_plain, to_plain
from geossl_data.shards.reading.index import index_of
from geossl_data.shards.secrets import SECRET_PATTERN
from geossl_data.shards.tars import BLOCK, MAX_MEMBER_NBYTES, header_nbytes, padded

BUFFER_TOLERANCE_KM = 0.1
"""By how much two places may come below the buffer: those drawn without a catalog move to their scenes' grids."""
OVERLAP_TOLERANCE = 1e-4
"""Share of a place's area below which two squares are neighbours that touch."""
FAR_HOURS = 240.0
"""A pair that is further apart in time is worth a look where nobody says how far apart pairs may be."""
GAP_TOLERANCE_HOURS = 0.02
"""Largest difference between a recorded gap and that of the recorded times; far above rounding, far below a mistake."""


@dataclass(frozen=True, slots=True)
class File:
    """One file that the manifest says a tar holds."""

    name: str
    entry: Entry
    look: int
    """Position of its look; -1 for the JSON."""
    member: str
    """Empty for the JSON."""
    start: int
    """Offset of its first header."""
    offset: int
    """Offset of its bytes."""
    nbytes: int
    crc32: int

    @property
    def end(self) -> int:
        """Offset of what follows."""
        return self.offset + padded(self.nbytes)


def files_of(entry: Entry, codec: str) -> Iterator[File]:
    """The files of a sample in the order in which they stand in its tar, each right behind the one before."""
    ending = CODECS[codec].extension
    names = [(f"{entry.key}.json", -1, "")]
    names += [
        (f"{entry.key}.{look}.{member}.{ending}", look, member)
        for look, present in enumerate(entry.members)
        for member in present
    ]
    start = entry.offset
    for (name, look, member), nbytes, crc32 in zip(names, entry.member_nbytes, entry.member_crc32, strict=True):
        file = File(name, entry, look, member, start, start + header_nbytes(len(name)), nbytes, crc32)
        yield file
        start = file.end


def checked_rows(manifest: Manifest) -> tuple[list[Entry], list[Finding]]:
    """The rows that can be used, and what is wrong with the others."""
    entries: list[Entry] = []
    findings: list[Finding] = []
    members = manifest.members
    for number, row in enumerate(manifest.table.to_pylist()):
        try:
            entry = from_plain(row)
            problem = _unusable(entry, members)
        except ShardError as damage:
            findings.append(error(MANIFEST_NAME, f"row {number}: {damage}"))
            continue
        if problem is None:
            entries.append(entry)
        else:
            findings.append(error(entry.key, problem))
    return entries, findings


def _unusable(entry: Entry, members: Mapping[str, Member]) -> str | None:
    """Why nothing can be found in a tar by this row; None where it can."""
    numbers = (entry.offset, entry.nbytes, entry.size_px, *entry.member_nbytes, *entry.member_crc32)
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        return "its row holds offsets, sizes or checksums that are no whole numbers"
    if max(entry.member_nbytes) > MAX_MEMBER_NBYTES:
        return f"its row names a file of {max(entry.member_nbytes)} bytes, more than {MAX_MEMBER_NBYTES}"
    unknown = sorted({name for names in entry.members for name in names} - set(members))
    if unknown:
        return f"its row names a member {unknown[0]!r} that the notes do not describe"
    if any(len(set(names)) != len(names) for names in entry.members):
        return "its row names a member of a look twice"
    return None


def row_findings(manifest: Manifest, entries: Sequence[Entry], max_gap_hours: float | None) -> Iterator[Finding]:
    """What the rows and the notes say that cannot be true together.

    max_gap_hours: largest time between the two sensors that pairs were made with; None where it is not known.
    """
    yield from _key_findings(entries)
    yield from _layout_findings(manifest, entries)
    order = {name: position for position, name in enumerate(manifest.members)}
    for entry in entries:
        times = [time for time in entry.acquired if time is not None]
        if times != sorted(times):
            yield error(entry.key, "looks are not in time order")
        if any([order[name] for name in names] != sorted(order[name] for name in names) for names in entry.members):
            yield error(entry.key, "its row names members in another order than the notes do")
        if entry.size_px != manifest.notes["size_px"]:
            yield error(entry.key, f"is {entry.size_px} px wide; the notes say {manifest.notes['size_px']} px")
        if SECRET_PATTERN.search(json.dumps(to_plain(entry))):
            yield error(entry.key, "its row holds a signed address or a password")
        yield from _label_findings(entry, manifest.notes["label_names"])
        yield from _gap_findings(entry, max_gap_hours)
    if SECRET_PATTERN.search(json.dumps(manifest.notes)):
        yield error(MANIFEST_NAME, "the notes hold a signed address or a password")


def _label_findings(entry: Entry, names: Mapping[str, Any]) -> Iterator[Finding]:
    """Several classes of a look that are no classes, or not those that its one label is of."""
    for look, (first, numbers) in enumerate(zip(entry.labels, entry.labels_more, strict=False)):
        unknown = [number for number in numbers if number < 1 or (names and str(number) not in names)]
        if unknown:
            yield error(entry.key, f"look {look}: a class {unknown[0]} that the notes do not name")
        elif len(set(numbers)) != len(numbers):
            yield error(entry.key, f"look {look}: a class comes twice among {', '.join(map(str, numbers))}")
        elif numbers and numbers[0] != first:
            yield error(entry.key, f"look {look}: is labelled {first}, the first of its classes is {numbers[0]}")


def _key_findings(entries: Sequence[Entry]) -> Iterator[Finding]:
    shards: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        shards[entry.key].append(entry.shard)
    for key, names in shards.items():
        if len(names) > 1:
            where = " and ".join(sorted(set(names)))
            yield error(key, f"comes {len(names)} times, in {where}; keys have to be unique")


def _layout_findings(manifest: Manifest, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Counts, and whether samples lie side by side from the first byte of their tar on."""
    by_shard: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_shard[entry.shard].append(entry)
    noted = manifest.notes["shards"]
    for name in sorted(set(noted) | set(by_shard)):
        if name not in noted:
            yield error(name, "has samples in the manifest but no size and hash")
            continue
        own = sorted(by_shard[name], key=lambda entry: entry.offset)
        if len(own) != noted[name].get("n_samples"):
            yield error(name, f"{len(own)} samples listed, {noted[name].get('n_samples')} were written")
        position = 0
        for entry in own:
            if entry.offset != position:
                yield error(entry.key, f"starts at byte {entry.offset} of {name}, the sample before ends at {position}")
            end = max(file.end for file in files_of(entry, manifest.notes["codec"]))
            if end - entry.offset != entry.nbytes:
                yield error(entry.key, f"its files take {end - entry.offset} bytes, its row says {entry.nbytes}")
            position = entry.offset + entry.nbytes
        if own and position + 2 * BLOCK > noted[name]["nbytes"]:
            yield error(name, f"samples end at byte {position} of {noted[name]['nbytes']}, which leaves no end")
    try:
        index_of(manifest)
    except ShardError as problem:
        yield error(MANIFEST_NAME, f"cannot be read by index: {problem}")


def _gap_findings(entry: Entry, max_gap_hours: float | None) -> Iterator[Finding]:
    for look, gap in enumerate(entry.gap_hours):
        if gap is None:
            continue
        if finite(gap) is None:
            yield error(entry.key, f"look {look}: a gap of {gap} h is recorded")
        elif max_gap_hours is not None and abs(gap) > max_gap_hours + GAP_TOLERANCE_HOURS:
            yield error(entry.key, f"look {look}: sensors {gap:.2f} h apart, the recipe allows {max_gap_hours:g} h")
        elif max_gap_hours is None and abs(gap) > FAR_HOURS:
            yield warning(entry.key, f"look {look}: the sensors are {gap:.0f} h apart")


# ------------------------------------------------------------------------------------------------ splits


def split_findings(manifest: Manifest, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Blocks in two splits, squares of two splits that overlap, splits nearer to each other than the buffer."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        splits[entry.block].add(entry.split)
    for block, names in sorted(splits.items()):
        if len(names) > 1 and block:
            yield error(MANIFEST_NAME, f"block {block} lies in {' and '.join(sorted(names))}")
    unknown = {code for code in {entry.epsg for entry in entries if entry.epsg is not None} if not _is_known(code)}
    for code in sorted(unknown):
        yield error(MANIFEST_NAME, f"EPSG:{code} is no coordinate system")
    placed = [entry for entry in entries if entry.epsg not in unknown]
    for first, second in _overlaps_across_splits(placed, finite(manifest.notes.get("pixel_m"))):
        yield error(first.key, f"{first.split}: overlaps {second.key}, which is {second.split}")
    yield from _buffer_findings(manifest, entries)


def _is_known(epsg: int) -> bool:
    from pyproj.exceptions import ProjError

    try:
        to_lonlat(epsg, 0.0, 0.0)
    except ProjError:
        return False
    return True


def distances_km(entries: Sequence[Entry]) -> dict[tuple[str, str], float]:
    """Smallest distance in km between centres of places of two splits, for every two that have places."""
    placed = [(entry.lon, entry.lat, entry.split) for entry in entries]
    return split_distance_km(
        [lon for lon, _, _ in placed if lon is not None],
        [lat for _, lat, _ in placed if lat is not None],
        [split for lon, _, split in placed if lon is not None],
    )


def _buffer_findings(manifest: Manifest, entries: Sequence[Entry]) -> Iterator[Finding]:
    buffer_km = manifest.notes.get("buffer_km", 0.0)
    if finite(buffer_km) is None or buffer_km < 0:
        yield error(MANIFEST_NAME, f"the notes say the buffer between splits is {buffer_km!r} km")
        return
    for (one, other), km in distances_km(entries).items() if buffer_km > 0 else ():
        if km < buffer_km - BUFFER_TOLERANCE_KM:
            yield error(MANIFEST_NAME, f"{one} and {other} are {km:.3f} km apart, the buffer is {buffer_km:g} km")


def _overlaps_across_splits(entries: Sequence[Entry], pixel_m: float | None) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of places in different splits that share ground, also across UTM zones and the antimeridian.

    pixel_m: side of a place's pixel in metres; None where nothing lies anywhere.
    """
    import shapely

    placed = [entry for entry in entries if entry.epsg is not None and entry.x is not None and entry.y is not None]
    if pixel_m is None or len({entry.split for entry in placed}) < 2:
        return
    squares = np.empty(len(placed), dtype=object)
    groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for number, entry in enumerate(placed):
        groups[int(entry.epsg or 0), entry.size_px].append(number)
    for (epsg, size_px), numbers in groups.items():
        x, y = (np.array([getattr(placed[number], name) for number in numbers], dtype=float) for name in ("x", "y"))
        squares[numbers] = squares_lonlat(epsg, x, y, size_px * pixel_m)
    names = np.array([entry.split for entry in placed])
    tree = shapely.STRtree(squares)
    for turn in (0.0, 360.0):
        moved: Any = shapely.transform(squares, partial(np.add, (turn, 0.0))) if turn else squares
        one, other = tree.query(moved, predicate="intersects")
        differ = names[one] != names[other]
        if turn == 0.0:
            differ &= other > one
        one, other = one[differ], other[differ]
        shared = shapely.area(shapely.intersection(moved[one], squares[other])) / shapely.area(squares[one])
        for first, second in zip(one[shared > OVERLAP_TOLERANCE], other[shared > OVERLAP_TOLERANCE], strict=True):
            yield placed[first], placed[second]
