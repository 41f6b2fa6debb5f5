"""How heads learn on encoders, frozen or not, from the labels of looks; and what they then answer.

What is drawn depends on a seed alone. On a CPU with one thread the same call gives the same weights, bit for bit.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from geossl_data.errors import TrainingError
from geossl_data.evaluation.decoders import Head, require_looks
from geossl_data.evaluation.features import stored
from geossl_data.evaluation.rows import Rows
from geossl_data.evaluation.sight import Sight
from geossl_data.pretrain.encoders import ViT
from geossl_data.pretrain.optimizers import learning_rate_at, parameter_groups
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

IntArray = NDArray[np.int64]
Answer = Literal["class", "multi", "vector", "map"]
"""class: the class of a row; multi: which classes a row has; vector: a direction; map: the class of each pixel."""

IGNORED = 255
"""In class maps: nobody knows, and nothing is learnt from it. -1 for the class of a row."""
CACHE_BYTES = 2 << 30
"""What is kept in memory between epochs; what takes more is read and computed again."""
MEASURED_ROWS = 256
"""Rows that the standardisation of frozen features is taken from, spread over all that teach."""
WARMUP = 0.05
"""Share of the steps in which the learning rate rises."""
VIT_FACTOR = 0.05
"""Transformers learn at so much of the rate of other encoders: they do not bear more."""
MOST_GRADIENT = 1.0
"""Norm that gradients are cut to."""

_ORDER, _VIEWS = 32, 33
"""Keys of the generators, beside those of other parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a head learns, and its encoders with it where these are not frozen."""

    frozen: bool
    """Whether the encoders stay as they are, in every bit."""
    seed: int
    epochs: int = 20
    batch_size: int = 32
    """Rows of a step."""
    learning_rate: float = 1e-2
    """The highest of the head, of AdamW. High, for few epochs: with 0.001 decoders and encoders are far from done."""
    encoder_factor: float = 1.0
    """That of the encoders is so much of it: a tenth where they have been trained before."""
    weight_decay: float = 0.01
    crop: int = 0
    """Side of the windows that are learnt from, pixels; 0: whole looks, as always where encoders are frozen."""
    least_steps: int = 10
    """Of an epoch: few rows are gone through more than once in it."""
    balance: float = 0.0
    """Classes of a map weigh like 1 / frequency ** balance among the pixels that teach; 0: all pixels alike."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or min(self.crop, self.least_steps) < 0:
            raise TrainingError(f"{self.epochs} epochs with batches of {self.batch_size}: expected at least 1 of each")
        if not (self.learning_rate > 0 and self.encoder_factor >= 0 and self.weight_decay >= 0 and self.balance >= 0):
            raise TrainingError(f"learning rate {self.learning_rate} has to be above 0, factors 0 or above")


