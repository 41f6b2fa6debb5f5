"""Batches hold what their items say, in an order that can be cut anywhere and gone on with."""

import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import ShardError
from geossl_data.records import Sample
from geossl_data.shards.reading.batches import Batch, Batches
from geossl_data.shards.reading.shards import Shards, open_shards

ArraysOf = Callable[..., dict[str, np.ndarray]]
NAMES = ("s1", "s2_20m")
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows(batch: Batch) -> list[tuple[int, tuple[int, ...]]]:
    """(sample, looks) of every row."""
    looks = batch["look"].reshape(*batch["look"].shape[:1], -1).tolist() if len(batch["index"]) else []
    return [(sample, tuple(looks)) for sample, looks in zip(batch["index"].tolist(), looks, strict=True)]


def sequence(batches: Batches) -> list[tuple[int, tuple[int, ...]]]:
    """Every row of the rest of an epoch."""
    return [row for batch in batches for row in rows(batch)]


def assert_pixels(shards: Shards, batch: Batch, arrays: ArraysOf) -> None:
    for position, (index, looks) in enumerate(rows(batch)):
        for name in set(batch) - {"index", "look"}:
            stored = batch[name][position].reshape(-1, *shards.shape(name))
            for look, array in zip(looks, stored, strict=True):
                expected = arrays(shards.entries[index].key, look)[name]
                np.testing.assert_array_equal(shards.members[name].physical(array), expected)


@pytest.fixture
def shards(dataset: Path) -> Shards:
    """Nine places of two looks."""
    return open_shards(dataset)


@QUICK
@given(
    items=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=23),
    batch_size=st.integers(1, 6),
    threads=st.integers(1, 3),
    ahead=st.integers(1, 3),
)
def test_batches_follow_the_items(
    shards: Shards, arrays: ArraysOf, items: list[tuple[int, int]], batch_size: int, threads: int, ahead: int
) -> None:
    batches = shards.batches(
        batch_size, NAMES, items=items, shuffle=None, drop_last=False, threads=threads, ahead=ahead
    )
    seen = []
    for batch in batches:
        assert_pixels(shards, batch, arrays)
        seen += rows(batch)
    assert seen == [(index, (look,)) for index, look in items]


@pytest.mark.parametrize("codec", ["blosc", "npy", "archive"])
@pytest.mark.parametrize("looks", ["each", "all", 1, 2])
def test_items_are_looks_or_places(
    tmp_path: Path, sample: Any, write_dataset: Any, arrays: ArraysOf, looks: Any, codec: str
) -> None:
    write_dataset(tmp_path, [sample(number, n_looks=4) for number in range(7)], codec=codec)
    with open_shards(tmp_path) as shards:
        batches = shards.batches(3, ("s2_10m", "scl", "s1"), looks=looks, drop_last=False, seed=4)
        found = list(batches)
        for batch in found:
            assert_pixels(shards, batch, arrays)
        everything = [row for batch in found for row in rows(batch)]
        assert batches.n_items == (28 if looks == "each" else 7)
        if looks == "each":
            assert sorted(everything) == [(index, (look,)) for index in range(7) for look in range(4)]
        else:
            assert sorted(index for index, _ in everything) == list(range(7))
            assert {len(chosen) for _, chosen in everything} == {4 if looks == "all" else looks}
        shape = shards.shape("s1")
        leading = (len(found[0]["index"]),) if looks in ("each", 1) else found[0]["look"].shape
        assert found[0]["s1"].shape == (*leading, *shape)


def test_looks_without_a_member_are_left_out_and_counted(shards: Shards) -> None:
    told: list[str] = []
    batches = shards.batches(1, ("label", "s1"), log=told.append)
    labelled = [(i, (k,)) for i, entry in enumerate(shards.entries) for k in (0, 1) if "label" in entry.members[k]]
    assert sorted(sequence(batches)) == labelled
    assert told == [f"{18 - len(labelled)} of 18 looks lack a member and are left out"]
    assert "label" not in shards.common_members()
    with pytest.raises(ShardError, match="has no label"):
        shards.batches(1, ("label",), items=[next((i, 0) for i in range(9) if not shards.has(i, 0, "label"))])


