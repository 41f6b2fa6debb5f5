"""What is measured of candidate places before they are drawn: from overviews, kept in measures.parquet and change/."""

import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data import tables
from geossl_data.bands import SCL_BAND
from geossl_data.files import atomic_path, remove_folder
from geossl_data.grid import Bounds, Grid
from geossl_data.pipeline._folder import HEADERS, PAIRS, access_to, fingerprint_of
from geossl_data.progress import Progress, Task, silent
from geossl_data.records import Look, Place, Scene, Skipped
from geossl_data.sampling.candidates import Candidate
from geossl_data.sampling.change import Image, combined, reflectance
from geossl_data.sampling.looks import choose_all
from geossl_data.sampling.measures import (
    GROWN_M,
    MEASURED_S1,
    MEASURED_S2,
    Block,
    Measures,
    Window,
    measure_place,
    unknown,
)

if TYPE_CHECKING:
    from geossl_data.tiles.rasters import Rasters

MEASURES, CHANGE = "measures.parquet", "change"
BLOCK_PX = 512
"""About how many coarse pixels a side are compared together: 41 km at 80 m, and 6 MB an image."""
WRITE_EVERY_S = 60.0
"""How much of a long run an interruption may cost."""
_EDITION = 1
"""Raised when the same places start to get other measures."""

