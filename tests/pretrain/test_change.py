"""Change estimated in training: the mixture that labels it, its threshold, and the state between the steps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.noise import U, matrix
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain.objectives import change as change_module
from geossl_data.pretrain.objectives.change import ChangeState, change_ratio, two_gaussians
from geossl_data.pretrain.objectives.seasonal import distances

K1 = matrix(torch.cos, 0.41, 0.2)


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_golden_ratio() -> None:
    long, short = distances(U, K1)
    assert change_ratio(long, short)[0].item() == pytest.approx(0.8712298876979, abs=1e-12)


def test_distances_are_to_the_other_half_and_to_another_date() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    queries = torch.stack([axes[0], axes[0], 2 * axes[1], axes[2]])  # places (0, 1) and (2, 3)
    others = torch.stack([axes[0], -axes[0], axes[1], axes[3]])
    long, short = distances(queries, others)
    assert long.tolist() == pytest.approx([0, 0, math.sqrt(2), math.sqrt(2)])
    assert short.tolist() == pytest.approx([0, 2, 0, math.sqrt(2)])


def test_constant_features_have_a_finite_ratio() -> None:
    assert change_ratio(of(0, 1), of(0, 0)).tolist() == pytest.approx([0, 1e4])


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(10, 1e6), long=st.floats(0.5, 2), short=st.floats(0.5, 2))
def test_the_ratio_of_large_distances_has_no_scale(scale: float, long: float, short: float) -> None:
    a, b = torch.tensor(long, dtype=torch.float64), torch.tensor(short, dtype=torch.float64)
    assert change_ratio(scale * a, scale * b).item() == pytest.approx(change_ratio(a, b).item(), rel=3e-4)


def test_the_first_observation_counts_as_it_is_and_later_ones_by_a_fifth() -> None:
    state = ChangeState(3).double()
    place, half = torch.tensor([1]), torch.tensor([1])
    expected = None
    for long, short in ((0.9, 0.3), (0.5, 0.5), (1.2, 0.2)):
        state.observe(place, half, of(long).double(), of(short).double())
        now = np.array([np.float32(long) / (np.float32(short) + 1e-4), np.float32(long), np.float32(short)])
        expected = now if expected is None else 0.8 * expected + 0.2 * now
        assert [state.ratio[1, 1].item(), state.long[1, 1].item(), state.short[1, 1].item()] == pytest.approx(
            expected.tolist(), rel=1e-6
        )
    assert state.visited.nonzero().tolist() == [[1, 1]]
    assert state.ratio.count_nonzero() == 1
    assert state.labels.tolist() == [[-1, -1, -1], [-1, 0, -1]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_observation_that_is_not_finite_is_left_out(bad: float) -> None:
    state = ChangeState(2)
    both, half = torch.tensor([0, 1]), torch.tensor([0, 0])
    state.observe(both, half, of(bad, 1), of(1, 1))
    assert state.visited.tolist() == [[False, True], [False, False]]
    before = state.ratio.clone()
    state.observe(both, half, of(bad, bad), of(1, 1))
    assert torch.equal(state.ratio, before)


def test_the_mixture_finds_two_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1.0, 0.1, 3000), rng.normal(2.0, 0.2, 1000)])
    found = two_gaussians(rng.permutation(values))
    assert found is not None
    assert found.means == pytest.approx((1.0, 2.0), abs=0.02)
    assert found.deviations == pytest.approx((0.1, 0.2), abs=0.02)
    assert found.weights == pytest.approx((0.75, 0.25), abs=0.01)
    assert found.threshold is not None
    assert 1.0 < found.threshold < 2.0
    # Where both weigh the same, by bisection.
    low, high = 1.0, 2.0

    def upper_wins(x: float) -> bool:
        a, b = (
            w / s * math.exp(-0.5 * ((x - m) / s) ** 2)
            for w, m, s in zip(found.weights, found.means, found.deviations, strict=True)
        )
        return b > a

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if upper_wins(middle) else (middle, high)
    assert found.threshold == pytest.approx(low, abs=1e-9)
    assert found.bic_two < found.bic_one


def test_one_gaussian_is_told_by_the_criterion() -> None:
    values = np.random.default_rng(1).normal(1.0, 0.2, 1000)
    found = two_gaussians(values)
    assert found is not None
    assert found.bic_one < found.bic_two
    likelihood = -0.5 * len(values) * (math.log(2 * math.pi * values.var()) + 1)
    assert found.bic_one == pytest.approx(2 * math.log(len(values)) - 2 * likelihood)


def test_a_wide_upper_gaussian_does_not_claim_the_smallest_values() -> None:
    """Its posterior would: with unequal deviations it wins on both sides."""
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(1.0, 0.02, 900), rng.normal(1.3, 0.5, 300), [0.05]])
    state = ChangeState(len(values))
    everyone = torch.arange(len(values))
    # A short distance of 1 makes the ratio, nearly, the long one.
    state.observe(everyone, torch.zeros_like(everyone), torch.from_numpy(values).float(), torch.ones(len(values)))
    numbers = state.relabel()
    assert state.labels[0, -1] == 0
    changed = state.labels[0] == 1
    assert changed.any()
    assert state.ratio[0][changed].min() > state.ratio[0][~changed].max()
    assert numbers["change_threshold"] > 1.0


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(0, 50), min_size=0, max_size=30), seed=st.integers(0, 100))
def test_any_values_have_a_threshold_above_the_lower_mean_or_none(values: list[float], seed: int) -> None:
    found = two_gaussians(np.array(values))
    again = two_gaussians(np.random.default_rng(seed).permutation(np.array(values)))
    assert found == again  # order does not matter, and nothing is drawn
    if found is not None:
        assert found.means[0] <= found.means[1]
        assert all(math.isfinite(x) for x in (*found.means, *found.deviations, found.bic_one, found.bic_two))
        assert found.threshold is None or found.threshold > found.means[0]


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [2.0] * 9, [math.nan] * 4, [math.nan, 3.0], [math.inf, 1.0], [1.0, 1.0 + 1e-9]],
    ids=["none", "one", "equal", "nan", "one and nan", "one and inf", "nearly equal"],
)
def test_where_nothing_can_be_told_apart_there_is_no_mixture(values: list[float]) -> None:
    assert two_gaussians(np.array(values)) is None


def test_of_many_values_quantiles_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(1.0, 0.1, 3000), rng.normal(1.6, 0.2, 1500)])
    whole = two_gaussians(values)
    monkeypatch.setattr(change_module, "MOST_VALUES", 500)
    few = two_gaussians(values)
    assert whole is not None
    assert few is not None
    assert few.threshold == pytest.approx(whole.threshold, abs=0.01)
    assert few.bic_two == pytest.approx(whole.bic_two, abs=0.01 * len(values))


def filled(ratios: list[float]) -> ChangeState:
    """Of places whose earlier halves have these ratios; the later were never seen."""
    state = ChangeState(len(ratios))
    everyone = torch.arange(len(ratios))
    state.observe(everyone, torch.zeros_like(everyone), of(*ratios) * (1 + 1e-4), torch.ones(len(ratios)))
    return state


def test_labels_follow_the_ratios_of_each_half() -> None:
    state = filled([1.0, 1.1, 0.9, 3.0, 1.05, 3.1, 2.9, 1.0])
    assert not state.changed.any()  # nothing is known before the first fit
    numbers = state.relabel()
    assert state.labels.tolist() == [[0, 0, 0, 1, 0, 1, 1, 0], [-1] * 8]
    assert numbers["changed_places"] == pytest.approx(3 / 8)
    assert numbers["relabelled"] == pytest.approx(3 / 8)
    assert 1.1 < numbers["change_threshold"] < 2.9
    assert numbers["bic_two"] < numbers["bic_one"]
    assert state.relabel()["relabelled"] == 0
    places, halves = torch.tensor([3, 3, 0]), torch.tensor([0, 1, 0])
    assert state.changed_of(places, halves).tolist() == [True, False, False]


@pytest.mark.parametrize("ratios", [[2.0] * 5, [1.0], [math.nan, math.nan, 1.0]])
def test_degenerate_ratios_leave_everything_unchanged(ratios: list[float]) -> None:
    state = filled(ratios)
    state.changed.fill_(True)  # a label of before goes
    numbers = state.relabel()
    assert not state.changed.any()
    assert numbers["changed_places"] == 0
    assert set(numbers) == {"changed_places", "relabelled"}


def test_nothing_seen_is_nothing_changed() -> None:
    assert ChangeState(4).relabel() == {"changed_places": 0.0, "relabelled": 0.0}


def test_state_survives_saving() -> None:
    state = filled([1.0, 1.1, 3.0, 0.9])
    state.relabel()
    other = ChangeState(4)
    other.load_state_dict(state.state_dict())
    assert torch.equal(other.labels, state.labels)
    again = torch.tensor([2]), torch.tensor([0]), of(1.0), of(1.0)
    for each in (state, other):
        each.observe(*again)
        each.relabel()
    assert torch.equal(other.ratio, state.ratio)
    assert torch.equal(other.labels, state.labels)


def test_places_have_to_be_known() -> None:
    with pytest.raises(TrainingError, match="without places"):
        ChangeState(0)
