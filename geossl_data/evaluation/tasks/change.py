"""What changed between two looks: a light decoder on the differences of two frozen pyramids, as in CACo's protocol."""

from collections.abc import Iterator, Sequence

import numpy as np

from geossl_data.errors import NothingToJudge
from geossl_data.evaluation.bench import Bench, Found
from geossl_data.evaluation.decoders import ChangeHead
from geossl_data.evaluation.labels import change_maps_of, target_of
from geossl_data.evaluation.metrics import Detection, Metric, Overlap
from geossl_data.evaluation.rows import sides_of
from geossl_data.evaluation.tasks.dates import pairs
from geossl_data.evaluation.tasks.dense import FloatArray, judged_maps

BALANCE = 0.5
"""Changed pixels are few. Weighed like the inverse root of their frequency they are neither left out, as with equal
weights, nor found wherever they might be, as with weights that make both classes equal."""


def change(bench: Bench) -> Iterator[Found]:
    """F1, precision, recall and IoU of the changed pixels between two looks of a place that lie years apart.

    A pixel is told changed where that is the likelier (threshold 0.5), by a cross-entropy with weights (`BALANCE`).
    All combinations of sensors teach and judge on the same pairs. Raises TrainingError without two looks and maps of
    a place, NothingToJudge where no pixel has changed.
    """
    target = target_of(bench.shards, bench.options.target)
    rows = pairs(bench)
    sides = sides_of(bench.shards, rows)
    maps = change_maps_of(bench.shards, rows, target)
    for positions, what in ((sides.train, "train"), (sides.test, sides.judged)):
        if not np.any(maps.values[positions] == 1):
            raise NothingToJudge(f"no pixel of {target} changed between two looks of a place of the {what} split")

    def metrics(confusion: FloatArray) -> Sequence[Metric]:
        return [
            Detection(name="F1", kind="F1", confusion=confusion),
            Detection(name="precision", kind="precision", confusion=confusion),
            Detection(name="recall", kind="recall", confusion=confusion),
            Overlap(name="IoU changed", confusion=confusion, of=1),
        ]

    yield from judged_maps(bench, rows, sides, maps, ChangeHead, metrics, balance=BALANCE)
