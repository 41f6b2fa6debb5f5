"""A folder with a folder of images for each class: the rows that a table of it would have, and their splits.

Every image is a place of its own with one look, whose class is the name of its folder.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from geossl_data.errors import DatasetError
from geossl_data.records import Split
from geossl_data.sampling.splits import SplitRule
from geossl_data.shards.writing.own.table import Row, class_of
from geossl_data.tiles.own import path_below

RADAR_BANDS = frozenset({"VV", "VH", "HH", "HV"})


def read_classes(folder: Path, root: Path, bands: Sequence[str] = ()) -> list[Row]:
    """A row for each file in the folders below `folder`, in the order of their paths; hidden ones are left out.

    root: what the paths of the rows are relative to and may not leave. bands: names of the bands of every image; those
    of radar make the sensor s1, all others s2. A place is called as its file, or with the class before it where two
    classes have a file of that name. What is no image is found out when it is looked at.
    Raises DatasetError in one line: no folder with files in it, a folder in the folder of a class, a class that is no
    name.
    """
    paths = [path for each in _entries(folder) if each.is_dir() for path in _entries(Path(each.path))]
    if not paths:
        raise DatasetError(f"{folder}: no folder of images in it; expected one for each class, named like the class")
    for each in paths:
        if each.is_dir():
            raise DatasetError(
                f"{each.path}: a folder in the folder of a class, where images are expected; name the folder that "
                "holds the classes, or write a table"
            )
    stems = Counter(Path(each.name).stem for each in paths)
    sensor = "s1" if bands and RADAR_BANDS.issuperset(bands) else "s2"
    rows = []
    for each in paths:
        path = Path(each.path)
        unique = stems[path.stem] == 1
        rows.append(
            Row(
                line=0,
                place=path.stem if unique else f"{path.parent.name}/{path.name}",
                sensor=sensor,
                path=path_below(root, os.path.abspath(each.path)),  # noqa: PTH100 - keeps links
                time=None,
                look=0,
                split=None,
                label=_class(path.parent),
                lon=None,
                lat=None,
                bands=tuple(bands),
            )
        )
    return rows


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    """What lies in a folder, hidden files left out, in the order of the names."""
    try:
        with os.scandir(folder) as found:
            return sorted((each for each in found if not each.name.startswith(".")), key=lambda each: each.name)
    except OSError as error:
        raise DatasetError(f"{folder}: the folder cannot be read: {error.strerror or 'unknown'}") from None


def _class(folder: Path) -> str:
    try:
        return class_of(folder.name)
    except ValueError:
        raise DatasetError(
            f"{folder}: {folder.name[:60]!r} is no name of a class: those that are numbers are counted from 1"
        ) from None


def stratified_splits(classes: Mapping[str, int], rule: SplitRule) -> dict[str, Split]:
    """The split of each place, so that every class has the rule's shares of its places, to the nearest whole one.

    classes: the class of each place. Which places they are follows from the seed and their names, not from their order.
    A class is never without a place to train on.
    """
    places: defaultdict[int, list[str]] = defaultdict(list)
    for place in sorted(classes, key=lambda place: _rank(place, rule.seed)):
        places[classes[place]].append(place)
    splits: dict[str, Split] = {}
    for own in places.values():
        n_test = min(len(own) - 1, _nearest(rule.test * len(own)))
        n_judged = max(n_test, min(len(own) - 1, _nearest((rule.test + rule.val) * len(own))))
        for number, place in enumerate(own):
            splits[place] = "test" if number < n_test else "val" if number < n_judged else "train"
    return splits


def _nearest(value: float) -> int:
    # Shares such as 0.1 + 0.2 are a little above or below what is meant.
    return int(value + 0.5 + 1e-9)


def _rank(place: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{place}".encode()).digest()
