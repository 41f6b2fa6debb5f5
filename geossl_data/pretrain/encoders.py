"""ResNet and ViT for any number of bands, some of which may be missing: one image in, one embedding out.

Architectures: He et al. 2016 (ResNet-18, -50; ResNet-10 has one block a stage) and Dosovitskiy et al. 2021 (ViT, sizes
of Touvron et al. 2021). Two departures suit places of 48 to 264 pixels a side: the ResNet stem is a 3×3 convolution
with stride 2 instead of 7×7, and the ViT takes the mean of its patch tokens and fixed sine-cosine positions, so that it
accepts any image of at least one patch.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.errors import TrainingError

MAX_CHANNELS = 1024
"""No sensor comes near; more in a file's header is damage."""
PATCHES = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """The bands of an encoder's images, in their order."""

    names: tuple[str, ...]
    groups: tuple[int, ...]
    """Lengths of the runs of bands that belong together: those of one member, so of one resolution. They sum to n."""
    sensors: tuple[str, ...]
    """The sensor of each group."""
    wavelengths_um: tuple[float | None, ...]
    """Centre wavelength of each band, micrometres; None where it has none that is known."""

    def __post_init__(self) -> None:
        n = len(self.names)
        if sum(self.groups) != n or len(self.wavelengths_um) != n or len(self.sensors) != len(self.groups):
            raise TrainingError(f"{n} bands in groups {self.groups} of sensors {self.sensors}; expected as many")
        if not 1 <= n <= MAX_CHANNELS or min(self.groups) < 1:
            raise TrainingError(f"{n} channels; an encoder takes 1 to {MAX_CHANNELS}")
        for name, length in zip(self.names, self.wavelengths_um, strict=True):
            if length is not None and not 0 < length < math.inf:
                raise TrainingError(f"wavelength {length} µm of band {name}; expected a number above 0")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def plain(cls, n: int) -> "Bands":
        """`n` bands in one group, of which nothing is known."""
        return cls(
            names=tuple(f"band-{i}" for i in range(n)), groups=(n,), sensors=("images",), wavelengths_um=(None,) * n
        )

    @classmethod
    def joined(cls, parts: Iterable["Bands"]) -> "Bands":
        """The bands of several sensors, one after the other."""
        parts = list(parts)
        return cls(
            names=tuple(name for part in parts for name in part.names),
            groups=tuple(size for part in parts for size in part.groups),
            sensors=tuple(sensor for part in parts for sensor in part.sensors),
            wavelengths_um=tuple(length for part in parts for length in part.wavelengths_um),
        )


def bands_of(bands: Bands | int) -> Bands:
    """The bands, or that many of which nothing is known; TrainingError where an encoder cannot take as many."""
    if isinstance(bands, Bands):
        return bands
    if not 1 <= bands <= MAX_CHANNELS:
        raise TrainingError(f"{bands} channels; an encoder takes 1 to {MAX_CHANNELS}")
    return Bands.plain(bands)


@dataclass(frozen=True, slots=True)
class Patching:
    """How a ViT cuts images into tokens."""

    side: int = 16
    """Of a patch, pixels."""
    embed: str = "plain"
    """One of `EMBEDDINGS`."""


def only_present(x: Tensor, present: Tensor | None) -> Tensor:
    """The images (B, C, H, W) with 0, the mean, in the bands that are not there; present: (C,) or (B, C) bool."""
    if present is None:
        return x
    return torch.where(_rows(present, x)[:, :, None, None], x, 0.0)


def _rows(present: Tensor, x: Tensor) -> Tensor:
    """Which bands are there, on the device of `x`: (B, C), or (1, C) where it is the same in all images."""
    return (present if present.ndim == 2 else present[None]).to(x.device)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride) and 1×1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.BatchNorm2d(4 * width),
        )
        self.shortcut = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x), inplace=True)


