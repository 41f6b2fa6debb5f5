"""The claims: their sweeps are what geossl takes, and what they write is what came out."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep.small import pool_of, row

from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.evaluation.scores import Scores
from geossl_data.sweep.cells import sweep_of
from geossl_data.sweep.table import Finished

CLAIMS = Path(__file__).resolve().parents[2] / "examples" / "claims"
NAMES = sorted(path.stem for path in CLAIMS.glob("*.py") if path.stem != "study")


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `study`, and where the others are imported from."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(CLAIMS))
    yield importlib.import_module("study")
    for name in set(sys.modules) - before:
        if name in (*NAMES, "study", "labelled_ombria"):
            del sys.modules[name]


def sweep_for(claims: Any, name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sweep of a claim on data that nobody looks at."""
    study = importlib.import_module(name).STUDY
    labelled = pool_of(work / "labelled")
    (labelled / "manifest.parquet").write_bytes(b"")
    monkeypatch.setattr(claims, "pool_of", lambda work: pool_of(work / "pool"))
    monkeypatch.setattr(claims, "labelled_of", lambda work: labelled)
    if study.shards is not None:
        object.__setattr__(study, "shards", lambda work: labelled)
    return study, sweep_of(claims.spec_of(study, work))


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_is_a_sweep_with_three_seeds(
    claims: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, sweep = sweep_for(claims, name, tmp_path, monkeypatch)
    assert study.name == name
    assert {cell.arm for cell in sweep.cells} == set(study.arms)
    assert len(study.seeds) >= 3 or not study.comparisons
    assert len(sweep.cells) == len(study.seeds) * len(study.arms)
    assert {arm for pair in study.comparisons for arm in pair} <= set(study.arms)
    tasks = {cell.evaluate.task for cell in sweep.cells}
    assert {score.task for score in study.scores} <= {task for names in tasks for task in names.split(",")}


def cells(sweep: Any, levels: dict[str, float]) -> list[Finished]:
    """Every cell done, with the accuracy of its arm and a little more with every seed."""
    found = []
    for cell in sweep.cells:
        value = levels[cell.arm] + 0.001 * cell.varied["seed"]
        own = [row(value, probe="ridge", fraction=0.25), row(0.3, probe="ridge", fraction=0.25, encoder="random")]
        replicates = np.stack([np.linspace(one.value - 0.02, one.value + 0.02, 40) for one in own])
        scores = Scores(scores=tuple(own), facts={}, replicates=replicates.astype(np.float32))
        found.append(Finished(cell=cell, scores=scores, items=10, steps=5, seconds=30.0))
    return found


def test_a_section_says_what_came_out(claims: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, sweep = sweep_for(claims, "places", tmp_path, monkeypatch)
    levels = {"geography": 0.62, "geography+change": 0.605, "cities": 0.5, "uniform": 0.6}
    text = claims.section_of(study, cells(sweep, levels), commits=["0a1b2c3"])
    assert "12 trainings, 6 minutes of training" in text
    assert "3 seeds: 0, 1, 2; commit 0a1b2c3." in text
    score = "classification, s2, ridge: accuracy"
    assert f"| geography | {score} | 0.621 (0.6" in text
    assert "0.620, 0.621, 0.622 | 0.300 | – |" in text
    assert f"| geography − cities | {score} | +12.0 (+12.0 to +12.0) | higher |" in text
    assert f"| geography+change − uniform | {score} | +0.5 (+0.5 to +0.5) | no difference |" in text  # under a point
    unfinished = claims.section_of(study, cells(sweep, levels)[:-1], commits=[])
    assert "uniform |" not in unfinished


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.02, 0.001, 0.04, "higher"),
        (0.02, -0.001, 0.04, "no difference"),
        (-0.02, -0.04, -0.001, "lower"),
        (0.009, 0.008, 0.0095, "no difference"),
        (float("nan"), float("nan"), float("nan"), "no difference"),
    ],
)
def test_what_a_difference_is_called(claims: Any, value: float, low: float, high: float, expected: str) -> None:
    assert claims.reading(Estimate(value=value, low=low, high=high, replicates=np.zeros(1))) == expected


def test_a_section_takes_the_place_of_its_own_and_leaves_the_others(claims: Any, tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    claims.write_section(path, "one", "first\n")
    claims.write_section(path, "two", r"a \1 backslash" + "\n")
    claims.write_section(path, "one", "second\n")
    text = path.read_text()
    assert text.startswith("# Results")
    assert text.index("second") < text.index(r"a \1 backslash")
    assert "first" not in text
    assert text.count("<!-- begin one -->") == 1


def test_the_commits_that_trained_are_remembered(claims: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for commit in ("0a1b2c3", "0a1b2c3", "4d5e6f7-dirty"):
        monkeypatch.setattr(claims, "commit", lambda commit=commit: commit)
        claims.note_commit(tmp_path)
    assert claims.commits(tmp_path) == ["0a1b2c3", "4d5e6f7-dirty"]
    assert claims.commits(tmp_path / "nothing") == []
