"""Shards in memory of any members: class maps, masks, pictures; with or without places and times. And encoders."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pretrain.toy_shards import ToyEntry, ToyFiles, ToyIndex, ToyShards

from geossl_data.bands import Member
from geossl_data.pretrain.encoders import Encoder, build_encoder
from geossl_data.pretrain.export import EncoderInfo
from geossl_data.pretrain.normalisation import normalisation
from geossl_data.shards.reading.facts import Facts

PICTURE = Member("s2", "s2", ("B04", "B03", "B02"), 1, "uint8", "")
RADAR = Member("s1", "s1", ("VV",), 1, "uint8", "")
MASK = Member("mask", "mask", ("mask",), 1, "uint8", "class", plane=True)

Judged = tuple[Encoder, EncoderInfo]
Looks = Sequence[Mapping[str, np.ndarray]]


class OwnShards(ToyShards):
    """Samples as given: what a look of a sample does not have, it lacks."""

    def __init__(
        self,
        members: Sequence[Member],
        samples: Sequence[Looks],
        *,
        splits: Sequence[str] | None = None,
        lonlat: Sequence[tuple[float, float]] | None = None,
        days: Sequence[Sequence[float]] | None = None,
        labels: Sequence[Sequence[int]] | None = None,
        label_names: Mapping[str, str] | None = None,
        statistics: Mapping[str, tuple[float, float]] | None = None,
        size: int = 4,
    ) -> None:
        """splits: train for all when left out; lonlat, days: not known; labels: none; statistics: band → mean, std."""
        n, most = len(samples), max(len(looks) for looks in samples)
        where = np.full((n, 2), np.nan) if lonlat is None else np.array(lonlat, dtype=float)
        splits = ["train"] * n if splits is None else splits
        self.arrays = [[dict(look) for look in looks] for looks in samples]
        self.members = {member.name: member for member in members}
        self.entries: list[Any] = [
            ToyEntry(
                key=f"place-{number:04d}",
                split=split,
                block=f"place-{number:04d}",
                lon=float(where[number, 0]),
                lat=float(where[number, 1]),
                n_looks=len(looks),
                members=tuple(tuple(name for name in self.members if name in look) for look in looks),
                labels=tuple(labels[number]) if labels else (0,) * len(looks),
            )
            for number, (split, looks) in enumerate(zip(splits, samples, strict=True))
        ]
        self.size_px = size
        self.notes: dict[str, Any] = {
            "size_px": size,
            "fingerprint": "own",
            "statistics": {
                band: {"mean": mean, "std": std, "count": 1} for band, (mean, std) in (statistics or {}).items()
            },
            "label_names": dict(label_names or {}),
        }
        n_looks = np.array([len(looks) for looks in samples])
        there = [[name in look for name in self.members] for looks in samples for look in looks]
        self.index: Any = ToyIndex(
            shard=np.zeros(n, np.int64),
            n_looks=n_looks,
            first_look=np.cumsum(n_looks) - n_looks,
            member_file=np.where(np.array(there, bool).reshape(-1, len(members)), 0, -1),
            nbytes=np.array([1000]),
            crc32=np.array([0], dtype=np.uint32),
        )
        times = np.full((n, most), np.nan)
        for number, own in enumerate(days or []):
            times[number, : len(own)] = own
        self.facts = Facts(
            lonlat=where, days=times, change=np.full(n, np.nan), split=np.array(list(splits), dtype=np.str_)
        )
        self._files: Any = ToyFiles(self)


def trained(shards: Any, sensors: str, encoder: str = "tiny", embed: str = "plain", seed: int = 7) -> Judged:
    """An encoder that was trained on these shards, of the sensors `s2`, `s1` or `s2+s1`."""
    entries = tuple(normalisation(shards.notes, shards.members, sensor) for sensor in sensors.split("+"))
    info = EncoderInfo(encoder=encoder, patch=8, embed=embed, normalisations=entries, objective="moco", epochs=1)
    return build_encoder(encoder, info.bands, seed=seed, patch=8, embed=embed).eval(), info
