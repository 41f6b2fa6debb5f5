"""The example recipes: what they ask for can be planned, and replays on the sandbox at a size that takes a moment."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from geossl_data import pipeline
from geossl_data.errors import TrainingError
from geossl_data.recipe import PlacesOptions, PretrainOptions, Recipe, read_recipe

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
NAMES = ("caco_like", "regional", "ssl4eo_like")

SMALLER: dict[str, dict[str, Any]] = {
    "fetch": {"places": None, "bbox": None, "from": None, "to": None, "max_cloud": 60, "max_gap": "3d", "orbit": "any"},
    "sample": {"size": 60, "count": 6, "block_km": 1, "buffer_km": 0, "test": 0.3, "min_distance_km": 0},
    "shard": {"max_cloud": None, "min_valid": 0.5, "shard_mb": 1},
}
"""What each section is told instead, for the tiny planet; all else stays as the recipe has it."""


def test_all_recipes_are_tried() -> None:
    assert sorted(path.stem for path in RECIPES.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_how_it_is_run(name: str) -> None:
    first = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    assert f"#   geossl run examples/recipes/{name}.yaml --out " in first


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_would_ask_for(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.fetch is not None
    options = recipe.fetch
    if recipe.places is not None:
        few = recipe.places.model_copy(update={"count": 12})
        assert isinstance(few, PlacesOptions)
        assert pipeline.draw_places(tmp_path, few).facts["places drawn"] == 12
        options = options.model_copy(update={"places": str(tmp_path / "places.parquet")})
    planned = pipeline.plan_fetch(tmp_path, options)
    assert {row[0] for row in planned.table[1:]} == {"sentinel-2-l2a", "sentinel-1-rtc"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_replays_on_the_sandbox(name: str, planet: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    content.pop("places", None)
    training = PretrainOptions.model_validate(content.pop("pretrain"))
    content.pop("evaluate", None)
    for section, told in SMALLER.items():
        content[section] |= told
    content["fetch"]["catalog"] = str(planet)
    if "least_dates" in content["sample"]:
        content["sample"]["least_dates"] = 2  # the tiny planet has two dates a year
    if content["sample"].get("looks") == "long":
        content["sample"] |= {"years_apart": 1, "measure": "off"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(Recipe.model_validate(content).model_dump(mode="json", by_alias=True)))
    *_, written = pipeline.run(recipe, tmp_path / "data")
    assert written.stage == "shard"
    assert written.facts["places written"] == 6
    small = training.model_copy(update={"encoder": "resnet10", "batch_size": 4, "crop": 48})
    if training.objective == "caco":
        with pytest.raises(TrainingError, match="places with 3 looks in each of two years are needed"):
            pipeline.plan_pretrain(tmp_path / "data", small)
        assert yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["sample"]["least_dates"] == 3
    else:
        assert pipeline.plan_pretrain(tmp_path / "data", small).facts["objective"] == training.objective
