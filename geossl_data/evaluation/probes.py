"""What an encoder is worth: the tasks of `evaluation.tasks`, beside a random and a supervised encoder of its shape."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from geossl_data.errors import NothingToJudge, TrainingError
from geossl_data.evaluation.bench import Bench, Found, ProbeOptions
from geossl_data.evaluation.bootstrap import Estimate, estimate
from geossl_data.evaluation.scores import Score, Scores, score_of, stacked
from geossl_data.evaluation.tasks import TASKS, possible
from geossl_data.pretrain.batches import chosen_device
from geossl_data.pretrain.encoders import Encoder
from geossl_data.pretrain.export import EncoderInfo, load_encoder
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

ALL = "all"
CACHE = "features"
"""Folder of a dataset that features and the like are kept in; safe to delete."""


def evaluate(
    shards: Shards,
    encoders: Sequence[Path],
    tasks: Sequence[str] = ("classification",),
    options: ProbeOptions | None = None,
    *,
    out: Path,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Scores:
    """Judge exported encoders by labelled shards, all splits of them; writes scores.json and bootstrap.npz into `out`.

    encoders: files of one run, each sensor seen by one of them. tasks: names of `TASKS`; `all`: those that the labels
    allow. The train split teaches, the test split (val where no place was kept for testing) judges. A task with nothing
    to judge, as change where nothing changed, is left out with a warning; alone it raises NothingToJudge.
    cache: folder in which what takes long is kept for other evaluations on the same shards.
    Raises TrainingError for a file that is no encoder, for sensors that no encoder sees, for a task that the labels do
    not allow, and where a place or block of ground is on both sides.
    """
    options = options or ProbeOptions()
    device = chosen_device(options.device)
    bench = Bench(shards, loaded(encoders, device), options, device=device, cache=cache, progress=progress)
    rows: list[tuple[Score, Estimate]] = []
    names = list(possible(bench)) if ALL in tasks else list(dict.fromkeys(tasks))
    if not names:
        raise TrainingError("no task can be judged by these shards: they hold neither labels, maps, dates nor places")
    judged = []
    for name in names:
        if name not in TASKS:
            raise TrainingError(f"no task {name!r}; there are {', '.join(TASKS)} and {ALL}")
        try:
            found = list(TASKS[name](bench))
        except NothingToJudge as error:
            if len(names) == 1:
                raise
            _LOG.warning("%s is left out: %s", name, error)
            continue
        judged.append(name)
        # One seed for all: cells of a sweep draw the same places.
        rows += summed_up(name, found, seed=0)
    if not judged:
        raise NothingToJudge(f"nothing to judge by {', '.join(names)}")
    scores = Scores(
        scores=tuple(row for row, _ in rows),
        facts=_facts(bench, encoders, judged, [row for row, _ in rows]),
        replicates=stacked(estimated for _, estimated in rows),
    )
    out.mkdir(parents=True, exist_ok=True)
    scores.write(out)
    return scores


def summed_up(task: str, found: Sequence[Found], seed: int) -> list[tuple[Score, Estimate]]:
    """A score, with its estimate, for each thing found with whatever seeds, in the order in which they were found."""

    def what(one: Found) -> tuple[Any, ...]:
        return (one.features, one.encoder, one.probe, one.metric.name, one.fraction)

    order = {key: number for number, key in enumerate(dict.fromkeys(what(one) for one in found))}
    rows = []
    for _, same in groupby(sorted(found, key=lambda one: order[what(one)]), key=what):
        several = list(same)
        estimated = estimate([one.metric for one in several], seed=seed)
        one = several[0]
        facts = {
            "task": task,
            "features": one.features,
            "encoder": one.encoder,
            "probe": one.probe,
            "metric": one.metric.name,
            "fraction": one.fraction,
            "seeds": len(several),
            "n_train": one.n_train,
            "n_test": one.n_test,
        }
        rows.append((score_of(facts, estimated), estimated))
    return rows


def exported(run: Path) -> list[Path]:
    """The encoders that a run has exported; TrainingError where there are none."""
    found = sorted((run / "exported").glob("*.safetensors"))
    if not found:
        raise TrainingError(f"{run}: no exported encoder; finish the run with `geossl pretrain`")
    return found


def loaded(paths: Sequence[Path], device: torch.device) -> list[tuple[Encoder, EncoderInfo]]:
    """Encoders with what they expect to see; TrainingError where a sensor is seen by several of them."""
    found = [load_encoder(path, device) for path in paths]
    seen: dict[str, Path] = {}
    for path, (_, info) in zip(paths, found, strict=True):
        for sensor in info.sensors:
            if sensor in seen:
                raise TrainingError(
                    f"{seen[sensor]} and {path} are both encoders of {sensor}, expected one; name one of them, or "
                    "train with --fresh"
                )
            seen[sensor] = path
    return found


def _facts(bench: Bench, encoders: Sequence[Path], tasks: Sequence[str], rows: Sequence[Score]) -> dict[str, Any]:
    """What was judged, with what, on what."""
    return {
        "encoders": [path.name for path in encoders],
        "architecture": sorted({info.encoder for info in bench.infos}),
        "objective": sorted({info.objective for info in bench.infos}),
        "tasks": list(tasks),
        "places": {
            "train places": max((row.n_train for row in rows), default=0),
            "judged places": max((row.n_test for row in rows), default=0),
        },
        "shards": bench.shards.notes.get("fingerprint"),
        "options": json.loads(json.dumps(asdict(bench.options))),
    }
