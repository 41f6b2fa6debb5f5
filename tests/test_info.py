"""What a folder is said to hold: every state of every stage, from whole files, damaged ones and none."""

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data import pipeline, tables
from geossl_data.errors import DatasetError
from geossl_data.files import exclusive
from geossl_data.pipeline import Info, StageInfo, info
from geossl_data.pipeline._folder import fingerprint_of
from geossl_data.pipeline._run_info import checkpoint_options, last_line
from geossl_data.recipe import (
    PlacesOptions,
    PretrainOptions,
    Recipe,
    ShardOptions,
    read_recipe,
    write_recipe,
)
from geossl_data.records import Sample, Skipped

Command = Callable[..., tuple[int, str, str]]


def states(found: Info) -> dict[str, str]:
    return {stage.stage: stage.state for stage in found.stages}


def stage_of(found: Info, name: str) -> StageInfo:
    return next(stage for stage in found.stages if stage.stage == name)


def make_run(folder: Path, name: str = "default", *, shards: str | None = None, finished: bool = True) -> Path:
    """A run as training leaves it, with tensors of a few bytes."""
    import torch

    from geossl_data.pretrain.checkpoint import CHECKPOINT_NAME, Checkpoint, save_checkpoint

    options = {"objective": "infonce", "encoder": "resnet18", "epochs": 3, "temperature": None, "shards": shards or ""}
    run = folder / "runs" / name
    state = {"weight": torch.zeros(2)}
    last = Checkpoint(options=options, step=4, loader={"epoch": 2}, model=state, optimizer={"state": {}})
    save_checkpoint(run / CHECKPOINT_NAME, last)
    lines = [json.dumps({"step": step, "epoch": step // 2, "loss": 1.0}) for step in range(4)]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "epo']))
    if finished:
        (run / "exported").mkdir()
        (run / "exported" / "s2.safetensors").write_bytes(bytes(8))
    return run


# ------------------------------------------------------------------------------------------------ stages


def test_what_a_dataset_holds_and_nothing_is_touched(built: Path) -> None:
    before = {path: path.stat() for path in sorted(built.rglob("*"))}
    found = info(built)
    assert {path: path.stat() for path in sorted(built.rglob("*"))} == before
    assert states(found) == {"fetch": "done", "sample": "done", "shard": "done"}
    samples = tables.read_table(built / "samples.parquet", Sample)
    assert stage_of(found, "sample").holds == {
        "places": 40,
        **{split: sum(sample.split == split for sample in samples) for split in ("train", "val", "test")},
    }
    facts = pipeline.shard(built).facts
    assert stage_of(found, "shard").holds == {
        "places": facts["places written"],
        "looks": facts["looks"],
        "shards": facts["shards"],
    }
    assert found.nbytes == sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
    assert found.cache_nbytes == (built / "headers.sqlite").stat().st_size
    assert (found.busy, found.remarks) == (None, ())
    assert found.next == ("geossl verify", "geossl pretrain")


def test_what_was_skipped_is_counted_by_stage(dataset: Path) -> None:
    rows = [Skipped(stage="shard", id=str(number), reason="read-failed", detail="") for number in range(3)]
    tables.write_table(dataset / "skipped.parquet", rows, Skipped)
    found = info(dataset)
    assert [dict(stage.skipped) for stage in found.stages] == [{}, {}, {"read-failed": 3}]
    assert "3 skipped" in found.report().table[-1][2]


def test_a_stage_is_stale_where_the_recipe_says_otherwise_and_so_is_what_follows(dataset: Path) -> None:
    recipe = read_recipe(dataset / "recipe.yaml")
    assert recipe.sample is not None
    write_recipe(dataset / "recipe.yaml", recipe.with_section(recipe.sample.model_copy(update={"count": 20})))
    found = info(dataset)
    assert states(found) == {"fetch": "done", "sample": "stale", "shard": "stale"}
    assert stage_of(found, "shard").remark == "sample is stale"
    assert found.next == ("geossl sample",)
    write_recipe(dataset / "recipe.yaml", recipe.with_section(ShardOptions(shard_mb=2)))
    found = info(dataset)
    assert states(found) == {"fetch": "done", "sample": "done", "shard": "stale"}
    assert found.next == ("geossl shard --fresh",)


def test_a_changed_catalog_makes_all_stale(dataset: Path, planet: Path, tmp_path: Path) -> None:
    recipe = dataset / "recipe.yaml"
    copy = tmp_path / "catalog.parquet"
    shutil.copy(planet, copy)
    recipe.write_text(recipe.read_text().replace(str(planet.resolve()), str(copy)))
    assert set(states(info(dataset)).values()) == {"done"}
    copy.write_bytes(copy.read_bytes() + b"more")
    assert set(states(info(dataset)).values()) == {"stale"}
    copy.unlink()
    found = info(dataset)
    assert set(states(found).values()) == {"done"}
    assert stage_of(found, "fetch").remark == f"{copy} is not there any more"


def test_shards_that_are_missing_or_cut_short(dataset: Path) -> None:
    first = min((dataset / "shards").glob("*.tar"))
    first.write_bytes(first.read_bytes()[:-512])
    found = info(dataset)
    assert states(found)["shard"] == "unfinished"
    assert stage_of(found, "shard").remark == f"1 shards are missing or cut short, {first.name} first"
    assert found.next == ("geossl shard",)
    (dataset / "manifest.parquet").unlink()
    found = info(dataset)
    assert states(found)["shard"] == "unfinished"
    assert stage_of(found, "shard").holds == {"shards": len(list((dataset / "shards" / ".journal").glob("*.json")))}
    shutil.rmtree(dataset / "shards")
    assert states(info(dataset))["shard"] == "missing"


def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".search").mkdir()
    (tmp_path / ".search" / "one.json.gz").write_bytes(gzip.compress(b"{}"))
    found = info(tmp_path)
    assert states(found) == {"fetch": "unfinished", "sample": "missing", "shard": "missing"}
    assert stage_of(found, "fetch").remark == "a search was interrupted after 1 answers"
    assert found.next == ("geossl fetch",)


def test_places_come_first_where_there_are_some(tmp_path: Path) -> None:
    options = PlacesOptions(count=4, bbox=(5.0, 45.0, 10.0, 48.0))
    pipeline.draw_places(tmp_path, options)
    found = info(tmp_path)
    assert states(found) == {"places": "done", "fetch": "missing", "sample": "missing", "shard": "missing"}
    assert stage_of(found, "places").holds["places"] == 4
    assert found.next == ("geossl fetch --places … --from … --to …",)
    write_recipe(
        tmp_path / "recipe.yaml",
        read_recipe(tmp_path / "recipe.yaml").with_section(options.model_copy(update={"count": 5})),
    )
    assert states(info(tmp_path))["places"] == "stale"


def test_a_dataset_from_elsewhere_misses_nothing(dataset: Path) -> None:
    for name in ("scenes.parquet", "pairs.parquet", "samples.parquet", "recipe.yaml"):
        (dataset / name).unlink()
    found = info(dataset)
    assert (states(found), found.version) == ({"shard": "done"}, None)
    assert found.next == ("geossl verify", "geossl pretrain")


def test_own_rasters_have_neither_fetch_nor_sample(tmp_path: Path) -> None:
    write_recipe(tmp_path / "recipe.yaml", Recipe().with_section(ShardOptions(from_table="table.csv")))
    found = info(tmp_path)
    assert (states(found), found.next) == ({"shard": "missing"}, ("geossl shard",))


# ------------------------------------------------------------------------------------------------ damage


def test_damage_is_told_and_hides_nothing_else(dataset: Path) -> None:
    (dataset / "samples.parquet").write_bytes(b"PAR1 no table PAR1")
    found = info(dataset)
    assert states(found) == {"fetch": "done", "sample": "unreadable", "shard": "unreadable"}
    assert "samples.parquet: not a readable Parquet table" in stage_of(found, "sample").remark
    assert found.next == ("geossl sample --fresh",)


def test_a_recipe_that_cannot_be_read_is_told(dataset: Path) -> None:
    (dataset / "recipe.yaml").write_text("sample:\n  sise: 96\n")
    found = info(dataset)
    assert set(states(found).values()) == {"done"}
    assert "unknown key 'sample.sise'" in found.remarks[0]


def test_what_a_killed_process_left_is_told(dataset: Path) -> None:
    (dataset / ".pairs.parquet.77.tmp").write_text("")
    assert "1 files were left by a process that did not end" in info(dataset).remarks[0]


def test_a_folder_that_is_worked_on(dataset: Path) -> None:
    if not Path("/proc/locks").is_file():
        pytest.skip("no /proc/locks: only Linux tells who holds a lock")
    with exclusive(dataset):
        found = info(dataset)
        assert (found.busy, found.next) == (os.getpid(), ())
        assert found.report().facts["at work"] == f"process {os.getpid()}"
    assert info(dataset).busy is None


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a geossl dataset"):
        info(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        info(tmp_path / "absent")


# ------------------------------------------------------------------------------------------------ runs


def test_runs_without_torch_by_their_files(dataset: Path) -> None:
    shards = fingerprint_of(dataset / "manifest.parquet")
    make_run(dataset, shards=shards)
    make_run(dataset, "second", shards=shards, finished=False)
    found = info(dataset)
    assert states(found)["pretrain default"] == "done"
    assert stage_of(found, "pretrain default").holds == {"steps": 4, "epochs": 2, "encoders": 1}
    second = stage_of(found, "pretrain second")
    assert (second.state, second.remark) == ("unfinished", "interrupted, or under way, in epoch 2 of 3")
    assert found.next == ("geossl pretrain --run second",)
    shutil.rmtree(dataset / "runs" / "second")
    assert info(dataset).next == ("geossl evaluate",)


def test_a_run_on_other_shards_is_stale_and_so_are_its_scores(dataset: Path) -> None:
    run = make_run(dataset, shards="0123456789abcdef")
    (run / "scores.json").write_text(json.dumps({"scores": [{}, {}], "facts": {"shards": "0123456789abcdef"}}))
    found = info(dataset)
    assert stage_of(found, "pretrain default").remark == "trained on other shards than those here"
    judged = stage_of(found, "evaluate default")
    assert (judged.state, judged.holds) == ("stale", {"scores": 2})
    assert found.next == ("geossl pretrain --fresh",)


def test_a_run_that_the_recipe_has_other_options_for(dataset: Path) -> None:
    make_run(dataset, shards=fingerprint_of(dataset / "manifest.parquet"))
    path = dataset / "recipe.yaml"
    write_recipe(path, read_recipe(path).with_section(PretrainOptions(epochs=3, device="cpu")))
    assert states(info(dataset))["pretrain default"] == "done"
    write_recipe(path, read_recipe(path).with_section(PretrainOptions(epochs=9)))
    assert stage_of(info(dataset), "pretrain default").remark == "recipe.yaml has another epochs"


def test_scores_of_elsewhere_and_damaged_ones(dataset: Path) -> None:
    here = fingerprint_of(dataset / "manifest.parquet")
    for name, text in (("good-1", json.dumps({"scores": [{}], "facts": {"shards": here}})), ("bad-2", "[]")):
        (dataset / "evaluations" / name).mkdir(parents=True)
        (dataset / "evaluations" / name / "scores.json").write_text(text)
    found = info(dataset)
    assert (states(found)["evaluate good-1"], states(found)["evaluate bad-2"]) == ("done", "unreadable")


def test_a_damaged_checkpoint_is_told(dataset: Path) -> None:
    run = make_run(dataset)
    (run / "checkpoints" / "last.pt").write_bytes(b"PK no zip")
    found = stage_of(info(dataset), "pretrain default")
    assert (found.state, found.command) == ("unreadable", "pretrain --fresh")


@settings(max_examples=40)
@given(cut=st.integers(0, 4000), new=st.binary(max_size=6))
def test_a_changed_checkpoint_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, new: bytes
) -> None:
    folder = Path(tmp_path_factory.getbasetemp()) / "checkpoint"
    path = folder / "runs" / "default" / "checkpoints" / "last.pt"
    if not path.is_file():
        make_run(folder)
    data = path.read_bytes()
    at = cut % len(data)
    changed = folder / "changed.pt"
    changed.write_bytes(data[:at] + new + data[at + len(new) :])
    with contextlib.suppress(DatasetError):
        assert isinstance(checkpoint_options(changed), dict)


def test_the_last_whole_line_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_line(path) == {}
    for text, expected in (
        ("", {}),
        ('{"step": 0}\n{"step": 1}\n', {"step": 1}),
        ('{"step": 0}\n{"step": 1', {"step": 0}),
        ('{"step": 0}\nnonsense\n[1]\n', {"step": 0}),
    ):
        path.write_text(text)
        assert last_line(path) == expected


# ------------------------------------------------------------------------------------------------ shown


def test_the_command(geossl: Command, dataset: Path) -> None:
    code, out, err = geossl("info", dataset)
    assert (code, err) == (0, "")
    assert out.startswith("info\n  written by")
    assert f"  geossl pretrain {dataset}\n" in out
    code, out, _ = geossl("-q", "info", dataset, "--json")
    told = json.loads(out)
    assert (told["stage"], told["busy"], told["next"]) == ("info", None, ["geossl verify", "geossl pretrain"])
    assert [(stage["stage"], stage["state"]) for stage in told["stages"]] == [
        ("fetch", "done"), ("sample", "done"), ("shard", "done"),
    ]  # fmt: skip
    assert told["stages"][2]["holds"]["places"] == 40
    assert geossl("-q", "info", dataset)[1].startswith("info\n")
