"""Squares that lie across the edges of Sentinel-2 tiles, and the pairs of several tiles that show them together.

Neighbouring tiles of a UTM zone overlap by 9.8 km, so that a wider square may fit on none of them. Where they were
sensed in one overflight and share one 60 m lattice, their scenes side by side are one picture, without resampling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, pairwise, product

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import Bounds
from geossl_data.records import Pair, Scene
from geossl_data.sampling.tile_grids import STEP_M, TileGrid, lattice_of
from geossl_data.scenes.matching import Acquisitions
from geossl_data.scenes.matching.passes import SAME_PASS_US, pass_numbers

SAME_DATATAKE = timedelta(microseconds=SAME_PASS_US)
"""Scenes of one mosaic are sensed no further apart than this."""
MOST_TILES = 8
"""Of so many tiles that meet a square at most, those with most of it, some are chosen to cover it."""

_TOUCH_M = 1e-6
"""Strips narrower than this are rounding."""

Corners = NDArray[np.float64]


def seams(tiles: Sequence[TileGrid], side_m: float) -> list[list[TileGrid]]:
    """The tiles, in groups of one zone and lattice, in which two neighbours share less than a square's side.

    Other groups have no square that needs two tiles. Tiles of a group are in the order given.
    """
    groups: dict[tuple[int, float, float], list[TileGrid]] = {}
    for tile in tiles:
        groups.setdefault(lattice_of(tile), []).append(tile)
    return [group for group in groups.values() if len(_thin(group, side_m))]


def seam_corners(group: Sequence[TileGrid], side_m: float) -> Corners:
    """North-west corners, shape (n, 2), of squares on the strips that two neighbours share and that are too narrow.

    They lie side by side along the middle of the strip, as many as fit, or one in the middle of a strip that is short
    as well, which is where four tiles meet. So they also take in what the squares of either tile leave over beside
    the strip. Sorted from north to south, then west to east. Some may fit on a third tile, or be covered by none.
    """
    found: set[tuple[float, float]] = set()
    for first, second in _thin(group, side_m):
        one, other = group[first].bounds, group[second].bounds
        west, north = max(one[0], other[0]), min(one[3], other[3])
        xs = west + _steps(min(one[2], other[2]) - west, side_m)
        ys = north - _steps(north - max(one[1], other[1]), side_m)
        found.update(product((-ys).tolist(), xs.tolist()))
    return np.array([(x, -y) for y, x in sorted(found)]).reshape(-1, 2)


def _steps(length_m: float, side_m: float) -> NDArray[np.float64]:
    """Where squares begin along a line from 0, at least one, in the middle of the line to 60 m."""
    count = max(1, int((length_m + _TOUCH_M) // side_m))
    return np.asarray((length_m - count * side_m) / 2 // STEP_M * STEP_M + side_m * np.arange(count))


def _thin(group: Sequence[TileGrid], side_m: float) -> list[tuple[int, int]]:
    """Tiles, by position, that touch or overlap in a strip narrower than a side; each two once."""
    import shapely

    bounds = np.array([tile.bounds for tile in group])
    tree = shapely.STRtree(shapely.box(*bounds.T))
    one, other = tree.query(shapely.box(*bounds.T), predicate="intersects")
    one, other = one[one < other], other[one < other]
    low, high = np.maximum(bounds[one, :2], bounds[other, :2]), np.minimum(bounds[one, 2:], bounds[other, 2:])
    is_thin = (high - low).min(axis=1) < side_m - _TOUCH_M
    return sorted(zip(one[is_thin].tolist(), other[is_thin].tolist(), strict=True))


def tile_sets(corners: Corners, side_m: float, group: Sequence[TileGrid]) -> dict[tuple[int, ...], list[int]]:
    """The smallest sets of several tiles that hold squares no single tile holds: set → the squares, by number.

    Tiles are given by their position in the group. A square is in every set of as few tiles as will do; those that one
    tile holds, or that all together do not, are in none. Small sets first.
    """
    import shapely

    if not len(corners):
        return {}
    squares = np.column_stack([corners[:, 0], corners[:, 1] - side_m, corners[:, 0] + side_m, corners[:, 1]])
    tree = shapely.STRtree(shapely.box(*np.array([tile.bounds for tile in group]).T))
    number, tile = tree.query(shapely.box(*squares.T), predicate="intersects")
    found: dict[tuple[int, ...], list[int]] = {}
    order = np.lexsort((tile, number))
    for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        if len(rows) < 2:
            continue
        square = tuple(squares[number[rows[0]]].tolist())
        for members in _smallest_sets(square, {int(one): group[one].bounds for one in tile[rows]}):
            found.setdefault(members, []).append(int(number[rows[0]]))
    return dict(sorted(found.items(), key=lambda entry: (len(entry[0]), entry[0])))


def _smallest_sets(square: Bounds, tiles: Mapping[int, Bounds]) -> list[tuple[int, ...]]:
    """All sets of as few tiles as cover a square; none where one does, or all do not."""
    shared = {number: _shared(square, bounds) for number, bounds in tiles.items()}
    meeting = sorted(sorted((number for number in shared if shared[number] > 0), key=lambda n: -shared[n])[:MOST_TILES])
    if any(_covers(square, [tiles[number]]) for number in meeting):
        return []
    for count in range(2, len(meeting) + 1):
        some = [members for members in combinations(meeting, count) if _covers(square, [tiles[n] for n in members])]
        if some:
            return some
    return []


def _shared(a: Bounds, b: Bounds) -> float:
    """Ground that two rectangles share, m²; 0 where it is rounding."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if min(width, height) > _TOUCH_M else 0.0


