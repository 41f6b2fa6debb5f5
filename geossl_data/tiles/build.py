"""Sample → Tile: the pixels of every look in physical units with where they came from, or a reason to skip."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import tee
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
    SCL_BAND,
)
from geossl_data.records import Look, Place, Sample, Scene
from geossl_data.sampling.coverage import TURNS
from geossl_data.tiles.provenance import Rules, label_meta, s1_meta, s2_meta
from geossl_data.tiles.quality import look_quality
from geossl_data.tiles.radiometry import (
    backscatter_db,
    cloud_fraction,
    fraction,
    harmonise,
    mask_border_noise,
    s1_valid,
    s2_valid_fraction,
)
from geossl_data.tiles.rasters import EXACT, Pixels, Rasters, Reason, SkipError, Want, place_grid

BUILT_AHEAD = 2
"""Samples for each thread that are built before they are asked for."""

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
    """With the looks that were taken: a spare in place of one that could not be had."""
    looks: tuple[TileLook, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What is asked of every look's own window."""

    min_valid: float = 0.9
    """Least share of valid pixels, of both sensors."""
    max_cloud: float | None = None
    """Most cloud and cloud shadow, percent of the classified pixels; None asks nothing, and no classification."""
    min_entropy: float | None = None
    """Least spectral entropy, bits; None asks nothing."""


def build_tile(
    sample: Sample,
    scenes: Mapping[str, Scene],
    labels: Sequence[Scene],
    rasters: Rasters,
    *,
    min_valid: float,
    max_cloud: float | None = None,
    min_entropy: float | None = None,
    catalog_base: str | None = None,
) -> Tile:
    """The pixels of every look of a sample, complete or not at all.

    See `build_tiles`, which builds many faster. Raises SkipError with a short reason.
    """
    demands = Demands(min_valid=min_valid, max_cloud=max_cloud, min_entropy=min_entropy)
    (built,) = build_tiles([sample], scenes, labels, rasters, demands, catalog_base=catalog_base)
    if isinstance(built, SkipError):
        raise built
    return built


def build_tiles(
    samples: Iterable[Sample],
    scenes: Mapping[str, Scene],
    labels: Sequence[Scene],
    rasters: Rasters,
    demands: Demands,
    *,
    catalog_base: str | None = None,
) -> Generator[Tile | SkipError, None, None]:
    """For each sample, in order, the pixels of all its looks, or why it has to be skipped.

    scenes: by id, at least those that the looks name. labels: land-class maps; a look has a label when one holds
    for its time, in [acquired, ends), and covers the place on its grid. catalog_base: folder or URL of the catalog;
    asset hrefs below it are recorded relative to it.
    A look that cannot be had exactly, or does not meet the demands, is replaced by the first of its spares that can and
    does; where there is none the sample is skipped, for the reason that its own look had. A look of several Sentinel-1
    frames, or of several parts or tiles of one Sentinel-2 acquisition, is their mosaic: at each pixel the first that is
    valid, in the look's order. Raises TokenError where nothing can be read at all.
    """
    builder = _Builder(scenes, labels, rasters, demands, catalog_base)
    ours, theirs = tee(samples)
    waiting: deque[Future[Tile | SkipError]] = deque()
    with (
        ThreadPoolExecutor(rasters.threads, thread_name_prefix="geossl-build") as pool,
        closing(rasters.stream(map(builder.wants, theirs))) as stream,
    ):
        for sample, results in zip(ours, stream, strict=True):
            waiting.append(pool.submit(builder.tile_or_reason, sample, results))
            if len(waiting) > BUILT_AHEAD * rasters.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


