"""Makes geossl_data/sampling/land.npz, the land of the Earth, from Natural Earth's 1:50m land polygons.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python tools/land.py package/land-50m.json geossl_data/sampling/land.npz

The TopoJSON file has its rings stitched together across the antimeridian and around the south pole, as drawing on a
sphere wants them. Here they are unrolled, closed over the pole, and cut at ±180 again.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import affinity

STEP_DEGREES = 0.0005
"""Coordinates are whole multiples of this; a fifth of what the source resolves."""
WORLD = shapely.box(-180.0, -90.0, 180.0, 90.0)
POLE = -89.99
"""Points south of this stand for the pole."""

Points = NDArray[np.float64]


def rings_of(topology: dict[str, Any]) -> list[list[Points]]:
    """The rings of every polygon, the outer one first, as longitude and latitude, shape (n, 2)."""
    scale, shift = (np.array(topology["transform"][name]) for name in ("scale", "translate"))
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + shift for arc in topology["arcs"]]

    def ring(numbers: list[int]) -> Points:
        parts = [arcs[number] if number >= 0 else arcs[~number][::-1] for number in numbers]
        return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])

    polygons: list[list[list[int]]] = []
    for geometry in topology["objects"]["land"]["geometries"]:
        polygons += geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
    return [[ring(numbers) for numbers in polygon] for polygon in polygons]


def unrolled(ring: Points) -> Points:
    """A ring without jumps of longitude, starting in [-180, 180]; closed over the south pole where it goes around."""
    points = ring.copy()
    steps = np.diff(points[:, 0])
    points[1:, 0] -= 360.0 * np.cumsum(np.round(steps / 360.0))
    first, last = points[0], points[-1]
    if abs(last[0] - first[0]) > 180.0:
        points = np.concatenate([points, [[last[0], -90.0], [first[0], -90.0], first]])
    return points


def polygon_of(rings: list[Points]) -> Any:
    """One polygon, in longitudes of its own; holes moved by whole turns into its outer ring."""
    outer, *holes = [unrolled(ring) for ring in rings if ring[:, 1].max() > POLE]
    middle = (outer[:, 0].min() + outer[:, 0].max()) / 2
    moved = [hole - [360.0 * round((hole[:, 0].mean() - middle) / 360.0), 0.0] for hole in holes]
    return shapely.make_valid(shapely.Polygon(outer, moved))


def land(topology: dict[str, Any]) -> Any:
    """All land as one multipolygon within ±180 and ±90 degrees."""
    pieces = [
        shapely.intersection(affinity.translate(polygon, xoff=turn), WORLD)
        for polygon in map(polygon_of, rings_of(topology))
        for turn in (-360.0, 0.0, 360.0)
    ]
    whole = shapely.set_precision(shapely.union_all(pieces), STEP_DEGREES)
    parts = [part for part in shapely.get_parts(whole) if part.geom_type == "Polygon"]
    return shapely.normalize(shapely.MultiPolygon(parts))


def main(source: Path, target: Path) -> None:
    """Write the polygons of `source` to `target` as differences of whole steps: coordinates, rings, polygons."""
    shape = land(json.loads(source.read_text(encoding="utf-8")))
    _, coordinates, (rings, polygons, _) = shapely.to_ragged_array([shape])
    steps = np.round(coordinates / STEP_DEGREES).astype(np.int32)
    np.savez_compressed(
        target,
        step_degrees=np.float64(STEP_DEGREES),
        differences=np.ascontiguousarray(np.diff(steps, axis=0, prepend=0).T),
        rings=np.asarray(rings, dtype=np.int32),
        polygons=np.asarray(polygons, dtype=np.int32),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
