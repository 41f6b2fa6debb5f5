"""Shards → batches: places with some of their looks, standardised images of the sensors, on the device.

Every place or look comes once in an epoch, in an order that depends on the seed and the epoch alone. A batch also says
where and when its looks are from, so that an objective can leave looks of one place, or places near each other, out of
its negatives.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain.distributed import ALONE, Ranks
from geossl_data.pretrain.looks import DrawnLooks, LookPlan, spread_order
from geossl_data.pretrain.normalisation import Normalisation, members_of
from geossl_data.records import Split
from geossl_data.shards.reading.batches import Batches
from geossl_data.shards.reading.buffers import plain_memory
from geossl_data.shards.reading.facts import Facts
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

Order = list[tuple[int, int]]
"""(sample index, look) pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Places and some of their looks, on the device."""

    images: dict[str, Tensor]
    """Sensor → (B, looks, bands, H, W), float32, standardised; the sensors see the same looks."""
    index: Tensor
    """Sample index of each place, shape (B,), int64; rows with the same number see the same place."""
    look: Tensor
    """Which looks of the sample they are, shape (B, looks), int64."""
    lonlat: Tensor
    """Longitude and latitude of each place, degrees, shape (B, 2), float64; NaN where not known."""
    days: Tensor
    """Acquisition times, days since 2000-01-01 UTC, shape (B, looks), float64; NaN where not known."""
    change: Tensor
    """Change score of each place, shape (B,), float64; NaN where not measured."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_looks(self) -> int:
        """Looks of each place."""
        return self.look.shape[1]


def whole_looks(shards: Shards, sensors: Sequence[str], split: Split | None = None) -> NDArray[np.bool_]:
    """Which looks of which samples (of one split) have the members of all the sensors, shape (n, most looks).

    How many of the split's looks have not is logged.
    """
    needed = {member.name for sensor in sensors for member in members_of(shards.members.values(), sensor)}
    columns = [column for column, name in enumerate(shards.members) if name in needed]
    index = shards.index
    sample = np.repeat(np.arange(len(index)), index.n_looks)
    look = np.arange(len(sample)) - index.first_look[sample]
    wanted = np.ones(len(sample), dtype=np.bool_) if split is None else (shards.facts.split == split)[sample]
    whole = wanted & np.all(index.member_file[:, columns] >= 0, axis=1)
    if whole.sum() < wanted.sum():
        left_out = int(wanted.sum() - whole.sum())
        _LOG.warning("%d of %d looks lack a sensor and are left out", left_out, int(wanted.sum()))
    found = np.zeros((len(index), int(index.n_looks.max(initial=0))), dtype=np.bool_)
    found[sample[whole], look[whole]] = True
    return found


def looks(shards: Shards, sensors: Sequence[str], split: Split | None = None) -> Order:
    """Every look (of one split) that has the members of all the sensors, by sample and time; the rest is logged."""
    return [(index, look) for index, look in np.argwhere(whole_looks(shards, sensors, split)).tolist()]


def items_of(
    shards: Shards,
    normalisations: Sequence[Normalisation],
    plan: LookPlan,
    *,
    split: Split = "train",
    samples: int | None = None,
) -> DrawnLooks:
    """What an epoch holds: looks, or places and how looks of them are drawn.

    samples: of the first so many of the split alone. Raises TrainingError where no sample has the looks of the plan.
    """
    sensors = [entry.sensor for entry in normalisations]
    eligible = whole_looks(shards, sensors, split)
    if not eligible.any():
        raise TrainingError(
            f"no place of the {split} split has a look of {' and '.join(sensors)}; sample more places, or train on "
            "other sensors"
        )
    if samples is not None:
        eligible[np.flatnonzero(eligible.any(axis=1))[samples:]] = False
    return DrawnLooks(shards.facts.days, eligible, plan)


