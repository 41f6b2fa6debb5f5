"""The plan is a function of the set of samples and the seed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import ShardError
from geossl_data.records import Sample
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.writing.plan import ShardPlan, estimated_nbytes, plan_shards, require_one_size

Make = Callable[..., Sample]


def test_shards_are_planned_for_their_size_and_hold_equal_counts(sample: Make) -> None:
    samples = [sample(number, size_px=264, n_looks=4) for number in range(11)]
    # By hand: 4 + 6/4 + 2/36 bands of uint16, SCL/4, two more bands and a label byte, each 264 px squared.
    raw = 264**2 * (2 * (4 + 6 / 4 + 2 / 36) + 1 / 4 + 4 + 1)
    assert estimated_nbytes(samples[0]) == pytest.approx(4 * raw, rel=0.01)
    plans = plan_shards(samples, shard_mb=13, seed=0)  # 50.2 MB in all
    assert [len(plan.samples) for plan in plans] == [2, 3, 3, 3]
    assert [plan.name for plan in plans] == [f"train-{number:06d}" for number in range(4)]


def test_the_digest_of_a_plan_is_that_of_all_that_its_samples_hold(sample: Make) -> None:
    samples = tuple(sample(number, n_looks=2) for number in range(3))
    plan = ShardPlan(name="train-000000", split="train", samples=samples)
    text = json.dumps([plan.name, [asdict(one) for one in samples]], sort_keys=True, default=rfc3339)
    assert plan.digest == hashlib.sha256(text.encode()).hexdigest()
    other = replace(samples[2], looks=(samples[2].looks[0], replace(samples[2].looks[1], gap_hours=1.25)))
    assert replace(plan, samples=(*samples[:2], other)).digest != plan.digest


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_the_plan_depends_on_the_set_of_samples_alone(order: list[int], seed: int) -> None:
    from types import SimpleNamespace

    def stub(number: int) -> Any:
        split = ("train", "val", "test")[number % 3]
        return SimpleNamespace(key=f"k{number}", split=split, place=SimpleNamespace(size_px=264), looks=(1,) * 4)

    samples = [stub(number) for number in range(12)]
    straight = plan_shards(samples, shard_mb=5, seed=seed)
    shuffled = plan_shards([samples[number] for number in order], shard_mb=5, seed=seed)
    assert [(plan.name, plan.samples) for plan in straight] == [(plan.name, plan.samples) for plan in shuffled]
    keys = [sample.key for plan in straight for sample in plan.samples]
    assert sorted(keys) == sorted(sample.key for sample in samples)
    assert all(sample.split == plan.split for plan in straight for sample in plan.samples)


def test_neighbours_are_shuffled_and_the_seed_says_how(sample: Make) -> None:
    samples = [sample(number) for number in range(50)]
    one, two = (plan_shards(samples, shard_mb=1, seed=seed)[0].samples for seed in (0, 1))
    assert one != two
    steps = [abs(a.place.x - b.place.x) for a, b in pairwise(one)]
    assert np.mean(steps) > 8_000  # a third of 50 km when order and place are independent
    assert plan_shards([], shard_mb=1, seed=0) == []


def test_what_cannot_be_one_dataset_is_refused(sample: Make) -> None:
    with pytest.raises(ShardError, match="comes twice"):
        plan_shards([sample(1), sample(1)], shard_mb=1, seed=0)
    with pytest.raises(ShardError, match="one size"):
        require_one_size([sample(1), sample(2, size_px=24)])


def test_3_11_what_lies_side_by_side_in_a_shard_lies_anywhere_on_the_ground(sample: Make) -> None:
    samples = [sample(number) for number in range(400)]  # one row of places, in the order of the ground
    (plan,) = plan_shards(samples, shard_mb=4096, seed=0)
    x = np.array([one.place.x for one in plan.samples])
    days = np.array([one.looks[0].acquired.timestamp() for one in plan.samples])
    for values in (x, days):
        everywhere = np.abs(values[:, None] - values[None, :]).mean()
        within = [np.abs(part[:, None] - part[None, :]).mean() for part in np.split(values, 400 // 16)]
        assert np.mean(within) * 16 / 15 > 0.9 * everywhere  # a place has no distance to itself
