"""Raster collections of a catalog as layers: which file of a collection shows which ground."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geossl_data.errors import CatalogError, SceneError
from geossl_data.scenes.area import query_boxes
from geossl_data.scenes.area_index import AreaIndex
from geossl_data.scenes.hrefs import resolve_href
from geossl_data.scenes.items import Item, parse_time
from geossl_data.scenes.providers import Provider
from geossl_data.scenes.query import Query
from geossl_data.scenes.snapshots import read_snapshot, snapshot_base

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_FIRST, _LAST = datetime(1972, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_CLEAN_NAME = re.compile(r"[^\w ().,+/&-]")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFile:
    """One raster of a collection."""

    id: str
    href: str
    """Absolute and unsigned."""
    footprint: "BaseGeometry"
    """Longitude/latitude."""
    time: datetime
    """Of several files of one ground the latest holds."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Class value → name, as far as the item states them."""


def layer_files(
    catalog: str, provider: Provider, collection: str, asset: str, area: "BaseGeometry | None"
) -> list[LayerFile]:
    """The files of a raster collection that meet an area, the latest first.

    catalog: where `provider` was found: the URL of an API, or stac-geoparquet. An API needs an area.
    Raises CatalogError when the catalog cannot be read or holds none, or the items have no such asset.
    """
    items = _items(catalog, provider, collection, area)
    base = snapshot_base(provider.snapshot or catalog) if provider.url is None else f"{provider.url}/"
    found = [file for item in items if (file := _file(item, asset, base)) is not None]
    index = None if area is None else AreaIndex(area)
    meeting = [file for file in found if index is None or index.meets(file.footprint)]
    if not meeting:
        keys = sorted({str(key) for item in items for key in item.get("assets") or {}})
        what = f"none of {len(items)} items has an asset {asset!r}" if items else "no items in the area"
        listed = f"; they have {', '.join(keys[:12])}" if keys and not found else ""
        raise CatalogError(f"{provider.name}: collection {collection!r}: {what}{listed}")
    return sorted(meeting, key=lambda file: (-file.time.timestamp(), file.id))


def _items(catalog: str, provider: Provider, collection: str, area: "BaseGeometry | None") -> list[Item]:
    if provider.url is None:
        groups = read_snapshot(provider.snapshot or catalog, provider, Query(area=area))
        return [item for items in groups for item in items if item.get("collection") == collection]
    if area is None:
        raise CatalogError(f"{provider.name}: a layer of a STAC API needs an area; give --bbox or --area")
    from geossl_data.scenes.api import StacApi

    api = StacApi(provider.url, provider.page_size, concurrency=provider.concurrency, per_second=provider.per_second)
    by_id: dict[str, Item] = {}
    for box in query_boxes(area):
        by_id |= {str(item.get("id")): item for item in api.items(collection, box, _FIRST, _LAST)}
    return list(by_id.values())


def _file(item: Item, asset: str, base: str) -> LayerFile | None:
    """The asset of an item as a file; None where it has none, or none with an address and a footprint of use."""
    import shapely

    described = (item.get("assets") or {}).get(asset)
    properties = item.get("properties") or {}
    if not isinstance(described, dict) or not isinstance(described.get("href"), str):
        return None
    stated = properties.get("datetime") or properties.get("start_datetime")
    try:
        href = resolve_href(described["href"], base)
        footprint = shapely.from_geojson(_json(item.get("geometry")))
        time = parse_time(str(stated))
    except (SceneError, ValueError, TypeError, shapely.errors.GEOSException):
        return None
    if footprint is None or footprint.is_empty:
        return None
    return LayerFile(
        id=str(item.get("id")), href=href, footprint=shapely.make_valid(footprint), time=time, names=_names(described)
    )


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _names(asset: Mapping[str, Any]) -> dict[int, str]:
    """Class value → name, from the classification extension or the older `file:values`."""
    bands = asset.get("raster:bands") or asset.get("bands") or [{}]
    band = bands[0] if isinstance(bands, list) and bands and isinstance(bands[0], dict) else {}
    classes = asset.get("classification:classes") or band.get("classification:classes") or asset.get("file:values")
    names: dict[int, str] = {}
    for entry in classes if isinstance(classes, list) else ():
        if not isinstance(entry, dict):
            continue
        values = entry.get("values") if isinstance(entry.get("values"), list) else [entry.get("value")]
        name = entry.get("name") or entry.get("title") or entry.get("summary") or entry.get("description")
        for value in values or ():
            if isinstance(value, int) and isinstance(name, str) and name.strip():
                names[value] = _CLEAN_NAME.sub("", name.strip())[:_LONGEST_NAME]
    return names
