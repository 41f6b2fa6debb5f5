"""How near the places of different splits come to each other."""

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from geossl_data.grid import unit_vectors
from geossl_data.records import SPLITS
from geossl_data.sampling.nearest import Tree


def split_distance_km(lon: ArrayLike, lat: ArrayLike, split: ArrayLike) -> dict[tuple[str, str], float]:
    """Smallest great-circle distance in km between points of two splits, for every two splits that have points.

    lon, lat: degrees, shape (n,). split: names, shape (n,). A key names its splits in the order train, val, test, any
    others after them by name; empty where there are fewer than two splits. Seconds for a million points.
    """
    points, names = unit_vectors(lon, lat), np.asarray(split, dtype=np.str_)
    present = sorted(np.unique(names).tolist(), key=lambda name: ((*SPLITS, name).index(name), name))
    found: dict[tuple[str, str], float] = {}
    for one, other in combinations(present, 2):
        few, many = sorted((points[names == one], points[names == other]), key=len)
        found[one, other] = Tree(many).least(few)
    return found
