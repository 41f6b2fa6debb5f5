"""Part of the looks of a place is hidden, and a network says what was there: masked autoencoders (He et al. 2022).

What is hidden is a setting: patches of ground, groups of bands, a whole sensor, or a whole date. A token stands for
one date, group of bands and patch. The encoder sees the tokens that are not hidden and no others; a light decoder,
which is thrown away after training, predicts the pixels of the rest.

With several dates every token of the encoder gets a code of its date relative to the first one, which is exactly 0 at
the first. So the exported encoder, which sees one date at a time, takes it as a series of one look: the same weights
and nothing added. The decoder is told the season and the year of what it has to predict.

Invalid pixels are 0, the mean of their band, for the encoder as in what is to be predicted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gathered, shared_loss
from geossl_data.pretrain.encoders import (
    PositionCodes,
    TransformerBlock,
    ViT,
    initialised,
    learned_codes,
    whole_patches,
)
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.parts import Backbones, exact, spread
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, aligned

UNITS: Mapping[str, str] = {
    "patch": "patches of ground, in all groups of bands and at all dates",
    "group": "groups of bands, at all patches and dates",
    "sensor": "all that one sensor sees, the same sensor in the whole batch",
    "date": "whole looks",
    "future": "the last look",
}
"""What can be hidden."""


def patch_pixels(images: Tensor, side: int) -> Tensor:
    """The pixels of each whole patch of images (…, C, H, W), shape (…, P, C × side²); patches by rows."""
    cut = whole_patches(images, side)
    *before, n_bands, height, width = cut.shape
    rows, columns = height // side, width // side
    cut = cut.reshape(*before, n_bands, rows, side, columns, side)
    # (…, rows, columns, C, side, side)
    return cut.movedim((-4, -2), (-5, -4)).reshape(*before, rows * columns, n_bands * side**2)


def patch_errors(prediction: Tensor, pixels: Tensor) -> Tensor:
    """Mean squared error of each patch, (…), against its pixels normalised by their own mean and variance.

    prediction, pixels: (…, n), n values a patch. He et al. 2022, section 3: the variance is the unbiased one, + 1e-6.
    A prediction of 0 has the error (n − 1) / n wherever a patch is not constant, whose error it has at 0.
    """
    pixels = exact(pixels)
    variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
    target = (pixels - mean) * torch.rsqrt(variance + 1e-6)
    return ((exact(prediction) - target) ** 2).mean(dim=-1)


def hidden_error(errors: Tensor, hidden: Tensor) -> Tensor:
    """The mean of the errors of the tokens that are hidden; both of one shape, `hidden` bool with at least one True."""
    return torch.where(hidden, errors, 0.0).sum() / hidden.sum()


def hidden_tokens(unit: str, *, sensors: Sequence[str], looks: int, patches: int, ratio: float, draws: Draws) -> Tensor:
    """Which tokens are hidden, bool, to be broadcast to (B, looks, groups, patches); as many in each row.

    sensors: the sensor of each group of bands. ratio: share of the patches, groups or looks that is hidden, at least
    one and never all; a unit of `UNITS` that hides one thing takes no notice of it.
    """
    if unit == "patch":
        return _some(patches, ratio, draws)[:, None, None, :]
    if unit == "group":
        return _some(len(sensors), ratio, draws)[:, None, :, None]
    if unit == "date":
        return _some(looks, ratio, draws)[:, :, None, None]
    if unit == "future":
        return (torch.arange(looks) == looks - 1)[None, :, None, None]
    names = list(dict.fromkeys(sensors))
    chosen = names[draws.number(len(names))]
    return torch.tensor([sensor == chosen for sensor in sensors])[None, None, :, None]


def _some(n: int, ratio: float, draws: Draws) -> Tensor:
    """In each row a random round(ratio × n) of n, at least 1 and at most n − 1, shape (B, n) bool."""
    n_hidden = min(max(round(ratio * n), 1), n - 1)
    return draws.uniform(n).argsort(dim=1).argsort(dim=1) < n_hidden


def date_codes(days: Tensor) -> Tensor:
    """Numbers for the dates of looks, (B, L) days: shape (B, L, 3), float32.

    They are sin and cos of the season, and the time since the first look in units of four years. Where a date of a
    place is not known (NaN), its looks have no season, and their position in the series stands for years.
    """
    turn = 2 * pi * days / 365.25
    years = (days - days[:, :1]) / 365.25
    place = torch.arange(days.shape[1], device=days.device, dtype=days.dtype).expand_as(days)
    known = torch.isfinite(days).all(dim=1)[:, None, None]
    unknown = torch.stack([torch.zeros_like(place), torch.zeros_like(place), place / 4], dim=-1)
    return torch.where(known, torch.stack([turn.sin(), turn.cos(), years / 4], dim=-1), unknown).float()


@dataclass(frozen=True, slots=True)
class MaskedLooks:
    """A batch of looks and which of their tokens are hidden."""

    images: Tensor
    """(B, looks, bands, H, W), float32: the bands of all sensors."""
    hidden: Tensor
    """(B, looks, groups, patches), bool."""
    kept: Tensor
    """Which tokens are not hidden, (B, n), int64: positions in (looks × groups × patches), ascending."""

    def __len__(self) -> int:
        return len(self.images)


class Decoder(nn.Module):
    """Visible tokens → pixels of all patches: a ViT of its own width over all tokens, one answer for each group."""

    def __init__(self, encoder: ViT, width: int, depth: int, heads: int, dated: bool) -> None:
        super().__init__()
        self.enter = nn.Linear(encoder.embedding_dim, width)
        self.unseen = learned_codes(1, width)
        self.groups = learned_codes(len(encoder.groups), width)
        self.dates = nn.Linear(3, width) if dated else None
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.answers = nn.ModuleList(nn.Linear(width, size * encoder.patch**2) for size in encoder.groups)
        self.positions = PositionCodes(width)

    def forward(
        self, visible: Tensor, kept: Tensor, shape: tuple[int, int, int, int], dates: Tensor | None
    ) -> list[Tensor]:
        """Pixels (B, looks, patches, values) for each group.

        visible: (B, n, D), the tokens at the positions `kept`, (B, n), of the (looks, groups, rows, columns) of
        `shape`. dates: (B, looks, 3), as `date_codes` makes them.
        """
        n_looks, n_groups, rows, columns = shape
        entered = self.enter(visible)
        unseen = self.unseen.weight.to(entered).expand(len(visible), n_looks * n_groups * rows * columns, -1)
        tokens = unseen.scatter(1, kept[..., None].expand_as(entered), entered)
        by_date = (len(visible), n_looks, n_groups, rows * columns, -1)
        tokens = tokens.reshape(by_date)
        tokens = tokens + self.positions(rows, columns, tokens) + self.groups.weight[:, None].to(tokens)
        if self.dates is not None and dates is not None:
            tokens = tokens + self.dates(dates)[:, :, None, None]
        tokens = tokens.flatten(1, 3)
        for block in self.blocks:
            tokens = block(tokens)
        by_group = self.norm(tokens).reshape(by_date).unbind(dim=2)
        return [answer(own) for answer, own in zip(self.answers, by_group, strict=True)]


class MAE(nn.Module):
    """One encoder of all sensors together, of whose tokens most are hidden; the hidden pixels are predicted."""

    decoder_dim = 512
    """Width of the decoder as published; `hidden_dim` where that is less."""
    decoder_depth = 8
    decoder_heads = 16

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.settings = setup.views
        self.sensors = setup.sensors
        self.mask, self.ratio = setup.mask, setup.mask_ratio
        self.looks = LookPlan("series", setup.looks) if setup.looks > 1 else LookPlan()
        self.backbones = Backbones(replace(setup, joint=True))
        if not isinstance(self.backbones.encoders[self.backbones.branches[0]], ViT):
            raise TrainingError(f"mae hides patches and {setup.encoder} has none; choose a ViT, such as vit-small")
        encoder = self.encoder
        self.group_sensors = encoder.bands.sensors if len(encoder.groups) > 1 else self.sensors[:1]
        _check(setup, self.group_sensors)
        width = min(self.decoder_dim, setup.inside(self.decoder_dim))
        if width % 4:
            raise TrainingError(f"mae: a decoder of width {width} has no position codes; choose a multiple of 4")
        most_heads = max(1, self.decoder_heads * width // self.decoder_dim)
        heads = next(n for n in range(most_heads, 0, -1) if width % n == 0)
        dated = setup.looks > 1
        with torch.device("meta"):
            decoder = Decoder(encoder, width, self.decoder_depth, heads, dated)
            dates = nn.Linear(3, encoder.embedding_dim, bias=False) if dated else None
        self.decoder = initialised(decoder, torch.Generator().manual_seed(setup.seed + 501))
        seed = torch.Generator().manual_seed(setup.seed + 502)
        self.dates = None if dates is None else initialised(dates, seed)

    @property
    def encoders(self) -> nn.ModuleDict:
        """The one encoder, under the names of its sensors."""
        return self.backbones.encoders

    @property
    def encoder(self) -> ViT:
        """The encoder itself."""
        (encoder,) = self.backbones.encoders.values()
        assert isinstance(encoder, ViT)
        return encoder

    def views(self, batch: Batch, draws: Draws) -> MaskedLooks:
        """All looks of the batch on the same ground, and what of them is hidden."""
        looks = aligned(batch, self.settings, self.sensors, draws)
        images = torch.stack([self.backbones.images(look)[0] for look in looks], dim=1)
        unit = self.mask[draws.number(len(self.mask))]
        n_patches = (images.shape[-2] // self.encoder.patch) * (images.shape[-1] // self.encoder.patch)
        hidden = hidden_tokens(
            unit, sensors=self.group_sensors, looks=len(looks), patches=n_patches, ratio=self.ratio, draws=draws
        ).expand(len(images), len(looks), len(self.group_sensors), n_patches)
        flat = hidden.flatten(1)
        n_kept = flat.shape[1] - int(flat[0].sum())
        kept = flat.byte().argsort(dim=1, stable=True)[:, :n_kept]
        return MaskedLooks(
            images, hidden.to(images.device, non_blocking=True), kept.to(images.device, non_blocking=True)
        )

    def seen(self, views: MaskedLooks, dates: Tensor) -> Tensor:
        """What the encoder makes of the tokens that are not hidden, (B, n, D); dates: (B, looks, 3)."""
        # All tokens are made and then picked, so that every weight has a gradient in every step.
        tokens = self.encoder.patches(views.images.flatten(0, 1))
        tokens = tokens.reshape(*views.images.shape[:2], *tokens.shape[1:])
        if self.dates is not None:
            tokens = tokens + self.dates(dates - dates[:, :1])[:, :, None, None]
        return self.encoder.encode(tokens.flatten(1, 3).take_along_dim(views.kept[..., None], dim=1))

    def predicted(self, views: MaskedLooks, dates: Tensor, seen: Tensor) -> list[Tensor]:
        """Normalised pixels that the decoder predicts, (B, looks, patches, values) for each group of bands."""
        rows, columns = (side // self.encoder.patch for side in views.images.shape[-2:])
        n_looks, n_groups = views.hidden.shape[1:3]
        answers: list[Tensor] = self.decoder(seen, views.kept, (n_looks, n_groups, rows, columns), dates)
        return answers

    def forward(self, views: MaskedLooks, batch: Batch) -> Outcome:
        dates = date_codes(batch.days)
        seen = self.seen(views, dates)
        predictions = self.predicted(views, dates, seen)
        with torch.autocast(seen.device.type, enabled=False):
            embeddings = exact(seen).mean(dim=1)
            groups = torch.split(views.images, list(self.encoder.groups), dim=2)
            errors = [
                patch_errors(prediction, patch_pixels(images, self.encoder.patch))
                for prediction, images in zip(predictions, groups, strict=True)
            ]
            loss = shared_loss(hidden_error(torch.stack(errors, dim=2), views.hidden))
            terms = {
                "loss": loss,
                "spread": spread(gathered(embeddings)),
                "hidden": views.hidden.float().mean(),
            }
        return Outcome(terms=terms, embeddings=(embeddings,))


def _check(setup: Setup, group_sensors: Sequence[str]) -> None:
    """TrainingError where something cannot be hidden in what there is to see."""
    for unit in setup.mask or ("",):
        if unit not in UNITS:
            raise TrainingError(f"mask {unit!r} is not one of {', '.join(UNITS)}")
    if not 0 < setup.mask_ratio < 1:
        raise TrainingError(f"mask ratio {setup.mask_ratio}; expected a share above 0 and below 1")
    if "patch" in setup.mask and setup.views.crop // setup.patch < 2:
        raise TrainingError(
            f"mae: a view of {setup.views.crop} pixels has one patch of {setup.patch} at most; choose a larger --crop"
        )
    if "group" in setup.mask and len(group_sensors) < 2:
        raise TrainingError("mae: mask group needs tokens for several groups of bands; give --embed groups")
    if "sensor" in setup.mask and len(set(group_sensors)) < 2:
        raise TrainingError("mae: mask sensor needs two sensors with tokens of their own; give both and --embed groups")
    for unit in ("date", "future"):
        if unit in setup.mask and setup.looks < 2:
            raise TrainingError(f"mae: mask {unit} needs several dates of a place; give --dates 2 or more")