class Loader:
    """Batches of a run in this process, epoch by epoch, on the device; it knows where it stands and goes on there."""

    def __init__(
        self,
        shards: Shards,
        normalisations: Sequence[Normalisation],
        items: DrawnLooks,
        batch_size: int,
        *,
        seed: int = 0,
        ranks: Ranks = ALONE,
        device: torch.device,
        spread_over: int = 0,
        threads: int | None = None,
    ) -> None:
        """items: as `items_of` gives them. batch_size: items of a batch of this process. spread_over: how many items
        that follow each other should be from places far apart from each other; 0: any.

        Raises ShardError where there are fewer items than a batch.
        """
        facts = shards.facts
        self._facts, self._normalisations, self._device = facts, tuple(normalisations), device

        def far_apart(seed: int, epoch: int) -> NDArray[np.int64]:
            return spread_order(facts.lonlat[items.rows], spread_over, seed=seed, epoch=epoch)

        self.source: Batches = shards.batches(
            batch_size,
            [name for entry in normalisations for name in entry.member_names],
            items=items,
            shuffle=far_apart if spread_over else "global",
            seed=seed,
            rank=ranks.rank,
            world=ranks.world,
            threads=threads,
            allocate=pinned_memory if device.type == "cuda" else plain_memory,
        )
        self._state = self.source.state_dict()

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.source)

    @property
    def n_looks(self) -> int:
        """Looks of an item."""
        return self.source.looks_per_item

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, after the batch that was given out last; the same for every process."""
        return dict(self._state)

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of an epoch."""
        self.source.set_epoch(epoch)
        self._state = self.source.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was asked."""
        self.source.load_state_dict(state)
        self._state = self.source.state_dict()

    def __iter__(self) -> Iterator[Batch]:
        """The batches from where it stands to the end of the epoch."""
        begin = self.source.state_dict()
        left = self.source.remaining
        for given, tensors in enumerate(on_device(self._with_facts(self.source), self._device), start=1):
            next_epoch = {"epoch": begin["epoch"] + 1, "base": 0, "step": 0}
            self._state = begin | (next_epoch if given == left else {"step": begin["step"] + given})
            yield self._batch(tensors)

    def _with_facts(self, source: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
        for batch in source:
            yield dict(batch) | facts_of(self._facts, batch["index"], batch["look"])

    def _batch(self, tensors: dict[str, Tensor]) -> Batch:
        return as_batch(tensors, self._normalisations, self._device)


def facts_of(facts: Facts, index: NDArray[np.int64], look: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What is known of the looks of a batch, to be copied with it."""
    look = look.reshape(len(index), -1)
    return {
        "look": look,
        "lonlat": facts.lonlat[index],
        "days": facts.days[index[:, None], look],
        "change": facts.change[index],
    }


def as_batch(tensors: Mapping[str, Tensor], normalisations: Sequence[Normalisation], device: torch.device) -> Batch:
    """A batch of the stored members and the facts, standardised."""
    look = tensors["look"]
    n, n_looks = look.shape
    finest = min(entry.finest for entry in normalisations)

    def images(entry: Normalisation) -> Tensor:
        stored = {name: tensors[name].reshape(-1, *tensors[name].shape[-3:]) for name in entry.member_names}
        standardised = entry.apply(stored, device, finest=finest)
        return standardised.reshape(n, n_looks, *standardised.shape[1:])

    return Batch(
        images={entry.sensor: images(entry) for entry in normalisations},
        index=tensors["index"],
        look=look,
        lonlat=tensors["lonlat"],
        days=tensors["days"],
        change=tensors["change"],
    )


def read_looks(
    shards: Shards,
    order: Sequence[tuple[int, int]],
    normalisations: Sequence[Normalisation],
    batch_size: int,
    *,
    device: torch.device,
) -> Iterator[Batch]:
    """Batches of one look each, in the order given, all of them."""
    source = shards.batches(
        batch_size,
        list(dict.fromkeys(name for entry in normalisations for name in entry.member_names)),
        items=order,
        shuffle=None,
        drop_last=False,
        allocate=pinned_memory if device.type == "cuda" else plain_memory,
    )
    with_facts = (dict(batch) | facts_of(shards.facts, batch["index"], batch["look"]) for batch in source)
    for tensors in on_device(with_facts, device):
        yield as_batch(tensors, normalisations, device)


def pinned_memory(nbytes: int) -> NDArray[np.uint8]:
    """Memory that stays where it is, so that a GPU copies from it by itself while the program goes on."""
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy()


def on_device(source: Iterable[Mapping[str, NDArray[Any]]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The batches as tensors on the device.

    On a GPU the next batch is copied on a stream of its own while the one before is computed with; the memory it is
    copied from, which should be pinned, is held until the copy is done.
    """
    if device.type != "cuda":
        for batch in source:
            yield {name: torch.from_numpy(array) for name, array in batch.items()}
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    before: tuple[dict[str, Tensor], Mapping[str, NDArray[Any]]] | None = None

    def ready(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        for tensor in tensors.values():
            tensor.record_stream(computing)
        return tensors

    for batch in source:
        with torch.cuda.stream(copying):
            tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(copying)
        if before is not None:
            yield ready(before[0])
        copied.synchronize()
        before = (tensors, batch)
    if before is not None:
        yield ready(before[0])


def chosen_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device of a name: `auto` is the GPU where there is one, that of this process where there are several.

    TrainingError for a GPU that is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"device {name!r} is not one of auto, cpu, cuda")
    count = torch.cuda.device_count() if name != "cpu" else 0
    if name == "cuda" and not count:
        raise TrainingError("device cuda asked for, but torch sees no GPU here; use --device auto or cpu")
    if count and ranks.local_rank >= count:
        raise TrainingError(f"process {ranks.local_rank} of this machine has no GPU of its own, there are {count}")
    return torch.device("cuda", ranks.local_rank) if count else torch.device("cpu")
