"""Catalog → Scenes: what a STAC API or a stac-geoparquet file holds for an area and a period.

A server's filters are never relied upon: collection, time, area and cloud are checked again for every item. An item
that was asked for and cannot be used becomes a Skipped row with the reason.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl_data.errors import CatalogError, EmptyResultError, SceneError
from geossl_data.progress import Progress, silent
from geossl_data.records import Scene, Skipped
from geossl_data.scenes.area import meets, query_boxes
from geossl_data.scenes.footprint import footprint_of
from geossl_data.scenes.hrefs import host_of
from geossl_data.scenes.items import Item, read_items
from geossl_data.scenes.providers import Provider, provider_for
from geossl_data.scenes.reasons import ItemError, Reason
from geossl_data.scenes.reduction import reduced, self_links
from geossl_data.scenes.scene import scene_from_item, sensor_of
from geossl_data.scenes.versions import superseded

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_LOG = logging.getLogger(__name__)

UnknownBaseline = Literal["skip", "as-stored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came back with."""

    provider: Provider
    base: str
    """Absolute folder or URL of the catalog; local hrefs lie below it."""
    unknown_baseline: UnknownBaseline
    """What was done with Sentinel-2 items that state no baseline."""
    items: list[Item]
    """The scenes' items, in the same order, reduced to what is known of them: no foreign links, no other assets."""
    scenes: list[Scene]
    """In order of time, then id; both sensors and label maps."""
    skipped: list[Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for; None means no limit."""

    area: "BaseGeometry | None"
    """Longitude/latitude."""
    start: datetime | None
    end: datetime | None
    """Exclusive."""
    max_cloud: float

    def __str__(self) -> str:
        parts = []
        if self.start is not None or self.end is not None:
            last = "…" if self.end is None else str((self.end - timedelta(days=1)).date())
            parts.append(f"{'…' if self.start is None else self.start.date()} to {last}")
        if self.area is not None:
            parts.append("area " + " ".join(f"{edge:g}" for edge in self.area.bounds))
        return ", ".join([*parts, f"cloud up to {self.max_cloud:g} %"])


def search(
    catalog: str,
    *,
    area: "BaseGeometry | None",
    start: date | None,
    end: date | None,
    max_cloud: float,
    unknown_baseline: UnknownBaseline,
    progress: Progress = silent,
) -> Found:
    """The scenes of a catalog that meet `area` and were acquired from `start` to `end`, both days included, UTC.

    catalog: a name in PROVIDERS, a STAC API URL or a stac-geoparquet file. An API needs all of area, start and end.
    max_cloud: percent of a whole Sentinel-2 scene; scenes that state none pass. Label maps pass whatever their dates.
    unknown_baseline: Sentinel-2 items whose offset nobody states are skipped, or kept with `boa_offset` None.
    Of several versions of one Sentinel-2 acquisition the newest baseline is kept.
    Raises CatalogError when the catalog is unknown, unreachable, truncated or not STAC, EmptyResultError when neither
    sensor has a scene.
    """
    provider = provider_for(catalog)
    query = Query(area=area, start=_midnight(start), end=_midnight(end, days=1), max_cloud=max_cloud)
    if provider.url is None:
        path = Path(catalog).resolve()
        if not path.is_file():
            raise CatalogError(f"{catalog}: no such catalog file")
        base = str(path.parent)
        with progress("reading the catalog") as task:
            items = read_items(path)
            task.advance(note=f"{len(items)} items")
    else:
        base = f"{provider.url}/"
        items = _from_api(provider, query, progress)
    return _select(items, provider, base, query, unknown_baseline, progress)


def _midnight(day: date | None, *, days: int = 0) -> datetime | None:
    return None if day is None else datetime.combine(day, time_of_day(), UTC) + timedelta(days=days)


def month_windows(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Half-open windows that cover [start, end) and break at the first of each month."""
    windows = []
    while start < end:
        following = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(
            day=1
        )
        windows.append((start, min(following, end)))
        start = following
    return windows


def _from_api(provider: Provider, query: Query, progress: Progress) -> list[Item]:
    needed = {"--bbox or --area": query.area, "--from": query.start, "--to": query.end}
    missing = [name for name, value in needed.items() if value is None]
    if query.area is None or query.start is None or query.end is None:
        raise CatalogError(f"{provider.name} is searched by place and time; give {', '.join(missing)}")
    from geossl_data.scenes.api import StacApi

    api = StacApi(str(provider.url), provider.page_size)
    boxes, windows = query_boxes(query.area), month_windows(query.start, query.end)
    found: dict[tuple[str, str], Item] = {}
    with progress(f"searching {provider.name}", total=len(boxes) * len(windows) * len(provider.collections)) as task:
        for collection in provider.collections:
            for first, last in windows:
                for box in boxes:
                    for item in api.items(collection, box, first, last):
                        found.setdefault((str(item.get("collection")), str(item.get("id"))), item)
                    task.advance(note=f"{len(found)} items")
    return list(found.values())


def _select(
    items: Sequence[Item],
    provider: Provider,
    base: str,
    query: Query,
    unknown_baseline: UnknownBaseline,
    progress: Progress,
) -> Found:
    """Scenes of the items that match the query, and why others that match it are given up."""
    kept: dict[str, tuple[Scene, Item]] = {}
    skipped: list[Skipped] = []
    outside: Counter[str] = Counter()
    with progress("checking items", total=len(items)) as task:
        for item in items:
            task.advance()
            if sensor_of(item, provider) is None:
                outside[f"of other collections ({str(item.get('collection'))[:40]})"] += 1
                continue
            try:
                scene = scene_from_item(item, provider, _base_of(item, base))
            except ItemError as error:
                if not _is_elsewhere(item, query):
                    skipped.append(_skipped(str(item.get("id"))[:200], error.reason, str(error)))
                continue
            miss = _miss(scene, query)
            if miss is not None:
                outside[miss] += 1
            elif scene.sensor == "s2" and scene.boa_offset is None and unknown_baseline == "skip":
                detail = f"{scene.id}: no processing baseline is stated, so the offset of its numbers is unknown"
                skipped.append(_skipped(scene.id, "unknown-baseline", detail))
            elif scene.id in kept and kept[scene.id][0].collection != scene.collection:
                skipped.append(_skipped(scene.id, "bad-item", f"{scene.id}: the same id in two collections"))
            else:
                kept.setdefault(scene.id, (scene, item))
    older = superseded([(scene, item) for scene, item in kept.values() if scene.sensor == "s2"])
    for scene_id, newer in older.items():
        del kept[scene_id]
        detail = f"{scene_id}: the same acquisition as {newer}, which has a newer baseline or processing"
        skipped.append(_skipped(scene_id, "superseded", detail))
    chosen = sorted(kept.values(), key=lambda pair: (pair[0].acquired, pair[0].id))
    if not any(scene.sensor != "label" for scene, _ in chosen):
        raise EmptyResultError(_nothing(len(items), provider, query, outside, skipped))
    _LOG.info("%d items, %d scenes, %d given up, not asked for: %s", len(items), len(kept), len(skipped), dict(outside))
    return Found(
        provider=provider,
        base=base,
        unknown_baseline=unknown_baseline,
        items=[reduced(item, scene, base) for scene, item in chosen],
        scenes=[scene for scene, _ in chosen],
        skipped=sorted(skipped, key=lambda row: (row.reason, row.id, row.detail)),
    )


def _base_of(item: Mapping[str, Any], base: str) -> str:
    """What an item's relative hrefs are relative to: its own address in an API, the folder of a catalog file."""
    links = [] if host_of(base) is None else self_links(item.get("links"), base)
    return links[0]["href"] if links else base


def _skipped(name: str, reason: Reason, detail: str) -> Skipped:
    return Skipped(stage="fetch", id=name, reason=reason, detail=detail)


def _miss(scene: Scene, query: Query) -> str | None:
    """Which limit of the query a scene is beyond; None where it is within all of them."""
    if scene.sensor != "label":
        if query.start is not None and scene.acquired < query.start:
            return "before the first day"
        if query.end is not None and scene.acquired >= query.end:
            return "after the last day"
        if scene.cloud_percent is not None and scene.cloud_percent > query.max_cloud:
            return "too cloudy"
    return None if meets(scene.footprint, query.area) else "outside the area"


def _is_elsewhere(item: Mapping[str, Any], query: Query) -> bool:
    """Was an item that cannot be used not asked for anyway, as far as it can be understood?"""
    try:
        if not meets(footprint_of("", item.get("geometry")), query.area):
            return True
    except SceneError:
        return False
    moment = (item.get("properties") or {}).get("datetime") if isinstance(item.get("properties"), Mapping) else None
    if not isinstance(moment, str):
        return False
    first = "" if query.start is None else query.start.isoformat()[:10]
    last = "9999" if query.end is None else (query.end - timedelta(days=1)).isoformat()[:10]
    return not first <= moment[:10] <= last


def _nothing(
    n_items: int, provider: Provider, query: Query, outside: Mapping[str, int], skipped: Sequence[Skipped]
) -> str:
    reasons = Counter(row.reason for row in skipped)
    counts = [f"{count} {what}" for what, count in Counter(outside).most_common(4)]
    counts += [f"{count} {reason}" for reason, count in reasons.most_common(4)]
    advice = "widen the area, the dates or --max-cloud"
    if reasons["unknown-baseline"]:
        advice += ", or take numbers of unknown baseline as stored"
    elif not n_items:
        advice = "widen the area or the dates"
    given_up = f" ({', '.join(counts)})" if counts else ""
    wanted = " and ".join(provider.collections[:2])
    return f"{provider.name}: no scenes of {wanted} for {query}: {n_items} items in all{given_up}; {advice}"
