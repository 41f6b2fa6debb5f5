"""An objective of your own: any torch module of the documented shape, trained by the same loop.

    python examples/own_objective.py DATASET

This one is SimSiam (Chen and He 2021): two views of a look, a predictor, no negatives, no averaged encoder. DATASET is
a folder in which `geossl shard` has run.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import geossl_data as gd
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.looks import pair_plan
from geossl_data.pretrain.loop import TrainingResult, train
from geossl_data.pretrain.objectives.parts import Backbones, heads, spread
from geossl_data.pretrain.objectives.registry import OBJECTIVES
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.options import TrainingOptions
from geossl_data.pretrain.views import Draws, View, pair


class SimSiam(nn.Module):
    """−cos between what the predictor makes of one view and the projection of the other, without its gradient."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        setup.check_pairs("simsiam")
        self.setup = setup
        self.looks = pair_plan(setup.views.kinds)
        self.backbones = Backbones(setup)
        width, inside = setup.projection_dim, max(2, setup.projection_dim // 4)
        first = (self.backbones.embedding_dim, setup.hidden_dim, width)
        self.projectors = heads(self.backbones.branches, first, setup.seed + 1, last_norm=True)
        self.predictors = heads(self.backbones.branches, (width, inside, width), setup.seed + 2)

    @property
    def encoders(self) -> nn.ModuleDict:
        return self.backbones.encoders

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View]:
        return pair(batch, self.setup.views, self.setup.sensors, draws)

    def forward(self, views: tuple[View, View], batch: Batch) -> Outcome:
        z, p = [], []
        for view in views:
            branch = self.backbones.branch_of(view)
            z.append(self.projectors[branch](self.backbones(view)))
            p.append(self.predictors[branch](z[-1]))
        with torch.autocast(z[0].device.type, enabled=False):
            loss = (agreement(p[0], z[1]) + agreement(p[1], z[0])) / 2
        return Outcome(terms={"loss": loss, "spread": spread(torch.cat(z))}, embeddings=(p[0],))


def agreement(p: Tensor, z: Tensor) -> Tensor:
    """−cos of rows (n, d), mean; −1 where all agree."""
    return -cosine_similarity(p.float(), z.float().detach()).mean()


def main(folder: Path, run: Path, epochs: int = 5) -> TrainingResult:
    """Train it on Sentinel-2 and say how it went."""
    OBJECTIVES["simsiam"] = SimSiam
    options = TrainingOptions(
        objective="simsiam", encoder="resnet10", sensors="s2", views="augment", epochs=epochs, batch_size=16, crop=48,
        optimizer="sgd", learning_rate=0.05, hidden_dim=512, projection_dim=512,
    )  # fmt: skip
    with gd.open_shards(folder, "train") as shards:
        result = train(shards, run, options)
    print(f"{result.steps} steps, loss {result.loss:.3f}, spread {result.terms['spread']:.2f}, {result.exported[0]}")
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[1]) / "runs" / "simsiam")
