"""Scores as files, tables and pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import DatasetError
from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.evaluation.pictures.scores import score_bars
from geossl_data.evaluation.scores import REPLICATES_NAME, SCORES_NAME, Scores, read_scores, score_of, stacked


def row(value: float, width: float = 0.1, **given: Any) -> tuple[Any, Estimate]:
    what = {
        "task": "classification",
        "features": "s2",
        "encoder": "trained",
        "probe": "knn",
        "metric": "accuracy",
        "fraction": 1.0,
        "seeds": 3,
        "n_train": 20,
        "n_test": 10,
    } | given
    replicates = np.linspace(value - width, value + width, 11)
    estimated = Estimate(value=value, low=value - width, high=value + width, replicates=replicates)
    return score_of(what, estimated), estimated


def scores_of(*rows: tuple[Any, Estimate]) -> Scores:
    return Scores(
        scores=tuple(one for one, _ in rows), facts={"encoders": ["s2"]}, replicates=stacked(two for _, two in rows)
    )


@pytest.fixture
def scores() -> Scores:
    return scores_of(
        row(0.6),
        row(0.4, encoder="random"),
        row(0.8, encoder="supervised", probe="end-to-end"),
        row(0.5, metric="balanced accuracy"),
        row(float("nan"), probe="ridge"),
        row(0.3, task="segmentation", probe="decoder", metric="IoU urban"),
        row(0.7, task="segmentation", probe="decoder", metric="IoU water"),
        row(1234.5, 100.0, task="geolocation", metric="median km", fraction=0.01),
    )


def test_what_is_written_is_read_again(scores: Scores, tmp_path: Path) -> None:
    scores.write(tmp_path)
    again = read_scores(tmp_path)
    assert again.scores == scores.scores
    assert again.facts == scores.facts
    np.testing.assert_array_equal(again.replicates, scores.replicates)
    (number,) = again.find(encoder="random")
    assert again.estimate(number).value == 0.4
    np.testing.assert_allclose(again.estimate(number).replicates, np.linspace(0.3, 0.5, 11), atol=1e-6)
    content = json.loads((tmp_path / SCORES_NAME).read_text())
    assert content["scores"][4]["value"] is None  # JSON has no NaN


def test_encoders_stand_side_by_side(scores: Scores) -> None:
    header, *rows = scores.table()
    assert header == ("task", "features", "probe", "metric", "labels", "trained", "random", "supervised")
    first, ridge, water, far = rows
    assert first[5:] == ("0.600 (0.500–0.700)", "0.400 (0.300–0.500)", "0.800 (0.700–0.900)")
    assert ridge[2:] == ("ridge", "accuracy", "100 %", "–", "–", "0.800 (0.700–0.900)")
    assert water[3:] == ("IoU water", "100 %", "0.700 (0.600–0.800)", "–", "–")
    assert far[4:6] == ("1 %", "1,234 (1,134–1,334)")


def test_columns_are_those_of_the_encoders_there_are() -> None:
    assert scores_of(row(0.6)).table()[0][5:] == ("trained",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / SCORES_NAME).unlink(), "no such scores; run `geossl evaluate`"),
        (lambda folder: (folder / REPLICATES_NAME).unlink(), "no such scores; run `geossl evaluate`"),
        (lambda folder: (folder / SCORES_NAME).write_text("{"), "damaged scores"),
        (lambda folder: (folder / SCORES_NAME).write_text('{"scores": [{}], "facts": {}}'), "damaged scores"),
        (lambda folder: (folder / REPLICATES_NAME).write_bytes(b"PK"), "damaged scores"),
        (
            lambda folder: (folder / SCORES_NAME).write_text('{"scores": [], "facts": {}}'),
            "its bootstrap is of other scores",
        ),
    ],
)
def test_damaged_scores_are_one_line(scores: Scores, tmp_path: Path, spoil: Any, message: str) -> None:
    scores.write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DatasetError, match=message) as caught:
        read_scores(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_picture_has_a_panel_for_each_task_and_unit(
    scores: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geossl_data.evaluation.pictures import scores as pictures

    said: list[str] = []
    text = pictures.Canvas.text
    monkeypatch.setattr(
        pictures.Canvas,
        "text",
        lambda self, x, y, words, **style: (said.append(words), text(self, x, y, words, **style)),
    )
    score_bars(tmp_path / "scores.png", scores)
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert {"classification", "segmentation", "geolocation, km", "s2, knn: accuracy", "s2: accuracy"} <= set(said)
    assert "s2, decoder: IoU urban" not in said
    assert {"0.600", "0.800", "1,234"} <= set(said)
