"""Shards in memory with dates and strata, and runs on them as training leaves them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pretrain.fixtures import all_tiny_encoders, one_thread
from pretrain.toy_shards import ToyEntry, ToyShards

from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo, export_encoder
from geossl_data.pretrain.metrics import Metrics
from geossl_data.pretrain.normalisation import normalisation
from geossl_data.recipe import PretrainOptions, Recipe, write_recipe

__all__ = ["all_tiny_encoders", "one_thread"]


@dataclass(frozen=True, kw_only=True)
class DatedEntry(ToyEntry):
    """As rows of a manifest are: with dates and a stratum."""

    acquired: tuple[datetime | None, ...] = (datetime(2021, 6, 3, tzinfo=UTC), None)
    stratum: str = ""


class DatedShards(ToyShards):
    """Places of two looks; the second is of an unknown date."""

    def __init__(self, splits: dict[str, int], strata: tuple[str, ...] = ("",), labels: bool = True) -> None:
        super().__init__(splits, n_looks=2, size=12)
        self.source: Any = SimpleNamespace(close=lambda: None)
        self.entries = [
            DatedEntry(
                **{
                    field.name: getattr(entry, field.name)
                    for field in fields(ToyEntry)
                    if labels or field.name != "labels"
                },
                **({} if labels else {"labels": (0, 0)}),
                stratum=strata[number % len(strata)],
            )
            for number, entry in enumerate(self.entries)
        ]
        self.keys = [entry.key for entry in self.entries]


@pytest.fixture(scope="session")
def shards() -> DatedShards:
    """Twelve places of two looks, of four classes; six of them teach."""
    return DatedShards({"train": 6, "val": 2, "test": 4})


@pytest.fixture(scope="session")
def dated() -> type[DatedShards]:
    """Makes others of them."""
    return DatedShards


def export(shards: Any, run: Path, branch: str) -> Path:
    """An encoder of one sensor, or of two joined with `+`, below a run."""
    info = EncoderInfo(
        encoder="tiny",
        patch=8,
        normalisations=tuple(normalisation(shards.notes, shards.members, sensor) for sensor in branch.split("+")),
        objective="simclr",
        epochs=2,
    )
    path = run / "exported" / f"{branch}.safetensors"
    export_encoder(path, build_encoder("tiny", info.bands, seed=7, patch=8), info)
    return path


@pytest.fixture(scope="session")
def exporting() -> Callable[[Any, Path, str], Path]:
    """The function `export`."""
    return export


@pytest.fixture
def train(shards: DatedShards) -> Callable[..., Path]:
    """Makes the folder of a run: (dataset folder, name, branches) → its path."""

    def made(folder: Path, name: str = "default", branches: tuple[str, ...] = (), steps: int = 4) -> Path:
        run = folder / "runs" / name
        with Metrics(run, 0) as log:
            for step in range(steps):
                values = {"epoch": step // 2, "lr": 0.1, "loss": 4.0 - step, "spread": 0.5, "invariance": 0.25}
                log.step(values, images_per_s=8.0, loader_wait_share=0.1, step_s=2.0)
        options = PretrainOptions(
            objective="vicreg", encoder="resnet10", sensors="s2,s1", epochs=2, device="cpu", run=name
        )
        write_recipe(run / "recipe.yaml", Recipe().with_section(options))
        for branch in branches:
            export(shards, run, branch)
        return run

    return made
