"""Light heads that make answers of what encoders see: for a look, for its pixels, for what changed between two looks.

None of them has a norm over batches, so that an answer does not depend on what else is in its batch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.errors import TrainingError
from geossl_data.evaluation.sight import Sight
from geossl_data.pretrain.encoders import ViT

WIDTH = 64
"""Channels of the common map of all levels but the finest, which is half as wide: it costs most."""
GROUPS = 8
"""Of channels that are normalised together."""
CLIP = 30.0
"""Standardised features are clipped to ± this many deviations: channels that are silent but for a pixel go far."""

_HEAD = 31
"""Key of the generator of a head's weights, beside those of other parts."""


class Head(nn.Module, ABC):
    """What is learnt on top of encoders.

    `levels` says what it asks of them; `forward` makes the answer of that. In between the levels are standardised by
    constants, channel by channel, once `standardise` has seen some: frozen encoders answer in any scale.
    """

    looks = 1
    """Looks of a row: one, or an earlier and a later one."""

    mean: Tensor
    scale: Tensor

    def __init__(self, widths: tuple[int, ...], n_out: int) -> None:
        """widths: channels of each level; n_out: of the answer."""
        super().__init__()
        self.widths, self.n_out = widths, n_out
        self.standardised = False
        """Whether levels are standardised."""
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("scale", torch.ones(sum(widths)))

    @abstractmethod
    def levels(self, sight: Sight, images: list[Tensor]) -> list[Tensor]:
        """What the head goes by, (B, C_i) or (B, C_i, h_i, w_i).

        images: of each encoder, (B × looks, C, H, W), the looks of a row one after the other.
        """

    @abstractmethod
    def forward(self, levels: list[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """The answer to `seen`: (B, out), or (B, out, *size). grid: rows and columns of the images."""

    def seen(self, sight: Sight, images: list[Tensor]) -> list[Tensor]:
        """The levels as `forward` takes them, standardised where that is known how."""
        levels = self.levels(sight, images)
        if not self.standardised:
            return levels
        means, scales = (torch.split(values, list(self.widths)) for values in (self.mean, self.scale))
        return [
            ((level - _along(mean, level)) * _along(scale, level)).clamp(-CLIP, CLIP)
            for level, mean, scale in zip(levels, means, scales, strict=True)
        ]

    @torch.no_grad()
    def standardise(self, batches: Iterable[list[Tensor]]) -> None:
        """Take mean and deviation of each channel from these levels; a channel that hardly varies counts nothing."""
        device = self.mean.device
        sums = torch.zeros(2, sum(self.widths), dtype=torch.float64, device=device)
        counts = torch.zeros(sum(self.widths), dtype=torch.float64, device=device)
        for levels in batches:
            values = [level.float().movedim(1, -1).flatten(0, -2) for level in levels]
            sums[0] += torch.cat([value.sum(dim=0, dtype=torch.float64) for value in values])
            sums[1] += torch.cat([value.square().sum(dim=0, dtype=torch.float64) for value in values])
            counts += torch.cat([torch.full_like(value[0], len(value), dtype=torch.float64) for value in values])
        mean, square = sums / counts
        std = (square - mean.square()).clamp(min=0).sqrt()
        # Squares of float32 numbers leave a constant channel a deviation of some ten thousandths of itself.
        varies = std > 1e-3 * mean.abs()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1 / torch.where(varies, std, 1.0), 0.0))
        self.standardised = True

    def restart(self, seed: int) -> None:
        """Forget what was learnt: weights drawn from the seed alone, the same on every device; no standardisation."""
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, _HEAD)).generate_state(1)[0]))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                drawn = torch.empty(layer.weight.shape)
                nn.init.kaiming_normal_(drawn, nonlinearity="relu", generator=generator)
                layer.weight.data.copy_(drawn)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.GroupNorm):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
        # All classes alike at first, so that learning does not begin with unlearning.
        self.get_parameter("out.weight").data.mul_(0.01)
        self.mean.zero_()
        self.scale.fill_(1.0)
        self.standardised = False


