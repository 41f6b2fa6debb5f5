"""The log of a run: what it keeps when a run goes on, TensorBoard's curves, and what the alarms say."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geossl_data.errors import StorageError, TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.metrics import Metrics, collapse, diagnose, mean, not_finite


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def log(run: Path, first: int, stop: int, **options: Any) -> None:
    with Metrics(run, first, **options) as metrics:
        for step in range(first, stop):
            metrics.step({"epoch": step // 3, "loss": step / 4}, images_per_s=100.123456)


def test_a_line_is_a_step(tmp_path: Path) -> None:
    with Metrics(tmp_path / "runs" / "one", 0) as metrics:
        metrics.step({"epoch": 0, "loss": 0.123456789, "gap": math.nan}, images_per_s=100.123456)
        # There at once, for who looks on.
        assert logged(metrics.path.parent) == [
            {"step": 0, "epoch": 0, "loss": 0.123456789, "gap": None, "images_per_s": 100.1235}
        ]


@settings(max_examples=30, deadline=None)
@given(
    done=st.integers(0, 9),
    checkpoint=st.integers(0, 9),
    tail=st.sampled_from(["", '{"step": 9, "ep', "\x00\x00", "7\n"]),
)
def test_a_run_that_goes_on_has_the_lines_of_one_that_did_not_stop(
    tmp_path_factory: pytest.TempPathFactory, done: int, checkpoint: int, tail: str
) -> None:
    run, whole = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("whole")
    log(run, 0, done)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(tail)  # cut short by a crash
    if checkpoint > done:
        with pytest.raises(TrainingError, match=f"holds {done} of the checkpoint's {checkpoint} steps"):
            Metrics(run, checkpoint)
        return
    log(run, checkpoint, 10)
    log(whole, 0, 10)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_last_line_without_its_end_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}')
    with pytest.raises(TrainingError, match="holds 1 of the checkpoint's 2 steps; use --fresh or another --run"):
        Metrics(tmp_path, 2)


def test_lines_out_of_order_are_told_and_left(tmp_path: Path) -> None:
    text = '{"step": 0}\n{"step": 7}\n{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(TrainingError, match="holds 1 of the checkpoint's 3 steps"):
        Metrics(tmp_path, 3)
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_means_reach_over_a_stop(tmp_path: Path) -> None:
    log(tmp_path, 0, 5)
    with Metrics(tmp_path, 4, keep=3) as metrics:
        metrics.step({"loss": math.nan, "top1": 0.5})
        assert [line["step"] for line in metrics.recent] == [2, 3, 4]
        assert mean(metrics.recent, "loss") == pytest.approx((2 / 4 + 3 / 4) / 2)
        assert mean(metrics.recent, "top1") == 0.5
        assert math.isnan(mean(metrics.recent, "spread"))


def test_a_log_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written"):
        Metrics(tmp_path / "file", 0)


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    metrics = Metrics(tmp_path, 0)
    metrics._file.close()
    metrics._file = full.open("r+b", buffering=0)  # type: ignore[assignment]
    with pytest.raises(StorageError, match="no space left to write it"):
        metrics.step({"loss": 1.0})
    metrics.close()


class Curves:
    """What of TensorBoard's writer is called, noted."""

    made: list["Curves"]

    def __init__(self, folder: str, *, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.points: list[tuple[str, float, int]] = []
        self.calls: list[str] = []
        Curves.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> type[Curves]:
    Curves.made = []
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Curves  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return Curves


def test_curves_are_those_of_the_lines_and_go_on_after_a_stop(tmp_path: Path, curves: type[Curves]) -> None:
    with Metrics(tmp_path, 0, tensorboard=True) as metrics:
        metrics.step({"loss": 2.0, "gap": math.inf}, images_per_s=3.0)
        metrics.step({"loss": 1.0})
        metrics.sync()
    log(tmp_path, 1, 2, tensorboard=True)
    first, second = curves.made
    assert first.folder == str(tmp_path / "tensorboard")
    assert first.points == [("loss", 2.0, 0), ("images_per_s", 3.0, 0), ("loss", 1.0, 1)]
    assert first.calls == ["flush", "close"]
    assert (first.purge_step, second.purge_step) == (0, 1)
    assert ("loss", 0.25, 1) in second.points


def test_curves_without_the_package_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="run `pip install tensorboard`"):
        Metrics(tmp_path / "run", 0, tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_tensorboard_itself_reads_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-not-found]
        EventAccumulator,
    )

    log(tmp_path, 0, 5, tensorboard=True)
    log(tmp_path, 3, 4, tensorboard=True)
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert [(event.step, event.value) for event in accumulator.Scalars("loss")] == [(i, i / 4) for i in range(4)]


