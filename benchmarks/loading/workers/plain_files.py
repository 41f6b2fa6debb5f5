"""The same samples in the files that people keep arrays in; nobody reads them here, it is their size that counts."""

from pathlib import Path

import numpy as np
import rasterio
from geotiff_files import profile
from passes import Job, Pixels, serve
from zarr_tars import zipped

DATES = 4


def write(job: Job) -> None:
    pixels = Pixels(job.pixels)
    for sample in range(job.samples):
        if job.extra["native"]:
            arrays = {name: array[sample] for name, array in pixels.arrays.items()}
        else:
            arrays = dict(zip(("s2", "s1"), pixels.stack(sample), strict=True))
        path = Path(job.folder) / f"{sample:06d}"
        if job.extra["format"] == "npz":
            np.savez_compressed(path, **arrays)
        elif job.extra["format"] == "zarr":
            path.with_suffix(".zarr.zip").write_bytes(zipped(arrays))
        else:
            write_tiffs(path, arrays)


def write_tiffs(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """A file for each array and date."""
    folder.mkdir()
    for name, dates in arrays.items():
        for date, array in enumerate(dates):
            with rasterio.open(folder / f"{date}.{name}.tif", "w", **profile(array)) as file:
                file.write(array)


if __name__ == "__main__":
    serve(write, None, {})  # only their size is asked for
