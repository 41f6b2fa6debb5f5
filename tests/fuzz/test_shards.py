"""Shards that have been damaged, or made to do harm: tars, manifests, indexes, samples' JSON, arrays."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz.mutations import CANARY, changed, fuzzed, json_bytes, reordered, spoilt, spoilt_json, told, twisted
from hypothesis import given
from hypothesis import strategies as st
from shards.conftest import make_factory, make_sample, make_tile

from geossl_data.errors import DatasetError, ShardError
from geossl_data.shards.checking.provenance import provenance
from geossl_data.shards.checking.scan import Stream, parts
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Manifest, parse_manifest, read_manifest
from geossl_data.shards.reading.facts import facts_of
from geossl_data.shards.reading.index import index_of
from geossl_data.shards.reading.shards import Shards
from geossl_data.shards.reading.sources import Folder
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.tars import members
from geossl_data.shards.verify import verify
from geossl_data.shards.writing.plan import plan_shards
from geossl_data.shards.writing.report import manifest_notes
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tables import METADATA_KEY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three places of two looks in one shard of 12 kB."""
    folder = tmp_path_factory.mktemp("shards")
    plans = plan_shards([make_sample(number) for number in range(1, 4)], shard_mb=1, seed=3)
    reports = write_shards(plans, folder / SHARDS_FOLDER, make_factory(make_tile), codec="blosc", fingerprint="f")
    entries = [entry for report in reports for entry in report.entries]
    write_manifest(folder / MANIFEST_NAME, entries, manifest_notes(reports, fingerprint="f", codec="blosc"))
    return folder


@pytest.fixture(scope="module")
def tar(folder: Path) -> bytes:
    (path,) = (folder / SHARDS_FOLDER).glob("*.tar")
    return path.read_bytes()


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / MANIFEST_NAME)


def is_as_written(shards: Shards, expected: Shards) -> bool:
    """Whether all that can be read of shards is what was written."""
    for index in range(len(shards)):
        for look in range(int(shards.index.n_looks[index])):
            read, written = shards.read(index, look), expected.read(index, look)
            if not all(np.array_equal(read[name], written[name]) for name in read):
                return False
        if shards.meta(index) != expected.meta(index):
            return False
    return True


# ------------------------------------------------------------------------------------------------ tars


@fuzzed(5)
@given(data=st.data())
def test_the_members_of_a_damaged_tar(folder: Path, tar: bytes, data: st.DataObject) -> None:
    path = folder / "one.tar"
    path.write_bytes(content := data.draw(spoilt(tar)))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = told(lambda: list(members(descriptor, 0, len(content))))
    finally:
        os.close(descriptor)
    assert found is None or all(
        member.offset >= 0 and member.offset + member.nbytes <= len(content) for member in found
    )


@fuzzed(5)
@given(data=st.data())
def test_a_scan_says_what_is_wrong_and_goes_on(folder: Path, tar: bytes, data: st.DataObject) -> None:
    (folder / "one.tar").write_bytes(content := data.draw(spoilt(tar)))
    problems: list[str] = []
    stream = Stream(Folder(folder), "one.tar", len(content))
    found = told(lambda: [(part.name, part.crc32) for part in parts(stream, [], problems.append)])
    assert found is None or len(found) <= len(content) // 512
    assert all(len(problem.splitlines()) == 1 and len(problem) < 2000 for problem in problems)


@fuzzed(5)
@given(data=st.data())
def test_damaged_shards_are_read_right_or_not_at_all(
    folder: Path, tar: bytes, manifest: Manifest, data: st.DataObject
) -> None:
    """The first read compares checksums, so that a flipped bit is never a pixel."""
    other = folder / "copy"
    other.mkdir(exist_ok=True)
    name = next(iter(manifest.notes["shards"]))
    (other / name).write_bytes(data.draw(st.one_of(spoilt(tar), flipped(tar))))
    with Shards(Folder(folder / SHARDS_FOLDER), manifest) as written:
        assert told(lambda: is_as_written(Shards(Folder(other), manifest), written)) in (True, None)


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """The same number of bytes, one bit of them another."""
    data = bytearray(content)
    data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@fuzzed(5)
@given(data=st.data())
def test_verify_finds_every_flipped_bit(folder: Path, tar: bytes, data: st.DataObject) -> None:
    (path,) = (folder / SHARDS_FOLDER).glob("*.tar")
    path.write_bytes(data.draw(flipped(tar)))
    try:
        findings = verify(folder, deep=False, threads=1)
    finally:
        path.write_bytes(tar)
    assert any(finding.severity == "error" for finding in findings)


EVIL = {
    "above": tarfile.TarInfo("../../evil"),
    "absolute": tarfile.TarInfo("/etc/evil"),
    "link": tarfile.TarInfo("place-001.json"),
    "device": tarfile.TarInfo("place-001.json"),
}
EVIL["link"].type, EVIL["link"].linkname = tarfile.SYMTYPE, "/etc/passwd"
EVIL["device"].type = tarfile.CHRTYPE


