"""Encoders: sizes, determinism, missing bands, and what a transformer's tokens are made of."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain import encoders
from geossl_data.pretrain.encoders import (
    EMBEDDINGS,
    ENCODERS,
    Bands,
    Encoder,
    Patching,
    ResNet,
    ViT,
    build_encoder,
    inflated,
    mean_token,
    positions,
)
from geossl_data.pretrain.encoders import vit as transformers

BANDS = Bands(
    names=("blue", "green", "swir", "VV", "VH"),
    groups=(2, 1, 2),
    sensors=("optical", "optical", "radar"),
    wavelengths_um=(0.49, 0.56, 1.61, None, None),
)


@pytest.fixture(autouse=True)
def _small_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vit`: 32 numbers a token, two blocks."""
    monkeypatch.setitem(encoders._BUILDERS, "vit", lambda bands, patch: ViT(bands, 32, 2, 2, patch))


def vit(embed: str = "plain", bands: Bands | int = BANDS, *, seed: int = 0) -> ViT:
    encoder = build_encoder("vit", bands, seed=seed, patch=8, embed=embed)
    assert isinstance(encoder, ViT)
    return encoder


def images(n: int = 3, channels: int = 5, side: int = 25, seed: int = 0) -> Tensor:
    return torch.randn(n, channels, side, side - 1, generator=torch.Generator().manual_seed(seed))


def every_kind() -> list[Any]:
    return [pytest.param("tiny", "plain", id="resnet")] + [pytest.param("vit", embed, id=embed) for embed in EMBEDDINGS]


def built(name: str, embed: str) -> Encoder:
    return build_encoder(name, BANDS, seed=1, patch=8, embed=embed).eval()


def millions(name: str) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in encoders._BUILDERS[name](Bands.plain(3), Patching()).parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "dim", "published"),
    # For 3 channels. ResNet-18 11.69 M and ResNet-50 25.56 M with their 1000-class layers of 0.513 M and 2.049 M; a
    # 3 × 3 stem has 3 × 40 × 64 fewer weights than the 7 × 7 one. DeiT of Touvron et al. with 16-pixel patches: less
    # its classes (1000 × (D + 1)), class token (D) and learned positions (197 × D).
    [
        ("resnet18", 512, 11.6895 - 0.5130 - 0.00768),
        ("resnet50", 2048, 25.5570 - 2.0490 - 0.00768),
        ("vit-tiny", 192, 5.7174 - (1000 * 193 + 198 * 192) / 1e6),
        ("vit-small", 384, 22.0507 - (1000 * 385 + 198 * 384) / 1e6),
        ("vit-base", 768, 86.5676 - (1000 * 769 + 198 * 768) / 1e6),
    ],
)
def test_an_encoder_has_the_size_of_its_paper(name: str, dim: int, published: float) -> None:
    with torch.device("meta"):
        assert encoders._BUILDERS[name](Bands.plain(3), Patching()).embedding_dim == dim
    assert millions(name) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("name", ["resnet10", "vit"])
def test_an_image_becomes_one_finite_embedding(name: str) -> None:
    encoder = build_encoder(name, 5, seed=3, patch=8).eval()
    with torch.inference_mode():
        embedded = encoder(images(2, 5, 42))
    assert embedded.shape == (2, encoder.embedding_dim)
    assert torch.isfinite(embedded).all()
    assert embedded.std() > 0


