"""Augmentations of a batch, on its device: what they draw depends on (seed, epoch, step) alone, not on the device.

Geometry is drawn once for a look and applied to both its sensors, so that they keep seeing the same ground.
Radiometry acts band by band on standardised values; hue, grey and solarisation have no meaning in twelve bands or in
decibels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geossl_data.errors import TrainingError


def generator(seed: int, *keys: int) -> torch.Generator:
    """A generator on the CPU for one use, from a seed and keys such as (epoch, step, view)."""
    (state,) = np.random.SeedSequence((seed, *keys)).generate_state(1, np.uint64).tolist()
    return torch.Generator().manual_seed(state >> 1)


Views = tuple[Tensor, Tensor]
"""Two batches of images (B, C, size, size); row i of both was made from the same look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Which part of each image a view shows, and turned how; tensors of shape (B,) on the CPU."""

    top: Tensor
    """First row of the window, pixels of the image, float64; may be fractional."""
    left: Tensor
    side: Tensor
    """Side of the window, pixels of the image."""
    turns: Tensor
    """Quarter turns anticlockwise, 0 to 3, int64; made after the flip."""
    flip: Tensor
    """Whether columns run backwards, bool."""
    size: int
    """Side of the view, pixels."""

    def apply(self, images: Tensor) -> Tensor:
        """The views, shape (B, C, size, size), float32: bilinear between pixel centres; exact where `side == size`.

        images: (B, C, H, W) of the same looks. A window of whole pixels and the view's own size is a plain crop.
        """
        height, width = images.shape[-2:]
        device = images.device

        def column(values: Tensor) -> Tensor:
            return values.to(device)[:, None, None]

        centres = (torch.arange(self.size, dtype=torch.float64, device=device) + 0.5) / self.size - 0.5
        rows, columns = torch.meshgrid(centres, centres, indexing="ij")
        # Where an output pixel comes from: first undo the turn, then the flip.
        cos = column(torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[self.turns])
        sin = column(torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64)[self.turns])
        from_row = cos * rows + sin * columns
        from_column = cos * columns - sin * rows
        from_column = torch.where(column(self.flip), -from_column, from_column)
        y = column(self.top) + column(self.side) * (from_row + 0.5)
        x = column(self.left) + column(self.side) * (from_column + 0.5)
        grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1)  # (B, size, size, 2), as grid_sample wants
        return functional.grid_sample(
            images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=False
        )


def native_crops(n: int, height: int, width: int, size: int, generator: torch.Generator) -> Geometry:
    """Windows of `size` whole pixels anywhere in the image, at native resolution, flipped and turned at random."""
    _check_size(height, width, size)
    rows = torch.randint(0, height - size + 1, (n,), generator=generator)
    columns = torch.randint(0, width - size + 1, (n,), generator=generator)
    return Geometry(
        top=rows.double(),
        left=columns.double(),
        side=torch.full((n,), float(size), dtype=torch.float64),
        turns=torch.randint(0, 4, (n,), generator=generator),
        flip=torch.rand(n, generator=generator) < 0.5,
        size=size,
    )


def resized_crops(
    n: int, height: int, width: int, size: int, generator: torch.Generator, *, scale: tuple[float, float] = (0.35, 1.0)
) -> Geometry:
    """Square windows whose share of the image's area is uniform in `scale`, brought to `size`, flipped and turned.

    The share is one of the largest square in the image. Random resized crop of SimCLR (Chen et al. 2020, appendix A)
    without a change of aspect, which would bend the ground.
    """
    _check_size(height, width, size)
    low, high = scale
    share = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
    side = min(height, width) * share.sqrt()
    return Geometry(
        top=(height - side) * torch.rand(n, generator=generator, dtype=torch.float64),
        left=(width - side) * torch.rand(n, generator=generator, dtype=torch.float64),
        side=side,
        turns=torch.randint(0, 4, (n,), generator=generator),
        flip=torch.rand(n, generator=generator) < 0.5,
        size=size,
    )


def _check_size(height: int, width: int, size: int) -> None:
    if not 1 <= size <= min(height, width):
        raise TrainingError(
            f"crop {size} does not fit images of {height} × {width} pixels; choose 1 to {min(height, width)}"
        )


def jitter(images: Tensor, generator: torch.Generator, *, gain: float, offset: float) -> Tensor:
    """The images with every band of every look multiplied and shifted by its own small random amount.

    gain: standard deviation of the natural logarithm of the factor; offset: of the shift, in standard deviations of
    the band. Invalid pixels, exactly 0, stay 0. On standardised decibels the shift is a gain of the radar.
    """
    shape = (images.shape[0], images.shape[1], 1, 1)
    factor = torch.exp(gain * torch.randn(shape, generator=generator)).to(images.device)
    shift = (offset * torch.randn(shape, generator=generator)).to(images.device)
    return torch.where(images == 0, images, images * factor + shift)
