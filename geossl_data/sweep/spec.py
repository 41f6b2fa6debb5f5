"""What a sweep is asked to do: a pool, options that all cells share, and what varies.

pool: mydata                                  # a dataset folder after `geossl fetch`; or `shards:`, one to train on
base:                                         # sections as in recipe.yaml; what is left out has its default
  sample: {size: 96, count: 400}
  pretrain: {encoder: resnet10, epochs: 10}
grid:                                         # every combination
  pretrain.objective: [infonce, moco]
  seed: [0, 1, 2]
arms:                                         # named sets of options, each with every combination of the grid
  colour: {pretrain.gain: 0.2, pretrain.offset: 0.1}
labelled: judged                              # labelled shards to judge by; left out: those that a cell trained on

Paths are looked up beside the spec first.
"""

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from geossl_data.errors import RecipeError
from geossl_data.recipe import EvaluateOptions, PretrainOptions, SampleOptions, Section, ShardOptions
from geossl_data.recipe.reading import read_yaml, shown

KINDS: dict[str, type[Section]] = {
    kind.name: kind for kind in (SampleOptions, ShardOptions, PretrainOptions, EvaluateOptions)
}
"""Sections that a sweep has options for, by name."""
SEED = "seed"
SEEDED = ("pretrain.seed", "evaluate.seed")
"""What the key `seed` sets, beside `sample.seed` where `sample.split_seed` keeps the splits as they are."""
OURS = ("pretrain.run", "evaluate.run", "evaluate.encoder")
"""Options that name files of a cell, which a sweep names itself."""
PLACES = ("sample", "shard")
"""Sections that decide which places there are to train on."""
MOST_CELLS = 10_000
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class SweepSpec(BaseModel):
    """A sweep as its file says it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pool: str | None = Field(None, description="Dataset folder whose scenes and pairs places are drawn from.")
    shards: str | None = Field(None, description="Dataset folder whose shards are trained on as they are.")
    labelled: str | None = Field(None, description="Dataset folder with labels to judge all cells by.")
    base: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Options that all cells share.")
    grid: dict[str, list[Any]] = Field(default_factory=dict, description="Option → values; all combinations.")
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Name → options of that arm.")

    @field_validator("base", "arms", mode="before")
    @classmethod
    def _nothing_is_an_empty_section(cls, value: Any) -> Any:
        return (
            {name: {} if part is None else part for name, part in value.items()} if isinstance(value, dict) else value
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.pool is None) == (self.shards is None):
            raise ValueError("name a pool to draw places from, or shards to train on, and not both")
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """What is wrong, in the order in which to mend it."""
        named = dict.fromkeys(self.base_options, "base")
        for section in self.base:
            if section not in KINDS:
                yield f"base: no section {section!r}; there are {', '.join(KINDS)}"
        named |= dict.fromkeys(self.grid, "grid")
        named |= {key: f"arms.{arm}" for arm, options in self.arms.items() for key in options}
        for key, where in named.items():
            yield from _problem_of_key(key, where)
            if self.shards is not None and key.split(".")[0] in PLACES:
                yield f"{where}: {key} is for places drawn from a pool, and the shards named are taken as they are"
        if not self.grid and not self.arms:
            yield "nothing varies; give a grid, or arms"
        for key, values in self.grid.items():
            if not values:
                yield f"grid: {key} has no values"
            if any(isinstance(value, dict) for value in values):
                yield f"grid: {key} has a mapping among its values"
            texts = [plain(value) for value in values]
            if len(set(texts)) < len(texts):
                yield f"grid: {key} has {next(text for text in texts if texts.count(text) > 1)} twice"
        for arm, options in self.arms.items():
            if ARM_NAME.fullmatch(arm) is None:
                yield f"arms: {arm!r} is no name of at most 64 letters, digits, '_', '.', '+' and '-'"
            for key in options:
                if key in self.grid:
                    yield f"arms.{arm}: {key} is in the grid too; an option varies in one way"
        for keys in [*([*self.grid, *options] for options in self.arms.values()), list(self.grid)]:
            if SEED in keys and set(SEEDED) & set(keys):
                yield f"{SEED} sets {' and '.join(SEEDED)}; give one of them"
        count = self.n_cells
        if count > MOST_CELLS:
            yield f"{count:,} cells; a sweep has at most {MOST_CELLS:,}"

    @property
    def base_options(self) -> dict[str, Any]:
        """`section.option` → value of what all cells share."""
        return {f"{section}.{name}": value for section, options in self.base.items() for name, value in options.items()}

    @property
    def n_cells(self) -> int:
        count = max(1, len(self.arms))
        for values in self.grid.values():
            count *= len(values)
        return count

    def combinations(self) -> Iterator[tuple[str | None, dict[str, Any]]]:
        """Each cell's arm, and what the grid varies as `section.option` (or `seed`) → value; the last key fastest."""
        for arm in self.arms or (None,):
            for values in itertools.product(*self.grid.values()):
                yield arm, dict(zip(self.grid, values, strict=True))


def _problem_of_key(key: str, where: str) -> Iterator[str]:
    """What is wrong with the name of an option."""
    if key == SEED:
        return
    section, dot, name = key.partition(".")
    known = [f"{kind.name}.{field}" for kind in KINDS.values() for field in kind.model_fields]
    if key in OURS:
        yield f"{where}: {key} is chosen by the sweep itself"
    elif key == "shard.from_table":
        yield f"{where}: {key}: a sweep draws places from its pool; for shards of own rasters say `shards: FOLDER`"
    elif key == "shard.output":
        yield f"{where}: {key}: a sweep keeps its shards in its own folder"
    elif not dot or section not in KINDS or name not in KINDS[section].model_fields:
        near = difflib.get_close_matches(key, [*known, SEED], n=1) or difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        yield f"{where}: no option {key!r}{meant}"


def plain(value: Any) -> str:
    """A value of an option as a text: a text as it is, anything else as YAML writes it."""
    return value if isinstance(value, str) else str(yaml.safe_dump(value, default_flow_style=True)).split("\n")[0]


def read_spec(path: Path) -> SweepSpec:
    """The sweep of a YAML file; RecipeError in one line for anything that is wrong with it."""
    if not path.is_file():
        raise RecipeError(f"{path}: no such sweep; examples/sweep.yaml is one to start from")
    content = read_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RecipeError(f"{path}: a sweep is a mapping with pool, base, grid, arms; see examples/sweep.yaml")
    try:
        return SweepSpec.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    """The first thing that is wrong."""
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {shown(where)}; there are {', '.join(SweepSpec.model_fields)}"
    what = first["msg"].removeprefix("Value error, ")
    return what if first["type"] == "value_error" else f"{where}: {what}, got {shown(first['input'])}"


def options_of(spec: SweepSpec, arm: str | None, varied: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Section → option → value of one cell: what all share, then the arm's, then the grid's."""
    asked = {**spec.base_options, **(spec.arms[arm] if arm is not None else {})}
    asked |= varied
    seed = asked.pop(SEED, None)
    if seed is not None:
        drawn = ("sample.seed",) if asked.get("sample.split_seed") is not None else ()
        asked |= dict.fromkeys((*SEEDED, *drawn), seed)
    found: dict[str, dict[str, Any]] = {section: {} for section in KINDS}
    for key, value in asked.items():
        section, _, name = key.partition(".")
        found[section][name] = value
    return found
