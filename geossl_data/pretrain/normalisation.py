"""How the numbers in shards become what an encoder sees: standardised float32 images, all bands on the finest grid.

Part of every exported encoder; needs torch and numpy alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.bands import BANDS, MEMBERS, S1_BANDS, S2_BANDS, Member
from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders import Bands

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
        for member in self.members:
            if member.sensor != self.sensor or member.plane:
                raise TrainingError(f"member {member.name!r} holds no bands of sensor {self.sensor!r}")
            if member.factor % self.finest:
                raise TrainingError(f"{self.sensor}: pixels of {member.name} are no whole number of the finest ones")

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members that hold the bands."""
        return tuple(member.name for member in self.members)

    @property
    def finest(self) -> int:
        """How many pixels of a place's grid lie along one pixel of the images, those of the finest member."""
        return min(member.factor for member in self.members)

    def apply(
        self, arrays: Mapping[str, NDArray[Any] | Tensor], device: torch.device, *, finest: int | None = None
    ) -> Tensor:
        """Images (B, bands, H, W), float32, on the device, of a batch of stored members.

        Coarser members are repeated onto the finest grid (nearest), on the device: bands of 20 m and 60 m onto 10 m.
        Invalid pixels, those of the member's nodata and anything not finite, become 0, which is the mean.
        finest: the factor of the grid to repeat onto, where another sensor's is finer than this one's.
        """
        parts = []
        first = 0
        finest = self.finest if finest is None else finest
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

    def standardised(self, values: Tensor) -> Tensor:
        """The same of images (B, bands, H, W) in physical units, all bands on one grid; not finite → 0."""
        x = values.to(torch.float32)
        scaled = (x - _column(self.mean, x.device)) / _column(self.std, x.device)
        return torch.where(torch.isfinite(x), scaled.clamp(-self.clip, self.clip), 0.0)


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    """One value a band, to be broadcast over its pixels."""
    # By way of the CPU: what is made on a GPU of numbers makes the program wait for it.
    return torch.tensor(values, dtype=torch.float32).to(device, non_blocking=True)[:, None, None]


def bands_of(normalisation: Normalisation) -> Bands:
    """What an encoder may know of a sensor's bands: those of one member, so of one resolution, form a group.

    Wavelengths are those of `geossl_data.bands`; None for radar, and for the bands of a sensor that is not known there.
    """
    known = [BANDS.get(name) for name in normalisation.bands]
    return Bands(
        names=normalisation.bands,
        groups=tuple(len(member.bands) for member in normalisation.members),
        sensors=(normalisation.sensor,) * len(normalisation.members),
        wavelengths_um=tuple(
            None
            if band is None or band.sensor != normalisation.sensor or band.wavelength_nm is None
            else band.wavelength_nm / 1000
            for band in known
        ),
    )


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
