"""Who is no negative of whom: looks of one place, and places nearer to each other than asked for."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gathered

EARTH_RADIUS_KM = 6371.0088
"""Mean radius (IUGG)."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where some embeddings are from."""

    index: Tensor
    """Sample index of each, shape (n,), int64; -1 for none."""
    lonlat: Tensor
    """Degrees, shape (n, 2), float64; NaN where not known."""

    def __len__(self) -> int:
        return len(self.index)

    def gathered(self) -> "Ground":
        """Of all processes, in the order of their ranks."""
        return Ground(gathered(self.index), gathered(self.lonlat))

    def repeated(self, times: int) -> "Ground":
        """The same rows several times in a row, as several views of them have."""
        return Ground(self.index.repeat(times), self.lonlat.repeat(times, 1))


def ground_of(batch: Batch) -> Ground:
    """Where the rows of a batch are from."""
    return Ground(batch.index, batch.lonlat)


def unit_vectors(lonlat: Tensor) -> Tensor:
    """Points on the unit sphere, shape (n, 3), float64, of degrees of longitude and latitude, (n, 2)."""
    lon, lat = torch.deg2rad(lonlat.double()).unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)


def distances_km(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle distances of all pairs, shape (n, m), float64, km; NaN where a position is.

    a, b: degrees of longitude and latitude, (n, 2) and (m, 2). From the chord, which is exact for near points.
    """
    chord = torch.cdist(unit_vectors(a), unit_vectors(b), compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1.0))


def no_negatives(a: Ground, b: Ground, *, km: float = 0.0) -> Tensor:
    """Which rows of `b` (columns) are no negatives of which rows of `a`, shape (n, m), bool.

    Those of the same sample, and where km > 0 those whose centres lie nearer than `km`.
    """
    alike = (a.index[:, None] == b.index[None, :]) & (a.index[:, None] >= 0)
    if km <= 0:
        return alike
    chord = 2 * math.sin(min(km / (2 * EARTH_RADIUS_KM), math.pi / 2))
    apart = torch.cdist(unit_vectors(a.lonlat), unit_vectors(b.lonlat), compute_mode="donot_use_mm_for_euclid_dist")
    return alike | (apart < chord)
