"""The loop: it learns, it goes on where it stopped, and it says what is wrong."""

import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain import loop
from geossl_data.pretrain.checkpoint import load_checkpoint, load_encoder
from geossl_data.pretrain.loop import TrainingResult, learning_rate_at, train

SMALL: dict[str, Any] = {"encoder": "tiny", "batch_size": 8, "crop": 12, "projection_dim": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def shards(toy: Any) -> Any:
    return toy.ToyShards({"train": 13, "test": 4}, n_looks=2, size=24)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_clock(run: Path) -> list[dict[str, Any]]:
    clocks = ("images_per_s", "loader_wait_share")
    return [{name: value for name, value in line.items() if name not in clocks} for line in metrics(run)]


class StopError(Exception):
    """Ends a run from outside, as a signal would."""


def stopping_after(steps: int) -> Any:
    class Task:
        done = 0

        def advance(self, steps_done: float = 1, note: str | None = None) -> None:
            self.done += 1
            if self.done > steps:  # the first call tells what was done before
                raise StopError

    @contextmanager
    def progress(description: str, total: float | None = None) -> Iterator[Any]:
        yield Task()

    return progress


def test_the_learning_rate_worked_by_hand() -> None:
    rates = [learning_rate_at(step, 8, peak=1.0, warmup=0.25) for step in range(8)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[5] == pytest.approx(0.5)  # half-way down
    assert rates[7] == pytest.approx((1 + math.cos(5 * math.pi / 6)) / 2)


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.99), peak=st.floats(1e-6, 1))
def test_the_learning_rate_rises_once_and_falls_once(steps: int, warmup: float, peak: float) -> None:
    rates = [learning_rate_at(step, steps, peak=peak, warmup=warmup) for step in range(steps)]
    assert all(0 < rate <= peak for rate in rates) or round(warmup * steps) == steps
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_training_learns_what_the_sensors_share(toy: Any, tmp_path: Path) -> None:
    shards = toy.ToyShards({"train": 64}, n_looks=1, size=24)
    options = SMALL | {"batch_size": 16, "crop": 24}
    result = train(shards, tmp_path / "run", **options, epochs=30, learning_rate=3e-3)
    assert result.loss < 0.85 * math.log(16)  # a guess costs ln 16
    assert result.top1 > 3 / 16  # a guess finds 1 / 16
    assert 0.3 < result.spread < 1.1


