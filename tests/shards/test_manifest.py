"""The manifest: GeoParquet, STAC, and readable on a bare training node."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data import tables
from geossl_data.errors import DatasetError, GeosslError, ShardError
from geossl_data.records import Sample, Skipped
from geossl_data.shards.manifest import (
    MANIFEST_NAME,
    Entry,
    from_plain,
    read_manifest,
    to_plain,
)
from geossl_data.shards.stac_table import ROWS_PER_GROUP, write_manifest, write_manifest_parts


@pytest.fixture
def entries(dataset: Path) -> list[Entry]:
    return read_manifest(dataset / MANIFEST_NAME).entries


def test_rows_are_sorted_and_come_back_as_they_were(
    tmp_path: Path, sample: Callable[..., Sample], write_dataset: Callable[..., Any]
) -> None:
    reports = write_dataset(tmp_path, [sample(number) for number in range(5)])
    manifest = read_manifest(tmp_path / MANIFEST_NAME)
    written = sorted((entry for report in reports for entry in report.entries), key=lambda e: (e.shard, e.offset))
    assert manifest.entries == written
    assert manifest.notes["n_skipped"] == 0
    assert manifest.notes["shards"]["train-000000.tar"]["n_samples"] == 5
    first = manifest.entries[0]
    assert first.offset == 0
    assert (first.n_looks, first.size_px, first.epsg) == (2, 12, 32632)
    assert first.cloud_fraction == (None, 0.25)
    assert first.gap_hours == (-5.0, -4.0)
    assert list(manifest.members) == ["s2_10m", "s2_20m", "s2_60m", "scl", "s1", "label"]


def test_the_same_entries_give_the_same_bytes(tmp_path: Path, entries: list[Entry], dataset: Path) -> None:
    notes = read_manifest(dataset / MANIFEST_NAME).notes
    write_manifest(tmp_path / "again.parquet", entries[::-1], notes)
    assert (tmp_path / "again.parquet").read_bytes() == (dataset / MANIFEST_NAME).read_bytes()


def test_the_file_is_a_map_and_its_rows_are_stac_items(dataset: Path, entries: list[Entry]) -> None:
    import geopandas
    import pystac

    from geossl_data.scenes.items import read_items

    frame = geopandas.read_parquet(dataset / MANIFEST_NAME)
    assert frame.crs is None or frame.crs.to_epsg() == 4326 or "CRS84" in str(frame.crs)
    for entry, centre in zip(entries, frame.geometry, strict=True):
        assert centre.centroid.x == pytest.approx(entry.lon, abs=1e-6)
        assert centre.centroid.y == pytest.approx(entry.lat, abs=1e-6)
    for row, entry in zip(read_items(dataset / MANIFEST_NAME), entries, strict=True):
        item = pystac.Item.from_dict(row)
        assert item.id == entry.key
        assert item.assets["data"].href == f"./shards/{entry.shard}"
        assert item.properties["proj:code"] == "EPSG:32632"
        assert item.common_metadata.start_datetime == entry.acquired[0]
        assert item.properties["geossl:split"] == entry.split


def test_a_node_without_the_geospatial_stack_reads_manifest_and_shards(dataset: Path) -> None:
    script = f"""
import sys
absent = ["rasterio", "geopandas", "pystac", "pystac_client", "stac_geoparquet", "shapely", "pyproj", "dask",
          "distributed", "torch", "planetary_computer"]
for name in absent:
    sys.modules[name] = None
