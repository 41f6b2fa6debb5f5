"""What lies where in a sweep's folder, and how far its cells are.

spec.yaml               the spec, as it was run last
datasets/<name>/        places and shards that cells share, made from the pool
cells/<id>/             a dataset folder that shares shards with others: recipe.yaml, runs/default/ (without checkpoint
                        once it is trained), how far it is (cell.json), scores.json and bootstrap.npz once it is
                        done, error.txt where a bug ended it
features/               what encoders made of labelled looks: a cache, gone once all cells are done
sweep.csv, sweep.png    all scores, and the main ones as a picture
failed.csv              cells that could not be done, and why
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from geossl_data.errors import DatasetError
from geossl_data.evaluation.scores import REPLICATES_NAME, SCORES_NAME
from geossl_data.files import atomic_path, from_json, scratch_path, sha256, write_text
from geossl_data.pipeline._folder import MANIFEST, PAIRS, PLACES, RUNS, SCENES, SHARDS, SKIPPED
from geossl_data.pipeline._measure import MEASURES
from geossl_data.recipe import PretrainOptions
from geossl_data.sweep.cells import Cell, Sweep

CELLS, DATASETS, FEATURES = "cells", "datasets", "features"
SPEC, TABLE, PICTURE, FAILED = "spec.yaml", "sweep.csv", "sweep.png", "failed.csv"
STATE, TRACE = "cell.json", "error.txt"
RUN = "default"
"""Name of the run in the folder of a cell."""
LABELLED = "labelled"
"""Folder of a cell in which labelled shards of elsewhere are judged by."""
NUMBERLESS = {"checkpoint_every", "tensorboard", "device", "compile"}
"""Options of a training that may change while it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a cell is."""

    dataset: str = ""
    """What it trains on; empty where it has not begun."""
    pretrain: dict[str, Any] = field(default_factory=dict)
    """The options that it trains with."""
    trained: bool = False
    """Whether it is trained to the end, so that its encoders lie exported."""
    scored: str = ""
    """What it was judged by, a digest; empty where it was not."""
    items: int = 0
    """Looks or places that it learnt from."""
    steps: int = 0
    seconds: float = 0.0
    """Spent training, interrupted parts included."""

    def write(self, folder: Path) -> None:
        write_text(folder / STATE, json.dumps(asdict(self), indent=1) + "\n")


def state_of(folder: Path) -> State:
    """How far the cell of a folder is; DatasetError where the folder says something else."""
    path = folder / STATE
    if not path.is_file():
        return State()
    try:
        content = from_json(path.read_text(encoding="utf-8"))
        found = State(**{entry.name: content[entry.name] for entry in fields(State)})
        defaults = asdict(State())
        if not all(type(value) is type(defaults[name]) for name, value in asdict(found).items()):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{path}: damaged; delete {folder} to have the cell made again") from None
    return found


def judged_by(cell: Cell, labelled: Path | None) -> str:
    """A digest of what a cell is judged by: the options, and the labelled shards where they are not its own."""
    statistics = Path(cell.evaluate.statistics)
    update = {"device": "auto"} | ({"statistics": sha256(statistics)} if statistics.is_file() else {})
    options = cell.evaluate.model_copy(update=update)
    return options.fingerprint("" if labelled is None else sha256(labelled / MANIFEST))


def is_finished(out: Path, cell: Cell, judged: str) -> bool:
    """Whether a cell's scores are there, by these options and labels."""
    folder = out / CELLS / cell.id
    there = all((folder / name).is_file() for name in (SCORES_NAME, REPLICATES_NAME))
    return there and state_of(folder).scored == judged


def require_same(out: Path, sweep: Sweep) -> None:
    """Raise DatasetError where cells of these names were trained on other places or with other options.

    A cell that failed before its first step has trained nothing: its options may be mended.
    """
    changed = [(cell, what) for cell in sweep.cells if (what := _changed(cell, out / CELLS / cell.id))]
    if changed:
        cell, what = changed[0]
        more = f" ({len(changed) - 1} more cells differ too)" if len(changed) > 1 else ""
        raise DatasetError(
            f"{out / CELLS / cell.id}: was trained {what}{more}; choose another --out, or delete these cells"
        )


def _changed(cell: Cell, folder: Path) -> str:
    """What of a cell that has begun to train is not as it was."""
    state = state_of(folder)
    if not state.dataset or not (folder / RUNS / RUN).is_dir():
        return ""
    now = trained_with(cell.pretrain)
    defaults = trained_with(PretrainOptions())
    before = {name: state.pretrain.get(name, defaults[name]) for name in now}
    differences = [f"{name} {before[name]!r}, now {value!r}" for name, value in now.items() if before[name] != value]
    if differences:
        return f"with {', '.join(differences)}"
    return "on other places" if state.dataset != cell.dataset else ""


def trained_with(options: PretrainOptions) -> dict[str, Any]:
    """The options that decide what comes of a training, as plain values."""
    return options.model_dump(mode="json", by_alias=True, exclude=NUMBERLESS)


# ------------------------------------------------------------------------------------------------ files


def dataset_folder(out: Path, sweep: Sweep, name: str) -> Path:
    """Where the shards of a dataset lie: in the sweep's folder, or those that the spec names."""
    return out / DATASETS / name if sweep.is_pool else sweep.source


def draw_from(folder: Path, pool: Path) -> None:
    """Make `folder` one that places can be drawn in: what a fetch wrote in the pool, shared where the disk can."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SKIPPED, PLACES, MEASURES, SCENES, PAIRS):
        if (pool / name).is_file() and not (folder / name).exists():
            # Whole files are put in place of each other and none is written to, so that sharing one is safe.
            with atomic_path(folder / name) as temporary:
                try:
                    os.link(pool / name, temporary)
                except OSError:
                    shutil.copyfile(pool / name, temporary)


def look_into(folder: Path, dataset: Path) -> None:
    """Make `folder` a dataset folder with the shards of another one."""
    for name in (MANIFEST, SHARDS):
        if (dataset / name).exists():
            point(folder / name, dataset / name)


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, by a relative path so that both can be moved together."""
    relative = os.path.relpath(target.resolve(), link.parent.resolve())
    if link.is_symlink() and str(link.readlink()) == relative:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    with scratch_path(link) as temporary:
        temporary.symlink_to(relative)
        temporary.replace(link)


def take_scores(folder: Path, source: Path) -> None:
    """Copy the scores that lie in `source` into a cell's folder, `scores.json` last."""
    for name in (REPLICATES_NAME, SCORES_NAME):
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source / name, temporary)


def updated(folder: Path, **changes: Any) -> State:
    """Write how far a cell is by now."""
    state = replace(state_of(folder), **changes)
    state.write(folder)
    return state
