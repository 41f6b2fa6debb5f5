"""An object store gives what the folder gives, in few requests, and its errors are one line without secrets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

from geossl_data.errors import ShardError
from geossl_data.shards import store as store_module
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, read_manifest
from geossl_data.shards.reading.shards import open_shards
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.store import Store

URL = "s3://bucket/some/prefix"


@pytest.fixture
def bucket(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A bucket that holds the dataset below some/prefix."""
    memory = MemoryStore()
    for path in (*(dataset / SHARDS_FOLDER).glob("*.tar"), dataset / MANIFEST_NAME):
        obstore.put(memory, f"some/prefix/{path.relative_to(dataset)}", path.read_bytes())
    monkeypatch.setattr(store_module, "open_bucket", lambda *_, **__: memory)
    return memory


def test_a_url_opens_what_a_folder_holds(dataset: Path, bucket: MemoryStore) -> None:
    with open_shards(dataset, "train") as local, open_shards(URL, "train") as remote:
        assert remote.keys == local.keys
        for index, look in local.looks:
            ours, theirs = local.read(index, look), remote.read(index, look)
            for name, array in ours.items():
                np.testing.assert_array_equal(theirs[name], array)
        assert remote.meta(1) == local.meta(1)
        here = [batch["s1"].copy() for batch in local.batches(3, ["s1"], shuffle="window", seed=2)]
        there = [batch["s1"].copy() for batch in remote.batches(3, ["s1"], shuffle="window", seed=2)]
        np.testing.assert_array_equal(np.stack(here), np.stack(there))


def test_a_folder_reads_the_shards_that_its_manifest_says_are_elsewhere(dataset: Path, bucket: MemoryStore) -> None:
    manifest = read_manifest(dataset / MANIFEST_NAME)
    with open_shards(dataset) as shards:
        expected = shards.read(0, 0, ["scl"])["scl"]
    write_manifest(dataset / MANIFEST_NAME, manifest.entries, manifest.notes | {"location": URL})
    for path in (dataset / SHARDS_FOLDER).glob("*.tar"):
        path.unlink()
    with open_shards(dataset) as shards:
        np.testing.assert_array_equal(shards.read(0, 0, ["scl"])["scl"], expected)


def test_a_place_is_one_request(dataset: Path, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    get: Callable[..., Any] = obstore.get_range

    def counting(*arguments: Any, start: int, length: int) -> Any:
        asked.append((start, length))
        return get(*arguments, start=start, length=length)

    monkeypatch.setattr(obstore, "get_range", counting)
    with open_shards(URL, "val") as shards:
        (batch,) = shards.batches(1, ["s2_10m", "s1"], looks="all")
    assert batch["s1"].shape[:2] == (1, 2)
    assert len(asked) == 1


def test_a_missing_or_shorter_object_is_said(bucket: MemoryStore) -> None:
    obstore.put(bucket, "some/prefix/shards/val-000000.tar", b"short")
    with pytest.raises(ShardError, match="5 bytes where"):
        open_shards(URL, "val")
    obstore.delete(bucket, "some/prefix/shards/val-000000.tar")
    with pytest.raises(ShardError, match=r"s3://bucket/some/prefix/shards/val-000000\.tar: no such file"):
        open_shards(URL, "val")
    obstore.delete(bucket, "some/prefix/manifest.parquet")
    with pytest.raises(ShardError, match="there is no such object"):
        open_shards(URL)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a",
        "s3://",
        "s3://user:secret@bucket/a",
        "s3://bucket/a?sig=secret",
        "s3://bucket/a#secret",
        "pipe:ls",
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ShardError, match="not the address of an object store") as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_what_a_store_says_is_not_repeated(bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise OSError("https://bucket.example/a?sig=secret")

    shards = open_shards(URL, "val")
    monkeypatch.setattr(obstore, "get_range", failing)
    with pytest.raises(ShardError, match="the store failed") as caught:
        shards.read(0, 0, ["s1"])
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
