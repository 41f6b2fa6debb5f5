"""Looks: which dates a place gets."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.records import Pair
from geossl_data.sampling.looks import LOOKS, choose_looks


def pair(day: str, *, gap_hours: float = 5.0, name: str = "") -> Pair:
    acquired = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return Pair(
        s2_id=name or f"s2-{day}",
        s1_id=f"s1-{day}",
        s2_acquired=acquired,
        s1_acquired=acquired + timedelta(hours=gap_hours),
        gap_hours=gap_hours,
        overlap=1.0,
        rank=0,
        n_candidates=1,
    )


PAIRS = [
    pair(day)
    for day in ("2021-02-01", "2021-05-01", "2022-01-15", "2022-02-15", "2022-06-01", "2022-11-01", "2023-05-20")
]
CLOUD = {entry.s2_id: cloud for entry, cloud in zip(PAIRS, (30.0, 2.0, 40.0, 5.0, 10.0, 10.0, 9.0), strict=True)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("single", ["2021-05-01"]),
        ("seasons", ["2022-02-15", "2022-06-01", "2022-11-01"]),
        ("long", ["2021-05-01", "2023-05-20"]),
    ],
)
def test_rules_by_hand(rule: str, expected: list[str]) -> None:
    assert [f"{look.acquired:%Y-%m-%d}" for look in choose_looks(rule, PAIRS, CLOUD)] == expected


def test_unknown_cloud_counts_as_the_cloudiest() -> None:
    assert choose_looks("single", PAIRS, {PAIRS[0].s2_id: 99.0})[0].s2_id == PAIRS[0].s2_id


def test_two_tiles_of_one_overflight_make_one_look() -> None:
    twice = [pair("2022-06-01T10:00:00", name="a"), pair("2022-06-01T10:00:12", name="b"), pair("2022-09-01", name="c")]
    assert [look.s2_id for look in choose_looks("seasons", twice, {})] == ["a", "c"]


@pytest.mark.parametrize("rule", ["seasons", "long"])
def test_one_date_is_no_series(rule: str) -> None:
    assert choose_looks(rule, PAIRS[:1], CLOUD) == ()


@given(st.lists(st.sampled_from(PAIRS), unique=True), st.sampled_from(sorted(LOOKS)), st.randoms())
def test_looks_are_in_time_order_without_repeats_whatever_the_input_order(
    pairs: list[Pair], rule: str, random: object
) -> None:
    looks = choose_looks(rule, pairs, CLOUD)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert looks == choose_looks(rule, shuffled, CLOUD)
    times = [look.acquired for look in looks]
    assert times == sorted(set(times))


def test_ties_go_to_the_clearest_or_to_the_nearest_in_time() -> None:
    clear = pair("2022-01-10", gap_hours=-30.0)
    near = pair("2022-01-20", gap_hours=2.0)
    as_near = pair("2022-01-30", gap_hours=-2.0)
    cloud = {clear.s2_id: 1.0, near.s2_id: 50.0, as_near.s2_id: 40.0}
    summer = pair("2022-07-01")

    def taken(tie: str, rule: str = "single") -> list[str]:
        looks = choose_looks(rule, [clear, near, as_near, summer], cloud | {summer.s2_id: 60.0}, tie)  # type: ignore[arg-type]
        return [look.s2_id for look in looks]

    assert (taken("clearest"), taken("nearest")) == ([clear.s2_id], [as_near.s2_id])
    assert taken("clearest", "seasons") == [clear.s2_id, summer.s2_id]
    assert taken("nearest", "seasons") == [as_near.s2_id, summer.s2_id]
    assert [look.s2_id for look in choose_looks("single", [clear, near], cloud)] == [clear.s2_id]


def test_a_look_names_all_frames_and_parts_of_its_pair() -> None:
    whole = replace(pair("2022-01-10"), s1_more=("f2", "f3"), s2_more=("half",))
    (look,) = choose_looks("single", [whole], {})
    assert (look.s1_more, look.s2_more) == (("f2", "f3"), ("half",))
