"""Checkpoints: what goes in comes out, and what is damaged is refused in one line."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import StorageError, TrainingError
from geossl_data.pretrain.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)

CPU = torch.device("cpu")


def checkpoint() -> Checkpoint:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(
        options={"seed": 1, "encoder": "resnet10"},
        step=14,
        loader={"epoch": 2, "step": 4},
        model=layer.state_dict(),
        optimizer=optimizer.state_dict(),
    )


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path / "last.pt", saved)
    loaded = load_checkpoint(tmp_path / "last.pt", CPU)
    assert (loaded.options, loaded.loader, loaded.step) == (saved.options, saved.loader, 14)
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
    torch.save({"options": "{}", "loader": "{}", "step": "two", "model": {}, "optimizer": {}}, tmp_path / "last.pt")
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
