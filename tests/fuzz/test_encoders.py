"""Files of weights from elsewhere: exported encoders, and checkpoints to resume from."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz.mutations import fuzzed, json_bytes, spoilt, told, twisted
from hypothesis import given
from hypothesis import strategies as st
from pretrain.tiny import tiny_encoders

from geossl_data.bands import MEMBERS
from geossl_data.errors import TrainingError
from geossl_data.pretrain.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import METADATA_KEY, EncoderInfo, export_encoder, load_encoder
from geossl_data.pretrain.normalisation import Normalisation

BANDS = MEMBERS["s1"].bands
INFO = EncoderInfo(
    encoder="tiny",
    patch=8,
    normalisations=(
        Normalisation(sensor="s1", bands=BANDS, mean=(-9.0, -15.0), std=(4.0, 4.0), clip=5.0, members=(MEMBERS["s1"],)),
    ),
    objective="infonce",
    epochs=2,
    years=(2021,),
)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny_encoders():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def exported(folder: Path) -> bytes:
    export_encoder(folder / "s1.safetensors", build_encoder("tiny", INFO.bands, seed=0), INFO)
    return (folder / "s1.safetensors").read_bytes()


def parts_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what follows it."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def is_used(path: Path) -> bool:
    """Whether an encoder can be loaded and shown images; what it answers is then a row for each."""
    found = told(lambda: load_encoder(path))
    if found is None:
        return False
    encoder, info = found
    if info.channels <= 64:
        with torch.inference_mode():
            answer = told(lambda: encoder(torch.zeros(1, info.channels, 16, 16), None))
        assert answer is None or answer.shape == (1, encoder.embedding_dim)
    return True


@fuzzed(5)
@given(data=st.data())
def test_a_damaged_encoder(folder: Path, exported: bytes, data: st.DataObject) -> None:
    path = folder / "damaged.safetensors"
    path.write_bytes(data.draw(spoilt(exported)))
    is_used(path)


@fuzzed(5)
@given(data=st.data())
def test_an_encoder_with_another_header(folder: Path, exported: bytes, data: st.DataObject) -> None:
    header, body = parts_of(exported)
    path = folder / "twisted.safetensors"
    path.write_bytes(joined(json_bytes(data.draw(twisted(header))), body))
    is_used(path)


@fuzzed(5)
@given(data=st.data())
def test_an_encoder_that_says_something_else_of_itself(folder: Path, exported: bytes, data: st.DataObject) -> None:
    """Wrong numbers of bands, patches of no pixel, statistics that are none, names of other architectures."""
    header, body = parts_of(exported)
    said = data.draw(twisted(json.loads(header["__metadata__"][METADATA_KEY])))
    header["__metadata__"][METADATA_KEY] = json.dumps(said)
    path = folder / "said.safetensors"
    path.write_bytes(joined(json_bytes(header), body))
    is_used(path)


@pytest.mark.parametrize("encoder", ["tiny-vit", "tiny"])
@pytest.mark.parametrize("patch", [0, -1, 1, 10**9, 2**63])
def test_patches_that_no_vit_has(folder: Path, exported: bytes, encoder: str, patch: int) -> None:
    header, body = parts_of(exported)
    said = json.loads(header["__metadata__"][METADATA_KEY]) | {"encoder": encoder, "patch": patch}
    header["__metadata__"][METADATA_KEY] = json.dumps(said)
    path = folder / "patch.safetensors"
    path.write_bytes(joined(json_bytes(header), body))
    assert not is_used(path)


def test_an_encoder_of_more_bands_than_memory_holds(folder: Path, exported: bytes) -> None:
    """A hundred thousand names are a megabyte; the first layer of a ResNet for them would be a gigabyte and more."""
    header, body = parts_of(exported)
    said = json.loads(header["__metadata__"][METADATA_KEY])
    (described,) = said["normalisations"]
    names = [f"b{number}" for number in range(100_000)]
    described |= {"bands": names, "mean": [0.0] * len(names), "std": [1.0] * len(names)}
    described["members"][0] |= {"bands": names}
    header["__metadata__"][METADATA_KEY] = json.dumps(said | {"encoder": "resnet50"})
    (folder / "wide.safetensors").write_bytes(joined(json_bytes(header), body))
    with pytest.raises(TrainingError, match=r"wide\.safetensors: an encoder of 100000 bands; expected at most 1024"):
        load_encoder(folder / "wide.safetensors")


CHECKPOINT = Checkpoint(
    options={"encoder": "tiny"}, step=3, loader={"step": 3}, model={"a": torch.zeros(3)}, optimizer={"state": {}}
)


@fuzzed(5)
@given(data=st.data())
def test_a_damaged_checkpoint(folder: Path, data: st.DataObject) -> None:
    path = folder / "last.pt"
    save_checkpoint(path, CHECKPOINT)
    path.write_bytes(data.draw(spoilt(path.read_bytes())))
    found = told(lambda: load_checkpoint(path, torch.device("cpu")))
    assert found is None or isinstance(found.step, int)


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.marker}",)


def test_6_07_a_checkpoint_runs_no_code(folder: Path) -> None:
    marker = folder / "ran"
    torch.save({"options": "{}", "loader": "{}", "step": 1, "model": Bomb(marker), "optimizer": {}}, folder / "last.pt")
    assert told(lambda: load_checkpoint(folder / "last.pt", torch.device("cpu"))) is None
    assert not marker.exists()