def learn(
    sight: Sight,
    head: Head,
    shards: Shards,
    rows: Rows,
    train: IntArray,
    targets: NDArray[Any],
    kind: Answer,
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> None:
    """Teach the head, in place, and the encoders unless they are frozen; all are in eval mode afterwards.

    The head starts from weights of the seed. train: positions among the rows. targets: of every row, in their order:
    class: positions (n,), -1 where not known; multi: (n, C) bool; vector: (n, D), any length, NaN where not known; map:
    (n, H, W) uint8, 255 where not known.
    Losses: cross-entropy of rows or pixels, binary cross-entropy, 1 − cosine. AdamW; the rate rises for a twentieth of
    the steps and falls like half a cosine. Frozen encoders are in eval mode; what they answer is standardised and kept
    as float16 where it takes less than `CACHE_BYTES`. Where they learn, each row is cropped, flipped and turned, all
    its looks and its map alike. Raises TrainingError without a row to learn from, and where the loss is not finite.
    """
    device = torch.device(device)
    require_looks(head, rows.look.shape[1])
    if not len(train):
        raise TrainingError("no row to learn from; take a larger share of the labels")
    head.restart(settings.seed)
    head.to(device).train()
    sight.to(device).train(not settings.frozen)
    looks = _Looks(sight, shards, rows.taken(train), settings.batch_size, device)
    if settings.frozen:
        source: _Levels | _Looks = _Levels(head, sight, looks)
    else:
        sight.requires_grad_(True)
        source = looks
    own = np.ascontiguousarray(targets[train])
    loss_of = _loss(kind, _weights(kind, own, head.n_out, settings.balance, device))
    truth = torch.from_numpy(own).to(device)
    optimizer = _optimizer(head, [] if settings.frozen else list(sight.encoders), settings)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    n_parts = -(-len(train) // settings.batch_size)
    epochs = settings.epochs * max(1, -(-settings.least_steps // n_parts))
    total = torch.zeros((), device=device)
    step = 0
    with progress("teaching decoders" if kind == "map" else "teaching heads", total=epochs * n_parts) as task:
        for epoch in range(epochs):
            parts = _parts(len(train), n_parts, (settings.seed, _ORDER, epoch))
            for part, given in zip(parts, source.batches(parts), strict=True):
                _set_rates(optimizer, step, epochs * n_parts)
                wanted = truth.index_select(0, torch.from_numpy(part).to(device))
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                    if settings.frozen:
                        levels, grid = given, looks.grid
                    else:
                        chance = np.random.default_rng((settings.seed, _VIEWS, step))
                        maps = [wanted] if kind == "map" else []
                        views = varied([*given, *maps], len(part), crop=settings.crop, chance=chance)
                        images = views[: len(given)]
                        wanted = views[-1] if maps else wanted
                        levels, grid = head.seen(sight, images), _grid(images)
                    answer = head(levels, grid, (wanted.shape[-2], wanted.shape[-1]) if kind == "map" else (1, 1))
                loss = loss_of(answer.float(), wanted)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(weights, MOST_GRADIENT)
                optimizer.step()
                total += loss.detach()
                step += 1
                task.advance()
    head.eval()
    sight.eval()
    if not math.isfinite(total.item()):
        raise TrainingError("the loss of a decoder is not finite; check the labels, or learn with a smaller rate")


@torch.inference_mode()
def predict(
    sight: Sight,
    head: Head,
    shards: Shards,
    rows: Rows,
    positions: IntArray,
    kind: Answer,
    *,
    size: tuple[int, int] = (1, 1),
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> NDArray[Any]:
    """What a taught head answers for some of the rows, in their order.

    positions: among the rows. class, multi and vector: the head's numbers, (m, out) float32; map: the class of each
    pixel, (m, *size) uint8, size being rows and columns of the map.
    """
    device = torch.device(device)
    require_looks(head, rows.look.shape[1])
    head.to(device).eval()
    sight.to(device).eval()
    looks = _Looks(sight, shards, rows.taken(positions), batch_size, device, keep=False)
    found: list[NDArray[Any]] = []
    for images in looks.batches(_runs(np.arange(len(positions)), batch_size)):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            answer = head(head.seen(sight, images), _grid(images), size)
        found.append((answer.argmax(dim=1).to(torch.uint8) if kind == "map" else answer.float()).cpu().numpy())
    if found:
        return np.concatenate(found)
    return np.empty((0, *size), dtype=np.uint8) if kind == "map" else np.empty((0, 0), dtype=np.float32)


def varied(tensors: list[Tensor], n: int, *, crop: int, chance: np.random.Generator) -> list[Tensor]:
    """Images and maps of n rows, (n × anything, …, H, W): all that a row has is cropped, flipped and turned alike.

    They are square, and may differ in size where they see the same ground: windows begin and end where the pixels of
    all of them do. crop: side of a window in pixels of the finest; 0, or more than there are: no cropping. The eight
    flips and turns are equally likely.
    """
    rows = [tensor.reshape(n, -1, *tensor.shape[-2:]) for tensor in tensors]
    sides = [row.shape[-1] for row in rows]
    n_units = math.gcd(*sides)
    units = min(n_units, max(1, round(crop * n_units / max(sides)))) if crop else n_units
    corner = chance.integers(0, n_units - units + 1, size=(2, n))
    number = chance.integers(0, 8, size=n)
    if units < n_units:
        factors = [side // n_units for side in sides]
        rows = [_windows(row, corner * own, units * own) for row, own in zip(rows, factors, strict=True)]
    turn = torch.from_numpy(number).to(tensors[0].device)[:, None, None, None]
    rows = [torch.where(turn & 1 > 0, row.transpose(-2, -1), row) for row in rows]
    rows = [torch.where(turn & 2 > 0, row.flip(-2), row) for row in rows]
    rows = [torch.where(turn & 4 > 0, row.flip(-1), row) for row in rows]
    return [row.reshape(*tensor.shape[:-2], *row.shape[-2:]) for row, tensor in zip(rows, tensors, strict=True)]


def _windows(images: Tensor, corner: IntArray, side: int) -> Tensor:
    """Square windows of images (n, C, H, W), one of each; corner: their first rows and columns, (2, n)."""
    along = [torch.from_numpy(first[:, None] + np.arange(side)).to(images.device) for first in corner]
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[image, channel, along[0][:, None, :, None], along[1][:, None, None, :]]


def class_weights(maps: NDArray[np.uint8], classes: int, balance: float) -> NDArray[np.float32]:
    """Weights of the classes of pixels, shape (classes,): like 1 / frequency ** balance, 1 for the mean pixel.

    Pixels of value 255 count nothing; a class that never occurs weighs nothing.
    """
    counts = np.bincount(maps.ravel(), minlength=256)[:classes].astype(np.float64)
    share = counts / max(1.0, counts.sum())
    weight = np.where(share > 0, np.where(share > 0, share, 1.0) ** -balance, 0.0)
    return (weight / max(float((share * weight).sum()), 1e-12)).astype(np.float32)


def _weights(kind: Answer, targets: NDArray[Any], classes: int, balance: float, device: torch.device) -> Tensor | None:
    """Of the classes of pixels, or none."""
    if kind != "map" or not balance:
        return None
    return torch.from_numpy(class_weights(targets, classes, balance)).to(device)


def _loss(kind: Answer, weights: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """answer (float32), targets → mean loss of what is known; 0 where nothing is."""

    def of_classes(answer: Tensor, wanted: Tensor) -> Tensor:
        ignored = IGNORED if kind == "map" else -1
        loss = functional.cross_entropy(answer, wanted.long(), weights, ignore_index=ignored, reduction="sum")
        counted = (wanted != ignored).sum()
        return loss / counted.clamp(min=1)

    def of_sets(answer: Tensor, wanted: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(answer, wanted.float())

    def of_directions(answer: Tensor, wanted: Tensor) -> Tensor:
        known = torch.isfinite(wanted).all(dim=1)
        loss = 1 - functional.cosine_similarity(answer, torch.nan_to_num(wanted.float()), dim=1)
        return torch.where(known, loss, 0.0).sum() / known.sum().clamp(min=1)

    return {"class": of_classes, "map": of_classes, "multi": of_sets, "vector": of_directions}[kind]


def _optimizer(head: Head, encoders: Sequence[nn.Module], settings: Settings) -> AdamW:
    """Of a head and of the encoders that learn with it; each group knows its highest rate."""
    groups = parameter_groups(head, settings.weight_decay)
    peaks = [settings.learning_rate] * len(groups)
    for encoder in encoders:
        own = parameter_groups(encoder, settings.weight_decay)
        groups += own
        factor = settings.encoder_factor * (VIT_FACTOR if isinstance(encoder, ViT) else 1.0)
        peaks += [settings.learning_rate * factor] * len(own)
    return AdamW([group | {"lr": peak, "peak": peak} for group, peak in zip(groups, peaks, strict=True)])


def _set_rates(optimizer: AdamW, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, steps, peak=group["peak"], warmup_steps=round(WARMUP * steps))


def _parts(n: int, n_parts: int, seed: tuple[int, ...]) -> list[IntArray]:
    """All of n rows in random order, in parts as long as each other.

    A part of one row holds it twice: a batch norm cannot learn from one embedding alone.
    """
    order = np.random.default_rng(seed).permutation(n)
    return [part if len(part) > 1 else np.repeat(part, 2) for part in np.array_split(order, n_parts)]


def _runs(positions: IntArray, length: int) -> list[IntArray]:
    """The positions in runs of at most so many."""
    return [positions[start : start + length] for start in range(0, len(positions), length)]


def _grid(images: Sequence[Tensor]) -> tuple[int, int]:
    """Rows and columns of the finest of the images."""
    finest = max(images, key=lambda image: image.shape[-1])
    return finest.shape[-2], finest.shape[-1]


class _Looks:
    """The images of some rows, batch by batch; what is stored of them is kept in memory where it takes little."""

    def __init__(
        self, sight: Sight, shards: Shards, rows: Rows, batch_size: int, device: torch.device, *, keep: bool = True
    ) -> None:
        self._sight, self._shards, self._rows, self._device = sight, shards, rows, device
        self._batch_size = batch_size * rows.look.shape[1]
        self.n_looks = rows.look.shape[1]
        self.batch_size = batch_size
        self.grid = (0, 0)
        """Rows and columns of the images; known once there were some."""
        nbytes = sum(
            math.prod(shards.shape(name)) * np.dtype(shards.member(name).dtype).itemsize for name in sight.members
        )
        self._kept: dict[str, NDArray[Any]] | None = None
        if keep and nbytes * len(rows) * self.n_looks <= CACHE_BYTES:
            self._kept = self._all()

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, parts: Sequence[IntArray]) -> Iterator[list[Tensor]]:
        """The images of each part of the rows, (rows of the part × looks, C, H, W) of each encoder."""
        for arrays in self._stored(parts):
            with torch.no_grad():
                images = self._sight.images(
                    {
                        name: torch.from_numpy(array).to(self._device, non_blocking=True)
                        for name, array in arrays.items()
                    }
                )
            self.grid = _grid(images)
            yield images

    def _stored(self, parts: Sequence[IntArray]) -> Iterator[dict[str, NDArray[Any]]]:
        if self._kept is not None:
            for part in parts:
                yield {name: array[part].reshape(-1, *array.shape[2:]) for name, array in self._kept.items()}
        elif parts:
            yield from self._read(parts)

    def _all(self) -> dict[str, NDArray[Any]]:
        n = len(self._rows)
        kept = {
            name: np.empty((n, self.n_looks, *self._shards.shape(name)), self._shards.member(name).dtype)
            for name in self._sight.members
        }
        runs = _runs(np.arange(n), self.batch_size)
        for run, arrays in zip(runs, self._read(runs), strict=True):
            for name, array in arrays.items():
                kept[name][run] = array.reshape(len(run), self.n_looks, *array.shape[1:])
        return kept

    def _read(self, parts: Sequence[IntArray]) -> Iterator[dict[str, NDArray[Any]]]:
        """What is stored of the looks of each part, read while the one before is used."""
        order = self._rows.taken(np.concatenate(parts)).order
        left: dict[str, list[NDArray[Any]]] = {name: [] for name in self._sight.members}
        source = stored(self._shards, order, self._sight.members, self._batch_size, device="cpu")
        for part in parts:
            wanted = len(part) * self.n_looks
            while sum(len(array) for array in next(iter(left.values()))) < wanted:
                batch = next(source)
                for name, arrays in left.items():
                    arrays.append(batch[name].numpy())
            whole = {name: np.concatenate(arrays) for name, arrays in left.items()}
            left = {name: [array[wanted:]] for name, array in whole.items()}
            yield {name: array[:wanted] for name, array in whole.items()}


class _Levels:
    """What frozen encoders answer, standardised; kept as float16 where it takes little."""

    def __init__(self, head: Head, sight: Sight, looks: _Looks) -> None:
        self._head, self._sight, self._looks = head, sight, looks
        n = len(looks)
        spread = np.unique(np.linspace(0, n - 1, min(n, MEASURED_ROWS)).round().astype(np.int64))
        head.standardise(self._answers(head.levels, _runs(spread, looks.batch_size)))
        self._kept: list[Tensor] | None = None
        runs = _runs(np.arange(n), looks.batch_size)
        for run, levels in zip(runs, self._answers(head.seen, runs), strict=True):
            if self._kept is None:
                if 2 * n * sum(level[0].numel() for level in levels) > CACHE_BYTES:
                    return
                # Channels last, so that what is taken of it lies as convolutions want it.
                self._kept = [
                    level.new_empty((n, *level.movedim(1, -1).shape[1:]), dtype=torch.float16) for level in levels
                ]
            for kept, level in zip(self._kept, levels, strict=True):
                kept[run[0] : run[-1] + 1] = level.movedim(1, -1)

    def batches(self, parts: Sequence[IntArray]) -> Iterator[list[Tensor]]:
        """The levels of each part of the rows."""
        if self._kept is None:
            yield from self._answers(self._head.seen, parts)
            return
        for part in parts:
            at = torch.from_numpy(part).to(self._kept[0].device)
            yield [kept.index_select(0, at).float().movedim(-1, 1) for kept in self._kept]

    def _answers(
        self, answer: Callable[[Sight, list[Tensor]], list[Tensor]], parts: Sequence[IntArray]
    ) -> Iterator[list[Tensor]]:
        for images in self._looks.batches(parts):
            device = images[0].device
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                levels = answer(self._sight, images)
            yield levels
