"""Contrastive losses: published formulae in float64, limits worked by hand, and who is a negative."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geossl_data.pretrain import views as views_module
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.objectives.contrastive import InfoNCE, SimCLR, info_nce, nt_xent, spread, top1
from geossl_data.pretrain.objectives.registry import OBJECTIVES

Loss = Callable[..., Tensor]


def matrix(function: Callable[[Tensor], Tensor], factor: float, shift: float, n: int = 4, d: int = 8) -> Tensor:
    i, j = torch.arange(1, n + 1, dtype=torch.float64), torch.arange(1, d + 1, dtype=torch.float64)
    return function(factor * i[:, None] * j[None, :] + shift)


U = matrix(torch.sin, 0.37, 0.11)
V = matrix(torch.cos, 0.29, -0.05)


@pytest.mark.parametrize(
    ("loss", "temperature", "value"),
    # From the formulae, transcribed in float64 by an independent program.
    [(nt_xent, 0.1, 0.3043803922784424), (nt_xent, 0.5, 0.9286499809616129), (info_nce, 0.07, 0.3649191816857429)],
)
def test_golden_values(loss: Loss, temperature: float, value: float) -> None:
    assert loss(U, V, temperature=temperature).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_identical_embeddings_leave_only_the_guess(n: int) -> None:
    same = torch.ones(n, 6, dtype=torch.float64)
    assert nt_xent(same, same, temperature=0.2).item() == pytest.approx(math.log(2 * n - 1))
    assert info_nce(same, same, temperature=0.2).item() == pytest.approx(math.log(n))


def test_orthonormal_pairs() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    assert nt_xent(eye, eye, temperature=0.3).item() == pytest.approx(math.log(1 + 10 * math.exp(-1 / 0.3)))
    assert info_nce(eye, eye, temperature=0.3).item() == pytest.approx(math.log(1 + 5 * math.exp(-1 / 0.3)))


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_gradients(loss: Loss) -> None:
    a, b = U.clone().requires_grad_(), V.clone().requires_grad_()
    places = torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x, y: loss(x, y, temperature=0.3, places=places), (a, b))


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
    masked = torch.tensor(places)
    for loss, both in ((nt_xent, True), (info_nce, False)):
        value = loss(U, V, temperature=0.2, places=masked).item()
        assert value == pytest.approx(brute_force(U, V, places, 0.2, both=both))
        assert value < loss(U, V, temperature=0.2).item()
        assert loss(U, V, temperature=0.2, places=torch.arange(4)).item() == loss(U, V, temperature=0.2).item()


def test_a_batch_of_one_place_costs_nothing() -> None:
    assert info_nce(U, V, temperature=0.1, places=torch.zeros(4)).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_bfloat16_embeddings_are_widened(loss: Loss) -> None:
    a, b = U.bfloat16(), V.bfloat16()
    value = loss(a, b, temperature=0.1)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(a.float(), b.float(), temperature=0.1).item())


def test_spread_tells_collapse_from_uniform_directions() -> None:
    assert spread(torch.ones(10, 4)).item() == pytest.approx(0.0, abs=1e-6)
    assert spread(torch.cat([torch.eye(4), -torch.eye(4)])).item() == pytest.approx(1.0)


def test_retrieval_does_not_count_other_looks() -> None:
    a, b = torch.eye(3), torch.eye(3)[[1, 0, 2]]
    assert top1(a, b).item() == pytest.approx(1 / 3)
    assert top1(a, b, torch.tensor([5, 5, 6])).item() == 1.0


def batch(n: int = 6, size: int = 24) -> Batch:
    rng = torch.Generator().manual_seed(2)
    images: Any = {
        "s1": torch.randn(n, 2, size, size, generator=rng),
        "s2": torch.randn(n, 12, size, size, generator=rng),
    }
    return Batch(images=images, places=torch.arange(n) // 2)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_names_its_terms_and_trains_every_weight(name: str) -> None:
    objective: Any = OBJECTIVES[name]("tiny", projection_dim=16, temperature=0.1, patch=8, seed=0)
    pair = objective.views(batch(), crop=18, generator=views_module.generator(0, 1))
    again = objective.views(batch(), crop=18, generator=views_module.generator(0, 1))
    assert all(torch.equal(x, y) for x, y in zip(pair, again, strict=True))
    terms = objective(pair, batch().places)
    assert set(terms) == {"loss", "spread", "top1"}
    terms["loss"].backward()
    assert all(bool(p.grad is not None and p.grad.abs().sum() > 0) for p in objective.parameters())


def test_infonce_sees_one_window_with_both_sensors() -> None:
    objective = InfoNCE("tiny", projection_dim=8, temperature=0.1, patch=8, seed=0)
    given_batch = batch()
    given_batch.images["s1"] = given_batch.images["s2"][:, :2]
    s2, s1 = objective.views(given_batch, crop=18, generator=views_module.generator(4))
    assert torch.equal(s2[:, :2], s1)


def test_simclr_sees_two_windows() -> None:
    objective = SimCLR("tiny", projection_dim=8, temperature=0.1, patch=8, seed=0)
    first, second = objective.views(batch(), crop=18, generator=views_module.generator(4))
    assert first.shape == second.shape == (6, 12, 18, 18)
    assert not torch.allclose(first, second)
    assert list(objective.encoders) == ["s2"]
