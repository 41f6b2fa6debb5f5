"""Each run has a section that says what it has left, whatever part of it is damaged or absent."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import ShardError
from geossl_data.evaluation.scores import Score, Scores
from geossl_data.report.page import Section, page
from geossl_data.report.parts import Curves, Gallery, Intervals, Scatter, Table
from geossl_data.report.runs import run_sections, sections

Train = Callable[..., Path]


@pytest.fixture(autouse=True)
def _in_memory(shards: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with a manifest holds the shards in memory."""
    (tmp_path / "manifest.parquet").touch()
    monkeypatch.setattr(sections, "open_shards", lambda folder: shards)


def judge(folder: Path, value: float = 0.5) -> None:
    row = Score(
        task="classification",
        features="s2",
        encoder="trained",
        probe="knn",
        metric="accuracy",
        fraction=1.0,
        value=value,
        low=value - 0.1,
        high=value + 0.1,
        seeds=1,
        n_train=9,
        n_test=4,
    )
    facts = {"encoders": ["vit.safetensors"], "objective": ["dino"], "places": {"train places": 9, "judged places": 4}}
    folder.mkdir(parents=True, exist_ok=True)
    Scores(scores=(row,), facts=facts, replicates=np.zeros((1, 2), np.float32)).write(folder)


def kinds(section: Section) -> list[str]:
    return [type(part).__name__ for part in section.parts]


def test_a_finished_run_shows_curves_scores_map_and_neighbours(tmp_path: Path, train: Train) -> None:
    judge(train(tmp_path, branches=("s1", "s2")))
    (section,) = run_sections(tmp_path, looks=12)
    assert section.title == "Run default"
    assert kinds(section) == ["Curves"] * 6 + ["Intervals", "Table", "Scatter", "Gallery", "Scatter"]
    assert section.text == ""
    assert not section.folded
    facts = dict(section.facts)
    assert facts.pop("same class as the nearest elsewhere, s2")
    assert facts.pop("same class as the nearest elsewhere, s1")
    assert facts.pop("written by").startswith("geossl ")  # type: ignore[attr-defined]
    assert facts == {
        "objective": "vicreg",
        "encoder": "resnet10",
        "sensors": "s2,s1",
        "batch size": 64,
        "device": "cpu",
        "seed": 0,
        "epochs": "2 of 2",
        "steps": 4,
        "loss, last epoch": 1.5,
        "embedding spread, last epoch": 0.5,
        "looks/s (median)": 8.0,
        "seconds of training": 8.0,
        "encoders": "s2.safetensors, s1.safetensors",
        "train places": 9,
        "judged places": 4,
    }
    optical, radar = (part for part in section.parts if isinstance(part, Scatter))
    assert "encoder of s2" in optical.title
    assert optical.picture is not None
    assert "encoder of s1" in radar.title
    assert radar.picture is None
    assert str(tmp_path) not in page([section], title="Runs")


def test_the_same_folder_gives_the_same_page(tmp_path: Path, train: Train) -> None:
    judge(train(tmp_path, branches=("s2",)))
    first, again = (page(run_sections(tmp_path, looks=6, seed=3), title="Runs") for _ in range(2))
    assert first == again


def test_a_folder_without_runs_has_no_section(tmp_path: Path) -> None:
    assert run_sections(tmp_path) == []
    (tmp_path / "runs" / "begun").mkdir(parents=True)
    (tmp_path / "runs" / "begun" / "metrics.jsonl").touch()
    assert run_sections(tmp_path) == []


def test_a_run_under_way_shows_what_it_has(tmp_path: Path, train: Train) -> None:
    run = train(tmp_path, steps=1)
    (run / "recipe.yaml").unlink()
    (section,) = run_sections(tmp_path)
    assert set(kinds(section)) == {"Curves"}
    assert (section.facts["epochs"], section.facts["steps"], section.facts["encoders"]) == ("1", 1, "none yet")
    assert "objective" not in section.facts


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("scores.json", "{", "runs/default/scores.json: damaged scores"),
        ("bootstrap.npz", "{", "runs/default/scores.json: damaged scores"),
        ("recipe.yaml", "pretrain: {objectiv: mae}", "runs/default/recipe.yaml: unknown key"),
        ("exported/s2.safetensors", "{", "s2.safetensors: its embeddings are left out"),
        ("metrics.jsonl", '{"step": 0, "loss": 1.0}\ndamaged\n', "1 damaged lines of the log"),
    ],
)
def test_what_is_damaged_is_said_and_the_rest_is_shown(
    name: str, content: str, said: str, tmp_path: Path, train: Train
) -> None:
    run = train(tmp_path, branches=("s2",))
    judge(run)
    (run / name).write_text(content)
    (section,) = run_sections(tmp_path, looks=4)
    assert said in section.text
    assert str(tmp_path) not in section.text
    expected = {Curves, Intervals, Table, Scatter, Gallery}
    if "scores" in said:
        expected -= {Intervals, Table}
    if "embeddings" in said:
        expected -= {Scatter, Gallery}
    assert {type(part) for part in section.parts} == expected


