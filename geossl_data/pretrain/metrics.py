"""What a run says of itself: a line of numbers for every step, TensorBoard's curves of them, and alarms.

Only the first process keeps a log. A line of `metrics.jsonl` is one optimiser step; those before a checkpoint are on
the disk before the checkpoint is, and what a stopped run wrote after it is dropped when the run goes on.
"""

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.files import from_json, storage_error
from geossl_data.pretrain.batches import Batch

METRICS_NAME = "metrics.jsonl"
TENSORBOARD_NAME = "tensorboard"
"""Folder of the event files, below that of the run."""
GRADIENT_NORM = "grad_norm"
"""Name under which the norm of the whole gradient, before clipping, is logged."""
COLLAPSED = 0.05
"""A spread of embeddings below this is collapse: 0 where all are equal, 1 where directions are uniform."""
DIVERGENCE = "divergence"
"""Name under which self-distillation logs its loss less the teacher's entropy, natural-log units."""
AGREED = 0.001
"""A divergence below this is collapse."""

Line = dict[str, Any]
"""What is logged of one step: `step` and names → numbers; None where a number is not finite."""


class Metrics:
    """The log of a run, open for its next step; a context manager.

    `metrics.jsonl` in `run_dir` is cut to the `first_step` lines that the checkpoint knows of, and gets a line for each
    `step`. `recent` holds the last `keep` lines, those of the earlier run among them. tensorboard: also write event
    files below `tensorboard/`, in which what the earlier run logged from `first_step` on counts no more.

    Raises TrainingError where lines before the checkpoint are missing, or where tensorboard is asked for and not
    installed; StorageError where the log cannot be written.
    """

    def __init__(self, run_dir: Path, first_step: int, *, tensorboard: bool = False, keep: int = 1) -> None:
        self.path = run_dir / METRICS_NAME
        new_writer = summary_writer() if tensorboard else None
        self.recent: deque[Line] = deque(maxlen=keep)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
            try:
                self._cut(first_step)
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise storage_error(self.path, error) from error
        self._next = first_step
        self._curves: Any = None
        if new_writer is not None:
            folder = run_dir / TENSORBOARD_NAME
            try:
                self._curves = new_writer(str(folder), purge_step=first_step)
            except OSError as error:
                self._file.close()
                raise storage_error(folder, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def step(self, values: Mapping[str, float], **clock: float) -> None:
        """Log the next step. clock: numbers that say how fast it went, which are rounded.

        What an objective says at the end of an epoch belongs to the epoch's last step.
        """
        clock = {name: round(value, 4) for name, value in clock.items()}
        line = {"step": self._next} | {
            name: value if math.isfinite(value) else None for name, value in {**values, **clock}.items()
        }
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            if self._curves is not None:
                for name, value in line.items():
                    if name != "step" and value is not None:
                        self._curves.add_scalar(name, value, self._next)
        except OSError as error:
            raise storage_error(self.path, error) from error
        self.recent.append(line)
        self._next += 1

    def sync(self) -> None:
        """Bring the lines onto the disk, so that no crash leaves a checkpoint that is ahead of them."""
        try:
            os.fsync(self._file.fileno())
            if self._curves is not None:
                self._curves.flush()
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Close the files; nothing happens the second time."""
        try:
            self._file.close()
            if self._curves is not None:
                self._curves.close()
        except OSError as error:
            raise storage_error(self.path, error) from error

    def _cut(self, steps: int) -> None:
        """Keep the lines of the first `steps` steps. A line cut short by a crash is none."""
        self._file.seek(0)
        kept = 0
        for line in self._file:
            found = _line(line)
            if kept == steps or found is None or found["step"] != kept:
                break
            self.recent.append(found)
            kept += 1
            end = self._file.tell()
        if kept < steps:
            raise TrainingError(
                f"{self.path}: holds {kept} of the checkpoint's {steps} steps; use --fresh or another --run"
            )
        self._file.truncate(end if kept else 0)


def _line(text: bytes) -> Line | None:
    """The line, if it is one and whole."""
    try:
        found = from_json(text)
    except ValueError:
        return None
    is_line = text.endswith(b"\n") and isinstance(found, dict) and type(found.get("step")) is int
    return found if is_line else None


def summary_writer() -> Callable[..., Any]:
    """TensorBoard's writer; TrainingError where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainingError(
            "TensorBoard's package is not installed: run `pip install tensorboard`, or leave --tensorboard out"
        ) from None
    return SummaryWriter


