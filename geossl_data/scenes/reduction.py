"""Items reduced to what is of use for their scenes, so that any of them fit one table and none holds a secret."""

import re
from collections.abc import Mapping
from typing import Any

from geossl_data.records import Scene
from geossl_data.scenes.hrefs import host_of, unsigned
from geossl_data.scenes.items import Item, is_text
from geossl_data.scenes.offset import APPLIED_KEYS, BAND_LISTS, BASELINE_KEYS
from geossl_data.scenes.scene import asset_keys

_TEXTS = (
    *("datetime", "start_datetime", "end_datetime", "platform", "constellation"),
    *("proj:code", "sat:orbit_state", "grid:code", "sar:instrument_mode", "sar:product_type", "processing:version"),
    *("s2:product_uri", "s2:processing_baseline", "s2:mgrs_tile", "s2:datatake_id", "s2:generation_time"),
    *("s2:granule_id", "s1:product_identifier", "sentinel:product_id", "sentinel:processing_baseline"),
)
_NUMBERS = ("gsd", "eo:cloud_cover", "s2:mean_solar_zenith", "s2:mean_solar_azimuth", "s2:nodata_pixel_percentage")
_INTEGERS = ("proj:epsg", "sat:relative_orbit", "sat:absolute_orbit")
_LISTS = {"proj:transform": float, "proj:shape": int}
_VERSION = re.compile(r"\d{1,3}(\.\d{1,3}){2}[A-Za-z0-9.-]{0,20}")
_RASTER_BAND = ("nodata", "scale", "offset", "spatial_resolution")


def reduced(item: Mapping[str, Any], scene: Scene, base: str, aliases: Mapping[str, str]) -> Item:
    """A STAC item with what is of use for a scene: checked properties of known type, the scene's own assets.

    aliases: asset key → band name, as the scene was made with.
    Other assets and links may carry signatures, and other properties any type, which no table could hold.
    """
    keys = asset_keys(item, scene.sensor, aliases)
    assets = {key: _asset(item["assets"][key], scene.hrefs[band]) for band, key in keys.items()}
    extensions, version = item.get("stac_extensions"), item.get("stac_version")
    return {
        "type": "Feature",
        "stac_version": version if isinstance(version, str) and _VERSION.fullmatch(version) else "1.0.0",
        "stac_extensions": [text for text in extensions if is_text(text) and "?" not in text and "@" not in text]
        if isinstance(extensions, list)
        else [],
        "id": scene.id,
        "collection": scene.collection,
        "geometry": item["geometry"],
        "properties": {"datetime": None, **_properties(item["properties"])},
        "links": self_links(item.get("links"), base),
        "assets": assets,
    }


def self_links(given: Any, base: str) -> list[dict[str, str]]:
    """The link to the item itself, where it is on the catalog's own host."""
    for link in given if isinstance(given, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "self" and is_text(link.get("href")):
            href = unsigned(link["href"])
            if "://" in href and "@" not in href and host_of(href) == host_of(base):
                return [{"rel": "self", "type": "application/geo+json", "href": href}]
    return []


def _properties(given: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in _TEXTS:
        value = given.get(name)
        if _is_plain(value):
            known[name] = value
        elif name in BASELINE_KEYS and _is_number(value):
            known[name] = f"{value:.2f}"
    known |= {name: float(given[name]) for name in _NUMBERS if _is_number(given.get(name))}
    known |= {name: int(given[name]) for name in _INTEGERS if _is_number(given.get(name))}
    known |= {name: given[name] for name in APPLIED_KEYS if isinstance(given.get(name), bool)}
    return known | _lists(given)


def _lists(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [kind(value) for value in given[name]]
        for name, kind in _LISTS.items()
        if isinstance(given.get(name), list | tuple) and all(map(_is_number, given[name]))
    }


def _is_plain(value: Any) -> bool:
    """Whether a value is text without an address in it, which might be signed."""
    return is_text(value) and "://" not in value and "?" not in value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _asset(given: Mapping[str, Any], href: str) -> dict[str, Any]:
    asset: dict[str, Any] = {"href": href}
    asset |= {name: given[name] for name in ("type", "title", "proj:code") if _is_plain(given.get(name))}
    roles = given.get("roles")
    asset["roles"] = [role for role in roles if _is_plain(role)] if isinstance(roles, list) else []
    asset |= {name: int(given[name]) for name in ("proj:epsg",) if _is_number(given.get(name))}
    asset |= _lists(given)
    for key, prefix in BAND_LISTS:
        bands = given.get(key)
        if isinstance(bands, list):
            described = [_raster_band(band, prefix) for band in bands if isinstance(band, Mapping)]
            if any(described):  # Parquet has no type for objects without members
                asset["raster:bands"] = described
            break
    classes = given.get("classification:classes")
    if isinstance(classes, list):
        asset["classification:classes"] = [found for found in map(_map_class, classes) if found]
    return asset


def _map_class(given: Any) -> dict[str, Any] | None:
    """Value and name of one class of a map; None for what is not one."""
    if not isinstance(given, Mapping) or not _is_number(given.get("value")):
        return None
    name = given.get("name") or given.get("description")
    return {"value": int(given["value"]), "name": name} if _is_plain(name) else None


def _raster_band(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    names = {name: given.get(f"{prefix}{name}", given.get(name)) for name in _RASTER_BAND}
    band: dict[str, Any] = {name: float(value) for name, value in names.items() if _is_number(value)}
    kind = given.get("data_type")
    return {**band, "data_type": kind} if _is_plain(kind) else band
