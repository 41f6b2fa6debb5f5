"""Scenes and pairs → samples: candidates, splits, looks and a strategy put together."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.records import Look, Pair, Place, Sample, Scene, Site, Skipped
from geossl_data.sampling.candidates import Candidate, candidates_at, find_candidates
from geossl_data.sampling.looks import Tie, choose_looks
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import stratum
from geossl_data.sampling.strategies import POWERS, STRATEGIES, Ground, IntArray, Strategy

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

DEFAULT_COUNT = 1000
"""Most places drawn when no count is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The samples and how they came about."""

    samples: list[Sample]
    skipped: list[Skipped]
    n_candidates: int
    """Places of the size asked for that at least one pair covers fully; of sites, those that became places."""
    n_without_looks: int
    """Candidates that the look rule found too few dates for."""
    n_in_buffer: int
    """Candidates left out because a block of another split is near."""
    available: dict[str, int] = field(default_factory=dict)
    """Stratum → candidates that could be drawn."""


def sample_key(place: Place, looks: Sequence[Look]) -> str:
    """Unique name of a sample: cell, time of the first look, and six hex digits of the exact position."""
    position = f"{place.epsg}/{place.x:.3f}/{place.y:.3f}/{place.size_px}"
    digest = hashlib.sha256(position.encode()).hexdigest()[:6]
    return f"{place.cell}_{looks[0].acquired:%Y%m%dT%H%M%S}_{digest}"


def draw_samples(
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    *,
    strategy: str | Strategy = "geography",
    count: int | None = None,
    looks: str = "single",
    tie: Tie = "clearest",
    size: int = 264,
    allocation: str = "sqrt",
    min_distance_km: float = 0.0,
    block_km: float = 10.0,
    buffer_km: float = 0.0,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    area: "BaseGeometry | None" = None,
    sites: Sequence[Site] | None = None,
) -> Drawn:
    """Draw `count` places of `size` 10 m pixels among the pairs, with their looks, strata, weights and splits.

    scenes: both sensors, the Sentinel-2 ones with pixel grids. strategy: a name in STRATEGIES or a callable of the
    same signature. count: None takes all there are, up to DEFAULT_COUNT. tie: which of several pairs a look takes.
    area: longitude/latitude; only places whose centre lies in it. sites: places drawn beforehand, of that size; only
    these are candidates, then None takes all of them, each keeps its stratum, block and split, and its inclusion
    probability is multiplied by that of this draw. The result depends on the arguments and the seed alone.
    Raises SamplingError when no place fits or fewer than `count` can be drawn.
    """
    found, skipped = (
        _squares(scenes, pairs, size, area) if sites is None else _at_sites(sites, scenes, pairs, size, area)
    )
    cloud = {scene.id: scene.cloud_percent for scene in scenes if scene.sensor == "s2"}
    with_looks = [(candidate, choose_looks(looks, candidate.pairs, cloud, tie)) for candidate in found]
    eligible = [(candidate, chosen) for candidate, chosen in with_looks if chosen]
    if not eligible:
        raise SamplingError(f"none of {len(found)} candidate places has the dates that --looks {looks} needs")
    rule = SplitRule(block_km=block_km, val=val, test=test, seed=seed)
    kept = [
        (candidate, chosen)
        for candidate, chosen in eligible
        if candidate.site is not None
        or buffer_km == 0
        or not rule.near_other_split(candidate.place.lon, candidate.place.lat, buffer_km)
    ]
    if count is not None and count > len(kept):
        raise SamplingError(
            f"asked for {count} places of {size} px, but only {len(kept)} candidates can be drawn "
            f"({len(found)} found, {len(found) - len(eligible)} without the dates, {len(eligible) - len(kept)} in the "
            f"buffer between splits); lower --count or --size, or fetch more scenes"
        )
    ground = _ground([candidate for candidate, _ in kept], size, min_distance_km, POWERS[allocation])
    chosen_strategy = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    wanted = min(count or (DEFAULT_COUNT if sites is None else len(kept)), len(kept))
    draw = chosen_strategy(ground, wanted, rng=np.random.default_rng((seed, 0x5A)))
    if count is not None and len(draw.indices) < count:
        raise SamplingError(
            f"asked for {count} places, but only {len(draw.indices)} of {len(kept)} candidates fit side by side at "
            f"least {max(min_distance_km, size / 100):g} km apart; lower --count or --min-distance-km"
        )
    if sites is not None and count is None:
        skipped += _too_close([candidate for candidate, _ in kept], draw.indices, max(min_distance_km, size / 100))
    drawn_before = [site.inclusion_probability if (site := kept[int(i)][0].site) else 1.0 for i in draw.indices]
    chances = draw.inclusion_probability * np.array(drawn_before)
    inverse = 1.0 / chances
    samples = [
        _sample(
            *kept[int(index)], name=ground.stratum[int(index)], chance=float(chance), weight=float(weight), rule=rule
        )
        for index, chance, weight in zip(draw.indices, chances, inverse / inverse.mean(), strict=True)
    ]
    return Drawn(
        samples=sorted(samples, key=lambda sample: sample.key),
        skipped=skipped,
        n_candidates=len(found),
        n_without_looks=len(found) - len(eligible),
        n_in_buffer=len(eligible) - len(kept),
        available=dict(sorted(Counter(ground.stratum).items())),
    )


def _squares(
    scenes: Sequence[Scene], pairs: Sequence[Pair], size: int, area: "BaseGeometry | None"
) -> tuple[list[Candidate], list[Skipped]]:
    """All squares as candidates, and the scenes that give none; SamplingError where no square fits."""
    found, skipped, largest_px = find_candidates(scenes, pairs, size, area=area)
    if not found:
        where = "" if area is None else " inside the area"
        hint = f"the largest side that fits a scene is {largest_px} px" if largest_px else _first_reason(skipped)
        raise SamplingError(f"no pair covers a place of {size} px ({size / 100:g} km) fully{where}; {hint}")
    return found, skipped


def _at_sites(
    sites: Sequence[Site], scenes: Sequence[Scene], pairs: Sequence[Pair], size: int, area: "BaseGeometry | None"
) -> tuple[list[Candidate], list[Skipped]]:
    """The sites as candidates, and those given up; SamplingError where the size differs or none has a pair."""
    other = next((site.size_px for site in sites if site.size_px != size), None)
    if other is not None:
        raise SamplingError(
            f"the places drawn beforehand are {other} px wide, {size} px asked for; give --size {other}"
        )
    found, skipped = candidates_at(sites, scenes, pairs, area=area)
    if not found:
        raise SamplingError(f"none of {len(sites)} places drawn beforehand has a pair; {_first_reason(skipped)}")
    return found, skipped


def _too_close(candidates: Sequence[Candidate], drawn: IntArray, least_km: float) -> list[Skipped]:
    """The sites that were not drawn although all were wanted: too close to one that was."""
    missing = sorted(set(range(len(candidates))) - set(drawn.tolist()))
    left_out = [site for number in missing if (site := candidates[number].site) is not None]
    detail = f"another place lies on it or nearer than {least_km:g} km"
    return [Skipped(stage="sample", id=site.key, reason="too-close", detail=detail) for site in left_out]


def _first_reason(skipped: Sequence[Skipped]) -> str:
    return f"{skipped[0].id}: {skipped[0].detail}" if skipped else "fetch more scenes or widen --max-gap"


def _ground(candidates: Sequence[Candidate], size: int, min_distance_km: float, power: float) -> Ground:
    places = [candidate.place for candidate in candidates]
    return Ground(
        lon=np.array([place.lon for place in places]),
        lat=np.array([place.lat for place in places]),
        epsg=np.array([place.epsg for place in places], dtype=np.int64),
        x=np.array([place.x for place in places]),
        y=np.array([place.y for place in places]),
        side_m=size * 10.0,
        stratum=[
            candidate.site.stratum if candidate.site else stratum(candidate.place.lon, candidate.place.lat)
            for candidate in candidates
        ],
        min_distance_km=min_distance_km,
        power=power,
    )


def _sample(
    candidate: Candidate, looks: tuple[Look, ...], *, name: str, chance: float, weight: float, rule: SplitRule
) -> Sample:
    place, site = candidate.place, candidate.site
    block = site.block if site else rule.block(place.lon, place.lat)
    return Sample(
        key=sample_key(place, looks),
        place=place,
        looks=looks,
        stratum=name,
        weight=weight,
        inclusion_probability=chance,
        split=site.split if site else rule.split(block),
        block=block,
    )
