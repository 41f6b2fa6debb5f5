"""Places made of arithmetic: as shards that geossl writes, and as files for a Dataset of one's own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS
from geossl_data.records import Split
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.writing.content import Content
from geossl_data.shards.writing.plan import ShardPlan, plan_shards
from geossl_data.shards.writing.report import ShardReport, manifest_notes
from geossl_data.shards.writing.writer import write_shard

START = datetime(2021, 3, 4, 10, 20, 30, tzinfo=UTC)
SHARD_SAMPLES = 64
GROUNDS = 8
"""Smooth fields of which every place is a shifted one with noise of its own, so that it shrinks as real pixels do."""
MEMBERS_OF = {"s2": ("s2_10m", "s2_20m", "s2_60m"), "s1": ("s1",)}


@dataclass(frozen=True, slots=True)
class Place:
    """What is planned of a place."""

    key: str
    number: int
    split: Split = "train"


class Pixels:
    """The stored numbers of place after place."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        rng = np.random.default_rng(0)
        frequencies = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None])
        frequencies[0, 0] = 1.0
        spectra = np.fft.rfft2(rng.standard_normal((GROUNDS, size_px, size_px))) / frequencies**1.2
        fields = np.fft.irfft2(spectra, s=(size_px, size_px))
        self._grounds = fields / fields.std(axis=(1, 2), keepdims=True)

    def members(self, number: int) -> dict[str, NDArray[np.uint16]]:
        """Of place `number`, as they are stored."""
        rng = np.random.default_rng((1, number))
        ground = np.roll(self._grounds[number % GROUNDS], rng.integers(0, self.size_px, 2), axis=(0, 1))
        found = {}
        for name in (*MEMBERS_OF["s2"], *MEMBERS_OF["s1"]):
            member = MEMBERS[name]
            shape = member.shape(self.size_px)
            fine = ground.reshape(shape[1], member.factor, shape[2], member.factor).mean(axis=(1, 3))
            level, contrast, noise = (2000, 500, 30) if member.sensor == "s2" else (8700, 300, 200)
            gain = 1 + 0.2 * np.arange(shape[0])[:, None, None]
            values = level + contrast * gain * fine + noise * rng.standard_normal(shape, dtype=np.float32)
            found[name] = np.clip(values, 1, 60_000).astype(np.uint16)
        return found


def write_shards(folder: Path, n: int, pixels: Pixels, threads: int) -> None:
    """A dataset of `n` places of one look in `folder`."""
    places = [Place(f"place-{number:06d}", number) for number in range(n)]
    plans = plan_shards(places, shard_mb=SHARD_SAMPLES, seed=0, nbytes=lambda _: 1e6)

    def write(plan: ShardPlan) -> ShardReport:
        return write_shard(plan, folder / SHARDS_FOLDER, lambda place: _content(place, pixels))

    with ThreadPoolExecutor(threads) as pool:
        reports = list(pool.map(write, plans))
    skipped = [row for report in reports for row in report.skipped]
    assert not skipped, skipped[0]
    notes = manifest_notes(reports, fingerprint=f"benchmark {n} × {pixels.size_px}", codec="blosc", pixel_m=None)
    write_manifest(folder / MANIFEST_NAME, [entry for report in reports for entry in report.entries], notes)


def _content(place: Place, pixels: Pixels) -> Content:
    return Content(
        key=place.key,
        split=place.split,
        size_px=pixels.size_px,
        looks=(pixels.members(place.number),),
        is_stored=True,
        meta={},
        row={
            "block": f"block-{place.number // 100}",
            # Nowhere: outlines on the ground would take pyproj.
            **dict.fromkeys(("lon", "lat", "epsg", "x", "y")),
            "cell": "",
            "stratum": "",
            "weight": 1.0,
            "inclusion_probability": 1.0,
            "acquired": (START + timedelta(minutes=place.number),),
            "gap_hours": (-5.0,),
            "s2_ids": (f"S2_{place.number}",),
            "s1_ids": (f"S1_{place.number}",),
            "labels": (0,),
            "cloud_fraction": (0.0,),
            "s2_valid_fraction": (1.0,),
            "s1_valid_fraction": (1.0,),
        },
    )


def write_files(folder: Path, sensor: str, n: int, pixels: Pixels, threads: int) -> None:
    """`n` files of all bands of a sensor on the finest grid, (bands, H, W) uint16, as a Dataset of one's own reads."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        np.save(folder / f"{number:06d}.npy", np.concatenate(list(_stacked(pixels.members(number), sensor))))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(n)))


def _stacked(members: dict[str, NDArray[np.uint16]], sensor: str) -> Iterator[NDArray[np.uint16]]:
    for name in MEMBERS_OF[sensor]:
        factor = MEMBERS[name].factor
        yield members[name].repeat(factor, axis=1).repeat(factor, axis=2)
