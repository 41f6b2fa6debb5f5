"""A place found by what another sensor saw of it: from Sentinel-1 to Sentinel-2, and back.

Features of the two sensors lie in different spaces. A ridge regression learns, from train looks that both saw, what
the other sensor's features are; the judged looks are then compared by cosine. The pairing of the sensors is all the
label there is: an encoder cannot be trained with it and be no pretraining, so nothing is supervised here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found, Kind, Shown
from geossl_data.evaluation.classifiers import ridge_responses, standardised
from geossl_data.evaluation.metrics import Share
from geossl_data.evaluation.rows import share_of
from geossl_data.evaluation.tasks.answers import FloatArray, Sided, looks, sided
from geossl_data.evaluation.tasks.ranking import Looks, recall_at

Features = NDArray[np.floating[Any]]

KS = (1, 5, 10)
"""Among so many a look of the place has to be."""


def missing(bench: Bench) -> str | None:
    """What is lacking to look from one sensor to another; None where nothing."""
    alone = [shown[0] for shown in bench.shown if len(shown) == 1]
    if len(alone) >= 2:
        return None
    return f"cross-sensor retrieval needs two sensors; these encoders and shards share {', '.join(alone)} alone"


def aligned(
    train_from: Features, train_to: Features, test_from: Features, test_to: Features, *, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """Judged looks of one sensor and of the other in one space, two arrays (m, d): that of the other, standardised.

    train_from (n, c) and train_to (n, d): features of the same looks by the two sensors, which a ridge regression
    learns from; test_from (m, c), test_to (m, d): those to compare.
    """
    taught, there = standardised(train_to, test_to)
    return ridge_responses(train_from, taught, test_from, alpha=alpha), there


def cross_sensor(bench: Bench) -> Iterator[Found]:
    """recall@1, recall@5 and recall@10 in both directions, which `features` names as `s1→s2` and `s2→s1`.

    A query is found where a look of its place, of any date, is among the first of all judged looks of the other sensor.
    A share of the labels is a share of the places whose looks teach the regression. Raises TrainingError where two
    sensors are lacking, and as `rows.sides_of`.
    """
    lacking = missing(bench)
    if lacking:
        raise TrainingError(lacking)
    sides, _ = sided(bench, looks(bench))
    alone = [shown for shown in bench.shown if len(shown) == 1]
    kinds: tuple[Kind, ...] = ("trained", "random")
    for one, other in [(one, other) for one in alone for other in alone if one != other]:
        for fraction in bench.options.fractions:
            for kind in kinds:
                once = kind == "trained" and fraction >= 1
                for seed in bench.seeds()[:1] if once else bench.seeds():
                    yield from _recalls(bench, sides, (one, other), kind, fraction, seed)


def _recalls(
    bench: Bench, sides: Sided, sensors: tuple[Shown, Shown], kind: Kind, fraction: float, seed: int
) -> Iterator[Found]:
    rows, test = sides.rows, sides.test
    taught = share_of(rows, sides.train, fraction, seed=seed)
    here, there = (bench.features(kind, shown, seed, rows)[:, 0] for shown in sensors)
    queries, gallery = (
        Looks(x=x, place=rows.place[test])
        for x in aligned(here[taught], there[taught], here[test], there[test], alpha=bench.options.ridge)
    )
    found = recall_at(KS, queries, gallery)
    counts = sides.sums(np.ones(len(test)))
    for k, hits in zip(KS, found.T, strict=True):
        yield Found(
            features="→".join("+".join(shown) for shown in sensors),
            encoder=kind,
            probe="ridge",
            metric=Share(name=f"recall@{k}", hits=sides.sums(hits), counts=counts),
            fraction=fraction,
            seed=seed,
            n_train=sides.places(taught),
            n_test=sides.groups,
        )
