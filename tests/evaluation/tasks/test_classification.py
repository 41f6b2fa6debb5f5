"""Classes of looks: what is separable is told apart, noise is a guess, labels are shared out by place."""

import logging
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
from evaluation.tasks.fakes import BOTH, FakeBench, Planet, separable, value, values

from geossl_data.errors import TrainingError
from geossl_data.evaluation.classifiers import swept_responses
from geossl_data.evaluation.learning import Settings
from geossl_data.evaluation.tasks import answers, classification, multilabel, retrieval
from geossl_data.evaluation.tasks.answers import side_by_side


@pytest.fixture
def planet() -> Planet:
    return Planet({"train": 40, "val": 6, "test": 24})


@pytest.fixture
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count what comes out, not how good it is."""
    monkeypatch.setattr(answers, "swept_responses", partial(swept_responses, epochs=2))
    monkeypatch.setattr(answers, "Settings", partial(Settings, least_steps=2))


def asked(task: Any, bench: FakeBench) -> list[Any]:
    return list(getattr(task, task.__name__.rpartition(".")[2])(bench))


def test_classes_that_stand_apart_are_told_and_noise_is_a_guess() -> None:
    planet = Planet({"train": 60, "test": 60})
    bench = FakeBench(planet, {("trained", "s2"): separable(planet.classes)}, seeds=2, fractions=(0.5, 1.0))
    found = asked(classification, bench)
    for probe in ("knn", "ridge", "linear"):
        assert set(values(found, encoder="trained", probe=probe)) == {1.0}
        guesses = values(found, encoder="random", probe=probe, metric="accuracy", fraction=1.0)
        assert len(guesses) == 2  # another random encoder for each seed
        assert all(0.1 < share < 0.4 for share in guesses)  # a quarter, of 120 looks
    assert values(found, probe="majority class") == [0.25] * 6


def test_what_is_the_same_for_every_seed_comes_once(planet: Planet, few_epochs: None) -> None:
    bench = FakeBench(planet, shown=BOTH, seeds=3, seed=5, fractions=(0.25, 1.0))
    found = [one for one in asked(classification, bench) if one.metric.name == "accuracy"]
    seeds = Counter((one.features, one.encoder, one.probe, one.fraction) for one in found)
    for features in ("s1", "s2", "s1+s2"):
        assert [seeds[features, "trained", probe, 1.0] for probe in ("knn", "ridge", "linear")] == [1, 1, 3]
        assert [seeds[features, "trained", probe, 0.25] for probe in ("knn", "ridge", "linear")] == [3, 3, 3]
        assert [seeds[features, "random", probe, 1.0] for probe in ("knn", "ridge", "linear")] == [3, 3, 3]
    assert seeds["none", "random", "majority class", 1.0] == 1
    assert seeds["none", "random", "majority class", 0.25] == 3
    assert {one.seed for one in found} == {5, 6, 7}
    assert {(one.fraction, one.n_train, one.n_test) for one in found} == {(0.25, 10, 24), (1.0, 40, 24)}


def test_all_that_is_shown_is_judged_by_the_looks_that_have_everything(planet: Planet) -> None:
    planet.without(0, 1, "s1")
    planet.without(50, 0, "s1")
    planet.without(50, 1, "s2_60m")
    question = classification.classes(FakeBench(planet, shown=BOTH))
    seen = set(question.sides.rows.order)
    assert (0, 0) in seen
    assert not seen & {(0, 1), (50, 0), (50, 1)}
    assert question.sides.groups == 23


def test_places_without_a_label_neither_teach_nor_judge(planet: Planet, few_epochs: None) -> None:
    labels = planet.classes
    labels[3], labels[60, 1] = 0, 0
    found = asked(classification, FakeBench(Planet({"train": 40, "val": 6, "test": 24}, labels=labels)))
    assert {(one.n_train, one.n_test) for one in found} == {(39, 24)}
    assert found[0].metric.counts.sum() == 47


def test_a_class_that_nobody_was_taught_counts_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    Taught(monkeypatch)  # knows the classes of all looks
    labels = np.array([[1], [1], [1], [2], [2], [1], [2], [3], [3]])
    planet = Planet({"train": 5, "test": 4}, n_looks=1, labels=labels)
    bench = FakeBench(planet, {("trained", "s2"): separable(labels, noise=0.01)}, k=1, seeds=1, supervised=True)
    found = [one for one in asked(classification, bench) if one.encoder != "random"]
    # Both looks of classes 1 and 2, none of class 3.
    for probe in ("knn", "ridge", "linear", "end-to-end"):
        assert values(found, probe=probe, metric="accuracy") == [0.5]
        assert values(found, probe=probe, metric="balanced accuracy") == [pytest.approx(2 / 3)]


def test_each_encoder_weighs_the_same_in_a_cosine(few_epochs: None) -> None:
    x = np.array([[3.0, 4.0, 100.0], [0.0, 1.0, -2.0]])
    np.testing.assert_allclose(side_by_side(x, (2, 1)), [[0.6, 0.8, 1.0], [0.0, 1.0, -1.0]])
    # The second encoder, ten times as loud, says nothing; the first tells the classes apart.
    planet = Planet({"train": 30, "test": 30}, n_looks=1)
    loud = 10 * np.random.default_rng(0).standard_normal((*planet.classes.shape, 4))
    table = np.concatenate([separable(planet.classes, noise=0.01), loud], axis=-1)
    apart, lumped = (
        values(
            asked(classification, FakeBench(planet, {("trained", "s2"): table}, parts=parts)),
            encoder="trained",
            probe="knn",
        )[0]
        for parts in ((5, 4), (9,))
    )
    assert apart > 0.9
    assert lumped < 0.5


@pytest.mark.parametrize(
    ("label", "message"), [(0, "no labels in these shards"), (2, "labels of one class alone in these shards")]
)
def test_looks_of_no_classes_are_refused(label: int, message: str) -> None:
    planet = Planet({"train": 4, "test": 4}, labels=np.full((8, 2), label))
    with pytest.raises(TrainingError, match=f"^{message}; classes need a catalog"):
        asked(classification, FakeBench(planet))


def test_looks_that_never_have_all_sensors_are_refused() -> None:
    planet = Planet({"train": 2, "test": 2}, n_looks=1)
    for place in range(4):
        planet.without(place, 0, "s1" if place % 2 else "s2_20m")
    with pytest.raises(TrainingError, match=r"no look has all of s2_10m, .*s1; evaluate an encoder of one sensor"):
        asked(classification, FakeBench(planet, shown=BOTH))


# ------------------------------------------------------------------------------------------------ end-to-end


class Taught:
    """In the place of training: answers and features that tell the classes of what it was taught, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[int, int]] = []
        self.targets = np.empty(0)
        monkeypatch.setattr(answers, "ImageHead", lambda sight, out: out)
        monkeypatch.setattr(answers, "learn", self.learn)
        monkeypatch.setattr(answers, "predict", self.predict)
        monkeypatch.setattr(answers, "features", self.features)

    def learn(self, sight: Any, out: int, shards: Any, rows: Any, train: Any, targets: Any, kind: str, settings: Any, **_: Any) -> None:  # fmt: skip # noqa: E501
        assert not settings.frozen
        self.calls.append((len(train), settings.seed))
        self.targets = targets

    def predict(self, sight: Any, out: int, shards: Any, rows: Any, positions: Any, kind: str, **_: Any) -> Any:
        wanted = self.targets[positions]
        return (np.eye(out)[wanted] if kind == "class" else wanted).astype(np.float32)

    def features(self, sights: Any, shards: Any, order: Any, **_: Any) -> dict[str, Any]:
        return {name: np.eye(16)[self.targets] for name in sights}


