"""What each method was published with: optimiser, schedule and the numbers of the method, its default recipe here.

Learning rates grow with the batch as each paper says. Where a paper trained both kinds of encoders, both are given.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

OptimizerName = Literal["adamw", "sgd", "lars"]
Scaling = Literal["none", "linear", "sqrt"]
Schedule = Literal["cosine", "steps", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The defaults of one method."""

    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    """Peak, at a batch of 256 where it is scaled linearly, of 1 where by the square root."""
    scaling: Scaling = "none"
    weight_decay: float = 0.05
    weight_decay_end: float | None = None
    """What the decay rises to along half a cosine; None: it stays."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    sgd_momentum: float = 0.9
    """Of SGD and LARS."""
    warmup: float = 0.05
    """Share of the steps."""
    schedule: Schedule = "cosine"
    clip: float = 0.0
    """Largest norm of the gradient; 0: any."""
    temperature: float = 0.1
    projection_dim: int = 128
    hidden_dim: int = 0
    """Inside heads; 0: as wide as the encoder's embedding."""
    queue: int = 4096
    momentum: float = 0.99
    """Of the averaged encoder."""
    momentum_end: float = 1.0
    scale: tuple[float, float] = (0.2, 1.0)
    """Share of a look that an augmented view shows."""
    views: tuple[str, ...] = ("augment",)

    def peak(self, batch_size: int) -> float:
        """The learning rate for a batch."""
        factors = {"none": 1.0, "linear": batch_size / 256, "sqrt": math.sqrt(batch_size)}
        return self.learning_rate * factors[self.scaling]


_LARS = Published(optimizer="lars", scaling="linear", weight_decay=1e-6, warmup=0.1)
_CACO = Published(
    # Mall et al. 2023, section 4 and their code; SeCo (Mañas et al. 2021) alike.
    optimizer="sgd",
    learning_rate=0.03,
    weight_decay=1e-4,
    warmup=0.0,
    schedule="steps",
    temperature=0.07,
    queue=16_384,
    momentum=0.999,
    momentum_end=0.999,
)

PUBLISHED: Mapping[str, Published] = {
    # Jain et al. 2022 published no numbers; these are ours.
    "infonce": Published(views=("sensor",)),
    # Chen et al. 2020, appendix B.
    "simclr": replace(_LARS, learning_rate=0.075, scaling="sqrt"),
    # Chen et al. 2020 (MoCo-v2), with the learning rate of SSL4EO-S12 at 256.
    "moco": Published(
        optimizer="sgd",
        learning_rate=0.03,
        scaling="linear",
        weight_decay=1e-4,
        warmup=0.0,
        temperature=0.2,
        queue=65_536,
        momentum=0.999,
        momentum_end=0.999,
    ),
    # Chen et al. 2021, with the learning rate of SSL4EO-S12 at 256.
    "moco3": Published(
        learning_rate=1.5e-4,
        scaling="linear",
        weight_decay=0.1,
        warmup=0.1,
        temperature=0.2,
        projection_dim=256,
        hidden_dim=4096,
    ),
    "seco": replace(_CACO, views=("season",)),
    "caco": replace(_CACO, views=("long",)),
    # Grill et al. 2020, section 3.
    "byol": replace(_LARS, learning_rate=0.45, projection_dim=256, hidden_dim=4096),
    # Caron et al. 2021, with the learning rate of SSL4EO-S12 at 256; with a ResNet `DINO_RESNET`.
    "dino": Published(
        learning_rate=1.5e-4,
        scaling="linear",
        weight_decay=0.04,
        weight_decay_end=0.4,
        warmup=0.1,
        clip=3.0,
        projection_dim=65_536,
        hidden_dim=2048,
        momentum=0.996,
        scale=(0.4, 1.0),
    ),
    # Zbontar et al. 2021, section 3.
    "barlow": replace(_LARS, learning_rate=0.2, weight_decay=1.5e-6, projection_dim=8192, hidden_dim=8192),
    # Bardes et al. 2022, section 4.2.
    "vicreg": replace(_LARS, learning_rate=0.2, projection_dim=8192, hidden_dim=8192),
    # Li et al. 2021, appendix D.
    "hsic": replace(_LARS, learning_rate=0.4, projection_dim=256, hidden_dim=4096, momentum_end=0.99),
    # He et al. 2022, appendix A.
    "mae": Published(learning_rate=1.5e-4, scaling="linear", betas=(0.9, 0.95), warmup=0.1, hidden_dim=512),
}

DINO_RESNET = replace(
    PUBLISHED["dino"],
    optimizer="sgd",
    learning_rate=0.03,
    weight_decay=1e-4,
    weight_decay_end=None,
    scale=(0.14, 1.0),
)
"""DINO with a ResNet, as SSL4EO-S12 trains it."""


def published(objective: str, encoder: str) -> Published:
    """The defaults of a method with an encoder; ours where nobody published any."""
    if objective == "dino" and encoder.startswith("resnet"):
        return DINO_RESNET
    return PUBLISHED.get(objective, Published())
