"""Queues, averages and momentum contrast: published formulae, and in which order a step does what."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.noise import Q, U, V, alike, batch, setup, step, train
from torch import nn
from torch.nn.functional import normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain.objectives.moco import MoCo, MoCo3, aligned_contrast, key_contrast
from geossl_data.pretrain.objectives.negatives import Ground, no_negatives
from geossl_data.pretrain.objectives.parts import Queue, averaged_copy, momentum_at, move_average
from geossl_data.pretrain.views import Draws, generator


def ground(first: int, n: int) -> Ground:
    """Places of these numbers, a degree of longitude apart."""
    rows = torch.arange(first, first + n)
    return Ground(rows, torch.stack([rows.double(), torch.zeros(n, dtype=torch.float64)], dim=1))


def keys(first: int, n: int, dim: int = 3) -> torch.Tensor:
    """Rows that hold their own number."""
    return torch.arange(first, first + n, dtype=torch.float32)[:, None].expand(n, dim)


@pytest.mark.parametrize(("temperature", "value"), [(0.07, 0.8626372671501796), (0.2, 0.73751210920979)])
def test_golden_values_with_a_queue(temperature: float, value: float) -> None:
    assert key_contrast(U, V, Q, temperature=temperature).item() == pytest.approx(value, abs=1e-12)


def test_golden_value_of_moco3() -> None:
    assert aligned_contrast(U, V, temperature=0.2).item() == pytest.approx(0.08849554887888705, abs=1e-12)


@pytest.mark.parametrize("n_keys", [1, 7])
def test_identical_embeddings_leave_only_the_guess(n_keys: int) -> None:
    ones = torch.ones(5, 4, dtype=torch.float64)
    value = key_contrast(ones, ones, torch.ones(n_keys, 4, dtype=torch.float64), temperature=0.07)
    assert value.item() == pytest.approx(math.log(1 + n_keys))
    assert aligned_contrast(ones, ones, temperature=0.3).item() == pytest.approx(0.6 * math.log(5))


def test_gradients() -> None:
    queries, own, negatives = (x.clone().requires_grad_() for x in (U, V, Q))
    left_out = torch.rand(4, 10, generator=torch.Generator().manual_seed(0)) < 0.4
    assert torch.autograd.gradcheck(
        lambda q, k, n: key_contrast(q, k, n, temperature=0.3, left_out=left_out), (queries, own, negatives)
    )
    square = left_out[:, :4]
    assert torch.autograd.gradcheck(
        lambda q, k: aligned_contrast(q, k, temperature=0.3, left_out=square), (queries, own)
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_negative_left_out_lowers_the_loss_and_gets_no_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, own, negatives = (torch.from_numpy(rng.standard_normal((n, 5))) for n in (3, 3, 6))
    left_out = torch.from_numpy(rng.random((3, 6)) < 0.5)
    left_out[:, 2] = True
    negatives.requires_grad_()
    masked = key_contrast(queries, own, negatives, temperature=0.2, left_out=left_out)
    assert masked <= key_contrast(queries, own, negatives, temperature=0.2)
    (gradient,) = torch.autograd.grad(masked, negatives)
    assert gradient[2].abs().max() == 0
    counted = key_contrast(
        queries, own, negatives[[0, 1, 3, 4, 5]], temperature=0.2, left_out=left_out[:, [0, 1, 3, 4, 5]]
    )
    torch.testing.assert_close(masked, counted)


def test_the_own_key_counts_though_its_place_is_left_out() -> None:
    mask = torch.eye(4, dtype=torch.bool)
    assert aligned_contrast(U, V, temperature=0.2, left_out=mask) == aligned_contrast(U, V, temperature=0.2)
    everything = torch.ones(4, 10, dtype=torch.bool)
    assert key_contrast(U, V, Q, temperature=0.2, left_out=everything).item() == pytest.approx(0.0, abs=1e-12)


def test_a_queue_starts_with_random_directions_from_nowhere() -> None:
    queue, again, other = Queue(50, 8, 1), Queue(50, 8, 1), Queue(50, 8, 2)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))
    assert torch.equal(queue.keys, again.keys)
    assert not torch.equal(queue.keys, other.keys)
    assert not no_negatives(ground(0, 5), queue.ground, km=20_000).any()
    assert queue.tag.bincount().tolist() == [25, 25]
    with pytest.raises(TrainingError, match="queue 0 holds no key"):
        Queue(0, 8, 1)


def test_a_queue_overwrites_the_oldest_and_wraps_around() -> None:
    """Ten slots and steps of four: no size has to divide another."""
    queue = Queue(10, 3, 0)
    for first in (0, 4, 8):
        queue.push(keys(first, 4), ground(first, 4), torch.full((4,), first))
    slots = [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert queue.keys[:, 0].tolist() == slots
    assert queue.index.tolist() == slots
    assert queue.lonlat[:, 0].tolist() == slots
    assert queue.tag.tolist() == [8, 8, 0, 0, 4, 4, 4, 4, 8, 8]
    assert queue.pointer.item() == 2


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 9), steps=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_a_queue_holds_the_last_keys_in_order(size: int, steps: list[int]) -> None:
    queue, total = Queue(size, 2, 0), 0
    for n in steps:
        queue.push(keys(total, n, 2), ground(total, n))
        total += n
    held = queue.index.roll(-int(queue.pointer)).tolist()  # from the oldest on
    assert held[-min(size, total) :] == list(range(max(0, total - size), total))
    assert held[: size - min(size, total)] == [-1] * (size - min(size, total))
    assert queue.keys[:, 0][queue.index >= 0].tolist() == queue.index[queue.index >= 0].tolist()


def test_keys_of_a_queue_have_no_gradient_and_its_state_is_saved() -> None:
    queue = Queue(4, 3, 0)
    queue.push(keys(0, 3).clone().requires_grad_() * 2, ground(0, 3))
    assert not queue.keys.requires_grad
    other = Queue(4, 3, 9)
    other.load_state_dict(queue.state_dict())
    queue.push(keys(5, 2), ground(5, 2))
    other.push(keys(5, 2), ground(5, 2))
    assert queue.index.tolist() == other.index.tolist() == [6, 1, 2, 5]
    assert not list(queue.parameters())


def test_an_average_moves_by_its_share_and_keeps_its_buffers() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    average = averaged_copy(module)
    assert not any(p.requires_grad for p in average.parameters())
    before = copy.deepcopy(average.state_dict())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.arange(parameter.numel()).reshape(parameter.shape))
    module(torch.ones(4, 3, dtype=torch.float64))  # moves the statistics of its own batch norm alone
    move_average(average, module, 0.9)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(average.state_dict()[name], 0.9 * before[name] + 0.1 * parameter.detach())
    for name, buffer in average.named_buffers():
        assert torch.equal(buffer, before[name])


def test_an_average_of_equal_weights_stays_where_it_is() -> None:
    module = nn.Linear(20, 20)
    average = averaged_copy(module)
    for momentum in (0.996, 0.5, 0.1):
        move_average(average, module, momentum)
    assert torch.equal(average.weight, module.weight)


def test_momentum_rises_along_half_a_cosine() -> None:
    assert momentum_at(0.0, 0.99, 1.0) == pytest.approx(0.99)
    assert momentum_at(0.5, 0.99, 1.0) == pytest.approx(0.995)
    assert momentum_at(1.0, 0.99, 1.0) == pytest.approx(1.0)
    assert momentum_at(0.3, 0.999, 0.999) == 0.999


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("objective", [MoCo, MoCo3])
def test_keys_follow_with_the_weights_before_the_step(objective: Any) -> None:
    module = objective(setup(momentum=0.9, momentum_end=0.9))
    start = weights(module.network)
    train(module, [batch()])
    after = weights(module.network)
    # One step: the average moved before the weights did, so it still is where all began.
    assert all(torch.equal(a, b) for a, b in zip(weights(module.average), start, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(after, start, strict=True))
    module.begin_step(0.5)
    for key, old, new in zip(weights(module.average), start, after, strict=True):
        torch.testing.assert_close(key, 0.9 * old + 0.1 * new)


@pytest.mark.parametrize("objective", [MoCo, MoCo3])
@pytest.mark.parametrize("kinds", [("augment",), ("sensor",), ("season", "sensor"), ("augment", "long")])
def test_every_weight_of_the_queries_is_trained_and_none_of_the_keys(objective: Any, kinds: tuple[str, ...]) -> None:
    module = objective(setup(kinds))
    outcome = step(module, batch(looks=2))
    assert set(outcome.terms) == {"loss", "spread", "top1"}
    assert [tuple(rows.shape) for rows in outcome.embeddings] == [(4, 6)] * len(module.encoders)
    outcome.terms["loss"].backward()
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad != name.startswith("average.")
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_keys_are_remembered_after_they_were_compared() -> None:
    module = MoCo(setup())
    before = copy.deepcopy(module.queues[0])
    given_batch = batch(first=5)
    outcome = step(module, given_batch)
    (queue,) = module.queues
    assert queue.index.tolist() == [5, 6, 7, 8] + [-1] * 8
    torch.testing.assert_close(queue.keys[:4].norm(dim=1), torch.ones(4))
    assert torch.equal(queue.keys[4:], before.keys[4:])
    # The loss is that of the random keys before.
    expected = key_contrast(outcome.embeddings[0], queue.keys[:4], before.keys, temperature=0.1)
    torch.testing.assert_close(outcome.terms["loss"], expected)


def test_two_sensors_have_a_queue_each_and_push_once_a_step() -> None:
    module = MoCo(setup(("sensor",)))
    before = copy.deepcopy(module.queues)
    outcome = step(module, batch())
    assert [queue.index.tolist() for queue in module.queues] == [[0, 1, 2, 3] + [-1] * 8] * 2
    # Queries of the first sensor meet keys of the second, and the reverse.
    losses = [
        key_contrast(query, queue.keys[:4], old.keys, temperature=0.1)
        for query, queue, old in zip(outcome.embeddings, module.queues, before, strict=True)
    ]
    torch.testing.assert_close(outcome.terms["loss"], (losses[0] + losses[1]) / 2)
    module.eval()
    views = module.views(batch(), Draws(generator(0), 4, slice(0, 4)))
    a, b = (normalize(rows) for rows in module.average(views))
    module(views, batch())
    torch.testing.assert_close(module.queues[0].keys[4:8], b)
    torch.testing.assert_close(module.queues[1].keys[4:8], a)


def test_one_encoder_of_both_sensors_has_two_queues_too() -> None:
    module = MoCo(setup(("sensor",), joint=True))
    step(module, batch())
    assert list(module.encoders) == ["s2+s1"]
    assert [int(queue.pointer) for queue in module.queues] == [4, 4]


@pytest.mark.parametrize(("km", "negatives"), [(0.0, [4, 5, 6, 7, 8, 9, 10, 11]), (200.0, [4, 5, 6, 7, 8, 9, 10, 11])])
def test_remembered_keys_of_the_same_and_of_near_places_are_left_out(km: float, negatives: list[int]) -> None:
    module = MoCo(setup(negatives_km=km)).eval()
    given_batch = batch(first=0)
    step(module, given_batch)
    queue = copy.deepcopy(module.queues[0])
    if km:  # the places of the second batch lie a degree, 111 km, beside those of the first
        given_batch = batch(first=0)
        given_batch.index.add_(100)
    outcome = step(module, given_batch)
    mask = torch.ones(4, 12, dtype=torch.bool)
    mask[:, negatives] = False
    near = torch.tensor([[abs(i - j) <= 1 for j in range(4)] for i in range(4)])
    mask[:, :4] = near if km else torch.eye(4, dtype=torch.bool)
    key = module.queues[0].keys[4:8]
    expected = key_contrast(outcome.embeddings[0], key, queue.keys, temperature=0.1, left_out=mask)
    torch.testing.assert_close(outcome.terms["loss"], expected)


def test_moco3_goes_both_ways_with_a_predictor() -> None:
    module = MoCo3(setup()).eval()
    given_batch = batch()
    views = module.views(given_batch, Draws(generator(0), 4, slice(0, 4)))
    q1, q2 = (module.predictors["s2"](rows) for rows in module.network(views))
    k1, k2 = module.average(views)
    expected = aligned_contrast(q1, k2, temperature=0.1) + aligned_contrast(q2, k1, temperature=0.1)
    torch.testing.assert_close(module(views, given_batch).terms["loss"], expected)


@pytest.mark.parametrize("embed", ["plain", "groups"])
def test_moco3_keeps_the_patch_embedding_of_a_transformer(embed: str) -> None:
    module = MoCo3(setup(encoder="tiny-vit", embed=embed))
    encoder: Any = module.encoders["s2"]
    frozen = encoder.embedding_parameters()
    assert frozen
    before = [parameter.detach().clone() for parameter in frozen]
    train(module, [batch(), batch(seed=1)])
    assert all(torch.equal(a, b) for a, b in zip(frozen, before, strict=True))
    rest = {name for name, parameter in module.network.named_parameters() if not parameter.requires_grad}
    assert len(rest) == len(frozen)
    # Three layers project and two predict, each with batch norm at its end.
    assert [
        sum(isinstance(layer, nn.Linear) for layer in head)
        for head in (module.network.heads["s2"], module.predictors["s2"])
    ] == [3, 2]
    assert isinstance(module.predictors["s2"][-1], nn.BatchNorm1d)
    assert isinstance(MoCo3(setup()).predictors["s2"][-1], nn.Linear)


@pytest.mark.parametrize("objective", [MoCo, MoCo3])
def test_what_makes_no_pairs_is_refused(objective: Any) -> None:
    with pytest.raises(TrainingError, match=f"{objective.__name__.lower()}: .* give --joint"):
        objective(setup(("augment",), {"s2": 3, "s1": 2}))


@pytest.mark.parametrize("objective", [MoCo, MoCo3])
def test_training_goes_on_from_saved_state(objective: Any) -> None:
    batches = [batch(seed=seed, first=4 * seed) for seed in range(4)]
    whole = objective(setup(momentum=0.9))
    train(whole, batches[:2])
    resumed = objective(setup(momentum=0.9, seed=7))
    resumed.load_state_dict(whole.state_dict())
    assert train(resumed, batches[2:]) == train(whole, batches[2:])
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_sensors_find_each_other_after_some_steps() -> None:
    module = MoCo3(setup(("sensor",), momentum=0.9, temperature=0.2))
    losses = train(module, [alike(6, seed=seed) for seed in range(14)], learning_rate=0.3)
    assert losses[-1] < 0.6 * losses[0]


def test_a_queue_is_learned_against_after_some_steps() -> None:
    module = MoCo(setup(("sensor",), momentum=0.9, temperature=0.5))
    losses = train(module, [alike(6, seed=seed) for seed in range(18)], learning_rate=0.3)
    # Two steps of six keys, those of the own place left out: chance is 1 in 11.
    assert losses[-1] < math.log(11) - 0.3


def test_bfloat16_on_the_way_leaves_the_loss_in_float32() -> None:
    module, given_batch = MoCo(setup()), batch()
    plain = step(module, given_batch).terms["loss"]
    module = MoCo(setup())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outcome = step(module, given_batch)
    assert outcome.embeddings[0].dtype == torch.bfloat16
    assert outcome.terms["loss"].dtype == torch.float32
    assert outcome.terms["loss"].item() == pytest.approx(plain.item(), abs=0.1)
    assert module.queues[0].keys.dtype == torch.float32


def test_a_batch_without_places_known_has_all_keys_as_negatives() -> None:
    unknown = batch()
    unknown.lonlat.fill_(math.nan)
    module = MoCo(setup(negatives_km=1000.0))
    assert step(module, unknown).terms["loss"].isfinite()
    assert not no_negatives(Ground(unknown.index + 50, unknown.lonlat), module.queues[0].ground, km=1000.0).any()
