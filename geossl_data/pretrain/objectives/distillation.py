"""Two views agree without negatives: a network learns what a slowly moving average of itself says of another view.

BYOL (Grill et al. 2020) compares vectors, DINO (Caron et al. 2021) compares distributions over prototypes and shows the
student small crops as well. The average has no gradient; it moves after every step.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softmax

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gathered, mean_over_ranks, shared_loss
from geossl_data.pretrain.encoders import initialised
from geossl_data.pretrain.looks import pair_plan
from geossl_data.pretrain.objectives.negatives import ground_of, no_negatives
from geossl_data.pretrain.objectives.parts import (
    Backbones,
    averaged_copy,
    exact,
    heads,
    momentum_at,
    move_average,
    spread,
    top1,
)
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, View, multi_crop, pair


def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """2 − 2 cos of aligned rows, (n, d) each, mean over n: 0 where they point the same way, 4 where opposite.

    The squared distance of unit vectors (Grill et al. 2020, equation 2); `target` gets no gradient.
    """
    cosine = (normalize(exact(prediction)) * normalize(exact(target).detach())).sum(dim=1)
    return (2 - 2 * cosine).mean()


def teacher_shares(teacher: Tensor, centre: Tensor, *, temperature: float) -> Tensor:
    """What the teacher says, (…, K): shares of the prototypes, of its logits (…, K) less their centre; no gradient."""
    return softmax((exact(teacher).detach() - centre) / temperature, dim=-1)


def dino(shares: Tensor, student: Tensor, *, temperature: float) -> Tensor:
    """Cross entropy of the student's distribution under the teacher's, nats: mean over (teacher view, other view).

    shares: (T, n, K), of the teacher; student: (V, n, K), logits; its first T views are those of the teacher, and no
    view is compared with itself. Caron et al. 2021, equation 3. ln K where the student's logits are all equal.
    """
    logs = log_softmax(exact(student) / temperature, dim=-1)
    others = logs.sum(dim=0) - logs[: len(shares)]
    return -(shares * others).sum(dim=-1).mean() / (len(student) - 1)


@torch.no_grad()
def entropy(shares: Tensor) -> Tensor:
    """Mean entropy of distributions (…, K), nats, in [0, ln K]."""
    return cast(Tensor, torch.special.entr(shares).sum(dim=-1).mean())


def projections(backbones: Backbones, projectors: nn.ModuleDict, views: list[View]) -> list[Tensor]:
    """What the head of each view's branch makes of its embedding, (B, d) each; views of one size."""
    return [
        cast(Tensor, projectors[backbones.branch_of(view)](embedding))
        for view, embedding in zip(views, backbones.together(views), strict=True)
    ]


