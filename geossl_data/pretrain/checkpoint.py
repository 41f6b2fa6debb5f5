"""Checkpoints to resume from: one file, written whole or not at all.

It is torch's own format, read with `weights_only=True`, so that a file from elsewhere runs no code.
"""

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from geossl_data.errors import TrainingError
from geossl_data.files import atomic_path, storage_error

CHECKPOINT_NAME = "checkpoints/last.pt"
"""In the folder of a run."""
PROBE_NBYTES = 2**20
"""Written to learn why torch could not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run between two steps; the same in all its processes.

    There is no state of random generators to keep: order, views and what a module draws by itself are functions of
    (seed, epoch, step), and torch's own generators are set by them before each step.
    """

    options: dict[str, Any]
    """Plain JSON values; what the run must be resumed with."""
    step: int
    """Steps done."""
    loader: dict[str, Any]
    """Where the batches stand, plain JSON values."""
    model: dict[str, torch.Tensor]
    """The objective's state_dict: encoders, heads, their averages, queues, change state, batch-norm statistics."""
    optimizer: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace `path` by the checkpoint, atomically; StorageError when it cannot be written."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
    content |= {name: json.dumps(content[name], sort_keys=True) for name in ("options", "loader")}
    # Given a file instead of a path, torch does not put the temporary file's name into the archive.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # how torch's zip writer reports a failed write
            # It hides the system's own reason; a write of ours brings it out.
            os.write(file.fileno(), bytes(PROBE_NBYTES))
            raise storage_error(path, OSError(None, str(error).splitlines()[0])) from error


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """The checkpoint at `path`, tensors on the device; TrainingError in one line for anything that is not one."""
    wrong = f"{path}: not a readable checkpoint; start the run over with --fresh, or use another --run"
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        plain = {name: json.loads(content[name]) for name in ("options", "loader")}
        checkpoint = Checkpoint(**{**content, **plain})
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise TrainingError(wrong) from error
    kinds = {"options": dict, "step": int, "loader": dict, "model": dict, "optimizer": dict}
    if not all(isinstance(getattr(checkpoint, name), kind) for name, kind in kinds.items()):
        raise TrainingError(wrong)
    return checkpoint
