"""The loop: it learns, it goes on where it stopped, and it says what is wrong."""

import json
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain import two_ranks
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain import loop
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.build import build, method_of
from geossl_data.pretrain.checkpoint import load_checkpoint
from geossl_data.pretrain.export import load_encoder
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.loop import TrainingResult, train
from geossl_data.pretrain.objectives.registry import OBJECTIVES
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.options import TrainingOptions
from geossl_data.pretrain.published import PUBLISHED
from geossl_data.pretrain.rehearsal import overfit, rehearse
from geossl_data.pretrain.views import Draws
from geossl_data.recipe import PretrainOptions

SMALL = TrainingOptions(encoder="tiny", batch_size=8, crop=16, projection_dim=16, hidden_dim=16, device="cpu")
CLOCKS = ("images_per_s", "loader_wait_share", "step_s")


@pytest.fixture(scope="module")
def shards(toy: Any) -> Any:
    return toy.ToyShards({"train": 13, "test": 4}, n_looks=2, size=24)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_clock(run: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in metrics(run)]


class StopError(Exception):
    """Ends a run from outside."""


def at_step(steps: int, act: Any) -> Any:
    """A progress that acts when so many steps are done."""

    class Task:
        done = 0.0

        def advance(self, steps_done: float = 1, note: str | None = None) -> None:
            self.done += steps_done
            if self.done == steps and note is not None:
                act()

    @contextmanager
    def progress(description: str, total: float | None = None) -> Iterator[Any]:
        yield Task()

    return progress


def stop() -> None:
    raise StopError


def test_training_learns_what_the_sensors_share(toy: Any, tmp_path: Path) -> None:
    shards = toy.ToyShards({"train": 64}, n_looks=1, size=24)
    options = replace(SMALL, batch_size=16, crop=24, projection_dim=64, hidden_dim=64, epochs=30, learning_rate=3e-3)
    result = train(shards, tmp_path / "run", options)
    assert result.loss < 0.85 * math.log(16)  # a guess costs ln 16
    assert result.terms["top1"] > 3 / 16  # a guess finds 1 / 16
    assert 0.3 < result.terms["spread"] < 1.1


