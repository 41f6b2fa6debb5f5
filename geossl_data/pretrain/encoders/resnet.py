"""ResNet for any number of bands (He et al. 2016): the stem is a 3×3 convolution with stride 2 instead of 7×7."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.pretrain.encoders.bands import Bands, bands_of, only_present


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
