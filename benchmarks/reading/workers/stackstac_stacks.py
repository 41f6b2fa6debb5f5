"""stackstac: one lazy stack for each scene and resolution, chunks that are the blocks, windows computed together."""

import sys
from importlib.metadata import version

import dask
import numpy as np
import stackstac
from work import Job, Sums, job_from, measured


def read(job: Job, sums: Sums) -> None:
    groups, together = job.by_resolution(), job.extra["together"]
    by_scene: dict[int, list[int]] = {}
    for number, (item, _, _) in enumerate(job.windows):
        by_scene.setdefault(item, []).append(number)
    for item, numbers in sorted(by_scene.items()):
        epsg, x, y = job.corner(item)
        stacks = {}
        for side, bands in groups.items():
            height, width = job.items[item]["assets"][bands[0]]["proj:shape"]
            stacks[side] = stackstac.stack(
                [job.items[item]],
                assets=bands,
                epsg=epsg,
                resolution=side,
                bounds=(x, y - height * side, x + width * side, y),
                snap_bounds=False,
                chunksize=512,
                dtype="uint16",
                fill_value=np.uint16(0),
                rescale=False,
                xy_coords=False,
                properties=False,
                band_coords=False,
            )
        for first in range(0, len(numbers), together):
            batch = [(number, side) for number in numbers[first : first + together] for side in groups]
            lazy = []
            for number, side in batch:
                column, row, size = job.pixels(number, side)
                lazy.append(stacks[side].data[0, :, row : row + size, column : column + size])
            done = dask.compute(*lazy, scheduler="threads", num_workers=job.extra["threads"])
            for (number, side), pixels in zip(batch, done, strict=True):
                for band, values in zip(groups[side], pixels, strict=True):
                    sums.put(number, band, values)


if __name__ == "__main__":
    measured(job_from(sys.argv[1]), read, {name: version(name) for name in ("stackstac", "dask", "rasterio")})
