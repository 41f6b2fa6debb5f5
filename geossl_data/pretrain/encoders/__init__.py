"""ResNet and ViT for any number of bands, some of which may be missing: one image in, one embedding out.

Both suit places of 48 to 264 pixels a side; what departs from the papers is said where it does.
"""

from geossl_data.pretrain.encoders.bands import MAX_CHANNELS, Bands, bands_of, only_present
from geossl_data.pretrain.encoders.build import _BUILDERS, ENCODERS, Encoder, build_encoder, inflated, initialised
from geossl_data.pretrain.encoders.embeddings import (
    EMBEDDINGS,
    PATCHES,
    GroupEmbedding,
    Patching,
    PlainEmbedding,
    WavelengthEmbedding,
    learned_codes,
    whole_patches,
)
from geossl_data.pretrain.encoders.resnet import BasicBlock, Bottleneck, ResNet
from geossl_data.pretrain.encoders.vit import PositionCodes, TransformerBlock, ViT, mean_token, positions

__all__ = [
    "EMBEDDINGS",
    "ENCODERS",
    "MAX_CHANNELS",
    "PATCHES",
    "_BUILDERS",
    "Bands",
    "BasicBlock",
    "Bottleneck",
    "Encoder",
    "GroupEmbedding",
    "Patching",
    "PlainEmbedding",
    "PositionCodes",
    "ResNet",
    "TransformerBlock",
    "ViT",
    "WavelengthEmbedding",
    "bands_of",
    "build_encoder",
    "inflated",
    "initialised",
    "learned_codes",
    "mean_token",
    "only_present",
    "positions",
    "whole_patches",
]