@pytest.mark.parametrize(
    ("name", "patch", "weight", "first", "mean", "embedded"),
    # A seed means the same weights with every torch.
    [
        ("resnet10", 16, "stem.0.weight", 0.10856033116579056, 0.04466381802640819, 0.18269790709018707),
        ("vit-tiny", 8, "blocks.11.mlp.2.weight", -0.037321075797080994, 0.01448554452508688, -0.44431060552597046),
    ],
)
def test_a_seed_means_the_same_weights_everywhere(
    name: str, patch: int, weight: str, first: float, mean: float, embedded: float
) -> None:
    encoder = build_encoder(name, 3, seed=5, patch=patch).eval()
    found = encoder.state_dict()[weight].contiguous()
    assert found.flatten()[0].item() == pytest.approx(first, rel=1e-5)
    assert found.abs().mean().item() == pytest.approx(mean, rel=1e-5)
    with torch.inference_mode():
        out = encoder(torch.linspace(-2, 2, 3 * 24 * 24).reshape(1, 3, 24, 24))
    assert out[0, 0].item() == pytest.approx(embedded, rel=1e-3)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**62), channels=st.integers(1, 14))
def test_weights_depend_on_the_seed_alone(seed: int, channels: int) -> None:
    before = torch.get_rng_state()
    first, again = (build_encoder("tiny", channels, seed=seed).state_dict() for _ in range(2))
    other = build_encoder("tiny", channels, seed=seed + 1).state_dict()
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
    encoder = vit(bands=2).eval()
    larger = torch.rand(1, 2, 20, 17, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(encoder(larger), encoder(larger[..., 2:18, 0:16]), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet11"}, "'resnet11' is not one of resnet10"),
        ({"bands": 0}, "0 channels"),
        ({"bands": 10**9}, "1000000000 channels"),
        ({"patch": 7}, "patch 7 is not one of"),
        ({"embed": "rainbow"}, "'rainbow' is not one of plain, groups, wavelength"),
        ({"embed": "groups"}, "resnet10 has no patches to embed by groups; choose a ViT"),
        ({"name": "vit", "embed": "wavelength"}, "no wavelength is known of band-0, band-1, band-2; choose"),
    ],
)
def test_what_does_not_exist_is_refused(arguments: dict[str, Any], message: str) -> None:
    given_arguments = {"name": "resnet10", "bands": 3} | arguments
    with pytest.raises(TrainingError, match=message):
        build_encoder(**given_arguments, seed=0)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    encoder = vit(bands=1)
    with pytest.raises(TrainingError, match="smaller than a patch of 8"):
        encoder(torch.zeros(1, 1, 7, 40))


@pytest.mark.parametrize("length", [0.0, -0.5, math.inf, math.nan])
def test_a_wavelength_is_a_number_above_zero(length: float) -> None:
    with pytest.raises(TrainingError, match=r"of band red; expected a number above 0"):
        Bands(names=("red",), groups=(1,), sensors=("drone",), wavelengths_um=(length,))


@pytest.mark.parametrize(("name", "embed"), every_kind())
@pytest.mark.parametrize("present", [[1, 1, 1, 0, 0], [0, 1, 0, 1, 0]], ids=["groups", "bands"])
def test_a_missing_band_has_no_influence(name: str, embed: str, present: list[int]) -> None:
    encoder, there = built(name, embed), torch.tensor(present, dtype=torch.bool)
    x = images()
    nowhere = torch.where(there[:, None, None], x, torch.nan)
    with torch.inference_mode():
        expected = encoder(x, there)
        assert torch.isfinite(expected).all()
        assert torch.equal(encoder(nowhere, there), expected)
        assert torch.allclose(encoder(nowhere, there.expand(3, 5)), expected, atol=1e-6)
        assert not torch.allclose(encoder(x), expected, atol=1e-3)
        for a, b in zip(encoder.pyramid(nowhere, there), encoder.pyramid(x, there), strict=True):
            assert torch.isfinite(a).all()
            assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "embed"), every_kind())
def test_each_image_lacks_bands_of_its_own(name: str, embed: str) -> None:
    encoder, x = built(name, embed), images()
    present = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
    with torch.inference_mode():
        alone = torch.cat([encoder(x[i : i + 1], present[i]) for i in range(3)])
        assert torch.allclose(encoder(x, present), alone, atol=1e-5)
        assert torch.allclose(encoder(x, torch.ones_like(present)), encoder(x), atol=1e-5)


