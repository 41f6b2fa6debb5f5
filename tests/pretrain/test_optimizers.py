"""Optimisers: a step worked by hand, torch's own as oracle, resuming; schedules as functions of the step."""

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.optimizers import (
    LARS,
    OPTIMIZERS,
    build_optimizer,
    learning_rate_at,
    parameter_groups,
    weight_decay_at,
)


def parameter(values: list[Any], gradient: list[Any] | None) -> nn.Parameter:
    made = nn.Parameter(torch.tensor(values, dtype=torch.float64))
    made.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float64)
    return made


def test_two_steps_of_lars_by_hand() -> None:
    weight = parameter([[3.0, 4.0]], [[0.6, 0.8]])
    optimizer = LARS([weight], lr=2.0, momentum=0.9, weight_decay=0.1, trust=0.001)
    optimizer.step()
    # Gradient and decay (0.9, 1.2), of length 1.5, are brought to a thousandth of the weights' length 5.
    assert weight.tolist() == [pytest.approx([3 - 2 * 0.003, 4 - 2 * 0.004], abs=1e-15)]
    weight.grad = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    before = weight.detach().clone()
    optimizer.step()
    decayed = torch.tensor([[0.0, 1.0]], dtype=torch.float64) + 0.1 * before
    velocity = (
        0.9 * torch.tensor([[0.003, 0.004]], dtype=torch.float64) + 0.001 * before.norm() / decayed.norm() * decayed
    )
    assert torch.allclose(weight, before - 2 * velocity, rtol=0, atol=1e-15)


def test_lars_neither_scales_nor_decays_biases_and_norms() -> None:
    layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    before = {name: value.detach().clone() for name, value in layer.named_parameters()}
    for value in layer.parameters():
        value.grad = torch.ones_like(value)
    build_optimizer("lars", layer, learning_rate=0.5, weight_decay=0.1, momentum=0.0).step()
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(layer.get_parameter(name), before[name] - 0.5)
    change = layer.get_parameter("0.weight") - before["0.weight"]
    assert change.norm().item() == pytest.approx(0.5 * 0.001 * before["0.weight"].norm().item())


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_length_of_a_gradient_does_not_matter_to_lars(factor: float) -> None:
    weight = parameter([[3.0, 4.0]], [[0.6 * factor, 0.8 * factor]])
    LARS([weight], lr=1.0).step()
    assert weight.tolist() == [pytest.approx([3 - 0.003, 4 - 0.004], abs=1e-14)]


@pytest.mark.parametrize(
    ("values", "gradient", "after"),
    [([[0.0, 0.0]], [[0.6, 0.8]], [[-0.6, -0.8]]), ([[3.0, 4.0]], [[0.0, 0.0]], [[3.0, 4.0]])],
)
def test_lars_leaves_zero_weights_and_zero_gradients_unscaled(values: Any, gradient: Any, after: Any) -> None:
    weight = parameter(values, gradient)
    LARS([weight], lr=1.0).step()
    assert weight.tolist() == after


def test_lars_passes_over_what_has_no_gradient() -> None:
    moved, still = parameter([[3.0, 4.0]], [[1.0, 0.0]]), parameter([[3.0, 4.0]], None)
    optimizer = LARS([moved, still], lr=1.0, weight_decay=0.1)
    optimizer.step()
    assert still.tolist() == [[3.0, 4.0]]
    assert still not in optimizer.state
    assert moved.tolist() != [[3.0, 4.0]]


def test_lars_steps_with_the_loss_of_a_closure() -> None:
    weight = parameter([[3.0, 4.0]], None)

    def closure() -> float:
        weight.grad = None
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert LARS([weight], lr=1.0).step(closure) == 25.0
    assert weight.tolist() == [pytest.approx([3 - 0.003, 4 - 0.004])]


def trained(layer: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()


def network() -> nn.Module:
    layer = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2))
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn(value.shape, generator=rng))
    return layer


