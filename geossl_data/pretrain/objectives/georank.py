"""Geography as ranks: the order of the others by similarity is to be the order by distance.

For each place of a batch the others are ranked twice, by the similarity of their embeddings and by the kilometres
between them, and the two rankings are compared (Burgert et al. 2026). Ranks have no gradient; soft ranks, which are
the ranks projected from a scaled copy of the values onto the permutahedron, have one (Blondel et al. 2020).
"""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize, pad

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather
from geossl_data.pretrain.objectives.negatives import distances_km, ground_of
from geossl_data.pretrain.objectives.parts import exact

_MILLIMETRES = 1e6
"""Per km. Distances that differ by less are the same: rounding must not decide which of two is nearer."""
_SLACK = 1e-9
"""An error of exactly the margin is free; in floating point it lies on either side of it."""


def isotonic(y: Tensor) -> Tensor:
    """The non-decreasing rows nearest to those of `y`, (rows, n) float64, in squared distance.

    Pool-adjacent-violators of all rows at once, from the bottom up: two neighbouring runs that are non-decreasing
    already become one in a single step, as only the end of the left and the begin of the right are pooled, into one
    value. ⌈log₂ n⌉ steps, each of a fixed number of passes over the tensor, and no word to the host.
    """
    rows, n = y.shape
    width = 1 << max(0, n - 1).bit_length()
    # What fills up lies above everything before it, so nothing is ever pooled with it.
    above = y.amax(dim=1, keepdim=True) + 1
    v = torch.cat([y, above.expand(rows, width - n)], dim=1)
    half = 1
    while half < width:
        left, right = v.view(rows, -1, 2, half).unbind(2)
        v = torch.stack(_merged(left, right), dim=2).view(rows, width)
        half *= 2
    return v[:, :n]


