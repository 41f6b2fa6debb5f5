"""Pairs → candidate places: every square of ground that at least one pair covers fully.

The squares of one Sentinel-2 tile lie side by side on the tile's own grid, their corners multiples of 60 m from the
coarsest band's origin, so that every band has whole pixels in them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_BANDS
from geossl_data.grid import Bounds, Grid, cell_name, common_bounds, square_lonlat, to_lonlat
from geossl_data.records import Pair, Place, Scene, Skipped

STEP_M = 60.0
"""Corners of places are multiples of this from their grid's origin."""
CELL_KM = 10.0
"""Spacing of the grid whose cell names a place."""
FOOTPRINT_TOLERANCE = 0.02
"""Share of a place's side that may stick out of a footprint: footprints are polygons with few corners, rounded; the
pixels decide in the end."""

_ON_GRID = 1e-3
"""Largest misfit of two grids, in pixels, that counts as agreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place and the pairs that cover it: for each Sentinel-2 scene the best-ranked one, in time order."""

    place: Place
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """The ground on which all Sentinel-2 bands of a scene have whole pixels."""

    epsg: int
    bounds: Bounds
    """west, south, east, north in metres; west and north are multiples of 60 m from the coarsest band's origin."""

    @property
    def side_px(self) -> int:
        """Side of the largest place that fits, in 10 m pixels."""
        west, south, east, north = self.bounds
        return max(0, int((min(east - west, north - south) + 1e-6) // STEP_M) * 6)


def tile_grid(grids: Sequence[Grid]) -> TileGrid | str:
    """The common ground of a scene's bands, or one line that says why there is none.

    A band's grid agrees with the coarsest when its origin differs by a whole number of its own pixels. Bounds are
    moved inwards to the next multiple of 60 m from the coarsest band's origin, so the answer may be a little smaller
    than the scene.
    """
    if len({grid.epsg for grid in grids}) != 1:
        return f"bands in different CRSs: {sorted({grid.epsg for grid in grids})}"
    coarsest = max(grids, key=lambda grid: grid.resolution_m)
    for grid in grids:
        for origin, reference in ((grid.x, coarsest.x), (grid.y, coarsest.y)):
            pixels = (origin - reference) / grid.resolution_m
            if abs(pixels - round(pixels)) > _ON_GRID:
                return f"a {grid.resolution_m:g} m band lies {abs(pixels - round(pixels)):.2f} pixels off the others"
    west, south, east, north = common_bounds(grids)
    west = coarsest.x + np.ceil((west - coarsest.x) / STEP_M - _ON_GRID) * STEP_M
    north = coarsest.y - np.ceil((coarsest.y - north) / STEP_M - _ON_GRID) * STEP_M
    return TileGrid(epsg=coarsest.epsg, bounds=(float(west), south, east, float(north)))


def corners(bounds: Bounds, side_m: float) -> NDArray[np.float64]:
    """North-west corners of the squares of `side_m` that fill `bounds`, shape (n, 2), row by row from the north.

    What is left over at the edges is shared evenly, in steps of 60 m.
    """
    west, south, east, north = bounds
    columns, rows = int((east - west + 1e-6) // side_m), int((north - south + 1e-6) // side_m)
    if columns <= 0 or rows <= 0:
        return np.empty((0, 2))
    shift_x = (east - west - columns * side_m) / 2 // STEP_M * STEP_M
    shift_y = (north - south - rows * side_m) / 2 // STEP_M * STEP_M
    xs = west + shift_x + side_m * np.arange(columns)
    ys = north - shift_y - side_m * np.arange(rows)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _covered(scene: Scene, squares: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which squares lie inside a scene's footprint; longitudes may differ by whole turns."""
    import shapely
    from shapely import affinity

    inside = np.zeros(len(squares), dtype=bool)
    for turn in (-360.0, 0.0, 360.0):
        footprint = affinity.translate(scene.footprint, xoff=turn) if turn else scene.footprint
        shapely.prepare(footprint)
        inside |= shapely.covers(footprint, squares)
    return inside


def find_candidates(
    scenes: Sequence[Scene], pairs: Sequence[Pair], size_px: int
) -> tuple[list[Candidate], list[Skipped], int]:
    """Every candidate place of `size_px` 10 m pixels, the scenes that give none, and the largest side that fits.

    scenes: both sensors; a Sentinel-2 scene needs `grids` for its bands. The order of candidates depends only on
    their position. A place seen on two overlapping tiles appears once per tile.
    """
    by_id = {scene.id: scene for scene in scenes}
    skipped: list[Skipped] = []
    tiles: dict[TileGrid, set[str]] = defaultdict(set)
    for s2_id in sorted({pair.s2_id for pair in pairs}):
        grids = [by_id[s2_id].grids[band] for band in S2_BANDS if band in by_id[s2_id].grids]
        found = tile_grid(grids) if len(grids) == len(S2_BANDS) else "no UTM pixel grid is known for every band"
        if isinstance(found, str):
            skipped.append(Skipped(stage="sample", id=s2_id, reason="off-grid", detail=found))
        else:
            tiles[found].add(s2_id)
    by_s2: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_s2[pair.s2_id].append(pair)
    candidates = [
        candidate
        for tile in sorted(tiles, key=lambda tile: (tile.epsg, tile.bounds))
        for candidate in _tile_candidates(tile, [by_s2[s2_id] for s2_id in sorted(tiles[tile])], by_id, size_px)
    ]
    return candidates, skipped, max((tile.side_px for tile in tiles), default=0)


def _tile_candidates(
    tile: TileGrid, pairs_of_scenes: Sequence[Sequence[Pair]], by_id: dict[str, Scene], size_px: int
) -> list[Candidate]:
    side_m = size_px * 10.0
    places = corners(tile.bounds, side_m)
    if not len(places):
        return []
    margin = FOOTPRINT_TOLERANCE * side_m
    squares = np.array(
        [square_lonlat(tile.epsg, x + margin, y - margin, side_m - 2 * margin) for x, y in places], dtype=object
    )
    covering: list[list[Pair]] = [[] for _ in places]
    seen: dict[str, NDArray[np.bool_]] = {}
    for pairs in pairs_of_scenes:
        open_places = _covered(by_id[pairs[0].s2_id], squares)
        for pair in sorted(pairs, key=lambda pair: pair.rank):
            if not open_places.any():
                break
            if pair.s1_id not in seen:
                seen[pair.s1_id] = _covered(by_id[pair.s1_id], squares)
            for index in np.flatnonzero(open_places & seen[pair.s1_id]):
                covering[index].append(pair)
            open_places &= ~seen[pair.s1_id]
    lons, lats = to_lonlat(tile.epsg, places[:, 0] + side_m / 2, places[:, 1] - side_m / 2)
    return [
        Candidate(
            place=Place(
                lon=float((lon + 180.0) % 360.0 - 180.0),
                lat=float(lat),
                epsg=tile.epsg,
                x=float(x),
                y=float(y),
                size_px=size_px,
                cell=cell_name(float(lon), float(lat), CELL_KM),
            ),
            pairs=tuple(sorted(found, key=lambda pair: (pair.s2_acquired, pair.s2_id))),
        )
        for (x, y), lon, lat, found in zip(places, lons, lats, covering, strict=True)
        if found
    ]
