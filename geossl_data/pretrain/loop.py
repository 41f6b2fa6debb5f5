"""The training loop, read once from top to bottom: build, resume, step, log, save.

Order, views and learning rate are functions of (seed, epoch, step), so a run that was stopped goes on from its last
checkpoint to the numbers it would have reached without the stop: bit for bit on a CPU, and up to the order of sums
inside a GPU's kernels.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.files import remove_folder, remove_temporaries, storage_error, write_text
from geossl_data.pretrain import batches, views
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.checkpoint import (
    Checkpoint,
    EncoderInfo,
    export_encoder,
    load_checkpoint,
    save_checkpoint,
)
from geossl_data.pretrain.objectives.registry import OBJECTIVES, Objective
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

METRICS_NAME = "metrics.jsonl"
CHECKPOINT_NAME = "checkpoints/last.pt"
EXPORTED_NAME = "exported"
COLLAPSED = 0.05
"""A spread of the embeddings below this at the end of an epoch is reported as collapse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a run came to. The numbers of the last epoch are means over its steps."""

    run_dir: Path
    trained: bool
    """False where the run was finished before and nothing was done."""
    epochs: int
    steps: int
    looks: int
    """Looks in one epoch's order; the last incomplete batch of them is left out."""
    batch_size: int
    """As used; lower than asked for where there are fewer looks."""
    crop: int
    device: str
    loss: float
    """Last epoch."""
    spread: float
    top1: float
    images_per_s: float
    """Looks per second in the last epoch, waiting for the loader included."""
    exported: tuple[Path, ...]

    def facts(self) -> dict[str, Any]:
        """Name → number or short text, to show."""
        return {
            "device": self.device,
            "looks": self.looks,
            "batch size": self.batch_size,
            "crop": self.crop,
            "epochs": self.epochs,
            "steps": self.steps,
            "loss": round(self.loss, 4),
            "embedding spread": round(self.spread, 3),
            "retrieval top-1": round(self.top1, 3),
            "looks per second": round(self.images_per_s, 1),
            "encoders": ", ".join(path.name for path in self.exported),
        }


