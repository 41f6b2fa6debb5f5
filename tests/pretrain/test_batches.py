"""Batches: what becomes of a stored number, and in which order looks come."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS, S2_BANDS, S2_MEMBERS, Member
from geossl_data.errors import TrainingError
from geossl_data.pretrain import batches
from geossl_data.pretrain.batches import Normalisation

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
    normalisation = s2_normalisation()
    mean, std = np.array(normalisation.mean)[:, None, None], np.array(normalisation.std)[:, None, None]
    oracle = np.clip((full - mean) / std, -5, 5)
    assert np.allclose(normalisation.apply(arrays, CPU)[0].numpy(), oracle, atol=1e-5)


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


def test_an_epoch_holds_every_look_once_and_says_which_place_it_sees(toy: Any) -> None:
    shards = toy.ToyShards({"train": 5, "val": 3}, n_looks=2, size=12)
    order = batches.looks(shards, ["s1", "s2"], "train")
    assert order == [(index, look) for index in range(5) for look in range(2)]
    mixed = batches.shuffled(order, seed=1, epoch=0)
    normalisations = [batches.normalisation(shards.notes, shards.members, sensor) for sensor in ("s1", "s2")]
    seen = list(batches.read(shards, mixed, normalisations, 4, device=CPU, drop_last=False))
    assert [len(batch) for batch in seen] == [4, 4, 2]
    assert torch.cat([batch.places for batch in seen]).tolist() == [index for index, _ in mixed]
    index, look = mixed[5]
    lone = normalisations[0].apply({"s1": shards.arrays[index][look]["s1"][None]}, CPU)
    assert torch.equal(seen[1].images["s1"][1], lone[0])
    assert seen[0].images["s2"].shape == (4, 12, 12, 12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 10**6), n=st.integers(0, 60))
def test_an_order_is_a_permutation_that_repeats(seed: int, epoch: int, n: int) -> None:
    order = [(index, 0) for index in range(n)]
    mixed = batches.shuffled(order, seed=seed, epoch=epoch)
    assert sorted(mixed) == order
    assert mixed == batches.shuffled(order, seed=seed, epoch=epoch)


def test_epochs_differ() -> None:
    order = [(index, 0) for index in range(50)]
    assert batches.shuffled(order, seed=0, epoch=0) != batches.shuffled(order, seed=0, epoch=1)


def test_looks_that_lack_a_sensor_are_left_out(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    shards = toy.ToyShards({"train": 3}, n_looks=1, size=12)
    entry = copy.copy(shards.entries[1])
    object.__setattr__(entry, "members", (("s2_10m", "s2_20m", "s2_60m"),))
    shards.entries[1] = entry
    assert batches.looks(shards, ["s1"]) == [(0, 0), (2, 0)]
    assert "1 of 3 looks lack a sensor" in caplog.text
    assert len(batches.looks(shards, ["s2"])) == 3


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
        batches.normalisation(notes, MEMBERS, "s2")


def test_shards_without_a_member_of_a_sensor_are_refused(toy: Any) -> None:
    notes = toy.ToyShards({"train": 1}, size=12).notes
    with pytest.raises(TrainingError, match="hold no s2_60m"):
        batches.normalisation(notes, {name: MEMBERS[name] for name in MEMBERS if name != "s2_60m"}, "s2")
    with pytest.raises(TrainingError, match="hold no member of sensor planet"):
        batches.normalisation(notes, MEMBERS, "planet")


def test_other_rasters_are_standardised_by_what_the_manifest_says_of_them() -> None:
    fine = Member("fine", "drone", ("1", "2"), 1, "float32", "m")
    coarse = Member("coarse", "drone", ("3",), 3, "int16", "K", scale=0.5, offset=10.0, nodata=-1)
    classes = Member("map", "drone", ("class",), 1, "uint8", "class", plane=True)
    members = {member.name: member for member in (fine, coarse, classes)}
    notes = {"statistics": {band: {"mean": 12.0, "std": 2.0} for band in "123"}}
    normalised = batches.normalisation(notes, members, "drone")
    assert batches.channels_of(members.values()) == {"drone": 3}
    arrays = {
        "fine": np.array([[[14.0] * 3] * 3, [[np.nan] * 3] * 3], np.float32)[None],
        "coarse": np.array([[[6]]], np.int16)[None],
    }
    images = normalised.apply(arrays, CPU)
    assert images[0, :, 1, 1].tolist() == [1.0, 0.0, 0.5]  # (6 × 0.5 + 10 − 12) / 2
    arrays["coarse"][:] = -1
    assert normalised.apply(arrays, CPU)[0, 2].abs().max() == 0


def test_a_device_is_chosen_by_name() -> None:
    assert batches.chosen_device("cpu").type == "cpu"
    assert batches.chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(TrainingError, match="'tpu' is not one of"):
        batches.chosen_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError, match="torch sees no GPU"):
        batches.chosen_device("cuda")
