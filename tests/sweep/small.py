"""Cells that take no time, and specs of them."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from geossl_data.errors import TrainingError
from geossl_data.evaluation.scores import Score, Scores
from geossl_data.pipeline._folder import RUNS
from geossl_data.sweep.cells import Cell
from geossl_data.sweep.folders import CELLS, RUN, judged_by, trained_with, updated
from geossl_data.sweep.processes import Failure, Job, _outcome

REPLICATES = 40
LEVELS = {"infonce": 0.6, "moco": 0.7, "simclr": 0.5}
"""What encoders of an objective come to."""
FAILS, STUMBLES = 13, 14
"""Epochs with which a cell fails, or meets a bug."""


def pool_of(folder: Path) -> Path:
    """A folder that looks as a fetch leaves it, to whoever does not read it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("scenes.parquet", "pairs.parquet"):
        (folder / name).write_bytes(b"")
    return folder


def spec_of(path: Path, **content: Any) -> Path:
    """A spec beside a pool named `pool`; content: its keys, as YAML has them."""
    if "shards" not in content:
        content = {"pool": "pool"} | content
        pool_of(path.parent / "pool")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def row(value: float | None, **changes: Any) -> Score:
    """A score of the trained encoder on land class."""
    plain: dict[str, Any] = {
        "task": "classification",
        "features": "s2",
        "encoder": "trained",
        "probe": "knn",
        "metric": "accuracy",
        "fraction": 1.0,
        "value": value,
        "low": None if value is None else round(value - 0.05, 6),
        "high": None if value is None else round(value + 0.05, 6),
        "seeds": 1,
        "n_train": 20,
        "n_test": 10,
    }
    return Score(**plain | changes)


def scores_of(value: float, seed: int = 0) -> Scores:
    """Scores of a trained encoder around `value`, of a random and of a supervised one."""
    rows = (
        row(value),
        row(value - 0.1, metric="balanced accuracy"),
        row(0.3, encoder="random"),
        row(0.9, encoder="supervised", probe="end-to-end"),
        row(None, task="change", metric="F1", probe="decoder"),
    )
    noise = 0.02 * np.random.default_rng(seed).standard_normal((len(rows), REPLICATES))
    centre = np.array([[np.nan if one.value is None else one.value] for one in rows])
    return Scores(scores=rows, facts={"encoders": ["s2"]}, replicates=(centre + noise).astype(np.float32))


def fake_dataset(folder: Path, pool: Path, cell: Cell) -> None:
    """Note which cell a dataset was made for; one that asks for 666 places has too few."""
    assert cell.sample is not None
    if cell.sample.count == 666:
        raise TrainingError("666 places were asked for, there are 40")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made-for").write_text(cell.id)
    (folder / "manifest.parquet").touch()


def fake_cell(out: Path, dataset: Path, labelled: Path | None, cell: Cell) -> None:
    """Scores that tell the objective and the seed; counts how often the cell was run."""
    folder = out / CELLS / cell.id
    assert dataset.is_dir()
    updated(folder, dataset=cell.dataset, pretrain=trained_with(cell.pretrain))
    with (folder / "runs.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if cell.pretrain.epochs == FAILS:
        raise TrainingError("loss is not finite, at\nhttps://example.org/x?sig=secret")
    if cell.pretrain.epochs == STUMBLES:
        raise ValueError("no such thing")
    (folder / RUNS / RUN).mkdir(parents=True, exist_ok=True)
    value = LEVELS[cell.pretrain.objective] + 0.01 * cell.pretrain.seed
    scores_of(value, cell.pretrain.seed).write(folder)
    updated(folder, scored=judged_by(cell, labelled), items=30, steps=60, seconds=1.5)


def run_here(
    jobs: Mapping[str, Job], settings: Sequence[Mapping[str, str]], done: Callable[[str, Failure | None], None]
) -> None:
    """`run_jobs` without any process."""
    for name, job in jobs.items():
        done(name, _outcome(job))
