"""Which looks are taken, and that their features are the encoder's own."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geossl_data.errors import TrainingError
from geossl_data.evaluation import features
from geossl_data.evaluation.rows import Rows
from geossl_data.pretrain.export import load_encoder
from geossl_data.report.runs.embedded import drawn, embedded, torch_is_installed

Exporting = Callable[[Any, Path, str], Path]


def rows(places: list[int], splits: list[str]) -> Rows:
    n = len(places)
    return Rows(index=np.arange(n), look=np.zeros((n, 1), np.int64), place=np.array(places), split=np.array(splits))


def test_judged_places_come_first_and_each_once_before_any_twice() -> None:
    given = rows([0, 0, 0, 1, 1, 2, 3, 3, 3, 3], ["train"] * 3 + ["test"] * 2 + ["val"] + ["test"] * 4)
    for seed in range(5):
        three = drawn(given, 3, seed=seed)
        assert sorted(three.place.tolist()) == [1, 2, 3]
        five = drawn(given, 5, seed=seed)
        assert sorted(five.place.tolist()) == [1, 1, 2, 3, 3]
        assert set(three.index.tolist()) <= set(five.index.tolist())
        assert drawn(given, 8, seed=seed).place.tolist().count(0) == 1
        assert drawn(given, 99, seed=seed).index.tolist() == given.index.tolist()


def test_a_seed_decides_which_looks_are_taken() -> None:
    given = rows(list(range(40)), ["test"] * 40)
    taken = [drawn(given, 5, seed=seed).index.tolist() for seed in (0, 0, 1)]
    assert taken[0] == taken[1] != taken[2]
    assert taken[0] == sorted(taken[0])


@pytest.mark.parametrize(("branch", "sensors"), [("s2", "s2"), ("s2+s1", "s1+s2")])
def test_features_are_what_the_encoder_answers(
    branch: str, sensors: str, shards: Any, exporting: Exporting, tmp_path: Path
) -> None:
    path = exporting(shards, tmp_path, branch)
    found = embedded(path, shards, looks=7, seed=0, cache=None)
    assert (found.sensors, found.x.shape, found.x.dtype) == (sensors, (7, 16), np.float32)
    assert set(found.rows.split.tolist()) == {"val", "test"}
    encoder, info = load_encoder(path)
    index, look = int(found.rows.index[3]), int(found.rows.look[3, 0])
    one = {name: array[None] for name, array in shards.read(index, look, info.members).items()}
    with torch.inference_mode():
        expected = encoder(*info.images(one))[0].numpy()
    np.testing.assert_allclose(found.x[3], expected, atol=1e-4)


def test_features_are_computed_once(
    shards: Any, exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exporting(shards, tmp_path, "s1")
    first = embedded(path, shards, looks=4, seed=0, cache=tmp_path / "features")
    monkeypatch.setattr(features, "_computed", None)
    again = embedded(path, shards, looks=4, seed=0, cache=tmp_path / "features")
    np.testing.assert_array_equal(first.x, again.x)


def test_an_encoder_of_other_bands_sees_nothing(dated: Any, exporting: Exporting, tmp_path: Path) -> None:
    path = exporting(dated({"test": 2}), tmp_path, "s1")
    others = dated({"test": 2})
    others.members = {name: member for name, member in others.members.items() if name != "s1"}
    with pytest.raises(TrainingError, match="no band of s1"):
        embedded(path, others, looks=4, seed=0, cache=None)


def test_torch_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_is_installed()
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not torch_is_installed()
