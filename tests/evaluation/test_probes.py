"""Probes: values worked by hand, brute force and least squares as oracles, and no place on both sides."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.evaluation import probes
from geossl_data.evaluation.probes import (
    accuracy,
    balanced_accuracy,
    evaluate,
    knn_accuracy,
    knn_predictions,
    linear_predictions,
    linear_probe,
)
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo, export_encoder, load_encoder
from geossl_data.pretrain.normalisation import normalisation


def test_votes_worked_by_hand() -> None:
    train_x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0], [-1.0, 0.0]])
    train_y = np.array([5, 9, 9, 7])
    test_x = np.array([[0.8, 0.6]])  # cosines 0.8, 0.6, 0.6, -0.8
    # e^0.8 < 2 e^0.6 at temperature 1; e^8 > 2 e^6 at temperature 0.1.
    assert knn_predictions(train_x, train_y, test_x, k=3, temperature=1.0).tolist() == [9]
    assert knn_predictions(train_x, train_y, test_x, k=3, temperature=0.1).tolist() == [5]
    assert knn_predictions(train_x, train_y, test_x, k=1).tolist() == [5]
    assert knn_predictions(train_x, train_y, test_x, k=100, temperature=1.0).tolist() == [9]


def by_loops(train_x: Any, train_y: Any, test_x: Any, k: int, temperature: float) -> list[int]:
    found = []
    for row in test_x:
        cosines = [float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)) for other in train_x]
        nearest = sorted(range(len(train_x)), key=lambda i: -cosines[i])[:k]
        votes: dict[int, float] = {}
        for i in nearest:
            votes[int(train_y[i])] = votes.get(int(train_y[i]), 0.0) + np.exp(cosines[i] / temperature)
        found.append(max(sorted(votes), key=lambda label: votes[label]))
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 12))
def test_neighbours_agree_with_loops(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    train_x, test_x = rng.standard_normal((9, 3)), rng.standard_normal((5, 3))
    train_y = rng.integers(1, 4, 9)
    predicted = knn_predictions(train_x, train_y, test_x, k=k, temperature=0.2)
    assert predicted.tolist() == by_loops(train_x, train_y, test_x, k, 0.2)


def test_many_test_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train_x, train_y, test_x = rng.standard_normal((20, 4)), rng.integers(0, 3, 20), rng.standard_normal((11, 4))
    whole = knn_predictions(train_x, train_y, test_x, k=5)
    monkeypatch.setattr(probes, "CHUNK", 3)
    assert knn_predictions(train_x, train_y, test_x, k=5).tolist() == whole.tolist()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), alpha=st.floats(1e-3, 10))
def test_the_ridge_agrees_with_least_squares(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    n, d = 30, 5
    train_x, test_x = rng.standard_normal((n, d)) * 3 + 7, rng.standard_normal((12, d)) * 3 + 7
    train_y = rng.integers(2, 5, n)
    train_y[:3] = [2, 3, 4]
    # The penalty written as rows of data: √(alpha n) on the diagonal, aimed at zero.
    x = (train_x - train_x.mean(0)) / train_x.std(0)
    y = (train_y[:, None] == np.array([2, 3, 4])).astype(float)
    rows = np.vstack([x, np.sqrt(alpha * n) * np.eye(d)])
    weights = np.linalg.lstsq(rows, np.vstack([y - y.mean(0), np.zeros((d, 3))]), rcond=None)[0]
    response = (test_x - train_x.mean(0)) / train_x.std(0) @ weights + y.mean(0)
    expected = np.array([2, 3, 4])[response.argmax(1)]
    assert linear_predictions(train_x, train_y, test_x, alpha=alpha).tolist() == expected.tolist()


def test_a_line_worked_by_hand() -> None:
    train_x, train_y = np.array([[0.0, 4.0], [2.0, 4.0]]), np.array([1, 2])  # the second feature says nothing
    test_x = np.array([[0.9, 4.0], [1.1, -100.0]])
    assert linear_predictions(train_x, train_y, test_x, alpha=0.5).tolist() == [1, 2]
    assert linear_probe(train_x, train_y, test_x, np.array([1, 1]), alpha=0.5) == 0.5


def test_accuracies_worked_by_hand() -> None:
    predicted, truth = np.array([1, 1, 1, 2, 3]), np.array([1, 1, 1, 2, 2])
    assert accuracy(predicted, truth) == 0.8
    assert balanced_accuracy(predicted, truth) == 0.75
    assert balanced_accuracy(np.array([1, 1, 1, 1, 1]), truth) == 0.5


def test_classes_apart_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([1, 2, 3], 20)
    x = np.eye(3)[y - 1] * 5 + rng.standard_normal((60, 3))
    assert knn_accuracy(x[::2], y[::2], x[1::2], y[1::2], k=5) > 0.95
    assert linear_probe(x[::2], y[::2], x[1::2], y[1::2]) > 0.95


@pytest.fixture(scope="module")
def shards(toy: Any) -> Any:
    return toy.ToyShards({"train": 24, "val": 5, "test": 9}, n_looks=2, size=24)


def export(shards: Any, run: Path, *branches: str, encoder: str = "tiny", embed: str = "plain") -> Path:
    """A run with an encoder of other weights than the random ones for each branch."""
    for branch in branches:
        sensors = branch.split("+")
        info = EncoderInfo(
            encoder=encoder,
            patch=8,
            embed=embed,
            normalisations=tuple(normalisation(shards.notes, shards.members, sensor) for sensor in sensors),
            objective="simclr",
            epochs=1,
        )
        module = build_encoder(encoder, info.bands, seed=7, patch=8, embed=embed)
        export_encoder(run / "exported" / f"{branch}.safetensors", module, info)
    return run


@pytest.fixture(scope="module")
def run(shards: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(shards, tmp_path_factory.mktemp("runs") / "default", "s1", "s2")


@pytest.fixture(scope="module")
def joint(shards: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(shards, tmp_path_factory.mktemp("runs") / "joint", "s2+s1")


def test_features_come_in_the_order_given_whatever_the_batch(shards: Any) -> None:
    own = normalisation(shards.notes, shards.members, "s2")
    encoder = build_encoder("tiny", 12, seed=0)
    eye = probes.Eye(encoder=encoder, normalisations=(own,), shown=("s2",))
    order = [(3, 1), (0, 0), (3, 0), (7, 1), (2, 0)]
    rows = [probes.features({"x": eye}, shards, order, batch_size=size)["x"] for size in (1, 2, 5)]
    assert rows[0].shape == (5, encoder.embedding_dim)
    assert rows[0].dtype == np.float32
    assert np.allclose(rows[0], rows[1], atol=1e-5)
    assert np.allclose(rows[0], rows[2], atol=1e-5)
    images = own.apply({name: array[None] for name, array in shards.arrays[7][1].items()}, torch.device("cpu"))
    with torch.inference_mode():
        assert np.allclose(encoder.eval()(images)[0].numpy(), rows[0][3], atol=1e-5)


@pytest.mark.parametrize(("encoder", "embed"), [("tiny", "plain"), ("tiny-vit", "groups")])
def test_a_joint_encoder_sees_all_its_sensors_or_some(shards: Any, tmp_path: Path, encoder: str, embed: str) -> None:
    run = export(shards, tmp_path, "s2+s1", encoder=encoder, embed=embed)
    module, info = load_encoder(run / "exported" / "s2+s1.safetensors")
    for shown in (("s1",), ("s2",), ("s2", "s1")):
        eye = probes.Eye(encoder=module, normalisations=info.normalisations, shown=shown)
        row = probes.features({"x": eye}, shards, [(2, 1)])["x"][0]
        look = {name: array[None] for name, array in shards.arrays[2][1].items()}
        with torch.inference_mode():
            assert np.allclose(module(*info.images(look, sensors=shown))[0].numpy(), row, atol=1e-5)


def test_encoders_that_expect_different_statistics_are_refused(shards: Any) -> None:
    own = normalisation(shards.notes, shards.members, "s1")
    other = replace(own, mean=(0.0, 0.0))
    encoder = build_encoder("tiny", 2, seed=0)
    eyes = {str(i): probes.Eye(encoder=encoder, normalisations=(n,), shown=("s1",)) for i, n in enumerate((own, other))}
    with pytest.raises(TrainingError, match="expect different statistics"):
        probes.features(eyes, shards, [(0, 0)])


def test_a_run_is_scored_beside_a_random_encoder(shards: Any, run: Path) -> None:
    scores = evaluate(shards, run, k=5, device="cpu")
    assert [(row.features, row.encoder) for row in scores.scores] == [
        (features, encoder) for features in ("s1", "s2", "s1+s2") for encoder in ("trained", "random")
    ]
    assert (scores.n_train, scores.n_test, scores.test_split) == (48, 18, "test")
    assert scores.classes == {"grain-1": 6, "grain-2": 4, "grain-4": 4, "grain-8": 4}
    assert scores.majority == pytest.approx(6 / 18)
    assert all(0 <= value <= 1 for row in scores.scores for value in (row.knn, row.linear, row.knn_balanced))
    stored = json.loads((run / "scores.json").read_text())
    assert stored["scores"][3]["linear"] == scores.scores[3].linear
    assert scores.table()[0] == ("features", "encoder", "kNN", "kNN balanced", "linear", "linear balanced")
    assert len(scores.table()) == 7
    assert scores.facts()["test looks"] == 18


def test_scores_repeat(shards: Any, run: Path) -> None:
    assert evaluate(shards, run, device="cpu") == evaluate(shards, run, device="cpu", batch_size=64)


def test_a_run_of_one_sensor_has_one_pair_of_rows(shards: Any, tmp_path: Path) -> None:
    run = export(shards, tmp_path, "s2")
    assert [row.features for row in evaluate(shards, run, device="cpu").scores] == ["s2", "s2"]


def test_a_joint_run_is_scored_with_each_sensor_and_with_both(
    shards: Any, joint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[dict[str, np.ndarray]] = []
    features = probes.features
    monkeypatch.setattr(probes, "features", lambda *args, **kw: taken.append(features(*args, **kw)) or taken[-1])
    scores = evaluate(shards, joint, k=5, device="cpu")
    assert [(row.features, row.encoder) for row in scores.scores] == [
        (features, encoder) for features in ("s1", "s2", "s1+s2") for encoder in ("trained", "random")
    ]
    (found,) = taken
    assert {rows.shape for rows in found.values()} == {(66, 16)}  # both in one embedding, not side by side
    both = found["trained s1+s2"]
    predicted = knn_predictions(both[:48], labels(shards, "train"), both[48:], k=5)
    assert scores.scores[4].knn == accuracy(predicted, labels(shards, "test"))


def labels(shards: Any, split: str) -> np.ndarray:
    return np.array([label for entry in shards.entries if entry.split == split for label in entry.labels])


def test_two_encoders_of_one_sensor_are_refused(shards: Any, tmp_path: Path) -> None:
    run = export(shards, tmp_path, "s2", "s2+s1")
    with pytest.raises(TrainingError, match="holds 2 encoders of s2, expected one; use --fresh"):
        evaluate(shards, run, device="cpu")


def test_val_judges_where_there_is_no_test_split(toy: Any, run: Path) -> None:
    scores = evaluate(toy.ToyShards({"train": 8, "val": 6}, size=24), run, device="cpu")
    assert (scores.test_split, scores.n_test) == ("val", 12)
    assert "val looks" in scores.facts()


def test_looks_without_a_label_do_not_count(toy: Any, run: Path) -> None:
    shards = toy.ToyShards({"train": 8, "test": 6}, size=24)
    object.__setattr__(shards.entries[0], "labels", (0, 2))
    object.__setattr__(shards.entries[9], "labels", (0, 0))
    scores = evaluate(shards, run, device="cpu")
    assert (scores.n_train, scores.n_test) == (15, 10)


def moved(entry: Any, other: Any) -> None:
    for name in ("lon", "lat"):
        object.__setattr__(entry, name, getattr(other, name))


def in_the_block_of(entry: Any, other: Any) -> None:
    object.__setattr__(entry, "block", other.block)


@pytest.mark.parametrize(("change", "what"), [(moved, "place"), (in_the_block_of, "block")])
def test_ground_on_both_sides_is_refused(toy: Any, run: Path, change: Any, what: str) -> None:
    shards = toy.ToyShards({"train": 8, "test": 6}, size=24)
    change(shards.entries[10], shards.entries[2])
    with pytest.raises(TrainingError, match=rf"^{what} .* is in both the train split and the judged split"):
        evaluate(shards, run, device="cpu")


def without_labels(shards: Any) -> None:
    for entry in shards.entries:
        object.__setattr__(entry, "labels", (0,) * entry.n_looks)


@pytest.mark.parametrize(
    ("splits", "change", "message"),
    [
        ({"train": 4, "test": 4}, without_labels, "no labels in these shards; the probes need a catalog"),
        ({"train": 4}, copy.copy, "no labelled looks in the test or val split; sample again with other --test"),
        ({"test": 4}, copy.copy, "no labelled looks in the train split"),
    ],
)
def test_shards_that_cannot_be_probed_are_refused(
    toy: Any, run: Path, splits: dict[str, int], change: Any, message: str
) -> None:
    shards = toy.ToyShards(splits, size=24)
    change(shards)
    with pytest.raises(TrainingError, match=message):
        evaluate(shards, run, device="cpu")


def test_a_run_without_encoders_is_refused(shards: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no exported encoder; finish the run with `geossl pretrain`"):
        evaluate(shards, tmp_path, device="cpu")
