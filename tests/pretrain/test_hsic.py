"""SSL-HSIC: the features against the kernel, the estimators against brute force, the scale against its own gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.small import SENSORS, batch, draws, setup
from torch import Tensor
from torch.nn.functional import normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain.objectives.hsic import (
    HSIC,
    fourier_features,
    frequencies,
    hsic_with_identity,
    inverse_multiquadric,
    root_hsic_with_itself,
    scale_slope,
    ssl_hsic,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def embeddings(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64)


def hsic_by_loops(kernel: Tensor, labels: list[int]) -> tuple[float, float]:
    """HSIC with the identity and root of that with itself, of a kernel matrix, by the definition."""
    n = len(labels)
    alike = [float(kernel[i, j]) for i in range(n) for j in range(n) if i != j and labels[i] == labels[j]]
    with_identity = sum(alike) / len(alike) - float(kernel.sum()) / n**2
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    return with_identity, math.sqrt(float(torch.trace(kernel @ centring @ kernel @ centring))) / (n - 1)


def test_the_kernel_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert inverse_multiquadric(a, a, scale=2.0).tolist() == [
        pytest.approx([1, 2 / math.sqrt(29)]),
        pytest.approx([2 / math.sqrt(29), 1]),
    ]


@pytest.mark.parametrize("dim", [1, 3, 16])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_waves_have_the_spectrum_of_the_kernel(dim: int, scale: float) -> None:
    n = 100_000
    waves = frequencies(n, dim, seeded(dim)) / scale
    for distance in (0.1, 1.0, 4.0):
        x = normalize(torch.ones(1, dim, dtype=torch.float64)) * distance
        exact = inverse_multiquadric(x, torch.zeros_like(x), scale=scale).item()
        # The mean of n cosines has a deviation of at most 1 / √n.
        assert (waves @ x[0]).cos().mean().item() == pytest.approx(exact, abs=4 / math.sqrt(n))


def test_features_approach_the_kernel_and_a_row_is_one_with_itself() -> None:
    a, b = embeddings(5, 6, 1), embeddings(4, 6, 2)
    waves = frequencies(100_000, 6, seeded()) / 1.5
    found = fourier_features(a, waves) @ fourier_features(b, waves).T
    assert torch.allclose(found, inverse_multiquadric(a, b, scale=1.5), rtol=0, atol=0.015)
    few = fourier_features(a, waves[:3])
    assert torch.allclose((few * few).sum(dim=1), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("n_features", [3, 40])
def test_estimators_equal_the_definition(n_features: int) -> None:
    a, b = embeddings(5, n_features, 3), embeddings(5, n_features, 4)
    both = torch.cat([a, b])
    with_identity, with_itself = hsic_by_loops(both @ both.T, [0, 1, 2, 3, 4] * 2)
    assert hsic_with_identity(a, b).item() == pytest.approx(with_identity, rel=1e-12)
    assert root_hsic_with_itself(both).item() == pytest.approx(with_itself, rel=1e-12)


def test_the_loss_approaches_that_of_the_exact_kernel() -> None:
    a, b = embeddings(6, 4, 5), embeddings(6, 4, 5) + 0.3 * embeddings(6, 4, 6)
    both = normalize(torch.cat([a, b]))
    kernel = inverse_multiquadric(both, both, scale=0.7)
    with_identity, with_itself = hsic_by_loops(kernel, [0, 1, 2, 3, 4, 5] * 2)
    exact = 3 * with_itself - with_identity

    def error(n: int) -> float:
        return abs(ssl_hsic(a, b, frequencies(n, 4, seeded(7)) / 0.7, gamma=3.0).item() - exact)

    assert error(100_000) < 0.01
    assert error(100_000) < error(30)


def test_orthonormal_features_by_hand() -> None:
    # The kernel has two equal rows for each of n images: eigenvalues 2 (n − 1 times after centring).
    eye = torch.eye(6, dtype=torch.float64)
    assert hsic_with_identity(eye, eye).item() == pytest.approx(1 - 1 / 6)
    assert root_hsic_with_itself(torch.cat([eye, eye])).item() == pytest.approx(2 * math.sqrt(5) / 11)


def test_collapse_is_zero_and_has_a_finite_gradient() -> None:
    a = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    loss = ssl_hsic(a, torch.ones(4, 3, dtype=torch.float64), frequencies(8, 3, seeded()))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    loss.backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_gradients() -> None:
    a, b = embeddings(4, 3, 8).requires_grad_(), embeddings(4, 3, 9).requires_grad_()
    waves = frequencies(5, 3, seeded())
    assert torch.autograd.gradcheck(lambda x, y: ssl_hsic(x, y, waves), (a, b))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 7))
def test_order_length_and_sides_do_not_matter(seed: int, n: int) -> None:
    a, b = embeddings(n, 4, seed), embeddings(n, 4, seed + 1)
    waves = frequencies(20, 4, seeded(seed))
    order = torch.randperm(n, generator=seeded(seed))
    value = ssl_hsic(a, b, waves).item()
    assert ssl_hsic(a[order], b[order], waves).item() == pytest.approx(value)
    assert ssl_hsic(b, a, waves).item() == pytest.approx(value)
    assert ssl_hsic(2 * a, 0.1 * b, waves).item() == pytest.approx(value)


def test_images_told_apart_cost_less_than_images_mixed_up() -> None:
    a = embeddings(8, 5, 3)
    waves = frequencies(200, 5, seeded())
    assert ssl_hsic(a, a, waves) < ssl_hsic(a, a.roll(1, 0), waves)


def test_bfloat16_embeddings_are_widened() -> None:
    a, b = embeddings(4, 3, 1).bfloat16(), embeddings(4, 3, 2).bfloat16()
    waves = frequencies(20, 3, seeded()).float()
    value = ssl_hsic(a, b, waves)
    assert value.dtype == torch.float32
    assert value.item() == ssl_hsic(a.float(), b.float(), waves).item()


def test_the_slope_is_that_of_the_logarithm_of_the_kernels_gradient() -> None:
    z = normalize(embeddings(5, 3, 2))
    log_scale = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
    logs = []
    for i in range(5):
        for j in range(5):
            if i != j:
                row = z[i].clone().requires_grad_()
                kernel = inverse_multiquadric(row[None], z[j][None], scale=log_scale.exp()).sum()
                (gradient,) = torch.autograd.grad(kernel, row, create_graph=True)
                logs.append(gradient.norm().log())
    (slope,) = torch.autograd.grad(torch.stack(logs).mean(), log_scale)
    assert scale_slope(3 * z, log_scale.detach().exp()).item() == pytest.approx(slope.item())


def test_the_best_scale_of_orthogonal_embeddings_is_one() -> None:
    eye = torch.eye(5, dtype=torch.float64)
    assert scale_slope(eye, torch.tensor(1.0)).item() == pytest.approx(0, abs=1e-12)
    assert scale_slope(eye, torch.tensor(0.5)) > 0
    assert scale_slope(eye, torch.tensor(2.0)) < 0
    assert scale_slope(torch.ones(5, 2), torch.tensor(0.5)).item() == pytest.approx(-2)


@pytest.mark.parametrize(("sensors", "kinds", "joint"), SENSORS)
def test_the_objective_trains_every_encoder(sensors: str, kinds: str, joint: bool) -> None:
    objective = HSIC(setup(sensors, kinds, joint=joint))
    outcome = objective(objective.views(batch(), draws()), batch())
    assert set(outcome.terms) == {"loss", "with_identity", "with_itself", "scale", "spread", "top1"}
    assert [tuple(found.shape) for found in outcome.embeddings] == [(6, 4)]
    outcome.terms["loss"].backward()
    for name, value in objective.named_parameters():
        if name.startswith("target_"):
            assert value.grad is None
        else:
            assert value.grad is not None, name
    for encoder in objective.encoders.values():
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in encoder.parameters())


def test_the_scale_moves_after_the_loss_and_in_training_alone() -> None:
    objective = HSIC(setup())
    seen = objective.views(batch(), draws())
    first = objective(seen, batch())
    assert first.terms["scale"].item() == 1.0
    moved = objective.log_scale.item()
    assert moved != 0.0
    (a, _), _ = objective.predicted(seen[:2])
    expected = objective.scale_rate * scale_slope(a.detach(), torch.tensor(1.0)).item()
    assert moved == pytest.approx(expected, rel=1e-5)
    assert objective(seen, batch()).terms["scale"].item() == pytest.approx(math.exp(moved))
    objective.eval()
    before = objective.log_scale.clone()
    objective(seen, batch())
    assert torch.equal(objective.log_scale, before)


def test_the_scale_stays_in_its_range_when_embeddings_collapse() -> None:
    objective = HSIC(setup())
    for _ in range(60):
        objective._move_scale(torch.ones(4, 4))
    assert objective.log_scale.exp().item() == pytest.approx(1e-3)


def test_the_loss_is_the_mean_of_both_directions_at_the_scale() -> None:
    objective = HSIC(setup()).eval()
    objective.log_scale = torch.tensor(math.log(0.4))
    first, second, waves = objective.views(batch(), draws())
    terms = objective((first, second, waves), batch()).terms
    (a, b), (target_a, target_b) = objective.predicted((first, second))
    expected = (ssl_hsic(a, target_b, waves / 0.4) + ssl_hsic(b, target_a, waves / 0.4)) / 2
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx(3 * terms["with_itself"].item() - terms["with_identity"].item())


def test_waves_are_new_in_each_step_and_the_same_in_all_processes() -> None:
    objective = HSIC(setup())
    waves = objective.views(batch(), draws())[2]
    assert waves.shape == (256, 4)
    assert torch.equal(objective.views(batch(3), draws(6, rows=slice(3, 6)))[2], waves)
    assert not torch.equal(objective.views(batch(), draws(step=1))[2], waves)


def test_one_place_has_no_statistics() -> None:
    objective = HSIC(setup()).eval()
    with pytest.raises(TrainingError, match="hsic: statistics of a batch need 2 places or more, not 1"):
        objective(objective.views(batch(1), draws(1)), batch(1))
