"""Shards → batches: float32 images of one or both sensors on the device, standardised, with all bands at 10 m.

An epoch holds every look of every train sample once, in an order that depends on the seed and the epoch alone. Looks
of one place may meet in a batch; `Batch.places` lets the loss leave such pairs out of its negatives.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.bands import MEMBERS, S1_BANDS, S2_BANDS, S2_MEMBERS, S2_NODATA, Sensor
from geossl_data.errors import TrainingError
from geossl_data.records import Split
from geossl_data.shards.stream import Shards

_LOG = logging.getLogger(__name__)

Order = list[tuple[int, int]]
"""(sample index, look) pairs."""

SENSORS: tuple[Sensor, ...] = ("s1", "s2")
MEMBERS_OF: dict[Sensor, tuple[str, ...]] = {"s1": ("s1",), "s2": S2_MEMBERS}
"""The members that hold a sensor's bands, in band order."""
BANDS_OF: dict[Sensor, tuple[str, ...]] = {"s1": S1_BANDS, "s2": S2_BANDS}
CLIP = 5.0
"""Standardised values are clipped to ± this many standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """How one sensor's stored numbers become what an encoder sees: (x − mean) / std, clipped, invalid → 0."""

    sensor: Sensor
    bands: tuple[str, ...]
    """In the order of the channels."""
    mean: tuple[float, ...]
    """Per band, in the units of the stored numbers (reflectance × 10000, dB)."""
    std: tuple[float, ...]
    clip: float = CLIP

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.clip)
        if self.sensor not in SENSORS or self.bands != BANDS_OF[self.sensor]:
            raise TrainingError(f"bands {self.bands} of sensor {self.sensor!r}; expected those of geossl_data.bands")
        if not len(self.mean) == len(self.std) == len(self.bands):
            raise TrainingError(f"{self.sensor}: {len(self.bands)} bands need as many means and standard deviations")
        if not all(math.isfinite(number) for number in numbers) or min(*self.std, self.clip) <= 0:
            raise TrainingError(f"{self.sensor}: a mean or standard deviation is not finite, or a deviation is not > 0")

    @property
    def members(self) -> tuple[str, ...]:
        """The members that hold the bands."""
        return MEMBERS_OF[self.sensor]

    def apply(self, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Tensor:
        """Images (B, bands, H, W), float32, on the device, of a batch of stored members.

        Bands of 20 m and 60 m are repeated onto the 10 m grid (nearest), on the device. Invalid pixels, 0 for
        Sentinel-2 and anything not finite for Sentinel-1, become 0, which is the mean.
        """
        parts = []
        first = 0
        for name in self.members:
            bands = slice(first, first + len(MEMBERS[name].bands))
            first = bands.stop
            stored = torch.from_numpy(arrays[name]).to(device).to(torch.float32)
            valid = stored != S2_NODATA if self.sensor == "s2" else torch.isfinite(stored)
            mean = torch.tensor(self.mean[bands], device=device)[:, None, None]
            std = torch.tensor(self.std[bands], device=device)[:, None, None]
            scaled = ((stored - mean) / std).clamp(-self.clip, self.clip)
            scaled = torch.where(valid, scaled, torch.zeros_like(scaled))
            factor = MEMBERS[name].factor
            parts.append(scaled.repeat_interleave(factor, -2).repeat_interleave(factor, -1) if factor > 1 else scaled)
        return torch.cat(parts, dim=1)


def normalisation(notes: Mapping[str, Any], sensor: Sensor) -> Normalisation:
    """A sensor's normalisation from a dataset's notes; TrainingError where members or statistics are missing."""
    lacking = [name for name in MEMBERS_OF[sensor] if name not in notes.get("members", {})]
    if lacking:
        raise TrainingError(f"these shards hold no {' or '.join(lacking)}, so no {sensor} images; cut them with both")
    statistics = notes.get("statistics", {})
    try:
        found = [statistics[band] for band in BANDS_OF[sensor]]
        mean = tuple(float(values["mean"]) for values in found)
        std = tuple(float(values["std"]) for values in found)
    except (KeyError, TypeError, ValueError):
        raise TrainingError(f"the manifest lacks statistics of the {sensor} bands; run `geossl shard` again") from None
    return Normalisation(sensor=sensor, bands=BANDS_OF[sensor], mean=mean, std=std)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Looks on the device."""

    images: dict[Sensor, Tensor]
    """Sensor → (B, bands, H, W), float32, standardised; row i of both sensors is the same look."""
    places: Tensor
    """Sample index of each look, shape (B,), int64; looks with the same number see the same place."""

    def __len__(self) -> int:
        return len(self.places)


def looks(shards: Shards, sensors: Sequence[Sensor], split: Split | None = None) -> Order:
    """Every look (of one split) that has the members of all the sensors, by sample and time; the rest is logged."""
    needed = {name for sensor in sensors for name in MEMBERS_OF[sensor]}
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
    """Batches of the looks in the order given, read ahead in threads."""
    members = [name for entry in normalisations for name in entry.members]
    for start, arrays in zip(
        range(0, len(order), batch_size),
        shards.batches(order, members, batch_size, drop_last=drop_last),
        strict=False,
    ):
        part = order[start : start + batch_size]
        yield Batch(
            images={entry.sensor: entry.apply(arrays, device) for entry in normalisations},
            places=torch.tensor([index for index, _ in part], device=device),
        )


def chosen_device(name: str) -> torch.device:
    """The device of a name: `auto` is the GPU where there is one. TrainingError for a GPU that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"device {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda asked for, but torch sees no GPU here; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
