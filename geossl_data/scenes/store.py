"""The table of found scenes: `scenes.parquet`, one item per row and what was searched in its metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from geossl_data.errors import CatalogError, DatasetError, SceneError
from geossl_data.memory import gc_paused
from geossl_data.progress import Progress, silent
from geossl_data.records import Scene
from geossl_data.scenes.items import each_item, write_items
from geossl_data.scenes.providers import ALIASES, PROVIDERS, Provider
from geossl_data.scenes.scene import scene_from_item
from geossl_data.scenes.search import Found
from geossl_data.tables import read_metadata


def write_scenes(
    path: Path, found: Found, *, metadata: Mapping[str, Any] | None = None, progress: Progress = silent
) -> None:
    """Write the found scenes as stac-geoparquet, hrefs absolute and unsigned, with `metadata` beside the search's own.

    `read_scenes` gives the same scenes back.
    """
    provider = found.provider
    notes = {
        "provider": provider.name,
        "catalog": provider.url,
        "base": found.base,
        "query": found.query,
        "unknown_baseline": found.unknown_baseline,
        "collections": dict(provider.collections),
        "aliases": {} if provider.aliases == ALIASES else dict(provider.aliases),
        "offset": provider.offset,
    }
    write_items(path, found.items, metadata={**(metadata or {}), **notes}, progress=progress)


def provider_of(path: Path) -> Provider:
    """The catalog that a table of scenes was found in, as it was then.

    Who signs its addresses is taken from the entry of that name in PROVIDERS and never from the file: a table from
    elsewhere must not send anybody's key to its own token service. Raises DatasetError when the file is no such table.
    """
    notes = read_metadata(path)
    name, url = notes.get("provider"), notes.get("catalog")
    known = PROVIDERS.get(str(name))
    try:
        return Provider(
            name=str(name),
            url=url,
            collections=notes["collections"],
            aliases=notes["aliases"] or ALIASES,
            offset=notes["offset"],
            tokens=known.tokens if known is not None and known.url == url else None,
        )
    except (KeyError, TypeError):
        raise DatasetError(f"{path}: not a table of scenes; run `geossl fetch --fresh`") from None


@gc_paused()
def read_scenes(path: Path, *, progress: Progress = silent) -> list[Scene]:
    """The scenes that `write_scenes` wrote, in the same order.

    Raises DatasetError when the file is absent, damaged, or no such file.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; run `geossl fetch` first")
    provider, base = provider_of(path), read_metadata(path).get("base")
    if not isinstance(base, str):
        raise DatasetError(f"{path}: not a table of scenes; run `geossl fetch --fresh`")
    try:
        with progress("reading scenes", total=pq.read_metadata(path).num_rows) as task:
            scenes = []
            for item in each_item(path):
                scenes.append(scene_from_item(item, provider, base))
                task.advance()
            return scenes
    except (SceneError, CatalogError) as error:
        raise DatasetError(f"{path}: damaged ({error}); run `geossl fetch --fresh`") from error
