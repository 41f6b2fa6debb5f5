"""BYOL and DINO: published formulae in float64, limits, who gets a gradient, and in which order averages move."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrain.noise import U, V
from pretrain.small import SENSORS, batch, draws, setup
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.distributed import shared_loss
from geossl_data.pretrain.objectives.distillation import (
    BYOL,
    DINO,
    PrototypeHead,
    byol,
    dino,
    entropy,
    teacher_shares,
)
from geossl_data.pretrain.objectives.parts import momentum_at
from geossl_data.pretrain.views import View

NAMES: dict[str, type[BYOL] | type[DINO]] = {"byol": BYOL, "dino": DINO}


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen_by(objective: Any, step: int = 0) -> Any:
    return objective.views(batch(), draws(step=step))


def averages(objective: nn.Module) -> dict[str, Tensor]:
    """Weights of the averaged network, by the name that they have in the one that learns."""
    return {
        name.removeprefix("target_").removeprefix("teacher_"): value
        for name, value in objective.named_parameters()
        if name.startswith(("target_", "teacher_"))
    }


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def test_golden_values() -> None:
    # From the formulae, transcribed in float64 by an independent program.
    assert byol(U, V).item() == pytest.approx(0.4935125079985534, abs=1e-12)
    both = torch.stack([U, V])
    shares = teacher_shares(both, torch.zeros(8, dtype=torch.float64), temperature=0.04)
    assert dino(shares, both, temperature=0.1).item() == pytest.approx(3.210756346046292, abs=1e-12)


def test_limits_of_byol() -> None:
    assert byol(U, 3 * U).item() == pytest.approx(0, abs=1e-12)
    assert byol(U, -U).item() == pytest.approx(4)
    assert byol(torch.eye(4), torch.eye(4).roll(1, 0)).item() == pytest.approx(2)


@pytest.mark.parametrize("k", [2, 8, 4096])
def test_dino_of_equal_logits_is_the_logarithm_of_their_number(k: int) -> None:
    equal = torch.full((2, 3, k), 0.7, dtype=torch.float64)
    shares = teacher_shares(equal, torch.zeros(k), temperature=0.04)
    assert dino(shares, equal, temperature=0.1).item() == pytest.approx(math.log(k))
    assert entropy(shares).item() == pytest.approx(math.log(k))


def test_dino_of_one_certain_prototype_is_zero() -> None:
    certain = torch.zeros(2, 3, 8, dtype=torch.float64)
    certain[..., 5] = 50.0
    shares = teacher_shares(certain, torch.zeros(8), temperature=0.04)
    assert dino(shares, certain, temperature=0.1).item() == pytest.approx(0, abs=1e-12)
    assert entropy(shares).item() == pytest.approx(0, abs=1e-12)


def test_the_centre_takes_away_what_the_teacher_always_says() -> None:
    bias = random(8, seed=3)
    shares = teacher_shares(bias.expand(2, 3, 8), bias, temperature=0.04)
    assert torch.allclose(shares, torch.full_like(shares, 1 / 8))


def test_dino_compares_each_large_view_with_all_others() -> None:
    teacher, student, centre = random(2, 3, 6, seed=0), random(5, 3, 6, seed=1), random(6, seed=2)
    terms = []
    for t in range(2):
        for s in range(5):
            for row in range(3):
                if s != t:
                    asked = [math.exp(float(x) / 0.2) for x in teacher[t, row] - centre]
                    said = [math.exp(float(x) / 0.5) for x in student[s, row]]
                    terms.append(
                        -sum(p / sum(asked) * math.log(q / sum(said)) for p, q in zip(asked, said, strict=True))
                    )
    shares = teacher_shares(teacher, centre, temperature=0.2)
    assert dino(shares, student, temperature=0.5).item() == pytest.approx(sum(terms) / len(terms))


def test_gradients() -> None:
    assert torch.autograd.gradcheck(lambda x: byol(x, V), U.clone().requires_grad_())
    shares = teacher_shares(random(2, 3, 6, seed=0), torch.zeros(6), temperature=0.04)
    student = random(4, 3, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dino(shares, x, temperature=0.1), student)


def test_targets_have_no_gradient() -> None:
    target = V.clone().requires_grad_()
    teacher = random(2, 3, 6, seed=0).requires_grad_()
    shares = teacher_shares(teacher, torch.zeros(6), temperature=0.04)
    assert not shares.requires_grad
    byol(U.clone().requires_grad_(), target).backward()
    assert target.grad is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 7))
def test_order_does_not_matter(seed: int, n: int) -> None:
    a, b = random(n, 4, seed=seed), random(n, 4, seed=seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert byol(a[order], b[order]).item() == pytest.approx(byol(a, b).item())
    assert byol(a, 5 * b).item() == pytest.approx(byol(b, a).item())
    shares = teacher_shares(torch.stack([a, b]), torch.zeros(4), temperature=0.3)
    views = torch.stack([a, b, a - b])
    # Neither the order of the rows, nor that of the prototypes.
    for mixed in (lambda x: x[:, order], lambda x: x.roll(1, -1)):
        value = dino(mixed(shares), mixed(views), temperature=0.4).item()
        assert value == pytest.approx(dino(shares, views, temperature=0.4).item())


def test_bfloat16_embeddings_are_widened() -> None:
    a, b = U.bfloat16(), V.bfloat16()
    assert byol(a, b).dtype == torch.float32
    assert byol(a, b).item() == byol(a.float(), b.float()).item()
    shares = teacher_shares(torch.stack([a, b]), torch.zeros(8), temperature=0.04)
    assert shares.dtype == dino(shares, torch.stack([b, a]), temperature=0.1).dtype == torch.float32


def test_one_process_has_the_loss_of_all() -> None:
    value = torch.tensor(1.7, requires_grad=True)
    loss = shared_loss(value * 2)
    loss.backward()
    assert loss.item() == pytest.approx(3.4)
    assert value.grad == 2.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("sensors", "kinds", "joint"), SENSORS)
def test_an_objective_trains_every_weight_but_those_of_the_average(
    name: str, sensors: str, kinds: str, joint: bool
) -> None:
    objective = NAMES[name](setup(sensors, kinds, joint=joint))
    outcome = objective(seen_by(objective), batch())
    own = {"byol": set(), "dino": {"teacher_entropy", "divergence"}}[name]
    assert set(outcome.terms) == {"loss", "spread", "top1"} | own
    assert {tuple(found.shape) for found in outcome.embeddings} == {(6, 4)}
    outcome.terms["loss"].backward()
    for label, value in objective.named_parameters():
        if label.startswith(("target_", "teacher_")):
            assert not value.requires_grad
            assert value.grad is None
        else:
            assert value.grad is not None, label
            assert value.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", NAMES)
def test_the_average_moves_after_the_optimizer_and_then_alone(name: str) -> None:
    objective = NAMES[name](setup(momentum=0.7, momentum_end=0.9))
    learning = dict(objective.named_parameters())
    start = copied(averages(objective))
    assert start
    assert all(torch.equal(value, learning[label]) for label, value in start.items())
    optimizer = torch.optim.SGD([value for value in objective.parameters() if value.requires_grad], lr=0.1)
    objective(seen_by(objective), batch()).terms["loss"].backward()
    optimizer.step()
    assert all(torch.equal(value, start[label]) for label, value in averages(objective).items())
    objective.end_step(0.25)
    share = momentum_at(0.25, 0.7, 0.9)
    for label, value in averages(objective).items():
        assert torch.allclose(value, share * start[label] + (1 - share) * learning[label], atol=1e-7)
    assert any(not torch.equal(value, start[label]) for label, value in averages(objective).items())


@pytest.mark.parametrize("name", NAMES)
def test_an_average_of_momentum_one_stays(name: str) -> None:
    objective = NAMES[name](setup(momentum=0.5, momentum_end=1.0))
    start = copied(averages(objective))
    with torch.no_grad():
        for value in objective.parameters():
            if value.requires_grad:
                value.add_(1.0)
    objective.end_step(1.0)
    assert all(torch.equal(value, start[label]) for label, value in averages(objective).items())


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_all_there_is(name: str) -> None:
    objective = NAMES[name](setup())
    objective(seen_by(objective), batch())
    other = NAMES[name](setup(seed=9))
    other.load_state_dict(objective.state_dict())
    for _ in range(2):
        found, again = (one(seen_by(one, step=1), batch()).terms for one in (objective, other))
        assert found.keys() == again.keys()
        assert all(torch.equal(found[term], again[term]) for term in found)
    stored = [value.data_ptr() for value in objective.state_dict().values() if value.numel()]
    assert len(stored) == len(set(stored))


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    first, same, other = (NAMES[name](setup(seed=seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match=f"{name}: views augment compare images of one encoder"):
        NAMES[name](setup("s2,s1"))
    with pytest.raises(TrainingError, match=f"{name}: views of two sensors need two, not s1"):
        NAMES[name](setup("s1", "sensor"))


def test_byol_adds_both_directions() -> None:
    objective = BYOL(setup("s2,s1", "sensor")).eval()
    views = seen_by(objective)
    (a, b), (target_a, target_b) = objective.predicted(views)
    assert [next(iter(view.images)) for view in views] == ["s2", "s1"]
    expected = byol(a, target_b) + byol(b, target_a)
    assert objective(views, batch()).terms["loss"].item() == pytest.approx(expected.item())
    # What s2 predicts is compared with the average of s1, and trains s2 alone.
    byol(a, target_b).backward()
    for label, value in objective.named_parameters():
        assert (value.grad is None) == ("s1" in label or label.startswith("target_")), label


def test_prototypes_have_unit_rows() -> None:
    head = PrototypeHead(6, 8, 5, 7, torch.Generator().manual_seed(0))
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    unit, cosines = head(x)
    assert unit.shape == (3, 5)
    assert torch.allclose(unit.norm(dim=1), torch.ones(3))
    for row in range(3):
        for prototype in range(7):
            expected = torch.cosine_similarity(unit[row], head.prototypes[prototype], dim=0)
            assert cosines[row, prototype].item() == pytest.approx(expected.item(), abs=1e-6)
    with torch.no_grad():
        head.prototypes.mul_(3.0)
    assert torch.allclose(head(x)[1], cosines)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(x)[1].dtype == torch.float32


def test_dino_learns_from_small_views_what_the_teacher_says_of_large_ones() -> None:
    objective = DINO(setup("s2,s1", "augment,sensor")).eval()
    views = seen_by(objective)
    assert [next(iter(view.images)) for view in views] == ["s2", "s1", "s2", "s1", "s2"]
    assert [next(iter(view.images.values())).shape[-1] for view in views] == [16, 16, 8, 8, 8]

    def logits(prefix: str, view: View) -> Tensor:
        (name,) = view.images
        encoder = objective.get_submodule(f"{prefix}backbones.encoders.{name}")
        answer: Tensor = objective.get_submodule(f"{prefix}heads.{name}")(encoder(view.images[name]))[1]
        return answer

    with torch.no_grad():
        objective.centre = 0.1 * random(2, 4, seed=5).float()
        for value in averages(objective).values():
            value.mul_(1.3)
    teacher = torch.stack([logits("teacher_", view) for view in views[:2]])
    student = torch.stack([logits("", view) for view in views])
    shares = teacher_shares(teacher, objective.centre[:, None], temperature=0.04)
    outcome = objective(views, batch())
    assert outcome.terms["loss"].item() == pytest.approx(dino(shares, student, temperature=0.1).item(), rel=1e-4)
    assert outcome.terms["teacher_entropy"].item() == pytest.approx(entropy(shares).item(), rel=1e-4)
    assert torch.allclose(outcome.embeddings[0], teacher[0], atol=1e-6)
    assert torch.allclose(outcome.embeddings[1], student[0], atol=1e-6)
    assert not outcome.embeddings[0].requires_grad
    assert outcome.embeddings[1].requires_grad


def test_the_centre_moves_after_the_loss_and_in_training_alone() -> None:
    moving, still = DINO(setup()), DINO(setup())
    still.centre_momentum = 1.0
    views = seen_by(moving)
    first = moving(views, batch())
    assert first.terms["loss"].item() == still(views, batch()).terms["loss"].item()
    teacher = [value[1] for value in _passes(moving, views)]
    assert torch.allclose(moving.centre[0], 0.1 * torch.cat(teacher).mean(dim=0), atol=1e-6)
    # The next loss has the moved centre.
    assert moving(views, batch()).terms["loss"].item() != pytest.approx(still(views, batch()).terms["loss"].item())
    before = moving.centre.clone()
    moving.eval()(views, batch())
    assert torch.equal(moving.centre, before)


def _passes(objective: DINO, views: list[View]) -> list[tuple[Tensor, Tensor]]:
    """What the teacher's head answers for the large views, which its encoder sees together, in training."""
    with torch.no_grad():
        found = objective.teacher_backbones.together(views[:2])
        return [objective.teacher_heads["s2"](embedding) for embedding in found]


