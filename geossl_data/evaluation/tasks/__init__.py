"""What encoders are asked downstream, by name; a task yields what it finds as it finds it."""

from collections.abc import Callable, Iterator

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found
from geossl_data.evaluation.labels import target_of
from geossl_data.evaluation.tasks import (
    change,
    classification,
    cross_sensor,
    dates,
    events,
    geolocation,
    multilabel,
    retrieval,
    segmentation,
)

Task = Callable[[Bench], Iterator[Found]]
"""Raises TrainingError, once its first result is asked for, that says what the shards lack."""

TASKS: dict[str, Task] = {
    "classification": classification.classification,
    "multilabel": multilabel.multilabel,
    "segmentation": segmentation.segmentation,
    "change": change.change,
    "retrieval": retrieval.retrieval,
    "cross-sensor": cross_sensor.cross_sensor,
    "events": events.events,
    "geolocation": geolocation.geolocation,
}


def _no_maps(bench: Bench) -> str | None:
    try:
        target_of(bench.shards, bench.options.target)
    except TrainingError as error:
        return str(error)
    return None


MISSING: dict[str, Callable[[Bench], str | None]] = {
    "classification": classification.missing,
    "multilabel": multilabel.missing,
    "segmentation": _no_maps,
    "change": dates.missing,
    "retrieval": classification.missing,
    "cross-sensor": cross_sensor.missing,
    "events": dates.missing,
    "geolocation": geolocation.missing,
}
"""What the shards or the encoders lack to be asked for a task, from the manifest alone; None where nothing."""


def possible(bench: Bench) -> tuple[str, ...]:
    """The tasks that labels and sensors allow, in the order of `TASKS`.

    How places fall on the sides is not looked at: a place on both is refused by each task, not passed over.
    """
    return tuple(name for name in TASKS if MISSING[name](bench) is None)


__all__ = ["MISSING", "TASKS", "Task", "possible"]
