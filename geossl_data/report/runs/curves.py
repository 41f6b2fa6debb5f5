"""The curves of a run: its loss, the terms of it, the spread of its embeddings, its speed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.report.parts import Curves
from geossl_data.report.runs.log import Log, Series

FloatArray = NDArray[np.float64]

MOST_POINTS = 200
"""Of one curve; each is then the mean of several steps."""
WIDE = 30.0
"""Where the largest of several curves is so many times the smallest, a logarithmic axis shows both."""
SHARES = ("top1", "hidden", "active", "changed", "changed_places", "relabelled", "loader_wait_share")
"""What objectives and the loop log that lies between 0 and 1; terms put their own name before it."""
PLAIN = ("step", "epoch")
SHOWN = {
    "lr": "learning rate",
    "top1": "retrieval top-1",
    "images_per_s": "looks/s",
    "loader_wait_share": "wait for the loader",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chart:
    title: str
    y_name: str
    holds: Callable[[str], bool]
    logarithmic: bool | None = False
    """None: where the curves ask for it."""


def _is_share(name: str) -> bool:
    return name in SHARES or name.endswith(tuple(f"_{share}" for share in SHARES))


_CHARTS = (
    _Chart(title="Loss", y_name="loss", holds=lambda name: name == "loss"),
    _Chart(
        title="Embedding spread (0: collapsed, 1: full)",
        y_name="spread",
        holds=lambda name: name.split("_")[0] == "spread",
    ),
    _Chart(title="Shares", y_name="share", holds=_is_share),
    _Chart(title="Looks per second", y_name="looks/s", holds=lambda name: name == "images_per_s"),
    _Chart(title="Learning rate", y_name="learning rate", holds=lambda name: name == "lr"),
    _Chart(title="Norm of the gradient", y_name="norm", holds=lambda name: name == "grad_norm", logarithmic=None),
    _Chart(title="Seconds of a step", y_name="seconds", holds=lambda name: name == "step_s", logarithmic=None),
    _Chart(title="Terms of the loss", y_name="term", holds=lambda name: name not in PLAIN, logarithmic=None),
)
"""A name belongs to the first that holds it: what nothing else is known of is a term of the loss."""
_ORDER = (0, 7, 1, 2, 3, 4, 5)
"""In which they are shown; seconds of a step say the same as looks per second."""


def curves_of(log: Log) -> tuple[Curves, ...]:
    """A chart for each kind of number in the log; none where nothing finite was logged of it."""
    held: dict[int, list[str]] = {}
    for name in log.series:
        if len(log.values(name)) and name not in PLAIN:
            held.setdefault(next(n for n, chart in enumerate(_CHARTS) if chart.holds(name)), []).append(name)
    return tuple(_curves(_CHARTS[number], log, held[number]) for number in _ORDER if number in held)


def _curves(chart: _Chart, log: Log, names: Sequence[str]) -> Curves:
    each = max(1, -(-max(len(log.series[name].step) for name in names) // MOST_POINTS))
    return Curves(
        title=chart.title + (f" (means of {each} steps)" if each > 1 else ""),
        x_name="step",
        y_name=chart.y_name,
        lines={SHOWN.get(name, name.replace("_", " ")): thinned(log.series[name], each) for name in names},
        log=_is_wide([log.values(name) for name in names]) if chart.logarithmic is None else chart.logarithmic,
    )


def _is_wide(values: Sequence[FloatArray]) -> bool:
    everything = np.concatenate(values)
    return bool(everything.min() > 0 and everything.max() > WIDE * everything.min())


def thinned(series: Series, each: int) -> tuple[list[float], list[float]]:
    """Steps and numbers of a series, every `each` of them as one mean; NaN where none of them is finite."""
    if each == 1:
        return series.step.astype(np.float64).tolist(), series.value.tolist()
    group = np.arange(len(series.step)) // each
    finite = np.isfinite(series.value)
    counts = np.bincount(group, finite)
    sums = np.bincount(group, np.where(finite, series.value, 0.0))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    middle: FloatArray = np.bincount(group, series.step) / np.bincount(group)
    return middle.tolist(), means.tolist()