def _covers(square: Bounds, tiles: Sequence[Bounds]) -> bool:
    """Whether rectangles cover a square together: each piece that their edges cut it into lies in one of them."""
    west, south, east, north = square

    def middles(low: float, high: float, edges: Sequence[float]) -> list[float]:
        cuts = sorted({low, high, *(edge for edge in edges if low < edge < high)})
        return [(a + b) / 2 for a, b in pairwise(cuts) if b - a > _TOUCH_M]

    xs = middles(west, east, [edge for tile in tiles for edge in (tile[0], tile[2])])
    ys = middles(south, north, [edge for tile in tiles for edge in (tile[1], tile[3])])
    return all(any(w < x < e and s < y < n for w, s, e, n in tiles) for x, y in product(xs, ys))


# ------------------------------------------------------------------------------------------------ pairs


def with_only(pair: Pair, s2_ids: tuple[str, ...], s1_ids: tuple[str, ...], by_id: Mapping[str, Scene]) -> Pair:
    """The pair with these parts and frames; times and gap are those of the first of each."""
    if (s2_ids, s1_ids) == (pair.s2_ids, pair.s1_ids):
        return pair
    s2, s1 = by_id[s2_ids[0]], by_id[s1_ids[0]]
    return replace(
        pair,
        s2_id=s2.id,
        s1_id=s1.id,
        s2_more=s2_ids[1:],
        s1_more=s1_ids[1:],
        s2_acquired=s2.acquired,
        s1_acquired=s1.acquired,
        gap_hours=(s1.acquired - s2.acquired) / timedelta(hours=1),
    )


def overflights(pairs: Sequence[Pair], by_id: Mapping[str, Scene]) -> dict[str, int]:
    """Scene id → a number for the overflight, of Sentinel-2 or of Sentinel-1, that the scene was sensed in."""
    numbers: dict[str, int] = {}
    s2 = sorted({name for pair in pairs for name in pair.s2_ids})
    s1 = sorted({name for pair in pairs for name in pair.s1_ids})
    for names in (s2, s1):
        found = pass_numbers(Acquisitions.of([by_id[name] for name in names])) if names else np.zeros(0, np.int64)
        numbers |= dict(zip(names, found.tolist(), strict=True))
    return numbers


def joined_pairs(
    of_tiles: Sequence[Sequence[Pair]], numbers: Mapping[str, int], by_id: Mapping[str, Scene]
) -> list[Pair]:
    """The pairs of several tiles that are of one overflight of each sensor as one pair, with all parts and frames.

    of_tiles: the pairs of each tile, sorted by Sentinel-2 scene and rank. numbers: of `overflights`. There is a pair
    for every two overflights that all tiles have a pair of, if their scenes were sensed within SAME_DATATAKE. Sorted
    as those of a tile; what is said of overlap and rank is that of the first tile.
    """
    by_overflights: list[dict[tuple[int, int], Pair]] = [{} for _ in of_tiles]
    for found, pairs in zip(by_overflights, of_tiles, strict=True):
        for pair in pairs:
            found.setdefault((numbers[pair.s2_id], numbers[pair.s1_id]), pair)
    joined = []
    for key, first in by_overflights[0].items():
        if not all(key in found for found in by_overflights):
            continue
        parts = [found[key] for found in by_overflights]
        s2_ids = tuple(dict.fromkeys(name for part in parts for name in part.s2_ids))
        s1_ids = {name for part in parts for name in part.s1_ids}
        times = [by_id[name].acquired for name in s2_ids]
        if max(times) - min(times) <= SAME_DATATAKE:
            in_time = tuple(sorted(s1_ids, key=lambda name: (by_id[name].acquired, name)))
            joined.append(with_only(first, s2_ids, in_time, by_id))
    return sorted(joined, key=lambda pair: (pair.s2_id, pair.rank, pair.s1_id))