def test_without_scaling_lars_is_sgd() -> None:
    ours, theirs = network(), network()
    trained(ours, LARS([{"params": ours.parameters(), "is_weight": False}], lr=0.1, weight_decay=0.01), 0, 6)
    trained(theirs, torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01), 0, 6)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(own, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimizer_goes_on_bit_for_bit(name: str) -> None:
    def built(layer: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(name, layer, learning_rate=0.1, weight_decay=0.01)

    whole = network()
    trained(whole, built(whole), 0, 10)
    halves = network()
    optimizer = built(halves)
    trained(halves, optimizer, 0, 5)
    resumed = network()
    resumed.load_state_dict(halves.state_dict())
    second = built(resumed)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(resumed, second, 5, 10)
    for own, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(own, other)
    # The state counts: a fresh optimiser leads elsewhere.
    trained(halves, built(halves), 5, 10)
    assert not torch.equal(next(halves.parameters()), next(whole.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_weights_that_are_trained_decay(name: str) -> None:
    layer = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2), nn.Linear(2, 2))
    layer[3].requires_grad_(False)
    weights, others = build_optimizer(name, layer, learning_rate=0.1, weight_decay=0.3).param_groups
    assert [p.ndim for p in weights["params"]] == [4, 2]
    assert [p.ndim for p in others["params"]] == [1, 1, 1, 1]
    assert (weights["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert (weights["is_weight"], others["is_weight"]) == (True, False)
    assert weights["lr"] == others["lr"] == 0.1


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(TrainingError, match="optimizer 'adam' is not one of adamw, sgd, lars"):
        build_optimizer("adam", network(), learning_rate=0.1, weight_decay=0.0)
    with pytest.raises(TrainingError, match="no parameter to train"):
        parameter_groups(network().requires_grad_(False), 0.1)
    with pytest.raises(TrainingError, match="schedule 'linear' is not one of cosine, steps, constant"):
        learning_rate_at(0, 10, peak=1.0, schedule="linear")  # type: ignore[arg-type]


def test_warm_up_and_half_a_cosine_by_hand() -> None:
    rates = [learning_rate_at(step, 8, peak=2.0, warmup_steps=4, floor=0.2) for step in range(9)]
    middle = [0.2 + 1.8 * (1 + math.cos(math.pi * share)) / 2 for share in (0, 0.25, 0.5, 0.75, 1)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, *middle])
    assert rates[6] == pytest.approx(1.1)


def test_steps_drop_to_a_tenth() -> None:
    rates = [learning_rate_at(step, 10, peak=1.0, schedule="steps") for step in range(10)]
    assert rates == pytest.approx([1.0] * 6 + [0.1] * 2 + [0.01] * 2)
    # As published for 200 epochs: at 120 and 160.
    assert learning_rate_at(119, 200, peak=1.0, schedule="steps") == 1.0
    assert learning_rate_at(120, 200, peak=1.0, schedule="steps") == pytest.approx(0.1)
    assert learning_rate_at(160, 200, peak=1.0, schedule="steps", floor=0.05) == 0.05


def test_a_constant_rate_rises_too() -> None:
    rates = [learning_rate_at(step, 5, peak=3.0, warmup_steps=3, schedule="constant") for step in range(5)]
    assert rates == pytest.approx([1.0, 2.0, 3.0, 3.0, 3.0])


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 60),
    share=st.floats(0, 1),
    schedule=st.sampled_from(["cosine", "steps", "constant"]),
    floor=st.floats(0, 1),
)
def test_rates_rise_to_the_peak_and_never_after(steps: int, share: float, schedule: Any, floor: float) -> None:
    warmup = round(share * steps)
    rates = [
        learning_rate_at(step, steps, peak=1.0, warmup_steps=warmup, schedule=schedule, floor=floor)
        for step in range(steps)
    ]
    assert all(0 < rate <= 1 + 1e-12 for rate in rates)
    assert all(later > earlier for earlier, later in pairwise(rates[:warmup]))
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rates[warmup:]))
    assert all(rate >= floor - 1e-12 for rate in rates[warmup:])
    if warmup:
        assert rates[warmup - 1] == 1.0


def test_weight_decay_rises_along_half_a_cosine() -> None:
    values = [weight_decay_at(progress, 0.04, 0.4) for progress in (0, 0.5, 1)]
    assert values == pytest.approx([0.04, 0.22, 0.4])
    assert weight_decay_at(0.3, 0.1, 0.1) == pytest.approx(0.1)
