"""Scores become intervals of each task's main metric, and a table."""

from typing import Any

import numpy as np
import pytest

from geossl_data.evaluation.scores import Score, Scores
from geossl_data.report.parts import Intervals, Table
from geossl_data.report.runs.judged import MOST_ROWS, best, main_metric, score_parts


def score(task: str, features: str, encoder: str, probe: str, metric: str, value: float | None, **more: Any) -> Score:
    ends = {"low": None if value is None else value - 0.1, "high": None if value is None else value + 0.1}
    plain: dict[str, Any] = {"fraction": 1.0, "seeds": 1, "n_train": 9, "n_test": 4}
    return Score(
        task=task, features=features, encoder=encoder, probe=probe, metric=metric, value=value, **(ends | plain | more)
    )


def scores(*rows: Score) -> Scores:
    return Scores(scores=rows, facts={}, replicates=np.zeros((len(rows), 2), np.float32))


FOUND = scores(
    score("classification", "none", "random", "majority class", "accuracy", 0.2),
    score("classification", "none", "random", "majority class", "balanced accuracy", 0.1),
    score("classification", "s2", "trained", "knn", "accuracy", 0.7),
    score("classification", "s2", "trained", "ridge", "accuracy", 0.8, low=None, high=None),
    score("classification", "s2", "random", "knn", "accuracy", 0.4),
    score("classification", "s2", "trained", "knn", "accuracy", 0.9, fraction=0.1),
    score("classification", "s2", "supervised", "end-to-end", "accuracy", 0.75),
    score("geolocation", "s2", "trained", "knn", "median km", 300.0),
    score("geolocation", "s2", "trained", "ridge", "median km", 200.0),
    score("geolocation", "s2", "trained", "knn", "mean km", 100.0),
    score("change", "s2", "trained", "knn", "F1", None),
)


def test_the_main_metric_of_each_task_is_a_picture_and_all_are_a_table() -> None:
    classes, places, table = score_parts(FOUND)
    assert isinstance(classes, Intervals)
    assert (classes.title, classes.unit) == ("classification: accuracy", "")
    assert {row.name: dict(row.series) for row in classes.rows} == {
        "majority class": {"trained": None, "random": pytest.approx((0.2, 0.1, 0.3)), "supervised": None},
        "s2, knn": {
            "trained": pytest.approx((0.7, 0.6, 0.8)),
            "random": pytest.approx((0.4, 0.3, 0.5)),
            "supervised": None,
        },
        "s2, ridge": {"trained": (0.8, 0.8, 0.8), "random": None, "supervised": None},
        "s2, knn, 10 % of labels": {"trained": pytest.approx((0.9, 0.8, 1.0)), "random": None, "supervised": None},
        "s2, end-to-end": {"trained": None, "random": None, "supervised": pytest.approx((0.75, 0.65, 0.85))},
    }
    assert isinstance(places, Intervals)
    assert (places.title, places.unit, len(places.rows)) == ("geolocation: median km", "km", 2)
    assert isinstance(table, Table)
    assert tuple(table.rows) == FOUND.table()
    assert table.rows[0][-3:] == ("trained", "random", "supervised")


def test_scores_of_nothing_show_nothing() -> None:
    assert score_parts(scores()) == ()
    assert main_metric("classification", scores()) == ""
    assert best(scores()) == ""


def test_the_best_score_is_the_highest_with_all_labels_or_the_nearest() -> None:
    assert best(FOUND) == "classification accuracy 0.800 (s2, ridge)"
    nearest = scores(*(row for row in FOUND.scores if row.task == "geolocation"))
    assert best(nearest) == "geolocation median km 200 (s2, ridge)"
    assert best(scores(score("change", "s2", "trained", "knn", "F1", None))) == ""


def test_rows_beyond_what_a_picture_holds_are_counted() -> None:
    rows = [
        score("classification", f"sensor {number}", "trained", "knn", "accuracy", 0.5)
        for number in range(MOST_ROWS + 3)
    ]
    picture, table = score_parts(scores(*rows))
    assert isinstance(picture, Intervals)
    assert (picture.title, len(picture.rows)) == ("classification: accuracy (3 more in the table)", MOST_ROWS)
    assert isinstance(table, Table)
    assert len(table.rows) == MOST_ROWS + 4
