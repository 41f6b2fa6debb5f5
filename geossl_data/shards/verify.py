"""Is everything what it says it is? Shards against the manifest, samples against each other."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.files import sha256
from geossl_data.grid import square_lonlat
from geossl_data.sampling.split_distance import split_distance_km
from geossl_data.scenes.items import parse_time, rfc3339
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, Manifest, read_manifest, to_plain
from geossl_data.shards.stream import MAX_JSON_NBYTES
from geossl_data.shards.tars import TarMember, read_exactly
from geossl_data.shards.tars import members as tar_members
from geossl_data.shards.writer import SECRET_PATTERN

GAP_TOLERANCE_HOURS = 0.02
"""Largest difference between a recorded gap and that of the recorded times; far above rounding, far below a mistake."""
MOSAIC_SECONDS = 300.0
"""Longest time between two scenes of one mosaic: frames of one pass that meet one place are seconds apart."""
BUFFER_TOLERANCE_KM = 0.1
"""By how much two places may come below the buffer: those drawn without a catalog move to their scenes' grids."""
OVERLAP_TOLERANCE = 1e-4
"""Share of a place's area below which two squares are neighbours that touch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Literal["error", "warning"]
    where: str
    """File name of a shard, sample key, or `manifest.parquet`."""
    what: str


def verify(folder: Path, *, deep: bool = False) -> list[Finding]:
    """What is wrong with a dataset folder; empty when all is well.

    Compares every shard's size and hash with the manifest, every sample's member names, byte range and provenance
    with its row, and the splits with each other. deep: decodes every array too and checks dtype and shape.
    Raises DatasetError or ShardError when there is no manifest to compare with.
    """
    manifest = read_manifest(folder / MANIFEST_NAME)
    findings = [*_manifest_findings(manifest), *_split_findings(manifest.entries), *_buffer_findings(manifest)]
    findings += _folder_findings(folder / SHARDS_FOLDER, manifest)
    by_shard: dict[str, list[Entry]] = {name: [] for name in manifest.notes["shards"]}
    for entry in manifest.entries:
        by_shard.setdefault(entry.shard, []).append(entry)
    for name in sorted(by_shard):
        findings += _shard_findings(folder / SHARDS_FOLDER / name, by_shard[name], manifest, deep)
    return findings


def _error(where: str, what: str) -> Finding:
    return Finding(severity="error", where=where, what=what)


# ------------------------------------------------------------------------------------------------ manifest


def _manifest_findings(manifest: Manifest) -> Iterator[Finding]:
    counts = Counter(entry.key for entry in manifest.entries)
    for key, count in counts.items():
        if count > 1:
            yield _error(key, f"comes {count} times; keys have to be unique")
    listed = Counter(entry.shard for entry in manifest.entries)
    for name, shard in manifest.notes["shards"].items():
        if listed[name] != shard.get("n_samples"):
            yield _error(name, f"{listed[name]} samples listed, {shard.get('n_samples')} were written")
    for entry in manifest.entries:
        if list(entry.acquired) != sorted(entry.acquired):
            yield _error(entry.key, "looks are not in time order")
        if SECRET_PATTERN.search(json.dumps(to_plain(entry))):
            yield _error(entry.key, "its row holds a signed address or a password")
    if SECRET_PATTERN.search(json.dumps(manifest.notes)):
        yield _error(MANIFEST_NAME, "the notes hold a signed address or a password")


def _split_findings(entries: Sequence[Entry]) -> Iterator[Finding]:
    splits: dict[str, set[str]] = {}
    for entry in entries:
        splits.setdefault(entry.block, set()).add(entry.split)
    for block, names in sorted(splits.items()):
        if len(names) > 1:
            yield _error(MANIFEST_NAME, f"block {block} lies in {' and '.join(sorted(names))}")
    for first, second in _overlaps_across_splits(entries):
        yield _error(first.key, f"{first.split}: overlaps {second.key}, which is {second.split}")


def nearest_splits_km(manifest: Manifest) -> dict[tuple[str, str], float]:
    """Smallest distance in km between centres of places of two splits, for every two that have places."""
    entries = manifest.entries
    return split_distance_km(
        [entry.lon for entry in entries], [entry.lat for entry in entries], [entry.split for entry in entries]
    )


def _buffer_findings(manifest: Manifest) -> Iterator[Finding]:
    """Splits that come nearer to each other than the buffer that the places were drawn with."""
    buffer_km = manifest.notes.get("buffer_km", 0.0)
    if not isinstance(buffer_km, int | float) or not buffer_km >= 0:
        yield _error(MANIFEST_NAME, f"the notes say the buffer between splits is {buffer_km!r} km")
        return
    for (one, other), km in nearest_splits_km(manifest).items() if buffer_km > 0 else ():
        if km < buffer_km - BUFFER_TOLERANCE_KM:
            yield _error(MANIFEST_NAME, f"{one} and {other} are {km:.3f} km apart, the buffer is {buffer_km:g} km")


def _overlaps_across_splits(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of places in different splits that share ground, also across UTM zones and the antimeridian."""
    from shapely import STRtree
    from shapely.affinity import translate

    if len({entry.split for entry in entries}) < 2:
        return
    squares = [square_lonlat(entry.epsg, entry.x, entry.y, entry.size_px * 10.0) for entry in entries]
    tree = STRtree(squares)
    for number, (entry, square) in enumerate(zip(entries, squares, strict=True)):
        for shift in (0.0, 360.0):
            moved = translate(square, shift)
            for other in sorted(map(int, tree.query(moved, predicate="intersects"))):
                shared = moved.intersection(squares[other]).area / square.area
                new_pair = other > number if shift == 0.0 else other != number
                if new_pair and entries[other].split != entry.split and shared > OVERLAP_TOLERANCE:
                    yield entry, entries[other]


