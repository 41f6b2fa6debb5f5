"""Heads: maps over the pixels that they were made of, features in any scale, and nothing that depends on a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.errors import TrainingError
from geossl_data.evaluation.decoders import (
    CLIP,
    ChangeHead,
    Head,
    ImageHead,
    MapHead,
    enlarged,
    extended,
    on_pixels,
    require_looks,
)
from geossl_data.pretrain.encoders import build_encoder


class Seeing(nn.Module):
    """What heads ask of a Sight, of encoders that take 2 bands."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(build_encoder(name, 2, seed=3, patch=8) for name in names)
        self.embedding_dim = sum(encoder.embedding_dim for encoder in self.encoders)
        self.eval()
        self.widths = tuple(level.shape[1] for level in self.pyramid([torch.zeros(1, 2, 16, 16)] * len(names)))

    def embed(self, images: list[Tensor]) -> Tensor:
        return torch.cat([encoder(image) for encoder, image in zip(self.encoders, images, strict=True)], dim=1)

    def pyramid(self, images: list[Tensor]) -> list[Tensor]:
        (encoder,), (image,) = self.encoders, images
        return encoder.pyramid(image)


def ramp(height: int, width: int) -> Tensor:
    """Row and column of the middle of each pixel, (1, 2, H, W)."""
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