class ImageHead(Head):
    """One linear layer on the embedding of a look: (B, out)."""

    def __init__(self, sight: Sight, out: int) -> None:
        super().__init__((sight.embedding_dim,), out)
        with torch.device("meta"):
            self.out = nn.Linear(sight.embedding_dim, out)
        self.out.to_empty(device="cpu")
        self.restart(0)

    def levels(self, sight: Sight, images: list[Tensor]) -> list[Tensor]:
        return [sight.embed(images)]

    def forward(self, levels: list[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        return self.out(levels[0])  # type: ignore[no-any-return]


class MapHead(Head):
    """A map of each look, (B, out, H, W), made of the encoders' pyramid from its coarsest level to its finest.

    As in feature pyramid networks (Lin et al. 2017): 1×1 convolutions bring the levels to a common width, and each is
    added to the enlarged sum of the coarser ones. A 3×3 convolution smooths the sum before the finest level joins it,
    where it costs a quarter.
    """

    def __init__(self, sight: Sight, out: int, *, width: int = WIDTH) -> None:
        super().__init__(tuple(sight.widths), out)
        self.patch = max((part.patch for part in sight.modules() if isinstance(part, ViT)), default=1)
        """Images are extended to a multiple of this side: a ViT leaves out what is no whole patch."""
        coarse, fine = self.widths[1:] or self.widths, self.widths[0]
        with torch.device("meta"):
            self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in coarse)
            self.smooth = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.norm = nn.GroupNorm(GROUPS, width)
            self.narrow = nn.Conv2d(width, width // 2, 1, bias=False)
            self.detail = nn.Conv2d(fine, width // 2, 1, bias=False)
            self.norm_detail = nn.GroupNorm(GROUPS, width // 2)
            self.out = nn.Conv2d(width // 2, out, 1)
        for part in self.children():
            part.to_empty(device="cpu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.restart(0)

    def levels(self, sight: Sight, images: list[Tensor]) -> list[Tensor]:
        return sight.pyramid([extended(image, self.patch) for image in images])

    def forward(self, levels: list[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        coarse = levels[1:] or levels
        total = self.laterals[-1](coarse[-1])
        for lateral, level in zip(reversed(self.laterals[:-1]), reversed(coarse[:-1]), strict=True):
            total = lateral(level) + enlarged(total, _sides(level))
        smooth = functional.relu(self.norm(self.smooth(total)))
        detail = self.detail(levels[0]) + enlarged(self.narrow(smooth), _sides(levels[0]))
        answer = self.out(functional.relu(self.norm_detail(detail)))
        return on_pixels(answer, (_multiple(grid[0], self.patch), _multiple(grid[1], self.patch)), grid, size)


class ChangeHead(MapHead):
    """A map of what changed between two looks: a `MapHead` on |pyramid of the later − pyramid of the earlier|.

    As CACo's and SeCo's OSCD protocol, with a light decoder instead of a U-Net's.
    """

    looks = 2

    def levels(self, sight: Sight, images: list[Tensor]) -> list[Tensor]:
        return [(level[1::2] - level[0::2]).abs() for level in super().levels(sight, images)]


def extended(images: Tensor, multiple: int) -> Tensor:
    """The images (B, C, H, W) with their last rows and columns repeated up to a multiple of `multiple`."""
    height, width = _sides(images)
    bottom, right = _multiple(height, multiple) - height, _multiple(width, multiple) - width
    return functional.pad(images, (0, right, 0, bottom), mode="replicate") if bottom or right else images


def enlarged(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """A coarse map on the grid of a finer one of `size`, nearest.

    Strides are whole: of n pixels a stride of 2 leaves n / 2, rounded up. So the coarse map is enlarged by that whole
    factor and cut, and its pixels stay over those that they were made of.
    """
    rows, columns = (math.ceil(fine / own) for fine, own in zip(size, _sides(coarse), strict=True))
    if rows > 1 or columns > 1:
        coarse = functional.interpolate(coarse, scale_factor=(float(rows), float(columns)), mode="nearest")
    return coarse[..., : size[0], : size[1]]


def on_pixels(answer: Tensor, covered: tuple[int, int], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A map made of extended images on the pixels asked for, bilinear, (B, C, *size).

    covered: sides of the extended images; grid: those of the images; size: those of the map wanted, of the same ground
    as the images.
    """
    whole = []
    for own, side, pixels, wanted in zip(_sides(answer), covered, grid, size, strict=True):
        stride = math.ceil(side / own)
        whole.append(max(wanted, round(own * stride * wanted / pixels)))
    if tuple(whole) != _sides(answer):
        # Losses over classes are computed faster with the classes as the slowest axis.
        answer = functional.interpolate(answer.contiguous(), size=tuple(whole), mode="bilinear", align_corners=False)
    return answer[..., : size[0], : size[1]]


def _sides(images: Tensor) -> tuple[int, int]:
    """Rows and columns."""
    return images.shape[-2], images.shape[-1]


def _multiple(side: int, of: int) -> int:
    """The least multiple of `of` that is not below `side`."""
    return -(-side // of) * of


def _along(values: Tensor, level: Tensor) -> Tensor:
    """One value a channel, to be broadcast over (B, C) or (B, C, h, w)."""
    return values[:, None, None] if level.ndim == 4 else values


def require_looks(head: Head, looks: int) -> None:
    """Raise TrainingError where the rows hold another number of looks than the head takes."""
    if head.looks != looks:
        raise TrainingError(f"rows of {looks} looks for a head that takes {head.looks}")
