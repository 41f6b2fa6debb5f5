"""The toy planet for the probe tests."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from geossl_data.pretrain import encoders

_PATH = Path(__file__).resolve().parents[1] / "pretrain" / "toy_shards.py"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which only get into the way of other test processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _tiny_encoder() -> Iterator[None]:
    """`tiny`: an encoder that trains in a moment."""

    def tiny(channels: int, patch: int) -> encoders.Encoder:
        return encoders.ResNet(channels, encoders.BasicBlock, (1, 1), width=8)

    with pytest.MonkeyPatch.context() as patches:
        patches.setitem(encoders._BUILDERS, "tiny", tiny)
        yield


@pytest.fixture(scope="session")
def toy() -> Any:
    """The module `toy_shards`; test folders are no packages, so it is loaded from its file."""
    spec = importlib.util.spec_from_file_location("toy_shards", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
