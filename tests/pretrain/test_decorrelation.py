"""Barlow Twins and VICReg: published formulae in float64, limits, brute force, and what they train."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.noise import U, V
from pretrain.small import SENSORS, batch, draws, setup
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain.objectives.decorrelation import Barlow, VICReg, barlow, standardised, vicreg, vicreg_parts

NAMES = {"barlow": Barlow, "vicreg": VICReg}


def random(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_golden_values() -> None:
    # From the formulae, transcribed in float64 by an independent program.
    assert barlow(U, V).item() == pytest.approx(3.948542235589211, abs=1e-12)
    assert vicreg(U, V).item() == pytest.approx(15.111606392938915, abs=1e-12)


@pytest.mark.parametrize("dim", [1, 5, 32])
def test_constant_embeddings(dim: int) -> None:
    constant = torch.full((6, dim), 0.3, dtype=torch.float64)
    assert barlow(constant, constant).item() == pytest.approx(dim)
    assert vicreg(constant, constant).item() == pytest.approx(25 * 0.99)
    a = constant.clone().requires_grad_()
    (barlow(a, constant) + vicreg(a, constant)).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_equal_and_uncorrelated_embeddings_cost_nothing() -> None:
    # Columns of a Hadamard matrix: mean 0, variance 1, orthogonal.
    h = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert barlow(h, h).item() == pytest.approx(0, abs=1e-8)
    assert vicreg(h, h).item() == pytest.approx(0, abs=1e-12)


def test_repeated_numbers_cost_the_redundancy() -> None:
    column = random(50, 1, 0)
    twice = standardised(torch.cat([column, column], dim=1))
    assert barlow(twice, twice, redundancy=0.25).item() == pytest.approx(2 * 0.25, abs=1e-3)
    # Unbiased: columns of biased variance 1 have a covariance of n / (n − 1).
    assert vicreg_parts(twice, twice)[2].item() == pytest.approx(2 * (50 / 49) ** 2, abs=1e-3)


def by_loops(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Both losses, number by number."""
    n, d = a.shape

    def column(x: Tensor, j: int) -> list[float]:
        return [float(value) for value in x[:, j]]

    def covariance(x: list[float], y: list[float], divisor: int) -> float:
        mean_x, mean_y = sum(x) / n, sum(y) / n
        return sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True)) / divisor

    first = second = excess = lack = 0.0
    for i in range(d):
        for j in range(d):
            x, y = column(a, i), column(b, j)
            spreads = math.sqrt((covariance(x, x, n) + 1e-5) * (covariance(y, y, n) + 1e-5))
            correlation = covariance(x, y, n) / spreads
            if i == j:
                first += (1 - correlation) ** 2
            else:
                second += correlation**2
                for z in (a, b):
                    excess += covariance(column(z, i), column(z, j), n - 1) ** 2 / d
    for z in (a, b):
        for j in range(d):
            lack += max(0.0, 1 - math.sqrt(covariance(column(z, j), column(z, j), n - 1) + 1e-4)) / d / 2
    distance = sum(float((p - q) ** 2) for p, q in zip(a.flatten(), b.flatten(), strict=True)) / (n * d)
    return first + 0.0051 * second, 25 * distance + 25 * lack + excess


def test_losses_equal_the_sums_they_stand_for() -> None:
    a, b = random(5, 3, 1), 0.5 * random(5, 3, 2)
    expected = by_loops(a, b)
    assert (barlow(a, b).item(), vicreg(a, b).item()) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [barlow, vicreg])
def test_gradients(loss: object) -> None:
    assert torch.autograd.gradcheck(loss, (U.clone().requires_grad_(), V.clone().requires_grad_()))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(3, 9))
def test_order_sides_and_shifts_do_not_matter(seed: int, n: int) -> None:
    a, b = random(n, 4, seed), random(n, 4, seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    shift = random(1, 4, seed + 2)
    for loss in (barlow, vicreg):
        value = loss(a, b).item()
        assert loss(a[order], b[order]).item() == pytest.approx(value)
        assert loss(b, a).item() == pytest.approx(value)
        assert loss(a + shift, b + shift).item() == pytest.approx(value)
    assert barlow(100 * a, 1000 * b).item() == pytest.approx(barlow(1000 * a, 100 * b).item(), rel=1e-3)


@pytest.mark.parametrize("loss", [barlow, vicreg])
def test_bfloat16_embeddings_are_widened(loss: object) -> None:
    assert callable(loss)
    a, b = U.bfloat16(), V.bfloat16()
    assert loss(a, b).dtype == torch.float32
    assert loss(a, b).item() == loss(a.float(), b.float()).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("sensors", "kinds", "joint"), SENSORS)
def test_an_objective_trains_every_encoder(name: str, sensors: str, kinds: str, joint: bool) -> None:
    objective = NAMES[name](setup(sensors, kinds, joint=joint))
    outcome = objective(objective.views(batch(), draws()), batch())
    parts = {"barlow": {"redundancy"}, "vicreg": {"variance", "covariance"}}[name]
    assert set(outcome.terms) == {"loss", "invariance", "spread", "top1"} | parts
    assert [tuple(found.shape) for found in outcome.embeddings] == [(6, 4)]
    outcome.terms["loss"].backward()
    for encoder in objective.encoders.values():
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in encoder.parameters())


@pytest.mark.parametrize(("name", "loss"), [("barlow", barlow), ("vicreg", vicreg)])
def test_the_objective_minimises_its_loss(name: str, loss: object) -> None:
    assert callable(loss)
    objective = NAMES[name](setup()).eval()
    first, second = objective.views(batch(), draws())
    a, b = (objective.projectors["s2"](objective.encoders["s2"](view.images["s2"])) for view in (first, second))
    outcome = objective((first, second), batch())
    assert outcome.terms["loss"].item() == pytest.approx(loss(a, b).item(), rel=1e-4)
    assert torch.allclose(outcome.embeddings[0], a, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_heads_have_three_layers(name: str) -> None:
    (head,) = NAMES[name](setup()).projectors.values()
    assert [tuple(value.shape) for value in head.parameters() if value.ndim == 2] == [(8, 16), (8, 8), (4, 8)]


@pytest.mark.parametrize("name", NAMES)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match=f"{name}: views augment compare images of one encoder"):
        NAMES[name](setup("s2,s1"))
    with pytest.raises(TrainingError, match=f"{name}: views of two sensors need two, not s2"):
        NAMES[name](setup("s2", "sensor"))
    objective = NAMES[name](setup()).eval()
    with pytest.raises(TrainingError, match=f"{name}: statistics of a batch need 2 places or more, not 1"):
        objective(objective.views(batch(1), draws(1)), batch(1))
