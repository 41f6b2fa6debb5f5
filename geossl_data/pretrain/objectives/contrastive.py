"""Contrastive objectives within a batch: two views of one place agree, views of other places do not.

The losses are pure functions of embeddings, in float32 or wider even where the encoders ran in bfloat16. They compare
the batches of all processes with each other.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from geossl_data.pretrain import views as views_of
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather
from geossl_data.pretrain.looks import pair_plan
from geossl_data.pretrain.objectives.negatives import ground_of, no_negatives
from geossl_data.pretrain.objectives.parts import Backbones, exact, heads, spread, top1
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, View

Loss = Callable[..., Tensor]
"""(a, b, *, temperature, left_out) → scalar, of aligned embeddings (n, d)."""


def info_nce(a: Tensor, b: Tensor, *, temperature: float, left_out: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of two aligned batches of embeddings, shape (n, d) each; natural-log units.

    −log of the softmax share of the own partner, over cosines / temperature, mean of both directions (Radford et al.
    2021, figure 3). left_out: (n, n) bool, True where row i of `a` and row j of `b` are no negatives of each other; the
    partner always counts. Equals ln n for identical embeddings when nothing is left out.
    """
    logits = normalize(exact(a)) @ normalize(exact(b)).T / temperature  # (n, n)
    if left_out is not None:
        logits = logits.masked_fill(_but_partners(left_out), -torch.inf)
    target = torch.arange(len(a), device=a.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def nt_xent(a: Tensor, b: Tensor, *, temperature: float, left_out: Tensor | None = None) -> Tensor:
    """NT-Xent of two aligned batches of embeddings, shape (n, d) each; natural-log units.

    Each of the 2n embeddings against all others but itself, mean over 2n (Chen et al. 2020, equation 1). left_out:
    (n, n) bool, True where places i and j are no negatives of each other, in either view; the partner always counts.
    Equals ln(2n − 1) for identical embeddings when nothing is left out.
    """
    n = len(a)
    z = normalize(torch.cat([exact(a), exact(b)]))  # (2n, d)
    logits = z @ z.T / temperature  # (2n, 2n)
    hidden = torch.eye(2 * n, dtype=torch.bool, device=a.device)
    if left_out is not None:
        hidden = hidden | _but_partners(left_out).repeat(2, 2)
    target = torch.arange(2 * n, device=a.device).roll(n)
    return cross_entropy(logits.masked_fill(hidden, -torch.inf), target)


def _but_partners(left_out: Tensor) -> Tensor:
    """The same mask (n, n) without its diagonal."""
    return left_out & ~torch.eye(len(left_out), dtype=torch.bool, device=left_out.device)


def by_branch(modules: nn.ModuleDict, branches: Sequence[str], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Each input (B, d) through the module of its branch; those of one branch in one pass, as batch norm sees them."""
    found: dict[int, Tensor] = {}
    for branch in dict.fromkeys(branches):
        rows = [i for i, name in enumerate(branches) if name == branch]
        out = modules[branch](torch.cat([inputs[i] for i in rows]))
        found |= dict(zip(rows, out.split([len(inputs[i]) for i in rows]), strict=True))
    return [found[i] for i in range(len(inputs))]


HEAD_SEED = 1_000
"""Added to the seed of a run for heads, whose weights would otherwise repeat those of encoders."""


class Projected(nn.Module):
    """Encoders, each with a projection head: views → embeddings that a loss compares, before they are normalised.

    layers: linear layers of the head, `setup.hidden_dim` wide inside, or as the encoder's embedding where that is 0.
    """

    def __init__(
        self, backbones: Backbones, setup: Setup, layers: int, *, norm: bool = True, last_norm: bool = False
    ) -> None:
        super().__init__()
        self.backbones = backbones
        width = self.backbones.embedding_dim
        widths = (width, *[setup.inside(width)] * (layers - 1), setup.projection_dim)
        self.heads = heads(self.backbones.branches, widths, setup.seed + HEAD_SEED, norm=norm, last_norm=last_norm)

    @property
    def encoders(self) -> nn.ModuleDict:
        """Branch → encoder."""
        return self.backbones.encoders

    def branches_of(self, views: Sequence[View]) -> list[str]:
        """Names of the encoders that see the views."""
        return [self.backbones.branch_of(view) for view in views]

    def forward(self, views: Sequence[View]) -> list[Tensor]:
        """Embeddings of each view, (B, projection_dim); views of one branch go through it together."""
        return by_branch(self.heads, self.branches_of(views), self.backbones.together(list(views)))


class _PairContrast(nn.Module):
    """Two views of each place, compared by a loss among the views of the batch."""

    def __init__(self, setup: Setup, name: str, loss: Loss, *, norm: bool) -> None:
        super().__init__()
        setup.check_pairs(name)
        self.setup = setup
        self.loss = loss
        self.looks = pair_plan(setup.views.kinds)
        self.network = Projected(Backbones(setup), setup, 2, norm=norm)

    @property
    def encoders(self) -> nn.ModuleDict:
        """Branch → encoder."""
        return self.network.encoders

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View]:
        """The two views that have to agree."""
        return views_of.pair(batch, self.setup.views, self.setup.sensors, draws)

    def forward(self, views: tuple[View, View], batch: Batch) -> Outcome:
        """Terms `loss`, `spread` and `top1`."""
        a, b = self.network(views)
        with torch.autocast(a.device.type, enabled=False):
            every_a, every_b = gather(a), gather(b)
            ground = ground_of(batch).gathered()
            left_out = no_negatives(ground, ground, km=self.setup.negatives_km)
            terms = {
                "loss": self.loss(every_a, every_b, temperature=self.setup.temperature, left_out=left_out),
                "spread": spread(torch.cat([every_a, every_b])),
                "top1": top1(every_a, every_b, left_out),
            }
        return Outcome(terms=terms, embeddings=(a, b) if self.setup.crosses else (a,))


class SimCLR(_PairContrast):
    """Two views of a place agree among all views of the batch (Chen et al. 2020).

    With views of two sensors this is Dual-SimCLR: images of other places by the same sensor are negatives too.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "simclr", nt_xent, norm=True)


class InfoNCE(_PairContrast):
    """Two views of a place, as a rule its images by two sensors, find each other among the places of the batch.

    One encoder for each sensor, or one for both (`joint`). Both sensors see the same window, flipped and turned alike;
    the change of sensor is the augmentation (Jain et al. 2022, with the loss of Radford et al. 2021).
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "infonce", info_nce, norm=True)
