"""What was found: one row for each measured thing, with its interval, as JSON, as a table and as arrays."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import DatasetError
from geossl_data.evaluation.arrays import read_arrays
from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.files import atomic_path, from_json, write_text

SCORES_NAME = "scores.json"
REPLICATES_NAME = "bootstrap.npz"
SUPERVISED = "supervised"
ENCODERS = ("trained", "random", SUPERVISED)
"""What is compared, in the order of the columns."""
SHOWN_CLASSES = ("water", "changed")
"""Classes of maps that a table has rows for."""
ASIDE = ("balanced accuracy", "pixel accuracy", "mean km")
"""Metrics that only `scores.json` has: they say nearly what another one says."""
UNKNOWN = "–"
_LARGEST = 1e12
"""No value of a metric is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measured thing, and how sure it is."""

    task: str
    """One of `evaluate --task`."""
    features: str
    """The sensors looked at, as in `s1+s2`."""
    encoder: str
    """trained, random or supervised."""
    probe: str
    """What learned from the features, or compared them."""
    metric: str
    """What the value is, as in mIoU."""
    fraction: float
    """Share of the labelled train places that taught, in (0, 1]."""
    value: float | None
    """Mean over the seeds; None where it is not defined."""
    low: float | None
    """Ends of the 95 % interval over places and seeds."""
    high: float | None
    """Its upper end."""
    seeds: int
    """How many seeds the mean is over."""
    n_train: int
    """Places that taught."""
    n_test: int
    """Places that judged."""

    @property
    def what(self) -> tuple[str, str, str, str, float]:
        """What it is a score of, whatever the encoder."""
        return (self.task, self.features, self.probe, self.metric, self.fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was found of one run."""

    scores: tuple[Score, ...]
    facts: dict[str, Any]
    """Name → number or short text: what was judged, and on what."""
    replicates: NDArray[np.float32]
    """Bootstrap replicates, shape (scores, replicates): those of the same places in every run on the same shards."""

    def estimate(self, number: int) -> Estimate:
        """A score with its replicates."""
        row = self.scores[number]
        value, low, high = (np.nan if end is None else end for end in (row.value, row.low, row.high))
        return Estimate(value=value, low=low, high=high, replicates=self.replicates[number].astype(np.float64))

    def find(self, **wanted: Any) -> list[int]:
        """Numbers of the scores whose fields have these values."""
        return [
            number
            for number, row in enumerate(self.scores)
            if all(getattr(row, name) == value for name, value in wanted.items())
        ]

    def table(self) -> tuple[tuple[str, ...], ...]:
        """Header, and a row for each thing measured, the encoders side by side: value and 95 % interval.

        An encoder trained with the labels is its own probe, so it stands in the rows of all probes of its metric.
        What `is_shown` leaves out is in `scores` alone.
        """
        encoders = [name for name in ENCODERS if any(row.encoder == name for row in self.scores)]
        cells = {(row.what, row.encoder): _shown(row) for row in self.scores}
        end_to_end = {
            (row.task, row.features, row.metric, row.fraction): _shown(row)
            for row in self.scores
            if row.encoder == SUPERVISED
        }
        rows = []
        shown = [row for row in self.scores if row.encoder != SUPERVISED and self.is_shown(row)]
        for what in dict.fromkeys(row.what for row in shown):
            task, features, probe, metric, fraction = what
            supervised = end_to_end.get((task, features, metric, fraction), UNKNOWN)
            values = [cells.get((what, name), UNKNOWN) if name != SUPERVISED else supervised for name in encoders]
            rows.append((task, features, probe, metric, f"{100 * fraction:g} %", *values))
        return (("task", "features", "probe", "metric", "labels", *encoders), *rows)

    @staticmethod
    def is_shown(row: Score) -> bool:
        """Whether a score is for tables and pictures: not that of one class of many, nor one of `ASIDE`."""
        of_class = row.metric.startswith("IoU ") and row.metric.removeprefix("IoU ") not in SHOWN_CLASSES
        return not of_class and row.metric not in ASIDE

    def write(self, folder: Path) -> None:
        """Write `scores.json` and `bootstrap.npz` into a folder."""
        with atomic_path(folder / REPLICATES_NAME) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, replicates=self.replicates)
        content = {"scores": [asdict(row) for row in self.scores], "facts": self.facts}
        write_text(folder / SCORES_NAME, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _shown(row: Score) -> str:
    if row.value is None:
        return UNKNOWN
    digits = 0 if row.metric.endswith("km") else 3
    value = f"{row.value:,.{digits}f}"
    if row.low is None or row.high is None:
        return value
    return f"{value} ({row.low:,.{digits}f}–{row.high:,.{digits}f})"


def score_of(what: dict[str, Any], estimate: Estimate) -> Score:
    """A row of what it is a score of and of its estimate."""
    return Score(**what, value=_finite(estimate.value), low=_finite(estimate.low), high=_finite(estimate.high))


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def read_scores(folder: Path) -> Scores:
    """The scores that a folder holds; DatasetError where there are none or they are damaged."""
    path = folder / SCORES_NAME
    try:
        content = from_json(path.read_text(encoding="utf-8"))
        rows, facts = tuple(_row(values) for values in content["scores"]), dict(content["facts"])
        replicates = np.asarray(read_arrays(folder / REPLICATES_NAME)["replicates"], dtype=np.float32)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such scores; run `geossl evaluate`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: damaged scores ({type(error).__name__}); run `geossl evaluate` again") from None
    if replicates.ndim != 2 or len(replicates) != len(rows):
        raise DatasetError(f"{path}: its bootstrap is of other scores; run `geossl evaluate` again")
    return Scores(scores=rows, facts=facts, replicates=replicates)


_TEXTS = ("task", "features", "encoder", "probe", "metric")
_COUNTS = ("seeds", "n_train", "n_test")
_NUMBERS = ("value", "low", "high")


def _row(values: dict[str, Any]) -> Score:
    """A score of its JSON; KeyError or TypeError where it is none."""
    row = Score(**{field.name: values[field.name] for field in fields(Score)})
    numbers = [row.fraction, *(number for name in _NUMBERS if (number := getattr(row, name)) is not None)]
    is_one = (
        all(isinstance(getattr(row, name), str) for name in _TEXTS)
        and all(type(getattr(row, name)) is int for name in _COUNTS)
        and all(type(number) in (int, float) and abs(number) < _LARGEST for number in numbers)
    )
    if not is_one:
        raise TypeError("of other types")
    return row


def stacked(estimates: Iterable[Estimate]) -> NDArray[np.float32]:
    """Replicates of several estimates, shape (n, replicates)."""
    rows = [estimate.replicates for estimate in estimates]
    return np.stack(rows).astype(np.float32) if rows else np.empty((0, 0), np.float32)
