"""The check of what a dataset folder holds."""

from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data.errors import RecipeError
from geossl_data.pipeline._folder import MANIFEST, need, recipe_of
from geossl_data.progress import Progress, silent
from geossl_data.recipe import RECIPE_NAME, Recipe, parse_duration

if TYPE_CHECKING:
    from geossl_data.shards.verify import Finding


def verify(
    folder: Path, *, deep: bool = False, threads: int | None = None, progress: Progress = silent
) -> "list[Finding]":
    """Everything that is not what the manifest and the recipe say it is; empty when all is well.

    deep, threads: see `shards.verify`. Warnings are findings too; a folder with nothing worse is sound.
    """
    from geossl_data.shards.checking.findings import error
    from geossl_data.shards.verify import verify as check

    need(folder, MANIFEST, stage="shard")
    try:
        recipe, unread = recipe_of(folder), []
    except RecipeError as problem:
        recipe, unread = Recipe(), [error(RECIPE_NAME, str(problem))]
    max_gap_hours = parse_duration(recipe.fetch.max_gap).total_seconds() / 3600 if recipe.fetch is not None else None
    return [*unread, *check(folder, deep=deep, max_gap_hours=max_gap_hours, threads=threads, progress=progress)]


def nearest_splits(folder: Path) -> dict[str, float]:
    """Smallest distance in km between places of two splits, as in `train–test`."""
    from geossl_data.shards.manifest import read_manifest
    from geossl_data.shards.verify import nearest_splits_km

    found = nearest_splits_km(read_manifest(folder / MANIFEST))
    return {f"{one}–{other}": km for (one, other), km in found.items()}
