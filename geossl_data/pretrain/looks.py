"""Which looks of a place an item of training holds, drawn afresh each epoch, and in which order places come.

A period holds looks of a place that lie within a year; looks of two periods lie years apart. All arithmetic is on whole
tables of samples, and depends on the seed and the epoch alone.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

PERIOD_DAYS = 366.0
"""What the looks of one period span at most."""

Kind = Literal["each", "season", "long", "halves", "series"]

_LOOKS, _PLACES = 11, 12
"""Keys of the generators that draw looks and orders, beside those of other parts."""


@dataclass(frozen=True, slots=True)
class LookPlan:
    """Which looks of a place an objective wants together."""

    kind: Kind = "each"
    """each: every look is an item of its own; season: different looks of one period; long: two looks, of two periods;
    halves: `count` looks of an earlier and `count` of a later period, in that order; series: looks in order of time.
    """
    count: int = 1
    """Looks; of each half where `kind` is halves. 1 of each, 2 of long."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise TrainingError(f"looks {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
        if self.count < 1 or (self.kind == "each" and self.count != 1) or (self.kind == "long" and self.count > 2):
            raise TrainingError(f"{self.count} looks do not go with {self.kind}; expected {_COUNTS[self.kind]}")

    @property
    def n_looks(self) -> int:
        """How many looks an item holds."""
        return {"each": 1, "long": 2, "halves": 2 * self.count}.get(self.kind, self.count)


_COUNTS = {"each": "1", "long": "2", "season": "1 or more", "halves": "1 or more", "series": "1 or more"}


def pair_plan(kinds: tuple[str, ...]) -> LookPlan:
    """The looks that views of these kinds need: two of different years for long, two of a year for season, else one."""
    if "long" in kinds:
        return LookPlan("long", 2)
    return LookPlan("season", 2) if "season" in kinds else LookPlan()


class DrawnLooks:
    """Items of training: samples with looks of theirs, which are drawn for each epoch."""

    rows: IntArray
    """Sample of each item, ascending; each sample once, but for `each`, where it comes once for each of its looks."""

    def __init__(self, days: FloatArray, eligible: BoolArray, plan: LookPlan) -> None:
        """days: of each look, NaN where not known; eligible: which looks there are to draw from; both (n, most looks).

        TrainingError where no sample has the looks of the plan, saying what the samples have.
        """
        self.plan = plan
        if plan.kind == "each":
            rows, looks = np.nonzero(eligible)
            self._looks = looks.astype(np.int64)
            self.rows = rows.astype(np.int64)
        else:
            period = periods(days, eligible)
            counted = _per_period(period)
            if plan.kind in ("long", "halves"):
                # Looks of unknown time are of no period that lies before or after another.
                timed = _per_period(np.where(np.isfinite(days), period, -1))
                serve = (timed >= (plan.count if plan.kind == "halves" else 1)).sum(axis=1) >= 2
                counted = timed
            elif plan.kind == "season":
                serve = (counted >= plan.count).any(axis=1)
            else:
                serve = eligible.sum(axis=1) >= plan.count
            self.rows = np.flatnonzero(serve).astype(np.int64)
            # Place of each look in the order of time of its sample; looks of unknown time come last.
            self._place = days[serve].argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            self._eligible = eligible[serve]
            self._period = period[serve]
            self._counted = counted[serve]
        if not len(self.rows):
            raise TrainingError(_what_lacks(days, eligible, plan))

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.rows)

    def draw(self, seed: int, epoch: int) -> IntArray:
        """Looks of each item, shape (len(rows), plan.n_looks): the same for the same seed and epoch."""
        if self.plan.kind == "each":
            return self._looks[:, None].copy()
        chance = np.random.default_rng((seed, _LOOKS, epoch))
        count = self.plan.count
        # Of random numbers one for each look, the least win.
        number = chance.random(self._eligible.shape)
        if self.plan.kind == "series":
            chosen = _least(np.where(self._eligible, number, np.inf), count)
            place = np.take_along_axis(self._place, chosen, axis=1)
            return np.take_along_axis(chosen, place.argsort(axis=1), axis=1)
        if self.plan.kind == "season":
            fitting = np.where(self._counted >= count, chance.random(self._counted.shape), np.inf)
            return self._of_period(fitting.argmin(axis=1), number, count)
        if self.plan.kind == "long":
            fitting = np.where(self._counted >= 1, chance.random(self._counted.shape), np.inf)
            return np.concatenate([self._of_period(which, number, 1) for which in _least(fitting, 2).T], axis=1)
        # The two that lie furthest apart, in every epoch: what is remembered of a half stays true.
        enough = self._counted >= count
        earlier, later = enough.argmax(axis=1), enough.shape[1] - 1 - enough[:, ::-1].argmax(axis=1)
        return np.concatenate([self._of_period(which, number, count) for which in (earlier, later)], axis=1)

    def _of_period(self, which: IntArray, number: FloatArray, count: int) -> IntArray:
        """Of each sample `count` looks of the period `which`, those of the least numbers, in their order."""
        return _least(np.where(self._period == which[:, None], number, np.inf), count)