# ------------------------------------------------------------------------------------------------ shards


def _folder_findings(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    known = set(manifest.notes["shards"])
    for path in sorted(folder.glob("*.tar")):
        if path.name not in known:
            yield Finding(severity="warning", where=path.name, what="a shard that the manifest does not list")


def _shard_findings(path: Path, entries: Sequence[Entry], manifest: Manifest, deep: bool) -> list[Finding]:
    noted = manifest.notes["shards"].get(path.name)
    if noted is None:
        return [_error(path.name, "has samples in the manifest but no size and hash")]
    if not path.is_file():
        return [_error(path.name, f"no such file; {len(entries)} samples are gone; run `geossl shard`")]
    nbytes = path.stat().st_size
    if nbytes != noted["nbytes"]:
        return [_error(path.name, f"{nbytes} bytes where {noted['nbytes']} were written; cut or grown")]
    findings = []
    if sha256(path) != noted.get("sha256"):
        findings.append(_error(path.name, "content differs from what was written (SHA-256)"))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        findings += _content_findings(descriptor, path.name, nbytes, entries, manifest, deep)
    finally:
        os.close(descriptor)
    return findings


def _content_findings(
    descriptor: int, name: str, nbytes: int, entries: Sequence[Entry], manifest: Manifest, deep: bool
) -> list[Finding]:
    try:
        found = list(tar_members(descriptor, 0, nbytes))
    except ShardError as error:
        return [_error(name, str(error))]
    findings = []
    twice = [member for member, count in Counter(member.name for member in found).items() if count > 1]
    findings += [_error(name, f"holds {member} more than once") for member in twice]
    end = max((entry.offset + entry.nbytes for entry in entries), default=0)
    inside = [member for member in found if member.start < end]
    if len(inside) != len(found):
        findings.append(_error(name, f"{len(found) - len(inside)} members that no sample of the manifest owns"))
    for entry in sorted(entries, key=lambda entry: entry.offset):
        own = [member for member in inside if entry.offset <= member.start < entry.offset + entry.nbytes]
        findings += _sample_findings(descriptor, entry, own, manifest, deep)
    return findings


def _sample_findings(
    descriptor: int, entry: Entry, own: Sequence[TarMember], manifest: Manifest, deep: bool
) -> Iterator[Finding]:
    codec = manifest.notes["codec"]
    expected = [f"{entry.key}.json"]
    expected += [f"{entry.key}.{look}.{name}.{codec}" for look, names in enumerate(entry.members) for name in names]
    names = [member.name for member in own]
    if names != expected:
        odd = sorted(set(expected) ^ set(names)) or ["their order"]
        yield _error(entry.key, f"members differ from the manifest: {', '.join(odd[:5])}")
        return
    if own[0].start != entry.offset or own[-1].end != entry.offset + entry.nbytes:
        yield _error(entry.key, "its bytes in the tar are not where the manifest says")
    yield from _provenance_findings(descriptor, entry, own[0])
    if deep:
        for member in own[1:]:
            try:
                spec = manifest.members[member.name.split(".")[2]]
                _decode(descriptor, member, codec, spec, manifest.notes["size_px"])
            except (ShardError, KeyError) as error:
                yield _error(entry.key, f"{member.name}: {error}")


def _decode(descriptor: int, member: TarMember, codec: str, spec: Member, size_px: int) -> None:
    data = read_exactly(descriptor, member.nbytes, member.offset)
    CODECS[codec].decode(data, spec.dtype, spec.shape(size_px))


# ------------------------------------------------------------------------------------------------ provenance


def _provenance_findings(descriptor: int, entry: Entry, member: TarMember) -> Iterator[Finding]:
    if member.nbytes > MAX_JSON_NBYTES:
        yield _error(entry.key, f"{member.name} has {member.nbytes} bytes")
        return
    try:
        text = read_exactly(descriptor, member.nbytes, member.offset).decode()
        if SECRET_PATTERN.search(text):
            yield _error(entry.key, f"{member.name} holds a signed address or a password")
        meta = json.loads(text)
        problems = list(_differences(entry, meta))
    except (ShardError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problems = [f"{member.name} is damaged: {type(error).__name__} {error}"]
    for problem in problems:
        yield _error(entry.key, problem)


def _differences(entry: Entry, meta: Mapping[str, Any]) -> Iterator[str]:
    """What a sample's JSON says otherwise than its row of the manifest, or leaves unsaid."""
    for name, value in (("geossl:key", entry.key), ("geossl:split", entry.split), ("geossl:block", entry.block)):
        if meta[name] != value:
            yield f"its JSON says {name} {meta[name]!r}, the manifest {value!r}"
    if len(meta["looks"]) != entry.n_looks:
        yield f"its JSON holds {len(meta['looks'])} looks, the manifest {entry.n_looks}"
        return
    for position, look in enumerate(meta["looks"]):
        s2, s1 = look["s2"], look["s1"]
        recorded = (s2["id"], s1["id"], rfc3339(parse_time(s2["datetime"])))
        expected = (entry.s2_ids[position], entry.s1_ids[position], rfc3339(entry.acquired[position]))
        if recorded != expected:
            yield f"look {position} is {recorded} in its JSON, {expected} in the manifest"
        for name, scene, first, more in (
            ("Sentinel-2", s2, entry.s2_ids[position], entry.s2_more[position] if entry.s2_more else ()),
            ("Sentinel-1", s1, entry.s1_ids[position], entry.s1_more[position] if entry.s1_more else ()),
        ):
            yield from (f"look {position}: {problem}" for problem in _mosaic_differences(name, scene, (first, *more)))
        hours = (parse_time(s1["datetime"]) - parse_time(s2["datetime"])).total_seconds() / 3600
        for gap in (look["pair"]["geossl:gap_hours"], entry.gap_hours[position]):
            if not math.isclose(gap, hours, rel_tol=0, abs_tol=GAP_TOLERANCE_HOURS):
                yield f"look {position}: a gap of {gap} h is recorded, the scenes are {hours:.2f} h apart"
        if "geossl:offset_applied" not in s2 or "geossl:offset_native" not in s2:
            yield f"look {position}: nothing is said about the Sentinel-2 offset"


def _mosaic_differences(name: str, scene: Mapping[str, Any], ids: tuple[str, ...]) -> Iterator[str]:
    """What a look's JSON says of the scenes that one sensor's pixels come from, other than that they are `ids`."""
    recorded = tuple(scene.get("geossl:mosaic_item_ids", [scene["id"]]))
    if recorded != ids:
        yield f"{name} pixels are of {recorded} in its JSON, of {ids} in the manifest"
        return
    parts = scene.get("geossl:mosaic", [])
    if [part["id"] for part in parts] != list(ids[1:]):
        yield f"its JSON describes {len(parts)} further {name} scenes, there are {len(ids) - 1}"
    for part in parts:
        seconds = (parse_time(part["datetime"]) - parse_time(scene["datetime"])).total_seconds()
        if abs(seconds) > MOSAIC_SECONDS:
            yield f"{part['id']} is part of a mosaic and was acquired {seconds:.0f} s from {scene['id']}"
        if name == "Sentinel-2" and not {"geossl:offset_native", "geossl:offset_applied"} <= set(part):
            yield f"nothing is said about the offset of {part['id']}"
