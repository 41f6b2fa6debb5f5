"""A process that ended without a word is missed afterwards; one that said a word is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from geossl_data.records import Sample
from geossl_data.shards.writing import attempts
from geossl_data.shards.writing.attempts import Attempt, attempt, deaths, forget_attempts, samples_done
from geossl_data.shards.writing.plan import ShardPlan, plan_shards

Make = Callable[..., Sample]


@pytest.fixture
def plan(sample: Make) -> ShardPlan:
    return plan_shards([sample(number) for number in range(3)], shard_mb=1, seed=0)[0]


def die(folder: Path, plan: ShardPlan) -> None:
    """Begin an attempt, and never end it."""
    made = Attempt(folder, plan)
    made.note(made.deaths + 1)


def test_deaths_are_counted_and_forgotten_with_the_first_that_comes_through(tmp_path: Path, plan: ShardPlan) -> None:
    for count in (1, 2):
        die(tmp_path, plan)
        assert deaths(tmp_path, plan) == count
    with attempt(tmp_path, plan) as made:
        assert made.deaths == 2
    assert deaths(tmp_path, plan) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_an_attempt_that_says_why_it_ends_is_no_death(
    tmp_path: Path, plan: ShardPlan, error: type[BaseException]
) -> None:
    die(tmp_path, plan)
    with pytest.raises(error), attempt(tmp_path, plan):
        raise error
    assert deaths(tmp_path, plan) == 1


def test_a_note_is_of_one_plan_and_can_be_damaged(tmp_path: Path, plan: ShardPlan, sample: Make) -> None:
    die(tmp_path, plan)
    other = plan_shards([sample(number, weight=2.0) for number in range(3)], shard_mb=1, seed=0)[0]
    assert deaths(tmp_path, other) == 0
    (note,) = tmp_path.rglob("*.building")
    for text in ("", "[]", "{}", '{"plan": 0}', "\udcff"):
        note.write_bytes(text.encode(errors="surrogateescape"))
        assert deaths(tmp_path, plan) == 0
    die(tmp_path, plan)
    forget_attempts(tmp_path, plan)
    assert deaths(tmp_path, plan) == 0


def test_samples_are_noted_now_and_then(tmp_path: Path, plan: ShardPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(attempts, "monotonic", lambda: clock[0])
    with attempt(tmp_path, plan) as made:
        seen = []
        for clock[0] in (0.4, 0.9, 1.0, 1.5, 2.1):
            made.advance()
            seen.append(samples_done(tmp_path, plan))
    assert seen == [0, 0, 3, 3, 5]
