"""What webdataset gives is what our own reader gives, pixel for pixel, and nothing is ever unpickled."""

import gc
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import ShardError
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, read_manifest
from geossl_data.shards.reading.adapter import decoder, web_dataset
from geossl_data.shards.reading.shards import open_shards

webdataset = pytest.importorskip("webdataset")
# webdataset leaves the closing of its files to the collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("codec", ["blosc", "npy", "archive"])
def test_plain_webdataset_reads_the_shards(
    tmp_path: Path, sample: Any, write_dataset: Callable[..., Any], codec: str
) -> None:
    write_dataset(tmp_path, [sample(number) for number in range(4)], codec=codec)
    url = str(tmp_path / SHARDS_FOLDER / "train-000000.tar")
    with open_shards(tmp_path) as shards:
        pipeline = webdataset.WebDataset(url, shardshuffle=False)
        if codec == "npy":
            found = list(pipeline.decode())  # as its documentation has it, without a word from us
        else:
            found = list(pipeline.decode(decoder(read_manifest(tmp_path / MANIFEST_NAME))))
        assert [one["__key__"] for one in found] == shards.keys
        for index, one in enumerate(found):
            assert one["json"] == shards.meta(index)
            for look in (0, 1):
                for name, array in shards.read(index, look).items():
                    field = f"{look}.{name}.{'npy' if codec == 'npy' else 'blosc'}"
                    np.testing.assert_array_equal(one[field], array)


def test_what_the_json_says_is_enough_to_decode(dataset: Path) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    url = str(dataset / SHARDS_FOLDER / "train-000000.tar")
    with open_shards(dataset, "train") as shards:
        for index, one in enumerate(webdataset.WebDataset(url, shardshuffle=False).decode(only=["json"], partial=True)):
            for name, described in one["json"]["members"].items():
                numbers = np.frombuffer(numcodecs.Blosc().decode(one[f"1.{name}.blosc"]), described["dtype"])
                stored = shards.read(index, 1, [name])[name]
                np.testing.assert_array_equal(numbers.reshape(described["shape"]), stored)
                values = numbers.reshape(described["shape"]) * described["scale"] + described["offset"]
                valid = numbers.reshape(described["shape"]) != described["nodata"]
                physical = shards.members[name].physical(stored)
                np.testing.assert_allclose(values[valid], physical[valid], rtol=1e-6)


@pytest.mark.parametrize("looks", ["each", "all"])
def test_the_adapter_gives_the_items_of_our_batches(dataset: Path, looks: Any) -> None:
    names = ("s2_10m", "s1")
    with open_shards(dataset, "train") as shards:
        ours = {}
        for batch in shards.batches(1, names, looks=looks, shuffle=None):
            key = (shards.keys[batch["index"][0]], batch["look"][0].tolist())
            ours[str(key)] = {name: batch[name][0] for name in names}
    theirs = list(web_dataset(dataset, "train", names, looks=looks))
    assert sorted(str((item["__key__"], np.asarray(item["look"]).tolist())) for item in theirs) == sorted(ours)
    for item in theirs:
        assert set(item) == {"__key__", "look", *names}
        for name in names:
            key = str((item["__key__"], np.asarray(item["look"]).tolist()))
            np.testing.assert_array_equal(item[name], ours[key][name])


def test_looks_that_lack_a_member_are_left_out(dataset: Path) -> None:
    with open_shards(dataset) as shards:
        labelled = {
            (entry.key, look)
            for entry in shards.entries
            for look in range(entry.n_looks)
            if "label" in entry.members[look]
        }
    found = web_dataset(dataset, members=["label"], shuffle=0)
    assert {(item["__key__"], item["look"]) for item in found} == labelled
    with pytest.raises(ShardError, match="no member 'dem'"):
        web_dataset(dataset, members=["dem"])


def test_the_order_is_that_of_the_seed(dataset: Path) -> None:
    def order(seed: int) -> list[Any]:
        return [(item["__key__"], item["look"]) for item in web_dataset(dataset, "train", ["scl"], seed=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == sorted(order(2))


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("name", ["0.s1.pyd", "0.s1.pickle", "0.s1.pth", "0.evil.blosc", "0.s1", "0.s1.npy"])
def test_nothing_is_unpickled(dataset: Path, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    tar = dataset / SHARDS_FOLDER / "train-000000.tar"
    with tarfile.open(tar, "w") as file:
        data = pickle.dumps(Bomb(marker))
        info = tarfile.TarInfo(f"key.{name}")
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))
    plain = webdataset.WebDataset(str(tar), shardshuffle=False)
    with pytest.raises(webdataset.autodecode.DecodingError) as caught:
        list(plain.decode(decoder(read_manifest(dataset / MANIFEST_NAME))))
    assert "no member of these shards" in str(caught.value.__cause__)
    if name.startswith("0.s1"):
        with pytest.raises(ShardError, match="no member of these shards"):
            list(web_dataset(dataset, "train", ["s1"], shuffle=0))
    assert not marker.exists()
