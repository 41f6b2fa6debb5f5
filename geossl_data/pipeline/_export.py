"""Places of a dataset as files that other programs open."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from geossl_data.errors import DatasetError
from geossl_data.files import atomic_path, exclusive, remove_folder, remove_temporaries
from geossl_data.pipeline._folder import LICENCE, MANIFEST, SAMPLES, SHARDS, Report, fingerprint_of, need
from geossl_data.progress import Progress, silent
from geossl_data.recipe import RECIPE_NAME
from geossl_data.records import SPLITS, Split

if TYPE_CHECKING:
    from geossl_data.shards.reading.shards import Shards

Format = Literal["geotiff", "npy"]
EXPORTED = "exported"
"""Where exports go below a dataset folder unless another place is named."""


def export(
    folder: Path | str,
    key: str | int | None = None,
    *,
    to: Format = "geotiff",
    split: Split | None = None,
    everything: bool = False,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Report:
    """Write samples of a dataset's shards as GeoTIFFs, or as a dataset of plain .npy shards.

    key: a sample, or its position in the manifest; split: all of one split; everything: all there are. Left out: the
    first sample as GeoTIFFs, all of them as npy. geotiff: `{out}/{key}/{look}_{day}_{member}.tif`, each member at its
    own resolution, and the provenance as JSON. npy: `{out}` becomes a dataset that `open_shards` reads.
    out: a folder; `exported/geotiff` or `exported/npy` in the dataset's own when left out. fresh: replace what an
    earlier export wrote. Raises DatasetError where that is there and shall not be replaced, or for a sample that is
    not there; ShardError for damaged shards; StorageError where a file cannot be written.
    """
    from geossl_data.shards.reading.shards import open_shards

    folder = Path(folder)
    if to not in get_args(Format):
        raise DatasetError(f"export to {to!r} is not one of {', '.join(get_args(Format))}")
    if split is not None and split not in SPLITS:
        raise DatasetError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if sum((key is not None, split is not None, everything)) > 1:
        raise DatasetError("a sample, a split and all samples exclude each other; name one of them")
    need(folder, MANIFEST, stage="shard")
    target = Path(out) if out is not None else folder / EXPORTED / to
    with open_shards(folder) as shards:
        chosen = _chosen(folder, shards, key, split, everything=everything or (to == "npy" and key is None))
        if to == "geotiff":
            return _to_geotiff(folder, shards, chosen, target, fresh=fresh, progress=progress)
        return _to_npy(folder, shards, chosen, target, fresh=fresh, progress=progress)


def _chosen(
    folder: Path, shards: "Shards", key: str | int | None, split: Split | None, *, everything: bool
) -> list[int]:
    """Positions of the samples to write."""
    if split is not None:
        found = [position for position, entry in enumerate(shards.entries) if entry.split == split]
        if not found:
            raise DatasetError(f"{folder}: no sample in split {split}")
        return found
    if everything:
        return list(range(len(shards)))
    wanted = 0 if key is None else key
    if isinstance(wanted, str):
        wanted = shards.keys.index(wanted) if wanted in shards.keys else -1
    if not 0 <= wanted < len(shards):
        raise DatasetError(f"{folder}: no sample {str(key)[:130]!r} among {len(shards)}; give a key or a position")
    return [wanted]


def _to_geotiff(
    folder: Path, shards: "Shards", chosen: Sequence[int], target: Path, *, fresh: bool, progress: Progress
) -> Report:
    from geossl_data.shards.export import export_geotiffs

    keys = [shards.keys[position] for position in chosen]
    present = [key for key in keys if (target / key).exists()]
    if present and not fresh:
        others = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise DatasetError(
            f"{target / present[0]}{others}: there already; name another folder with --out, or replace with --fresh"
        )
    paths: list[Path] = []
    with progress("writing GeoTIFFs", len(chosen)) as task:
        for position in chosen:
            paths += export_geotiffs(shards, position, target)
            task.advance()
    _copy_licence(folder, target)
    return Report(
        stage="export",
        fresh=True,
        facts={
            "places": len(chosen),
            "looks": sum(shards.entries[position].n_looks for position in chosen),
            "files": len(paths),
            "MB": round(sum(path.stat().st_size for path in paths) / 1e6, 1),
            "folder": str(target if len(chosen) > 1 else target / keys[0]),
        },
    )


def _copy_licence(folder: Path, target: Path) -> None:
    """The notice that the terms of the scenes ask for goes with their pixels."""
    if (folder / LICENCE).is_file():
        with atomic_path(target / LICENCE) as temporary:
            shutil.copyfile(folder / LICENCE, temporary)


def _to_npy(
    folder: Path, shards: "Shards", chosen: Sequence[int], target: Path, *, fresh: bool, progress: Progress
) -> Report:
    from geossl_data.shards.export import export_fingerprint, export_npy
    from geossl_data.shards.manifest import read_manifest

    keys = [shards.keys[position] for position in chosen]
    if target.resolve() == folder.resolve() or any((target / name).exists() for name in (RECIPE_NAME, SAMPLES)):
        raise DatasetError(f"{target}: a dataset of its own, which no export replaces; name another folder with --out")
    fingerprint = export_fingerprint(shards, keys)
    with exclusive(target):
        if fresh:
            (target / MANIFEST).unlink(missing_ok=True)
            remove_folder(target / SHARDS)
        stands = fingerprint_of(target / MANIFEST) if (target / MANIFEST).is_file() else None
        if stands not in (None, fingerprint):
            raise DatasetError(
                f"{target}: another export is there already; name another folder with --out, or replace with --fresh"
            )
        remove_temporaries(target)
        if stands is None:
            export_npy(folder, target, keys, progress=progress)
    written = read_manifest(target / MANIFEST)
    return Report(
        stage="export",
        fresh=stands is None,
        facts={
            "places": len(chosen),
            "looks": sum(shards.entries[position].n_looks for position in chosen),
            "shards": len(written.notes["shards"]),
            "MB": round(sum(shard["nbytes"] for shard in written.notes["shards"].values()) / 1e6, 1),
            "folder": str(target),
        },
    )
