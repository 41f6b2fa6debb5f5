"""Some looks of a dataset as one exported encoder sees them: a row of features for each.

torch is imported inside, so that the rest of a page can be made without it.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.evaluation.rows import Rows, looks_of
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

_LOOKS = 37
"""Key of the generator that draws looks, beside those of other parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """n looks and their embeddings."""

    sensors: str
    """What the encoder was shown of them, as in `s2` or `s1+s2`."""
    members: tuple[str, ...]
    """Of the shards, those that were read."""
    rows: Rows
    x: NDArray[np.float32]
    """Shape (n, d)."""


def torch_is_installed() -> bool:
    """Whether encoders can be loaded here."""
    return importlib.util.find_spec("torch") is not None


def embedded(
    encoder: Path, shards: Shards, *, looks: int, seed: int, cache: Path | None, progress: Progress = silent
) -> Embedded:
    """At most so many looks of the shards as an exported encoder sees them, shown all of its sensors that are there.

    cache: folder in which features are kept for the next time. Raises TrainingError for a file that is no encoder, or
    one that sees nothing of these shards, ShardError where they are damaged.
    """
    from geossl_data.evaluation.features import features
    from geossl_data.evaluation.probes import loaded
    from geossl_data.evaluation.sight import shown_by, sight_of
    from geossl_data.pretrain.batches import chosen_device

    device = chosen_device("auto")
    judged = loaded([encoder], device)
    shown = shown_by([info for _, info in judged], shards)[-1]
    sight = sight_of(judged, shards, shown, device=device)
    rows = drawn(looks_of(shards, sight.members), looks, seed=seed)
    if not len(rows):
        raise TrainingError(f"no look of these shards has {' and '.join(sight.members)}")
    found = features({"it": sight}, shards, rows.order, device=device, cache=cache, progress=progress)
    return Embedded(sensors="+".join(shown), members=sight.members, rows=rows, x=found["it"])


def drawn(rows: Rows, most: int, *, seed: int) -> Rows:
    """At most so many of the rows, in their order: those of test and val before those of train.

    Within these, one look of each place before a second look of any.
    """
    order = np.random.default_rng((seed, _LOOKS)).permutation(len(rows))
    place = rows.place[order]
    by_place = np.argsort(place, kind="stable")
    together = place[by_place]
    nth = np.empty(len(rows), dtype=np.int64)
    nth[by_place] = np.arange(len(rows)) - np.searchsorted(together, together)
    first = np.lexsort((nth, rows.split[order] == "train"))[:most]
    return rows.taken(np.sort(order[first]))
