"""The whole chain on the tiny planet: what comes out is right, repeatable, and goes on where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds

from geossl_data import pipeline, tables
from geossl_data.bands import MEMBERS, S1_BANDS, S2_MEMBERS
from geossl_data.recipe import EvaluateOptions, FetchOptions, PretrainOptions, SampleOptions, ShardOptions, read_recipe
from geossl_data.records import Pair, Sample
from geossl_data.scenes.journal import JOURNAL_NAME, Journal
from geossl_data.scenes.store import read_scenes
from geossl_data.shards.reading.shards import open_shards

FAST = PretrainOptions(encoder="resnet10", epochs=1, batch_size=16, crop=24, projection_dim=16)


def test_every_pixel_equals_the_scene_it_was_cut_from(built: Path) -> None:
    scenes = {scene.id: scene for scene in read_scenes(built / "scenes.parquet")}
    shards = open_shards(built)
    offsets = set()
    for index, entry in enumerate(shards.entries):
        meta = shards.meta(index)
        look = entry.n_looks - 1
        pixels = shards.read(index, look, [*S2_MEMBERS, "scl", "s1"])
        side = entry.size_px * 10
        bounds = (entry.x, entry.y - side, entry.x + side, entry.y)
        offset = meta["looks"][look]["s2"]["geossl:offset_applied"]
        offsets.add(offset)
        for name in S2_MEMBERS:
            for band, found in zip(MEMBERS[name].bands, pixels[name], strict=True):
                with rasterio.open(scenes[entry.s2_ids[look]].hrefs[band]) as raster:
                    stored = raster.read(1, window=from_bounds(*bounds, raster.transform)).astype(int)
                expected = np.where(stored == 0, 0, np.maximum(stored + offset, 1))
                np.testing.assert_array_equal(found, expected)
        with rasterio.open(scenes[entry.s2_ids[look]].hrefs["SCL"]) as raster:
            np.testing.assert_array_equal(pixels["scl"], raster.read(1, window=from_bounds(*bounds, raster.transform)))
        if meta["looks"][look]["s1"]["geossl:resampling"] == "none":
            for band, found in zip(S1_BANDS, shards.members["s1"].physical(pixels["s1"]), strict=True):
                with rasterio.open(scenes[entry.s1_ids[look]].hrefs[band]) as raster:
                    power = raster.read(
                        1, window=from_bounds(*bounds, raster.transform), boundless=True, fill_value=-32768
                    )
                valid = np.isfinite(found)
                np.testing.assert_array_equal(valid, power > 0)
                np.testing.assert_allclose(found[valid], 10 * np.log10(power[valid]), atol=0.016)
    assert offsets == {0, -1000}


def test_one_and_two_workers_write_the_same_bytes(built: Path, dataset: Path) -> None:
    before = dict(os.environ)
    pipeline.shard(dataset, ShardOptions(shard_mb=1), workers=2, fresh=True)
    assert dict(os.environ) == before
    assert pipeline.digest(dataset) == pipeline.digest(built)


def test_the_same_recipe_replayed_elsewhere_makes_the_same_bytes(
    tmp_path: Path, built: Path, geossl: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = geossl("run", built / "recipe.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    assert pipeline.digest(tmp_path / "again") == pipeline.digest(built)
    for name in ("pairs.parquet", "samples.parquet", "scenes.parquet", "recipe.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (built / name).read_bytes()


def test_a_moved_catalog_makes_the_same_shards_and_manifest(tmp_path: Path, built: Path, planet: Path) -> None:
    recipe = read_recipe(built / "recipe.yaml")
    assert recipe.fetch is not None
    moved = Path(shutil.copytree(planet.parent, tmp_path / "elsewhere")) / planet.name
    pipeline.fetch(tmp_path / "data", recipe.fetch.model_copy(update={"catalog": str(moved)}))
    pipeline.sample(tmp_path / "data", recipe.sample)
    pipeline.shard(tmp_path / "data", recipe.shard)
    assert pipeline.digest(tmp_path / "data") == pipeline.digest(built)


def test_a_stage_that_has_run_does_nothing(dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*.parquet")}
    reports = [pipeline.fetch(dataset), pipeline.sample(dataset), pipeline.shard(dataset)]
    assert [report.fresh for report in reports] == [False, False, False]
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*.parquet")} == before


def test_shards_of_other_samples_are_not_overwritten_unasked(
    dataset: Path, geossl: Callable[..., tuple[int, str, str]]
) -> None:
    assert geossl("sample", dataset, "--seed", 5)[0] == 0
    code, _, err = geossl("shard", dataset)
    assert code == 1
    assert "`geossl shard --fresh` deletes them and starts over" in err
    assert geossl("shard", dataset, "--fresh")[0] == 0


def test_a_shard_that_went_missing_is_cut_again(dataset: Path, built: Path) -> None:
    lost, kept = sorted((dataset / "shards").glob("*.tar"))[:2]
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert pipeline.verify(dataset) != []
    assert pipeline.shard(dataset).fresh
    assert pipeline.digest(dataset) == pipeline.digest(built)
    assert kept.stat().st_mtime_ns == before


def test_the_folder_is_what_the_design_says(built: Path) -> None:
    samples = geopandas.read_parquet(built / "samples.parquet")
    manifest = geopandas.read_parquet(built / "manifest.parquet")
    assert len(samples) == 40
    assert set(manifest["id"]) <= set(samples["key"])
    assert "Contains modified Copernicus Sentinel data [2021" in (built / "LICENSE.txt").read_text()
    assert read_recipe(built / "recipe.yaml").sample is not None
    assert list(built.glob("**/.*.tmp")) == []


def test_labels_travel_with_the_looks(built: Path) -> None:
    shards = open_shards(built)
    assert shards.notes["label_names"]["6"] == "urban"
    for index, look in shards.looks:
        label = shards.read(index, look, ["label"])["label"]
        assert np.bincount(label.ravel()).argmax() == shards.entries[index].labels[look] > 0


def test_pairs_and_looks_belong_together(built: Path) -> None:
    pairs = {(pair.s2_id, pair.s1_id): pair for pair in tables.read_table(built / "pairs.parquet", Pair)}
    for sample in tables.read_table(built / "samples.parquet", Sample):
        for look in sample.looks:
            assert pairs[look.s2_id, look.s1_id].gap_hours == look.gap_hours
            assert abs(look.gap_hours) <= 72


@pytest.mark.parametrize("joint", [False, True])
def test_training_and_probing_run_on_the_shards(dataset: Path, joint: bool) -> None:
    report = pipeline.pretrain(dataset, FAST.model_copy(update={"joint": joint}))
    assert report.fresh
    metrics = [json.loads(line) for line in (dataset / "runs/default/metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in metrics if "loss" in line)
    scores = pipeline.evaluate(dataset, EvaluateOptions(k=5, seeds=1, supervised=False))
    assert scores.table
    own = json.loads((dataset / "runs/default/scores.json").read_text())
    assert (dataset / "runs/default/scores.png").is_file()
    # The same encoders as a folder: judged as somebody else's, without a word in this folder's recipe.
    recipe = (dataset / "recipe.yaml").read_bytes()
    elsewhere = EvaluateOptions(encoder=str(dataset / "runs/default"), k=5, seeds=1, supervised=False)
    report = pipeline.evaluate(dataset, elsewhere)
    assert report.facts["scores"].startswith("evaluations/default-")
    assert json.loads((dataset / report.facts["scores"]).read_text())["scores"] == own["scores"]
    assert (dataset / "recipe.yaml").read_bytes() == recipe
    assert not pipeline.pretrain(dataset).fresh


def stopped_half_way(command: list[str], started: Callable[[], bool], how: signal.Signals) -> int:
    """Run a command and end it with a signal as soon as `started` says so; its exit code."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not started() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        if how is not signal.SIGKILL and process.returncode:
            assert err.decode().strip() == "geossl: interrupted; run the same command again to go on from here"
        return process.returncode


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_shard_run_goes_on_to_the_same_bytes(dataset: Path, built: Path, how: signal.Signals) -> None:
    shutil.rmtree(dataset / "shards")
    (dataset / "manifest.parquet").unlink()
    command = [sys.executable, "-m", "geossl_cli.app", "shard", str(dataset)]
    first = dataset / "shards" / "train-000000.tar"
    journal = dataset / "shards" / ".journal" / "train-000000.json"
    code = stopped_half_way(command, journal.exists, how)
    assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 1}[how]
    assert not (dataset / "manifest.parquet").exists()
    written = first.stat().st_mtime_ns
    assert pipeline.shard(dataset).fresh
    assert first.stat().st_mtime_ns == written
    assert pipeline.digest(dataset) == pipeline.digest(built)
    assert list(dataset.glob("**/.*.tmp")) == []


