"""Images with a class each, as shards to probe encoders on: EuroSAT, ten kinds of land use.

    python examples/labelled_eurosat.py EUROSAT DATASET [N]

EUROSAT holds the pictures as a tar of 8-bit JPEG (`<Class>/<file>.jpg`, three bands), or as GeoTIFFs of 13 bands called
`<Class>_<number>.tif`. N: how many, in equal parts of every class; all when left out.

The two show the two ways in. Pictures in a folder for each class need no table: they lie nowhere on the Earth, so every
one is a place of its own, and the splits have the same shares of every class. From the command line that is

    geossl shard DATASET --from-table DATASET/images --bands B04,B03,B02

The GeoTIFFs get a table, because more has to be said of them: what the bands are called, for B8A comes last there, and
what their numbers mean. An encoder that was trained on reflectance at the surface has not seen these, at the top of the
atmosphere: other units, so that `geossl evaluate` takes the mean and deviation of these images and not of its own.
"""

import csv
import sys
import tarfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import geossl_data as gd
from geossl_data.files import atomic_path

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
"""Of the GeoTIFFs, in the order of the files."""
UNITS = "top-of-atmosphere reflectance × 10000"


def in_equal_parts(names: list[str], classes: list[str], most: int | None) -> list[str]:
    """The first names of every class in turn, up to `most` of all."""
    of_class: defaultdict[str, list[str]] = defaultdict(list)
    for name, kind in zip(names, classes, strict=True):
        of_class[kind].append(name)
    longest = max((len(own) for own in of_class.values()), default=0)
    turns = [own[turn] for turn in range(longest) for own in of_class.values() if turn < len(own)]
    return turns[:most]


def unpack(archive: Path, images: Path, most: int | None) -> None:
    """The pictures of the tar, each below the folder of its class."""
    with tarfile.open(archive) as tar:
        files = {file.name: file for file in tar if file.isfile() and file.name.endswith(".jpg")}
        classes = [PurePosixPath(name).parts[0] for name in files]
        chosen = in_equal_parts(list(files), classes, most)
        tar.extractall(images, members=[files[name] for name in chosen], filter="data")


def write_table(rasters: Path, table: Path, most: int | None) -> None:
    """A row for each GeoTIFF: its class is what its name begins with."""
    paths = sorted(path.relative_to(rasters).as_posix() for path in rasters.rglob("*.tif"))
    chosen = in_equal_parts(paths, [Path(path).stem.rpartition("_")[0] for path in paths], most)
    with atomic_path(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("place", "look", "sensor", "path", "label", "bands", "units"))
        for path in chosen:
            name = Path(path).stem
            lines.writerow((name, 0, "s2", path, name.rpartition("_")[0], " ".join(BANDS), UNITS))


def main(eurosat: Path, folder: Path, most: int | None = None) -> gd.Report | None:
    """Make the shards, and say how an encoder is probed on them."""
    archive = next(iter(sorted(eurosat.glob("*.tar"))), None)
    if archive is not None:
        unpack(archive, folder / "images", most)
        options = gd.ShardOptions(from_table=str(folder / "images"), bands="B04,B03,B02")
    elif any(eurosat.rglob("*.tif")):
        write_table(eurosat, folder / "rasters.csv", most)
        options = gd.ShardOptions(from_table=str(folder / "rasters.csv"), rasters=str(eurosat))
    else:
        print(f"{eurosat}: no pictures here; name the folder that holds EuroSAT as a tar of JPEG or as GeoTIFFs")
        return None
    report = gd.pipeline.shard(folder, options)
    print(report.facts)

    with gd.open_shards(folder) as shards:
        member = shards.members["s2"]
        print(member.name, " ".join(member.bands), member.dtype, member.units or "without units")
        names = shards.notes["label_names"]
        print(", ".join(names[number] for number in sorted(names, key=int)))
    print(f"\nnow: geossl evaluate {folder} --encoder ENCODER.safetensors --task classification,retrieval")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
