"""Catalogs as data: where they are, and what they call their collections and assets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geossl_data.bands import BANDS, LABEL_BAND, S1_BANDS, S2_BANDS, SCL_BAND
from geossl_data.errors import CatalogError
from geossl_data.scenes.hrefs import redact, split

SensorName = Literal["s1", "s2", "label"]
"""What an item is of: one of the two sensors, or a map of land classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A catalog: where it is, and which of its collections hold what."""

    name: str
    url: str | None
    """Root of its STAC API; None for a stac-geoparquet file."""
    s2_collection: str = "sentinel-2-l2a"
    s1_collection: str = "sentinel-1-rtc"
    label_collection: str | None = None
    """Land-class maps beside the scenes. In a file, any item with a `class` asset is one."""
    page_size: int = 250
    """Items asked for per page."""

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections to search."""
        return tuple(name for name in (self.s2_collection, self.s1_collection, self.label_collection) if name)


PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="planetary-computer",
            url="https://planetarycomputer.microsoft.com/api/stac/v1",
        ),
        Provider(
            name="earth-search",
            url="https://earth-search.aws.element84.com/v1",
            s1_collection="sentinel-1-grd",
            page_size=100,
        ),
    )
}

FILE_PROVIDER = "file"
API_PROVIDER = "stac-api"

FILE_COLLECTIONS: dict[str, SensorName] = {
    "sentinel-2-c1-l2a": "s2",
    "sentinel-s2-l2a-cogs": "s2",
    "sentinel-1-grd": "s1",
}
"""Collections that a file may hold besides those of its Provider."""

_COMMON_NAMES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "swir16": "B11",
    "swir22": "B12",
    "scl": SCL_BAND,
}

ALIASES: dict[str, str] = {
    **{name: name for name in (*BANDS, SCL_BAND, LABEL_BAND)},
    **{f"{band.name}_{band.resolution_m}m": band.name for band in BANDS.values() if band.sensor == "s2"},
    "SCL_20m": SCL_BAND,
    **_COMMON_NAMES,
    "vv": "VV",
    "vh": "VH",
}
"""Asset key, case as published → band name. Where an item has several keys of one band the first one here is taken."""

REQUIRED: dict[SensorName, tuple[str, ...]] = {"s2": S2_BANDS, "s1": S1_BANDS, "label": (LABEL_BAND,)}
"""Bands without which a scene is of no use; nothing is ever put in their place."""


def provider_for(catalog: str) -> Provider:
    """The catalog that a name, a STAC API URL or a stac-geoparquet file stands for.

    Raises CatalogError for anything else, and for a URL that carries a password or a query: secrets do not belong into
    a recipe.
    """
    if catalog in PROVIDERS:
        return PROVIDERS[catalog]
    if "://" in catalog:
        parts = split(catalog)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise CatalogError(f"{redact(catalog)}: not the URL of a STAC API; expected https://host/path")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise CatalogError(f"{redact(catalog)}: give the URL of the API without password, query and fragment")
        url = catalog.rstrip("/")
        known = next((provider for provider in PROVIDERS.values() if provider.url == url), None)
        return known or Provider(name=API_PROVIDER, url=url)
    if catalog.endswith((".parquet", ".geoparquet")) or Path(catalog).is_file():
        return Provider(name=FILE_PROVIDER, url=None)
    raise CatalogError(
        f"unknown catalog {catalog!r}; known: {', '.join(PROVIDERS)}, or give a STAC API URL or a stac-geoparquet file"
    )
