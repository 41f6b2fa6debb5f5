"""The index says where bytes lie without looking, so it has to say what looking finds."""

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import ShardError
from geossl_data.records import Sample
from geossl_data.shards.codec import crc32
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, Manifest, read_manifest
from geossl_data.shards.reading.index import index_of
from geossl_data.shards.stac_table import write_manifest

Make = Callable[..., Sample]


@pytest.fixture
def manifest(tmp_path: Path, sample: Make, write_dataset: Callable[..., Any]) -> Manifest:
    """Samples of one to eleven looks, with short names and with names longer than a tar header holds."""
    samples = [sample(number, n_looks=number % 4 + 1) for number in range(1, 6)]
    samples += [sample(8, key="k" * 90 + "-008", n_looks=11), sample(9, key="k" * 97 + "009", n_looks=2)]
    write_dataset(tmp_path, samples)
    return read_manifest(tmp_path / MANIFEST_NAME)


def test_every_file_lies_where_the_tar_says(tmp_path: Path, manifest: Manifest) -> None:
    index = index_of(manifest)
    entries, names = manifest.entries, list(manifest.members)
    assert len(index) == len(entries) == 7
    for position, entry in enumerate(entries):
        path = tmp_path / SHARDS_FOLDER / entry.shard
        whole = path.read_bytes()
        with tarfile.open(path) as tar:
            infos = {info.name: info for info in tar.getmembers()}
        numbers = {f"{entry.key}.json": int(index.first_file[position])}
        for look in range(entry.n_looks):
            row = index.member_file[index.first_look[position] + look]
            for name, number in zip(names, row.tolist(), strict=True):
                assert (number >= 0) == (name in entry.members[look])
                if number >= 0:
                    numbers[f"{entry.key}.{look}.{name}.blosc"] = number
        for name, number in numbers.items():
            info = infos[name]
            assert (info.offset_data, info.size) == (index.offset[number], index.nbytes[number]), name
            assert crc32(whole[info.offset_data : info.offset_data + info.size]) == index.crc32[number]
        assert index.shard_names[index.shard[position]] == entry.shard
    assert index.n_looks.tolist() == [entry.n_looks for entry in entries]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: {"nbytes": entry.nbytes + 512}, "not as long"),
        (lambda entry: {"member_nbytes": (entry.member_nbytes[0] + 600, *entry.member_nbytes[1:])}, "not as long"),
        (lambda entry: {"offset": 2**40}, "beyond the ends"),
        (lambda entry: {"shard": "train-000077.tar"}, "notes do not list"),
        (lambda entry: {"member_nbytes": (-1, *entry.member_nbytes[1:])}, "fewer than 0"),
        (lambda entry: {"member_nbytes": (2**40, *entry.member_nbytes[1:])}, "more than"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, manifest: Manifest, change: Callable[[Entry], dict[str, Any]], message: str
) -> None:
    entries = manifest.entries
    write_manifest(tmp_path / "bad.parquet", [replace(entries[0], **change(entries[0])), *entries[1:]], manifest.notes)
    with pytest.raises(ShardError, match=message):
        index_of(read_manifest(tmp_path / "bad.parquet"))


def test_a_member_that_the_notes_do_not_describe_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    notes = manifest.notes | {"members": [note for note in manifest.notes["members"] if note["name"] != "scl"]}
    write_manifest(tmp_path / "bad.parquet", manifest.entries, notes)
    with pytest.raises(ShardError, match="disagree on which files"):
        index_of(read_manifest(tmp_path / "bad.parquet"))


def test_a_split_without_samples_is_an_empty_index(manifest: Manifest) -> None:
    index = index_of(Manifest(manifest.table.slice(0, 0), manifest.notes))
    assert len(index) == 0
    assert index.member_file.shape == (0, len(manifest.members))
    assert np.size(index.offset) == 0
