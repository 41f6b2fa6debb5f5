"""Labelled shards → the rows that probes learn from and are judged by: looks, sides, shares of places."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.records import Split
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

YEAR_DAYS = 365.25
SEASON_DAYS = 45.0
"""So many days short of whole years count as these years; what `sample --looks long` allows between aligned seasons."""
_SHARES = 31
"""Key of the generator that draws shares, beside those of other parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Looks that are judged or taught with: n rows of one look, or of an earlier and a later one."""

    index: IntArray
    """Sample of each row, shape (n,)."""
    look: IntArray
    """Looks of each row, shape (n, L); L is 1, or 2 for earlier and later."""
    place: IntArray
    """Which ground a row sees, shape (n,): the first sample with these coordinates, or the sample itself."""
    split: NDArray[np.str_]
    """Shape (n,)."""

    def __len__(self) -> int:
        return len(self.index)

    def taken(self, which: BoolArray | IntArray) -> "Rows":
        """Some of the rows, by mask or by position."""
        return Rows(index=self.index[which], look=self.look[which], place=self.place[which], split=self.split[which])

    @property
    def order(self) -> list[tuple[int, int]]:
        """(sample, look) of every look, row by row: n × L of them."""
        index = np.repeat(self.index, self.look.shape[1])
        return list(zip(index.tolist(), self.look.ravel().tolist(), strict=True))


def looks_of(shards: Shards, members: Sequence[str]) -> Rows:
    """A row for every look that has all of these members, by sample and time."""
    index, look = np.nonzero(having(shards, members))
    return _rows(shards, index, look[:, None])


def pairs_of(shards: Shards, members: Sequence[str], *, target: str | None = None) -> Rows:
    """A row for every sample with two such looks: an earlier and a later one.

    They lie as many years apart as there are, and of these in the seasons that are nearest to each other; where times
    are not known, they are the first and the last look. target: a member that the later look has to have as well, as
    the map of what changed.
    """
    eligible = having(shards, members)
    later = eligible if target is None else eligible & having(shards, [target])
    days = shards.facts.days
    best = np.full(len(eligible), -np.inf)
    chosen = np.zeros((len(eligible), 2), dtype=np.int64)
    n_looks = eligible.shape[1]
    for first in range(n_looks):
        for second in range(first + 1, n_looks):
            apart = days[:, second] - days[:, first]
            years = np.floor((apart + SEASON_DAYS) / YEAR_DAYS)
            season = np.abs((apart + YEAR_DAYS / 2) % YEAR_DAYS - YEAR_DAYS / 2)
            # Below all that is timed, the widest first.
            score = np.where(np.isfinite(apart), years * 1000.0 - season, float(second - first) - 1e6)
            better = eligible[:, first] & later[:, second] & (score > best)
            best = np.where(better, score, best)
            chosen[better] = first, second
    index = np.flatnonzero(np.isfinite(best))
    lacking = int(eligible.any(axis=1).sum()) - len(index)
    if lacking:
        _LOG.info("%d of %d places have no two looks to compare and are left out", lacking, len(index) + lacking)
    return _rows(shards, index, chosen[index])


def having(shards: Shards, members: Sequence[str]) -> BoolArray:
    """Which looks of which samples have all of these members, shape (n, most looks)."""
    names = list(shards.members)
    columns = [names.index(shards.member(name).name) for name in members]
    index = shards.index
    sample = np.repeat(np.arange(len(index)), index.n_looks)
    look = np.arange(len(sample)) - index.first_look[sample]
    found = np.zeros((len(index), int(index.n_looks.max(initial=0))), dtype=np.bool_)
    found[sample, look] = np.all(index.member_file[:, columns] >= 0, axis=1)
    return found


def _rows(shards: Shards, index: IntArray, look: IntArray) -> Rows:
    facts = shards.facts
    return Rows(index=index, look=look, place=_places(facts.lonlat)[index], split=facts.split[index])


def _places(lonlat: NDArray[np.float64]) -> IntArray:
    """The first sample that lies where each sample lies, shape (n,); itself where that is not known."""
    place = np.arange(len(lonlat))
    known = np.flatnonzero(np.isfinite(lonlat).all(axis=1))
    if len(known):
        _, first, inverse = np.unique(lonlat[known], axis=0, return_index=True, return_inverse=True)
        place[known] = known[first[inverse.ravel()]]
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Which rows teach and which judge; they share neither a place nor a spatial block."""

    train: IntArray
    """Positions among the rows."""
    test: IntArray
    judged: Split
    """The split that judges: test, or val where test has no rows."""


