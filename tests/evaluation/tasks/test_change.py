"""Change between two looks: rare pixels are found, and what cannot be judged is refused."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import TrainingError
from geossl_data.evaluation.tasks import dense
from geossl_data.evaluation.tasks.change import change

SPLITS = {"train": 8, "test": 4}
SIZE = 12


def changing(fakes: Any, *, planted: tuple[str, ...] = ("train", "test")) -> Any:
    """Places of one class; years later a patch of it is another, far brighter, in half the places of the splits."""
    rng = np.random.default_rng(1)
    n = sum(SPLITS.values())
    maps = np.ones((n, 2, SIZE, SIZE))
    split_of = [split for split, count in SPLITS.items() for _ in range(count)]
    for place in range(0, n, 2):
        row, column = rng.integers(0, SIZE - 4, 2)
        if split_of[place] in planted:
            maps[place, 1, row : row + 4, column : column + 4] = 2
    shards = fakes.Planet(SPLITS, n_looks=2, size=SIZE, maps=maps, days=np.tile([7000.0, 7000.0 + 2 * 365.25], (n, 1)))
    for looks, own in zip(shards.arrays, maps, strict=True):
        for look, values in zip(looks, own, strict=True):
            for name, array in look.items():
                if name.startswith("s2"):
                    factor = SIZE // array.shape[-1]
                    array[:] = 1500 + 2500 * (values[::factor, ::factor] == 2) + rng.integers(0, 300, array.shape)
    return shards


def test_what_is_told_of_each_encoder(fakes: Any, real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "Settings", partial(dense.Settings, least_steps=1))
    found = list(change(real(changing(fakes), "s1", "s2", seeds=2)))
    assert [one.metric.name for one in found[:4]] == ["F1", "precision", "recall", "IoU changed"]
    told = [(one.features, one.encoder, one.probe, one.seed) for one in found[::4]]
    assert told == [
        (features, encoder, "decoder", seed)
        for features in ("s1", "s2", "s1+s2")
        for encoder in ("trained", "random")
        for seed in (0, 1)
    ]
    assert {(one.n_train, one.n_test, one.metric.groups) for one in found} == {(8, 4, 4)}


def test_rare_change_is_found(fakes: Any, real: Any) -> None:
    bench = real(changing(fakes), "s2", epochs=6, supervised=True)
    found = list(change(bench))
    (share,) = {float(one.metric.confusion[:, 1].sum() / one.metric.confusion.sum()) for one in found}
    assert share < 0.06
    assert fakes.values(found, encoder="random", metric="recall")[0] > 0.5
    assert fakes.values(found, encoder="supervised", metric="F1")[0] > 0.4


@pytest.mark.parametrize("split", ["train", "test"])
def test_where_nothing_changed_there_is_nothing_to_judge(fakes: Any, real: Any, split: str) -> None:
    shards = changing(fakes, planted=tuple(other for other in SPLITS if other != split))
    with pytest.raises(TrainingError, match=f"no pixel of label changed between two looks of a place of the {split}"):
        next(change(real(shards, "s2")))
