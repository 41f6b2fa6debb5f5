"""Samples that kill are found one by one, remembered, and no more than they are left out."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import ReadError, ShardError, StorageError
from geossl_data.records import Sample
from geossl_data.shards.writing.journal import JOURNAL_FOLDER
from geossl_data.shards.writing.plan import ShardPlan, plan_shards
from geossl_data.shards.writing.quarantine import (
    DEATHS,
    MOST_IN_A_ROW,
    probe,
    probed,
    quarantined,
    stop_probing,
)

Make = Callable[..., Sample]


class DeathError(BaseException):
    """Stands for the end of the process: nothing is cleaned up in `probe` when it passes."""


class Killing:
    """A factory over whose samples processes die, and which counts what it is asked for."""

    def __init__(self, killers: set[str], failing: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.killers, self.failing = killers, failing
        self.asked: list[list[str]] = []

    @contextmanager
    def __call__(self, samples: Sequence[Sample]) -> Iterator[Callable[[Sample], Any]]:
        self.asked.append([sample.key for sample in samples])
        yield self.build

    def build(self, sample: Sample) -> None:
        if sample.key in self.killers:
            raise DeathError
        if sample.key in self.failing:
            raise ReadError("no luck")


@pytest.fixture
def plan(sample: Make) -> ShardPlan:
    return plan_shards([sample(number) for number in range(12)], shard_mb=1, seed=0)[0]


def probe_to_the_end(folder: Path, plan: ShardPlan, factory: Killing, fingerprint: str = "f") -> int:
    """Call `probe` in one process after the other until one survives; how many did not."""
    for n_deaths in range(100):
        try:
            probe(folder, plan, fingerprint, factory)
        except DeathError:
            continue
        return n_deaths
    raise AssertionError("no end")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(killing=st.sets(st.integers(0, 11), max_size=MOST_IN_A_ROW - 1))
def test_exactly_the_killers_are_found_each_after_so_many_deaths(
    tmp_path_factory: pytest.TempPathFactory, sample: Make, killing: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    plan = plan_shards([sample(number) for number in range(12)], shard_mb=1, seed=0)[0]
    killers = {plan.samples[number].key for number in killing}
    factory = Killing(killers, failing={plan.samples[3].key})
    assert probe_to_the_end(folder, plan, factory) == DEATHS * len(killers)
    assert quarantined(folder, plan, "f") == dict.fromkeys(killers, DEATHS)
    assert all(len(keys) == 1 for keys in factory.asked), "samples are built one by one, or none could be blamed"
    assert len(factory.asked) == 12 + len(killers) * (DEATHS - 1), "what is sound is built once"
    assert (folder / JOURNAL_FOLDER / f"{plan.name}.quarantine").exists() == bool(killers)


def test_the_quarantine_is_of_one_plan_and_one_fingerprint(tmp_path: Path, plan: ShardPlan, sample: Make) -> None:
    killer = plan.samples[5].key
    probe_to_the_end(tmp_path, plan, Killing({killer}))
    other = plan_shards([sample(number, weight=2.0) for number in range(12)], shard_mb=1, seed=0)[0]
    assert list(quarantined(tmp_path, plan, "f")) == [killer]
    assert quarantined(tmp_path, plan, "g") == quarantined(tmp_path, other, "f") == {}


def test_when_everything_kills_it_is_not_the_samples(tmp_path: Path, plan: ShardPlan) -> None:
    factory = Killing({sample.key for sample in plan.samples})
    with pytest.raises(ShardError, match=f"died over each of {MOST_IN_A_ROW} samples in a row"):
        probe_to_the_end(tmp_path, plan, factory)
    assert len(factory.asked) == DEATHS * MOST_IN_A_ROW
    assert quarantined(tmp_path, plan, "f") == {}, "a machine that was mended has to try them again"


def test_a_sample_that_was_tried_when_we_stopped_is_not_to_blame(tmp_path: Path, plan: ShardPlan) -> None:
    killer = plan.samples[0].key
    for _ in range(3):
        with pytest.raises(DeathError):
            probe(tmp_path, plan, "f", Killing({killer}))
        assert probed(tmp_path, plan, "f") == (0, 0, killer)
        stop_probing(tmp_path, plan, "f")
    assert quarantined(tmp_path, plan, "f") == {}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"plan": 1}', '{"deaths": [], "plan": 0, "fingerprint": "f"}'])
def test_a_damaged_note_is_as_good_as_none(tmp_path: Path, plan: ShardPlan, damage: str) -> None:
    probe_to_the_end(tmp_path, plan, Killing({plan.samples[5].key}))
    note = tmp_path / JOURNAL_FOLDER / f"{plan.name}.quarantine"
    if damage.startswith('{"deaths"'):
        damage = json.dumps(json.loads(damage) | {"plan": plan.digest})
    note.write_text(damage)
    assert quarantined(tmp_path, plan, "f") == {}


def test_a_full_disk_is_no_fault_of_a_sample(tmp_path: Path, plan: ShardPlan) -> None:
    @contextmanager
    def full(_: Sequence[Sample]) -> Iterator[Callable[[Sample], Any]]:
        raise StorageError("no space left")
        yield

    with pytest.raises(StorageError, match="no space"):
        probe(tmp_path, plan, "f", full)
