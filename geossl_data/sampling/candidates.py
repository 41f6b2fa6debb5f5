"""Pairs → candidate places: squares of ground that at least one pair covers fully.

The squares of one Sentinel-2 tile lie side by side on the tile's own grid, their corners multiples of 60 m from the
coarsest band's origin, so that every band has whole pixels in them. For sites drawn beforehand see
`site_candidates`. A place lies on one tile, so all its looks share one grid; one that is too wide for
the overlap of tiles and lies across their edge has all its looks from mosaics of the same grid, see `mosaics`.

With `snap` "block" the squares of a tile are those that lie in one block of every band, so that a window is one piece
of each file. Places across the edge of tiles stay.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_BANDS, SCL_BAND
from geossl_data.grid import (
    Grid,
    cell_names,
    cells,
    squares_lonlat,
    to_lonlat,
)
from geossl_data.progress import Progress, silent
from geossl_data.records import Pair, Place, Scene, Site, Skipped
from geossl_data.sampling.coverage import FOOTPRINT_TOLERANCE, TURNS, Coverage
from geossl_data.sampling.mosaics import joined_pairs, overflights, seam_corners, seams, tile_sets, with_only
from geossl_data.sampling.tile_grids import (
    Snap,
    TileGrid,
    blocked_squares,
    plain_squares,
    require_block,
    tile_grid,
)

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

CELL_KM = 10.0
"""Spacing of the grid whose cell names a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place and the pairs that cover it, in time order: the best-ranked of each Sentinel-2 scene and radar orbit.

    Each pair names only the frames and parts that the place needs, the one that covers most of it first.
    """

    place: Place
    pairs: tuple[Pair, ...]
    site: Site | None = None
    """The site that the place stands for, where places were drawn beforehand."""
    is_in_block: bool = False
    """Whether the place lies in one block of every band; known only where that was asked for."""


def inside(area: "BaseGeometry | None", lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points in degrees lie in an area or on its edge; all where there is none. Whole turns do not matter."""
    import shapely

    if area is None:
        return np.ones(len(lon), dtype=bool)
    shapely.prepare(area)
    return np.asarray(np.logical_or.reduce([shapely.intersects_xy(area, lon + turn, lat) for turn in TURNS]))


def by_tile(pairs: Sequence[Pair], by_id: dict[str, Scene]) -> tuple[dict[TileGrid, list[Pair]], list[Skipped]]:
    """The pairs of every tile, tiles and pairs in a fixed order, and the scenes that lie on no tile.

    A part of an acquisition that lies on another grid than the first part is left out of its pairs.
    """
    found = {
        scene_id: _tile_of(by_id[scene_id]) for scene_id in sorted({name for pair in pairs for name in pair.s2_ids})
    }
    skipped = {scene_id: reason for scene_id, reason in found.items() if isinstance(reason, str)}
    tiles: dict[TileGrid, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: (pair.s2_id, pair.rank, pair.s1_id)):
        tile = found[pair.s2_id]
        if not isinstance(tile, TileGrid):
            continue
        on_tile = tuple(name for name in pair.s2_ids if found[name] == tile)
        for name in set(pair.s2_ids) - set(on_tile):
            skipped.setdefault(name, f"a part of {pair.s2_id} on another pixel grid")
        tiles[tile].append(with_only(pair, on_tile, pair.s1_ids, by_id))
    rows = [
        Skipped(stage="sample", id=scene_id, reason="off-grid", detail=detail)
        for scene_id, detail in sorted(skipped.items())
    ]
    return {tile: tiles[tile] for tile in sorted(tiles, key=lambda tile: (tile.epsg, tile.bounds))}, rows


