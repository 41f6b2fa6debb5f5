"""Floods before and after, with a map of the water, as shards to probe encoders on: OMBRIA.

    python examples/labelled_ombria.py OMBRIA DATASET [N]

OMBRIA holds `index.csv` and 8-bit pictures of Sentinel-1 (one band) and Sentinel-2 (red, green, blue), before a flood
and after it, with a mask after it. N: how many sites; all when left out. Nobody says where or when, so the table counts
the looks, and every site is a place of its own.

The mask is a class map: a member of the later look alone. So it is what pixels are told apart by (segmentation), and,
as the earlier look has none, what changed between the two (change).
"""

import csv
import sys
from itertools import islice
from pathlib import Path

import geossl_data as gd
from geossl_data.files import atomic_path

UNITS = "stretched to 8 bit"
"""Neither decibels nor reflectance: an encoder's own mean and deviation say nothing of these numbers."""
MASK = "mask-water"
BANDS = {"s1": "VV", "s2": "B04 B03 B02"}


def write_table(ombria: Path, table: Path, most: int | None) -> None:
    """A row for each picture of the first `most` sites: look 0 is before the flood, look 1, with the mask, after it."""
    with (ombria / "index.csv").open(newline="") as index:
        sites = list(islice(csv.DictReader(index), most))
    with atomic_path(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("place", "look", "sensor", "path", "bands", "units"))
        for site in sites:
            place = f"flood-{site['site']}"
            for look, moment in enumerate(("before", "after")):
                for sensor, bands in BANDS.items():
                    lines.writerow((place, look, sensor, site[f"{sensor}_{moment}"], bands, UNITS))
            lines.writerow((place, 1, MASK, site["mask"], "", ""))


def main(ombria: Path, folder: Path, most: int | None = None) -> gd.Report | None:
    """Write the table, make the shards, and say how an encoder is probed on them."""
    if not (ombria / "index.csv").is_file():
        print(f"{ombria}: the pictures are not here; name the folder that holds index.csv, S1, S2 and MASK")
        return None
    write_table(ombria, folder / "rasters.csv", most)
    options = gd.ShardOptions(from_table=str(folder / "rasters.csv"), rasters=str(ombria))
    report = gd.pipeline.shard(folder, options)
    print(report.facts)

    with gd.open_shards(folder) as shards:
        shares = [
            float((shards.read(index, 1, ["mask-water"])["mask-water"] > 0).mean()) for index in range(len(shards))
        ]
    print(f"{100 * sum(shares) / len(shares):.0f} % under water")
    print(f"\nnow: geossl evaluate {folder} --encoder ENCODER.safetensors --task segmentation,change")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
