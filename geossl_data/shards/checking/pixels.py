"""What the pixels of a look say themselves, beside what is recorded of them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, S2_BOA_OFFSET, S2_MEMBERS, S2_NODATA, SCL_CLASSES, Member
from geossl_data.errors import ShardError
from geossl_data.shards.checking.findings import Finding, error, warning
from geossl_data.shards.checking.provenance import is_sentinel
from geossl_data.shards.checking.rows import File
from geossl_data.shards.codec import BLOSC_HEADER_NBYTES, CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, Entry
from geossl_data.shards.writing.statistics import Sums, look_sums, merge_sums, statistics
from geossl_data.tiles.quality import SHIFT_BANDS, UNSEEN_CLASSES
from geossl_data.tiles.radiometry import fraction, majority_class, s2_valid_10m
from geossl_data.tiles.registration import estimated_shift

Array = NDArray[Any]

FRACTION_TOLERANCE = 1e-6
"""Of shares of valid pixels, which are quotients of the same two counts."""
STATISTICS_TOLERANCE = 1e-6
"""Relative, of means and standard deviations; adding up in another order changes the twelfth digit."""
FLOOR = -S2_BOA_OFFSET
"""The least digital number of ground without reflectance where the offset of a product was not undone."""
BELOW_FLOOR = 1e-3
"""Share of the numbers of a look that may lie below the floor: reflectance comes out negative now and then."""
LEAST_SHARE = 0.05
"""Share of the looks with signs of a wrong offset from which on it is said: a catalog's mistake is in many of them."""
LEAST_LOOKS = 3
"""And how many, in a dataset that has more: one place of bright sand is no sign."""
LEAST_CLEAR = 0.2
"""Share of a window in which the ground is seen that tells something of its numbers."""
CLIPPED = 0.5
"""Share of the valid numbers of a 10 m band that are 1, the least there is, where an offset was undone twice."""
LEAST_SHIFTS = 12
"""Looks with a measured shift that make a distribution."""
LEAST_OUTLIER_PX = 3.0
"""A radar image nearer than this to where the others lie is no outlier: terrain and platforms alone make 2 px."""
OUTLIER_SPREADS = 6.0
"""How many standard deviations, as the median of the deviations gives them, an outlier is off."""
MOST_MEDIAN_PX = 1.5
"""Radar images that lie further off than this in the median are not on the grid of the optical ones."""
NAMED = 5
"""Looks that a finding about many names."""

LookName = tuple[str, int]
"""Key of a sample and position of a look."""


@dataclass(slots=True)
class Measured:
    """What was measured on the looks of a shard, or of all."""

    sums: list[Sums] = field(default_factory=list)
    """Of the training split, sample by sample, in their order."""
    n_training: int = 0
    """Looks of the training split that could be decoded."""
    n_optical: int = 0
    floored: list[LookName] = field(default_factory=list)
    clipped: list[LookName] = field(default_factory=list)
    shifts: list[tuple[LookName, float, float]] = field(default_factory=list)
    """Where the radar image lies, dx and dy in pixels, of the looks whose ground tells."""

    def add(self, other: "Measured") -> None:
        """Append what was measured on further looks."""
        self.sums += other.sums
        self.n_training += other.n_training
        self.n_optical += other.n_optical
        self.floored += other.floored
        self.clipped += other.clipped
        self.shifts += other.shifts


class Looks:
    """Decodes the members of one look after the other, and measures each look when it is complete."""

    def __init__(self, members: Mapping[str, Member], codec: str) -> None:
        self._members, self._codec = members, codec
        self._arrays: dict[str, Array] = {}
        self._of: tuple[Entry, int] | None = None
        self.measured = Measured()
        self.findings: list[Finding] = []
        self._sums: list[Sums] = []

    def add(self, file: File, data: memoryview) -> None:
        """Take in a member; those of one look come one after the other."""
        if self._of is None or (self._of[0].key, self._of[1]) != (file.entry.key, file.look):
            self.flush(file.entry)
            self._of = (file.entry, file.look)
        member = self._members[file.member]
        try:
            self._arrays[file.member] = decoded(data, self._codec, member, file.entry.size_px)
        except ShardError as damage:
            self.findings.append(error(file.entry.key, f"{file.name}: {damage}"))

    def flush(self, following: Entry | None = None) -> None:
        """Measure the look at hand. following: the sample that comes next."""
        if self._of is None:
            return
        entry, look = self._of
        arrays, self._arrays, self._of = self._arrays, {}, None
        whole = len(arrays) == len(entry.members[look])
        if entry.split == "train":
            self._sums.append(look_sums(arrays, self._members))
            self.measured.n_training += whole
            if following is None or following.key != entry.key:
                self.measured.sums.append(merge_sums(self._sums))
                self._sums = []
        self.findings += [error(entry.key, f"look {look}: {text}") for text in look_problems(entry, look, arrays)]
        if whole and is_sentinel(entry, look):
            self._measure((entry.key, look), arrays)

    def _measure(self, name: LookName, arrays: Mapping[str, Array]) -> None:
        if _has(arrays, *S2_MEMBERS):
            self.measured.n_optical += 1
            if has_floor(arrays):
                self.measured.floored.append(name)
            if is_clipped(arrays):
                self.measured.clipped.append(name)
        shift = measured_shift(arrays)
        if shift is not None:
            self.measured.shifts.append((name, *shift))


