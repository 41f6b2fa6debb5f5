"""Scenes and pairs → samples: candidates, splits, looks and a strategy put together."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.records import Look, Pair, Place, Sample, Scene, Skipped
from geossl_data.sampling.candidates import Candidate, find_candidates
from geossl_data.sampling.looks import choose_looks
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import stratum
from geossl_data.sampling.strategies import POWERS, STRATEGIES, Ground, Strategy

DEFAULT_COUNT = 1000
"""Most places drawn when no count is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The samples and how they came about."""

    samples: list[Sample]
    skipped: list[Skipped]
    n_candidates: int
    """Places of the size asked for that at least one pair covers fully."""
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
    size: int = 264,
    allocation: str = "sqrt",
    min_distance_km: float = 0.0,
    block_km: float = 10.0,
    buffer_km: float = 0.0,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Drawn:
    """Draw `count` places of `size` 10 m pixels among the pairs, with their looks, strata, weights and splits.

    scenes: both sensors, the Sentinel-2 ones with pixel grids. strategy: a name in STRATEGIES or a callable of the
    same signature. count: None takes all there are, up to DEFAULT_COUNT. The result depends on the arguments and the
    seed alone. Raises SamplingError when no place fits or fewer than `count` can be drawn.
    """
    found, skipped, largest_px = find_candidates(scenes, pairs, size)
    if not found:
        hint = f"the largest side that fits a scene is {largest_px} px" if largest_px else _first_reason(skipped)
        raise SamplingError(f"no pair covers a place of {size} px ({size / 100:g} km) fully; {hint}")
    cloud = {scene.id: scene.cloud_percent for scene in scenes if scene.sensor == "s2"}
    with_looks = [(candidate, choose_looks(looks, candidate.pairs, cloud)) for candidate in found]
    eligible = [(candidate, chosen) for candidate, chosen in with_looks if chosen]
    if not eligible:
        raise SamplingError(f"none of {len(found)} candidate places has the dates that --looks {looks} needs")
    rule = SplitRule(block_km=block_km, val=val, test=test, seed=seed)
    kept = [
        (candidate, chosen)
        for candidate, chosen in eligible
        if buffer_km == 0 or not rule.near_other_split(candidate.place.lon, candidate.place.lat, buffer_km)
    ]
    if count is not None and count > len(kept):
        raise SamplingError(
            f"asked for {count} places of {size} px, but only {len(kept)} candidates can be drawn "
            f"({len(found)} found, {len(found) - len(eligible)} without the dates, {len(eligible) - len(kept)} in the "
            f"buffer between splits); lower --count or --size, or fetch more scenes"
        )
    ground = _ground([candidate for candidate, _ in kept], size, min_distance_km, POWERS[allocation])
    chosen_strategy = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    wanted = min(count or DEFAULT_COUNT, len(kept))
    draw = chosen_strategy(ground, wanted, rng=np.random.default_rng((seed, 0x5A)))
    if count is not None and len(draw.indices) < count:
        raise SamplingError(
            f"asked for {count} places, but only {len(draw.indices)} of {len(kept)} candidates fit side by side at "
            f"least {max(min_distance_km, size / 100):g} km apart; lower --count or --min-distance-km"
        )
    inverse = 1.0 / draw.inclusion_probability
    samples = [
        _sample(
            *kept[int(index)], name=ground.stratum[int(index)], chance=float(chance), weight=float(weight), rule=rule
        )
        for index, chance, weight in zip(
            draw.indices, draw.inclusion_probability, inverse / inverse.mean(), strict=True
        )
    ]
    return Drawn(
        samples=sorted(samples, key=lambda sample: sample.key),
        skipped=skipped,
        n_candidates=len(found),
        n_without_looks=len(found) - len(eligible),
        n_in_buffer=len(eligible) - len(kept),
        available=dict(sorted(Counter(ground.stratum).items())),
    )


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
        stratum=[stratum(place.lon, place.lat) for place in places],
        min_distance_km=min_distance_km,
        power=power,
    )


def _sample(
    candidate: Candidate, looks: tuple[Look, ...], *, name: str, chance: float, weight: float, rule: SplitRule
) -> Sample:
    place = candidate.place
    block = rule.block(place.lon, place.lat)
    return Sample(
        key=sample_key(place, looks),
        place=place,
        looks=looks,
        stratum=name,
        weight=weight,
        inclusion_probability=chance,
        split=rule.split(block),
        block=block,
    )
