"""Sample → Tile: the pixels of every look in physical units with where they came from, or a reason to skip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import (
    LABEL_BAND,
    MEMBERS,
    S1_BANDS,
    S2_BANDS,
    S2_MEMBERS,
    S2_NODATA,
    S2_QUANTIFICATION,
    SCL_BAND,
)
from geossl_data.records import Look, Place, Sample, Scene
from geossl_data.scenes.items import rfc3339
from geossl_data.tiles.radiometry import (
    backscatter_db,
    cloud_fraction,
    fraction,
    harmonise,
    majority_class,
    s1_valid,
    s2_valid_fraction,
)
from geossl_data.tiles.rasters import Rasters, Reason, SkipError, place_grid

_ELSEWHERE: tuple[Reason, ...] = ("wrong-crs", "wrong-resolution", "off-grid", "outside")
"""Reasons that say a label map is not one of this place, as against one that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLook:
    """One look's pixels and provenance."""

    members: Mapping[str, NDArray[Any]]
    """Arrays by member name, in the order of `bands.MEMBERS`; what a look lacks is absent."""
    meta: Mapping[str, Any]
    """JSON-able; STAC names where they exist, `geossl:` before the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A sample with its pixels."""

    sample: Sample
    looks: tuple[TileLook, ...]


def build_tile(
    sample: Sample,
    scenes: Mapping[str, Scene],
    labels: Sequence[Scene],
    rasters: Rasters,
    *,
    min_valid: float,
    catalog_base: str | None = None,
) -> Tile:
    """The pixels of every look of a sample, complete or not at all.

    scenes: by id, at least those that the looks name. labels: land-class maps; a look has a label when one holds
    for its time, in [acquired, ends), and covers the place on its grid.
    min_valid: least share of valid pixels in each look, asked of both sensors.
    catalog_base: folder or URL of the catalog; asset hrefs below it are recorded relative to it.
    A look of several Sentinel-1 frames or Sentinel-2 parts is their mosaic: at each pixel the first that is valid, in
    the look's order.
    Raises SkipError with a short reason: a scene, asset or window that cannot be had exactly, of a part as well, or
    too few valid pixels in the whole.
    """
    looks = tuple(_look(look, sample.place, scenes, labels, rasters, min_valid, catalog_base) for look in sample.looks)
    return Tile(sample=sample, looks=looks)


def _look(
    look: Look,
    place: Place,
    scenes: Mapping[str, Scene],
    labels: Sequence[Scene],
    rasters: Rasters,
    min_valid: float,
    base: str | None,
) -> TileLook:
    s2 = [_scene(scenes, scene_id) for scene_id in look.s2_ids]
    s1 = [_scene(scenes, scene_id) for scene_id in look.s1_ids]
    for scene in s2:
        _require_assets(scene, S2_BANDS)
    for scene in s1:
        _require_assets(scene, S1_BANDS)
    optical = _optical(s2, place, rasters)
    valid = s2_valid_fraction(optical)
    _require_valid(s2, valid, min_valid)
    radar, resampled = _radar(s1, place, rasters)
    s1_fraction = fraction(s1_valid(radar))
    _require_valid(s1, s1_fraction, min_valid)
    label_scene, label = _label(labels, look.acquired, place, rasters)

    members: dict[str, NDArray[Any]] = {**optical, "s1": radar}
    meta = {
        "s2": _s2_meta(s2, optical, valid, base),
        "s1": _s1_meta(s1, s1_fraction, resampled, base),
        "pair": {"geossl:gap_hours": look.gap_hours},
    }
    if label_scene is not None and label is not None:
        members["label"] = label
        meta["label"] = _label_meta(label_scene, label, base)
    return TileLook(members={name: members[name] for name in MEMBERS if name in members}, meta=meta)


def _scene(scenes: Mapping[str, Scene], scene_id: str) -> Scene:
    if scene_id not in scenes:
        raise SkipError("missing-scene", f"{scene_id}: not in the table of scenes; fetch and sample again")
    return scenes[scene_id]


def _require_assets(scene: Scene, bands: Sequence[str]) -> None:
    """SkipError unless the scene has all the bands; asked before anything is read."""
    absent = [band for band in bands if band not in scene.hrefs]
    if absent:
        has = ", ".join(sorted(scene.hrefs)) or "none"
        raise SkipError("missing-asset", f"{scene.id}: no band {', '.join(absent)}, has {has}")


def _require_valid(scenes: Sequence[Scene], found: float, least: float) -> None:
    if found < least:
        names = " with ".join(scene.id for scene in scenes)
        raise SkipError("few-valid-pixels", f"{names}: {found:.1%} of the pixels are valid, {least:.1%} needed")


def _optical(parts: Sequence[Scene], place: Place, rasters: Rasters) -> dict[str, NDArray[Any]]:
    """The Sentinel-2 members of a look: of each value the first part's that has one, in one offset era.

    Without `scl` where a part has no classification, since the rest would be no class map of the place.
    """
    mosaic = _optical_part(parts[0], place, rasters)
    for part in parts[1:]:
        members = _optical_part(part, place, rasters)
        mosaic = {
            name: np.where(values != S2_NODATA, values, members[name])
            for name, values in mosaic.items()
            if name in members
        }
    return mosaic


