"""Every planted fault is found and named, and a good folder has none."""

import io
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import DatasetError, ShardError
from geossl_data.files import sha256
from geossl_data.shards import verify as verify_module
from geossl_data.shards.checking.findings import MOST_FINDINGS, Finding, error, limited, warning
from geossl_data.shards.checking.rows import files_of
from geossl_data.shards.codec import crc32
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, read_manifest
from geossl_data.shards.reading.sources import Folder
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.verify import nearest_splits_km, verify

TRAIN = "train-000000.tar"
SLOW_FIXTURES = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dataset of this module is kept once it was written."""
    return tmp_path_factory.mktemp("template") / "data"


@pytest.fixture
def dataset(tmp_path: Path, template: Path, write_dataset: Any, sample: Any) -> Path:
    """A copy of ten places, eight of them train, one val, one test; place 7 was skipped."""
    if not template.exists():
        splits = ["train"] * 8 + ["val", "test"]
        write_dataset(template, [sample(number, split) for number, split in enumerate(splits)])
    return Path(shutil.copytree(template, tmp_path / "data"))


def faults(folder: Path, *, deep: bool = False, **options: Any) -> str:
    """All findings as text, one a line."""
    return "\n".join(lines(verify(folder, deep=deep, **options)))


def lines(findings: Sequence[Finding]) -> list[str]:
    return [f"{found.severity} {found.where}: {found.what}" for found in findings]


def rewrite(folder: Path, change: Callable[[Entry], Entry], **notes: Any) -> None:
    """Change rows and notes of the manifest."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    write_manifest(folder / MANIFEST_NAME, [change(entry) for entry in manifest.entries], manifest.notes | notes)


