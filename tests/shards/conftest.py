"""Samples and tiles made from arithmetic, and a small dataset written from them."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from geossl_data.bands import MEMBERS
from geossl_data.grid import to_lonlat
from geossl_data.records import Look, Place, Sample, Split
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.writing.content import Content, tile_content
from geossl_data.shards.writing.plan import ShardPlan, plan_shards
from geossl_data.shards.writing.report import ShardReport, manifest_notes
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.build import Tile, TileLook
from geossl_data.tiles.radiometry import fraction, s1_valid, s2_valid_fraction
from geossl_data.tiles.rasters import SkipError

# A worker could not import a function of this module: it does not know where tests lie.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SIZE_PX = 12
START = datetime(2021, 3, 4, 10, 20, 30, tzinfo=UTC)


def make_sample(number: int, split: Split = "train", n_looks: int = 2, size_px: int = SIZE_PX, **change: Any) -> Sample:
    """Sample `number`, 1020 m from the next, with looks 100 days apart and gaps of -5 h, -4 h, …"""
    x, y = 500_000.0 + 1020.0 * number, 5_000_040.0
    lon, lat = to_lonlat(32632, x + size_px * 5, y - size_px * 5)
    looks = tuple(
        Look(
            s2_id=f"S2_{number}_{i}",
            s1_id=f"S1_{number}_{i}",
            acquired=START + timedelta(days=100 * i, minutes=number),
            gap_hours=float(i - 5),
        )
        for i in range(n_looks)
    )
    values: dict[str, Any] = {
        "key": f"place-{number:03d}",
        "place": Place(
            lon=float(lon), lat=float(lat), epsg=32632, x=x, y=y, size_px=size_px, cell=f"0500U_{number:04d}R"
        ),
        "looks": looks,
        "stratum": "temperate",
        "weight": 1.25,
        "inclusion_probability": 0.1,
        "split": split,
        "block": f"block-{number}",
    }
    return Sample(**(values | change))


def arrays_of(key: str, look: int, size_px: int = SIZE_PX, *, label: bool = True) -> dict[str, np.ndarray]:
    """The pixels of one look, the same every time."""
    seed = int.from_bytes(hashlib.blake2b(f"{key}/{look}".encode(), digest_size=8).digest(), "big")
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for name, member in MEMBERS.items():
        shape = member.shape(size_px)
        if name == "s1":
            arrays[name] = member.physical(rng.integers(6000, 10_000, shape, dtype=np.uint16))
            arrays[name][0, 0, 1] = np.nan
        elif name in ("scl", "label"):
            arrays[name] = rng.integers(1, 9, shape).astype(np.uint8)
        else:
            arrays[name] = rng.integers(1, 12_000, shape).astype(np.uint16)
            arrays[name][0, 0, 0] = 0
    if not label:
        del arrays["label"]
    return arrays


def make_tile(sample: Sample) -> Tile:
    """A tile of arithmetic; every third place has no label, keys ending in 7 are skipped."""
    if sample.key.endswith("7"):
        raise SkipError("outside", f"{sample.key}: not here")
    looks = []
    for number, look in enumerate(sample.looks):
        arrays = arrays_of(sample.key, number, sample.place.size_px, label=int(sample.key[-3:]) % 3 != 0)
        s1_time = look.acquired + timedelta(hours=look.gap_hours)
        meta: dict[str, Any] = {
            "s2": {
                "id": look.s2_id,
                "datetime": look.acquired.isoformat().replace("+00:00", "Z"),
                "geossl:offset_native": -1000,
                "geossl:offset_applied": -1000,
                "geossl:cloud_fraction": 0.25 if number else None,
                "geossl:valid_fraction": s2_valid_fraction(arrays),
                "assets": {"B02": f"./{look.s2_id}/B02.tif"},
            },
            "s1": {
                "id": look.s1_id,
                "datetime": s1_time.isoformat().replace("+00:00", "Z"),
                "geossl:valid_fraction": fraction(s1_valid(arrays["s1"])),
            },
            "pair": {"geossl:gap_hours": look.gap_hours},
        }
        if "label" in arrays:
            meta["label"] = {"id": "map", "geossl:majority_class": int(np.bincount(arrays["label"].ravel()).argmax())}
        looks.append(TileLook(members=arrays, meta=meta))
    return Tile(sample=sample, looks=tuple(looks))


def hashes_of(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_factory(build: Callable[[Sample], Tile]) -> Callable[[Sequence[Sample]], Any]:
    """The BuildFactory that opens nothing."""
    return lambda _: nullcontext(make_build(build))


def make_build(build: Callable[[Sample], Tile]) -> Callable[[Sample], Content]:
    """The Build that makes what a shard stores of tiles."""
    return lambda sample: tile_content(build(sample))


def make_plans(count: int = 24) -> list[ShardPlan]:
    """Plans of several shards of both splits, four looks a sample."""
    samples = [make_sample(n, "train" if n % 4 else "val", size_px=60, n_looks=4) for n in range(count)]
    return plan_shards(samples, shard_mb=1, seed=0)


MakeSample = Callable[..., Sample]
WriteDataset = Callable[..., list[ShardReport]]


@pytest.fixture
def sample() -> MakeSample:
    return make_sample


@pytest.fixture
def arrays() -> Callable[..., dict[str, np.ndarray]]:
    return arrays_of


@pytest.fixture
def tile() -> Callable[[Sample], Tile]:
    return make_tile


@pytest.fixture
def contents() -> Callable[[Callable[[Sample], Tile]], Callable[[Sample], Content]]:
    return make_build


@pytest.fixture
def hashes() -> Callable[[Path], dict[str, str]]:
    return hashes_of


@pytest.fixture
def factory() -> Callable[[Callable[[Sample], Tile]], Callable[[], Any]]:
    return make_factory


@pytest.fixture
def plans() -> list[ShardPlan]:
    return make_plans()


@pytest.fixture
def write_dataset() -> WriteDataset:
    """A function that writes shards and manifest of some samples and gives the reports."""

    def write(
        folder: Path, samples: Sequence[Sample], build: Callable[[Sample], Tile] = make_tile, codec: str = "blosc"
    ) -> list[ShardReport]:
        reports = write_shards(
            plan_shards(samples, shard_mb=1, seed=3),
            folder / SHARDS_FOLDER,
            make_factory(build),
            codec=codec,
            fingerprint="f",
        )
        entries = [entry for report in reports for entry in report.entries]
        write_manifest(folder / MANIFEST_NAME, entries, manifest_notes(reports, fingerprint="f", codec=codec))
        return reports

    return write


@pytest.fixture
def dataset(tmp_path: Path, write_dataset: WriteDataset) -> Path:
    """Ten places, eight of them train, one val, one test; place 7 was skipped."""
    splits: list[Split] = ["train"] * 8 + ["val", "test"]
    write_dataset(tmp_path / "data", [make_sample(number, split) for number, split in enumerate(splits)])
    return tmp_path / "data"


def make_mosaic_sample(number: int, split: Split = "train") -> Sample:
    """Sample `number` of two looks, the second of two Sentinel-2 parts and three Sentinel-1 frames."""
    sample = make_sample(number, split)
    second = replace(sample.looks[1], s2_more=(f"S2_{number}_1b",), s1_more=(f"S1_{number}_1b", f"S1_{number}_1c"))
    return replace(sample, looks=(sample.looks[0], second))


def make_mosaic_tile(sample: Sample) -> Tile:
    """A tile of arithmetic whose looks describe their further scenes."""
    tile = make_tile(sample)
    looks = []
    for look, built in zip(sample.looks, tile.looks, strict=True):
        meta = dict(built.meta)
        for sensor, more in (("s2", look.s2_more), ("s1", look.s1_more)):
            if more:
                first = meta[sensor]
                parts = [{**first, "id": name} for name in more]
                meta[sensor] = first | {
                    "geossl:mosaic_item_ids": [first["id"], *more],
                    "geossl:mosaic": parts,
                }
        looks.append(replace(built, meta=meta))
    return replace(tile, looks=tuple(looks))


@pytest.fixture
def mosaics(tmp_path: Path, write_dataset: WriteDataset) -> Path:
    """A place in train with a look that is a mosaic, one such in val, and one without in test."""
    write_dataset(
        tmp_path / "mosaics",
        [make_mosaic_sample(1), make_sample(2, "test"), make_mosaic_sample(3, "val")],
        make_mosaic_tile,
    )
    return tmp_path / "mosaics"
