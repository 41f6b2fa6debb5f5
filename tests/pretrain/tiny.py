"""Encoders that train in a moment, under names of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

from geossl_data.pretrain import encoders

BUILDERS = {
    "tiny": lambda bands, patching: encoders.ResNet(bands, encoders.BasicBlock, (1, 1), width=8),
    "tiny-vit": lambda bands, patching: encoders.ViT(bands, 16, 1, 2, patching),
}


@contextmanager
def tiny_encoders() -> Iterator[None]:
    """`tiny`, a ResNet, and `tiny-vit` can be built inside; so they can afterwards where they could before."""
    before = set(encoders._BUILDERS)
    encoders._BUILDERS.update(BUILDERS)
    try:
        yield
    finally:
        for name in set(BUILDERS) - before:
            encoders._BUILDERS.pop(name, None)