def mean(lines: Iterable[Line], name: str) -> float:
    """Mean of what is logged under a name; NaN where nothing is."""
    values = [float(line[name]) for line in lines if line.get(name) is not None]
    return math.fsum(values) / len(values) if values else math.nan


# ------------------------------------------------------------------------------------------------ alarms


def collapse(step: int, values: Mapping[str, float | None]) -> str | None:
    """One line that says so where embeddings have collapsed, and what to do; None where they have not.

    By the numbers named `spread…`, and by the `divergence` of a student from its teacher, which is 0 where both say the
    same of every image (Caron et al. 2021, section 5.3). None, as a number that is not there, says nothing.
    """
    found = None
    spreads = [(value, name) for name, value in values.items() if name.split("_")[0] == "spread" and value is not None]
    divergence = values.get(DIVERGENCE)
    if spreads and min(spreads)[0] < COLLAPSED:
        value, name = min(spreads)
        found = f"{name} {value:.4f}, below {COLLAPSED} (1 is full)"
    elif divergence is not None and divergence < AGREED:
        found = (
            f"{DIVERGENCE} of student and teacher {divergence:.4f}, below {AGREED}: they say the same of every image"
        )
    if found is None:
        return None
    advice = "lower the learning rate, lengthen the warm-up, or make the views of a pair differ more"
    return f"step {step}: embeddings have collapsed: {found}; {advice}"


def not_finite(step: int, values: Mapping[str, float], *, cause: Callable[[], str]) -> str | None:
    """One line that says which number of a step is not finite, and why; None where all are.

    values: terms and, if there, `GRADIENT_NORM`. cause: what `diagnose` finds; asked only where needed.
    """
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if not bad:
        return None
    # The loss is a sum, and gradients are those of the loss: of several, the term that broke them tells more.
    name = min(bad, key=lambda name: (name == GRADIENT_NORM, name == "loss"))
    what = (
        f"the gradient's norm is {bad[name]}, of terms that are finite"
        if name == GRADIENT_NORM
        else (f"term {name!r} is {bad[name]}")
    )
    return f"step {step}: {what}; {cause()}"


@torch.no_grad()
def diagnose(module: nn.Module | None, batch: Batch) -> str:
    """What of a step is not finite, first in the order in which one spoils the next, and what to do.

    Looks at the images, then at parameters and buffers, then at gradients, as they are before the optimiser's step,
    which carries a broken gradient into every parameter. module: None where it is too late and only images still tell.
    """
    for sensor, images in batch.images.items():
        rows = ~torch.isfinite(images).flatten(1).all(dim=1)
        if rows.any():
            first = int(batch.index[rows][0])
            return (
                f"{int(rows.sum())} of {len(rows)} images of {sensor} hold numbers that are not finite, "
                f"that of sample {first} first: run `geossl verify`"
            )
    calmer = "lower the learning rate, or clip gradients"
    if module is None:
        return f"its images are finite: {calmer}"
    gradients = ((name, own.grad) for name, own in module.named_parameters() if own.grad is not None)
    for kind, tensors, advice in (
        ("parameter", module.named_parameters(), f"an earlier step broke it: {calmer}"),
        ("buffer", module.named_buffers(), f"an earlier step broke it: {calmer}"),
        ("gradient of", gradients, calmer),
    ):
        for name, tensor in tensors:
            # Places that are not known are NaN on purpose, and spoil nothing.
            if tensor.is_floating_point() and name.split(".")[-1] != "lonlat" and not torch.isfinite(tensor).all():
                return f"{kind} {name} holds numbers that are not finite; {advice}"
    return f"images, weights and gradients are finite, so the loss overflowed: {calmer}"
