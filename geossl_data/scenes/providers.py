"""Catalogs as data: where they are, what they call things, and how one of their items becomes a Scene.

Everything in an item is hostile until it is checked here: its id, its geometry, its addresses and the offset it states.
"""

import math
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlunsplit

from geossl_data.bands import BANDS, LABEL_BAND, S1_BANDS, S2_BANDS, S2_BOA_OFFSET, SCL_BAND
from geossl_data.errors import CatalogError, ReadError, SceneError
from geossl_data.grid import Grid
from geossl_data.records import OrbitState, Scene
from geossl_data.scenes.hrefs import BLOB_HOST, redact, resolve_href, split
from geossl_data.scenes.items import parse_time, rfc3339

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

SensorName = Literal["s1", "s2", "label"]
Reason = Literal[
    "missing-asset",
    "no-time",
    "unknown-baseline",
    "offset-contradiction",
    "bad-item",
    "not-terrain-corrected",
    "href-refused",
    "superseded",
]
"""The classes of reason for which a found item is given up."""


class ItemError(SceneError):
    """An item that cannot be used; `reason` is the short class of reason that the summary counts."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type["ItemError"], tuple[Reason, str]]:
        return (ItemError, (self.reason, str(self)))


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
    sign: Literal["planetary-computer", "none"] = "none"
    """Who signs its hrefs when they are read."""
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
            sign="planetary-computer",
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

_FILE_COLLECTIONS: dict[str, SensorName] = {
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


def sensor_of(item: Mapping[str, Any], provider: Provider) -> SensorName | None:
    """What an item is, by its collection; None for what this program has no use for."""
    collection = item.get("collection")
    by_name: dict[str, SensorName] = {provider.s2_collection: "s2", provider.s1_collection: "s1"}
    if provider.label_collection is not None:
        by_name[provider.label_collection] = "label"
    if provider.url is None:
        assets = item.get("assets")
        if isinstance(assets, Mapping) and LABEL_BAND in assets:
            return "label"
        by_name = {**_FILE_COLLECTIONS, **by_name}
    return by_name.get(collection) if isinstance(collection, str) else None


# ---------------------------------------------------------------------------------------------------- scenes


def scene_from_item(item: Mapping[str, Any], provider: Provider, base: str) -> Scene:
    """A STAC item as a Scene.

    base: absolute folder, or URL, that relative hrefs are resolved against and that local hrefs must lie below.
    The scene's `boa_offset` is None where neither a baseline nor a flag states it. Raises ItemError, a SceneError with
    a class of reason, for an item that cannot be used.
    """
    name = _item_id(item)
    sensor = sensor_of(item, provider)
    properties = item.get("properties")
    if sensor is None:
        raise ItemError("bad-item", f"{name}: collection {item.get('collection')!r} is not one that is searched")
    if not isinstance(properties, Mapping):
        raise ItemError("bad-item", f"{name}: properties are not a mapping")
    if sensor == "s1" and _is_ground_range(str(item["collection"]), properties):
        raise ItemError(
            "not-terrain-corrected",
            f"{name}: {item['collection']} is in radar geometry; a terrain-corrected collection (RTC) is needed",
        )
    acquired, ends = _times(name, properties, is_period=sensor == "label")
    footprint = footprint_of(name, item.get("geometry"))
    assets = {band: item["assets"][key] for band, key in asset_keys(item, sensor).items()}
    grids = {band: _grid(band, asset, properties) for band, asset in assets.items()}
    baseline = _baseline(name, item, properties) if sensor == "s2" else None
    try:
        return Scene(
            id=name,
            collection=str(item["collection"]),
            sensor=sensor,
            acquired=acquired,
            ends=ends,
            footprint=footprint,
            hrefs=_hrefs(name, assets, base),
            grids={band: grid for band, grid in grids.items() if grid is not None},
            platform=platform_name(properties.get("platform")),
            orbit_state=_orbit_state(properties),
            relative_orbit=_relative_orbit(name, properties),
            cloud_percent=_number(properties.get("eo:cloud_cover")) if sensor == "s2" else None,
            mgrs_tile=_mgrs_tile(name, properties) if sensor == "s2" else None,
            baseline=baseline,
            boa_offset=_boa_offset(name, baseline, properties, assets) if sensor == "s2" else None,
            product_id=_product_id(properties),
        )
    except ItemError:
        raise
    except SceneError as error:
        raise ItemError("bad-item", str(error)) from None


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+=@~-]{0,199}")


def _item_id(item: Mapping[str, Any]) -> str:
    name = item.get("id")
    if not isinstance(name, str) or _ID.fullmatch(name) is None or ".." in name:
        raise ItemError("bad-item", f"item id {str(name)[:60]!r} is not {_ID.pattern}")
    return name


def _is_ground_range(collection: str, properties: Mapping[str, Any]) -> bool:
    words = collection.lower()
    return ("rtc" not in words and ("grd" in words or "slc" in words)) or properties.get("sar:product_type") == "SLC"


def _time(name: str, properties: Mapping[str, Any], key: str) -> datetime | None:
    value = properties.get(key)
    if value is None:
        return None
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        raise ItemError("bad-item", f"{name}: {key} {str(value)[:40]!r} is not an RFC 3339 time") from None


_LONGEST_PASS = timedelta(days=1, seconds=1)
"""A scene that spans more than this was put together from several passes."""


def _times(name: str, properties: Mapping[str, Any], *, is_period: bool) -> tuple[datetime, datetime]:
    moment = _time(name, properties, "datetime")
    start = _time(name, properties, "start_datetime")
    end = _time(name, properties, "end_datetime")
    if is_period:
        first = start or moment
        if first is None:
            raise ItemError("no-time", f"{name}: neither datetime nor start_datetime")
        return first, max(first, end or first)
    composite = start is not None and end is not None and end - start > _LONGEST_PASS
    if moment is None or composite:
        span = f" (a composite from {rfc3339(start)} to {rfc3339(end)})" if start and end else ""
        raise ItemError("no-time", f"{name}: no acquisition time{span}")
    return moment, max(moment, end or moment)


def footprint_of(name: str, geometry: Any) -> "BaseGeometry":
    """A GeoJSON footprint as a valid polygon or multipolygon in degrees, its west edge in [-180, 180).

    One that spans more than 180° of longitude is understood to cross the antimeridian: its western half is moved east,
    beyond 180. Raises ItemError where it is no area on the Earth.
    """
    import shapely
    from shapely import affinity
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        given = shapely.force_2d(shape(geometry))
        coordinates = shapely.get_coordinates(given)
    except (ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise ItemError("bad-item", f"{name}: geometry is not GeoJSON") from None
    in_range = len(coordinates) > 0 and (abs(coordinates[:, 0]) <= 720).all() and (abs(coordinates[:, 1]) <= 90).all()
    if not in_range:
        raise ItemError("bad-item", f"{name}: geometry is empty or not in degrees of longitude and latitude")
    west, _, east, _ = given.bounds
    if east - west > 180.0:
        given = shapely.transform(given, _eastwards)
        west, _, east, _ = given.bounds
    area = _polygonal(given if given.is_valid else shapely.make_valid(given))
    if area.is_empty or east - west > 180.0:
        raise ItemError("bad-item", f"{name}: geometry is not a polygon that spans less than half the globe")
    turns = math.floor((west + 180.0) / 360.0)
    return affinity.translate(area, xoff=-360.0 * turns) if turns else area


def _eastwards(coordinates: Any) -> Any:
    moved = coordinates.copy()
    moved[moved[:, 0] < 0, 0] += 360.0
    return moved


def _polygonal(shape: "BaseGeometry") -> "BaseGeometry":
    """The area of a geometry: its polygons merged, without lines and points."""
    import shapely

    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if len(parts) != 1 else parts[0]


def asset_keys(item: Mapping[str, Any], sensor: SensorName) -> dict[str, str]:
    """Band name → key of the asset that holds it, for the bands of a sensor.

    Raises ItemError where a band is absent without which the scene is of no use.
    """
    name, given = item["id"], item.get("assets")
    if not isinstance(given, Mapping):
        raise ItemError("missing-asset", f"{name}: no assets")
    found: dict[str, str] = {}
    for key, band in ALIASES.items():
        asset = given.get(key)
        if band not in found and isinstance(asset, Mapping) and isinstance(asset.get("href"), str):
            found[band] = key
    missing = [band for band in REQUIRED[sensor] if band not in found]
    if missing:
        raise ItemError("missing-asset", f"{name}: no asset for {', '.join(missing)}; has {_names(given)}")
    optional = (SCL_BAND,) if sensor == "s2" else ()
    return {band: found[band] for band in (*REQUIRED[sensor], *optional) if band in found}


def _hrefs(name: str, assets: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, str]:
    try:
        return {band: resolve_href(asset["href"], base) for band, asset in assets.items()}
    except SceneError as error:
        raise ItemError("href-refused", f"{name}: {error}") from None


def _names(assets: Mapping[str, Any]) -> str:
    names = sorted(str(key)[:24] for key in assets)
    more = ", …" if len(names) > 16 else ""
    return (", ".join(names[:16]) + more) or "none"


def platform_name(value: Any) -> str | None:
    """`sentinel-2a` for any spelling of it; another platform's name in lower case; None for none."""
    if not isinstance(value, str) or not value.strip():
        return None
    known = re.fullmatch(r"sentinel([12])([a-z])", re.sub(r"[^a-z0-9]", "", value.lower()))
    return f"sentinel-{known[1]}{known[2]}" if known else value.strip().lower()[:40]


