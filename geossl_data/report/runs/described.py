"""What is said of looks beside their pictures: class or stratum, place, date."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.evaluation.labels import classes_of
from geossl_data.evaluation.rows import Rows
from geossl_data.shards.reading.shards import Shards

UNKNOWN = "none"
"""The class of a look that has no label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What n looks are called."""

    kind: str
    """What tells them apart: `class`, where any has one, else `stratum`, else `split`."""
    group: tuple[str, ...]
    """The class, stratum or split of each."""
    known: NDArray[np.bool_]
    """Which looks have one, shape (n,)."""
    words: tuple[str, ...]
    """Place, date and split of each."""


def described(shards: Shards, rows: Rows) -> Described:
    """What the looks are called; of classes the most frequent of a look counts."""
    kind, group, known = _groups(shards, rows)
    words = tuple(
        f"{shards.keys[index]}, {_when(shards, index, look)}, {split}"
        for index, look, split in zip(rows.index.tolist(), rows.look[:, -1].tolist(), rows.split.tolist(), strict=True)
    )
    return Described(kind=kind, group=group, known=known, words=words)


def _groups(shards: Shards, rows: Rows) -> tuple[str, tuple[str, ...], NDArray[np.bool_]]:
    position, names = classes_of(shards, rows)
    if (position >= 0).any():
        return "class", tuple(names[at] if at >= 0 else UNKNOWN for at in position.tolist()), position >= 0
    strata = tuple(shards.entries[index].stratum for index in rows.index.tolist())
    if any(strata):
        return "stratum", tuple(name or UNKNOWN for name in strata), np.array([bool(name) for name in strata])
    return "split", tuple(rows.split.tolist()), np.ones(len(rows), dtype=np.bool_)


def _when(shards: Shards, index: int, look: int) -> str:
    at = shards.entries[index].acquired[look]
    return f"look {look + 1}" if at is None else f"{at:%Y-%m-%d}"
