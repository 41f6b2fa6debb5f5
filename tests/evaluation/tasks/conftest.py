"""What the tests of tasks share: the fakes, and a bench on real encoders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.tasks import fakes as fakes_module
from evaluation.tasks.fakes import Planet

from geossl_data.evaluation.bench import Bench, ProbeOptions
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo
from geossl_data.pretrain.normalisation import normalisation


@pytest.fixture(scope="session")
def fakes() -> Any:
    """The module `fakes`."""
    return fakes_module


def encoders(shards: Planet, *branches: str) -> list[tuple[Any, EncoderInfo]]:
    """An encoder of weights of its own for each branch."""
    found = []
    for branch in branches:
        info = EncoderInfo(
            encoder="tiny",
            patch=8,
            embed="plain",
            normalisations=tuple(normalisation(shards.notes, shards.members, sensor) for sensor in branch.split("+")),
            objective="simclr",
            epochs=1,
        )
        found.append((build_encoder("tiny", info.bands, seed=7, patch=8, embed="plain"), info))
    return found


@pytest.fixture
def real(tmp_path: Path) -> Any:
    """(shards, branches, options) → a Bench of tiny encoders."""

    def made(shards: Planet, *branches: str, **options: Any) -> Bench:
        chosen = ProbeOptions(**{"seeds": 1, "epochs": 1, "supervised": False, **options})
        return Bench(shards, encoders(shards, *branches), chosen, device=torch.device("cpu"), cache=tmp_path)

    return made
