"""Which sample goes into which shard, decided before anything is read.

So it depends neither on the order of the samples nor on who is fastest.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, Protocol

from geossl_data.bands import MEMBERS
from geossl_data.errors import ShardError
from geossl_data.records import SPLITS, Sample, Split
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.codec import payload_nbytes
from geossl_data.shards.tars import BLOCK

_JSON_ESTIMATE = 8 * BLOCK
_SMALLER = {"npy": 1.0, "blosc": 1.4, "archive": 1.65}
"""About how many times smaller than their numbers the members are; benchmarks/codecs.py measures it."""


class Planned(Protocol):
    """A sample that is to be cut: a frozen dataclass, whose values decide the bytes of its group."""

    @property
    def key(self) -> str:
        """Unique; see `records.KEY_PATTERN`."""

    @property
    def split(self) -> Split:
        """train, val or test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """What one shard will hold, in order."""

    name: str
    """As in `train-000000`; the file adds `.tar`."""
    split: Split
    samples: tuple[Any, ...]
    """Each one `Planned`."""
    nbytes: float = 0.0
    """About how many bytes it will have; 0 where nobody knows."""

    @property
    def digest(self) -> str:
        """Hex digest of name and samples: two plans with the same digest write the same shard."""
        text = json.dumps([self.name, self.samples], sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A record or a time as JSON takes it, level by level: `asdict`, which copies, takes three times as long."""
    if is_dataclass(value):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    return rfc3339(value)


def plan_shards(
    samples: Iterable[Planned], *, shard_mb: int, seed: int, nbytes: Callable[[Any], float] | None = None
) -> list[ShardPlan]:
    """Which sample goes into which shard: per split a shuffle over regions and dates, cut into equal counts.

    The order is that of a hash of seed and key, so that neighbours in a shard are neighbours nowhere else, and it
    depends on nothing but the set of samples. Shards of one split differ by one sample at most and are planned for
    `shard_mb` megabytes. nbytes: about how many bytes a sample takes; `estimated_nbytes` when left out.
    Raises ShardError when a key comes twice.
    """
    ranked = sorted(samples, key=lambda sample: (_rank(seed, sample.key), sample.key))
    for before, after in pairwise(ranked):
        if before.key == after.key:
            raise ShardError(f"sample key {after.key} comes twice; keys name the members of a shard")
    size = nbytes or estimated_nbytes
    return [plan for split in SPLITS for plan in _plan_split(ranked, split, shard_mb * 1_000_000, size)]


def _rank(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=16).digest()


def _plan_split(
    ranked: Sequence[Planned], split: Split, shard_nbytes: int, nbytes: Callable[[Any], float]
) -> list[ShardPlan]:
    chosen = [sample for sample in ranked if sample.split == split]
    sizes = [nbytes(sample) for sample in chosen]
    count = min(len(chosen), math.ceil(math.fsum(sizes) / shard_nbytes))
    edges = [position * len(chosen) // count for position in range(count + 1)] if count else [0]
    return [
        ShardPlan(
            name=f"{split}-{number:06d}",
            split=split,
            samples=tuple(chosen[start:stop]),
            nbytes=math.fsum(sizes[start:stop]),
        )
        for number, (start, stop) in enumerate(pairwise(edges))
    ]


def require_one_size(samples: Iterable[Sample]) -> None:
    """ShardError unless all places have the same size: arrays of one member have one shape in a dataset."""
    sizes = sorted({sample.place.size_px for sample in samples})
    if len(sizes) > 1:
        raise ShardError(f"places of {sizes} px a side; one dataset has one size")


def estimated_nbytes(sample: Sample, codec: str = "npy") -> float:
    """About how many bytes a sample takes in a shard, if its looks have every member."""
    sizes = [payload_nbytes(member.dtype, member.shape(sample.place.size_px)) for member in MEMBERS.values()]
    return group_nbytes(len(sample.looks), sizes, codec)


def group_nbytes(n_looks: int, sizes: Sequence[int], codec: str) -> float:
    """About how many bytes a group takes whose looks all have members of these sizes, before a codec."""
    return _JSON_ESTIMATE + n_looks * sum(2 * BLOCK + size / _SMALLER[codec] for size in sizes)
