"""Contrast within a batch: published formulae in float64, limits worked by hand, and who is a negative."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.noise import U, V, alike, batch, setup, step, train
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.contrastive import InfoNCE, SimCLR, info_nce, nt_xent
from geossl_data.pretrain.objectives.negatives import Ground, distances_km, no_negatives
from geossl_data.pretrain.objectives.parts import spread, top1
from geossl_data.pretrain.views import View

Loss = Callable[..., Tensor]
Objective = type[SimCLR] | type[InfoNCE]


def same(places: list[int]) -> Tensor:
    """Which places are the same."""
    index = torch.tensor(places)
    return index[:, None] == index[None, :]


@pytest.mark.parametrize(
    ("loss", "temperature", "value"),
    # From the formulae, transcribed in float64 by an independent program.
    [(nt_xent, 0.1, 0.3043803922784424), (nt_xent, 0.5, 0.9286499809616129), (info_nce, 0.07, 0.3649191816857429)],
)
def test_golden_values(loss: Loss, temperature: float, value: float) -> None:
    assert loss(U, V, temperature=temperature).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_identical_embeddings_leave_only_the_guess(n: int) -> None:
    ones = torch.ones(n, 6, dtype=torch.float64)
    assert nt_xent(ones, ones, temperature=0.2).item() == pytest.approx(math.log(2 * n - 1))
    assert info_nce(ones, ones, temperature=0.2).item() == pytest.approx(math.log(n))


def test_orthonormal_pairs() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    assert nt_xent(eye, eye, temperature=0.3).item() == pytest.approx(math.log(1 + 10 * math.exp(-1 / 0.3)))
    assert info_nce(eye, eye, temperature=0.3).item() == pytest.approx(math.log(1 + 5 * math.exp(-1 / 0.3)))


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_gradients(loss: Loss) -> None:
    a, b = U.clone().requires_grad_(), V.clone().requires_grad_()
    left_out = same([0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x, y: loss(x, y, temperature=0.3, left_out=left_out), (a, b))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 9), temperature=st.floats(0.05, 2))
def test_order_scale_and_sides_do_not_matter(seed: int, n: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.standard_normal((n, 5))) for _ in range(2))
    order = torch.from_numpy(rng.permutation(n))
    for loss in (nt_xent, info_nce):
        value = loss(a, b, temperature=temperature).item()
        assert loss(b, a, temperature=temperature).item() == pytest.approx(value)
        assert loss(a[order], b[order], temperature=temperature).item() == pytest.approx(value)
        assert loss(3 * a, 0.2 * b, temperature=temperature).item() == pytest.approx(value)


def brute_force(a: Tensor, b: Tensor, places: list[int], temperature: float, *, both: bool) -> float:
    """The loss by loops: `both` for NT-Xent (2n anchors), else symmetric InfoNCE."""
    n = len(a)
    z = [row / row.norm() for row in torch.cat([a, b])]
    total = 0.0
    for anchor in range(2 * n):
        partner = (anchor + n) % (2 * n)
        denominator = 0.0
        for other in range(2 * n):
            same_side = (anchor < n) == (other < n)
            if other == anchor or (same_side and not both):
                continue
            if other != partner and places[other % n] == places[anchor % n]:
                continue
            denominator += math.exp(float(z[anchor] @ z[other]) / temperature)
        total += math.log(denominator) - float(z[anchor] @ z[partner]) / temperature
    return total / (2 * n)


def test_other_looks_of_a_place_are_no_negatives() -> None:
    places = [7, 3, 7, 7]
    for loss, both in ((nt_xent, True), (info_nce, False)):
        value = loss(U, V, temperature=0.2, left_out=same(places)).item()
        assert value == pytest.approx(brute_force(U, V, places, 0.2, both=both))
        assert value < loss(U, V, temperature=0.2).item()
        # The partner itself counts, though its place is the same.
        assert loss(U, V, temperature=0.2, left_out=same([0, 1, 2, 3])) == loss(U, V, temperature=0.2)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_what_is_left_out_gets_no_gradient(loss: Loss) -> None:
    b = V.clone().requires_grad_()
    left_out = torch.zeros(4, 4, dtype=torch.bool)
    left_out[[0, 0, 0], [1, 2, 3]] = True
    left_out = left_out | left_out.T  # place 0 has no negatives at all
    (gradient,) = torch.autograd.grad(loss(U, b, temperature=0.2, left_out=left_out), b)
    assert gradient[0].abs().max() == 0
    assert gradient[1:].abs().sum(dim=1).min() > 0


def test_a_batch_of_one_place_costs_nothing() -> None:
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert info_nce(U, V, temperature=0.1, left_out=everything).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_bfloat16_embeddings_are_widened(loss: Loss) -> None:
    a, b = U.bfloat16(), V.bfloat16()
    value = loss(a, b, temperature=0.1)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(a.float(), b.float(), temperature=0.1).item())
    assert value.item() == pytest.approx(loss(U, V, temperature=0.1).item(), abs=1e-2)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_empty_embeddings_stay_finite(loss: Loss) -> None:
    a = torch.zeros(3, 4, requires_grad=True)
    value = loss(a, torch.zeros(3, 4), temperature=0.07)
    value.backward()
    assert value.isfinite()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_spread_tells_collapse_from_uniform_directions() -> None:
    assert spread(torch.ones(10, 4)).item() == pytest.approx(0.0, abs=1e-6)
    assert spread(torch.cat([torch.eye(4), -torch.eye(4)])).item() == pytest.approx(1.0)


def test_retrieval_does_not_count_other_looks() -> None:
    a, b = torch.eye(3), torch.eye(3)[[1, 0, 2]]
    assert top1(a, b).item() == pytest.approx(1 / 3)
    assert top1(a, b, same([5, 5, 6])).item() == 1.0


def test_places_near_each_other_are_no_negatives() -> None:
    nan = math.nan
    lonlat = [[179.99, 10], [-179.99, 10], [0, 89.99], [180, 89.99], [50, 0], [nan, nan], [nan, nan]]
    ground = Ground(torch.tensor([4, 5, 6, 7, 4, -1, -1]), torch.tensor(lonlat, dtype=torch.float64))
    distances = distances_km(ground.lonlat, ground.lonlat)
    assert distances[0, 1].item() == pytest.approx(0.02 * 111.1951 * math.cos(math.radians(10)), rel=1e-4)
    assert distances[2, 3].item() == pytest.approx(0.02 * 111.1951, rel=1e-4)  # over the pole
    pairs = {(0, 1), (2, 3), (0, 4)}  # across the antimeridian, the pole, and one sample
    everyone = pairs | {(j, i) for i, j in pairs} | {(i, i) for i in range(5)}
    assert set(map(tuple, no_negatives(ground, ground, km=3).nonzero().tolist())) == everyone
    alone = {(0, 4), (4, 0)} | {(i, i) for i in range(5)}
    assert set(map(tuple, no_negatives(ground, ground).nonzero().tolist())) == alone
    # Nowhere is near to nothing, however far one looks.
    assert not no_negatives(ground, ground, km=30_000)[5:].any()
    assert no_negatives(ground, ground, km=30_000)[:5, :5].all()


@pytest.mark.parametrize("objective", [SimCLR, InfoNCE])
@pytest.mark.parametrize("kinds", [("augment",), ("sensor",), ("season", "sensor"), ("augment", "long")])
def test_an_objective_names_its_terms_and_trains_every_weight(objective: Objective, kinds: tuple[str, ...]) -> None:
    module = objective(setup(kinds))
    given_batch = batch(looks=2)
    first, again = step(module, given_batch), step(module, given_batch)
    assert set(first.terms) == {"loss", "spread", "top1"}
    torch.testing.assert_close(first.terms["loss"], again.terms["loss"])
    assert list(module.encoders) == (["s2", "s1"] if "sensor" in kinds else ["s2"])
    assert [tuple(rows.shape) for rows in first.embeddings] == [(4, 6)] * len(module.encoders)
    first.terms["loss"].backward()
    assert all(bool(p.grad is not None and p.grad.abs().sum() > 0) for p in module.parameters())


def test_the_kinds_of_views_say_which_looks() -> None:
    assert SimCLR(setup(("augment",))).looks == LookPlan("each")
    assert SimCLR(setup(("augment", "season"))).looks == LookPlan("season", 2)
    assert SimCLR(setup(("augment", "season", "long"))).looks == LookPlan("long", 2)


@pytest.mark.parametrize("objective", [SimCLR, InfoNCE])
def test_one_encoder_can_see_both_sensors(objective: Objective) -> None:
    crossed = objective(setup(("sensor",), joint=True))
    assert list(crossed.encoders) == ["s2+s1"]
    outcome = step(crossed, batch())
    assert len(outcome.embeddings) == 2
    outcome.terms["loss"].backward()
    assert step(objective(setup(("augment",), joint=True)), batch()).terms["loss"].isfinite()


@pytest.mark.parametrize("objective", [SimCLR, InfoNCE])
def test_what_makes_no_pairs_is_refused(objective: Objective) -> None:
    name = objective.__name__.lower()
    with pytest.raises(TrainingError, match=f"{name}: views of two sensors need two, not s2"):
        objective(setup(("sensor",), {"s2": 3}))
    with pytest.raises(TrainingError, match=f"{name}: .* give --joint"):
        objective(setup(("augment",), {"s2": 3, "s1": 2}))


def test_near_places_and_looks_of_one_place_are_left_out_by_the_objectives() -> None:
    """Two rows of one place give the loss of a batch in which they are not compared."""
    given_batch = batch(4)
    given_batch.index[1] = given_batch.index[0]
    for objective in (SimCLR(setup()), InfoNCE(setup())):
        views = (View({"s2": given_batch.images["s2"][:, 0]}),) * 2
        objective.eval()
        a, b = objective.network(views)
        left_out = no_negatives(*[Ground(given_batch.index, given_batch.lonlat)] * 2)
        expected = objective.loss(a, b, temperature=0.1, left_out=left_out)
        torch.testing.assert_close(objective(views, given_batch).terms["loss"], expected)
        wide = type(objective)(setup(negatives_km=500.0)).eval()  # places are 111 km apart, all of them near
        everything = torch.ones(4, 4, dtype=torch.bool)
        expected = objective.loss(a, b, temperature=0.1, left_out=everything)
        torch.testing.assert_close(wide(views, given_batch).terms["loss"], expected)


@pytest.mark.parametrize("objective", [SimCLR, InfoNCE])
def test_sensors_find_each_other_after_some_steps(objective: Objective) -> None:
    module = objective(setup(("sensor",)))
    losses = train(module, [alike(6, seed=seed) for seed in range(12)])
    assert losses[-1] < 0.5 * losses[0]
    # The images of other places in place of one's own are told from them.
    matched = alike(6, seed=20)
    mixed = replace(matched, images={"s2": matched.images["s2"], "s1": matched.images["s1"].roll(1, dims=0)})
    assert step(module, mixed).terms["loss"] > 2 * step(module, matched).terms["loss"]


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = SimCLR(setup(seed=3)).state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = SimCLR(setup(seed=3)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["network.heads.s2.0.weight"], SimCLR(setup(seed=4)).state_dict()["network.heads.s2.0.weight"]
    )