def train(
    shards: Shards,
    run_dir: Path,
    *,
    objective: str = "infonce",
    encoder: str = "resnet18",
    epochs: int = 20,
    batch_size: int = 64,
    crop: int = 0,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.05,
    temperature: float = 0.1,
    projection_dim: int = 128,
    checkpoint_every: int = 1,
    device: str = "auto",
    seed: int = 0,
    resume: bool = True,
    progress: Progress = silent,
) -> TrainingResult:
    """Train on the train split of `shards` and export one encoder a sensor; options as in `recipe.PretrainOptions`.

    Writes metrics.jsonl (a line a step), checkpoints/last.pt (every `checkpoint_every` epochs) and
    exported/<sensor>.safetensors below `run_dir`. A run that was interrupted goes on from its checkpoint, one that is
    finished is only read; `resume=False` starts over. Other options than those of the checkpoint (device and
    checkpoint_every aside) or other shards raise TrainingError, as do a loss that is not finite, a crop that does not
    fit and shards without what the objective needs.
    """
    # Build
    if objective not in OBJECTIVES:
        raise TrainingError(f"objective {objective!r} is not one of {', '.join(OBJECTIVES)}")
    where = batches.chosen_device(device)
    size_px = int(shards.notes["size_px"])
    crop = crop or size_px * 3 // 4
    if crop > size_px:
        raise TrainingError(f"crop {crop} is larger than the places of {size_px} pixels; choose at most {size_px}")
    patch = patch_for(crop)
    module = OBJECTIVES[objective](
        encoder,
        projection_dim=projection_dim,
        temperature=temperature,
        patch=patch,
        seed=seed,
        channels=batches.channels_of(shards.members.values()),
    ).to(where)
    model = cast(Objective, module)
    sensors = list(model.encoders)
    normalisations = [batches.normalisation(shards.notes, shards.members, sensor) for sensor in sensors]
    order = batches.looks(shards, sensors, "train")
    used_batch_size = fitting_batch_size(len(order), batch_size)
    steps_per_epoch = len(order) // used_batch_size
    steps = epochs * steps_per_epoch
    optimizer = torch.optim.AdamW(parameter_groups(module, weight_decay), lr=learning_rate)
    options = {
        "objective": objective,
        "encoder": encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "crop": crop,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "temperature": temperature,
        "projection_dim": projection_dim,
        "seed": seed,
        "shards": str(shards.notes.get("fingerprint", "")),
    }

    # Resume
    if not resume:
        remove_folder(run_dir)
    for folder in (run_dir, run_dir / "checkpoints", run_dir / EXPORTED_NAME):
        remove_temporaries(folder)
    start = _resume(run_dir, module, optimizer, options, steps_per_epoch, where)
    metrics_path = run_dir / METRICS_NAME
    kept = _kept_metrics(metrics_path, start * steps_per_epoch)
    write_text(metrics_path, "".join(kept))
    lines = kept[-steps_per_epoch:]

    # Step, log, save
    with progress("pretraining", total=steps) as task:
        task.advance(start * steps_per_epoch)
        module.train()
        for epoch in range(start, epochs):
            lines = []
            epoch_order = batches.shuffled(order, seed=seed, epoch=epoch)
            source = batches.read(shards, epoch_order, normalisations, used_batch_size, device=where, drop_last=True)
            for position, (batch, waited_s, began_s) in enumerate(_timed(source)):
                step = epoch * steps_per_epoch + position
                rate = learning_rate_at(step, steps, peak=learning_rate, warmup=warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                pair = model.views(batch, crop=crop, generator=views.generator(seed, epoch, position))
                with torch.autocast(where.type, dtype=torch.bfloat16, enabled=where.type == "cuda"):
                    terms = module(pair, batch.places)
                values = finite_values(terms, step)
                optimizer.zero_grad(set_to_none=True)
                terms["loss"].backward()
                optimizer.step()
                took_s = time.perf_counter() - began_s
                lines.append(
                    _line(
                        {"step": step, "epoch": epoch, **values, "lr": rate},
                        images_per_s=len(batch) / took_s,
                        loader_wait_share=waited_s / took_s,
                    )
                )
                _append(metrics_path, lines[-1])
                task.advance(1, note=f"loss {values['loss']:.3f}")
            _warn_of_collapse(lines[-1], epoch)
            if (epoch + 1) % checkpoint_every == 0 or epoch + 1 == epochs:
                _sync(metrics_path)
                save_checkpoint(
                    run_dir / CHECKPOINT_NAME,
                    Checkpoint(
                        options=options,
                        epoch=epoch + 1,
                        step=(epoch + 1) * steps_per_epoch,
                        model=module.state_dict(),
                        optimizer=optimizer.state_dict(),
                    ),
                )

    # Export
    exported = []
    for normalisation in normalisations:
        sensor = normalisation.sensor
        info = EncoderInfo(
            encoder=encoder, patch=patch, normalisation=normalisation, objective=objective, epochs=epochs
        )
        exported.append(run_dir / EXPORTED_NAME / f"{sensor}.safetensors")
        export_encoder(exported[-1], model.encoders[sensor], info)
    last = [json.loads(line) for line in lines]
    return TrainingResult(
        run_dir=run_dir,
        trained=start < epochs,
        epochs=epochs,
        steps=steps,
        looks=len(order),
        batch_size=used_batch_size,
        crop=crop,
        device=where.type,
        loss=_mean(last, "loss"),
        spread=_mean(last, "spread"),
        top1=_mean(last, "top1"),
        images_per_s=len(last) / math.fsum(1 / line["images_per_s"] for line in last) if last else math.nan,
        exported=tuple(exported),
    )


def learning_rate_at(step: int, steps: int, *, peak: float, warmup: float) -> float:
    """Learning rate of a step (from 0): linear rise to `peak` over the first `warmup` share, then half a cosine to 0.

    The rise ends at `peak` in its last step; the last step of all lies just above 0 (Loshchilov and Hutter 2017).
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * ((step + 1) / rising)
    return peak * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def patch_for(crop: int) -> int:
    """Side of a ViT's patches for a training crop, pixels: 16, and 8 for crops below 128 pixels."""
    return 16 if crop >= 128 else 8


def fitting_batch_size(n_looks: int, batch_size: int) -> int:
    """The batch size, lowered to the number of looks where there are fewer (and logged); TrainingError below 2."""
    if n_looks < 2:
        raise TrainingError(f"{n_looks} looks to train on, at least 2 are needed; sample more places")
    if n_looks < batch_size:
        _LOG.warning("batch size lowered from %d to the %d looks there are", batch_size, n_looks)
    return min(n_looks, batch_size)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights that decay, and biases and norms (one axis or none) that do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def finite_values(terms: dict[str, torch.Tensor], step: int) -> dict[str, float]:
    """The terms as numbers; TrainingError names the step and the term where one is not finite."""
    names = list(terms)
    # One transfer for all of them: each would wait for the GPU.
    values = torch.stack([terms[name].detach().float() for name in names]).tolist()
    for name, value in zip(names, values, strict=True):
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: term {name!r} is {value}; lower the learning rate, or check the shards")
    return dict(zip(names, values, strict=True))


def _resume(
    run_dir: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: dict[str, Any],
    steps_per_epoch: int,
    device: torch.device,
) -> int:
    """Epochs done, after loading the last checkpoint into module and optimizer where there is one."""
    path = run_dir / CHECKPOINT_NAME
    if not path.is_file():
        return 0
    checkpoint = load_checkpoint(path, device)
    changed = [name for name, value in options.items() if checkpoint.options.get(name) != value]
    if changed:
        differences = ", ".join(f"{name} {checkpoint.options.get(name)!r}, now {options[name]!r}" for name in changed)
        raise TrainingError(f"{run_dir} was trained with {differences}; use --fresh or another --run")
    try:
        module.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        fits = 0 <= checkpoint.epoch <= options["epochs"] and checkpoint.step == checkpoint.epoch * steps_per_epoch
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise TrainingError(f"{path}: does not fit this model or these shards; use --fresh or another --run")
    if checkpoint.epoch < options["epochs"]:
        _LOG.info("resuming %s after epoch %d of %d", run_dir, checkpoint.epoch, options["epochs"])
    return checkpoint.epoch


def _timed(source: Iterable[Batch]) -> Iterator[tuple[Batch, float, float]]:
    """Each batch with the seconds waited for it and the clock when the wait began."""
    iterator = iter(source)
    while True:
        began_s = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began_s, began_s


def _line(values: dict[str, Any], **clock: float) -> str:
    return json.dumps(values | {name: round(value, 4) for name, value in clock.items()}) + "\n"


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise storage_error(path, error) from error


def _sync(path: Path) -> None:
    """Bring the metrics onto the disk, so that no crash leaves a checkpoint that is ahead of them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _kept_metrics(path: Path, steps: int) -> list[str]:
    """The lines of the first `steps` steps; what a stopped run wrote after its checkpoint is dropped.

    A line cut short by a crash is dropped too. TrainingError where lines before the checkpoint are missing.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    kept: list[str] = []
    for line in text.splitlines(keepends=True)[:steps]:
        try:
            whole = json.loads(line)["step"] == len(kept)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            break
        kept.append(line)
    if len(kept) < steps:
        raise TrainingError(
            f"{path}: holds {len(kept)} of the checkpoint's {steps} steps; use --fresh or another --run"
        )
    return kept


def _mean(lines: list[dict[str, Any]], name: str) -> float:
    values = [float(line[name]) for line in lines if name in line]
    return math.fsum(values) / len(values) if values else math.nan


def _warn_of_collapse(line: str, epoch: int) -> None:
    spread = json.loads(line).get("spread", 1.0)
    if spread < COLLAPSED:
        _LOG.warning("epoch %d: embeddings have collapsed (spread %.4f, 1 is full)", epoch, spread)
