"""Normalisation: what becomes of a stored number, and what is known of the bands."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS, S1_BANDS, S2_BANDS, S2_MEMBERS, Member
from geossl_data.errors import TrainingError
from geossl_data.pretrain.normalisation import Normalisation, bands_of, channels_of, normalisation

CPU = torch.device("cpu")


def s2_normalisation() -> Normalisation:
    return Normalisation(
        sensor="s2",
        bands=S2_BANDS,
        mean=tuple(float(1000 + 10 * b) for b in range(12)),
        std=tuple(b + 1.0 for b in range(12)),
    )


def distinct_s2(size: int) -> dict[str, np.ndarray]:
    """One look in which every stored number is another one."""
    arrays, start = {}, 1
    for name in S2_MEMBERS:
        shape = (1, *MEMBERS[name].shape(size))
        arrays[name] = np.arange(start, start + np.prod(shape), dtype=np.uint16).reshape(shape)
        start += int(np.prod(shape))
    return arrays


def test_a_value_worked_by_hand() -> None:
    arrays = {name: array * 0 + 1000 for name, array in distinct_s2(12).items()}
    arrays["s2_20m"][0, 1, 2, 3] = 1053  # B06: mean 1050, std 6
    images = s2_normalisation().apply(arrays, CPU)
    assert images[0, 5, 4:6, 6:8].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert images[0, 5, 4, 5].item() == -5.0  # (1000 − 1050) / 6, clipped


def test_every_pixel_agrees_with_numpy() -> None:
    arrays = distinct_s2(12)
    expected = []
    for name in S2_MEMBERS:
        factor = MEMBERS[name].factor
        expected.append(np.kron(arrays[name][0].astype(float), np.ones((1, factor, factor))))
    full = np.concatenate(expected)
    own = s2_normalisation()
    mean, std = np.array(own.mean)[:, None, None], np.array(own.std)[:, None, None]
    oracle = np.clip((full - mean) / std, -5, 5)
    assert np.allclose(own.apply(arrays, CPU)[0].numpy(), oracle, atol=1e-5)


def test_invalid_pixels_become_the_mean() -> None:
    s2 = distinct_s2(12)
    s2["s2_10m"][0, 0, 3, 4] = 0
    assert s2_normalisation().apply(s2, CPU)[0, 0, 3, 4].item() == 0.0
    s1 = np.full((1, 2, 12, 12), 8800, np.uint16)  # -12 dB in steps of 0.01 dB above -100 dB
    s1[0, 1, 5, 6] = 0
    radar = Normalisation(sensor="s1", bands=("VV", "VH"), mean=(-11.0, -17.0), std=(2.0, 2.0))
    images = radar.apply({"s1": s1}, CPU)
    assert images[0, 1, 5, 5:8].tolist() == pytest.approx([2.5, 0.0, 2.5])
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda notes: notes["statistics"].pop("B11"), "lacks statistics of the s2 bands"),
        (lambda notes: notes.pop("statistics"), "lacks statistics of the s2 bands"),
        (lambda notes: notes["statistics"]["B11"].update(std=0.0), "a deviation is not > 0"),
        (lambda notes: notes["statistics"]["B11"].update(mean=float("nan")), "not finite"),
        (lambda notes: notes["statistics"].update(B11="many"), "lacks statistics"),
    ],
)
def test_notes_without_what_is_needed_are_refused(toy: Any, change: Any, message: str) -> None:
    notes = copy.deepcopy(toy.ToyShards({"train": 1}, size=12).notes)
    change(notes)
    with pytest.raises(TrainingError, match=message):
        normalisation(notes, MEMBERS, "s2")


def test_shards_without_a_member_of_a_sensor_are_refused(toy: Any) -> None:
    notes = toy.ToyShards({"train": 1}, size=12).notes
    with pytest.raises(TrainingError, match="hold no s2_60m"):
        normalisation(notes, {name: MEMBERS[name] for name in MEMBERS if name != "s2_60m"}, "s2")
    with pytest.raises(TrainingError, match="hold no member of sensor planet"):
        normalisation(notes, MEMBERS, "planet")


def test_other_rasters_are_standardised_by_what_the_manifest_says_of_them() -> None:
    fine = Member("fine", "drone", ("1", "2"), 1, "float32", "m")
    coarse = Member("coarse", "drone", ("3",), 3, "int16", "K", scale=0.5, offset=10.0, nodata=-1)
    classes = Member("map", "drone", ("class",), 1, "uint8", "class", plane=True)
    members = {member.name: member for member in (fine, coarse, classes)}
    notes = {"statistics": {band: {"mean": 12.0, "std": 2.0} for band in "123"}}
    normalised = normalisation(notes, members, "drone")
    assert channels_of(members.values()) == {"drone": 3}
    arrays = {
        "fine": np.array([[[14.0] * 3] * 3, [[np.nan] * 3] * 3], np.float32)[None],
        "coarse": np.array([[[6]]], np.int16)[None],
    }
    images = normalised.apply(arrays, CPU)
    assert images[0, :, 1, 1].tolist() == [1.0, 0.0, 0.5]  # (6 × 0.5 + 10 − 12) / 2
    arrays["coarse"][:] = -1
    assert normalised.apply(arrays, CPU)[0, 2].abs().max() == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_pixels_from_elsewhere_are_standardised_as_stored_ones_are(seed: int) -> None:
    radar = Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.5, -18.0), std=(3.0, 4.5))
    stored = np.random.default_rng(seed).integers(6000, 11_000, (2, 2, 4, 5), dtype=np.uint16)
    stored[0, 1, 2, 3] = 0
    physical = torch.from_numpy(MEMBERS["s1"].physical(stored))
    assert torch.isnan(physical[0, 1, 2, 3])
    assert torch.allclose(radar.standardised(physical), radar.apply({"s1": stored}, CPU), atol=1e-4)


def test_a_coarser_sensor_goes_onto_the_grid_of_a_finer_one() -> None:
    member = Member("thermal", "drone", ("1",), 2, "float32", "K")
    own = Normalisation(sensor="drone", bands=("1",), mean=(0.0,), std=(1.0,), members=(member,))
    stored = {"thermal": np.array([[[[1.0, 2.0]]]], np.float32)}
    assert own.apply(stored, CPU).tolist() == [[[[1, 2]]]]
    assert own.apply(stored, CPU, finest=1).tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]


def test_the_bands_of_sentinel_2_are_known() -> None:
    bands = bands_of(s2_normalisation())
    assert bands.names == S2_BANDS
    assert bands.groups == (4, 6, 2)
    assert bands.sensors == ("s2", "s2", "s2")
    assert dict(zip(bands.names, bands.wavelengths_um, strict=True))["B11"] == 1.61


def test_no_wavelength_is_made_up() -> None:
    radar = bands_of(Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.0, -17.0), std=(2.0, 2.0)))
    assert (radar.groups, radar.sensors, radar.wavelengths_um) == ((2,), ("s1",), (None, None))
    members = (
        Member("fine", "drone", ("B04", "red"), 1, "uint8", ""),
        Member("coarse", "drone", ("3",), 2, "uint8", ""),
    )
    drone = Normalisation(sensor="drone", bands=("B04", "red", "3"), mean=(0.0,) * 3, std=(1.0,) * 3, members=members)
    assert bands_of(drone).groups == (2, 1)
    assert bands_of(drone).wavelengths_um == (None, None, None)  # B04 of a drone is not that of Sentinel-2


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((Member("a", "other", ("1",), 1, "uint8", ""),), "member 'a' holds no bands of sensor 'drone'"),
        ((Member("a", "drone", ("1",), 1, "uint8", "", plane=True),), "member 'a' holds no bands of sensor 'drone'"),
        (
            (Member("a", "drone", ("1",), 2, "uint8", ""), Member("b", "drone", ("2",), 3, "uint8", "")),
            "pixels of b are no whole number of the finest ones",
        ),
    ],
)
def test_members_that_make_no_image_are_refused(members: tuple[Member, ...], message: str) -> None:
    bands = tuple(band for member in members for band in member.bands)
    with pytest.raises(TrainingError, match=message):
        Normalisation(sensor="drone", bands=bands, mean=(0.0,) * len(bands), std=(1.0,) * len(bands), members=members)
