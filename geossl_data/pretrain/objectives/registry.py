"""Objectives by name, and the shape that one of the user's own has to have."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.contrastive import InfoNCE, SimCLR
from geossl_data.pretrain.objectives.decorrelation import Barlow, VICReg
from geossl_data.pretrain.objectives.distillation import BYOL, DINO
from geossl_data.pretrain.objectives.hsic import HSIC
from geossl_data.pretrain.objectives.masked import MAE
from geossl_data.pretrain.objectives.moco import MoCo, MoCo3
from geossl_data.pretrain.objectives.seasonal import CACo, SeCo
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws


class Objective(Protocol):
    """What the loop needs of an objective; any torch module of this shape can be put into `OBJECTIVES`.

    The module's parameters that ask for a gradient are trained. Its state is saved and loaded with the run. It may
    have any of these as well, which the loop then calls: `begin_step(progress)` before the first forward pass of a
    step, `adjust_gradients(epoch)` between backward pass and optimiser, `end_step(progress)` after the optimiser, and
    `end_epoch()`, which answers with named numbers to log. progress: share of all steps done before this one, in
    [0, 1).
    """

    encoders: nn.ModuleDict
    """Branch → encoder, exported at the end. A branch is a sensor, or several joined with `+`."""
    looks: LookPlan
    """Which looks of a place the views are made of."""

    def views(self, batch: Batch, draws: Draws) -> Any:
        """What `forward` looks at, made of the batch with random numbers of `draws` and nothing else."""
        ...

    def forward(self, views: Any, batch: Batch) -> Outcome:
        """The named terms of these views; the loss is the same in all processes that share the batch."""
        ...


OBJECTIVES: dict[str, Callable[[Setup], nn.Module]] = {
    "infonce": InfoNCE,
    "simclr": SimCLR,
    "moco": MoCo,
    "moco3": MoCo3,
    "seco": SeCo,
    "caco": CACo,
    "byol": BYOL,
    "dino": DINO,
    "barlow": Barlow,
    "vicreg": VICReg,
    "hsic": HSIC,
    "mae": MAE,
}
"""Name → factory(setup) of a module shaped as `Objective`."""
