"""Sites → candidate places: for each place drawn beforehand the square of a tile's lattice nearest to it.

With `snap` "block" sites move on to the nearest square that lies in one block of every band and is not too far.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.grid import Grid, from_lonlat, square_lonlat, unit_vectors, utm_epsg
from geossl_data.progress import Progress, silent
from geossl_data.records import Pair, Place, Scene, Site, Skipped
from geossl_data.sampling.candidates import (
    Candidate,
    band_grids,
    by_tile,
    covering,
    covering_together,
    inside,
    places_at,
)
from geossl_data.sampling.coverage import TURNS
from geossl_data.sampling.mosaics import seams
from geossl_data.sampling.moves import may_move
from geossl_data.sampling.tile_grids import STEP_M, Snap, TileGrid, block_spans, nearest_in, require_block

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MOST_MOVED_M = 2600.0
"""No site moves further east or west, nor further north or south, into a block than this."""
_MARGIN = 1.01
"""True lengths and those of the map differ by less than a hundredth."""


def candidates_at(
    sites: Sequence[Site],
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    *,
    area: "BaseGeometry | None" = None,
    snap: Snap = "none",
    progress: Progress = silent,
) -> tuple[list[Candidate], list[Skipped]]:
    """The candidate place of every site that has one, sorted by the site's key, and what was given up.

    A site's place is the square of its size whose centre is nearest to it among the squares of a tile's 60 m lattice;
    it is at most 43 m away. Of several tiles that hold the square and cover it, one of the UTM zone in which the site
    lies comes first, then the one with most pairs, then the one whose centre is nearest. Where none does, several tiles
    may that hold it together. Sites outside `area` are left out.
    snap: `block` moves each place on its tile to the nearest square that lies in one block of every band. It stays
    where that is more than MOST_MOVED_M away, out of the area, covered by fewer pairs, or too near to another place:
    none comes nearer to another, nor to one of another split, than the nearest two sites lie, or than √2 sides.
    Raises SamplingError when the sites are of different sizes, and where a block is too small for them.
    """
    by_id = {scene.id: scene for scene in scenes}
    within = inside(area, np.array([site.lon for site in sites]), np.array([site.lat for site in sites]))
    ordered = sorted((site for site, ok in zip(sites, within, strict=True) if ok), key=lambda site: site.key)
    sizes = sorted({site.size_px for site in ordered})
    if len(sizes) > 1:
        raise SamplingError(f"places of different sizes ({sizes[0]} to {sizes[-1]} px) cannot share a dataset")
    if snap == "block" and sizes:
        require_block(sizes[0])
    tiles, skipped = by_tile(pairs, by_id)
    best: dict[int, tuple[tuple[bool, int, float], Candidate]] = {}
    n_tiles = [0] * len(ordered)
    on_tile: dict[int, TileGrid] = {}
    near = _tiles_of_sites(ordered, list(tiles))
    with progress("finding candidates", total=len(near)) as task:
        for tile, numbers in near:
            places, offsets, numbers = _nearest_places(tile, ordered, numbers)
            covered = covering(places, tiles[tile], by_id)
            for number, place, offset, found in zip(numbers, places, offsets, covered, strict=True):
                site = ordered[number]
                n_tiles[number] += 1
                rank = (tile.epsg != utm_epsg(site.lon, site.lat), -len(found), offset)
                if found and (number not in best or rank < best[number][0]):
                    best[number] = (rank, Candidate(place=place, pairs=found, site=site))
                    on_tile[number] = tile
            task.advance(note=f"{len(best):,} places")
    rest = np.array([number for number in range(len(ordered)) if number not in best], dtype=np.int64)
    for number, rank, candidate in _sites_across_edges(ordered, rest, tiles, by_id):
        if number not in best or rank < best[number][0]:
            best[number] = (rank, candidate)
    for number, site in enumerate(ordered):
        if number not in best:
            skipped.append(_without_place(site, n_tiles[number]))
    candidates = {number: best[number][1] for number in sorted(best)}
    if snap == "block":
        candidates = _moved_into_blocks(candidates, on_tile, tiles, by_id, area)
    return list(candidates.values()), skipped


def _moved_into_blocks(
    candidates: Mapping[int, Candidate],
    on_tile: Mapping[int, TileGrid],
    tiles: Mapping[TileGrid, Sequence[Pair]],
    by_id: dict[str, Scene],
    area: "BaseGeometry | None",
) -> dict[int, Candidate]:
    """The candidates of sites, by number, each moved into a block where that may be, see `candidates_at`."""
    of_tile: dict[TileGrid, list[int]] = defaultdict(list)
    for number, tile in on_tile.items():
        of_tile[tile].append(number)
    placed = dict(candidates)
    moved: dict[int, Candidate] = {}
    for tile, numbers in of_tile.items():
        old = [candidates[number] for number in numbers]
        at = _nearest_in_blocks(tile, [entry.site for entry in old if entry.site], band_grids(tiles[tile], by_id))
        if at is None:
            continue
        steps = np.abs(at - np.array([(entry.place.x, entry.place.y) for entry in old])).max(axis=1)
        for row in np.flatnonzero(steps == 0).tolist():
            placed[numbers[row]] = replace(old[row], is_in_block=True)
        rows = np.flatnonzero((steps > 0) & (steps <= MOST_MOVED_M))
        places = places_at(tile, at[rows], old[0].place.size_px)
        within = inside(area, np.array([place.lon for place in places]), np.array([place.lat for place in places]))
        covered = covering(places, tiles[tile], by_id)
        for row, place, pairs, is_inside in zip(rows.tolist(), places, covered, within, strict=True):
            if is_inside and len(pairs) >= len(old[row].pairs):
                moved[numbers[row]] = replace(old[row], place=place, pairs=pairs, is_in_block=True)
    return _without_crowding(placed, moved)


def _without_crowding(placed: Mapping[int, Candidate], moved: Mapping[int, Candidate]) -> dict[int, Candidate]:
    """The candidates of sites, by number, moved where that brings none too near to another."""
    numbers = sorted(placed)
    old, new = [placed[number] for number in numbers], [moved.get(number, placed[number]) for number in numbers]
    sites = [entry.site for entry in old if entry.site]
    goes = may_move(
        _points(sites),
        _points([entry.place for entry in old]),
        _points([entry.place for entry in new]),
        np.array([number in moved for number in numbers], dtype=bool),
        np.array([site.split for site in sites], dtype=np.str_),
        least_km=math.sqrt(2) * _MARGIN * sites[0].size_px / 100 if sites else 0.0,
    )
    return {
        number: after if went else before
        for number, before, after, went in zip(numbers, old, new, goes.tolist(), strict=True)
    }


def _points(things: Sequence[Site] | Sequence[Place]) -> NDArray[np.float64]:
    """Unit vectors of the centres, shape (n, 3)."""
    return unit_vectors([one.lon for one in things], [one.lat for one in things])


def _nearest_in_blocks(tile: TileGrid, sites: Sequence[Site], grids: Sequence[Grid]) -> NDArray[np.float64] | None:
    """North-west corners of the squares of a tile in one block of every grid that are nearest to some sites, shape
    (n, 2); None where no block leaves room."""
    west, _, _, north = tile.bounds
    side_m = sites[0].size_px * 10.0
    eastwards, southwards = block_spans(tile, grids, side_m)
    if not len(eastwards) or not len(southwards):
        return None
    xs, ys = from_lonlat(tile.epsg, [site.lon for site in sites], [site.lat for site in sites])
    left = west + nearest_in(eastwards, xs - side_m / 2 - west)
    return np.column_stack([left, north - nearest_in(southwards, north - (ys + side_m / 2))])


def _sites_across_edges(
    sites: Sequence[Site],
    numbers: NDArray[np.int64],
    tiles: Mapping[TileGrid, Sequence[Pair]],
    by_id: dict[str, Scene],
) -> Iterator[tuple[int, tuple[bool, int, float], Candidate]]:
    """Those of some sites whose square lies across the edges of tiles, with a rank (less is better) and a candidate."""
    if not len(numbers):
        return
    size_px = sites[0].size_px
    for group in seams(list(tiles), size_px * 10.0):
        of_tiles = _tiles_of_sites([sites[number] for number in numbers], group)
        near = numbers[np.unique(np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in of_tiles)]))]
        places = places_at(group[0], _nearest_corners(group[0], sites, near)[0], size_px)
        for number, place, pairs in zip(
            near.tolist(), places, covering_together(places, group, tiles, by_id), strict=True
        ):
            if pairs:
                site = sites[number]
                rank = (group[0].epsg != utm_epsg(site.lon, site.lat), -len(pairs), 0.0)
                yield number, rank, Candidate(place=place, pairs=pairs, site=site)


def _without_place(site: Site, n_tiles: int) -> Skipped:
    where = f"{site.size_px} px around {site.lat:.4f} N {site.lon:.4f} E"
    if n_tiles:
        detail = f"{where}: {n_tiles} Sentinel-2 tiles hold it, no pair covers it fully"
        return Skipped(stage="sample", id=site.key, reason="no-pair", detail=detail)
    return Skipped(stage="sample", id=site.key, reason="no-tile", detail=f"{where}: no Sentinel-2 tile holds it")


def _tiles_of_sites(sites: Sequence[Site], tiles: Sequence[TileGrid]) -> list[tuple[TileGrid, NDArray[np.int64]]]:
    """Each tile with the numbers of the sites near or on it, in the order of the tiles."""
    import shapely

    if not sites or not tiles:
        return []
    outlines = []
    for tile in tiles:
        west, south, east, north = tile.bounds
        outlines.append(square_lonlat(tile.epsg, west, north, max(east - west, north - south)))
    tree = shapely.STRtree(outlines)
    lon, lat = np.array([site.lon for site in sites]), np.array([site.lat for site in sites])
    found = [tree.query(shapely.points(lon + turn, lat), predicate="intersects") for turn in TURNS]
    number, tile_number = np.unique(np.concatenate(found, axis=1), axis=1)
    order = np.argsort(tile_number, kind="stable")
    return [
        (tiles[int(tile_number[rows[0]])], number[rows])
        for rows in np.split(order, np.flatnonzero(np.diff(tile_number[order])) + 1)
        if len(rows)
    ]


def _nearest_places(
    tile: TileGrid, sites: Sequence[Site], numbers: NDArray[np.int64]
) -> tuple[list[Place], NDArray[np.float64], NDArray[np.int64]]:
    """The lattice squares nearest to some sites that fit on a tile, metres from site to tile centre, and whose."""
    west, south, east, north = tile.bounds
    size_px = sites[0].size_px
    side = size_px * 10.0
    at, xs, ys = _nearest_corners(tile, sites, numbers)
    left, top = at.T
    fits = (left >= west) & (left + side <= east + 1e-6) & (top <= north) & (top - side >= south - 1e-6)
    offsets = np.hypot(xs - (west + east) / 2, ys - (south + north) / 2)
    places = places_at(tile, at[fits], size_px)
    return places, offsets[fits], numbers[fits]


def _nearest_corners(
    tile: TileGrid, sites: Sequence[Site], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """North-west corners of the squares of a tile's lattice nearest to some sites, shape (n, 2), and where these lie in
    its zone, metres."""
    west, _, _, north = tile.bounds
    side = sites[0].size_px * 10.0
    xs, ys = from_lonlat(tile.epsg, [sites[n].lon for n in numbers], [sites[n].lat for n in numbers])
    left = west + np.round((xs - side / 2 - west) / STEP_M) * STEP_M
    top = north - np.round((north - (ys + side / 2)) / STEP_M) * STEP_M
    return np.column_stack([left, top]), xs, ys
