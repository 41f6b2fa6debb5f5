"""Which sample goes into which shard, decided before anything is read.

So it depends neither on the order of the samples nor on who is fastest.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from geossl_data.bands import MEMBERS
from geossl_data.errors import ShardError
from geossl_data.records import SPLITS, Sample, Split
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.codec import payload_nbytes
from geossl_data.shards.tars import BLOCK

_JSON_ESTIMATE = 8 * BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """What one shard will hold, in order."""

    name: str
    """As in `train-000000`; the file adds `.tar`."""
    split: Split
    samples: tuple[Sample, ...]

    @property
    def digest(self) -> str:
        """Hex digest of name and samples: two plans with the same digest write the same shard."""
        text = json.dumps([self.name, [asdict(sample) for sample in self.samples]], sort_keys=True, default=rfc3339)
        return hashlib.sha256(text.encode()).hexdigest()


def plan_shards(samples: Iterable[Sample], *, shard_mb: int, seed: int) -> list[ShardPlan]:
    """Which sample goes into which shard: per split a shuffle over regions and dates, cut into equal counts.

    The order is that of a hash of seed and key, so that neighbours in a shard are neighbours nowhere else, and it
    depends on nothing but the set of samples. Shards of one split differ by one sample at most and are planned for
    `shard_mb` megabytes. Raises ShardError when a key comes twice or sizes differ.
    """
    ranked = sorted(samples, key=lambda sample: (_rank(seed, sample.key), sample.key))
    for before, after in pairwise(ranked):
        if before.key == after.key:
            raise ShardError(f"sample key {after.key} comes twice; keys name the members of a shard")
    sizes = sorted({sample.place.size_px for sample in ranked})
    if len(sizes) > 1:
        raise ShardError(f"places of {sizes} px a side; one dataset has one size")
    return [plan for split in SPLITS for plan in _plan_split(ranked, split, shard_mb * 1_000_000)]


def _rank(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=16).digest()


def _plan_split(ranked: Sequence[Sample], split: Split, shard_nbytes: int) -> list[ShardPlan]:
    chosen = [sample for sample in ranked if sample.split == split]
    count = min(len(chosen), -(-sum(map(estimated_nbytes, chosen)) // shard_nbytes))
    edges = [position * len(chosen) // count for position in range(count + 1)] if count else [0]
    return [
        ShardPlan(name=f"{split}-{number:06d}", split=split, samples=tuple(chosen[start:stop]))
        for number, (start, stop) in enumerate(pairwise(edges))
    ]


def estimated_nbytes(sample: Sample) -> int:
    """About how many bytes a sample takes in a shard, if its looks have every member."""
    sizes = [payload_nbytes(member.dtype, member.shape(sample.place.size_px)) for member in MEMBERS.values()]
    return _JSON_ESTIMATE + len(sample.looks) * sum(2 * BLOCK + nbytes for nbytes in sizes)
