"""Seasonal contrast: golden values of CACo, who is a negative of whom, heads apart, labels that survive."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.noise import Q, U, V, batch, matrix, setup, step, train
from torch import Tensor
from torch.nn.functional import normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.moco import key_contrast
from geossl_data.pretrain.objectives.negatives import Ground
from geossl_data.pretrain.objectives.seasonal import CACo, Halves, SeCo, long_term_left_out, seasonal_contrast
from geossl_data.pretrain.views import Draws, generator

KEYS = torch.stack([V, matrix(torch.cos, 0.41, 0.2), matrix(torch.sin, 0.19, 0.9)], dim=1)
"""Of four rows, (4, 3 views, 8)."""
SLOTS = torch.arange(10) % 2
"""Halves of the queue."""


def halves(changed: list[int], places: tuple[int, ...] = (0, 0, 1, 1)) -> Halves:
    """Rows of the earlier and the later half of each place in turn."""
    index = torch.tensor(places)
    lonlat = torch.stack([index.double(), torch.zeros(len(index), dtype=torch.float64)], dim=1)
    return Halves(Ground(index, lonlat), torch.arange(len(index)) % 2, torch.tensor(changed).bool())


def caco(
    changed: list[int],
    *,
    mask_cross_view: bool,
    keys: Tensor = KEYS,
    queries: Tensor = U,
    queue: Tensor = Q,
    masks: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss of each head, of queries, keys and a queue that all three share."""
    rows = halves(changed)
    own_view, other_views = masks or long_term_left_out(rows, rows, mask_cross_view=mask_cross_view)
    every = keys[:, :, None].expand(-1, -1, 3, -1)
    return seasonal_contrast(
        queries[:, None].expand(-1, 3, -1),
        every,
        every,
        [queue] * 3,
        temperature=0.07,
        queue_left_out=[rows.half[:, None] != SLOTS] * 3,
        own_view_left_out=own_view,
        other_views_left_out=other_views,
    )


NONE, SECOND, ALL = [0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "mask_cross_view", "losses"),
    [
        (NONE, False, (0.005196141259882658, 19.802971742944017, 7.353569285298827)),
        (NONE, True, (0.005196141259882658, 19.779549357787495, 7.229569371709951)),
        (SECOND, False, (0.005202122434877499, 19.87076241896024, 7.36226886532658)),
        (SECOND, True, (0.005202122434877499, 19.856055703881093, 7.306099134392801)),
        (ALL, False, (0.11479500013703392, 19.91635936550706, 7.366838731770038)),
        (ALL, True, (0.11479500013703392, 19.91635936550706, 7.366838731770038)),
    ],
)
def test_golden_values(changed: list[int], mask_cross_view: bool, losses: tuple[float, ...]) -> None:
    assert caco(changed, mask_cross_view=mask_cross_view).tolist() == pytest.approx(losses, abs=1e-12)


def brute_force(head: int, row: int, changed: list[int], *, mask_cross_view: bool) -> float:
    """The loss of one row by one head, from the text of the method."""
    unit = [[normalize(KEYS[n, view], dim=0) for view in range(3)] for n in range(4)]
    query = normalize(U[row], dim=0)
    negatives = [normalize(Q[slot], dim=0) for slot in range(10) if slot % 2 == row % 2]
    for n in range(4):
        same_place, other_half = n // 2 == row // 2, n % 2 != row % 2
        if other_half and (not same_place or changed[row]):
            negatives.append(unit[n][head])
        if head > 0 and not (same_place and other_half and not changed[row] and mask_cross_view):
            negatives += [unit[n][view] for view in range(3) if view != head]
    logits = torch.stack([query @ key for key in [unit[row][head], *negatives]]) / 0.07
    return float(torch.logsumexp(logits, 0) - logits[0])


