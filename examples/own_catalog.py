"""A catalog of your own: one entry in PROVIDERS, which says what the collections hold and what the assets are called.

    python examples/own_catalog.py FOLDER

FOLDER gets a small synthetic archive whose collections and assets have names that no one else uses. A catalog behind a
STAC API has a `url` instead of a `snapshot`; one whose files need access tokens names its token service and the storage
containers that a token may be asked for, as `planetary-computer` does.
"""

import sys
from pathlib import Path

from geossl_data import pipeline
from geossl_data.bands import S1_BANDS, S2_BANDS, SCL_BAND
from geossl_data.pipeline import Report
from geossl_data.recipe import FetchOptions
from geossl_data.sandbox import build_sandbox
from geossl_data.scenes.items import read_items, write_items
from geossl_data.scenes.providers import PROVIDERS, Provider

ASSETS = {f"surface-{band.lower()}": band for band in (*S2_BANDS, SCL_BAND)} | {
    f"gamma0-{band.lower()}": band for band in S1_BANDS
}
COLLECTIONS = {"sentinel-2-l2a": "optical-ard", "sentinel-1-rtc": "radar-ard"}


def build_archive(folder: Path) -> Path:
    """A stac-geoparquet table of the synthetic planet's scenes, under names of our own."""
    keys = {band.lower(): key for key, band in ASSETS.items()}
    items = [
        item for item in read_items(build_sandbox(folder, size="tiny", seed=0)) if item["collection"] in COLLECTIONS
    ]
    for item in items:
        item["collection"] = COLLECTIONS[item["collection"]]
        item["assets"] = {keys[key.lower()]: asset for key, asset in item["assets"].items() if key.lower() in keys}
    write_items(folder / "archive.parquet", items)
    return folder / "archive.parquet"


def main(folder: Path) -> Report:
    """Describe the archive, fetch from it and show what was found."""
    archive = build_archive(folder / "archive")
    PROVIDERS["my-archive"] = Provider(
        name="my-archive",
        url=None,
        snapshot=str(archive),
        collections={"optical-ard": "L2A", "radar-ard": "RTC"},
        aliases=ASSETS,
    )
    report = pipeline.fetch(folder / "data", FetchOptions(catalog="my-archive", max_cloud=60))
    print(report.facts)
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1]))
