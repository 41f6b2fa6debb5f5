"""Shards are whole or absent, the same every time, and go on where they were cut off."""

import gc
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import CatalogError, ReadError, ShardError, StorageError
from geossl_data.records import Sample
from geossl_data.shards.manifest import SHARDS_FOLDER
from geossl_data.shards.reading.shards import open_shards
from geossl_data.shards.secrets import SECRET_PATTERN
from geossl_data.shards.writing.journal import finished
from geossl_data.shards.writing.plan import ShardPlan, plan_shards
from geossl_data.shards.writing.report import manifest_notes
from geossl_data.shards.writing.writer import write_shard, write_shards
from geossl_data.tiles.build import Tile

Contents = Callable[[Callable[[Sample], Tile]], Callable[[Sample], Any]]
Make = Callable[..., Sample]
Build = Callable[[Sample], Tile]
Hashes = Callable[[Path], dict[str, str]]
Factory = Callable[[Build], Callable[[Sequence[Sample]], Any]]


def test_a_shard_is_a_plain_tar_with_each_sample_in_one_piece(
    contents: Contents, tmp_path: Path, sample: Make, tile: Build
) -> None:
    (plan,) = plan_shards([sample(number) for number in range(3)], shard_mb=1, seed=0)
    report = write_shard(plan, tmp_path, contents(tile))
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        infos = tar.getmembers()
        json_text = tar.extractfile(infos[0]).read().decode()
    expected = []
    for chosen in plan.samples:
        names = ["s2_10m", "s2_20m", "s2_60m", "scl", "s1"]
        names += ["label"] if int(chosen.key[-3:]) % 3 else []
        expected += [f"{chosen.key}.json", *(f"{chosen.key}.{look}.{name}.blosc" for look in (0, 1) for name in names)]
    assert [info.name for info in infos] == expected
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} == {(0, 0, 0, "", "", 0o644)}
    assert json_text == json.dumps(json.loads(json_text), sort_keys=True)
    assert report.nbytes == (tmp_path / "train-000000.tar").stat().st_size
    assert [entry.offset for entry in report.entries] == [
        next(info.offset for info in infos if info.name == f"{chosen.key}.json") for chosen in plan.samples
    ]
    assert report.entries[-1].offset + report.entries[-1].nbytes == report.nbytes - 1024


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_plain_webdataset_reads_the_shards(tmp_path: Path, sample: Make, write_dataset: Callable[..., Any]) -> None:
    webdataset = pytest.importorskip("webdataset")
    write_dataset(tmp_path, [sample(number) for number in range(4)], codec="npy")
    with open_shards(tmp_path, "train") as shards:
        url = str(tmp_path / SHARDS_FOLDER / "train-000000.tar")
        found = list(webdataset.WebDataset(url, shardshuffle=False).decode())
        gc.collect()
        assert [read["__key__"] for read in found] == [entry.key for entry in shards.entries]
        for index, read in enumerate(found):
            assert read["json"] == shards.meta(index)
            for look in (0, 1):
                for name, array in shards.read(index, look, shards.entries[index].members[look]).items():
                    np.testing.assert_array_equal(read[f"{look}.{name}.npy"], array)


def test_a_sample_that_cannot_be_built_is_skipped_with_its_reason(
    contents: Contents, tmp_path: Path, sample: Make, tile: Build
) -> None:
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
    report = write_shard(plan, tmp_path, contents(build))
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


def test_a_shard_without_samples_is_no_file(tmp_path: Path, sample: Make, tile: Build, factory: Factory) -> None:
    plans = plan_shards([sample(7)], shard_mb=1, seed=0)
    (tmp_path / "train-000000.tar").write_bytes(b"old")
    (report,) = write_shards(plans, tmp_path, factory(tile), fingerprint="f")
    assert (report.nbytes, report.entries, len(report.skipped)) == (0, (), 1)
    assert not list(tmp_path.glob("*.tar"))
    assert finished(tmp_path, plans[0], "f") == report
    with pytest.raises(ShardError, match="no sample was written"):
        manifest_notes([report], fingerprint="f", codec="blosc")