def _merged(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The isotonic regression of two non-decreasing runs in a row, (…, half) each.

    It is min(left, μ) and max(right, μ) for the μ with Σ max(0, left − μ) = Σ max(0, μ − right).
    """
    half = left.shape[-1]
    base = right[..., :1]  # sums of differences to the place where the runs meet lose the fewest digits
    a, b = left - base, right - base
    place = torch.arange(half, device=left.device)
    to_end = a.flip(-1).cumsum(-1).flip(-1)  # Σ of a from each place on
    to_here = pad(b.cumsum(-1), (1, 0))  # Σ of b before each place; (…, half + 1)
    # An element of the left lies above μ where, at its own value, the right lacks more than the left has to give.
    below = torch.searchsorted(b, a)
    lacking = below * a - to_here.gather(-1, below)
    spare = to_end - (half - place) * a
    p = ((lacking > spare) & (below > 0)).sum(-1, keepdim=True)  # how many of the left are pooled
    given = pad(to_end, (0, 1)).gather(-1, half - p)
    # One of the right does where the mean of what is pooled before it lies above it.
    q = ((given + to_here[..., :-1] > (p + place) * b) & (p > 0)).sum(-1, keepdim=True)
    mu = (given + to_here.gather(-1, q)) / (p + q).clamp(min=1) + base
    return torch.where(place >= half - p, mu, left), torch.where(place < q, mu, right)


class _Blocks:
    """Runs of equal values in the rows of an isotonic regression, (rows, n)."""

    def __init__(self, v: Tensor, tolerance: Tensor) -> None:
        n = v.shape[1]
        place = torch.arange(n, device=v.device).expand_as(v)
        begins = pad(v.diff(dim=1) > tolerance, (1, 0), value=True)
        ends = pad(begins[:, 1:], (0, 1), value=True)
        self.first = torch.where(begins, place, 0).cummax(dim=1).values
        self.last = torch.where(ends, place, n - 1).flip(1).cummin(dim=1).values.flip(1)
        self.size = self.last - self.first + 1

    def without_mean(self, x: Tensor) -> Tensor:
        """Each value less the mean of its block; exactly 0 in blocks of one."""
        sums = pad(x.cumsum(1), (1, 0))
        mean = (sums.gather(1, self.last + 1) - sums.gather(1, self.first)) / self.size
        return torch.where(self.size > 1, x - mean, 0.0)


class _SoftRank(torch.autograd.Function):
    """Soft ranks of the rows, and the size of the block that each stands in."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        theta, order = (values / eps).sort(dim=1)
        hard = torch.arange(1, values.shape[1] + 1, dtype=theta.dtype, device=theta.device)
        y = theta - hard
        v = isotonic(y)
        # Blocks are told apart by more than the rounding of their means.
        tolerance = 64 * torch.finfo(y.dtype).eps * y.abs().amax(dim=1, keepdim=True)
        blocks = _Blocks(v, tolerance)
        # θ − v, with the block's mean taken of the differences, which are small, so that it is as exact as θ is.
        soft = hard + blocks.without_mean(y - v.gather(1, blocks.first))
        ctx.order, ctx.blocks, ctx.eps = order, blocks, eps
        size = torch.empty_like(order).scatter_(1, order, blocks.size)
        ctx.mark_non_differentiable(size)
        return torch.empty_like(soft).scatter_(1, order, soft), size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        sorted_ = ctx.blocks.without_mean(gradients[0].gather(1, ctx.order)) / ctx.eps
        return torch.empty_like(sorted_).scatter_(1, ctx.order, sorted_), None


def soft_rank(values: Tensor, eps: float) -> Tensor:
    """Ranks within each row with a gradient, 1 for the least; (n, m) → (n, m), float64.

    The projection of values / eps onto the permutahedron of (1, …, m) (Blondel et al. 2020, section 3): the plain ranks
    as eps → 0, all of them (m + 1) / 2 as eps → ∞, in between ranks that are near each other are pooled into blocks.
    Gradient within a block of b: (I − 11ᵀ / b) / eps; exactly 0 for one that stands alone. Each row sums to
    m (m + 1) / 2.
    """
    return soft_ranks_and_blocks(values, eps)[0]


def soft_ranks_and_blocks(values: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`soft_rank`, and the number of values in the block that each stands in, (n, m), int64."""
    return cast(tuple[Tensor, Tensor], _SoftRank.apply(values.double(), eps))  # type: ignore[no-untyped-call]


@torch.no_grad()
def tied_ranks(values: Tensor) -> Tensor:
    """Ranks within each row, 1 for the least, equal values sharing the mean of theirs; (n, m) → (n, m), float64."""
    ascending = values.sort(dim=1).values
    below = torch.searchsorted(ascending, values)
    up_to = torch.searchsorted(ascending, values, right=True)
    return (below + 1 + up_to).double() / 2


def geo_rank(
    z: Tensor,
    lonlat: Tensor,
    *,
    temperature: float,
    eps: float,
    margin: float,
    min_km: float = 0.0,
    max_km: float = 3000.0,
    kind: Literal["squared", "absolute"] = "squared",
) -> tuple[Tensor, Tensor]:
    """How far the ranks by similarity of embeddings are from the ranks by distance; loss and active share, scalars.

    z: embeddings, (n, d). lonlat: degrees, longitude first, (n, 2); rows without a position take no part. For each row
    the others are ranked: 1 the nearest and 1 the most similar; rankings as unit vectors, their difference squared or
    absolute, differences of at most `margin` ranks free, the mean over pairs of `min_km` to `max_km`, times the norm
    of (1, …, n − 1). Places at one distance (to the millimetre) share the mean of their ranks. 0 with a gradient of 0
    where no pair is in range.

    The active share is that of the pairs whose similarity has a gradient at all: those in blocks of two and more
    (`soft_rank`). It falls with eps × temperature, which count as one, and rises with n.
    """
    n = len(z)
    known = lonlat.isfinite().all(dim=1)
    counted = known[:, None] & known[None, :] & ~torch.eye(n, dtype=torch.bool, device=z.device)
    unit = normalize(z.double())
    similarity = unit @ unit.T / temperature
    # What is not counted ranks below all else, too far to be pooled with it: so rows stay of one length.
    lowest = similarity.detach().amin(dim=1, keepdim=True) - (n + 1) * eps
    soft, block = soft_ranks_and_blocks(torch.where(counted, similarity, lowest), eps)
    found = torch.where(counted, n + 1 - soft, 0.0)

    distance = distances_km(lonlat, lonlat)
    wanted = tied_ranks((distance * _MILLIMETRES).round().masked_fill(~counted, torch.inf))
    wanted = torch.where(counted, wanted, 0.0)

    others = (known.sum() - 1).clamp(min=1).double()
    scale = (others * (others + 1) * (2 * others + 1) / 6).sqrt()
    error = normalize(found) - normalize(wanted)
    free = margin / scale
    error, free = (error.square(), free.square()) if kind == "squared" else (error.abs(), free)
    in_range = counted & (distance >= min_km) & (distance <= max_km)
    charged = in_range & (error > free * (1 + _SLACK))
    loss = scale * torch.where(charged, error, 0.0).sum() / in_range.sum().clamp(min=1)
    active = (counted & (block > 1)).sum() / counted.sum().clamp(min=1)
    return loss, active


class GeoRank(nn.Module):
    """GeoRank as a term beside an objective, over the batches of all processes; it has no weights.

    The published settings are the defaults; they suit batches of 512 and more. With few places the active share is
    near 0 and nothing is learned from it: raise `eps` to 0.1 there.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.04,
        eps: float = 0.001,
        margin: float = 1.0,
        min_km: float = 0.0,
        max_km: float = 3000.0,
        kind: Literal["squared", "absolute"] = "squared",
    ) -> None:
        super().__init__()
        if not (temperature > 0 and eps > 0 and margin >= 0 and 0 <= min_km < max_km):
            raise TrainingError(
                f"georank: temperature {temperature:g}, eps {eps:g}, margin {margin:g}, {min_km:g} to {max_km:g} km; "
                "the first two have to be above 0, the margin at least 0, the distances in order"
            )
        if kind not in ("squared", "absolute"):
            raise TrainingError(f"georank: no error of kind {kind}; there are squared and absolute")
        self.temperature, self.eps, self.margin = temperature, eps, margin
        self.min_km, self.max_km = min_km, max_km
        self.kind: Literal["squared", "absolute"] = kind

    def forward(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and `active`, the share of pairs with a gradient; embeddings: (B, d), row i of place i."""
        with torch.autocast(embeddings.device.type, enabled=False):
            z = gather(exact(embeddings))
            loss, active = geo_rank(
                z,
                ground_of(batch).gathered().lonlat,
                temperature=self.temperature,
                eps=self.eps,
                margin=self.margin,
                min_km=self.min_km,
                max_km=self.max_km,
                kind=self.kind,
            )
            return {"loss": loss.to(z.dtype), "active": active}