# ------------------------------------------------------------------------------------------------ alarms


def test_collapse_is_told_with_its_step_and_what_to_do() -> None:
    assert collapse(7, {"loss": 0.0, "spread": 0.051, "spreading": 0.0}) is None
    text = collapse(7, {"spread": 0.5, "spread_s1": 0.01})
    assert text is not None
    assert text.startswith("step 7: embeddings have collapsed: spread_s1 0.0100, below 0.05 (1 is full)")
    assert "lower the learning rate" in text
    assert collapse(7, {"spread": None, "divergence": None}) is None


def test_a_student_that_agrees_with_its_teacher_on_everything_is_collapse() -> None:
    values = {"loss": math.log(4096), "teacher_entropy": math.log(4096), "spread": 0.9}
    assert collapse(7, values | {"divergence": 0.2}) is None
    text = collapse(7, values | {"divergence": 0.0})
    assert text is not None
    assert text.startswith("step 7: embeddings have collapsed: divergence of student and teacher 0.0000, below 0.001")


def a_batch() -> Batch:
    nowhere = torch.full((3,), math.nan, dtype=torch.float64)
    return Batch(
        images={"s2": torch.zeros(3, 1, 2, 4, 4), "s1": torch.zeros(3, 1, 2, 4, 4)},
        index=torch.tensor([5, 6, 9]),
        look=torch.zeros(3, 1, dtype=torch.int64),
        lonlat=torch.stack([nowhere, nowhere], dim=1),
        days=nowhere[:, None],
        change=nowhere,
    )


def a_module() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    module.register_buffer("lonlat", torch.full((4, 2), math.nan))  # of a queue, whose first keys are from nowhere
    return module


def spoil_image(module: nn.Module, batch: Batch) -> Batch:
    images = batch.images["s1"].clone()
    images[1:, 0, 1, 2, 3] = math.inf
    return replace(batch, images={**batch.images, "s1": images})


def spoil_parameter(module: nn.Module, batch: Batch) -> Batch:
    module.state_dict()["0.bias"][1] = math.nan
    return batch


def spoil_buffer(module: nn.Module, batch: Batch) -> Batch:
    module.state_dict()["1.running_var"][0] = math.inf
    return batch


def spoil_gradient(module: nn.Module, batch: Batch) -> Batch:
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    module.get_parameter("1.weight").grad = torch.tensor([0.0, math.nan])
    return batch


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (
            spoil_image,
            "2 of 3 images of s1 hold numbers that are not finite, that of sample 6 first: run `geossl verify`",
        ),
        (spoil_parameter, "parameter 0.bias holds numbers that are not finite; an earlier step broke it: lower the"),
        (spoil_buffer, "buffer 1.running_var holds numbers that are not finite; an earlier step broke it: lower the"),
        (spoil_gradient, "gradient of 1.weight holds numbers that are not finite; lower the learning rate"),
    ],
)
def test_the_first_thing_that_is_not_finite_is_named(spoil: Any, found: str) -> None:
    module, batch = a_module(), a_batch()
    assert diagnose(module, batch).startswith("images, weights and gradients are finite, so the loss overflowed: lower")
    assert diagnose(module, spoil(module, batch)).startswith(found)


def test_a_loss_that_is_not_finite_names_step_term_and_cause() -> None:
    values = {"grad_norm": math.nan, "loss": math.nan, "variance": math.inf, "top1": 0.5}

    def never() -> str:
        raise AssertionError

    assert not_finite(3, {"loss": 1.0, "grad_norm": 2.0}, cause=never) is None
    assert not_finite(3, values, cause=lambda: "parameter w is broken") == (
        "step 3: term 'variance' is inf; parameter w is broken"
    )
    assert not_finite(3, {"loss": 1.0, "grad_norm": math.inf}, cause=lambda: "gradient of w") == (
        "step 3: the gradient's norm is inf, of terms that are finite; gradient of w"
    )


def test_when_it_is_too_late_for_weights_images_still_tell() -> None:
    batch = a_batch()
    assert diagnose(None, batch) == "its images are finite: lower the learning rate, or clip gradients"
    assert diagnose(None, spoil_image(nn.Identity(), batch)).startswith("2 of 3 images of s1")
