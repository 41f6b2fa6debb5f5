"""What an encoder expects to see: images of all its sensors or some, and the JSON that says so."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS, S1_BANDS, S2_BANDS, S2_MEMBERS, Member
from geossl_data.errors import TrainingError
from geossl_data.pretrain.info import EncoderInfo, info_of, text_of
from geossl_data.pretrain.normalisation import Normalisation

S1 = Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.5, -18.25), std=(2.5, 3.0))
S2 = Normalisation(
    sensor="s2", bands=S2_BANDS, mean=tuple(1000.0 + 10 * b for b in range(12)), std=tuple(300.0 + b for b in range(12))
)
DRONE = Normalisation(
    sensor="drone",
    bands=("red", "heat"),
    mean=(1.0, 2.0),
    std=(1.0, 2.0),
    members=(
        Member("fine", "drone", ("red",), 1, "uint8", ""),
        Member("coarse", "drone", ("heat",), 3, "float32", "K"),
    ),
)
BOTH = EncoderInfo(
    encoder="tiny",
    patch=8,
    normalisations=(S2, S1),
    objective="simclr",
    epochs=3,
    samples=100,
    crop=12,
    pixel_m=10.0,
    years=(2021, 2023),
)


def stored(n: int = 2, size: int = 12) -> dict[str, np.ndarray]:
    """The members of some looks; every number another one."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(1, 20_000, (n, *MEMBERS[name].shape(size)), np.uint16) for name in (*S2_MEMBERS, "s1")}


def test_an_encoder_of_two_sensors_says_what_it_sees() -> None:
    assert (BOTH.sensor, BOTH.sensors, BOTH.channels) == ("s2+s1", ("s2", "s1"), 14)
    assert BOTH.members == (*S2_MEMBERS, "s1")
    assert BOTH.bands.names == (*S2_BANDS, "VV", "VH")
    assert BOTH.bands.groups == (4, 6, 2, 2)
    assert BOTH.bands.sensors == ("s2", "s2", "s2", "s1")
    alone = replace(BOTH, normalisations=(S1,))
    assert (alone.sensor, alone.channels, alone.members) == ("s1", 2, ("s1",))


def test_images_of_all_sensors_stand_in_the_order_of_the_bands() -> None:
    arrays = stored()
    images, present = BOTH.images(arrays)
    assert images.shape == (2, 14, 12, 12)
    assert present is None
    assert torch.equal(images[:, :12], S2.apply(arrays, torch.device("cpu")))
    assert torch.equal(images[:, 12:], S1.apply(arrays, torch.device("cpu")))


def test_images_of_one_sensor_say_which_bands_are_there() -> None:
    arrays = stored()
    images, present = BOTH.images({"s1": arrays["s1"]}, sensors=["s1"])
    assert present is not None
    assert present.tolist() == [False] * 12 + [True] * 2
    assert torch.equal(images[:, 12:], BOTH.images(arrays)[0][:, 12:])
    assert not images[:, :12].any()


def test_pixels_from_elsewhere_are_taken_in_physical_units() -> None:
    arrays = stored()
    repeated = [arrays[name].repeat(MEMBERS[name].factor, 2).repeat(MEMBERS[name].factor, 3) for name in S2_MEMBERS]
    radar = MEMBERS["s1"].physical(arrays["s1"])
    values = torch.from_numpy(np.concatenate([part.astype(np.float32) for part in (*repeated, radar)], axis=1))
    images, present = BOTH.standardised(values)
    assert present is None
    assert torch.allclose(images, BOTH.images(arrays)[0], atol=1e-4)
    shown, present = BOTH.standardised(values[:, :12], sensors=["s2"])
    assert present is not None
    assert present.tolist() == [True] * 12 + [False] * 2
    assert torch.equal(shown[:, :12], images[:, :12])
    with pytest.raises(TrainingError, match=r"images of shape \(2, 14, 12, 12\); expected \(images, 12 bands"):
        BOTH.standardised(values, sensors=["s2"])


def test_sensors_of_different_grids_are_brought_together() -> None:
    member = Member("thermal", "plane", ("1",), 3, "float32", "K")
    thermal = Normalisation(sensor="plane", bands=("1",), mean=(0.0,), std=(1.0,), members=(member,))
    info = replace(BOTH, normalisations=(DRONE, thermal))
    arrays = {
        "fine": np.full((1, 1, 6, 6), 2, np.uint8),
        "coarse": np.full((1, 1, 2, 2), 4, np.float32),
        "thermal": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2),
    }
    images, _ = info.images(arrays)
    assert images.shape == (1, 3, 6, 6)
    assert images[0, 2, ::3, ::3].tolist() == [[0, 1], [2, 3]]
    alone, _ = info.images({"thermal": arrays["thermal"]}, sensors=["plane"])
    assert alone.shape == (1, 3, 6, 6)
    assert info.bands.wavelengths_um == (None,) * 3


