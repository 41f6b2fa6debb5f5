"""Catalogs as data: where they are, what they call their collections and assets, who signs their addresses.

Adding a catalog is one entry in PROVIDERS; see examples/own_catalog.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from geossl_data.bands import BANDS, LABEL_BAND, S1_BANDS, S2_BANDS, SCL_BAND
from geossl_data.errors import CatalogError
from geossl_data.records import Product
from geossl_data.scenes.hrefs import redact, split

SensorName = Literal["s1", "s2", "label"]
"""What an item is of: one of the two sensors, or a map of land classes."""
SENSOR_OF: Mapping[Product, SensorName] = MappingProxyType(
    {"L2A": "s2", "L1C": "s2", "RTC": "s1", "GRD": "s1", "class": "label"}
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenService:
    """Where access tokens for blobs come from, and which blobs they may be asked for."""

    url: str
    """`{url}/{account}/{container}` answers with `token` and `msft:expiry`."""
    containers: Mapping[str, tuple[str, str]]
    """Address that a signed blob's address starts with, up to and with the container → (account, container)."""
    url_variable: str | None = None
    """Environment variable that names another token service, for mirrors and tests."""
    key_variable: str | None = None
    """Environment variable with an optional key, sent to the service alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A catalog: where it is, what its collections hold, and how its assets are opened."""

    name: str
    """What `--catalog` takes."""
    url: str | None
    """Root of its STAC API; None for stac-geoparquet."""
    snapshot: str | None = None
    """File, folder or URL of its stac-geoparquet; only where there is no API, and only for a catalog with a name."""
    collections: Mapping[str, Product]
    """Collection → what it holds. The first of a product is the one that is searched."""
    aliases: Mapping[str, str] = field(default_factory=lambda: ALIASES)
    """Asset key, case as published → band name; where an item has several keys of one band the first one counts."""
    tokens: TokenService | None = None
    """Who signs the addresses of its assets; None where they open as they are."""
    offset: Literal["stored", "flag", "applied"] = "flag"
    """Sentinel-2's radiometric offset. stored: the files hold the product's own numbers; flag: an item's flag says
    that the offset has been applied already, without one the numbers are the product's own; applied: it always has."""
    page_size: int = 250
    """Items asked for per page."""
    concurrency: int = 4
    """Requests under way at a time."""
    per_second: float = 10.0
    """Requests started in a second."""

    def collection(self, product: Product) -> str:
        """The collection to search for a product; CatalogError where the catalog has none."""
        found = next((name for name, held in self.collections.items() if held == product), None)
        if found is None:
            has = ", ".join(dict.fromkeys(held for held in self.collections.values() if held != "class"))
            raise CatalogError(f"{self.name}: has no {product} products; it has {has}: choose with --s2 and --s1")
        return found


PLANETARY_COMPUTER_TOKENS = TokenService(
    url="https://planetarycomputer.microsoft.com/api/sas/v1/token",
    containers=MappingProxyType(
        {
            f"https://{account}.blob.core.windows.net/{container}": (account, container)
            for account, container in (
                ("sentinel2l2a01", "sentinel2-l2"),
                ("sentinel1euwestrtc", "sentinel1-grd-rtc"),
                ("sentinel1euwest", "s1-grd"),
            )
        }
    ),
    url_variable="PC_SDK_SAS_URL",
    key_variable="PC_SDK_SUBSCRIPTION_KEY",
)
"""Source: the `msft:storage_account` and `msft:container` of the collections."""

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="planetary-computer",
            url="https://planetarycomputer.microsoft.com/api/stac/v1",
            collections={"sentinel-2-l2a": "L2A", "sentinel-1-rtc": "RTC", "sentinel-1-grd": "GRD"},
            tokens=PLANETARY_COMPUTER_TOKENS,
            offset="stored",
            page_size=1000,
        ),
        Provider(
            name="earth-search",
            url="https://earth-search.aws.element84.com/v1",
            collections={
                "sentinel-2-l2a": "L2A",
                "sentinel-2-c1-l2a": "L2A",
                "sentinel-2-l1c": "L1C",
                "sentinel-1-grd": "GRD",
            },
            page_size=100,
        ),
        Provider(
            name="cdse",
            url="https://stac.dataspace.copernicus.eu/v1",
            collections={"sentinel-2-l2a": "L2A", "sentinel-2-l1c": "L1C", "sentinel-1-grd": "GRD"},
            offset="stored",
            page_size=500,
            per_second=4.0,
        ),
    )
}
"""Limits: Planetary Computer 1000 items a page; Copernicus Data Space 5 to 10 requests a second."""

FILE_PROVIDER = "file"
API_PROVIDER = "stac-api"

COLLECTIONS: Mapping[str, Product] = MappingProxyType(
    {
        "sentinel-2-l2a": "L2A",
        "sentinel-2-c1-l2a": "L2A",
        "sentinel-s2-l2a-cogs": "L2A",
        "sentinel-2-l1c": "L1C",
        "sentinel-s2-l1c": "L1C",
        "sentinel-1-rtc": "RTC",
        "sentinel-1-grd": "GRD",
    }
)
"""What the collections of a catalog that nobody described hold, by the names that archives give them."""

PARQUET_ENDINGS = (".parquet", ".geoparquet")
_OBJECT_STORES = ("s3", "gs", "az", "abfs")


def provider_for(catalog: str) -> Provider:
    """The catalog that a name, a STAC API URL, or the file, folder or URL of a stac-geoparquet table stands for.

    Raises CatalogError for anything else, and for a URL that carries a password or a query: secrets do not belong into
    a recipe.
    """
    if catalog in PROVIDERS:
        return PROVIDERS[catalog]
    if "://" in catalog:
        parts = split(catalog)
        if parts is None or parts.scheme not in ("http", "https", *_OBJECT_STORES) or not parts.hostname:
            raise CatalogError(f"{redact(catalog)}: not the URL of a STAC API; expected https://host/path")
        if "@" in parts.netloc.removeprefix(f"{parts.username}@" if parts.scheme == "abfs" else "") or parts.password:
            raise CatalogError(f"{redact(catalog)}: give the URL of the catalog without user and password")
        if parts.query or parts.fragment:
            raise CatalogError(f"{redact(catalog)}: give the URL of the catalog without query and fragment")
        if parts.scheme in _OBJECT_STORES or catalog.endswith(PARQUET_ENDINGS):
            return Provider(name=FILE_PROVIDER, url=None, collections=COLLECTIONS)
        url = catalog.rstrip("/")
        known = next((provider for provider in PROVIDERS.values() if provider.url == url), None)
        return known or Provider(name=API_PROVIDER, url=url, collections=COLLECTIONS)
    if catalog.endswith(PARQUET_ENDINGS) or _is_there(Path(catalog)):
        return Provider(name=FILE_PROVIDER, url=None, collections=COLLECTIONS)
    raise CatalogError(
        f"unknown catalog {catalog[:200]!r}; known: {', '.join(PROVIDERS)}, "
        "or give a STAC API URL or a stac-geoparquet file"
    )


def _is_there(path: Path) -> bool:
    """Whether a file or folder has this name; no file has one that the system refuses."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
