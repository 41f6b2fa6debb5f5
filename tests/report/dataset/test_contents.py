"""The columns of a dataset are those of its rows, read at once."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geossl_data import tables
from geossl_data.errors import DatasetError, GeosslError
from geossl_data.records import Sample, Site
from geossl_data.report.dataset.contents import Contents, contents_of
from geossl_data.shards.manifest import read_manifest


def test_columns_of_shards_are_those_of_their_rows(built: Path, contents: Contents) -> None:
    entries = read_manifest(built / "manifest.parquet").entries
    assert contents.is_written
    assert contents.key.to_pylist() == [entry.key for entry in entries]
    assert contents.split.tolist() == [entry.split for entry in entries]
    assert contents.lon.tolist() == [entry.lon for entry in entries]
    times = [np.datetime64(time.replace(tzinfo=None), "us") for entry in entries for time in entry.acquired]
    assert contents.acquired.tolist() == np.array(times).tolist()
    assert contents.gap_hours.tolist() == [gap for entry in entries for gap in entry.gap_hours]
    assert contents.s1_id.to_pylist() == [name for entry in entries for name in entry.s1_ids]
    assert contents.label.tolist() == [label for entry in entries for label in entry.labels]
    assert contents.place.tolist() == [number for number, entry in enumerate(entries) for _ in entry.acquired]
    assert sum(contents.per_split().values()) == len(entries)
    assert sum(contents.per_split(counts=False).values()) == sum(entry.n_looks for entry in entries)


def test_columns_of_what_is_drawn_are_those_of_its_rows(built: Path) -> None:
    found = contents_of(built, shards=False)
    samples = tables.read_table(built / "samples.parquet", Sample)
    assert found is not None
    assert not found.is_written
    assert found.key.to_pylist() == [sample.key for sample in samples]
    assert found.stratum.tolist() == [sample.stratum for sample in samples]
    assert found.s2_id.to_pylist() == [look.s2_id for sample in samples for look in sample.looks]
    assert found.gap_hours.tolist() == [look.gap_hours for sample in samples for look in sample.looks]
    assert np.isnan(found.cloud).all()
    assert found.notes["n_candidates"] >= len(samples)


def test_places_drawn_without_a_catalog_have_no_looks(tmp_path: Path) -> None:
    site = {"lon": 8.0, "lat": 45.0, "size_px": 60, "cell": "c", "weight": 1.0, "inclusion_probability": 0.5}
    row = Site(key="a", stratum="s", split="val", block="b", drawn_by="uniform", **site)
    tables.write_table(tmp_path / "places.parquet", [row], Site)
    found = contents_of(tmp_path)
    assert found is not None
    assert (len(found), len(found.place), found.per_split()) == (1, 0, {"val": 1})


def test_a_folder_without_places_has_none(tmp_path: Path) -> None:
    assert contents_of(tmp_path) is None


@pytest.mark.parametrize("name", ["manifest.parquet", "samples.parquet"])
def test_a_damaged_table_is_one_line(built: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((built / name).read_bytes()[:-9])
    with pytest.raises(DatasetError, match="not a readable Parquet table"):
        contents_of(tmp_path)


def test_a_column_of_another_type_is_one_line(built: Path, tmp_path: Path) -> None:
    table = pq.read_table(built / "samples.parquet")
    odd = table.set_column(table.column_names.index("looks"), "looks", pa.array(["?"] * table.num_rows))
    pq.write_table(odd, tmp_path / "samples.parquet")
    with pytest.raises(GeosslError, match="damaged") as caught:
        contents_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_columns_that_disagree_are_one_line(built: Path, tmp_path: Path) -> None:
    shutil.copy(built / "manifest.parquet", tmp_path / "manifest.parquet")
    table = pq.read_table(tmp_path / "manifest.parquet")
    short = pa.array([row[:-1] for row in table["geossl:gap_hours"].to_pylist()])
    odd = table.set_column(table.column_names.index("geossl:gap_hours"), "geossl:gap_hours", short)
    pq.write_table(odd, tmp_path / "manifest.parquet")
    with pytest.raises(DatasetError, match="disagree on the looks"):
        contents_of(tmp_path)