def test_tokens_of_an_absent_group_take_no_part() -> None:
    encoder, x = vit("groups").eval(), images()
    present = torch.tensor([True, True, False, True, True])
    with torch.inference_mode():
        tokens = encoder.patches(x)
        assert tokens.shape == (3, 3, 9, 32)
        by_hand = encoder.encode(tokens[:, [0, 2]].flatten(1, 2)).mean(dim=1)
        assert torch.allclose(encoder(x, present), by_hand, atol=1e-6)


def test_a_missing_band_leaves_the_mean_of_the_others() -> None:
    encoder, x = vit("wavelength").eval(), images()
    present = torch.tensor([True, False, True, False, True])
    fewer = Bands(
        names=("blue", "swir", "VH"),
        groups=(2, 1),
        sensors=("optical", "radar"),
        wavelengths_um=(0.49, 1.61, None),
    )
    with torch.inference_mode():
        assert torch.allclose(encoder(x, present), encoder.for_bands(fewer)(x[:, present]), atol=1e-5)


def test_the_order_of_bands_does_not_matter_to_a_wavelength() -> None:
    encoder, x = vit("wavelength").eval(), images()
    order = [3, 1, 4, 0, 2]
    other = Bands(
        names=tuple(BANDS.names[i] for i in order),
        groups=(5,),
        sensors=("all",),
        wavelengths_um=tuple(BANDS.wavelengths_um[i] for i in order),
    )
    with torch.inference_mode():
        assert torch.allclose(encoder(x), encoder.for_bands(other)(x[:, order]), atol=1e-5)
    assert encoder.bands == BANDS


def test_bands_near_in_the_spectrum_start_alike() -> None:
    near = Bands(names=("a", "b", "c"), groups=(3,), sensors=("drone",), wavelengths_um=(0.842, 0.865, 2.19))
    encoder, pixels = vit("wavelength", near), images(1, 1, 9)[..., :8, :8]
    with torch.inference_mode():
        a, b, c = (encoder.embed(pixels.expand(1, 3, 8, 8), torch.arange(3) == i)[0, 0, 0] for i in range(3))
    assert 0 < (a - b).norm() < 0.7 * (a - c).norm()


def test_an_encoder_takes_other_bands_only_by_wavelength() -> None:
    with pytest.raises(TrainingError, match="only an encoder with wavelength embedding takes other bands"):
        vit("groups").for_bands(BANDS)


def test_an_unseen_polarisation_is_refused() -> None:
    other = Bands(names=("HH",), groups=(1,), sensors=("radar",), wavelengths_um=(None,))
    with pytest.raises(TrainingError, match="no code was learned for polarisation HH; train with it"):
        vit("wavelength").for_bands(other)


def test_wavelengths_of_bands_are_no_weights() -> None:
    encoder = vit("wavelength")
    assert not [name for name in encoder.state_dict() if "spectrum" in name or name.startswith("embed.radar")]
    again = vit("wavelength", seed=9)
    again.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        assert torch.equal(encoder.eval()(images()), again.eval()(images()))


@pytest.mark.parametrize("embed", EMBEDDINGS)
def test_every_weight_has_a_gradient_whatever_is_missing(embed: str) -> None:
    encoder = vit(embed)
    encoder(images(), torch.tensor([True, True, True, False, False])).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_attention_is_masked_only_where_tokens_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor | None] = []
    attention = transformers.functional.scaled_dot_product_attention

    def watched(*args: Any, attn_mask: Tensor | None = None) -> Tensor:
        masks.append(attn_mask)
        return attention(*args, attn_mask=attn_mask)

    monkeypatch.setattr(transformers.functional, "scaled_dot_product_attention", watched)
    some = torch.tensor([True, True, True, False, False])
    with torch.inference_mode():
        vit("groups")(images())
        vit("plain")(images(), some)
        vit("wavelength")(images(), some)
        assert masks == [None] * 6
        vit("groups")(images(), some)
    (mask,) = {id(mask): mask for mask in masks[6:]}.values()
    assert mask is not None
    assert mask.tolist() == [[[[True] * 18 + [False] * 9]]]


