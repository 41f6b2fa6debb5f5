"""SSL-HSIC (Li et al. 2021): embeddings depend on which image they are of, and on nothing else.

Dependence is the Hilbert-Schmidt independence criterion with an inverse multiquadric kernel, c / √(c² + d²). Kernels
are replaced by random Fourier features, so that the cost of the loss grows with the batch and not with its square.
Networks, heads and the moving average are those of BYOL. Three things are our reading, where the paper's text leaves
room: embeddings are brought to length 1, as BYOL's are; the loss is that of a prediction of one view and an averaged
projection of the other, mean of both directions; and the scale c climbs the mean logarithm of the kernel's gradient.
"""

import math
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather, gathered
from geossl_data.pretrain.objectives.distillation import BYOL
from geossl_data.pretrain.objectives.parts import exact
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, View, pair


def inverse_multiquadric(a: Tensor, b: Tensor, *, scale: float | Tensor) -> Tensor:
    """Kernel of all pairs of rows of (n, d) and (m, d): scale / √(scale² + distance²), shape (n, m), in (0, 1]."""
    squared = (a[:, None] - b[None]).square().sum(dim=-1)
    return scale / torch.sqrt(scale**2 + squared)


def frequencies(n: int, dim: int, generator: torch.Generator) -> Tensor:
    """Random frequencies of the kernel of scale 1 in `dim` dimensions, (n, dim), float64; of scale c: divided by c.

    (1 + r²)^(−1/2) is the mean of e^(−s r²) over s from a gamma distribution of shape ½ and rate 1, and e^(−s r²) the
    characteristic function of a normal vector of variance 2 s (Bochner). 2 s is the square of a normal number, so a
    frequency is a normal vector times a normal number.
    """
    width = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return width * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def fourier_features(z: Tensor, waves: Tensor) -> Tensor:
    """Features (n, 2 k) of rows (n, d) whose inner products approximate the kernel, and are 1 for a row with itself.

    waves: frequencies (k, d). Cosine and sine of each (Rahimi and Recht 2007).
    """
    phase = z @ waves.to(z.dtype).T
    return torch.cat([phase.cos(), phase.sin()], dim=1) / math.sqrt(len(waves))


def hsic_with_identity(a: Tensor, b: Tensor) -> Tensor:
    """HSIC of features with the identity of their image, two of each, aligned (n, f), without its factor 1 / n.

    Mean kernel of the two of an image, less that of any two of all 2n (Li et al. 2021, section 3.1).
    """
    return (a * b).sum(dim=1).mean() - ((a + b).mean(dim=0) / 2).square().sum()


def root_hsic_with_itself(features: Tensor) -> Tensor:
    """Root of the HSIC of features (n, f) with themselves: √tr(K H K H) / (n − 1), the norm of their covariance."""
    centred = features - features.mean(dim=0)
    if len(features) < features.shape[1]:
        centred = centred.T  # of the same norm, and smaller
    # A norm, not a root: its gradient at 0, where all embeddings are equal, is 0 and not NaN.
    return cast(Tensor, torch.linalg.vector_norm(centred.T @ centred / (len(features) - 1)))


def ssl_hsic_parts(a: Tensor, b: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
    """HSIC(Z, Y) and √HSIC(Z, Z) of embeddings (n, d) of two views, brought to length 1; waves: frequencies (k, d)."""
    first, second = (fourier_features(normalize(exact(z)), waves) for z in (a, b))
    return hsic_with_identity(first, second), root_hsic_with_itself(torch.cat([first, second]))


def ssl_hsic(a: Tensor, b: Tensor, waves: Tensor, *, gamma: float = 3.0) -> Tensor:
    """SSL-HSIC loss, γ √HSIC(Z, Z) − HSIC(Z, Y), of embeddings (n, d) of two views; 0 where all are equal."""
    with_identity, with_itself = ssl_hsic_parts(a, b, waves)
    return gamma * with_itself - with_identity


@torch.no_grad()
def scale_slope(z: Tensor, scale: Tensor) -> Tensor:
    """By how much the logarithm of the kernel's gradient grows with the logarithm of its scale, for rows (n, d), n ≥ 2.

    Mean over the pairs of different rows, brought to length 1. With r their distance, the gradient's norm is
    c r / (c² + r²)^(3/2) and the slope 1 − 3 c² / (c² + r²), in [−2, 1): 0 at c = r / √2.
    """
    unit = normalize(exact(z))
    squared = (2 - 2 * unit @ unit.T).clamp(min=0)
    shares = scale**2 / (scale**2 + squared)
    shares = shares.fill_diagonal_(0)
    return 1 - 3 * shares.sum() / (len(z) * (len(z) - 1))


class HSIC(BYOL):
    """Predictions of one view and averaged projections of the other depend on the image alone.

    The two embeddings of an image are those that BYOL compares; the loss is the mean of both directions. New features
    are drawn each step, among the random numbers of the views. The kernel's scale follows the embeddings: after each
    loss a step up the slope of the mean logarithm of the kernel's gradient.
    """

    name = "hsic"
    gamma = 3.0
    n_features = 512
    """Cosines and sines of half as many frequencies."""
    scale_rate = 0.1
    scale_range = (1e-3, 1e3)
    log_scale: Tensor

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.projection_dim = setup.projection_dim
        # Of scale 1: best for orthogonal unit vectors.
        self.register_buffer("log_scale", torch.zeros(()))

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View, Tensor]:  # type: ignore[override]
        """Two views of each place, and frequencies, the same in all processes."""
        first, second = pair(batch, self.settings, self.sensors, draws)
        waves = frequencies(self.n_features // 2, self.projection_dim, draws.generator)
        return first, second, waves.float().to(batch.index.device, non_blocking=True)

    def forward(self, views: tuple[View, View, Tensor], batch: Batch) -> Outcome:  # type: ignore[override]
        first, second, waves = views
        (a, b), (target_a, target_b) = self.predicted((first, second))
        with torch.autocast(a.device.type, enabled=False):
            measures = self.measures(a, b, target_b, batch)
            all_a, all_b = gather(exact(a)), gather(exact(b))
            if len(all_a) < 2:
                raise TrainingError(f"hsic: statistics of a batch need 2 places or more, not {len(all_a)}")
            waves = waves.to(all_a) / self.log_scale.exp()
            forth = ssl_hsic_parts(all_a, gathered(exact(target_b)), waves)
            back = ssl_hsic_parts(all_b, gathered(exact(target_a)), waves)
            with_identity, with_itself = ((x + y) / 2 for x, y in zip(forth, back, strict=True))
            terms = {
                "loss": self.gamma * with_itself - with_identity,
                "with_identity": with_identity,
                "with_itself": with_itself,
                "scale": self.log_scale.exp(),
            }
            if self.training:
                self._move_scale(all_a)
        return Outcome(terms=terms | measures, embeddings=(a,))

    @torch.no_grad()
    def _move_scale(self, z: Tensor) -> None:
        low, high = (math.log(bound) for bound in self.scale_range)
        # A new tensor, not a changed one: the backward pass still needs the old.
        self.log_scale = (self.log_scale + self.scale_rate * scale_slope(z, self.log_scale.exp())).clamp(low, high)