def test_each_sensor_has_a_centre() -> None:
    objective = DINO(setup("s2,s1", "sensor"))
    objective._move_centre(torch.stack([torch.full((3, 4), 1.0), torch.full((3, 4), -2.0)]), (0, 1))
    assert objective.centre.tolist() == [pytest.approx([0.1] * 4), pytest.approx([-0.2] * 4)]
    objective._move_centre(torch.stack([torch.full((3, 4), 1.0), torch.full((3, 4), 3.0)]), (0, 0))
    assert objective.centre.tolist() == [pytest.approx([0.29] * 4), pytest.approx([-0.2] * 4)]


def test_prototypes_stay_in_the_first_epoch() -> None:
    objective = DINO(setup())
    optimizer = torch.optim.AdamW([value for value in objective.parameters() if value.requires_grad], lr=0.1)
    for epoch in range(2):
        start = copied(dict(objective.named_parameters()))
        optimizer.zero_grad()
        objective(seen_by(objective, epoch), batch()).terms["loss"].backward()
        objective.adjust_gradients(epoch)
        optimizer.step()
        moved = {label for label, value in objective.named_parameters() if not torch.equal(value, start[label])}
        assert ("heads.s2.prototypes" in moved) == (epoch > 0)
        assert "heads.s2.body.0.weight" in moved


def test_collapse_shows_in_the_terms() -> None:
    objective = DINO(setup()).eval()
    with torch.no_grad():
        for head in (objective.heads["s2"], objective.teacher_heads["s2"]):
            last = head.get_submodule("body.4")
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.fill_(1.0)
        objective.centre = objective.teacher_heads["s2"](torch.zeros(1, 16))[1]
    terms = objective(seen_by(objective), batch()).terms
    assert terms["teacher_entropy"].item() == pytest.approx(math.log(4), abs=1e-5)
    assert terms["spread"].item() == pytest.approx(0, abs=1e-6)
