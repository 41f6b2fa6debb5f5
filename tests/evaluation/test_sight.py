"""What encoders see: bands by name, statistics worked by hand, missing bands without influence, several encoders."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.own_shards import MASK, PICTURE, RADAR, OwnShards, trained
from torch import Tensor

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import TrainingError
from geossl_data.evaluation.sight import _over_the_whole, copied, fresh, shown_by, sight_of
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo
from geossl_data.pretrain.normalisation import Normalisation, normalisation

ALL = tuple(MEMBERS[name] for name in ("s2_10m", "s2_20m", "s2_60m", "s1"))
STATISTICS = {"B04": (50.0, 10.0), "B03": (60.0, 20.0), "B02": (40.0, 5.0), "VV": (100.0, 50.0)}


@pytest.fixture(scope="module")
def shards(toy: Any) -> Any:
    return toy.ToyShards({"train": 3, "test": 1}, n_looks=1, size=24)


def stored(shards: Any, *samples: int) -> dict[str, Tensor]:
    looks = [shards.arrays[sample][-1] for sample in samples]
    return {name: torch.from_numpy(np.stack([look[name] for look in looks])) for name in looks[0]}


def pictures(**more: Any) -> OwnShards:
    """8-bit pictures in red, green, blue, and radar of one polarisation; every pixel another number."""
    look = {
        "s2": np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
        "s1": np.arange(90, 106, dtype=np.uint8)[None].reshape(1, 4, 4),
    }
    return OwnShards([PICTURE, RADAR, MASK], [[look]], **({"statistics": STATISTICS} | more))


@torch.inference_mode()
def answer(sight: Any, images: list[Tensor]) -> Tensor:
    return sight.embed(images)  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------ as in training


@pytest.mark.parametrize(("encoder", "embed"), [("tiny", "plain"), ("tiny-vit", "groups"), ("tiny-vit", "wavelength")])
@pytest.mark.parametrize("sensors", ["s1", "s2", "s2+s1"])
def test_what_it_sees_of_sentinel_is_what_it_was_trained_on(
    shards: Any, sensors: str, encoder: str, embed: str
) -> None:
    module, info = trained(shards, sensors, encoder, embed)
    looks = stored(shards, 0, 2)
    for shown in shown_by([info], shards):
        sight = sight_of([(module, info)], shards, shown)
        (images,) = sight.images(looks)
        expected, present = info.images(looks, sensors=shown)
        assert torch.equal(images, expected)
        with torch.inference_mode():
            assert torch.equal(sight.embed([images]), module(expected, present))
            found = sight.pyramid([images])
        assert [tuple(level.shape[:2]) for level in found] == [(2, width) for width in sight.widths]
        assert set(sight.statistics.values()) == {"encoder"}
        assert set(sight.members) == {m.name for m in ALL if m.sensor in shown}


def test_a_sensor_shown_alone_is_on_the_grid_of_both() -> None:
    fine, coarse = Member("s1", "s1", ("VV",), 1, "uint8", ""), replace(PICTURE, factor=2)
    notes = {"statistics": {band: {"mean": mean, "std": std} for band, (mean, std) in STATISTICS.items()}}
    look = {"s1": np.ones((1, 4, 4), np.uint8), "s2": np.arange(12, dtype=np.uint8).reshape(3, 2, 2)}
    own = OwnShards([fine, coarse], [[look]], statistics=STATISTICS)
    entries = tuple(normalisation(notes, own.members, sensor) for sensor in ("s2", "s1"))
    info = EncoderInfo(encoder="tiny", patch=8, normalisations=entries, objective="moco", epochs=1)
    sight = sight_of([(build_encoder("tiny", info.bands, seed=0), info)], own, ("s2",))
    (images,) = sight.images(stored(own, 0))
    assert images.shape == (1, 4, 4, 4)
    assert torch.equal(images, info.images(stored(own, 0), sensors=("s2",))[0])


# ------------------------------------------------------------------------------------------------ own pictures


def test_twelve_bands_see_three_of_them(shards: Any) -> None:
    module, info = trained(shards, "s2")
    sight = sight_of([(module, info)], pictures(), ("s2",))
    (images,) = sight.images(stored(pictures(), 0))
    assert images.shape == (1, 12, 4, 4)
    numbers = np.arange(48.0).reshape(3, 4, 4)
    red, green, blue = (
        np.clip((numbers[i] - mean) / std, -5, 5) for i, (mean, std) in enumerate([*STATISTICS.values()][:3])
    )
    expected = np.concatenate([np.stack([blue, green, red]), np.zeros((9, 4, 4))])  # B02, B03, B04 come first
    np.testing.assert_allclose(images[0].numpy(), expected, rtol=1e-6)
    assert sight.readings[0].present == (True,) * 3 + (False,) * 9
    assert (sight.members, sight.statistics) == (("s2",), {"s2": "own"})


@pytest.mark.parametrize(("encoder", "embed"), [("tiny", "plain"), ("tiny-vit", "groups"), ("tiny-vit", "wavelength")])
def test_what_stands_in_a_missing_band_has_no_influence(shards: Any, encoder: str, embed: str) -> None:
    own = pictures(size=8)
    sight = sight_of([trained(shards, "s2+s1", encoder, embed)], own, ("s1", "s2"))
    images = torch.randn(2, 14, 8, 8, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    missing = ~torch.tensor(sight.readings[0].present)
    other[:, missing] = 100.0
    assert int(missing.sum()) == 10
    assert torch.equal(answer(sight, [images]), answer(sight, [other]))
    other[:, 0] += 1.0
    assert not torch.equal(answer(sight, [images]), answer(sight, [other]))


def test_both_polarisations_see_one_of_them(shards: Any) -> None:
    sight = sight_of([trained(shards, "s1")], pictures(), ("s1",))
    (images,) = sight.images(stored(pictures(), 0))
    assert sight.readings[0].present == (True, False)
    np.testing.assert_allclose(images[0, 0].numpy(), (np.arange(90.0, 106).reshape(4, 4) - 100) / 50, rtol=1e-5)
    assert not images[0, 1].any()


def test_bands_are_found_by_name_in_any_member(shards: Any) -> None:
    members = [
        Member("other", "other", ("b04", "B8A"), 1, "uint8", ""),
        Member("optical", "optical", ("quality", "B04", "vv", "B11"), 1, "uint8", ""),
        replace(MASK, bands=("B02",)),
    ]
    look = {
        name: np.full((len(own.bands), 4, 4), 7, np.uint8)
        for name, own in zip(("other", "optical"), members, strict=False)
    }
    look["optical"] *= np.arange(4, dtype=np.uint8)[:, None, None]
    statistics = dict.fromkeys(("b04", "B04", "B8A", "vv", "B11"), (0.0, 10.0))
    own = OwnShards(members, [[look]], statistics=statistics)
    sight = sight_of([trained(shards, "s2")], own, ("s2",))
    (images,) = sight.images(stored(own, 0))
    names = trained(shards, "s2")[1].bands.names
    seen = {name: round(float(image.mean()), 3) for name, image in zip(names, images[0], strict=True) if image.any()}
    assert seen == {"B04": 0.7, "B8A": 0.7, "B11": 2.1}
    assert sight.members == ("other", "optical")
    radar = sight_of([trained(shards, "s1")], own, ("s1",))
    assert radar.images(stored(own, 0))[0][0, 0].mean() == pytest.approx(1.4)


def test_of_several_members_with_a_band_the_one_called_alike_is_taken(shards: Any) -> None:
    members = [
        Member(name, sensor, ("B04",), 1, "uint8", "") for name, sensor in (("a", "x"), ("b", "s2"), ("c", "s2"))
    ]
    look = {member.name: np.full((1, 4, 4), number, np.uint8) for number, member in enumerate(members)}
    own = OwnShards(members, [[look]], statistics={"B04": (0.0, 1.0)})
    entry = Normalisation(sensor="s2", bands=("B04",), mean=(0.0,), std=(1.0,), members=(members[2],))
    info = EncoderInfo(encoder="tiny", patch=8, normalisations=(entry,), objective="moco", epochs=1)
    module = build_encoder("tiny", info.bands, seed=0)
    assert sight_of([(module, info)], own, ("s2",)).members == ("c",)
    small = [members[0], replace(members[2], bands=("b04",))]
    exact = OwnShards(small, [[look]], statistics={"B04": (0.0, 1.0)})
    assert sight_of([(module, info)], exact, ("s2",)).members == ("a",)
    strange = replace(info, normalisations=(replace(entry, members=(replace(members[2], name="z"),)),))
    assert sight_of([(module, strange)], own, ("s2",)).members == ("b",)


def test_sensors_without_a_band_are_not_shown(shards: Any) -> None:
    infos = [trained(shards, sensor)[1] for sensor in ("s2", "s1")]
    assert shown_by(infos, shards) == (("s1",), ("s2",), ("s1", "s2"))
    assert shown_by([trained(shards, "s2+s1")[1]], pictures()) == (("s1",), ("s2",), ("s1", "s2"))
    only = OwnShards([PICTURE], [[{"s2": np.zeros((3, 4, 4), np.uint8)}]])
    assert shown_by(infos, only) == (("s2",),)


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (("s1",), r"^no band of s1 \(VV, VH\) in these shards, which hold 1, 2, 3; name the bands of own images as"),
        (("s3",), "^no encoder of s3; these see s1, s2$"),
        ((), "^no encoder of no sensor; these see"),
    ],
)
def test_what_cannot_be_shown_is_refused(shards: Any, shown: tuple[str, ...], message: str) -> None:
    unnamed = OwnShards([replace(PICTURE, bands=("1", "2", "3"))], [[{"s2": np.zeros((3, 4, 4), np.uint8)}]])
    judged = [trained(shards, "s1"), trained(shards, "s2")]
    with pytest.raises(TrainingError, match=message) as caught:
        sight_of(judged, unnamed, shown)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match=r"no band of s1 or s2 \(VV, VH, B02, .* B8A, B11, B12"):
        shown_by([info for _, info in judged], unnamed)


def test_pixels_that_do_not_fit_together_are_refused(shards: Any) -> None:
    odd = [replace(PICTURE, factor=3), replace(RADAR, factor=2)]
    own = OwnShards(odd, [[{}]], statistics=STATISTICS, size=6)
    with pytest.raises(TrainingError, match="pixels of s2 are no whole number of those of the other members"):
        sight_of([trained(shards, "s2+s1")], own, ("s1", "s2"))


# ------------------------------------------------------------------------------------------------ statistics


def first_pixel(
    shards: Any, statistics: Any, *, units: str = "", dtype: str = "uint8", **stored_as: Any
) -> tuple[float, str]:
    """What an encoder of VV (mean 10, deviation 4, of `units`) sees of a stored 20, and by whose statistics."""
    member = Member("s1", "s1", ("VV",), 1, "uint8", "dB")
    entry = Normalisation(sensor="s1", bands=("VV",), mean=(10.0,), std=(4.0,), members=(member,))
    entry = replace(entry, members=(replace(member, units=units, dtype=dtype),))
    info = EncoderInfo(encoder="tiny", patch=8, normalisations=(entry,), objective="moco", epochs=1)
    own = OwnShards(
        [replace(member, units="", **stored_as)],
        [[{"s1": np.full((1, 4, 4), 20, np.uint8)}]],
        statistics={"VV": (15.0, 1.0)},
    )
    sight = sight_of([(build_encoder("tiny", info.bands, seed=0), info)], own, ("s1",), statistics=statistics)
    return float(sight.images(stored(own, 0))[0][0, 0, 0, 0]), sight.statistics["s1"]


def test_statistics_are_chosen_by_units() -> None:
    assert first_pixel(None, "auto") == (2.5, "encoder")  # not stated, and stored alike
    assert first_pixel(None, "auto", dtype="uint16") == (5.0, "own")
    assert first_pixel(None, "auto", units="dB") == (5.0, "own")
    assert first_pixel(None, "auto", scale=0.5) == (-5.0, "own")  # 20 is stored and 10 is meant
    assert first_pixel(None, "own") == (5.0, "own")
    assert first_pixel(None, "encoder", units="dB", scale=0.5, offset=2.0) == (0.5, "encoder")
    assert first_pixel(None, {"VV": (18.0, 4.0)}) == (0.5, "stated")


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ("theirs", "statistics 'theirs' is not one of auto, own, encoder"),
        ({"B04": (1.0, 1.0)}, "no mean and deviation are stated of B02, B03; state those of all bands"),
        ({"B04": (1.0, 1.0), "B99": (1.0, 1.0)}, "statistics of B99, which no encoder sees; they see B01, B02"),
        ({"B02": (1.0, 1.0), "B03": (1.0, 0.0), "B04": (1.0, 1.0)}, "a deviation is not > 0"),
    ],
)
def test_statistics_that_make_no_sense_are_refused(shards: Any, statistics: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        sight_of([trained(shards, "s2")], pictures(), ("s2",), statistics=statistics)


def test_a_manifest_without_statistics_is_refused(shards: Any) -> None:
    with pytest.raises(TrainingError, match="the manifest lacks statistics of B02; run `geossl shard` again, or state"):
        sight_of([trained(shards, "s2")], pictures(statistics={}), ("s2",))


def test_a_band_without_any_deviation_counts_as_missing(shards: Any, caplog: pytest.LogCaptureFixture) -> None:
    constant = STATISTICS | {"B03": (60.0, 0.0), "VV": (float("nan"), float("nan"))}
    with caplog.at_level(logging.WARNING):
        sight = sight_of([trained(shards, "s2")], pictures(statistics=constant), ("s2",))
    assert sight.readings[0].present == (True, False, True) + (False,) * 9
    assert "band B03 is the same everywhere in the train split" in caplog.text
    with pytest.raises(TrainingError, match="bands of s1 are the same everywhere in the train split: nothing to see"):
        sight_of([trained(shards, "s1")], pictures(statistics=constant), ("s1",))


# ------------------------------------------------------------------------------------------------ side by side


def test_encoders_side_by_side_answer_one_after_the_other(shards: Any) -> None:
    one, other = trained(shards, "s1", "tiny-vit", seed=1), trained(shards, "s2", "tiny", seed=2)
    sight = sight_of([one, other], shards, ("s1", "s2"))
    looks = stored(shards, 1, 3)
    images = sight.images(looks)
    parts = [module(*info.images(looks)) for module, info in (one, other)]
    assert sight.embedding_dims == (16, 16)
    assert torch.allclose(answer(sight, images), torch.cat(parts, dim=1), atol=1e-6)
    with torch.inference_mode():
        maps = sight.pyramid(images)
        vit, resnet = one[0].pyramid(images[0]), other[0].pyramid(images[1])
    # One block gives the four maps of the ViT, all alike; the stem and two stages of the ResNet take the last three.
    assert [tuple(level.shape) for level in vit] == [(2, 16, 3, 3)] * 4
    assert [tuple(level.shape) for level in resnet] == [(2, 8, 12, 12), (2, 8, 6, 6), (2, 16, 3, 3)]
    assert [tuple(level.shape) for level in maps] == [(2, 24, 12, 12), (2, 24, 12, 12), (2, 24, 6, 6), (2, 32, 3, 3)]
    assert sight.widths == (24, 24, 24, 32)
    assert torch.equal(maps[3], torch.cat([vit[3], resnet[2]], dim=1))
    assert torch.equal(maps[1][:, 16:], resnet[0])


def test_an_encoder_that_sees_nothing_shown_takes_no_part(shards: Any) -> None:
    both = [trained(shards, "s1"), trained(shards, "s2")]
    alone = sight_of(both, shards, ("s2",))
    assert (len(alone.encoders), alone.embedding_dim) == (1, 16)
    together = fresh(sight_of(both, shards, ("s1", "s2")), 3)
    mine, theirs = fresh(alone, 3).state_dict(), together.state_dict()
    # Alone and side by side, and in a run that trained nothing else, a seed stands for the same weights.
    assert all(torch.equal(value, theirs[name.replace("encoders.0", "encoders.1")]) for name, value in mine.items())
    assert fresh(sight_of(both[1:], shards, ("s2",)), 3).digest == fresh(alone, 3).digest


def test_maps_of_a_vision_transformer_lie_where_the_pixels_do() -> None:
    vit = build_encoder("tiny-vit", 2, seed=0, patch=8)
    image = torch.zeros(1, 2, 22, 29)
    # Patches begin at row (22 - 16) // 2 = 3 and column (29 - 24) // 2 = 2; each map holds the middles of its patches.
    rows = torch.tensor([7.0, 15.0])[:, None].expand(2, 3)
    columns = torch.tensor([6.0, 14.0, 22.0])[None].expand(2, 3)
    (found,) = _over_the_whole([torch.stack([rows, columns])[None]], vit, image)
    assert found.shape == (1, 2, 2, 3)
    middles = [torch.tensor([5.5, 16.5]).clamp(7, 15), torch.tensor([29 / 6, 29 / 2, 145 / 6]).clamp(6, 22)]
    torch.testing.assert_close(found[0, 0], middles[0][:, None].expand(2, 3))
    torch.testing.assert_close(found[0, 1], middles[1][None].expand(2, 3))
    whole = [torch.zeros(1, 2, 2, 3)]
    assert _over_the_whole(whole, vit, torch.zeros(1, 2, 16, 24)) is whole


# ------------------------------------------------------------------------------------------------ copies, digests


def test_fresh_encoders_depend_on_the_seed_and_share_nothing(shards: Any) -> None:
    sight = sight_of([trained(shards, "s2", seed=7)], shards, ("s2",))
    one, same, other = fresh(sight, 7), fresh(sight, 7), fresh(sight, 8)
    assert one.digest == same.digest != other.digest
    assert sight.digest not in (one.digest, other.digest)
    assert not {value.data_ptr() for value in same.parameters()} & {value.data_ptr() for value in sight.parameters()}
    assert not same.training


def test_fresh_encoders_of_one_kind_differ_side_by_side(shards: Any) -> None:
    two = fresh(sight_of([trained(shards, "s2")] * 2, shards, ("s2",)), 3).encoders
    assert not torch.equal(next(two[0].parameters()), next(two[1].parameters()))


def step(sight: Any) -> None:
    """One step of training, as fine-tuning makes it."""
    sight.train()
    sight.embed([torch.randn(4, reading.n_bands, 24, 24) for reading in sight.readings]).square().mean().backward()
    with torch.no_grad():
        for parameter in sight.parameters():
            parameter -= 0.01 * parameter.grad


def test_a_copy_learns_without_the_original(shards: Any) -> None:
    sight = sight_of([trained(shards, "s2")], shards, ("s2",))
    before = {name: value.clone() for name, value in sight.state_dict().items()}
    digest = sight.digest
    other = copied(sight)
    assert other.digest == digest
    step(other)
    assert other.digest != digest
    assert all(torch.equal(value, before[name]) for name, value in sight.state_dict().items())
    assert (sight.digest, sight.training) == (digest, False)


def test_whatever_changes_the_answer_changes_the_digest(shards: Any) -> None:
    judged = trained(shards, "s2+s1")
    seen: list[str] = []

    def is_new(sight: Any) -> bool:
        seen.append(sight.digest)
        return sight.digest not in seen[:-1] and len(sight.digest) == 64

    sight = sight_of([judged], shards, ("s1", "s2"))
    assert is_new(sight)
    assert is_new(sight_of([judged], shards, ("s1",)))
    assert is_new(sight_of([judged], shards, ("s2",)))
    statistics = dict.fromkeys(judged[1].bands.names, (1.0, 2.0))
    assert is_new(sight_of([judged], shards, ("s1", "s2"), statistics=statistics))
    assert is_new(sight_of([judged], shards, ("s1", "s2"), statistics=statistics | {"VV": (1.0, 3.0)}))
    with torch.no_grad():
        next(sight.parameters())[0, 0, 0, 0] += 1.0
    assert is_new(sight)
    next(sight.parameters()).data[0, 0, 0, 0] += 1.0  # as fused optimisers write, unseen by what torch counts
    assert is_new(sight)
    sight.load_state_dict(fresh(sight, 5).state_dict())
    assert is_new(sight)
    sight.train()
    with torch.no_grad():  # batch norm keeps what it sees in training
        sight.embed([torch.randn(4, 14, 24, 24)])
    assert is_new(sight)
    assert sight_of([trained(shards, "s2+s1")], shards, ("s1", "s2")).digest == seen[0]


def test_a_digest_is_worked_out_once(shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sight = sight_of([trained(shards, "s2")], shards, ("s2",))
    counted: list[int] = []
    worked_out = type(sight)._digest
    monkeypatch.setattr(type(sight), "_digest", lambda self, state: counted.append(1) or worked_out(self, state))
    assert sight.digest == sight.digest
    assert len(counted) == 1
