"""Catalog → Scenes: what a STAC API or a stac-geoparquet file holds for an area and a period.

A server's filters are never relied upon: collection, time, area and cloud are checked again for every item. An item
that was asked for and cannot be used becomes a Skipped row with the reason.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl_data.errors import CatalogError, DatasetError, EmptyResultError, SceneError
from geossl_data.grid import Bounds
from geossl_data.progress import Progress, silent
from geossl_data.records import Scene, Skipped
from geossl_data.scenes.hrefs import host_of, unsigned
from geossl_data.scenes.items import Item, read_items, write_items
from geossl_data.scenes.providers import (
    APPLIED_KEYS,
    BASELINE_KEYS,
    PROVIDERS,
    ItemError,
    Provider,
    Reason,
    asset_keys,
    footprint_of,
    provider_for,
    scene_from_item,
    sensor_of,
)
from geossl_data.tables import read_metadata

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
    """The scenes' items, in the same order, reduced to what is known of them: no links, no other assets."""
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


def area_of(bbox: Sequence[float] | None, area_file: str | Path | None) -> "BaseGeometry | None":
    """The search area in longitude and latitude; None where neither a box nor a file is given.

    bbox: west, south, east, north in degrees; west > east crosses the antimeridian and gives two boxes.
    area_file: any vector file that geopandas reads, in any CRS; its polygons are merged.
    Raises CatalogError in one line when the file cannot be read or holds no polygon.
    """
    import shapely

    if bbox is not None:
        west, south, east, north = bbox
        if west <= east:
            return shapely.box(west, south, east, north)
        return shapely.union_all([shapely.box(west, south, 180.0, north), shapely.box(-180.0, south, east, north)])
    return None if area_file is None else _area_from_file(Path(area_file))


