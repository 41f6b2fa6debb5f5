"""Which cluster of places an image is from, as a term beside an objective (Ayush et al. 2021, GASSL)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather
from geossl_data.pretrain.encoders import initialised
from geossl_data.pretrain.objectives.clusters import count_distinct, known_places, spherical_kmeans
from geossl_data.pretrain.objectives.negatives import ground_of, unit_vectors
from geossl_data.pretrain.objectives.parts import exact

FloatArray = NDArray[np.float64]


def masked_cross_entropy(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean cross-entropy of the rows that count, (n, k), (n,) int64, (n,) bool; 0, with a gradient of 0, for none."""
    each = cross_entropy(logits, target, reduction="none")
    return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)


def share_of(hit: Tensor, counted: Tensor) -> Tensor:
    """Share of the rows that count in which something is so, both (n,) bool; 0 for none."""
    return (hit & counted).sum() / counted.sum().clamp(min=1)


class GeoLoc(nn.Module):
    """Which cluster of places an image is from, told from its embedding (Ayush et al. 2021, section 3.3).

    ReLU and a linear layer on the embedding as it is, not of unit length; cross-entropy, so ln K for K clusters where
    nothing is known. Clusters are those of `spherical_kmeans`, at most one for each distinct place.
    """

    centres: Tensor
    """Unit vectors, (K, 3), float64; saved with the run."""

    def __init__(self, width: int, places: FloatArray, *, clusters: int = 100, seed: int = 0) -> None:
        super().__init__()
        if clusters < 2:
            raise TrainingError(f"geoloc: {clusters} clusters tell nothing apart; ask for at least 2")
        n_distinct = count_distinct(known_places(places))
        if n_distinct < 2:
            raise TrainingError("geoloc: all train samples are at one place; there are no clusters to tell apart")
        centres = spherical_kmeans(places, min(clusters, n_distinct), seed)
        self.register_buffer("centres", torch.from_numpy(centres))
        with torch.device("meta"):
            head = nn.Linear(width, len(centres))
        self.head = initialised(head, torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def cluster_of(self, lonlat: Tensor) -> Tensor:
        """Index of the cluster whose centre is nearest by great circle, (n, 2) → (n,), int64; any for NaN."""
        return (unit_vectors(lonlat) @ self.centres.double().T).argmax(dim=1)

    def forward(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and `top1`, the share of rows put into the right cluster; embeddings: (B, d), row i of place i."""
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = self.head(relu(gather(exact(embeddings))))
            lonlat = ground_of(batch).gathered().lonlat
            known = lonlat.isfinite().all(dim=1)
            target = self.cluster_of(lonlat)
            loss = masked_cross_entropy(logits, target, known)
            return {"loss": loss, "top1": share_of(logits.argmax(dim=1) == target, known)}
