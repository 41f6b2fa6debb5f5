"""Labelled shards → what probes learn and are judged by: looks, sides, shares of places, classes, maps of classes."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import TrainingError
from geossl_data.records import Split
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

UNKNOWN = 255
"""In class maps: nobody knows which class the pixel is."""
N_VALUES = 256
"""Values that a class may have in a map of several classes a look."""
LABEL = MEMBERS["label"].name
YEAR_DAYS = 365.25
SEASON_DAYS = 45.0
"""So many days short of whole years count as these years; what `sample --looks long` allows between aligned seasons."""
_SHARES = 31
"""Key of the generator that draws shares, beside those of other parts."""
_MAPS_AT_ONCE = 256


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
    index, look = np.nonzero(_having(shards, members))
    return _rows(shards, index, look[:, None])


def pairs_of(shards: Shards, members: Sequence[str], *, target: str | None = None) -> Rows:
    """A row for every sample with two such looks: an earlier and a later one.

    They lie as many years apart as there are, and of these in the seasons that are nearest to each other; where times
    are not known, they are the first and the last look. target: a member that the later look has to have as well, as
    the map of what changed.
    """
    eligible = _having(shards, members)
    later = eligible if target is None else eligible & _having(shards, [target])
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


def _having(shards: Shards, members: Sequence[str]) -> BoolArray:
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


# ------------------------------------------------------------------------------------------------ classes of looks


def classes_of(shards: Shards, rows: Rows) -> tuple[IntArray, tuple[str, ...]]:
    """The class of each row's last look, positions (n,) in the names, -1 where it has none; and the names.

    Names are those of all classes of the shards, in the order of their numbers.
    """
    numbers = _class_numbers(shards, (label for entry in shards.entries for label in entry.labels))
    found = np.array([shards.entries[index].labels[look] for index, look in _last_looks(rows)], dtype=np.int64).reshape(
        len(rows)
    )
    return _positions(found, numbers), _names(shards, numbers)


def class_sets_of(shards: Shards, rows: Rows, *, least_share: float = 0.05) -> tuple[BoolArray, tuple[str, ...]]:
    """Which classes the last look of each row has, (n, C) bool, and their names; a row without any is not labelled.

    Those that cover at least `least_share` of the known pixels of its class map, member `label`; where the shards hold
    no such map, those that the table of images names for it.
    Raises TrainingError for shards with neither.
    """
    if LABEL in shards.members:
        counts = _class_counts(shards, rows)
        numbers, names = _map_classes(shards, LABEL, np.flatnonzero(counts.any(axis=0)))
        covered = counts[:, numbers]
        known = counts.sum(axis=1, keepdims=True)
        return (covered > 0) & (covered >= least_share * known), names
    # Rows of a manifest have the column only where some look has several classes.
    named = [getattr(entry, "labels_more", ()) for entry in shards.entries]
    if not any(named):
        raise TrainingError(
            "looks of these shards have at most one class each; looks with several need a class map, or names "
            "separated by | in the column label"
        )
    numbers = _class_numbers(shards, (label for looks in named for labels in looks for label in labels))
    found = np.zeros((len(rows), len(numbers)), dtype=np.bool_)
    for row, (index, look) in enumerate(_last_looks(rows)):
        labels = named[index][look] if named[index] else (shards.entries[index].labels[look],)
        found[row] = np.isin(numbers, labels)
    return found, _names(shards, numbers)


def _class_counts(shards: Shards, rows: Rows) -> IntArray:
    """How many known pixels of the last look's class map have each value, shape (n, 256)."""
    member = shards.member(LABEL)
    counts = np.zeros((len(rows), N_VALUES), dtype=np.int64)
    for at, maps in _planes(shards, rows.index, rows.look[:, -1], LABEL):
        valid = member.valid(maps)
        row, value = np.nonzero(valid)[0], maps[valid]
        if len(value) and not 0 <= int(value.min()) <= int(value.max()) < N_VALUES:
            raise TrainingError(f"class maps {LABEL} hold values beyond 0 to {N_VALUES - 1}; number their classes so")
        found = np.bincount(row * N_VALUES + value.astype(np.int64), minlength=len(maps) * N_VALUES)
        counts[at] = found.reshape(len(maps), N_VALUES)
    return counts


def _last_looks(rows: Rows) -> list[tuple[int, int]]:
    return list(zip(rows.index.tolist(), rows.look[:, -1].tolist(), strict=True))


def _class_numbers(shards: Shards, found: Iterable[int]) -> IntArray:
    """All classes that have a name or are found, in order; 0 is none."""
    named = {int(number) for number in shards.notes.get("label_names", {})}
    return np.array(sorted((named | set(found)) - {0}), dtype=np.int64)


def _names(shards: Shards, numbers: IntArray) -> tuple[str, ...]:
    names = shards.notes.get("label_names", {})
    return tuple(str(names.get(str(number), number)) for number in numbers.tolist())


def _positions(values: IntArray, numbers: IntArray) -> IntArray:
    """Where in the ascending numbers each value is, -1 where it is not."""
    if not len(numbers):
        return np.full(values.shape, -1, dtype=np.int64)
    at = np.searchsorted(numbers, values).clip(max=len(numbers) - 1)
    return np.where(numbers[at] == values, at, -1).astype(np.int64)


