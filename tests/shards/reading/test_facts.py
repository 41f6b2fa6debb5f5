"""Facts are what the entries say, as arrays."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from geossl_data.errors import ShardError
from geossl_data.records import Sample
from geossl_data.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from geossl_data.shards.reading.facts import facts_of


@pytest.fixture
def manifest(tmp_path: Path, sample: Callable[..., Sample], write_dataset: Callable[..., Any]) -> Manifest:
    write_dataset(tmp_path, [sample(number, n_looks=number % 3 + 1) for number in range(5)])
    return read_manifest(tmp_path / MANIFEST_NAME)


def test_facts_are_those_of_the_entries(manifest: Manifest) -> None:
    facts, entries = facts_of(manifest), manifest.entries
    assert facts.lonlat.tolist() == [[entry.lon, entry.lat] for entry in entries]
    assert facts.split.tolist() == [entry.split for entry in entries]
    assert np.isnan(facts.change).all()
    begin = datetime(2000, 1, 1, tzinfo=UTC)
    for row, entry in zip(facts.days, entries, strict=True):
        expected = [(time - begin).total_seconds() / 86_400 for time in entry.acquired if time is not None]
        np.testing.assert_allclose(row[: entry.n_looks], expected, rtol=0, atol=1e-9)
        assert np.isnan(row[entry.n_looks :]).all()


def test_what_is_not_known_is_nan(manifest: Manifest) -> None:
    table, n = manifest.table, len(manifest.table)
    unknown = {
        "lon": pa.nulls(n, pa.float64()),
        "acquired": pa.array([[None] * count for count in table["n_looks"].to_pylist()], pa.list_(pa.string())),
        "change_score": pa.array([1.5] + [None] * (n - 1), pa.float64()),
    }
    for name, column in unknown.items():
        position = table.column_names.index(name) if name in table.column_names else -1
        table = table.append_column(name, column) if position < 0 else table.set_column(position, name, column)
    facts = facts_of(Manifest(table, manifest.notes))
    assert np.isnan(facts.lonlat[:, 0]).all()
    assert np.isnan(facts.days).all()
    assert facts.change[0] == 1.5
    assert np.isnan(facts.change[1:]).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.drop_columns("lat"),
        lambda table: table.set_column(
            table.column_names.index("n_looks"), "n_looks", pa.array([9] * len(table), pa.int64())
        ),
        lambda table: table.set_column(
            table.column_names.index("acquired"), "acquired", pa.array([["yesterday"]] * len(table))
        ),
    ],
)
def test_damage_is_one_clear_line(manifest: Manifest, damage: Callable[[pa.Table], pa.Table]) -> None:
    with pytest.raises(ShardError, match="manifest: ") as raised:
        facts_of(Manifest(damage(manifest.table), manifest.notes))
    assert "\n" not in str(raised.value)
