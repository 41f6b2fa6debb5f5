"""A dataset's runs and evaluations → sections of its page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geossl_data.errors import DatasetError, GeosslError
from geossl_data.evaluation.scores import SCORES_NAME, Scores, read_scores
from geossl_data.progress import Progress, silent
from geossl_data.recipe import RECIPE_NAME, PretrainOptions, read_recipe
from geossl_data.report.numbers import UNKNOWN
from geossl_data.report.page import Part, Section
from geossl_data.report.parts import Table
from geossl_data.report.runs.curves import curves_of
from geossl_data.report.runs.embedded import embedded, torch_is_installed
from geossl_data.report.runs.judged import best, score_parts
from geossl_data.report.runs.log import LOG_NAME, Log, read_log
from geossl_data.report.runs.maps import Seen, seen
from geossl_data.shards.manifest import MANIFEST_NAME
from geossl_data.shards.reading.shards import Shards, open_shards

RUNS, EVALUATIONS, EXPORTED, CACHE = "runs", "evaluations", "exported", "features"
"""Folders of a dataset; see `pipeline`."""
MOST_SHOWN = 12
"""Runs with a section of their own, and evaluations likewise; a table holds all runs."""
MOST_MAPPED = 3
"""Runs whose encoders are looked at."""
MOST_OPEN = 3
"""Sections that are not folded."""
NO_TORCH = "Embeddings and neighbours are left out: torch is not installed here; `pip install geossl[train]` brings it."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What a run has left behind."""

    name: str
    log: Log | None
    options: PretrainOptions | None
    written_by: str
    """Version of geossl; empty where not known."""
    scores: Scores | None
    encoders: tuple[Path, ...]
    """Those of optical sensors first."""
    problems: tuple[str, ...] = ()
    """What of it cannot be read."""


def run_sections(folder: Path, *, looks: int = 400, seed: int = 0, progress: Progress = silent) -> list[Section]:
    """A section for each run of a dataset folder that has logged a step, and for each evaluation of other encoders.

    A run's: its options, the curves of its log, its scores beside those of a random and a supervised encoder and, of
    the first runs, a map of the embeddings of at most `looks` looks and the nearest neighbours of some. Several runs
    begin with a table of all. What cannot be read is said in the section and left out; without torch there are no
    embeddings. Nothing is written but features into the folder's cache.
    """
    runs = _runs(folder)
    mapped = _mapped(folder, runs[:MOST_SHOWN], looks, seed, progress)
    sections = [_overview(runs)] if len(runs) > 1 else []
    sections += [
        replace(_run_section(run, mapped.get(run.name)), folded=number >= MOST_OPEN)
        for number, run in enumerate(runs[:MOST_SHOWN])
    ]
    sections += [
        replace(_evaluation_section(path), folded=number >= MOST_OPEN)
        for number, path in enumerate(_folders(folder / EVALUATIONS, SCORES_NAME)[:MOST_SHOWN])
    ]
    return sections


def _folders(parent: Path, holding: str) -> list[Path]:
    """The folders with such a file, by name."""
    return sorted(path.parent for path in parent.glob(f"*/{holding}") if path.is_file())


# ------------------------------------------------------------------------------------------------ what there is


def _runs(folder: Path) -> list[_Run]:
    """The runs that have logged a step, those with scores first, then by name."""
    found = [_run(path, folder) for path in _folders(folder / RUNS, LOG_NAME)]
    known = [run for run in found if run.log is not None or run.problems]
    return sorted(known, key=lambda run: (run.scores is None, run.name))


def _run(path: Path, folder: Path) -> _Run:
    problems: list[str] = []
    log = options = scores = None
    written_by = ""
    try:
        log = read_log(path / LOG_NAME)
    except DatasetError as error:
        problems.append(_said(error, folder))
    try:
        recipe = read_recipe(path / RECIPE_NAME) if (path / RECIPE_NAME).is_file() else None
        if recipe is not None:
            options, written_by = recipe.pretrain, recipe.geossl
    except GeosslError as error:
        problems.append(_said(error, folder))
    try:
        scores = read_scores(path) if (path / SCORES_NAME).is_file() else None
    except DatasetError as error:
        problems.append(_said(error, folder))
    return _Run(
        name=path.name,
        log=log,
        options=options,
        written_by=written_by,
        scores=scores,
        encoders=tuple(
            sorted((path / EXPORTED).glob("*.safetensors"), key=lambda file: (file.stem == "s1", file.name))
        ),
        problems=tuple(problems),
    )


def _said(error: GeosslError, folder: Path) -> str:
    """An error as a page may say it: where the dataset lies on this machine is nobody else's business."""
    return str(error).replace(f"{folder}/", "")


# ------------------------------------------------------------------------------------------------ sections


def _run_section(run: _Run, mapped: "_Mapped | None") -> Section:
    parts: list[Part] = [] if run.log is None else [*curves_of(run.log)]
    if run.scores is not None:
        parts += score_parts(run.scores)
    notes = [*run.problems]
    if run.log is not None and run.log.damaged:
        notes.append(f"{run.log.damaged:,} damaged lines of the log are passed over.")
    facts = {**_facts(run), **_facts_of(run.scores)}
    if mapped is not None:
        parts += [part for one in mapped.seen for part in one.parts]
        notes += mapped.notes
        facts |= {name: value for one in mapped.seen for name, value in one.facts.items()}
    return Section(title=f"Run {run.name}", facts=facts, text="\n\n".join(notes), parts=tuple(parts))


