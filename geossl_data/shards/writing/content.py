"""What the member group of one sample holds: its arrays, its JSON, and its row of the manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.records import Sample, Split
from geossl_data.scenes.items import parse_time
from geossl_data.shards.manifest import per_look
from geossl_data.tiles.build import Tile
from geossl_data.version import VERSION

SCHEMA_VERSION = 2

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A sample ready to be stored."""

    key: str
    split: Split
    size_px: int
    """Side of the place, in pixels of its finest members."""
    looks: tuple[Mapping[str, Array], ...]
    """Per look, in time order, the arrays by member name, in physical units unless `is_stored`."""
    meta: Mapping[str, Any]
    """JSON-able; what `{key}.json` says, beside how its members are stored."""
    row: Mapping[str, Any]
    """The fields of its `manifest.Entry` that do not follow from the others or from where it is stored."""
    years: tuple[int, ...] = field(default=())
    """Calendar years, UTC, in which the Sentinel scenes were acquired that its pixels come from; ascending."""
    is_stored: bool = False
    """Whether the arrays hold the numbers as they are to be stored, whatever scale their members have."""


def stored_looks(content: Content, members: Mapping[str, Member]) -> list[dict[str, Array]]:
    """The arrays of every look as they are stored, in the order of `members`.

    Raises ShardError for an array that no member describes, or of another dtype or shape than described.
    """
    looks: list[dict[str, Array]] = []
    for arrays in content.looks:
        unknown = sorted(set(arrays) - set(members))
        if unknown:
            raise ShardError(f"{content.key}: {unknown[0]} is no member of these shards: {', '.join(members)}")
        stored = {
            name: arrays[name] if content.is_stored else member.stored(arrays[name])
            for name, member in members.items()
            if name in arrays
        }
        for name, array in stored.items():
            expected = (np.dtype(members[name].dtype), members[name].shape(content.size_px))
            if (array.dtype, array.shape) != expected:
                raise ShardError(
                    f"{content.key}: {name} is {array.dtype} {array.shape}, not {expected[0]} {expected[1]}"
                )
        looks.append(stored)
    return looks


def members_meta(content: Content, members: Mapping[str, Member]) -> dict[str, dict[str, Any]]:
    """How the members of a sample are stored, so that they can be decoded without the manifest."""
    present = {name for arrays in content.looks for name in arrays}
    return {
        name: {
            "bands": list(member.bands),
            "dtype": member.dtype,
            "shape": list(member.shape(content.size_px)),
            "scale": member.scale,
            "offset": member.offset,
            "nodata": member.nodata,
            "units": member.units,
        }
        for name, member in members.items()
        if name in present
    }


def tile_content(tile: Tile) -> Content:
    """What the group of a tile's sample holds. Raises ShardError where the tile lacks a look of its sample."""
    sample = tile.sample
    if len(tile.looks) != len(sample.looks):
        raise ShardError(f"{sample.key}: {len(tile.looks)} looks built of {len(sample.looks)}")
    return Content(
        key=sample.key,
        split=sample.split,
        size_px=sample.place.size_px,
        looks=tuple(look.members for look in tile.looks),
        meta=_provenance(tile),
        row=_row(tile),
        years=tuple(sorted(_years(tile))),
    )


def _provenance(tile: Tile) -> dict[str, Any]:
    """What the JSON says: place, grid, looks with product ids, offsets, orbits and gaps, and lineage."""
    from geossl_data.grid import square_lonlat

    sample, place = tile.sample, tile.sample.place
    footprint = square_lonlat(place.epsg, place.x, place.y, place.side_m)
    return {
        "geossl:schema_version": SCHEMA_VERSION,
        "geossl:version": VERSION,
        "geossl:key": sample.key,
        "geossl:split": sample.split,
        "geossl:block": sample.block,
        "geossl:cell": place.cell,
        "geossl:stratum": sample.stratum,
        "geossl:weight": sample.weight,
        "geossl:inclusion_probability": sample.inclusion_probability,
        "geossl:drawn_by": sample.drawn_by,
        "geossl:change_score": sample.change_score,
        "geossl:change_score_s2": sample.change_score_s2,
        "geossl:change_score_s1": sample.change_score_s1,
        "geossl:spectral_entropy": sample.spectral_entropy,
        "proj:code": f"EPSG:{place.epsg}",
        "proj:transform": [10.0, 0.0, float(place.x), 0.0, -10.0, float(place.y)],
        "proj:shape": [place.size_px, place.size_px],
        "gsd": 10.0,
        "bbox": [round(edge, 7) for edge in footprint.bounds],
        "proj:centroid": {"lat": place.lat, "lon": place.lon},
        "looks": [{"index": i, "members": list(look.members), **look.meta} for i, look in enumerate(tile.looks)],
        "attribution": f"Contains modified Copernicus Sentinel data {sorted(_years(tile))}",
    }


def _years(tile: Tile) -> set[int]:
    """Years of every scene that a look's pixels may come from, those of its mosaics too."""
    return {
        year
        for look, built in zip(tile.sample.looks, tile.looks, strict=True)
        for year in (
            look.acquired.year,
            (look.acquired + timedelta(hours=look.gap_hours)).year,
            *_part_years(built.meta),
        )
    }


def _part_years(meta: Mapping[str, Any]) -> Iterator[int]:
    for sensor in ("s2", "s1"):
        for part in meta.get(sensor, {}).get("geossl:mosaic", ()):
            yield parse_time(part["datetime"]).year


def _row(tile: Tile) -> dict[str, Any]:
    sample: Sample = tile.sample
    place, metas = sample.place, [look.meta for look in tile.looks]
    return {
        "block": sample.block,
        "lon": place.lon,
        "lat": place.lat,
        "epsg": place.epsg,
        "x": float(place.x),
        "y": float(place.y),
        "cell": place.cell,
        "stratum": sample.stratum,
        "weight": float(sample.weight),
        "inclusion_probability": float(sample.inclusion_probability),
        "acquired": tuple(look.acquired for look in sample.looks),
        "gap_hours": tuple(float(look.gap_hours) for look in sample.looks),
        "s2_ids": tuple(look.s2_id for look in sample.looks),
        "s1_ids": tuple(look.s1_id for look in sample.looks),
        "s2_more": per_look([look.s2_more for look in sample.looks]),
        "s1_more": per_look([look.s1_more for look in sample.looks]),
        "drawn_by": sample.drawn_by or None,
        "change_score": sample.change_score,
        "change_score_s2": sample.change_score_s2,
        "change_score_s1": sample.change_score_s1,
        "spectral_entropy": sample.spectral_entropy,
        "labels": tuple(int(meta["label"]["geossl:majority_class"]) if "label" in meta else 0 for meta in metas),
        "cloud_fraction": tuple(meta["s2"]["geossl:cloud_fraction"] for meta in metas),
        "s2_valid_fraction": tuple(float(meta["s2"]["geossl:valid_fraction"]) for meta in metas),
        "s1_valid_fraction": tuple(float(meta["s1"]["geossl:valid_fraction"]) for meta in metas),
    }
