"""ResNet and ViT for any number of bands: one image in, one embedding out.

Architectures: He et al. 2016 (ResNet-18, -50; ResNet-10 has one block a stage) and Dosovitskiy et al. 2021 (ViT, sizes
of Touvron et al. 2021). Two departures suit places of 48 to 264 pixels a side: the ResNet stem is a 3×3 convolution
with stride 2 instead of 7×7, and the ViT takes the mean of its patch tokens and fixed sine-cosine positions, so that it
accepts any image of at least one patch.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.errors import TrainingError

MAX_CHANNELS = 1024
"""No sensor comes near; more in a file's header is damage."""
PATCHES = (4, 8, 16, 32)


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
        self, channels: int, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], width: int = 64
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width_in = width
        for stage, depth in enumerate(depths):
            for position in range(depth):
                stages.append(block(width_in, width * 2**stage, stride=2 if stage and not position else 1))
                width_in = width * 2**stage * block.expansion
        self.embedding_dim = width_in
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(x.contiguous(memory_format=torch.channels_last)))
        return features.mean(dim=(2, 3))


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) → (B, N, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n_images, n_tokens, dim = x.shape
        qkv = self.qkv(x).reshape(n_images, n_tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads) each
        mixed = functional.scaled_dot_product_attention(q, k, v)
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

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """(B, C, H, W) float32 → (B, embedding_dim): the mean of the patch tokens of the last block.

    Rows and columns beyond the last whole patch are left out, half of them on each side.
    """

    def __init__(self, channels: int, dim: int, depth: int, heads: int, patch: int) -> None:
        super().__init__()
        self.embedding_dim = dim
        self.patch = patch
        self.embed = nn.Conv2d(channels, dim, patch, patch)
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if min(height, width) < self.patch:
            raise TrainingError(f"image of {height} × {width} pixels is smaller than a patch of {self.patch}")
        top, left = height % self.patch // 2, width % self.patch // 2
        rows, columns = height // self.patch, width // self.patch
        x = x[..., top : top + rows * self.patch, left : left + columns * self.patch]
        tokens = self.embed(x).flatten(2).transpose(1, 2)  # (B, rows × columns, D)
        tokens = tokens + positions(rows, columns, self.embedding_dim).to(tokens)
        return self.norm(self.blocks(tokens)).mean(dim=1)  # type: ignore[no-any-return]


def positions(rows: int, columns: int, dim: int) -> Tensor:
    """Fixed position codes, shape (rows × columns, dim), float32: half for the row, half for the column.

    Each half is sin and cos of the index at dim / 4 frequencies from 1 down to 1 / 10000 (Vaswani et al. 2017, 3.5, in
    two dimensions). The code of a position does not depend on how large the image is.
    """
    quarter = dim // 4
    frequencies = torch.exp(-torch.arange(quarter) / quarter * torch.log(torch.tensor(10_000.0)))
    row = torch.arange(rows).repeat_interleave(columns)[:, None] * frequencies
    column = torch.arange(columns).repeat(rows)[:, None] * frequencies
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)


Encoder: TypeAlias = ResNet | ViT
AnyModule = TypeVar("AnyModule", bound=nn.Module)

_BUILDERS: dict[str, Callable[[int, int], Encoder]] = {
    "resnet10": lambda channels, patch: ResNet(channels, BasicBlock, (1, 1, 1, 1)),
    "resnet18": lambda channels, patch: ResNet(channels, BasicBlock, (2, 2, 2, 2)),
    "resnet50": lambda channels, patch: ResNet(channels, Bottleneck, (3, 4, 6, 3)),
    "vit-tiny": lambda channels, patch: ViT(channels, 192, 12, 3, patch),
    "vit-small": lambda channels, patch: ViT(channels, 384, 12, 6, patch),
}

ENCODERS: tuple[str, ...] = tuple(_BUILDERS)
"""Names that `build_encoder` knows."""


def build_encoder(name: str, channels: int, *, seed: int, patch: int = 16) -> Encoder:
    """A freshly initialised encoder with `.embedding_dim`: (B, channels, H, W) float32 → (B, embedding_dim).

    name: resnet10, resnet18, resnet50, vit-tiny or vit-small. patch: side of a ViT's patches, pixels; ResNets have
    none. The weights depend on the arguments only; torch's global generator is neither read nor moved.
    Raises TrainingError for a name, channel count or patch that does not exist.
    """
    if name not in _BUILDERS:
        raise TrainingError(f"encoder {name!r} is not one of {', '.join(ENCODERS)}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise TrainingError(f"{channels} channels; an encoder takes 1 to {MAX_CHANNELS}")
    if patch not in PATCHES:
        raise TrainingError(f"patch {patch} is not one of {', '.join(map(str, PATCHES))}")
    with torch.device("meta"):
        encoder = _BUILDERS[name](channels, patch)
    return initialised(encoder, torch.Generator().manual_seed(seed))


def initialised(module: AnyModule, generator: torch.Generator) -> AnyModule:
    """The same module on the CPU, its weights drawn from `generator` in the order of its layers.

    Convolutions: normal, variance 2 / fan-out (He et al. 2015), the patch embedding 1 / fan-in; linear layers:
    truncated normal of width 0.02 in a transformer and 1 / √fan-in elsewhere; biases zero; norms one and zero. Built
    on the meta device first, a module costs no draw from torch's global generator.
    """
    module.to_empty(device="cpu")
    inside_transformer = {id(part) for block in module.modules() if isinstance(block, ViT) for part in block.modules()}
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if layer.bias is None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="linear", generator=generator)
        elif isinstance(layer, nn.Linear):
            std = 0.02 if id(layer) in inside_transformer else layer.in_features**-0.5
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for parameter in module.parameters():
        if parameter.ndim == 4:  # a quarter faster on a CPU than the default layout
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module
