"""Encoders: shapes, determinism, and what a transformer's positions are."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders import ENCODERS, build_encoder, positions


@pytest.mark.parametrize(
    ("name", "dim", "millions"),
    # Published sizes for 3 channels: ResNet-18 11.69 M and ResNet-50 25.56 M with their 1000-class layers of 0.513 M
    # and 2.049 M; a 3 × 3 stem for 3 channels has 3 × 40 × 64 fewer weights than the 7 × 7 one.
    [
        ("resnet18", 512, 11.6895 - 0.5130 - 0.00768),
        ("resnet50", 2048, 25.5570 - 2.0490 - 0.00768),
    ],
)
def test_a_resnet_has_the_size_of_its_paper(name: str, dim: int, millions: float) -> None:
    encoder = build_encoder(name, 3, seed=0)
    assert encoder.embedding_dim == dim
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_becomes_one_finite_embedding(name: str) -> None:
    encoder = build_encoder(name, 5, seed=3, patch=8).eval()
    images = torch.rand(2, 5, 41, 35, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        embedded = encoder(images)
    assert embedded.shape == (2, encoder.embedding_dim)
    assert torch.isfinite(embedded).all()
    assert embedded.std() > 0


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**62), channels=st.integers(1, 14))
def test_weights_depend_on_the_seed_alone(seed: int, channels: int) -> None:
    before = torch.get_rng_state()
    first, again = (build_encoder("resnet10", channels, seed=seed).state_dict() for _ in range(2))
    other = build_encoder("resnet10", channels, seed=seed + 1).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_the_stem_starts_with_the_variance_of_he() -> None:
    weight = build_encoder("resnet18", 12, seed=0).state_dict()["stages.2.body.3.weight"]
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * weight.shape[0])), rel=0.02)


def test_a_position_code_worked_by_hand() -> None:
    code = positions(3, 4, 8)[2 * 4 + 1]  # row 2, column 1; frequencies 1 and 1 / 100
    by_hand = [f(index * rate) for index in (2, 1) for f in (math.sin, math.cos) for rate in (1.0, 0.01)]
    assert code.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_a_position_code_does_not_depend_on_the_image_size() -> None:
    small, large = positions(2, 3, 16).reshape(2, 3, 16), positions(5, 7, 16).reshape(5, 7, 16)
    assert torch.equal(small, large[:2, :3])


def test_a_vit_leaves_out_what_is_beyond_its_last_patch() -> None:
    encoder = build_encoder("vit-tiny", 2, seed=0, patch=8).eval()
    images = torch.rand(1, 2, 20, 17, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(encoder(images), encoder(images[..., 2:18, 0:16]), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet11"}, "'resnet11' is not one of resnet10"),
        ({"channels": 0}, "0 channels"),
        ({"channels": 10**9}, "1000000000 channels"),
        ({"patch": 7}, "patch 7 is not one of"),
    ],
)
def test_what_does_not_exist_is_refused(arguments: dict[str, Any], message: str) -> None:
    given_arguments = {"name": "resnet10", "channels": 3} | arguments
    with pytest.raises(TrainingError, match=message):
        build_encoder(**given_arguments, seed=0)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    encoder = build_encoder("vit-tiny", 1, seed=0, patch=16)
    with pytest.raises(TrainingError, match="smaller than a patch of 16"):
        encoder(torch.zeros(1, 1, 12, 40))
