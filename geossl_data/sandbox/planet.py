"""The planet on disk: every region's scenes and labels rendered, written and listed in one catalog."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import BANDS, LABEL_BAND, LABEL_NODATA, S1_BANDS, S1_NODATA, S2_NODATA, SCL_BAND, SCL_NODATA
from geossl_data.errors import StorageError
from geossl_data.files import write_text
from geossl_data.grid import Grid, to_lonlat
from geossl_data.progress import Progress, Task, silent
from geossl_data.sandbox import optical, radar, world
from geossl_data.sandbox.catalog import (
    CHANGE_BAND,
    LABEL_COLLECTION,
    S1_COLLECTION,
    S2_COLLECTION,
    Corner,
    Cut,
    clipped,
    label_id,
    label_item,
    s1_id,
    s1_item,
    s2_id,
    s2_item,
)
from geossl_data.sandbox.cogs import write_cog
from geossl_data.sandbox.land import CHANGES, Ground, Land, change_box, make_land, stacked
from geossl_data.sandbox.noise import Frame, stream, uniform
from geossl_data.sandbox.regions import LAYOUTS, PERIODS, REGIONS, Layout, PlanetSize, Region, origin
from geossl_data.sandbox.schedule import OpticalPass, RadarPass, passes
from geossl_data.sandbox.surfaces import OPTICAL_BANDS, SANDBOX_CLASSES
from geossl_data.scenes.items import write_items

_log = logging.getLogger(__name__)

CATALOG_NAME = "catalog.parquet"
TRUTH_NAME = "truth.json"
_EDITION = 1
"""Raised when the same seed starts to give another planet."""
_STRIP_ROWS = 258
"""Rows of 10 m pixels rendered at once; a multiple of 6. The speckle's seed counts strips, so it is fixed."""
_RIM = 30
"""Columns and rows by which Sentinel-1 scenes reach beyond the Sentinel-2 tiles."""

Raster = NDArray[Any]
Render = Callable[[Frame, Ground, int], Mapping[str, Raster]]
"""One strip of a scene: its frame, the land of its date, and its number → bands at their own resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One Sentinel-2 tile of a region: name, window on the region's plane, and the passes it is written for."""

    name: str
    frame: Frame
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One region at one planet size: its plane on the map, its land and how to get at it."""

    region: Region
    layout: Layout
    seed: int
    corner: Corner
    """Metres of the plane's origin."""
    tiles: tuple[Tile, ...]
    extent: Frame
    """All tiles of the region together."""
    land: Land
    cache: dict[Frame, Ground] = field(default_factory=dict)
    """Unchanged land of whole rasters, where the layout keeps it."""

    def metres(self, corners: Sequence[Corner]) -> list[Corner]:
        """Points of the plane in metres."""
        return [(self.corner[0] + col * 10, self.corner[1] - row * 10) for col, row in corners]

    def grid(self, frame: Frame, resolution_m: int) -> Grid:
        """Pixel grid of a frame at a resolution."""
        factor = resolution_m // 10
        ((x, y),) = self.metres([(frame.col, frame.row)])
        return Grid(
            epsg=self.region.epsg,
            x=x,
            y=y,
            resolution_m=float(resolution_m),
            width=frame.width // factor,
            height=frame.height // factor,
        )

    def ground(self, frame: Frame, year: int) -> Ground:
        """The land of a year in a frame, from the kept land where that covers it."""
        for whole, ground in self.cache.items():
            rows, cols = frame.row - whole.row, frame.col - whole.col
            if rows % 1 == 0 == cols % 1 and rows >= 0 <= cols:
                top, left = int(rows), int(cols)
                if top + frame.height <= whole.height and left + frame.width <= whole.width:
                    part = ground.part(slice(top, top + frame.height), slice(left, left + frame.width))
                    return self.land.changed(frame, part, year)[0]
        return self.land.changed(frame, self.land.ground(frame), year)[0]


