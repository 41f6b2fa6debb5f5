"""Geography as a signal beside an objective: terms that know where a place is, added by weight.

`geoloc` classifies the place by clusters of places (Ayush et al. 2021, GASSL), `csp` contrasts the image with an
encoding of its location (Mai et al. 2023), `georank` stands in its own file. A term looks at the embeddings that the
objective compares, of all processes, and answers with named numbers; it needs no view of its own.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import gather, gathered, world_size
from geossl_data.pretrain.encoders import initialised
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.negatives import Ground, ground_of, no_negatives, unit_vectors
from geossl_data.pretrain.objectives.parts import exact
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, generator

FloatArray = NDArray[np.float64]


# --- places of a data set -------------------------------------------------------------------------------------------


def known_places(places: FloatArray) -> FloatArray:
    """The rows of longitude and latitude, (n, 2), degrees, that are known, with longitudes in [−180, 180).

    TrainingError where none is, or where a latitude is none.
    """
    known = places[np.isfinite(places).all(axis=1)]
    if len(known) == 0:
        raise TrainingError("none of the train samples says where it is; geographic terms need longitude and latitude")
    far = known[np.abs(known[:, 1]) > 90]
    if len(far):
        raise TrainingError(
            f"latitude {far[0, 1]:g} is outside -90 to 90; positions are longitude first, then latitude"
        )
    # To a tenth of a millimetre, so that a turn more or less leaves the same number.
    lon = np.round((known[:, 0] + 180) % 360 - 180, 9)
    return np.stack([np.where(lon == 180, -180.0, lon), np.round(known[:, 1], 9)], axis=1)


def spherical_kmeans(
    lonlat: FloatArray, k: int, seed: int, *, fit_on: int = 50_000, iterations: int = 50
) -> FloatArray:
    """Centres of `k` clusters of places as unit vectors, shape (k, 3).

    lonlat: degrees, (n, 2); rows with NaN take no part. Lloyd's algorithm on the sphere, seeded by k-means++, on at
    most `fit_on` of the places, drawn at random; a centre that loses all its places moves to the worst served place.
    The same for the same places in the same order and `seed`, whatever turn their longitudes are written in.
    TrainingError where there are fewer distinct places than clusters.
    """
    places = known_places(lonlat)
    rng = np.random.default_rng(seed)
    if len(places) > fit_on:
        places = places[np.sort(rng.choice(len(places), fit_on, replace=False))]
    n_distinct = _n_distinct(places)
    if not 1 <= k <= n_distinct:
        raise TrainingError(f"{k} clusters of {n_distinct} distinct places; ask for at least 1 and at most as many")
    points = unit_vectors(torch.from_numpy(places)).numpy()
    centres = _scattered(points, k, rng)
    assigned = np.full(len(points), -1)
    for _ in range(iterations):
        before, assigned = assigned, _nearest(points, centres)
        if np.array_equal(before, assigned):
            break
        sums = np.stack([np.bincount(assigned, weights=axis, minlength=k) for axis in points.T], axis=1)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        # Places all round the globe have no mean direction.
        centres = np.where(norms > 1e-9, sums / np.maximum(norms, 1e-9), centres)
        (lost,) = np.nonzero(np.bincount(assigned, minlength=k) == 0)
        if len(lost):
            served = (points * centres[assigned]).sum(axis=1)
            centres[lost] = points[np.argsort(served, kind="stable")[: len(lost)]]
    return centres


def _scattered(points: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """`k` of the points: each drawn in proportion to the squared distance to those before (k-means++)."""
    chosen = [points[rng.integers(len(points))]]
    apart = ((points - chosen[0]) ** 2).sum(axis=1)
    for _ in range(k - 1):
        summed = np.cumsum(apart)
        drawn = int(np.searchsorted(summed, rng.random() * summed[-1], side="right"))
        chosen.append(points[min(drawn, len(points) - 1)])
        apart = np.minimum(apart, ((points - chosen[-1]) ** 2).sum(axis=1))
    return np.stack(chosen)


def _nearest(points: FloatArray, centres: FloatArray) -> NDArray[np.int64]:
    """Index of the centre nearest to each unit vector."""
    rows = 4096  # their products with the centres stay in the cache
    parts = [(points[i : i + rows] @ centres.T).argmax(axis=1) for i in range(0, len(points), rows)]
    return np.concatenate(parts)


def _n_distinct(places: FloatArray) -> int:
    return len(np.unique(places[:, 0] + 1j * places[:, 1]))  # much faster than unique rows


# --- clusters of places ---------------------------------------------------------------------------------------------


def masked_cross_entropy(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean cross-entropy of the rows that count, (n, k), (n,) int64, (n,) bool; 0, with a gradient of 0, for none."""
    each = cross_entropy(logits, target, reduction="none")
    return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)