def test_an_epoch_holds_everything_once_and_the_next_is_another(shards: Shards) -> None:
    batches = shards.batches(4, NAMES, drop_last=False, seed=1)
    first, second = sequence(batches), sequence(batches)
    assert batches.epoch == 2
    assert sorted(first) == sorted(second) == sorted((i, (k,)) for i, k in shards.looks)
    assert first != second
    batches.set_epoch(0)
    assert sequence(batches) == first
    assert sequence(shards.batches(5, NAMES, drop_last=False, seed=1)) == first, "whatever the batch size"
    assert sequence(shards.batches(4, NAMES, drop_last=False, seed=2)) != first


@QUICK
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.sampled_from(["global", "window", None])
)
def test_ranks_and_workers_share_an_epoch(
    shards: Shards, batch_size: int, world: int, workers: int, drop_last: bool, shuffle: Any
) -> None:
    def of(rank: int) -> Batches:
        return shards.batches(
            batch_size, ["scl"], rank=rank, world=world, drop_last=drop_last, shuffle=shuffle, window=2, threads=1
        )

    whole = shards.batches(batch_size * world, ["scl"], drop_last=drop_last, shuffle=shuffle, window=2, threads=1)
    if not len(whole):
        return
    per_rank = []
    for rank in range(world):
        shares = [[rows(batch) for batch in of(rank).share(worker, workers)] for worker in range(workers)]
        # A torch DataLoader takes one batch of each worker in turn.
        turns = [shares[step % workers][step // workers] for step in range(len(of(rank)))]
        assert turns == [rows(batch) for batch in of(rank)]
        per_rank.append(turns)
    assert len({len(turns) for turns in per_rank}) == 1
    together = [row for step in zip(*per_rank, strict=True) for part in step for row in part]
    assert together == sequence(whole)


@QUICK
@given(st.integers(0, 5), st.integers(1, 5), st.booleans(), st.integers(1, 3), st.integers(1, 2))
def test_it_goes_on_with_the_next_item(
    shards: Shards, stop: int, batch_size: int, drop_last: bool, other_size: int, other_world: int
) -> None:
    def new(size: int = batch_size, **more: Any) -> Batches:
        return shards.batches(size, ["scl"], drop_last=drop_last, seed=7, threads=1, **more)

    uninterrupted = new()
    whole = [[rows(batch) for batch in uninterrupted] for _ in range(2)]
    flat = [row for batch in whole[0] for row in batch]
    cut = new()
    seen = []
    stop = min(stop, len(cut))
    for _, batch in zip(range(stop), cut, strict=False):
        seen.append(rows(batch))
        state = json.loads(json.dumps(cut.state_dict()))
    if not seen:
        state = cut.state_dict()
    resumed = new()
    resumed.load_state_dict(state)
    assert resumed.position == sum(map(len, seen))
    assert [rows(batch) for batch in resumed] == whole[0][len(seen) :]
    assert [rows(batch) for batch in resumed] == whole[1]
    # With batches of another size, or on more ranks, the next item is the next item all the same.
    others = [new(other_size, rank=rank, world=other_world) for rank in range(other_world)]
    for other in others:
        other.load_state_dict(state)
    steps = zip(*([rows(batch) for batch in other] for other in others), strict=True)
    gone_on = [row for step in steps for part in step for row in part]
    order = new(1, shuffle="global")
    everything = [row for batch in order for row in rows(batch)]
    rest = everything[sum(map(len, seen)) :]
    assert gone_on == rest[: len(gone_on)]
    assert len(gone_on) == (
        len(rest) // (other_size * other_world) * other_size * other_world if drop_last else len(rest)
    )
    assert flat == everything[: len(flat)]


def test_a_state_of_other_batches_is_refused(shards: Shards) -> None:
    state = shards.batches(2, NAMES, seed=1).state_dict()
    for other, name in (
        (shards.batches(2, NAMES, seed=2), "seed"),
        (shards.batches(2, NAMES, seed=1, shuffle="window"), "shuffle"),
        (shards.batches(2, NAMES, seed=1, items=shards.looks[:6]), "items"),
    ):
        with pytest.raises(ShardError, match=f"of other batches: {name}"):
            other.load_state_dict(state)


def test_memory_is_used_again_but_not_while_it_is_held(shards: Shards, arrays: ArraysOf) -> None:
    blocks: list[int] = []

    def allocate(nbytes: int) -> np.ndarray:
        blocks.append(nbytes)
        return np.zeros(nbytes, np.uint8)

    batches = shards.batches(2, ["scl"], allocate=allocate, threads=1, ahead=2)
    for _ in range(5):
        for _batch in batches:
            pass
    assert len(blocks) <= 4, "three ahead and one in hand"
    held = list(batches)
    for batch in held:
        assert_pixels(shards, batch, arrays)


def test_an_abandoned_epoch_ends_its_threads_and_can_be_gone_on_with(shards: Shards) -> None:
    batches = shards.batches(2, ["s1"])
    stream = iter(batches)
    first = rows(next(stream))
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geossl-batches")]
    rest = sequence(batches)
    assert sorted(first + rest) == sorted((i, (k,)) for i, k in shards.looks)


def test_damage_is_said_at_the_batch_that_holds_it(dataset: Path) -> None:
    with open_shards(dataset, "train") as shards:
        entry = shards.entries[3]
        tar = dataset / "shards" / entry.shard
        damaged = bytearray(tar.read_bytes())
        damaged[entry.offset + entry.nbytes - 700] ^= 1
        tar.write_bytes(damaged)
    with open_shards(dataset, "train") as fresh:
        stream = iter(fresh.batches(2, items=[(0, 0), (1, 0), (3, 0), (3, 1)], shuffle=None))
        next(stream)
        with pytest.raises(ShardError, match=entry.shard):
            list(stream)
    gc.collect()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 1, "threads": 0}, "at least 1"),
        ({"batch_size": 1, "rank": 2, "world": 2}, "rank 2"),
        ({"batch_size": 19}, "fewer than one step"),
        ({"batch_size": 1, "world": 19}, "18 items for 19 ranks"),
        ({"batch_size": 1, "looks": 0}, "looks 0"),
        ({"batch_size": 1, "looks": 3}, "0 items"),
        ({"batch_size": 1, "looks": "some"}, "looks 'some'"),
        ({"batch_size": 1, "members": ["dem"]}, "no member 'dem'"),
        ({"batch_size": 1, "members": []}, "no member is asked for"),
        ({"batch_size": 1, "items": [(9, 0)]}, "do not hold"),
        ({"batch_size": 1, "items": [(0, 2)]}, "do not hold"),
        ({"batch_size": 1, "items": [(0, -1)]}, "do not hold"),
    ],
)
def test_what_cannot_be_is_one_line(shards: Shards, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ShardError, match=message):
        shards.batches(**arguments)


