"""Views: coordinate images, in which every pixel says where it came from, show what the geometry does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain import views


def coordinates(n: int, height: int, width: int) -> Tensor:
    """(n, 2, height, width): each pixel holds its row and its column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).float().repeat(n, 1, 1, 1)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 9), extra=st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_a_native_crop_is_a_slice_flipped_and_turned(seed: int, size: int, extra: tuple[int, int]) -> None:
    height, width = size + extra[0], size + extra[1]
    images = coordinates(4, height, width)
    window = views.native_crops(4, height, width, size, views.generator(seed))
    seen = window.apply(images)
    for i in range(4):
        top, left = int(window.top[i]), int(window.left[i])
        part = images[i, :, top : top + size, left : left + size]
        part = part.flip(-1) if window.flip[i] else part
        assert torch.allclose(seen[i], torch.rot90(part, int(window.turns[i]), (1, 2)), atol=1e-4)


def test_all_eight_orientations_and_all_corners_occur() -> None:
    window = views.native_crops(400, 8, 10, 6, views.generator(0))
    assert len({(int(t), bool(f)) for t, f in zip(window.turns, window.flip, strict=True)}) == 8
    assert set(window.top.tolist()) == {0.0, 1.0, 2.0}
    assert set(window.left.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_one_geometry_shows_both_sensors_the_same_ground() -> None:
    optical = coordinates(6, 20, 20)
    radar = 3 * optical + 1
    window = views.resized_crops(6, 20, 20, 12, views.generator(5))
    assert torch.allclose(3 * window.apply(optical) + 1, window.apply(radar), atol=1e-4)


def test_a_resized_crop_worked_by_hand() -> None:
    one = torch.ones(1, dtype=torch.float64)
    window = views.Geometry(
        top=2 * one, left=4 * one, side=8 * one, turns=torch.tensor([0]), flip=torch.tensor([False]), size=4
    )
    seen = window.apply(coordinates(1, 16, 16))[0]
    # Four pixels over eight: each stands for the mean of two, 2.5 for rows 2 and 3.
    assert torch.allclose(seen[0, :, 0], torch.tensor([2.5, 4.5, 6.5, 8.5]), atol=1e-5)
    assert torch.allclose(seen[1, 0, :], torch.tensor([4.5, 6.5, 8.5, 10.5]), atol=1e-5)


def test_resized_crops_stay_inside_and_keep_their_scale() -> None:
    window = views.resized_crops(2000, 30, 40, 16, views.generator(1), scale=(0.35, 1.0))
    share = (window.side / 30) ** 2
    assert share.min() >= 0.35 - 1e-9
    assert share.max() <= 1.0
    assert share.mean().item() == pytest.approx(0.675, abs=0.02)
    assert bool((window.top >= 0).all())
    assert bool((window.top + window.side <= 30 + 1e-9).all())
    assert bool((window.left + window.side <= 40 + 1e-9).all())


def test_the_same_keys_give_the_same_views() -> None:
    images = coordinates(3, 12, 12)

    def view(*keys: int) -> Tensor:
        drawn = views.generator(7, *keys)
        return views.jitter(views.resized_crops(3, 12, 12, 8, drawn).apply(images), drawn, gain=0.1, offset=0.1)

    assert torch.equal(view(2, 5), view(2, 5))
    assert not torch.equal(view(2, 5), view(2, 6))
    assert not torch.equal(view(2, 5), view(3, 5))


def test_jitter_scales_and_shifts_each_band_and_spares_invalid_pixels() -> None:
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    images[:, :, 0, 0] = 0
    lit = views.jitter(images, views.generator(3), gain=0.2, offset=0.3)
    assert bool((lit[:, :, 0, 0] == 0).all())
    a, b = images[:, :, 1, 1], images[:, :, 2, 3]
    factor = (lit[:, :, 1, 1] - lit[:, :, 2, 3]) / (a - b)
    assert bool((factor > 0).all())
    assert factor.std() > 0.05
    third = lit[:, :, 1, 1] + factor * (images[:, :, 3, 0] - a)
    assert torch.allclose(lit[:, :, 3, 0], third, atol=1e-4)


@pytest.mark.parametrize("draw", [views.native_crops, views.resized_crops])
def test_a_crop_larger_than_the_image_is_refused(draw: object) -> None:
    with pytest.raises(TrainingError, match="crop 13 does not fit images of 12 × 20 pixels; choose 1 to 12"):
        draw(1, 12, 20, 13, views.generator(0))  # type: ignore[operator]
