"""A planet whose labels, times and class maps are as asked, and a bench that gives out features as asked."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pretrain.toy_shards import NAMES, ToyShards

from geossl_data.bands import MEMBERS
from geossl_data.evaluation.bench import ProbeOptions
from geossl_data.progress import silent
from geossl_data.shards.reading.facts import Facts

WIDTH = 16
BOTH = (("s1",), ("s2",), ("s1", "s2"))


class Planet(ToyShards):
    """Places with as many looks each, and a class map of each look where maps are given."""

    def __init__(
        self,
        splits: dict[str, int],
        *,
        n_looks: int = 2,
        size: int = 6,
        seed: int = 0,
        labels: np.ndarray | None = None,
        days: np.ndarray | None = None,
        lonlat: np.ndarray | None = None,
        maps: np.ndarray | None = None,
    ) -> None:
        """labels, days: (places, looks); lonlat: (places, 2); maps: (places, looks, size, size), 0 where not known."""
        super().__init__(splits, n_looks=n_looks, size=size, seed=seed)
        if labels is not None:
            for entry, own in zip(self.entries, labels.tolist(), strict=True):
                object.__setattr__(entry, "labels", tuple(own))
        self.facts = Facts(
            lonlat=self.facts.lonlat if lonlat is None else lonlat,
            days=self.facts.days if days is None else days,
            change=self.facts.change,
            split=self.facts.split,
        )
        if maps is not None:
            self.members["label"] = MEMBERS["label"]
            there = np.zeros((len(self.index.member_file), 1), np.int64)
            self.index.member_file = np.hstack([self.index.member_file, there])
            for looks, own in zip(self.arrays, maps, strict=True):
                for look, values in zip(looks, own, strict=True):
                    look["label"] = values.astype(np.uint8)

    def without(self, place: int, look: int, member: str) -> None:
        """Take a member from a look."""
        self.index.member_file[self.index.first_look[place] + look, list(self.members).index(member)] = -1

    @property
    def classes(self) -> np.ndarray:
        """The label of each look, (places, looks)."""
        return np.array([entry.labels for entry in self.entries])


class FakeBench:
    """Features from tables, noise of the seed where there is none; counts what is asked of it."""

    def __init__(
        self,
        shards: Planet,
        tables: Mapping[tuple[str, str], np.ndarray] | None = None,
        *,
        shown: tuple[tuple[str, ...], ...] = (("s2",),),
        parts: tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        """tables: (kind, "s1+s2") → (places, looks, D)."""
        self.shards, self.shown, self.tables, self.parts = shards, shown, dict(tables or {}), parts
        self.options = ProbeOptions(**{"supervised": False, "k": 5, **options})
        self.device, self.progress = torch.device("cpu"), silent
        self.asked: list[tuple[str, tuple[str, ...], int]] = []
        self.memory: dict[str, dict[str, np.ndarray]] = {}

    def members(self, shown: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in NAMES if name.split("_")[0] in shown)

    def seeds(self) -> range:
        return range(self.options.seed, self.options.seed + self.options.seeds)

    def sight(self, kind: str, shown: tuple[str, ...], seed: int) -> Any:
        parts = self.parts or (self._table(kind, shown, seed).shape[-1],)
        return SimpleNamespace(embedding_dims=parts, embedding_dim=sum(parts), digest=f"{kind} {shown} {seed}")

    def fresh(self, shown: tuple[str, ...], seed: int) -> Any:
        return self.sight("random", shown, seed)

    def features(self, kind: str, shown: tuple[str, ...], seed: int, rows: Any) -> np.ndarray:
        self.asked.append((kind, shown, seed))
        return self._table(kind, shown, seed)[rows.index[:, None], rows.look].astype(np.float32)

    def _table(self, kind: str, shown: tuple[str, ...], seed: int) -> np.ndarray:
        if (kind, "+".join(shown)) in self.tables:
            return self.tables[kind, "+".join(shown)]
        looks = self.shards.classes.shape
        rng = np.random.default_rng((seed, len(kind), *map(ord, "".join(shown))))
        return rng.standard_normal((*looks, WIDTH))

    def kept(self, what: Mapping[str, object], make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        key = repr(sorted(what.items()))
        if key not in self.memory:
            self.memory[key] = dict(make())
        return self.memory[key]


def separable(classes: np.ndarray, *, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Features (…, classes + 1) that stand apart by class."""
    rng = np.random.default_rng(seed)
    return np.eye(int(classes.max()) + 1)[classes] + noise * rng.standard_normal((*classes.shape, classes.max() + 1))


def value(found: Any) -> float:
    """A metric on the places as they are."""
    return float(found.metric(np.ones((1, found.metric.groups)))[0])


def values(found: list[Any], **wanted: Any) -> list[float]:
    """Of all that is found with these fields, `metric` by its name."""
    return [
        value(one)
        for one in found
        if all((one.metric.name if name == "metric" else getattr(one, name)) == own for name, own in wanted.items())
    ]
