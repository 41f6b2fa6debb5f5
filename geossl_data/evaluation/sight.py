"""What encoders see of given shards: bands matched by name, standardised as asked, missing ones masked."""

import copy
import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.bands import Member
from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders import Encoder, ViT, build_encoder
from geossl_data.pretrain.export import EncoderInfo
from geossl_data.pretrain.normalisation import Normalisation
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

Numbers = Mapping[str, tuple[float, float]]
"""Band → mean and standard deviation, in physical units."""
Whose = Literal["encoder", "own", "stated"]
STATISTICS = ("auto", "own", "encoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How one sensor's images for an encoder are made of the members of given shards."""

    normalisation: Normalisation
    """Over the bands that are there, whichever member of the shards holds them."""
    picks: tuple[tuple[int, ...], ...]
    """Of each member, which of its stored bands are taken."""
    channels: tuple[int, ...]
    """Where in the encoder's images each band that is there belongs."""
    statistics: Whose

    def read(self, stored: Mapping[str, Tensor], device: torch.device, finest: int) -> Tensor:
        """The bands that are there, (B, bands, H, W), standardised."""
        arrays = {}
        for member, pick in zip(self.normalisation.members, self.picks, strict=True):
            array = stored[member.name].to(device).to(torch.float32)
            whole = pick == tuple(range(array.shape[1]))
            arrays[member.name] = array if whole else torch.stack([array[:, band] for band in pick], dim=1)
        return self.normalisation.apply(arrays, device, finest=finest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an encoder's images are made of the members of given shards."""

    seen: tuple[Seen, ...]
    """Of each sensor that is shown."""
    n_bands: int
    """Of the encoder's images."""
    finest: int
    """How many pixels of a place's grid lie along one of the images."""

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members that are read."""
        return tuple(dict.fromkeys(name for sensor in self.seen for name in sensor.normalisation.member_names))

    @property
    def present(self) -> tuple[bool, ...]:
        """Which of the encoder's bands are there."""
        there = {channel for sensor in self.seen for channel in sensor.channels}
        return tuple(channel in there for channel in range(self.n_bands))

    def images(self, stored: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """The encoder's images (B, n_bands, H, W), float32; 0, the mean, in bands that are not there."""
        read = torch.cat([sensor.read(stored, device, self.finest) for sensor in self.seen], dim=1)
        channels = [channel for sensor in self.seen for channel in sensor.channels]
        if channels == list(range(self.n_bands)):
            return read
        nothing = torch.zeros_like(read[:, 0])
        parts = {channel: read[:, position] for position, channel in enumerate(channels)}
        return torch.stack([parts.get(channel, nothing) for channel in range(self.n_bands)], dim=1)


class Sight(nn.Module):
    """One encoder or several side by side, as they see the looks of given shards. In eval mode when made."""

    members: tuple[str, ...]
    """Of the shards, those that have to be read."""
    embedding_dim: int
    embedding_dims: tuple[int, ...]
    """Of each encoder; they sum to `embedding_dim`."""
    widths: tuple[int, ...]
    """Channels of each level of `pyramid`."""

    def __init__(
        self,
        encoders: Sequence[Encoder],
        infos: Sequence[EncoderInfo],
        readings: Sequence[Reading],
        device: torch.device,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders).to(device)
        self.infos, self.readings = tuple(infos), tuple(readings)
        for number, reading in enumerate(readings):
            self.register_buffer(f"present_{number}", torch.tensor(reading.present, device=device), persistent=False)
        self.eval()
        self.members = tuple(dict.fromkeys(name for reading in readings for name in reading.members))
        self.embedding_dims = tuple(encoder.embedding_dim for encoder in encoders)
        self.embedding_dim = sum(self.embedding_dims)
        self.widths = self._widths(device)
        self._known: tuple[object, str]
        self.forget()

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        return cast(Tensor, self.present_0).device

    @property
    def statistics(self) -> dict[str, Whose]:
        """Sensor → by whose means and deviations its images are standardised."""
        return {sensor.normalisation.sensor: sensor.statistics for reading in self.readings for sensor in reading.seen}

    @property
    def digest(self) -> str:
        """Hex digest of the weights as they are now, the architectures, and how images are made of the members."""
        state = self.state_dict()
        # What writes to a tensor raises its version, but for fused optimisers and in inference mode.
        versions = [(name, None if value.is_inference() else value._version) for name, value in state.items()]
        mark = (versions, torch.stack([_sum_of_bits(value) for value in state.values()]).tolist())
        if mark != self._known[0]:
            self._known = (mark, self._digest(state))
        return self._known[1]

    def forget(self) -> None:
        """Work out the digest again when it is asked for next."""
        self._known = (None, "")

    def _digest(self, state: Mapping[str, Tensor]) -> str:
        digest = hashlib.sha256()
        for info, reading in zip(self.infos, self.readings, strict=True):
            digest.update(repr((info.encoder, info.patch, info.embed, info.bands, reading)).encode())
        for name, value in state.items():
            digest.update(repr((name, value.dtype, tuple(value.shape))).encode())
            plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(plain.numpy().data)
        return digest.hexdigest()

    def images(self, stored: Mapping[str, Tensor]) -> list[Tensor]:
        """Standardised images (B, C, H, W) of each encoder, float32, of stored members (B, bands, h, w)."""
        return [reading.images(stored, self.device) for reading in self.readings]

    def embed(self, images: Sequence[Tensor]) -> Tensor:
        """Embeddings (B, embedding_dim) of the images of each encoder, side by side."""
        parts = [encoder(image, present) for encoder, image, present in self._with_present(images)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def pyramid(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) over the whole images, coarser and coarser, of the images of each encoder.

        Several encoders: level by level from the coarsest on, side by side, resized to the finer where they differ; one
        with fewer levels repeats its finest.
        """
        parts = [
            _over_the_whole(encoder.pyramid(image, present), encoder, image)
            for encoder, image, present in self._with_present(images)
        ]
        if len(parts) == 1:
            return parts[0]
        depth = max(map(len, parts))
        levels = zip(*(maps[:1] * (depth - len(maps)) + maps for maps in parts), strict=True)
        return [_side_by_side(level) for level in levels]

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        """See `embed`."""
        return self.embed(images)

    def _with_present(self, images: Sequence[Tensor]) -> Iterable[tuple[Encoder, Tensor, Tensor | None]]:
        for number, (encoder, image, reading) in enumerate(zip(self.encoders, images, self.readings, strict=True)):
            present = None if all(reading.present) else cast(Tensor, getattr(self, f"present_{number}"))
            yield cast(Encoder, encoder), image, present

    @torch.no_grad()
    def _widths(self, device: torch.device) -> tuple[int, ...]:
        """Found with images of one patch, for any encoder."""
        side = max([32, *(encoder.patch for encoder in self.encoders if isinstance(encoder, ViT))])
        images = [torch.zeros(1, reading.n_bands, side, side, device=device) for reading in self.readings]
        return tuple(level.shape[1] for level in self.pyramid(images))


def _sum_of_bits(value: Tensor) -> Tensor:
    """The sum of a tensor read as whole numbers, without what overflows; several times as fast as a hash."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
    return value.detach().view(whole).sum(dtype=whole).to(torch.int64)


def _side_by_side(maps: Sequence[Tensor]) -> Tensor:
    """Maps of several encoders (B, C, h, w) → one, on the finest of their grids."""
    size = (max(level.shape[-2] for level in maps), max(level.shape[-1] for level in maps))
    resized = [
        level
        if level.shape[-2:] == size
        else functional.interpolate(level, size=size, mode="bilinear", align_corners=False)
        for level in maps
    ]
    return torch.cat(resized, dim=1)


def _over_the_whole(maps: list[Tensor], encoder: Encoder, image: Tensor) -> list[Tensor]:
    """Maps that cover the whole image where a ViT has left out its margins: the outermost patches are drawn out."""
    sides = image.shape[-2:]
    if not isinstance(encoder, ViT) or all(side % encoder.patch == 0 for side in sides):
        return maps
    # Coordinates run from -1 to 1 over what the maps cover; the margins left out are unequal by a pixel at odd numbers.
    scale, shift = [], []
    for side in sides:
        covered, before = side // encoder.patch * encoder.patch, side % encoder.patch // 2
        scale.append(side / covered)
        shift.append((side - 2 * before) / covered - 1)
    theta = torch.tensor([[[scale[1], 0.0, shift[1]], [0.0, scale[0], shift[0]]]]).to(image.device, non_blocking=True)
    found = []
    for level in maps:
        grid = functional.affine_grid(theta, [1, 1, *level.shape[-2:]], align_corners=False)
        grid = grid.expand(len(level), -1, -1, -1)
        drawn = functional.grid_sample(level.float(), grid, padding_mode="border", align_corners=False)
        found.append(drawn.to(level.dtype))
    return found


# ------------------------------------------------------------------------------------------------ encoders → sights


def sight_of(
    encoders: Sequence[tuple[Encoder, EncoderInfo]],
    shards: Shards,
    shown: tuple[str, ...],
    *,
    statistics: str | Numbers = "auto",
    device: torch.device | str = "cpu",
) -> Sight:
    """The encoders that see any of the shown sensors, as they see looks of these shards.

    Bands are matched by name with any member of the shards: a member `optical` with a band B04 serves B04. An
    encoder's other bands, those of sensors not shown and those that the shards do not hold, are masked.
    statistics: `encoder`: the means and deviations that the encoder was trained with; `own`: those of the train split
    of the shards, where a band without any deviation counts as missing; `auto`: for each sensor the encoder's where the
    units of its members and of the shards' agree, else own; or band → (mean, deviation) in the members' physical units.
    The encoders are not copied. Raises TrainingError where a shown sensor has no band in the shards, and where
    statistics are lacking.
    """
    shown = tuple(sorted(shown))
    known = sorted({sensor for _, info in encoders for sensor in info.sensors})
    unknown = [sensor for sensor in shown if sensor not in known]
    if unknown or not shown:
        raise TrainingError(f"no encoder of {' or '.join(unknown) or 'no sensor'}; these see {', '.join(known)}")
    _check_statistics(statistics, [info for _, info in encoders])
    taking_part = [(encoder, info) for encoder, info in encoders if set(info.sensors) & set(shown)]
    return Sight(
        [encoder for encoder, _ in taking_part],
        [info for _, info in taking_part],
        [_reading(info, shards, shown, statistics) for _, info in taking_part],
        torch.device(device),
    )


def fresh(sight: Sight, seed: int) -> Sight:
    """The same with freshly initialised encoders; no weights are shared.

    They depend on the seed and on what they see alone: that of a sensor is the same whatever else a run has trained.
    """
    seen = ["+".join(info.sensors) for info in sight.infos]
    seeds = [_seed_of(seed, sensors, seen[:number].count(sensors)) for number, sensors in enumerate(seen)]
    encoders = [
        build_encoder(info.encoder, info.bands, seed=own, patch=info.patch, embed=info.embed)
        for info, own in zip(sight.infos, seeds, strict=True)
    ]
    return Sight(encoders, sight.infos, sight.readings, sight.device)


def _seed_of(seed: int, sensors: str, earlier: int) -> int:
    """Of an encoder of these sensors that comes after so many others of the same."""
    return int(np.random.SeedSequence((seed, earlier, *sensors.encode())).generate_state(1)[0])


def copied(sight: Sight) -> Sight:
    """A copy with weights of its own, to be trained on."""
    other = copy.deepcopy(sight)
    other.forget()
    return other


def shown_by(infos: Sequence[EncoderInfo], shards: Shards) -> tuple[tuple[str, ...], ...]:
    """What of these shards the encoders can be shown: each sensor of which bands are there, by name, then all together.

    Raises TrainingError where there is none.
    """
    there = sorted({entry.sensor for info in infos for entry in info.normalisations if _matched(entry, shards)})
    if not there:
        raise TrainingError(_no_match([entry for info in infos for entry in info.normalisations], shards))
    return (*((sensor,) for sensor in there), *([tuple(there)] if len(there) > 1 else []))


def _no_match(expected: Sequence[Normalisation], shards: Shards) -> str:
    wanted = list(dict.fromkeys(band for entry in expected for band in entry.bands))
    held = [band for member in shards.members.values() if not member.plane for band in member.bands]
    sensors = " or ".join(dict.fromkeys(entry.sensor for entry in expected))
    return (
        f"no band of {sensors} ({_few(wanted)}) in these shards, which hold {_few(held) or 'none'}; name the bands of "
        "own images as the encoder does"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:14]) + (f" and {len(names) - 14} more" if len(names) > 14 else "")


@dataclass(frozen=True, slots=True)
class _Match:
    """A band of an encoder, and where these shards hold it."""

    channel: int
    """Among the bands of the sensor."""
    member: Member
    pick: int
    """Among the bands of the member."""

    @property
    def band(self) -> str:
        """As the shards call it."""
        return self.member.bands[self.pick]


def _matched(entry: Normalisation, shards: Shards) -> list[_Match]:
    """The bands of a sensor that the shards hold, in the order of the encoder.

    Of several members with a band of that name the one called as the encoder's is taken, else one of that sensor, else
    the first. Names that differ in capitals alone are the same where no band is called so exactly.
    """
    members = [member for member in shards.members.values() if not member.plane]
    found = []
    for channel, (band, own) in enumerate(zip(entry.bands, _holders(entry), strict=True)):
        candidates = [
            (name != band, member.name != own.name, member.sensor != entry.sensor, number, pick)
            for number, member in enumerate(members)
            for pick, name in enumerate(member.bands)
            if name.casefold() == band.casefold()
        ]
        if candidates:
            *_, number, pick = min(candidates)
            found.append(_Match(channel, members[number], pick))
    return found


def _holders(entry: Normalisation) -> list[Member]:
    """The member that holds each band of a normalisation."""
    return [member for member in entry.members for _ in member.bands]


def _reading(info: EncoderInfo, shards: Shards, shown: tuple[str, ...], statistics: str | Numbers) -> Reading:
    seen, finest, first = [], [], 0
    for entry in info.normalisations:
        matches = _matched(entry, shards)
        finest += [match.member.factor for match in matches]
        if entry.sensor in shown:
            if not matches:
                raise TrainingError(_no_match([entry], shards))
            seen.append(_seen(entry, matches, first, shards, statistics))
        first += len(entry.bands)
    # Of a sensor not shown too: shown alone, one sensor is on the grid on which the encoder knows both.
    for sensor in seen:
        for member in sensor.normalisation.members:
            if member.factor % min(finest):
                raise TrainingError(f"pixels of {member.name} are no whole number of those of the other members")
    return Reading(seen=tuple(seen), n_bands=first, finest=min(finest))


def _seen(
    entry: Normalisation, matches: Sequence[_Match], first: int, shards: Shards, statistics: str | Numbers
) -> Seen:
    whose, numbers = _numbers(entry, matches, shards, statistics)
    held = [match for match in matches if match.channel in numbers]
    by_member = {
        name: [match for match in held if match.member.name == name]
        for name in shards.members
        if any(match.member.name == name for match in held)
    }
    ordered = [match for own in by_member.values() for match in own]
    return Seen(
        normalisation=Normalisation(
            sensor=entry.sensor,
            bands=tuple(match.band for match in ordered),
            mean=tuple(numbers[match.channel][0] for match in ordered),
            std=tuple(numbers[match.channel][1] for match in ordered),
            clip=entry.clip,
            members=tuple(
                replace(own[0].member, sensor=entry.sensor, bands=tuple(match.band for match in own))
                for own in by_member.values()
            ),
        ),
        picks=tuple(tuple(match.pick for match in own) for own in by_member.values()),
        channels=tuple(first + match.channel for match in ordered),
        statistics=whose,
    )


# ------------------------------------------------------------------------------------------------ statistics


def _check_statistics(statistics: str | Numbers, infos: Sequence[EncoderInfo]) -> None:
    if isinstance(statistics, str):
        if statistics not in STATISTICS:
            raise TrainingError(f"statistics {statistics!r} is not one of {', '.join(STATISTICS)}")
        return
    known = {band for info in infos for entry in info.normalisations for band in entry.bands}
    unknown = sorted(set(statistics) - known)
    if unknown:
        raise TrainingError(
            f"statistics of {', '.join(unknown)}, which no encoder sees; they see {_few(sorted(known))}"
        )


def _numbers(
    entry: Normalisation, matches: Sequence[_Match], shards: Shards, statistics: str | Numbers
) -> tuple[Whose, dict[int, tuple[float, float]]]:
    """Whose they are, and channel → mean and deviation of each band to be shown."""
    if not isinstance(statistics, str):
        lacking = [entry.bands[match.channel] for match in matches if entry.bands[match.channel] not in statistics]
        if lacking:
            raise TrainingError(f"no mean and deviation are stated of {', '.join(lacking)}; state those of all bands")
        return "stated", {match.channel: statistics[entry.bands[match.channel]] for match in matches}
    holders = _holders(entry)
    agree = all(_same_units(holders[match.channel], match.member) for match in matches)
    if statistics == "encoder" or (statistics == "auto" and agree):
        return "encoder", {match.channel: (entry.mean[match.channel], entry.std[match.channel]) for match in matches}
    return "own", _own_numbers(entry, matches, shards)


def _same_units(one: Member, other: Member) -> bool:
    """Whether numbers of two members mean the same; where no units are stated, when they are stored alike."""
    if one.units or other.units:
        return one.units == other.units
    return (one.dtype, one.scale, one.offset) == (other.dtype, other.scale, other.offset)


def _own_numbers(entry: Normalisation, matches: Sequence[_Match], shards: Shards) -> dict[int, tuple[float, float]]:
    """Channel → mean and deviation in the train split of the shards; without the bands that are constant there."""
    found = {}
    for match in matches:
        try:
            values = shards.notes["statistics"][match.band]
            mean, std = float(values["mean"]), float(values["std"])
        except (KeyError, TypeError, ValueError):
            raise TrainingError(
                f"the manifest lacks statistics of {match.band}; run `geossl shard` again, or state them"
            ) from None
        if math.isfinite(mean) and math.isfinite(std) and std > 0:
            found[match.channel] = (mean, std)
        else:
            _LOG.warning("band %s is the same everywhere in the train split, so it counts as missing", match.band)
    if not found:
        raise TrainingError(
            f"bands of {entry.sensor} are the same everywhere in the train split: nothing to see in them"
        )
    return found
