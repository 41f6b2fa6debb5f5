"""What a shard stores of a sample of one's own rasters: their numbers as they are, and where they came from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import Member
from geossl_data.grid import cell_name
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.manifest import per_look
from geossl_data.shards.writing.content import SCHEMA_VERSION, Content
from geossl_data.shards.writing.own.ground import Ground
from geossl_data.shards.writing.own.samples import OwnFile, OwnLook, OwnSample
from geossl_data.tiles.own import RasterError, read_window
from geossl_data.version import VERSION

_CELL_KM = 10.0

Array = NDArray[Any]


class ReadWindow(Protocol):
    """As `tiles.own.read_window` is."""

    def __call__(
        self, folder: Path, path: str, sha256: str, *, column: int, row: int, width: int, height: int
    ) -> Array:
        """Pixels as they are stored, (bands, height, width)."""


def own_content(
    sample: OwnSample,
    folder: Path,
    members: Mapping[str, Member],
    *,
    min_valid: float,
    read: ReadWindow = read_window,
) -> Content:
    """What the group of a sample holds, read from the rasters below `folder`; the numbers are those of the files.

    Raises RasterError where a raster cannot be read, is not what was planned with, or has a smaller share of valid
    pixels than `min_valid`; class maps need none.
    """
    looks = []
    for look in sample.looks:
        arrays = {file.sensor: _pixels(sample, file, folder, members[file.sensor], read) for file in look.files}
        for file in look.files:
            member = members[file.sensor]
            share = 1.0 if member.plane else float(member.valid(arrays[file.sensor]).mean())
            if share < min_valid:
                raise RasterError(
                    "few-valid-pixels",
                    f"{file.path}: {100 * share:.1f} % of the pixels are valid, {100 * min_valid:g} % are asked for",
                )
        looks.append(arrays)
    labels = tuple(_label(look, arrays, members) for look, arrays in zip(sample.looks, looks, strict=True))
    return Content(
        key=sample.key,
        split=sample.split,
        size_px=sample.size_px,
        looks=tuple(looks),
        is_stored=True,
        meta=_meta(sample, labels),
        row=_entry_row(sample, labels),
    )


def _pixels(sample: OwnSample, file: OwnFile, folder: Path, member: Member, read: ReadWindow) -> Array:
    side = sample.size_px // member.factor
    values = read(
        folder,
        file.path,
        file.sha256,
        column=sample.column // member.factor,
        row=sample.row // member.factor,
        width=side,
        height=side,
    )
    expected = (np.dtype(member.dtype), (len(member.bands), side, side))
    if (values.dtype, values.shape) != expected:
        raise RasterError(
            "changed", f"{file.path}: {values.dtype} {values.shape} where {expected[0]} {expected[1]} was"
        )
    return values[0] if member.plane else values


def _label(look: OwnLook, arrays: Mapping[str, Array], members: Mapping[str, Member]) -> int:
    """The look's class: as the table says, else the most frequent one of its class map `label`, else 0."""
    if look.label or "label" not in arrays:
        return look.label
    values = arrays["label"][members["label"].valid(arrays["label"])]
    classes, counts = np.unique(values[values > 0], return_counts=True)
    return int(classes[counts.argmax()]) if len(classes) else 0


def _meta(sample: OwnSample, labels: Sequence[int]) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "geossl:schema_version": SCHEMA_VERSION,
        "geossl:version": VERSION,
        "geossl:key": sample.key,
        "geossl:split": sample.split,
        "geossl:block": sample.block,
        "geossl:place": sample.place,
        "proj:shape": [sample.size_px, sample.size_px],
        "looks": [_look_meta(sample, number, labels[number]) for number in range(len(sample.looks))],
    }
    if sample.tile is not None:
        meta["geossl:tile"] = {"row": sample.tile[0], "column": sample.tile[1]}
    ground = sample.ground
    if ground is not None and ground.crs:
        meta |= {"proj:code": ground.crs} if ground.crs.startswith("EPSG:") else {"proj:wkt2": ground.crs}
        meta["proj:transform"] = list(ground.transform)
    if ground is not None and ground.lon is not None:
        meta["proj:centroid"] = {"lat": ground.lat, "lon": ground.lon}
    return meta


def _look_meta(sample: OwnSample, number: int, label: int) -> dict[str, Any]:
    look = sample.looks[number]
    return {
        "index": number,
        "members": [file.sensor for file in look.files],
        "datetime": None if look.acquired is None else rfc3339(look.acquired),
        "geossl:look": look.number,
        "geossl:label": label,
        **({"geossl:labels": list(look.labels)} if look.labels else {}),
        "assets": {
            file.sensor: {
                "href": file.path,
                "datetime": None if file.acquired is None else rfc3339(file.acquired),
                "file:size": file.nbytes,
                "file:checksum": f"1220{file.sha256}",
            }
            for file in look.files
        },
    }


def _entry_row(sample: OwnSample, labels: tuple[int, ...]) -> dict[str, Any]:
    ground, count = sample.ground, len(sample.looks)
    epsg = None if ground is None else ground.epsg
    located = ground if ground is not None and epsg is not None else None
    nothing: tuple[None, ...] = (None,) * count
    return {
        "block": sample.block,
        "lon": None if located is None else located.lon,
        "lat": None if located is None else located.lat,
        "epsg": epsg,
        "x": None if located is None else float(located.transform[2]),
        "y": None if located is None else float(located.transform[5]),
        "cell": "" if located is None or located.lon is None else _cell(located),
        "stratum": "",
        "weight": 1.0,
        "inclusion_probability": 1.0,
        "acquired": tuple(look.acquired for look in sample.looks),
        "gap_hours": nothing,
        "s2_ids": ("",) * count,
        "s1_ids": ("",) * count,
        "labels": labels,
        "labels_more": per_look([look.labels for look in sample.looks]),
        "cloud_fraction": nothing,
        "s2_valid_fraction": nothing,
        "s1_valid_fraction": nothing,
    }


def _cell(ground: Ground) -> str:
    assert ground.lon is not None
    assert ground.lat is not None
    return cell_name(ground.lon, ground.lat, _CELL_KM)
