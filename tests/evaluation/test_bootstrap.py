"""The bootstrap: draws counted, intervals that hold what they promise, and differences that pair."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bootstrap import Estimate, difference, estimate, resampled
from geossl_data.evaluation.metrics import Detection, Share


def share(values: Any) -> Share:
    hits = np.asarray(values, dtype=np.float64)
    return Share(name="mean", hits=hits, counts=np.ones(len(hits)))


@settings(max_examples=20, deadline=None)
@given(groups=st.integers(0, 40), replicates=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_each_replicate_draws_as_many_places_as_there_are(groups: int, replicates: int, seed: int) -> None:
    drawn = resampled(groups, replicates=replicates, seed=seed)
    assert drawn.shape == (replicates, groups)
    assert (drawn.sum(axis=1) == groups).all()
    assert (drawn >= 0).all()
    np.testing.assert_array_equal(drawn, resampled(groups, replicates=replicates, seed=seed))


def test_places_are_drawn_with_replacement_and_alike() -> None:
    drawn = resampled(50, replicates=4000, seed=3)
    # Multinomial: mean 1, variance 1 − 1/50, and (1 − 1/50)^50 of the places are not drawn.
    assert drawn.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)
    assert drawn.var() == pytest.approx(1 - 1 / 50, abs=0.02)
    assert (drawn == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)
    assert (resampled(50, replicates=4000, seed=4) != drawn).any()


def test_draws_that_others_pair_with_cannot_be_changed() -> None:
    drawn = resampled(3, replicates=2)
    with pytest.raises(ValueError, match="read-only"):
        drawn[0, 0] = 7


def test_replicates_are_the_means_of_the_places_drawn() -> None:
    values = np.array([0.0, 1.0, 5.0, 2.0])
    found = estimate([share(values)], replicates=300, seed=5)
    assert found.value == 2.0
    np.testing.assert_allclose(found.replicates, resampled(4, replicates=300, seed=5) @ values / 4)
    assert (found.low, found.high) == tuple(np.quantile(found.replicates, [0.025, 0.975]))
    narrow = estimate([share(values)], replicates=300, seed=5, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high


def test_intervals_of_a_known_share_hold_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [estimate([share(rng.random(80) < 0.7)], replicates=400) for _ in range(250)]
    held = np.mean([one.low <= 0.7 <= one.high for one in found])
    assert 0.90 < held < 0.98
    deviation = np.std([one.value for one in found])
    assert np.mean([one.high - one.low for one in found]) == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_looks_of_one_place_count_as_one() -> None:
    """Ten looks of each of 40 places that are all right or all wrong tell no more than one look of each."""
    right = np.random.default_rng(1).random(40) < 0.5
    many = Share(name="accuracy", hits=10.0 * right, counts=np.full(40, 10.0))
    one, other = estimate([many]), estimate([share(right)])
    assert (one.value, one.low, one.high) == (other.value, other.low, other.high)


def test_seeds_are_drawn_with_the_places() -> None:
    """Places all alike: what varies is the mean of three seeds, each drawn with replacement."""
    found = estimate([share(np.full(6, value)) for value in (0.0, 3.0, 6.0)], replicates=3000)
    assert found.value == 3.0
    possible, counts = np.unique(found.replicates.round(9), return_counts=True)
    assert possible.tolist() == [0, 1, 2, 3, 4, 5, 6]
    # Of the 27 draws of three seeds: one gives 0, three give 1, six 2, seven 3, and so on.
    assert counts / 3000 == pytest.approx(np.array([1, 3, 6, 7, 6, 3, 1]) / 27, abs=0.03)


def test_one_seed_leaves_the_draw_of_places_as_it_is() -> None:
    one, three = share([0, 1, 1, 0, 1]), [share([0, 1, 1, 0, 1])] * 3
    np.testing.assert_allclose(estimate([one]).replicates, estimate(three).replicates)


def test_differences_pair_by_place() -> None:
    rng = np.random.default_rng(2)
    hard = rng.random(100)
    one, other = estimate([share(hard + 0.01)]), estimate([share(hard)])
    assert other.low < one.low < other.high  # intervals that overlap
    found = difference(one, other)
    assert found.value == pytest.approx(0.01)
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.01))
    np.testing.assert_array_equal(found.replicates, one.replicates - other.replicates)
    back = difference(other, one)
    assert (back.low, back.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_differences_pair_whatever_the_number_of_seeds() -> None:
    hard = np.random.default_rng(2).random(30)
    found = difference(estimate([share(hard + 0.5)]), estimate([share(hard)] * 3))
    assert found.replicates == pytest.approx(np.full(1000, 0.5))


def test_unrelated_shares_differ_by_an_interval_as_wide_as_both() -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(150):
        a, b = rng.random((2, 80)) < 0.6
        found = difference(estimate([share(a)], replicates=300), estimate([share(b)], replicates=300))
        held.append(found.low <= 0 <= found.high)
    assert 0.90 < np.mean(held) < 0.99


def detection(*found: int) -> Detection:
    """Precision where each place has one pixel: 1 rightly detected, 0 wrongly, −1 nothing."""
    confusion = np.zeros((len(found), 2, 2))
    for place, kind in enumerate(found):
        confusion[place, max(kind, 0), int(kind >= 0)] = 1
    return Detection(name="precision", kind="precision", confusion=confusion)


def test_replicates_that_are_not_defined_are_left_out_of_the_interval() -> None:
    found = estimate([detection(1, 0, -1)], replicates=500)
    drawn = resampled(3, replicates=500)
    undefined = (drawn[:, :2] == 0).all(axis=1)
    assert 0 < undefined.sum() < 60
    np.testing.assert_array_equal(np.isnan(found.replicates), undefined)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_a_seed_without_a_value_leaves_the_mean_to_the_others() -> None:
    found = estimate([detection(-1, -1), detection(1, 1)], replicates=200)
    assert found.value == 1.0
    # A replicate that draws the first seed twice has none.
    assert 0.15 < np.isnan(found.replicates).mean() < 0.35
    assert set(found.replicates[~np.isnan(found.replicates)]) == {1.0}


def test_what_is_never_defined_has_no_interval() -> None:
    found = estimate([detection(-1, -1)], replicates=10)
    assert np.isnan([found.value, found.low, found.high, *found.replicates]).all()
    lost = difference(found, estimate([detection(1, 0)], replicates=10))
    assert np.isnan([lost.value, lost.low, lost.high]).all()


@dataclass(frozen=True)
class Counting:
    """A metric that remembers how it was asked."""

    asked: list[tuple[int, ...]]
    name: str = "counting"
    groups: int = 5

    def __call__(self, weights: Any) -> Any:
        self.asked.append(weights.shape)
        return weights @ np.arange(5.0)


def test_all_replicates_are_asked_for_at_once() -> None:
    metric = Counting([])
    estimate([metric], replicates=40)
    assert metric.asked == [(1, 5), (40, 5)]


@pytest.mark.parametrize(("sizes", "found"), [((), "no"), ((3, 4), "3, 4")])
def test_seeds_that_judge_other_places_are_refused(sizes: tuple[int, ...], found: str) -> None:
    with pytest.raises(TrainingError, match=f"metrics that judge {found} places; expected one number for all seeds"):
        estimate([share(np.ones(size)) for size in sizes])


def test_estimates_that_cannot_be_paired_are_refused() -> None:
    few, many = (Estimate(value=0.0, low=0.0, high=0.0, replicates=np.zeros(n)) for n in (2, 3))
    with pytest.raises(TrainingError, match="estimates of 2 and 3 replicates cannot be paired"):
        difference(few, many)