def decoded(data: memoryview, codec: str, member: Member, size_px: int) -> Array:
    """The array of a member; ShardError unless the bytes hold exactly one of its dtype and shape."""
    array = CODECS[codec].decode(data, member.dtype, member.shape(size_px))
    # The fourth byte of a Blosc chunk is the size of its elements: all that it knows of a dtype.
    if CODECS[codec].extension == "blosc" and len(data) >= BLOSC_HEADER_NBYTES and data[3] != array.itemsize:
        raise ShardError(f"elements of {data[3]} bytes where {array.dtype} has {array.itemsize}")
    return array


def _has(arrays: Mapping[str, Array], *names: str) -> bool:
    """Whether members are there and of the shape that Sentinel looks have; other rasters may be called the same."""
    return all(
        name in arrays
        and arrays[name].dtype == MEMBERS[name].dtype
        and (MEMBERS[name].plane or len(arrays[name]) == len(MEMBERS[name].bands))
        for name in names
    )


def look_problems(entry: Entry, look: int, arrays: Mapping[str, Array]) -> Iterator[str]:
    """What the manifest says of the pixels of Sentinel scenes that they are not. arrays: stored numbers by member."""
    if not is_sentinel(entry, look):
        return
    found: dict[str, float] = {}
    if entry.s2_ids[look] and _has(arrays, *S2_MEMBERS):
        found["s2"] = fraction(s2_valid_10m(arrays))
    if entry.s1_ids[look] and _has(arrays, "s1"):
        found["s1"] = fraction(np.asarray(MEMBERS["s1"].valid(arrays["s1"]).all(axis=0)))
    for sensor, share in found.items():
        said = (entry.s2_valid_fraction if sensor == "s2" else entry.s1_valid_fraction)[look]
        if said is None or not math.isclose(said, share, rel_tol=0, abs_tol=FRACTION_TOLERANCE):
            yield f"{share:.4f} of the {sensor} pixels are valid, {said} are recorded"
    if _has(arrays, "scl") and int(arrays["scl"].max(initial=0)) >= SCL_CLASSES:
        yield f"its scene classification holds a class {int(arrays['scl'].max())}"
    if _has(arrays, "label"):
        majority = majority_class(arrays["label"])[0]
        if majority != entry.labels[look]:
            yield f"most of its label map is class {majority}, {entry.labels[look]} is recorded"


def has_floor(arrays: Mapping[str, Array]) -> bool:
    """Whether no band of 10 or 20 m has a number below 1000 where the ground is seen: an offset not undone.

    Up to BELOW_FLOOR of the numbers may. Of the bands of 10 m every second pixel counts, and none that the scene
    classification calls cloud, shadow or saturated; False where not LEAST_CLEAR of the window is left. Bright sand
    looks alike, so this is evidence and no proof: over nearly all other ground some band is dark, water and plants in
    the visible, snow at 1.6 and 2.2 µm.
    """
    fine, coarse = (arrays[name] for name in S2_MEMBERS[:2])
    step = MEMBERS[S2_MEMBERS[1]].factor
    numbers = np.concatenate([fine[:, ::step, ::step], coarse])
    clear = (numbers != S2_NODATA).all(axis=0)
    if _has(arrays, "scl"):
        clear &= ~np.isin(arrays["scl"], UNSEEN_CLASSES)
    seen = numbers[:, clear]
    enough = np.count_nonzero(clear) >= LEAST_CLEAR * clear.size
    return bool(enough and np.count_nonzero(seen < FLOOR) <= BELOW_FLOOR * seen.size)


def is_clipped(arrays: Mapping[str, Array]) -> bool:
    """Whether a 10 m band holds the least number there is at more than CLIPPED of its valid pixels."""
    bands = arrays[S2_MEMBERS[0]]
    return any(int(np.count_nonzero(band == 1)) > CLIPPED * max(1, int(np.count_nonzero(band))) for band in bands)