def test_shards_that_are_gone_cost_the_map_alone(tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(folder: Path) -> Any:
        raise ShardError(f"{folder}/shards/train-000000.tar: no such file; run `geossl verify`")

    monkeypatch.setattr(sections, "open_shards", gone)
    train(tmp_path, branches=("s2",))
    (section,) = run_sections(tmp_path)
    assert section.text == ("Embeddings are left out: shards/train-000000.tar: no such file; run `geossl verify`")
    assert set(kinds(section)) == {"Curves"}


def test_runs_come_with_a_table_those_with_scores_first(tmp_path: Path, train: Train) -> None:
    for name in ("a", "b", "c"):
        train(tmp_path, name)
    judge(tmp_path / "runs" / "c", 0.75)
    table, *runs = run_sections(tmp_path)
    assert table.title == "Runs"
    assert [section.title for section in runs] == ["Run c", "Run a", "Run b"]
    (part,) = table.parts
    assert isinstance(part, Table)
    assert [tuple(row) for row in part.rows[1:]] == [
        ("c", "vicreg", "resnet10", "2 of 2", "4", "1.500", "0.500", "classification accuracy 0.750 (s2, knn)"),
        ("a", "vicreg", "resnet10", "2 of 2", "4", "1.500", "0.500", "–"),
        ("b", "vicreg", "resnet10", "2 of 2", "4", "1.500", "0.500", "–"),
    ]


def test_of_many_runs_some_are_folded_few_are_mapped_and_the_rest_is_counted(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MOST_SHOWN", 3)
    monkeypatch.setattr(sections, "MOST_OPEN", 2)
    monkeypatch.setattr(sections, "MOST_MAPPED", 2)
    for name in "abcde":
        train(tmp_path, name, ("s1",), steps=1)
    table, *runs = run_sections(tmp_path, looks=4)
    assert table.text == "The first 3 have a section of their own, 2 more have none."
    assert [section.folded for section in runs] == [False, False, True]
    assert [[type(part) is Scatter for part in section.parts].count(True) for section in runs] == [1, 1, 0]
    # The points of one map alone show pictures: the page has to stay small.
    pictures = [part.picture for section in runs for part in section.parts if isinstance(part, Scatter)]
    assert [picture is not None for picture in pictures] == [True, False]


def test_encoders_from_elsewhere_have_their_scores_shown(tmp_path: Path) -> None:
    judge(tmp_path / "evaluations" / "vit-12345678")
    judge(tmp_path / "evaluations" / "wrong")
    (tmp_path / "evaluations" / "wrong" / "scores.json").write_text("[]")
    found, wrong = run_sections(tmp_path)
    assert found.title == "Evaluation vit-12345678"
    assert found.facts == {
        "encoders": "vit.safetensors",
        "objective": "dino",
        "train places": 9,
        "judged places": 4,
    }
    assert kinds(found) == ["Intervals", "Table"]
    assert wrong.text.startswith("evaluations/wrong/scores.json: damaged scores")
    assert wrong.parts == ()


def test_names_from_outside_are_text(tmp_path: Path, train: Train) -> None:
    run = train(tmp_path)
    hostile = "<script>alert(1)</script>"
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, hostile: 1.0}) + "\n")
    assert hostile not in page(run_sections(tmp_path), title="Runs")


WITHOUT_TORCH = """
import sys
from pathlib import Path
sys.modules["torch"] = None
from geossl_data.report.runs import run_sections
(section,) = run_sections(Path(sys.argv[1]))
print(section.text)
print(sorted({type(part).__name__ for part in section.parts}))
"""


def test_without_torch_there_are_curves_and_scores_and_a_line_that_says_so(tmp_path: Path, train: Train) -> None:
    judge(train(tmp_path, branches=("s2",)))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said, shown = done.stdout.splitlines()
    assert "torch is not installed" in said
    assert shown == "['Curves', 'Intervals', 'Table']"
