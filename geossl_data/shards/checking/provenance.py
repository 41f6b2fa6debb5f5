"""What a sample's JSON says: against its row of the manifest, against itself, and against the names of its products."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from geossl_data.bands import S2_BOA_OFFSET, Member
from geossl_data.errors import GeosslError
from geossl_data.scenes.items import finite, parse_time, rfc3339
from geossl_data.scenes.offset import processing_baseline
from geossl_data.shards.checking.findings import Finding, error
from geossl_data.shards.checking.products import sensed
from geossl_data.shards.checking.rows import GAP_TOLERANCE_HOURS
from geossl_data.shards.manifest import Entry
from geossl_data.shards.secrets import SECRET_PATTERN
from geossl_data.shards.tars import MAX_JSON_NBYTES

MOSAIC_SECONDS = 300.0
"""Longest time between two scenes of one mosaic: frames of one pass that meet one place are seconds apart."""
FIRST_BASELINE_WITH_OFFSET = "04.00"
_BASELINE = re.compile(r"\d{2}\.\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a sample's JSON says that counts for the whole dataset."""

    key: str
    years: frozenset[int]
    """Of all its Sentinel scenes."""
    offsets: tuple[float | None, ...]
    """Per Sentinel-2 scene, what was added to its digital numbers; None where nobody knows."""
    shifts: tuple[tuple[float, float] | None, ...]
    """Per look, dx and dy in pixels of the radar image as they were measured when it was cut; None where not."""