def _optical_part(scene: Scene, place: Place, rasters: Rasters) -> dict[str, NDArray[Any]]:
    members: dict[str, NDArray[Any]] = {}
    for name in S2_MEMBERS:
        grid = place_grid(place, MEMBERS[name].resolution_m)
        stored = np.stack([rasters.read_exact(scene.hrefs[band], grid, "uint16") for band in MEMBERS[name].bands])
        members[name] = harmonise(stored, scene.boa_offset or 0)
    if SCL_BAND in scene.hrefs:
        grid = place_grid(place, MEMBERS["scl"].resolution_m)
        members["scl"] = rasters.read_exact(scene.hrefs[SCL_BAND], grid, "uint8")
    return members


def _radar(frames: Sequence[Scene], place: Place, rasters: Rasters) -> tuple[NDArray[np.float16], bool]:
    """Backscatter in dB, shape (2, rows, columns), and whether any of it had to be resampled.

    Each pixel is of the first frame with a measurement in both polarisations, so that their ratio is of one moment.
    """
    grid = place_grid(place, MEMBERS["s1"].resolution_m)
    mosaic: NDArray[np.float32] | None = None
    is_resampled = False
    for frame in frames:
        windows = [rasters.read_power(frame.hrefs[band], grid) for band in S1_BANDS]
        power = np.stack([values for values, _ in windows])
        is_resampled |= any(resampled for _, resampled in windows)
        mosaic = power if mosaic is None else np.where(_has_measurement(mosaic), mosaic, power)
    assert mosaic is not None
    return backscatter_db(mosaic), is_resampled


def _has_measurement(power: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(power).all(axis=0))


def _label(
    labels: Sequence[Scene], time: datetime, place: Place, rasters: Rasters
) -> tuple[Scene, NDArray[np.uint8]] | tuple[None, None]:
    """The land classes of a place at a time, and the scene they come from; (None, None) where no map has them.

    Of several maps the one whose period starts last is taken.
    """
    from shapely import Point

    point = Point(place.lon, place.lat)
    mapped = [scene for scene in labels if LABEL_BAND in scene.hrefs]
    holding = [scene for scene in mapped if scene.acquired <= time < scene.ends and _sees(scene, point)]
    grid = place_grid(place, MEMBERS["label"].resolution_m)
    for scene in sorted(holding, key=lambda scene: (scene.acquired, scene.id), reverse=True):
        try:
            return scene, rasters.read_exact(scene.hrefs[LABEL_BAND], grid, "uint8")
        except SkipError as error:
            if error.reason not in _ELSEWHERE:
                raise
    return None, None


def _sees(scene: Scene, point: Any) -> bool:
    from shapely.affinity import translate

    return any(scene.footprint.intersects(translate(point, shift)) for shift in (0.0, 360.0, -360.0))


def _common_meta(scene: Scene, bands: Sequence[str], base: str | None) -> dict[str, Any]:
    return {
        "id": scene.id,
        "collection": scene.collection,
        "platform": scene.platform,
        "datetime": rfc3339(scene.acquired),
        "sat:orbit_state": scene.orbit_state,
        "sat:relative_orbit": scene.relative_orbit,
        "geossl:product_id": scene.product_id,
        "assets": {band: relative_href(scene.hrefs[band], base) for band in bands if band in scene.hrefs},
    }


def _mosaic_meta(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the first of several scenes says, the ids of all in order, and what each further one says of itself."""
    if len(parts) == 1:
        return parts[0]
    return parts[0] | {
        "geossl:mosaic_item_ids": [part["id"] for part in parts],
        "geossl:mosaic": list(parts[1:]),
    }


def _s2_part_meta(scene: Scene, base: str | None) -> dict[str, Any]:
    bands = [band for name in (*S2_MEMBERS, "scl") for band in MEMBERS[name].bands]
    return _common_meta(scene, bands, base) | {
        "eo:cloud_cover": scene.cloud_percent,
        "s2:mgrs_tile": scene.mgrs_tile,
        "s2:processing_baseline": scene.baseline,
        "geossl:offset_native": scene.boa_offset,
        "geossl:offset_applied": scene.boa_offset,
    }


def _s2_meta(
    parts: Sequence[Scene], members: Mapping[str, NDArray[Any]], valid_fraction: float, base: str | None
) -> dict[str, Any]:
    return _mosaic_meta([_s2_part_meta(part, base) for part in parts]) | {
        "geossl:quantification": S2_QUANTIFICATION,
        "geossl:cloud_fraction": cloud_fraction(members["scl"]) if "scl" in members else None,
        "geossl:valid_fraction": valid_fraction,
    }


def _s1_meta(frames: Sequence[Scene], valid_fraction: float, resampled: bool, base: str | None) -> dict[str, Any]:
    return _mosaic_meta([_common_meta(frame, S1_BANDS, base) for frame in frames]) | {
        "sar:polarizations": list(S1_BANDS),
        "sar:product_type": frames[0].product,
        "geossl:units": "dB",
        "geossl:resampling": "bilinear in linear power" if resampled else "none",
        "geossl:valid_fraction": valid_fraction,
    }


def _label_meta(scene: Scene, label: NDArray[np.uint8], base: str | None) -> dict[str, Any]:
    majority, share = majority_class(label)
    return {
        "id": scene.id,
        "collection": scene.collection,
        "start_datetime": rfc3339(scene.acquired),
        "end_datetime": rfc3339(scene.ends),
        "geossl:majority_class": majority,
        "geossl:majority_share": share,
        "assets": {LABEL_BAND: relative_href(scene.hrefs[LABEL_BAND], base)},
    }


def relative_href(href: str, base: str | None) -> str:
    """An href below the folder or URL `base` as `./…`, any other unchanged."""
    if base is not None:
        prefix = base.rstrip("/") + "/"
        if href.startswith(prefix):
            return "./" + href.removeprefix(prefix)
    return href
