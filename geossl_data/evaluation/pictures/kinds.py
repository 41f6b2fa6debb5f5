"""Places that look alike on a map: by split, or by stratum and split."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geossl_data.evaluation.coverage import Drawing
from geossl_data.evaluation.pictures.canvas import OTHERS, PLAIN
from geossl_data.records import SPLITS

SPLIT_COLOURS = {"train": "#004488", "val": "#DDAA33", "test": "#BB5566"}
"""Tol's high-contrast scheme, apart in grey too."""
STRATUM_COLOURS = (
    "#332288",
    "#DDCC77",
    "#CC6677",
    "#117733",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
)
"""Tol's muted scheme: the commonest strata; further ones share OTHERS."""
MARKERS = {"train": "o", "val": "^", "test": "s"}
MOST_MARKED = 1500
"""Places up to which a map of strata tells splits too, by the shape of the marker."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Places that look alike."""

    name: str
    colour: str
    rows: BoolArray = field(repr=False)
    marker: str = "o"


def by_split(drawing: Drawing) -> list[Kind]:
    """A kind for each split, train first; one for all places where nothing is split."""
    if drawing.split is None:
        return [Kind(name="places", colour=PLAIN, rows=np.ones(len(drawing), dtype=bool))]
    found = [name for name in SPLITS if (drawing.split == name).any()]
    others = sorted(set(np.unique(drawing.split).tolist()) - set(SPLITS))
    return [
        Kind(
            name=name,
            colour=SPLIT_COLOURS.get(name, OTHERS),
            rows=drawing.split == name,
            marker=MARKERS.get(name, "o"),
        )
        for name in (*found, *others)
    ]


def by_stratum(drawing: Drawing) -> list[Kind]:
    """A kind for each of the commonest strata and one for all others; each by split too where places are few."""
    names, counts = np.unique(drawing.stratum, return_counts=True)
    ordered = names[np.argsort(-counts, kind="stable")].tolist()
    shown = ordered[: len(STRATUM_COLOURS)]
    kinds = [
        Kind(name=name or "(none)", colour=colour, rows=drawing.stratum == name)
        for name, colour in zip(shown, STRATUM_COLOURS, strict=False)
    ]
    rest = len(ordered) - len(shown)
    if rest:
        kinds.append(Kind(name=f"{rest} others", colour=OTHERS, rows=~np.isin(drawing.stratum, shown)))
    if drawing.split is None or len(drawing) > MOST_MARKED:
        return kinds
    return [
        Kind(name=kind.name, colour=kind.colour, rows=kind.rows & (drawing.split == split), marker=marker)
        for kind in kinds
        for split, marker in MARKERS.items()
    ]


def tells_splits(kinds: Sequence[Kind]) -> bool:
    """Whether one colour comes in several shapes."""
    return len({kind.name for kind in kinds}) < len(kinds)
