"""The demo, on the tiny planet."""

from pathlib import Path

from geossl_data.demo import PLACES, TRAINING, run_demo
from geossl_data.pipeline import Report


def test_the_demo_runs_and_sums_up(tmp_path: Path) -> None:
    shown: list[Report] = []
    places = PLACES.model_copy(update={"size": 60, "count": 30, "block_km": 1.0})
    training = TRAINING.model_copy(update={"epochs": 1, "batch_size": 16, "crop": 48})
    result = run_demo(tmp_path, size="tiny", places=places, training=training, show=shown.append)
    assert [report.stage for report in shown] == ["sandbox", "fetch", "sample", "shard", "pretrain", "evaluate"]
    assert result.facts["places written"] == 30
    assert result.table[0][-2:] == ("trained", "random")
    assert {row[1] for row in result.table[1:]} == {"none", "s1", "s2", "s1+s2"}
    assert result.hints[0] == f"geossl report {tmp_path / 'dataset'}"
