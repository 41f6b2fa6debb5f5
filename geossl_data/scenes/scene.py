"""The Scene that an item becomes.

Everything in an item is hostile until it is checked on this way: id, times and assets here, geometry, addresses,
offset and grids in the modules named after them.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, get_args

from geossl_data.bands import LABEL_BAND, SCL_BAND
from geossl_data.errors import SceneError
from geossl_data.records import OrbitState, Product, Scene
from geossl_data.scenes.footprint import footprint_of
from geossl_data.scenes.grids import same_grids, stated_grid
from geossl_data.scenes.hrefs import Hrefs, resolve_href
from geossl_data.scenes.items import finite, parse_time, rfc3339
from geossl_data.scenes.offset import boa_offset, processing_baseline
from geossl_data.scenes.providers import REQUIRED, SENSOR_OF, Provider, SensorName
from geossl_data.scenes.reasons import ItemError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+=@~-]{0,199}")
_LONGEST_PASS = timedelta(days=1, seconds=1)
"""A scene that spans more than this was put together from several passes."""


def product_of(item: Mapping[str, Any], provider: Provider) -> Product | None:
    """What an item is, by its collection; None for what this program has no use for.

    In a catalog that is a file, any item with a land-class map is one.
    """
    assets = item.get("assets")
    if provider.url is None and isinstance(assets, Mapping) and LABEL_BAND in assets:
        return "class"
    collection = item.get("collection")
    return provider.collections.get(collection) if isinstance(collection, str) else None


def scene_from_item(item: Mapping[str, Any], provider: Provider, base: str) -> Scene:
    """A STAC item as a Scene.

    base: absolute folder, or URL, that relative hrefs are resolved against and that local hrefs must lie below.
    The scene's `boa_offset` is None where neither a baseline nor a flag states it. Raises ItemError, a SceneError with
    a class of reason, for an item that cannot be used.
    """
    name = _item_id(item)
    product = product_of(item, provider)
    properties = item.get("properties")
    if product is None:
        raise ItemError("bad-item", f"{name}: collection {item.get('collection')!r} is not one that is searched")
    if not isinstance(properties, Mapping):
        raise ItemError("bad-item", f"{name}: properties are not a mapping")
    sensor = SENSOR_OF[product]
    acquired, ends = _times(name, properties, is_period=sensor == "label")
    footprint = footprint_of(name, item.get("geometry"))
    assets = {band: item["assets"][key] for band, key in asset_keys(item, sensor, provider.aliases).items()}
    if sensor == "s1":
        _require_ground_geometry(name, product, assets, properties)
    grids = {band: stated_grid(band, asset, properties) for band, asset in assets.items()}
    baseline = processing_baseline(name, item, properties) if sensor == "s2" else None
    try:
        return Scene(
            id=name,
            collection=str(item["collection"]),
            sensor=sensor,
            acquired=acquired,
            ends=ends,
            footprint=footprint,
            hrefs=_hrefs(name, assets, base),
            grids=same_grids(tuple((band, grid) for band, grid in grids.items() if grid is not None)),
            platform=platform_name(properties.get("platform")),
            orbit_state=_orbit_state(properties),
            relative_orbit=_relative_orbit(name, properties),
            cloud_percent=finite(properties.get("eo:cloud_cover")) if sensor == "s2" else None,
            mgrs_tile=_mgrs_tile(name, properties) if sensor == "s2" else None,
            baseline=baseline,
            boa_offset=boa_offset(name, baseline, properties, assets, provider.offset) if sensor == "s2" else None,
            product_id=_product_id(properties),
            product=product,
        )
    except ItemError:
        raise
    except SceneError as error:
        raise ItemError("bad-item", str(error)) from None


def asset_keys(item: Mapping[str, Any], sensor: SensorName, aliases: Mapping[str, str]) -> dict[str, str]:
    """Band name → key of the asset that holds it, for the bands of a sensor.

    Raises ItemError where a band is absent without which the scene is of no use.
    """
    name, given = item["id"], item.get("assets")
    if not isinstance(given, Mapping):
        raise ItemError("missing-asset", f"{name}: no assets")
    keys: dict[str, list[str]] = {}
    for key, asset in given.items():
        band = aliases.get(key)
        if band is not None and isinstance(asset, Mapping) and isinstance(asset.get("href"), str):
            keys.setdefault(band, []).append(key)
    found = {band: some[0] if len(some) == 1 else min(some, key=list(aliases).index) for band, some in keys.items()}
    missing = [band for band in REQUIRED[sensor] if band not in found]
    if missing:
        raise ItemError("missing-asset", f"{name}: no asset for {', '.join(missing)}; has {_names(given)}")
    optional = (SCL_BAND,) if sensor == "s2" else ()
    return {band: found[band] for band in (*REQUIRED[sensor], *optional) if band in found}


def platform_name(value: Any) -> str | None:
    """`sentinel-2a` for any spelling of it; another platform's name in lower case; None for none."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        return None
    known = re.fullmatch(r"sentinel([12])([a-z])", re.sub(r"[^a-z0-9]", "", value.lower()))
    return f"sentinel-{known[1]}{known[2]}" if known else value.strip().lower()[:40]