# ------------------------------------------------------------------------------------------------ maps of classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """Class maps of n rows."""

    values: NDArray[np.uint8]
    """Positions in the names, shape (n, H, W), on the grid of the member; `UNKNOWN` where not known."""
    names: tuple[str, ...]


def target_of(shards: Shards, wanted: str | None) -> str:
    """The member with the class maps: the one wanted, else `label`, else the only one there is besides `scl`.

    Raises TrainingError that lists those there are.
    """
    planes = [name for name, member in shards.members.items() if member.plane]
    if wanted is not None:
        if wanted not in planes:
            raise TrainingError(f"no class maps {wanted!r} in these shards; they hold {', '.join(planes) or 'none'}")
        return wanted
    others = [name for name in planes if name != MEMBERS["scl"].name]
    if LABEL in others:
        return LABEL
    if len(others) != 1:
        what = f"{len(others)} members with class maps: {', '.join(others)}; name one with --target"
        raise TrainingError(f"these shards hold {what if others else 'no class maps; cut them with labels or masks'}")
    return others[0]


def maps_of(shards: Shards, rows: Rows, target: str) -> Maps:
    """The class map of the last look of each row; unknown everywhere where the look has none.

    The names of `label` are those of the land classes; other values are called as they are. Every value of any row has
    a class. Raises TrainingError for more than 255 of them.
    """
    member = shards.member(target)
    stored = np.zeros((len(rows), *member.shape(shards.size_px)), dtype=member.dtype)
    known = np.zeros(stored.shape, dtype=np.bool_)
    for at, maps in _planes(shards, rows.index, rows.look[:, -1], target):
        stored[at], known[at] = maps, member.valid(maps)
    numbers, names = _map_classes(shards, target, np.unique(stored[known]).astype(np.int64))
    if len(numbers) > UNKNOWN:
        raise TrainingError(f"class maps {target} hold {len(numbers)} different values; expected at most {UNKNOWN}")
    values = np.full(stored.shape, UNKNOWN, dtype=np.uint8)
    for row in range(len(rows)):
        at = _positions(stored[row].astype(np.int64), numbers)
        values[row] = np.where(known[row] & (at >= 0), at, UNKNOWN)
    return Maps(values=values, names=names)


def _map_classes(shards: Shards, target: str, found: IntArray) -> tuple[IntArray, tuple[str, ...]]:
    """The numbers of the classes that class maps hold, ascending, and their names.

    Land classes are all that have a name, and 0 is none of them. Other maps have the classes that are found, called as
    they are; those of a mask, 0 and one other, are called by what it is of: `no water` and `water` of `mask-water`.
    """
    if shards.member(target).units == MEMBERS["label"].units:
        numbers = _class_numbers(shards, found.tolist())
        return numbers, _names(shards, numbers)
    if len(found) == 2 and found[0] == 0:
        thing = target.removeprefix("mask-")
        return found, (f"no {thing}", thing)
    return found, tuple(str(number) for number in found.tolist())


def change_maps_of(shards: Shards, rows: Rows, target: str) -> Maps:
    """What changed between the two looks of each row: `unchanged` and `changed`.

    Where both looks have a class map: where these differ. Where only the later one has, it is taken as a mask of what
    changed: where it is above 0. Unknown where a map is, or where the later look has none.
    """
    member = shards.member(target)
    size = member.shape(shards.size_px)
    earlier, later = (np.zeros((len(rows), *size), dtype=member.dtype) for _ in range(2))
    there = np.zeros((2, len(rows)), dtype=np.bool_)
    for moment, (stored, look) in enumerate(zip((earlier, later), rows.look.T, strict=True)):
        for at, maps in _planes(shards, rows.index, look, target):
            stored[at], there[moment, at] = maps, True
    values = np.full(later.shape, UNKNOWN, dtype=np.uint8)
    for row in np.flatnonzero(there[1]).tolist():
        both = bool(there[0, row])
        changed = later[row] != earlier[row] if both else later[row] > 0
        known = member.valid(later[row]) & (member.valid(earlier[row]) if both else True)
        values[row] = np.where(known, changed, UNKNOWN)
    return Maps(values=values, names=("unchanged", "changed"))


def _planes(
    shards: Shards, index: IntArray, look: IntArray, target: str
) -> Iterator[tuple[IntArray, NDArray[np.generic]]]:
    """The stored class maps of those of the looks that have them: positions (b,), maps (b, H, W), part by part."""
    member: Member = shards.member(target)
    if not member.plane:
        raise TrainingError(f"member {target} holds bands, not classes; choose a member with class maps")
    there = np.flatnonzero(_having(shards, [target])[index, look])
    if not len(there):
        return
    items = np.column_stack([index[there], look[there]])
    done = 0
    for batch in shards.batches(_MAPS_AT_ONCE, [target], items=items, shuffle=None, drop_last=False):
        count = len(batch["index"])
        yield there[done : done + count], batch[target]
        done += count
