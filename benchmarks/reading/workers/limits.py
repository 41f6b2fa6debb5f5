"""The two ends of reading, each alone: decode what is already in memory; fetch what is then thrown away."""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
from work import Job, Sums, job_from, measured

from geossl_data.tiles.cogs.decode import decode_tile
from geossl_data.tiles.cogs.header import Header, Level, read_header

Piece = tuple[bytes, Header, Level, int, int]
"""A compressed tile, how it lies in its file, and the first and last row that some window needs."""


def pieces(job: Job) -> list[Piece]:
    """Every tile that some window touches, once."""
    rows: dict[tuple[int, str, int, int], tuple[int, int]] = {}
    headers: dict[tuple[int, str], Header] = {}
    for number, (item, _, _) in enumerate(job.windows):
        for band, side in job.bands:
            path = job.href(item, band)
            if (item, band) not in headers:
                with Path(path).open("rb") as file:
                    headers[item, band] = read_header(reader(file.fileno()))
            level = headers[item, band].levels[0]
            column, row, size = job.pixels(number, side)
            for down in range(row // level.tile_height, (row + size - 1) // level.tile_height + 1):
                top = down * level.tile_height
                first, stop = max(row - top, 0), min(row + size - top, level.tile_height)
                for across in range(column // level.tile_width, (column + size - 1) // level.tile_width + 1):
                    old = rows.get((item, band, down, across), (first, stop))
                    rows[item, band, down, across] = min(old[0], first), max(old[1], stop)
    found = []
    for (item, band, down, across), (first, stop) in rows.items():
        header = headers[item, band]
        level = header.levels[0]
        with Path(job.href(item, band)).open("rb") as file:
            offset, nbytes = int(level.offsets[down, across]), int(level.nbytes[down, across])
            found.append((os.pread(file.fileno(), nbytes, offset), header, level, first, stop))
    return found


def reader(file: int) -> Callable[[int, int], bytes]:
    return lambda start, nbytes: os.pread(file, nbytes, start)


def decoder(job: Job) -> Callable[[Job, Sums], None]:
    """What decodes all tiles on all processors: as far as needed, or whole."""
    found, whole = pieces(job), bool(job.extra["whole"])

    def one(piece: Piece) -> None:
        data, header, level, first, stop = piece
        decode_tile(data, header, level, *((0, level.tile_height) if whole else (first, stop)))

    def read(job: Job, sums: Sums) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, found))

    return read


def fetcher(job: Job) -> Callable[[Job, Sums], None]:
    """What asks for the given ranges, so many at a time, and keeps nothing."""

    async def fetch_all() -> None:
        gate = asyncio.Semaphore(job.extra["concurrency"])
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

            async def one(path: str, wanted: str) -> None:
                async with gate, session.get(job.root + path, headers={"Range": wanted}) as answer:
                    answer.raise_for_status()
                    async for _ in answer.content.iter_any():
                        pass

            await asyncio.gather(*(one(path, wanted) for path, wanted in job.extra["requests"]))

    return lambda job, sums: asyncio.run(fetch_all())


if __name__ == "__main__":
    given = job_from(sys.argv[1])
    act = fetcher(given) if given.extra["what"] == "transfer" else decoder(given)
    measured(given, act, {"aiohttp": aiohttp.__version__})
