"""Which places changed between two periods, estimated in training: the state of CACo, and the mixture behind labels."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.distributed import gathered

SMOOTHING = 0.8
"""Share of its former value that an estimate keeps when its place is seen again."""
SHORT_FLOOR = 1e-4
"""Added to the short distance, which may be 0."""
MOST_VALUES = 100_000
"""Values that a mixture is fitted to; of more, as many evenly spaced quantiles."""


def change_ratio(long: Tensor, short: Tensor) -> Tensor:
    """How much further apart two periods lie than two dates of one: R = long / (short + 1e-4), shape (n,).

    long, short: distances of unit embeddings (n,), of two periods and of two dates (Mall et al. 2023, equation 3).
    """
    return long / (short + SHORT_FLOOR)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two Gaussians in one dimension, that of the lower mean first."""

    weights: tuple[float, float]
    means: tuple[float, float]
    deviations: tuple[float, float]
    threshold: float | None
    """Where above the lower mean the upper Gaussian, with its weight, takes over; None where it never does."""
    bic_one: float
    """Bayesian information criterion of a single Gaussian, natural-log units; the smaller of the two fits better."""
    bic_two: float


SMALLEST = 1e-150
"""Differences whose squares are still numbers."""


def two_gaussians(values: NDArray[np.float64]) -> Mixture | None:
    """The mixture of two Gaussians that suits the values (n,) best; None where there are no two to tell apart.

    Values that are not finite do not count; None for fewer than two others, or where all are equal. Expectation
    maximisation from the best split into two by squares, so that no random number is needed; deviations never get
    below a thousandth of that of all values.
    """
    values = np.sort(values[np.isfinite(values)])
    n = len(values)
    if n < 2 or values[-1] - values[0] <= max(1e-6 * np.abs(values).max(), SMALLEST):
        return None
    if n > MOST_VALUES:
        values = values[((np.arange(MOST_VALUES) + 0.5) * n / MOST_VALUES).astype(np.int64)]
    centre, scale = float(values.mean()), float(values.std())
    x = (values - centre) / scale
    weights, means, variances = _split_in_two(x)
    before = -math.inf
    for _ in range(500):
        density = np.log(weights) - 0.5 * (np.log(2 * np.pi * variances) + (x[:, None] - means) ** 2 / variances)
        either = np.logaddexp(density[:, 0], density[:, 1])
        likelihood = float(either.mean())
        if likelihood - before < 1e-9:
            break
        before = likelihood
        share = np.exp(density - either[:, None])  # (n, 2)
        count = share.sum(axis=0) + 1e-12
        weights = count / count.sum()
        means = (share * x[:, None]).sum(axis=0) / count
        variances = np.maximum((share * (x[:, None] - means) ** 2).sum(axis=0) / count, 1e-6)
    order = np.argsort(means)
    weights, means, deviations = weights[order], means[order], np.sqrt(variances[order])
    one = -0.5 * (math.log(2 * math.pi) + 1)  # mean log-likelihood of standardised values
    crossing = _crossing(weights, means, deviations)
    return Mixture(
        weights=(float(weights[0]), float(weights[1])),
        means=(float(means[0] * scale + centre), float(means[1] * scale + centre)),
        deviations=(float(deviations[0] * scale), float(deviations[1] * scale)),
        threshold=None if crossing is None else crossing * scale + centre,
        bic_one=2 * math.log(n) - 2 * n * (one - math.log(scale)),
        bic_two=5 * math.log(n) - 2 * n * (likelihood - math.log(scale)),
    )


