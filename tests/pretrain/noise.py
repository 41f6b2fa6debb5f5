"""Batches of noise for the objectives, what they are built from, and the matrices that golden values were made of."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.encoders import Bands
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, ViewSettings, generator

BANDS = {"s2": 3, "s1": 2}


def matrix(function: Callable[[Tensor], Tensor], factor: float, shift: float, n: int = 4, d: int = 8) -> Tensor:
    """function(factor × i × j + shift), rows i and columns j from 1; float64."""
    i, j = torch.arange(1, n + 1, dtype=torch.float64), torch.arange(1, d + 1, dtype=torch.float64)
    return function(factor * i[:, None] * j[None, :] + shift)


U = matrix(torch.sin, 0.37, 0.11)
V = matrix(torch.cos, 0.29, -0.05)
Q = matrix(torch.sin, 0.53, 0.7, n=10)


def setup(kinds: tuple[str, ...] = ("augment",), sensors: Mapping[str, int] | None = None, **other: Any) -> Setup:
    """Of a tiny encoder for one sensor, for two where the kinds of views say so."""
    if sensors is None:
        sensors = BANDS if "sensor" in kinds or other.get("joint") else {"s2": 3}
    small: dict[str, Any] = {"encoder": "tiny", "projection_dim": 6, "hidden_dim": 32, "queue": 12, "patch": 8}
    return Setup(
        bands={name: Bands.plain(n) for name, n in sensors.items()},
        views=ViewSettings(kinds=kinds, crop=16),
        **(small | {"places": np.zeros((8, 2))} | other),
    )


def batch(n: int = 4, looks: int = 1, *, seed: int = 0, first: int = 0, change: float = np.nan) -> Batch:
    """`n` places with the indices from `first` on, a degree of longitude apart, all different."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.arange(first, first + n)
    return Batch(
        images={name: torch.randn(n, looks, bands, 20, 20, generator=random) for name, bands in BANDS.items()},
        index=rows,
        look=torch.arange(looks).expand(n, -1),
        lonlat=torch.stack([rows.double(), torch.zeros(n, dtype=torch.float64)], dim=1),
        days=torch.arange(looks, dtype=torch.float64).expand(n, -1) * 30,
        change=torch.full((n,), change, dtype=torch.float64),
    )


def alike(n: int, *, seed: int = 0) -> Batch:
    """Places whose bands have a level of their own, the same in both sensors, under little noise."""
    given, random = batch(n, seed=seed), torch.Generator().manual_seed(99)
    level = torch.randn(n, 1, 3, 1, 1, generator=random)
    for images in given.images.values():
        images.mul_(0.1).add_(level[:, :, : images.shape[2]])
    return given


def step(objective: Any, of: Batch, *, progress: float = 0.0, seed: int = 0) -> Outcome:
    """The outcome of the step of a batch, as the loop takes it; nothing is trained."""
    views = objective.views(of, Draws(generator(seed), len(of), slice(0, len(of))))
    if hasattr(objective, "begin_step"):
        objective.begin_step(progress)
    outcome = objective(views, of)
    assert isinstance(outcome, Outcome)
    return outcome


def train(objective: Any, batches: list[Batch], *, learning_rate: float = 0.1) -> list[float]:
    """The loss of each step of plain SGD."""
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=learning_rate)
    losses = []
    for number, of in enumerate(batches):
        loss = step(objective, of, progress=number / len(batches), seed=number).terms["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
