"""Places where something happened, found by how far apart the features of two looks of theirs are.

Nothing is learnt: the judged places are ranked by a score. `distance` is the cosine distance between an earlier and a
later look; `ratio` is CACo's estimate of change (Mall et al. 2023, equation 3), which divides that by how far apart
looks of one year are, so that ground which looks different in every season is not taken for ground that changed.
There is no supervised counterpart: a decoder trained with change maps is judged by the task `change`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from geossl_data.errors import NothingToJudge
from geossl_data.evaluation.bench import Bench, Found, Kind, Shown
from geossl_data.evaluation.classifiers import unit
from geossl_data.evaluation.labels import change_maps_of, target_of
from geossl_data.evaluation.metrics import FirstPrecision, Metric, RankedPrecision, groups_of
from geossl_data.evaluation.rows import YEAR_DAYS, Rows, looks_of, sides_of
from geossl_data.evaluation.tasks.answers import BoolArray, FloatArray, IntArray, side_by_side
from geossl_data.evaluation.tasks.dates import pairs

_LOG = logging.getLogger(__name__)

FIRST = 10
"""Of a ranking, those that precision is told of."""
EPSILON = 1e-4
"""CACo's, added to the distance within a year."""
UNKNOWN = 255
CHANGED = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """The judged places, and at which of them something happened."""

    rows: Rows
    """Earlier and later look of each place."""
    relevant: BoolArray
    """Where enough of the ground changed, (n,)."""


def judged_events(bench: Bench) -> Events:
    """Judged places whose change is known; relevant are those where `options.event_share` of the known pixels changed.

    Raises NothingToJudge where nothing or everything is relevant, and as `rows.sides_of`.
    """
    rows = pairs(bench)
    rows = rows.taken(sides_of(bench.shards, rows).test)
    maps = change_maps_of(bench.shards, rows, target_of(bench.shards, bench.options.target)).values
    known = np.count_nonzero(maps != UNKNOWN, axis=(1, 2))
    changed = np.count_nonzero(maps == CHANGED, axis=(1, 2))
    rows, changed, known = rows.taken(known > 0), changed[known > 0], known[known > 0]
    relevant = changed >= np.maximum(bench.options.event_share * known, 1)
    if relevant.all() or not relevant.any():
        which = "none" if not relevant.any() else "each"
        raise NothingToJudge(
            f"{which} of {len(rows)} judged places changed on {100 * bench.options.event_share:g} % of its ground or "
            "more; sample more places, or take another share"
        )
    return Events(rows=rows, relevant=relevant)


def events(bench: Bench) -> Iterator[Found]:
    """AP, AP@10 and R-precision of the ranking by `distance`, and by `ratio` where a third look allows that.

    AP@10 is the share of relevant places among the first ten, R-precision that among as many as are relevant. The
    ratio judges the places alone that have another look within a year of the earlier or the later one; how many have
    not is logged.
    """
    found = judged_events(bench)
    third = third_looks(bench, found.rows)
    measured: BoolArray = np.any(third >= 0, axis=1)
    if not measured.all():
        lacking = len(measured) - int(measured.sum())
        _LOG.info("%d of %d judged places have no third look within a year, thus no ratio", lacking, len(measured))
    apart = found.relevant[measured].any() and not found.relevant[measured].all()
    kinds: tuple[Kind, ...] = ("trained", "random")
    for shown in bench.shown:
        for kind in kinds:
            for seed in bench.seeds()[:1] if kind == "trained" else bench.seeds():
                before, after = _ends(bench, kind, shown, seed, found.rows)
                score = 0.5 * np.sum((after - before) ** 2, axis=1)
                yield from _judged(found.rows, found.relevant, score, "distance", (shown, kind, seed))
                if apart:
                    rows = found.rows.taken(measured)
                    short = _short(bench, kind, shown, seed, rows, third[measured])
                    ratio = change_ratio(np.sqrt(2 * score[measured]), short)
                    yield from _judged(rows, found.relevant[measured], ratio, "ratio", (shown, kind, seed))


def change_ratio(long: FloatArray, short: FloatArray) -> FloatArray:
    """How much farther apart looks are over years than within one: long / (short + 1e-4)."""
    return long / (short + EPSILON)


def third_looks(bench: Bench, rows: Rows) -> IntArray:
    """For the earlier and the later look of each row another one of that time of years, (n, 2); -1 where none is."""
    every = looks_of(bench.shards, bench.members(bench.shown[-1]))
    days = bench.shards.facts.days
    eligible = np.zeros(days.shape, dtype=np.bool_)
    eligible[every.index, every.look[:, 0]] = True
    return within_a_year(days[rows.index], eligible[rows.index], rows.look)


def within_a_year(days: FloatArray, eligible: BoolArray, ends: IntArray) -> IntArray:
    """For both looks of a pair, the look within a year of it that is nearest to half a year away, (n, 2); -1: none.

    days: when each look was taken, (n, looks), NaN where not known; eligible: which looks may be chosen, (n, looks);
    ends: the pair, (n, 2), which is not chosen itself. The other half of the year is where ground that did not change
    looks most different. Of equally good ones the first.
    """
    row = np.arange(len(days))
    chosen = np.full(ends.shape, -1, dtype=np.int64)
    free = eligible.copy()
    free[row[:, None], ends] = False
    for end in range(ends.shape[1]):
        apart = np.abs(days - days[row, ends[:, end]][:, None])
        off = np.where(free & (apart <= YEAR_DAYS), np.abs(apart - YEAR_DAYS / 2), np.inf)
        found = np.isfinite(off).any(axis=1)
        chosen[found, end] = off[found].argmin(axis=1)
    return chosen


def _ends(bench: Bench, kind: Kind, shown: Shown, seed: int, rows: Rows) -> tuple[FloatArray, FloatArray]:
    """Unit features of the earlier and of the later looks, (n, D) each."""
    x = bench.features(kind, shown, seed, rows)
    parts = bench.sight(kind, shown, seed).embedding_dims
    return unit(side_by_side(x[:, 0], parts)), unit(side_by_side(x[:, 1], parts))


def _short(bench: Bench, kind: Kind, shown: Shown, seed: int, rows: Rows, third: IntArray) -> FloatArray:
    """Mean distance of the ends of each row from their third looks, (n,); each row has one at least."""
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    for end in range(2):
        there = np.flatnonzero(third[:, end] >= 0)
        some = rows.taken(there)
        beside = Rows(
            index=some.index,
            look=np.stack([some.look[:, end], third[there, end]], axis=1),
            place=some.place,
            split=some.split,
        )
        one, other = _ends(bench, kind, shown, seed, beside)
        total[there] += np.linalg.norm(other - one, axis=1)
        count[there] += 1
    return total / count


def _judged(
    rows: Rows, relevant: BoolArray, score: FloatArray, probe: str, what: tuple[Shown, Kind, int]
) -> Iterator[Found]:
    shown, kind, seed = what
    group, groups = groups_of(rows.place)
    metrics: tuple[Metric, ...] = (
        RankedPrecision(name="AP", scores=score, truth=relevant, group=group),
        FirstPrecision(name=f"AP@{FIRST}", scores=score, truth=relevant, group=group, first=FIRST),
        FirstPrecision(name="R-precision", scores=score, truth=relevant, group=group),
    )
    for metric in metrics:
        yield Found(
            features="+".join(shown),
            encoder=kind,
            probe=probe,
            metric=metric,
            fraction=1.0,
            seed=seed,
            n_train=0,
            n_test=groups,
        )