def test_secrets_are_recognised_and_ordinary_addresses_are_not() -> None:
    secret = ["https://h/a.tif?sv=1&sig=x", "https://h/a?X-Amz-Signature=1", "https://u:p@h/a", "https://h/a?token=1"]
    plain = ["https://h/a.tif", "./s2/B02.tif", "s3://bucket/a.tif?versionId=1", "12:30 me@host"]
    assert [bool(SECRET_PATTERN.search(text)) for text in secret + plain] == [True] * 4 + [False] * 4


def test_the_same_call_gives_the_same_bytes(
    tmp_path: Path, tile: Build, plans: list[ShardPlan], hashes: Hashes, factory: Factory
) -> None:
    assert len(plans) > 2
    first = write_shards(plans, tmp_path / "a", factory(tile), fingerprint="f")
    second = write_shards(plans, tmp_path / "b", factory(tile), fingerprint="f")
    assert first == second
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_a_run_goes_on_where_it_was_cut_off(
    tmp_path: Path, tile: Build, plans: list[ShardPlan], hashes: Hashes, factory: Factory
) -> None:
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


KILLED = """
import os, signal, sys
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("shards_conftest", sys.argv[1])
made = importlib.util.module_from_spec(spec)
sys.modules["shards_conftest"] = made
spec.loader.exec_module(made)
from geossl_data.shards.writing.plan import plan_shards
from geossl_data.shards.writing.writer import write_shards
samples = [made.make_sample(n, "train" if n % 4 else "val", size_px=60, n_looks=4) for n in range(24)]
count = 0
def build(sample):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return made.make_tile(sample)
plans = plan_shards(samples, shard_mb=1, seed=0)
write_shards(plans, Path(sys.argv[2]), made.make_factory(build), fingerprint="f")
"""


def test_a_killed_run_leaves_nothing_half_and_resumes_to_the_same_bytes(
    tmp_path: Path, tile: Build, plans: list[ShardPlan], hashes: Hashes, factory: Factory
) -> None:
    write_shards(plans, tmp_path / "whole", factory(tile), fingerprint="f")
    conftest = str(Path(__file__).parents[1] / "conftest.py")
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


def test_a_full_disk_stops_the_run_and_leaves_no_shard(
    tmp_path: Path, tile: Build, plans: list[ShardPlan], hashes: Hashes, factory: Factory
) -> None:
    conftest = str(Path(__file__).parents[1] / "conftest.py")
    arguments = [sys.executable, "-W", "ignore", "-B", "-c", FULL, conftest, str(tmp_path / "full"), "0"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "StorageError" in done.stderr.splitlines()[-1]
    assert "no space left" in done.stderr.splitlines()[-1]
    assert hashes(tmp_path / "full") == {}
    for name in ("full", "whole"):
        write_shards(plans, tmp_path / name, factory(tile), fingerprint="f")
    assert hashes(tmp_path / "full") == hashes(tmp_path / "whole")


def test_a_full_disk_noticed_while_building_is_not_a_skipped_sample(
    tmp_path: Path, sample: Make, factory: Factory
) -> None:
    def build(_: Sample) -> Tile:
        raise StorageError("no space left")

    with pytest.raises(StorageError, match="no space"):
        write_shards(plan_shards([sample(1)], shard_mb=1, seed=0), tmp_path, factory(build))


def test_progress_counts_every_sample_once_also_when_resuming(
    tmp_path: Path, tile: Build, plans: list[ShardPlan], factory: Factory
) -> None:
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
        write_shards(plans, tmp_path, factory(tile), progress=progress)
        assert sum(seen) == 24
    assert notes[-1] == "2 skipped"


def test_an_unknown_codec_is_refused(tmp_path: Path, tile: Build, factory: Factory) -> None:
    with pytest.raises(ShardError, match="codec 'pickle'"):
        write_shards([], tmp_path, factory(tile), codec="pickle")