class BYOL(nn.Module):
    """A predictor makes of one view's projection what the averaged network projects the other view to, both ways.

    Where the views are of two sensors, each has an encoder, heads and an average of its own.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        setup.check_pairs("byol")
        self.settings = setup.views
        self.sensors = setup.sensors
        self.momentum = (setup.momentum, setup.momentum_end)
        self.negatives_km = setup.negatives_km
        self.looks = pair_plan(setup.views.kinds)
        self.backbones = Backbones(setup)
        branches, width = self.backbones.branches, self.backbones.embedding_dim
        self.projectors = heads(branches, (width, setup.inside(width), setup.projection_dim), setup.seed + 101)
        inside = (setup.projection_dim, setup.inside(width), setup.projection_dim)
        self.predictors = heads(branches, inside, setup.seed + 102)
        self.target_backbones = averaged_copy(self.backbones)
        self.target_projectors = averaged_copy(self.projectors)

    @property
    def encoders(self) -> nn.ModuleDict:
        """Those that learn, by branch."""
        return self.backbones.encoders

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View]:
        """Two views of each place."""
        return pair(batch, self.settings, self.sensors, draws)

    def predicted(self, views: tuple[View, View]) -> tuple[list[Tensor], list[Tensor]]:
        """Predictions of both views, and targets of both without gradient, (B, d) each."""
        projected = projections(self.backbones, self.projectors, list(views))
        predictions = [
            cast(Tensor, self.predictors[self.backbones.branch_of(view)](z))
            for view, z in zip(views, projected, strict=True)
        ]
        with torch.no_grad():
            targets = projections(self.target_backbones, self.target_projectors, list(views))
        return predictions, targets

    def forward(self, views: tuple[View, View], batch: Batch) -> Outcome:
        (a, b), (target_a, target_b) = self.predicted(views)
        with torch.autocast(a.device.type, enabled=False):
            loss = shared_loss(byol(a, target_b) + byol(b, target_a))
            return Outcome(terms={"loss": loss, **self.measures(a, b, target_b, batch)}, embeddings=(a,))

    def measures(self, a: Tensor, b: Tensor, target_b: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`spread` of the predictions of all processes, and how often `a` is nearest to its own target."""
        ground = ground_of(batch).gathered()
        found = gathered(a)
        left_out = no_negatives(ground, ground, km=self.negatives_km)
        return {
            "spread": spread(torch.cat([found, gathered(b)])),
            "top1": top1(found, gathered(target_b), left_out),
        }

    def end_step(self, progress: float) -> None:
        """Moves the average towards the weights that the step led to."""
        momentum = momentum_at(progress, *self.momentum)
        move_average(self.target_backbones, self.backbones, momentum)
        move_average(self.target_projectors, self.projectors, momentum)


