"""What several objectives are made of: encoders by branch, heads, averaged copies, queues, measures of embeddings."""

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain.distributed import gathered
from geossl_data.pretrain.encoders import Bands, Encoder, build_encoder, initialised
from geossl_data.pretrain.objectives.negatives import Ground
from geossl_data.pretrain.objectives.setup import Setup
from geossl_data.pretrain.views import View

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def exact(x: Tensor) -> Tensor:
    """At least float32: bfloat16 embeddings are widened, float64 ones (in tests) stay."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Backbones(nn.Module):
    """The encoders of an objective by branch: one for each sensor, or one for the bands of all of them.

    A branch is named as the sensor is, or by the sensors joined with `+`. An encoder of several sensors is told which
    bands a view lacks.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.bands: Mapping[str, Bands] = setup.bands
        self.joint = setup.joint and len(setup.bands) > 1
        bands = {"+".join(setup.bands): Bands.joined(setup.bands.values())} if self.joint else dict(setup.bands)
        self.encoders = nn.ModuleDict(
            {
                name: build_encoder(
                    setup.encoder, own, seed=setup.seed + position, patch=setup.patch, embed=setup.embed
                )
                for position, (name, own) in enumerate(bands.items())
            }
        )

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the encoders."""
        return tuple(self.encoders)

    @property
    def embedding_dim(self) -> int:
        """Width of what an encoder answers with; all of them are of one architecture."""
        return cast(Encoder, next(iter(self.encoders.values()))).embedding_dim

    def branch_of(self, view: View) -> str:
        """Name of the encoder that sees a view."""
        if self.joint:
            return self.branches[0]
        (sensor,) = view.images
        return sensor

    def images(self, view: View) -> tuple[Tensor, Tensor | None]:
        """What the view's encoder sees: (B, C, H, W), and which bands are there, (C,) bool; None where all are."""
        if not self.joint:
            return next(iter(view.images.values())), None
        given = next(iter(view.images.values()))
        parts, present = [], []
        for sensor, bands in self.bands.items():
            image = view.images.get(sensor)
            parts.append(given.new_zeros(len(given), len(bands), *given.shape[2:]) if image is None else image)
            present += [image is not None] * len(bands)
        whole = len(view.images) == len(self.bands)
        return torch.cat(parts, dim=1), None if whole else torch.tensor(present).to(given.device, non_blocking=True)

    def forward(self, view: View) -> Tensor:
        """Embeddings of a view, (B, embedding_dim)."""
        images, present = self.images(view)
        return cast(Tensor, self.encoders[self.branch_of(view)](images, present))

    def together(self, views: list[View]) -> list[Tensor]:
        """Embeddings of several views of one size; those of one branch in one pass, as batch norm then sees them."""
        first = [(self.branch_of(view), *self.images(view)) for view in views]
        found: dict[int, Tensor] = {}
        for branch in dict.fromkeys(branch for branch, _, _ in first):
            rows = [i for i, (name, _, _) in enumerate(first) if name == branch]
            images = torch.cat([first[i][1] for i in rows])
            masks = [first[i][2] for i in rows]
            present = None
            if any(mask is not None for mask in masks):
                n_bands = images.shape[1]
                full = torch.ones(n_bands, dtype=torch.bool, device=images.device)
                own = [
                    (full if mask is None else mask).expand(len(first[i][1]), n_bands)
                    for i, mask in zip(rows, masks, strict=True)
                ]
                present = torch.cat(own)
            out = self.encoders[branch](images, present)
            found |= dict(zip(rows, out.split([len(first[i][1]) for i in rows]), strict=True))
        return [found[i] for i in range(len(views))]


