"""What every task of an evaluation works with: labelled shards, the encoders beside each other, their features."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from geossl_data.evaluation.arrays import read_arrays
from geossl_data.evaluation.features import features
from geossl_data.evaluation.metrics import Metric
from geossl_data.evaluation.rows import Rows
from geossl_data.evaluation.sight import Sight, copied, fresh, shown_by, sight_of
from geossl_data.files import atomic_path
from geossl_data.pretrain.encoders import Encoder
from geossl_data.pretrain.export import EncoderInfo
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

Features = NDArray[np.float32]
Shown = tuple[str, ...]
"""Sensors that are looked at, sorted by name."""

EDITION = 1
"""Raised when what is kept of an evaluation would come out otherwise."""

Kind = Literal["trained", "random", "supervised"]
"""trained: the encoder that is judged; random: one of the same shape with fresh weights; supervised: the same shape
trained with the labels and nothing before."""
KINDS: tuple[Kind, ...] = ("trained", "random", "supervised")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How encoders are judged."""

    k: int = 20
    """Neighbours of kNN probes."""
    temperature: float = 0.07
    """Of their vote (Wu et al. 2018, section 3.4)."""
    ridge: float = 1.0
    """Regularisation of closed-form probes."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the labelled train places that teach, in (0, 1]."""
    seeds: int = 3
    """How many random encoders, label subsets and trained heads there are."""
    statistics: str | Mapping[str, tuple[float, float]] = "auto"
    """By which means and deviations images are standardised; see `sight.sight_of`."""
    target: str | None = None
    """Member with the class maps of dense tasks."""
    epochs: int = 20
    """Passes of decoders, fine-tuning and supervised training over the labelled train rows."""
    batch_size: int = 64
    """Looks per forward pass; training takes half of it."""
    supervised: bool = True
    """Whether encoders of the same shape are trained with the labels alone, for comparison."""
    finetune: bool = False
    """Whether dense tasks also train the encoder on."""
    crop: int = 0
    """Side of training crops, pixels; 0: whole looks."""
    event_share: float = 0.05
    """Share of a place that has to change for it to count as an event."""
    device: str = "auto"
    seed: int = 0
    """The first of the seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One measured thing: what was asked of which encoder, with which labels, and how it did."""

    features: str
    """The sensors looked at, as in `s1+s2`."""
    encoder: Kind
    probe: str
    """What was put on top of the encoder."""
    metric: Metric
    fraction: float
    """Share of the train places that taught, in (0, 1]."""
    seed: int
    n_train: int
    """Places that taught."""
    n_test: int
    """Places that judge."""


