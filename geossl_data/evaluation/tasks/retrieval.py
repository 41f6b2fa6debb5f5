"""Looks of a class found by a look of it: the judged looks ask, the train looks are searched, by cosine.

A train look of the query's class is relevant. A look of the query's own place never counts: finding the same ground
again is not finding the class. Queries whose class no train look has are left out, and counted in the log.
"""

import logging
from collections.abc import Iterator

import numpy as np

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found, Kind, Shown
from geossl_data.evaluation.metrics import Metric, Share
from geossl_data.evaluation.tasks.answers import FloatArray, Question, end_to_end, side_by_side
from geossl_data.evaluation.tasks.classification import FIRST, classes, found_by_class

_LOG = logging.getLogger(__name__)


def retrieval(bench: Bench) -> Iterator[Found]:
    """mAP and AP@10 of the queries by features of trained and random encoders, and of those trained end-to-end.

    mAP: mean over the queries of the average precision of the whole ranking; AP@10: mean over the queries of the
    precision among the first ten. Nothing is learnt, so there is no share of labels: what is trained end-to-end has
    all of them. The places that are searched are given as those that teach.
    Raises TrainingError where no query has anything to find.
    """
    question = classes(bench)
    sides, label = question.sides, question.targets
    lost = int((~np.isin(label[sides.test], label[sides.train])).sum())
    if lost == len(sides.test):
        raise TrainingError(f"none of the classes of the {lost} judged looks is among the train looks; sample again")
    if lost:
        _LOG.warning("%d of %d queries are left out: no train look has their class", lost, len(sides.test))
    kinds: tuple[Kind, ...] = ("trained", "random", *(("supervised",) if bench.options.supervised else ()))
    for shown in bench.shown:
        for kind in kinds:
            for seed in bench.seeds() if kind != "trained" else bench.seeds()[:1]:
                for metric in _metrics(question, *_rankings(bench, question, kind, shown, seed)):
                    yield Found(
                        features="+".join(shown),
                        encoder=kind,
                        probe="cosine",
                        metric=metric,
                        fraction=1.0,
                        seed=seed,
                        n_train=sides.places(sides.train),
                        n_test=sides.groups,
                    )


def _rankings(bench: Bench, question: Question, kind: Kind, shown: Shown, seed: int) -> tuple[FloatArray, FloatArray]:
    """Average precision and precision among the first of each query."""
    sides = question.sides
    if kind == "supervised":
        found = end_to_end(bench, question, shown, question.share(1.0, seed), seed)
        return found["precision"], found["first"]
    x = side_by_side(bench.features(kind, shown, seed, sides.rows)[:, 0], bench.sight(kind, shown, seed).embedding_dims)
    return found_by_class(x, question.targets, sides.rows.place, sides.train, sides.test)


def _metrics(question: Question, precision: FloatArray, first: FloatArray) -> tuple[Metric, ...]:
    """Means over the queries that have something to find; every place stays, also one whose queries have nothing."""
    sides, asked = question.sides, ~np.isnan(precision)
    return tuple(
        Share(name=name, hits=sides.sums(np.where(asked, values, 0.0)), counts=sides.sums(asked))
        for name, values in (("mAP", precision), (f"AP@{FIRST}", first))
    )
