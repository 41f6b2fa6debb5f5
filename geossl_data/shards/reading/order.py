"""Which item comes when, and on which rank: arithmetic on numbers, the same for the same seed wherever it runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import ShardError

IntArray = NDArray[np.int64]
Shuffle = Literal["global", "window"]
Permutation = Callable[[int, int], IntArray]
"""(seed, epoch) → the numbers 0 … n-1 of the items in their order."""

_LOOKS = 1
"""Key of the generator that draws looks, beside the one that draws orders."""


def shuffled(shard: IntArray, shuffle: Shuffle | None, *, seed: int, epoch: int, window: int) -> IntArray:
    """The numbers 0 … n-1 of the items in the order of an epoch; it depends on seed and epoch alone.

    shard: number of each item's shard, shape (n,). `global`: any order is as likely as any other. `window`: shards in
    any order, and the items of every `window` shards that follow each other in any order, so that a reader of an
    object store asks for few shards at a time. None: as they are.
    """
    n = len(shard)
    if shuffle is None:
        return np.arange(n, dtype=np.int64)
    rng = np.random.default_rng((seed, epoch))
    if shuffle == "global":
        return rng.permutation(n)
    names, number = np.unique(shard, return_inverse=True)
    group = rng.permutation(len(names))[number] // window
    return np.lexsort((rng.permutation(n), group)).astype(np.int64)


def drawn_looks(eligible: NDArray[np.bool_], k: int, *, seed: int, epoch: int) -> IntArray:
    """For each sample `k` of its eligible looks, in time order, drawn afresh each epoch; shape (n, k).

    eligible: (n, most looks of a sample); every row has at least `k`.
    """
    priority = np.random.default_rng((seed, epoch, _LOOKS)).random(eligible.shape)
    priority[~eligible] = np.inf
    return np.sort(np.argpartition(priority, k - 1, axis=1)[:, :k], axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Steps:
    """Which part of an order of `n` items each step of each rank takes: disjoint, and as many steps for every rank.

    drop_last: every batch is full, and fewer than `world × batch_size` items are left over. Without it every item
    comes exactly once, in batches whose sizes differ by one at most; of batches of one item some may be empty.
    """

    n: int
    batch_size: int
    world: int = 1
    drop_last: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.world < 1:
            raise ShardError(f"batch size {self.batch_size} and {self.world} ranks must be at least 1")

    def __len__(self) -> int:
        whole = self.world * self.batch_size
        return self.n // whole if self.drop_last else -(-self.n // whole)

    def edge(self, step: int, rank: int = 0) -> int:
        """Position of the first item that `rank` takes at `step`."""
        slot = step * self.world + rank
        return slot * self.batch_size if self.drop_last else slot * self.n // max(1, len(self) * self.world)

    def part(self, step: int, rank: int) -> slice:
        """The positions that a rank takes at a step."""
        return slice(self.edge(step, rank), self.edge(step, rank + 1))

    def parts(self, rank: int, first: int = 0) -> Iterator[slice]:
        """The positions that a rank takes at each step from `first` on."""
        return (self.part(step, rank) for step in range(first, len(self)))
