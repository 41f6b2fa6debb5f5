"""Broken rasters and full disks, through the real commands: reasons on record, nothing half-written."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from geossl_data import pipeline, tables
from geossl_data.records import Sample, Skipped
from geossl_data.shards.manifest import read_manifest

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sampled(tmp_path: Path, planet: Path, geossl: Command) -> Path:
    """A dataset of single looks on a planet of the test's own, before `shard`; the planet lies beside it."""
    shutil.copytree(planet.parent, tmp_path / "planet")
    folder = tmp_path / "data"
    assert geossl("fetch", folder, "--catalog", tmp_path / "planet" / planet.name)[0] == 0
    assert geossl("sample", folder, "--size", 60, "--count", 12)[0] == 0
    return folder


def first_scene(folder: Path) -> tuple[str, int]:
    """The Sentinel-2 scene of the first sample, and how many samples need it."""
    samples = tables.read_table(folder / "samples.parquet", Sample)
    scene = samples[0].looks[0].s2_id
    return scene, sum(sample.looks[0].s2_id == scene for sample in samples)


def shard_reasons(folder: Path) -> dict[str, int]:
    rows = [row for row in tables.read_table(folder / "skipped.parquet", Skipped) if row.stage == "shard"]
    return {reason: sum(row.reason == reason for row in rows) for reason in {row.reason for row in rows}}


def damage(path: Path, how: str) -> None:
    match how:
        case "absent":
            path.unlink()
        case "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "html":
            path.write_text("<html><body>503 Service Unavailable</body></html>")
        case "vrt":
            path.write_text(
                '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="UInt16" band="1"/></VRTDataset>'
            )


def without_spares(folder: Path) -> None:
    """Leave a dataset's samples nothing but their looks."""
    samples = tables.read_table(folder / "samples.parquet", Sample)
    notes = tables.read_metadata(folder / "samples.parquet")
    bare = [replace(sample, spares=()) for sample in samples]
    tables.write_table(folder / "samples.parquet", bare, Sample, metadata=notes)


@pytest.mark.parametrize("how", ["absent", "truncated", "html", "vrt"])
def test_a_broken_band_costs_its_samples_and_no_others(sampled: Path, geossl: Command, how: str) -> None:
    scene, needed = first_scene(sampled)
    (raster,) = (sampled.parent / "planet").rglob(f"{scene}/B11.tif")
    damage(raster, how)
    without_spares(sampled)
    code, _, err = geossl("shard", sampled)
    assert code == 0, err
    assert sum(shard_reasons(sampled).values()) == needed
    assert set(shard_reasons(sampled)) <= {"read-failed", "not-geotiff"}
    manifest = read_manifest(sampled / "manifest.parquet")
    assert len(manifest.entries) == 12 - needed
    assert scene not in {look for entry in manifest.entries for look in entry.s2_ids}
    assert geossl("verify", sampled, "--deep")[0] == 0


def test_1_30_the_next_best_pair_is_taken_where_a_band_is_gone(sampled: Path, geossl: Command) -> None:
    scene, needed = first_scene(sampled)
    (raster,) = (sampled.parent / "planet").rglob(f"{scene}/B11.tif")
    raster.unlink()
    samples = {sample.key: sample for sample in tables.read_table(sampled / "samples.parquet", Sample)}
    with_spares = [sample for sample in samples.values() if sample.looks[0].s2_id == scene and sample.spares[0]]
    assert with_spares
    code, out, err = geossl("shard", sampled)
    assert code == 0, err
    assert sum(shard_reasons(sampled).values()) == needed - len(with_spares)
    assert f"looks replaced by the next best pair {len(with_spares)}" in " ".join(out.split())
    entries = {entry.key: entry for entry in read_manifest(sampled / "manifest.parquet").entries}
    for sample in with_spares:
        assert entries[sample.key].s2_ids[0] in {spare.s2_id for spare in sample.spares[0]}
    unharmed = [key for key, sample in samples.items() if sample.looks[0].s2_id != scene]
    assert all(entries[key].s2_ids == (samples[key].looks[0].s2_id,) for key in unharmed)
    assert geossl("verify", sampled, "--deep")[0] == 0


def test_nothing_readable_is_one_clear_line_and_no_manifest(sampled: Path, geossl: Command) -> None:
    for raster in (sampled.parent / "planet").rglob("B03.tif"):
        raster.unlink()
    code, out, err = geossl("shard", sampled)
    assert (code, out) == (1, "")
    assert "all 12 samples were skipped, most for read-failed" in err
    assert not (sampled / "manifest.parquet").exists()


def test_a_place_outside_the_data_is_skipped_with_that_reason(sampled: Path, geossl: Command) -> None:
    samples = tables.read_table(sampled / "samples.parquet", Sample)
    moved = replace(samples[0], place=replace(samples[0].place, x=samples[0].place.x + 60_000))
    notes = tables.read_metadata(sampled / "samples.parquet")
    tables.write_table(sampled / "samples.parquet", [moved, *samples[1:]], Sample, metadata=notes)
    assert geossl("shard", sampled)[0] == 0
    assert shard_reasons(sampled) == {"outside": 1}


def limited(folder: Path, nbytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `geossl` where no file may grow beyond `nbytes`, as on a full disk."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))

    command = [sys.executable, "-m", "geossl_cli.app", *map(str, arguments)]
    # Python would keep the compiled modules that do not fit cut short, and no later process could import them.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, env=env, check=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_clear_line_and_the_next_run_goes_on(sampled: Path, geossl: Command, workers: int) -> None:
    full = limited(sampled, 100_000, "shard", sampled, "--workers", workers)
    assert full.returncode == 1
    assert "no space left" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    assert list((sampled / "shards").glob("*.tar")) == []
    assert not (sampled / "manifest.parquet").exists()
    assert geossl("shard", sampled)[0] == 0
    assert len(read_manifest(sampled / "manifest.parquet").entries) == 12


def test_a_full_disk_while_fetching_leaves_no_dataset(tmp_path: Path, planet: Path) -> None:
    full = limited(tmp_path, 2_000, "fetch", tmp_path / "d", "--catalog", planet)
    assert full.returncode == 1
    assert "no space left" in full.stderr
    assert not (tmp_path / "d").exists()


def test_a_full_disk_while_training_is_one_clear_line(dataset: Path) -> None:
    options = ["--encoder", "resnet10", "--epochs", 1, "--batch-size", 16, "--crop", 48]
    full = limited(dataset, 1_000_000, "pretrain", dataset, *options)
    assert full.returncode == 1
    assert "last.pt: no space left" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    assert list((dataset / "runs/default/checkpoints").iterdir()) == []


def test_a_file_where_a_folder_belongs_is_one_clear_line(tmp_path: Path, geossl: Command) -> None:
    (tmp_path / "file").write_text("")
    for command in (["sandbox", tmp_path / "file"], ["demo", tmp_path / "file"]):
        code, _, err = geossl(*command)
        assert code == 1
        assert err.count("\n") == 1
        assert str(tmp_path / "file") in err


def test_no_secret_reaches_a_file(sampled: Path, geossl: Command) -> None:
    assert geossl("shard", sampled)[0] == 0
    assert pipeline.verify(sampled) == []
    for path in sampled.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"sig=" not in content
            assert b"X-Amz-" not in content