def halved(image: Tensor) -> Tensor:
    """As a stride of 2 leaves it: sides divided by 2, rounded up, each pixel the middle of the two it stands for."""
    height, width = image.shape[-2:]
    return 2 * ramp(-(-height // 2), -(-width // 2))


def test_coarse_pixels_stay_over_those_that_they_were_made_of() -> None:
    coarse = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    assert enlarged(coarse, (1, 5)).tolist() == [[[[0, 0, 1, 1, 2]]]]
    assert enlarged(coarse, (2, 6)).tolist() == [[[[0, 0, 1, 1, 2, 2]] * 2]]
    assert enlarged(coarse, (1, 3)) is not None
    assert enlarged(torch.zeros(1, 1, 3, 3), (12, 10)).shape == (1, 1, 12, 10)


@given(height=st.integers(4, 21), width=st.integers(4, 21))
def test_a_map_of_half_the_side_comes_back_in_place(height: int, width: int) -> None:
    half = halved(torch.zeros(1, 1, height, width))
    found = on_pixels(half, (height, width), (height, width), (height, width))
    # Bilinear between middles; only half a coarse pixel at the edges lies beyond them.
    assert torch.allclose(found[..., 1 : height - 1, 1 : width - 1], ramp(height, width)[..., 1:-1, 1:-1], atol=1e-4)


def test_a_map_can_be_finer_and_coarser_than_the_images() -> None:
    quarter = 4 * ramp(3, 3)  # of images of 12 pixels
    for side in (24, 6):
        found = on_pixels(quarter, (12, 12), (12, 12), (side, side)) * side / 12
        inner = slice(side // 6, -(side // 6))
        assert torch.allclose(found[..., inner, inner], ramp(side, side)[..., inner, inner], atol=1e-4)


def test_images_are_extended_by_their_last_pixels() -> None:
    image = ramp(3, 5)
    assert extended(image, 1) is image
    found = extended(image, 4)
    assert found.shape == (1, 2, 4, 8)
    assert torch.equal(found[..., :3, :5], image)
    assert torch.equal(found[0, 1, 3], torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 4.5, 4.5, 4.5]))


@pytest.mark.parametrize("encoder", ["tiny", "tiny-vit"])
@pytest.mark.parametrize(("side", "size"), [(16, (16, 16)), (21, (21, 21)), (13, (26, 26)), (18, (9, 9))])
def test_maps_have_the_size_asked_for(encoder: str, side: int, size: tuple[int, int]) -> None:
    sight: Any = Seeing(encoder)
    images = [torch.randn(4, 2, side, side)]
    for head, rows in ((MapHead(sight, 3), 4), (ChangeHead(sight, 3), 2)):
        assert head(head.seen(sight, images), (side, side), size).shape == (rows, 3, *size)
    head_of_look = ImageHead(sight, 5)
    assert head_of_look(head_of_look.seen(sight, images), (side, side), (1, 1)).shape == (4, 5)


def test_a_vit_sees_the_pixels_beyond_its_last_whole_patch() -> None:
    sight: Any = Seeing("tiny-vit")
    head = MapHead(sight, 2)
    image = torch.randn(1, 2, 21, 21)
    other = image.clone()
    other[..., 20, :] += 5
    before, after = (head(head.seen(sight, [one]), (21, 21), (21, 21)) for one in (image, other))
    assert not torch.allclose(before[..., 20, :], after[..., 20, :])


@pytest.mark.parametrize("encoder", ["tiny", "tiny-vit"])
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(encoder: str) -> None:
    sight: Any = Seeing(encoder)
    images = torch.randn(6, 2, 16, 16)
    for head in (MapHead(sight, 3), ChangeHead(sight, 3)):
        head.standardise([head.levels(sight, [images])])
        head.train()
        together = head(head.seen(sight, [images]), (16, 16), (16, 16))
        alone = head(head.seen(sight, [images[: head.looks]]), (16, 16), (16, 16))
        assert torch.allclose(together[:1], alone, atol=1e-5)


def test_change_is_the_size_of_the_difference() -> None:
    sight: Any = Seeing("tiny")
    head = ChangeHead(sight, 2)
    earlier, later = torch.randn(2, 1, 2, 16, 16)
    images = [torch.cat([earlier, later, later, earlier, later, later])]
    expected = [(a - b).abs() for a, b in zip(sight.pyramid([earlier]), sight.pyramid([later]), strict=True)]
    for level, own in zip(head.levels(sight, images), expected, strict=True):
        assert torch.allclose(level[:1], own, atol=1e-5)
        assert torch.allclose(level[1:2], own, atol=1e-5)
        assert level[2].abs().max() == 0


def test_levels_are_standardised_channel_by_channel() -> None:
    sight: Any = Seeing("tiny")
    head = MapHead(sight, 2)
    rng = np.random.default_rng(0)
    raw = [
        torch.from_numpy(rng.standard_normal((2, 5, width, 3, 3)).astype(np.float32)) * 40 + 7 for width in head.widths
    ]
    raw[1][:, :, 4] = 1234.5  # says nothing
    head.standardise([[level[0] for level in raw], [level[1] for level in raw]])
    head.levels = lambda sight, images: [level[0] for level in raw]  # type: ignore[method-assign]
    for number, (level, seen) in enumerate(zip(raw, head.seen(sight, []), strict=True)):
        values = level.double()
        mean, std = values.mean(dim=(0, 1, 3, 4)), values.std(dim=(0, 1, 3, 4), correction=0)
        if number == 1:
            assert seen[:, 4].abs().max() == 0
            std[4] = torch.inf
        expected = (values[0] - mean[:, None, None]) / std[:, None, None]
        assert torch.allclose(seen.double(), expected, atol=1e-4)


def test_standardised_levels_do_not_run_away() -> None:
    sight: Any = Seeing("tiny")
    head = ImageHead(sight, 2)
    head.standardise([[torch.randn(50, sight.embedding_dim)]])
    head.levels = lambda sight, images: [torch.full((1, sight.embedding_dim), 1e9)]  # type: ignore[method-assign]
    assert head.seen(sight, [])[0].abs().max() == CLIP


def test_a_seed_means_the_same_weights_and_moves_nothing_else() -> None:
    sight: Any = Seeing("tiny")
    one, other = MapHead(sight, 3), MapHead(sight, 3)
    one.restart(5)
    first = {name: value.clone() for name, value in one.state_dict().items()}
    one.standardise([[torch.randn(4, width, 2, 2) for width in one.widths]])
    one.restart(6)
    assert not torch.equal(one.smooth.weight, first["smooth.weight"])
    assert not one.standardised
    one.restart(5)
    other.restart(5)
    for name, value in first.items():
        assert torch.equal(one.state_dict()[name], value)
        assert torch.equal(other.state_dict()[name], value)
    before = torch.get_rng_state()
    MapHead(sight, 3).restart(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_heads_say_which_rows_they_take() -> None:
    sight: Any = Seeing("tiny")
    require_looks(ChangeHead(sight, 2), 2)
    with pytest.raises(TrainingError, match="rows of 1 looks for a head that takes 2"):
        require_looks(ChangeHead(sight, 2), 1)
    with pytest.raises(TypeError, match="abstract methods"):
        Head((3,), 2)  # type: ignore[abstract]


def test_a_pyramid_of_one_level_will_do() -> None:
    sight: Any = Seeing("tiny")
    sight.widths = sight.widths[-1:]
    sight.pyramid = lambda images: [functional.avg_pool2d(images[0][:, :1], 4).repeat(1, sight.widths[0], 1, 1)]
    head = MapHead(sight, 3)
    assert head(head.seen(sight, [torch.randn(2, 2, 16, 16)]), (16, 16), (16, 16)).shape == (2, 3, 16, 16)
