"""The evaluation as a whole: what is judged, beside what, and that it says the same again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import NothingToJudge, TrainingError
from geossl_data.evaluation import bench as bench_module
from geossl_data.evaluation import probes
from geossl_data.evaluation.bench import Bench, Found, ProbeOptions
from geossl_data.evaluation.metrics import Share
from geossl_data.evaluation.probes import evaluate, exported, loaded, summed_up
from geossl_data.evaluation.scores import read_scores
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo, export_encoder, load_encoder
from geossl_data.pretrain.normalisation import normalisation

QUICK = ProbeOptions(k=5, seeds=1, supervised=False, device="cpu")


@pytest.fixture(scope="module")
def shards(toy: Any) -> Any:
    return toy.ToyShards({"train": 24, "val": 5, "test": 9}, n_looks=2, size=24)


def export(shards: Any, run: Path, *branches: str, seed: int = 7) -> Path:
    """A run with an encoder of other weights than the random ones for each branch."""
    for branch in branches:
        info = EncoderInfo(
            encoder="tiny",
            patch=8,
            normalisations=tuple(normalisation(shards.notes, shards.members, sensor) for sensor in branch.split("+")),
            objective="simclr",
            epochs=1,
        )
        export_encoder(
            run / "exported" / f"{branch}.safetensors", build_encoder("tiny", info.bands, seed=seed, patch=8), info
        )
    return run


@pytest.fixture(scope="module")
def run(shards: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(shards, tmp_path_factory.mktemp("runs") / "default", "s1", "s2")


def rows_of(scores: Any) -> list[tuple[str, str, str]]:
    return [(row.features, row.encoder, row.probe) for row in scores.scores if row.metric == "accuracy"]


def test_a_run_is_judged_beside_a_random_and_a_supervised_encoder(shards: Any, run: Path, tmp_path: Path) -> None:
    options = ProbeOptions(k=5, seeds=2, epochs=1, device="cpu")
    scores = evaluate(shards, exported(run), ["classification"], options, out=tmp_path)
    combinations = ("s1", "s2", "s1+s2")
    assert set(rows_of(scores)) == {
        ("none", "random", "majority class"),
        *((shown, kind, probe) for shown in combinations for kind in ("trained", "random") for probe in
          ("knn", "ridge", "linear")),
        *((shown, "supervised", "end-to-end") for shown in combinations),
    }  # fmt: skip
    for row in scores.scores:
        assert (row.n_train, row.n_test) == (24, 9)
        # What answers the same for every seed is asked once.
        once = row.probe == "majority class" or (row.encoder == "trained" and row.probe in ("knn", "ridge"))
        assert row.seeds == (1 if once else 2)
        interval = (row.low, row.value, row.high)
        assert all(end is not None and 0 <= end <= 1 for end in interval)
        assert list(interval) == sorted(interval, key=float)
    again = read_scores(tmp_path)
    assert again.scores == scores.scores
    assert again.facts["encoders"] == ["s1.safetensors", "s2.safetensors"]
    assert again.facts["places"] == {"train places": 24, "judged places": 9}
    assert again.facts["options"]["k"] == 5


def test_scores_repeat_whatever_was_kept(shards: Any, tmp_path: Path) -> None:
    run = export(shards, tmp_path / "run", "s1")
    options = ProbeOptions(k=5, seeds=1, epochs=1, device="cpu")
    one, two, three = (
        evaluate(shards, exported(run), ["classification"], options, out=tmp_path / name, cache=cache)
        for name, cache in (("1", None), ("2", tmp_path / "kept"), ("3", tmp_path / "kept"))
    )
    assert one.scores == two.scores == three.scores
    np.testing.assert_array_equal(one.replicates, three.replicates)
    assert (tmp_path / "1" / "scores.json").read_bytes() == (tmp_path / "3" / "scores.json").read_bytes()


def test_what_was_kept_is_not_made_again(
    shards: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make() -> dict[str, Any]:
        made.append("made")
        return {"x": np.arange(3)}

    def bench() -> Bench:
        return Bench(shards, loaded(exported(run), bench_module.torch.device("cpu")), QUICK, cache=tmp_path)

    first = bench()
    assert first.kept({"what": 1}, make)["x"].tolist() == [0, 1, 2]
    assert first.kept({"what": 1}, make)["x"].tolist() == [0, 1, 2]
    assert bench().kept({"what": 1}, make)["x"].tolist() == [0, 1, 2]
    assert made == ["made"]
    bench().kept({"what": 2}, make)
    assert len(made) == 2
    for path in tmp_path.glob("*.npz"):  # damaged: made again
        path.write_bytes(path.read_bytes()[:50])
    assert bench().kept({"what": 1}, make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 3


def test_each_look_is_read_once_for_all_encoders(
    shards: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    features = bench_module.features
    monkeypatch.setattr(
        bench_module,
        "features",
        lambda sights, shards, order, **more: read.append(len(order)) or features(sights, shards, order, **more),
    )
    options = ProbeOptions(k=5, seeds=2, supervised=False, device="cpu")
    evaluate(shards, exported(run), ["classification", "retrieval"], options, out=tmp_path)
    assert read == [66]


def test_encoders_side_by_side_see_what_each_sees_alone(shards: Any, run: Path) -> None:
    bench = Bench(shards, loaded(exported(run), bench_module.torch.device("cpu")), QUICK)
    rows = bench_module.Rows(
        index=np.array([3, 0, 3]),
        look=np.array([[1], [0], [0]]),
        place=np.array([3, 0, 3]),
        split=np.array(["train"] * 3),
    )
    both = bench.features("random", ("s1", "s2"), 0, rows)
    sight = bench.sight("random", ("s1", "s2"), 0)
    whole = bench_module.features({"x": sight}, shards, rows.order)["x"]
    np.testing.assert_allclose(both[:, 0], whole, atol=1e-6)
    assert both.shape == (3, 1, sight.embedding_dim)


def test_random_encoders_are_the_same_beside_every_run(shards: Any, run: Path, tmp_path: Path) -> None:
    """Their images are standardised by the shards' own statistics, whatever those of the run were."""
    other = tmp_path / "other" / "exported" / "s2.safetensors"
    own = normalisation(shards.notes, shards.members, "s2")
    shifted = type(own)(sensor="s2", bands=own.bands, mean=tuple(m + 50 for m in own.mean), std=own.std)
    info = EncoderInfo(encoder="tiny", patch=8, normalisations=(shifted,), objective="moco", epochs=1)
    export_encoder(other, build_encoder("tiny", info.bands, seed=3, patch=8), info)
    benches = [Bench(shards, [load_encoder(path)], QUICK) for path in (other, run / "exported" / "s2.safetensors")]
    random = [bench.sight("random", ("s2",), 0).digest for bench in benches]
    trained = [bench.sight("trained", ("s2",), 0).digest for bench in benches]
    assert random[0] == random[1]
    assert trained[0] != trained[1]