def _split_in_two(
    x: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Shares, means and variances of the two runs of sorted values (n,) with the least sum of squares."""
    n = len(x)
    size = np.arange(1, n)
    below, above = np.cumsum(x)[:-1], x.sum() - np.cumsum(x)[:-1]
    # The sum of squares within is least where that between the two is greatest.
    cut = int(np.argmax(below**2 / size + above**2 / (n - size))) + 1
    runs = (x[:cut], x[cut:])
    return (
        np.array([len(run) / n for run in runs]),
        np.array([run.mean() for run in runs]),
        np.maximum(np.array([run.var() for run in runs]), 1e-6),
    )


def _crossing(
    weights: NDArray[np.float64], means: NDArray[np.float64], deviations: NDArray[np.float64]
) -> float | None:
    """The first point above the lower mean where the upper of two weighted Gaussians is the larger one, or None."""
    (w1, w2), (m1, m2), (s1, s2) = weights.tolist(), means.tolist(), deviations.tolist()
    # log of upper over lower at m1 + x is a x² + b x + c.
    a = 0.5 / s1**2 - 0.5 / s2**2
    b = (m2 - m1) / s2**2
    c = -0.5 * ((m2 - m1) / s2) ** 2 + math.log(w2 * s1 / (w1 * s2))
    inside = b * b - 4 * a * c
    if c >= 0 or b <= 0 or inside < 0:
        return None
    return float(m1 - 2 * c / (b + math.sqrt(inside)))


class ChangeState(nn.Module):
    """What training has found out about the change of each place, for each half of its looks: half 0 the earlier.

    Part of the objective's state, by sample index, and the same in all processes.
    """

    ratio: Tensor
    long: Tensor
    short: Tensor
    visited: Tensor
    changed: Tensor

    def __init__(self, n_places: int) -> None:
        super().__init__()
        if n_places < 1:
            raise TrainingError("change of places can not be estimated without places; build the objective with them")
        for name in ("ratio", "long", "short"):
            self.register_buffer(name, torch.zeros(2, n_places))
        for name in ("visited", "changed"):
            self.register_buffer(name, torch.zeros(2, n_places, dtype=torch.bool))

    @property
    def labels(self) -> Tensor:
        """1 where a half of a place counts as changed, 0 where not, −1 where it was never seen; (2, n), int64."""
        return torch.where(self.visited, self.changed.long(), -1)

    def changed_of(self, index: Tensor, half: Tensor) -> Tensor:
        """Whether the halves (n,) of the places (n,) count as changed, (n,) bool."""
        return self.changed[half, index]

    @torch.no_grad()
    def observe(self, index: Tensor, half: Tensor, long: Tensor, short: Tensor) -> None:
        """Take in the distances (n,) of halves (n,) of places (n,), from all processes.

        The first observation counts as it is, later ones with a share of 0.2. One that is not finite is left out. A
        half of a place may come once.
        """
        index, half, long, short = (gathered(each) for each in (index, half, long, short))
        new = torch.stack([change_ratio(long, short), long, short]).to(self.ratio.dtype)  # (3, n)
        old = torch.stack([self.ratio[half, index], self.long[half, index], self.short[half, index]])
        seen = self.visited[half, index]
        finite = new.isfinite().all(dim=0)
        now = torch.where(seen, SMOOTHING * old + (1 - SMOOTHING) * new, new)
        for own, value in zip((self.ratio, self.long, self.short), torch.where(finite, now, old), strict=True):
            own[half, index] = value
        self.visited[half, index] = seen | finite

    @torch.no_grad()
    def relabel(self) -> dict[str, float]:
        """Label all halves seen by a mixture of two Gaussians of their ratios; named numbers to log.

        Changed are ratios above the point where the upper Gaussian takes over, which no ratio below the means can be.
        Where no two Gaussians can be told apart nothing counts as changed. `changed_places`: share of the halves
        seen; `relabelled`: share whose label is another than before; `change_threshold`, and the Bayesian information
        criteria `bic_one` and `bic_two` of one and of two Gaussians, where there is a fit.
        """
        found = two_gaussians(self.ratio[self.visited].double().cpu().numpy())
        limit = math.inf if found is None or found.threshold is None else found.threshold
        # The first process's limit: machines may differ in the last bit of theirs.
        limit = float(gathered(torch.tensor([limit], dtype=torch.float64, device=self.ratio.device))[0])
        before = self.changed
        self.changed = self.visited & (self.ratio > limit)
        n = max(1, int(self.visited.sum()))
        numbers = {
            "changed_places": int(self.changed.sum()) / n,
            "relabelled": int((self.changed != before).sum()) / n,
        }
        if found is not None:
            numbers |= {"bic_one": found.bic_one, "bic_two": found.bic_two}
        if math.isfinite(limit):
            numbers["change_threshold"] = limit
        return numbers