TRAINING = PretrainOptions(encoder="resnet10", epochs=2, batch_size=16, crop=24, run="whole")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """A dataset with a run that nothing stopped."""
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("trained") / "data"))
    pipeline.pretrain(folder, TRAINING)
    return folder


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_stopped_training_goes_on_to_the_same_numbers(
    dataset: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # sums depend on how they are cut
    options = ["--encoder", "resnet10", "--epochs", "2", "--batch-size", "16", "--crop", "24", "--run", "stopped"]
    command = [sys.executable, "-m", "geossl_cli.app", "pretrain", str(dataset), *options]
    run = dataset / "runs" / "stopped"
    assert stopped_half_way(command, (run / "checkpoints" / "last.pt").exists, signal.SIGTERM) == 143
    assert not (run / "exported" / "s2.safetensors").exists()
    assert pipeline.pretrain(dataset, TRAINING.model_copy(update={"run": "stopped"})).fresh
    whole = trained / "runs" / "whole"
    assert (run / "exported/s2.safetensors").read_bytes() == (whole / "exported/s2.safetensors").read_bytes()
    assert losses(run) == losses(whole)


def test_two_processes_of_torchrun_train_together(dataset: Path, trained: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    options = ["--encoder", "resnet10", "--epochs", "1", "--batch-size", "16", "--crop", "24", "--json"]
    done = subprocess.run(
        [*command, "geossl_cli.app", "pretrain", str(dataset), *options],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (line,) = done.stdout.splitlines()  # one of them speaks
    facts = json.loads(line)["facts"]
    assert (facts["device"], facts["batch size"]) == ("2 × cpu", 16)
    first = losses(dataset / "runs" / "default")[0]
    assert first == pytest.approx(losses(trained / "runs" / "whole")[0], rel=1e-3)


def test_what_can_be_long_says_how_long(tmp_path: Path, planet: Path) -> None:
    """Tasks of which the end is known get there, each step counted once."""
    totals: dict[str, float | None] = {}
    steps: defaultdict[str, float] = defaultdict(float)

    class Task:
        def __init__(self, name: str) -> None:
            self.name = name

        def advance(self, steps_done: float = 1, note: str | None = None) -> None:
            steps[self.name] += steps_done

    @contextmanager
    def progress(description: str, total: float | None = None) -> Iterator[Task]:
        assert description not in totals
        totals[description] = total
        yield Task(description)

    folder = tmp_path / "data"
    pipeline.fetch(folder, FetchOptions(catalog=str(planet), max_cloud=60), progress=progress)
    options = SampleOptions(size=60, looks="seasons", block_km=1.0, count=40)
    pipeline.sample(folder, options, progress=progress)
    known = {name: total for name, total in totals.items() if total is not None}
    assert known.keys() >= {
        *("reading the catalog", "writing pairs", "reading pairs", "reading scenes"),
        *("finding candidates", "choosing looks", "writing samples"),
    }
    assert {name: steps[name] for name in known} == known
    assert known["reading pairs"] == known["writing pairs"] > 0
    assert known["reading the catalog"] > known["reading scenes"] > 0


@pytest.mark.parametrize("killed", ["before", "while emptying", "after the marker"])
def test_the_journal_of_a_search_that_was_killed_at_the_very_end_goes(dataset: Path, killed: str) -> None:
    """Emptying a folder changes its own time, so that it seems to be newer than what was written before."""
    journal = dataset / JOURNAL_NAME
    Journal(journal, "the search")
    before = (dataset / "pairs.parquet").stat().st_mtime - 1
    if killed == "after the marker":
        (journal / "query").unlink()
    else:
        os.utime(journal / "query", (before, before))
    if killed == "before":
        (journal / "answer.json.gz").write_bytes(b"")
        os.utime(journal, (before, before))
    assert not pipeline.fetch(dataset).fresh
    assert not journal.exists()


def test_the_journal_of_a_search_begun_since_stays(dataset: Path) -> None:
    journal = dataset / JOURNAL_NAME
    Journal(journal, "another search")
    since = (dataset / "pairs.parquet").stat().st_mtime + 1
    os.utime(journal / "query", (since, since))
    assert not pipeline.fetch(dataset).fresh
    assert journal.exists()
    shutil.rmtree(journal)


def test_a_catalog_that_changed_is_fetched_again(tmp_path: Path, planet: Path) -> None:
    import pyarrow.parquet as pq

    copy = tmp_path / "planet" / "catalog.parquet"
    shutil.copytree(planet.parent, copy.parent)
    options = FetchOptions(catalog=str(copy), max_cloud=100)
    first = pipeline.fetch(tmp_path / "data", options)
    table = pq.read_table(copy)
    pq.write_table(table.slice(0, len(table) - 1), copy)
    second = pipeline.fetch(tmp_path / "data", options)
    assert (first.fresh, second.fresh) == (True, True)
    assert not pipeline.fetch(tmp_path / "data", options).fresh