def measured_shift(arrays: Mapping[str, Array]) -> tuple[float, float] | None:
    """Where the radar image of a look lies, dx east and dy south in pixels; None where the ground does not tell."""
    if not _has(arrays, *S2_MEMBERS, "s1"):
        return None
    optical, radar = MEMBERS[S2_MEMBERS[0]], MEMBERS["s1"]
    seen = s2_valid_10m(arrays) & radar.valid(arrays["s1"]).all(axis=0)
    if _has(arrays, "scl"):
        hidden = np.isin(arrays["scl"], UNSEEN_CLASSES)
        seen &= ~hidden.repeat(MEMBERS["scl"].factor, axis=0).repeat(MEMBERS["scl"].factor, axis=1)
    bands = arrays[optical.name][[optical.bands.index(band) for band in SHIFT_BANDS]]
    found = estimated_shift(bands, radar.physical(arrays["s1"]), seen)
    return None if found is None else (found.dx_px, found.dy_px)


# ------------------------------------------------------------------------------------------------ all looks


def statistics_findings(measured: Measured, noted: Mapping[str, Any]) -> Iterator[Finding]:
    """Statistics of the notes that are not those of the pixels; to be asked where all of them could be decoded."""
    found = statistics(merge_sums(measured.sums))
    for band in sorted(set(found) | set(noted)):
        if band not in found or not isinstance(noted.get(band), dict):
            yield error(MANIFEST_NAME, f"statistics of {band}: {'not noted' if band in found else 'of no pixel'}")
            continue
        wrong = [
            f"{name} {noted[band].get(name)}, {value:g} by the pixels"
            for name, value in found[band].items()
            if not _alike(noted[band].get(name), value, found[band])
        ]
        if wrong:
            yield error(MANIFEST_NAME, f"statistics of {band}: {'; '.join(wrong)}")


def _alike(said: Any, value: float, of: Mapping[str, float]) -> bool:
    # A mean near zero is as exact as the numbers that it was made of.
    slack = STATISTICS_TOLERANCE * (abs(value) + of["std"] + abs(of["mean"]))
    return isinstance(said, int | float) and abs(said - value) <= slack


def offset_findings(measured: Measured) -> Iterator[Finding]:
    """Looks whose pixels suggest that an offset was not undone, or twice, where they are LEAST_SHARE of all."""
    least = min(measured.n_optical, max(LEAST_LOOKS, LEAST_SHARE * measured.n_optical))
    if measured.floored and len(measured.floored) >= least:
        yield warning(
            MANIFEST_NAME,
            f"{_of(measured.floored, measured.n_optical)} hold hardly a Sentinel-2 number below {FLOOR} in any band: "
            f"bright sand, or an offset that was not undone: {_named(measured.floored)}",
        )
    if measured.clipped and len(measured.clipped) >= least:
        yield warning(
            MANIFEST_NAME,
            f"{_of(measured.clipped, measured.n_optical)} hold a band that is 1 mostly, as where an offset "
            f"was undone twice: {_named(measured.clipped)}",
        )


def shift_findings(shifts: Sequence[tuple[LookName, float, float]]) -> Iterator[Finding]:
    """Looks whose radar image lies elsewhere than those of the others do, and all of them where they lie off.

    What is seen are whole images that are shifted: by a wrong corner or zone, by a georeference that is off by pixels.
    What is not: shifts below LEAST_OUTLIER_PX; looks whose ground has few edges (most water, forest and sand), which
    are not measured at all; shifts beyond `registration.REACH_PX`; a dataset with fewer than LEAST_SHIFTS of them. Of
    small windows one in a hundred tells a shift that is none, so that a few outliers in a large dataset prove nothing.
    """
    if len(shifts) < LEAST_SHIFTS:
        return
    found = np.array([[dx, dy] for _, dx, dy in shifts])
    middle = np.median(found, axis=0)
    away = np.hypot(*(found - middle).T)
    # The median deviation of a normal distribution in two dimensions is 1.1774 of its standard deviation.
    reach = max(LEAST_OUTLIER_PX, OUTLIER_SPREADS * float(np.median(away)) / 1.1774)
    if np.hypot(*middle) > MOST_MEDIAN_PX:
        yield warning(
            MANIFEST_NAME,
            f"in the median of {len(shifts)} looks the radar image lies {middle[0]:+.1f} px east and {middle[1]:+.1f} "
            "px south of the optical one",
        )
    outliers = [shifts[number] for number in np.flatnonzero(away > reach).tolist()]
    if outliers:
        named = [f"{key} look {look} ({dx:+.1f}, {dy:+.1f})" for (key, look), dx, dy in outliers[:NAMED]]
        yield warning(
            MANIFEST_NAME,
            f"{_of(outliers, len(shifts))} have a radar image more than {reach:.1f} px from where those of the others "
            f"lie, in px east and south: {_listed(named, len(outliers))}",
        )


def _of(some: Sequence[Any], all_of: int) -> str:
    return f"{len(some)} of {all_of} looks"


def _named(looks: Sequence[LookName]) -> str:
    counts = Counter(key for key, _ in looks)
    return _listed([f"{key} look {look}" for key, look in looks[:NAMED]], len(looks)) if counts else ""


def _listed(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")