def test_encoders_trained_with_the_labels_are_judged_beside(
    planet: Planet, few_epochs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = Taught(monkeypatch)
    bench = FakeBench(planet, supervised=True, seeds=2, fractions=(0.25, 1.0))
    found = [one for one in asked(classification, bench) if one.encoder == "supervised"]
    assert {(one.probe, one.features) for one in found} == {("end-to-end", "s2")}
    assert [(one.fraction, one.seed, one.n_train) for one in found[::2]] == [
        (0.25, 0, 10),
        (0.25, 1, 10),
        (1.0, 0, 40),
        (1.0, 1, 40),
    ]
    assert [value(one) for one in found] == [1.0] * 8
    assert taught.calls == [(20, 0), (20, 1), (80, 0), (80, 1)]


def test_what_was_trained_for_classes_is_asked_for_looks_of_a_class(
    planet: Planet, few_epochs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = Taught(monkeypatch)
    bench = FakeBench(planet, supervised=True, seeds=2)
    asked(classification, bench)
    before = len(taught.calls)
    found = [one for one in asked(retrieval, bench) if one.encoder == "supervised"]
    assert [(one.metric.name, one.seed, value(one)) for one in found] == [
        (name, seed, 1.0) for seed in (0, 1) for name in ("mAP", "AP@10")
    ]
    assert len(taught.calls) == before == 2


# ------------------------------------------------------------------------------------------------ looks of a class


def test_looks_of_a_class_are_found_and_noise_is_a_guess() -> None:
    planet = Planet({"train": 60, "test": 40})
    found = asked(retrieval, FakeBench(planet, {("trained", "s2"): separable(planet.classes)}, seeds=2))
    assert [(one.metric.name, value(one)) for one in found[:2]] == [("mAP", 1.0), ("AP@10", 1.0)]
    guesses = values(found, encoder="random")
    assert len(guesses) == 4
    assert all(0.2 < share < 0.33 for share in guesses)  # a quarter of the gallery is relevant
    assert {(one.n_train, one.n_test, one.fraction, one.probe) for one in found} == {(60, 40, 1.0, "cosine")}


def test_a_place_that_looks_like_itself_finds_no_class() -> None:
    planet = Planet({"train": 40, "test": 40})
    rng = np.random.default_rng(0)
    of_place = np.repeat(rng.standard_normal((80, 1, 32)), 2, axis=1) + 0.01 * rng.standard_normal((80, 2, 32))
    found = asked(retrieval, FakeBench(planet, {("trained", "s2"): of_place}, seeds=1))
    assert values(found, encoder="trained", metric="mAP")[0] < 0.35


def test_queries_without_anything_to_find_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.array([[1, 1], [2, 2], [1, 1], [3, 3], [2, 3]])
    planet = Planet({"train": 2, "test": 3}, labels=labels)
    bench = FakeBench(planet, {("trained", "s2"): separable(labels)}, seeds=1)
    with caplog.at_level(logging.WARNING):
        found = asked(retrieval, bench)
    assert "3 of 6 queries are left out: no train look has their class" in caplog.text
    assert found[0].metric.counts.tolist() == [2, 0, 1]  # every place stays, so that replicates pair
    assert value(found[0]) == 1.0


def test_classes_that_no_train_look_has_cannot_be_found() -> None:
    planet = Planet({"train": 2, "test": 2}, n_looks=1, labels=np.array([[1], [1], [2], [3]]))
    with pytest.raises(TrainingError, match="none of the classes of the 2 judged looks is among the train looks"):
        asked(retrieval, FakeBench(planet))


# ------------------------------------------------------------------------------------------------ several classes


def two_halves(rng: np.random.Generator, places: int) -> np.ndarray:
    """Class maps (places, 2, 6, 6): the upper half of one of classes 1 to 3, the lower of another."""
    halves = rng.integers(1, 4, (places, 2, 2))
    return np.repeat(halves, 3, axis=2)[..., None].repeat(6, axis=3)


def test_sets_of_classes_are_told_and_noise_is_their_share() -> None:
    maps = two_halves(np.random.default_rng(0), 120)
    planet = Planet({"train": 60, "test": 60}, maps=maps)
    sets = np.stack([(maps == number).any(axis=(2, 3)) for number in (1, 2, 3)], axis=-1)
    table = sets + 0.05 * np.random.default_rng(1).standard_normal(sets.shape)
    found = asked(multilabel, FakeBench(planet, {("trained", "s2"): table}, seeds=1))
    assert {one.metric.name for one in found} == {"mAP"}
    trained, guessed = (
        {one.probe: value(one) for one in found if one.encoder == kind} for kind in ("trained", "random")
    )
    assert all(share > 0.99 for share in trained.values())
    assert set(trained) == {"knn", "ridge", "linear"}
    share = sets[60:].mean()
    assert all(abs(got - share) < 0.12 for got in guessed.values())


def test_a_class_that_nobody_was_taught_scores_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    Taught(monkeypatch)  # knows the classes of all looks
    maps = np.full((8, 1, 6, 6), 1)
    maps[:4, :, :3], maps[4:6, :, :3] = 2, 3  # train: 1 and 2; of four judged looks two have class 3
    planet = Planet({"train": 4, "test": 4}, n_looks=1, maps=maps)
    found = asked(multilabel, FakeBench(planet, seeds=1, k=2, supervised=True))
    # Classes 1 (everywhere) and 3; class 4 never occurs, and class 2 has no positives among the judged.
    assert {value(one) for one in found} == {(1.0 + 0.5) / 2}


def test_sets_are_told_end_to_end(few_epochs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Taught(monkeypatch)
    maps = two_halves(np.random.default_rng(0), 20)
    bench = FakeBench(Planet({"train": 12, "test": 8}, maps=maps), seeds=1, supervised=True)
    assert values(asked(multilabel, bench), encoder="supervised") == [1.0]
    assert taught.calls == [(24, 0)]


def test_looks_of_one_class_each_have_no_sets(planet: Planet) -> None:
    with pytest.raises(TrainingError, match="have at most one class each; several need a class map, or names"):
        asked(multilabel, FakeBench(planet))


# ------------------------------------------------------------------------------------------------ real encoders


def test_real_encoders_are_asked(real: Any, few_epochs: None) -> None:
    maps = np.kron(two_halves(np.random.default_rng(0), 9), np.ones((4, 4)))
    planet = Planet({"train": 5, "test": 4}, size=24, maps=maps)
    bench = real(planet, "s2", supervised=True)
    for task, count in ((classification, 2 * (1 + 3 + 3 + 1)), (retrieval, 2 * 3), (multilabel, 3 + 3 + 1)):
        found = asked(task, bench)
        assert len(found) == count
        assert all(0 <= value(one) <= 1 for one in found)
    # Features and what was trained come back from the files of the first time.
    again = asked(retrieval, real(planet, "s2", supervised=True))
    assert [value(one) for one in again] == [value(one) for one in asked(retrieval, bench)]