def mlp(
    widths: tuple[int, ...], generator: torch.Generator, *, norm: bool = True, last_norm: bool = False
) -> nn.Sequential:
    """Linear layers of the widths, in to out, with ReLU between them; (B, widths[0]) → (B, widths[-1]).

    norm: batch norm before each ReLU, and no bias there. last_norm: batch norm without scale and shift at the end.
    """
    with torch.device("meta"):
        layers: list[nn.Module] = []
        for position, (inside, outside) in enumerate(pairwise(widths)):
            last = position == len(widths) - 2
            layers.append(nn.Linear(inside, outside, bias=not (last_norm if last else norm)))
            if not last:
                layers += [nn.BatchNorm1d(outside), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
            elif last_norm:
                layers.append(nn.BatchNorm1d(outside, affine=False))
        head = nn.Sequential(*layers)
    return initialised(head, generator)


def heads(
    branches: tuple[str, ...], widths: tuple[int, ...], seed: int, *, norm: bool = True, last_norm: bool = False
) -> nn.ModuleDict:
    """One `mlp` for each branch, with weights of its own."""
    generator = torch.Generator().manual_seed(seed)
    return nn.ModuleDict({name: mlp(widths, generator, norm=norm, last_norm=last_norm) for name in branches})


def averaged_copy(module: AnyModule) -> AnyModule:
    """An equal module without gradients, to be moved by `move_average`; its batch norms keep their own statistics."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def move_average(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Every parameter of `average` ← momentum × itself + (1 − momentum) × that of `module`; buffers stay."""
    own: list[Tensor] = list(average.parameters())
    other: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(own, other, 1 - momentum)


def momentum_at(progress: float, start: float, end: float) -> float:
    """Momentum of an average after a share `progress` in [0, 1] of training: half a cosine from `start` to `end`.

    Grill et al. 2020, section 3.2: 1 − (1 − start)(cos(π progress) + 1) / 2 for end 1.
    """
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


class Queue(nn.Module):
    """The last `size` keys, with where each is from; the oldest is overwritten first.

    At the begin it holds random unit vectors from nowhere. Part of a module's state, and the same in all processes.
    """

    keys: Tensor
    index: Tensor
    lonlat: Tensor
    tag: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int, seed: int) -> None:
        super().__init__()
        if size < 1:
            raise TrainingError(f"queue {size} holds no key; ask for at least 1")
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("keys", normalize(torch.randn(size, dim, generator=generator)))
        self.register_buffer("index", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("lonlat", torch.full((size, 2), torch.nan, dtype=torch.float64))
        # Random keys stand for either half.
        self.register_buffer("tag", torch.arange(size, dtype=torch.int64) % 2)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @property
    def ground(self) -> Ground:
        """Where the keys are from."""
        return Ground(self.index, self.lonlat)

    @torch.no_grad()
    def push(self, keys: Tensor, ground: Ground, tag: Tensor | None = None) -> None:
        """Remember keys (n, dim), of all processes, in place of the oldest; tag: a number each, as the half of CACo."""
        keys = gathered(keys)
        ground = ground.gathered()
        tag = torch.zeros_like(ground.index) if tag is None else gathered(tag)
        size = len(self.keys)
        last = slice(max(0, len(keys) - size), None)
        n_before = len(keys) - len(keys[last])
        where = (self.pointer + n_before + torch.arange(len(keys[last]), device=keys.device)) % size
        # New tensors, not changed ones: the backward pass of the loss still needs the old.
        self.keys = self.keys.index_copy(0, where, keys[last].to(self.keys.dtype))
        self.index = self.index.index_copy(0, where, ground.index[last])
        self.lonlat = self.lonlat.index_copy(0, where, ground.lonlat[last])
        self.tag = self.tag.index_copy(0, where, tag[last])
        self.pointer = (self.pointer + len(keys)) % size


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """How far unit embeddings (n, d) lie apart: mean over d of their standard deviation × √d.

    1 where directions are uniform, 0 where all are equal (collapse).
    """
    unit = normalize(exact(embeddings))
    return unit.std(dim=0, correction=0).mean() * float(unit.shape[1] ** 0.5)


@torch.no_grad()
def top1(a: Tensor, b: Tensor, left_out: Tensor | None = None) -> Tensor:
    """Share of rows of `a` (n, d) whose most similar row of `b` (m, d), m ≥ n, is their own partner, the same row.

    left_out: (n, m) bool, pairs that do not count; the partner always does.
    """
    logits = normalize(exact(a)) @ normalize(exact(b)).T
    if left_out is not None:
        own = torch.eye(*logits.shape, dtype=torch.bool, device=a.device)
        logits = logits.masked_fill(left_out & ~own, -torch.inf)
    return (logits.argmax(dim=1) == torch.arange(len(a), device=a.device)).float().mean()