def _facts(run: _Run) -> dict[str, object]:
    """What a run was asked to do and how far it came."""
    facts: dict[str, object] = {}
    if run.options is not None:
        given = run.options
        asked = {
            "objective": given.objective,
            "encoder": given.encoder,
            "sensors": given.sensors + (", jointly" if given.joint else ""),
            "views": given.views,
            "batch size": given.batch_size,
            "learning rate": given.learning_rate,
            "precision": given.precision,
            "device": given.device,
            "seed": given.seed,
        }
        # What was left to the method says nothing; the recipe has it.
        facts |= {name: value for name, value in asked.items() if value not in ("auto", None)}
    if run.log is not None:
        facts |= _progress_of(run.log, run.options)
    facts["encoders"] = ", ".join(path.name for path in run.encoders) or "none yet"
    if run.written_by:
        facts["written by"] = f"geossl {run.written_by}"
    return facts


def _progress_of(log: Log, options: PretrainOptions | None) -> dict[str, object]:
    epochs = log.values("epoch")
    begun = str(int(epochs[-1]) + 1) if len(epochs) else UNKNOWN
    speed, took_s = log.values("images_per_s"), log.values("step_s")
    numbers = {
        "loss, last epoch": log.last("loss"),
        "embedding spread, last epoch": log.last("spread"),
        "looks/s (median)": float(np.median(speed)) if len(speed) else math.nan,
        "seconds of training": float(took_s.sum()) if len(took_s) else math.nan,
    }
    return {
        "epochs": begun if options is None else f"{begun} of {options.epochs}",
        "steps": log.steps,
        **{name: value for name, value in numbers.items() if math.isfinite(value)},
    }


def _facts_of(scores: Scores | None) -> dict[str, object]:
    """Places that taught and judged."""
    places = {} if scores is None else scores.facts.get("places")
    if not isinstance(places, Mapping):
        return {}
    return {str(name): count for name, count in places.items() if isinstance(count, int)}


def _overview(runs: Sequence[_Run]) -> Section:
    """All runs in one table."""
    head = ("run", "objective", "encoder", "epochs", "steps", "loss", "spread", "best score")
    rows = [
        (
            run.name,
            UNKNOWN if run.options is None else run.options.objective,
            UNKNOWN if run.options is None else run.options.encoder,
            UNKNOWN if run.log is None else str(_progress_of(run.log, run.options)["epochs"]),
            UNKNOWN if run.log is None else f"{run.log.steps:,}",
            _number(run.log, "loss"),
            _number(run.log, "spread"),
            (best(run.scores) if run.scores is not None else "") or UNKNOWN,
        )
        for run in runs
    ]
    left_out = len(runs) - MOST_SHOWN
    text = f"The first {MOST_SHOWN} have a section of their own, {left_out} more have none." if left_out > 0 else ""
    caption = "loss and embedding spread: means of the last epoch; losses of different objectives do not compare"
    return Section(title="Runs", text=text, parts=(Table(rows=(head, *rows), caption=caption),))


def _number(log: Log | None, name: str) -> str:
    value = math.nan if log is None else log.last(name)
    return f"{value:.3f}" if math.isfinite(value) else UNKNOWN


def _evaluation_section(path: Path) -> Section:
    """The scores of encoders that were not trained here."""
    title = f"Evaluation {path.name}"
    try:
        scores = read_scores(path)
    except DatasetError as error:
        return Section(title=title, text=_said(error, path.parent.parent))
    named = {name: scores.facts.get(name) for name in ("encoders", "architecture", "objective")}
    facts: dict[str, object] = {
        name: ", ".join(map(str, value)) for name, value in named.items() if isinstance(value, list) and value
    }
    return Section(title=title, facts={**facts, **_facts_of(scores)}, parts=score_parts(scores))


# ------------------------------------------------------------------------------------------------ encoders


@dataclass(slots=True, kw_only=True)
class _Mapped:
    """What is to be seen of a run's encoders, and why some are not."""

    seen: list[Seen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _mapped(folder: Path, runs: Sequence[_Run], looks: int, seed: int, progress: Progress) -> dict[str, _Mapped]:
    """What is to be seen of the first runs that have encoders, by the name of the run."""
    chosen = [run for run in runs if run.encoders][:MOST_MAPPED]
    found = {run.name: _Mapped() for run in chosen}
    if not chosen or looks <= 0:
        return {}
    if not torch_is_installed():
        found[chosen[0].name].notes.append(NO_TORCH)
        return found
    if not (folder / MANIFEST_NAME).is_file():
        return {}
    try:
        with open_shards(folder) as shards:
            for number, run in enumerate(chosen):
                _look_at(run, shards, found[run.name], folder, looks, seed, number == 0, progress)
    except GeosslError as error:
        found[chosen[0].name].notes.append(f"Embeddings are left out: {_said(error, folder)}")
    return found


def _look_at(
    run: _Run, shards: Shards, mapped: _Mapped, folder: Path, looks: int, seed: int, first: bool, progress: Progress
) -> None:
    """Add what is to be seen of each encoder of a run; pictures on the points of the first map of the page alone."""
    for encoder in run.encoders:
        try:
            found = embedded(encoder, shards, looks=looks, seed=seed, cache=folder / CACHE, progress=progress)
            mapped.seen.append(
                seen(
                    found,
                    shards,
                    seed=seed,
                    points_have_pictures=first and not mapped.seen,
                    with_neighbours=not mapped.seen,
                    progress=progress,
                )
            )
        except GeosslError as error:
            mapped.notes.append(f"{encoder.name}: its embeddings are left out: {_said(error, folder)}")
