"""Contrast against keys of a slowly moving average of the network: MoCo v2 with a queue of them, MoCo v3 without."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from geossl_data.pretrain import views as views_of
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather, gathered, shared_loss
from geossl_data.pretrain.encoders import Encoder, ViT
from geossl_data.pretrain.looks import pair_plan
from geossl_data.pretrain.objectives.contrastive import HEAD_SEED, Projected, by_branch
from geossl_data.pretrain.objectives.negatives import Ground, ground_of, no_negatives
from geossl_data.pretrain.objectives.parts import (
    Backbones,
    Queue,
    averaged_copy,
    exact,
    heads,
    momentum_at,
    move_average,
    spread,
    top1,
)
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, View

PREDICTOR_SEED = HEAD_SEED + 500
QUEUE_SEED = 2_000
"""Added to the seed of a run for the random keys that a queue starts with."""


def key_contrast(
    queries: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float, left_out: Tensor | None = None
) -> Tensor:
    """InfoNCE of queries (n, d) with their keys (n, d) among shared negatives (m, d); natural-log units.

    Mean over n of −log of the softmax share of the own key, over cosines / temperature (He et al. 2020, equation 1).
    left_out: (n, m) bool, True where a negative is none of this query. Equals ln(1 + m) for identical embeddings when
    nothing is left out.
    """
    queries, keys, negatives = (normalize(exact(rows)) for rows in (queries, keys, negatives))
    own = (queries * keys).sum(dim=1, keepdim=True)  # (n, 1)
    others = queries @ negatives.T  # (n, m)
    if left_out is not None:
        others = others.masked_fill(left_out, -torch.inf)
    logits = torch.cat([own, others], dim=1) / temperature
    return cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=queries.device))


def aligned_contrast(queries: Tensor, keys: Tensor, *, temperature: float, left_out: Tensor | None = None) -> Tensor:
    """2 τ × InfoNCE of queries (n, d) among the keys (n, d) of the batch, row by row; natural-log units.

    One direction of Chen et al. 2021, algorithm 1. left_out: (n, n) bool, True where a key is no negative; the own key
    always counts.
    """
    logits = normalize(exact(queries)) @ normalize(exact(keys)).T / temperature  # (n, n)
    if left_out is not None:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(left_out & ~own, -torch.inf)
    return 2 * temperature * cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def retrieval(queries: Tensor, keys: Tensor, ground: Ground, *, km: float) -> dict[str, Tensor]:
    """`spread` of the queries (n, d) of all processes, and `top1`: how many find their own key among those of all."""
    queries, keys, ground = gathered(queries), gathered(keys), ground.gathered()
    return {"spread": spread(queries), "top1": top1(queries, keys, no_negatives(ground, ground, km=km))}


class WithAverage(nn.Module):
    """A network that gives queries, and the average of it over the steps that gives their keys.

    The average moves at the begin of a step, with the weights that the last step left, as published; so in the first
    step both are equal. Its batch norms keep statistics of their own.
    """

    def __init__(self, setup: Setup, network: nn.Module) -> None:
        super().__init__()
        self.setup = setup
        self.network = network
        self.average = averaged_copy(network)

    @property
    def encoders(self) -> nn.ModuleDict:
        """Branch → encoder, of the queries."""
        return cast(nn.ModuleDict, self.network.encoders)

    def begin_step(self, progress: float) -> None:
        """Move the average towards the network."""
        momentum = momentum_at(progress, self.setup.momentum, self.setup.momentum_end)
        move_average(self.average, self.network, momentum)


class MoCo(WithAverage):
    """A view of a place finds the key of the other view among thousands of keys of earlier steps (MoCo v2).

    Chen et al. 2020, "Improved baselines". Views of two sensors go both ways, each with a queue of its own: queries of
    one sensor against keys of the other.
    """

    def __init__(self, setup: Setup) -> None:
        setup.check_pairs("moco")
        super().__init__(setup, Projected(Backbones(setup), setup, 2, norm=False))
        self.looks = pair_plan(setup.views.kinds)
        self.directions = ((0, 1), (1, 0)) if setup.crosses else ((0, 1),)
        self.queues = nn.ModuleList(
            Queue(setup.queue, setup.projection_dim, setup.seed + QUEUE_SEED + position)
            for position in range(len(self.directions))
        )

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View]:
        """The query's view and the key's; of two sensors each is both."""
        return views_of.pair(batch, self.setup.views, self.setup.sensors, draws)

    def forward(self, views: tuple[View, View], batch: Batch) -> Outcome:
        """Terms `loss`, `spread` and `top1`. The keys are remembered after they were compared."""
        setup, ground = self.setup, ground_of(batch)
        queries = self.network([views[query] for query, _ in self.directions])
        with torch.no_grad():
            keys = self.average([views[key] for _, key in self.directions])
        losses, measures = [], []
        with torch.autocast(batch.index.device.type, enabled=False):
            for query, key, queue in zip(queries, keys, cast(Iterable[Queue], self.queues), strict=True):
                unit = normalize(exact(key))
                left_out = no_negatives(ground, queue.ground, km=setup.negatives_km)
                losses.append(key_contrast(query, unit, queue.keys, temperature=setup.temperature, left_out=left_out))
                measures.append(retrieval(query, unit, ground, km=setup.negatives_km))
                queue.push(unit, ground)
            terms = {"loss": shared_loss(torch.stack(losses).mean())}
            terms |= {name: torch.stack([each[name] for each in measures]).mean() for name in measures[0]}
        return Outcome(terms=terms, embeddings=tuple(queries))


class MoCo3(WithAverage):
    """Both views of a place find the key of the other among the keys of the batch (Chen et al. 2021).

    A predictor follows the head of the queries. With a ViT the patch embedding stays as it is drawn, which keeps
    training stable (section 4.2).
    """

    def __init__(self, setup: Setup) -> None:
        setup.check_pairs("moco3")
        backbones = Backbones(setup)
        # Depth of the heads as published, for transformers and for ResNets.
        transformer = isinstance(next(iter(backbones.encoders.values())), ViT)
        network = Projected(backbones, setup, 3 if transformer else 2, last_norm=True)
        super().__init__(setup, network)
        self.looks = pair_plan(setup.views.kinds)
        hidden = setup.inside(network.backbones.embedding_dim)
        self.predictors = heads(
            network.backbones.branches,
            (setup.projection_dim, hidden, setup.projection_dim),
            setup.seed + PREDICTOR_SEED,
            last_norm=transformer,
        )
        for encoder in cast(Iterable[Encoder], network.encoders.values()):
            for parameter in encoder.embedding_parameters():
                parameter.requires_grad_(False)

    def views(self, batch: Batch, draws: Draws) -> tuple[View, View]:
        """The two views; each is query and key."""
        return views_of.pair(batch, self.setup.views, self.setup.sensors, draws)

    def forward(self, views: tuple[View, View], batch: Batch) -> Outcome:
        """Terms `loss`, `spread` and `top1`."""
        setup, network = self.setup, cast(Projected, self.network)
        projections = network(views)
        queries = by_branch(self.predictors, network.branches_of(views), projections)
        with torch.no_grad():
            keys = self.average(views)
        with torch.autocast(batch.index.device.type, enabled=False):
            ground = ground_of(batch).gathered()
            left_out = no_negatives(ground, ground, km=setup.negatives_km)
            q1, q2 = (gather(query) for query in queries)
            k1, k2 = (gathered(key) for key in keys)
            terms = {
                "loss": aligned_contrast(q1, k2, temperature=setup.temperature, left_out=left_out)
                + aligned_contrast(q2, k1, temperature=setup.temperature, left_out=left_out),
                "spread": spread(torch.cat([q1, q2])),
                "top1": (top1(q1, k2, left_out) + top1(q2, k1, left_out)) / 2,
            }
        return Outcome(terms=terms, embeddings=tuple(projections) if setup.crosses else (projections[0],))
