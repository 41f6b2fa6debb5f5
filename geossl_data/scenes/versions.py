"""Versions of one Sentinel-2 acquisition: which of them is the newest."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from geossl_data.records import Scene

_SAME_ACQUISITION = timedelta(seconds=60)
"""One satellite sees a tile once in a pass; two items nearer in time than this are versions of one acquisition."""
_SAME_GROUND = 0.5
"""Versions of one baseline share more than this of the smaller footprint; less, and they are parts of one pass."""


_Version = tuple[Scene, Mapping[str, Any]]


def superseded(scenes: Iterable[_Version]) -> dict[str, str]:
    """Id of each Sentinel-2 scene of which there is a newer version → id of that version.

    Versions agree in platform, relative orbit, tile and sensing time. The newest baseline wins, then the latest
    generation time, then the id. Parts of one acquisition with the same baseline and other ground are all kept.
    """
    groups: dict[tuple[Any, ...], list[_Version]] = defaultdict(list)
    for scene, item in scenes:
        if scene.mgrs_tile is not None:
            groups[scene.platform, scene.relative_orbit, scene.mgrs_tile].append((scene, item))
    older: dict[str, str] = {}
    for members in groups.values():
        members.sort(key=lambda member: (member[0].acquired, member[0].id))
        for versions in _clusters(members):
            if len(versions) == 1:  # nearly always, and items take their time to be looked into
                continue
            versions.sort(key=_newness, reverse=True)
            best = [versions[0][0]]
            for scene, _ in versions[1:]:
                if scene.baseline != best[0].baseline or any(_share_ground(scene, other) for other in best):
                    older[scene.id] = best[0].id
                else:
                    best.append(scene)
    return older


def _newness(version: _Version) -> tuple[str, str, str]:
    scene, item = version
    return scene.baseline or "", str(item["properties"].get("s2:generation_time", "")), scene.id


def _clusters(members: Sequence[_Version]) -> Iterator[list[_Version]]:
    """Runs of scenes, sorted by time, that follow each other within _SAME_ACQUISITION."""
    run: list[_Version] = []
    for member in members:
        if run and member[0].acquired - run[-1][0].acquired > _SAME_ACQUISITION:
            yield run
            run = []
        run.append(member)
    yield run


def _share_ground(a: Scene, b: Scene) -> bool:
    smaller = min(a.footprint.area, b.footprint.area)
    return bool(a.footprint.intersection(b.footprint).area > _SAME_GROUND * smaller)