Read = Callable[[Want], Pixels]
"""Gives the pixels of a want; raises SkipError."""


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes looks of pixels."""

    scenes: Mapping[str, Scene]
    labels: Sequence[Scene]
    rasters: Rasters
    demands: Demands
    base: str | None

    def wants(self, sample: Sample) -> list[Want]:
        """All that the looks of a sample need, spares not counted; nothing for a look that cannot be had anyway."""
        return [want for look in sample.looks for want in self._wants_or_none(look, sample.place)]

    def tile_or_reason(self, sample: Sample, results: Sequence[Pixels | SkipError]) -> Tile | SkipError:
        """The tile of a sample from the results of its wants, or why it has none."""
        try:
            return self.tile(sample, results)
        except SkipError as error:
            return error.again()

    def tile(self, sample: Sample, results: Sequence[Pixels | SkipError]) -> Tile:
        """The tile of a sample from the results of its wants."""
        read = self._reader(dict(zip(self.wants(sample), results, strict=True)))
        taken: list[Look] = []
        built: list[TileLook] = []
        for position, look in enumerate(sample.looks):
            spares = sample.spares[position] if position < len(sample.spares) else ()
            chosen, tile_look = self._first(look, spares, sample.place, read)
            taken.append(chosen)
            built.append(tile_look)
        looks = tuple(taken)
        return Tile(sample=sample if looks == sample.looks else replace(sample, looks=looks), looks=tuple(built))

    def _first(self, look: Look, spares: Sequence[Look], place: Place, read: Read) -> tuple[Look, TileLook]:
        """The look, or the first of its spares that will do; SkipError with the look's own reason where none does."""
        try:
            return look, self._look(look, place, read)
        except SkipError as error:
            failure = error.again()
        for spare in spares:
            wants = self._wants_or_none(spare, place)
            (results,) = self.rasters.stream([wants])
            try:
                built = self._look(spare, place, self._reader(dict(zip(wants, results, strict=True))))
            except SkipError:
                continue
            replaced = {
                "geossl:s2_ids": list(look.s2_ids),
                "geossl:s1_ids": list(look.s1_ids),
                "geossl:reason": failure.reason,
            }
            return spare, replace(built, meta={**built.meta, "geossl:replaces": replaced})
        raise failure

    def _wants_or_none(self, look: Look, place: Place) -> list[Want]:
        try:
            s2, s1 = self._scenes_of(look)
        except SkipError:
            return []
        wants = [want for scene in s2 for want in _optical_wants(scene, place, partly=len(s2) > 1).values()]
        wants += [want for frame in s1 for want in _radar_wants(frame, place)]
        maps = _maps(self.labels, look.acquired, place)
        return wants + [_label_want(scene, place) for scene in maps[:1]]

    def _scenes_of(self, look: Look) -> tuple[list[Scene], list[Scene]]:
        """The Sentinel-2 and Sentinel-1 scenes of a look; SkipError unless all are known and have their bands."""
        s2 = [_scene(self.scenes, scene_id) for scene_id in look.s2_ids]
        s1 = [_scene(self.scenes, scene_id) for scene_id in look.s1_ids]
        for scene in s2:
            _require_assets(scene, S2_BANDS)
        for scene in s1:
            _require_assets(scene, S1_BANDS)
        return s2, s1

    def _reader(self, results: Mapping[Want, Pixels | SkipError]) -> Read:
        def read(want: Want) -> Pixels:
            result = results.get(want)
            if result is None:
                return self.rasters.read(want)
            if isinstance(result, SkipError):
                raise result.again()
            return result

        return read

    def _look(self, look: Look, place: Place, read: Read) -> TileLook:
        s2, s1 = self._scenes_of(look)
        optical, s2_rules = _optical(s2, place, read)
        valid = s2_valid_fraction(optical)
        self._require_valid(s2, valid)
        cloudy = cloud_fraction(optical["scl"]) if "scl" in optical else None
        self._require_clear(s2, cloudy)
        radar, s1_rules = _radar(s1, place, read)
        s1_fraction = fraction(s1_valid(radar))
        self._require_valid(s1, s1_fraction)
        label_scene, label = _label(self.labels, look.acquired, place, read)

        found: dict[str, NDArray[Any]] = {**optical, "s1": radar}
        if label is not None:
            found["label"] = label
        members = {name: found[name] for name in MEMBERS if name in found}
        quality = look_quality(members)
        self._require_variety(s2, quality)
        meta = {
            "s2": s2_meta(s2, s2_rules, cloudy, valid, self.base),
            "s1": s1_meta(s1, s1_fraction, s1_rules, self.base),
            "pair": {"geossl:gap_hours": look.gap_hours},
            "quality": quality,
        }
        if label_scene is not None and label is not None:
            meta["label"] = label_meta(label_scene, label, self.base)
        return TileLook(members=members, meta=meta)

    def _require_valid(self, scenes: Sequence[Scene], found: float) -> None:
        least = self.demands.min_valid
        if found < least:
            raise SkipError(
                "few-valid-pixels", f"{_names(scenes)}: {found:.1%} of the pixels are valid, {least:.1%} needed"
            )

    def _require_clear(self, scenes: Sequence[Scene], found: float | None) -> None:
        most = self.demands.max_cloud
        if most is None:
            return
        if found is None:
            raise SkipError("cloudy", f"{_names(scenes)}: no scene classification tells how cloudy the window is")
        if found * 100 > most:
            raise SkipError(
                "cloudy", f"{_names(scenes)}: {found:.1%} of the window is cloud or shadow, {most:g}% allowed"
            )

    def _require_variety(self, scenes: Sequence[Scene], quality: Mapping[str, Any]) -> None:
        least, found = self.demands.min_entropy, quality.get("spectral_entropy")
        if least is not None and (found is None or found < least):
            text = "unknown" if found is None else f"{found:.2f} bits"
            raise SkipError("uniform", f"{_names(scenes)}: spectral entropy of the window is {text}, {least:g} needed")


def _names(scenes: Sequence[Scene]) -> str:
    return " with ".join(scene.id for scene in scenes)


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