@pytest.mark.parametrize(
    ("lacking", "sensors", "message"),
    [
        (("s2_60m",), None, "no s2_60m among the members; images of s2\\+s1 are made of s2_10m, s2_20m, s2_60m, s1"),
        (("s1",), ["s2", "s1"], "no s1 among the members"),
        ((), ["s3"], "sensors s3; this encoder sees s2 and s1"),
        ((), [], "sensors none; this encoder"),
    ],
)
def test_what_is_not_there_is_told(lacking: tuple[str, ...], sensors: list[str] | None, message: str) -> None:
    arrays = {name: array for name, array in stored().items() if name not in lacking}
    with pytest.raises(TrainingError, match=message):
        BOTH.images(arrays, sensors=sensors)


def test_images_of_different_ground_are_refused() -> None:
    with pytest.raises(TrainingError, match="differ in number or size"):
        BOTH.images(stored() | {"s1": np.ones((2, 2, 6, 6), np.uint16)})


@pytest.mark.parametrize("normalisations", [(), (S1, S1)])
def test_an_encoder_sees_each_sensor_once(normalisations: tuple[Normalisation, ...]) -> None:
    with pytest.raises(TrainingError, match="expected one or several, each once"):
        replace(BOTH, normalisations=normalisations)


@pytest.mark.parametrize(
    "info",
    [BOTH, replace(BOTH, normalisations=(DRONE,), embed="groups", samples=None, crop=None, pixel_m=None, years=())],
)
def test_an_info_comes_back(info: EncoderInfo) -> None:
    assert info_of(text_of(info)) == info
    assert text_of(info_of(text_of(info))) == text_of(info)


NOT_OURS = "its metadata is not that of a geossl encoder"


def changed(change: Any, info: EncoderInfo = BOTH) -> str:
    values = json.loads(text_of(info))
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NOT_OURS),
        ("{", NOT_OURS),
        ("[1]", NOT_OURS),
        ("[" * 100_000, NOT_OURS),
        (changed(lambda v: v.pop("encoder")), NOT_OURS),
        (changed(lambda v: v.update(encoder=["resnet10"])), NOT_OURS),
        (changed(lambda v: v.update(encoder="res\nnet")), NOT_OURS),
        (changed(lambda v: v.update(patch="8")), NOT_OURS),
        (changed(lambda v: v.update(patch=True)), NOT_OURS),
        (changed(lambda v: v.update(epochs=1.5)), NOT_OURS),
        (changed(lambda v: v.update(years=["2021"])), NOT_OURS),
        (changed(lambda v: v.update(surprise=1)), NOT_OURS),
        (changed(lambda v: v.update(surprise=1, geossl="99.1")), "written by geossl 99.1, which .*; update geossl"),
        (changed(lambda v: v.update(normalisations=[])), "expected one or several"),
        (changed(lambda v: v["normalisations"][1].update(std=[1, 0])), "a deviation is not > 0"),
        (changed(lambda v: v["normalisations"][1].update(std=[1, float("nan")])), "not finite"),
        (changed(lambda v: v["normalisations"][1].update(std=[1, 10**400])), NOT_OURS),
        (changed(lambda v: v["normalisations"][1].update(std=[1, "x"])), NOT_OURS),
        (changed(lambda v: v["normalisations"][1].update(std=[1, True])), NOT_OURS),
        (changed(lambda v: v["normalisations"][1].update(mean=[1])), "need as many means"),
        (changed(lambda v: v["normalisations"][1].update(bands=["HH", "HV"])), "expected those of"),
        (changed(lambda v: v["normalisations"][1].update(sensor="s1\x1b[2J")), NOT_OURS),
        (changed(lambda v: v["normalisations"][1]["members"][0].update(scale=0)), NOT_OURS),
        (changed(lambda v: v["normalisations"][1]["members"][0].update(factor=0)), NOT_OURS),
        (changed(lambda v: v["normalisations"][1]["members"][0].update(surprise=0)), NOT_OURS),
    ],
    ids=lambda value: "",
)
def test_what_is_no_info_is_refused(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as raised:
        info_of(text)
    assert "\n" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), value=JSON)
def test_no_json_raises_anything_else(data: st.DataObject, value: Any) -> None:
    values = json.loads(text_of(BOTH))
    inside: Any = values
    key = data.draw(st.sampled_from(sorted(inside)))
    while isinstance(inside[key], dict | list) and inside[key] and data.draw(st.booleans()):
        inside = inside[key]
        key = data.draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
    inside[key] = value
    try:
        found = info_of(json.dumps(values))
    except TrainingError:
        return
    assert repr(info_of(text_of(found))) == repr(found)  # NaN equals nothing
