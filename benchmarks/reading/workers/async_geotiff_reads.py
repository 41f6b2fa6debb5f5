"""async-geotiff over obstore: every header read once, so many windows under way at a time."""

import asyncio
import sys
from importlib.metadata import version

from async_geotiff import GeoTIFF, Window
from obstore.store import HTTPStore, LocalStore
from work import Job, Sums, job_from, measured


async def read_all(job: Job, sums: Sums) -> None:
    if job.root.startswith("http"):
        store = HTTPStore.from_url(job.root, client_options={"allow_http": True})
    else:
        store = LocalStore(job.root)
    gate = asyncio.Semaphore(job.extra["concurrency"])
    opened: dict[str, asyncio.Task[GeoTIFF]] = {}

    async def open_raster(href: str) -> GeoTIFF:
        if href not in opened:
            path = href.removeprefix(job.root).lstrip("/")
            opened[href] = asyncio.create_task(GeoTIFF.open(path, store=store))
        return await opened[href]

    async def one(number: int, item: int, band: str, side: int) -> None:
        async with gate:
            raster = await open_raster(job.href(item, band))
            column, row, size = job.pixels(number, side)
            result = await raster.read(window=Window(col_off=column, row_off=row, width=size, height=size))
            sums.put(number, band, result.data[0])

    order = sorted(range(len(job.windows)), key=lambda number: job.windows[number][0])
    reads = [one(number, job.windows[number][0], band, side) for number in order for band, side in job.bands]
    await asyncio.gather(*reads)


def read(job: Job, sums: Sums) -> None:
    asyncio.run(read_all(job, sums))


if __name__ == "__main__":
    measured(job_from(sys.argv[1]), read, {name: version(name) for name in ("async-geotiff", "async-tiff", "obstore")})
