"""Which classes a look shows: several a look, from its class map or from a table.

A class that no train look has is scored alike for all looks, so that its average precision is its share. Looks
without any class are not labelled and left out.
"""

from collections.abc import Iterator

import numpy as np

from geossl_data.bands import MEMBERS
from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found
from geossl_data.evaluation.labels import class_sets_of
from geossl_data.evaluation.metrics import MeanPrecision
from geossl_data.evaluation.tasks.answers import BoolArray, Question, answers, looks, sided


def missing(bench: Bench) -> str | None:
    """What the shards lack to be asked for sets of classes; None where nothing."""
    named = any(any(getattr(entry, "labels_more", ())) for entry in bench.shards.entries)
    if named or MEMBERS["label"].name in bench.shards.members:
        return None
    return "looks of these shards have at most one class each; several need a class map, or names separated by |"


def sets(bench: Bench) -> Question:
    """The classes of every look of both sides; TrainingError without, and as `rows.sides_of`."""
    lacking = missing(bench)
    if lacking:
        raise TrainingError(lacking)
    rows = looks(bench)
    found, names = class_sets_of(bench.shards, rows)
    labelled: BoolArray = np.any(found, axis=1)
    sides, both = sided(bench, rows.taken(labelled))
    return Question(kind="multi", sides=sides, targets=found[labelled][both], outputs=len(names))


def multilabel(bench: Bench) -> Iterator[Found]:
    """Mean average precision over the classes of kNN, ridge and swept linear probes, and of end-to-end training."""
    question = sets(bench)
    truth = question.targets[question.sides.test]
    for answer in answers(bench, question, ("knn", "ridge", "linear")):
        known = question.targets[answer.taught].any(axis=0)
        scores = np.where(known, answer.responses, 0.0)
        yield answer.found(MeanPrecision(name="mAP", scores=scores, truth=truth, group=question.sides.group))