def test_a_run_leaves_metrics_a_checkpoint_and_encoders(shards: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(shards, run, replace(SMALL, epochs=2))
    assert (result.items, result.steps, result.trained) == (26, 6, True)
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == {
        "metrics.jsonl",
        "checkpoints/last.pt",
        *(f"exported/{sensor}.{kind}" for sensor in ("s1", "s2") for kind in ("safetensors", "md")),
    }
    lines = metrics(run)
    assert [(line["step"], line["epoch"]) for line in lines] == [(i, i // 3) for i in range(6)]
    names = {"step", "epoch", "loss", "spread", "top1", "lr", "grad_norm", *CLOCKS}
    assert all(set(line) == names for line in lines)
    assert result.loss == pytest.approx(sum(line["loss"] for line in lines[3:]) / 3)
    assert result.facts()["encoders"] == "s2.safetensors, s1.safetensors"
    encoder, info = load_encoder(run / "exported" / "s2.safetensors")
    assert (info.encoder, info.objective, info.epochs, info.channels) == ("tiny", "infonce", 2, 12)
    assert encoder.embedding_dim == 16


def test_the_same_seed_gives_the_same_bytes(shards: Any, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        train(shards, tmp_path / name, replace(SMALL, epochs=1, seed=seed))
    assert torch.equal(torch.get_rng_state(), before)
    assert without_clock(tmp_path / "a") == without_clock(tmp_path / "b")
    for path in ("checkpoints/last.pt", "exported/s1.safetensors", "exported/s2.safetensors"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert without_clock(tmp_path / "a") != without_clock(tmp_path / "c")


@pytest.mark.parametrize("case", [*OBJECTIVES, "simclr, geography"])
def test_nine_steps_and_eleven_more_are_twenty(toy: Any, tmp_path: Path, case: str) -> None:
    """Stopped by SIGTERM in the middle of an epoch, and gone on with."""
    many = case in ("seco", "caco")
    shards = toy.ToyShards({"train": 17 if many else 8}, n_looks=6 if many else 2, size=18, every_days=130)
    options = replace(two_ranks.options_of(case), batch_size=4, epochs=5)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(shards, whole, options).steps == 20
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        with pytest.raises(StopError):
            train(shards, stopped, options, progress=at_step(8, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(metrics(stopped)) == load_checkpoint(stopped / "checkpoints/last.pt", torch.device("cpu")).step == 9
    result = train(shards, stopped, options)
    assert result.trained
    assert without_clock(stopped) == without_clock(whole)
    ends = [load_checkpoint(run / "checkpoints/last.pt", torch.device("cpu")) for run in (stopped, whole)]
    torch.testing.assert_close(ends[0].model, ends[1].model, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(ends[0].optimizer, ends[1].optimizer, rtol=0, atol=0)
    for exported in (whole / "exported").glob("*.safetensors"):
        assert (stopped / "exported" / exported.name).read_bytes() == exported.read_bytes()


def test_a_crash_loses_what_came_after_the_last_checkpoint(shards: Any, tmp_path: Path) -> None:
    options = replace(SMALL, epochs=4, checkpoint_every=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(shards, whole, options)
    with pytest.raises(StopError):
        train(shards, stopped, options, progress=at_step(8, stop))  # in the third epoch of three steps
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "ep')  # cut short
    (stopped / "checkpoints" / ".last.pt.1.tmp").write_bytes(b"half")
    assert train(shards, stopped, options).trained
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["last.pt"]
    assert without_clock(stopped) == without_clock(whole)


def test_parts_of_a_step_are_the_step(shards: Any, tmp_path: Path) -> None:
    """Of steps as many, whatever the parts."""
    options = replace(SMALL, objective="mae", encoder="tiny-vit", epochs=2, learning_rate=1e-3)
    once = train(shards, tmp_path / "once", options)
    twice = train(shards, tmp_path / "twice", replace(options, accumulate=2))
    assert once.steps == twice.steps == 6
    assert len(metrics(tmp_path / "twice")) == 6
    assert metrics(tmp_path / "twice")[0]["loss"] == pytest.approx(metrics(tmp_path / "once")[0]["loss"], rel=0.2)


def test_a_finished_run_is_only_read(shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(shards, tmp_path, replace(SMALL, epochs=1))
    monkeypatch.setattr(loop.Loader, "__iter__", None)
    again = train(shards, tmp_path, replace(SMALL, epochs=1, device="auto", checkpoint_every=3))
    assert not again.trained
    assert (again.terms, again.steps, again.exported) == (first.terms, first.steps, first.exported)


def test_other_options_are_refused_and_fresh_starts_over(shards: Any, tmp_path: Path) -> None:
    train(shards, tmp_path / "run", replace(SMALL, epochs=1))
    with pytest.raises(TrainingError, match="trained with epochs 1, now 2; use --fresh or another --run"):
        train(shards, tmp_path / "run", replace(SMALL, epochs=2))
    result = train(shards, tmp_path / "run", replace(SMALL, epochs=2), resume=False)
    assert (result.trained, result.epochs) == (True, 2)


def test_other_shards_are_refused(toy: Any, shards: Any, tmp_path: Path) -> None:
    train(shards, tmp_path, replace(SMALL, epochs=1))
    other = toy.ToyShards({"train": 13}, n_looks=2, size=24, seed=9)
    with pytest.raises(TrainingError, match="shards 'toy-0', now 'toy-9'"):
        train(other, tmp_path, replace(SMALL, epochs=1))


def test_lost_metrics_are_told(shards: Any, tmp_path: Path) -> None:
    train(shards, tmp_path, replace(SMALL, epochs=1))
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 7}\n{"step": 2}\n')
    with pytest.raises(TrainingError, match="holds 1 of the checkpoint's 3 steps"):
        train(shards, tmp_path, replace(SMALL, epochs=1))


def test_only_the_train_split_is_trained_on(toy: Any, tmp_path: Path) -> None:
    shards = toy.ToyShards({"val": 9, "train": 5, "test": 8}, n_looks=2, size=24)
    assert train(shards, tmp_path, replace(SMALL, epochs=1)).items == 10


def test_a_batch_larger_than_the_data_is_lowered(toy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result: TrainingResult = train(toy.ToyShards({"train": 3}, size=24), tmp_path, replace(SMALL, epochs=1))
    assert (result.batch_size, result.steps) == (6, 1)
    assert "batch size lowered from 8 to 6, as there are 6 items" in caplog.text


@pytest.mark.parametrize(
    ("splits", "options", "message"),
    [
        ({"test": 4}, {}, "no place of the train split has a look of s2 and s1; sample more places"),
        ({"train": 1}, {"views": "season,sensor"}, "1 places to train on, at least 2 are needed"),
        ({"train": 4}, {"objective": "magic"}, "objective 'magic' is not one of infonce, simclr"),
        ({"train": 4}, {"encoder": "resnet11"}, "encoder 'resnet11' is not one of"),
        ({"train": 4}, {"crop": 25}, "crop 25 is larger than the places of 24 pixels"),
        ({"train": 4}, {"views": "augment,hue"}, "'hue' is not one of augment, season, sensor, long"),
        ({"train": 4}, {"sensors": "s2,s3"}, "sensors 's2,s3': these shards hold s2, s1; each once"),
        ({"train": 4}, {"sensors": "s2"}, "views of two sensors need two, not s2"),
        ({"train": 4}, {"objective": "simclr", "sensors": "s2,s1"}, "compare images of one encoder; add sensor"),
        ({"train": 4}, {"objective": "mae"}, "mae"),
        ({"train": 4}, {"objective": "caco"}, "sample with --looks long"),
        ({"train": 4}, {"accumulate": 3}, "batch size 8 does not split"),
        ({"train": 4}, {"embed": "groups"}, "tiny has no patches to embed by groups"),
    ],
)
def test_what_cannot_start_is_refused(
    toy: Any, tmp_path: Path, splits: dict[str, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as raised:
        train(toy.ToyShards(splits, size=24), tmp_path / "run", replace(SMALL, **options))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


class Own(nn.Module):
    """A user's own objective, without any base class."""

    looks = LookPlan()
    factor = 1.0

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"s2": nn.Conv2d(len(setup.bands["s2"]), 1, 1)})
        self.calls = 0

    def views(self, batch: Batch, draws: Draws) -> Any:
        return batch.images["s2"][:, 0]

    def forward(self, views: Any, batch: Batch) -> Outcome:
        self.calls += 1
        loss = self.encoders["s2"](views).square().mean()
        return Outcome(terms={"loss": loss, "regulariser": loss * (self.factor if self.calls == 3 else 1)})


def test_a_loss_that_is_not_finite_names_step_and_term(
    shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "own", Own)
    monkeypatch.setattr(Own, "factor", math.inf)
    with pytest.raises(TrainingError, match="step 2: term 'regulariser' is inf; images, weights and gradients are"):
        train(shards, tmp_path, replace(SMALL, objective="own", epochs=1))
    assert len(metrics(tmp_path)) == 2
    assert not (tmp_path / "exported").exists()


def test_collapse_is_reported(
    shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Collapsed(OBJECTIVES["infonce"]):  # type: ignore[misc, name-defined]
        def forward(self, views: Any, batch: Batch) -> Outcome:
            found = super().forward(views, batch)
            return replace(found, terms={**found.terms, "spread": torch.tensor(0.01)})

    monkeypatch.setitem(OBJECTIVES, "infonce", Collapsed)
    train(shards, tmp_path, replace(SMALL, epochs=1))
    assert "step 2: embeddings have collapsed: spread 0.0100" in caplog.text


def test_the_second_ctrl_c_acts_at_once(shards: Any, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path, replace(SMALL, epochs=2), progress=at_step(1, twice))
    assert not (tmp_path / "checkpoints" / "last.pt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_options_are_those_of_the_recipe() -> None:
    recipe = {name: info.default for name, info in PretrainOptions.model_fields.items() if name != "run"}
    own = {field.name: field.default for field in fields(TrainingOptions)}
    assert own == recipe
    assert set(PUBLISHED) == set(OBJECTIVES)


def test_what_is_left_open_is_as_published() -> None:
    byol = method_of(TrainingOptions(objective="byol"))
    assert (byol.optimizer, byol.peak(512), byol.weight_decay) == ("lars", 0.9, 1e-6)
    asked = method_of(TrainingOptions(objective="byol", optimizer="adamw", momentum=0.5, min_scale=0.4))
    assert (asked.optimizer, asked.peak(512), asked.momentum, asked.scale) == ("adamw", 2e-3, 0.5, (0.4, 1.0))
    assert method_of(TrainingOptions(objective="simclr", learning_rate=0.3)).peak(4096) == 0.3
    assert method_of(TrainingOptions(objective="simclr")).peak(4096) == pytest.approx(0.075 * 64)
    assert method_of(TrainingOptions(objective="dino", encoder="vit-small")).weight_decay_end == 0.4
    assert method_of(TrainingOptions(objective="dino", encoder="resnet50")).weight_decay_end is None


def test_a_rehearsal_tells_the_cost_and_writes_nothing(shards: Any, tmp_path: Path) -> None:
    facts = rehearse(shards, replace(SMALL, epochs=2))
    assert facts["encoder"] == "tiny on s2, tiny on s1"
    trained = sum(p.numel() for p in build(shards, SMALL).module.parameters())
    assert facts["parameters"] == f"{trained:,} trained, 0 averaged"
    assert facts["steps"] == "6 (3 an epoch)"
    assert "1 × A100 at" in facts["data rate"]
    assert list(tmp_path.iterdir()) == []


def test_learning_by_heart_says_whether_it_learned(shards: Any) -> None:
    simclr = replace(SMALL, objective="simclr", optimizer="adamw", crop=24, hidden_dim=64, learning_rate=1e-2)
    good = overfit(shards, simclr, steps=60)
    assert good["verdict"] == "it learns"
    bad = overfit(shards, replace(SMALL, learning_rate=1e-9), steps=6)
    assert bad["verdict"].startswith("it does not learn: the loss fell to")


@pytest.mark.parametrize(
    ("options", "compiled"),
    [({"encoder": "tiny"}, ["ResNet", "ResNet"]), ({"objective": "mae", "encoder": "tiny-vit"}, ["TransformerBlock"])],
)
def test_what_is_called_is_compiled(
    shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], compiled: list[str]
) -> None:
    """Masked modelling calls the blocks of its encoder, others the whole."""
    asked: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: asked.append(type(self).__name__))
    train(shards, tmp_path, replace(SMALL, epochs=1, compile=True, **options))
    assert asked == compiled
