"""Full-size Sentinel-2 scenes of the sandbox: rendered once, found again."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from geossl_data.files import write_text
from geossl_data.sandbox import planet
from geossl_data.sandbox.catalog import S2_COLLECTION, s2_id
from geossl_data.sandbox.regions import LAYOUTS, REGIONS
from geossl_data.sandbox.schedule import passes

CHOSEN = (("lake-constance", 2), ("lake-constance", 8), ("pampas", 1), ("punjab", 8))
"""Region and number of the pass: little cloud, no swath edge, with and without the offset, two dates of one tile."""
SEED = 0

Item = dict[str, Any]


def scenes_in(folder: Path, *, workers: int, say: Callable[[str], None]) -> list[Item]:
    """STAC items of the chosen scenes, hrefs relative to `folder`; what is not there yet is rendered.

    A scene has 10980 px of 10 m in blocks of 512 px, DEFLATE with predictor 2: some minutes, 1.2 GB on disk, 2.2 GB of
    memory.
    """
    return [_scene(folder, region, number, workers, say) for region, number in CHOSEN]


def _scene(folder: Path, name: str, number: int, workers: int, say: Callable[[str], None]) -> Item:
    layout = LAYOUTS["large"]
    (region,) = [region for region in REGIONS if region.name == name]
    (acquisition,) = [found for found in passes(region, layout, SEED)[0] if found.number == number]
    identifier = s2_id(acquisition, region.tile)
    written = folder / S2_COLLECTION / identifier / "item.json"
    # The item is written last: where it is, all bands are.
    if written.is_file():
        item: Item = json.loads(written.read_text(encoding="utf-8"))
        return item
    say(f"rendering {identifier}; some minutes")
    site = planet.make_site(region, layout, SEED)
    tile = site.tiles[0]
    with ThreadPoolExecutor(workers) as pool:
        item = planet._write_optical(folder, site, tile, acquisition, pool)
    write_text(written, json.dumps(item, indent=1) + "\n")
    return item
