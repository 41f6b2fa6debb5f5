"""Which looks are drawn together, against brute force, and that places of a step lie apart."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.pretrain.looks import DrawnLooks, LookPlan, pair_plan, periods, spread_order

NAN = float("nan")


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Days and what is eligible of up to 12 samples with up to 7 looks over five years, some of unknown time."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 7)))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    days = chance.choice([0, 100, 200, 366, 367, 500, 800, 1200, 1566, 1900], shape) + chance.choice([0.0, 0.5], shape)
    days[chance.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = NAN
    return days, chance.random(shape) < draw(st.sampled_from([0.6, 1.0]))


def grouped(days: np.ndarray, eligible: np.ndarray) -> list[list[int]]:
    """The looks of one sample by periods, in plain Python; those of unknown time last."""
    timed = sorted((day, look) for look, day in enumerate(days) if eligible[look] and np.isfinite(day))
    groups: list[list[int]] = []
    for day, look in timed:
        if groups and day - days[groups[-1][0]] <= 366:
            groups[-1].append(look)
        else:
            groups.append([look])
    untimed = [look for look, day in enumerate(days) if eligible[look] and np.isnan(day)]
    return [*groups, untimed] if untimed else groups


def combinations(days: np.ndarray, eligible: np.ndarray, plan: LookPlan) -> set[tuple[int, ...]]:
    """Every draw there can be of one sample, in plain Python."""
    groups = grouped(days, eligible)
    if plan.kind == "season":
        return {chosen for group in groups for chosen in itertools.permutations(group, plan.count)}
    if plan.kind == "series":
        order = [look for group in groups for look in group]
        return set(itertools.combinations(order, plan.count))
    timed = [group for group in groups if np.isfinite(days[group[0]])]
    if plan.kind == "long":
        return {(a, b) for one, other in itertools.permutations(timed, 2) for a in one for b in other}
    enough = [group for group in timed if len(group) >= plan.count]
    if len(enough) < 2:
        return set()
    halves = [itertools.permutations(group, plan.count) for group in (enough[0], enough[-1])]
    return {(*earlier, *later) for earlier, later in itertools.product(*halves)}


PLANS = [
    LookPlan("season", 1),
    LookPlan("season", 2),
    LookPlan("season", 3),
    LookPlan("long", 2),
    LookPlan("halves", 1),
    LookPlan("halves", 2),
    LookPlan("series", 1),
    LookPlan("series", 3),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@settings(max_examples=25, deadline=None)
@given(table=tables(), seed=st.integers(0, 2**32))
def test_only_what_the_plan_allows_is_drawn_from_all_that_can_serve(
    plan: LookPlan, table: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    days, eligible = table
    allowed = [combinations(*sample, plan) for sample in zip(days, eligible, strict=True)]
    serve = [sample for sample, found in enumerate(allowed) if found]
    if not serve:
        with pytest.raises(TrainingError, match=r"needed|no sample has a look"):
            DrawnLooks(days, eligible, plan)
        return
    items = DrawnLooks(days, eligible, plan)
    assert items.rows.tolist() == serve
    for epoch in range(3):
        drawn = items.draw(seed, epoch)
        assert drawn.shape == (len(serve), plan.n_looks)
        assert drawn.dtype == np.int64
        assert all(tuple(looks) in allowed[sample] for sample, looks in zip(serve, drawn.tolist(), strict=True))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_in_time_everything_that_can_be_drawn_is_drawn_and_nothing_is_preferred(plan: LookPlan) -> None:
    days = np.array([[0, 10, 20, 800, 810, 820]], dtype=np.float64)[:, ::-1]
    eligible = np.ones(days.shape, dtype=np.bool_)
    allowed = combinations(days[0], eligible[0], plan)
    # The same sample many times: rows are drawn independently of each other.
    n = 60 * len(allowed)
    items = DrawnLooks(days.repeat(n, axis=0), eligible.repeat(n, axis=0), plan)
    found, times = np.unique(items.draw(0, 0), axis=0, return_counts=True)
    assert {tuple(looks) for looks in found.tolist()} == allowed
    assert times.max() < 2 * 60
    assert times.min() > 60 / 2


def test_draws_are_those_of_their_seed_and_epoch() -> None:
    days = np.arange(8.0).reshape(1, 8).repeat(50, axis=0)
    items = DrawnLooks(days, np.isfinite(days), LookPlan("season", 2))
    again = DrawnLooks(days, np.isfinite(days), LookPlan("season", 2))
    assert np.array_equal(items.draw(4, 2), again.draw(4, 2))
    different = [items.draw(*keys) for keys in ((4, 2), (4, 3), (5, 2), (2, 4))]
    for one, other in itertools.combinations(different, 2):
        assert (one != other).any(axis=1).mean() > 0.8


def test_a_place_with_two_periods_shows_either() -> None:
    days = np.array([[0.0, 10, 2000, 2010, 4000]])
    items = DrawnLooks(days, np.isfinite(days), LookPlan("season", 2))
    seen = {tuple(sorted(items.draw(0, epoch)[0].tolist())) for epoch in range(20)}
    assert seen == {(0, 1), (2, 3)}


def test_every_look_is_an_item_of_its_own() -> None:
    eligible = np.array([[True, False, True], [False, False, False], [False, True, False]])
    items = DrawnLooks(np.full(eligible.shape, NAN), eligible, LookPlan())
    assert items.rows.tolist() == [0, 0, 2]
    assert items.draw(0, 0).tolist() == [[0], [2], [1]]


def test_all_looks_of_a_series_come_in_order_of_time() -> None:
    days = np.array([[30.0, 10, NAN, 20], [NAN, NAN, NAN, NAN]])
    items = DrawnLooks(days, np.ones(days.shape, dtype=np.bool_), LookPlan("series", 4))
    assert items.draw(3, 1).tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]


def test_periods_worked_by_hand() -> None:
    days = np.array([[0, 366, 366.5, 800, NAN, 100], [900, NAN, 0, 0, 0, 0], [NAN, NAN, NAN, NAN, NAN, NAN]])
    eligible = np.array([[True] * 6, [True, True, False, False, False, True], [True] * 5 + [False]])
    assert periods(days, eligible).tolist() == [[0, 0, 1, 2, 3, 0], [1, 2, -1, -1, -1, 0], [0, 0, 0, 0, 0, -1]]


@pytest.mark.parametrize(
    ("days", "plan", "message"),
    [
        ([0, 9, 800, NAN], LookPlan("season", 3), "places with 3 looks within a year .* at most 2; .* --looks seasons"),
        ([0, 9, 30, NAN], LookPlan("long", 2), "places with a look in each of two years .* none; .* --looks long"),
        ([0, 9, 800, NAN], LookPlan("halves", 2), "places with 2 looks in each of two years .* none; .* --looks long"),
        ([NAN] * 4, LookPlan("halves", 1), "do not say when theirs are from"),
        (
            [0, 9, 800, NAN],
            LookPlan("series", 5),
            "places with 5 looks are needed, these have at most 4; ask",
        ),
    ],
)
def test_what_is_missing_is_said(days: list[float], plan: LookPlan, message: str) -> None:
    table = np.array([days])
    with pytest.raises(TrainingError, match=message):
        DrawnLooks(table, np.ones(table.shape, dtype=np.bool_), plan)
    with pytest.raises(TrainingError, match="no sample has a look of all the sensors asked for"):
        DrawnLooks(table, np.zeros(table.shape, dtype=np.bool_), plan)


@pytest.mark.parametrize(
    ("kind", "count", "message"),
    [
        ("yearly", 1, "looks 'yearly'; expected one of each, season, long, halves, series"),
        ("each", 2, "2 looks do not go with each; expected 1"),
        ("long", 3, "3 looks do not go with long; expected 2"),
        ("series", 0, "0 looks do not go with series; expected 1 or more"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(kind: str, count: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        LookPlan(kind, count)  # type: ignore[arg-type]


def test_the_looks_that_pairs_need() -> None:
    assert pair_plan(("augment", "sensor")) == LookPlan("each", 1)
    assert pair_plan(("augment", "season")) == LookPlan("season", 2)
    assert pair_plan(("season", "long")) == LookPlan("long", 2)
    assert [LookPlan("halves", 3).n_looks, LookPlan("long").n_looks, LookPlan("series", 5).n_looks] == [6, 2, 5]


# Order


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 60),
    step_items=st.integers(1, 70),
    unknown=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_an_order_has_every_item_once(n: int, step_items: int, unknown: float, seed: int) -> None:
    chance = np.random.default_rng(seed)
    lonlat = np.round(chance.uniform((-180, -90), (180, 90), (n, 2)), -1)
    lonlat[chance.random(n) < unknown] = NAN
    order = spread_order(lonlat, step_items, seed=seed, epoch=3)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, spread_order(lonlat, step_items, seed=seed, epoch=3))


def near_pairs(lonlat: np.ndarray, order: np.ndarray, step_items: int, km: float) -> int:
    """Pairs of places of one step that lie nearer to each other than `km`, of all whole steps."""
    lon, lat = np.deg2rad(lonlat[order[: len(order) // step_items * step_items]].T)
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    steps = points.reshape(-1, step_items, 3)
    near = np.clip(steps @ steps.transpose(0, 2, 1), -1, 1) > np.cos(km / 6371)
    return int((near.sum() - steps.shape[0] * step_items) // 2)


WORLD = np.random.default_rng(0)
PLACES = {
    "sphere": (np.stack([WORLD.uniform(-180, 180, 4000), np.rad2deg(np.arcsin(WORLD.uniform(-1, 1, 4000)))], 1), 500.0),
    "region": (WORLD.normal((10, 50), (2, 1), (4000, 2)), 15.0),
    "cities": (
        WORLD.uniform((-180, -60), (180, 70), (100, 2))[WORLD.integers(0, 100, 4000)] + WORLD.normal(0, 0.1, (4000, 2)),
        50.0,
    ),
    "four looks each": (WORLD.uniform((-180, -60), (180, 70), (1000, 2)).repeat(4, axis=0), 1.0),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_of_a_step_lie_further_apart_than_by_chance(name: str) -> None:
    lonlat, km = PLACES[name]
    epochs = range(4)
    spread = sum(near_pairs(lonlat, spread_order(lonlat, 16, seed=1, epoch=epoch), 16, km) for epoch in epochs)
    random = sum(near_pairs(lonlat, np.random.default_rng(epoch).permutation(4000), 16, km) for epoch in epochs)
    assert random > 80
    assert spread < 0.2 * random


def test_neither_a_step_nor_an_epoch_goes_along_the_ground() -> None:
    lonlat, _ = PLACES["sphere"]
    lon, lat = np.deg2rad(lonlat[spread_order(lonlat, 50, seed=1, epoch=0)].T)
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1).reshape(-1, 50, 3)
    # Neighbours in a step are as near as any two: their directions have nothing in common.
    assert abs((points[:, 1:] * points[:, :-1]).sum(axis=2).mean()) < 0.05
    # Nor is the nearest place of the next step nearer than 50 places anywhere have it, a quarter radian.
    nearest = np.arccos((points[1:] @ points[:-1].transpose(0, 2, 1)).max(axis=2).clip(max=1))
    assert 0.15 < np.median(nearest) < 0.35


def test_an_epoch_has_steps_of_its_own() -> None:
    lonlat, _ = PLACES["sphere"]

    def together(epoch: int) -> set[tuple[int, int]]:
        steps = np.sort(spread_order(lonlat, 50, seed=1, epoch=epoch).reshape(-1, 50), axis=1)
        return {pair for step in steps.tolist() for pair in itertools.combinations(step, 2)}

    # By chance 1 of 80 pairs stays together.
    assert len(together(0) & together(1)) < 0.05 * len(together(0))
    first = spread_order(lonlat, 50, seed=1, epoch=0)
    assert not np.array_equal(first, spread_order(lonlat, 50, seed=2, epoch=0))


def test_what_is_left_over_comes_last_and_is_spread_too() -> None:
    lonlat = np.stack([np.linspace(-170, 170, 95), np.zeros(95)], axis=1)
    rest = np.concatenate([spread_order(lonlat, 10, seed=0, epoch=epoch)[90:] for epoch in range(60)])
    assert len(np.unique(rest)) > 80


def test_a_step_holds_an_item_at_least() -> None:
    with pytest.raises(TrainingError, match="steps of 0 items; expected at least 1"):
        spread_order(np.zeros((3, 2)), 0, seed=0, epoch=0)
