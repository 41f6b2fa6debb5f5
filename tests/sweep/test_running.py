"""Whole sweeps, of cells that take no time: what is run, what is left alone, what is written."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep.small import FAILS, STUMBLES, fake_cell, fake_dataset, run_here, spec_of

from geossl_data.errors import DatasetError
from geossl_data.pipeline import Report
from geossl_data.sweep import running
from geossl_data.sweep.cells import Cell, sweep_of
from geossl_data.sweep.differences import compare
from geossl_data.sweep.folders import STATE, draw_from, look_into, state_of
from geossl_data.sweep.running import plan_sweep, run_sweep
from geossl_data.sweep.table import finished_cells

GRID: dict[str, Any] = {"pretrain.objective": ["infonce", "moco"], "seed": [0, 1]}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Runs a spec in `tmp_path`/out with stand-ins, in this process; pictured: whether its picture is drawn."""
    monkeypatch.setattr(running, "run_jobs", run_here)

    def run(run_cell: Callable[..., None] = fake_cell, *, pictured: bool = False, **content: Any) -> Report:
        path = spec_of(tmp_path / "spec.yaml", **content)
        if not pictured:
            monkeypatch.setattr(running, "picture_sweep", lambda path, main: None)
        return run_sweep(path, tmp_path / "out", make_dataset=fake_dataset, run_cell=run_cell)

    return run


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def runs_of(out: Path) -> dict[str, int]:
    """How often each cell was run."""
    return {path.parent.name: len(path.read_text().split()) for path in sorted(out.glob("cells/*/runs.txt"))}


