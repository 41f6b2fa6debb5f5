"""Checkpoints to resume from, and encoders to keep: each one file, written whole or not at all.

A checkpoint is torch's own format, read with `weights_only=True`, so that a file from elsewhere runs no code. An
exported encoder is a safetensors file whose metadata says everything needed to use it on other images.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from geossl_data.bands import Member
from geossl_data.errors import TrainingError
from geossl_data.files import atomic_path, storage_error
from geossl_data.pretrain.batches import Normalisation
from geossl_data.pretrain.encoders import Encoder, build_encoder
from geossl_data.version import VERSION

METADATA_KEY = "geossl"
"""Entry of the safetensors metadata that holds the JSON."""
PROBE_NBYTES = 2**20
"""Written to learn why torch could not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run between two epochs.

    There is no state of random generators to keep: order and views are functions of (seed, epoch, step).
    """

    options: dict[str, Any]
    """Plain JSON values; what the run must be resumed with."""
    epoch: int
    """Epochs done."""
    step: int
    """Steps done."""
    model: dict[str, torch.Tensor]
    """The objective's state_dict: encoders, heads and batch-norm statistics."""
    optimizer: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace `path` by the checkpoint, atomically; StorageError when it cannot be written."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
    content["options"] = json.dumps(checkpoint.options, sort_keys=True)
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
        checkpoint = Checkpoint(**{**content, "options": json.loads(content["options"])})
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise TrainingError(wrong) from error
    kinds = {"options": dict, "epoch": int, "step": int, "model": dict, "optimizer": dict}
    if not all(isinstance(getattr(checkpoint, name), kind) for name, kind in kinds.items()):
        raise TrainingError(wrong)
    return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What an exported encoder is and what it expects to see."""

    encoder: str
    """Architecture, a name of `encoders.ENCODERS`."""
    patch: int
    """Side of a ViT's patches, pixels; without meaning for a ResNet."""
    normalisation: Normalisation
    """Sensor, band order, statistics and clipping of the images it was trained on."""
    objective: str
    epochs: int
    geossl: str = VERSION
    """Version that wrote the file."""

    @property
    def sensor(self) -> str:
        return self.normalisation.sensor

    @property
    def channels(self) -> int:
        return len(self.normalisation.bands)


def export_encoder(path: Path, encoder: nn.Module, info: EncoderInfo) -> None:
    """Write an encoder's weights and its info as one safetensors file, atomically. Same weights, same bytes."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    data = save(tensors, metadata={METADATA_KEY: json.dumps(asdict(info), sort_keys=True)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_encoder(path: Path, device: torch.device | str = "cpu") -> tuple[Encoder, EncoderInfo]:
    """An exported encoder, in eval mode on the device, and its info. Needs torch and safetensors only.

    `info.normalisation.apply(arrays, device)` makes its input of a look's stored members. Raises TrainingError in
    one line for a file that is absent, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TrainingError(f"{path}: no such encoder; train one with `geossl pretrain`")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path}: not a readable safetensors file: {str(error).splitlines()[0]}") from error
    info = _info(path, metadata)
    encoder = build_encoder(info.encoder, info.channels, seed=0, patch=info.patch)
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        raise TrainingError(f"{path}: its weights are not those of a {info.encoder}; export it again") from error
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise TrainingError(f"{path}: holds weights that are not finite; train again")
    return encoder.to(device).eval(), info


def _info(path: Path, metadata: Mapping[str, str]) -> EncoderInfo:
    """The checked info of a file's metadata."""
    try:
        values = cast(dict[str, Any], json.loads(metadata[METADATA_KEY]))
        described = values.pop("normalisation")
        for name in ("bands", "mean", "std"):
            described[name] = tuple(described[name])
        described["members"] = tuple(
            Member(**{**member, "bands": tuple(member["bands"])}) for member in described.get("members", ())
        )
        info = EncoderInfo(normalisation=Normalisation(**described), **values)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise TrainingError(f"{path}: its metadata is not that of a geossl encoder") from None
    if not all(isinstance(getattr(info, name), str) for name in ("encoder", "objective", "geossl")):
        raise TrainingError(f"{path}: its metadata is not that of a geossl encoder")
    return info