def test_position_codes_are_worked_out_once_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def counted(rows: int, columns: int, *more: Any) -> Tensor:
        asked.append((rows, columns))
        return positions(rows, columns, *more)

    monkeypatch.setattr(transformers, "positions", counted)
    encoder = vit()
    with torch.inference_mode():
        encoder(images())
    for side in (25, 25, 17, 25):
        encoder(images(side=side)).sum().backward()
    assert asked == [(3, 3), (2, 2)]
    assert not [name for name in encoder.state_dict() if "position" in name]


def test_an_encoder_compiles_in_one_piece() -> None:
    encoder, x = vit("groups").eval(), images()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    with torch.inference_mode():
        assert torch.allclose(compiled(x), encoder(x), atol=1e-6)


def test_a_resnet_has_maps_of_its_stem_and_stages() -> None:
    encoder = build_encoder("resnet10", 2, seed=0).eval()
    assert isinstance(encoder, ResNet)
    with torch.inference_mode():
        maps = encoder.pyramid(images(1, 2, 64))
        assert torch.allclose(maps[-1].mean(dim=(2, 3)), encoder(images(1, 2, 64)))
    assert [tuple(one.shape[1:]) for one in maps] == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


@pytest.mark.parametrize("embed", EMBEDDINGS)
def test_a_vit_has_maps_of_four_depths(embed: str) -> None:
    encoder = vit(embed).eval()
    x = torch.cat([images(1, 5, 25), torch.zeros(1, 5, 25, 8)], dim=-1)  # 3 × 4 patches
    with torch.inference_mode():
        maps = encoder.pyramid(x)
        assert [tuple(one.shape) for one in maps] == [(1, 32, 3, 4)] * 4
        assert torch.allclose(maps[-1].mean(dim=(2, 3)), encoder(x), atol=1e-5)
        tokens = encoder.encode(encoder.patches(x).flatten(1, 2)).reshape(1, -1, 12, 32).mean(dim=1)
        assert torch.allclose(maps[-1][0, :, 1, 2], tokens[0, 1 * 4 + 2], atol=1e-5)
    assert torch.equal(maps[0], maps[1])  # two blocks: half of the maps are of the first
    assert not torch.equal(maps[1], maps[2])


def test_the_patch_embedding_can_be_held() -> None:
    encoder = vit("groups")
    held = {id(parameter) for parameter in encoder.embedding_parameters()}
    names = {name for name, parameter in encoder.named_parameters() if id(parameter) in held}
    assert names == {f"embed.parts.{i}.{part}" for i in range(3) for part in ("weight", "bias")}
    assert [p.shape for p in vit("plain").embedding_parameters()] == [(32, 5, 8, 8), (32,)]
    assert build_encoder("tiny", 5, seed=0).embedding_parameters() == []


def test_the_mean_is_over_what_is_visible() -> None:
    tokens = torch.tensor([[[1.0], [2.0], [6.0]]])
    assert mean_token(tokens).item() == 3.0
    assert mean_token(tokens, torch.tensor([[True, False, True]])).item() == 3.5


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 14), constant=st.floats(-3, 3), seed=st.integers(0, 2**31))
def test_inflated_weights_answer_a_constant_as_before(channels: int, constant: float, seed: int) -> None:
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    more = inflated(weight, channels)
    assert more.shape == (4, channels, 5, 5)
    before = torch.conv2d(torch.full((1, 3, 7, 7), constant, dtype=torch.float64), weight)
    after = torch.conv2d(torch.full((1, channels, 7, 7), constant, dtype=torch.float64), more)
    assert torch.allclose(before, after, atol=1e-12)


def test_every_encoder_has_a_name() -> None:
    assert ENCODERS == ("resnet10", "resnet18", "resnet50", "vit-tiny", "vit-small", "vit-base")