def test_a_sweep_writes_a_tidy_table_and_a_picture(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    report = sweep(pictured=True, grid=GRID, arms={"plain": {}, "colour": {"pretrain.gain": 0.2}})
    assert report.facts["cells"] == report.facts["run now"] == 8
    assert "failed" not in report.facts
    rows = rows_of(tmp_path / "out" / "sweep.csv")
    assert len(rows) == 8 * 5
    assert list(rows[0]) == [
        *("cell", "arm", "pretrain.objective", "seed", "pretrain.gain"),
        *("task", "features", "encoder", "probe", "metric", "fraction", "value", "low", "high", "seeds"),
        *("n_train", "n_test", "items", "steps", "seconds"),
    ]
    first, undefined = rows[0], rows[4]
    assert (first["cell"], first["arm"], first["pretrain.gain"]) == ("plain_objective-infonce_seed-0", "plain", "0.0")
    assert (first["value"], first["low"], first["items"], first["seconds"]) == ("0.6", "0.55", "30", "1.5")
    assert (undefined["metric"], undefined["value"]) == ("F1", "")
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out" / "failed.csv").exists()
    first_line = dict(zip(*report.table[:2], strict=True))
    assert (first_line["group"], first_line["cells"]) == ("plain · infonce", "2")
    assert first_line["trained"].startswith("0.605 (0.5")
    assert (first_line["random"], first_line["supervised"]) == ("0.300", "0.900")
    assert len(list((tmp_path / "out" / "datasets").iterdir())) == 1


def test_the_same_spec_gives_the_same_bytes(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    found = []
    for _ in range(2):
        sweep(pictured=True, grid={"seed": [0, 1]})
        found.append([(tmp_path / "out" / name).read_bytes() for name in ("sweep.csv", "sweep.png")])
        shutil.rmtree(tmp_path / "out")
    assert found[0] == found[1]


def test_what_is_done_is_left_alone(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    out = tmp_path / "out"
    sweep(grid=GRID)
    report = sweep(grid=GRID)
    assert (report.fresh, report.facts["run now"], report.facts["done before"]) == (False, 0, 4)
    report = sweep(grid=GRID | {"seed": [0, 1, 2]})
    assert (report.fresh, report.facts["run now"], report.facts["done before"]) == (True, 2, 4)
    assert set(runs_of(out).values()) == {1}


def test_other_ways_of_judging_are_applied_to_what_was_trained(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    sweep(grid=GRID)
    report = sweep(grid=GRID, base={"evaluate": {"k": 5}})
    assert report.facts["run now"] == 4
    assert set(runs_of(tmp_path / "out").values()) == {2}
    assert sweep(grid=GRID, base={"evaluate": {"k": 5, "device": "cpu"}}).facts["run now"] == 0


def test_cells_trained_otherwise_are_refused_and_kept(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    sweep(grid=GRID)
    with pytest.raises(DatasetError, match=r"seed-0: was trained with epochs 20, now 5 \(3 more cells differ too\)"):
        sweep(grid=GRID, base={"pretrain": {"epochs": 5}})
    with pytest.raises(DatasetError, match="was trained on other places"):
        sweep(grid=GRID, base={"sample": {"count": 5}})
    assert sweep(grid=GRID, base={"pretrain": {"device": "cpu", "checkpoint_every": 3}}).facts["run now"] == 0


def test_what_never_trained_may_be_mended(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    report = sweep(arms={"plain": {}, "broken": {"pretrain.epochs": FAILS}}, grid={"seed": [0, 1]})
    assert (report.facts["run now"], report.facts["failed"]) == (2, 2)
    report = sweep(arms={"plain": {}, "broken": {"pretrain.epochs": 5}}, grid={"seed": [0, 1]})
    assert (report.facts["run now"], report.facts["done before"]) == (2, 2)
    assert "failed" not in report.facts
    with pytest.raises(DatasetError, match="was trained with epochs 5, now 6"):
        sweep(arms={"plain": {}, "broken": {"pretrain.epochs": 6}}, grid={"seed": [0, 1]})


def test_a_cell_that_fails_is_a_row_and_the_rest_goes_on(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    out = tmp_path / "out"
    grid = {"pretrain.epochs": [1, FAILS, STUMBLES], "sample.count": [10, 666]}
    report = sweep(grid=grid)
    assert (report.facts["run now"], report.facts["failed"]) == (1, 5)
    failed = {row["cell"]: row["reason"] for row in rows_of(out / "failed.csv")}
    assert failed == {
        "epochs-13_count-10": "loss is not finite, at https://example.org/x",
        "epochs-14_count-10": "ValueError: no such thing",
        **{
            f"epochs-{epochs}_count-666": "its dataset: 666 places were asked for, there are 40"
            for epochs in (1, 13, 14)
        },
    }
    assert "no such thing" in (out / "cells" / "epochs-14_count-10" / "error.txt").read_text()
    assert {row["cell"] for row in rows_of(out / "sweep.csv")} == {"epochs-1_count-10"}
    assert sweep(grid={"pretrain.epochs": [1], "sample.count": [10]}).facts["done before"] == 1
    assert not (out / "failed.csv").exists()


def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    def interrupted(out: Path, dataset: Path, labelled: Path | None, cell: Cell) -> None:
        if cell.id == "objective-moco_seed-0":
            raise KeyboardInterrupt
        fake_cell(out, dataset, labelled, cell)

    with pytest.raises(KeyboardInterrupt):
        sweep(interrupted, grid=GRID)
    out = tmp_path / "out"
    assert len({row["cell"] for row in rows_of(out / "sweep.csv")}) == 2
    assert sweep(grid=GRID).facts["done before"] == 2
    assert runs_of(out) == dict.fromkeys(runs_of(out), 1)
    assert len(runs_of(out)) == 4


def test_a_plan_says_what_is_done_and_writes_nothing(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    path = spec_of(tmp_path / "spec.yaml", grid=GRID | {"sample.count": [10, 20]}, base={"pretrain": {"device": "cpu"}})
    report = plan_sweep(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert report.facts["datasets"] == "2, 0 of them there"
    assert report.table[0] == ("cell", "pretrain.objective", "seed", "sample.count", "dataset", "stand")
    assert report.table[2] == ("objective-infonce_seed-0_count-20", "infonce", "0", "20", "2", "to do")
    sweep(grid=GRID | {"sample.count": [10]})
    assert plan_sweep(path, tmp_path / "out").facts["done already"] == 4


def test_arms_are_compared_by_their_cells(tmp_path: Path, sweep: Callable[..., Report]) -> None:
    sweep(grid=GRID)
    done = finished_cells(sweep_of(tmp_path / "spec.yaml"), tmp_path / "out")
    arms = [
        [one.scores for one in done if one.cell.value("pretrain.objective") == name] for name in ("moco", "infonce")
    ]
    found = compare(arms[0], arms[1], task="classification", metric="accuracy")
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 0.01  # the seeds' replicates are the same in both


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text('{"dataset": 5}')
    with pytest.raises(DatasetError, match=r"cell\.json: damaged; delete"):
        state_of(tmp_path)


def test_a_pool_is_shared_and_never_written_to(tmp_path: Path) -> None:
    pool, folder = tmp_path / "pool", tmp_path / "folder"
    pool.mkdir()
    (pool / "scenes.parquet").write_bytes(b"scenes")
    draw_from(folder, pool)
    assert (folder / "scenes.parquet").samefile(pool / "scenes.parquet")
    (folder / "scenes.parquet").unlink()
    (folder / "scenes.parquet").write_bytes(b"own")
    draw_from(folder, pool)
    assert (folder / "scenes.parquet").read_bytes() == b"own"
    assert (pool / "scenes.parquet").read_bytes() == b"scenes"


def test_a_moved_sweep_finds_its_shards(tmp_path: Path) -> None:
    dataset = tmp_path / "out" / "datasets" / "a"
    (dataset / "shards").mkdir(parents=True)
    (dataset / "manifest.parquet").write_bytes(b"rows")
    for _ in range(2):
        look_into(tmp_path / "out" / "cells" / "b", dataset)
    os.rename(tmp_path / "out", tmp_path / "moved")  # noqa: PTH104
    assert (tmp_path / "moved" / "cells" / "b" / "manifest.parquet").read_bytes() == b"rows"
    assert (tmp_path / "moved" / "cells" / "b" / "shards").is_dir()
