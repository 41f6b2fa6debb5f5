"""Lists of different lengths as two arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from geossl_data.scenes.matching.acquisitions import IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ragged:
    """n lists of integers."""

    values: IntArray
    """All lists, one after the other."""
    offsets: IntArray
    """Where each list begins, and the end; shape (n + 1,)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[list[int]]:
        values = self.values.tolist()
        ends = self.offsets.tolist()
        return (values[start:end] for start, end in pairwise(ends))

    @classmethod
    def grouped(cls, group: IntArray, values: IntArray, n: int) -> "Ragged":
        """List i of `n` holds the values whose group is i, in ascending order."""
        order = np.lexsort((values, group))
        counts = np.bincount(group, minlength=n)
        return cls(values=values[order], offsets=np.concatenate(([0], np.cumsum(counts))))

    def of(self, names: IntArray) -> "Ragged":
        """The lists with names[value] in place of each value."""
        return Ragged(values=names[self.values], offsets=self.offsets)

    def take(self, index: IntArray) -> "Ragged":
        """The lists `index`."""
        counts = np.diff(self.offsets)[index]
        ends = np.cumsum(counts)
        position = np.arange(int(counts.sum())) + np.repeat(self.offsets[index] - ends + counts, counts)
        return Ragged(values=self.values[position], offsets=np.concatenate(([0], ends)))
