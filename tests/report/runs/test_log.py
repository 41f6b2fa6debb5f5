"""Logs are read as they were written, and whatever else stands in them does no harm."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import DatasetError
from geossl_data.pretrain.metrics import METRICS_NAME, Metrics
from geossl_data.report.runs.log import LOG_NAME, MOST_LINE_NBYTES, MOST_NAMES, read_log


def written(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_text(text)
    return path


def test_what_training_logs_is_read_as_it_is(tmp_path: Path) -> None:
    assert LOG_NAME == METRICS_NAME
    with Metrics(tmp_path, 0) as log:
        log.step({"epoch": 0, "loss": 2.0, "gap": math.nan}, images_per_s=10.0)
        log.step({"epoch": 0, "loss": 1.5, "gap": 0.5}, images_per_s=12.0)
        log.step({"epoch": 1, "loss": 1.0, "gap": 0.25, "changed_places": 0.125}, images_per_s=14.0)
    found = read_log(tmp_path / LOG_NAME)
    assert found is not None
    assert (found.steps, found.damaged) == (3, 0)
    assert list(found.series) == ["epoch", "loss", "gap", "images_per_s", "changed_places"]
    assert found.series["loss"].step.tolist() == [0, 1, 2]
    assert found.series["loss"].value.tolist() == [2.0, 1.5, 1.0]
    np.testing.assert_array_equal(found.series["gap"].value, [np.nan, 0.5, 0.25])
    assert found.values("gap").tolist() == [0.5, 0.25]
    # What an epoch says belongs to its last step alone.
    assert found.series["changed_places"].step.tolist() == [2]


def test_lines_that_are_none_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path / LOG_NAME,
        {"step": 0, "loss": 1.0},
        "\0" * 20,
        '{"step": 1, "loss": 2.0',
        "[" * 50_000,
        [1],
        {"loss": 3.0},
        {"step": True, "loss": 3.0},
        {"step": -1, "loss": 3.0},
        {"step": 2**60, "loss": 3.0},
        {"step": 1.5, "loss": 3.0},
        {"step": 2, "loss": "4", "top1": True, "lr": 10**400, "spread": math.inf, "gap": None, "terms": [1]},
        {"step": 3, "loss": 5.0},
    )
    found = read_log(path)
    assert found is not None
    assert (found.steps, found.damaged) == (3, 9)
    assert found.values("loss").tolist() == [1.0, 5.0]
    assert all(not len(found.values(name)) for name in ("top1", "lr", "spread", "gap", "terms"))


def test_a_last_line_that_is_cut_is_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path / LOG_NAME, {"step": 0, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 1, "loss": 0.5}')  # whole but for its end: more digits may follow
    found = read_log(path)
    assert found is not None
    assert (found.steps, found.damaged) == (1, 0)


def test_of_a_step_that_comes_twice_the_later_line_counts(tmp_path: Path) -> None:
    steps = [0, 1, 2, 1, 2, 3]
    path = written(tmp_path / LOG_NAME, *({"step": step, "loss": row} for row, step in enumerate(steps)))
    found = read_log(path)
    assert found is not None
    assert found.steps == 4
    assert found.series["loss"].step.tolist() == [0, 1, 2, 3]
    assert found.series["loss"].value.tolist() == [0.0, 3.0, 4.0, 5.0]


def test_the_last_epoch_is_the_one_that_was_logged_last(tmp_path: Path) -> None:
    lines = [{"step": step, "epoch": step // 2, "loss": float(step), "gap": None} for step in range(6)]
    found = read_log(written(tmp_path / LOG_NAME, *lines))
    assert found is not None
    assert found.last("loss") == 4.5
    assert math.isnan(found.last("gap"))
    assert math.isnan(found.last("absent"))
    for line in lines:
        del line["epoch"]
    without = read_log(written(tmp_path / LOG_NAME, *lines))
    assert without is not None
    assert without.last("loss") == 5.0


def test_a_log_without_a_step_is_none(tmp_path: Path) -> None:
    assert read_log(tmp_path / LOG_NAME) is None
    assert read_log(written(tmp_path / LOG_NAME)) is None
    assert read_log(written(tmp_path / LOG_NAME, "damaged")) is None


def test_a_log_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_log(tmp_path)


def test_lines_and_names_without_end_are_not_kept(tmp_path: Path) -> None:
    many = {"step": 0} | {f"term {number}": 1.0 for number in range(2 * MOST_NAMES)}
    path = written(tmp_path / LOG_NAME, many, "x" * 3 * MOST_LINE_NBYTES, {"step": 1, "term 0": 2.0})
    found = read_log(path)
    assert found is not None
    assert len(found.series) == MOST_NAMES
    assert found.series["term 0"].value.tolist() == [1.0, 2.0]


LINE = st.one_of(
    st.binary(max_size=30),
    st.dictionaries(
        st.sampled_from(["step", "epoch", "loss", "lr"]),
        st.sampled_from([None, True, 0, 1, 2, -1, 2**70, 0.5, float("nan"), float("inf"), 1e308, "1", [[]]]),
    ).map(lambda line: json.dumps(line).encode()),
)


@given(lines=st.lists(LINE, max_size=6), end=st.booleans())
@settings(max_examples=25)
def test_any_bytes_are_a_log_or_none(lines: list[bytes], end: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if end else b""))
    found = read_log(path)
    for series in found.series.values() if found is not None else ():
        assert (np.diff(series.step) > 0).all()
        assert len(series.step) == len(series.value) > 0
        assert not np.isinf(series.value).any()
