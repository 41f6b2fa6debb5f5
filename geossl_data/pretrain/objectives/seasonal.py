"""Seasonal contrast: three heads that ignore season and augmentation, season alone, augmentation alone.

SeCo (Mañas et al. 2021) compares views of one year. CACo (Mall et al. 2023) adds the other of two periods years apart,
as a negative where a place changed.

Head s compares a query with the key of view s. View 0 is another date, augmented; view 1 a third date, only cropped;
view 2 the query's own date, augmented. So head 1 is free to tell augmentations apart and head 2 to tell seasons apart,
and the other two views of all places are among their negatives.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from geossl_data.errors import TrainingError
from geossl_data.pretrain import views as views_of
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gathered, mean_over_ranks, shared_loss
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.change import ChangeState
from geossl_data.pretrain.objectives.contrastive import HEAD_SEED
from geossl_data.pretrain.objectives.moco import QUEUE_SEED, WithAverage, key_contrast, retrieval
from geossl_data.pretrain.objectives.negatives import Ground, ground_of, no_negatives
from geossl_data.pretrain.objectives.parts import Backbones, Queue, exact, mlp
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, View

HEADS = 3
"""Heads, and views with keys."""

SeasonalViews = tuple[View, View, View, View]
"""The query's view and those of the keys 0, 1 and 2."""


def seasonal_contrast(
    queries: Tensor,
    keys: Tensor,
    every_key: Tensor,
    queues: Sequence[Tensor],
    *,
    temperature: float,
    queue_left_out: Sequence[Tensor],
    own_view_left_out: Tensor | None,
    other_views_left_out: Tensor,
) -> Tensor:
    """InfoNCE of each of the three heads, shape (3,), mean over n; natural-log units. Their sum is minimised.

    queries: (n, 3 heads, d); keys: of the same rows, (n, 3 views, 3 heads, d); every_key: of the whole batch,
    (N, 3 views, 3 heads, d); queues: (K, d) of each head. The negatives of head s are its queue, the keys of view s
    (with `own_view_left_out`, and none without) and, where s > 0, the keys of the other two views. Masks, True where a
    key is no negative of a query: of each head's queue (n, K), of the keys of view s (n, N), of the other views (n, N).
    """
    losses = []
    for head in range(HEADS):
        negatives, left_out = [queues[head]], [queue_left_out[head]]
        if own_view_left_out is not None:
            negatives.append(every_key[:, head, head])
            left_out.append(own_view_left_out)
        if head > 0:
            others = [view for view in range(HEADS) if view != head]
            negatives += [every_key[:, view, head] for view in others]
            left_out += [other_views_left_out] * len(others)
        losses.append(
            key_contrast(
                queries[:, head],
                keys[:, head, head],
                torch.cat([exact(rows) for rows in negatives]),
                temperature=temperature,
                left_out=torch.cat(left_out, dim=1),
            )
        )
    return torch.stack(losses)


@dataclass(frozen=True, slots=True)
class Halves:
    """Rows of a batch of CACo: each is one half of the looks of a place."""

    ground: Ground
    half: Tensor
    """0 of the earlier looks, 1 of the later, shape (n,), int64."""
    changed: Tensor
    """Whether the place counts as changed in the eyes of this half, shape (n,), bool."""

    def gathered(self) -> "Halves":
        """Of all processes, in the order of their ranks."""
        return Halves(self.ground.gathered(), gathered(self.half), gathered(self.changed))


def long_term_left_out(
    rows: Halves, every_row: Halves, *, km: float = 0.0, mask_cross_view: bool = True
) -> tuple[Tensor, Tensor]:
    """Which keys of the batch are no negatives of the rows: of the own view, and of the other views; (n, N) bool each.

    Of the own view only the other half counts. The other half of the same place counts where the row's place changed;
    elsewhere it is left out, in other views only with `mask_cross_view`. In other views the row's own keys always
    count. Other places nearer than `km` never do.
    """
    same = no_negatives(rows.ground, every_row.ground)
    near = no_negatives(rows.ground, every_row.ground, km=km) & ~same
    other_half = rows.half[:, None] != every_row.half[None, :]
    unchanged = same & other_half & ~rows.changed[:, None]
    return ~other_half | unchanged | near, near | unchanged if mask_cross_view else near


