"""What the journal calls finished stands whole; everything else is written again or removed."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.records import Sample, Skipped
from geossl_data.shards.writing.journal import JOURNAL_FOLDER, finished, remove_unfinished, write_journal
from geossl_data.shards.writing.plan import ShardPlan, plan_shards
from geossl_data.shards.writing.report import ShardReport
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.build import Tile

Make = Callable[..., Sample]
Build = Callable[[Sample], Tile]
Hashes = Callable[[Path], dict[str, str]]
Factory = Callable[[Build], Callable[[], Any]]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.text()), max_size=3),
    st.dictionaries(st.sampled_from(["B02", "VV"]), st.tuples(st.integers(0), st.floats(-1e9, 1e9), st.floats(0, 1e9))),
)
def test_what_is_written_is_what_is_read(
    rows: list[tuple[str, str]], sums: dict[str, tuple[int, float, float]]
) -> None:
    plan = ShardPlan(name="train-000000", split="train", samples=())
    skipped = tuple(Skipped(stage="shard", id=key, reason="outside", detail=detail) for key, detail in rows)
    report = ShardReport(name=plan.name, entries=(), skipped=skipped, nbytes=0, sha256="", sums=sums)
    with TemporaryDirectory() as folder:
        write_journal(report, plan, Path(folder), fingerprint="f")
        assert finished(Path(folder), plan, "f") == report
        assert finished(Path(folder), plan, "g") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "journal", "torn", "fingerprint", "samples"])
def test_a_shard_that_is_not_what_its_journal_says_is_written_again(
    tmp_path: Path, sample: Make, tile: Build, damage: str, hashes: Hashes, factory: Factory
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


def test_5_10_an_entry_cut_at_any_byte_is_none(
    tmp_path: Path, sample: Make, tile: Build, hashes: Hashes, factory: Factory
) -> None:
    plans = plan_shards([sample(number) for number in range(2)], shard_mb=1, seed=0)
    write_shards(plans, tmp_path, factory(tile), fingerprint="f")
    before = hashes(tmp_path)
    journal = tmp_path / JOURNAL_FOLDER / "train-000000.json"
    whole = journal.read_bytes()
    # Without its last byte, a line feed, it says all.
    for length in (*range(0, len(whole) - 9, 7), *range(len(whole) - 9, len(whole) - 1)):
        journal.write_bytes(whole[:length])
        assert finished(tmp_path, plans[0], "f") is None
    write_shards(plans, tmp_path, factory(tile), fingerprint="f")
    assert hashes(tmp_path) == before


def test_shards_of_another_plan_are_removed(
    tmp_path: Path, sample: Make, tile: Build, plans: list[ShardPlan], hashes: Hashes, factory: Factory
) -> None:
    write_shards(plans, tmp_path, factory(tile))
    (tmp_path / "notes.tar").write_bytes(b"mine")
    for ending in ("building", "quarantine"):
        (tmp_path / JOURNAL_FOLDER / f"train-000001.{ending}").write_bytes(b"old")
    write_shards(plan_shards([sample(1)], shard_mb=1, seed=0), tmp_path, factory(tile))
    assert sorted(hashes(tmp_path)) == [".journal/train-000000.json", "notes.tar", "train-000000.tar"]


def test_only_temporary_files_are_unfinished(tmp_path: Path) -> None:
    kept = ["train-000000.tar", "notes.tmp", ".journal/train-000000.json"]
    for name in [*kept, ".train-000001.tar.99.tmp", ".journal/.train-000001.json.99.tmp"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    remove_unfinished(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
