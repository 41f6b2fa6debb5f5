"""geossl, through its one raster door: the windows in their random order, one group of wants each."""

import sys

# geossl imports these when it first needs them; here they come before the clock starts, as those of the others do.
import aiohttp
import pyproj
from sampler import sampled
from work import Job, Sums, job_from, measured

from geossl_data.grid import Grid
from geossl_data.tiles.rasters import Rasters, SkipError, Want
from geossl_data.version import VERSION


def wants(job: Job, window: int) -> list[Want]:
    """The bands of one window."""
    item = job.windows[window][0]
    epsg, x, y = job.corner(item)
    found = []
    for band, side in job.bands:
        column, row, size = job.pixels(window, side)
        grid = Grid(epsg, x + column * side, y - row * side, float(side), size, size)
        found.append(Want(job.href(item, band), grid, "uint16"))
    return found


def read(job: Job, sums: Sums) -> None:
    with Rasters() as rasters:
        groups = (wants(job, window) for window in range(len(job.windows)))
        for window, results in enumerate(rasters.stream(groups)):
            for (band, _), pixels in zip(job.bands, results, strict=True):
                if isinstance(pixels, SkipError):
                    raise pixels
                sums.put(window, band, pixels.values)


if __name__ == "__main__":
    given = job_from(sys.argv[1])
    if given.extra.get("sample"):
        sampled(given, read)
    else:
        measured(given, read, {"geossl": VERSION, "aiohttp": aiohttp.__version__, "pyproj": pyproj.__version__})
