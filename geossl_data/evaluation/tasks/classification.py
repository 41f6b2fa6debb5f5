"""Land class, or whatever else looks are labelled with: one class a look.

Probes learn the classes of the train looks and are judged on those of the test looks. A class that no train look has,
or none of the share that teaches, is never answered, and its judged looks count as wrong.
"""

from collections.abc import Iterator

import numpy as np

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found
from geossl_data.evaluation.labels import classes_of
from geossl_data.evaluation.metrics import Metric, accuracy_of, balanced_of
from geossl_data.evaluation.tasks.answers import FloatArray, IntArray, Question, answers, looks, sided
from geossl_data.evaluation.tasks.ranking import Looks, class_rankings

FIRST = 10
"""Of a ranking, those that precision is told of."""


def missing(bench: Bench) -> str | None:
    """What the shards lack to be asked for classes; None where nothing."""
    numbers = {label for entry in bench.shards.entries for label in entry.labels} - {0}
    if len(numbers) >= 2:
        return None
    found = "no labels" if not numbers else "labels of one class alone"
    return f"{found} in these shards; classes need a catalog with a land-class map, or own images with a column label"


def classes(bench: Bench) -> Question:
    """The class of every labelled look of both sides.

    Encoders that are trained with the labels are also measured by how well their features find looks of a class:
    `precision` and `first`, of each look that judges, as `ranking.class_rankings` gives them.
    Raises TrainingError without classes, and as `rows.sides_of`.
    """
    lacking = missing(bench)
    if lacking:
        raise TrainingError(lacking)
    rows = looks(bench)
    label, names = classes_of(bench.shards, rows)
    sides, both = sided(bench, rows.taken(label >= 0))
    targets = label[label >= 0][both]

    def rankings(x: FloatArray) -> dict[str, FloatArray]:
        precision, first = found_by_class(x, targets, sides.rows.place, sides.train, sides.test)
        return {"precision": precision, "first": first}

    return Question(kind="class", sides=sides, targets=targets, outputs=len(names), measure=rankings)


def found_by_class(
    x: FloatArray, label: IntArray, place: IntArray, gallery: IntArray, queries: IntArray
) -> tuple[FloatArray, FloatArray]:
    """How well some rows find those of their class among others, by position: see `ranking.class_rankings`."""
    shown, searched = (Looks(x=x[side], place=place[side]) for side in (queries, gallery))
    return class_rankings(shown, label[queries], searched, label[gallery], k=FIRST)


def classification(bench: Bench) -> Iterator[Found]:
    """Accuracy and balanced accuracy of kNN, ridge and swept linear probes, of end-to-end training and of a guess.

    The guess, features `none`, answers the most frequent class of the train looks.
    """
    question = classes(bench)
    yield from _guesses(bench, question)
    for answer in answers(bench, question, ("knn", "ridge", "linear")):
        known = np.unique(question.targets[answer.taught])
        told = known[answer.responses[:, known].argmax(axis=1)]
        for metric in _metrics(question, told):
            yield answer.found(metric)


def _guesses(bench: Bench, question: Question) -> Iterator[Found]:
    for fraction in bench.options.fractions:
        for seed in bench.seeds() if fraction < 1 else bench.seeds()[:1]:
            taught = question.share(fraction, seed)
            most = int(np.bincount(question.targets[taught]).argmax())
            for metric in _metrics(question, np.full(len(question.sides.test), most)):
                yield Found(
                    features="none",
                    encoder="random",
                    probe="majority class",
                    metric=metric,
                    fraction=fraction,
                    seed=seed,
                    n_train=question.sides.places(taught),
                    n_test=question.sides.groups,
                )


def _metrics(question: Question, told: IntArray) -> tuple[Metric, ...]:
    sides = question.sides
    truth = question.targets[sides.test]
    return tuple(metric(told, truth, sides.group, sides.groups) for metric in (accuracy_of, balanced_of))
