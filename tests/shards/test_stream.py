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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import DatasetError, ShardError
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, read_manifest, write_manifest
from geossl_data.shards.stream import open_shards

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
                np.testing.assert_array_equal(array, expected[name])
                assert array.dtype == expected[name].dtype
                assert array.flags.writeable


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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), max_size=23),
    batch_size=st.integers(1, 6),
    threads=st.integers(1, 3),
    drop_last=st.booleans(),
    reuse=st.booleans(),
)
def test_batches_follow_the_order(
    dataset: Path,
    arrays: ArraysOf,
    order: list[tuple[int, int]],
    batch_size: int,
    threads: int,
    drop_last: bool,
    reuse: bool,
) -> None:
    with open_shards(dataset) as shards:
        names = ("s1", "s2_20m")
        stream = shards.batches(order, names, batch_size, threads=threads, drop_last=drop_last, reuse=reuse)
        batches = [{name: array.copy() for name, array in batch.items()} for batch in stream]
        expected = [arrays(shards.entries[index].key, look) for index, look in order]
    kept = len(order) // batch_size * batch_size if drop_last else len(order)
    assert [len(batch["s1"]) for batch in batches[:-1]] == [batch_size] * max(len(batches) - 1, 0)
    assert sum(len(batch["s1"]) for batch in batches) == kept
    for name in names:
        rows = [row for batch in batches for row in batch[name]]
        for row, want in zip(rows, expected, strict=False):
            np.testing.assert_array_equal(row, want[name])


def test_batches_not_reused_stay_as_they_were(dataset: Path, arrays: ArraysOf) -> None:
    with open_shards(dataset) as shards:
        batches = list(shards.batches(shards.looks, ["scl"], 2))
        for position, batch in enumerate(batches):
            for row in range(2):
                index, look = shards.looks[2 * position + row]
                np.testing.assert_array_equal(batch["scl"][row], arrays(shards.entries[index].key, look)["scl"])


def test_an_abandoned_stream_ends_its_threads(dataset: Path) -> None:
    import threading

    with open_shards(dataset) as shards:
        stream = shards.batches(shards.looks, ["s1"], 1)
        next(stream)
        stream.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("geossl-stream")]


def test_what_is_not_there_is_not_made_up(dataset: Path) -> None:
    with open_shards(dataset) as shards:
        without = next(i for i, entry in enumerate(shards.entries) if "label" not in entry.members[0])
        with pytest.raises(ShardError, match="has no label"):
            shards.read(without, 0, ["s1", "label"])
        with pytest.raises(ShardError, match="has no label"):
            list(shards.batches([(without, 0)], ["label"], 1))
        with pytest.raises(ShardError, match="no member 'dem'"):
            shards.read(0, 0, ["dem"])
        with pytest.raises(ShardError, match="no look 2"):
            shards.read(0, 2, ["s1"])
        with pytest.raises(ShardError, match="at least 1"):
            shards.batches(shards.looks, ["s1"], 0)


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


def test_damage_inside_a_shard_is_one_line(dataset: Path) -> None:
    with open_shards(dataset, "train") as shards:
        entry = shards.entries[2]
    tar = dataset / SHARDS_FOLDER / entry.shard
    whole = tar.read_bytes()
    key = entry.key.encode()
    npy = whole.index(b"\x93NUMPY", entry.offset)
    cases = {
        "checksum": (whole.index(key + b".0.s2_10m"), b"X"),
        f"no {entry.key}.json": None,
        "shape": (whole.index(b"(4, 12, 12)", npy), b"(4, 12, 13)"),
        "JSON": (whole.index(b"{", entry.offset + 512), b"["),
    }
    for message, change in cases.items():
        damaged = bytearray(whole)
        if change is None:
            start, stop = entry.offset, entry.offset + entry.nbytes
            other = shards.entries[3]
            damaged[start:stop] = whole[other.offset : other.offset + other.nbytes][: stop - start].ljust(
                stop - start, b"\0"
            )
        else:
            damaged[change[0] : change[0] + len(change[1])] = change[1]
        tar.write_bytes(damaged)
        with open_shards(dataset, "train") as fresh, pytest.raises(ShardError, match=message) as caught:
            _ = fresh.meta(2), fresh.read(2, 0, ["s2_10m"])
        assert "\n" not in str(caught.value)
        assert entry.shard in str(caught.value)


def test_a_manifest_that_lies_about_places_in_the_tar_is_found_out(dataset: Path) -> None:
    from dataclasses import replace

    manifest = read_manifest(dataset / MANIFEST_NAME)
    moved = [replace(entry, offset=entry.offset + 512) if entry.offset == 0 else entry for entry in manifest.entries]
    write_manifest(dataset / MANIFEST_NAME, moved, manifest.notes)
    with open_shards(dataset, "train") as shards, pytest.raises(ShardError, match=r"train-000000\.tar"):
        shards.read(0, 0, ["s1"])
    far = [replace(entry, offset=2**40) if entry.offset == 0 else entry for entry in manifest.entries]
    write_manifest(dataset / MANIFEST_NAME, far, manifest.notes)
    with pytest.raises(ShardError, match="bytes"):
        open_shards(dataset, "train")


def test_long_keys_are_read_as_well(tmp_path: Path, sample: Any, write_dataset: Any, arrays: ArraysOf) -> None:
    key = "k" * 117 + "001"
    write_dataset(tmp_path, [sample(1, key=key), sample(2)])
    with open_shards(tmp_path) as shards:
        index = next(i for i, entry in enumerate(shards.entries) if entry.key == key)
        np.testing.assert_array_equal(shards.read(index, 1, ["s1"])["s1"], arrays(key, 1)["s1"])
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
