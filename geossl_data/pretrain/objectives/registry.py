"""Objectives by name, and the shape that one of the user's own has to have."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.objectives.contrastive import InfoNCE, SimCLR
from geossl_data.pretrain.views import Views


class Objective(Protocol):
    """What the loop needs of an objective; any torch module of this shape can be put into `OBJECTIVES`.

    The module's parameters are trained. Calling it runs `forward`, which answers with named scalars: `loss` is
    minimised, all are logged.
    """

    encoders: nn.ModuleDict
    """Sensor → encoder, exported at the end; its keys are the sensors that the batches hold."""

    def views(self, batch: Batch, *, crop: int, generator: torch.Generator) -> Views:
        """Two views of every look, `crop` pixels a side, drawn from `generator` (on the CPU) and nothing else."""
        ...

    def forward(self, views: Views, places: Tensor) -> dict[str, Tensor]:
        """Named terms, scalars; places: sample index of each look, shape (B,)."""
        ...


OBJECTIVES: dict[str, Callable[..., nn.Module]] = {"infonce": InfoNCE, "simclr": SimCLR}
"""Name → factory(encoder, *, projection_dim, temperature, patch, seed, channels) of a module shaped as `Objective`.

channels: how many bands the images of each sensor have."""
