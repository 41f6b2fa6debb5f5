"""A sweep is run: datasets first, then cells, one process for each device; what is done already is left as it is.

What stopped goes on with the next call: places, shards and training from where they were, an evaluation anew.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from geossl_data import pipeline
from geossl_data.files import exclusive, remove_folder, remove_temporaries, write_text
from geossl_data.pipeline import Report, recipe_of
from geossl_data.pipeline._folder import MANIFEST, RUNS
from geossl_data.progress import Progress, silent
from geossl_data.recipe import RECIPE_NAME, Recipe, write_recipe
from geossl_data.sweep.cells import Cell, Sweep, sweep_of
from geossl_data.sweep.folders import (
    CELLS,
    DATASETS,
    FAILED,
    FEATURES,
    LABELLED,
    PICTURE,
    RUN,
    SPEC,
    STATE,
    TABLE,
    TRACE,
    dataset_folder,
    draw_from,
    is_finished,
    judged_by,
    look_into,
    point,
    require_same,
    state_of,
    take_scores,
    trained_with,
    updated,
)
from geossl_data.sweep.leakage import require_apart
from geossl_data.sweep.plots import picture_sweep
from geossl_data.sweep.processes import Failure, devices, environments, run_jobs
from geossl_data.sweep.spec import plain
from geossl_data.sweep.table import finished_cells, shown_table, summary, write_rows, write_table

CHECKPOINTS = "checkpoints"

MakeDataset = Callable[[Path, Path, Cell], None]
"""Makes the dataset of a cell: its folder, and the pool's."""
RunCell = Callable[[Path, Path, Path | None, Cell], None]
"""Trains and judges a cell: the sweep's folder, that of the cell's dataset, that of the labelled shards or None."""


def make_dataset(folder: Path, pool: Path, cell: Cell) -> None:
    """Draw the places of a cell and cut their shards into `folder`; what is there already is left as it is."""
    assert cell.sample is not None
    assert cell.shard is not None
    draw_from(folder, pool)
    if not (folder / RECIPE_NAME).is_file():
        of_pool = recipe_of(pool)
        write_recipe(folder / RECIPE_NAME, Recipe(places=of_pool.places, fetch=of_pool.fetch))
    pipeline.sample(folder, cell.sample)
    pipeline.shard(folder, cell.shard)


def run_cell(out: Path, dataset: Path, labelled: Path | None, cell: Cell) -> None:
    """Train and judge a cell; an interrupted training goes on. Its scores lie in its folder afterwards."""
    folder = out / CELLS / cell.id
    remove_temporaries(folder)
    look_into(folder, dataset)
    recipe = recipe_of(dataset)
    write_recipe(folder / RECIPE_NAME, recipe.with_section(cell.pretrain).with_section(cell.evaluate))
    if not updated(folder, dataset=cell.dataset, pretrain=trained_with(cell.pretrain)).trained:
        _train(folder, cell)
    judged = folder if labelled is None else folder / LABELLED
    if labelled is not None:
        look_into(judged, labelled)
        point(judged / RUNS / RUN, folder / RUNS / RUN)
    (out / FEATURES).mkdir(exist_ok=True)
    point(judged / FEATURES, out / FEATURES)  # random encoders are the same in many cells
    pipeline.evaluate(judged, cell.evaluate)
    take_scores(folder, folder / RUNS / RUN)
    updated(folder, scored=judged_by(cell, labelled))
    (judged / FEATURES).unlink()
    remove_folder(folder / LABELLED)


def _train(folder: Path, cell: Cell) -> None:
    """Train a cell and note what that took; what only a training that goes on has a use for is gone afterwards."""
    earlier_s = state_of(folder).seconds
    began_s = time.monotonic()
    try:
        trained = pipeline.pretrain(folder, cell.pretrain)
    except BaseException:
        updated(folder, seconds=earlier_s + time.monotonic() - began_s)
        raise
    seconds = earlier_s + (time.monotonic() - began_s if trained.fresh else 0.0)
    updated(folder, trained=True, items=trained.facts["items"], steps=trained.facts["steps"], seconds=seconds)
    remove_folder(folder / RUNS / RUN / CHECKPOINTS)


# ------------------------------------------------------------------------------------------------ all of them


def plan_sweep(spec_path: Path, out: Path, *, workers: int | None = None) -> Report:
    """What a sweep would do: its cells, what they share, what is done already. Runs nothing and writes nothing."""
    sweep = sweep_of(spec_path)
    require_same(out, sweep)
    gpus, count = _crew(sweep, workers)
    numbers = {name: number for number, name in enumerate(sweep.datasets, start=1)}
    done = {cell.id for cell in sweep.cells if is_finished(out, cell, judged_by(cell, sweep.labelled))}
    rows = [
        (
            cell.id,
            *([cell.arm or ""] if sweep.has_arms else []),
            *(plain(cell.value(key)) for key in sweep.keys),
            str(numbers[cell.dataset]),
            _stand(out, cell, done),
        )
        for cell in sweep.cells
    ]
    made = sum((dataset_folder(out, sweep, name) / MANIFEST).is_file() for name in numbers)
    arms = ("arm",) if sweep.has_arms else ()
    return Report(
        stage="sweep --dry-run",
        fresh=True,
        facts={
            "cells": len(sweep.cells),
            "done already": len(done),
            "datasets": f"{len(numbers)}, {made} of them there" if sweep.is_pool else "shards as they are",
            "judged by": "places that each cell holds back" if sweep.labelled is None else str(sweep.labelled),
            "processes": f"{count}, on {len(gpus)} GPU{'' if len(gpus) == 1 else 's'}" if gpus else f"{count}, on CPU",
        },
        table=(("cell", *arms, *sweep.keys, "dataset", "stand"), *rows),
    )