def test_places_with_different_numbers_of_looks_do_not_stack(
    tmp_path: Path, sample: Callable[..., Sample], write_dataset: Callable[..., Any]
) -> None:
    write_dataset(tmp_path, [sample(1, n_looks=2), sample(2, n_looks=3)])
    with open_shards(tmp_path) as shards:
        with pytest.raises(ShardError, match="2 to 3 looks"):
            shards.batches(1, ["s1"], looks="all")
        told: list[str] = []
        assert shards.batches(1, ["s1"], looks=3, log=told.append).n_items == 1
        assert told == ["1 of 2 places have fewer than 3 such looks and are left out"]


class OwnRule:
    """The second look of odd samples twice, in the first epoch; the first look after that."""

    rows = np.array([5, 1, 3])

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        return np.full((3, 2), int(epoch == 0))


def test_looks_may_be_drawn_and_items_ordered_by_a_rule_of_ones_own(shards: Shards, arrays: ArraysOf) -> None:
    asked = []

    def backwards(seed: int, epoch: int) -> np.ndarray:
        asked.append((seed, epoch))
        return np.array([2, 1, 0])

    batches = shards.batches(1, ["s1"], items=OwnRule(), shuffle=backwards, seed=4)
    assert (batches.looks_per_item, batches.remaining) == (2, 3)
    first = list(batches)
    for batch in first:
        assert_pixels(shards, batch, arrays)
    assert [row for batch in first for row in rows(batch)] == [(3, (1, 1)), (1, (1, 1)), (5, (1, 1))]
    assert sequence(batches) == [(3, (0, 0)), (1, (0, 0)), (5, (0, 0))]
    assert asked == [(4, 0), (4, 1)]
    state = batches.state_dict()
    with pytest.raises(ShardError, match="shuffle 'own', not 'global'"):
        shards.batches(1, ["s1"], items=OwnRule(), seed=4).load_state_dict(state)
