"""Features: in the order given, read once for all, kept under all they depend on and never beyond it."""

import io
import logging
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.own_shards import trained
from pictures import numbers, write_raster

import geossl_data as gd
from geossl_data.errors import ShardError, TrainingError
from geossl_data.evaluation.features import features, stored
from geossl_data.evaluation.labels import change_maps_of, target_of
from geossl_data.evaluation.rows import looks_of, pairs_of, sides_of
from geossl_data.evaluation.sight import Sight, fresh, shown_by, sight_of

ORDER = [(3, 1), (0, 0), (3, 0), (1, 1), (2, 0)]


@pytest.fixture(scope="module")
def shards(toy: Any) -> Any:
    return toy.ToyShards({"train": 3, "test": 1}, n_looks=2, size=24)


@pytest.fixture
def sight(shards: Any) -> Sight:
    return sight_of([trained(shards, "s2")], shards, ("s2",))


class Counted:
    """How many looks were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shards: Any) -> None:
        self.looks = 0
        self._read = shards._files.read
        monkeypatch.setattr(shards._files, "read", self)

    def __call__(self, samples: np.ndarray, looks: np.ndarray, arrays: Any) -> None:
        self.looks += looks.size
        self._read(samples, looks, arrays)


def test_stored_members_come_in_the_order_given(shards: Any) -> None:
    parts = list(stored(shards, ORDER, ["s1", "s2_60m"], 2, device="cpu"))
    assert sorted(parts[0]) == ["index", "look", "s1", "s2_60m"]
    found = [(i, j) for part in parts for i, j in zip(part["index"].tolist(), part["look"].tolist(), strict=True)]
    assert found == ORDER
    radar = torch.cat([part["s1"] for part in parts]).numpy()
    assert np.array_equal(radar, np.stack([shards.arrays[i][j]["s1"] for i, j in ORDER]))
    assert list(stored(shards, [], ["s1"], 2, device="cpu")) == []
    with pytest.raises(ShardError, match="no member 'sar'"):
        next(stored(shards, ORDER, ["sar"], 2, device="cpu"))


def test_features_come_in_the_order_given_whatever_the_batch(shards: Any, sight: Sight) -> None:
    rows = [features({"x": sight}, shards, ORDER, batch_size=size)["x"] for size in (1, 2, 5)]
    assert (rows[0].shape, rows[0].dtype) == ((5, 16), np.float32)
    assert np.allclose(rows[0], rows[1], atol=1e-5)
    assert np.allclose(rows[0], rows[2], atol=1e-5)
    look = {name: torch.from_numpy(array[None]) for name, array in shards.arrays[3][0].items()}
    with torch.inference_mode():
        assert np.allclose(sight.embed(sight.images(look))[0].numpy(), rows[0][2], atol=1e-5)
    assert features({"x": sight}, shards, [])["x"].shape == (0, 16)
    assert features({}, shards, ORDER) == {}


def test_each_look_is_read_once_for_all(shards: Any, sight: Sight, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch, shards)
    both = sight_of([trained(shards, "s1"), trained(shards, "s2")], shards, ("s1", "s2"))
    found = features({"a": sight, "b": fresh(sight, 0), "c": both}, shards, ORDER, batch_size=2)
    assert counted.looks == len(ORDER)
    assert [values.shape for values in found.values()] == [(5, 16), (5, 16), (5, 32)]
    assert np.allclose(found["c"][:, 16:], found["a"], atol=1e-6)
    assert not np.allclose(found["b"], found["a"], atol=1e-2)


def test_encoders_in_training_go_on_training(shards: Any, sight: Sight) -> None:
    expected = features({"x": sight}, shards, ORDER)["x"]
    digest = sight.digest
    sight.train()
    assert np.array_equal(features({"x": sight}, shards, ORDER)["x"], expected)
    assert sight.training
    assert sight.digest == digest


def test_progress_counts_looks(shards: Any, sight: Sight) -> None:
    told: list[float] = []

    class Task:
        def advance(self, steps: float = 1, note: str | None = None) -> None:
            told.append(steps)

    @contextmanager
    def progress(description: str, total: float | None = None) -> Any:
        told.append(-(total or 0))
        yield Task()

    features({"x": sight}, shards, ORDER, batch_size=2, progress=progress)
    assert (told[0], sum(told[1:])) == (-5, 5)


def test_numbers_that_are_not_finite_are_refused(shards: Any, sight: Sight, tmp_path: Path) -> None:
    broken = fresh(sight, 0)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="features of x are not finite; its weights or statistics are of no use"):
        features({"x": broken}, shards, ORDER, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ the cache


def test_what_is_in_the_cache_is_not_computed_again(
    shards: Any, sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "made" / "when needed"
    plain = features({"x": sight}, shards, ORDER)["x"]
    first = features({"x": sight}, shards, ORDER, cache=cache)["x"]
    (file,) = cache.iterdir()
    before = file.read_bytes()
    counted = Counted(monkeypatch, shards)
    again = features({"x": sight_of([trained(shards, "s2")], shards, ("s2",))}, shards, ORDER, cache=cache)["x"]
    assert counted.looks == 0
    assert plain.tobytes() == first.tobytes() == again.tobytes()
    assert again.flags.writeable
    assert np.array_equal(np.load(file), plain)
    two = features({"y": fresh(sight, 0), "x": sight}, shards, ORDER, cache=cache)
    assert counted.looks == len(ORDER)
    assert list(two) == ["y", "x"]
    assert len(list(cache.iterdir())) == 2
    shutil.rmtree(cache)
    assert np.array_equal(features({"x": sight}, shards, ORDER, cache=cache)["x"], plain)
    assert file.read_bytes() == before


def changed_weights(shards: Any, sight: Sight, toy: Any) -> tuple[Sight, Any, Any]:
    with torch.no_grad():
        next(sight.parameters())[0, 0, 0, 1] += 0.5
    return sight, shards, ORDER


def changed_statistics(shards: Any, sight: Sight, toy: Any) -> tuple[Sight, Any, Any]:
    numbers = dict.fromkeys(sight.infos[0].bands.names, (2000.0, 900.0))
    return sight_of([trained(shards, "s2")], shards, ("s2",), statistics=numbers), shards, ORDER


def changed_order(shards: Any, sight: Sight, toy: Any) -> tuple[Sight, Any, Any]:
    return sight, shards, ORDER[::-1]


def fewer_looks(shards: Any, sight: Sight, toy: Any) -> tuple[Sight, Any, Any]:
    return sight, shards, ORDER[:4]


def changed_pixels(shards: Any, sight: Sight, toy: Any) -> tuple[Sight, Any, Any]:
    """The same recipe, run on other files."""
    other = toy.ToyShards({"train": 3, "test": 1}, n_looks=2, size=24, seed=1)
    other.notes["fingerprint"] = shards.notes["fingerprint"]
    return sight, other, ORDER


def other_recipe(shards: Any, sight: Sight, toy: Any) -> tuple[Sight, Any, Any]:
    other = toy.ToyShards({"train": 3, "test": 1}, n_looks=2, size=24)
    other.notes["fingerprint"] = "another"
    return sight, other, ORDER


@pytest.mark.parametrize(
    "change", [changed_weights, changed_statistics, changed_order, fewer_looks, changed_pixels, other_recipe]
)
def test_features_are_never_those_of_something_else(
    toy: Any, shards: Any, sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    features({"x": sight}, shards, ORDER, cache=tmp_path)
    sight, shards, order = change(shards, sight, toy)
    counted = Counted(monkeypatch, shards)
    found = features({"x": sight}, shards, order, cache=tmp_path)["x"]
    assert counted.looks == len(order)
    assert np.array_equal(found, features({"x": sight}, shards, order)["x"])
    assert len(list(tmp_path.iterdir())) == 2


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(bytes(data))


def another_array(file: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 16), np.float32))
    file.write_bytes(buffer.getvalue())


def of_another_sight(file: Path) -> None:
    shutil.copy(file.parent / "other" / next(iter((file.parent / "other").iterdir())), file)


@pytest.mark.parametrize("damage", [truncated, emptied, one_bit, another_array, of_another_sight])
def test_damaged_files_are_computed_again(
    shards: Any, sight: Sight, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    expected = features({"x": sight}, shards, ORDER, cache=tmp_path)["x"]
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    features({"x": fresh(sight, 0)}, shards, ORDER, cache=tmp_path / "other")
    damage(file)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(features({"x": sight}, shards, ORDER, cache=tmp_path)["x"], expected)
    assert "damaged; its features are computed again" in caplog.text
    assert file.read_bytes() == whole


def test_without_room_for_the_cache_the_work_goes_on(
    shards: Any, sight: Sight, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        found = features({"x": sight}, shards, ORDER, cache=tmp_path / "file")["x"]
    assert found.shape == (5, 16)
    assert "features are not kept for the next time" in caplog.text


# ------------------------------------------------------------------------------------------------ own images


def test_pictures_of_ones_own_are_seen_from_table_to_features(shards: Any, tmp_path: Path) -> None:
    lines = ["place,time,look,sensor,path,bands"]
    for place in range(6):
        for look in range(2):
            for sensor, count, names in (("s1", 1, "VV"), ("s2", 3, "B04 B03 B02")):
                path = f"{sensor}_{place}_{look}.png"
                write_raster(tmp_path / path, numbers(count, 16, 16, dtype="uint8", start=place * 50 + look * 7))
                lines.append(f"{place},,{look},{sensor},{path},{names}")
        write_raster(tmp_path / f"mask_{place}.png", (numbers(1, 16, 16, start=place) % 2 * 255).astype(np.uint8))
        lines.append(f"{place},,1,mask,mask_{place}.png,")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    gd.pipeline.shard(tmp_path / "data", gd.ShardOptions(from_table=str(tmp_path / "table.csv"), test=0.4, shard_mb=1))
    judged = [trained(shards, "s1"), trained(shards, "s2", "tiny-vit", "groups")]
    with gd.open_shards(tmp_path / "data") as own:
        assert shown_by([info for _, info in judged], own) == (("s1",), ("s2",), ("s1", "s2"))
        sight = sight_of(judged, own, ("s1", "s2"))
        assert sight.statistics == {"s1": "own", "s2": "own"}
        rows = looks_of(own, sight.members)
        assert len(sides_of(own, rows).test)
        found = features({"x": sight}, own, rows.order, cache=tmp_path / "cache")["x"]
        assert found.shape == (12, 32)
        assert len(np.unique(found.round(4), axis=0)) == 12
        pairs = pairs_of(own, sight.members, target=target_of(own, None))
        assert pairs.look.tolist() == [[0, 1]] * 6
        changed = change_maps_of(own, pairs, "mask").values
        masks = [own.read(index, 1, ["mask"])["mask"] > 0 for index in pairs.index.tolist()]
        assert np.array_equal(changed, np.stack(masks))
