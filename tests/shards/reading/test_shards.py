"""What was written is what is read, in the asked order; damage is said, not shown."""

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import DatasetError, ShardError
from geossl_data.shards.manifest import SHARDS_FOLDER
from geossl_data.shards.reading.shards import Shards, open_shards

ArraysOf = Callable[..., dict[str, np.ndarray]]
NAMES = ("s2_10m", "s2_20m", "s2_60m", "scl", "s1")


def test_every_member_of_every_look_comes_back(dataset: Path, arrays: ArraysOf) -> None:
    with open_shards(dataset) as shards:
        assert len(shards) == 9
        assert shards.member_names == (*NAMES, "label")
        assert shards.shape("s2_60m") == (2, 2, 2)
        for index, look in shards.looks:
            entry = shards.entries[index]
            labelled = int(entry.key[-3:]) % 3 != 0
            assert shards.has(index, look, "label") == labelled
            expected = arrays(entry.key, look, label=labelled)
            found = shards.read(index, look, entry.members[look])
            assert list(found) == list(expected)
            for name, array in found.items():
                member = shards.members[name]
                assert (array.dtype, array.shape) == (np.dtype(member.dtype), shards.shape(name))
                np.testing.assert_array_equal(member.physical(array), expected[name])
                assert array.flags.writeable
            assert list(shards.read(index, look)) == list(expected)


def test_a_split_is_all_of_its_samples_and_no_other(dataset: Path) -> None:
    sizes = {}
    for split in ("train", "val", "test"):
        with open_shards(dataset, split) as shards:
            sizes[split] = len(shards)
            assert {entry.split for entry in shards.entries} <= {split}
    assert sizes == {"train": 7, "val": 1, "test": 1}


def test_provenance_is_the_json_of_the_sample(dataset: Path) -> None:
    with open_shards(dataset, "val") as shards:
        meta = shards.meta(0)
    assert meta["geossl:key"] == "place-008"
    assert meta["proj:transform"] == [10.0, 0.0, 508160.0, 0.0, -10.0, 5000040.0]
    assert [look["s2"]["id"] for look in meta["looks"]] == ["S2_8_0", "S2_8_1"]
    assert meta["looks"][1]["members"] == [*NAMES, "label"]
    assert meta["attribution"] == "Contains modified Copernicus Sentinel data [2021]"


def test_what_is_not_there_is_not_made_up(dataset: Path) -> None:
    with open_shards(dataset) as shards:
        without = next(i for i, entry in enumerate(shards.entries) if "label" not in entry.members[0])
        with pytest.raises(ShardError, match="has no label"):
            shards.read(without, 0, ["s1", "label"])
        with pytest.raises(ShardError, match="no member 'dem'"):
            shards.read(0, 0, ["dem"])
        with pytest.raises(ShardError, match="no look 2"):
            shards.read(0, 2, ["s1"])
        for wrong in (-1, 2):
            assert_no_look(shards, wrong)


def assert_no_look(shards: Shards, look: int) -> None:
    with pytest.raises(ShardError, match=f"no look {look}"):
        shards.has(0, look, "s1")


def test_a_missing_or_shorter_shard_is_refused_at_opening(dataset: Path, tmp_path: Path) -> None:
    tar = dataset / SHARDS_FOLDER / "train-000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-1024])
    with pytest.raises(ShardError, match="bytes where"):
        open_shards(dataset)
    with open_shards(dataset, "val") as shards:
        assert len(shards) == 1
    tar.unlink()
    with pytest.raises(ShardError, match="no such file"):
        open_shards(dataset)
    with pytest.raises(DatasetError, match="no such file"):
        open_shards(tmp_path / "nowhere")


