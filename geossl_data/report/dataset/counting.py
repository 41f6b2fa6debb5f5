"""Values counted for charts: between round edges, by category, and spread over groups."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from geossl_data.report.parts import Bars, Histogram

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BINS = 24
"""About as many bins a histogram has."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LEAST, _LEAST_SHARE = 1e-300, 1e-12
"""Differences, and shares of a number, that are rounding."""


def round_edges(low: float, high: float, bins: int = BINS) -> FloatArray:
    """Edges at multiples of 1, 2, 2.5 or 5 times a power of ten that hold [low, high] in about `bins` bins.

    Both ends are finite; where they are the same, as far as numbers tell, one bin around them.
    """
    if not high - low > max(_LEAST_SHARE * max(abs(low), abs(high)), _LEAST):
        half = max(abs(low), 1.0) / 20
        return np.array([low - half, low + half])
    step = 10.0 ** math.floor(math.log10((high - low) / bins))
    step *= next(one for one in _STEPS if one * step * bins >= high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.asarray(np.arange(first, max(last, first + 1) + 1) * step, dtype=np.float64)


def histogram(
    title: str, unit: str, series: Mapping[str, FloatArray], *, edges: FloatArray | None = None, log: bool = False
) -> tuple[Histogram, ...]:
    """The histogram of the values that are known, in a tuple of one; () where none is.

    edges: None takes round ones around all values; values beyond given ones count in the first or last bin.
    """
    known = {name: values[np.isfinite(values)] for name, values in series.items()}
    known = {name: values for name, values in known.items() if len(values)}
    if not known:
        return ()
    if edges is None:
        low, high = min(float(one.min()) for one in known.values()), max(float(one.max()) for one in known.values())
        edges = round_edges(low, high)
    counts = {
        name: [int(n) for n in np.histogram(np.clip(one, edges[0], edges[-1]), edges)[0]] for name, one in known.items()
    }
    return (Histogram(title=title, unit=unit, edges=edges.tolist(), counts=counts, log=log),)


def bars(title: str, unit: str, counts: Mapping[str, Mapping[str, float]]) -> tuple[Bars, ...]:
    """The bars of each category's series, in a tuple of one; () where all is nothing."""
    if not any(number for series in counts.values() for number in series.values()):
        return ()
    return (Bars(title=title, unit=unit, values=counts),)


def spread_choice(groups: Sequence[Sequence[str]], count: int, rng: np.random.Generator) -> IntArray:
    """Numbers of `count` things, or all of them, spread over their groups: in the order in which to take them.

    groups: for each way to group, the group of each thing, as in [splits, strata]. Each thing taken is of a group that
    has fewest so far, the first way before the second; among alike ones the generator decides.
    """
    n = len(groups[0]) if groups else 0
    order = rng.permutation(n)
    codes = [np.unique(np.asarray(one, dtype=np.str_), return_inverse=True)[1] for one in groups]
    pools: dict[tuple[int, ...], list[int]] = {}
    for number in order.tolist():
        pools.setdefault(tuple(int(code[number]) for code in codes), []).append(number)
    turn = {pool: rank for rank, pool in enumerate(pools)}
    taken = [dict.fromkeys(range(int(code.max(initial=-1)) + 1), 0) for code in codes]
    chosen: list[int] = []
    while pools and len(chosen) < count:
        best = min(pools, key=lambda pool: (*(taken[way][code] for way, code in enumerate(pool)), turn[pool]))
        chosen.append(pools[best].pop())
        for way, code in enumerate(best):
            taken[way][code] += 1
        if not pools[best]:
            del pools[best]
    return np.array(chosen, dtype=np.int64)
