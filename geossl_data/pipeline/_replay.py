"""All stages of a recipe, one after the other."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geossl_data.errors import RecipeError
from geossl_data.files import sha256
from geossl_data.pipeline._drawing import resolved as with_paths
from geossl_data.pipeline._evaluate import evaluate
from geossl_data.pipeline._fetch import fetch, resolved
from geossl_data.pipeline._folder import MANIFEST, SHARDS, Report
from geossl_data.pipeline._own import with_table
from geossl_data.pipeline._places import draw_places
from geossl_data.pipeline._sample import sample
from geossl_data.pipeline._shard import shard
from geossl_data.pipeline._train import pretrain
from geossl_data.progress import Progress, silent
from geossl_data.recipe import SECTIONS, DrawOptions, ShardOptions, read_recipe

_STAGE_FUNCTIONS = {
    "places": draw_places,
    "fetch": fetch,
    "sample": sample,
    "shard": shard,
    "pretrain": pretrain,
    "evaluate": evaluate,
}


def run(recipe_path: Path, folder: Path, *, workers: int = 1, progress: Progress = silent) -> Iterator[Report]:
    """Replay every section of a recipe into `folder`, one Report after the other.

    A relative path in the recipe is looked up beside the recipe first.
    """
    recipe = read_recipe(recipe_path)
    present = [kind.name for kind in SECTIONS if getattr(recipe, kind.name) is not None]
    if not present:
        raise RecipeError(f"{recipe_path}: no section to run; `geossl config` prints a complete recipe")
    for name in present:
        options: Any = getattr(recipe, name)
        if name == "fetch":
            own = {} if recipe.places is None else {"places": options.places}  # drawn anew in the folder itself
            options = resolved(options, recipe_path.resolve().parent).model_copy(update=own)
        elif isinstance(options, DrawOptions):
            options = with_paths(options, recipe_path.resolve().parent)
        elif isinstance(options, ShardOptions):
            options = with_table(options, recipe_path.resolve().parent)
        extra: dict[str, Any] = {"workers": workers} if name == "shard" else {}
        yield _STAGE_FUNCTIONS[name](folder, options, progress=progress, **extra)  # type: ignore[operator]


def digest(folder: Path) -> str:
    """sha256 over the names and contents of all shards and the manifest: equal for equal datasets."""
    total = hashlib.sha256()
    for path in [*sorted((folder / SHARDS).glob("*.tar")), folder / MANIFEST]:
        total.update(f"{path.name} {sha256(path)}\n".encode())
    return total.hexdigest()
