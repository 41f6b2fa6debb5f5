"""rasterio in threads: a tuned GDAL environment, datasets kept open by each thread.

The tasks of the pool are windows of one file, `chunk` at a time: 1 is every window for itself in the order of scenes;
more go through a file from north to south, so that neighbours find their blocks in GDAL's cache.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import rasterio
from rasterio.io import DatasetReader
from rasterio.windows import Window
from work import Job, Sums, job_from, measured

GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "CPL_VSIL_CURL_CACHE_SIZE": 128 * 2**20,
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 256,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "1.1",
    "GDAL_NUM_THREADS": 1,
    "VSI_CACHE": True,
    "VSI_CACHE_SIZE": 5_000_000,
}

Task = tuple[int, str, int, list[int]]
"""Item, band, resolution, windows."""


def tasks_of(job: Job, chunk: int) -> list[Task]:
    """All windows of all bands, `chunk` of one file in a task."""
    by_scene: dict[int, list[int]] = {}
    for number, (item, _, _) in enumerate(job.windows):
        by_scene.setdefault(item, []).append(number)
    if chunk == 1:
        return [
            (item, band, side, [number])
            for item, numbers in sorted(by_scene.items())
            for number in numbers
            for band, side in job.bands
        ]
    tasks: list[Task] = []
    for item, numbers in sorted(by_scene.items()):
        ordered = sorted(numbers, key=lambda number: job.windows[number][2])
        for band, side in job.bands:
            tasks += [(item, band, side, ordered[first : first + chunk]) for first in range(0, len(ordered), chunk)]
    return tasks


def read(job: Job, sums: Sums) -> None:
    local, opened = threading.local(), []

    def dataset(href: str) -> DatasetReader:
        mine = local.__dict__.setdefault("datasets", {})
        if href not in mine:
            mine[href] = rasterio.open(href)
            opened.append(mine[href])
        return mine[href]

    def run(task: Task) -> None:
        item, band, side, numbers = task
        with rasterio.Env(**GDAL):
            for number in numbers:
                column, row, size = job.pixels(number, side)
                sums.put(number, band, dataset(job.href(item, band)).read(1, window=Window(column, row, size, size)))

    with ThreadPoolExecutor(job.extra["threads"]) as pool:
        list(pool.map(run, tasks_of(job, job.extra["chunk"])))


if __name__ == "__main__":
    measured(job_from(sys.argv[1]), read, {"rasterio": rasterio.__version__, "GDAL": rasterio.__gdal_version__})
