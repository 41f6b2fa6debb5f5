"""What is recorded of scenes is read from the samples, or from the tables of pairs and scenes before there are any."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geossl_data import tables
from geossl_data.errors import ShardError
from geossl_data.records import Pair
from geossl_data.report.dataset import recorded
from geossl_data.report.dataset.contents import Contents, contents_of
from geossl_data.report.dataset.distributions import distribution_sections
from geossl_data.report.dataset.recorded import SceneFacts, look_facts, looks_of, recorded_in, recorded_of, subset
from geossl_data.shards.reading.shards import Shards

LOOK = {
    "s2": {
        "platform": "sentinel-2b",
        "sat:orbit_state": "descending",
        "sat:relative_orbit": 29,
        "s2:processing_baseline": "05.10",
    },
    "s1": {"platform": "sentinel-1a", "sat:relative_orbit": "102", "collection": "sentinel-1-rtc"},
    "quality": {"shift": {"dx_px": 3.0, "dy_px": -4.0}},
}


def test_a_look_by_hand() -> None:
    found = look_facts(7, LOOK)
    assert found.look == 7
    assert found.s2.words == "Sentinel-2B, orbit 29 descending, baseline 05.10"
    assert found.s1.words == "Sentinel-1A"
    assert found.shift_px == 5.0
    assert SceneFacts().words == ""


@pytest.mark.parametrize(
    "look",
    [{}, {"s2": [], "quality": None}, {"s2": {"platform": 3, "sat:relative_orbit": True}, "quality": {"shift": 1}}],
)
def test_what_is_of_another_type_is_not_known(look: dict[str, Any]) -> None:
    found = look_facts(0, look)
    assert found.s2 == found.s1 == SceneFacts()
    assert math.isnan(found.shift_px)


@pytest.mark.parametrize("meta", [{}, {"looks": None}, {"looks": {"0": {}}}, {"looks": [1, "a"]}])
def test_a_sample_that_describes_no_look_has_none(meta: dict[str, Any]) -> None:
    assert looks_of(meta) == []


def test_every_look_of_the_shards_has_its_scenes(shards: Shards, contents: Contents) -> None:
    found = recorded_in(shards, contents)
    assert (found.n_samples, found.n_unread) == (len(contents), 0)
    assert [one.look for one in found.looks] == list(range(len(contents.place)))
    for one in found.looks:
        letter = contents.s2_id[one.look].as_py()[2].lower()
        assert one.s2.platform == f"sentinel-2{letter}"
        assert one.s1.direction in ("ascending", "descending")


def test_of_many_samples_a_seeded_share_is_read(
    shards: Shards, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "MOST_SAMPLES", 5)
    first, again, other = (recorded_in(shards, contents, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({int(contents.place[one.look]) for one in first.looks}) == 5


def test_samples_that_cannot_be_read_are_counted(
    shards: Shards, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[[int], dict[str, Any]] = shards.meta

    def meta(sample: int) -> dict[str, Any]:
        if sample == 3:
            raise ShardError("damaged")
        return {"looks": []} if sample == 4 else read(sample)

    monkeypatch.setattr(shards, "meta", meta)
    found = recorded_in(shards, contents)
    assert found.n_unread == 2
    assert {3, 4}.isdisjoint(int(contents.place[one.look]) for one in found.looks)


def test_before_there_are_shards_the_tables_tell(built: Path, shards: Shards, contents: Contents) -> None:
    drawn = contents_of(built, shards=False)
    assert drawn is not None
    pairs = {(pair.s2_id, pair.s1_id): pair for pair in tables.read_table(built / "pairs.parquet", Pair)}
    found = recorded_of(built, drawn)
    assert (len(found.looks), found.n_samples) == (len(drawn.place), len(drawn))
    for one in found.looks:
        pair = pairs[drawn.s2_id[one.look].as_py(), drawn.s1_id[one.look].as_py()]
        assert (one.s1.platform, one.s2.platform) == (pair.s1_platform, pair.s2_platform)
        assert one.s1.relative_orbit == str(pair.s1_relative_orbit)
        assert one.s1.direction == pair.s1_orbit_state
        assert one.s2.baseline
    by_look = {one.look: one.s2.baseline for one in recorded_in(shards, contents).looks}
    assert {one.s2.baseline for one in found.looks} >= set(by_look.values())


def test_of_many_samples_the_tables_tell_of_a_share(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = contents_of(built, shards=False)
    assert drawn is not None
    whole = {one.look: one for one in recorded_of(built, drawn).looks}
    monkeypatch.setattr(recorded, "MOST_SAMPLES", 5)
    found = recorded_of(built, drawn)
    assert found.n_samples == 5
    assert len({int(drawn.place[one.look]) for one in found.looks}) == 5
    assert all(one == whole[one.look] for one in found.looks)
    (section, *_) = distribution_sections(drawn, found)
    assert f"those of 5 of {len(drawn)} places, drawn by seed" in section.text


def test_without_tables_nothing_is_known(tmp_path: Path, make: Callable[..., Contents]) -> None:
    assert recorded_of(tmp_path, make()).looks == ()


def test_a_subset_is_ascending_and_of_the_size_asked_for() -> None:
    assert subset(4, 9, 0).tolist() == [0, 1, 2, 3]
    some = subset(1000, 10, 0).tolist()
    assert some == sorted(set(some))
    assert len(some) == 10
    assert some != subset(1000, 10, 1).tolist()