@pytest.mark.parametrize("kind", EVIL)
def test_3_17_a_tar_that_leads_out_of_its_folder(folder: Path, tar: bytes, manifest: Manifest, kind: str) -> None:
    """Nothing is ever extracted, so a name is a name; what is no file is refused."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as file:
        file.addfile(EVIL[kind])
    (folder / "one.tar").write_bytes(buffer.getvalue())
    before = sorted(path for path in folder.parent.rglob("*") if "evil" in path.name)
    descriptor = os.open(folder / "one.tar", os.O_RDONLY)
    try:
        found = told(lambda: [member.name for member in members(descriptor, 0, len(buffer.getvalue()))])
    finally:
        os.close(descriptor)
    assert found == ([EVIL[kind].name] if kind in ("above", "absolute") else None)
    assert sorted(path for path in folder.parent.rglob("*") if "evil" in path.name) == before
    problems: list[str] = []
    list(parts(Stream(Folder(folder), "one.tar", len(buffer.getvalue())), [], problems.append))
    assert bool(problems) == (kind not in ("above", "absolute"))


# ------------------------------------------------------------------------------------------------ manifests


@fuzzed(5)
@given(data=st.data())
def test_a_damaged_manifest_is_right_or_one_line(folder: Path, manifest: Manifest, data: st.DataObject) -> None:
    content = data.draw(spoilt((folder / MANIFEST_NAME).read_bytes()))
    told(lambda: used(parse_manifest(pa.BufferReader(content), "manifest"), folder, manifest))


def used(found: Manifest, folder: Path, written: Manifest) -> None:
    """All that is done with a manifest; what is read of the shards by it is what was written."""
    assert {member.name for member in found.members.values()} == set(found.members)
    index = index_of(found)
    assert len(index) == len(found.table)
    facts_of(found)
    assert len(found.entries) == len(index)
    with Shards(Folder(folder / SHARDS_FOLDER), found) as shards:
        for sample in range(len(shards)):
            shards.meta(sample)
            for look in range(int(shards.index.n_looks[sample])):
                shards.read(sample, look)


@fuzzed(7)
@given(data=st.data())
def test_a_manifest_of_other_values_is_one_line_or_harmless(
    folder: Path, manifest: Manifest, data: st.DataObject
) -> None:
    """Offsets beyond the shard, counts that disagree, members of 10^9 pixels, names that are paths."""
    table = pq.read_table(folder / MANIFEST_NAME)
    notes = json.loads(table.schema.metadata[METADATA_KEY])
    if data.draw(st.booleans()):
        notes = data.draw(twisted(notes))
    else:
        table = data.draw(st.one_of(changed(table), reordered(table)))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json_bytes(notes)}), buffer)
    told(lambda: used(parse_manifest(pa.BufferReader(buffer.getvalue()), "manifest"), folder, manifest))


@pytest.mark.parametrize("notes", [b"[" * 90_000, b"[]", b"3", b"{", b"\xff", b'{"codec": NaN}'])
def test_notes_that_are_none(folder: Path, notes: bytes) -> None:
    table = pq.read_table(folder / MANIFEST_NAME).replace_schema_metadata({METADATA_KEY: notes})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    with pytest.raises((DatasetError, ShardError), match=r"^manifest: "):
        parse_manifest(pa.BufferReader(buffer.getvalue()), "manifest")


# ------------------------------------------------------------------------------------------------ JSON and arrays


@fuzzed(7)
@given(data=st.data())
def test_the_json_of_a_sample(folder: Path, manifest: Manifest, data: st.DataObject) -> None:
    with Shards(Folder(folder / SHARDS_FOLDER), manifest) as shards:
        content = data.draw(spoilt_json(shards.meta(0)))
    findings, said = provenance(manifest.entries[0], "place.json", content, manifest.members)
    assert findings or said is not None
    assert all(len(finding.what.splitlines()) == 1 and len(finding.what) < 4000 for finding in findings)
    assert all(CANARY not in finding.what for finding in findings)


ARRAY = np.arange(2 * 6 * 6, dtype=np.uint16).reshape(2, 6, 6)


@pytest.mark.parametrize("name", CODECS)
@fuzzed(7)
@given(data=st.data())
def test_an_array_is_of_its_shape_or_refused(name: str, data: st.DataObject) -> None:
    content = data.draw(spoilt(CODECS[name].encode(ARRAY)))
    found = told(lambda: CODECS[name].decode(content, "uint16", ARRAY.shape))
    assert found is None or (found.shape, found.dtype) == (ARRAY.shape, ARRAY.dtype)


@pytest.mark.parametrize("shape", ["(1000000000, 1000)", "(10000000000,)", "(-1,)", "(" * 200, "(2, 6, 6"])
def test_3_20_a_header_that_claims_a_disk_full(shape: str) -> None:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(300) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(144)
    assert told(lambda: CODECS["npy"].decode(content, "uint16", ARRAY.shape)) is None