from pathlib import Path
from geossl_data.shards.reading.shards import open_shards
with open_shards(Path({str(dataset)!r}), "train") as shards:
    (batch,) = shards.batches(4, ["s2_10m", "s1"], items=shards.looks[:4])
    print(len(shards), batch["s2_10m"].shape, shards.meta(0)["geossl:split"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "7 (4, 4, 12, 12) train\n"), done.stderr


@settings(max_examples=30, deadline=None)
@given(
    lon=st.floats(-180, 179.9),
    gap=st.floats(-100, 100),
    label=st.integers(0, 255),
    cloud=st.none() | st.floats(0, 1),
    time=st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_plain_values_lose_nothing(lon: float, gap: float, label: int, cloud: float | None, time: datetime) -> None:
    entry = Entry(
        key="a-b_1",
        split="val",
        block="b",
        shard="val-000003.tar",
        offset=512,
        nbytes=1024,
        lon=lon,
        lat=1.5,
        epsg=32632,
        x=1.0,
        y=2.0,
        size_px=12,
        cell="c",
        stratum="s",
        weight=1.0,
        inclusion_probability=1.0,
        n_looks=1,
        members=(("s1", "s2_10m"),),
        acquired=(time,),
        gap_hours=(gap,),
        s2_ids=("x",),
        s1_ids=("y",),
        labels=(label,),
        cloud_fraction=(cloud,),
        s2_valid_fraction=(1.0,),
        s1_valid_fraction=(0.5,),
        member_nbytes=(10, 20, 30),
        member_crc32=(0, 2**32 - 1, 5),
    )
    assert from_plain(to_plain(entry)) == entry


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "a.b"}, "key"),
        ({"shard": "../../etc/passwd"}, "shard"),
        ({"shard": "val-000000.tar"}, "shard"),
        ({"offset": -512}, "tar blocks"),
        ({"nbytes": 100}, "tar blocks"),
        ({"size_px": 0}, "size"),
        ({"epsg": None}, "partly"),
        ({"member_nbytes": (1, 2)}, "sizes"),
        ({"member_crc32": ()}, "checksums"),
        ({"n_looks": 3}, "looks"),
        ({"labels": (1,)}, "looks"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(entries: list[Entry], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShardError, match=message):
        replace(entries[0], **change)


def test_hostile_rows_and_notes_are_refused(dataset: Path, entries: list[Entry], tmp_path: Path) -> None:
    notes = read_manifest(dataset / MANIFEST_NAME).notes
    bad = tmp_path / "bad.parquet"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"codec": "pickle"}, "codec"),
        ({"size_px": 0}, "size"),
        ({"members": None}, "members"),
        ({"shards": {"../x.tar": {"nbytes": 1}}}, "shard"),
        ({"shards": {"train-000000.tar": 5}}, "damaged"),
    ]
    for change, message in cases:
        write_manifest(bad, entries, notes | change)
        with pytest.raises(ShardError, match=message):
            read_manifest(bad)
    radar = next(member for member in notes["members"] if member["name"] == "s1")
    odd = [{"dtype": "O"}, {"factor": 0}, {"bands": []}, {"scale": float("inf")}, {"name": "../s1"}, {"name": "a.b"}]
    for change in odd:
        write_manifest(bad, entries, notes | {"members": [radar | change]})
        with pytest.raises(ShardError, match="describes a member as"):
            _ = read_manifest(bad).members
    for note in ({"name": "s1"}, 5, radar | {"scale": "x"}):
        write_manifest(bad, entries, notes | {"members": [note]})
        with pytest.raises(ShardError, match="damaged notes about a member"):
            _ = read_manifest(bad).members


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, entries: list[Entry]) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_manifest(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DatasetError, match="not a readable"):
        read_manifest(tmp_path / "text.parquet")
    tables.write_table(tmp_path / "other.parquet", [], Skipped)
    with pytest.raises(GeosslError, match=r"other\.parquet"):
        read_manifest(tmp_path / "other.parquet")
    with pytest.raises(ShardError, match="not unique"):
        write_manifest(tmp_path / "twice.parquet", [entries[0], entries[0]], {})
    with pytest.raises(ShardError, match="no sample"):
        write_manifest(tmp_path / "none.parquet", [], {"pixel_m": 10.0})


