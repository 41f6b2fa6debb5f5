"""odc-stac: one lazy load for each scene and resolution, chunks that are the blocks, windows computed together."""

import sys
from importlib.metadata import version

import dask
import odc.stac
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from odc_stac_loads import CONFIGURATION, configure
from work import Job, Sums, job_from, measured


def read(job: Job, sums: Sums) -> None:
    configure()
    groups, together = job.by_resolution(), job.extra["together"]
    by_scene: dict[int, list[int]] = {}
    for number, (item, _, _) in enumerate(job.windows):
        by_scene.setdefault(item, []).append(number)
    for item, numbers in sorted(by_scene.items()):
        epsg, x, y = job.corner(item)
        scene = pystac.Item.from_dict(job.items[item])
        loaded = {}
        for side, bands in groups.items():
            shape = tuple(job.items[item]["assets"][bands[0]]["proj:shape"])
            loaded[side] = odc.stac.load(
                [scene],
                bands=bands,
                geobox=GeoBox(shape, Affine(side, 0, x, 0, -side, y), f"EPSG:{epsg}"),
                chunks={"x": 512, "y": 512},
                stac_cfg=CONFIGURATION,
                fail_on_error=True,
            )
        for first in range(0, len(numbers), together):
            batch = [(number, band, side) for number in numbers[first : first + together] for band, side in job.bands]
            lazy = []
            for number, band, side in batch:
                column, row, size = job.pixels(number, side)
                lazy.append(loaded[side][band].data[0, row : row + size, column : column + size])
            done = dask.compute(*lazy, scheduler="threads", num_workers=job.extra["threads"])
            for (number, band, _), pixels in zip(batch, done, strict=True):
                sums.put(number, band, pixels)


if __name__ == "__main__":
    measured(job_from(sys.argv[1]), read, {name: version(name) for name in ("odc-stac", "odc-loader", "dask")})