def rewrite_table(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the manifest's rows in ways that its writer refuses."""
    path = folder / MANIFEST_NAME
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def first_key(folder: Path) -> str:
    """Of the first sample of the first shard of the training split."""
    entries = [entry for entry in read_manifest(folder / MANIFEST_NAME).entries if entry.shard == TRAIN]
    return min(entries, key=lambda entry: entry.offset).key


def expected_files(folder: Path) -> list[Any]:
    """The files that the manifest says the first shard holds, in their order."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    entries = sorted((entry for entry in manifest.entries if entry.shard == TRAIN), key=lambda entry: entry.offset)
    return [file for entry in entries for file in files_of(entry, manifest.notes["codec"])]


def reseal(folder: Path, *, checksums: bool = False) -> None:
    """Make the manifest agree with the size and hash that the first shard has now, or with its members too."""
    path = folder / SHARDS_FOLDER / TRAIN
    noted = read_manifest(folder / MANIFEST_NAME).notes["shards"]
    sealed = noted[TRAIN] | {"nbytes": path.stat().st_size, "sha256": sha256(path)}
    found: dict[str, int] = {}
    if checksums:
        with tarfile.open(path) as tar:
            found = {info.name: crc32(tar.extractfile(info).read()) for info in tar.getmembers()}

    def change(entry: Entry) -> Entry:
        names = [file.name for file in files_of(entry, read_manifest(folder / MANIFEST_NAME).notes["codec"])]
        if not set(names) <= set(found):
            return entry
        return replace(entry, member_crc32=tuple(found[name] for name in names))

    rewrite(folder, change, shards=noted | {TRAIN: sealed})


def repack(
    folder: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], *, checksums: bool = False
) -> None:
    """Write the first shard again with other members, as somebody would who knows the manifest."""
    path = folder / SHARDS_FOLDER / TRAIN
    with tarfile.open(path) as tar:
        files = [(info.name, tar.extractfile(info).read()) for info in tar.getmembers()]
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in change(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    reseal(folder, checksums=checksums)


def edit_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the first sample's JSON, keeping its length, so that byte ranges stay; its checksum is made to fit."""

    def edit(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        name, data = files[0]
        content = json.loads(data)
        content["attribution"] = ""  # room for what the change adds
        change(content)
        text = json.dumps(content, sort_keys=True).encode()
        assert len(text) <= len(data)
        return [(name, text.ljust(len(data))), *files[1:]]

    repack(folder, edit, checksums=True)


# ------------------------------------------------------------------------------------------------ what is sound


@pytest.mark.parametrize("codec", ["blosc", "npy", "archive"])
def test_a_good_folder_has_no_faults(tmp_path: Path, sample: Any, write_dataset: Any, codec: str) -> None:
    write_dataset(tmp_path, [sample(1), sample(2, "val"), sample(4), sample(5, "test")], codec=codec)
    assert verify(tmp_path) == []
    assert verify(tmp_path, deep=True) == []
    assert verify(tmp_path, deep=True, threads=1) == []


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        verify(tmp_path)


def test_long_names_are_read(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    write_dataset(tmp_path, [sample(1, key="k" * 99 + "001"), sample(2, key="k" * 117 + "002")])
    assert verify(tmp_path, deep=True) == []
    path = tmp_path / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    content[512 + 110] ^= 1  # of the blocks that hold a name
    path.write_bytes(content)
    assert "members are missing" in faults(tmp_path)


def test_progress_counts_every_sample_once(dataset: Path) -> None:
    told: list[float] = []

    class Task:
        def advance(self, steps: float = 1, note: str | None = None) -> None:
            told.append(steps)

    @contextmanager
    def progress(description: str, total: float | None = None) -> Iterator[Task]:
        assert (description, total) == ("verifying samples", 9)
        yield Task()

    verify(dataset, progress=progress)
    assert sum(told) == 9
    (dataset / SHARDS_FOLDER / TRAIN).write_bytes(b"")
    told.clear()
    verify(dataset, deep=True, progress=progress)
    assert sum(told) == 9


# ------------------------------------------------------------------------------------------------ bytes


def test_a_shard_cut_at_any_block_is_found(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    write_dataset(tmp_path, [sample(1, n_looks=1), sample(2, n_looks=1), sample(3, "val", n_looks=1)])
    path = tmp_path / SHARDS_FOLDER / TRAIN
    whole = path.read_bytes()
    entries = [entry for entry in read_manifest(tmp_path / MANIFEST_NAME).entries if entry.shard == TRAIN]
    assert verify(tmp_path) == []
    for length in range(0, len(whole), 512):
        path.write_bytes(whole[:length])
        found = verify(tmp_path)
        gone = [entry.key for entry in entries if entry.offset + entry.nbytes > length]
        lost = f"; {len(gone)} of 2 samples are gone, from {gone[0]} on" if gone else ""
        assert lines(found)[0] == f"error {TRAIN}: {length} bytes where {len(whole)} were written: cut{lost}"


@given(data=st.data())
@SLOW_FIXTURES
def test_a_shard_cut_or_grown_anywhere_is_found(dataset: Path, data: st.DataObject) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    try:
        path.write_bytes(whole[:length])
        found = verify(dataset)
        assert found[0].severity == "error"
        assert f"{length} bytes where {len(whole)} were written: cut" in found[0].what
        path.write_bytes(whole + b"\0" * (length + 1))
        assert "grown" in faults(dataset)
    finally:
        path.write_bytes(whole)


@given(data=st.data())
@SLOW_FIXTURES
def test_a_flipped_bit_anywhere_is_found_and_located(dataset: Path, data: st.DataObject) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        path.write_bytes(damaged)
        found = faults(dataset)
    finally:
        path.write_bytes(whole)
    assert f"error {TRAIN}: content differs from what was written (SHA-256)" in found
    owner = next((file for file in expected_files(dataset) if file.start <= bit // 8 < file.end), None)
    located = [line for line in found.splitlines() if "SHA-256" not in line]
    assert located
    if owner is None:
        assert "behind the end of the archive" in found or "where a header" in found or "damaged tar header" in found
    else:
        assert any(owner.name in line for line in located), found


def test_every_bit_of_a_header_is_found_and_located(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    write_dataset(tmp_path, [sample(1, n_looks=1)])
    path = tmp_path / SHARDS_FOLDER / TRAIN
    whole = path.read_bytes()
    manifest = read_manifest(tmp_path / MANIFEST_NAME)
    file = expected_files(tmp_path)[2]
    noted = manifest.notes["shards"][TRAIN]
    for bit in range(8 * file.start, 8 * file.offset, 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        source = Folder(tmp_path / SHARDS_FOLDER)
        check = verify_module.check_shard(source, TRAIN, noted, manifest.entries, manifest.members, "blosc")
        source.close()
        found = "\n".join(lines(check.findings))
        assert "SHA-256" in found
        assert file.name in found.replace("content differs", ""), f"bit {bit}: {found}"


def test_a_payload_that_was_replaced_is_named_by_its_checksum(dataset: Path) -> None:
    file = expected_files(dataset)[3]
    path = dataset / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    content[file.offset + file.nbytes - 1] ^= 1
    path.write_bytes(content)
    reseal(dataset)
    assert faults(dataset) == f"error {file.entry.key}: {file.name}: its bytes are not those that were written (CRC-32)"


def test_a_wrong_hash_or_count_in_the_notes_is_found(dataset: Path) -> None:
    noted = read_manifest(dataset / MANIFEST_NAME).notes["shards"]
    rewrite(dataset, lambda entry: entry, shards=noted | {TRAIN: noted[TRAIN] | {"sha256": "0" * 64}})
    found = faults(dataset)
    assert "content differs from what was written (SHA-256)" in found
    assert "the hash in the manifest is of another file" in found
    rewrite(dataset, lambda entry: entry, shards=noted | {TRAIN: noted[TRAIN] | {"n_samples": 8}})
    assert faults(dataset) == f"error {TRAIN}: 7 samples listed, 8 were written"
    rewrite(dataset, lambda entry: entry, shards=noted | {TRAIN: noted[TRAIN] | {"nbytes": 512}})
    assert "grown" in faults(dataset)


def test_missing_and_foreign_shards_are_found(dataset: Path) -> None:
    (dataset / SHARDS_FOLDER / TRAIN).rename(dataset / SHARDS_FOLDER / "train-000009.tar")
    found = faults(dataset)
    assert f"error {TRAIN}: no such file; 7 samples are gone" in found
    assert "warning train-000009.tar: a shard that the manifest does not list" in found


def test_what_a_killed_process_left_is_warned_of(dataset: Path) -> None:
    (dataset / SHARDS_FOLDER / ".train-000003.tar.77.tmp").write_bytes(b"half")
    (dataset / ".manifest.parquet.77.tmp").write_bytes(b"")
    found = verify(dataset)
    assert Counter(finding.severity for finding in found) == {"warning": 2}
    assert "warning shards/.train-000003.tar.77.tmp: left by a process" in "\n".join(lines(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: [files[0], files[2], files[1], *files[3:]], "members differ from the manifest in their order"),
        (lambda files: [files[0], *files[2:]], "1 members are missing: {1}"),
        (lambda files: [*files, ("stray.json", b"{}")], "1 members that no sample of the manifest owns: stray.json"),
        (lambda files: [*files, files[1]], "1 members come more than once: {1}"),
        (
            lambda files: [*files[:3], *files[-1:], *files[3:-1]],
            "samples whose members do not stand side by side: place-000",
        ),
        (lambda files: [files[0], (files[1][0], files[1][1][:-1]), *files[2:]], "bytes, "),
        (lambda files: [("aaa.json", b"{}"), *files], "members are not where the manifest says: {0}"),
        (lambda files: [], "members are missing: {0}, {1}, "),
    ],
)
def test_members_that_differ_from_the_manifest_are_found(
    dataset: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], message: str
) -> None:
    names = [file.name for file in expected_files(dataset)]
    repack(dataset, change)
    assert message.format(*names) in faults(dataset)


def test_a_damaged_header_costs_one_member_and_no_more(dataset: Path) -> None:
    file = expected_files(dataset)[4]
    path = dataset / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    content[file.start] ^= 1
    path.write_bytes(content)
    reseal(dataset)
    assert faults(dataset, deep=True).splitlines()[:2] == [
        f"error {TRAIN}: damaged tar header at byte {file.start}: its checksum does not fit ({file.name})",
        f"error {TRAIN}: 1 members are missing: {file.name}",
    ]
    content[file.start : file.start + 512] = bytes(512)
    path.write_bytes(content)
    reseal(dataset)
    assert f"zeros at byte {file.start}, where a header belongs ({file.name})" in faults(dataset)


def hostile_header(name: str = "x", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(format=tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (hostile_header(size=2**33), "runs beyond byte"),
        (hostile_header(kind=tarfile.SYMTYPE), "is not a regular file"),
        (hostile_header(kind=tarfile.LNKTYPE), "is not a regular file"),
        (hostile_header("../../evil", size=4), "no sample of the manifest owns"),
        (hostile_header(size=10**6, kind=tarfile.GNUTYPE_LONGNAME), "member name of 1000000 bytes"),
        (hostile_header(kind=tarfile.GNUTYPE_LONGNAME), "member name of 0 bytes"),
        (hostile_header("a\x1b[2Jb\nc", size=0), "1 members that no sample"),
        (b"\xff" * 512, "damaged tar header"),
    ],
)
def test_hostile_headers_are_one_line_each(dataset: Path, header: bytes, message: str) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    content[:512] = header
    path.write_bytes(content)
    reseal(dataset)
    found = verify(dataset, deep=True)
    assert message in "\n".join(lines(found))
    assert all(finding.what.isprintable() for finding in found)
    assert not (dataset.parent / "evil").exists()


def test_a_shard_is_read_once_and_in_order(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: dict[str, list[tuple[int, int]]] = {}

    class Recorded(Folder):
        def read_into(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
            reads.setdefault(name, []).append((offset, sum(map(len, buffers))))
            super().read_into(name, offset, buffers)

    monkeypatch.setattr(verify_module, "source_of", lambda *_: Recorded(dataset / SHARDS_FOLDER))
    monkeypatch.setattr("geossl_data.shards.checking.scan.CHUNK_NBYTES", 3000)
    assert verify(dataset, deep=True) == []
    assert len(reads[TRAIN]) > 5
    for name, spans in reads.items():
        ends = [offset + nbytes for offset, nbytes in spans]
        assert [offset for offset, _ in spans] == [0, *ends[:-1]]
        assert ends[-1] == (dataset / SHARDS_FOLDER / name).stat().st_size
        assert max(nbytes for _, nbytes in spans) <= 20_000


def test_a_store_that_fails_is_one_finding(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Folder):
        def read_into(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
            raise ShardError(f"{name}: the store failed (TimeoutError)")

    monkeypatch.setattr(verify_module, "source_of", lambda *_: Failing(dataset / SHARDS_FOLDER))
    found = [line for line in faults(dataset).splitlines() if TRAIN in line]
    assert found == [f"error {TRAIN}: cannot be read: {TRAIN}: the store failed (TimeoutError)"]


def test_findings_of_one_shard_are_counted_beyond_the_first(dataset: Path) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    for file in expected_files(dataset):
        content[file.offset] ^= 1
    path.write_bytes(content)
    reseal(dataset)
    found = [finding for finding in verify(dataset) if "CRC-32" in finding.what or "more findings" in finding.what]
    assert len(found) <= MOST_FINDINGS + 1
    assert "more findings" in found[-1].what


def test_limited_findings_stay_errors() -> None:
    many = [warning("a", "w")] * 3 + [error("a", "e")]
    assert limited(many, "a", 4) == many
    assert limited(many, "a", 3)[-1] == error("a", "and 1 more findings, 1 of them errors")
    assert limited(many[:3], "a", 1)[-1] == warning("a", "and 2 more warnings")


def test_work_grows_with_the_samples_and_no_faster(
    tmp_path: Path, sample: Any, write_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geossl_data.shards.checking import scan

    taken: list[int] = []
    take = scan.Stream.take
    monkeypatch.setattr(scan.Stream, "take", lambda self, nbytes: (taken.append(nbytes), take(self, nbytes))[1])
    counts = []
    for n in (8, 16):
        samples = [sample(100 * number, n_looks=1) for number in range(n)]
        write_dataset(tmp_path / str(n), samples)
        taken.clear()
        assert verify(tmp_path / str(n)) == []
        counts.append(len(taken))
    assert counts[1] <= 2 * counts[0]


# ------------------------------------------------------------------------------------------------ rows


def test_a_key_that_comes_twice_is_found_within_and_across_shards(dataset: Path) -> None:
    def repeat(rows: list[dict[str, Any]]) -> None:
        train = [row for row in rows if row["geossl:shard"] == TRAIN]
        val = next(row for row in rows if row["geossl:split"] == "val")
        train[1]["id"] = train[0]["id"]
        val["id"] = train[2]["id"]

    keys = [row["id"] for row in pq.read_table(dataset / MANIFEST_NAME).to_pylist() if row["geossl:shard"] == TRAIN]
    rewrite_table(dataset, repeat)
    found = faults(dataset)
    assert f"error {keys[0]}: comes 2 times, in {TRAIN}; keys have to be unique" in found
    assert f"error {keys[2]}: comes 2 times, in {TRAIN} and val-000000.tar" in found


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("geossl:offset", lambda value: value + 512, "the sample before ends at"),
        ("geossl:nbytes", lambda value: value + 512, "its row says"),
        ("geossl:member_nbytes", lambda value: [2**40, *value[1:]], "a file of 1099511627776 bytes"),
        ("geossl:member_nbytes", lambda value: [-1, *value[1:]], "no whole numbers"),
        ("geossl:member_nbytes", lambda value: value[1:], "sizes and"),
        ("geossl:member_crc32", lambda value: [value[0] ^ 1, *value[1:]], "CRC-32"),
        ("geossl:members", lambda value: [["nothing", *value[0][1:]], *value[1:]], "'nothing' that the notes"),
        ("geossl:members", lambda value: [value[0][::-1], *value[1:]], "members in another order"),
        ("geossl:size_px", lambda value: 24, "is 24 px wide; the notes say 12 px"),
        ("geossl:split", lambda value: "test", "is not a shard of split test"),
        ("id", lambda value: "../evil", "row 0: sample"),
    ],
)
def test_rows_that_cannot_be_true_are_found(
    dataset: Path, column: str, change: Callable[[Any], Any], message: str
) -> None:
    def damage(rows: list[dict[str, Any]]) -> None:
        rows.sort(key=lambda row: (row["geossl:shard"] != TRAIN, row["geossl:offset"]))
        rows[0][column] = change(rows[0][column])

    rewrite_table(dataset, damage)
    found = verify(dataset, deep=True)
    assert message in "\n".join(lines(found))
    assert any(finding.severity == "error" for finding in found)


def test_rows_that_disagree_are_found(dataset: Path) -> None:
    first = first_key(dataset)
    rewrite(dataset, lambda entry: replace(entry, gap_hours=(5.0, -4.0)) if entry.key == first else entry)
    assert f"error {first}: look 0: a gap of 5.0 h is recorded" in faults(dataset)
    rewrite(dataset, lambda entry: replace(entry, gap_hours=(-5.0, -4.0), acquired=entry.acquired[::-1]))
    assert "looks are not in time order" in faults(dataset)


def test_gaps_beyond_those_of_the_recipe_are_found(dataset: Path) -> None:
    assert faults(dataset, max_gap_hours=5.0) == ""
    found = faults(dataset, max_gap_hours=4.5)
    assert found.count("look 0: sensors -5.00 h apart, the recipe allows 4.5 h") == 9
    rewrite(dataset, lambda entry: replace(entry, gap_hours=(-300.0, -4.0)))
    assert f"warning {first_key(dataset)}: look 0: the sensors are -300 h apart" in faults(dataset)


def test_leaks_between_splits_are_found(dataset: Path) -> None:
    def leak(entry: Entry) -> Entry:
        if entry.split == "val":
            return replace(entry, block="block-0", x=500_060.0)
        return entry

    rewrite(dataset, leak)
    found = faults(dataset)
    assert "block block-0 lies in train and val" in found
    assert "overlaps" in found
    rewrite(dataset, lambda entry: replace(entry, x=500_120.0) if entry.split == "val" else entry)
    assert "overlaps" not in faults(dataset)


def test_overlaps_are_seen_across_zones_and_the_antimeridian(dataset: Path) -> None:
    from geossl_data.grid import from_lonlat

    for (epsg_a, lon_a), (epsg_b, lon_b) in (((32632, 12.0), (32633, 12.0)), ((32660, 180.0), (32601, -180.0))):
        x_a, y_a = map(float, from_lonlat(epsg_a, lon_a, 50.0))
        x_b, y_b = map(float, from_lonlat(epsg_b, lon_b, 50.0))

        def move(entry: Entry, a: tuple[int, float, float], b: tuple[int, float, float]) -> Entry:
            if entry.split == "train":
                return entry
            epsg, x, y = a if entry.split == "val" else b
            return replace(entry, epsg=epsg, x=x, y=y)

        rewrite(dataset, lambda entry, a=(epsg_a, x_a, y_a), b=(epsg_b, x_b, y_b): move(entry, a, b))
        assert "error place-009: test: overlaps place-008" in faults(dataset).replace(
            "error place-008: val: overlaps place-009, which is test",
            "error place-009: test: overlaps place-008, which is val",
        )


def test_splits_nearer_than_the_buffer_are_found(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    # Samples number 1 and 2 lie 1020 m apart.
    write_dataset(tmp_path, [sample(1), sample(2, "val")])
    rewrite(tmp_path, lambda entry: entry, buffer_km=1.0)
    assert faults(tmp_path) == ""
    rewrite(tmp_path, lambda entry: entry, buffer_km=5.0)
    assert "train and val are 1.018 km apart, the buffer is 5 km" in faults(tmp_path)
    rewrite(tmp_path, lambda entry: entry, buffer_km="far")
    assert "buffer between splits is 'far'" in faults(tmp_path)
    assert nearest_splits_km(read_manifest(tmp_path / MANIFEST_NAME)) == {
        ("train", "val"): pytest.approx(1.02, abs=0.01)
    }


def test_a_crs_that_nobody_knows_is_a_finding(dataset: Path) -> None:
    rewrite_table(dataset, lambda rows: [row.update({"geossl:epsg": 999_999}) for row in rows if row])
    assert "EPSG:999999 is no coordinate system" in faults(dataset)


# ------------------------------------------------------------------------------------------------ provenance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta.update({"geossl:key": "x"}), "geossl:key 'x'"),
        (lambda meta: meta.update({"geossl:split": "val"}), "geossl:split 'val'"),
        (lambda meta: meta["looks"].pop(), "1 looks"),
        (lambda meta: meta["looks"].reverse(), "look 0: its Sentinel-2 scene is"),
        (lambda meta: meta["looks"][0]["pair"].update({"geossl:gap_hours": 6.0}), "a gap of 6.0 h"),
        (lambda meta: meta["looks"][1]["s1"].update(datetime="2021-03-04T00:00:00Z"), "h apart"),
        (lambda meta: meta["looks"][0]["s2"].update(datetime="2021-03-04T00:00:00Z"), "look 0: is of 2021-03-04T00"),
        (lambda meta: meta["looks"][0]["s2"].pop("geossl:offset_applied"), "nothing is said about the offset"),
        (lambda meta: meta["looks"][0]["s2"].update({"geossl:offset_applied": 0}), "and 0 was applied"),
        (lambda meta: meta["looks"][0]["s2"].update({"geossl:offset_native": -999}), "an offset of -999"),
        (
            lambda meta: meta["looks"][0]["s2"].update({"s2:processing_baseline": "02.14"}),
            "is of baseline 02.14, which has no offset; -1000 was applied",
        ),
        (lambda meta: meta["looks"][0]["s2"].update({"s2:processing_baseline": "x"}), "a processing baseline 'x'"),
        (
            lambda meta: meta["looks"][0]["s2"].update(
                {"s2:processing_baseline": "05.00", "geossl:offset_native": None, "geossl:offset_applied": None}
            ),
            "is of baseline 05.00, and its offset is said to be unknown",
        ),
        (lambda meta: meta["looks"][0]["s2"]["assets"].update(B02="x?sig=SECRET"), "signed address"),
        (lambda meta: meta["looks"][0].pop("s1"), "damaged: KeyError"),
        (lambda meta: meta["members"].pop("s1"), "its JSON describes the members"),
        (lambda meta: meta["members"]["s1"].update(scale=0.02), "its JSON says scale 0.02 of s1, the manifest 0.01"),
        (lambda meta: meta["members"]["s2_10m"].update(shape=[4, 6, 24]), "its JSON says shape [4, 6, 24] of s2_10m"),
    ],
)
def test_provenance_that_disagrees_is_found(
    dataset: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit_json(dataset, change)
    found = faults(dataset)
    assert f"error {first_key(dataset)}: " in found
    assert message in found
    assert "SECRET" not in found


def test_an_offset_that_nobody_knows_is_a_warning(dataset: Path) -> None:
    edit_json(
        dataset,
        lambda meta: meta["looks"][0]["s2"].update({"geossl:offset_native": None, "geossl:offset_applied": None}),
    )
    assert faults(dataset) == (
        f"warning {MANIFEST_NAME}: nobody stated the offset of 1 of 18 Sentinel-2 scenes: these may be 1000 high"
    )


@pytest.mark.parametrize("text", [b"[" * 3000, b"null", b"\xff\xfe", b'{"looks": 3}', b'{"a": 1e999}'])
def test_json_that_is_none_is_one_finding(dataset: Path, text: bytes) -> None:
    repack(dataset, lambda files: [(files[0][0], text.ljust(len(files[0][1]))[: len(files[0][1])]), *files[1:]])
    reseal(dataset, checksums=True)
    found = [line for line in faults(dataset).splitlines() if "is damaged" in line]
    assert len(found) == 1


def named_sample(sample: Any, names: Sequence[tuple[str, str]]) -> Any:
    """Sample 1, 2021-03-04T10:21:30Z and 100 days later, with these product ids."""
    made = sample(1)
    looks = [replace(look, s2_id=s2, s1_id=s1) for look, (s2, s1) in zip(made.looks, names, strict=True)]
    return replace(made, looks=tuple(looks))


GOOD_NAMES = (
    ("S2A_MSIL2A_20210304T102130_R065_T32TMT_20210304T120000", "S1A_IW_GRDH_1SDV_20210304T052115_20210304T052140_1_2"),
    ("S2B_32TMT_20210612_0_L2A", "S1A_IW_GRDH_1SDV_20210612T062130_32TMT_1_2"),
)


def test_times_that_agree_with_the_names_of_the_products(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    write_dataset(tmp_path, [named_sample(sample, GOOD_NAMES)])
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    ("position", "sensor", "name"),
    [
        (0, 0, "S2A_MSIL2A_20210305T102130_R065_T32TMT_20210304T120000"),
        (0, 0, "S2A_MSIL2A_20210304T102330_R065_T32TMT_20210304T120000"),
        (0, 0, "S2A_OPER_PRD_MSIL1C_PDMC_20210304T2_R065_V20210304T082130_20210304T082130"),
        (1, 0, "S2B_32TMT_20210614_0_L2A"),
        (0, 1, "S1A_IW_GRDH_1SDV_20210304T052315_20210304T052340_1_2"),
        (1, 1, "S1A_IW_GRDH_1SDV_20210612T061930_32TMT_1_2"),
    ],
)
def test_times_that_the_name_of_a_product_contradicts_are_found(
    tmp_path: Path, sample: Any, write_dataset: Any, position: int, sensor: int, name: str
) -> None:
    names = [list(pair) for pair in GOOD_NAMES]
    names[position][sensor] = name
    write_dataset(tmp_path, [named_sample(sample, names)])
    found = faults(tmp_path)
    assert f"error place-001: look {position}: {name} was sensed at 2021-0" in found
    assert found.count("\n") == 0


def test_looks_in_another_order_than_their_products_are_found(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    (early, s1), (late, other) = GOOD_NAMES
    write_dataset(tmp_path, [named_sample(sample, [(late, s1), (early, other)])])
    assert (
        "look 1 is of 2021-03-04T10:21:30Z by the name of its product, look 0 before it of 2021-06-12T00:00:00Z"
        in faults(tmp_path)
    )


def test_years_that_the_notes_or_the_licence_lack_are_found(dataset: Path) -> None:
    (dataset / "LICENSE.txt").write_text("Contains modified Copernicus Sentinel data [2019]\n")
    assert faults(dataset) == ("error LICENSE.txt: does not name 2021, in which scenes of the dataset were acquired")
    rewrite(dataset, lambda entry: entry, years=[2019])
    assert "the notes say scenes of [2019], the samples are of [2021]" in faults(dataset)


def test_a_folder_with_mosaics_has_no_faults(mosaics: Path) -> None:
    assert verify(mosaics, deep=True) == []


def test_mosaics_that_differ_from_the_manifest_are_found(mosaics: Path) -> None:
    rewrite(mosaics, lambda entry: replace(entry, s1_more=()) if entry.key == "place-001" else entry)
    found = faults(mosaics)
    assert "place-001: look 1: Sentinel-1 pixels are of ('S1_1_1', 'S1_1_1b', 'S1_1_1c') in its JSON" in found
    assert found.count("error") == 1


@pytest.mark.parametrize(
    ("sensor", "change", "message"),
    [
        ("s2", {"geossl:mosaic": []}, "its JSON describes 0 further Sentinel-2 scenes, there are 1"),
        ("s1", {"geossl:mosaic": None}, "is damaged"),
        ("s2", {"geossl:mosaic_item_ids": ["S2_1_1"]}, "Sentinel-2 pixels are of ('S2_1_1',) in its JSON"),
        ("s2", {"part": {"geossl:offset_native": None}}, "nothing is said about the offset of S2_1_1b"),
        ("s1", {"part": {"datetime": "2021-01-01T00:00:00Z"}}, "is part of a mosaic and was acquired"),
    ],
)
def test_a_mosaic_that_its_json_does_not_tell_right_is_found(
    mosaics: Path, sensor: str, change: dict[str, Any], message: str
) -> None:
    def edit(content: dict[str, Any]) -> None:
        scene = content["looks"][1][sensor]
        for name, value in change.get("part", {}).items():
            if value is None:
                del scene["geossl:mosaic"][0][name]
            else:
                scene["geossl:mosaic"][0][name] = value
        scene |= {name: value for name, value in change.items() if name != "part"}

    edit_json(mosaics, edit)
    found = faults(mosaics)
    assert "error place-001: " in found
    assert message in found


# ------------------------------------------------------------------------------------------------ secrets


SECRETS = (
    "https://x.blob.core.windows.net/c/B02.tif?se=1&sig=CANARY",
    "s3://user:CANARY@bucket/prefix",
    "AKIAABCDEFGHIJKLMNOP CANARY",
    "Authorization: Bearer CANARYCANARYCANARYCANARY",
    "-----BEGIN RSA PRIVATE KEY-----CANARY",
    "AccountKey=CANARYCANARYCANARYCANARY==",
)


def test_secrets_in_texts_are_found_and_not_repeated(dataset: Path) -> None:
    for name in ("recipe.yaml", "collection.json", "croissant.json", "LICENSE.txt", "notes.csv"):
        for secret in SECRETS if name == "recipe.yaml" else SECRETS[:1]:
            (dataset / name).write_text(f"2021 {secret}\n")
            assert faults(dataset) == f"error {name}: holds a signed address, a password or a key"
        (dataset / name).unlink()
    assert faults(dataset) == ""


def test_a_secret_across_two_chunks_and_in_the_journal_is_found(dataset: Path) -> None:
    (dataset / "long.txt").write_text("x" * (2**20 - 4) + "?token=CANARY")
    (dataset / SHARDS_FOLDER / ".journal" / "train-000000.json").write_text('{"href": "x?X-Amz-Signature=CANARY"}')
    found = faults(dataset)
    assert "error long.txt: holds" in found
    assert "error shards/.journal/train-000000.json: holds" in found


def test_secrets_in_the_manifest_are_found(dataset: Path) -> None:
    rewrite(dataset, lambda entry: replace(entry, stratum="a?sig=CANARY"), label_names={"1": "s3://a:CANARY@b/"})
    found = faults(dataset)
    assert "its row holds a signed address or a password" in found
    assert "the notes hold a signed address or a password" in found
    assert "CANARY" not in found


# ------------------------------------------------------------------------------------------------ pixels


def repixel(folder: Path, member: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the pixels of the first look of the first sample of an npy shard, and everything that seals them."""

    def edit(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        edited = []
        for name, data in files:
            if name == f"{first_key(folder)}.0.{member}.npy":
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, change(np.load(io.BytesIO(data))), version=(1, 0))
                data = buffer.getvalue()
            edited.append((name, data))
        return edited

    repack(folder, edit, checksums=True)


@pytest.fixture
def plain(tmp_path: Path, sample: Any, write_dataset: Any) -> Path:
    """A dataset of .npy members; every look has a label map."""
    write_dataset(tmp_path / "plain", [sample(1), sample(4), sample(2, "val")], codec="npy")
    return tmp_path / "plain"


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("s2_10m", lambda array: array.reshape(4, 24, 6), "array of dtype <u2 and shape (4, 24, 6)"),
        ("s2_10m", lambda array: array.astype(np.int16), "array of dtype <i2"),
        ("s2_20m", lambda array: array * 0, "0.0000 of the s2 pixels are valid, 0.75 are recorded"),
        ("s1", lambda array: array * 0, "0.0000 of the s1 pixels are valid"),
        ("scl", lambda array: array + 5, "its scene classification holds a class 13"),
        ("label", lambda array: array * 0 + 77, "most of its label map is class 77"),
        ("s2_10m", lambda array: np.where(array, 9, 0).astype(array.dtype), "statistics of B02: mean"),
    ],
)
def test_pixels_that_are_not_what_is_recorded_are_found_by_a_deep_look(
    plain: Path, member: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    repixel(plain, member, change)
    assert faults(plain) == ""
    found = faults(plain, deep=True)
    assert message in found
    assert "error" in found


def test_a_blosc_chunk_of_other_elements_is_found(dataset: Path) -> None:
    file = next(file for file in expected_files(dataset) if file.member == "s2_10m")
    path = dataset / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    content[file.offset + 3] = 1
    path.write_bytes(content)
    reseal(dataset, checksums=True)
    assert faults(dataset) == ""
    assert f"error {file.entry.key}: {file.name}: " in faults(dataset, deep=True)


def test_statistics_that_are_noted_otherwise_are_found(dataset: Path) -> None:
    noted = read_manifest(dataset / MANIFEST_NAME).notes["statistics"]
    wrong = noted | {"VV": noted["VV"] | {"mean": noted["VV"]["mean"] + 0.01}}
    wrong.pop("B8A")
    rewrite(dataset, lambda entry: entry, statistics=wrong | {"B99": {"mean": 0.0}})
    assert faults(dataset) == ""
    found = faults(dataset, deep=True).splitlines()
    assert [line.split(":")[1].strip() for line in found] == [
        "statistics of B8A",
        "statistics of B99",
        "statistics of VV",
    ]


def test_an_offset_that_was_not_undone_shows_in_the_pixels(
    tmp_path: Path, sample: Any, tile: Any, write_dataset: Any
) -> None:
    def raised(of: Any) -> Any:
        built = tile(of)
        looks = [
            replace(
                look,
                members={
                    name: np.where(array, np.maximum(array, 1) + 1000, 0).astype(np.uint16)
                    if name.startswith("s2_")
                    else array
                    for name, array in look.members.items()
                },
            )
            for look in built.looks
        ]
        return replace(built, looks=tuple(looks))

    write_dataset(tmp_path / "raised", [sample(1)], raised)
    found = verify(tmp_path / "raised", deep=True)
    assert [finding.severity for finding in found] == ["warning"]
    assert found[0].what.startswith("2 of 2 looks hold hardly a Sentinel-2 number below 1000 in any band")

    def lowered(of: Any) -> Any:
        built = tile(of)
        looks = [
            replace(look, members=dict(look.members) | {"s2_10m": np.minimum(look.members["s2_10m"], 1)})
            for look in built.looks
        ]
        return replace(built, looks=tuple(looks))

    write_dataset(tmp_path / "lowered", [sample(1)], lowered)
    assert "2 of 2 looks hold a band that is 1 mostly" in faults(tmp_path / "lowered", deep=True)


def shifted_tile(tile: Any, by: Callable[[int, int], tuple[int, int]]) -> Callable[[Any], Any]:
    """Tiles of fields with sharp edges that both sensors see, the radar image of each look moved by (dx, dy)."""

    def build(of: Any) -> Any:
        built = tile(of)
        number = int(of.key[-3:])
        side = of.place.size_px
        looks = []
        for position, look in enumerate(built.looks):
            rng = np.random.default_rng(97 * number + position)
            fields = rng.random((side // 6 + 6, side // 6 + 6)).repeat(6, axis=0).repeat(6, axis=1)
            dx, dy = by(number, position)
            seen = fields[16 : 16 + side, 16 : 16 + side]
            moved = fields[16 - dy : 16 - dy + side, 16 - dx : 16 - dx + side]
            arrays = dict(look.members)
            arrays["s2_10m"] = np.stack([200 + 3000 * seen] * 4).astype(np.uint16)
            arrays["s1"] = MEMBERS["s1"].physical(np.stack([8000 + 1000 * moved] * 2).astype(np.uint16))
            arrays["s2_20m"], arrays["s2_60m"] = (np.full_like(arrays[name], 300) for name in ("s2_20m", "s2_60m"))
            arrays["scl"] = np.full_like(arrays["scl"], 4)
            meta = dict(look.meta)
            for sensor in ("s2", "s1"):
                meta[sensor] = meta[sensor] | {"geossl:valid_fraction": 1.0}
            looks.append(replace(look, members=arrays, meta=meta))
        return replace(built, looks=tuple(looks))

    return build


def test_radar_images_that_lie_elsewhere_than_the_others_are_named(
    tmp_path: Path, sample: Any, tile: Any, write_dataset: Any
) -> None:
    samples = [sample(number, size_px=96, n_looks=2) for number in (1, 2, 3, 4, 5, 6, 8, 9)]
    good = shifted_tile(tile, lambda number, position: (0, 0))
    write_dataset(tmp_path / "good", samples, good)
    assert faults(tmp_path / "good", deep=True) == ""

    planted = shifted_tile(tile, lambda number, position: (7, -5) if (number, position) == (4, 1) else (0, 0))
    write_dataset(tmp_path / "planted", samples, planted)
    found = verify(tmp_path / "planted", deep=True)
    assert [finding.severity for finding in found] == ["warning"]
    assert "1 of 16 looks have a radar image more than 3.0 px from" in found[0].what
    assert re.search(r"place-004 look 1 \(\+[67]\.\d, -[45]\.\d\)", found[0].what)
    assert faults(tmp_path / "planted") == ""

    off = shifted_tile(tile, lambda number, position: (3, 0))
    write_dataset(tmp_path / "off", samples, off)
    assert re.search(
        r"in the median of 16 looks the radar image lies \+[23]\.\d px east", faults(tmp_path / "off", deep=True)
    )


def test_shifts_that_were_recorded_are_held_against_each_other_without_a_deep_look(
    tmp_path: Path, sample: Any, tile: Any, write_dataset: Any
) -> None:
    def recorded(of: Any) -> Any:
        built = tile(of)
        dx = 9.0 if of.key == "place-003" else 0.25
        looks = [
            replace(look, meta=look.meta | {"quality": {"shift": {"dx_px": dx, "dy_px": 0.0, "peak": 12.0}}})
            for look in built.looks
        ]
        return replace(built, looks=tuple(looks))

    write_dataset(tmp_path, [sample(number) for number in (1, 2, 3, 4, 5, 6)], recorded)
    assert "warning manifest.parquet: 2 of 12 looks have a radar image more than 3.0 px" in faults(tmp_path)


# ------------------------------------------------------------------------------------------------ other rasters


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three places of one's own rasters, which lie nowhere and are of no Sentinel scene."""
    from contextlib import nullcontext

    from geossl_data.shards.writing.content import Content
    from geossl_data.shards.writing.plan import plan_shards
    from geossl_data.shards.writing.report import manifest_notes
    from geossl_data.shards.writing.writer import write_shards

    members = {
        "drone": Member("drone", "drone", ("red", "green", "blue"), 1, "uint8", ""),
        "height": Member("height", "height", ("m",), 2, "float32", "m"),
        "scl": Member("scl", "scl", ("class",), 1, "int16", "class", plane=True),
    }

    def content(planned: Any) -> Content:
        rng = np.random.default_rng(int(planned.key[-1]))
        looks = tuple(
            {
                "drone": rng.integers(0, 255, (3, 8, 8)).astype(np.uint8),
                "height": rng.random((1, 4, 4), dtype=np.float32),
                "scl": rng.integers(100, 900, (8, 8)).astype(np.int16),
            }
            for _ in range(2)
        )
        nothing = (None, None)
        row = dict.fromkeys(("lon", "lat", "epsg", "x", "y")) | {
            "block": planned.key, "cell": "", "stratum": "", "weight": 1.0, "inclusion_probability": 1.0,
            "acquired": nothing, "gap_hours": nothing, "s2_ids": ("", ""), "s1_ids": ("", ""), "labels": (0, 0),
            "cloud_fraction": nothing, "s2_valid_fraction": nothing, "s1_valid_fraction": nothing,
        }  # fmt: skip
        meta = {"geossl:key": planned.key, "looks": [{"index": 0}, {"index": 1}]}
        return Content(key=planned.key, split=planned.split, size_px=8, looks=looks, meta=meta, row=row)

    plans = plan_shards(
        [Planned("own-1", "train"), Planned("own-2", "val"), Planned("own-3", "train")],
        shard_mb=1, seed=0, nbytes=lambda _: 1.0,
    )  # fmt: skip
    reports = write_shards(plans, tmp_path / "own" / SHARDS_FOLDER, lambda _: nullcontext(content), members=members)
    entries = [entry for report in reports for entry in report.entries]
    notes = manifest_notes(reports, fingerprint="f", codec="blosc", members=members, pixel_m=None)
    write_manifest(tmp_path / "own" / MANIFEST_NAME, entries, notes)
    return tmp_path / "own"


@dataclass(frozen=True)
class Planned:
    key: str
    split: Any


def test_other_rasters_are_verified_without_the_rules_of_sentinel(own: Path) -> None:
    assert verify(own, deep=True) == []
    path = own / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    file = next(file for file in expected_files(own) if file.member == "height")
    content[file.offset + 20] ^= 4
    path.write_bytes(content)
    assert f"{file.name}: its bytes are not those that were written (CRC-32)" in faults(own, deep=True)


def test_a_sample_of_other_rasters_in_two_splits_is_a_leak(own: Path) -> None:
    rewrite(own, lambda entry: replace(entry, block="one-picture"))
    assert "block one-picture lies in train and val" in faults(own)


def test_gap_times_are_compared_in_hours(dataset: Path) -> None:
    first = first_key(dataset)
    hours = timedelta(minutes=2).total_seconds() / 3600
    rewrite(dataset, lambda entry: replace(entry, gap_hours=(-5.0 + hours, -4.0)) if entry.key == first else entry)
    assert f"error {first}: look 0: a gap of -4.96" in faults(dataset)