@pytest.mark.parametrize("codec", ["blosc", "npy", "archive"])
def test_no_flipped_bit_is_read_unseen(
    tmp_path: Path, sample: Any, write_dataset: Any, arrays: ArraysOf, codec: str
) -> None:
    write_dataset(tmp_path, [sample(number) for number in range(3)], codec=codec)
    with open_shards(tmp_path) as shards:
        tar = tmp_path / SHARDS_FOLDER / shards.entries[1].shard
        whole = tar.read_bytes()
        row = shards.index.member_file[shards.index.first_look[1]]
        spans = [(int(shards.index.offset[n]), int(shards.index.nbytes[n])) for n in row.tolist() if n >= 0]
        names = shards.entries[1].members[0]
    rng = np.random.default_rng(0)
    for (start, nbytes), name in zip(spans, names, strict=True):
        for position in (0, nbytes - 1, *rng.integers(0, nbytes, 5).tolist()):
            damaged = bytearray(whole)
            damaged[start + position] ^= 1 << int(rng.integers(8))
            tar.write_bytes(damaged)
            with open_shards(tmp_path) as fresh:
                with pytest.raises(ShardError, match="geossl verify") as caught:
                    fresh.read(1, 0)
                assert "\n" not in str(caught.value)
                assert tar.name in str(caught.value)
                other = [known for known in names if known != name]
                assert len(fresh.read(1, 0, other)) == len(other), "other members are as they were"
    tar.write_bytes(whole)
    assert len(open_shards(tmp_path).read(1, 0)) == len(names)


def test_damage_to_the_json_is_said(dataset: Path) -> None:
    with open_shards(dataset, "train") as shards:
        entry = shards.entries[2]
    tar = dataset / SHARDS_FOLDER / entry.shard
    damaged = bytearray(tar.read_bytes())
    damaged[damaged.index(b"{", entry.offset + 512)] = ord("[")
    tar.write_bytes(damaged)
    with open_shards(dataset, "train") as fresh, pytest.raises(ShardError, match="CRC-32"):
        fresh.meta(2)
    with open_shards(dataset, "train", check=False) as fresh, pytest.raises(ShardError, match="not a JSON object"):
        fresh.meta(2)


def test_a_checksum_is_compared_once(dataset: Path) -> None:
    with open_shards(dataset, "train") as shards:
        entry = shards.entries[0]
        before = shards.read(0, 0, ["scl"])["scl"]
        number = int(shards.index.member_file[0, list(shards.members).index("scl")])
        tar = dataset / SHARDS_FOLDER / entry.shard
        damaged = bytearray(tar.read_bytes())
        damaged[int(shards.index.offset[number]) + int(shards.index.nbytes[number]) - 1] ^= 1
        with tar.open("r+b") as file:
            file.write(damaged)
        after = shards.read(0, 0, ["scl"])["scl"]
        assert not np.array_equal(before, after), "it was read again, and compared no more"


def test_a_file_that_shrinks_while_it_is_read_is_one_line(dataset: Path) -> None:
    with open_shards(dataset, "train") as shards:
        tar = dataset / SHARDS_FOLDER / shards.entries[-1].shard
        with tar.open("r+b") as file:
            file.truncate(shards.entries[-1].offset + 1024)
        with pytest.raises(ShardError, match="file ends at byte"):
            shards.read(len(shards) - 1, 0)


def test_long_keys_are_read_as_well(tmp_path: Path, sample: Any, write_dataset: Any, arrays: ArraysOf) -> None:
    key = "k" * 117 + "001"
    write_dataset(tmp_path, [sample(1, key=key), sample(2)])
    with open_shards(tmp_path) as shards:
        index = next(i for i, entry in enumerate(shards.entries) if entry.key == key)
        np.testing.assert_array_equal(shards.read(index, 1, ["scl"])["scl"], arrays(key, 1)["scl"])
        assert json.dumps(shards.meta(index)["geossl:key"]) == f'"{key}"'


def test_files_are_closed(dataset: Path) -> None:
    def open_files() -> int:
        # Shards of this dataset alone: threads of other tests may open and close files of theirs meanwhile, and
        # arrow's own threads may let go of the manifest a moment after it was read.
        links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        return sum(link.startswith(str((dataset / SHARDS_FOLDER).resolve())) for link in links)

    before = open_files()
    with open_shards(dataset) as shards:
        shards.read(0, 0, ["s1"])
        assert open_files() == before + 1
    assert open_files() == before
    forgotten = open_shards(dataset)
    forgotten.read(0, 0, ["s1"])
    del forgotten
    # dask's profiler, once a test of this process has used it, may hold on to a frame for a moment.
    deadline = time.monotonic() + 10
    while open_files() != before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert open_files() == before
