"""What many tests share: a tiny planet, a dataset cut from it, the command line in this process, and no network."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from geossl_data import pipeline
from geossl_data.recipe import FetchOptions, SampleOptions, ShardOptions
from geossl_data.sandbox import build_sandbox

# Tests run side by side: threads of several torch processes that wait for each other by spinning would stand still.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
"""Real Sentinel pixels beside the checkout; absent on most machines."""


@pytest.fixture(autouse=True)
def _no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine in no test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def planet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Catalog of a tiny planet, built once."""
    return build_sandbox(tmp_path_factory.mktemp("planet"), size="tiny", seed=0)


SAMPLE = SampleOptions(size=60, looks="seasons", block_km=1.0, test=0.3, val=0.1, count=40)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, planet: Path) -> Path:
    """A dataset folder with shards of 40 places; read it, or take `dataset` for a copy to change."""
    folder = tmp_path_factory.mktemp("dataset") / "data"
    pipeline.fetch(folder, FetchOptions(catalog=str(planet), max_cloud=60))
    pipeline.sample(folder, SAMPLE)
    pipeline.shard(folder, ShardOptions(shard_mb=1))
    return folder


@pytest.fixture
def dataset(tmp_path: Path, built: Path) -> Path:
    """A copy of `built` of the test's own."""
    return Path(shutil.copytree(built, tmp_path / "data"))


@pytest.fixture
def geossl(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: arguments in; exit code, standard output and standard error out."""
    from geossl_cli.app import app
    from geossl_cli.console import run_app

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_app(app, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def real_planet() -> Path:
    """Catalog of real Sentinel pixels."""
    catalog = DATA / "planet" / "items.parquet"
    if not catalog.is_file():
        pytest.skip("no real pixels: ../shared/data/planet is absent")
    return catalog
