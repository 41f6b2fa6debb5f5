"""The class of every pixel: a light decoder on frozen encoders, fine-tuning, and the same shape from scratch."""

from collections.abc import Iterator, Sequence

import numpy as np

from geossl_data.evaluation.bench import Bench, Found
from geossl_data.evaluation.decoders import MapHead
from geossl_data.evaluation.labels import maps_of, target_of
from geossl_data.evaluation.metrics import Metric, Overlap, Share
from geossl_data.evaluation.rows import looks_of, sides_of
from geossl_data.evaluation.tasks.dense import FloatArray, judged_maps


def segmentation(bench: Bench) -> Iterator[Found]:
    """mIoU over the classes that the judged maps hold, IoU of each class, and the share of pixels told right.

    All combinations of sensors teach and judge on the same looks: those with all the members that any of them reads.
    Fine-tuned is the judged encoder alone; its counterpart without pretraining is the supervised one.
    Raises TrainingError without class maps, or without a look that has all members.
    """
    target = target_of(bench.shards, bench.options.target)
    members = [name for shown in bench.shown for name in bench.members(shown)]
    rows = looks_of(bench.shards, list(dict.fromkeys([*members, target])))
    sides = sides_of(bench.shards, rows)
    maps = maps_of(bench.shards, rows, target)

    def metrics(confusion: FloatArray) -> Sequence[Metric]:
        judged = np.flatnonzero(confusion.sum(axis=(0, 2)) > 0).tolist()
        right = np.diagonal(confusion, axis1=1, axis2=2).sum(axis=1)
        return [
            Overlap(name="mIoU", confusion=confusion),
            *(Overlap(name=f"IoU {maps.names[one]}", confusion=confusion, of=one) for one in judged),
            Share(name="pixel accuracy", hits=right, counts=confusion.sum(axis=(1, 2))),
        ]

    yield from judged_maps(bench, rows, sides, maps, MapHead, metrics)
