"""What a run's log says, step by step: read without torch, whatever became of some of its lines."""

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import DatasetError
from geossl_data.files import from_json

LOG_NAME = "metrics.jsonl"
"""As `pretrain.metrics` calls it, which needs torch."""
MOST_LINE_NBYTES = 2**16
"""A longer line is none of ours."""
MOST_NAMES = 64
"""Numbers of a step beyond so many are left out."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """What was logged under one name."""

    step: IntArray
    """Ascending, each once, shape (n,)."""
    value: FloatArray
    """Shape (n,); NaN where the number was not finite."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Log:
    """The steps that a run has logged."""

    series: Mapping[str, Series]
    """Name → what was logged under it, in the order in which names came first."""
    steps: int
    """How many different steps there are."""
    damaged: int
    """Lines that are none, but for a last one that is being written."""

    def values(self, name: str) -> FloatArray:
        """The finite numbers under a name, by step; none where nothing is logged under it."""
        value = self.series[name].value if name in self.series else np.empty(0)
        return value[np.isfinite(value)]

    def last(self, name: str) -> float:
        """The mean of the finite numbers under a name in the last epoch (the last step where no epoch is logged).

        NaN where there are none.
        """
        if name not in self.series:
            return math.nan
        series, epochs = self.series[name], self.series.get("epoch")
        begin = series.step[-1]
        if epochs is not None:
            begin = epochs.step[epochs.value == epochs.value[-1]].min(initial=begin)
        late = series.value[(series.step >= begin) & np.isfinite(series.value)]
        return float(late.mean()) if len(late) else math.nan


def read_log(path: Path) -> Log | None:
    """The log in a file; None where there is no file or no step in it.

    Lines that are damaged are passed over, as is a last one without its end; of a step that comes twice, as where
    the log of a stopped run was put together by hand, the later line counts. DatasetError where it cannot be read.
    """
    steps: dict[str, array[int]] = {}
    values: dict[str, array[float]] = {}
    seen, damaged = array("q"), 0
    try:
        for text in _lines(path):
            line = _line(text)
            if line is None:
                damaged += 1
                continue
            seen.append(line["step"])
            for name, value in line.items():
                if name == "step" or (name not in steps and len(steps) == MOST_NAMES):
                    continue
                steps.setdefault(name, array("q")).append(line["step"])
                values.setdefault(name, array("d")).append(_number(value))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    if not seen:
        return None
    return Log(
        series={name: _in_order(steps[name], values[name]) for name in steps},
        steps=len(set(seen)),
        damaged=damaged,
    )


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that have an end, the longest in pieces."""
    with path.open("rb") as file:
        while text := file.readline(MOST_LINE_NBYTES):
            if text.endswith(b"\n") or len(text) == MOST_LINE_NBYTES:
                yield text


def _line(text: bytes) -> dict[str, Any] | None:
    """What a line holds; None where it is no line of a step."""
    try:
        found = from_json(text)
    except ValueError:
        return None
    step = found.get("step") if isinstance(found, dict) else None
    whole = isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**53
    return found if whole else None


def _number(value: Any) -> float:
    """A finite number, or NaN for whatever else stands there."""
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _in_order(step: "array[int]", value: "array[float]") -> Series:
    """By step; of equal steps the one that came last."""
    found, last = np.unique(np.array(step, dtype=np.int64)[::-1], return_index=True)
    return Series(step=found, value=np.array(value, dtype=np.float64)[::-1][last])
