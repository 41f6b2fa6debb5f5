"""Several processes: they know who they are, and two with a batch each learn what one with both would."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain import two_ranks
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.distributed import ALONE, Ranks, SyncBatchNorm, gather, ranks_of_environment, synchronised
from geossl_data.pretrain.loop import train

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote, which know each other through gloo."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(TESTS)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "pretrain" / "two_ranks.py"), str(folder)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(told)
    return folder


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_two_processes_learn_what_one_does(two: Path, case: str) -> None:
    first, second = (torch.load(two / f"{case}-{rank}.pt", weights_only=True) for rank in range(2))
    alone: dict[str, Any] = two_ranks.outcome_of(case, ALONE)
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert second["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert set(first["gradients"]) == set(alone["gradients"])
    assert any(bool(gradient.abs().max() > 0) for gradient in alone["gradients"].values())
    torch.testing.assert_close(first["gradients"], alone["gradients"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(
        second["state"], first["state"], rtol=0, atol=0, equal_nan=True
    )  # queues and change states agree
    torch.testing.assert_close(first["state"], alone["state"], rtol=1e-5, atol=1e-9, equal_nan=True)


def test_a_run_of_two_processes_tells_the_numbers_of_one(two: Path, tmp_path: Path) -> None:
    together, alone = two / "run", tmp_path / "run"
    train(two_ranks.short_shards(), alone, two_ranks.SHORT)
    one, other = two_ranks.losses(alone), two_ranks.losses(together)
    assert len(one) == 4
    assert other == pytest.approx(one, rel=1e-3)
    assert (together / "exported" / "s2.safetensors").is_file()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "x"}, "have to be whole numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank 2 of 2 processes does not exist"),
    ],
)
def test_an_environment_without_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=message):
        ranks_of_environment()


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert ranks_of_environment() == ALONE
    rows = torch.arange(6.0).reshape(3, 2)
    assert gather(rows) is rows
    assert Ranks(1, 2).rows(4) == slice(4, 8)
    norm = nn.Sequential(nn.BatchNorm1d(2))
    assert synchronised(norm, torch.device("cpu")) is norm


def test_batch_norm_of_one_process_is_torchs() -> None:
    own, other = SyncBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(own(x), other(x))
    torch.testing.assert_close(own.state_dict(), other.state_dict())