def _orbit_state(properties: Mapping[str, Any]) -> OrbitState | None:
    value = str(properties.get("sat:orbit_state", "")).lower()
    return next((state for state in get_args(OrbitState) if state == value), None)


def _relative_orbit(name: str, properties: Mapping[str, Any]) -> int | None:
    stated = _number(properties.get("sat:relative_orbit"))
    if stated is not None and 1 <= stated <= 175:
        return int(stated)
    for text in (properties.get("s2:product_uri"), name):
        match = re.search(r"_R(\d{3})_", text) if isinstance(text, str) else None
        if match is not None:
            return int(match[1])
    return None


def _mgrs_tile(name: str, properties: Mapping[str, Any]) -> str | None:
    for text in (properties.get("s2:mgrs_tile"), properties.get("grid:code"), properties.get("s2:product_uri"), name):
        if isinstance(text, str):
            match = re.search(r"(?:^|MGRS-|_T|_)(\d{1,2})([C-X][A-Z]{2})(?:_|$)", text)
            if match is not None:
                return f"{int(match[1]):02d}{match[2]}"
    return None


def _product_id(properties: Mapping[str, Any]) -> str | None:
    for key in ("s2:product_uri", "s1:product_identifier", "sentinel:product_id"):
        value = properties.get(key)
        if isinstance(value, str) and _ID.fullmatch(value):
            return value.removesuffix(".SAFE")
    return None


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


