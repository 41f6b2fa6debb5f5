"""Whether what cells train on shares ground with what they are judged on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from geossl_data.errors import DatasetError
from geossl_data.grid import cell_names, cells, unit_vectors
from geossl_data.pipeline import recipe_of
from geossl_data.pipeline._folder import MANIFEST
from geossl_data.records import Split
from geossl_data.sampling.nearest import Tree
from geossl_data.shards.manifest import Manifest, read_manifest

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SCALE = 0.998
"""Ground distance over distance on a UTM grid, at the least: neighbours that touch are no nearer than this."""


def require_apart(train: Path, labelled: Path) -> None:
    """Raise DatasetError where places that one dataset trains on share ground or a block with another's judged ones.

    Judged are the places of the test split, of val where there are none. Two places share ground where their squares
    overlap, and, in different UTM zones, where their centres are nearer than half of both sides together. Blocks are
    those by which the labelled places were split, as far as their recipe tells. Places that lie nowhere are not asked.
    """
    found = shared_ground(read_manifest(train / MANIFEST), read_manifest(labelled / MANIFEST), block_km_of(labelled))
    if found.in_block:
        raise DatasetError(
            f"{labelled}: of its {found.judged} judged places {found.on_ground} share ground, and {found.in_block} "
            f"ground or a block, with places that {train} trains on; draw both with one seed and one block_km, or "
            "label places elsewhere"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """How many places are judged, and how many of them are near those that teach."""

    judged: int
    on_ground: int
    in_block: int
    """In a block with such a place, or on the ground of one."""


def shared_ground(train: Manifest, labelled: Manifest, block_km: float | None) -> Shared:
    """How many judged places of one dataset share ground, or a block of `block_km`, with train places of another."""
    taught, judged = Squares(train, "train"), Squares(labelled, "test")
    judged = judged if len(judged) else Squares(labelled, "val")
    if not len(taught) or not len(judged):
        return Shared(judged=len(judged), on_ground=0, in_block=0)
    on_ground = overlapping(judged, taught)
    in_block = on_ground.copy()
    if block_km is not None:
        of_judged, of_taught = (cell_names(*cells(one.lon, one.lat, block_km)) for one in (judged, taught))
        in_block |= np.isin(of_judged, of_taught)
    return Shared(judged=len(judged), on_ground=int(on_ground.sum()), in_block=int(in_block.sum()))


class Squares:
    """Places of one split of a manifest that lie somewhere, as columns of n."""

    def __init__(self, manifest: Manifest, split: Split) -> None:
        table = manifest.table
        some = table.filter(pc.and_(pc.equal(table["split"], split), pc.is_valid(table["lon"])))
        self.lon, self.lat, self.x, self.y, size_px = (
            np.asarray(some[name], dtype=np.float64) for name in ("lon", "lat", "x", "y", "size_px")
        )
        self.epsg = np.asarray(some["epsg"], dtype=np.int64)
        self.side_m = size_px * float(manifest.notes.get("pixel_m") or 10)

    def __len__(self) -> int:
        return len(self.lon)


def overlapping(asked: Squares, others: Squares) -> BoolArray:
    """Which of some squares share ground with any of others, shape (n,); both not empty."""
    half_km = float(asked.side_m.max() + others.side_m.max()) / 2000
    tree = Tree(unit_vectors(others.lon, others.lat))
    distance = tree.nearest(unit_vectors(asked.lon, asked.lat))
    found = distance < SCALE * half_km
    # Corners touch up to √2 as far away; only there have the squares themselves to be compared.
    for row in np.flatnonzero(~found & (distance < 1.5 * half_km)):
        same = others.epsg == asked.epsg[row]
        reach = (asked.side_m[row] + others.side_m[same]) / 2
        centre_x = others.x[same] + others.side_m[same] / 2 - asked.x[row] - asked.side_m[row] / 2
        centre_y = others.y[same] - others.side_m[same] / 2 - asked.y[row] + asked.side_m[row] / 2
        found[row] = bool((np.maximum(np.abs(centre_x), np.abs(centre_y)) < reach).any())
    return found


def block_km_of(folder: Path) -> float | None:
    """The side of the blocks that decided the splits of a dataset, km; None where its recipe does not tell."""
    recipe = recipe_of(folder)
    if recipe.shard is not None and recipe.shard.from_table:
        return recipe.shard.block_km
    return None if recipe.sample is None else recipe.sample.block_km
