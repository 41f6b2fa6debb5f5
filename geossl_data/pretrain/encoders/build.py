"""Encoders by name, freshly initialised; what they start from depends on a seed alone."""

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders.bands import Bands, bands_of
from geossl_data.pretrain.encoders.embeddings import EMBEDDINGS, PATCHES, Patching, WavelengthEmbedding
from geossl_data.pretrain.encoders.resnet import BasicBlock, Bottleneck, ResNet
from geossl_data.pretrain.encoders.vit import TransformerBlock, ViT

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
            truncated_normal_(layer.weight, std, generator)
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


@torch.no_grad()
def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Fill with normal numbers of mean 0 and deviation `std`, none beyond twice that; the same in every torch.

    torch's own changed the way in which it draws them. Here: the inverse of the distribution at uniform numbers.
    """
    edge = math.erf(math.sqrt(2))  # share of a normal distribution within two deviations
    weight.uniform_(-edge, edge, generator=generator)
    return weight.erfinv_().mul_(math.sqrt(2) * std).clamp_(-2 * std, 2 * std)


def inflated(weight: Tensor, channels: int) -> Tensor:
    """Weights (out, in, k, k) of a first convolution for another number of channels, (out, channels, k, k).

    Each channel gets the mean over the old ones × in / channels: an image of one constant in all channels is answered
    as before. For encoders that start from weights of RGB images, in = 3.
    """
    n = weight.shape[1]
    return weight.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1) * (n / channels)
