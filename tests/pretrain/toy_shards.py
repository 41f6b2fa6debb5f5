"""Shards in memory, read as those on disk are, of a planet that can be learned.

A place's class decides how large the patches of its ground are, which both sensors see; each look gets a gain and an
offset of its own in each sensor, which say nothing about the class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from geossl_data.bands import BANDS, MEMBERS
from geossl_data.shards.reading.facts import Facts
from geossl_data.shards.reading.shards import Shards

NAMES = ("s2_10m", "s2_20m", "s2_60m", "s1")
GRAINS = (1, 2, 4, 8)
"""Side of the patches of ground that make a class, pixels; class i (from 1) is mostly of grain i."""


@dataclass(frozen=True, kw_only=True)
class ToyEntry:
    key: str
    split: str
    block: str
    lon: float
    lat: float
    n_looks: int
    members: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...]


def ground_of(label: int, rng: np.random.Generator) -> np.ndarray:
    """How strong each grain is at one place: its class's own grain most, with a share of chance."""
    return np.abs((np.array(GRAINS) == GRAINS[label - 1]) + 0.35 * rng.standard_normal(len(GRAINS)))


def field(strengths: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Patches of every grain, as strong as given, about zero mean."""
    total = np.zeros((size, size))
    for strength, grain in zip(strengths, GRAINS, strict=True):
        side = -(-size // grain)
        total += strength * np.kron(rng.standard_normal((side, side)), np.ones((grain, grain)))[:size, :size]
    return total


def look(strengths: np.ndarray, size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The stored members of one look."""
    ground = field(strengths, size, rng)
    arrays = {}
    gain, offset = np.exp(0.5 * rng.standard_normal()), 600 * rng.standard_normal()
    for name in NAMES[:3]:
        factor = MEMBERS[name].factor
        coarse = ground.reshape(size // factor, factor, size // factor, factor).mean(axis=(1, 3))
        level = 2000 + 100 * np.arange(len(MEMBERS[name].bands))[:, None, None]
        arrays[name] = np.clip(level + offset + 300 * gain * coarse, 1, 60_000).astype(np.uint16)
    gain, offset = np.exp(0.5 * rng.standard_normal()), 4 * rng.standard_normal()
    speckle = 0.5 * rng.standard_normal((2, size, size))
    arrays["s1"] = MEMBERS["s1"].stored(-12 + offset + 1.5 * gain * (ground + speckle))
    return arrays


class ToyFiles:
    """What `Batches` reads from."""

    def __init__(self, shards: "ToyShards") -> None:
        self.index, self.members, self.size_px = shards.index, shards.members, shards.size_px
        self.source = SimpleNamespace(threads=1)
        self._arrays = shards.arrays

    def shape(self, member: str) -> tuple[int, ...]:
        return self.members[member].shape(self.size_px)

    def read(self, samples: np.ndarray, looks: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        for row, (sample, look) in enumerate((i, j) for i, own in zip(samples, looks, strict=True) for j in own):
            for name, array in arrays.items():
                array[row] = self._arrays[sample][look][name]


class ToyShards(Shards):
    """As many places as `splits` says, `n_looks` looks each, classes in turn.

    Looks are `every_days` days apart; places lie a quarter of a degree apart on a parallel.
    """

    def __init__(
        self,
        splits: dict[str, int],
        *,
        n_looks: int = 2,
        size: int = 48,
        seed: int = 0,
        every_days: float = 60.0,
        lacking: tuple[tuple[int, int, str], ...] = (),
    ) -> None:
        """lacking: (sample, look, member) that is not there."""
        rng = np.random.default_rng(seed)
        entries: list[Any] = []
        self.arrays: list[list[dict[str, np.ndarray]]] = []
        for split, count in splits.items():
            for position in range(count):
                label = 1 + position % len(GRAINS)
                number = len(entries)
                strengths = ground_of(label, rng)
                entries.append(
                    ToyEntry(
                        key=f"place-{number:04d}",
                        split=split,
                        block=f"{split}-{position // 5}",
                        lon=number * 0.25,
                        lat=45.0,
                        n_looks=n_looks,
                        members=tuple(
                            tuple(name for name in NAMES if (number, one, name) not in lacking)
                            for one in range(n_looks)
                        ),
                        labels=(label,) * n_looks,
                    )
                )
                self.arrays.append([look(strengths, size, rng) for _ in range(n_looks)])
        n = len(entries)
        self.entries = entries
        self.members = {name: MEMBERS[name] for name in NAMES}
        self.size_px = size
        self.notes: dict[str, Any] = {
            "size_px": size,
            "fingerprint": f"toy-{seed}",
            "statistics": {
                band: {"mean": 2300.0, "std": 800.0, "count": 1}
                if BANDS[band].sensor == "s2"
                else {"mean": -12.0, "std": 4.5, "count": 1}
                for band in BANDS
            },
            "label_names": {str(i + 1): f"grain-{grain}" for i, grain in enumerate(GRAINS)},
        }
        there = [[name in names for name in NAMES] for entry in entries for names in entry.members]
        self.index: Any = ToyIndex(
            shard=np.zeros(n, np.int64),
            n_looks=np.full(n, n_looks),
            first_look=np.arange(n) * n_looks,
            member_file=np.where(np.array(there, bool).reshape(-1, len(NAMES)), 0, -1),
            nbytes=np.array([1000]),
            crc32=np.array([seed], dtype=np.uint32),
        )
        self.facts = Facts(
            lonlat=np.array([(entry.lon, entry.lat) for entry in entries]).reshape(-1, 2),
            days=np.tile(7000.0 + every_days * np.arange(n_looks), (n, 1)),
            change=np.where(np.arange(n) % 3 == 0, 2.0, 0.5),
            split=np.array([entry.split for entry in entries], dtype=np.str_),
        )
        self._files: Any = ToyFiles(self)

    def read(self, index: int, look: int, members: Any = None) -> dict[str, np.ndarray]:
        return {name: self.arrays[index][look][name].copy() for name in members}


class ToyIndex(SimpleNamespace):
    """Where things would lie; see `geossl_data.shards.reading.index.Index`."""

    def __len__(self) -> int:
        return len(self.shard)
