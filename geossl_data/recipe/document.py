"""The recipe as a whole: its sections in order, read from YAML and written with its help."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geossl_data.errors import RecipeError
from geossl_data.files import write_text
from geossl_data.recipe.drawing import PlacesOptions, SampleOptions
from geossl_data.recipe.fetching import FetchOptions
from geossl_data.recipe.judging import EvaluateOptions
from geossl_data.recipe.reading import read_yaml, shown
from geossl_data.recipe.section import Section
from geossl_data.recipe.sharding import ShardOptions
from geossl_data.recipe.training import PretrainOptions
from geossl_data.version import VERSION

RECIPE_NAME = "recipe.yaml"

SECTIONS: tuple[type[Section], ...] = (
    PlacesOptions,
    FetchOptions,
    SampleOptions,
    ShardOptions,
    PretrainOptions,
    EvaluateOptions,
)


class Recipe(BaseModel):
    """Every choice made for one dataset folder; a section is None until its stage has run."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    geossl: str = Field(VERSION, description="Version that wrote this recipe.")
    places: PlacesOptions | None = None
    """Of `geossl sample --anywhere`."""
    fetch: FetchOptions | None = None
    """Of `geossl fetch`."""
    sample: SampleOptions | None = None
    """Of `geossl sample`."""
    shard: ShardOptions | None = None
    """Of `geossl shard`."""
    pretrain: PretrainOptions | None = None
    """Of `geossl pretrain`, the last run's."""
    evaluate: EvaluateOptions | None = None
    """Of `geossl evaluate`, the last one's."""

    def with_section(self, section: Section) -> "Recipe":
        """A copy with one section replaced."""
        return self.model_copy(update={section.name: section, "geossl": VERSION})

    @classmethod
    def complete(cls) -> "Recipe":
        """All sections with their defaults, but for places, which only a fetch that names them has a use for."""
        return cls.model_validate({kind.name: kind() for kind in SECTIONS if kind is not PlacesOptions})


def make_section(kind: type[Section], values: dict[str, Any]) -> Section:
    """A section from plain values (by field name or alias); RecipeError in one line where they do not fit."""
    # Under their aliases, so that a message names an option as it is typed.
    aliases = {name: info.alias or name for name, info in kind.model_fields.items()}
    try:
        return kind(**{aliases.get(name, name): value for name, value in values.items()})
    except ValidationError as error:
        raise RecipeError(_one_line(error, prefix=f"{kind.name}: ")) from None


def _one_line(error: ValidationError, prefix: str = "") -> str:
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key {shown(where)}")
        else:
            what = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f", got {shown(item['input'])}"
            parts.append(f"{where}: {what}{given}" if where else what)
    return prefix + "; ".join(parts)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file; RecipeError names every unknown key and every value out of bounds."""
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; `geossl config` prints one to start from")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, see `geossl config`")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(_one_line(error, prefix=f"{path}: ")) from None


def _yaml_value(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def to_yaml(recipe: Recipe) -> str:
    """The recipe as commented YAML: above every key its help, then the value."""
    lines = [f"# Replay with: geossl run {RECIPE_NAME} --out DIR", f"geossl: {_yaml_value(recipe.geossl)}"]
    for kind in SECTIONS:
        section: Section | None = getattr(recipe, kind.name)
        if section is None:
            continue
        lines += ["", f"# {kind.summary}", f"{kind.name}:"]
        values = section.model_dump(mode="json", by_alias=True)
        for name, info in kind.model_fields.items():
            key = info.alias or name
            lines += [f"  # {info.description}", f"  {key}: {_yaml_value(values[key])}"]
    return "\n".join(lines) + "\n"


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write the commented recipe, atomically."""
    write_text(path, to_yaml(recipe))
