"""Every number of a log is in one chart, and thinning leaves its mean where it was."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.report.runs.curves import MOST_POINTS, curves_of, thinned
from geossl_data.report.runs.log import Log, Series


def series(values: Any, first: int = 0) -> Series:
    value = np.asarray(values, dtype=np.float64)
    return Series(step=np.arange(first, first + len(value)), value=value)


def log(**named: Any) -> Log:
    return Log(series={name: series(values) for name, values in named.items()}, steps=2, damaged=0)


def test_each_number_is_in_the_chart_of_its_kind() -> None:
    found = curves_of(
        log(
            epoch=[0, 0],
            lr=[0.1, 0.2],
            loss=[18.0, 12.0],
            invariance=[0.2, 0.1],
            spread=[0.5, 0.6],
            spread_s1=[0.7, 0.8],
            top1=[0.0, 0.5],
            georank=[1.0, 0.9],
            georank_active=[0.1, 0.2],
            grad_norm=[200.0, 4.0],
            images_per_s=[40.0, 50.0],
            loader_wait_share=[0.2, 0.1],
            step_s=[1.0, 1.0],
        )
    )
    assert [(chart.y_name, list(chart.lines), chart.log) for chart in found] == [
        ("loss", ["loss"], False),
        ("term", ["invariance", "georank"], False),
        ("spread", ["spread", "spread s1"], False),
        ("share", ["retrieval top-1", "georank active", "wait for the loader"], False),
        ("looks/s", ["looks/s"], False),
        ("learning rate", ["learning rate"], False),
        ("norm", ["grad norm"], True),
    ]
    assert found[0].lines["loss"] == ([0.0, 1.0], [18.0, 12.0])


@pytest.mark.parametrize(("values", "wide"), [([1.0, 20.0], False), ([1.0, 40.0], True), ([-1.0, 40.0], False)])
def test_terms_far_apart_are_shown_on_a_logarithmic_axis(values: list[float], wide: bool) -> None:
    (chart,) = curves_of(log(with_itself=values[:1], with_identity=values[1:]))
    assert chart.log is wide


def test_a_name_without_a_finite_number_has_no_curve() -> None:
    assert curves_of(log(loss=[math.nan, math.nan], epoch=[0, 0])) == ()


def test_gaps_stay_gaps() -> None:
    (chart,) = curves_of(log(loss=[1.0, math.nan, 3.0]))
    np.testing.assert_array_equal(chart.lines["loss"][1], [1.0, np.nan, 3.0])


def test_long_runs_are_shown_by_means_of_several_steps() -> None:
    values = np.arange(3.0 * MOST_POINTS)
    values[:3] = np.nan
    values[3] = np.nan
    (chart,) = curves_of(log(loss=values))
    x, y = chart.lines["loss"]
    assert "means of 3 steps" in chart.title
    assert len(x) == len(y) == MOST_POINTS
    np.testing.assert_array_equal(x[:3], [1.0, 4.0, 7.0])
    np.testing.assert_array_equal(y[:3], [np.nan, 4.5, 7.0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 9))
@settings(max_examples=40)
def test_thinning_keeps_mean_and_order(values: list[float], each: int) -> None:
    x, y = thinned(series(values, first=5), each)
    sizes = [len(values[at : at + each]) for at in range(0, len(values), each)]
    assert np.average(y, weights=sizes) == pytest.approx(np.mean(values), abs=1e-6)
    assert (np.diff(x) > 0).all()
    assert 5 <= x[0] <= x[-1] <= 4 + len(values)
