"""Means over seeds and differences between arms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep.small import row, scores_of

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.evaluation.scores import Scores
from geossl_data.sweep.differences import compare, estimate_of, mean_over_seeds

WANTED = {"task": "classification", "metric": "accuracy"}


def cell(values: np.ndarray, value: float | None = None) -> Scores:
    """A cell whose one score has these replicates."""
    return Scores(scores=(row(float(values.mean()) if value is None else value),), facts={}, replicates=values[None])


def test_a_difference_is_that_of_the_means() -> None:
    found = compare([scores_of(0.7, 0), scores_of(0.8, 1)], [scores_of(0.6, 0), scores_of(0.6, 1)], **WANTED)
    assert found.value == pytest.approx(0.15)
    assert found.low < 0.15 < found.high


def test_what_arms_share_cancels() -> None:
    hard = np.random.default_rng(0).normal(0, 0.1, 500).astype(np.float32)
    found = compare([cell(0.7 + hard)] * 3, [cell(0.5 + hard)] * 3, **WANTED)
    assert (found.low, found.high) == pytest.approx((0.2, 0.2), abs=1e-5)


def test_seeds_of_one_number_are_paired() -> None:
    good, bad = np.full(200, 0.8, np.float32), np.full(200, 0.2, np.float32)
    better = [cell(good + np.float32(0.05)), cell(bad + np.float32(0.05))]
    paired = compare(better, [cell(good), cell(bad)], **WANTED)
    crossed = compare(better, [cell(bad), cell(good)], **WANTED)
    assert paired.high - paired.low < 1e-5
    assert crossed.high - crossed.low == pytest.approx(1.2, abs=1e-5)


def test_two_cells_that_differ_spread_as_two_draws_do() -> None:
    # Of two cells with 0 and 1, drawn twice: 0, ½ and 1 in a quarter, a half and a quarter of the replicates.
    zero, one = (Estimate(value=v, low=v, high=v, replicates=np.full(4000, v)) for v in (0.0, 1.0))
    found = mean_over_seeds([zero, one])
    shares = [float((found.replicates == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


@settings(max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 3))
def test_cells_that_agree_have_no_interval(replicate: list[float], extra: int) -> None:
    values = np.full(30, replicate[0])
    cells = [Estimate(value=replicate[0], low=0, high=0, replicates=values)] * (1 + extra)
    found = mean_over_seeds(cells)
    assert (found.low, found.high) == pytest.approx((replicate[0], replicate[0]))


def test_what_is_not_defined_leaves_the_mean_to_the_others() -> None:
    nothing = Estimate(value=np.nan, low=np.nan, high=np.nan, replicates=np.full(50, np.nan))
    one = Estimate(value=0.4, low=0.4, high=0.4, replicates=np.full(50, 0.4))
    found = mean_over_seeds([nothing, one])
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))
    assert np.isnan(mean_over_seeds([nothing]).value)


def test_scores_that_are_not_there_or_not_one_are_refused() -> None:
    scores = scores_of(0.5)
    with pytest.raises(TrainingError, match=r"no score with encoder trained, fraction 1\.0, task retrieval"):
        estimate_of(scores, task="retrieval")
    with pytest.raises(TrainingError, match="2 scores with"):
        estimate_of(scores, task="classification")
    with pytest.raises(TrainingError, match="with no replicates"):
        compare([], [scores], **WANTED)
    with pytest.raises(TrainingError, match="30 and 40 replicates"):
        mean_over_seeds([estimate_of(scores, **WANTED), estimate_of(cell(np.zeros(30, np.float32)))])
