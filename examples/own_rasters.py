"""Rasters of your own, with no catalog at all: a table names them, `geossl shard --from-table` makes shards of them.

    python examples/own_rasters.py OMBRIA DATASET

OMBRIA is a folder with pictures of floods by Sentinel-1 and Sentinel-2, before and after, and a mask of the water:
8-bit PNG, no coordinates, no dates. So the table counts the looks instead of dating them. The same works for GeoTIFF,
JPEG 2000, PNG and JPEG files of any bands and numbers; those with coordinates keep them.

The same from the command line:

    geossl shard DATASET --from-table DATASET/rasters.csv --rasters OMBRIA
    geossl pretrain DATASET
"""

import csv
import sys
from itertools import islice
from pathlib import Path

import geossl_data as gd
from geossl_data.files import write_text

COLUMNS = ("place", "time", "look", "sensor", "path", "bands")


def write_table(pictures: Path, table: Path, most: int | None) -> None:
    """A row for each picture of the first `most` sites: look 0 is before the flood, look 1, with a mask, after it."""
    lines = [",".join(COLUMNS)]
    with (pictures / "index.csv").open(newline="") as index:
        for site in islice(csv.DictReader(index), most):
            place = f"flood-{site['site']}"
            for look, moment in enumerate(("before", "after")):
                lines.append(f"{place},,{look},s1,{site[f's1_{moment}']},VV")
                lines.append(f"{place},,{look},s2,{site[f's2_{moment}']},B04 B03 B02")
            lines.append(f"{place},,1,mask,{site['mask']},")
    write_text(table, "\n".join(lines) + "\n")


def main(pictures: Path, folder: Path, most: int | None = None) -> gd.Report | None:
    """Write the table, make the shards and read a batch of them."""
    if not (pictures / "index.csv").is_file():
        print(f"{pictures}: the pictures are not here; name the folder that holds index.csv, S1, S2 and MASK")
        return None
    write_table(pictures, folder / "rasters.csv", most)
    options = gd.ShardOptions(from_table=str(folder / "rasters.csv"), rasters=str(pictures))
    report = gd.pipeline.shard(folder, options)
    print(report.facts)

    with gd.open_shards(folder, split="train") as shards:
        for member in shards.members.values():
            print(member.name, member.bands, member.dtype, shards.shape(member.name))
        batch = next(iter(shards.batches(batch_size=8, members=("s1", "s2"), looks="all", seed=0)))
        for name, array in batch.items():
            print(name, array.shape, array.dtype)
        flooded = shards.read(0, 1, ["mask"])["mask"].mean() / 255
        print(f"{shards.keys[0]}: {100 * flooded:.0f} % under water")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