def _optical_wants(scene: Scene, place: Place, *, partly: bool) -> dict[str, Want]:
    """The windows of a Sentinel-2 scene by band. partly: others show the rest of the place."""
    wants = {
        band: Want(scene.hrefs[band], place_grid(place, MEMBERS[name].resolution_m), "uint16", partly)
        for name in S2_MEMBERS
        for band in MEMBERS[name].bands
    }
    if SCL_BAND in scene.hrefs:
        grid = place_grid(place, MEMBERS["scl"].resolution_m)
        wants[SCL_BAND] = Want(scene.hrefs[SCL_BAND], grid, "uint8", partly)
    return wants


def _radar_wants(frame: Scene, place: Place) -> list[Want]:
    grid = place_grid(place, MEMBERS["s1"].resolution_m)
    return [Want(frame.hrefs[band], grid, "power") for band in S1_BANDS]


def _label_want(scene: Scene, place: Place) -> Want:
    return Want(scene.hrefs[LABEL_BAND], place_grid(place, MEMBERS["label"].resolution_m), "uint8")


def _optical(parts: Sequence[Scene], place: Place, read: Read) -> tuple[dict[str, NDArray[Any]], Rules]:
    """The Sentinel-2 members of a look: of each value the first part's that has one, in one offset era.

    Without `scl` where a part has no classification, since the rest would be no class map of the place.
    """
    mosaic: dict[str, NDArray[Any]] | None = None
    rules: Rules = {}
    failure: SkipError | None = None
    for part in parts:
        try:
            members = _optical_part(part, place, read, rules, partly=len(parts) > 1)
        except SkipError as error:
            if error.reason != "outside" or len(parts) == 1:
                raise
            failure = error.again()
            continue
        if mosaic is None:
            mosaic = members
        else:
            mosaic = {
                name: np.where(values != S2_NODATA, values, members[name])
                for name, values in mosaic.items()
                if name in members
            }
    if mosaic is None:
        assert failure is not None
        raise failure
    return mosaic, rules


def _optical_part(scene: Scene, place: Place, read: Read, rules: Rules, *, partly: bool) -> dict[str, NDArray[Any]]:
    pixels = {band: read(want) for band, want in _optical_wants(scene, place, partly=partly).items()}
    rules.update({band: found.resampling for band, found in pixels.items() if found.resampling != EXACT})
    members: dict[str, NDArray[Any]] = {}
    for name in S2_MEMBERS:
        stored = np.stack([pixels[band].values for band in MEMBERS[name].bands])
        members[name] = harmonise(stored, scene.boa_offset or 0)
    if SCL_BAND in pixels:
        members["scl"] = pixels[SCL_BAND].values
    return members


def _radar(frames: Sequence[Scene], place: Place, read: Read) -> tuple[NDArray[np.float32], Rules]:
    """Backscatter in dB, shape (2, rows, columns), and by which rules its bands were resampled.

    Each pixel is of the first frame with a measurement in both polarisations, so that their ratio is of one moment.
    """
    mosaic: NDArray[np.float32] | None = None
    rules: Rules = {}
    for frame in frames:
        windows = [read(want) for want in _radar_wants(frame, place)]
        for band, window in zip(S1_BANDS, windows, strict=True):
            if window.resampling != EXACT:
                rules[band] = window.resampling
        power = mask_border_noise(np.stack([window.values for window in windows]))
        mosaic = power if mosaic is None else np.where(_has_measurement(mosaic), mosaic, power)
    assert mosaic is not None
    return backscatter_db(mosaic), rules


def _has_measurement(power: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(power).all(axis=0))


def _maps(labels: Sequence[Scene], time: datetime, place: Place) -> list[Scene]:
    """The class maps that hold for a time and see the centre of a place; the one whose period starts last first."""
    import shapely

    holding = [scene for scene in labels if LABEL_BAND in scene.hrefs and scene.acquired <= time < scene.ends]
    if not holding:
        return []
    footprints = np.array([scene.footprint for scene in holding], dtype=object)
    sees = np.logical_or.reduce([shapely.intersects_xy(footprints, place.lon + turn, place.lat) for turn in TURNS])
    seeing = [scene for scene, sees_place in zip(holding, sees, strict=True) if sees_place]
    return sorted(seeing, key=lambda scene: (scene.acquired, scene.id), reverse=True)


def _label(
    labels: Sequence[Scene], time: datetime, place: Place, read: Read
) -> tuple[Scene, NDArray[np.uint8]] | tuple[None, None]:
    """The land classes of a place at a time, and the scene they come from; (None, None) where no map has them."""
    for scene in _maps(labels, time, place):
        try:
            return scene, read(_label_want(scene, place)).values
        except SkipError as error:
            if error.reason not in _ELSEWHERE:
                raise
    return None, None