def _shortcut(channels: int, width: int, stride: int) -> nn.Module:
    if stride == 1 and channels == width:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """(B, C, H, W) float32 → (B, embedding_dim): stem of stride 4, stages of doubling width, mean over the image."""

    def __init__(
        self, bands: Bands | int, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], width: int = 64
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width_in = width
        for stage, depth in enumerate(depths):
            for position in range(depth):
                stages.append(block(width_in, width * 2**stage, stride=2 if stage and not position else 1))
                width_in = width * 2**stage * block.expansion
        self.bands = bands_of(bands)
        self.embedding_dim = width_in
        self.depths = depths
        self.stem = nn.Sequential(
            nn.Conv2d(len(self.bands), width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        x = only_present(x, present)
        features: Tensor = self.stages(self.stem(x.contiguous(memory_format=torch.channels_last)))
        return features.mean(dim=(2, 3))

    def pyramid(self, x: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) for dense tasks: of the stem, at half the image's side, and of each stage."""
        x = only_present(x, present).contiguous(memory_format=torch.channels_last)
        maps = [self.stem[:-1](x)]
        x = self.stem[-1](maps[0])
        blocks = iter(self.stages)
        for depth in self.depths:
            for _ in range(depth):
                x = next(blocks)(x)
            maps.append(x)
        return maps

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Those of the patch embedding: none."""
        return []


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) → (B, N, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: bool, to be broadcast to (B, heads, N, N), True where the token of the last axis may be looked at."""
        n_images, n_tokens, dim = x.shape
        qkv = self.qkv(x).reshape(n_images, n_tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads) each
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(n_images, n_tokens, dim)
        return self.out(mixed)  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Pre-norm attention and a 4× wide MLP, each with a residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm_attention(x), mask)
        return x + self.mlp(self.norm_mlp(x))  # type: ignore[no-any-return]


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
            n_present = _rows(present, x).sum(dim=1).clamp(min=1)
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


class PositionCodes(nn.Module):
    """`positions`, worked out once for each size and device; no part of a module's state."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self._known: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Shape (rows × columns, dim), of the type and on the device of `like`."""
        if torch.compiler.is_compiling():  # what is remembered would be compiled for once more
            return positions(rows, columns, self.dim, like.device).to(like)
        key = (rows, columns, like.device)
        if key not in self._known:
            with torch.inference_mode(False):
                self._known[key] = positions(rows, columns, self.dim).to(like.device)
        return self._known[key].to(like)


class ViT(nn.Module):
    """(B, C, H, W) float32 → (B, embedding_dim): the mean of the patch tokens of the last block.

    Rows and columns beyond the last whole patch are left out, half of them on each side. Where the embedding makes a
    token for each group of bands, a group without any band there takes no part: neither in the attention nor in the
    mean. At least one band has to be there.
    """

    def __init__(self, bands: Bands | int, dim: int, depth: int, heads: int, patch: Patching | int) -> None:
        super().__init__()
        patching = Patching(patch) if isinstance(patch, int) else patch
        self.bands = bands_of(bands)
        self.embedding_dim = dim
        self.patch = patching.side
        self.embed: nn.Module = _EMBEDDINGS[patching.embed](self.bands, dim, patching.side)
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.positions = PositionCodes(dim)

    @property
    def groups(self) -> tuple[int, ...]:
        """How many bands are in each group that has tokens of its own; one group unless the embedding is `groups`."""
        return self.bands.groups if isinstance(self.embed, GroupEmbedding) else (len(self.bands),)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        tokens = self.patches(x, present)
        groups = self._groups_there(x, present)
        visible = None if groups is None else groups.repeat_interleave(tokens.shape[2], dim=1)
        return mean_token(self.encode(tokens.flatten(1, 2), visible), visible)

    def patches(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Tokens (B, G, P, D) before the first block, G groups of bands, P patches by rows; with codes of position."""
        x = whole_patches(x, self.patch)
        rows, columns = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        tokens: Tensor = self.embed(x, present)
        return tokens + self.positions(rows, columns, tokens)  # type: ignore[no-any-return]

    def encode(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) after the last block; visible: (B or 1, N) bool, those that may be looked at."""
        mask = None if visible is None else visible[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, mask)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def pyramid(self, x: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Maps (B, D, h, w) for dense tasks, of four evenly spaced blocks, through the last norm; groups averaged."""
        tokens = self.patches(x, present)
        n_images, n_groups, n_patches, dim = tokens.shape
        groups = self._groups_there(x, present)
        mask = None if groups is None else groups.repeat_interleave(n_patches, dim=1)[:, None, None]
        rows, columns = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        found = []
        tokens = tokens.flatten(1, 2)
        for block in self.blocks:
            tokens = block(tokens, mask)
            found.append(tokens)
        chosen = [found[-(-quarter * len(found) // 4) - 1] for quarter in (1, 2, 3, 4)]
        maps = []
        for after in chosen:
            by_patch = self.norm(after).reshape(n_images, n_groups, n_patches * dim)
            maps.append(mean_token(by_patch, groups).reshape(n_images, rows, columns, dim).permute(0, 3, 1, 2))
        return maps

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Those that turn pixels into tokens, which MoCo-v3 keeps as they are; codes of groups are not among them."""
        parts = self.embed.parts if isinstance(self.embed, GroupEmbedding) else self.embed
        return list(parts.parameters())

    def for_bands(self, bands: Bands) -> "ViT":
        """A copy with the same weights for images of other bands; its embedding has to be by wavelength."""
        if not isinstance(self.embed, WavelengthEmbedding):
            raise TrainingError(
                "only an encoder with wavelength embedding takes other bands than those it was made for"
            )
        other = copy.deepcopy(self)
        assert isinstance(other.embed, WavelengthEmbedding)
        other.embed.describe(bands)
        other.bands = bands
        return other

    def _groups_there(self, x: Tensor, present: Tensor | None) -> Tensor | None:
        """Which groups have a band that is there, (B or 1, G) bool; None where all of them are."""
        if present is None or len(self.groups) == 1:
            return None
        return torch.stack([own.any(dim=1) for own in torch.split(_rows(present, x), list(self.groups), dim=1)], dim=1)


_EMBEDDINGS: dict[str, Callable[[Bands, int, int], nn.Module]] = {
    "plain": PlainEmbedding,
    "groups": GroupEmbedding,
    "wavelength": WavelengthEmbedding,
}

EMBEDDINGS: tuple[str, ...] = tuple(_EMBEDDINGS)
"""Patch embeddings of a ViT: of all bands at once, of each group of bands, by weights made from wavelengths."""


def mean_token(tokens: Tensor, visible: Tensor | None = None) -> Tensor:
    """The mean of the tokens (B, N, D), shape (B, D), or of those that are `visible`, (B or 1, N) bool."""
    if visible is None:
        return tokens.mean(dim=1)
    share = visible / visible.sum(dim=1, keepdim=True)
    return (tokens * share.to(tokens)[..., None]).sum(dim=1)


def positions(rows: int, columns: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Fixed position codes, shape (rows × columns, dim), float32: half for the row, half for the column.

    Each half is sin and cos of the index at dim / 4 frequencies from 1 down to 1 / 10000 (Vaswani et al. 2017, 3.5, in
    two dimensions). The code of a position does not depend on how large the image is.
    """
    quarter = dim // 4
    frequencies = torch.exp(-torch.arange(quarter, device=device) / quarter * math.log(10_000.0))
    row = torch.arange(rows, device=device).repeat_interleave(columns)[:, None] * frequencies
    column = torch.arange(columns, device=device).repeat(rows)[:, None] * frequencies
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)


def inflated(weight: Tensor, channels: int) -> Tensor:
    """Weights (out, in, k, k) of a first convolution for another number of channels, (out, channels, k, k).

    Each channel gets the mean over the old ones × in / channels: an image of one constant in all channels is answered
    as before. For encoders that start from weights of RGB images, in = 3.
    """
    n = weight.shape[1]
    return weight.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1) * (n / channels)


Encoder: TypeAlias = ResNet | ViT
AnyModule = TypeVar("AnyModule", bound=nn.Module)

_BUILDERS: dict[str, Callable[[Bands, Patching], Encoder]] = {
    "resnet10": lambda bands, patch: ResNet(bands, BasicBlock, (1, 1, 1, 1)),
    "resnet18": lambda bands, patch: ResNet(bands, BasicBlock, (2, 2, 2, 2)),
    "resnet50": lambda bands, patch: ResNet(bands, Bottleneck, (3, 4, 6, 3)),
    "vit-tiny": lambda bands, patch: ViT(bands, 192, 12, 3, patch),
    "vit-small": lambda bands, patch: ViT(bands, 384, 12, 6, patch),
    "vit-base": lambda bands, patch: ViT(bands, 768, 12, 12, patch),
}

ENCODERS: tuple[str, ...] = tuple(_BUILDERS)
"""Names that `build_encoder` knows."""


def build_encoder(name: str, bands: Bands | int, *, seed: int, patch: int = 16, embed: str = "plain") -> Encoder:
    """A freshly initialised encoder with `.embedding_dim` and `.bands`.

    It takes images (B, bands, H, W), float32, and optionally which bands are there, `present`, (bands,) or
    (B, bands) bool, and answers with (B, embedding_dim); what stands in a band that is not there has no influence.
    Its `.pyramid` answers with maps for dense tasks.

    name: one of `ENCODERS`. bands: what the images hold, or how many bands of which nothing is known. patch: side of a
    ViT's patches, pixels, and embed: one of `EMBEDDINGS`; ResNets have neither. The weights depend on the arguments
    only; torch's global generator is neither read nor moved.
    Raises TrainingError for a name, channel count, patch or embedding that does not exist or does not suit the bands.
    """
    if name not in _BUILDERS:
        raise TrainingError(f"encoder {name!r} is not one of {', '.join(ENCODERS)}")
    bands = bands_of(bands)
    if patch not in PATCHES:
        raise TrainingError(f"patch {patch} is not one of {', '.join(map(str, PATCHES))}")
    if embed not in EMBEDDINGS:
        raise TrainingError(f"embedding {embed!r} is not one of {', '.join(EMBEDDINGS)}")
    with torch.device("meta"):
        encoder = _BUILDERS[name](bands, Patching(patch, embed))
    if embed != "plain" and not isinstance(encoder, ViT):
        raise TrainingError(f"{name} has no patches to embed by {embed}; choose a ViT, or the embedding plain")
    return initialised(encoder, torch.Generator().manual_seed(seed))


def initialised(module: AnyModule, generator: torch.Generator) -> AnyModule:
    """The same module on the CPU, its weights drawn from `generator` in the order of its layers.

    Convolutions: normal, variance 2 / fan-out (He et al. 2015), the patch embedding 1 / fan-in; linear layers:
    truncated normal of width 0.02 in the blocks of a transformer and 1 / √fan-in elsewhere; codes: normal with the mean
    square of a sine, that of the position codes; biases zero; norms one and zero. Built on the meta device first, a
    module costs no draw from torch's global generator.
    """
    module.to_empty(device="cpu")
    inside_transformer = {
        id(part) for block in module.modules() if isinstance(block, TransformerBlock) for part in block.modules()
    }
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if layer.bias is None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="linear", generator=generator)
        elif isinstance(layer, nn.Linear):
            std = 0.02 if id(layer) in inside_transformer else layer.in_features**-0.5
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
        elif isinstance(layer, WavelengthEmbedding):
            layer.describe(layer.bands)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=0.5**0.5, generator=generator)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for parameter in module.parameters():
        if parameter.ndim == 4 and parameter.shape[-1] > 1:  # a quarter faster on a CPU than the default layout
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module
