"""One place of a dataset as xarray: its looks with coordinates, CRS and band names, and a picture of them.

    python examples/open_a_place.py DATASET PICTURE.png

DATASET is a folder in which `geossl sample` has run; where `geossl shard` has run too, the shards are read instead of
the rasters.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr

import geossl_data as gd


def main(folder: Path, picture: Path) -> xr.Dataset:
    """Show one look in true colour, then follow the place through its looks."""
    look = gd.open_look(folder)
    look[["B04", "B03", "B02"]].to_array().plot.imshow(robust=True)
    plt.savefig(picture)
    plt.close()

    place = gd.open_sample(folder, resolution_m=20)
    print(place.attrs["key"], place.rio.crs, dict(place.sizes))
    ndvi = (place.B08 - place.B04) / (place.B08 + place.B04)
    for time, greenness, radar in zip(
        place.time.values, ndvi.median(["y", "x"]).values, place.VH.median(["y", "x"]).values, strict=True
    ):
        print(f"{time:.10}  NDVI {greenness:5.2f}  VH {radar:6.1f} dB")
    return place


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
