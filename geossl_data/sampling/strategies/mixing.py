"""The strategy that gives each of several others its share of the places: mixture."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies.allocation import largest_remainder
from geossl_data.sampling.strategies.centres import take_diverse
from geossl_data.sampling.strategies.ground import Draw, Ground, Taken
from geossl_data.sampling.strategies.lattice import take_grid
from geossl_data.sampling.strategies.spacing import Spacing
from geossl_data.sampling.strategies.stratified import take_balanced, take_geography
from geossl_data.sampling.strategies.weighted import take_change, take_cities, take_uniform


class Take(Protocol):
    """A strategy that respects what others have taken: `spacing` knows it, and learns what this one takes."""

    def __call__(self, ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken: ...


PARTS: Mapping[str, Take] = {
    "uniform": take_uniform,
    "grid": take_grid,
    "geography": take_geography,
    "cities": take_cities,
    "balanced": take_balanced,
    "diverse": take_diverse,
    "change": take_change,
}
"""What can be mixed, by name."""


def mixture(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """Shares of other strategies (`Rules.shares`), one after the other over the same candidates.

    Seats by largest remainder. A candidate is taken once, and keeps its distance from those that others took. A part
    that finds fewer than its seats does not pass them on. `Draw.drawn_by` says who took what.
    The inclusion probability is 1 - Π(1 - πₖ), where πₖ is the chance in part k among what was left to it. That takes
    the parts as independent, which they are but for the room they leave each other. There is no target: strata are
    shared with parts that know nothing of them.
    Raises SamplingError for shares that are not above 0 and names that cannot be mixed.
    """
    names, shares = list(candidates.rules.shares), np.array(list(candidates.rules.shares.values()), dtype=np.float64)
    if not names:
        raise SamplingError("strategy mixture needs shares, such as geography=0.6,change=0.4")
    unknown = next((name for name in names if name not in PARTS), None)
    if unknown is not None:
        raise SamplingError(f"strategy mixture cannot mix {unknown!r}; it mixes {', '.join(sorted(PARTS))}")
    wrong = next((name for name, share in zip(names, shares, strict=True) if not 0 < share < np.inf), None)
    if wrong is not None:
        raise SamplingError(f"the share of {wrong} is {candidates.rules.shares[wrong]:g}; give one above 0")
    spacing = Spacing(candidates)
    parts = [
        (name, PARTS[name](candidates, seats, rng=rng, spacing=spacing))
        for name, seats in zip(names, largest_remainder(shares, n).tolist(), strict=True)
        if seats
    ]
    indices = np.concatenate([np.zeros(0, dtype=np.int64), *(part.indices for _, part in parts)])
    drawn_by = np.repeat(np.array([name for name, _ in parts], dtype=np.str_), [len(part.indices) for _, part in parts])
    order = np.argsort(indices)
    indices = indices[order]
    missed = np.ones(len(indices))
    for _, part in parts:
        missed *= 1.0 - part.chance(indices)
    return Draw(indices=indices, inclusion_probability=1.0 - missed, drawn_by=drawn_by[order])