def _item_id(item: Mapping[str, Any]) -> str:
    name = item.get("id")
    if not isinstance(name, str) or _ID.fullmatch(name) is None or ".." in name:
        raise ItemError("bad-item", f"item id {str(name)[:60]!r} is not {_ID.pattern}")
    return name


_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _require_ground_geometry(
    name: str, product: Product, assets: Mapping[str, Mapping[str, Any]], properties: Mapping[str, Any]
) -> None:
    """Raise ItemError for Sentinel-1 in radar geometry, which lies nowhere until it is terrain-corrected.

    Ground-range products are taken only where they state a projected grid. A transform in degrees beside one is made
    up from the corners of the footprint (Earth Search), an identity transform says that there is none.
    """
    if properties.get("sar:product_type") == "SLC":
        raise ItemError("not-terrain-corrected", f"{name}: a single-look complex product; RTC is needed")
    for band, asset in assets.items():
        transform = asset.get("proj:transform", properties.get("proj:transform"))
        if isinstance(transform, list | tuple) and tuple(transform[:6]) in (_IDENTITY, (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)):
            raise ItemError("not-terrain-corrected", f"{name}: {band} has an identity transform: in radar geometry")
        if product == "GRD" and stated_grid(band, asset, properties) is None:
            raise ItemError(
                "not-terrain-corrected",
                f"{name}: a ground-range product that states no projected pixel grid is in radar geometry; use RTC",
            )


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


def _time(name: str, properties: Mapping[str, Any], key: str) -> datetime | None:
    value = properties.get(key)
    if value is None:
        return None
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        raise ItemError("bad-item", f"{name}: {key} {str(value)[:40]!r} is not an RFC 3339 time") from None


def _hrefs(name: str, assets: Mapping[str, Mapping[str, Any]], base: str) -> Hrefs:
    try:
        return Hrefs({band: resolve_href(asset["href"], base) for band, asset in assets.items()})
    except SceneError as error:
        raise ItemError("href-refused", f"{name}: {error}") from None


def _names(assets: Mapping[str, Any]) -> str:
    names = sorted(str(key)[:24] for key in assets)
    more = ", …" if len(names) > 16 else ""
    return (", ".join(names[:16]) + more) or "none"


def _orbit_state(properties: Mapping[str, Any]) -> OrbitState | None:
    value = str(properties.get("sat:orbit_state", "")).lower()
    return next((state for state in get_args(OrbitState) if state == value), None)


def _relative_orbit(name: str, properties: Mapping[str, Any]) -> int | None:
    stated = finite(properties.get("sat:relative_orbit"))
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
