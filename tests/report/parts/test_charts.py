"""Charts draw what they were given where it belongs, and say it in words."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.elements import Elements

from geossl_data.report.parts import Bars, Curves, Histogram, IntervalRow, Intervals
from geossl_data.report.parts.bars import MOST_BARS
from geossl_data.report.parts.curves import MOST_POINTS
from geossl_data.report.parts.drawing import Axis, round_step, spanning

finite = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


def said(html: str) -> str:
    """The description of a chart."""
    (words,) = Elements(html).texts("desc")
    return words


def tips(html: str) -> list[str]:
    """What the areas of a chart tell when they are pointed at."""
    return Elements(html).texts("title")[1:]


def paths(html: str, kind: str) -> list[str]:
    """The outlines of a kind, in order."""
    return [str(of["d"]) for of in Elements(html).all("path", kind)]


def ends(path: str) -> list[float]:
    """The x coordinates of a bar's left and right edge."""
    return [float(each) for each in re.findall(r"[MH]([\d.]+)", path)[:2]]


def test_an_axis_by_hand() -> None:
    axis = Axis(low=0.0, high=50.0, start=100.0, end=0.0)
    assert [axis.at(value) for value in (0.0, 10.0, 50.0, 90.0, -1.0)] == [100.0, 80.0, 0.0, 0.0, 100.0]
    assert axis.ticks() == [(0.0, "0"), (10.0, "10"), (20.0, "20"), (30.0, "30"), (40.0, "40"), (50.0, "50")]
    logs = Axis(low=0.001, high=1000.0, start=0.0, end=60.0, log=True)
    assert logs.at(1.0) == pytest.approx(30.0)
    assert [words for _, words in logs.ticks(4)] == ["0.001", "0.1", "10", "1,000"]
    assert [words for _, words in Axis(low=-0.3, high=0.3, start=0, end=1).ticks(3)] == ["−0.2", "0.0", "0.2"]


@settings(max_examples=40)
@given(finite, finite, st.booleans(), st.integers(min_value=2, max_value=6))
def test_ticks_lie_on_the_axis_and_are_few(one: float, other: float, log: bool, most: int) -> None:
    low, high = spanning(*sorted((abs(one) + 1e-6, abs(other) + 1e-6) if log else (one, other)))
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    ticks = Axis(low=low, high=high, start=0.0, end=1.0, log=log).ticks(most)
    span = high - low
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value, _ in ticks)
    assert len(ticks) <= max(most + 1, 7)


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_round_step_is_the_next_of_one_two_five(least: float) -> None:
    step = round_step(least)
    assert least * (1 - 1e-9) <= step <= 2.5 * least * (1 + 1e-9)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5)


def test_a_histogram_tells_each_bin_and_the_most_of_all() -> None:
    html = Histogram(title="Gap", unit="h", edges=(0, 6, 12, 24), counts={"looks": (3, 1200, 5)}).html("k")
    assert said(html) == "3 bins from 0 to 24 h. looks: 1,208 in all, most between 6 and 12: 1,200."
    assert tips(html) == ["0 to 6 h\nlooks: 3", "6 to 12 h\nlooks: 1,200", "12 to 24 h\nlooks: 5"]
    (bar,) = paths(html, "bar")
    assert bar.count("V8H") == 1
    assert not Elements(html).all("ul", "legend")


def test_bins_are_as_wide_as_their_edges_are_apart() -> None:
    html = Histogram(title="Gap", unit="h", edges=(0, 6, 12, 24), counts={"looks": (3, 12, 5)}).html("k")
    widths = [float(str(of["width"])) for of in Elements(html).all("rect", "hit")]
    assert widths[0] == pytest.approx(widths[1], abs=0.2)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.2)


def test_several_series_lie_over_one_another_with_a_legend() -> None:
    counts = {"train": (0.5, 0.25), "val": (0.0, math.nan)}
    html = Histogram(title="Cloud", unit="%", edges=(0, 1, 2), counts=counts, log=True).html("k")
    found = Elements(html)
    assert [of["class"] for of in found.all("path", "step")] == ["step split-train", "step split-val"]
    assert tips(html)[1] == "1 to 2 %\ntrain: 0.25\nval: 0"
    assert found.texts("li") == []
    assert found.texts("span") == ["train", "val"]


def test_on_a_logarithmic_scale_a_single_height_is_high() -> None:
    (bar,) = paths(Histogram(title="t", unit="", edges=(0, 1), counts={"a": (1500,)}, log=True).html("k"), "bar")
    assert "V8H" in bar
    ticks = Elements(Histogram(title="t", unit="", edges=(0, 1), counts={"a": (1500,)}, log=True).html("k")).texts(
        "text"
    )
    assert {"10", "100", "1,000"} <= set(ticks)


@pytest.mark.parametrize("counts", [{}, {"a": ()}, {"a": (0, 0)}, {"a": (math.nan, 0)}])
def test_a_histogram_of_nothing_is_left_out(counts: dict[str, tuple[float, ...]]) -> None:
    assert Histogram(title="t", unit="", edges=(0, 1, 2), counts=counts).html("k") == ""


