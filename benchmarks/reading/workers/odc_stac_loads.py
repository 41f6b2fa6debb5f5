"""odc-stac: one load for each resolution of a window, on the window's own geobox; several windows side by side."""

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import odc.stac
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from work import Job, Sums, job_from, measured

CONFIGURATION = {"*": {"assets": {"*": {"data_type": "uint16", "nodata": 0}}, "warnings": "ignore"}}


def configure() -> None:
    """Set GDAL up for files far away."""
    odc.stac.configure_rio(
        cloud_defaults=True,
        GDAL_INGESTED_BYTES_AT_OPEN=32768,
        GDAL_HTTP_MERGE_CONSECUTIVE_RANGES="YES",
        GDAL_CACHEMAX=256,
        VSI_CACHE=True,
    )


def read(job: Job, sums: Sums) -> None:
    configure()
    items = [pystac.Item.from_dict(item) for item in job.items]
    groups = job.by_resolution()

    def one(number: int) -> None:
        item = job.windows[number][0]
        epsg, x, y = job.corner(item)
        for side, bands in groups.items():
            column, row, size = job.pixels(number, side)
            corner = Affine(side, 0, x + column * side, 0, -side, y - row * side)
            box = GeoBox((size, size), corner, f"EPSG:{epsg}")
            loaded = odc.stac.load(
                [items[item]], bands=bands, geobox=box, stac_cfg=CONFIGURATION, pool=len(bands), fail_on_error=True
            )
            for band in bands:
                sums.put(number, band, loaded[band].values[0])

    order = sorted(range(len(job.windows)), key=lambda number: job.windows[number][0])
    with ThreadPoolExecutor(job.extra["threads"]) as pool:
        list(pool.map(one, order))


if __name__ == "__main__":
    measured(job_from(sys.argv[1]), read, {name: version(name) for name in ("odc-stac", "odc-loader", "rasterio")})
