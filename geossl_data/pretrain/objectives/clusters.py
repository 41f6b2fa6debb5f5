"""Places of a data set on the sphere: which are known, and clusters of them."""

import numpy as np
import torch
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.pretrain.objectives.negatives import unit_vectors

FloatArray = NDArray[np.float64]


def known_places(places: FloatArray) -> FloatArray:
    """The rows of longitude and latitude, (n, 2), degrees, that are known, with longitudes in [−180, 180).

    TrainingError where none is, or where a latitude is none.
    """
    known = places[np.isfinite(places).all(axis=1)]
    if len(known) == 0:
        raise TrainingError("none of the train samples says where it is; geographic terms need longitude and latitude")
    far = known[np.abs(known[:, 1]) > 90]
    if len(far):
        raise TrainingError(
            f"latitude {far[0, 1]:g} is outside -90 to 90; positions are longitude first, then latitude"
        )
    # To a tenth of a millimetre, so that a turn more or less leaves the same number.
    lon = np.round((known[:, 0] + 180) % 360 - 180, 9)
    return np.stack([np.where(lon == 180, -180.0, lon), np.round(known[:, 1], 9)], axis=1)


def spherical_kmeans(
    lonlat: FloatArray, k: int, seed: int, *, fit_on: int = 50_000, iterations: int = 50
) -> FloatArray:
    """Centres of `k` clusters of places as unit vectors, shape (k, 3).

    lonlat: degrees, (n, 2); rows with NaN take no part. Lloyd's algorithm on the sphere, seeded by k-means++, on at
    most `fit_on` of the places, drawn at random; a centre that loses all its places moves to the worst served place.
    The same for the same places in the same order and `seed`, whatever turn their longitudes are written in.
    TrainingError where there are fewer distinct places than clusters.
    """
    places = known_places(lonlat)
    rng = np.random.default_rng(seed)
    if len(places) > fit_on:
        places = places[np.sort(rng.choice(len(places), fit_on, replace=False))]
    n_distinct = count_distinct(places)
    if not 1 <= k <= n_distinct:
        raise TrainingError(f"{k} clusters of {n_distinct} distinct places; ask for at least 1 and at most as many")
    points = unit_vectors(torch.from_numpy(places)).numpy()
    centres = _scattered(points, k, rng)
    assigned = np.full(len(points), -1)
    for _ in range(iterations):
        before, assigned = assigned, _nearest(points, centres)
        if np.array_equal(before, assigned):
            break
        sums = np.stack([np.bincount(assigned, weights=axis, minlength=k) for axis in points.T], axis=1)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        # Places all round the globe have no mean direction.
        centres = np.where(norms > 1e-9, sums / np.maximum(norms, 1e-9), centres)
        (lost,) = np.nonzero(np.bincount(assigned, minlength=k) == 0)
        if len(lost):
            served = (points * centres[assigned]).sum(axis=1)
            centres[lost] = points[np.argsort(served, kind="stable")[: len(lost)]]
    return centres


def _scattered(points: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """`k` of the points: each drawn in proportion to the squared distance to those before (k-means++)."""
    chosen = [points[rng.integers(len(points))]]
    apart = ((points - chosen[0]) ** 2).sum(axis=1)
    for _ in range(k - 1):
        summed = np.cumsum(apart)
        drawn = int(np.searchsorted(summed, rng.random() * summed[-1], side="right"))
        chosen.append(points[min(drawn, len(points) - 1)])
        apart = np.minimum(apart, ((points - chosen[-1]) ** 2).sum(axis=1))
    return np.stack(chosen)


def _nearest(points: FloatArray, centres: FloatArray) -> NDArray[np.int64]:
    """Index of the centre nearest to each unit vector."""
    rows = 4096  # their products with the centres stay in the cache
    parts = [(points[i : i + rows] @ centres.T).argmax(axis=1) for i in range(0, len(points), rows)]
    return np.concatenate(parts)


def count_distinct(places: FloatArray) -> int:
    """How many places differ, (n, 2) → number."""
    return len(np.unique(places[:, 0] + 1j * places[:, 1]))  # much faster than unique rows
