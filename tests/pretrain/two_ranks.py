"""What each of the two processes of `test_distributed.py` does: `python two_ranks.py FOLDER`, as torchrun starts it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pretrain.tiny import tiny_encoders
from pretrain.toy_shards import ToyShards
from torch.nn.parallel import DistributedDataParallel

from geossl_data.pretrain.batches import Batch, Loader, items_of
from geossl_data.pretrain.build import build
from geossl_data.pretrain.distributed import Ranks, process_group, ranks_of_environment, synchronised
from geossl_data.pretrain.loop import train
from geossl_data.pretrain.objectives.registry import OBJECTIVES
from geossl_data.pretrain.options import TrainingOptions
from geossl_data.pretrain.views import Draws, generator

CPU = torch.device("cpu")
SMALL = TrainingOptions(
    encoder="tiny", batch_size=8, crop=16, projection_dim=8, hidden_dim=16, queue=16, device="cpu", local_crops=2
)
CASES: dict[str, dict[str, Any]] = {
    **{name: {} for name in OBJECTIVES},
    "seco": {"views": "season"},
    "caco": {"views": "long"},
    "mae": {"encoder": "tiny-vit"},
    "moco, sensors": {"objective": "moco", "views": "sensor"},
    "infonce, joint": {"joint": True},
    "simclr, geography": {"georank": 0.5, "georank_eps": 1.0, "geoloc": 1.0, "geoloc_clusters": 3, "csp": 1.0},
    "byol, near": {"objective": "byol", "georank": 0.5},
    "simclr, km": {"negatives_km": 30.0},
}
"""Name → options; an objective's name, or one with what is special after a comma."""


def options_of(case: str) -> TrainingOptions:
    return replace(SMALL, **({"objective": case.split(",")[0]} | CASES[case]))


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    return Batch(
        images={sensor: images[rows] for sensor, images in batch.images.items()},
        **{name: getattr(batch, name)[rows] for name in ("index", "look", "lonlat", "days", "change")},
    )


def short_shards() -> ToyShards:
    """What a whole run is trained on."""
    return ToyShards({"train": 9}, n_looks=2, size=24)


SHORT = replace(SMALL, objective="moco", epochs=2)


def outcome_of(case: str, ranks: Ranks) -> dict[str, Any]:
    """Loss and gradients of one step of a case with a batch of 8 over all processes, in this one; float64."""
    shards = ToyShards({"train": 9}, n_looks=6, size=24, every_days=130)
    built = build(shards, options_of(case))
    items = items_of(shards, built.normalisations, built.objective.looks)
    whole = next(iter(Loader(shards, built.normalisations, items, 8, device=CPU)))
    own = ranks.rows(8 // ranks.world)
    batch = rows_of(whole, own)
    module = synchronised(built.module, CPU).double()
    batch = replace(batch, images={sensor: images.double() for sensor, images in batch.images.items()})
    parallel = DistributedDataParallel(module, broadcast_buffers=False) if ranks.world > 1 else module
    module.train()
    views = built.objective.views(batch, Draws(generator(3), 8, own))
    if hasattr(module, "begin_step"):
        module.begin_step(0.25)
    terms = parallel(views, batch).terms
    terms["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    return {"loss": float(terms["loss"].detach()), "gradients": gradients, "state": module.state_dict()}


def losses(run: Path) -> list[float]:
    """The loss of each step of a run."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def main(folder: Path) -> None:
    """Every case, and a short run."""
    torch.set_num_threads(1)
    ranks = ranks_of_environment()
    with tiny_encoders(), process_group(ranks, CPU):
        for case in CASES:
            torch.save(outcome_of(case, ranks), folder / f"{case}-{ranks.rank}.pt")
        train(short_shards(), folder / "run", SHORT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
