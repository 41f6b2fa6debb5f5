"""Masked autoencoders: what is hidden, what the loss looks at, and what the encoder cannot have seen."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain import encoders
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.encoders import Bands, ViT
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.masked import (
    MAE,
    UNITS,
    MaskedLooks,
    date_codes,
    hidden_error,
    hidden_tokens,
    patch_errors,
    patch_pixels,
)
from geossl_data.pretrain.objectives.setup import Setup
from geossl_data.pretrain.views import Draws, ViewSettings, generator

OPTICAL = Bands(
    names=("blue", "green", "swir"),
    groups=(2, 1),
    sensors=("optical", "optical"),
    wavelengths_um=(0.49, 0.56, 1.61),
)
RADAR = Bands(names=("VV", "VH"), groups=(2,), sensors=("radar",), wavelengths_um=(None, None))
SETUP = Setup(
    encoder="vit",
    bands={"optical": OPTICAL, "radar": RADAR},
    patch=8,
    embed="groups",
    views=ViewSettings(crop=24),
    hidden_dim=16,
    looks=3,
)
N = 4


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vit`: 32 numbers a token and one block, as the decoder has."""
    monkeypatch.setitem(encoders._BUILDERS, "vit", lambda bands, patch: ViT(bands, 32, 1, 2, patch))
    monkeypatch.setattr(MAE, "decoder_depth", 1)


def draws(*keys: int, n: int = N, total: int | None = None, first: int = 0) -> Draws:
    return Draws(generator(0, *keys), total=total or n, rows=slice(first, first + n))


def batch(looks: int = 3, *, n: int = N, side: int = 30, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        images={
            sensor: torch.randn(n, looks, len(bands), side, side, generator=random)
            for sensor, bands in SETUP.bands.items()
        },
        index=torch.arange(n),
        look=torch.arange(looks).expand(n, looks),
        lonlat=torch.zeros(n, 2, dtype=torch.float64),
        days=9000.0 + 100.0 * torch.arange(looks, dtype=torch.float64).expand(n, looks),
        change=torch.full((n,), torch.nan, dtype=torch.float64),
    )


def mae(**changes: Any) -> MAE:
    return MAE(replace(SETUP, **changes))


def drawn(objective: MAE, given_batch: Batch, *keys: int) -> MaskedLooks:
    return objective.views(given_batch, draws(*keys, n=len(given_batch)))


# The pure parts


def test_pixels_of_patches_worked_by_hand() -> None:
    image = torch.arange(2 * 5 * 6.0).reshape(2, 5, 6)  # two bands, 2 × 3 patches of 2, the last row is left out
    pixels = patch_pixels(image, 2)
    assert pixels.shape == (6, 8)
    assert pixels[0].tolist() == [0, 1, 6, 7, 30, 31, 36, 37]
    assert pixels[5].tolist() == [16, 17, 22, 23, 46, 47, 52, 53]
    assert torch.equal(patch_pixels(image.expand(3, 1, 2, 5, 6), 2)[2, 0], pixels)