def _share(hit: Tensor, counted: Tensor) -> Tensor:
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
        n_distinct = _n_distinct(known_places(places))
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
            return {"loss": loss, "top1": _share(logits.argmax(dim=1) == target, known)}


# --- random numbers from a batch ------------------------------------------------------------------------------------

_STEP = 0x9E3779B97F4A7C15 - (1 << 64)


def mixed(x: Tensor) -> Tensor:
    """Each int64 scrambled into another, the same on every device: the finaliser of SplitMix64 (Steele et al. 2014)."""

    def shifted(value: Tensor, bits: int) -> Tensor:
        return (value >> bits) & ((1 << (64 - bits)) - 1)

    x = (x ^ shifted(x, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ shifted(x, 27)) * (0x94D049BB133111EB - (1 << 64))
    return x ^ shifted(x, 31)


@dataclass(frozen=True, slots=True)
class BatchDraws:
    """Random numbers that depend on which looks of which samples the processes hold together, and in which order.

    A term gets no generator; so training can be resumed, and the number of processes does not matter.
    """

    key: Tensor
    """Scalar, int64, on the device."""

    @classmethod
    def of(cls, batch: Batch) -> "BatchDraws":
        """Those of the batches of all processes."""
        numbers = torch.cat([gathered(batch.index)[:, None], gathered(batch.look)], dim=1)
        place = torch.arange(numbers.numel(), device=numbers.device).view_as(numbers)
        return cls(mixed(mixed(numbers + mixed(place * _STEP)).sum()))

    def uniform(self, stream: int, *shape: int) -> Tensor:
        """In [0, 1), float64; other numbers for each `stream`."""
        counter = torch.arange(1, math.prod(shape) + 1, device=self.key.device)
        bits = mixed(mixed(self.key + stream * 0x632BE5AB) + counter * _STEP)
        return (((bits >> 11) & ((1 << 53) - 1)).double() / (1 << 53)).view(shape)


def everywhere(u: Tensor) -> Tensor:
    """Degrees of places uniform on the sphere from uniform numbers in [0, 1), both (n, 2).

    Longitude uniform in [−180, 180), latitude the arcsine of a uniform number in [−1, 1).
    """
    return torch.stack([360 * u[:, 0] - 180, torch.rad2deg(torch.asin(2 * u[:, 1] - 1))], dim=1)


# --- image and location ---------------------------------------------------------------------------------------------


def sphere_features(lonlat: Tensor, scales: int) -> Tensor:
    """What a network can read off a place: (n, 2) degrees → (n, 3 + 6 × scales), float64, in [−1, 1].

    The unit vector x of the place, and sin and cos of π 2ˢ x for s below `scales`: waves of 12 742 km and shorter by
    half each. They know neither a date line nor poles, unlike waves of longitude and latitude.
    """
    x = unit_vectors(lonlat)
    frequencies = math.pi * 2 ** torch.arange(scales, dtype=x.dtype, device=x.device)
    waves = (x[:, None, :] * frequencies[:, None]).flatten(1)
    return torch.cat([x, waves.sin(), waves.cos()], dim=1)


class LocationEncoder(nn.Module):
    """Place → embedding: `sphere_features`, two hidden layers with ReLU and dropout, (n, 2) → (n, dim)."""

    def __init__(self, dim: int, *, hidden: int = 256, scales: int = 10, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.scales, self.hidden, self.dropout = scales, hidden, dropout
        with torch.device("meta"):
            widths = (3 + 6 * scales, hidden, hidden, dim)
            layers = nn.ModuleList([nn.Linear(widths[i], widths[i + 1]) for i in range(3)])
        self.layers = initialised(layers, torch.Generator().manual_seed(seed))

    def forward(self, lonlat: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """kept: uniform numbers for each hidden layer, (n, hidden); a unit whose own is below `dropout` is left out."""
        x = sphere_features(lonlat, self.scales).to(next(self.parameters()).dtype)
        for position, layer in enumerate(self.layers[:2]):
            x = relu(layer(x))
            if kept is not None:
                x = x * (kept[position] >= self.dropout) / (1 - self.dropout)
        return cast(Tensor, self.layers[2](x))


def contrast(a: Tensor, b: Tensor, left_out: Tensor, counted: Tensor, *, temperature: float) -> Tensor:
    """−log of the softmax share of the own partner, over cosines / temperature, mean of the rows that count.

    a: (n, d), b: (m, d) with m ≥ n, row i of `b` the partner of row i of `a`. left_out: (n, m) bool, pairs that are no
    negatives; the partner is never left out. counted: (n,) bool. Natural-log units; ln m for identical embeddings.
    """
    own = torch.eye(len(a), len(b), dtype=torch.bool, device=a.device)
    logits = (normalize(a) @ normalize(b).T / temperature).masked_fill(left_out & ~own, -torch.inf)
    return masked_cross_entropy(logits, torch.arange(len(a), device=a.device), counted)


def contrast_with(a: Tensor, b: Tensor, c: Tensor, left_out: Tensor, counted: Tensor, *, temperature: float) -> Tensor:
    """The same with the rows of `c`, (m, d), as the only negatives: own partner in `b`, (n, d). left_out: (n, m)."""
    a, b, c = normalize(a), normalize(b), normalize(c)
    logits = torch.cat([(a * b).sum(dim=1, keepdim=True), (a @ c.T).masked_fill(left_out, -torch.inf)], dim=1)
    target = torch.zeros(len(a), dtype=torch.int64, device=a.device)
    return masked_cross_entropy(logits / temperature, target, counted)


class CSP(nn.Module):
    """An image's embedding and an encoding of where it is agree (Mai et al. 2023, section 3): the sum of three parts.

    In the batch: image against all locations and location against all images. Elsewhere: image against its own location
    and `far` places drawn uniformly on the sphere, new ones for each batch. Dropout: the location against those of the
    batch under another dropout, its own the partner (Gao et al. 2021, SimCSE). Rows of one sample, and places nearer
    than `negatives_km`, are no negatives. Over cosines, where the paper divides plain products by 1.
    """

    def __init__(
        self,
        width: int,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        far: int = 256,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        negatives_km: float = 0.0,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and far >= 1 and 0 <= dropout < 1 and min(weights) >= 0):
            raise TrainingError(
                f"csp: temperature {temperature:g}, {far} places elsewhere, dropout {dropout:g}, weights {weights}; "
                "expected above 0, at least 1, in [0, 1) and at least 0"
            )
        self.temperature, self.far, self.weights, self.negatives_km = temperature, far, weights, negatives_km
        with torch.device("meta"):
            head = nn.Linear(width, dim)
        self.head = initialised(head, torch.Generator().manual_seed(seed))
        self.location = LocationEncoder(dim, dropout=dropout, seed=seed + 1)

    def forward(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`loss`, its parts `in_batch`, `elsewhere` and `dropout`, and `top1`; embeddings: (B, d), row i of place i.

        `top1`: share of images whose most similar location of the batch is their own.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            image = self.head(gather(exact(embeddings)))
            ground = ground_of(batch).gathered()
            known = ground.lonlat.isfinite().all(dim=1)
            draws = BatchDraws.of(batch)
            lonlat = torch.where(known[:, None], ground.lonlat, 0.0)
            first, second = (self.location(lonlat, self._kept(draws, stream, len(lonlat))) for stream in (1, 3))
            elsewhere = everywhere(draws.uniform(0, self.far, 2))
            nobody = Ground(torch.full((self.far,), -1, device=known.device), elsewhere)

            left_out = no_negatives(ground, ground, km=self.negatives_km) | ~known[None, :]
            in_batch = (
                contrast(image, first, left_out, known, temperature=self.temperature)
                + contrast(first, image, left_out, known, temperature=self.temperature)
            ) / 2
            outside = contrast_with(
                image,
                first,
                self.location(elsewhere, self._kept(draws, 5, self.far)),
                no_negatives(ground, nobody, km=self.negatives_km),
                known,
                temperature=self.temperature,
            )
            dropped = contrast(first, second, left_out, known, temperature=self.temperature)
            own = torch.eye(len(known), dtype=torch.bool, device=known.device)
            nearest = (normalize(image) @ normalize(first).T).masked_fill(left_out & ~own, -torch.inf).argmax(dim=1)
            parts = {"in_batch": in_batch, "elsewhere": outside, "dropout": dropped}
            loss = torch.stack([weight * part for weight, part in zip(self.weights, parts.values(), strict=True)]).sum()
            top1 = _share(nearest == torch.arange(len(known), device=known.device), known)
            return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, "top1": top1}

    def _kept(self, draws: BatchDraws, stream: int, n: int) -> tuple[Tensor, Tensor] | None:
        if not self.training:
            return None
        return draws.uniform(stream, n, self.location.hidden), draws.uniform(stream + 1, n, self.location.hidden)


# --- beside an objective --------------------------------------------------------------------------------------------


class Geographic(nn.Module):
    """An objective with geographic terms beside it, shaped as an objective itself.

    terms: name → (weight, term). A term is a module of (embeddings (B, d), batch) that answers with named scalars,
    `loss` among them; of several embeddings of a place the mean counts. The loss is (1 − w) × objective + w × georank,
    as published, plus w × every other term. `objective` is logged beside it, each term as its name, and what else a
    term says as name_what.
    """

    def __init__(self, objective: nn.Module, terms: Mapping[str, tuple[float, nn.Module]]) -> None:
        super().__init__()
        for name, (weight, _) in terms.items():
            if not 0 <= weight < math.inf or (name == "georank" and weight > 1):
                allowed = "in [0, 1]" if name == "georank" else "at least 0"
                raise TrainingError(f"weight {weight:g} of {name}; expected {allowed}")
        self.objective = objective
        self.terms = nn.ModuleDict({name: term for name, (_, term) in terms.items()})
        self.weights = {name: float(weight) for name, (weight, _) in terms.items()}

    @property
    def encoders(self) -> nn.ModuleDict:
        """Those of the objective."""
        return cast(nn.ModuleDict, self.objective.encoders)

    @property
    def looks(self) -> LookPlan:
        """Those of the objective."""
        return cast(LookPlan, self.objective.looks)

    def views(self, batch: Batch, draws: Draws) -> Any:
        """Those of the objective."""
        return cast(Any, self.objective).views(batch, draws)

    def forward(self, views: Any, batch: Batch) -> Outcome:
        """The objective's terms and those of geography."""
        outcome = cast(Outcome, self.objective(views, batch))
        if not outcome.embeddings:
            raise TrainingError(
                f"this objective answers with no embeddings for {' and '.join(self.terms)} to look at; leave them out"
            )
        own = outcome.terms["loss"]
        total = own * (1 - self.weights.get("georank", 0.0))
        named: dict[str, Tensor] = {"objective": own.detach()}
        for name, term in self.terms.items():
            found = [cast(dict[str, Tensor], term(embeddings, batch)) for embeddings in outcome.embeddings]
            mean = {key: torch.stack([one[key] for one in found]).mean(dim=0) for key in found[0]}
            total = total + self.weights[name] * mean["loss"]
            named |= {name if key == "loss" else f"{name}_{key}": value.detach() for key, value in mean.items()}
        return Outcome(terms={**outcome.terms, **named, "loss": total}, embeddings=outcome.embeddings)

    def begin_step(self, progress: float) -> None:
        """As the objective does, if it does."""
        self._hook("begin_step", progress)

    def adjust_gradients(self, epoch: int) -> None:
        """As the objective does, if it does."""
        self._hook("adjust_gradients", epoch)

    def end_step(self, progress: float) -> None:
        """As the objective does, if it does."""
        self._hook("end_step", progress)

    def end_epoch(self) -> dict[str, float]:
        """What the objective has to say, if anything."""
        return cast(dict[str, float], self._hook("end_epoch") or {})

    def _hook(self, name: str, *arguments: float) -> Any:
        hook = getattr(self.objective, name, None)
        return None if hook is None else hook(*arguments)


@torch.no_grad()
def embedding_width(objective: nn.Module, setup: Setup) -> int:
    """Width of the embeddings that an objective answers with, found by trying: a copy sees two places of zeros.

    The objective itself, and torch's global generator, stay as they are. Where several processes train together all of
    them have to ask, since the objective may gather. TrainingError where there are none, or of several widths.
    """
    device = torch.device("cuda" if world_size() > 1 and dist.get_backend() == "nccl" else "cpu")
    trial = cast(Any, copy.deepcopy(objective).to(device).eval())
    n, n_looks, size = 2, trial.looks.n_looks, setup.views.crop
    batch = Batch(
        images={
            sensor: torch.zeros(n, n_looks, len(bands), size, size, device=device)
            for sensor, bands in setup.bands.items()
        },
        index=torch.arange(n, device=device),
        look=torch.arange(n_looks, device=device).expand(n, n_looks),
        lonlat=torch.tensor([[0.0, 0.0], [90.0, 0.0]], dtype=torch.float64, device=device),
        days=torch.arange(n_looks, dtype=torch.float64, device=device).expand(n, n_looks),
        change=torch.zeros(n, dtype=torch.float64, device=device),
    )
    views = trial.views(batch, Draws(generator(setup.seed), total=n, rows=slice(0, n)))
    outcome = cast(Outcome, trial(views, batch))
    widths = sorted({embeddings.shape[1] for embeddings in outcome.embeddings})
    if len(widths) != 1:
        found = "none" if not widths else f"some of widths {' and '.join(map(str, widths))}"
        raise TrainingError(f"geographic terms need embeddings of one width; this objective answers with {found}")
    return widths[0]