def write_scenes(path: Path, found: Found, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the found scenes as stac-geoparquet, hrefs absolute and unsigned, with `metadata` beside the search's own.

    `read_scenes` gives the same scenes back.
    """
    notes = {
        "provider": found.provider.name,
        "catalog": found.provider.url,
        "base": found.base,
        "unknown_baseline": found.unknown_baseline,
    }
    write_items(path, found.items, metadata={**(metadata or {}), **notes})


def read_scenes(path: Path) -> list[Scene]:
    """The scenes that `write_scenes` wrote, in the same order.

    Raises DatasetError when the file is absent, damaged, or no such file.
    """
    notes = read_metadata(path)
    name, url, base = (notes.get(key) for key in ("provider", "catalog", "base"))
    if path.is_file() and not (isinstance(name, str) and isinstance(base, str) and isinstance(url, str | None)):
        raise DatasetError(f"{path}: not a table of scenes; run `geossl fetch --fresh`")
    provider = PROVIDERS.get(str(name)) or Provider(name=str(name), url=url)
    try:
        return [scene_from_item(item, provider, str(base)) for item in read_items(path)]
    except (SceneError, CatalogError) as error:
        raise DatasetError(f"{path}: damaged ({error}); run `geossl fetch --fresh`") from error


# ---------------------------------------------------------------------------------------------------- area


def _area_from_file(path: Path) -> "BaseGeometry":
    import geopandas
    import shapely

    if not path.is_file():
        raise CatalogError(f"{path}: no such area file")
    try:
        is_parquet = path.suffix in (".parquet", ".geoparquet")
        frame = geopandas.read_parquet(path) if is_parquet else geopandas.read_file(path)
        has_crs = frame.crs is not None
        shapes = frame.to_crs(4326).geometry if has_crs else frame.geometry
    except Exception as error:  # whatever the many drivers below geopandas raise
        raise CatalogError(f"{path}: not a readable vector file: {_first_line(error)}") from error
    if not has_crs:
        raise CatalogError(f"{path}: states no coordinate reference system; write one into the file")
    polygons = [shape for shape in shapes if shape is not None and shape.geom_type in ("Polygon", "MultiPolygon")]
    area = shapely.union_all([shapely.make_valid(shapely.force_2d(shape)) for shape in polygons])
    if area.is_empty or not area.area > 0 or max(abs(area.bounds[1]), abs(area.bounds[3])) > 90:
        raise CatalogError(f"{path}: holds no polygon on the Earth; expected polygons that bound the search")
    return area


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _turned(shape: "BaseGeometry") -> "Iterator[BaseGeometry]":
    """A shape and its copies a whole turn to the west and to the east."""
    from shapely import affinity

    for turn in (0.0, -360.0, 360.0):
        yield affinity.translate(shape, xoff=turn) if turn else shape


_MOST_BOXES = 16


def query_boxes(area: "BaseGeometry") -> list[Bounds]:
    """Boxes in [-180, 180] that together cover an area, none of them across the antimeridian.

    One for each polygon; where there are many, one for all polygons whose centres share a cell of 10°.
    """
    import shapely

    parts: list[Bounds] = []
    for polygon in shapely.get_parts(area):
        west, south, east, north = (float(edge) for edge in polygon.bounds)
        if east - west >= 360.0:
            parts.append((-180.0, south, 180.0, north))
            continue
        west, east = (west + 180.0) % 360.0 - 180.0, (west + 180.0) % 360.0 - 180.0 + (east - west)
        parts.append((west, south, min(east, 180.0), north))
        if east > 180.0:
            parts.append((-180.0, south, east - 360.0, north))
    if len(parts) <= _MOST_BOXES:
        return sorted(parts)
    cells: dict[tuple[int, int], list[Bounds]] = defaultdict(list)
    for part in parts:
        cells[int((part[0] + part[2]) // 20), int((part[1] + part[3]) // 20)].append(part)
    merged = []
    for members in cells.values():
        wests, souths, easts, norths = zip(*members, strict=True)
        merged.append((min(wests), min(souths), max(easts), max(norths)))
    return sorted(merged)


# ---------------------------------------------------------------------------------------------------- API


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


# ---------------------------------------------------------------------------------------------------- selection


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
    older = _superseded([(scene, item) for scene, item in kept.values() if scene.sensor == "s2"])
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
    links = [] if host_of(base) is None else _links(item.get("links"), base)
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
    return None if _meets(scene.footprint, query.area) else "outside the area"


def _meets(footprint: "BaseGeometry", area: "BaseGeometry | None") -> bool:
    """Does a footprint touch the area? Longitudes that differ by a whole turn are the same."""
    if area is None:
        return True
    import shapely

    shapely.prepare(area)
    return any(bool(shapely.intersects(area, copy)) for copy in _turned(footprint))


def _is_elsewhere(item: Mapping[str, Any], query: Query) -> bool:
    """Was an item that cannot be used not asked for anyway, as far as it can be understood?"""
    try:
        if not _meets(footprint_of("", item.get("geometry")), query.area):
            return True
    except SceneError:
        return False
    moment = (item.get("properties") or {}).get("datetime") if isinstance(item.get("properties"), Mapping) else None
    if not isinstance(moment, str):
        return False
    first = "" if query.start is None else query.start.isoformat()[:10]
    last = "9999" if query.end is None else (query.end - timedelta(days=1)).isoformat()[:10]
    return not first <= moment[:10] <= last


_SAME_ACQUISITION = timedelta(seconds=60)
"""One satellite sees a tile once in a pass; two items nearer in time than this are versions of one acquisition."""
_SAME_GROUND = 0.5
"""Versions of one baseline share more than this of the smaller footprint; less, and they are parts of one pass."""


def _superseded(scenes: Iterable[tuple[Scene, Item]]) -> dict[str, str]:
    """Id of each Sentinel-2 scene of which there is a newer version → id of that version.

    Versions agree in platform, relative orbit, tile and sensing time. The newest baseline wins, then the latest
    generation time, then the id. Parts of one acquisition with the same baseline and other ground are all kept.
    """
    groups: dict[tuple[Any, ...], list[tuple[Scene, str]]] = defaultdict(list)
    for scene, item in scenes:
        if scene.mgrs_tile is not None:
            generated = str(item["properties"].get("s2:generation_time", ""))
            groups[scene.platform, scene.relative_orbit, scene.mgrs_tile].append((scene, generated))
    older: dict[str, str] = {}
    for members in groups.values():
        members.sort(key=lambda member: (member[0].acquired, member[0].id))
        for versions in _clusters(members):
            versions.sort(key=lambda member: (member[0].baseline or "", member[1], member[0].id), reverse=True)
            best = [versions[0][0]]
            for scene, _ in versions[1:]:
                if scene.baseline != best[0].baseline or any(_share_ground(scene, other) for other in best):
                    older[scene.id] = best[0].id
                else:
                    best.append(scene)
    return older


def _clusters(members: Sequence[tuple[Scene, str]]) -> Iterator[list[tuple[Scene, str]]]:
    """Runs of scenes, sorted by time, that follow each other within _SAME_ACQUISITION."""
    run: list[tuple[Scene, str]] = []
    for member in members:
        if run and member[0].acquired - run[-1][0].acquired > _SAME_ACQUISITION:
            yield run
            run = []
        run.append(member)
    yield run


def _share_ground(a: Scene, b: Scene) -> bool:
    smaller = min(a.footprint.area, b.footprint.area)
    return bool(a.footprint.intersection(b.footprint).area > _SAME_GROUND * smaller)


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


# ---------------------------------------------------------------------------------------------------- reduced items

_TEXTS = (
    *("datetime", "start_datetime", "end_datetime", "platform", "constellation"),
    *("proj:code", "sat:orbit_state", "grid:code", "sar:instrument_mode", "sar:product_type", "processing:version"),
    *("s2:product_uri", "s2:processing_baseline", "s2:mgrs_tile", "s2:datatake_id", "s2:generation_time"),
    *("s2:granule_id", "s1:product_identifier", "sentinel:product_id", "sentinel:processing_baseline"),
)
_NUMBERS = ("gsd", "eo:cloud_cover", "s2:mean_solar_zenith", "s2:mean_solar_azimuth", "s2:nodata_pixel_percentage")
_INTEGERS = ("proj:epsg", "sat:relative_orbit", "sat:absolute_orbit")
_LISTS = {"proj:transform": float, "proj:shape": int}
_RASTER_BAND = ("nodata", "scale", "offset", "spatial_resolution")


def reduced(item: Mapping[str, Any], scene: Scene, base: str) -> Item:
    """A STAC item with what is of use for a scene: checked properties of known type, the scene's own assets.

    Other assets and links may carry signatures, and other properties any type, which no table could hold.
    """
    keys = asset_keys(item, scene.sensor)
    assets = {key: _asset(item["assets"][key], scene.hrefs[band]) for band, key in keys.items()}
    extensions = item.get("stac_extensions")
    return {
        "type": "Feature",
        "stac_version": str(item.get("stac_version", "1.0.0"))[:40],
        "stac_extensions": [text for text in extensions if isinstance(text, str) and "?" not in text]
        if isinstance(extensions, list)
        else [],
        "id": scene.id,
        "collection": scene.collection,
        "geometry": item["geometry"],
        "properties": {"datetime": None, **_properties(item["properties"])},
        "links": _links(item.get("links"), base),
        "assets": assets,
    }


def _properties(given: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in _TEXTS:
        value = given.get(name)
        if isinstance(value, str):
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _asset(given: Mapping[str, Any], href: str) -> dict[str, Any]:
    asset: dict[str, Any] = {"href": href}
    asset |= {name: given[name] for name in ("type", "title", "proj:code") if isinstance(given.get(name), str)}
    roles = given.get("roles")
    asset["roles"] = [role for role in roles if isinstance(role, str)] if isinstance(roles, list) else []
    asset |= {name: int(given[name]) for name in ("proj:epsg",) if _is_number(given.get(name))}
    asset |= _lists(given)
    for key, prefix in (("raster:bands", ""), ("bands", "raster:")):
        bands = given.get(key)
        if isinstance(bands, list):
            asset["raster:bands"] = [_raster_band(band, prefix) for band in bands if isinstance(band, Mapping)]
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
    return {"value": int(given["value"]), "name": name} if isinstance(name, str) else None


def _raster_band(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    names = {name: given.get(f"{prefix}{name}", given.get(name)) for name in _RASTER_BAND}
    band: dict[str, Any] = {name: float(value) for name, value in names.items() if _is_number(value)}
    kind = given.get("data_type")
    return {**band, "data_type": kind} if isinstance(kind, str) else band


def _links(given: Any, base: str) -> list[dict[str, str]]:
    """The link to the item itself, where it is on the catalog's own host."""
    for link in given if isinstance(given, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "self" and isinstance(link.get("href"), str):
            href = unsigned(link["href"])
            if "://" in href and "@" not in href and host_of(href) == host_of(base):
                return [{"rel": "self", "type": "application/geo+json", "href": href}]
    return []
