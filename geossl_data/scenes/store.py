"""The table of found scenes: `scenes.parquet`, one item per row and what was searched in its metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geossl_data.errors import CatalogError, DatasetError, SceneError
from geossl_data.records import Scene
from geossl_data.scenes.items import read_items, write_items
from geossl_data.scenes.providers import PROVIDERS, Provider
from geossl_data.scenes.scene import scene_from_item
from geossl_data.scenes.search import Found
from geossl_data.tables import read_metadata


def write_scenes(path: Path, found: Found, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the found scenes as stac-geoparquet, hrefs absolute and unsigned, with `metadata` beside the search's own.

    `read_scenes` gives the same scenes back.
    """
    notes = {
        "provider": found.provider.name,
        "catalog": found.provider.url,
        "base": found.base,
        "unknown_baseline": found.unknown_baseline,
    }
    write_items(path, found.items, metadata={**(metadata or {}), **notes})


def read_scenes(path: Path) -> list[Scene]:
    """The scenes that `write_scenes` wrote, in the same order.

    Raises DatasetError when the file is absent, damaged, or no such file.
    """
    notes = read_metadata(path)
    name, url, base = (notes.get(key) for key in ("provider", "catalog", "base"))
    if path.is_file() and not (isinstance(name, str) and isinstance(base, str) and isinstance(url, str | None)):
        raise DatasetError(f"{path}: not a table of scenes; run `geossl fetch --fresh`")
    provider = PROVIDERS.get(str(name)) or Provider(name=str(name), url=url)
    try:
        return [scene_from_item(item, provider, str(base)) for item in read_items(path)]
    except (SceneError, CatalogError) as error:
        raise DatasetError(f"{path}: damaged ({error}); run `geossl fetch --fresh`") from error
