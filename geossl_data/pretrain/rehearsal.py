"""Before a run: what it would cost, and whether its method learns a few samples by heart."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geossl_data.pretrain import batches
from geossl_data.pretrain.build import build
from geossl_data.pretrain.cost import cost_of, look_nbytes
from geossl_data.pretrain.distributed import ranks_of_environment
from geossl_data.pretrain.loop import loader_of, train, uses_bf16
from geossl_data.pretrain.metrics import COLLAPSED, METRICS_NAME
from geossl_data.pretrain.options import TrainingOptions
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

SAMPLES = 64
STEPS = 200
FALLEN = 0.9
"""A loss below this share of the first one has been learned."""


def rehearse(shards: Shards, options: TrainingOptions, *, gpu: str = "") -> dict[str, Any]:
    """What a run would take, name → number or text; nothing is trained or written.

    gpu: name of the GPU whose time is estimated; left out, the one that is here, else an A100.
    """
    ranks = ranks_of_environment()
    device = batches.chosen_device(options.device, ranks)
    built = build(shards, options)
    loader, batch_size = loader_of(shards, built, options, ranks, torch.device("cpu"))
    steps_per_epoch = len(loader) // options.accumulate
    size_px = int(shards.notes["size_px"])
    names = [name for entry in built.normalisations for name in entry.member_names]
    disk_nbytes, decoded_nbytes = look_nbytes(shards, names)
    finest = min(entry.finest for entry in built.normalisations)
    cost = cost_of(
        built.module,
        image_shapes={
            entry.sensor: (len(entry.bands), size_px // finest, size_px // finest) for entry in built.normalisations
        },
        looks=loader.n_looks,
        batch_size=batch_size // (ranks.world * options.accumulate),
        steps=options.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        disk_nbytes=disk_nbytes,
        decoded_nbytes=decoded_nbytes,
        optimizer=built.method.optimizer,
        accumulate=options.accumulate,
        world=ranks.world,
        bf16=uses_bf16(options.precision, device),
    )
    if not gpu:
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "A100"
    head = {
        "objective": options.objective,
        "encoder": ", ".join(f"{options.encoder} on {branch}" for branch in built.objective.encoders),
        "optimiser": f"{built.method.optimizer}, learning rate {built.method.peak(batch_size):.4g}, "
        f"weight decay {built.method.weight_decay:.4g}",
        "views": f"{','.join(built.setup.views.kinds)} of {built.setup.views.crop} pixels",
    }
    return head | cost.facts(gpu)


def overfit(
    shards: Shards, options: TrainingOptions, *, steps: int = STEPS, progress: Progress = silent
) -> dict[str, Any]:
    """Train on at most 64 samples of the split for some steps, in a folder that is gone afterwards.

    The answer says how far the loss fell and how far embeddings lie apart: a method that does not learn these by heart
    has no use for more.
    """
    batch_size = min(options.batch_size, SAMPLES)
    built = build(shards, options)
    items = batches.items_of(shards, built.normalisations, built.objective.looks, samples=SAMPLES)
    short = replace(
        options,
        batch_size=batch_size,
        accumulate=1,
        epochs=max(1, round(steps / max(1, len(items) // batch_size))),
        tensorboard=False,
        checkpoint_every=10**6,
    )
    with tempfile.TemporaryDirectory(prefix="geossl-overfit-") as folder:
        result = train(shards, Path(folder) / "run", short, samples=SAMPLES, progress=progress)
        with (result.run_dir / METRICS_NAME).open(encoding="utf-8") as file:
            start = float(json.loads(file.readline())["loss"])
    end = result.loss
    spread = result.terms.get("spread", 1.0)
    learned = end < FALLEN * start and spread > COLLAPSED
    return {
        "items": result.items,
        "steps": result.steps,
        "first loss": round(start, 4),
        "last loss": round(end, 4),
        "embedding spread": round(spread, 4),
        "verdict": "it learns" if learned else f"it does not learn: {_why(start, end, spread)}",
    }


def _why(start: float, end: float, spread: float) -> str:
    if spread <= COLLAPSED:
        return "embeddings have collapsed; look at temperature, projection and learning rate"
    return f"the loss fell to {end / start:.0%} of its first value only; try another --learning-rate, or more steps"