def provenance(
    entry: Entry, name: str, data: bytes | memoryview, members: Mapping[str, Member]
) -> tuple[list[Finding], Said | None]:
    """What is wrong with the JSON of a sample, and what it says; None where it cannot be told.

    members: those that the notes of the manifest describe.
    """
    if len(data) > MAX_JSON_NBYTES:
        return [error(entry.key, f"{name} has {len(data)} bytes, more than {MAX_JSON_NBYTES}")], None
    findings: list[Finding] = []
    try:
        text = bytes(data).decode()
        if SECRET_PATTERN.search(text):
            findings.append(error(entry.key, f"{name} holds a signed address or a password"))
        meta = json.loads(text)
        findings += [error(entry.key, problem) for problem in _problems(entry, meta, members)]
        return findings, _said(entry, meta)
    except (GeosslError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as damage:
        return [*findings, error(entry.key, f"{name} is damaged: {type(damage).__name__} {damage}")], None


def is_sentinel(entry: Entry, look: int) -> bool:
    """Whether a look is a pair of Sentinel scenes, or one of them."""
    return bool(entry.s2_ids[look] or entry.s1_ids[look])


def _said(entry: Entry, meta: Mapping[str, Any]) -> Said:
    scenes = [
        (sensor, part)
        for look in meta["looks"]
        for sensor in ("s2", "s1")
        if isinstance(look.get(sensor), dict)
        for part in (look[sensor], *look[sensor].get("geossl:mosaic", ()))
    ]
    sentinel = any(is_sentinel(entry, look) for look in range(entry.n_looks))
    return Said(
        key=entry.key,
        years=frozenset(parse_time(part["datetime"]).year for _, part in scenes if sentinel and "datetime" in part),
        offsets=tuple(
            finite(part["geossl:offset_applied"])
            for sensor, part in scenes
            if sensor == "s2" and "geossl:offset_applied" in part
        ),
        shifts=tuple(_recorded_shift(look) for look in meta["looks"]),
    )


def _recorded_shift(look: Mapping[str, Any]) -> tuple[float, float] | None:
    shift = (look.get("quality") or {}).get("shift")
    dx, dy = (None, None) if shift is None else (finite(shift["dx_px"]), finite(shift["dy_px"]))
    return None if dx is None or dy is None else (dx, dy)


def _problems(entry: Entry, meta: Any, members: Mapping[str, Member]) -> Iterator[str]:
    """What a sample's JSON says otherwise than its row of the manifest, or leaves unsaid."""
    sentinel = any(is_sentinel(entry, look) for look in range(entry.n_looks))
    for name, value in (("geossl:key", entry.key), ("geossl:split", entry.split), ("geossl:block", entry.block)):
        if (sentinel or name in meta) and meta[name] != value:
            yield f"its JSON says {name} {meta[name]!r}, the manifest {value!r}"
    looks = meta["looks"]
    if len(looks) != entry.n_looks:
        yield f"its JSON holds {len(looks)} looks, the manifest {entry.n_looks}"
        return
    yield from _member_problems(entry, meta, members)
    for position, look in enumerate(looks):
        yield from (f"look {position}: {problem}" for problem in _look_problems(entry, position, look))
    yield from _order_problems(entry, looks)


def _member_problems(entry: Entry, meta: Mapping[str, Any], members: Mapping[str, Member]) -> Iterator[str]:
    """How the JSON describes the members, by which plain readers decode them."""
    present = {name for names in entry.members for name in names}
    described = meta["members"]
    if set(described) != present:
        yield f"its JSON describes the members {', '.join(sorted(described))}; it has {', '.join(sorted(present))}"
        return
    for name in sorted(present):
        member, said = members[name], described[name]
        expected = {
            "dtype": member.dtype,
            "shape": list(member.shape(entry.size_px)),
            "scale": member.scale,
            "offset": member.offset,
            "nodata": member.nodata,
            "bands": list(member.bands),
            "units": member.units,
        }
        wrong = [field for field, value in expected.items() if said[field] != value]
        if wrong:
            field = wrong[0]
            yield f"its JSON says {field} {said[field]} of {name}, the manifest {expected[field]}"


def _look_problems(entry: Entry, position: int, look: Mapping[str, Any]) -> Iterator[str]:
    sensors = (
        ("Sentinel-2", "s2", entry.s2_ids[position], entry.s2_more[position] if entry.s2_more else ()),
        ("Sentinel-1", "s1", entry.s1_ids[position], entry.s1_more[position] if entry.s1_more else ()),
    )
    times: dict[str, datetime] = {}
    for name, sensor, first, more in sensors:
        if not first:
            continue
        scene = look[sensor]
        times[sensor] = parse_time(scene["datetime"])
        if scene["id"] != first:
            yield f"its {name} scene is {scene['id']} in its JSON, {first} in the manifest"
        yield from _mosaic_problems(name, scene, (first, *more))
        for part in (scene, *scene.get("geossl:mosaic", ())):
            yield from _time_problems(part)
            if sensor == "s2":
                yield from _offset_problems(part)
    listed = entry.acquired[position]
    if "s2" in times and times["s2"] != listed:
        yield f"is of {rfc3339(times['s2'])} in its JSON, {rfc3339(listed) if listed else None} in the manifest"
    yield from _label_problems(entry, position, look)
    if len(times) == 2:
        yield from _gap_problems(entry.gap_hours[position], look, times["s2"], times["s1"])


def _label_problems(entry: Entry, position: int, look: Mapping[str, Any]) -> Iterator[str]:
    """Classes that the JSON of own rasters says otherwise than the manifest; that of Sentinel scenes says none."""
    several = list(entry.labels_more[position]) if entry.labels_more else []
    for name, listed in (("geossl:label", entry.labels[position]), ("geossl:labels", several)):
        said = look.get(name, [] if name == "geossl:labels" else listed)
        if said != listed:
            yield f"its JSON says {name} {said}, the manifest {listed}"


def _gap_problems(listed: float | None, look: Mapping[str, Any], s2: datetime, s1: datetime) -> Iterator[str]:
    hours = (s1 - s2).total_seconds() / 3600
    for gap in (look["pair"]["geossl:gap_hours"], listed):
        if gap is None or not math.isclose(gap, hours, rel_tol=0, abs_tol=GAP_TOLERANCE_HOURS):
            yield f"a gap of {gap} h is recorded, the scenes are {hours:.2f} h apart"


def _mosaic_problems(name: str, scene: Mapping[str, Any], ids: tuple[str, ...]) -> Iterator[str]:
    """What a look's JSON says of the scenes that one sensor's pixels come from, other than that they are `ids`."""
    recorded = tuple(scene.get("geossl:mosaic_item_ids", [scene["id"]]))
    if recorded != ids:
        yield f"{name} pixels are of {recorded} in its JSON, of {ids} in the manifest"
        return
    described = scene.get("geossl:mosaic", [])
    if [part["id"] for part in described] != list(ids[1:]):
        yield f"its JSON describes {len(described)} further {name} scenes, there are {len(ids) - 1}"
    for part in described:
        seconds = (parse_time(part["datetime"]) - parse_time(scene["datetime"])).total_seconds()
        if abs(seconds) > MOSAIC_SECONDS:
            yield f"{part['id']} is part of a mosaic and was acquired {seconds:.0f} s from {scene['id']}"


# ------------------------------------------------------------------------------------------------ times


def _names(scene: Mapping[str, Any]) -> list[str]:
    return [name for name in (scene["id"], scene.get("geossl:product_id")) if isinstance(name, str)]


def _time_problems(scene: Mapping[str, Any]) -> Iterator[str]:
    """Recorded times that the names of the products contradict."""
    recorded = parse_time(scene["datetime"])
    for name in _names(scene):
        told = sensed(name)
        if told is not None and not told.earliest <= recorded <= told.latest:
            yield f"{name} was sensed at {rfc3339(told.named)} by its name, {rfc3339(recorded)} is recorded"
            return


def _order_problems(entry: Entry, looks: list[Mapping[str, Any]]) -> Iterator[str]:
    """Looks that are not in the order of their products, whatever times are recorded."""
    told = [
        next((found for name in _names(look["s2"]) if (found := sensed(name)) is not None), None)
        if entry.s2_ids[position]
        else None
        for position, look in enumerate(looks)
    ]
    known = [(position, found) for position, found in enumerate(told) if found is not None]
    for (before, one), (after, other) in pairwise(known):
        if other.latest < one.named - timedelta(minutes=1):
            yield (
                f"look {after} is of {rfc3339(other.named)} by the name of its product, "
                f"look {before} before it of {rfc3339(one.named)}"
            )


# ------------------------------------------------------------------------------------------------ offset


def _offset_problems(scene: Mapping[str, Any]) -> Iterator[str]:
    """What is recorded of the offset of a scene's digital numbers that cannot be true.

    An offset of 0 from a baseline that has one is no contradiction: some catalogs subtract it from their files.
    """
    name = scene["id"]
    if not {"geossl:offset_native", "geossl:offset_applied"} <= set(scene):
        yield f"nothing is said about the offset of {name}"
        return
    native, applied = scene["geossl:offset_native"], scene["geossl:offset_applied"]
    if native not in (None, 0, S2_BOA_OFFSET):
        yield f"{name} has an offset of {native}; Sentinel-2 has 0 or {S2_BOA_OFFSET}"
    elif native != applied:
        yield f"{name} has an offset of {native}, and {applied} was applied: its numbers are not reflectance × 10000"
    stated = scene.get("s2:processing_baseline")
    if stated is not None and (not isinstance(stated, str) or _BASELINE.fullmatch(stated) is None):
        yield f"{name} has a processing baseline {stated!r}"
        return
    properties = {"s2:processing_baseline": stated, "s2:product_uri": scene.get("geossl:product_id")}
    baseline = processing_baseline(name, {"id": name}, properties)
    if baseline is None:
        return
    if native is None:
        yield f"{name} is of baseline {baseline}, and its offset is said to be unknown"
    elif native == S2_BOA_OFFSET and baseline < FIRST_BASELINE_WITH_OFFSET:
        yield f"{name} is of baseline {baseline}, which has no offset; {native} was applied"
