"""Two views agree, and the numbers of an embedding do not repeat each other: neither negatives nor averages.

Barlow Twins (Zbontar et al. 2021) asks that of the correlation between the views, VICReg (Bardes et al. 2022) of the
covariance within each. Both look at the batch of all processes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather
from geossl_data.pretrain.looks import pair_plan
from geossl_data.pretrain.objectives.distillation import projections
from geossl_data.pretrain.objectives.negatives import ground_of, no_negatives
from geossl_data.pretrain.objectives.parts import Backbones, exact, heads, spread, top1
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, View, pair

STANDARDISED_EPS = 1e-5
"""Added to variances before the root, as batch norm does."""
DEVIATION_EPS = 1e-4
"""The same in VICReg (Bardes et al. 2022, equation 2)."""


def standardised(x: Tensor) -> Tensor:
    """Columns of (n, d) with mean 0 and biased variance 1; constant ones become 0."""
    centred = x - x.mean(dim=0)
    return centred * torch.rsqrt((centred**2).mean(dim=0) + STANDARDISED_EPS)


def barlow_parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of the cross-correlation C, (d, d), of two aligned batches of embeddings (n, d): Σ (1 − C_ii)² and Σ_{i≠j} C_ij².

    Zbontar et al. 2021, equation 1.
    """
    correlation = standardised(exact(a)).T @ standardised(exact(b)) / len(a)
    diagonal = correlation.diagonal()
    return ((1 - diagonal) ** 2).sum(), (correlation**2).sum() - (diagonal**2).sum()


def barlow(a: Tensor, b: Tensor, *, redundancy: float = 0.0051) -> Tensor:
    """Barlow Twins loss of two aligned batches of embeddings (n, d); `redundancy` is its λ. d for constant ones."""
    return barlow_terms(a, b, redundancy=redundancy)["loss"]


def barlow_terms(a: Tensor, b: Tensor, *, redundancy: float = 0.0051) -> dict[str, Tensor]:
    """The loss as `loss`, and its two parts."""
    invariance, repeated = barlow_parts(a, b)
    return {"loss": invariance + redundancy * repeated, "invariance": invariance, "redundancy": repeated}


def deviation_lack(x: Tensor) -> Tensor:
    """How far the deviations of the columns of (n, d) stay below 1, mean over d, n ≥ 2: VICReg's variance term."""
    return relu(1 - torch.sqrt(x.var(dim=0) + DEVIATION_EPS)).mean()


def covariance_excess(x: Tensor) -> Tensor:
    """Sum of the squared covariances between different columns of (n, d), over d, n ≥ 2: VICReg's covariance term."""
    centred = x - x.mean(dim=0)
    covariance = centred.T @ centred / (len(x) - 1)
    return ((covariance**2).sum() - (covariance.diagonal() ** 2).sum()) / x.shape[1]


def vicreg_parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance and covariance terms of two aligned batches of embeddings (n, d), without their weights.

    Mean squared difference; mean of `deviation_lack` of both; sum of `covariance_excess` of both (Bardes et al. 2022,
    equations 1 to 6, where the variance term is halved as in their code).
    """
    a, b = exact(a), exact(b)
    variance = (deviation_lack(a) + deviation_lack(b)) / 2
    return mse_loss(a, b), variance, covariance_excess(a) + covariance_excess(b)


def vicreg(a: Tensor, b: Tensor, *, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)) -> Tensor:
    """VICReg loss of two aligned batches of embeddings (n, d); 24.75 for constant ones that are equal."""
    return vicreg_terms(a, b, weights=weights)["loss"]


def vicreg_terms(a: Tensor, b: Tensor, *, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)) -> dict[str, Tensor]:
    """The loss as `loss`, and its three parts without their weights."""
    invariance, variance, covariance = vicreg_parts(a, b)
    loss = weights[0] * invariance + weights[1] * variance + weights[2] * covariance
    return {"loss": loss, "invariance": invariance, "variance": variance, "covariance": covariance}


Terms = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Two aligned batches of embeddings (n, d) → `loss` and its parts."""


class _Decorrelation(nn.Module):
    """Encoders and three-layer projectors; the projections of all processes' pairs go into `terms`."""

    def __init__(self, setup: Setup, name: str, terms: Terms) -> None:
        super().__init__()
        setup.check_pairs(name)
        self.name, self.terms = name, terms
        self.settings = setup.views
        self.sensors = setup.sensors
        self.negatives_km = setup.negatives_km
        self.looks = pair_plan(setup.views.kinds)
        self.backbones = Backbones(setup)
        width = self.backbones.embedding_dim
        widths = (width, setup.inside(width), setup.inside(width), setup.projection_dim)
        self.projectors = heads(self.backbones.branches, widths, setup.seed + 111)

    @property
    def encoders(self) -> nn.ModuleDict:
        """By branch."""
        return self.backbones.encoders

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View]:
        """Two views of each place."""
        return pair(batch, self.settings, self.sensors, draws)

    def forward(self, views: tuple[View, View], batch: Batch) -> Outcome:
        own, other = projections(self.backbones, self.projectors, list(views))
        with torch.autocast(own.device.type, enabled=False):
            a, b = gather(exact(own)), gather(exact(other))
            if len(a) < 2:
                raise TrainingError(f"{self.name}: statistics of a batch need 2 places or more, not {len(a)}")
            ground = ground_of(batch).gathered()
            left_out = no_negatives(ground, ground, km=self.negatives_km)
            measures = {"spread": spread(torch.cat([a, b])), "top1": top1(a, b, left_out)}
            return Outcome(terms=self.terms(a, b) | measures, embeddings=(own,))


class Barlow(_Decorrelation):
    """Barlow Twins: the correlation between the two views' embeddings is to be the identity."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "barlow", barlow_terms)


class VICReg(_Decorrelation):
    """The two views' embeddings are near, every number of them varies, and no two vary together."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "vicreg", vicreg_terms)