def test_a_run_leaves_metrics_a_checkpoint_and_encoders(shards: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(shards, run, **SMALL, epochs=2)
    assert (result.looks, result.steps, result.trained) == (26, 6, True)
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == {
        "metrics.jsonl",
        "checkpoints/last.pt",
        "exported/s1.safetensors",
        "exported/s2.safetensors",
    }
    lines = metrics(run)
    assert [(line["step"], line["epoch"]) for line in lines] == [(i, i // 3) for i in range(6)]
    names = {"step", "epoch", "loss", "spread", "top1", "lr", "images_per_s", "loader_wait_share"}
    assert all(set(line) == names for line in lines)
    assert result.loss == pytest.approx(sum(line["loss"] for line in lines[3:]) / 3)
    assert result.facts()["encoders"] == "s2.safetensors, s1.safetensors"
    encoder, info = load_encoder(run / "exported" / "s2.safetensors")
    assert (info.encoder, info.objective, info.epochs, info.channels) == ("tiny", "infonce", 2, 12)
    assert encoder.embedding_dim == 16


def test_the_same_seed_gives_the_same_bytes(shards: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(shards, tmp_path / name, **SMALL, epochs=1, seed=4)
    train(shards, tmp_path / "c", **SMALL, epochs=1, seed=5)
    assert without_clock(tmp_path / "a") == without_clock(tmp_path / "b")
    for path in ("checkpoints/last.pt", "exported/s1.safetensors", "exported/s2.safetensors"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert without_clock(tmp_path / "a") != without_clock(tmp_path / "c")


@pytest.mark.parametrize("objective", ["infonce", "simclr"])
def test_a_stopped_run_ends_where_it_would_have(shards: Any, tmp_path: Path, objective: str) -> None:
    options = SMALL | {"objective": objective, "epochs": 4, "checkpoint_every": 2}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(shards, whole, **options)
    with pytest.raises(StopError):
        train(shards, stopped, **options, progress=stopping_after(8))  # in the third epoch of three steps
    assert len(metrics(stopped)) == 8
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "ep')  # cut short by a crash
    (stopped / "checkpoints" / ".last.pt.1.tmp").write_bytes(b"half")
    result = train(shards, stopped, **options)
    assert result.trained
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["last.pt"]
    assert without_clock(stopped) == without_clock(whole)
    ends = [load_checkpoint(run / "checkpoints/last.pt", torch.device("cpu")) for run in (stopped, whole)]
    torch.testing.assert_close(ends[0].model, ends[1].model, rtol=0, atol=0)
    torch.testing.assert_close(ends[0].optimizer, ends[1].optimizer, rtol=0, atol=0)
    assert (stopped / "exported/s2.safetensors").read_bytes() == (whole / "exported/s2.safetensors").read_bytes()


def test_a_finished_run_is_only_read(shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(shards, tmp_path, **SMALL, epochs=1)
    monkeypatch.setattr(loop.batches, "read", None)
    again = train(shards, tmp_path, **(SMALL | {"device": "auto"}), epochs=1, checkpoint_every=3)
    assert not again.trained
    assert (again.loss, again.steps, again.exported) == (first.loss, first.steps, first.exported)


def test_other_options_are_refused_and_fresh_starts_over(shards: Any, tmp_path: Path) -> None:
    train(shards, tmp_path / "run", **SMALL, epochs=1)
    with pytest.raises(TrainingError, match="trained with epochs 1, now 2; use --fresh or another --run"):
        train(shards, tmp_path / "run", **SMALL, epochs=2)
    result = train(shards, tmp_path / "run", **SMALL, epochs=2, resume=False)
    assert (result.trained, result.epochs) == (True, 2)


def test_other_shards_are_refused(toy: Any, shards: Any, tmp_path: Path) -> None:
    train(shards, tmp_path, **SMALL, epochs=1)
    other = toy.ToyShards({"train": 13}, n_looks=2, size=24, seed=9)
    with pytest.raises(TrainingError, match="shards 'toy-0', now 'toy-9'"):
        train(other, tmp_path, **SMALL, epochs=1)


def test_lost_metrics_are_told(shards: Any, tmp_path: Path) -> None:
    train(shards, tmp_path, **SMALL, epochs=1)
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 7}\n{"step": 2}\n')
    with pytest.raises(TrainingError, match="holds 1 of the checkpoint's 3 steps"):
        train(shards, tmp_path, **SMALL, epochs=1)


def test_only_the_train_split_is_trained_on(toy: Any, tmp_path: Path) -> None:
    shards = toy.ToyShards({"val": 9, "train": 5, "test": 8}, n_looks=2, size=24)
    assert train(shards, tmp_path, **SMALL, epochs=1).looks == 10


def test_a_batch_larger_than_the_data_is_lowered(toy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result: TrainingResult = train(toy.ToyShards({"train": 3}, size=24), tmp_path, **SMALL, epochs=1)
    assert (result.batch_size, result.steps) == (6, 1)
    assert "batch size lowered from 8 to the 6 looks there are" in caplog.text


@pytest.mark.parametrize(
    ("splits", "options", "message"),
    [
        ({"test": 4}, {}, "0 looks to train on, at least 2"),
        ({"train": 4}, {"objective": "magic"}, "objective 'magic' is not one of infonce, simclr"),
        ({"train": 4}, {"encoder": "resnet11"}, "encoder 'resnet11' is not one of"),
        ({"train": 4}, {"crop": 25}, "crop 25 is larger than the places of 24 pixels"),
    ],
)
def test_what_cannot_start_is_refused(
    toy: Any, tmp_path: Path, splits: dict[str, int], options: dict[str, Any], message: str
) -> None:
    shards = toy.ToyShards(splits, n_looks=1, size=24)
    with pytest.raises(TrainingError, match=message):
        train(shards, tmp_path / "run", **(SMALL | options))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_step_and_term(
    shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exploding(nn.Module):
        def __init__(self, encoder: str, **options: Any) -> None:
            super().__init__()
            self.encoders = nn.ModuleDict({"s1": nn.Conv2d(2, 1, 1)})
            self.calls = 0

        def views(self, batch: Any, **options: Any) -> Any:
            return batch.images["s1"], batch.images["s1"]

        def forward(self, views: Any, places: Any) -> dict[str, torch.Tensor]:
            self.calls += 1
            loss = self.encoders["s1"](views[0]).mean()
            return {"loss": loss, "regulariser": loss * (math.inf if self.calls == 3 else 1)}

    monkeypatch.setitem(loop.OBJECTIVES, "exploding", Exploding)
    with pytest.raises(TrainingError, match=r"step 2: term 'regulariser' is -?inf"):
        train(shards, tmp_path, **SMALL, objective="exploding", epochs=1)
    assert len(metrics(tmp_path)) == 2
    assert not (tmp_path / "exported").exists()


def test_collapse_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    loop._warn_of_collapse(json.dumps({"spread": 0.01}), 3)
    loop._warn_of_collapse(json.dumps({"spread": 0.9}), 4)
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 3: embeddings have collapsed (spread 0.0100, 1 is full)"
    ]


def test_training_and_probing_need_no_geographic_package(tmp_path: Path) -> None:
    """In a process of its own, in which the packages cannot be imported."""
    script = textwrap.dedent(
        f"""
        import importlib.util, sys

        BLOCKED = {{"rasterio", "geopandas", "pystac", "pystac_client", "stac_geoparquet", "shapely", "pyproj", "dask"}}

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in BLOCKED:
                    raise ImportError(name + " is absent")

        sys.meta_path.insert(0, Blocker())
        spec = importlib.util.spec_from_file_location("toy", {str(Path(__file__).with_name("toy_shards.py"))!r})
        toy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(toy)
        from pathlib import Path
        from geossl_data.evaluation.probes import evaluate
        from geossl_data.pretrain.loop import train

        shards = toy.ToyShards({{"train": 8, "test": 8}}, n_looks=1, size=12)
        run = Path({str(tmp_path)!r})
        train(shards, run, encoder="resnet10", epochs=1, batch_size=4, device="cpu")
        evaluate(shards, run, device="cpu", k=3)
        assert not BLOCKED & {{name.split(".")[0] for name in sys.modules}}
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores.json").is_file()
