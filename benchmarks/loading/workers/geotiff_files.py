"""A torch Dataset over GeoTIFFs: a file for each sensor and date of a sample, read by rasterio."""

from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from passes import DATE, Ask, Batch, Job, Pixels, serve
from rasterio.transform import from_origin
from torch.utils.data import DataLoader, Dataset

DATES = 4


def profile(array: np.ndarray) -> dict[str, Any]:
    """How an array (bands, rows, columns) is written: DEFLATE with the predictor of its type."""
    return {
        "driver": "GTiff",
        "count": len(array),
        "height": array.shape[1],
        "width": array.shape[2],
        "dtype": array.dtype,
        "crs": "EPSG:32632",
        "transform": from_origin(500_000, 5_000_040, 10, 10),
        "interleave": "band",
        "compress": "deflate",
        "predictor": 3 if array.dtype.kind == "f" else 2,
    }


def write(job: Job) -> None:
    pixels = Pixels(job.pixels)
    for sample in range(job.samples):
        for name, dates in zip(("s2", "s1"), pixels.stack(sample), strict=True):
            for date, array in enumerate(dates):
                path = Path(job.folder) / f"{sample:06d}" / str(date) / f"{name}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                with rasterio.open(path, "w", **profile(array)) as file:
                    file.write(array)


class Files(Dataset[dict[str, Any]]):
    def __init__(self, folder: str, samples: int, one: bool) -> None:
        self.folder, self.samples, self.one = folder, samples, one

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, sample: int) -> dict[str, Any]:
        return {name: self._dates(sample, name) for name in ("s2", "s1")}

    def _dates(self, sample: int, name: str) -> np.ndarray:
        if self.one:
            return self._read(sample, DATE, name)
        return np.stack([self._read(sample, date, name) for date in range(DATES)])

    def _read(self, sample: int, date: int, name: str) -> np.ndarray:
        with rasterio.open(f"{self.folder}/{sample:06d}/{date}/{name}.tif") as file:
            return file.read()


@lru_cache
def loader(folder: str, samples: int, one: bool, batch: int, workers: int) -> DataLoader[Any]:
    dataset = Files(folder, samples, one)
    return DataLoader(dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    return iter(loader(job.folder, ask.samples, ask.one, ask.batch, ask.extra["workers"]))


if __name__ == "__main__":
    serve(write, batches, {"rasterio": version("rasterio")})