def default_workers() -> int:
    """Two threads, or one on a machine with one processor."""
    return min(2, os.cpu_count() or 1)


def build_sandbox(
    folder: Path,
    *,
    size: PlanetSize = "small",
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Path of the catalog of a synthetic planet written to `folder`; nothing is done where it already is complete.

    The folder gets `catalog.parquet` (stac-geoparquet of all items, hrefs relative to it), `truth.json` (regions,
    classes and every planted change) and one folder of COGs for each collection: `sentinel-2-l2a`, `sentinel-1-rtc`
    and `geossl-sandbox-labels` (land class and change of every tile and year).

    size: tiny for tests, small for trying things out, large for benchmarks (full 10980-pixel scenes, about 40 GB),
    world for studies of geography (64 regions of 2.4 km on six continents, see `sandbox.world`).
    workers: threads; the bytes written are the same for any number. Raises StorageError where the folder cannot be
    written or holds something else under the names of the collections.
    """
    layout, regions = planned(size)
    identity = {"edition": _EDITION, "size": size, "seed": seed}
    catalog = folder / CATALOG_NAME
    if catalog.is_file() and _identity(folder) == identity:
        return catalog
    _clear(folder)
    sites = [make_site(region, layout, seed) for region in regions]
    truth = {"identity": identity, **truth_of(sites)}
    write_text(folder / TRUTH_NAME, json.dumps(truth, indent=1, sort_keys=True) + "\n")
    schedules = [passes(site.region, layout, seed) for site in sites]
    total = sum(_count(site, *schedule) for site, schedule in zip(sites, schedules, strict=True))
    items: list[dict[str, Any]] = []
    with ThreadPoolExecutor(workers or default_workers()) as pool, progress("building the planet", total) as task:
        for site, (optical_passes, radar_passes) in zip(sites, schedules, strict=True):
            items += _build_site(folder, site, optical_passes, radar_passes, pool, task)
    items.sort(key=lambda item: (item["collection"], item["id"]))
    write_items(catalog, items, metadata=identity)
    _log.info("wrote a %s planet with %d items to %s", size, len(items), folder)
    return catalog


def planned(size: PlanetSize) -> tuple[Layout, tuple[Region, ...]]:
    """How large a planet is, and the regions that it has."""
    if size == "world":
        return world.LAYOUT, world.regions()
    layout = LAYOUTS[size]
    return layout, tuple(region for region in REGIONS if region.name in layout.regions)


def _identity(folder: Path) -> Any:
    try:
        return json.loads((folder / TRUTH_NAME).read_text(encoding="utf-8")).get("identity")
    except (OSError, ValueError, AttributeError):
        return None


def _clear(folder: Path) -> None:
    """Remove an unfinished or different sandbox; StorageError where the folders are not a sandbox's."""
    taken = [name for name in (S1_COLLECTION, S2_COLLECTION, LABEL_COLLECTION) if (folder / name).exists()]
    if (taken or (folder / CATALOG_NAME).exists()) and _identity(folder) is None:
        found = taken[0] if taken else CATALOG_NAME
        raise StorageError(f"{folder}: holds {found} that no sandbox wrote; choose an empty folder")
    (folder / CATALOG_NAME).unlink(missing_ok=True)
    for name in taken:
        shutil.rmtree(folder / name)


def make_site(region: Region, layout: Layout, seed: int) -> Site:
    """A region with its tiles and its land, nothing rendered yet."""
    side = layout.side
    tiles = [Tile(name=region.tile, frame=Frame(col=0, row=0, width=side, height=side), slots=_all_slots(layout))]
    if region.neighbour is not None:
        beside = Frame(col=side - layout.overlap, row=0, width=side, height=side)
        tiles.append(Tile(name=region.neighbour, frame=beside, slots=layout.neighbour_slots))
    width = int(max(tile.frame.col for tile in tiles)) + side
    extent = Frame(col=0, row=0, width=width, height=side)
    reach = Frame(col=-2 * _RIM, row=-2 * _RIM, width=width + 4 * _RIM, height=side + 4 * _RIM)
    return Site(
        region=region,
        layout=layout,
        seed=seed,
        corner=origin(region, layout),
        tiles=tuple(tiles),
        extent=extent,
        land=make_land(
            region,
            reach,
            seed=seed,
            n_changes=layout.changes,
            side=side,
            radii=layout.change_radius,
            years=layout.change_years,
        ),
    )


def _all_slots(layout: Layout) -> tuple[int, ...]:
    return tuple(range(len(layout.slots)))


def _count(site: Site, optical_passes: Sequence[OpticalPass], radar_passes: Sequence[RadarPass]) -> int:
    """How many items a site has."""
    scenes = sum(item.number in tile.slots for tile in site.tiles for item in optical_passes)
    return scenes + len(radar_passes) + len(site.tiles) * len(PERIODS)


def truth_of(sites: Sequence[Site]) -> dict[str, Any]:
    """What is planted where: classes, regions and changes, JSON-able.

    A change's `from` and `to` are the first and last day on which it is there, its `bounds` are west, south, east and
    north in metres of the zone `epsg`, its `pixels` the 10 m pixels that it changes where no earlier one lies.
    """
    changes = [record for site in sites for record in _change_records(site)]
    regions = [
        {
            "name": site.region.name,
            "epsg": site.region.epsg,
            "climate": site.region.climate.name,
            "southern": site.region.climate.southern,
            "tiles": {tile.name: list(site.grid(tile.frame, 10).bounds) for tile in site.tiles},
            "s1_shift_m": site.region.s1_shift_m,
        }
        | ({"continent": site.region.continent} if site.region.continent else {})
        for site in sites
    ]
    return {
        "classes": {str(code): name for code, name in SANDBOX_CLASSES.items()},
        "change_codes": dict(CHANGES),
        "periods": list(PERIODS),
        "regions": regions,
        "changes": changes,
    }


def _change_records(site: Site) -> Iterator[dict[str, Any]]:
    for change in site.land.changes:
        box = change_box(change, site.extent)
        if box is None:
            continue
        _, _, window = box
        mask = site.land.change_mask(change, window, site.land.ground(window).klass)
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            continue
        left, right = window.col + int(cols[0]), window.col + int(cols[-1]) + 1
        top, bottom = window.row + int(rows[0]), window.row + int(rows[-1]) + 1
        (west, north), (east, south), (x, y) = site.metres([(left, top), (right, bottom), (change.col, change.row)])
        lon, lat = to_lonlat(site.region.epsg, x, y)
        yield {
            "region": site.region.name,
            "kind": change.kind,
            "code": CHANGES[change.kind],
            "from": f"{change.first_year}-01-01",
            "to": f"{change.last_year}-12-31",
            "epsg": site.region.epsg,
            "bounds": [west, south, east, north],
            "lon": round(float(lon), 7),
            "lat": round(float(lat), 7),
            "pixels": int(mask.sum()),
        }


def _strips(frame: Frame) -> list[Frame]:
    return [frame.rows(start, min(_STRIP_ROWS, frame.height - start)) for start in range(0, frame.height, _STRIP_ROWS)]


def _valid(frame: Frame, cuts: Sequence[Cut]) -> NDArray[np.bool_]:
    """Which 10 m pixels lie inside all cuts, by their centres."""
    inside = np.ones((frame.height, frame.width), bool)
    for cut in cuts:
        inside &= cut.east * frame.cols_at[None, :] + cut.south * frame.rows_at[:, None] <= cut.limit
    return inside


def _outline(frame: Frame, cuts: Sequence[Cut]) -> list[Corner]:
    """Corners of the valid part of a frame, clockwise on the map from the north-west."""
    right, bottom = frame.col + frame.width, frame.row + frame.height
    corners: list[Corner] = [(frame.col, frame.row), (right, frame.row), (right, bottom), (frame.col, bottom)]
    for cut in cuts:
        corners = clipped(corners, cut)
    return corners


def _build_site(
    folder: Path,
    site: Site,
    optical_passes: Sequence[OpticalPass],
    radar_passes: Sequence[RadarPass],
    pool: ThreadPoolExecutor,
    task: Task,
) -> list[dict[str, Any]]:
    """Write all rasters of a region and return its items."""
    items: list[dict[str, Any]] = []
    radar_frame = _radar_frame(site)
    if site.layout.whole_region:
        frames = [radar_frame] if radar_frame.col % 1 == 0 else [site.extent, radar_frame]
        for frame in frames:
            site.cache[frame] = stacked(list(pool.map(site.land.ground, _strips(frame))))
    for tile in site.tiles:
        for year in PERIODS:
            items.append(_write_labels(folder, site, tile, year, pool))
            task.advance(note=site.region.name)
        for item in optical_passes:
            if item.number in tile.slots:
                items.append(_write_optical(folder, site, tile, item, pool))
                task.advance(note=site.region.name)
    for radar_pass in radar_passes:
        items.append(_write_radar(folder, site, radar_frame, radar_pass, pool))
        task.advance(note=site.region.name)
    site.cache.clear()
    return items


def _render_all(pool: ThreadPoolExecutor, site: Site, frame: Frame, year: int, render: Render) -> dict[str, Raster]:
    """Whole bands of a scene, its strips rendered side by side."""
    strips = _strips(frame)
    bands: dict[str, Raster] = {}

    def one(number: int) -> None:
        strip = strips[number]
        for name, image in render(strip, site.ground(strip, year), number).items():
            factor = frame.width // image.shape[1]
            top = int(strip.row - frame.row) // factor
            bands[name][top : top + image.shape[0]] = image

    probe = strips[-1].rows(strips[-1].height - 6, 6)
    for name, image in render(probe, site.ground(probe, year), 0).items():
        factor = frame.width // image.shape[1]
        bands[name] = np.empty((frame.height // factor, image.shape[1]), image.dtype)
    list(pool.map(one, range(len(strips))))
    return bands


def _write_all(pool: ThreadPoolExecutor, jobs: Sequence[Callable[[], None]]) -> None:
    list(pool.map(lambda job: job(), jobs))


def _write_optical(folder: Path, site: Site, tile: Tile, item: OpticalPass, pool: ThreadPoolExecutor) -> dict[str, Any]:
    sky = optical.make_sky(site.land, item, site.extent, site.seed)
    table = site.land.units_in(item.acquired.year).reflectance(site.region.climate, sky.day)
    cuts = _optical_cuts(site, tile, item)

    def render(strip: Frame, ground: Ground, number: int) -> Mapping[str, Raster]:
        images = dict(optical.render(strip, ground, table, sky, item.offset))
        if cuts:
            lost = ~_valid(strip, cuts)
            for name, image in images.items():
                factor = strip.width // image.shape[1]
                # A coarse pixel is lost with any of its 10 m pixels, as none is measured in part.
                height, width = image.shape
                some = lost.reshape(height, factor, width, factor).any(axis=(1, 3))
                image[some] = SCL_NODATA if name == SCL_BAND else S2_NODATA
        return images

    bands = _render_all(pool, site, tile.frame, item.acquired.year, render)
    identifier = s2_id(item, tile.name)
    sides = {name: 20 if name == SCL_BAND else BANDS[name].resolution_m for name in (*OPTICAL_BANDS, SCL_BAND)}
    grids = {name: site.grid(tile.frame, side) for name, side in sides.items()}
    place = folder / S2_COLLECTION / identifier
    _write_all(
        pool,
        [
            partial(
                write_cog,
                place / f"{name}.tif",
                bands[name],
                grids[name],
                nodata=S2_NODATA,
                overviews="nearest" if name == SCL_BAND else "average",
            )
            for name in grids
        ],
    )
    counts = [int(count) for count in np.bincount(bands[SCL_BAND].ravel(), minlength=12)]
    corners = site.metres(_outline(tile.frame, cuts))
    return s2_item(item, tile.name, grids, corners, counts, (sky.elevation, sky.azimuth))


def _optical_cuts(site: Site, tile: Tile, item: OpticalPass) -> list[Cut]:
    """The edge of the swath, where it crosses the tile: it takes away the south-east corner."""
    if not item.slot.wedge:
        return []
    # Descending passes run about 12° off north; the edge leaves about a sixth of the tile's own width at the bottom.
    width = site.extent.width
    return [Cut(east=1.0, south=0.21, limit=width - 0.16 * tile.frame.width + 0.21 * 0.35 * tile.frame.height)]


def _radar_frame(site: Site) -> Frame:
    """The ground that Sentinel-1 scenes cover: more than the tiles, and off their lattice where the region says so."""
    shift = site.region.s1_shift_m / 10
    return Frame(
        col=-_RIM + shift, row=-_RIM / 2 + shift, width=site.extent.width + 2 * _RIM, height=site.extent.height + _RIM
    )


def _radar_cuts(site: Site, frame: Frame, item: RadarPass) -> list[Cut]:
    """Tilted swath edges, in about half of the scenes."""
    key = stream(site.seed, site.region.name, "rim", item.acquired.isoformat())
    if uniform(key, 0, 0) < 0.5:
        return []
    lean = 0.19 if item.state == "ascending" else -0.19
    middle = frame.row + frame.height / 2
    west = frame.col + 0.03 * frame.width
    return [Cut(east=-1.0, south=-lean, limit=-west - lean * middle)]


def _write_radar(folder: Path, site: Site, frame: Frame, item: RadarPass, pool: ThreadPoolExecutor) -> dict[str, Any]:
    swath = radar.make_swath(site.land, item, site.seed)
    table = radar.powers(site.land, swath)
    cuts = _radar_cuts(site, frame, item)
    middle, reach = site.extent.width / 2, site.extent.width / 2

    def render(strip: Frame, ground: Ground, number: int) -> Mapping[str, Raster]:
        rng = np.random.default_rng((swath.key, number))
        images = radar.render(strip, ground, table, swath, middle, reach, rng)
        lost = ~_valid(strip, cuts)
        for image in images.values():
            image[lost] = S1_NODATA
        return images

    bands = _render_all(pool, site, frame, item.acquired.year, render)
    grid = site.grid(frame, 10)
    place = folder / S1_COLLECTION / s1_id(item)
    _write_all(
        pool,
        [
            partial(
                write_cog,
                place / f"{name.lower()}.tif",
                bands[name],
                grid,
                nodata=S1_NODATA,
                finish=radar.rounded,
            )
            for name in S1_BANDS
        ],
    )
    return s1_item(item, grid, site.metres(_outline(frame, cuts)))


def _write_labels(folder: Path, site: Site, tile: Tile, year: int, pool: ThreadPoolExecutor) -> dict[str, Any]:
    first = PERIODS[0]

    def render(strip: Frame, ground: Ground, number: int) -> Mapping[str, Raster]:
        before = site.ground(strip, first)
        _, kinds = site.land.changed(strip, before, year)
        return {LABEL_BAND: ground.klass, CHANGE_BAND: kinds}

    bands = _render_all(pool, site, tile.frame, year, render)
    grid = site.grid(tile.frame, 10)
    place = folder / LABEL_COLLECTION / label_id(site.region, tile.name, year)
    nodata = {LABEL_BAND: float(LABEL_NODATA), CHANGE_BAND: 255.0}
    _write_all(
        pool,
        [
            partial(write_cog, place / f"{name}.tif", bands[name], grid, nodata=nodata[name], overviews="nearest")
            for name in bands
        ],
    )
    return label_item(site.region, tile.name, year, grid, site.metres(_outline(tile.frame, ())))