def periods(days: FloatArray, eligible: BoolArray) -> IntArray:
    """The period of each look, 0 … in order of time, -1 where it is not eligible; shape (n, most looks).

    In order of time a period takes looks while it spans at most `PERIOD_DAYS`. Looks of unknown time, NaN, make the
    last period of their sample.
    """
    known = np.where(eligible & np.isfinite(days), days, np.inf)
    order = known.argsort(axis=1, kind="stable")
    found = np.full(days.shape, -1, dtype=np.int64)
    number = np.full(len(days), -1, dtype=np.int64)
    begin = np.full(len(days), -np.inf)
    sample = np.arange(len(days))
    for column in order.T:
        day = known[sample, column]
        there = np.isfinite(day)
        new = there & (day - begin > PERIOD_DAYS)
        number += new
        begin = np.where(new, day, begin)
        found[sample, column] = np.where(there, number, -1)
    untimed, _ = np.nonzero(eligible & ~np.isfinite(days))
    found[eligible & ~np.isfinite(days)] = number[untimed] + 1
    return found


def _per_period(period: IntArray) -> IntArray:
    """Looks in each period of each sample, shape (n, most periods)."""
    most = int(period.max(initial=0)) + 1
    return np.stack([(period == number).sum(axis=1) for number in range(most)], axis=1)


def _least(numbers: FloatArray, count: int) -> IntArray:
    """Columns of the `count` least numbers of each row, the least first."""
    least: IntArray = numbers.argmin(axis=1, keepdims=True) if count == 1 else numbers.argsort(axis=1)[:, :count]
    return least


def _what_lacks(days: FloatArray, eligible: BoolArray, plan: LookPlan) -> str:
    """One line on why no sample can serve."""
    if not eligible.any():
        return "no sample has a look of all the sensors asked for; choose others, or cut shards with them"
    wanted = f"{plan.count} look{'s' if plan.count > 1 else ''}"
    if plan.kind == "series":
        most = int(eligible.sum(axis=1).max())
        return f"places with {wanted} are needed, these have at most {most}; ask for fewer, or sample more of a place"
    period = periods(days, eligible)
    if plan.kind == "season":
        most = int(_per_period(period).max())
        return f"places with {wanted} within a year are needed, these have at most {most}; sample with --looks seasons"
    if not (eligible & np.isfinite(days)).any():
        return "looks of different years are needed, and these shards do not say when theirs are from"
    wanted = "a look" if plan.kind == "long" else wanted
    return f"places with {wanted} in each of two years are needed, and there are none; sample with --looks long"


def spread_order(lonlat: FloatArray, step_items: int, *, seed: int, epoch: int) -> IntArray:
    """A random order of n places, every `step_items` in a row of which are far apart from each other.

    lonlat: degrees, shape (n, 2); places not known, NaN, come anywhere. Returns a permutation of 0 … n-1, the same for
    the same seed and epoch. The sphere, turned at random, is cut into `step_items` cells with the same number of places
    each: bands of latitude, and sectors of these that follow one another to and fro. Each run takes one place of each
    cell, at the same rank along that path, so that neighbours on it are never together. What n / step_items leaves
    over, evenly spaced as well, comes last.
    """
    if step_items < 1:
        raise TrainingError(f"steps of {step_items} items; expected at least 1")
    n = len(lonlat)
    chance = np.random.default_rng((seed, _PLACES, epoch))
    path = _path(lonlat, step_items, chance)
    n_steps, n_rest = divmod(n, step_items)
    # One of each of `n_rest` equal parts of the path.
    bounds = np.arange(n_rest + 1) * n // max(1, n_rest)
    in_last = np.zeros(n, dtype=np.bool_)
    in_last[chance.integers(bounds[:-1], bounds[1:])] = True
    steps = path[~in_last].reshape(step_items, n_steps).T
    steps = chance.permuted(chance.permutation(steps), axis=1)
    return np.concatenate([steps.ravel(), chance.permutation(path[in_last])])


def _path(lonlat: FloatArray, n_cells: int, chance: np.random.Generator) -> IntArray:
    """All places along a path over the sphere, band after band; equal places in random order."""
    lon, lat = np.deg2rad(lonlat.T)
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    anywhere = chance.normal(size=points.shape)
    anywhere /= np.linalg.norm(anywhere, axis=1, keepdims=True)
    points = np.where(np.isfinite(points).all(axis=1, keepdims=True), points, anywhere)
    axes, _ = np.linalg.qr(chance.normal(size=(3, 3)))
    shuffled = chance.permutation(len(points))
    x, y, z = points[shuffled] @ axes[:, 0], points[shuffled] @ axes[:, 1], points[shuffled] @ axes[:, 2]
    n_bands = max(1, round(n_cells**0.5))
    band = np.empty(len(points), dtype=np.int64)
    band[z.argsort(kind="stable")] = np.arange(len(points)) * n_bands // max(1, len(points))
    along = np.arctan2(y, x) * np.where(band % 2 == 0, 1, -1)
    return shuffled[np.lexsort((along, band))].astype(np.int64)
