"""Exported encoders: what goes in comes out, and what is damaged is refused in one line."""

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import geossl_data as gd
from geossl_data.bands import MEMBERS, S1_BANDS, S2_BANDS, S2_MEMBERS
from geossl_data.errors import StorageError, TrainingError
from geossl_data.pretrain.encoders import Encoder, build_encoder
from geossl_data.pretrain.export import METADATA_KEY, EncoderInfo, export_encoder, load_encoder
from geossl_data.pretrain.info import text_of
from geossl_data.pretrain.normalisation import Normalisation, bands_of
from geossl_data.pretrain.objectives.parts import Backbones
from geossl_data.pretrain.objectives.setup import Setup
from geossl_data.pretrain.views import View

S1 = Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.5, -18.25), std=(2.5, 3.0))
S2 = Normalisation(
    sensor="s2", bands=S2_BANDS, mean=tuple(1000.0 + 10 * b for b in range(12)), std=tuple(300.0 + b for b in range(12))
)
INFO = EncoderInfo(encoder="tiny", patch=8, normalisations=(S1,), objective="infonce", epochs=3)
CPU = torch.device("cpu")


def exported(path: Path, info: EncoderInfo = INFO) -> Encoder:
    """A fresh encoder of an info, written to the path."""
    encoder = build_encoder(info.encoder, info.bands, seed=5, patch=info.patch, embed=info.embed)
    export_encoder(path, encoder, info)
    return encoder.eval()


@pytest.mark.parametrize(
    ("encoder", "embed"), [("tiny", "plain"), ("tiny-vit", "plain"), ("tiny-vit", "groups"), ("tiny-vit", "wavelength")]
)
def test_an_encoder_comes_back(tmp_path: Path, encoder: str, embed: str) -> None:
    info = replace(INFO, encoder=encoder, embed=embed, normalisations=(S2, S1))
    path = tmp_path / "exported" / "s2+s1.safetensors"
    written = exported(path, info)
    loaded, found = gd.load_encoder(path)
    assert found == info
    assert not loaded.training
    images = torch.randn(2, 14, 16, 16, generator=torch.Generator().manual_seed(0))
    present = torch.arange(14) < 12
    with torch.inference_mode():
        assert torch.equal(loaded(images), written(images))
        assert torch.equal(loaded(images, present), written(images, present))


