"""Layers that are a raster of classes of the whole Earth, shipped with the package."""

from collections.abc import Callable
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def class_grid(name: str) -> Callable[[FloatArray, FloatArray], NDArray[np.str_]]:
    """The names of the classes of `climate`, `koppen` or `landcover` at points; "" where the map has none."""
    with files("geossl_data.sampling.layers").joinpath(f"{name}.npz").open("rb") as file, np.load(file) as stored:
        classes = stored["classes"]
        names = np.concatenate([[""], stored["names"]])
    rows, columns = classes.shape

    def at(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
        row = np.floor((90.0 - lat) / 180.0 * rows).astype(np.int64).clip(0, rows - 1)
        column = np.floor((lon + 180.0) / 360.0 * columns).astype(np.int64).clip(0, columns - 1)
        return np.asarray(names[classes[row, column]])

    return at
