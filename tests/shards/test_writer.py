"""Shards are whole or absent, the same every time, and go on where they were cut off."""

import gc
import hashlib
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import CatalogError, ReadError, ShardError, StorageError
from geossl_data.records import Sample
from geossl_data.shards.manifest import SHARDS_FOLDER, read_manifest
from geossl_data.shards.stream import open_shards
from geossl_data.shards.writer import (
    JOURNAL_FOLDER,
    SECRET_PATTERN,
    estimated_nbytes,
    finished,
    look_sums,
    manifest_notes,
    merge_sums,
    plan_shards,
    statistics,
    write_shard,
    write_shards,
)
from geossl_data.tiles.build import Tile, build_tile
from geossl_data.tiles.rasters import Rasters

Make = Callable[..., Sample]
Build = Callable[[Sample], Tile]


def hashes(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def factory(build: Build) -> Callable[[], Any]:
    return partial(nullcontext, build)


# ------------------------------------------------------------------------------------------------ plan


def test_shards_are_planned_for_their_size_and_hold_equal_counts(sample: Make) -> None:
    samples = [sample(number, size_px=264, n_looks=4) for number in range(11)]
    # By hand: 4 + 6/4 + 2/36 bands of uint16, SCL/4, two float16 bands and a label byte, each 264 px squared.
    raw = 264**2 * (2 * (4 + 6 / 4 + 2 / 36) + 1 / 4 + 4 + 1)
    assert estimated_nbytes(samples[0]) == pytest.approx(4 * raw, rel=0.01)
    plans = plan_shards(samples, shard_mb=13, seed=0)  # 50.2 MB in all
    assert [len(plan.samples) for plan in plans] == [2, 3, 3, 3]
    assert [plan.name for plan in plans] == [f"train-{number:06d}" for number in range(4)]


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_the_plan_depends_on_the_set_of_samples_alone(order: list[int], seed: int) -> None:
    from types import SimpleNamespace

    def stub(number: int) -> Any:
        split = ("train", "val", "test")[number % 3]
        return SimpleNamespace(key=f"k{number}", split=split, place=SimpleNamespace(size_px=264), looks=(1,) * 4)

    samples = [stub(number) for number in range(12)]
    straight = plan_shards(samples, shard_mb=5, seed=seed)
    shuffled = plan_shards([samples[number] for number in order], shard_mb=5, seed=seed)
    assert [(plan.name, plan.samples) for plan in straight] == [(plan.name, plan.samples) for plan in shuffled]
    keys = [sample.key for plan in straight for sample in plan.samples]
    assert sorted(keys) == sorted(sample.key for sample in samples)
    assert all(sample.split == plan.split for plan in straight for sample in plan.samples)


def test_neighbours_are_shuffled_and_the_seed_says_how(sample: Make) -> None:
    samples = [sample(number) for number in range(50)]
    one, two = (plan_shards(samples, shard_mb=1, seed=seed)[0].samples for seed in (0, 1))
    assert one != two
    steps = [abs(a.place.x - b.place.x) for a, b in pairwise(one)]
    assert np.mean(steps) > 8_000  # a third of 50 km when order and place are independent
    assert plan_shards([], shard_mb=1, seed=0) == []


def test_what_cannot_be_one_dataset_is_refused(sample: Make) -> None:
    with pytest.raises(ShardError, match="comes twice"):
        plan_shards([sample(1), sample(1)], shard_mb=1, seed=0)
    with pytest.raises(ShardError, match="one size"):
        plan_shards([sample(1), sample(2, size_px=24)], shard_mb=1, seed=0)


# ------------------------------------------------------------------------------------------------ one shard


def test_a_shard_is_a_plain_tar_with_each_sample_in_one_piece(tmp_path: Path, sample: Make, tile: Build) -> None:
    (plan,) = plan_shards([sample(number) for number in range(3)], shard_mb=1, seed=0)
    report = write_shard(plan, tmp_path, tile)
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        infos = tar.getmembers()
        json_text = tar.extractfile(infos[0]).read().decode()
    expected = []
    for chosen in plan.samples:
        names = ["s2_10m", "s2_20m", "s2_60m", "scl", "s1"]
        names += ["label"] if int(chosen.key[-3:]) % 3 else []
        expected += [f"{chosen.key}.json", *(f"{chosen.key}.{look}.{name}.npy" for look in (0, 1) for name in names)]
    assert [info.name for info in infos] == expected
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} == {(0, 0, 0, "", "", 0o644)}
    assert json_text == json.dumps(json.loads(json_text), sort_keys=True)
    assert report.nbytes == (tmp_path / "train-000000.tar").stat().st_size
    assert [entry.offset for entry in report.entries] == [
        next(info.offset for info in infos if info.name == f"{chosen.key}.json") for chosen in plan.samples
    ]
    assert report.entries[-1].offset + report.entries[-1].nbytes == report.nbytes - 1024


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_plain_webdataset_reads_the_shards(dataset: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with open_shards(dataset, "train") as shards:
        url = str(dataset / SHARDS_FOLDER / "train-000000.tar")
        found = list(webdataset.WebDataset(url, shardshuffle=False).decode())
        gc.collect()
        assert [sample["__key__"] for sample in found] == [entry.key for entry in shards.entries]
        for index, sample in enumerate(found):
            assert sample["json"] == shards.meta(index)
            for look in (0, 1):
                for name, array in shards.read(index, look, shards.entries[index].members[look]).items():
                    np.testing.assert_array_equal(sample[f"{look}.{name}.npy"], array)


def test_a_sample_that_cannot_be_built_is_skipped_with_its_reason(tmp_path: Path, sample: Make, tile: Build) -> None:
    def build(wanted: Sample) -> Tile:
        failures = {"place-000": ReadError("no\nluck"), "place-001": OSError("gone"), "place-002": CatalogError("key")}
        if wanted.key in failures:
            raise failures[wanted.key]
        built = tile(wanted)
        if wanted.key == "place-003":
            built.looks[0].meta["s2"]["assets"]["B02"] = "https://host/B02.tif?sv=1&sig=abc"
        if wanted.key == "place-004":
            built = replace(built, looks=built.looks[:1])
        if wanted.key == "place-005":
            built.looks[0].members["scl"] = built.looks[0].members["scl"].astype(np.uint16)
        return built

    (plan,) = plan_shards([sample(number) for number in range(8)], shard_mb=1, seed=0)
    report = write_shard(plan, tmp_path, build)
    assert [entry.key for entry in report.entries] == ["place-006"]
    reasons = {row.id: (row.stage, row.reason) for row in report.skipped}
    assert reasons == {
        "place-000": ("shard", "read-failed"),
        "place-001": ("shard", "read-failed"),
        "place-002": ("shard", "not-written"),
        "place-003": ("shard", "not-written"),
        "place-004": ("shard", "not-written"),
        "place-005": ("shard", "not-written"),
        "place-007": ("shard", "outside"),
    }
    assert all("\n" not in row.detail and "abc" not in row.detail for row in report.skipped)


def test_a_shard_without_samples_is_no_file(tmp_path: Path, sample: Make, tile: Build) -> None:
    plans = plan_shards([sample(7)], shard_mb=1, seed=0)
    (tmp_path / "train-000000.tar").write_bytes(b"old")
    (report,) = write_shards(plans, tmp_path, factory(tile), fingerprint="f")
    assert (report.nbytes, report.entries, len(report.skipped)) == (0, (), 1)
    assert not list(tmp_path.glob("*.tar"))
    assert finished(tmp_path, plans[0], "f") == report
    with pytest.raises(ShardError, match="no sample was written"):
        manifest_notes([report], fingerprint="f")


def test_secrets_are_recognised_and_ordinary_addresses_are_not() -> None:
    secret = ["https://h/a.tif?sv=1&sig=x", "https://h/a?X-Amz-Signature=1", "https://u:p@h/a", "https://h/a?token=1"]
    plain = ["https://h/a.tif", "./s2/B02.tif", "s3://bucket/a.tif?versionId=1", "12:30 me@host"]
    assert [bool(SECRET_PATTERN.search(text)) for text in secret + plain] == [True] * 4 + [False] * 4


# ------------------------------------------------------------------------------------------------ statistics


def test_statistics_are_those_of_the_valid_pixels_of_the_training_split(dataset: Path) -> None:
    values: dict[str, list[np.ndarray]] = {"B02": [], "B12": [], "VV": []}
    with open_shards(dataset, "train") as shards:
        for index, look in shards.looks:
            arrays = shards.read(index, look, ["s2_10m", "s2_20m", "s1"])
            for band, array in (("B02", arrays["s2_10m"][0]), ("B12", arrays["s2_20m"][5]), ("VV", arrays["s1"][0])):
                array = array.astype(np.float64)
                values[band].append(array[np.isfinite(array) & (array != 0)])
        found = shards.notes["statistics"]
    for band, parts in values.items():
        pixels = np.concatenate(parts)
        assert found[band]["count"] == pixels.size
        assert found[band]["mean"] == pytest.approx(pixels.mean(), rel=1e-9)
        assert found[band]["std"] == pytest.approx(pixels.std(), rel=1e-6)
    assert "SCL" not in found


def test_sums_by_hand() -> None:
    array = np.array([[[0, 2], [4, 6]], [[0, 0], [0, 0]]], dtype=np.uint16)
    sums = merge_sums([look_sums({"s2_60m": array}), look_sums({"s2_60m": array})])
    assert sums == {"B01": (6, 24.0, 112.0), "B09": (0, 0.0, 0.0)}
    assert statistics(sums) == {"B01": {"mean": 4.0, "std": pytest.approx((8 / 3) ** 0.5), "count": 6}}


# ------------------------------------------------------------------------------------------------ resuming


def many(sample: Make, count: int = 24) -> list[Any]:
    return plan_shards(
        [sample(n, "train" if n % 4 else "val", size_px=60, n_looks=4) for n in range(count)], shard_mb=1, seed=0
    )


def test_the_same_call_gives_the_same_bytes(tmp_path: Path, sample: Make, tile: Build) -> None:
    plans = many(sample)
    assert len(plans) > 2
    first = write_shards(plans, tmp_path / "a", factory(tile), fingerprint="f")
    second = write_shards(plans, tmp_path / "b", factory(tile), fingerprint="f")
    assert first == second
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path, sample: Make, tile: Build) -> None:
    plans = many(sample)
    whole = write_shards(plans, tmp_path / "whole", factory(tile), fingerprint="f")
    built: list[str] = []

    def failing(wanted: Sample) -> Tile:
        built.append(wanted.key)
        if len(built) == len(plans[0].samples) + 3:
            raise KeyboardInterrupt
        return tile(wanted)

    with pytest.raises(KeyboardInterrupt):
        write_shards(plans, tmp_path / "cut", factory(failing), fingerprint="f")
    assert [path.name for path in (tmp_path / "cut").glob("*.tar")] == ["train-000000.tar"]
    (tmp_path / "cut" / ".train-000001.tar.99.tmp").write_bytes(b"half")
    built.clear()

    def counting(wanted: Sample) -> Tile:
        built.append(wanted.key)
        return tile(wanted)

    resumed = write_shards(plans, tmp_path / "cut", factory(counting), fingerprint="f")
    assert resumed == whole
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert not {wanted.key for wanted in plans[0].samples} & set(built)
    built.clear()
    assert write_shards(plans, tmp_path / "cut", factory(counting), fingerprint="f") == whole
    assert built == []


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "journal", "torn", "fingerprint", "samples"])
def test_a_shard_that_is_not_what_its_journal_says_is_written_again(
    tmp_path: Path, sample: Make, tile: Build, damage: str
) -> None:
    plans = plan_shards([sample(number) for number in range(3)], shard_mb=1, seed=0)
    (whole,) = write_shards(plans, tmp_path, factory(tile), fingerprint="f")
    before = hashes(tmp_path)
    tar, journal = tmp_path / "train-000000.tar", tmp_path / JOURNAL_FOLDER / "train-000000.json"
    assert finished(tmp_path, plans[0], "f") == whole
    fingerprint = "f"
    match damage:
        case "flip":
            content = bytearray(tar.read_bytes())
            content[2000] ^= 1
            tar.write_bytes(content)
        case "cut":
            tar.write_bytes(tar.read_bytes()[:-512])
        case "gone":
            tar.unlink()
        case "journal":
            journal.unlink()
        case "torn":
            journal.write_text(journal.read_text()[:-30])
        case "fingerprint":
            fingerprint = "g"
        case "samples":
            plans = plan_shards([sample(number, weight=2.0) for number in range(3)], shard_mb=1, seed=0)
    assert finished(tmp_path, plans[0], fingerprint) is None
    write_shards(plans, tmp_path, factory(tile), fingerprint=fingerprint)
    if damage not in ("fingerprint", "samples"):
        assert hashes(tmp_path) == before