# ---------------------------------------------------------------------------------------------------- offset

BASELINE_KEYS = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
APPLIED_KEYS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_FIRST_BASELINE_WITH_OFFSET = "04.00"


def _baseline(name: str, item: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    """The processing baseline as `05.10`, from the properties, else from the product's name; None where unknown.

    Raises ItemError where the two stand on different sides of 04.00.
    """
    stated = next((text for key in BASELINE_KEYS if (text := _baseline_text(properties.get(key))) is not None), None)
    uri = properties.get("s2:product_uri", properties.get("sentinel:product_id"))
    names = [match for text in (uri, item.get("id")) if isinstance(text, str) for match in _named_baselines(text)]
    named = names[0] if names else None
    if stated is not None and named is not None and _native_offset(stated) != _native_offset(named):
        raise ItemError("offset-contradiction", f"{name}: baseline {stated} in the properties, {named} in the name")
    return stated or named


def _baseline_text(value: Any) -> str | None:
    if _number(value) is not None:
        value = f"{value:.2f}"
    match = re.fullmatch(r"(\d{1,2})\.(\d{2})", value) if isinstance(value, str) else None
    return f"{int(match[1]):02d}.{match[2]}" if match else None


def _named_baselines(text: str) -> Iterable[str]:
    return (f"{number[:2]}.{number[2:]}" for number in re.findall(r"_N(\d{4})_", text))


def _native_offset(baseline: str) -> int:
    return S2_BOA_OFFSET if baseline >= _FIRST_BASELINE_WITH_OFFSET else 0


def _boa_offset(
    name: str, baseline: str | None, properties: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]]
) -> int | None:
    """What is to be added to the digital numbers in the files: 0 or -1000; None where nothing tells.

    The baseline decides what the product was made with, never the date. A catalog that has already subtracted it says
    so with a flag; the `raster:bands` offset then goes on to describe the original product (Earth Search), so that the
    two are compared only where the flag is not set. Raises ItemError where what is stated cannot all be true.
    """
    native = None if baseline is None else _native_offset(baseline)
    flag = next((properties[key] for key in APPLIED_KEYS if isinstance(properties.get(key), bool)), None)
    if flag is True:
        if native == 0:
            raise ItemError(
                "offset-contradiction", f"{name}: said to be shifted by -1000, but baseline {baseline} has no offset"
            )
        return 0
    stated = {offset for band in S2_BANDS for offset in _raster_offsets(assets[band])}
    if native is not None and stated - {native}:
        raise ItemError(
            "offset-contradiction",
            f"{name}: baseline {baseline} means an offset of {native}, raster:bands state {sorted(stated)}",
        )
    return native


