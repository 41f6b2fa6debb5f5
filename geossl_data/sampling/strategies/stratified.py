"""Strategies that share the count among strata: geography, balanced."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from geossl_data.errors import SamplingError
from geossl_data.sampling.strategies.allocation import largest_remainder, seats_within
from geossl_data.sampling.strategies.ground import Draw, FloatArray, Ground, IntArray, Rules, Taken
from geossl_data.sampling.strategies.orders import base_weights, ranks, scale, uniform_numbers
from geossl_data.sampling.strategies.shares import ground_shares
from geossl_data.sampling.strategies.spacing import Spacing

NO_STRATUM = "(none)"
"""The stratum of candidates about which the layer says nothing."""


def geography(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """The count shared among the strata by `Rules.power` or `Rules.quota`, and drawn as `uniform` inside each.

    A stratum's size is its true ground (`Rules.ground_km2`), or else what its candidates cover. `Draw.target` has the
    seats by that rule, so that a stratum whose candidates are scarce, under clouds perhaps, shows as drawn below its
    target. What a stratum cannot fill, for want of candidates or of room, it passes on to the others by the same rule;
    with a quota, to those it names. Strata take turns, one place at a time, so that those which share a border share
    the room there as well. The chance of a candidate is that of `uniform` among its stratum.
    Raises SamplingError for a quota that is not one or names strata that do not exist.
    """
    return take_geography(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def balanced(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
    """As `geography`, with as many places for each stratum, whatever power or quota the rules give."""
    return take_balanced(candidates, n, rng=rng, spacing=Spacing(candidates)).draw()


def take_balanced(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`balanced` beside what was taken before."""
    equal = replace(ground, rules=replace(ground.rules, power=0.0, quota=None))
    return take_geography(equal, n, rng=rng, spacing=spacing)


def take_geography(ground: Ground, n: int, *, rng: np.random.Generator, spacing: Spacing) -> Taken:
    """`geography` beside what was taken before."""
    numbers = uniform_numbers(ground, rng)
    if not len(ground):
        return Taken(indices=np.zeros(0, dtype=np.int64), chance=lambda rows: np.zeros(len(rows)))
    names, member = _classes(ground)
    ground = replace(ground, share=ground_shares(ground))
    weights = base_weights(ground)
    left = weights.copy()
    left[spacing.taken] = 0.0
    shares = _stratum_shares(ground, names, member)
    supply = np.bincount(member[left > 0], minlength=len(names))
    seats = seats_within(shares, supply, n)
    rows_of = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member, minlength=len(names)))[:-1])
    values = np.empty(len(ground))
    for rows, seat in zip(rows_of, seats.tolist(), strict=True):
        values[rows] = ranks(left[rows], seat, numbers[rows])
    queue = np.lexsort((values, member))
    queue = queue[left[queue] > 0]
    indices = _in_turns(queue, member, supply, shares, seats, n, spacing)
    got = np.bincount(member[indices], minlength=len(names))
    c = np.array([scale(left[rows], count) for rows, count in zip(rows_of, got.tolist(), strict=True)])
    target = largest_remainder(shares, n).tolist()
    return Taken(
        indices=indices,
        chance=lambda rows: np.minimum(1.0, c[member[rows]] * weights[rows]),
        target=dict(zip(names, target, strict=True)),
    )


def _classes(ground: Ground) -> tuple[list[str], IntArray]:
    """The names of all strata, sorted, and the number of each candidate's, shape (n,)."""
    of_candidates = [name or NO_STRATUM for name in np.asarray(ground.stratum, dtype=np.str_).tolist()]
    names = sorted({*of_candidates, *_named(ground.rules.ground_km2 or {})})
    number = {name: position for position, name in enumerate(names)}
    return names, np.fromiter(map(number.__getitem__, of_candidates), dtype=np.int64, count=len(of_candidates))


def _named(values: Mapping[str, float]) -> dict[str, float]:
    return {name or NO_STRATUM: value for name, value in values.items()}


def _stratum_shares(ground: Ground, names: list[str], member: IntArray) -> FloatArray:
    """What the seats of the strata are in proportion to, shape (len(names),)."""
    rules = ground.rules
    if rules.quota is not None:
        return _quota_shares(rules, names)
    seen_km2 = np.bincount(member, weights=ground_shares(ground), minlength=len(names)) * (ground.side_m / 1000) ** 2
    given_km2 = _named(rules.ground_km2 or {})
    known_km2 = np.array([given_km2.get(name, 0.0) for name in names])
    sizes = np.where(known_km2 > 0, known_km2, seen_km2)
    return np.where(sizes > 0, np.power(sizes, rules.power), 0.0)


def _quota_shares(rules: Rules, names: list[str]) -> FloatArray:
    quota = _named(rules.quota or {})
    unknown = sorted(set(quota) - set(names))
    if unknown:
        raise SamplingError(f"the quota names {_listed(unknown)}, not among the strata here: {_listed(names)}")
    wrong = next((name for name, value in quota.items() if not 0 <= value < np.inf), None)
    if wrong is not None:
        raise SamplingError(f"the quota of {wrong} is {quota[wrong]:g}; give a finite count or share of 0 or more")
    if not any(quota.values()):
        raise SamplingError("the quota gives no stratum a place; give at least one a count or share above 0")
    return np.array([quota.get(name, 0.0) for name in names], dtype=np.float64)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _in_turns(
    queue: IntArray, member: IntArray, supply: IntArray, shares: FloatArray, seats: IntArray, n: int, spacing: Spacing
) -> IntArray:
    """Up to `n` candidates that have room, taken by the strata in turns.

    queue: candidates stratum by stratum, in the order of each; supply: how many there are of each; seats: of each, to
    begin with. Rounds: every stratum offers the next of its queue that have room, as many as it misses, and of the
    offers those are taken that do not exclude each other. Candidates passed over have no room for good.
    """
    ends = np.cumsum(supply)
    position = ends - supply
    got = np.zeros(len(supply), dtype=np.int64)
    taken: list[int] = []
    look = seats.copy()
    while len(taken) < n:
        missing = seats - got
        window = np.where(missing > 0, np.minimum(look, ends - position), 0)
        if not window.any():
            more = seats_within(shares, ends - position, n - len(taken))
            if not more.any():
                break
            seats, look = got + more, more
            continue
        number = np.repeat(np.arange(len(window)), window)
        first = np.cumsum(window) - window
        rows = np.arange(len(number)) - first[number] + position[number]
        room = spacing.has_room(queue[rows])
        behind: IntArray = np.cumsum(room) - room
        turn: IntArray = behind - behind[np.minimum(first, len(behind) - 1)][number]
        seen = turn < missing[number]
        position = position + np.bincount(number[seen], minlength=len(window))
        offer = room & seen
        in_order = np.lexsort((number[offer], turn[offer]))
        accepted = [index for index in queue[rows[offer]][in_order].tolist() if spacing.take(index)]
        taken += accepted
        found = np.bincount(member[accepted], minlength=len(window))
        got = got + found
        look = np.where(2 * found >= missing, np.maximum(seats - got, 1), 2 * look)
    return np.array(taken, dtype=np.int64)