def test_shards_of_another_plan_are_removed(tmp_path: Path, sample: Make, tile: Build) -> None:
    write_shards(many(sample), tmp_path, factory(tile))
    (tmp_path / "notes.tar").write_bytes(b"mine")
    write_shards(plan_shards([sample(1)], shard_mb=1, seed=0), tmp_path, factory(tile))
    assert sorted(hashes(tmp_path)) == [".journal/train-000000.json", "notes.tar", "train-000000.tar"]


KILLED = """
import os, signal, sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("shards_conftest", sys.argv[1])
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
from geossl_data.shards.writer import plan_shards, write_shards
samples = [made.make_sample(n, "train" if n % 4 else "val", size_px=60, n_looks=4) for n in range(24)]
count = 0
def build(sample):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return made.make_tile(sample)
write_shards(plan_shards(samples, shard_mb=1, seed=0), Path(sys.argv[2]), partial(nullcontext, build), fingerprint="f")
"""


def test_a_killed_run_leaves_nothing_half_and_resumes_to_the_same_bytes(
    tmp_path: Path, sample: Make, tile: Build
) -> None:
    plans = many(sample)
    write_shards(plans, tmp_path / "whole", factory(tile), fingerprint="f")
    conftest = str(Path(__file__).with_name("conftest.py"))
    nth = len(plans[0].samples) + 4
    arguments = [sys.executable, "-W", "ignore", "-c", KILLED, conftest, str(tmp_path / "cut"), str(nth)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = hashes(tmp_path / "cut")
    assert [name for name in left if name.endswith(".tmp")]
    assert left["train-000000.tar"] == hashes(tmp_path / "whole")["train-000000.tar"]
    assert "train-000001.tar" not in left
    write_shards(plans, tmp_path / "cut", factory(tile), fingerprint="f")
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
""" + KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass")


def test_a_full_disk_stops_the_run_and_leaves_no_shard(tmp_path: Path) -> None:
    conftest = str(Path(__file__).with_name("conftest.py"))
    arguments = [sys.executable, "-W", "ignore", "-B", "-c", FULL, conftest, str(tmp_path / "full"), "0"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "StorageError" in done.stderr.splitlines()[-1]
    assert "no space left" in done.stderr.splitlines()[-1]
    assert hashes(tmp_path / "full") == {}


def test_a_full_disk_noticed_while_building_is_not_a_skipped_sample(tmp_path: Path, sample: Make) -> None:
    def build(_: Sample) -> Tile:
        raise StorageError("no space left")

    with pytest.raises(StorageError, match="no space"):
        write_shards(plan_shards([sample(1)], shard_mb=1, seed=0), tmp_path, factory(build))


# ------------------------------------------------------------------------------------------------ progress, workers


def test_progress_counts_every_sample_once_also_when_resuming(tmp_path: Path, sample: Make, tile: Build) -> None:
    seen: list[float] = []
    notes: list[str | None] = []

    class Bar:
        def advance(self, steps: float = 1, note: str | None = None) -> None:
            seen.append(steps)
            notes.append(note)

    @contextmanager
    def progress(description: str, total: float | None = None) -> Iterator[Bar]:
        assert total == 24
        yield Bar()

    for _ in range(2):
        seen.clear()
        write_shards(many(sample), tmp_path, factory(tile), progress=progress)
        assert sum(seen) == 24
    assert notes[-1] == "2 skipped"


def test_processes_write_the_same_bytes_as_one(tmp_path: Path, sample: Make) -> None:
    """Two worker processes cut real windows; one of the places lies outside and is skipped."""
    import rasterio
    from shapely import box

    from geossl_data.bands import BANDS, S1_BANDS, S2_BANDS
    from geossl_data.records import Scene

    samples = [sample(number, "train" if number else "val", n_looks=1) for number in range(4)]
    rng = np.random.default_rng(0)
    scenes = {}
    for sensor, names in (("s2", S2_BANDS), ("s1", S1_BANDS)):
        hrefs = {}
        for band in names:
            size = BANDS[band].resolution_m
            shape = (1200 // size, 2520 // size)  # reaches places 0 to 2
            array = rng.integers(1, 9000, shape) if sensor == "s2" else rng.gamma(4, 0.05, shape)
            array = array.astype(np.uint16 if sensor == "s2" else np.float32)
            hrefs[band] = str(tmp_path / f"{band}.tif")
            profile = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": "EPSG:32632"}
            transform = rasterio.Affine(size, 0, 500_000, 0, -size, 5_000_040)
            with rasterio.open(
                hrefs[band], "w", height=shape[0], width=shape[1], transform=transform, **profile
            ) as target:
                target.write(array, 1)
        for number in range(4):
            look = samples[number].looks[0]
            scene_id = look.s2_id if sensor == "s2" else look.s1_id
            scenes[scene_id] = Scene(
                id=scene_id,
                collection=sensor,
                sensor=sensor,
                acquired=look.acquired,
                ends=look.acquired,
                footprint=box(8, 45, 9, 46),
                hrefs=hrefs,
                grids={},
            )
    plans = [
        plan
        for number, part in enumerate((samples[:1], samples[1:2], samples[2:3], samples[3:]))
        for plan in (replace(plan_shards(part, shard_mb=1, seed=0)[0], name=f"{part[0].split}-{number:06d}"),)
    ]
    build = partial(build_tile, scenes=scenes, labels=[], rasters=Rasters(), min_valid=0.9, catalog_base=str(tmp_path))
    one = write_shards(plans, tmp_path / "one", factory(build), workers=1, fingerprint="f")
    two = write_shards(plans, tmp_path / "two", factory(build), workers=2, fingerprint="f")
    assert one == two
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert [row.reason for report in one for row in report.skipped] == ["outside"]
    assert len(list((tmp_path / "two").glob("*.tar"))) == 3


def test_a_manifest_of_the_reports_opens_the_shards(dataset: Path) -> None:
    manifest = read_manifest(dataset / "manifest.parquet")
    assert manifest.notes["n_skipped"] == 1
    for name, shard in manifest.notes["shards"].items():
        content = (dataset / SHARDS_FOLDER / name).read_bytes()
        assert shard["nbytes"] == len(content)
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(list((dataset / SHARDS_FOLDER / JOURNAL_FOLDER).iterdir())) == 3


def test_an_unknown_codec_is_refused(tmp_path: Path, tile: Build) -> None:
    with pytest.raises(ShardError, match="codec 'pickle'"):
        write_shards([], tmp_path, factory(tile), codec="pickle")