class Bench:
    """Labelled shards and the encoders to be judged on them.

    Raises TrainingError where no encoder sees a band that the shards hold.
    """

    def __init__(
        self,
        shards: Shards,
        encoders: Sequence[tuple[Encoder, EncoderInfo]],
        options: ProbeOptions,
        *,
        device: torch.device | None = None,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        """cache: folder that features are kept in for the next time; None: nowhere."""
        self.shards = shards
        self.options = options
        self.device = device or torch.device("cpu")
        self.progress = progress
        self._encoders = tuple(encoders)
        self.infos = tuple(info for _, info in encoders)
        self.shown: tuple[Shown, ...] = shown_by(self.infos, shards)
        """Each sensor alone, then all of them together."""
        self._cache = cache
        # The same recipe may have been run on other files: what the bytes are tells them apart.
        self._content = hashlib.sha256(np.ascontiguousarray(shards.index.crc32).tobytes()).hexdigest()
        self._sights: dict[tuple[Kind, Shown, int], Sight] = {}
        self._features: dict[str, dict[tuple[int, int], Features]] = {}
        self._kept: dict[str, dict[str, NDArray[Any]]] = {}

    def members(self, shown: Shown) -> tuple[str, ...]:
        """Members of a look that have to be read to see these sensors."""
        return self.sight("trained", shown, self.options.seed).members

    def seeds(self) -> range:
        """The seeds of random encoders, label subsets and heads."""
        return range(self.options.seed, self.options.seed + self.options.seeds)

    def sight(self, kind: Kind, shown: Shown, seed: int) -> Sight:
        """The judged encoder (the same for every seed, not to be changed), or one of its shape with fresh weights.

        A fresh one sees images by the statistics of these shards, so that it is the same beside every encoder.
        """
        key: tuple[Kind, Shown, int] = ("trained", shown, 0) if kind == "trained" else ("random", shown, seed)
        if key not in self._sights:
            statistics = self.options.statistics
            if kind != "trained" and statistics in ("auto", "encoder"):
                statistics = "own"
            sight = sight_of(self._encoders, self.shards, shown, statistics=statistics, device=self.device)
            self._sights[key] = sight if kind == "trained" else fresh(sight, seed)
        return self._sights[key]

    def fresh(self, shown: Shown, seed: int) -> Sight:
        """One of the judged shape with fresh weights, to be trained: a new one each time."""
        return copied(self.sight("random", shown, seed))

    def features(self, kind: Kind, shown: Shown, seed: int, rows: Rows) -> Features:
        """Features of every look of the rows, shape (n, looks of a row, embedding_dim), float32.

        Encoders side by side see what each sees alone, so theirs are put together of those. What all the others see of
        the same looks is computed in the same pass, which reads and decodes them once. All of it is remembered look by
        look: no task has a look computed that another one had.
        """
        parts = self._parts(shown)
        if len(parts) > 1:
            return np.concatenate([self.features(kind, part, seed, rows) for part in parts], axis=-1)
        wanted = self.sight(kind, shown, seed).digest
        sights = {sight.digest: sight for sight in self._alone(shown)}
        asked = rows.order
        lacking = [one for one in dict.fromkeys(asked) if one not in self._features.get(wanted, {})]
        if lacking:
            found = features(
                sights,
                self.shards,
                lacking,
                batch_size=self.options.batch_size,
                device=self.device,
                cache=self._cache,
                progress=self.progress,
            )
            for digest, values in found.items():
                self._features.setdefault(digest, {}).update(zip(lacking, values, strict=True))
        known = self._features[wanted]
        return np.stack([known[one] for one in asked]).reshape(*rows.look.shape, -1)

    def _parts(self, shown: Shown) -> list[Shown]:
        """What each of the encoders that see any of these sensors is shown."""
        each = [tuple(sensor for sensor in shown if sensor in info.sensors) for info in self.infos]
        return [part for part in each if part]

    def _alone(self, shown: Shown) -> list[Sight]:
        """Single encoders of every kind and seed, for what is shown and what tasks ask next about the same looks."""
        parts = dict.fromkeys(part for combination in (shown, *self.shown) for part in self._parts(combination))
        kinds: tuple[tuple[Kind, range], ...] = (("trained", self.seeds()[:1]), ("random", self.seeds()))
        return [self.sight(kind, part, seed) for part in parts for kind, seeds in kinds for seed in seeds]

    def kept(
        self, what: Mapping[str, object], make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Arrays that take long to make, made once for all evaluations on these shards.

        what: everything that they depend on, as plain values, but for the shards; of an encoder its digest.
        """
        described = json.dumps({"shards": self._content, **what}, sort_keys=True, default=str)
        key = hashlib.sha256(f"{EDITION}\n{described}".encode()).hexdigest()[:32]
        if key not in self._kept:
            path = None if self._cache is None else self._cache / f"{key}.npz"
            found = None if path is None else _read(path)
            if found is None:
                found = {name: np.asarray(values) for name, values in make().items()}
                if path is not None:
                    with atomic_path(path) as temporary, temporary.open("wb") as file:
                        np.savez(file, **cast(dict[str, Any], found))
            self._kept[key] = found
        return self._kept[key]


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file that `kept` wrote; None where there is none or it is damaged."""
    try:
        return read_arrays(path)
    except (OSError, ValueError):
        return None