@pytest.mark.parametrize("mask_cross_view", [False, True])
@settings(max_examples=10, deadline=None)
@given(changed=st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_the_loss_is_that_of_the_text_by_loops(mask_cross_view: bool, changed: list[int]) -> None:
    """Also where the two halves of a place have labels of their own."""
    expected = [
        np.mean([brute_force(head, row, changed, mask_cross_view=mask_cross_view) for row in range(4)])
        for head in range(3)
    ]
    assert caco(changed, mask_cross_view=mask_cross_view).tolist() == pytest.approx(expected)


def test_labels_all_changed_are_no_mask_at_all() -> None:
    rows = halves(ALL)
    other_half = rows.half[:, None] != rows.half
    masks = (~other_half, torch.zeros(4, 4, dtype=torch.bool))
    for mask_cross_view in (False, True):
        assert torch.equal(
            caco(ALL, mask_cross_view=mask_cross_view), caco(NONE, mask_cross_view=mask_cross_view, masks=masks)
        )


@pytest.mark.parametrize("mask_cross_view", [False, True])
def test_a_mask_lowers_the_loss_and_its_key_gets_no_gradient(mask_cross_view: bool) -> None:
    masked, whole = (caco(changed, mask_cross_view=mask_cross_view) for changed in (NONE, ALL))
    assert (masked <= whole).all()
    # In the eyes of row 0 alone: the other half of its place is row 1.
    keys = KEYS.clone().requires_grad_()
    rows = halves(NONE)
    own_view, other_views = long_term_left_out(rows, rows, mask_cross_view=mask_cross_view)
    every = keys[:, :, None].expand(-1, -1, 3, -1)
    losses = seasonal_contrast(
        U[:1, None].expand(-1, 3, -1),
        KEYS[:1, :, None].expand(-1, -1, 3, -1),
        every,
        [Q] * 3,
        temperature=0.07,
        queue_left_out=[torch.zeros(1, 10, dtype=torch.bool)] * 3,
        own_view_left_out=own_view[:1],
        other_views_left_out=other_views[:1],
    )
    for head in range(3):
        (gradient,) = torch.autograd.grad(losses[head], keys, retain_graph=True)
        size = gradient.abs().sum(dim=-1)  # (rows, views)
        assert size[1, head] == 0
        assert size[3, head] > 0  # the other half of the other place
        assert size[2, head] == 0  # its own half of the other place, of its own view
        others = [view for view in range(3) if view != head]
        assert bool((size[1, others] > 0).all()) == (head > 0 and not mask_cross_view)
        assert bool((size[0, others] > 0).all()) == (head > 0)  # the row's own other views


def test_gradients() -> None:
    queries, keys, queue = (x.clone().requires_grad_() for x in (U, KEYS, Q))
    assert torch.autograd.gradcheck(
        lambda q, k, s: caco(SECOND, mask_cross_view=True, queries=q, keys=k, queue=s),
        (queries, keys, queue),
        fast_mode=True,
    )


def test_near_places_are_no_negatives_and_stay_so_where_they_changed() -> None:
    rows = halves(ALL, (0, 0, 1, 1))  # a degree apart, 111 km
    own_view, other_views = long_term_left_out(rows, rows, km=120.0)
    apart = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
    assert torch.equal(other_views, apart)
    assert torch.equal(own_view, apart | (rows.half[:, None] == rows.half))
    far, _ = long_term_left_out(rows, rows, km=100.0)
    assert torch.equal(far, rows.half[:, None] == rows.half)


def draws(n: int) -> Draws:
    return Draws(generator(0), n, slice(0, n))


def season(**other: Any) -> SeCo:
    return SeCo(setup(("season",), **other))


def long_term(**other: Any) -> CACo:
    return CACo(setup(("long",), **other))


@pytest.mark.parametrize(("build", "looks", "rows"), [(season, 3, 4), (long_term, 6, 8)])
def test_an_objective_names_its_terms_and_trains_the_queries(build: Any, looks: int, rows: int) -> None:
    module, given_batch = build(), batch(looks=looks)
    assert module.looks == (LookPlan("season", 3) if rows == 4 else LookPlan("halves", 3))
    assert module.looks.n_looks == looks
    views = module.views(given_batch, draws(4))
    assert [tuple(view.images["s2"].shape) for view in views] == [(rows, 3, 16, 16)] * 4
    outcome = step(module, given_batch)
    extra = {"changed"} if rows == 8 else set()
    assert set(outcome.terms) == {"loss", "loss_0", "loss_1", "loss_2", "spread", "top1"} | extra
    torch.testing.assert_close(outcome.terms["loss"], sum(outcome.terms[f"loss_{head}"] for head in range(3)))
    assert [tuple(each.shape) for each in outcome.embeddings] == [(4, 6)] * (rows // 4)
    outcome.terms["loss"].backward()
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad != name.startswith("average.")
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("build", "looks"), [(season, 3), (long_term, 6)])
def test_heads_do_not_hear_of_each_others_losses(build: Any, looks: int) -> None:
    module = build()
    terms = step(module, batch(looks=looks)).terms
    for number, head in enumerate(module.network.heads):
        for other in range(3):
            gradients = torch.autograd.grad(
                terms[f"loss_{other}"],
                list(head.parameters()),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            largest = max(float(gradient.abs().max()) for gradient in gradients)
            assert (largest > 0) == (number == other)
    trunk = next(iter(module.encoders.values())).parameters()
    assert all(
        gradient.abs().sum() > 0 for gradient in torch.autograd.grad(terms["loss_0"], list(trunk), retain_graph=True)
    )


def test_heads_and_queues_differ_from_the_begin() -> None:
    module = season()
    first, second, _ = (head[0].weight for head in module.network.heads)
    assert not torch.equal(first, second)
    assert not torch.equal(module.queues[0].keys, module.queues[1].keys)


def test_seco_compares_with_queues_and_other_views() -> None:
    module, given_batch = season().eval(), batch(looks=3)
    before = copy.deepcopy(module.queues)
    views = module.views(given_batch, draws(4))
    (queries,) = module.network(views[:1])
    keys = torch.stack(module.average(views[1:]), dim=1)
    terms = module(views, given_batch).terms
    nothing = torch.zeros(4, 12, dtype=torch.bool)
    expected = key_contrast(queries[:, 0], keys[:, 0, 0], before[0].keys, temperature=0.1, left_out=nothing)
    torch.testing.assert_close(terms["loss_0"], expected)
    for head, others in ((1, [0, 2]), (2, [0, 1])):
        negatives = torch.cat([before[head].keys, *(keys[:, view, head] for view in others)])
        expected = key_contrast(queries[:, head], keys[:, head, head], negatives, temperature=0.1)
        torch.testing.assert_close(terms[f"loss_{head}"], expected)
        torch.testing.assert_close(module.queues[head].keys[:4], normalize(keys[:, head, head]).detach())
    assert [queue.index.tolist()[:5] for queue in module.queues] == [[0, 1, 2, 3, -1]] * 3


def test_keys_follow_with_the_weights_before_the_step() -> None:
    for module, looks in ((season(momentum=0.9), 3), (long_term(momentum=0.9), 6)):
        start = [parameter.detach().clone() for parameter in module.network.parameters()]
        train(module, [batch(looks=looks)])
        assert all(torch.equal(a, b) for a, b in zip(module.average.parameters(), start, strict=True))
        assert any(not torch.equal(a, b) for a, b in zip(module.network.parameters(), start, strict=True))


def test_a_batch_of_caco_is_the_halves_of_each_place_in_turn() -> None:
    module, given_batch = long_term(), batch(looks=6)
    given_batch.images["s2"].copy_(
        (10 * torch.arange(4)[:, None] + torch.arange(6)).float()[:, :, None, None, None].expand(4, 6, 3, 20, 20)
    )
    q, k0, k1, k2 = (view.images["s2"][:, 0, 0, 0].tolist() for view in module.views(given_batch, draws(4)))
    assert q == pytest.approx([0, 3, 10, 13, 20, 23, 30, 33], abs=1e-4)
    assert k2 == pytest.approx(q, abs=1e-4)
    assert k0 == pytest.approx([1, 4, 11, 14, 21, 24, 31, 34], abs=1e-4)
    assert k1 == pytest.approx([2, 5, 12, 15, 22, 25, 32, 35], abs=1e-4)
    step(module, given_batch)
    for queue in module.queues:
        assert queue.index[:8].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert queue.tag.tolist() == [0, 1] * 6


def test_the_queue_answers_to_the_half_of_each_slot() -> None:
    """Three places a step and eleven slots: the half stands in the slot, not in its number."""
    module = long_term(queue=11).eval()
    for first in (0, 3):
        step(module, batch(3, 6, first=first))
    queue = copy.deepcopy(module.queues[0])
    assert queue.index.tolist() == [5, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert queue.tag.tolist() == [1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    given_batch = batch(3, 6, first=4)  # places 4, 5, 6: stale keys of 4 and 5 are in the queue
    outcome = step(module, given_batch)
    queries = torch.stack(outcome.embeddings, dim=1).flatten(0, 1)
    keys = normalize(module.queues[0].keys[[1, 2, 3, 4, 5, 6]])
    place, half = torch.tensor([4, 4, 5, 5, 6, 6]), torch.tensor([0, 1] * 3)
    left_out = (queue.tag != half[:, None]) | (queue.index == place[:, None])
    own_view = (half == half[:, None]) | (place == place[:, None])
    expected = key_contrast(
        queries, keys, torch.cat([queue.keys, keys]), temperature=0.1, left_out=torch.cat([left_out, own_view], dim=1)
    )
    torch.testing.assert_close(outcome.terms["loss_0"], expected)


def test_before_the_first_fit_nothing_counts_as_changed() -> None:
    module = long_term()
    terms = step(module, batch(looks=6)).terms
    assert terms["changed"] == 0
    assert module.change is not None
    assert module.change.labels[:, :4].tolist() == [[0] * 4] * 2
    assert module.change.labels[:, 4:].tolist() == [[-1] * 4] * 2


def test_change_is_estimated_by_the_average_and_its_second_head() -> None:
    module, given_batch = long_term().eval(), batch(looks=6)
    views = module.views(given_batch, draws(4))
    module(views, given_batch)
    with torch.no_grad():
        query, key = (normalize(each[:, 1]) for each in module.average([views[0], views[2]]))
    assert module.change is not None
    for place in range(4):
        earlier, later = query[2 * place], query[2 * place + 1]
        long = (earlier - later).norm()
        for half in range(2):
            short = (query[2 * place + half] - key[2 * place + half]).norm()
            torch.testing.assert_close(module.change.long[half, place], long)
            torch.testing.assert_close(module.change.short[half, place], short)
            torch.testing.assert_close(module.change.ratio[half, place], long / (short + 1e-4))
    assert not any(parameter.grad is not None for parameter in module.parameters())


def test_labels_of_the_state_decide_who_is_a_negative() -> None:
    module, given_batch = long_term(), batch(looks=6)
    unchanged = step(copy.deepcopy(module), given_batch).terms
    assert module.change is not None
    module.change.changed.fill_(True)
    changed = step(module, given_batch).terms
    assert changed["changed"] == 1
    assert all(changed[f"loss_{head}"] > unchanged[f"loss_{head}"] for head in range(3))


def test_labels_can_be_the_scores_of_the_shards() -> None:
    module = long_term(change_labels="score", change_threshold=0.5)
    assert module.change is None
    assert module.end_epoch() == {}
    assert not any(name.startswith("change") for name in module.state_dict())
    given_batch = batch(looks=6)
    given_batch.change.copy_(torch.tensor([0.5, 0.4, math.nan, 0.9]))
    before = copy.deepcopy(module)
    terms = step(module, given_batch).terms
    assert terms["changed"] == 0.5
    # The same labels, had they been estimated.
    estimated = long_term()
    estimated.load_state_dict(before.state_dict(), strict=False)
    assert estimated.change is not None
    estimated.change.changed[:, [0, 3]] = True
    estimated.eval()
    before.eval()
    views = before.views(given_batch, draws(4))
    torch.testing.assert_close(before(views, given_batch).terms["loss"], estimated(views, given_batch).terms["loss"])


def test_mask_cross_view_is_an_option() -> None:
    strict, lax = (long_term(mask_cross_view=value) for value in (True, False))
    ours, theirs = (step(module, batch(looks=6)).terms for module in (strict, lax))
    torch.testing.assert_close(ours["loss_0"], theirs["loss_0"])
    assert ours["loss_1"] < theirs["loss_1"]
    assert ours["loss_2"] < theirs["loss_2"]


@pytest.mark.parametrize("build", [season, long_term])
def test_training_goes_on_from_saved_state(build: Any) -> None:
    """Also with the change labels, which come of an epoch that ended before the state was saved."""
    looks = 3 if build is season else 6
    batches = [batch(3, looks, seed=seed, first=3 * (seed % 2)) for seed in range(4)]
    whole = build(momentum=0.9)
    train(whole, batches[:2])
    if build is long_term:
        with torch.no_grad():
            whole.change.ratio[:, 0] += 5  # one place stands out
        assert whole.end_epoch()["changed_places"] == pytest.approx(2 / 12)
    resumed = build(momentum=0.9, seed=7)
    resumed.load_state_dict(whole.state_dict())
    assert train(resumed, batches[2:]) == train(whole, batches[2:])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_encoders_are_not_saved_twice() -> None:
    names = [name for name in long_term().state_dict() if name.endswith("stem.0.weight")]
    assert names == ["network.backbones.encoders.s2.stem.0.weight", "average.backbones.encoders.s2.stem.0.weight"]


def test_both_sensors_can_go_through_one_encoder() -> None:
    module = season(joint=True)
    assert list(module.encoders) == ["s2+s1"]
    assert step(module, batch(looks=3)).terms["loss"].isfinite()


@pytest.mark.parametrize("build", [SeCo, CACo])
def test_what_makes_no_sense_is_refused(build: Any) -> None:
    name = build.__name__.lower()
    for made in (setup(("sensor",)), setup(("season",), {"s2": 3, "s1": 2})):
        with pytest.raises(TrainingError, match=f"{name}: compares dates of one encoder, not sensors s2 and s1"):
            build(made)


def test_caco_needs_labels_that_exist_and_places() -> None:
    with pytest.raises(TrainingError, match="'guess' are not one of estimated, score"):
        long_term(change_labels="guess")
    with pytest.raises(TrainingError, match="without places"):
        long_term(places=np.empty((0, 2)))
    long_term(places=np.empty((0, 2)), change_labels="score")


def test_a_place_that_changed_is_found() -> None:
    """Places look the same on all dates but two, whose later half is another ground: their ratio stands out."""
    module = long_term(momentum=0.9, temperature=0.2)
    random = torch.Generator().manual_seed(6)
    ground = 2 * torch.randn(8, 2, 3, generator=random)
    ground[:6, 1] = ground[:6, 0]
    ground[6:, 1] = -ground[6:, 0]
    for number in range(4):
        given_batch = batch(8, 6, seed=number)
        level = ground.repeat_interleave(3, dim=1)[..., None, None]
        given_batch.images["s2"].mul_(0.5).add_(level)
        train(module, [given_batch], learning_rate=0.02)
    assert module.change is not None
    ratio = module.change.ratio.mean(dim=0)
    assert ratio[6:].min() > ratio[:6].max()
    numbers = module.end_epoch()
    assert module.change.changed[:, 6:].any()
    assert not module.change.changed.all()
    assert numbers["changed_places"] == module.change.changed.float().mean().item()
