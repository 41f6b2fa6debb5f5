"""Places: found by another sensor, found because they changed, and told where they are."""

import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
from evaluation.tasks.fakes import BOTH, FakeBench, Planet, value, values

from geossl_data.errors import TrainingError
from geossl_data.evaluation import bootstrap
from geossl_data.evaluation.learning import Settings
from geossl_data.evaluation.tasks import MISSING, TASKS, answers, cross_sensor, dates, events, geolocation, possible
from geossl_data.evaluation.tasks.cross_sensor import aligned
from geossl_data.evaluation.tasks.events import change_ratio, within_a_year
from geossl_data.evaluation.tasks.geolocation import error_km
from geossl_data.grid import EARTH_RADIUS_KM, haversine_km, unit_vectors

# ------------------------------------------------------------------------------------------------ from sensor to sensor


def two_sensors(planet: Planet, *, seed: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """Features of places that both sensors see, in spaces of their own: s2's is a turned and stretched s1's."""
    rng = np.random.default_rng(seed)
    places, n_looks = planet.classes.shape
    ground = np.repeat(rng.standard_normal((places, 1, 6)), n_looks, axis=1)
    s1 = ground + 0.01 * rng.standard_normal(ground.shape)
    return {("trained", "s1"): s1, ("trained", "s2"): 5 + ground @ rng.standard_normal((6, 6))}


def test_one_space_is_learnt_from_train_looks() -> None:
    rng = np.random.default_rng(0)
    x, turn = rng.standard_normal((50, 4)), rng.standard_normal((4, 3))
    y = 7 + x @ turn
    told, there = aligned(x[:40], y[:40], x[40:], y[40:], alpha=1e-9)
    np.testing.assert_allclose(told, there, atol=1e-6)
    np.testing.assert_allclose(there, (y[40:] - y[:40].mean(axis=0)) / y[:40].std(axis=0))


def test_places_are_found_by_what_the_other_sensor_saw_and_noise_is_a_guess() -> None:
    planet = Planet({"train": 60, "test": 50})
    bench = FakeBench(planet, two_sensors(planet), shown=BOTH, seeds=2, ridge=1e-3)
    found = list(cross_sensor.cross_sensor(bench))
    assert {(one.features, one.encoder, one.seed) for one in found} == {
        (way, *how) for way in ("s1→s2", "s2→s1") for how in (("trained", 0), ("random", 0), ("random", 1))
    }
    assert set(values(found, encoder="trained", metric="recall@1")) == {1.0}
    for k in (1, 5, 10):
        guesses = values(found, encoder="random", metric=f"recall@{k}")
        # Two looks of the place among a hundred.
        assert np.mean(guesses) == pytest.approx(1 - (1 - 0.02) ** k, abs=0.07)
    assert {(one.n_train, one.n_test, one.probe) for one in found} == {(60, 50, "ridge")}
    assert {one.encoder for one in found} == {"trained", "random"}
    assert ("s1", "s2") not in {shown for _, shown, _ in bench.asked}


def test_fewer_pairs_teach_less() -> None:
    planet = Planet({"train": 60, "test": 50})
    bench = FakeBench(planet, two_sensors(planet), shown=BOTH, seeds=3, fractions=(0.03, 1.0), ridge=1e-3)
    found = list(cross_sensor.cross_sensor(bench))
    few, all_ = (values(found, encoder="trained", metric="recall@1", fraction=share) for share in (0.03, 1.0))
    assert (len(few), len(all_)) == (6, 2)
    assert max(few) < min(all_)
    assert {one.n_train for one in found} == {2, 60}


def test_one_sensor_has_no_other() -> None:
    with pytest.raises(TrainingError, match=r"cross-sensor retrieval needs two sensors; .* share s2 alone"):
        list(cross_sensor.cross_sensor(FakeBench(Planet({"train": 2, "test": 2}))))


# ------------------------------------------------------------------------------------------------ what changed


def test_looks_of_the_same_time_of_years_worked_by_hand() -> None:
    days = np.array([[0.0, 100.0, 200.0, 900.0, 1000.0, np.nan]] * 5)
    eligible = np.ones((5, 6), dtype=bool)
    eligible[1, 2] = False  # then 100 days is the nearest to half a year
    eligible[2, 1:3] = False
    ends = np.array([[0, 4], [0, 4], [0, 4], [0, 1], [3, 5]])
    # 0: 200 days on; 4: 100 days before. The pair itself is never chosen, nor what has no time.
    assert within_a_year(days, eligible, ends).tolist() == [[2, 3], [1, 3], [-1, 3], [2, 2], [4, -1]]
    edge = np.array([[0.0, 365.25], [0.0, 365.5]])
    assert within_a_year(edge, np.ones((2, 2), bool), np.zeros((2, 1), np.int64)).tolist() == [[1], [-1]]


def test_the_ratio_is_that_of_caco() -> None:
    i, j = np.meshgrid(np.arange(1, 5), np.arange(1, 9), indexing="ij")
    queries, keys = np.sin(0.37 * i * j + 0.11), np.cos(0.41 * i * j + 0.2)
    q, k = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, keys))
    ratio = change_ratio(np.linalg.norm(q[0] - q[1]), np.linalg.norm(q[0] - k[0]))
    assert ratio == pytest.approx(0.8712298876979)
    assert change_ratio(np.zeros(1), np.zeros(1)) == 0.0


