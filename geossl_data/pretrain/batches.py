"""Shards → batches: float32 images of one or both sensors on the device, standardised, with all bands at 10 m.

An epoch holds every look of every train sample once, in an order that depends on the seed and the epoch alone. Looks
of one place may meet in a batch; `Batch.places` lets the loss leave such pairs out of its negatives.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.bands import MEMBERS, S1_BANDS, S2_BANDS, Member
from geossl_data.errors import TrainingError
from geossl_data.records import Split
from geossl_data.shards.reading.buffers import plain_memory
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

Order = list[tuple[int, int]]
"""(sample index, look) pairs."""

SENTINEL_CHANNELS: dict[str, int] = {"s1": len(S1_BANDS), "s2": len(S2_BANDS)}
"""Sensor → bands of its images, where shards hold Sentinel's own."""
CLIP = 5.0
"""Standardised values are clipped to ± this many standard deviations."""


def members_of(members: Iterable[Member], sensor: str) -> tuple[Member, ...]:
    """The members that hold a sensor's bands, in band order; class maps are none."""
    return tuple(member for member in members if member.sensor == sensor and not member.plane)


def channels_of(members: Iterable[Member]) -> dict[str, int]:
    """Sensor → how many bands its images have."""
    members = list(members)
    sensors = dict.fromkeys(member.sensor for member in members if not member.plane)
    return {sensor: sum(len(member.bands) for member in members_of(members, sensor)) for sensor in sensors}


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """How one sensor's stored numbers become what an encoder sees: (x − mean) / std, clipped, invalid → 0."""

    sensor: str
    bands: tuple[str, ...]
    """In the order of the channels."""
    mean: tuple[float, ...]
    """Per band, in physical units (reflectance × 10000, dB)."""
    std: tuple[float, ...]
    clip: float = CLIP
    members: tuple[Member, ...] = ()
    """Those that hold the bands, and how; Sentinel's own when left out."""

    def __post_init__(self) -> None:
        if not self.members:
            object.__setattr__(self, "members", members_of(MEMBERS.values(), self.sensor))
        numbers = (*self.mean, *self.std, self.clip)
        if not self.members or self.bands != tuple(band for member in self.members for band in member.bands):
            raise TrainingError(f"bands {self.bands} of sensor {self.sensor!r}; expected those of its members")
        if not len(self.mean) == len(self.std) == len(self.bands):
            raise TrainingError(f"{self.sensor}: {len(self.bands)} bands need as many means and standard deviations")
        if not all(math.isfinite(number) for number in numbers) or min(*self.std, self.clip) <= 0:
            raise TrainingError(f"{self.sensor}: a mean or standard deviation is not finite, or a deviation is not > 0")

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members that hold the bands."""
        return tuple(member.name for member in self.members)

    def apply(self, arrays: Mapping[str, NDArray[Any] | Tensor], device: torch.device) -> Tensor:
        """Images (B, bands, H, W), float32, on the device, of a batch of stored members.

        Coarser members are repeated onto the finest grid (nearest), on the device: bands of 20 m and 60 m onto 10 m.
        Invalid pixels, those of the member's nodata and anything not finite, become 0, which is the mean.
        """
        parts = []
        first = 0
        finest = min(member.factor for member in self.members)
        for member in self.members:
            bands = slice(first, first + len(member.bands))
            first = bands.stop
            given = arrays[member.name]
            stored = given if isinstance(given, Tensor) else torch.from_numpy(given)
            stored = stored.to(device).to(torch.float32)
            # (stored × scale + offset − mean) / std, in one go
            middle = [(mean - member.offset) / member.scale for mean in self.mean[bands]]
            width = [std / member.scale for std in self.std[bands]]
            scaled = (stored - _column(middle, device)) / _column(width, device)
            valid = torch.isfinite(stored)
            if member.nodata is not None:
                valid &= stored != member.nodata
            scaled = torch.where(valid, scaled.clamp(-self.clip, self.clip), 0.0)
            factor = member.factor // finest
            parts.append(scaled.repeat_interleave(factor, -2).repeat_interleave(factor, -1) if factor > 1 else scaled)
        return torch.cat(parts, dim=1)


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    """One value a band, to be broadcast over its pixels."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def normalisation(notes: Mapping[str, Any], members: Mapping[str, Member], sensor: str) -> Normalisation:
    """A sensor's normalisation from a dataset's notes; TrainingError where members or statistics are missing."""
    own = members_of(members.values(), sensor)
    lacking = [member.name for member in members_of(MEMBERS.values(), sensor) if member.name not in members]
    if not own or (lacking and any(member.name in MEMBERS for member in own)):
        names = " or ".join(lacking) or f"member of sensor {sensor}"
        raise TrainingError(f"these shards hold no {names}, so no {sensor} images; cut them with both")
    bands = tuple(band for member in own for band in member.bands)
    statistics = notes.get("statistics", {})
    try:
        found = [statistics[band] for band in bands]
        mean = tuple(float(values["mean"]) for values in found)
        std = tuple(float(values["std"]) for values in found)
    except (KeyError, TypeError, ValueError):
        raise TrainingError(f"the manifest lacks statistics of the {sensor} bands; run `geossl shard` again") from None
    return Normalisation(sensor=sensor, bands=bands, mean=mean, std=std, members=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Looks on the device."""

    images: dict[str, Tensor]
    """Sensor → (B, bands, H, W), float32, standardised; row i of both sensors is the same look."""
    places: Tensor
    """Sample index of each look, shape (B,), int64; looks with the same number see the same place."""

    def __len__(self) -> int:
        return len(self.places)


def looks(shards: Shards, sensors: Sequence[str], split: Split | None = None) -> Order:
    """Every look (of one split) that has the members of all the sensors, by sample and time; the rest is logged."""
    needed = {member.name for sensor in sensors for member in members_of(shards.members.values(), sensor)}
    everything = [
        (index, look)
        for index, entry in enumerate(shards.entries)
        if split is None or entry.split == split
        for look in range(entry.n_looks)
    ]
    whole = [(index, look) for index, look in everything if needed <= set(shards.entries[index].members[look])]
    if len(whole) < len(everything):
        left_out = len(everything) - len(whole)
        _LOG.warning("%d of %d looks lack a sensor and are left out", left_out, len(everything))
    return whole


def shuffled(order: Sequence[tuple[int, int]], *, seed: int, epoch: int) -> Order:
    """The same looks in another order, which depends on the seed and the epoch (from 0) alone."""
    permutation = np.random.default_rng((seed, epoch)).permutation(len(order))
    return [order[position] for position in permutation.tolist()]


def read(
    shards: Shards,
    order: Sequence[tuple[int, int]],
    normalisations: Sequence[Normalisation],
    batch_size: int,
    *,
    device: torch.device,
    drop_last: bool,
) -> Iterator[Batch]:
    """Batches of the looks in the order given, read ahead in threads and copied to a GPU while it computes."""
    members = [name for entry in normalisations for name in entry.member_names]
    source = shards.batches(
        batch_size,
        members,
        items=order,
        shuffle=None,
        drop_last=drop_last,
        allocate=pinned_memory if device.type == "cuda" else plain_memory,
    )
    for tensors in on_device(source, device):
        yield Batch(
            images={entry.sensor: entry.apply(tensors, device) for entry in normalisations},
            places=tensors["index"],
        )


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


def chosen_device(name: str) -> torch.device:
    """The device of a name: `auto` is the GPU where there is one. TrainingError for a GPU that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"device {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda asked for, but torch sees no GPU here; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
