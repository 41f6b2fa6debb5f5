"""Images → the first tokens of a ViT: of all bands at once, of groups of bands, or by weights made from wavelengths."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders.bands import Bands, only_present, rows_present

PATCHES = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Patching:
    """How a ViT cuts images into tokens."""

    side: int = 16
    """Of a patch, pixels."""
    embed: str = "plain"
    """One of `EMBEDDINGS`."""


def whole_patches(x: Tensor, side: int) -> Tensor:
    """The images (…, H, W) without the rows and columns beyond the last whole patch, left out half on each side.

    TrainingError where the image is smaller than a patch.
    """
    height, width = x.shape[-2:]
    if min(height, width) < side:
        raise TrainingError(f"image of {height} × {width} pixels is smaller than a patch of {side}")
    top, left = height % side // 2, width % side // 2
    return x[..., top : top + height // side * side, left : left + width // side * side]


class PlainEmbedding(nn.Conv2d):
    """Images (B, C, H, W) of whole patches → one token a patch, (B, 1, P, D)."""

    def __init__(self, bands: Bands, dim: int, side: int) -> None:
        super().__init__(len(bands), dim, side, side)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        return _tokens(super().forward(only_present(x, present)))[:, None]


class GroupEmbedding(nn.Module):
    """Images (B, C, H, W) of whole patches → one token for each patch and group of bands, (B, G, P, D).

    Every group has weights and a learned code of its own, as in SatMAE (Cong et al. 2022, section 3.3).
    """

    def __init__(self, bands: Bands, dim: int, side: int) -> None:
        super().__init__()
        self.sizes = bands.groups
        self.parts = nn.ModuleList(nn.Conv2d(size, dim, side, side) for size in bands.groups)
        self.codes = learned_codes(len(bands.groups), dim)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        groups = torch.split(only_present(x, present), list(self.sizes), dim=1)
        tokens = torch.stack([_tokens(part(own)) for part, own in zip(self.parts, groups, strict=True)], dim=1)
        return tokens + self.codes.weight[:, None].to(tokens)


def learned_codes(n: int, dim: int) -> nn.Embedding:
    """`n` learned codes, not drawn yet: torch's own draws load its compiler on the meta device, which takes seconds."""
    return nn.Embedding.from_pretrained(torch.empty(n, dim), freeze=False)  # type: ignore[no-untyped-call,no-any-return]


POLARISATIONS = ("VV", "VH", "HV", "HH")
"""Names of radar bands, which differ in more than a wavelength."""
_CODE = 32
"""Numbers that describe a band to the network that makes its weights."""


class WavelengthEmbedding(nn.Module):
    """Images (B, C, H, W) of whole patches → one token a patch, (B, 1, P, D), by weights made from wavelengths.

    After DOFA (Xiong et al. 2024): a small network turns the code of a band's wavelength into the weights of its part
    of the patch embedding, so that bands near each other in the spectrum share what is learned, and other bands can be
    put in (`ViT.for_bands`). A token is the mean over the bands that are there. A radar band has a learned code for its
    polarisation in place of a wavelength's; a band with neither is refused with TrainingError.
    """

    spectrum: Tensor
    radar: Tensor

    def __init__(self, bands: Bands, dim: int, side: int) -> None:
        super().__init__()
        self.dim, self.side = dim, side
        self.network = nn.Sequential(nn.Linear(_CODE, 4 * _CODE), nn.GELU(), nn.Linear(4 * _CODE, _CODE))
        self.kernels = nn.Linear(_CODE, dim * side**2, bias=False)
        self.polarisations = tuple(dict.fromkeys(name for name in _polarisations(bands) if name))
        if self.polarisations:
            self.codes = learned_codes(len(self.polarisations), _CODE)
        self.register_buffer("spectrum", torch.empty(len(bands), _CODE), persistent=False)
        self.register_buffer("radar", torch.empty(len(bands), len(self.polarisations)), persistent=False)
        self.describe(bands)

    def describe(self, bands: Bands) -> None:
        """From now on the images have these bands. TrainingError where one has no code."""
        names = _polarisations(bands)
        lacking = sorted({name for name in names if name} - set(self.polarisations))
        if lacking:
            raise TrainingError(f"no code was learned for polarisation {' or '.join(lacking)}; train with it")
        self.bands = bands
        device = self.kernels.weight.device
        rows = [[0.0] * _CODE if length is None else _wavelength_code(length) for length in bands.wavelengths_um]
        which = [[float(name == own) for own in self.polarisations] for name in names]
        self.spectrum = torch.tensor(rows, device=device)
        self.radar = torch.tensor(which, device=device).reshape(len(bands), len(self.polarisations))

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        n_bands = len(self.spectrum)
        with torch.autocast(x.device.type, enabled=False):  # neighbouring wavelengths differ by little
            codes = self.spectrum + self.radar @ self.codes.weight if self.polarisations else self.spectrum
            mixture = functional.normalize(self.network(codes)) * _CODE**0.5
            kernels = self.kernels(mixture).reshape(n_bands, self.dim, self.side, self.side).transpose(0, 1)
            kernels = kernels / (self.side * n_bands)
        tokens = _tokens(functional.conv2d(only_present(x, present), kernels, stride=self.side))
        if present is not None:
            n_present = rows_present(present, x).sum(dim=1).clamp(min=1)
            tokens = tokens * (n_bands / n_present).to(tokens)[:, None, None]
        return tokens[:, None]


def _tokens(maps: Tensor) -> Tensor:
    """(B, D, rows, columns) → (B, rows × columns, D)."""
    return maps.flatten(2).transpose(1, 2)


def _polarisations(bands: Bands) -> list[str]:
    """The polarisation of each band that has no wavelength, else an empty word; TrainingError where it has neither."""
    pairs = list(zip(bands.names, bands.wavelengths_um, strict=True))
    unknown = [name for name, length in pairs if length is None and name.upper() not in POLARISATIONS]
    if unknown:
        raise TrainingError(f"no wavelength is known of {', '.join(unknown)}; choose the embedding plain or groups")
    return [name.upper() if length is None else "" for name, length in pairs]


def _wavelength_code(wavelength_um: float) -> list[float]:
    """sin and cos of the logarithm of a wavelength at 16 rates from 1 to 64: neighbours of 3 % are told apart."""
    rates = [64 ** (i / (_CODE // 2 - 1)) for i in range(_CODE // 2)]
    return [f(rate * math.log(wavelength_um)) for f in (math.sin, math.cos) for rate in rates]


EMBEDDING_TYPES: dict[str, Callable[[Bands, int, int], nn.Module]] = {
    "plain": PlainEmbedding,
    "groups": GroupEmbedding,
    "wavelength": WavelengthEmbedding,
}

EMBEDDINGS: tuple[str, ...] = tuple(EMBEDDING_TYPES)
"""Patch embeddings of a ViT: of all bands at once, of each group of bands, by weights made from wavelengths."""