@pytest.mark.parametrize("encoder", ["tiny", "tiny-vit"])
def test_a_joint_encoder_answers_as_in_training(tmp_path: Path, encoder: str) -> None:
    setup = Setup(encoder=encoder, bands={"s2": bands_of(S2), "s1": bands_of(S1)}, joint=True, patch=8, embed="plain")
    backbones = Backbones(setup)
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(1, 9000, (3, *MEMBERS[name].shape(24)), np.uint16) for name in (*S2_MEMBERS, "s1")}
    views = {entry.sensor: entry.apply(arrays, CPU) for entry in (S2, S1)}
    backbones.train()
    backbones(View(views))  # moves the statistics of batch norm
    backbones.eval()
    info = replace(INFO, encoder=encoder, normalisations=(S2, S1))
    export_encoder(tmp_path / "s2+s1.safetensors", backbones.encoders[backbones.branches[0]], info)
    loaded, found = gd.load_encoder(tmp_path / "s2+s1.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded(*found.images(arrays)), backbones(View(views)))
        alone = loaded(*found.images(arrays, sensors=["s2"]))
        assert torch.equal(alone, backbones(View({"s2": views["s2"]})))
        assert not torch.allclose(alone, backbones(View(views)))


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        exported(tmp_path / name / "s1.safetensors")
    names = ("s1.md", "s1.safetensors")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == list(names)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s1.safetensors"
    encoder = exported(path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()[METADATA_KEY])["objective"] == "infonce"
        assert all(torch.equal(file.get_tensor(name), value) for name, value in encoder.state_dict().items())


OLD_VIT = {
    "embed.weight": (16, 2, 8, 8),
    "embed.bias": (16,),
    "blocks.0.norm_attention.weight": (16,),
    "blocks.0.norm_attention.bias": (16,),
    "blocks.0.attention.qkv.weight": (48, 16),
    "blocks.0.attention.qkv.bias": (48,),
    "blocks.0.attention.out.weight": (16, 16),
    "blocks.0.attention.out.bias": (16,),
    "blocks.0.norm_mlp.weight": (16,),
    "blocks.0.norm_mlp.bias": (16,),
    "blocks.0.mlp.0.weight": (64, 16),
    "blocks.0.mlp.0.bias": (64,),
    "blocks.0.mlp.2.weight": (16, 64),
    "blocks.0.mlp.2.bias": (16,),
    "norm.weight": (16,),
    "norm.bias": (16,),
}
"""Names and shapes as the first version wrote them."""


def test_a_file_of_the_first_version_loads(tmp_path: Path) -> None:
    path = tmp_path / "s1.safetensors"
    described = {"sensor": "s1", "bands": ["VV", "VH"], "mean": [-11.5, -18.25], "std": [2.5, 3.0], "clip": 5.0}
    old = {
        "encoder": "tiny-vit",
        "patch": 8,
        "objective": "infonce",
        "epochs": 3,
        "geossl": "0.1.0",
        "normalisation": described | {"members": [asdict(MEMBERS["s1"])]},
    }
    weights = {name: torch.full(shape, 0.5) for name, shape in OLD_VIT.items()}
    save_file(weights, path, metadata={METADATA_KEY: json.dumps(old)})
    encoder, info = load_encoder(path)
    assert info == replace(INFO, encoder="tiny-vit", geossl="0.1.0")
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "its metadata is not that of a geossl encoder"),
        ({METADATA_KEY: text_of(replace(INFO, encoder="resnet1000"))}, "'resnet1000' is not one of"),
        ({METADATA_KEY: text_of(replace(INFO, patch=7))}, "patch 7 is not one of"),
        ({METADATA_KEY: text_of(replace(INFO, embed="magic"))}, "'magic' is not one of"),
        ({METADATA_KEY: text_of(INFO)}, "its weights are not those of a tiny"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path = tmp_path / "s1.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(TrainingError, match=f"^{path}: .*{message}") as raised:
        load_encoder(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("stem.0.weight"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"stem.0.weight": tensors["stem.0.weight"].double()}),
        lambda tensors: tensors.update({"stem.0.weight": tensors["stem.0.weight"][:, :1].clone()}),
    ],
)
def test_weights_of_another_encoder_are_refused(tmp_path: Path, change: Any) -> None:
    tensors = dict(build_encoder("tiny", INFO.bands, seed=0).state_dict())
    change(tensors)
    path = tmp_path / "s1.safetensors"
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    save_file(contiguous, path, metadata={METADATA_KEY: text_of(INFO)})
    with pytest.raises(TrainingError, match="its weights are not those of a tiny; export it again"):
        load_encoder(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    encoder = build_encoder("tiny", 2, seed=0)
    cast(torch.Tensor, encoder.state_dict()["stem.0.weight"])[0] = torch.nan
    export_encoder(tmp_path / "s1.safetensors", encoder, INFO)
    with pytest.raises(TrainingError, match="not finite"):
        load_encoder(tmp_path / "s1.safetensors")


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no such encoder; train one with `geossl pretrain`"):
        load_encoder(str(tmp_path / "s1.safetensors"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "exported").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        exported(tmp_path / "exported" / "s1.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "s1.safetensors"
    exported(path)
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    header = 8 + int.from_bytes(whole[:8], "little")
    position = st.integers(0, header + 8)
    damaged = bytearray(whole)
    for at, byte in data.draw(st.lists(st.tuples(position, st.integers(0, 255)), min_size=1, max_size=3)):
        damaged[at] = byte
    path = tmp_path_factory.mktemp("damaged") / "s1.safetensors"
    path.write_bytes(damaged)
    with suppress(TrainingError):
        encoder, info = load_encoder(path)
        with torch.inference_mode():
            assert encoder(torch.zeros(1, info.channels, 8, 8)).isfinite().all()