class SeasonalNetwork(nn.Module):
    """One encoder with three heads: views → embeddings (B, 3, projection_dim) each, before they are normalised."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.backbones = Backbones(setup)
        width = self.backbones.embedding_dim
        generator = torch.Generator().manual_seed(setup.seed + HEAD_SEED)
        widths = (width, setup.inside(width), setup.projection_dim)
        self.heads = nn.ModuleList(mlp(widths, generator, norm=False) for _ in range(HEADS))

    @property
    def encoders(self) -> nn.ModuleDict:
        """Branch → encoder."""
        return self.backbones.encoders

    def forward(self, views: Sequence[View]) -> list[Tensor]:
        """Embeddings of each view by each head; the views go through together."""
        features = torch.cat(self.backbones.together(list(views)))
        found = torch.stack([head(features) for head in self.heads], dim=1)
        return list(torch.split(found, [len(view) for view in views]))


class SeCo(WithAverage):
    """Seasonal contrast: three looks of a year, three heads, a queue of keys for each (Mañas et al. 2021)."""

    name = "seco"

    def __init__(self, setup: Setup) -> None:
        if setup.crosses or (len(setup.sensors) > 1 and not setup.joint):
            raise TrainingError(
                f"{self.name}: compares dates of one encoder, not sensors {' and '.join(setup.sensors)}; give one of "
                "--sensors, or both with --joint, and leave sensor out of --views"
            )
        super().__init__(setup, SeasonalNetwork(setup))
        self.looks = LookPlan("season", HEADS)
        self.queues = nn.ModuleList(
            Queue(setup.queue, setup.projection_dim, setup.seed + QUEUE_SEED + head) for head in range(HEADS)
        )

    def views(self, batch: Batch, draws: Draws) -> SeasonalViews:
        """The query's view and those of the keys."""
        return views_of.seasonal(batch, self.setup.views, self.setup.sensors, draws)

    def forward(self, views: SeasonalViews, batch: Batch) -> Outcome:
        """Terms `loss`, of each head `loss_0` … `loss_2`, and of head 0 `spread` and `top1`."""
        (queries,) = self.network([views[0]])
        with torch.no_grad():
            keys = torch.stack(self.average(views[1:]), dim=1)  # (B, views, heads, d)
        with torch.autocast(batch.index.device.type, enabled=False):
            ground = ground_of(batch)
            every = ground.gathered()
            near = no_negatives(ground, every, km=self.setup.negatives_km) & ~no_negatives(ground, every)
            terms = self._terms(queries, keys, ground, own_view_left_out=None, other_views_left_out=near)
        return Outcome(terms=terms, embeddings=(queries[:, 0],))

    def _terms(
        self,
        queries: Tensor,
        keys: Tensor,
        ground: Ground,
        *,
        own_view_left_out: Tensor | None,
        other_views_left_out: Tensor,
        half: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare queries (n, heads, d) with keys (n, views, heads, d), then remember the keys."""
        keys = normalize(exact(keys), dim=-1)
        queues = list(cast(Iterable[Queue], self.queues))
        queue_left_out = [no_negatives(ground, queue.ground, km=self.setup.negatives_km) for queue in queues]
        if half is not None:
            queue_left_out = [
                left_out | (half[:, None] != queue.tag[None, :])
                for left_out, queue in zip(queue_left_out, queues, strict=True)
            ]
        losses = shared_loss(
            seasonal_contrast(
                queries,
                keys,
                gathered(keys),
                [queue.keys for queue in queues],
                temperature=self.setup.temperature,
                queue_left_out=queue_left_out,
                own_view_left_out=own_view_left_out,
                other_views_left_out=other_views_left_out,
            )
        )
        for head, queue in enumerate(queues):
            queue.push(keys[:, head, head], ground, half)
        named = {f"loss_{head}": losses[head] for head in range(HEADS)}
        return {
            "loss": losses.sum(),
            **named,
            **retrieval(queries[:, 0], keys[:, 0, 0], ground, km=self.setup.negatives_km),
        }


LABELS = ("estimated", "score")
"""Where the change labels of CACo come from: estimated in training, or the change scores of the shards."""


class CACo(SeCo):
    """Change-aware contrast: looks of two periods, where the other period is a negative of a place that changed.

    Mall et al. 2023. A batch of B places is 2 B rows: the earlier and the later half of the first place, then those of
    the next, so that the order of keys does not depend on how many processes share a batch.
    """

    name = "caco"

    def __init__(self, setup: Setup) -> None:
        if setup.change_labels not in LABELS:
            raise TrainingError(f"change labels {setup.change_labels!r} are not one of {', '.join(LABELS)}")
        super().__init__(setup)
        self.looks = LookPlan("halves", HEADS)
        self.change = ChangeState(len(setup.places)) if setup.change_labels == "estimated" else None

    def views(self, batch: Batch, draws: Draws) -> SeasonalViews:
        """The query's view and those of the keys, of 2 B rows each."""
        earlier, later = (
            views_of.seasonal(batch, self.setup.views, self.setup.sensors, draws, first=first) for first in (0, HEADS)
        )
        query, *keys = (_joined(a, b) for a, b in zip(earlier, later, strict=True))
        return (query, keys[0], keys[1], keys[2])

    def forward(self, views: SeasonalViews, batch: Batch) -> Outcome:
        """Terms of `SeCo`, and `changed`: the share of halves in the batch that count as changed."""
        n, device = len(batch), batch.index.device
        half = torch.arange(2, device=device).repeat(n)
        ground = Ground(batch.index.repeat_interleave(2), batch.lonlat.repeat_interleave(2, dim=0))
        if self.change is None:
            changed = (batch.change >= self.setup.change_threshold).repeat_interleave(2)
        else:
            changed = self.change.changed_of(ground.index, half)
        (queries,) = self.network([views[0]])
        with torch.no_grad():
            # The average's own embeddings of the queries are needed to estimate change, and for that alone.
            averaged = self.average(views[1:] if self.change is None else (*views[1:], views[0]))
            keys = torch.stack(averaged[:HEADS], dim=1)
        with torch.autocast(device.type, enabled=False):
            if self.change is not None:
                self.change.observe(ground.index, half, *distances(averaged[HEADS][:, 1], keys[:, 1, 1]))
            rows = Halves(ground, half, changed)
            own_view, other_views = long_term_left_out(
                rows, rows.gathered(), km=self.setup.negatives_km, mask_cross_view=self.setup.mask_cross_view
            )
            terms = self._terms(
                queries, keys, ground, own_view_left_out=own_view, other_views_left_out=other_views, half=half
            )
            terms["changed"] = mean_over_ranks(changed.float().mean())
        return Outcome(terms=terms, embeddings=(queries[0::2, 0], queries[1::2, 0]))

    def end_epoch(self) -> dict[str, float]:
        """Label the places for the next epoch; numbers of `ChangeState.relabel`, none where labels are scores."""
        return {} if self.change is None else self.change.relabel()


def distances(queries: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """How far unit embeddings lie apart, (2 B,) each: from the other half of the place, and from another date.

    queries: of the earlier and the later half of each of B places, (2 B, d), not yet of unit length; others: of another
    date of each half, (2 B, d).
    """
    queries, others = normalize(exact(queries)), normalize(exact(others))
    other_half = queries.reshape(-1, 2, queries.shape[1]).flip(1).reshape(queries.shape)
    return (queries - other_half).norm(dim=1), (queries - others).norm(dim=1)


def _joined(a: View, b: View) -> View:
    """The rows of both views in turn."""
    images = {sensor: torch.stack([image, b.images[sensor]], dim=1).flatten(0, 1) for sensor, image in a.images.items()}
    return View(images, a.look)