def _booleans(table: pa.Table) -> pa.Table:
    return table.set_column(table.schema.get_field_index("geossl:members"), "geossl:members", [[True] * len(table)])


def _twice(table: pa.Table) -> pa.Table:
    return table.append_column("id", table["id"])


def _not_utf8(table: pa.Table) -> pa.Table:
    raw = pa.array([b"\xf0\x00"] * len(table), pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    return table.set_column(table.schema.get_field_index("geossl:cell"), "geossl:cell", text)


def _digits(table: pa.Table) -> pa.Table:
    return table.set_column(table.schema.get_field_index("geossl:nbytes"), "geossl:nbytes", [["1e9"] * len(table)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_booleans, "column geossl:members is damaged"),
        (_twice, "column id is there 2 times"),
        (_not_utf8, "column geossl:cell is damaged.*Invalid UTF8"),
        (_digits, "column geossl:nbytes is damaged"),
    ],
)
def test_a_column_of_another_type_is_named(
    dataset: Path, tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    table = pq.read_table(dataset / MANIFEST_NAME)
    pq.write_table(change(table), tmp_path / "bad.parquet")
    for key in (None, "place-001"):
        with pytest.raises(ShardError, match=message):
            read_manifest(tmp_path / "bad.parquet", key=key)


def test_a_sample_that_lies_nowhere_is_a_row_without_a_geometry(tmp_path: Path, dataset: Path) -> None:
    import geopandas

    manifest = read_manifest(dataset / MANIFEST_NAME)
    nowhere = [
        replace(entry, lon=None, lat=None, epsg=None, x=None, y=None, gap_hours=(None, None))
        for entry in manifest.entries
    ]
    write_manifest(tmp_path / "m.parquet", nowhere, manifest.notes | {"pixel_m": None})
    assert read_manifest(tmp_path / "m.parquet").entries == nowhere
    assert geopandas.read_parquet(tmp_path / "m.parquet").geometry.isna().all()


def test_a_row_names_the_further_scenes_of_a_mosaic(mosaics: Path) -> None:
    rows = {entry.key: entry for entry in read_manifest(mosaics / MANIFEST_NAME).entries}
    assert rows["place-001"].s2_ids == ("S2_1_0", "S2_1_1")
    assert rows["place-001"].s2_more == ((), ("S2_1_1b",))
    assert rows["place-001"].s1_more == ((), ("S1_1_1b", "S1_1_1c"))
    assert (rows["place-002"].s2_more, rows["place-002"].s1_more) == ((), ())
    assert all(from_plain(to_plain(entry)) == entry for entry in rows.values())


def test_without_mosaics_their_columns_are_empty(dataset: Path, mosaics: Path) -> None:

    # The same columns of the same types in every dataset, so that tables of several can be put together.
    assert pq.read_schema(dataset / MANIFEST_NAME).equals(pq.read_schema(mosaics / MANIFEST_NAME))
    assert not any(map(len, pq.read_table(dataset / MANIFEST_NAME)["geossl:s1_more"].to_pylist()))


def test_parts_are_written_as_they_come_and_have_to_come_in_order(
    tmp_path: Path, entries: list[Entry], dataset: Path
) -> None:

    notes = read_manifest(dataset / MANIFEST_NAME).notes
    parts = [entries[:1], entries[1:2], entries[2:]]
    write_manifest_parts(tmp_path / "m.parquet", iter(parts), notes)
    assert read_manifest(tmp_path / "m.parquet").entries == entries
    with pytest.raises(ShardError, match="not in the order"):
        write_manifest_parts(tmp_path / "bad.parquet", [entries[1:], entries[:1]], notes)
    assert not (tmp_path / "bad.parquet").exists()
    many = [replace(entries[0], key=f"k{number}", offset=512 * number) for number in range(ROWS_PER_GROUP + 1)]
    write_manifest(tmp_path / "many.parquet", many, notes)
    assert pq.ParquetFile(tmp_path / "many.parquet").num_row_groups == 2