class PrototypeHead(nn.Module):
    """Embeddings (B, width) → unit vectors (B, bottleneck) and their cosines with each prototype (B, prototypes).

    Three linear layers with GELU between them, then a layer of unit rows (Caron et al. 2021, appendix C). The cosines
    are computed in float32: divided by a temperature of 0.04, what bfloat16 rounds would show.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("meta"):
            body = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
            )
        self.body = initialised(body, generator)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck, generator=generator))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inside = self.body(x)
        with torch.autocast(x.device.type, enabled=False):
            unit = normalize(exact(inside))
            return unit, unit @ normalize(self.prototypes).T


class DINO(nn.Module):
    """The student sees all crops, the averaged teacher the two large ones; every crop is to say what the other says.

    The teacher's logits are centred by their running mean, one for each branch, and sharpened by a low temperature,
    which together keep it from saying always the same and from saying nothing.
    """

    n_global = 2
    bottleneck = 256
    teacher_temperature = 0.04
    centre_momentum = 0.9
    frozen_epochs = 1
    """Epochs in which the prototypes stay."""
    centre: Tensor

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        setup.check_pairs("dino")
        self.settings = setup.views
        self.sensors = setup.sensors
        self.patch = setup.patch
        self.temperature = setup.temperature
        self.momentum = (setup.momentum, setup.momentum_end)
        self.negatives_km = setup.negatives_km
        self.looks = pair_plan(setup.views.kinds)
        self.backbones = Backbones(setup)
        generator = torch.Generator().manual_seed(setup.seed + 103)
        width = self.backbones.embedding_dim
        shape = (width, setup.inside(width), self.bottleneck, setup.projection_dim)
        self.heads = nn.ModuleDict({name: PrototypeHead(*shape, generator) for name in self.backbones.branches})
        self.teacher_backbones = averaged_copy(self.backbones)
        self.teacher_heads = averaged_copy(self.heads)
        self.register_buffer("centre", torch.zeros(len(self.heads), setup.projection_dim))

    @property
    def encoders(self) -> nn.ModuleDict:
        """The student's, by branch."""
        return self.backbones.encoders

    def views(self, batch: Batch, draws: Draws) -> list[View]:
        """Two large views of each place, then the small ones."""
        return multi_crop(batch, self.settings, self.sensors, draws, patch=self.patch)

    def forward(self, views: list[View], batch: Batch) -> Outcome:
        units, logits = _outputs(self.backbones, self.heads, views)
        large = views[: self.n_global]
        with torch.no_grad():
            teacher_units, teacher_logits = _outputs(self.teacher_backbones, self.teacher_heads, large)
        branches = [self.backbones.branches.index(self.backbones.branch_of(view)) for view in large]
        teacher = torch.stack(teacher_logits)  # (2, B, K)
        with torch.autocast(teacher.device.type, enabled=False):
            centre = torch.stack([self.centre[branch] for branch in branches])[:, None]  # (2, 1, K)
            shares = teacher_shares(teacher, centre, temperature=self.teacher_temperature)
            loss = shared_loss(dino(shares, torch.stack(logits), temperature=self.temperature))
            if self.training:
                self._move_centre(teacher, branches)
            certainty = mean_over_ranks(entropy(shares))
            ground = ground_of(batch).gathered()
            left_out = no_negatives(ground, ground, km=self.negatives_km)
            found = gathered(units[0])
            terms = {
                "loss": loss,
                # Collapse shows here: a loss and an entropy of ln K, or both of 0.
                "teacher_entropy": certainty,
                "divergence": loss.detach() - certainty,
                "spread": spread(torch.cat([found, gathered(units[1])])),
                "top1": top1(found, gathered(teacher_units[1]), left_out),
            }
        return Outcome(terms=terms, embeddings=(teacher_logits[0], logits[0]))

    @torch.no_grad()
    def _move_centre(self, teacher: Tensor, branches: Sequence[int]) -> None:
        """The centre of each branch ← 0.9 × itself + 0.1 × the mean over the teacher's logits of all processes."""
        means = mean_over_ranks(exact(teacher).mean(dim=1))  # (2, K)
        rows = list(self.centre)
        for branch in dict.fromkeys(branches):
            mean = torch.stack([mean for mean, own in zip(means, branches, strict=True) if own == branch]).mean(dim=0)
            rows[branch] = self.centre_momentum * rows[branch] + (1 - self.centre_momentum) * mean
        # A new tensor, not a changed one: what was computed with the old may still be needed.
        self.centre = torch.stack(rows)

    def adjust_gradients(self, epoch: int) -> None:
        """Drops the gradient of the prototypes in the first epoch (Caron et al. 2021, appendix C)."""
        if epoch < self.frozen_epochs:
            for head in self.heads.values():
                cast(PrototypeHead, head).prototypes.grad = None

    def end_step(self, progress: float) -> None:
        """Moves the teacher towards the student that the step led to."""
        momentum = momentum_at(progress, *self.momentum)
        move_average(self.teacher_backbones, self.backbones, momentum)
        move_average(self.teacher_heads, self.heads, momentum)


def _outputs(backbones: Backbones, heads: nn.ModuleDict, views: list[View]) -> tuple[list[Tensor], list[Tensor]]:
    """Unit vectors and logits of each view; views of one size go through the encoder together, those of one branch
    through its head."""
    embeddings: dict[int, Tensor] = {}
    sizes = [next(iter(view.images.values())).shape[-2:] for view in views]
    for size in dict.fromkeys(sizes):
        rows = [i for i, own in enumerate(sizes) if own == size]
        embeddings |= dict(zip(rows, backbones.together([views[i] for i in rows]), strict=True))
    units: dict[int, Tensor] = {}
    logits: dict[int, Tensor] = {}
    names = [backbones.branch_of(view) for view in views]
    for name in dict.fromkeys(names):
        rows = [i for i, own in enumerate(names) if own == name]
        unit, cosines = heads[name](torch.cat([embeddings[i] for i in rows]))
        units |= dict(zip(rows, unit.chunk(len(rows)), strict=True))
        logits |= dict(zip(rows, cosines.chunk(len(rows)), strict=True))
    return [units[i] for i in range(len(views))], [logits[i] for i in range(len(views))]
