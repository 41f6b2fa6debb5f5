"""A pool → samples: a strategy takes some of its places, each with its looks, chance, weight and split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.memory import gc_paused
from geossl_data.records import Look, Pair, Place, Sample, Scene, Site, Skipped
from geossl_data.sampling.looks import Tie, choose_looks
from geossl_data.sampling.pool import Pool, make_pool, pool_counts, same_pairs
from geossl_data.sampling.spares import spare_looks
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strategies import POWERS, STRATEGIES, Draw, Ground, Rules, Strategy, ground_shares

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl_data.sampling.measures import Measures
    from geossl_data.sampling.strata import Strata

DEFAULT_COUNT = 1000
"""Most places drawn when no count is asked for."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The samples and how they came about."""

    samples: list[Sample]
    skipped: list[Skipped]
    """Scenes and sites that gave no candidate, and sites too close to another."""
    n_candidates: int
    """Places of the size asked for that at least one pair covers fully; of sites, those that became places."""
    n_without_looks: int
    """Candidates that the look rule found too few dates for."""
    n_in_buffer: int
    """Candidates left out because a block of another split is near."""
    available: dict[str, int] = field(default_factory=dict)
    """Stratum → candidates that could be drawn."""
    target: dict[str, int] = field(default_factory=dict)
    """Stratum → places it was meant to get, before it was known what it can give; empty for a strategy without."""


def sample_key(place: Place, looks: Sequence[Look]) -> str:
    """Unique name of a sample: cell, time of the first look, and six hex digits of the exact position."""
    position = f"{place.epsg}/{place.x:.3f}/{place.y:.3f}/{place.size_px}"
    digest = hashlib.sha256(position.encode()).hexdigest()[:6]
    return f"{place.cell}_{looks[0].acquired:%Y%m%dT%H%M%S}_{digest}"


def ground_of(
    pool: Pool,
    *,
    rules: Rules | None = None,
    min_distance_km: float = 0.0,
    weight: FloatArray | None = None,
    measures: "Measures | None" = None,
    share: FloatArray | None = None,
) -> Ground:
    """What a strategy sees of a pool: positions, strata, and what was measured.

    weight, measures: of each candidate of the pool, in its order. share: `ground_shares` of the same pool, to spare
    working them out again. Strata count with the ground that the pool knows of.
    """
    places = [candidate.place for candidate in pool.candidates]
    ground = Ground(
        lon=pool.lon,
        lat=pool.lat,
        epsg=np.array([place.epsg for place in places], dtype=np.int64),
        x=np.array([place.x for place in places], dtype=np.float64),
        y=np.array([place.y for place in places], dtype=np.float64),
        side_m=pool.size_px * 10.0,
        stratum=pool.stratum,
        min_distance_km=min_distance_km,
        weight=weight,
        change=None if measures is None else measures.change,
        features=None if measures is None else measures.features,
        rules=replace(rules or Rules(), ground_km2=pool.ground_km2),
        share=share,
    )
    if share is None and pool.pitch_m is not None:
        # A place counts with the ground between it and the next ones, which another tile may show as well.
        return replace(ground, share=ground_shares(replace(ground, side_m=pool.pitch_m)))
    return ground


@gc_paused()
def draw(
    pool: Pool,
    ground: Ground,
    *,
    strategy: str | Strategy = "geography",
    count: int | None = None,
    at_most: bool = False,
    seed: int = 0,
    measures: "Measures | None" = None,
) -> Drawn:
    """Draw `count` places of a pool.

    ground: of `ground_of`. strategy: a name in STRATEGIES or a callable of the same signature. count: None takes all
    there are, up to DEFAULT_COUNT (of places drawn beforehand, all). at_most: fewer will do.
    measures: of each candidate, noted in the samples.
    The inclusion probability of a place drawn beforehand is multiplied by that of this draw. The result depends on the
    arguments alone. Raises SamplingError when fewer than `count` can be drawn.
    """
    must = None if at_most else count
    if must is not None and must > len(pool):
        raise SamplingError(
            f"asked for {must} places of {pool.size_px} px, but only {len(pool)} candidates can be drawn "
            f"({pool_counts(pool)}); lower --count or --size, or fetch more scenes"
        )
    chosen = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    wanted = min(count or (len(pool) if pool.is_of_sites else DEFAULT_COUNT), len(pool))
    taken = chosen(ground, wanted, rng=np.random.default_rng((seed, 0x5A)))
    least_km = max(ground.min_distance_km, pool.size_px / 100)
    if must is not None and len(taken.indices) < must:
        raise SamplingError(
            f"asked for {must} places, but only {len(taken.indices)} of {len(pool)} candidates fit side by side at "
            f"least {least_km:g} km apart or have a chance in this strategy; lower --count or --min-distance-km"
        )
    if not len(taken.indices):
        raise SamplingError(f"strategy {strategy} takes none of {len(pool)} candidates")
    skipped = list(pool.skipped)
    if pool.is_of_sites and count is None:
        skipped += _too_close(pool, taken, least_km)
    name = strategy if isinstance(strategy, str) else getattr(strategy, "__name__", "own")
    return Drawn(
        samples=_samples(pool, ground, taken, name, measures),
        skipped=skipped,
        n_candidates=pool.n_candidates,
        n_without_looks=pool.n_rejected("no-dates"),
        n_in_buffer=pool.n_rejected("buffer"),
        available=pool.available,
        target=dict(taken.target),
    )


