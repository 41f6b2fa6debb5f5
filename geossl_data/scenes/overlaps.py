"""Neighbouring Sentinel-2 tiles overlap by 10 km; where an area lies in the overlap, one tile is enough.

Decided for a tile as a whole and not for a date, so that a place keeps its tile through time.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from geossl_data.records import Scene
from geossl_data.scenes.area_index import AreaIndex

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_SAME_PASS = timedelta(seconds=120)
"""Tiles of one pass that overlap are sensed within seconds of each other."""
_TOLERANCE_DEGREES = 1e-6


def redundant_tiles(scenes: Sequence[Scene], area: "BaseGeometry | None") -> dict[str, str]:
    """Id of each Sentinel-2 scene whose whole tile can be left out → the tile that sees what it sees of the area.

    A tile can be left out for another one when each time it was sensed, the other one was sensed in the same pass and
    covers all that it covers of the area. The tile that can see most of the area stays; of equal ones the one that was
    sensed more often, then the one of the UTM zone in which the area's centre lies, then the first by name. Nothing is
    left out where there is no area.
    """
    import shapely

    if area is None:
        return {}
    tiles: dict[str, list[Scene]] = defaultdict(list)
    for scene in scenes:
        if scene.mgrs_tile is not None:
            tiles[scene.mgrs_tile].append(scene)
    index = AreaIndex(area)
    parts: dict[str, BaseGeometry] = {}

    def part_of(scene: Scene) -> "BaseGeometry":
        if scene.id not in parts:
            parts[scene.id] = index.seen_by(scene.footprint)
        return parts[scene.id]

    fullest = {name: part_of(max(members, key=_extent)) for name, members in tiles.items()}
    zone = f"{int((area.centroid.x + 180.0) // 6.0) % 60 + 1:02d}"
    order = sorted(tiles, key=lambda name: (-round(fullest[name].area, 6), -len(tiles[name]), name[:2] != zone, name))
    # What is not inside another's box is not inside what it sees, which takes longer to tell.
    boxes = [shapely.envelope(fullest[name]).buffer(_TOLERANCE_DEGREES, join_style="mitre") for name in order]
    seen = shapely.STRtree(boxes)
    left_out: dict[str, str] = {}
    kept: set[str] = set()
    for name in order:
        near = seen.query(shapely.envelope(fullest[name]), predicate="covered_by")
        around = (other for other in (order[position] for position in sorted(near.tolist())) if other in kept)
        inside = (other for other in around if _is_inside(fullest[name], fullest[other]))
        better = next((other for other in inside if _serves(tiles[other], tiles[name], part_of)), None)
        if better is None:
            kept.add(name)
        else:
            left_out |= {scene.id: better for scene in tiles[name]}
    return left_out


def _extent(scene: Scene) -> tuple[float, str]:
    return scene.footprint.area, scene.id


def _serves(others: Sequence[Scene], scenes: Sequence[Scene], part_of: "Callable[[Scene], BaseGeometry]") -> bool:
    """Does one of `others`, sensed in the same pass, cover what each scene sees of the area?"""
    for scene in scenes:
        near = [other for other in others if abs(other.acquired - scene.acquired) <= _SAME_PASS]
        part = part_of(scene)
        if not any(_is_inside(part, part_of(other)) for other in near):
            return False
    return True


def _is_inside(part: "BaseGeometry", whole: "BaseGeometry") -> bool:
    """Does ground lie inside other ground, as far as the digits of footprints tell?"""
    return bool(whole.buffer(_TOLERANCE_DEGREES).covers(part))
