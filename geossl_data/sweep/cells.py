"""The cells of a sweep: one set of options each, a readable name that stays, and the dataset that it shares."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from geossl_data.errors import DatasetError, RecipeError
from geossl_data.files import sha256
from geossl_data.pipeline._drawing import by_content, resolved
from geossl_data.pipeline._folder import MANIFEST, PAIRS, SCENES, need
from geossl_data.recipe import EvaluateOptions, PretrainOptions, SampleOptions, ShardOptions, make_section
from geossl_data.sweep.spec import KINDS, SEED, SweepSpec, options_of, plain, read_spec

MOST_NAME, MOST_ID = 40, 200
"""Letters of a value in a cell's name, and of the whole name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training and its evaluation."""

    id: str
    """Name of its folder: the arm and what the grid varies, as in `colour_objective-moco_seed-0`."""
    arm: str | None
    varied: dict[str, Any]
    """Key of the grid → value."""
    sample: SampleOptions | None
    """How its places are drawn; None where shards are taken as they are."""
    shard: ShardOptions | None
    pretrain: PretrainOptions
    evaluate: EvaluateOptions
    dataset: str
    """Name of the dataset that it trains on; cells with the same places have the same."""

    def value(self, key: str) -> Any:
        """What an option is in this cell, given by the grid, an arm, the base or its default."""
        section, _, name = ("pretrain", ".", SEED) if key == SEED else key.partition(".")
        return getattr(getattr(self, section), name)

    @property
    def group(self) -> tuple[Any, ...]:
        """What cells that differ by the seed alone have in common: the arm, and what else the grid varies."""
        others = [plain(value) for key, value in self.varied.items() if key.rpartition(".")[2] != SEED]
        return ((self.arm,) if self.arm is not None else ()) + tuple(others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep that can be run: its cells, and where what they need lies."""

    cells: tuple[Cell, ...]
    keys: tuple[str, ...]
    """What varies, in the order of the spec: keys of the grid, then further ones of arms."""
    source: Path
    """The pool's folder, or that of the shards."""
    is_pool: bool
    labelled: Path | None
    text: str = field(repr=False)
    """The spec's file."""

    @property
    def has_arms(self) -> bool:
        return any(cell.arm is not None for cell in self.cells)

    @property
    def datasets(self) -> dict[str, list[Cell]]:
        """Dataset → its cells, in order."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.dataset, []).append(cell)
        return found


def sweep_of(spec_path: Path) -> Sweep:
    """The cells of a spec, in order, checked as a recipe is; RecipeError or DatasetError in one line."""
    spec = read_spec(spec_path)
    base = spec_path.resolve().parent
    source = _folder(spec.pool or spec.shards or "", base)
    if spec.pool is not None:
        need(source, SCENES, PAIRS, stage="fetch")
        pixels = sha256(source / PAIRS)
    else:
        need(source, MANIFEST, stage="shard")
        pixels = sha256(source / MANIFEST)
    labelled = None if spec.labelled is None else _folder(spec.labelled, base)
    if labelled is not None:
        need(labelled, MANIFEST, stage="shard")
    return Sweep(
        cells=tuple(_cells(spec, spec_path, base, pixels)),
        keys=tuple(dict.fromkeys([*spec.grid, *(key for options in spec.arms.values() for key in options)])),
        source=source,
        is_pool=spec.pool is not None,
        labelled=labelled,
        text=spec_path.read_text(encoding="utf-8"),
    )


def _cells(spec: SweepSpec, path: Path, base: Path, pixels: str) -> list[Cell]:
    short = _short_names(list(spec.grid))
    cells = []
    for arm, varied in spec.combinations():
        name = _name(arm, {short[key]: value for key, value in varied.items()})
        try:
            asked = options_of(spec, arm, varied)
            made = {section: make_section(kind, asked[section]) for section, kind in KINDS.items()}
        except RecipeError as error:
            raise RecipeError(f"{path}: cell {name}: {error}") from None
        sample = resolved(cast(SampleOptions, made["sample"]), base)
        drawn = spec.pool is not None
        cells.append(
            Cell(
                id=name,
                arm=arm,
                varied=varied,
                sample=sample if drawn else None,
                shard=cast(ShardOptions, made["shard"]) if drawn else None,
                pretrain=cast(PretrainOptions, made["pretrain"]),
                evaluate=_with_file(cast(EvaluateOptions, made["evaluate"]), base),
                dataset=made["shard"].fingerprint(by_content(sample).fingerprint(pixels)) if drawn else pixels[:16],
            )
        )
    known: set[str] = set()
    for cell in cells:
        if cell.id in known:
            raise RecipeError(f"{path}: two cells would be called {cell.id}; let values differ in letters and digits")
        known.add(cell.id)
    return cells


def _with_file(options: EvaluateOptions, base: Path) -> EvaluateOptions:
    """Options whose file of statistics, if any, is named absolutely."""
    path = base / options.statistics
    return options.model_copy(update={"statistics": str(path.resolve())}) if path.is_file() else options


def _folder(named: str, base: Path) -> Path:
    """A folder named in a spec: beside the spec, else where the process works; DatasetError where there is none."""
    found = next((path for path in (base / named, Path(named)) if path.is_dir()), None)
    if found is None:
        raise DatasetError(f"{base / named}: no such folder, nor {named} where the command runs")
    return found.resolve()


def _short_names(keys: list[str]) -> dict[str, str]:
    """Key → the option's name, with its section where two keys share it."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def _name(arm: str | None, varied: dict[str, Any]) -> str:
    parts = ([] if arm is None else [arm]) + [f"{key}-{_slug(plain(value))}" for key, value in varied.items()]
    return _cut("_".join(parts), MOST_ID)


def _slug(text: str) -> str:
    """A text as part of a file's name; what had to be replaced is told by four digits of a hash."""
    found = re.sub(r"[^A-Za-z0-9.+]+", "-", text).strip("-")
    return _cut(found if found == text else f"{found}~{_digits(text)}".lstrip("~"), MOST_NAME)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 5]}~{_digits(text)}"


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:4]
