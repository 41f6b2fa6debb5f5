"""Views: coordinate images, in which every pixel says where it came from, show what the geometry does."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain import views
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.views import Draws, View, ViewSettings

ALL = ViewSettings(crop=7, gain=0.2, offset=0.3, band_drop=0.3, speckle=0.5, local_crops=3, local_scale=(0.2, 0.6))
"""Everything that can be drawn is."""


def coordinates(n: int, height: int, width: int) -> Tensor:
    """(n, 2, height, width): each pixel holds its row and its column, both counted from 1, as 0 is invalid."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).float().repeat(n, 1, 1, 1) + 1


def batch_of(n: int, n_looks: int = 2, height: int = 12, width: int = 14, device: str = "cpu") -> Batch:
    """Places whose optical images hold row, column and 1000 × look + place, and whose radar images row and column."""
    ground = coordinates(n, height, width)[:, None].repeat(1, n_looks, 1, 1, 1)
    number = 1000.0 * torch.arange(n_looks) + torch.arange(n)[:, None] + 1
    which = number[:, :, None, None, None].expand(n, n_looks, 1, height, width)
    images = {"s2": torch.cat([ground, which], dim=2), "s1": ground}
    return Batch(
        images={sensor: image.to(device) for sensor, image in images.items()},
        index=torch.arange(n, device=device),
        look=torch.arange(n_looks, device=device).repeat(n, 1),
        lonlat=torch.zeros(n, 2, dtype=torch.float64, device=device),
        days=torch.zeros(n, n_looks, dtype=torch.float64, device=device),
        change=torch.zeros(n, dtype=torch.float64, device=device),
    )


def draws(n: int, *keys: int) -> Draws:
    return Draws(views.generator(7, *keys), n, slice(0, n))


def ground(view: View) -> Tensor:
    """Where each pixel of a view came from."""
    return next(iter(view.images.values()))[:, :2]


def unchanged(n: int, size: int) -> views.Geometry:
    """The whole image, upright."""
    zero = torch.zeros(n, dtype=torch.float64)
    return views.Geometry(top=zero, left=zero, side=zero + size, turns=zero.long(), flip=zero.bool(), size=size)


# Geometry


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 9), extra=st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_a_native_crop_is_a_slice_flipped_and_turned(seed: int, size: int, extra: tuple[int, int]) -> None:
    height, width = size + extra[0], size + extra[1]
    images = coordinates(4, height, width) / 3
    window = views.native_crop((height, width), size, draws(4, seed))
    seen = window.apply(images)
    for i in range(4):
        top, left = int(window.top[i]), int(window.left[i])
        part = images[i, :, top : top + size, left : left + size]
        part = part.flip(-1) if window.flip[i] else part
        assert torch.equal(seen[i], torch.rot90(part, int(window.turns[i]), (1, 2)))