YEARS = np.array([0.0, 180.0, 730.0, 910.0])
"""Two seasons of two years."""


def changing(places: int, *, size: int = 6, share: float = 0.5) -> tuple[Planet, np.ndarray]:
    """A planet (a third of it train) whose every fourth place changed in the second year, and which those are."""
    maps = np.ones((places, 4, size, size))
    happened = np.arange(places) % 4 == 1
    maps[happened, 2:, : round(size * share)] = 2
    days = np.tile(YEARS, (places, 1))
    splits = {"train": places // 3, "test": places - places // 3}
    return Planet(splits, n_looks=4, days=days, size=size, maps=maps), happened


def test_places_that_changed_are_ranked_first_and_noise_is_a_guess() -> None:
    planet, happened = changing(180)
    rng = np.random.default_rng(0)
    table = np.repeat(rng.standard_normal((180, 1, 8)), 4, axis=1) + 0.02 * rng.standard_normal((180, 4, 8))
    table[happened, 2:] += 2 * rng.standard_normal((happened.sum(), 1, 8))
    found = list(events.events(FakeBench(planet, {("trained", "s2"): table}, seeds=2)))
    names = ["AP", "AP@10", "R-precision"]
    assert [(one.probe, one.metric.name) for one in found[:6]] == [
        (probe, name) for probe in ("distance", "ratio") for name in names
    ]
    assert [value(one) for one in found[:6]] == pytest.approx([1.0] * 6, abs=0.05)
    guesses = values(found, encoder="random", metric="AP")
    assert len(guesses) == 4
    assert all(0.12 < share < 0.5 for share in guesses)  # a quarter is relevant
    assert {(one.n_train, one.n_test, one.fraction) for one in found} == {(0, 120, 1.0)}


def test_the_ratio_passes_over_ground_that_differs_in_every_season() -> None:
    planet, happened = changing(90)
    rng = np.random.default_rng(1)
    table = np.repeat(rng.standard_normal((90, 1, 8)), 4, axis=1) + 0.01 * rng.standard_normal((90, 4, 8))
    seasonal = np.arange(90) % 4 == 2
    table[seasonal] += 3 * rng.standard_normal((seasonal.sum(), 4, 8))  # other features on every date
    table[happened, 2:] += 0.7 * rng.standard_normal((happened.sum(), 1, 8))
    found = list(events.events(FakeBench(planet, {("trained", "s2"): table}, seeds=1)))
    distance, ratio = (values(found, encoder="trained", probe=probe, metric="AP")[0] for probe in ("distance", "ratio"))
    assert ratio > 0.95
    assert distance < 0.7


def test_places_without_a_third_look_have_no_ratio(caplog: pytest.LogCaptureFixture) -> None:
    planet, _ = changing(24)
    for place in range(12, 24):
        planet.without(place, 1, "s2_10m")
        planet.without(place, 3, "s2_20m")
    with caplog.at_level(logging.INFO):
        found = list(events.events(FakeBench(planet, seeds=1)))
    assert "12 of 16 judged places have no third look within a year" in caplog.text
    assert {(one.probe, one.n_test) for one in found} == {("distance", 16), ("ratio", 4)}


@pytest.mark.parametrize(("share", "relevant"), [(0.5, 8), (0.51, 0)])
def test_an_event_is_enough_changed_ground(share: float, relevant: int) -> None:
    planet, _ = changing(48, share=0.5)
    bench = FakeBench(planet, event_share=share)
    if relevant:
        assert events.judged_events(bench).relevant.sum() == relevant
    else:
        with pytest.raises(TrainingError, match="none of 32 judged places changed on 51 % of its ground or more"):
            events.judged_events(bench)


def test_ground_that_is_not_known_does_not_count() -> None:
    planet, happened = changing(48)
    for place in range(48):
        planet.arrays[place][2]["label"][4:] = 0  # of 6 rows; 3 of the 4 others may have changed
    found = events.judged_events(FakeBench(planet, event_share=0.75))
    assert found.relevant.tolist() == happened[16:].tolist()
    planet.arrays[20][2]["label"][:] = 0
    assert len(events.judged_events(FakeBench(planet, event_share=0.75)).rows) == 31


def test_a_class_after_says_nothing_without_the_one_before() -> None:
    planet, _ = changing(24)
    for place in range(24):
        planet.without(place, 0, "label")
        planet.without(place, 1, "label")
    pairs = dates.pairs(FakeBench(planet))
    assert pairs.look.tolist() == [[2, 3]] * 24  # within the second year alone


def test_places_with_one_look_cannot_have_changed() -> None:
    planet = Planet({"train": 2, "test": 2}, n_looks=1, maps=np.ones((4, 1, 6, 6)))
    with pytest.raises(TrainingError, match=r"no place has two looks with s2_10m, .* and maps label that say what"):
        list(events.events(FakeBench(planet)))


# ------------------------------------------------------------------------------------------------ where it is


def test_errors_in_km_worked_by_hand() -> None:
    truth = unit_vectors([0, 0, 179.5, 0, 30], [0, 0, 10, 90, 40])
    told = unit_vectors([90, 180, -179.5, 123, 30], [0, 0, 10, 90, 40]) * np.array([[1], [2], [0.1], [1], [0]])
    quarter = np.pi / 2 * EARTH_RADIUS_KM
    across = float(haversine_km(0.0, 10.0, 1.0, 10.0))
    np.testing.assert_allclose(error_km(told, truth), [quarter, 2 * quarter, across, 0, quarter], atol=1e-6)


def scattered(places: int, seed: int = 0) -> np.ndarray:
    """Longitudes and latitudes all over the sphere."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-180, 180, places), np.degrees(np.arcsin(rng.uniform(-1, 1, places)))], axis=1)


def test_near_ground_that_looks_alike_is_told_and_noise_is_a_guess() -> None:
    lonlat = scattered(400)
    planet = Planet({"train": 300, "test": 100}, n_looks=1, lonlat=lonlat)
    table = unit_vectors(*lonlat.T)[:, None]
    bench = FakeBench(planet, {("trained", "s2"): table}, seeds=2, ridge=1e-6)
    found = list(geolocation.geolocation(bench))
    assert values(found, encoder="trained", probe="knn", metric="median km")[0] < 700
    assert values(found, encoder="trained", probe="ridge", metric="mean km")[0] < 1
    guesses = [values(found, encoder="random", probe=probe, metric="median km") for probe in ("knn", "ridge")]
    assert np.mean(guesses) == pytest.approx(np.pi / 2 * EARTH_RADIUS_KM, rel=0.2)
    assert [(one.features, one.metric.name) for one in found[:2]] == [("none", "median km"), ("none", "mean km")]


def test_the_nearest_directions_are_averaged_across_the_antimeridian() -> None:
    lonlat = np.array([[179.0, 0.0], [-179.0, 0.0], [0.0, 0.0], [180.0, 0.0]])
    planet = Planet({"train": 3, "test": 1}, n_looks=1, lonlat=lonlat)
    table = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0], [1.0, 0.0]])[:, None]
    found = list(geolocation.geolocation(FakeBench(planet, {("trained", "s2"): table}, k=2)))
    assert values(found, encoder="trained", probe="knn") == pytest.approx([0.0, 0.0], abs=1e-3)


def test_looks_that_lie_nowhere_are_left_out() -> None:
    lonlat = scattered(12)
    lonlat[[0, 11]] = np.nan
    found = list(geolocation.geolocation(FakeBench(Planet({"train": 8, "test": 4}, lonlat=lonlat))))
    assert {(one.n_train, one.n_test) for one in found} == {(7, 3)}
    nowhere = Planet({"train": 8, "test": 4}, lonlat=np.full((12, 2), np.nan))
    with pytest.raises(TrainingError, match="nothing says where these looks were taken; give lon and lat"):
        list(geolocation.geolocation(FakeBench(nowhere)))


# ------------------------------------------------------------------------------------------------ what is possible


def test_what_is_possible_depends_on_labels_and_sensors() -> None:
    whole, _ = changing(12)
    assert possible(FakeBench(whole, shown=BOTH)) == tuple(TASKS)
    assert set(TASKS) == set(MISSING)
    assert "cross-sensor" not in possible(FakeBench(whole))
    plain = Planet({"train": 8, "test": 4})
    assert possible(FakeBench(plain)) == ("classification", "retrieval", "geolocation")
    bare = Planet({"train": 8, "test": 4}, labels=np.zeros((12, 2), int), lonlat=np.full((12, 2), np.nan))
    assert possible(FakeBench(bare, shown=BOTH)) == ("cross-sensor",)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_what_is_impossible_says_in_one_line_what_is_missing(name: str) -> None:
    bare = Planet({"train": 8, "test": 4}, labels=np.zeros((12, 2), int), lonlat=np.full((12, 2), np.nan))
    bench: Any = FakeBench(bare)
    with pytest.raises(TrainingError) as caught:
        list(TASKS[name](bench))
    assert str(caught.value) == MISSING[name](bench)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["classification", "multilabel", "retrieval", "cross-sensor", "events", "geolocation"])
def test_a_place_on_both_sides_is_refused_and_not_passed_over(name: str) -> None:
    planet, _ = changing(12)
    lonlat = planet.facts.lonlat
    lonlat[10] = lonlat[1]
    bench: Any = FakeBench(planet, shown=BOTH)
    assert name in possible(bench)
    with pytest.raises(TrainingError, match=r"^place .* is in both the train split and the judged split"):
        list(TASKS[name](bench))


def test_real_encoders_are_asked(real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "Settings", partial(Settings, least_steps=2))
    planet, _ = changing(12, size=24)
    bench = real(planet, "s2+s1", supervised=True)
    counts = {"cross-sensor": 2 * 2 * 3, "events": 3 * 2 * 6, "geolocation": 2 * (1 + 3 * 5)}
    for name, count in counts.items():
        found = list(TASKS[name](bench))
        assert len(found) == count
        assert all(np.isfinite(value(one)) for one in found)
        assert len({(one.n_test, one.metric.groups) for one in found}) == 1
        assert bootstrap.estimate([found[0].metric, found[0].metric], replicates=9).value == value(found[0])
