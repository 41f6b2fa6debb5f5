"""What an encoder is and what it expects to see: enough to use it on other images, as a value and as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.bands import Member
from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders import Bands
from geossl_data.pretrain.normalisation import Normalisation, bands_of
from geossl_data.version import VERSION

Kind = TypeVar("Kind")

MAX_BANDS = 1024
"""As many as shards hold of a sensor; an encoder is built, and takes memory, before its weights are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What an exported encoder is and what it expects to see."""

    encoder: str
    """Architecture, a name of `encoders.ENCODERS`."""
    patch: int
    """Side of a ViT's patches, pixels; without meaning for a ResNet."""
    embed: str = "plain"
    """Patch embedding of a ViT, one of `encoders.EMBEDDINGS`."""
    normalisations: tuple[Normalisation, ...]
    """One for each sensor, in the order of the image's bands: band order, statistics and clipping of its images."""
    objective: str
    """What it was trained by, a name of `objectives.OBJECTIVES`."""
    epochs: int
    """Passes over the data."""
    samples: int | None = None
    """Places that it was trained on; None where not known, as in older files."""
    crop: int | None = None
    """Side of the images that it was trained on, pixels."""
    pixel_m: float | None = None
    """Side of a pixel of those images, metres; None where not known."""
    years: tuple[int, ...] = ()
    """Of the scenes that it was trained on."""
    geossl: str = VERSION
    """Version that wrote the file."""

    def __post_init__(self) -> None:
        if not self.normalisations or len(set(self.sensors)) < len(self.sensors):
            raise TrainingError(f"an encoder of sensors {self.sensors}; expected one or several, each once")
        if self.channels > MAX_BANDS:
            raise TrainingError(f"an encoder of {self.channels} bands; expected at most {MAX_BANDS}")

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors whose images it sees, in the order of their bands."""
        return tuple(entry.sensor for entry in self.normalisations)

    @property
    def sensor(self) -> str:
        """The same as one name: `s2`, or `s2+s1` for an encoder of both."""
        return "+".join(self.sensors)

    @property
    def bands(self) -> Bands:
        """The bands of its images."""
        return Bands.joined(bands_of(entry) for entry in self.normalisations)

    @property
    def channels(self) -> int:
        """How many bands its images have."""
        return sum(len(entry.bands) for entry in self.normalisations)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members of a look that its images are made of."""
        return tuple(name for entry in self.normalisations for name in entry.member_names)

    def images(
        self,
        arrays: Mapping[str, NDArray[Any] | Tensor],
        device: torch.device | str = "cpu",
        *,
        sensors: Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What the encoder takes, of a batch of looks as they are stored: `encoder(*info.images(arrays))`.

        arrays: member name → (B, bands, rows, columns) of its stored numbers, as shards hold them; see `members`.
        sensors: those to show it, all of them when left out. An encoder of several sensors works with some of them.
        Gives standardised images (B, C, H, W), float32, and which of the bands are there, (C,) bool; None where all
        are. Raises TrainingError for a sensor that it does not know, and for a member that is not among the arrays.
        """
        where = torch.device(device)
        shown = self._shown(sensors)
        lacking = [name for entry in shown for name in entry.member_names if name not in arrays]
        if lacking:
            raise TrainingError(
                f"no {', '.join(lacking)} among the members; images of {self.sensor} are made of "
                f"{', '.join(self.members)}, or name the sensors to show with sensors="
            )
        finest = min(entry.finest for entry in self.normalisations)
        return self._together({entry.sensor: entry.apply(arrays, where, finest=finest) for entry in shown})

    def standardised(self, values: Tensor, *, sensors: Sequence[str] | None = None) -> tuple[Tensor, Tensor | None]:
        """The same of images in physical units, (B, C, H, W), all bands on one grid: pixels from anywhere.

        values: the bands of the sensors, in the order of `bands`, in the units of the members; NaN where invalid.
        """
        shown = self._shown(sensors)
        widths = [len(entry.bands) for entry in shown]
        if values.ndim != 4 or values.shape[1] != sum(widths):
            raise TrainingError(
                f"images of shape {tuple(values.shape)}; expected (images, {sum(widths)} bands, rows, columns)"
            )
        parts = torch.split(values, widths, dim=1)
        return self._together(
            {entry.sensor: entry.standardised(part) for entry, part in zip(shown, parts, strict=True)}
        )

    def _shown(self, sensors: Sequence[str] | None) -> list[Normalisation]:
        """The normalisations of some of the sensors, in the order of the bands."""
        wanted = set(self.sensors if sensors is None else sensors)
        if not wanted or not wanted <= set(self.sensors):
            raise TrainingError(
                f"sensors {', '.join(sorted(wanted)) or 'none'}; this encoder sees {' and '.join(self.sensors)}"
            )
        return [entry for entry in self.normalisations if entry.sensor in wanted]

    def _together(self, images: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Images of all sensors, with 0 for those that are not shown, and which bands are there."""
        given = next(iter(images.values()))
        sizes = {sensor: f"{len(image)} of {image.shape[2]} × {image.shape[3]}" for sensor, image in images.items()}
        if len(set(sizes.values())) > 1:
            raise TrainingError(
                f"images of the sensors differ in number or size: {sizes}; they have to be of one place"
            )
        parts, present = [], []
        for entry in self.normalisations:
            n_bands = len(entry.bands)
            image = images.get(entry.sensor)
            parts.append(given.new_zeros(len(given), n_bands, *given.shape[2:]) if image is None else image)
            present += [image is not None] * n_bands
        return torch.cat(parts, dim=1), None if all(present) else torch.tensor(present, device=given.device)


def text_of(info: EncoderInfo) -> str:
    """An info as JSON; the same info, the same text."""
    return json.dumps(asdict(info), sort_keys=True)


def info_of(text: str) -> EncoderInfo:
    """The info that `text_of` wrote, checked; TrainingError where it is anything else."""
    try:
        values = json.loads(text)
        if "normalisation" in values:  # as files up to 0.1.0 of encoders of one sensor have it
            values["normalisations"] = [values.pop("normalisation")]
        unknown = sorted(set(values) - {field.name for field in fields(EncoderInfo)})
        written_by = _text(values["geossl"])
        if unknown and written_by != VERSION:
            raise TrainingError(
                f"was written by geossl {written_by}, which says more of an encoder than {VERSION} knows; update geossl"
            )
        return EncoderInfo(
            encoder=_text(values.pop("encoder")),
            patch=_of(int, values.pop("patch")),
            embed=_text(values.pop("embed", "plain")),
            normalisations=tuple(_normalisation(described) for described in values.pop("normalisations")),
            objective=_text(values.pop("objective")),
            epochs=_of(int, values.pop("epochs")),
            samples=_optional(int, values.pop("samples", None)),
            crop=_optional(int, values.pop("crop", None)),
            pixel_m=_optional(float, values.pop("pixel_m", None)),
            years=tuple(_of(int, year) for year in values.pop("years", ())),
            **values,
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise TrainingError("its metadata is not that of a geossl encoder") from None


def _normalisation(described: dict[str, Any]) -> Normalisation:
    values = dict(described)
    return Normalisation(
        sensor=_text(values.pop("sensor")),
        bands=tuple(_text(band) for band in values.pop("bands")),
        mean=tuple(_of(float, number) for number in values.pop("mean")),
        std=tuple(_of(float, number) for number in values.pop("std")),
        clip=_of(float, values.pop("clip")),
        members=tuple(_member(member) for member in values.pop("members", ())),
        **values,
    )


def _member(described: dict[str, Any]) -> Member:
    values = dict(described)
    member = Member(
        name=_text(values.pop("name")),
        sensor=_text(values.pop("sensor")),
        bands=tuple(_text(band) for band in values.pop("bands")),
        factor=_of(int, values.pop("factor")),
        dtype=_text(values.pop("dtype")),
        units=_text(values.pop("units")),
        scale=_of(float, values.pop("scale", 1.0)),
        offset=_of(float, values.pop("offset", 0.0)),
        nodata=values.pop("nodata", None),
        plane=_of(bool, values.pop("plane", False)),
        **values,
    )
    _optional(float, member.nodata)
    if member.factor < 1 or not member.scale or not math.isfinite(member.scale) or not math.isfinite(member.offset):
        raise ValueError("no stored number has a value with this factor, scale and offset")
    return member


def _of(kind: type[Kind], value: Any) -> Kind:
    """A number or truth value of JSON; whole numbers are floats too, truth values are no numbers."""
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, (kind, int)):
        raise TypeError("of another kind")
    return kind(value)  # type: ignore[call-arg]


def _optional(kind: type[Kind], value: Any) -> Kind | None:
    return None if value is None else _of(kind, value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise TypeError("no text of one line")
    return value