def test_all_eight_orientations_and_all_corners_occur() -> None:
    window = views.native_crop((8, 10), 6, draws(400))
    assert len({(int(t), bool(f)) for t, f in zip(window.turns, window.flip, strict=True)}) == 8
    assert set(window.top.tolist()) == {0.0, 1.0, 2.0}
    assert set(window.left.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_interpolated_views_are_turned_as_plain_ones_are() -> None:
    images = coordinates(200, 9, 11)
    window = views.native_crop((9, 11), 5, draws(200))
    shifted = replace(window, top=window.top.clamp(max=3) + 0.25)
    plain = replace(shifted, top=window.top.clamp(max=3)).apply(images)
    expected = plain + torch.tensor([0.25, 0.0])[:, None, None]
    assert torch.allclose(shifted.apply(images), expected, atol=1e-4)


def test_a_resized_crop_worked_by_hand() -> None:
    one = torch.ones(1, dtype=torch.float64)
    window = views.Geometry(
        top=2 * one, left=4 * one, side=8 * one, turns=torch.tensor([0]), flip=torch.tensor([False]), size=4
    )
    seen = window.apply(coordinates(1, 16, 16) - 1)[0]
    # Four pixels over eight: each stands for the mean of two, 2.5 for rows 2 and 3.
    assert torch.allclose(seen[0, :, 0], torch.tensor([2.5, 4.5, 6.5, 8.5]), atol=1e-5)
    assert torch.allclose(seen[1, 0, :], torch.tensor([4.5, 6.5, 8.5, 10.5]), atol=1e-5)


def test_resized_crops_stay_inside_and_keep_their_scale() -> None:
    window = views.resized_crop((30, 40), 16, draws(2000), scale=(0.35, 1.0))
    share = (window.side / 30) ** 2
    assert share.min() >= 0.35 - 1e-9
    assert share.max() <= 1.0
    assert share.mean().item() == pytest.approx(0.675, abs=0.02)
    assert bool((window.top >= 0).all())
    assert bool((window.top + window.side <= 30 + 1e-9).all())
    assert bool((window.left + window.side <= 40 + 1e-9).all())


def test_windows_much_larger_than_the_view_are_averaged() -> None:
    window = views.resized_crop((24, 24), 8, draws(3), scale=(1.0, 1.0), turned=False)
    noise = torch.randn(3, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    means = noise.view(3, 2, 8, 3, 8, 3).mean(dim=(3, 5))
    assert torch.allclose(window.apply(noise), means, atol=1e-5)


@pytest.mark.parametrize("side", [24, 25])
def test_averaging_leaves_the_ground_where_it_is(side: int) -> None:
    window = views.resized_crop((side, side), 6, draws(40), scale=(0.2, 0.5))
    assert window.shrink == 2
    fine = replace(window, shrink=1)
    images = coordinates(40, side, side)
    # At the border, where the mean of two pixels is repeated, by half a pixel.
    assert (window.apply(images) - fine.apply(images)).abs().max() <= 0.51
    inner = slice(2, -2)
    assert torch.allclose(window.apply(images)[..., inner, inner], fine.apply(images)[..., inner, inner], atol=1e-3)


def test_upright_windows_are_those_of_turned_ones() -> None:
    turned = views.resized_crop((20, 20), 8, draws(50), scale=(0.3, 1.0))
    upright = views.resized_crop((20, 20), 8, draws(50), scale=(0.3, 1.0), turned=False)
    assert torch.equal(turned.top, upright.top)
    assert torch.equal(turned.side, upright.side)
    seen = upright.apply(coordinates(50, 20, 20))
    assert bool((seen[:, 0].diff(dim=1) > 0).all())
    assert bool((seen[:, 1].diff(dim=2) > 0).all())


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(TrainingError, match="crop 13 does not fit images of 12 × 20 pixels; choose 1 to 12"):
        views.native_crop((12, 20), 13, draws(1))
    with pytest.raises(TrainingError, match="crop 21 does not fit images of 40 × 20 pixels; choose 1 to 20"):
        views.resized_crop((40, 20), 21, draws(1), scale=(0.35, 1.0))


# Radiometry


def test_gain_and_offset_worked_by_hand_spare_invalid_pixels() -> None:
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    images[:, :, 0, 0] = 0
    batch = replace(batch_of(5), images={"s2": images[:, None]})
    seen = views.view(batch, 0, ("s2",), unchanged(5, 4), ViewSettings(gain=0.2, offset=0.3), draws(5)).images["s2"]
    by_hand = draws(5)
    factor, shift = (0.2 * by_hand.normal(3)).exp().float(), (0.3 * by_hand.normal(3)).float()
    expected = images * factor[:, :, None, None] + shift[:, :, None, None]
    expected[:, :, 0, 0] = 0
    assert torch.allclose(seen, expected, atol=1e-6)
    assert factor.std() > 0.1


def test_without_radiometry_values_stay_and_nothing_is_drawn() -> None:
    batch, source = batch_of(3, 1, 7, 7), draws(3)
    seen = views.view(batch, 0, ("s2", "s1"), unchanged(3, 7), ALL, source, radiometry=False)
    assert torch.equal(seen.images["s2"], batch.images["s2"][:, 0])
    assert torch.equal(source.uniform(), draws(3).uniform())


@pytest.mark.parametrize(("n_bands", "left_out"), [(1, 0.0), (2, 0.5 - 0.25 / 2), (3, 0.5 - 0.125 / 3)])
def test_bands_are_left_out_as_often_as_asked_and_one_stays(n_bands: int, left_out: float) -> None:
    batch = replace(batch_of(6000), images={"s2": torch.ones(6000, 1, n_bands, 2, 2)})
    seen = views.view(batch, 0, ("s2",), unchanged(6000, 2), ViewSettings(band_drop=0.5), draws(6000)).images["s2"]
    gone = (seen == 0).flatten(2)
    assert torch.equal(gone.any(dim=2), gone.all(dim=2))
    assert not bool(gone.all(dim=2).all(dim=1).any())
    assert torch.allclose(gone[:, :, 0].double().mean(dim=0), torch.tensor(left_out).double(), atol=0.025)


def test_speckle_is_on_radar_alone_and_as_strong_as_asked() -> None:
    images = {sensor: torch.full((6, 1, 2, 64, 64), 1.5) for sensor in ("s2", "s1", "sar")}
    images["s1"][:, :, :, :5] = 0
    batch = replace(batch_of(6), images=images)
    changes = ViewSettings(speckle=0.4, radar=("s1", "sar"))
    seen = views.view(batch, 0, ("s2", "s1", "sar"), unchanged(6, 64), changes, draws(6)).images
    assert torch.equal(seen["s2"], images["s2"][:, 0])
    assert bool((seen["s1"][:, :, :5] == 0).all())
    noise = seen["sar"] - 1.5
    assert noise.std().item() == pytest.approx(0.4, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01)
    bands = torch.cat([image[:, :, 5:].flatten(0, 1).flatten(1) for image in (seen["s1"], seen["sar"])])
    assert (torch.corrcoef(bands) - torch.eye(len(bands))).abs().max() < 0.08


def test_pixel_noise_is_normal_and_depends_on_the_key_alone() -> None:
    keys = torch.tensor([3, 2**31 - 1, 0, 3])
    noise = views.pixel_noise(keys, (2, 60, 60))
    assert torch.equal(noise[0], noise[3])
    assert torch.equal(views.pixel_noise(keys[1:2], (2, 60, 60))[0], noise[1])
    assert not torch.equal(noise[0], noise[1])
    one = noise[:3].flatten().sort().values
    normal = torch.special.ndtri((torch.arange(len(one)) + 0.5).double() / len(one))
    assert (one - normal)[100:-100].abs().max() < 0.1


def test_pixel_noise_follows_the_hash_in_unsigned_arithmetic() -> None:
    def mixed(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return x ^ (x >> np.uint32(16))

    key = mixed(np.array([123456789], dtype=np.uint32))
    number = mixed(mixed(np.arange(50, dtype=np.uint32)) ^ key) & np.uint32(0x7FFFFF)
    uniform = (number.astype(np.float64) + 0.5) / 2**23
    expected = torch.special.ndtri(torch.from_numpy(uniform))
    found = views.pixel_noise(torch.tensor([123456789]), (2, 5, 5)).flatten().double()
    assert torch.allclose(found, expected, atol=1e-4)


def test_windows_do_not_depend_on_which_radiometry_is_in_use() -> None:
    batch, plain = batch_of(6, 2), ViewSettings(crop=7, local_crops=3, local_scale=(0.2, 0.6))

    def pattern(view: View) -> Tensor:
        """What a gain above 0 and an offset leave of where pixels came from."""
        flat = ground(view).flatten(2)
        return (flat - flat.mean(dim=2, keepdim=True)) / flat.std(dim=2, keepdim=True)

    lit = views.multi_crop(batch, replace(plain, gain=0.2, offset=0.3), ("s2",), draws(6))
    for one, other in zip(lit, views.multi_crop(batch, plain, ("s2",), draws(6)), strict=True):
        assert torch.allclose(pattern(one), pattern(other), atol=1e-3)
        assert not torch.allclose(ground(one), ground(other), atol=0.1)


# Which views


@pytest.mark.parametrize(
    ("kinds", "looks", "sensors", "shared"),
    [
        (("augment",), (0, 0), (["s2", "s1"], ["s2", "s1"]), False),
        (("season",), (0, 1), (["s2", "s1"], ["s2", "s1"]), True),
        (("sensor",), (0, 0), (["s2"], ["s1"]), True),
        (("long",), (0, 1), (["s2", "s1"], ["s2", "s1"]), True),
        (("augment", "season"), (0, 1), (["s2", "s1"], ["s2", "s1"]), False),
        (("augment", "sensor"), (0, 0), (["s2"], ["s1"]), True),
        (("season", "sensor"), (0, 1), (["s2"], ["s1"]), True),
        (("augment", "sensor", "long"), (0, 1), (["s2"], ["s1"]), False),
        (("season", "long"), (0, 1), (["s2", "s1"], ["s2", "s1"]), True),
    ],
)
def test_a_pair_differs_in_what_is_asked_for(
    kinds: tuple[str, ...], looks: tuple[int, int], sensors: tuple[list[str], list[str]], shared: bool
) -> None:
    made = views.pair(batch_of(20, 2), ViewSettings(kinds=kinds, crop=7), ("s2", "s1"), draws(20))
    assert tuple(view.look for view in made) == looks
    assert tuple(list(view.images) for view in made) == sensors
    for view in made:
        assert len(view) == 20
        assert all(torch.equal(image[:, :2], ground(view)) for image in view.images.values())
        if "s2" in view.images:
            expected = (1000.0 * view.look + torch.arange(20) + 1)[:, None, None].expand(20, 7, 7)
            assert torch.allclose(view.images["s2"][:, 2], expected, rtol=1e-5)
    same = (ground(made[0]) == ground(made[1])).flatten(1).all(dim=1)
    assert bool(same.all()) if shared else not bool(same.any())
    native = bool((ground(made[0]) == ground(made[0]).round()).all())
    assert native == ("augment" not in kinds)


def test_a_pair_needs_its_sensors_and_its_looks() -> None:
    with pytest.raises(TrainingError, match="views of two sensors need two, not s2; leave sensor out of --views"):
        views.pair(batch_of(2), ViewSettings(kinds=("sensor",), crop=7), ("s2",), draws(2))
    with pytest.raises(TrainingError, match="views of 2 dates need as many looks of a place; this batch has 1"):
        views.pair(batch_of(2, 1), ViewSettings(kinds=("season",), crop=7), ("s2",), draws(2))
    with pytest.raises(TrainingError, match="views of 5 dates need as many looks of a place; this batch has 4"):
        views.seasonal(batch_of(2, 4), ViewSettings(crop=7), ("s2",), draws(2), first=2)


@pytest.mark.parametrize("kinds", [("augment",), ("season",)])
def test_aligned_views_show_one_ground_of_all_looks_and_sensors(kinds: tuple[str, ...]) -> None:
    made = views.aligned(batch_of(5, 3), ViewSettings(kinds=kinds, crop=7), ("s1", "s2"), draws(5))
    assert [view.look for view in made] == [0, 1, 2]
    for view in made:
        assert list(view.images) == ["s1", "s2"]
        assert torch.equal(view.images["s1"], ground(made[0]))
        assert torch.equal(view.images["s2"][:, :2], ground(made[0]))
        assert int(view.images["s2"][0, 2, 3, 3].round()) == 1000 * view.look + 1


@pytest.mark.parametrize(
    ("kinds", "looks", "sensors"),
    [
        (("augment",), (0, 0), (["s2", "s1"], ["s2", "s1"])),
        (("augment", "season", "sensor"), (0, 1), (["s2"], ["s1"])),
    ],
)
def test_multi_crop_adds_small_views_of_both_in_turn(
    kinds: tuple[str, ...], looks: tuple[int, int], sensors: tuple[list[str], list[str]]
) -> None:
    wanted = ViewSettings(kinds=kinds, crop=9, local_crops=5, local_scale=(0.1, 0.3))
    batch = batch_of(4, 2)
    made = views.multi_crop(batch, wanted, ("s2", "s1"), draws(4))
    for number, view in enumerate(made):
        assert view.look == looks[number % 2]
        assert list(view.images) == sensors[number % 2]
        assert ground(view).shape[-1] == (9 if number < 2 else 4)
    assert len(made) == 7
    both = views.pair(batch, wanted, ("s2", "s1"), draws(4))
    assert all(torch.equal(ground(one), ground(other)) for one, other in zip(made[:2], both, strict=True))
    # A share of at most 0.3 of 12 × 12 pixels: the middles of the outer pixels lie less than 0.3^½ · 12 apart.
    for view in made[2:]:
        extent = ground(view).flatten(2).amax(dim=2) - ground(view).flatten(2).amin(dim=2)
        assert extent.max() < 0.3**0.5 * 12


def test_the_side_of_small_views() -> None:
    assert views.local_side(ViewSettings(crop=224)) == 96
    assert views.local_side(ViewSettings(crop=224), 16) == 96
    assert views.local_side(ViewSettings(crop=96)) == 41
    assert views.local_side(ViewSettings(crop=96), 16) == 48
    assert views.local_side(ViewSettings(crop=1), 8) == 8
    assert views.local_side(ViewSettings(crop=96, local_crop=30), 16) == 30


@pytest.mark.parametrize(
    ("first", "n_looks", "looks"), [(0, 3, [0, 1, 2, 0]), (3, 3, [3, 4, 5, 3]), (1, 2, [1, 2, 2, 1])]
)
def test_seasonal_views_differ_in_season_augmentation_or_both(first: int, n_looks: int, looks: list[int]) -> None:
    changes = ViewSettings(crop=7, gain=0.5, scale=(0.4, 0.9))
    made = views.seasonal(batch_of(40, 6), changes, ("s2",), draws(40), first=looks[0], n_looks=len(set(looks)))
    assert [view.look for view in made] == looks
    for number, view in enumerate(made):
        image = view.images["s2"]
        down = image[:, 0].diff(dim=1).flatten(1)
        upright = (down > 0.1).all(dim=1)
        lit = (image[:, 2, 3, 3].round() - 1) != 1000 * view.look + torch.arange(40)
        if number in (0, 2):
            assert bool(upright.all())
            assert not bool(lit.any())
        else:
            assert 0 < int(upright.sum()) < 30
            assert int(lit.sum()) > 30
    assert not torch.equal(ground(made[0]), ground(made[2]))


MAKERS: dict[str, Callable[[Batch, Draws], Sequence[View]]] = {
    "aligned": lambda batch, source: views.aligned(batch, ALL, ("s2", "s1"), source),
    "pair": lambda batch, source: views.pair(batch, replace(ALL, kinds=("season",)), ("s2", "s1"), source),
    "multi_crop": lambda batch, source: views.multi_crop(batch, ALL, ("s2", "s1"), source),
    "seasonal": lambda batch, source: views.seasonal(batch, ALL, ("s1", "s2"), source),
}


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_two_processes_see_together_what_one_would(name: str, seed: int) -> None:
    make, batch = MAKERS[name], batch_of(6, 3)

    def seen(rows: slice) -> Sequence[View]:
        part = replace(batch, images={sensor: image[rows] for sensor, image in batch.images.items()})
        return make(part, Draws(views.generator(seed), 6, rows))

    for whole, first, second in zip(seen(slice(0, 6)), seen(slice(0, 4)), seen(slice(4, 6)), strict=True):
        for sensor, image in whole.images.items():
            assert torch.allclose(torch.cat([first.images[sensor], second.images[sensor]]), image, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_keys_give_the_same_views_and_nothing_else_is_drawn_from(name: str) -> None:
    make, batch, before = MAKERS[name], batch_of(3, 3), torch.get_rng_state()

    def seen(*keys: int) -> Tensor:
        return torch.cat([image.flatten() for view in make(batch, draws(3, *keys)) for image in view.images.values()])

    assert torch.equal(seen(2, 5), seen(2, 5))
    assert not torch.equal(seen(2, 5), seen(2, 6))
    assert not torch.equal(seen(2, 5), seen(3, 5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MAKERS)
def test_views_are_made_where_the_images_are_without_looking_at_them(name: str) -> None:
    # Tensors of the meta device have no values, and refuse to meet others.
    for view in MAKERS[name](batch_of(3, 3, device="meta"), draws(3)):
        assert all(image.is_meta for image in view.images.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", MAKERS)
def test_a_gpu_sees_what_the_cpu_sees(name: str) -> None:
    there = MAKERS[name](batch_of(5, 3, device="cuda"), draws(5))
    for view, other in zip(MAKERS[name](batch_of(5, 3), draws(5)), there, strict=True):
        for sensor, image in view.images.items():
            assert torch.allclose(image, other.images[sensor].cpu(), rtol=1e-5, atol=1e-4)


def test_sensors_of_one_view_need_one_grid() -> None:
    batch = batch_of(2, 2)
    batch.images["s1"] = batch.images["s1"][..., ::2, ::2]
    with pytest.raises(TrainingError, match="images of s2 12 × 14, s1 6 × 7 pixels; sensors of one view need the same"):
        views.pair(batch, ViewSettings(crop=5), ("s2", "s1"), draws(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ()}, "views of no kind; give one or several of augment,season,sensor,long, in this order"),
        ({"kinds": ("season", "augment")}, "views season,augment; give"),
        ({"kinds": ("augment", "hue")}, "views augment,hue; give"),
        ({"crop": 0}, "crop 0; expected at least 1"),
        ({"local_crops": -1}, "local_crops -1; expected at least 0"),
        ({"local_crop": -4}, "local_crop -4; expected at least 0"),
        ({"scale": (0.0, 1.0)}, "scale 0 to 1; expected shares"),
        ({"scale": (0.5, 0.4)}, "scale 0.5 to 0.4; expected shares"),
        ({"local_scale": (0.5, 1.2)}, "local_scale 0.5 to 1.2; expected shares"),
        ({"gain": -0.1}, "gain -0.1 is no standard deviation"),
        ({"offset": math.nan}, "offset nan is no standard deviation"),
        ({"speckle": math.inf}, "speckle inf is no standard deviation"),
        ({"band_drop": 1.0}, "band_drop 1; expected a probability"),
    ],
)
def test_settings_that_make_no_views_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(ViewSettings(), **change)  # type: ignore[arg-type]