def test_pixels_are_in_the_order_of_the_encoders_tokens() -> None:
    encoder = encoders.build_encoder("vit", 1, seed=0, patch=8)
    assert isinstance(encoder, ViT)
    image = torch.zeros(1, 1, 19, 35)
    flat = encoder.patches(image)
    for patch, (row, column) in enumerate((row, column) for row in range(2) for column in range(4)):
        one = image.clone()
        one[..., 1 + 8 * row + 3, 1 + 8 * column + 5] = 1.0
        touched = (encoder.patches(one) != flat).any(dim=-1).flatten()
        assert touched.nonzero().flatten().tolist() == [patch]
        assert (patch_pixels(one, 8)[0].sum(dim=-1) > 0).nonzero().flatten().tolist() == [patch]


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 300), seed=st.integers(0, 2**31), scale=st.floats(0.1, 100), shift=st.floats(-100, 100))
def test_predicting_nothing_has_a_known_error(n: int, seed: int, scale: float, shift: float) -> None:
    pixels = torch.randn(5, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pixels = pixels / pixels.std(dim=1, keepdim=True) * scale + shift
    errors = patch_errors(torch.zeros(5, n, dtype=torch.float64), pixels)
    expected = (n - 1) / n * scale**2 / (scale**2 + 1e-6)
    assert torch.allclose(errors, torch.full_like(errors, expected), rtol=1e-9)


def test_an_error_worked_by_hand() -> None:
    # Mean 2, unbiased variance 2 of (1, 3): the target is ∓ 1 / √(2 + 1e-6).
    unit = 1 / math.sqrt(2 + 1e-6)
    error = patch_errors(torch.tensor([0.5, 1.0], dtype=torch.float64), torch.tensor([1.0, 3.0], dtype=torch.float64))
    assert error.item() == pytest.approx(((0.5 + unit) ** 2 + (1 - unit) ** 2) / 2, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_patch_without_measurements_has_a_finite_error(dtype: torch.dtype) -> None:
    error = patch_errors(torch.full((1, 64), 0.5, dtype=dtype), torch.zeros(1, 64, dtype=dtype))
    assert error.dtype == torch.float32
    assert error.item() == 0.25


def test_bfloat16_predictions_have_nearly_the_same_error() -> None:
    random = torch.Generator().manual_seed(0)
    prediction, pixels = torch.randn(2, 50, 64, generator=random).unbind()
    assert torch.allclose(patch_errors(prediction.bfloat16(), pixels), patch_errors(prediction, pixels), rtol=1e-2)


def test_the_gradient_is_that_of_the_formula() -> None:
    random = torch.Generator().manual_seed(0)
    prediction, pixels = torch.randn(2, 2, 3, 4, generator=random, dtype=torch.float64).unbind()
    hidden = torch.tensor([[True, False, True], [False, True, False]])
    assert torch.autograd.gradcheck(
        lambda p: hidden_error(patch_errors(p, pixels), hidden), prediction.requires_grad_()
    )


def test_the_loss_is_the_mean_over_hidden_tokens() -> None:
    errors = torch.tensor([[1.0, 10.0], [3.0, torch.inf]], requires_grad=True)
    loss = hidden_error(errors, torch.tensor([[True, False], [True, False]]))
    (gradient,) = torch.autograd.grad(loss, errors)
    assert loss.item() == 2.0
    assert gradient.tolist() == [[0.5, 0.0], [0.5, 0.0]]


def test_date_codes_worked_by_hand() -> None:
    codes = date_codes(torch.tensor([[0.0, 365.25 / 4, 731.0]], dtype=torch.float64))
    assert codes.shape == (1, 3, 3)
    assert codes[0, 0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert codes[0, 1].tolist() == pytest.approx([1, 0, 0.0625], abs=1e-6)
    assert codes[0, 2, 2].item() == pytest.approx(731 / 365.25 / 4)


def test_unknown_dates_are_positions() -> None:
    days = torch.tensor([[10.0, torch.nan, 30.0], [10.0, 20.0, 30.0]], dtype=torch.float64)
    codes = date_codes(days)
    assert codes[0].tolist() == [[0, 0, 0], [0, 0, 0.25], [0, 0, 0.5]]
    assert torch.equal(codes[1], date_codes(days[1:])[0])


# What is hidden


def hidden(unit: str, *, ratio: float = 0.75, looks: int = 3, patches: int = 9, key: int = 0) -> Tensor:
    sensors = ("optical", "optical", "radar")
    mask = hidden_tokens(unit, sensors=sensors, looks=looks, patches=patches, ratio=ratio, draws=draws(key))
    return mask.expand(N, looks, 3, patches)


def test_hidden_patches_are_hidden_in_all_groups_and_dates() -> None:
    mask = hidden("patch")
    assert torch.equal(mask, mask[:, :1, :1].expand_as(mask))
    assert mask[:, 0, 0].sum(dim=1).tolist() == [round(0.75 * 9)] * N
    assert len({tuple(row) for row in mask[:, 0, 0].tolist()}) > 1


def test_hidden_groups_are_hidden_everywhere() -> None:
    masks = torch.cat([hidden("group", key=key) for key in range(8)])
    assert torch.equal(masks, masks[:, :1, :, :1].expand_as(masks))
    assert set(masks[:, 0, :, 0].sum(dim=1).tolist()) == {2}
    assert masks[:, 0, :, 0].any(dim=0).all()
    assert not masks[:, 0, :, 0].all(dim=0).any()


def test_a_hidden_sensor_is_hidden_whole_and_in_the_whole_batch() -> None:
    masks = [hidden("sensor", key=key) for key in range(12)]
    assert all(torch.equal(mask, mask[:1, :1, :, :1].expand_as(mask)) for mask in masks)
    assert {tuple(mask[0, 0, :, 0].tolist()) for mask in masks} == {(True, True, False), (False, False, True)}


def test_hidden_dates_are_hidden_whole() -> None:
    masks = torch.cat([hidden("date", ratio=0.4, key=key) for key in range(8)])
    assert torch.equal(masks, masks[:, :, :1, :1].expand_as(masks))
    assert set(masks[:, :, 0, 0].sum(dim=1).tolist()) == {1}
    assert masks[:, :, 0, 0].any(dim=0).all()


def test_the_future_is_the_last_look() -> None:
    mask = hidden("future")
    assert mask[:, :, 0, 0].tolist() == [[False, False, True]] * N
    assert torch.equal(mask, mask[:, :, :1, :1].expand_as(mask))


@settings(max_examples=40, deadline=None)
@given(
    unit=st.sampled_from(sorted(UNITS)),
    ratio=st.floats(0.001, 0.999),
    looks=st.integers(2, 5),
    patches=st.integers(2, 30),
    key=st.integers(0, 99),
)
def test_some_is_hidden_and_some_is_left_equally_in_all_rows(
    unit: str, ratio: float, looks: int, patches: int, key: int
) -> None:
    counts = hidden(unit, ratio=ratio, looks=looks, patches=patches, key=key).flatten(1).sum(dim=1)
    assert counts.unique().numel() == 1
    assert 0 < counts[0] < looks * 3 * patches


def test_processes_hide_what_one_would() -> None:
    sensors = ("optical", "radar")

    def mask(rows: Draws) -> Tensor:
        return hidden_tokens("patch", sensors=sensors, looks=1, patches=9, ratio=0.75, draws=rows)

    halves = [mask(draws(5, n=2, total=4, first=first)) for first in (0, 2)]
    assert torch.equal(torch.cat(halves), mask(draws(5)))


# The objective


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_what_is_kept_is_what_is_not_hidden(unit: str) -> None:
    views = drawn(mae(mask=(unit,)), batch(), 1)
    assert views.images.shape == (N, 3, 5, 24, 24)
    assert views.hidden.shape == (N, 3, 3, 9)
    for kept, mask in zip(views.kept, views.hidden.flatten(1), strict=True):
        assert kept.tolist() == (~mask).nonzero().flatten().tolist()


def test_one_of_several_units_is_drawn_for_a_step() -> None:
    objective = mae(mask=("future", "sensor"))
    shares = {round(drawn(objective, batch(n=2), key).hidden.float().mean().item(), 3) for key in range(12)}
    assert shares == {0.333, 0.667}


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_the_encoder_does_not_see_what_is_hidden(unit: str) -> None:
    objective, given_batch = mae(mask=(unit,)).eval(), batch()
    views = drawn(objective, given_batch, 2)
    pixels = views.hidden.reshape(N, 3, 3, 3, 1, 3, 1).expand(-1, -1, -1, -1, 8, -1, 8).reshape(N, 3, 3, 24, 24)
    where = pixels[:, :, [0, 0, 1, 2, 2]]  # bands of the three groups
    unseen = replace(views, images=torch.where(where, 5.0 * views.images.flip(-1), views.images))
    seen = replace(views, images=torch.where(where, views.images, 5.0 * views.images.flip(-1)))
    with torch.inference_mode():
        before, after, other = (objective(one, given_batch) for one in (views, unseen, seen))
    assert torch.equal(before.embeddings[0], after.embeddings[0])
    assert before.terms["loss"] != after.terms["loss"]
    assert not torch.allclose(before.embeddings[0], other.embeddings[0], atol=1e-3)


def test_the_loss_takes_no_notice_of_visible_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, given_batch = mae().eval(), batch()
    views = drawn(objective, given_batch, 2)
    with torch.inference_mode():
        dates = date_codes(given_batch.days)
        answers = objective.predicted(views, dates, objective.seen(views, dates))
        monkeypatch.setattr(objective, "predicted", lambda *args: answers)
        before = objective(views, given_batch).terms["loss"]
        visible = ~views.hidden[0, 0, 0]
        row, column = divmod(int(visible.nonzero()[0]), 3)
        views.images[0, ..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] *= -3
        assert objective(views, given_batch).terms["loss"] == before
        row, column = divmod(int((~visible).nonzero()[0]), 3)
        views.images[0, ..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] *= -3
        assert objective(views, given_batch).terms["loss"] != before


def test_the_loss_by_hand() -> None:
    objective, given_batch = mae(mask=("group",)).eval(), batch()
    views = drawn(objective, given_batch, 3)
    with torch.inference_mode():
        dates = date_codes(given_batch.days)
        answers = objective.predicted(views, dates, objective.seen(views, dates))
        outcome = objective(views, given_batch)
    errors = []
    for place, look, group, patch in views.hidden.nonzero().tolist():
        bands = ((0, 1), (2,), (3, 4))[group]
        row, column = divmod(patch, 3)
        pixels = views.images[place, look, list(bands), 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten()
        target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
        errors.append(((answers[group][place, look, patch] - target) ** 2).mean())
    assert outcome.terms["loss"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    assert outcome.terms["hidden"].item() == pytest.approx(2 / 3)
    assert outcome.embeddings[0].shape == (N, 32)
    assert 0 < outcome.terms["spread"] < 1


def test_a_decoder_that_says_nothing_has_the_known_loss() -> None:
    objective = mae(bands={"optical": OPTICAL}, embed="plain", looks=1)
    for parameter in objective.decoder.answers.parameters():
        torch.nn.init.zeros_(parameter)
    given_batch = batch(1)
    loss = objective(drawn(objective, given_batch), given_batch).terms["loss"].item()
    values = 3 * 8**2
    assert loss == pytest.approx((values - 1) / values, rel=1e-4)


@pytest.mark.parametrize("embed", ["plain", "groups"])
def test_one_date_of_one_sensor_is_enough(embed: str) -> None:
    objective, given_batch = mae(bands={"optical": OPTICAL}, embed=embed, looks=1), batch(1)
    assert objective.looks == LookPlan()
    assert list(objective.encoders) == ["optical"]
    assert objective.dates is None
    views = drawn(objective, given_batch)
    assert views.hidden.shape == (N, 1, 2 if embed == "groups" else 1, 9)
    assert torch.isfinite(objective(views, given_batch).terms["loss"])


def test_two_sensors_share_an_encoder_and_dates_are_a_series() -> None:
    objective = mae(joint=False)
    assert list(objective.encoders) == ["optical+radar"]
    assert objective.looks == LookPlan("series", 3)
    assert not [name for name in objective.state_dict() if name.startswith("encoders.")]


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_weight_has_a_gradient_in_every_step(unit: str) -> None:
    objective, given_batch = mae(mask=(unit,)), batch()
    objective(drawn(objective, given_batch, 4), given_batch).terms["loss"].backward()
    lacking = [name for name, p in objective.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert lacking == []


def test_the_first_look_is_seen_as_the_exported_encoder_sees_it() -> None:
    objective, given_batch = mae(mask=("future",), looks=2).eval(), batch(2)
    views = drawn(objective, given_batch)
    with torch.inference_mode():
        alone = objective.encoder(views.images[:, 0])
        assert torch.allclose(objective(views, given_batch).embeddings[0], alone, atol=1e-5)


def test_dates_reach_encoder_and_decoder() -> None:
    objective, given_batch = mae(mask=("patch",), looks=2).eval(), batch(2)
    views = drawn(objective, given_batch)
    later = replace(given_batch, days=given_batch.days + torch.tensor([0.0, 700.0]))
    half_a_year_on = replace(given_batch, days=given_batch.days + 182.6)
    with torch.inference_mode():
        now, then, shifted = (objective(views, one) for one in (given_batch, later, half_a_year_on))
    assert not torch.allclose(now.embeddings[0], then.embeddings[0], atol=1e-3)
    assert now.terms["loss"] != shifted.terms["loss"]


def test_the_same_seed_builds_draws_and_answers_the_same() -> None:
    before = torch.get_rng_state()
    losses = []
    for seed, key in ((0, 1), (0, 1), (1, 1), (0, 2)):
        objective, given_batch = mae(seed=seed), batch()
        losses.append(objective(drawn(objective, given_batch, key), given_batch).terms["loss"].item())
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
    assert torch.equal(before, torch.get_rng_state())


def test_some_steps_lower_the_loss() -> None:
    objective, given_batch = mae(looks=1), batch(1)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    views, losses = drawn(objective, given_batch), []
    for _ in range(20):
        loss = objective(views, given_batch).terms["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_published_decoder_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(encoders._BUILDERS, "vit", lambda bands, patch: ViT(bands, 32, 1, 2, patch))
    assert (MAE.decoder_dim, MAE.decoder_depth, MAE.decoder_heads) == (512, 8, 16)
    monkeypatch.setattr(MAE, "decoder_depth", 1)
    decoder = mae(hidden_dim=2048).decoder
    assert decoder.enter.out_features == 512
    assert decoder.blocks[0].attention.heads == 16
    assert mae(hidden_dim=96).decoder.blocks[0].attention.heads == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "tiny", "embed": "plain"}, "mae hides patches and tiny has none; choose a ViT"),
        ({"mask": ("cloud",)}, "mask 'cloud' is not one of patch, group, sensor, date, future"),
        ({"mask": ()}, "mask '' is not one of"),
        ({"mask_ratio": 0.0}, r"mask ratio 0\.0; expected a share above 0"),
        ({"mask_ratio": 1.0}, r"mask ratio 1\.0; expected a share above 0"),
        ({"mask_ratio": math.nan}, "mask ratio nan; expected a share"),
        ({"mask": ("group",), "embed": "plain"}, "mask group needs tokens for several groups of bands"),
        ({"mask": ("group",), "bands": {"radar": RADAR}}, "mask group needs tokens for several groups of bands"),
        ({"mask": ("patch", "sensor"), "bands": {"optical": OPTICAL}}, "mask sensor needs two sensors"),
        ({"mask": ("sensor",), "embed": "plain"}, "mask sensor needs two sensors with tokens of their own"),
        ({"mask": ("date",), "looks": 1}, "mask date needs several dates of a place; give --dates 2"),
        ({"mask": ("future",), "looks": 1}, "mask future needs several dates of a place"),
        ({"views": ViewSettings(crop=15)}, "a view of 15 pixels has one patch of 8 at most"),
        ({"hidden_dim": 18}, "a decoder of width 18 has no position codes; choose a multiple of 4"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        mae(**changes)
    assert "\n" not in str(caught.value)