def _stand(out: Path, cell: Cell, done: set[str]) -> str:
    if cell.id in done:
        return "done"
    return "begun" if (out / CELLS / cell.id / STATE).is_file() else "to do"


def run_sweep(
    spec_path: Path,
    out: Path,
    *,
    workers: int | None = None,
    progress: Progress = silent,
    make_dataset: MakeDataset = make_dataset,
    run_cell: RunCell = run_cell,
) -> Report:
    """Run the cells of a spec that are not done yet; write sweep.csv, sweep.png and, where cells failed, failed.csv.

    workers: processes; None: one for each GPU, or one where there is none. make_dataset, run_cell: what is done in
    them; picklable. A cell that fails is a row of failed.csv, its reason beside it, and the rest goes on: the
    report's fact `failed` is how many did. Raises GeosslError before anything is trained where the spec is wrong,
    cells of the same names were trained otherwise, or places to train on are among those judged.

    Processes are spawned: a script calls this below `if __name__ == "__main__"`.
    """
    sweep = sweep_of(spec_path)
    require_same(out, sweep)
    gpus, count = _crew(sweep, workers)
    settings = environments(count, gpus)
    with exclusive(out):
        remove_temporaries(out)
        (out / FAILED).unlink(missing_ok=True)
        write_text(out / SPEC, sweep.text)
        failed: dict[str, str] = {}
        todo = [cell for cell in sweep.cells if not is_finished(out, cell, judged_by(cell, sweep.labelled))]
        try:
            _make_datasets(sweep, out, todo, settings, make_dataset, failed, progress)
            _require_apart(sweep, out, [cell for cell in todo if cell.id not in failed])
            _run_cells(sweep, out, todo, settings, run_cell, failed, progress)
        finally:
            finished = finished_cells(sweep, out)
            if finished:
                write_table(out / TABLE, sweep, finished)
            if failed:
                write_rows(out / FAILED, [("cell", "reason"), *failed.items()])
        main = summary(finished)
        if main:
            with progress("drawing pictures") as task:
                picture_sweep(out / PICTURE, main)
                task.advance()
        if not failed:
            remove_folder(out / FEATURES)
    return Report(
        stage="sweep",
        fresh=bool(todo),
        facts={
            "cells": len(sweep.cells),
            "run now": len(todo) - len(failed),
            "done before": len(sweep.cells) - len(todo),
            **({"failed": len(failed)} if failed else {}),
            "scores": sum(len(one.scores.scores) for one in finished),
            "files": ", ".join(name for name in (TABLE, PICTURE, FAILED) if (out / name).is_file()),
        },
        table=shown_table(main),
    )


def _crew(sweep: Sweep, workers: int | None) -> tuple[tuple[str, ...], int]:
    """The GPUs that cells may use, and how many processes there are."""
    on_cpu = all(cell.pretrain.device == cell.evaluate.device == "cpu" for cell in sweep.cells)
    gpus = () if on_cpu else devices()
    return gpus, workers or max(1, len(gpus))


def _make_datasets(
    sweep: Sweep,
    out: Path,
    todo: Sequence[Cell],
    settings: Sequence[Mapping[str, str]],
    make: MakeDataset,
    failed: dict[str, str],
    progress: Progress,
) -> None:
    """Make the datasets of cells that are to be run; cells without one are failed."""
    if not sweep.is_pool:
        return
    cells: dict[str, list[Cell]] = {}
    for cell in todo:
        cells.setdefault(cell.dataset, []).append(cell)
    jobs = {name: partial(make, out / DATASETS / name, sweep.source, some[0]) for name, some in cells.items()}
    with progress("making datasets", total=len(jobs)) as task:

        def done(name: str, failure: Failure | None) -> None:
            if failure is not None:
                failed.update({cell.id: f"its dataset: {failure.reason}" for cell in cells[name]})
                _keep_trace(out / DATASETS / name, failure)
            task.advance()

        run_jobs(jobs, settings, done)


def _require_apart(sweep: Sweep, out: Path, cells: Sequence[Cell]) -> None:
    """Raise DatasetError where a dataset's places to train on are among those that all cells are judged by."""
    if sweep.labelled is not None:
        for name in dict.fromkeys(cell.dataset for cell in cells):
            require_apart(dataset_folder(out, sweep, name), sweep.labelled)


def _run_cells(
    sweep: Sweep,
    out: Path,
    todo: Sequence[Cell],
    settings: Sequence[Mapping[str, str]],
    run: RunCell,
    failed: dict[str, str],
    progress: Progress,
) -> None:
    jobs = {
        cell.id: partial(run, out, dataset_folder(out, sweep, cell.dataset), sweep.labelled, cell)
        for cell in todo
        if cell.id not in failed
    }
    with progress("running cells", total=len(jobs)) as task:

        def done(name: str, failure: Failure | None) -> None:
            (out / CELLS / name / TRACE).unlink(missing_ok=True)
            if failure is not None:
                failed[name] = failure.reason
                _keep_trace(out / CELLS / name, failure)
            task.advance(note=name)

        run_jobs(jobs, settings, done)


def _keep_trace(folder: Path, failure: Failure) -> None:
    if failure.trace:
        write_text(folder / TRACE, failure.trace)
