"""One shard against its rows of the manifest, in one pass over its bytes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.shards.checking.findings import Finding, error, limited
from geossl_data.shards.checking.pixels import Looks, Measured
from geossl_data.shards.checking.provenance import Said, provenance
from geossl_data.shards.checking.rows import File, files_of
from geossl_data.shards.checking.scan import Part, Stream, odd_headers, parts
from geossl_data.shards.manifest import Entry
from geossl_data.shards.reading.sources import Source
from geossl_data.shards.writing.statistics import merge_sums

NAMED = 3
"""Members that a finding about many names."""


@dataclass(slots=True)
class ShardCheck:
    """What was found in one shard."""

    findings: list[Finding] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    """What the JSON of its samples says, of those whose JSON could be read."""
    measured: Measured = field(default_factory=Measured)
    """Only where pixels were decoded."""


def check_shard(
    source: Source,
    name: str,
    noted: Mapping[str, Any],
    entries: Sequence[Entry],
    members: Mapping[str, Member],
    codec: str,
    *,
    deep: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> ShardCheck:
    """What is wrong with a shard. noted: its size and hash; entries: its rows.

    deep: decodes every member. advance: told how many more samples were looked at; adds up to all of them.
    At most MOST_FINDINGS findings, and one that counts the rest. Holds a chunk of the shard and one look at a time.
    """
    ordered = sorted(entries, key=lambda entry: entry.offset)
    contents = _Contents(members, Looks(members, codec) if deep else None, advance)
    files = [file for entry in ordered for file in files_of(entry, codec)]
    findings = limited(_findings(source, name, noted, ordered, files, contents), name)
    advance(len(entries) - contents.n_seen)
    measured = contents.looks.measured if contents.looks is not None else Measured()
    measured.sums = [merge_sums(measured.sums)]
    return ShardCheck(findings, contents.said, measured)


def _findings(
    source: Source,
    name: str,
    noted: Mapping[str, Any],
    entries: Sequence[Entry],
    files: Sequence[File],
    contents: "_Contents",
) -> Iterator[Finding]:
    try:
        nbytes = source.nbytes(name)
        if nbytes is None:
            yield error(name, f"no such file; {len(entries)} samples are gone; run `geossl shard`")
            return
        is_cut = nbytes < noted["nbytes"]
        if is_cut:
            gone = [entry.key for entry in entries if entry.offset + entry.nbytes > nbytes]
            lost = f"; {len(gone)} of {len(entries)} samples are gone, from {gone[0]} on" if gone else ""
            yield error(name, f"{nbytes} bytes where {noted['nbytes']} were written: cut{lost}")
            files = [file for file in files if file.end <= nbytes]
        elif nbytes > noted["nbytes"]:
            yield error(name, f"{nbytes} bytes where {noted['nbytes']} were written: grown")
        stream = Stream(source, name, nbytes)
        located = list(_located(stream, name, files, contents, is_cut=is_cut))
        if nbytes == noted["nbytes"] and stream.sha256() != noted.get("sha256"):
            yield error(name, "content differs from what was written (SHA-256)")
            if not located:
                located = list(_unlocated(source, name, nbytes, files))
        yield from located
    except ShardError as problem:
        yield error(name, f"cannot be read: {problem}")


def _located(
    stream: Stream, name: str, files: Sequence[File], contents: "_Contents", *, is_cut: bool
) -> Iterator[Finding]:
    """What is wrong with the members: where the tar is damaged, which there are, and what they hold."""
    expected = {file.name: file for file in files}
    damage: list[Finding] = []
    found: list[tuple[str, int]] = []
    seen: set[str] = set()
    stop = max((file.end for file in files), default=0) if is_cut else None
    for part in parts(stream, files, lambda text: damage.append(error(name, text)), stop):
        found.append((part.name, part.start))
        if part.name in expected and part.name not in seen:
            seen.add(part.name)
            contents.take(expected[part.name], part)
    contents.finish()
    yield from damage
    yield from _member_findings(name, expected, found)
    yield from contents.findings


def _unlocated(source: Source, name: str, nbytes: int, files: Sequence[File]) -> Iterator[Finding]:
    odd = odd_headers(source, name, nbytes, files)
    if odd:
        yield error(name, f"headers that are not as they were written: {_named(odd)}")
    else:
        yield error(name, "every member has its checksum and its header: the hash in the manifest is of another file")


class _Contents:
    """Looks into the members that the manifest knows, one after the other."""

    def __init__(self, members: Mapping[str, Member], looks: Looks | None, advance: Callable[[int], None]) -> None:
        self._members, self._advance = members, advance
        self.looks = looks
        self.said: list[Said] = []
        self.n_seen = 0
        self._findings: list[Finding] = []

    def take(self, file: File, part: Part) -> None:
        key = file.entry.key
        if len(part.data) != file.nbytes:
            self._findings.append(error(key, f"{file.name}: {len(part.data)} bytes, {file.nbytes} were written"))
        elif part.crc32 != file.crc32:
            self._findings.append(error(key, f"{file.name}: its bytes are not those that were written (CRC-32)"))
        if file.look < 0:
            findings, said = provenance(file.entry, file.name, part.data, self._members)
            self._findings += findings
            self.said += [said] if said is not None else []
            self.n_seen += 1
            self._advance(1)
        elif self.looks is not None:
            self.looks.add(file, part.data)

    def finish(self) -> None:
        if self.looks is not None:
            self.looks.flush()

    @property
    def findings(self) -> list[Finding]:
        return self._findings + (self.looks.findings if self.looks is not None else [])


# ------------------------------------------------------------------------------------------------ members


def _member_findings(shard: str, expected: Mapping[str, File], found: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Members that are missing, too many, or elsewhere. found: name and start, in the order of the tar."""
    counts = Counter(name for name, _ in found)
    missing = [name for name in expected if name not in counts]
    if missing:
        yield error(shard, f"{len(missing)} members are missing: {_named(missing)}")
    strange = [name for name in counts if name not in expected]
    if strange:
        yield error(shard, f"{len(strange)} members that no sample of the manifest owns: {_named(strange)}")
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        yield error(shard, f"{len(twice)} members come more than once: {_named(twice)}")
    known = [name for name, _ in found if name in expected]
    if known == sorted(known, key=_positions(expected).__getitem__):
        moved = [name for name, start in found if name in expected and start != expected[name].start]
        if moved:
            yield error(shard, f"{len(moved)} members are not where the manifest says: {_named(moved)}")
        return
    apart = _apart([expected[name].entry.key for name in known])
    if apart:
        yield error(shard, f"{len(apart)} samples whose members do not stand side by side: {_named(apart)}")
    else:
        yield error(shard, f"members differ from the manifest in their order: {_named(_out_of_order(known, expected))}")


def _positions(expected: Mapping[str, File]) -> dict[str, int]:
    """Name → position among the expected members."""
    return {name: position for position, name in enumerate(expected)}


def _apart(keys: Sequence[str]) -> list[str]:
    """Keys that come again after another one."""
    runs = [key for position, key in enumerate(keys) if position == 0 or keys[position - 1] != key]
    return [key for key, count in Counter(runs).items() if count > 1]


def _out_of_order(known: Sequence[str], expected: Mapping[str, File]) -> list[str]:
    """Members that stand behind one that belongs behind them."""
    positions = _positions(expected)
    furthest, late = -1, []
    for name in known:
        if positions[name] < furthest:
            late.append(name)
        furthest = max(furthest, positions[name])
    return late


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