def test_bars_are_as_long_as_their_numbers() -> None:
    html = Bars(title="Months", unit="looks", values={"Jan": {"n": 100}, "Feb": {"n": 50}, "Mar": {"n": 0}}).html("k")
    first, second = (ends(path) for path in paths(html, "bar"))
    assert second[1] - second[0] == pytest.approx((first[1] - first[0]) / 2, abs=0.2)
    assert said(html) == "3 categories. n: most 100 looks (Jan), least 0 (Mar)."
    assert tips(html) == ["Jan\nn: 100 looks", "Feb\nn: 50 looks", "Mar\nn: 0 looks"]


def test_beyond_forty_the_smallest_are_one() -> None:
    values = {f"s{number:02d}": {"target": float(number), "drawn": 1.0} for number in range(50)}
    html = Bars(title="Strata", unit="", values=values).html("k")
    told = tips(html)
    assert len(told) == MOST_BARS
    # 0 + 1 + … + 10 are the smallest eleven of fifty.
    assert told[-1] == "others (11)\ntarget: 55\ndrawn: 11"
    assert told[0] == "s11\ntarget: 11\ndrawn: 1"
    assert "50 categories" in said(html)


def test_an_unknown_number_has_no_bar() -> None:
    html = Bars(title="t", unit="", values={"a": {"x": math.nan, "y": 2}, "b": {"x": 1}}).html("k")
    assert len(paths(html, "bar")) == 2
    assert tips(html) == ["a\nx: –\ny: 2", "b\nx: 1\ny: –"]
    assert Bars(title="t", unit="", values={"a": {"x": math.nan}}).html("k") == ""
    assert Bars(title="t", unit="", values={}).html("k") == ""


def test_a_curve_has_gaps_where_nothing_is_known() -> None:
    html = Curves(
        title="Loss", x_name="step", y_name="loss", lines={"total": ((0, 1, 2, 3, 4), (4, 2, math.nan, 1, math.inf))}
    ).html("k")
    (line,) = paths(html, "line")
    assert re.findall("[ML]", line) == ["M", "L", "M"]
    assert said(html) == "loss over step. total: from 4.00 at 0 to 1.00 at 3, lowest 1.00, highest 4.00."
    assert tips(html) == ["step 0\ntotal: 4.00", "step 1\ntotal: 2.00", "step 3\ntotal: 1.00"]


def test_a_long_curve_is_thinned_and_keeps_its_peaks() -> None:
    y = np.ones(10_000)
    y[4321], y[8765] = 9.0, -9.0
    html = Curves(title="t", x_name="x", y_name="y", lines={"a": (np.arange(10_000), y)}).html("k")
    (line,) = paths(html, "line")
    heights = [float(each) for each in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    assert len(heights) <= MOST_POINTS
    assert (heights.count(min(heights)), heights.count(max(heights))) == (1, 1)
    assert len(tips(html)) <= 60


def test_what_has_no_logarithm_is_a_gap() -> None:
    lines = {"a": ((0, 1, 2), (1e-3, 0.0, 1e-5)), "b": ((0, 1), (-1.0, 0.0))}
    html = Curves(title="t", x_name="x", y_name="y", lines=lines, log=True).html("k")
    assert len(paths(html, "line")) == 1
    assert "lowest 1.00e-05, highest 0.00100" in said(html)
    assert Curves(title="t", x_name="x", y_name="y", lines={"b": lines["b"]}, log=True).html("k") == ""
    assert Curves(title="t", x_name="x", y_name="y", lines={}).html("k") == ""


def test_intervals_reach_from_their_low_to_their_high_end() -> None:
    rows = [
        IntervalRow(name="classes", series={"trained": (0.8, 0.7, 0.9), "random": (0.4, math.nan, math.nan)}),
        IntervalRow(name="change", series={"trained": None, "random": (0.3, 0.2, 0.5)}),
        IntervalRow(name="nothing", series={"trained": None}),
    ]
    html = Intervals(title="Scores", unit="F1", rows=rows).html("k")
    found = Elements(html)
    whiskers = [ends(path) for path in paths(html, "whisker")]
    dots = [float(str(of["cx"])) for of in found.all("circle", "dot")]
    assert len(whiskers) == 2
    assert len(dots) == 3
    assert dots[0] == pytest.approx(sum(whiskers[0]) / 2, abs=0.2)
    assert whiskers[1][0] < dots[2] < sum(whiskers[1]) / 2
    assert tips(html) == [
        "classes\ntrained: 0.800 (0.700 to 0.900)\nrandom: 0.400",
        "change\nrandom: 0.300 (0.200 to 0.500)",
    ]
    assert said(html).startswith("2 rows. classes: trained 0.800 (0.700 to 0.900); random 0.400.")
    assert Intervals(title="t", unit="", rows=rows[2:]).html("k") == ""


def test_words_stay_within_their_chart() -> None:
    html = Bars(title="t", unit="", values={"x" * 200: {"n": 1}}).html("k")
    assert max(len(words) for words in Elements(html).texts("text")) <= 18