def _tile_of(scene: Scene) -> TileGrid | str:
    grids = [scene.grids[band] for band in S2_BANDS if band in scene.grids]
    return tile_grid(grids) if len(grids) == len(S2_BANDS) else "no UTM pixel grid is known for every band"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The ground that scenes show, in squares of one size."""

    candidates: list[Candidate]
    """The squares that a pair covers fully, in an order that depends only on their position: tile by tile, then those
    across the edges of tiles."""
    skipped: list[Skipped]
    """The scenes that give none."""
    bare_lon: NDArray[np.float64]
    bare_lat: NDArray[np.float64]
    """Centres of the squares of the same tiles that no pair covers, degrees."""
    km2: NDArray[np.float64]
    """Ground that each candidate stands for: its square, or more where squares leave ground between them."""
    bare_km2: NDArray[np.float64]
    """Ground that each of the other squares stands for."""
    largest_px: int
    """Side of the largest square that fits a tile, in 10 m pixels."""


def survey(
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    size_px: int,
    *,
    area: "BaseGeometry | None" = None,
    snap: Snap = "none",
    progress: Progress = silent,
) -> Survey:
    """Every square of `size_px` 10 m pixels on the tiles of the pairs, those that a pair covers and the others.

    scenes: both sensors; a Sentinel-2 scene needs `grids` for its bands. area: longitude/latitude; only places whose
    centre lies in it. A place seen on two overlapping tiles appears once per tile. Squares that no tile holds are there
    where pairs of several tiles cover them together. snap: `block` leaves the squares that lie in one block of every
    band, or all of them on a tile without any. Raises SamplingError where a block is too small for a square.
    """
    by_id = {scene.id: scene for scene in scenes}
    tiles, skipped = by_tile(pairs, by_id)
    candidates: list[Candidate] = []
    bare: list[Place] = []
    km2: list[float] = []
    bare_km2: list[float] = []
    if snap == "block":
        require_block(size_px)
    with progress("finding candidates", total=len(tiles)) as task:
        for tile, of_tile in tiles.items():
            squares = (
                blocked_squares(tile, band_grids(of_tile, by_id), size_px * 10.0)
                if snap == "block"
                else plain_squares(tile, size_px * 10.0)
            )
            places = places_at(tile, squares.corners, size_px)
            within = inside(area, np.array([place.lon for place in places]), np.array([place.lat for place in places]))
            chosen = [place for place, is_inside in zip(places, within, strict=True) if is_inside]
            for place, found in zip(chosen, covering(chosen, of_tile, by_id), strict=True):
                if found:
                    candidates.append(Candidate(place=place, pairs=found, is_in_block=squares.are_in_blocks))
                    km2.append(squares.km2)
                else:
                    bare.append(place)
                    bare_km2.append(squares.km2)
            task.advance(note=f"{len(candidates):,} places")
    across = _across_edges(tiles, by_id, size_px, area)
    candidates += across
    km2 += [(size_px / 100) ** 2] * len(across)
    return Survey(
        candidates=candidates,
        skipped=skipped,
        bare_lon=np.array([place.lon for place in bare], dtype=np.float64),
        bare_lat=np.array([place.lat for place in bare], dtype=np.float64),
        km2=np.array(km2, dtype=np.float64),
        bare_km2=np.array(bare_km2, dtype=np.float64),
        largest_px=max((tile.side_px for tile in tiles), default=0),
    )


def band_grids(pairs: Sequence[Pair], by_id: Mapping[str, Scene]) -> list[Grid]:
    """The different grids of all Sentinel-2 bands and classes in some pairs."""
    scenes = {name: by_id[name] for pair in pairs for name in pair.s2_ids}
    bands = (*S2_BANDS, SCL_BAND)
    return list(dict.fromkeys(scene.grids[band] for scene in scenes.values() for band in bands if band in scene.grids))


def _across_edges(
    tiles: Mapping[TileGrid, Sequence[Pair]], by_id: dict[str, Scene], size_px: int, area: "BaseGeometry | None"
) -> list[Candidate]:
    """The squares that no tile holds and that pairs of several tiles cover together."""
    found: list[Candidate] = []
    for group in seams(list(tiles), size_px * 10.0):
        places = places_at(group[0], seam_corners(group, size_px * 10.0), size_px)
        within = inside(area, np.array([place.lon for place in places]), np.array([place.lat for place in places]))
        chosen = [place for place, is_inside in zip(places, within, strict=True) if is_inside]
        covered = covering_together(chosen, group, tiles, by_id)
        found += [Candidate(place=place, pairs=pairs) for place, pairs in zip(chosen, covered, strict=True) if pairs]
    return found


def covering_together(
    places: Sequence[Place],
    group: Sequence[TileGrid],
    tiles: Mapping[TileGrid, Sequence[Pair]],
    by_id: dict[str, Scene],
) -> list[tuple[Pair, ...]]:
    """For each place the pairs of several tiles of a group that cover it, as `covering` has those of one.

    None for a place that a single tile holds. Of the sets of tiles that would do, the first serves.
    """
    if not places:
        return []
    at = np.array([(place.x, place.y) for place in places])
    sets = tile_sets(at, places[0].side_m, group)
    numbers = overflights(
        [pair for number in sorted({n for s in sets for n in s}) for pair in tiles[group[number]]], by_id
    )
    merged: list[dict[tuple[object, ...], Pair]] = [{} for _ in places]
    for members, rows in sets.items():
        pairs = joined_pairs([tiles[group[number]] for number in members], numbers, by_id)
        held = covering([places[row] for row in rows], pairs, by_id, needs_all_parts=True)
        for row, found in zip(rows, held, strict=True):
            for pair in found:
                key = (numbers[pair.s2_id], pair.s1_relative_orbit, pair.s1_orbit_state)
                merged[row].setdefault(key, pair)
    return [tuple(sorted(found.values(), key=_in_time)) for found in merged]


def find_candidates(
    scenes: Sequence[Scene], pairs: Sequence[Pair], size_px: int, *, area: "BaseGeometry | None" = None
) -> tuple[list[Candidate], list[Skipped], int]:
    """The candidates of a `survey`, the scenes that give none, and the largest side that fits."""
    found = survey(scenes, pairs, size_px, area=area)
    return found.candidates, found.skipped, found.largest_px


def places_at(tile: TileGrid, corners: NDArray[np.float64], size_px: int) -> list[Place]:
    """The places with these north-west corners, shape (n, 2), on a tile."""
    half = size_px * 5.0
    lons, lats = to_lonlat(tile.epsg, corners[:, 0] + half, corners[:, 1] - half)
    names = cell_names(*cells(lons, lats, CELL_KM))
    wrapped = (lons + 180.0) % 360.0 - 180.0
    columns = (wrapped.tolist(), lats.tolist(), corners[:, 0].tolist(), corners[:, 1].tolist(), names.tolist())
    return [
        Place(lon=lon, lat=lat, epsg=tile.epsg, x=x, y=y, size_px=size_px, cell=name)
        for lon, lat, x, y, name in zip(*columns, strict=True)
    ]


def covering(
    places: Sequence[Place], pairs: Sequence[Pair], by_id: dict[str, Scene], *, needs_all_parts: bool = False
) -> list[tuple[Pair, ...]]:
    """For each place of a tile the pairs that cover it, with the frames it needs, in time order.

    pairs: of that tile, sorted by Sentinel-2 scene and rank; of each Sentinel-2 scene and Sentinel-1 orbit the first
    that covers is taken, so that looks may keep to one orbit. needs_all_parts: keep all Sentinel-2 parts, since they
    are of different tiles: a footprint is not known as exactly as the edge of a raster.
    """
    if not places:
        return []
    squares = _inner_squares(places)
    coverage = Coverage(squares, by_id)
    taken_by: list[list[Pair]] = [[] for _ in places]
    served: dict[tuple[object, ...], NDArray[np.bool_]] = {}
    for pair in pairs:
        s2_ids, s1_ids = pair.s2_ids, pair.s1_ids
        orbit = (pair.s2_id, pair.s1_relative_orbit, pair.s1_orbit_state)
        taken = served.setdefault(orbit, np.zeros(len(places), dtype=bool))
        usable = ~taken & coverage.together(s2_ids)
        if not usable.any():
            continue
        usable &= coverage.together(s1_ids)
        taken |= usable
        rows = np.flatnonzero(usable)
        if len(s2_ids) + len(s1_ids) == 2:
            for row in rows.tolist():
                taken_by[row].append(pair)
            continue
        reduced: dict[tuple[tuple[str, ...], tuple[str, ...]], Pair] = {(s2_ids, s1_ids): pair}
        parts = coverage.largest_first(s2_ids, rows) if needs_all_parts else coverage.needed(s2_ids, rows)
        for row, needed in zip(rows.tolist(), zip(parts, coverage.needed(s1_ids, rows), strict=True), strict=True):
            if needed not in reduced:
                reduced[needed] = with_only(pair, *needed, by_id)
            taken_by[row].append(reduced[needed])
    return [tuple(sorted(found, key=_in_time)) for found in taken_by]


def _in_time(pair: Pair) -> tuple[datetime, str, int]:
    return pair.s2_acquired, pair.s2_id, pair.rank


def _inner_squares(places: Sequence[Place]) -> NDArray[np.object_]:
    """Places of one zone and size without the margin that may stick out of a footprint, longitude/latitude."""
    side_m = places[0].side_m
    margin = FOOTPRINT_TOLERANCE * side_m
    x, y = np.array([place.x for place in places]), np.array([place.y for place in places])
    return squares_lonlat(places[0].epsg, x + margin, y - margin, side_m - 2 * margin)
