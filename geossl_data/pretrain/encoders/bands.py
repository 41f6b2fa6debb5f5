"""The bands of an encoder's images: which belong together, what they measure, and which of them are there."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from geossl_data.errors import TrainingError

MAX_CHANNELS = 1024
"""No sensor comes near; more in a file's header is damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """The bands of an encoder's images, in their order."""

    names: tuple[str, ...]
    groups: tuple[int, ...]
    """Lengths of the runs of bands that belong together: those of one member, so of one resolution. They sum to n."""
    sensors: tuple[str, ...]
    """The sensor of each group."""
    wavelengths_um: tuple[float | None, ...]
    """Centre wavelength of each band, micrometres; None where it has none that is known."""

    def __post_init__(self) -> None:
        n = len(self.names)
        if sum(self.groups) != n or len(self.wavelengths_um) != n or len(self.sensors) != len(self.groups):
            raise TrainingError(f"{n} bands in groups {self.groups} of sensors {self.sensors}; expected as many")
        if not 1 <= n <= MAX_CHANNELS or min(self.groups) < 1:
            raise TrainingError(f"{n} channels; an encoder takes 1 to {MAX_CHANNELS}")
        for name, length in zip(self.names, self.wavelengths_um, strict=True):
            if length is not None and not 0 < length < math.inf:
                raise TrainingError(f"wavelength {length} µm of band {name}; expected a number above 0")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def plain(cls, n: int) -> "Bands":
        """`n` bands in one group, of which nothing is known."""
        return cls(
            names=tuple(f"band-{i}" for i in range(n)), groups=(n,), sensors=("images",), wavelengths_um=(None,) * n
        )

    @classmethod
    def joined(cls, parts: Iterable["Bands"]) -> "Bands":
        """The bands of several sensors, one after the other."""
        parts = list(parts)
        return cls(
            names=tuple(name for part in parts for name in part.names),
            groups=tuple(size for part in parts for size in part.groups),
            sensors=tuple(sensor for part in parts for sensor in part.sensors),
            wavelengths_um=tuple(length for part in parts for length in part.wavelengths_um),
        )


def bands_of(bands: Bands | int) -> Bands:
    """The bands, or that many of which nothing is known; TrainingError where an encoder cannot take as many."""
    if isinstance(bands, Bands):
        return bands
    if not 1 <= bands <= MAX_CHANNELS:
        raise TrainingError(f"{bands} channels; an encoder takes 1 to {MAX_CHANNELS}")
    return Bands.plain(bands)


def only_present(x: Tensor, present: Tensor | None) -> Tensor:
    """The images (B, C, H, W) with 0, the mean, in the bands that are not there; present: (C,) or (B, C) bool."""
    if present is None:
        return x
    return torch.where(rows_present(present, x)[:, :, None, None], x, 0.0)


def rows_present(present: Tensor, x: Tensor) -> Tensor:
    """Which bands are there, on the device of `x`: (B, C), or (1, C) where it is the same in all images."""
    return (present if present.ndim == 2 else present[None]).to(x.device)