def found(value: float, seed: int, *, probe: str = "knn", name: str = "accuracy") -> Found:
    metric = Share(name=name, hits=np.array([value, value]), counts=np.ones(2))
    return Found(
        features="s2", encoder="random", probe=probe, metric=metric, fraction=1.0, seed=seed, n_train=2, n_test=2
    )


def test_seeds_are_summed_up_in_the_order_of_what_was_found() -> None:
    rows = summed_up("classification", [found(0.2, 0), found(0.9, 0, probe="ridge"), found(0.4, 1)], 0)
    assert [(row.probe, row.value, row.seeds) for row, _ in rows] == [("knn", 0.3, 2), ("ridge", 0.9, 1)]
    (knn, estimate), _ = rows
    assert (knn.low, knn.high) == (0.2, 0.4)  # places agree; seeds do not
    assert estimate.value == 0.3 or abs(estimate.value - 0.3) < 1e-12


def test_a_value_that_is_not_defined_is_none_in_the_file(tmp_path: Path) -> None:
    ((row, _),) = summed_up("events", [found(float("nan"), 0)], 0)
    assert (row.value, row.low, row.high) == (None, None, None)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["classify"], "no task 'classify'; there are classification, multilabel"),
        (["multilabel"], "more than one|several|class map|at most one"),
        (["segmentation"], "class maps"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    shards: Any, run: Path, tmp_path: Path, tasks: list[str], message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        evaluate(shards, exported(run), tasks, QUICK, out=tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "scores.json").exists()


def test_all_asks_what_the_labels_allow(shards: Any, run: Path, tmp_path: Path) -> None:
    scores = evaluate(shards, exported(run), ["all"], QUICK, out=tmp_path)
    assert scores.facts["tasks"] == ["classification", "retrieval", "cross-sensor", "geolocation"]
    assert {row.task for row in scores.scores} == set(scores.facts["tasks"])
    assert json.loads((tmp_path / "scores.json").read_text())["facts"]["tasks"] == scores.facts["tasks"]


def test_what_there_is_nothing_of_is_passed_over_and_nothing_else(
    shards: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing(bench: Bench) -> Any:
        raise NothingToJudge("nothing changed")
        yield

    def leaks(bench: Bench) -> Any:
        raise TrainingError("place 1 is in both")
        yield

    monkeypatch.setattr(probes, "possible", lambda bench: ("retrieval", "change"))
    monkeypatch.setitem(probes.TASKS, "change", nothing)
    scores = evaluate(shards, exported(run), ["all"], QUICK, out=tmp_path)
    assert scores.facts["tasks"] == ["retrieval"]
    assert "change is left out: nothing changed" in caplog.text
    assert evaluate(shards, exported(run), ["change", "retrieval"], QUICK, out=tmp_path).scores == scores.scores
    with pytest.raises(NothingToJudge, match="nothing changed"):
        evaluate(shards, exported(run), ["change"], QUICK, out=tmp_path)
    monkeypatch.setitem(probes.TASKS, "retrieval", nothing)
    with pytest.raises(NothingToJudge, match="nothing to judge by retrieval, change"):
        evaluate(shards, exported(run), ["all"], QUICK, out=tmp_path)
    monkeypatch.setitem(probes.TASKS, "change", leaks)
    with pytest.raises(TrainingError, match="is in both"):
        evaluate(shards, exported(run), ["all"], QUICK, out=tmp_path)


def test_two_encoders_of_one_sensor_are_refused(shards: Any, tmp_path: Path) -> None:
    run = export(shards, tmp_path, "s2", "s2+s1")
    with pytest.raises(TrainingError, match=r"are both encoders of s2, expected one"):
        evaluate(shards, exported(run), ["classification"], QUICK, out=tmp_path)


def test_a_run_without_encoders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no exported encoder; finish the run with `geossl pretrain`"):
        exported(tmp_path)


def test_a_joint_encoder_is_judged_with_each_sensor_and_with_both(shards: Any, tmp_path: Path) -> None:
    run = export(shards, tmp_path, "s2+s1")
    scores = evaluate(shards, exported(run), ["classification"], QUICK, out=tmp_path)
    assert {row.features for row in scores.scores} == {"none", "s1", "s2", "s1+s2"}
