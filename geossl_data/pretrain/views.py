"""Augmentations of a batch, on its device: what they draw depends on (seed, epoch, step) alone, not on the device.

Geometry is drawn once for a look and applied to all its sensors, so that they keep seeing the same ground.
Radiometry acts band by band on standardised values; hue, grey and solarisation have no meaning in twelve bands or in
decibels. Random numbers are drawn on the CPU for the rows of all processes; only noise of single pixels is made on the
device, from a number of each row, by integer arithmetic that is the same everywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch


def generator(seed: int, *keys: int) -> torch.Generator:
    """A generator on the CPU for one use, from a seed and keys such as (epoch, step, view)."""
    (state,) = np.random.SeedSequence((seed, *keys)).generate_state(1, np.uint64).tolist()
    return torch.Generator().manual_seed(state >> 1)


KINDS = ("augment", "season", "sensor", "long")
"""In what the two views of a pair may differ: their augmentation, the season, the sensor, by years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """How views are made of looks. The defaults change geometry alone, as suits many bands."""

    kinds: tuple[str, ...] = ("augment",)
    """Of `KINDS`, in that order: in what the two views of a pair differ."""
    crop: int = 96
    """Side of a view, pixels."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Least and largest share of a look's area that an augmented view shows."""
    gain: float = 0.0
    """Standard deviation of the logarithm of a factor for each band of each view; 0: none."""
    offset: float = 0.0
    """Standard deviation of a shift for each band of each view, in standard deviations of the band; 0: none."""
    band_drop: float = 0.0
    """Probability that a band of a view is left out, which sets it to 0; one at least stays of each sensor."""
    speckle: float = 0.0
    """Standard deviation of noise on each pixel of radar, in standard deviations of the band; 0: none.

    It is added to standardised decibels, so the power is multiplied, as speckle does.
    """
    radar: tuple[str, ...] = ("s1",)
    """The sensors that speckle is for."""
    local_crops: int = 8
    """Small views of `dino` beside its two large ones."""
    local_crop: int = 0
    """Their side, pixels; 0: as the ratio 96 : 224 makes of `crop`, in whole patches."""
    local_scale: tuple[float, float] = (0.05, 0.35)
    """Least and largest share of a look's area that a small view shows."""

    def __post_init__(self) -> None:
        if not self.kinds or tuple(kind for kind in KINDS if kind in self.kinds) != tuple(self.kinds):
            raise TrainingError(
                f"views {','.join(self.kinds) or 'of no kind'}; give one or several of {','.join(KINDS)}, in this order"
            )
        for name, least in (("crop", 1), ("local_crops", 0), ("local_crop", 0)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} {getattr(self, name)}; expected at least {least}")
        for name in ("scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise TrainingError(f"{name} {low:g} to {high:g}; expected shares of an area, 0 < least ≤ largest ≤ 1")
        for name in ("gain", "offset", "speckle"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} {getattr(self, name):g} is no standard deviation; expected 0 or more")
        if not 0 <= self.band_drop < 1:
            raise TrainingError(f"band_drop {self.band_drop:g}; expected a probability, 0 or more and below 1")

    @property
    def n_dates(self) -> int:
        """How many looks of a place the two views of a pair show."""
        return 2 if "season" in self.kinds or "long" in self.kinds else 1


def local_side(settings: ViewSettings, patch: int = 1) -> int:
    """Side of the small views of `multi_crop`, pixels: as asked for, or 96/224 of `crop`, in whole patches."""
    return settings.local_crop or patch * max(1, round(settings.crop * 96 / 224 / patch))


@dataclass(frozen=True, slots=True)
class View:
    """A batch of images of one look of each place: of one sensor or, under the same geometry, of several."""

    images: dict[str, Tensor]
    """Sensor → (B, bands, size, size), float32."""
    look: int = 0
    """Which of the batch's looks it shows."""

    def __len__(self) -> int:
        return len(next(iter(self.images.values())))


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers for the rows of one process's batch: drawn for the batches of all, on the CPU, and cut.

    So views do not depend on the device or on how many processes share a batch.
    """

    generator: torch.Generator
    total: int
    """Rows of the batches of all processes together."""
    rows: slice
    """Those of this process."""

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), float64, shape (B, *shape)."""
        return torch.rand(self.total, *shape, generator=self.generator, dtype=torch.float64)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and deviation 1, float64, shape (B, *shape)."""
        return torch.randn(self.total, *shape, generator=self.generator, dtype=torch.float64)[self.rows]

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """In low … high − 1, int64, shape (B, *shape)."""
        return torch.randint(low, high, (self.total, *shape), generator=self.generator)[self.rows]

    def number(self, high: int) -> int:
        """One number in 0 … high − 1 for the whole batch, the same in all processes."""
        return int(torch.randint(high, (), generator=self.generator))


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
    shrink: int = 1
    """Blocks of so many by so many pixels of the image are averaged before; keeps small views of large windows calm."""

    @property
    def plain(self) -> bool:
        """Whether all windows are of whole pixels and of the view's own size, so that nothing is interpolated."""
        whole = torch.stack([self.side == self.size, self.top == self.top.floor(), self.left == self.left.floor()])
        return self.shrink == 1 and bool(whole.all())  # on the CPU, so nobody waits for the device

    def apply(self, images: Tensor) -> Tensor:
        """The views, shape (B, C, size, size), of the images' type: exact where `plain`, else bilinear between pixels.

        images: (B, C, H, W) of the same looks, float32 or wider.
        """
        y, x = self._sources(images)
        if self.plain:
            pixels = (y.long() * images.shape[-1] + x.long()).flatten(1)  # (B, size²)
            found = images.flatten(2).gather(2, pixels[:, None].expand(-1, images.shape[1], -1))
            return found.view(*images.shape[:2], self.size, self.size)
        if self.shrink > 1:
            images = functional.avg_pool2d(images, self.shrink, ceil_mode=True)
        height, width = (self.shrink * side for side in images.shape[-2:])
        grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1)  # (B, size, size, 2), as grid_sample wants
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _sources(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Where in the image the middle of each pixel of the view lies, from its upper left corner, (B, size, size).

        Back from the view to the image: first the turn is undone, then the flip. Rows, then columns.
        """
        cos = self.side * torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[self.turns]
        sin = self.side * torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64)[self.turns]
        mirror = torch.where(self.flip, -1.0, 1.0)
        half = self.side / 2
        affine = torch.stack([cos, sin, self.top + half, -sin * mirror, cos * mirror, self.left + half])
        y_row, y_column, y_middle, x_row, x_column, x_middle = _sent(affine, images)[..., None, None]
        centres = (torch.arange(self.size, dtype=images.dtype, device=images.device) + 0.5) / self.size - 0.5
        rows, columns = centres[:, None], centres[None, :]
        return y_row * rows + y_column * columns + y_middle, x_row * rows + x_column * columns + x_middle


def native_crop(hw: tuple[int, int], size: int, draws: Draws) -> Geometry:
    """Windows of `size` whole pixels anywhere in images of (height, width), at native resolution, flipped and turned.

    TrainingError where they do not fit.
    """
    height, width = hw
    _check_size(hw, size)
    top = draws.integers(0, height - size + 1).double()
    left = draws.integers(0, width - size + 1).double()
    turns, flip = _orientation(draws)
    return Geometry(top=top, left=left, side=torch.full_like(top, size), turns=turns, flip=flip, size=size)


def resized_crop(
    hw: tuple[int, int], size: int, draws: Draws, *, scale: tuple[float, float], turned: bool = True
) -> Geometry:
    """Square windows whose share of the image's area is uniform in `scale`, brought to `size`, flipped and turned.

    The share is one of the largest square in images of (height, width). Random resized crop of SimCLR (Chen et al.
    2020, appendix A) without a change of aspect, which would bend the ground. Where windows are typically larger than
    the view, pixels are averaged before, as published recipes do when they resize. turned: false draws the same windows
    and leaves them upright. TrainingError where images are smaller than `size`.
    """
    height, width = hw
    _check_size(hw, size)
    low, high = scale
    share = low + (high - low) * draws.uniform()
    side = min(hw) * share.sqrt()
    top = (height - side) * draws.uniform()
    left = (width - side) * draws.uniform()
    turns, flip = _orientation(draws)
    if not turned:
        turns, flip = torch.zeros_like(turns), torch.zeros_like(flip)
    # From the bounds, not from what was drawn: a view is the same whatever rows it shares a batch with.
    typical = min(hw) * (low * high) ** 0.25 / size
    shrink = max(1, round(typical))
    return Geometry(top=top, left=left, side=side, turns=turns, flip=flip, size=size, shrink=shrink)


def _orientation(draws: Draws) -> tuple[Tensor, Tensor]:
    """Turns and flips, all eight with the same probability."""
    return draws.integers(0, 4), draws.uniform() < 0.5


def _check_size(hw: tuple[int, int], size: int) -> None:
    height, width = hw
    if not 1 <= size <= min(hw):
        raise TrainingError(
            f"crop {size} does not fit images of {height} × {width} pixels; choose 1 to {min(height, width)}"
        )


def view(
    batch: Batch,
    look: int,
    sensors: Sequence[str],
    geometry: Geometry,
    settings: ViewSettings,
    draws: Draws,
    *,
    radiometry: bool = True,
) -> View:
    """One look of each place under one geometry for all the sensors, each with a radiometry of its own.

    look: column of the batch's looks. radiometry: false leaves values as they are, and draws nothing.
    """
    images = {sensor: geometry.apply(batch.images[sensor][:, look]) for sensor in sensors}
    if radiometry:
        images = {sensor: _lit(image, settings, draws, sensor in settings.radar) for sensor, image in images.items()}
    return View(images, look)


def _lit(images: Tensor, settings: ViewSettings, draws: Draws, radar: bool) -> Tensor:
    """Images (B, C, H, W) × gain + offset, with noise where they are of radar, less the bands that are left out.

    Pixels that are exactly 0, invalid ones, stay 0.
    """
    n_bands = images.shape[1]
    # Always drawn, so that what comes next does not depend on which of them are in use.
    gain, offset = draws.normal(n_bands), draws.normal(n_bands)
    chance, key = draws.uniform(n_bands), draws.integers(0, 2**31)
    changed = images
    if settings.gain > 0:
        changed = changed * _per_band((settings.gain * gain).exp(), images)
    if settings.offset > 0:
        changed = changed + _per_band(settings.offset * offset, images)
    if radar and settings.speckle > 0:
        changed = changed + settings.speckle * pixel_noise(key.to(images.device, non_blocking=True), images.shape[1:])
    if changed is not images:
        changed = torch.where(images == 0, 0.0, changed)
    if settings.band_drop > 0:
        stays = (chance >= settings.band_drop) | (chance == chance.amax(dim=1, keepdim=True))
        changed = torch.where(_per_band(stays, images) > 0, changed, 0.0)
    return changed


def _sent(values: Tensor, images: Tensor) -> Tensor:
    """Drawn numbers where the images are, of their type."""
    return values.to(images.dtype).to(images.device, non_blocking=True)


def _per_band(values: Tensor, images: Tensor) -> Tensor:
    """Drawn numbers (B, C), to be broadcast over the pixels of each band."""
    return _sent(values, images)[:, :, None, None]


def pixel_noise(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Normal noise of mean 0 and deviation 1 for each pixel of each row, float32, shape (B, *shape).

    keys: a number for each row, shape (B,), in 0 … 2³¹ − 1, on the device where the noise is wanted. A row's noise
    depends on its key and the shape alone. Made by hashing the pixels' numbers, so it is the same on every device up to
    the rounding of the last step.
    """
    counter = torch.arange(math.prod(shape), dtype=torch.int32, device=keys.device).view(1, *shape)
    mixed = _mixed(_mixed(counter) ^ _mixed(keys.to(torch.int32)).view(-1, *(1 for _ in shape)))
    odd = ((mixed & 0x7FFFFF) << 1) + (1 - 2**23)  # 2²³ values, evenly spaced around 0
    return torch.erfinv(odd.float() * 2.0**-23) * math.sqrt(2)


def _mixed(x: Tensor) -> Tensor:
    """A hash of each int32, one to one: the finaliser of MurmurHash3 (Appleby 2011), on two's complement."""
    for shift, factor in ((16, 0x85EBCA6B - 2**32), (13, 0xC2B2AE35 - 2**32)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 16)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """int32 moved to the right, zeros coming in."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)


def aligned(batch: Batch, settings: ViewSettings, sensors: Sequence[str], draws: Draws) -> list[View]:
    """A view of each look of the batch, all of the same ground: one geometry for all looks and sensors.

    Windows are resized where `augment` is among the kinds of views, native elsewhere.
    """
    geometry = _crop(_frame(batch, sensors), settings, draws)
    return [view(batch, look, sensors, geometry, settings, draws) for look in range(batch.n_looks)]


def pair(batch: Batch, settings: ViewSettings, sensors: Sequence[str], draws: Draws) -> tuple[View, View]:
    """Two views of each place that differ in what `settings.kinds` says.

    augment: each its own resized window; without it both show one native window. One window for both, too, where
    they show the same look by different sensors, which then see the same ground. season, long: the first two looks of
    the batch instead of the first twice. sensor: the first two sensors instead of all in both.
    """
    hw = _frame(batch, sensors)
    crosses = "sensor" in settings.kinds
    if crosses and len(sensors) < 2:
        raise TrainingError(f"views of two sensors need two, not {' and '.join(sensors)}; leave sensor out of --views")
    second = settings.n_dates - 1
    _check_looks(batch, settings.n_dates)
    first_geometry = _crop(hw, settings, draws)
    own = "augment" in settings.kinds and not (crosses and second == 0)
    second_geometry = _crop(hw, settings, draws) if own else first_geometry
    seen = (sensors[:1], sensors[1:2]) if crosses else (sensors, sensors)
    return (
        view(batch, 0, seen[0], first_geometry, settings, draws),
        view(batch, second, seen[1], second_geometry, settings, draws),
    )


def multi_crop(
    batch: Batch, settings: ViewSettings, sensors: Sequence[str], draws: Draws, *, patch: int = 1
) -> list[View]:
    """Two large views as `pair` makes them, then `settings.local_crops` small ones, with look and sensors of either.

    Multi-crop of SwAV (Caron et al. 2020, section 3.2). patch: the small side is a multiple of it where not asked for.
    """
    large = list(pair(batch, settings, sensors, draws))
    hw, size = _frame(batch, sensors), local_side(settings, patch)
    small = []
    for number in range(settings.local_crops):
        like = large[number % 2]
        geometry = resized_crop(hw, size, draws, scale=settings.local_scale)
        small.append(view(batch, like.look, tuple(like.images), geometry, settings, draws))
    return large + small


def seasonal(
    batch: Batch, settings: ViewSettings, sensors: Sequence[str], draws: Draws, *, first: int = 0, n_looks: int = 3
) -> tuple[View, View, View, View]:
    """The query and the keys k0, k1, k2 of SeCo and CACo, of the looks t0, t1, t2 from column `first` on.

    q of t0 and k1 of t2 are resized windows, upright and with values as they are; k0 of t1 and k2 of t0 are flipped,
    turned and changed in radiometry as well. So k0 differs from q in season and augmentation, k1 in season alone, k2 in
    augmentation alone (Mañas et al. 2021, section 3.2). n_looks: 2 where places have no third; t2 is t1 then.
    """
    hw = _frame(batch, sensors)
    _check_looks(batch, first + n_looks)

    def seen(look: int, *, augmented: bool) -> View:
        geometry = resized_crop(hw, settings.crop, draws, scale=settings.scale, turned=augmented)
        return view(batch, first + look, sensors, geometry, settings, draws, radiometry=augmented)

    return (
        seen(0, augmented=False),
        seen(1, augmented=True),
        seen(n_looks - 1, augmented=False),
        seen(0, augmented=True),
    )


def _crop(hw: tuple[int, int], settings: ViewSettings, draws: Draws) -> Geometry:
    """Resized windows where augmentation is asked for, else native ones."""
    if "augment" in settings.kinds:
        return resized_crop(hw, settings.crop, draws, scale=settings.scale)
    return native_crop(hw, settings.crop, draws)


def _frame(batch: Batch, sensors: Sequence[str]) -> tuple[int, int]:
    """Height and width of the images, pixels; TrainingError where the sensors are not on one grid."""
    sides = {sensor: tuple(batch.images[sensor].shape[-2:]) for sensor in sensors}
    if len(set(sides.values())) != 1:
        found = ", ".join(f"{sensor} {height} × {width}" for sensor, (height, width) in sides.items())
        raise TrainingError(f"images of {found} pixels; sensors of one view need the same grid")
    height, width = next(iter(sides.values()))
    return height, width


def _check_looks(batch: Batch, n_looks: int) -> None:
    if batch.n_looks < n_looks:
        raise TrainingError(f"views of {n_looks} dates need as many looks of a place; this batch has {batch.n_looks}")
