"""Exact epochs: every item once, disjoint over ranks, as many steps everywhere, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import ShardError
from geossl_data.shards.reading.order import Steps, drawn_looks, shuffled

SHARD = np.repeat(np.arange(12), [5, 3, 9, 1, 4, 6, 2, 8, 7, 3, 5, 4])


@pytest.mark.parametrize("shuffle", ["global", "window", None])
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(0, 9), st.integers(1, 5))
def test_an_order_is_a_permutation_that_seed_and_epoch_decide(
    shuffle: str | None, seed: int, epoch: int, window: int
) -> None:
    order = shuffled(SHARD, shuffle, seed=seed, epoch=epoch, window=window)  # type: ignore[arg-type]
    assert sorted(order.tolist()) == list(range(len(SHARD)))
    again = shuffled(SHARD, shuffle, seed=seed, epoch=epoch, window=window)  # type: ignore[arg-type]
    np.testing.assert_array_equal(order, again)
    later = shuffled(SHARD, shuffle, seed=seed, epoch=epoch + 1, window=window)  # type: ignore[arg-type]
    assert np.array_equal(order, later) == (shuffle is None)


def test_a_window_holds_few_shards_at_a_time_and_mixes_them() -> None:
    seen = SHARD[shuffled(SHARD, "window", seed=1, epoch=0, window=3)]
    last = {shard: position for position, shard in enumerate(seen.tolist())}
    ends = [p + 1 for p in range(len(seen)) if max(last[shard] for shard in seen[: p + 1].tolist()) == p]
    windows = [seen[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]
    assert [len(set(window)) for window in windows] == [3, 3, 3, 3]
    assert all(window != sorted(window, key=window.index) for window in windows), "shard by shard, not mixed"


def test_a_global_shuffle_is_no_worse_than_chance_at_mixing_neighbours() -> None:
    # Mean distance of neighbours in a permutation of 0 … n-1 is (n + 1) / 3.
    order = shuffled(np.zeros(3000, np.int64), "global", seed=0, epoch=0, window=1)
    assert np.abs(np.diff(order)).mean() == pytest.approx(3001 / 3, rel=0.05)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 7), st.booleans(), st.integers(0, 30))
def test_ranks_share_every_step_and_all_make_as_many(
    n: int, batch: int, world: int, drop_last: bool, base: int
) -> None:
    steps = Steps(n, batch, world, drop_last)
    parts = [list(steps.parts(rank)) for rank in range(world)]
    assert {len(part) for part in parts} == {len(steps)}
    taken = [item for step in range(len(steps)) for rank in range(world) for item in range(n)[parts[rank][step]]]
    sizes = {part.stop - part.start for rank in parts for part in rank}
    if drop_last:
        assert taken == list(range(n // (world * batch) * world * batch))
        assert sizes <= {batch}
    else:
        assert taken == list(range(n))
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch
    assert [steps.edge(step) for step in range(len(steps))] == [parts[0][step].start for step in range(len(steps))]
    assert steps.edge(len(steps)) == len(taken)


def test_steps_by_hand() -> None:
    # 101 items, 2 ranks of 8: 7 steps, 14 parts of 7 or 8.
    steps = Steps(101, 8, 2, drop_last=False)
    assert len(steps) == 7
    assert [steps.part(step, 0) for step in (0, 6)] == [slice(0, 7), slice(86, 93)]
    assert steps.part(6, 1) == slice(93, 101)
    with pytest.raises(ShardError, match="at least 1"):
        Steps(5, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=5, max_size=5).filter(lambda row: sum(row) >= 2), min_size=1), st.data()
)
def test_drawn_looks_are_eligible_different_and_in_time_order(rows: list[list[bool]], data: st.DataObject) -> None:
    eligible = np.array(rows)
    k = data.draw(st.integers(1, int(eligible.sum(axis=1).min())))
    looks = drawn_looks(eligible, k, seed=3, epoch=1)
    assert looks.shape == (len(rows), k)
    assert (np.diff(looks, axis=1) > 0).all()
    assert np.take_along_axis(eligible, looks, axis=1).all()
    np.testing.assert_array_equal(looks, drawn_looks(eligible, k, seed=3, epoch=1))


def test_every_look_is_as_likely_as_any_other() -> None:
    looks = drawn_looks(np.ones((8000, 4), bool), 1, seed=0, epoch=0)
    # Four classes of 2000 each; a deviation of 5 standard deviations is 194.
    assert np.abs(np.bincount(looks[:, 0], minlength=4) - 2000).max() < 194
    assert not np.array_equal(looks, drawn_looks(np.ones((8000, 4), bool), 1, seed=0, epoch=1))