Ids = tuple[str, ...]
Key = tuple[int, float, float, int]
"""What tells a place from all others: EPSG, corner and size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """A block of a tile with the candidates whose centres lie in it."""

    grid: Grid
    core: Window
    """Its own pixels; what is around them belongs to the neighbours, and is there for places on the edge."""
    rows: list[int] = field(default_factory=list)
    """Numbers of the candidates."""


def measure(
    folder: Path,
    candidates: Sequence[Candidate],
    scenes: Sequence[Scene],
    *,
    sensors: str,
    size: int,
    workers: int = 2,
    fresh: bool = False,
    progress: Progress = silent,
) -> tuple[Measures, list[Skipped]]:
    """The measures of candidates of `size` 10 m pixels, in their order, and the scenes that could not be read.

    scenes: those of the candidates' pairs, the Sentinel-2 ones with pixel grids. sensors: `s1`, `s2` or `both`.
    Of each candidate the looks are compared that the rule `long` takes from all its pairs; a candidate without such
    has no change, but entropy and features of one look. Each scene's overviews are read once a block (BLOCK_PX) by
    `workers` threads; the numbers do not depend on how many there are, nor on which other candidates are asked for.
    Of a scene that cannot be read the looks are left out. Writes measures.parquet, from which known candidates are
    taken the next time unless `fresh`, and a coarse map of change for each block below change/.
    Raises TokenError where no access token is to be had.
    """
    made_from = f"{fingerprint_of(folder / PAIRS)}/{sensors}/{size}/{_EDITION}"
    fingerprint = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    path = folder / MEASURES
    notes = tables.read_metadata(path)
    is_kept = not fresh and notes.get("fingerprint") == fingerprint
    known, kept_skips = _read(path) if is_kept else ({}, [])
    if not is_kept:
        remove_folder(folder / CHANGE)
    missing = [candidate for candidate in candidates if _key(candidate.place) not in known]
    written_at = time.monotonic()
    for rows, found, skipped in _measured(folder, missing, scenes, sensors, size, workers, progress):
        known |= {_key(missing[row].place): _row(found, row) for row in rows}
        kept_skips = sorted({*kept_skips, *skipped}, key=lambda row: (row.id, row.reason, row.detail))
        if time.monotonic() - written_at > WRITE_EVERY_S:
            _write(path, known, kept_skips, fingerprint)
            written_at = time.monotonic()
    if missing:
        _write(path, known, kept_skips, fingerprint)
    wanted = [known[_key(candidate.place)] for candidate in candidates]
    measures = unknown(len(candidates), sensors)
    for entry in fields(Measures):
        for row, values in enumerate(wanted):
            getattr(measures, entry.name)[row] = values[entry.name]
    return measures, kept_skips


# ------------------------------------------------------------------------------------------------ the table


def _key(place: Place) -> Key:
    return (place.epsg, place.x, place.y, place.size_px)


def _row(measures: Measures, number: int) -> dict[str, float | list[float]]:
    return {entry.name: getattr(measures, entry.name)[number].tolist() for entry in fields(Measures)}


def _read(path: Path) -> tuple[dict[Key, dict[str, float | list[float]]], list[Skipped]]:
    """The rows of measures.parquet by place, and what was skipped when they were made."""
    rows = tables.open_parquet(path).to_pylist()
    names = [entry.name for entry in fields(Measures)]
    known = {(row["epsg"], row["x"], row["y"], row["size_px"]): {name: row[name] for name in names} for row in rows}
    return known, [Skipped(**row) for row in tables.read_metadata(path)["skipped"]]


def _write(
    path: Path, known: Mapping[Key, dict[str, float | list[float]]], skipped: Sequence[Skipped], fingerprint: str
) -> None:
    keys = sorted(known)
    columns: dict[str, pa.Array] = {
        name: pa.array([key[number] for key in keys], kind)
        for number, (name, kind) in enumerate(
            (("epsg", pa.int64()), ("x", pa.float64()), ("y", pa.float64()), ("size_px", pa.int64()))
        )
    }
    for entry in fields(Measures):
        kind = pa.list_(pa.float64()) if entry.name == "features" else pa.float64()
        columns[entry.name] = pa.array([known[key][entry.name] for key in keys], kind)
    notes = {"fingerprint": fingerprint, "skipped": [asdict(row) for row in skipped]}
    table = pa.table(columns).replace_schema_metadata({tables.METADATA_KEY: json.dumps(notes, sort_keys=True).encode()})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


# ------------------------------------------------------------------------------------------------ blocks


def _measured(
    folder: Path,
    candidates: Sequence[Candidate],
    scenes: Sequence[Scene],
    sensors: str,
    size: int,
    workers: int,
    progress: Progress,
) -> Iterator[tuple[Sequence[int], Measures, list[Skipped]]]:
    """Block after block: the rows of the candidates measured in it, all measures and skipped scenes so far."""
    from geossl_data.tiles.coarse import coarse_resolution
    from geossl_data.tiles.rasters import Rasters

    if not candidates:
        return
    by_id = {scene.id: scene for scene in scenes}
    grounds = _grounds(candidates, by_id, coarse_resolution(size))
    looks, is_long = _looks(candidates, by_id)
    measures, skipped = unknown(len(candidates), sensors), dict[str, Skipped]()
    needed = [_needed([looks[row] for row in ground.rows], sensors) for ground in grounds]
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        with (
            Rasters(access=access_to(folder), headers=folder / HEADERS) as rasters,
            progress("measuring change", total=sum(map(len, needed))) as task,
        ):
            for ground, ids in zip(grounds, needed, strict=True):
                block = _block(ground.grid, ids, by_id, rasters, pool, skipped, task)
                _measure_ground(folder, ground, block, candidates, looks, is_long, measures)
                yield ground.rows, measures, list(skipped.values())
    finally:
        pool.shutdown(cancel_futures=True)


def _grounds(candidates: Sequence[Candidate], by_id: Mapping[str, Scene], resolution_m: int) -> list[_Ground]:
    """The blocks of all tiles in which candidates lie, in a fixed order, then one for each that no tile holds."""
    from geossl_data.tiles.coarse import coarse_grid

    by_tile: dict[tuple[int, float, float, float, float], list[int]] = defaultdict(list)
    across: list[_Ground] = []
    for row, candidate in enumerate(candidates):
        tile = by_id[candidate.pairs[0].s2_id].grids["B02"]
        if _holds(tile.bounds, candidate.place.bounds):
            by_tile[(tile.epsg, *tile.bounds)].append(row)
        else:
            across.append(_ground_across(candidate.place, tile, resolution_m, row))
    grounds: list[_Ground] = []
    for (epsg, *bounds), rows in sorted(by_tile.items()):
        west, south, east, north = bounds
        whole = coarse_grid(epsg, (west, south, east, north), resolution_m)
        blocks: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row in rows:
            place = candidates[row].place
            half = place.side_m / 2
            south_px, east_px = (north - place.y + half) / resolution_m, (place.x + half - west) / resolution_m
            blocks[(_share(south_px, whole.height), _share(east_px, whole.width))].append(row)
        margin = math.ceil(candidates[rows[0]].place.side_m / 2 / resolution_m) + 1
        for (down, along), inside in sorted(blocks.items()):
            top, bottom = _edges(down, whole.height)
            left, right = _edges(along, whole.width)
            first_row, first_column = max(0, top - margin), max(0, left - margin)
            grid = Grid(
                epsg,
                whole.x + first_column * resolution_m,
                whole.y - first_row * resolution_m,
                whole.resolution_m,
                min(whole.width, right + margin) - first_column,
                min(whole.height, bottom + margin) - first_row,
            )
            core = (slice(top - first_row, bottom - first_row), slice(left - first_column, right - first_column))
            grounds.append(_Ground(grid=grid, core=core, rows=inside))
    return grounds + across


def _holds(bounds: Bounds, other: Bounds) -> bool:
    """Whether a rectangle lies in another one, give or take a millimetre."""
    west, south, east, north = other
    return (
        bounds[0] <= west + 1e-3
        and bounds[1] <= south + 1e-3
        and bounds[2] >= east - 1e-3
        and bounds[3] >= north - 1e-3
    )


def _ground_across(place: Place, tile: Grid, resolution_m: int, row: int) -> _Ground:
    """A block of its own around a place that no tile holds, on the coarse lattice of one tile."""
    west, south, east, north = place.bounds
    margin = max(1, (BLOCK_PX - math.ceil(place.side_m / resolution_m)) // 2)
    left, right = math.floor((west - tile.x) / resolution_m), math.ceil((east - tile.x) / resolution_m)
    top, bottom = math.floor((tile.y - north) / resolution_m), math.ceil((tile.y - south) / resolution_m)
    grid = Grid(
        tile.epsg,
        tile.x + (left - margin) * resolution_m,
        tile.y - (top - margin) * resolution_m,
        float(resolution_m),
        right - left + 2 * margin,
        bottom - top + 2 * margin,
    )
    return _Ground(grid=grid, core=_window(place, grid), rows=[row])


def _count(side: int) -> int:
    """Blocks along a side of so many pixels, all of about BLOCK_PX."""
    return max(1, round(side / BLOCK_PX))


def _share(at: float, side: int) -> int:
    """The block in which a pixel lies."""
    return min(_count(side) - 1, int(at * _count(side) / side))


def _edges(number: int, side: int) -> tuple[int, int]:
    """First pixel of a block, and of the one after it."""
    return round(number * side / _count(side)), round((number + 1) * side / _count(side))


def _looks(candidates: Sequence[Candidate], by_id: Mapping[str, Scene]) -> tuple[list[tuple[Look, ...]], list[bool]]:
    """The looks to read of each candidate, and whether they are of two periods.

    Also of several Sentinel-1 orbits: what differs in orbit is not compared, and the optical dates are kept.
    """
    cloud = {scene.id: scene.cloud_percent for scene in by_id.values() if scene.sensor == "s2"}
    pairs = [candidate.pairs for candidate in candidates]
    long = choose_all("long", pairs, cloud, same_orbit=False)
    single = choose_all("single", pairs, cloud)
    return [two or one for two, one in zip(long, single, strict=True)], [bool(two) for two in long]


def _needed(looks: Sequence[Sequence[Look]], sensors: str) -> list[tuple[str, Ids]]:
    """Sensor and ids of all acquisitions that some looks need, each once, in a fixed order."""
    needed: set[tuple[str, Ids]] = set()
    for chosen in looks:
        if sensors != "s1":
            needed |= {("s2", look.s2_ids) for look in chosen}
        if sensors != "s2":
            needed |= {("s1", look.s1_ids) for look in chosen}
    return sorted(needed)


def _block(
    grid: Grid,
    needed: Sequence[tuple[str, Ids]],
    by_id: Mapping[str, Scene],
    rasters: "Rasters",
    pool: ThreadPoolExecutor,
    skipped: dict[str, Skipped],
    task: Task,
) -> Block:
    """The images of a block, read side by side; what cannot be read is noted in `skipped` and left out."""
    parts = sorted({(sensor, part) for sensor, ids in needed for part in ids})
    read = partial(_part, grid=grid, by_id=by_id, rasters=rasters)
    images: dict[str, Image] = {}
    for (_, part), image in zip(parts, pool.map(read, parts), strict=True):
        if isinstance(image, Skipped):
            skipped.setdefault(part, image)
        else:
            images[part] = image
    found: dict[str, dict[Ids, Image]] = {"s1": {}, "s2": {}}
    for sensor, ids in needed:
        if all(part in images for part in ids):
            found[sensor][ids] = _mosaic([images[part] for part in ids])
        task.advance(note=f"{len(skipped)} skipped" if skipped else None)
    return Block(s2=found["s2"], s1=found["s1"], scenes=by_id)


def _part(wanted: tuple[str, str], *, grid: Grid, by_id: Mapping[str, Scene], rasters: "Rasters") -> Image | Skipped:
    """The coarse image of one scene, or why it cannot be had."""
    from geossl_data.tiles.rasters import SkipError

    sensor, scene_id = wanted
    try:
        if scene_id not in by_id:
            raise SkipError("missing-scene", f"{scene_id}: not in the table of scenes; fetch and sample again")
        return (_optical if sensor == "s2" else _radar)(by_id[scene_id], grid, rasters)
    except SkipError as error:
        return Skipped(stage="sample", id=scene_id, reason=error.reason, detail=str(error))


def _mosaic(parts: Sequence[Image]) -> Image:
    """Of every pixel the first part that knows it."""
    mosaic = parts[0]
    for part in parts[1:]:
        mosaic = np.where(np.isfinite(mosaic).all(axis=0), mosaic, part)
    return mosaic


def _optical(scene: Scene, grid: Grid, rasters: "Rasters") -> Image:
    from geossl_data.tiles.coarse import read_coarse_classes, read_coarse_numbers

    stored = _stack(scene, MEASURED_S2, grid, partial(read_coarse_numbers, rasters))
    classes = read_coarse_classes(rasters, scene.hrefs[SCL_BAND], grid) if SCL_BAND in scene.hrefs else None
    return reflectance(stored, scene.boa_offset or 0, classes, max(1, round(GROWN_M / grid.resolution_m)))


def _radar(scene: Scene, grid: Grid, rasters: "Rasters") -> Image:
    from geossl_data.tiles.coarse import read_coarse_power

    return _stack(scene, MEASURED_S1, grid, partial(read_coarse_power, rasters))


def _stack(scene: Scene, bands: Sequence[str], grid: Grid, read: Callable[[str, Grid], NDArray[Any]]) -> NDArray[Any]:
    from geossl_data.tiles.rasters import SkipError

    absent = [band for band in bands if band not in scene.hrefs]
    if absent:
        raise SkipError("missing-asset", f"{scene.id}: no band {', '.join(absent)}, which change is measured with")
    return np.stack([read(scene.hrefs[band], grid) for band in bands])


def _measure_ground(
    folder: Path,
    ground: _Ground,
    block: Block,
    candidates: Sequence[Candidate],
    looks: Sequence[tuple[Look, ...]],
    is_long: Sequence[bool],
    measures: Measures,
) -> None:
    """Measure the candidates of a block and write its map, of the looks that most of them have."""
    groups: dict[tuple[Look, ...], list[int]] = defaultdict(list)
    for row in ground.rows:
        groups[looks[row]].append(row)
    shown: NDArray[np.floating] | None = None
    for chosen, rows in sorted(groups.items(), key=lambda group: (-len(group[1]), group[1][0])):
        maps = block.change(chosen) if is_long[rows[0]] else (None, None)
        for row in rows:
            measure_place(measures, row, block, chosen, _window(candidates[row].place, ground.grid), maps)
        known = [found for found in maps if found is not None]
        if known:
            both = combined(known[0], known[-1]) if len(known) == 2 else known[0]
            shown = both if shown is None else np.where(np.isnan(shown), both, shown)
    if shown is not None:
        _write_map(folder, ground, shown)


def _window(place: Place, grid: Grid) -> Window:
    """Rows and columns of a place among the coarse pixels of its block."""
    row, column = round((grid.y - place.y) / grid.resolution_m), round((place.x - grid.x) / grid.resolution_m)
    side = max(1, round(place.side_m / grid.resolution_m))
    return slice(row, row + side), slice(column, column + side)


def _write_map(folder: Path, ground: _Ground, shown: NDArray[np.floating]) -> None:
    """The map of a block as a GeoTIFF; one that is there already, of more candidates, stays."""
    from geossl_data.tiles.coarse import write_map

    rows, columns = ground.core
    side = ground.grid.resolution_m
    grid = Grid(
        ground.grid.epsg,
        ground.grid.x + columns.start * side,
        ground.grid.y - rows.start * side,
        side,
        columns.stop - columns.start,
        rows.stop - rows.start,
    )
    path = folder / CHANGE / f"{grid.epsg}-{grid.x:.0f}-{grid.y:.0f}.tif"
    if not path.exists():
        write_map(path, shown[rows, columns].astype(np.float32), grid)