def draw_samples(
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    *,
    strategy: str | Strategy = "geography",
    count: int | None = None,
    looks: str = "single",
    tie: Tie = "clearest",
    size: int = 264,
    strata: "Strata | None" = None,
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

    `make_pool` and `draw` in one, for strategies that need nothing measured; see there for the arguments.
    looks, tie: the look rule and which of several pairs it takes, see `looks`.
    Raises SamplingError when no place fits or fewer than `count` can be drawn.
    """
    cloud = {scene.id: scene.cloud_percent for scene in scenes if scene.sensor == "s2"}
    pool = make_pool(
        scenes,
        pairs,
        choose=partial(choose_looks, looks, cloud=cloud, tie=tie),
        spare=partial(spare_looks, looks, cloud=cloud, tie=tie),
        rule=SplitRule(block_km=block_km, val=val, test=test, seed=seed),
        size=size,
        strata=strata,
        buffer_km=buffer_km,
        area=area,
        sites=sites,
    )
    ground = ground_of(pool, rules=Rules(power=POWERS[allocation]), min_distance_km=min_distance_km)
    return draw(pool, ground, strategy=strategy, count=count, seed=seed)


def _too_close(pool: Pool, taken: Draw, least_km: float) -> list[Skipped]:
    """The sites that were not drawn although all were wanted: too close to one that was."""
    missing = sorted(set(range(len(pool))) - set(taken.indices.tolist()))
    left_out = [site for number in missing if (site := pool.candidates[number].site) is not None]
    detail = f"another place lies on it or nearer than {least_km:g} km"
    return [Skipped(stage="sample", id=site.key, reason="too-close", detail=detail) for site in left_out]


def _samples(pool: Pool, ground: Ground, taken: Draw, strategy: str, measures: "Measures | None") -> list[Sample]:
    """The places taken as samples, sorted by key.

    Ground that several tiles show has several candidates, each with its part of the chance: a place stands for its
    share of the ground over its chance.
    """
    sites = [pool.candidates[int(index)].site for index in taken.indices]
    chances = taken.inclusion_probability * np.array([site.inclusion_probability if site else 1.0 for site in sites])
    shares = ground_shares(ground) if ground.share is None else ground.share
    inverse = shares[taken.indices] / chances
    weights = inverse / inverse.mean()
    drawn_by = np.full(len(taken.indices), strategy) if taken.drawn_by is None else taken.drawn_by
    spares = _spares(pool, taken.indices.tolist())
    samples = []
    for row, index in enumerate(taken.indices.tolist()):
        place, looks, site = pool.candidates[index].place, pool.looks[index], sites[row]
        block = site.block if site else pool.rule.block(place.lon, place.lat)
        sample = Sample(
            key=sample_key(place, looks),
            place=place,
            looks=looks,
            spares=spares[row],
            stratum=str(pool.stratum[index]),
            weight=float(weights[row]),
            inclusion_probability=float(chances[row]),
            split=site.split if site else pool.rule.split(block),
            block=block,
            drawn_by=site.drawn_by if site and site.drawn_by else str(drawn_by[row]),
        )
        samples.append(sample if measures is None else with_measures(sample, measures, index))
    return sorted(samples, key=lambda sample: sample.key)


def _spares(pool: Pool, indices: Sequence[int]) -> list[tuple[tuple[Look, ...], ...]]:
    """The spares of the looks of some candidates; worked out once for all that the same pairs cover."""
    if pool.spare is None:
        return [()] * len(indices)
    known: dict[bytes, tuple[tuple[Look, ...], ...]] = {}
    found = []
    for index in indices:
        pairs = pool.candidates[index].pairs
        key = same_pairs(pairs)
        if key not in known:
            known[key] = pool.spare(pairs)
        found.append(known[key])
    return found


def with_measures(sample: Sample, measures: "Measures", row: int) -> Sample:
    """The sample with what was measured of one candidate."""

    def known(values: FloatArray) -> float | None:
        return float(values[row]) if np.isfinite(values[row]) else None

    return replace(
        sample,
        change_score=known(measures.change),
        change_score_s2=known(measures.change_s2),
        change_score_s1=known(measures.change_s1),
        spectral_entropy=known(measures.entropy),
    )
