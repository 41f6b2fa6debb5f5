"""Pairs → candidate places: squares of ground that at least one pair covers fully.

The squares of one Sentinel-2 tile lie side by side on the tile's own grid, their corners multiples of 60 m from the
coarsest band's origin, so that every band has whole pixels in them. For sites drawn beforehand they are the squares of
that lattice nearest to the sites. A place lies on one tile, so all its looks share one grid; one that is too wide for
the overlap of tiles and lies across their edge has all its looks from mosaics of the same grid, see `mosaics`.

With `snap` "block" the squares of a tile are those that lie in one block of every band, so that a window is one piece
of each file, and sites move to the nearest of these that is not too far. Places across the edge of tiles stay.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_BANDS, SCL_BAND
from geossl_data.errors import SamplingError
from geossl_data.grid import (
    Grid,
    cell_names,
    cells,
    from_lonlat,
    square_lonlat,
    squares_lonlat,
    to_lonlat,
    unit_vectors,
    utm_epsg,
)
from geossl_data.records import Pair, Place, Scene, Site, Skipped
from geossl_data.sampling.coverage import FOOTPRINT_TOLERANCE, TURNS, Coverage
from geossl_data.sampling.mosaics import joined_pairs, overflights, seam_corners, seams, tile_sets, with_only
from geossl_data.sampling.moves import may_move
from geossl_data.sampling.tile_grids import (
    STEP_M,
    Snap,
    TileGrid,
    block_spans,
    blocked_squares,
    nearest_in,
    plain_squares,
    require_block,
    tile_grid,
)

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

CELL_KM = 10.0
"""Spacing of the grid whose cell names a place."""
MOST_MOVED_M = 2600.0
"""No site moves further east or west, nor further north or south, into a block than this."""
_MARGIN = 1.01
"""True lengths and those of the map differ by less than a hundredth."""


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


def _by_tile(pairs: Sequence[Pair], by_id: dict[str, Scene]) -> tuple[dict[TileGrid, list[Pair]], list[Skipped]]:
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
) -> Survey:
    """Every square of `size_px` 10 m pixels on the tiles of the pairs, those that a pair covers and the others.

    scenes: both sensors; a Sentinel-2 scene needs `grids` for its bands. area: longitude/latitude; only places whose
    centre lies in it. A place seen on two overlapping tiles appears once per tile. Squares that no tile holds are there
    where pairs of several tiles cover them together. snap: `block` leaves the squares that lie in one block of every
    band, or all of them on a tile without any. Raises SamplingError where a block is too small for a square.
    """
    by_id = {scene.id: scene for scene in scenes}
    tiles, skipped = _by_tile(pairs, by_id)
    candidates: list[Candidate] = []
    bare: list[Place] = []
    km2: list[float] = []
    bare_km2: list[float] = []
    if snap == "block":
        require_block(size_px)
    for tile, of_tile in tiles.items():
        squares = (
            blocked_squares(tile, _grids(of_tile, by_id), size_px * 10.0)
            if snap == "block"
            else plain_squares(tile, size_px * 10.0)
        )
        places = _places(tile, squares.corners, size_px)
        within = inside(area, np.array([place.lon for place in places]), np.array([place.lat for place in places]))
        chosen = [place for place, is_inside in zip(places, within, strict=True) if is_inside]
        for place, found in zip(chosen, _covering(chosen, of_tile, by_id), strict=True):
            if found:
                candidates.append(Candidate(place=place, pairs=found, is_in_block=squares.are_in_blocks))
                km2.append(squares.km2)
            else:
                bare.append(place)
                bare_km2.append(squares.km2)
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


def _grids(pairs: Sequence[Pair], by_id: Mapping[str, Scene]) -> list[Grid]:
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
        places = _places(group[0], seam_corners(group, size_px * 10.0), size_px)
        within = inside(area, np.array([place.lon for place in places]), np.array([place.lat for place in places]))
        chosen = [place for place, is_inside in zip(places, within, strict=True) if is_inside]
        covering = _covering_together(chosen, group, tiles, by_id)
        found += [Candidate(place=place, pairs=pairs) for place, pairs in zip(chosen, covering, strict=True) if pairs]
    return found


def _covering_together(
    places: Sequence[Place],
    group: Sequence[TileGrid],
    tiles: Mapping[TileGrid, Sequence[Pair]],
    by_id: dict[str, Scene],
) -> list[tuple[Pair, ...]]:
    """For each place the pairs of several tiles of a group that cover it, as `_covering` has those of one.

    None for a place that a single tile holds. Of the sets of tiles that would do, the first serves.
    """
    if not places:
        return []
    at = np.array([(place.x, place.y) for place in places])
    sets = tile_sets(at, places[0].side_m, group)
    numbers = overflights(
        [pair for number in sorted({n for s in sets for n in s}) for pair in tiles[group[number]]], by_id
    )
    covering: list[dict[tuple[object, ...], Pair]] = [{} for _ in places]
    for members, rows in sets.items():
        pairs = joined_pairs([tiles[group[number]] for number in members], numbers, by_id)
        held = _covering([places[row] for row in rows], pairs, by_id, needs_all_parts=True)
        for row, found in zip(rows, held, strict=True):
            for pair in found:
                key = (numbers[pair.s2_id], pair.s1_relative_orbit, pair.s1_orbit_state)
                covering[row].setdefault(key, pair)
    return [tuple(sorted(found.values(), key=_in_time)) for found in covering]


def find_candidates(
    scenes: Sequence[Scene], pairs: Sequence[Pair], size_px: int, *, area: "BaseGeometry | None" = None
) -> tuple[list[Candidate], list[Skipped], int]:
    """The candidates of a `survey`, the scenes that give none, and the largest side that fits."""
    found = survey(scenes, pairs, size_px, area=area)
    return found.candidates, found.skipped, found.largest_px


def _places(tile: TileGrid, corners: NDArray[np.float64], size_px: int) -> list[Place]:
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


def _covering(
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
    covering: list[list[Pair]] = [[] for _ in places]
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
        reduced: dict[tuple[tuple[str, ...], tuple[str, ...]], Pair] = {(s2_ids, s1_ids): pair}
        is_mosaic = len(s2_ids) + len(s1_ids) > 2
        for index in np.flatnonzero(usable).tolist():
            needed = (s2_ids, s1_ids)
            if is_mosaic:
                parts = coverage.largest_first(s2_ids, index) if needs_all_parts else coverage.needed(s2_ids, index)
                needed = (parts, coverage.needed(s1_ids, index))
                if needed not in reduced:
                    reduced[needed] = with_only(pair, *needed, by_id)
            covering[index].append(reduced[needed])
    return [tuple(sorted(found, key=_in_time)) for found in covering]


def _in_time(pair: Pair) -> tuple[datetime, str, int]:
    return pair.s2_acquired, pair.s2_id, pair.rank


def _inner_squares(places: Sequence[Place]) -> NDArray[np.object_]:
    """Places of one zone and size without the margin that may stick out of a footprint, longitude/latitude."""
    side_m = places[0].side_m
    margin = FOOTPRINT_TOLERANCE * side_m
    x, y = np.array([place.x for place in places]), np.array([place.y for place in places])
    return squares_lonlat(places[0].epsg, x + margin, y - margin, side_m - 2 * margin)


# ------------------------------------------------------------------------------------------------ sites


def candidates_at(
    sites: Sequence[Site],
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    *,
    area: "BaseGeometry | None" = None,
    snap: Snap = "none",
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
    tiles, skipped = _by_tile(pairs, by_id)
    best: dict[int, tuple[tuple[bool, int, float], Candidate]] = {}
    n_tiles = [0] * len(ordered)
    on_tile: dict[int, TileGrid] = {}
    for tile, numbers in _tiles_of_sites(ordered, list(tiles)):
        places, offsets, numbers = _nearest_places(tile, ordered, numbers)
        covering = _covering(places, tiles[tile], by_id)
        for number, place, offset, found in zip(numbers, places, offsets, covering, strict=True):
            site = ordered[number]
            n_tiles[number] += 1
            rank = (tile.epsg != utm_epsg(site.lon, site.lat), -len(found), offset)
            if found and (number not in best or rank < best[number][0]):
                best[number] = (rank, Candidate(place=place, pairs=found, site=site))
                on_tile[number] = tile
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
        at = _nearest_in_blocks(tile, [entry.site for entry in old if entry.site], _grids(tiles[tile], by_id))
        if at is None:
            continue
        steps = np.abs(at - np.array([(entry.place.x, entry.place.y) for entry in old])).max(axis=1)
        for row in np.flatnonzero(steps == 0).tolist():
            placed[numbers[row]] = replace(old[row], is_in_block=True)
        rows = np.flatnonzero((steps > 0) & (steps <= MOST_MOVED_M))
        places = _places(tile, at[rows], old[0].place.size_px)
        within = inside(area, np.array([place.lon for place in places]), np.array([place.lat for place in places]))
        covering = _covering(places, tiles[tile], by_id)
        for row, place, pairs, is_inside in zip(rows.tolist(), places, covering, within, strict=True):
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
        places = _places(group[0], _nearest_corners(group[0], sites, near)[0], size_px)
        for number, place, pairs in zip(
            near.tolist(), places, _covering_together(places, group, tiles, by_id), strict=True
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
    places = _places(tile, at[fits], size_px)
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