def _raster_offsets(asset: Mapping[str, Any]) -> list[int]:
    """Offsets of a reflectance asset in digital numbers, from `raster:bands` or `bands`."""
    found = []
    for key, prefix in (("raster:bands", ""), ("bands", "raster:")):
        bands = asset.get(key)
        for band in bands if isinstance(bands, list) else []:
            offset = _number(band.get(f"{prefix}offset")) if isinstance(band, Mapping) else None
            scale = _number(band.get(f"{prefix}scale")) if isinstance(band, Mapping) else None
            if offset is not None and scale is not None and scale > 0:
                found.append(round(offset / scale))
    return found


# ---------------------------------------------------------------------------------------------------- grids

_LARGEST_SIDE_PX = 1_000_000
_S2_RESOLUTION_M = {SCL_BAND: 20, **{band: BANDS[band].resolution_m for band in S2_BANDS}}


def _grid(band: str, asset: Mapping[str, Any], properties: Mapping[str, Any]) -> Grid | None:
    """The pixel grid that an asset states, else the item's; None unless it is north-up, square and in a UTM zone.

    A grid of the item holds for a Sentinel-2 band only when it has the band's own pixel size.
    """
    epsg = _epsg(asset) or _epsg(properties)
    if epsg is None:
        return None
    own = _grid_from(epsg, asset.get("proj:transform"), asset.get("proj:shape", properties.get("proj:shape")))
    if own is not None or asset.get("proj:transform") is not None:
        return own
    shared = _grid_from(epsg, properties.get("proj:transform"), asset.get("proj:shape", properties.get("proj:shape")))
    native_m = _S2_RESOLUTION_M.get(band)
    return shared if shared is not None and native_m in (None, shared.resolution_m) else None


def _epsg(holder: Mapping[str, Any]) -> int | None:
    code = holder.get("proj:code")
    if isinstance(code, str) and (match := re.fullmatch(r"EPSG:(\d{4,6})", code)):
        return int(match[1])
    number = _number(holder.get("proj:epsg"))
    return int(number) if number is not None and number == int(number) else None


def _grid_from(epsg: int, transform: Any, shape: Any) -> Grid | None:
    if not (isinstance(transform, list | tuple) and isinstance(shape, list | tuple)):
        return None
    try:
        return _checked_grid(epsg, tuple(transform), tuple(shape))
    except TypeError:  # something that cannot be hashed stands where a number should
        return None


@lru_cache(maxsize=4096)
def _checked_grid(epsg: int, transform: tuple[Any, ...], shape: tuple[Any, ...]) -> Grid | None:
    is_utm = 32601 <= epsg <= 32660 or 32701 <= epsg <= 32760
    numbers = [_number(value) for value in transform]
    sides = [_number(value) for value in shape]
    if not is_utm or len(numbers) not in (6, 9) or len(sides) != 2 or None in numbers or None in sides:
        return None
    width_m, skew_x, x, skew_y, height_m, y = (float(value or 0.0) for value in numbers[:6])
    height, width = (float(value or 0.0) for value in sides)
    whole = all(side == int(side) and 0 < side <= _LARGEST_SIDE_PX for side in (height, width))
    if not whole or width_m <= 0 or height_m != -width_m or skew_x or skew_y:
        return None
    return Grid(epsg, x, y, width_m, int(width), int(height))


