"""Contrastive objectives: two views of one look agree, views of other places do not.

The losses are pure functions of embeddings. The objectives own the encoders and projection heads, make their views and
answer with named terms. Losses are computed in float32 even where the encoders ran in bfloat16.
"""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import SENTINEL_CHANNELS, Batch
from geossl_data.pretrain.encoders import Encoder, build_encoder, initialised
from geossl_data.pretrain.views import Views, jitter, native_crops, resized_crops


def _exact(x: Tensor) -> Tensor:
    """At least float32: bfloat16 embeddings are widened, float64 ones (in tests) stay."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _other_looks(places: Tensor | None, n: int, device: torch.device) -> Tensor:
    """(n, n) bool, True where row and column are different looks of the same place."""
    if places is None:
        return torch.zeros(n, n, dtype=torch.bool, device=device)
    same = places[:, None] == places[None, :]
    return same & ~torch.eye(n, dtype=torch.bool, device=device)


def info_nce(a: Tensor, b: Tensor, *, temperature: float, places: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of two aligned batches of embeddings, shape (n, d) each; natural-log units.

    −log of the softmax share of the own partner, over cosines / temperature, mean of both directions (Radford et al.
    2021, figure 3). places: shape (n,); different looks of one place are left out of each other's denominator, since
    they are no negatives. Equals ln n for identical embeddings without `places`.
    """
    logits = normalize(_exact(a)) @ normalize(_exact(b)).T / temperature  # (n, n)
    logits = logits.masked_fill(_other_looks(places, len(a), a.device), -torch.inf)
    target = torch.arange(len(a), device=a.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def nt_xent(a: Tensor, b: Tensor, *, temperature: float, places: Tensor | None = None) -> Tensor:
    """NT-Xent of two aligned batches of embeddings, shape (n, d) each; natural-log units.

    Each of the 2n embeddings against all others but itself, mean over 2n (Chen et al. 2020, equation 1). places: as
    in `info_nce`. Equals ln(2n − 1) for identical embeddings without `places`.
    """
    n = len(a)
    z = normalize(torch.cat([_exact(a), _exact(b)]))  # (2n, d)
    logits = z @ z.T / temperature  # (2n, 2n)
    left_out = _other_looks(places, n, a.device).repeat(2, 2) | torch.eye(2 * n, dtype=torch.bool, device=a.device)
    target = torch.arange(2 * n, device=a.device).roll(n)
    return cross_entropy(logits.masked_fill(left_out, -torch.inf), target)


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """How far unit embeddings (n, d) lie apart: mean over d of their standard deviation × √d.

    1 where directions are uniform, 0 where all are equal (collapse).
    """
    unit = normalize(_exact(embeddings))
    return unit.std(dim=0, correction=0).mean() * float(unit.shape[1] ** 0.5)


@torch.no_grad()
def top1(a: Tensor, b: Tensor, places: Tensor | None = None) -> Tensor:
    """Share of rows of `a` (n, d) whose most similar row of `b` is their own partner; other looks do not count."""
    logits = normalize(_exact(a)) @ normalize(_exact(b)).T
    logits = logits.masked_fill(_other_looks(places, len(a), a.device), -torch.inf)
    return (logits.argmax(dim=1) == torch.arange(len(a), device=a.device)).float().mean()


def projection_head(width: int, out: int, generator: torch.Generator) -> nn.Module:
    """Linear, batch norm, ReLU, Linear: (B, width) → (B, out). Thrown away after training (Chen et al. 2020, 4.2)."""
    with torch.device("meta"):
        head = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Linear(width, out)
        )
    return initialised(head, generator)


def _terms(loss: Callable[..., Tensor], a: Tensor, b: Tensor, places: Tensor, temperature: float) -> dict[str, Tensor]:
    with torch.autocast(a.device.type, enabled=False):
        return {
            "loss": loss(a, b, temperature=temperature, places=places),
            "spread": spread(torch.cat([a, b])),
            "top1": top1(a, b, places),
        }


class InfoNCE(nn.Module):
    """One encoder for each sensor; the Sentinel-1 and the Sentinel-2 image of one look agree.

    Both see the same window at native resolution, flipped and turned alike; the change of sensor is the augmentation
    (Jain et al. 2022).
    """

    sensors: tuple[str, ...] = ("s2", "s1")

    def __init__(
        self,
        encoder: str,
        *,
        projection_dim: int,
        temperature: float,
        patch: int,
        seed: int,
        channels: Mapping[str, int] = SENTINEL_CHANNELS,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.encoders = _encoders(self.sensors, encoder, channels, patch, seed)
        self.heads = _heads(self.encoders, projection_dim, seed)

    def views(self, batch: Batch, *, crop: int, generator: torch.Generator) -> Views:
        s2, s1 = (batch.images[sensor] for sensor in self.sensors)
        height, width = s2.shape[-2:]
        window = native_crops(len(batch), height, width, crop, generator)
        return window.apply(s2), window.apply(s1)

    def forward(self, views: Views, places: Tensor) -> dict[str, Tensor]:
        a, b = (
            self.heads[sensor](self.encoders[sensor](view)) for sensor, view in zip(self.sensors, views, strict=True)
        )
        return _terms(info_nce, a, b, places, self.temperature)


class SimCLR(nn.Module):
    """One encoder on Sentinel-2; two views of one look, cropped, resized, turned and re-lit apart, agree."""

    sensors: tuple[str, ...] = ("s2",)
    scale = (0.35, 1.0)
    gain = 0.1
    offset = 0.1

    def __init__(
        self,
        encoder: str,
        *,
        projection_dim: int,
        temperature: float,
        patch: int,
        seed: int,
        channels: Mapping[str, int] = SENTINEL_CHANNELS,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.encoders = _encoders(self.sensors, encoder, channels, patch, seed)
        self.heads = _heads(self.encoders, projection_dim, seed)

    def views(self, batch: Batch, *, crop: int, generator: torch.Generator) -> Views:
        images = batch.images[self.sensors[0]]
        height, width = images.shape[-2:]

        def view() -> Tensor:
            window = resized_crops(len(batch), height, width, crop, generator, scale=self.scale)
            return jitter(window.apply(images), generator, gain=self.gain, offset=self.offset)

        return view(), view()

    def forward(self, views: Views, places: Tensor) -> dict[str, Tensor]:
        sensor = self.sensors[0]
        # One pass over both views: batch norm then sees them as one distribution.
        a, b = self.heads[sensor](self.encoders[sensor](torch.cat(views))).chunk(2)
        return _terms(nt_xent, a, b, places, self.temperature)


def _encoders(sensors: tuple[str, ...], name: str, channels: Mapping[str, int], patch: int, seed: int) -> nn.ModuleDict:
    lacking = [sensor for sensor in sensors if sensor not in channels]
    if lacking:
        raise TrainingError(f"these shards hold no sensor {lacking[0]}, only {', '.join(sorted(channels)) or 'none'}")
    return nn.ModuleDict(
        {
            sensor: build_encoder(name, channels[sensor], seed=seed + position, patch=patch)
            for position, sensor in enumerate(sensors)
        }
    )


def _heads(encoders: nn.ModuleDict, projection_dim: int, seed: int) -> nn.ModuleDict:
    generator = torch.Generator().manual_seed(seed + len(encoders))
    return nn.ModuleDict(
        {
            sensor: projection_head(cast(Encoder, encoder).embedding_dim, projection_dim, generator)
            for sensor, encoder in encoders.items()
        }
    )
