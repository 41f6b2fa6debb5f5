"""One cell: what it is handed, where its scores go, what an interruption leaves."""

import shutil
from pathlib import Path

import pytest
from sweep.small import scores_of, spec_of

from geossl_data import pipeline
from geossl_data.pipeline import Report, recipe_of
from geossl_data.recipe import EvaluateOptions, PretrainOptions
from geossl_data.sweep.cells import Sweep, sweep_of
from geossl_data.sweep.folders import is_finished, judged_by, state_of
from geossl_data.sweep.running import run_cell

ran: list[Path] = []
"""Folders that training was asked for in."""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep of one cell over shards in `tmp_path`/shards, of stages that take no time."""
    for name in ("shards", "judged"):
        (tmp_path / name / "shards").mkdir(parents=True)
        (tmp_path / name / "manifest.parquet").write_bytes(name.encode())

    def pretrain(folder: Path, options: PretrainOptions) -> Report:
        ran.append(folder)
        run = folder / "runs" / options.run
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        if len(ran) == 1:
            raise KeyboardInterrupt
        (run / "exported").mkdir()
        return Report(stage="pretrain", fresh=True, facts={"items": 8, "steps": 2})

    def evaluate(folder: Path, options: EvaluateOptions) -> Report:
        assert (folder / "manifest.parquet").read_bytes() == b"judged"
        assert (folder / "shards").samefile(tmp_path / "judged" / "shards")
        assert (folder / "features").samefile(tmp_path / "out" / "features")
        assert (folder / "runs" / options.run / "exported").is_dir()
        scores_of(0.5).write(folder / "runs" / options.run)
        return Report(stage="evaluate", fresh=True, facts={})

    ran.clear()
    monkeypatch.setattr(pipeline, "pretrain", pretrain)
    monkeypatch.setattr(pipeline, "evaluate", evaluate)
    return sweep_of(spec_of(tmp_path / "spec.yaml", shards="shards", labelled="judged", grid={"seed": [3]}))


def test_a_cell_is_trained_once_and_judged_by_shards_of_elsewhere(tmp_path: Path, sweep: Sweep) -> None:
    out, folder, (cell,) = tmp_path / "out", tmp_path / "out" / "cells" / "seed-3", sweep.cells
    with pytest.raises(KeyboardInterrupt):
        run_cell(out, sweep.source, sweep.labelled, cell)
    interrupted = state_of(folder)
    assert (interrupted.trained, interrupted.scored, interrupted.dataset) == (False, "", cell.dataset)
    assert interrupted.seconds > 0
    assert (folder / "runs" / "default" / "checkpoints").is_dir()
    run_cell(out, sweep.source, sweep.labelled, cell)
    state = state_of(folder)
    assert (state.items, state.steps, state.seconds > interrupted.seconds) == (8, 2, True)
    assert is_finished(out, cell, judged_by(cell, sweep.labelled))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["bootstrap.npz", "cell.json", "manifest.parquet", "recipe.yaml", "runs", "scores.json", "shards"]
    )
    assert [path.name for path in (folder / "runs" / "default").iterdir() if path.is_dir()] == ["exported"]
    assert recipe_of(folder).pretrain == cell.pretrain
    run_cell(out, sweep.source, sweep.labelled, cell)
    assert ran == [folder, folder]


def test_other_labels_are_judged_by_anew(tmp_path: Path, sweep: Sweep) -> None:
    (cell,) = sweep.cells
    before = judged_by(cell, sweep.labelled)
    shutil.copy(tmp_path / "shards" / "manifest.parquet", tmp_path / "judged" / "manifest.parquet")
    assert judged_by(cell, sweep.labelled) != before
    assert judged_by(cell, None) != before