def sides_of(shards: Shards, rows: Rows) -> Sides:
    """Rows of the train split teach, those of the test split judge, of val where no test row is there.

    Raises TrainingError without rows on a side, and where a place or a spatial block is on both.
    """
    by_split: dict[Split, IntArray] = {split: np.flatnonzero(rows.split == split) for split in ("train", "val", "test")}
    judged: Split = "test" if len(by_split["test"]) else "val"
    if not len(by_split["train"]) or not len(by_split[judged]):
        lacking = "train" if not len(by_split["train"]) else "test or val"
        raise TrainingError(
            f"no labelled looks in the {lacking} split; sample again with other --test and --val shares or a smaller "
            "--block-km"
        )
    if judged == "val":
        _LOG.warning("no labelled looks in the test split; the val split judges instead")
    sides = Sides(train=by_split["train"], test=by_split[judged], judged=judged)
    _refuse_leakage(shards, rows, sides)
    return sides


def _refuse_leakage(shards: Shards, rows: Rows, sides: Sides) -> None:
    """Raise TrainingError where a place or a spatial block is on both sides."""
    train, test = (rows.taken(side) for side in (sides.train, sides.test))
    places = np.intersect1d(train.place, test.place).tolist()
    blocks = {shards.entries[index].block for index in set(train.index.tolist())} & {
        shards.entries[index].block for index in set(test.index.tolist())
    }
    for what, shared in (
        ("place", sorted(tuple(shards.facts.lonlat[place].tolist()) for place in places)),
        ("block", sorted(blocks)),
    ):
        if shared:
            raise TrainingError(
                f"{what} {shared[0]} is in both the train split and the judged split ({len(shared)} such); the "
                "scores would be worth nothing; sample again"
            )


def share_of(
    rows: Rows, train: IntArray, share: float, *, seed: int, labels: IntArray | BoolArray | None = None
) -> IntArray:
    """The positions of `train` at a share of its places, drawn at random; at least one place.

    share: in (0, 1]. labels: of all rows, classes (n,) with -1 for none, or which classes they have, (n, C); then every
    class that `train` has keeps a place at least. For one seed a smaller share is part of a larger one.
    """
    if not 0 < share <= 1:
        raise TrainingError(f"a share of {share:g} of the labels; expected more than 0 and at most 1")
    places, place = np.unique(rows.place[train], return_inverse=True)
    order = np.random.default_rng((seed, _SHARES)).permutation(len(places))
    first: IntArray = np.empty(0, dtype=np.int64)
    if labels is not None:
        rank = np.empty(len(places), dtype=np.int64)
        rank[order] = np.arange(len(places))
        # The best rank among the places of each class.
        ranks = sorted({int(rank[place[own]].min()) for own in _rows_of_classes(labels[train]) if own.any()})
        first = order[ranks]
        order = np.concatenate([first, np.delete(order, ranks)])
    count = max(1, len(first), round(share * len(places)))
    chosen: IntArray = train[np.isin(place, order[:count])]
    return chosen


def _rows_of_classes(labels: IntArray | BoolArray) -> Iterator[BoolArray]:
    """Which rows have a class, class by class."""
    if labels.ndim == 2:
        yield from labels.astype(np.bool_).T
    else:
        yield from (labels == number for number in np.unique(labels[labels >= 0]))
