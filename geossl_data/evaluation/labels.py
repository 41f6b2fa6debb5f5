"""What the looks of rows are labelled with: classes, several of them, maps of classes, maps of what changed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import TrainingError
from geossl_data.evaluation.rows import Rows, having
from geossl_data.shards.reading.shards import Shards

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

UNKNOWN = 255
"""In class maps: nobody knows which class the pixel is."""
N_VALUES = 256
"""Values that a class may have in a map of several classes a look."""
LABEL = MEMBERS["label"].name
_MAPS_AT_ONCE = 256


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
    there = np.flatnonzero(having(shards, [target])[index, look])
    if not len(there):
        return
    items = np.column_stack([index[there], look[there]])
    done = 0
    for batch in shards.batches(_MAPS_AT_ONCE, [target], items=items, shuffle=None, drop_last=False):
        count = len(batch["index"])
        yield there[done : done + count], batch[target]
        done += count
