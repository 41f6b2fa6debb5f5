"""A sampling strategy of your own: any callable of the documented signature.

    python examples/own_strategy.py DATASET

This one draws the places nearest to the equator first. DATASET is a folder in which `geossl fetch` has run.
"""

import sys
from pathlib import Path

import numpy as np

from geossl_data import tables
from geossl_data.records import Pair
from geossl_data.sampling.draw import Drawn, draw_samples
from geossl_data.sampling.strategies import Draw, Ground, Spacing
from geossl_data.scenes.store import read_scenes


def equatorial(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """The n candidates nearest to the equator that have room side by side; ties at random."""
    order = np.lexsort((rng.random(len(candidates)), np.abs(candidates.lat)))
    taken = Spacing(candidates).first(order, n)
    return Draw(indices=np.sort(taken), inclusion_probability=np.ones(len(taken)))


def main(folder: Path) -> Drawn:
    """Draw twelve places of 60 pixels and show where they lie."""
    scenes = read_scenes(folder / "scenes.parquet")
    pairs = tables.read_table(folder / "pairs.parquet", Pair)
    drawn = draw_samples(scenes, pairs, strategy=equatorial, count=12, size=60)
    for sample in drawn.samples:
        print(f"{sample.key}  {sample.place.lat:8.3f} {sample.place.lon:8.3f}")
    return drawn


if __name__ == "__main__":
    main(Path(sys.argv[1]))
