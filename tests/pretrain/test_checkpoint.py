"""Checkpoints and exported encoders: what goes in comes out, and what is damaged is refused in one line."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from geossl_data.bands import S1_BANDS
from geossl_data.errors import StorageError, TrainingError
from geossl_data.pretrain.batches import Normalisation
from geossl_data.pretrain.checkpoint import (
    Checkpoint,
    EncoderInfo,
    export_encoder,
    load_checkpoint,
    load_encoder,
    save_checkpoint,
)
from geossl_data.pretrain.encoders import build_encoder

CPU = torch.device("cpu")
INFO = EncoderInfo(
    encoder="resnet10",
    patch=8,
    normalisation=Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.5, -18.25), std=(2.5, 3.0)),
    objective="infonce",
    epochs=3,
)


def checkpoint() -> Checkpoint:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(
        options={"seed": 1, "encoder": "resnet10"},
        epoch=2,
        step=14,
        model=layer.state_dict(),
        optimizer=optimizer.state_dict(),
    )


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path / "last.pt", saved)
    loaded = load_checkpoint(tmp_path / "last.pt", CPU)
    assert (loaded.options, loaded.epoch, loaded.step) == (saved.options, 2, 14)
    assert all(torch.equal(loaded.model[name], saved.model[name]) for name in saved.model)
    assert torch.equal(loaded.optimizer["state"][0]["exp_avg"], saved.optimizer["state"][0]["exp_avg"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_the_same_state_is_the_same_bytes(tmp_path: Path) -> None:
    saved = checkpoint()
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, saved)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


class Malicious:
    """What a pickle may carry: a call made while it is loaded."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was_here"),))


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.98), junk=st.binary(max_size=20))
def test_a_checkpoint_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("damage") / "last.pt"
    save_checkpoint(path, checkpoint())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))] + junk)
    with pytest.raises(TrainingError, match="not a readable checkpoint; start the run over with --fresh") as raised:
        load_checkpoint(path, CPU)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Malicious()),
        pickle.dumps({"options": "{}"}),
        b"",
    ],
)
def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        load_checkpoint(path, CPU)
    assert not (tmp_path / "was_here").exists()


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    torch.save({"options": "{}", "epoch": "two", "step": 1, "model": {}, "optimizer": {}}, tmp_path / "last.pt")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "last.pt", CPU)


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "last.pt", checkpoint())


def test_an_exported_encoder_answers_as_the_trained_one(tmp_path: Path) -> None:
    encoder = build_encoder("resnet10", 2, seed=5)
    images = torch.randn(4, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    encoder.train()
    encoder(images)  # moves the batch-norm statistics
    encoder.eval()
    path = tmp_path / "exported" / "s1.safetensors"
    export_encoder(path, encoder, INFO)
    first = path.read_bytes()
    export_encoder(path, encoder, INFO)
    assert path.read_bytes() == first
    loaded, info = load_encoder(path)
    assert info == INFO
    assert (info.sensor, info.channels) == ("s1", 2)
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(images), encoder(images))


def damaged(change: Any) -> dict[str, str]:
    values = {
        "encoder": "resnet10",
        "patch": 8,
        "objective": "infonce",
        "epochs": 3,
        "geossl": "1",
        "normalisation": {"sensor": "s1", "bands": ["VV", "VH"], "mean": [0, 0], "std": [1, 1], "clip": 5},
    }
    change(values)
    return {"geossl": json.dumps(values)}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "metadata is not that of a geossl encoder"),
        ({"geossl": "{"}, "metadata is not that of a geossl encoder"),
        ({"geossl": "[1]"}, "metadata is not that of a geossl encoder"),
        (damaged(lambda v: v.update(encoder="resnet1000")), "'resnet1000' is not one of"),
        (damaged(lambda v: v.update(encoder=["resnet10"])), "metadata is not that of a geossl encoder"),
        (damaged(lambda v: v.update(patch="8")), "patch 8 is not one of"),
        (damaged(lambda v: v.update(surprise=1)), "metadata is not that of a geossl encoder"),
        (damaged(lambda v: v["normalisation"].update(std=[1, 0])), "a deviation is not > 0"),
        (damaged(lambda v: v["normalisation"].update(std=[1, "x"])), "metadata is not that of a geossl encoder"),
        (damaged(lambda v: v["normalisation"].update(bands=["HH", "HV"])), "expected those of"),
        (damaged(lambda v: None), "its weights are not those of a resnet10"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path = tmp_path / "s1.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(TrainingError, match=message) as raised:
        load_encoder(path)
    assert "\n" not in str(raised.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    encoder = build_encoder("resnet10", 2, seed=0)
    encoder.state_dict()["stem.0.weight"][0] = torch.nan
    export_encoder(tmp_path / "s1.safetensors", encoder, INFO)
    with pytest.raises(TrainingError, match="not finite"):
        load_encoder(tmp_path / "s1.safetensors")


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 64, (10**15).to_bytes(8, "little") + b"{}"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s1.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="not a readable safetensors file"):
        load_encoder(path)


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no such encoder; train one with `geossl pretrain`"):
        load_encoder(tmp_path / "s1.safetensors")


def test_an_info_is_a_value() -> None:
    assert replace(INFO, epochs=4) != INFO
