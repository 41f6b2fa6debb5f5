"""Where on Earth a look was taken, told from its pixels: how far off, in km.

Places are directions from the centre of the Earth, so that no meridian and no pole is special. The judged places lie
in other blocks than those that teach: what is asked is whether near ground looks alike, not whether ground is known.
"""

from collections.abc import Iterator

import numpy as np

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found
from geossl_data.evaluation.metrics import Median, Metric, Share
from geossl_data.evaluation.tasks.answers import BoolArray, FloatArray, Question, answers, looks, sided
from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors


def missing(bench: Bench) -> str | None:
    """What the shards lack to be asked where looks were taken; None where nothing."""
    known = np.isfinite(bench.shards.facts.lonlat).all(axis=1)
    return None if known.any() else "nothing says where these looks were taken; give lon and lat of the images"


def positions(bench: Bench) -> Question:
    """The direction of every look of both sides that lies somewhere; TrainingError without, as `rows.sides_of`."""
    lacking = missing(bench)
    if lacking:
        raise TrainingError(lacking)
    rows = looks(bench)
    lonlat = bench.shards.facts.lonlat
    known: BoolArray = np.all(np.isfinite(lonlat[rows.index]), axis=1)
    rows = rows.taken(known)
    sides, both = sided(bench, rows)
    lon, lat = lonlat[rows.index[both]].T
    return Question(kind="vector", sides=sides, targets=unit_vectors(lon, lat), outputs=3)


def geolocation(bench: Bench) -> Iterator[Found]:
    """Median and mean error of kNN (mean direction of the neighbours), ridge, end-to-end training and of a guess.

    The guess, features `none`, is the middle of the train places.
    """
    question = positions(bench)
    yield from _guesses(bench, question)
    for answer in answers(bench, question, ("knn", "ridge")):
        for metric in _metrics(question, answer.responses):
            yield answer.found(metric)


def error_km(told: FloatArray, truth: FloatArray) -> FloatArray:
    """Great-circle distance between directions, km, (n,).

    told: any length, (n, 3); where it is 0 it says nothing, which is a quarter of the way around the Earth off: the
    mean distance of a guess. truth: unit vectors.
    """
    along = np.sum(told * truth, axis=1)
    across = np.linalg.norm(np.cross(told, truth), axis=1)
    silent = (along == 0) & (across == 0)
    return np.where(silent, np.pi / 2, np.arctan2(across, along)) * EARTH_RADIUS_KM


def _guesses(bench: Bench, question: Question) -> Iterator[Found]:
    for fraction in bench.options.fractions:
        for seed in bench.seeds() if fraction < 1 else bench.seeds()[:1]:
            taught = question.share(fraction, seed)
            middle = np.tile(question.targets[taught].mean(axis=0), (len(question.sides.test), 1))
            for metric in _metrics(question, middle):
                yield Found(
                    features="none",
                    encoder="random",
                    probe="mean place",
                    metric=metric,
                    fraction=fraction,
                    seed=seed,
                    n_train=question.sides.places(taught),
                    n_test=question.sides.groups,
                )


def _metrics(question: Question, told: FloatArray) -> tuple[Metric, ...]:
    sides = question.sides
    error = error_km(told, question.targets[sides.test])
    return (
        Median(name="median km", values=error, group=sides.group),
        Share(name="mean km", hits=sides.sums(error), counts=sides.sums(np.ones(len(error)))),
    )