# ---------------------------------------------------------------------------------------------------- signing

TOKEN_URL_VARIABLE = "PC_SDK_SAS_URL"  # noqa: S105 - a name, not a secret
"""Environment variable that names another token service; the same as Microsoft's own client uses."""
SUBSCRIPTION_VARIABLE = "PC_SDK_SUBSCRIPTION_KEY"
"""Environment variable with an optional key, which lifts limits of the token service."""
_TOKEN_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/token"  # noqa: S105 - an address, not a secret
_SIGNED_CONTAINERS = frozenset({("sentinel2l2a01", "sentinel2-l2"), ("sentinel1euwestrtc", "sentinel1-grd-rtc")})
"""(storage account, container) of the Planetary Computer that a token is ever asked for."""
_REFRESH_S = 60.0
"""A token that lives shorter than this is not used any more."""
_ATTEMPTS = 3
_PAUSE_AFTER_FAILURE_S = 30.0
_TIMEOUT_S = (10.0, 30.0)

_TOKEN_LOCK = threading.Lock()
_TOKENS: dict[str, tuple[str, float]] = {}
_FAILURES: dict[str, tuple[str, float]] = {}


def sign(href: str) -> str:
    """An href that opens: with a fresh token where it lies in a container of the Planetary Computer, else unchanged.

    Tokens are kept per container and process and are asked for by one thread at a time. Raises ReadError when the
    token service does not answer, or answers with a token that has already expired; further calls within half a
    minute then fail at once instead of asking again.
    """
    parts = split(href)
    if parts is None or parts.scheme != "https" or not (parts.hostname or "").endswith(BLOB_HOST):
        return href
    container = (str(parts.hostname).removesuffix(BLOB_HOST), parts.path.lstrip("/").partition("/")[0])
    if container not in _SIGNED_CONTAINERS:
        return href
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return f"{bare}?{_token('/'.join(container))}"


def _token(container: str) -> str:
    with _TOKEN_LOCK:
        now = time.time()
        token, expiry = _TOKENS.get(container, ("", 0.0))
        if expiry - now >= _REFRESH_S:
            return token
        reason, until = _FAILURES.get(container, ("", 0.0))
        if now < until:
            raise ReadError(reason)
        try:
            _TOKENS[container] = _fresh_token(container)
        except ReadError as error:
            _FAILURES[container] = (str(error), now + _PAUSE_AFTER_FAILURE_S)
            raise
        return _TOKENS[container][0]


def _fresh_token(container: str) -> tuple[str, float]:
    """Token and its expiry in seconds of the Unix epoch, asked for over the network."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    service = os.environ.get(TOKEN_URL_VARIABLE, _TOKEN_URL).rstrip("/")
    key = os.environ.get(SUBSCRIPTION_VARIABLE)
    retry = Retry(total=4, read=1, backoff_factor=0.8, status_forcelist=(429, 500, 502, 503, 504), retry_after_max=60)
    with requests.Session() as session:
        session.auth = _no_auth
        session.mount(service, HTTPAdapter(max_retries=retry))
        session.headers.update({"Ocp-Apim-Subscription-Key": key} if key else {})
        for _ in range(_ATTEMPTS):
            try:
                answer = session.get(f"{service}/{container}", timeout=_TIMEOUT_S, allow_redirects=False)
                answer.raise_for_status()
                content = answer.json()
                token, expiry = str(content["token"]), parse_time(content["msft:expiry"]).timestamp()
            except (requests.RequestException, ValueError, TypeError, KeyError) as error:
                raise ReadError(f"no access token for {container}: {type(error).__name__}; try again later") from None
            if expiry - time.time() >= _REFRESH_S:
                return token, expiry
    raise ReadError(f"the token service hands out expired tokens for {container}; check this machine's clock")


def _no_auth(request: Any) -> Any:
    """Keeps the user's netrc out of requests."""
    return request
