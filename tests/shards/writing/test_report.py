"""What the manifest says is what the reports say, and what the reports say is what was written."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import ShardError
from geossl_data.records import Skipped
from geossl_data.shards.manifest import SHARDS_FOLDER, read_manifest
from geossl_data.shards.writing.journal import JOURNAL_FOLDER
from geossl_data.shards.writing.report import ShardReport, manifest_notes


def test_a_manifest_of_the_reports_opens_the_shards(dataset: Path) -> None:
    manifest = read_manifest(dataset / "manifest.parquet")
    assert manifest.notes["n_skipped"] == 1
    for name, shard in manifest.notes["shards"].items():
        content = (dataset / SHARDS_FOLDER / name).read_bytes()
        assert shard["nbytes"] == len(content)
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(list((dataset / SHARDS_FOLDER / JOURNAL_FOLDER).iterdir())) == 3


def test_notes_by_hand(dataset: Path) -> None:
    entries = {entry.split: entry for entry in read_manifest(dataset / "manifest.parquet").entries}
    reports = [
        ShardReport(
            name=f"{split}-000000",
            entries=(entries[split],),
            skipped=(Skipped(stage="shard", id="a", reason="outside", detail=""),),
            nbytes=10,
            sha256="00",
            sums={"B02": (2, 6.0, 20.0 + 80.0 * (split == "val"))},
            years=(2021, 2020 + 2 * (split == "val")),
        )
        for split in ("train", "val")
    ]
    notes = manifest_notes(reports, fingerprint="f", codec="blosc", label_names={"1": "water"})
    assert notes["statistics"] == {"B02": {"mean": 3.0, "std": 1.0, "count": 2}}
    assert notes["shards"]["val-000000.tar"] == {"nbytes": 10, "sha256": "00", "n_samples": 1}
    assert notes["years"] == [2020, 2021, 2022]
    assert [member["name"] for member in notes["members"]] == ["s2_10m", "s2_20m", "s2_60m", "scl", "s1", "label"]
    assert (notes["n_skipped"], notes["size_px"], notes["label_names"]) == (2, 12, {"1": "water"})


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 4))
def test_nothing_written_is_no_manifest(n_skipped: int) -> None:
    rows = tuple(Skipped(stage="shard", id=str(i), reason="outside", detail="") for i in range(n_skipped))
    report = ShardReport(name="train-000000", entries=(), skipped=rows, nbytes=0, sha256="", sums={})
    with pytest.raises(ShardError, match="no sample was written"):
        manifest_notes([report], fingerprint="f", codec="blosc")
