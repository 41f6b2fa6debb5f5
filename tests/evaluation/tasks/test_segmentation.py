"""Segmentation: every encoder is asked the same of the same looks, and what can be seen is found."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import TrainingError
from geossl_data.evaluation.tasks import dense
from geossl_data.evaluation.tasks.segmentation import segmentation

SPLITS = {"train": 6, "test": 4}


def visible(fakes: Any, *, n_looks: int = 1, size: int = 12, seed: int = 0) -> Any:
    """Places whose class maps, 1 and 3, are halves of a look; class 3 is far brighter in all Sentinel-2 bands."""
    rng = np.random.default_rng(seed)
    n = sum(SPLITS.values())
    maps = np.ones((n, n_looks, size, size))
    for place in range(n):
        maps[place, :, :, : rng.integers(3, size - 3)] = 3
    maps[:, :, 0, 0] = 0  # not known
    shards = fakes.Planet(SPLITS, n_looks=n_looks, size=size, maps=maps)
    for looks, own in zip(shards.arrays, maps, strict=True):
        for look, values in zip(looks, own, strict=True):
            for name, array in look.items():
                if name.startswith("s2"):
                    factor = size // array.shape[-1]
                    array[:] = 1500 + 1800 * (values[::factor, ::factor] == 3) + rng.integers(0, 200, array.shape)
    return shards


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch may be a single step."""
    monkeypatch.setattr(dense, "Settings", partial(dense.Settings, least_steps=1))


@pytest.mark.usefixtures("hasty")
def test_what_is_told_of_each_encoder(fakes: Any, real: Any) -> None:
    bench = real(visible(fakes), "s1", "s2", fractions=(0.5, 1.0))
    found = list(segmentation(bench))
    assert [one.metric.name for one in found[:4]] == ["mIoU", "IoU grain-1", "IoU grain-4", "pixel accuracy"]
    told = [(one.features, one.encoder, one.fraction, one.n_train) for one in found[::4]]
    assert told == [
        (features, encoder, fraction, places)
        for features in ("s1", "s2", "s1+s2")
        for encoder in ("trained", "random")
        for fraction, places in ((0.5, 3), (1.0, 6))
    ]
    assert {(one.probe, one.n_test, one.metric.groups, one.seed) for one in found} == {("decoder", 4, 4, 0)}


@pytest.mark.usefixtures("hasty")
def test_names_of_classes_are_those_of_the_shards(fakes: Any, real: Any) -> None:
    shards = visible(fakes)
    shards.notes["label_names"] = {"1": "water", "3": "forest"}
    names = [one.metric.name for one in segmentation(real(shards, "s2"))]
    assert names[:4] == ["mIoU", "IoU water", "IoU forest", "pixel accuracy"]


def test_training_with_the_labels_finds_what_can_be_seen(fakes: Any, real: Any) -> None:
    bench = real(visible(fakes), "s2", epochs=4, batch_size=8, supervised=True, finetune=True)
    before = {name: value.clone() for name, value in bench.sight("trained", ("s2",), 0).state_dict().items()}
    found = [one for one in segmentation(bench) if one.metric.name == "mIoU"]
    assert [(one.encoder, one.probe) for one in found] == [
        ("trained", "decoder"),
        ("random", "decoder"),
        ("trained", "fine-tune"),
        ("supervised", "end-to-end"),
    ]
    assert fakes.value(found[-1]) > 0.7
    for kind in ("trained", "random"):  # what was copied to be trained was a copy
        again = bench.sight(kind, ("s2",), 0).state_dict()
        if kind == "trained":
            assert all(bool((again[name] == value).all()) for name, value in before.items())
    digest = bench.sight("random", ("s2",), 0).digest
    bench._sights.clear()
    assert bench.sight("random", ("s2",), 0).digest == digest


@pytest.mark.usefixtures("hasty")
def test_what_was_learnt_once_is_kept(fakes: Any, real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = visible(fakes)
    first = fakes.values(list(segmentation(real(shards, "s2"))))
    calls = []
    learn = dense.learn
    monkeypatch.setattr(dense, "learn", lambda *arguments, **options: calls.append(1) or learn(*arguments, **options))
    assert fakes.values(list(segmentation(real(shards, "s2")))) == first
    assert calls == []
    list(segmentation(real(shards, "s2", epochs=2)))
    assert len(calls) == 2
    shards.arrays[0][0]["label"][5:, 5:] = 1  # other labels
    list(segmentation(real(shards, "s2")))
    assert len(calls) == 4


@pytest.mark.usefixtures("hasty")
def test_every_sensor_is_judged_by_the_same_looks(fakes: Any, real: Any) -> None:
    shards = visible(fakes, n_looks=2)
    shards.without(7, 0, "s1")
    shards.without(8, 0, "s1")
    shards.without(8, 1, "label")
    found = list(segmentation(real(shards, "s1", "s2")))
    assert {one.n_test for one in found} == {3}
    pixels = {one.metric.counts.sum() for one in found if one.metric.name == "pixel accuracy"}
    assert pixels == {5 * (144 - 1)}


def test_shards_without_maps_are_refused(fakes: Any, real: Any) -> None:
    with pytest.raises(TrainingError):
        next(segmentation(real(fakes.Planet(SPLITS), "s2")))
