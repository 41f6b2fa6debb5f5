"""The image against an encoding of its location, as a term beside an objective (Mai et al. 2023, CSP)."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather, gathered
from geossl_data.pretrain.encoders import initialised
from geossl_data.pretrain.objectives.geoloc import masked_cross_entropy, share_of
from geossl_data.pretrain.objectives.negatives import Ground, ground_of, no_negatives, unit_vectors
from geossl_data.pretrain.objectives.parts import exact

FloatArray = NDArray[np.float64]


_STEP = 0x9E3779B97F4A7C15 - (1 << 64)


def mixed(x: Tensor) -> Tensor:
    """Each int64 scrambled into another, the same on every device: the finaliser of SplitMix64 (Steele et al. 2014)."""

    def shifted(value: Tensor, bits: int) -> Tensor:
        return (value >> bits) & ((1 << (64 - bits)) - 1)

    x = (x ^ shifted(x, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ shifted(x, 27)) * (0x94D049BB133111EB - (1 << 64))
    return x ^ shifted(x, 31)


@dataclass(frozen=True, slots=True)
class BatchDraws:
    """Random numbers that depend on which looks of which samples the processes hold together, and in which order.

    A term gets no generator; so training can be resumed, and the number of processes does not matter.
    """

    key: Tensor
    """Scalar, int64, on the device."""

    @classmethod
    def of(cls, batch: Batch) -> "BatchDraws":
        """Those of the batches of all processes."""
        numbers = torch.cat([gathered(batch.index)[:, None], gathered(batch.look)], dim=1)
        place = torch.arange(numbers.numel(), device=numbers.device).view_as(numbers)
        return cls(mixed(mixed(numbers + mixed(place * _STEP)).sum()))

    def uniform(self, stream: int, *shape: int) -> Tensor:
        """In [0, 1), float64; other numbers for each `stream`."""
        counter = torch.arange(1, math.prod(shape) + 1, device=self.key.device)
        bits = mixed(mixed(self.key + stream * 0x632BE5AB) + counter * _STEP)
        return (((bits >> 11) & ((1 << 53) - 1)).double() / (1 << 53)).view(shape)


def everywhere(u: Tensor) -> Tensor:
    """Degrees of places uniform on the sphere from uniform numbers in [0, 1), both (n, 2).

    Longitude uniform in [−180, 180), latitude the arcsine of a uniform number in [−1, 1).
    """
    return torch.stack([360 * u[:, 0] - 180, torch.rad2deg(torch.asin(2 * u[:, 1] - 1))], dim=1)


# --- image and location ---------------------------------------------------------------------------------------------


def sphere_features(lonlat: Tensor, scales: int) -> Tensor:
    """What a network can read off a place: (n, 2) degrees → (n, 3 + 6 × scales), float64, in [−1, 1].

    The unit vector x of the place, and sin and cos of π 2ˢ x for s below `scales`: waves of 12 742 km and shorter by
    half each. They know neither a date line nor poles, unlike waves of longitude and latitude.
    """
    x = unit_vectors(lonlat)
    frequencies = math.pi * 2 ** torch.arange(scales, dtype=x.dtype, device=x.device)
    waves = (x[:, None, :] * frequencies[:, None]).flatten(1)
    return torch.cat([x, waves.sin(), waves.cos()], dim=1)


class LocationEncoder(nn.Module):
    """Place → embedding: `sphere_features`, two hidden layers with ReLU and dropout, (n, 2) → (n, dim)."""

    def __init__(self, dim: int, *, hidden: int = 256, scales: int = 10, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.scales, self.hidden, self.dropout = scales, hidden, dropout
        with torch.device("meta"):
            widths = (3 + 6 * scales, hidden, hidden, dim)
            layers = nn.ModuleList([nn.Linear(widths[i], widths[i + 1]) for i in range(3)])
        self.layers = initialised(layers, torch.Generator().manual_seed(seed))

    def forward(self, lonlat: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """kept: uniform numbers for each hidden layer, (n, hidden); a unit whose own is below `dropout` is left out."""
        x = sphere_features(lonlat, self.scales).to(next(self.parameters()).dtype)
        for position, layer in enumerate(self.layers[:2]):
            x = relu(layer(x))
            if kept is not None:
                x = x * (kept[position] >= self.dropout) / (1 - self.dropout)
        return cast(Tensor, self.layers[2](x))


def contrast(a: Tensor, b: Tensor, left_out: Tensor, counted: Tensor, *, temperature: float) -> Tensor:
    """−log of the softmax share of the own partner, over cosines / temperature, mean of the rows that count.

    a: (n, d), b: (m, d) with m ≥ n, row i of `b` the partner of row i of `a`. left_out: (n, m) bool, pairs that are no
    negatives; the partner is never left out. counted: (n,) bool. Natural-log units; ln m for identical embeddings.
    """
    own = torch.eye(len(a), len(b), dtype=torch.bool, device=a.device)
    logits = (normalize(a) @ normalize(b).T / temperature).masked_fill(left_out & ~own, -torch.inf)
    return masked_cross_entropy(logits, torch.arange(len(a), device=a.device), counted)


def contrast_with(a: Tensor, b: Tensor, c: Tensor, left_out: Tensor, counted: Tensor, *, temperature: float) -> Tensor:
    """The same with the rows of `c`, (m, d), as the only negatives: own partner in `b`, (n, d). left_out: (n, m)."""
    a, b, c = normalize(a), normalize(b), normalize(c)
    logits = torch.cat([(a * b).sum(dim=1, keepdim=True), (a @ c.T).masked_fill(left_out, -torch.inf)], dim=1)
    target = torch.zeros(len(a), dtype=torch.int64, device=a.device)
    return masked_cross_entropy(logits / temperature, target, counted)


class CSP(nn.Module):
    """An image's embedding and an encoding of where it is agree (Mai et al. 2023, section 3): the sum of three parts.

    In the batch: image against all locations and location against all images. Elsewhere: image against its own location
    and `far` places drawn uniformly on the sphere, new ones for each batch. Dropout: the location against those of the
    batch under another dropout, its own the partner (Gao et al. 2021, SimCSE). Rows of one sample, and places nearer
    than `negatives_km`, are no negatives. Over cosines, where the paper divides plain products by 1.
    """

    def __init__(
        self,
        width: int,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        far: int = 256,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        negatives_km: float = 0.0,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and far >= 1 and 0 <= dropout < 1 and min(weights) >= 0):
            raise TrainingError(
                f"csp: temperature {temperature:g}, {far} places elsewhere, dropout {dropout:g}, weights {weights}; "
                "expected above 0, at least 1, in [0, 1) and at least 0"
            )
        self.temperature, self.far, self.weights, self.negatives_km = temperature, far, weights, negatives_km
        with torch.device("meta"):
            head = nn.Linear(width, dim)
        self.head = initialised(head, torch.Generator().manual_seed(seed))
        self.location = LocationEncoder(dim, dropout=dropout, seed=seed + 1)

    def forward(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss`, its parts `in_batch`, `elsewhere` and `dropout`, and `top1`; embeddings: (B, d), row i of place i.

        `top1`: share of images whose most similar location of the batch is their own.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            image = self.head(gather(exact(embeddings)))
            ground = ground_of(batch).gathered()
            known = ground.lonlat.isfinite().all(dim=1)
            draws = BatchDraws.of(batch)
            lonlat = torch.where(known[:, None], ground.lonlat, 0.0)
            first, second = (self.location(lonlat, self._kept(draws, stream, len(lonlat))) for stream in (1, 3))
            elsewhere = everywhere(draws.uniform(0, self.far, 2))
            nobody = Ground(torch.full((self.far,), -1, device=known.device), elsewhere)

            left_out = no_negatives(ground, ground, km=self.negatives_km) | ~known[None, :]
            in_batch = (
                contrast(image, first, left_out, known, temperature=self.temperature)
                + contrast(first, image, left_out, known, temperature=self.temperature)
            ) / 2
            outside = contrast_with(
                image,
                first,
                self.location(elsewhere, self._kept(draws, 5, self.far)),
                no_negatives(ground, nobody, km=self.negatives_km),
                known,
                temperature=self.temperature,
            )
            dropped = contrast(first, second, left_out, known, temperature=self.temperature)
            own = torch.eye(len(known), dtype=torch.bool, device=known.device)
            nearest = (normalize(image) @ normalize(first).T).masked_fill(left_out & ~own, -torch.inf).argmax(dim=1)
            parts = {"in_batch": in_batch, "elsewhere": outside, "dropout": dropped}
            loss = torch.stack([weight * part for weight, part in zip(self.weights, parts.values(), strict=True)]).sum()
            top1 = share_of(nearest == torch.arange(len(known), device=known.device), known)
            return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, "top1": top1}

    def _kept(self, draws: BatchDraws, stream: int, n: int) -> tuple[Tensor, Tensor] | None:
        if not self.training:
            return None
        return draws.uniform(stream, n, self.location.hidden), draws.uniform(stream + 1, n, self.location.hidden)
