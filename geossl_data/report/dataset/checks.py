"""What to look at before training: findings, looks that are stored twice, and the worst pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geossl_data.report.dataset.contents import Contents, FloatArray, IntArray
from geossl_data.report.dataset.recorded import Recorded
from geossl_data.report.page import Section
from geossl_data.report.parts import Table
from geossl_data.shards.checking.findings import Finding, limited
from geossl_data.shards.checking.rows import checked_rows, row_findings, split_findings
from geossl_data.shards.manifest import MANIFEST_NAME, read_manifest

if TYPE_CHECKING:
    from geossl_data.shards.reading.shards import Shards

MOST_ROWS = 100_000
"""Rows of a manifest that are held against each other while a page is made; a row takes 0.1 ms."""
WORST = 10
"""Rows of a table of worst looks."""
MOST_TWICE = 20
"""Groups of looks with the same pixels that are named."""

Findings = Sequence[Finding]


def findings_of_rows(folder: Path, contents: Contents) -> Findings | None:
    """What is wrong with the rows of the manifest, the splits among them, without reading a shard; None for too many.

    Raises DatasetError or ShardError for a manifest that is none.
    """
    if len(contents) > MOST_ROWS:
        return None
    manifest = read_manifest(folder / MANIFEST_NAME)
    entries, findings = checked_rows(manifest)
    found = limited([*findings, *row_findings(manifest, entries, None)], MANIFEST_NAME)
    return [*found, *limited(split_findings(manifest, entries), MANIFEST_NAME)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Twice:
    """Looks of different samples, or of one, whose pixels are the same byte for byte."""

    groups: tuple[tuple[int, ...], ...]
    """Numbers of the looks, the groups in the order of their first."""
    n_across: int
    """Groups with looks of more than one split: training sees what it is judged on."""


def stored_twice(shards: "Shards", contents: Contents) -> Twice:
    """Looks with the same pixels in all their members but class maps, told from checksums and sizes alone.

    Two looks are taken for one where 64 bits agree, made of a CRC-32 and a size for each member.
    """
    index = shards.index
    columns = [number for number, member in enumerate(shards.members.values()) if not member.plane]
    mixed = np.zeros(len(index.member_file), dtype=np.uint64)
    for column in columns:
        file = index.member_file[:, column]
        own = index.crc32[file].astype(np.uint64) << np.uint64(32) | index.nbytes[file].astype(np.uint64)
        mixed = (mixed ^ np.where(file >= 0, own, np.uint64(0))) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    empty = (index.member_file[:, columns] < 0).all(axis=1) if columns else np.ones(len(mixed), dtype=np.bool_)
    _, group, counts = np.unique(mixed, return_inverse=True, return_counts=True)
    several = np.flatnonzero((counts[group] > 1) & ~empty)
    by_group: dict[int, list[int]] = {}
    for look in several.tolist():
        by_group.setdefault(int(group[look]), []).append(look)
    groups = tuple(tuple(looks) for looks in by_group.values() if len(looks) > 1)
    splits = contents.split[contents.place]
    return Twice(groups=groups, n_across=sum(len(set(splits[list(looks)].tolist())) > 1 for looks in groups))


def checks_section(
    contents: Contents, findings: Findings | None, twice: Twice | None, *, read_shards: bool, problem: str = ""
) -> Section:
    """Findings and duplicates; findings: None where nothing was checked. problem: why the shards cannot be opened."""
    facts: dict[str, object] = {}
    parts = []
    if findings is not None:
        n_errors = sum(one.severity == "error" for one in findings)
        facts |= {"errors": n_errors, "warnings": len(findings) - n_errors}
        rows = [(one.severity, one.where, one.what) for one in findings]
        if rows:
            parts.append(Table(rows=[("severity", "where", "finding"), *rows], caption="Findings.", words=True))
    if twice is not None:
        facts["looks that are stored more than once"] = len(twice.groups)
        if twice.groups:
            facts["of these in two splits"] = twice.n_across
            parts.append(_twice_table(contents, twice))
    return Section(title="Checks", facts=facts, text=_read(findings, read_shards, problem), parts=tuple(parts))


def _read(findings: Findings | None, read_shards: bool, problem: str) -> str:
    if problem:
        return f"The shards cannot be opened, so nothing below is about pixels: {problem}."
    if findings is None:
        return "There are too many samples to check them here; `geossl verify` does."
    if read_shards:
        return "Every shard was read once; `geossl verify --deep` decodes the pixels as well."
    return "The rows of the manifest were held against each other; `geossl verify` reads the shards too."


def _twice_table(contents: Contents, twice: Twice) -> Table:
    splits = contents.split[contents.place]
    rows = [
        (
            ", ".join(_look(contents, look) for look in looks[:4]) + (" …" if len(looks) > 4 else ""),
            ", ".join(sorted(set(splits[list(looks)].tolist()))),
        )
        for looks in twice.groups[:MOST_TWICE]
    ]
    more = len(twice.groups) - len(rows)
    caption = "Looks with the same pixels, byte for byte." + (f" {more:,} more groups." if more else "")
    return Table(rows=[("looks", "splits"), *rows], caption=caption, words=True)


def worst_section(contents: Contents, recorded: Recorded) -> list[Section]:
    """The looks of largest gap, fewest valid pixels, most cloud and largest shift; [] where none of it is known."""
    shift = np.full(len(contents.place), np.nan)
    for one in recorded.looks:
        shift[one.look] = one.shift_px
    share, gap = _least_valid(contents), np.abs(contents.gap_hours)
    tables = (
        _worst(contents, "Largest gap between the sensors.", "gap, h", gap, lambda value: f"{value:.1f}"),
        _worst(contents, "Fewest valid pixels.", "valid, %", -share, lambda value: f"{-100 * value:.1f}", below=-1.0),
        _worst(
            contents, "Most cloud and cloud shadow.", "cloud, %", contents.cloud, lambda value: f"{100 * value:.1f}"
        ),
        _worst(contents, "Radar images that lie furthest off.", "shift, px", shift, lambda value: f"{value:.2f}"),
    )
    parts = tuple(table for table in tables if table is not None)
    return [Section(title="Worst looks", parts=parts)] if parts else []


def _least_valid(contents: Contents) -> FloatArray:
    """The smaller of the two sensors' shares of valid pixels; NaN where neither is known."""
    return np.asarray(np.fmin(contents.s2_valid, contents.s1_valid))


def _worst(
    contents: Contents,
    caption: str,
    name: str,
    badness: FloatArray,
    shown: Callable[[float], str],
    *,
    below: float = 0.0,
) -> Table | None:
    """The looks of the largest values, ties in their order; None where no look has more than `below`."""
    known: IntArray = np.flatnonzero(np.isfinite(badness) & (badness > below))
    if not len(known):
        return None
    order = known[np.argsort(-badness[known], kind="stable")][:WORST]
    rows = [
        (
            _look(contents, look),
            str(contents.split[contents.place[look]]),
            shown(float(badness[look])),
            _date(contents, look),
            contents.s2_id[look].as_py() or contents.s1_id[look].as_py(),
        )
        for look in order.tolist()
    ]
    return Table(rows=[("look", "split", name, "date", "scene"), *rows], caption=caption)


def _look(contents: Contents, look: int) -> str:
    """As in `0186D_1916R_20210209T223036_5fc6ee look 2`."""
    place = int(contents.place[look])
    return f"{contents.key[place].as_py()} look {look - int(contents.first_look[place])}"


def _date(contents: Contents, look: int) -> str:
    time = contents.acquired[look]
    return "" if np.isnat(time) else str(time.astype("datetime64[D]"))
