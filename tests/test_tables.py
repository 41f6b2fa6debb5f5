"""Tables: what goes in comes out, as a map where there is a place, with the same bytes."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely import box

from geossl_data import tables
from geossl_data.errors import DatasetError, SceneError, StorageError
from geossl_data.records import Look, Pair, Place, Sample, Skipped
from geossl_data.tables import read_metadata, read_table, schema, write_columns, write_table

TIME = datetime(2022, 3, 4, 10, 20, 30, 123456, tzinfo=UTC)
PLACE = Place(lon=7.5, lat=45.25, epsg=32632, x=399_960.0, y=5_000_040.0, size_px=96, cell="0501U_0061R")


def sample(key: str = "a-1", looks: int = 2) -> Sample:
    return Sample(
        key=key,
        place=PLACE,
        looks=tuple(
            Look(s2_id=f"s2-{i}", s1_id=f"s1-{i}", acquired=TIME.replace(year=2020 + i), gap_hours=-3.5)
            for i in range(looks)
        ),
        stratum="N45E000",
        weight=1.25,
        inclusion_probability=0.5,
        split="train",
        block="0501U_0061R",
    )


def test_samples_come_back_and_open_as_a_map(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    rows = [sample("a"), sample("b", looks=1)]
    write_table(path, rows, Sample, geometry=lambda row: box(7, 45, 8, 46), metadata={"seed": 3})
    assert read_table(path, Sample) == rows
    assert read_metadata(path) == {"seed": 3}
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_epsg() == 4326 or frame.crs.to_authority() == ("OGC", "CRS84")
    assert frame.geometry[0].equals(box(7, 45, 8, 46))
    assert list(frame["lon"]) == [7.5, 7.5]
    assert frame["looks"][1][0]["gap_hours"] == -3.5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from(["fetch", "sample", "shard"]))))
def test_any_text_survives(tmp_path: Path, texts: list[tuple[str, str]]) -> None:
    rows = [Skipped(stage=stage, id=text, reason="r", detail=text[::-1]) for text, stage in texts]  # type: ignore[arg-type]
    write_table(tmp_path / "t.parquet", rows, Skipped)
    assert read_table(tmp_path / "t.parquet", Skipped) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.text(max_size=9), max_size=3), st.lists(st.text(max_size=9), max_size=3))
def test_lists_of_ids_survive(tmp_path: Path, s1_more: list[str], s2_more: list[str]) -> None:
    """In a column of their own, and inside the structs of a list."""
    more = {"s1_more": tuple(s1_more), "s2_more": tuple(s2_more)}
    given = {"s2_id": "a", "s1_id": "b", "gap_hours": 0.5, **more}
    pair = Pair(**given, s2_acquired=TIME, s1_acquired=TIME, overlap=1.0, rank=0, n_candidates=1)
    write_table(tmp_path / "pairs.parquet", [pair, replace(pair, s1_more=(), s2_more=())], Pair)
    assert read_table(tmp_path / "pairs.parquet", Pair) == [pair, replace(pair, s1_more=(), s2_more=())]
    rows = [replace(sample("a"), looks=(Look(**given, acquired=TIME),)), sample("b")]
    write_table(tmp_path / "samples.parquet", rows, Sample)
    assert read_table(tmp_path / "samples.parquet", Sample) == rows


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_table(
            tmp_path / name, [sample()], Sample, geometry=lambda row: box(0, 0, 1, 1), metadata={"b": 1, "a": 2}
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_columns_make_the_bytes_of_their_records(tmp_path: Path) -> None:
    places = [replace(PLACE, lon=lon, cell=f"{lon:04.0f}U_0001R") for lon in (7.5, -0.25, 12.0)]
    columns = {name: np.array([getattr(place, name) for place in places]) for name in schema(Place).names}
    rings = np.array([[[x, 45], [x + 1, 45], [x, 46.5], [x, 45]] for x in columns["lon"]], dtype=float)
    shapes = dict(zip(places, shapely.polygons(rings), strict=True))
    for some, geometry in ((rings, shapes.__getitem__), (None, None)):
        write_columns(tmp_path / "columns", columns, Place, rings=some, metadata={"b": 1})
        write_table(tmp_path / "records", places, Place, geometry=geometry, metadata={"b": 1})
        assert (tmp_path / "columns").read_bytes() == (tmp_path / "records").read_bytes()
    none = {name: values[:0] for name, values in columns.items()}
    write_columns(tmp_path / "columns", none, Place, rings=rings[:0])
    write_table(tmp_path / "records", [], Place, geometry=shapes.__getitem__)
    assert (tmp_path / "columns").read_bytes() == (tmp_path / "records").read_bytes()


def test_long_columns_of_polygons_come_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rings = np.array([[[x, 0], [x + 1, 0], [x, 1], [x, 0]] for x in range(7)], dtype=float)
    columns = {"stage": np.full(7, "shard"), "id": np.arange(7).astype(str), "reason": ["r"] * 7, "detail": ["d"] * 7}
    monkeypatch.setattr(tables, "_MOST_BYTES", 200)
    write_columns(tmp_path / "t.parquet", columns, Skipped, rings=rings)  # type: ignore[arg-type]
    assert list(geopandas.read_parquet(tmp_path / "t.parquet").geometry) == list(shapely.polygons(rings))


def test_nullable_columns_follow_the_annotations() -> None:
    columns = schema(Pair)
    assert columns.field("s1_orbit_state").nullable
    assert not columns.field("gap_hours").nullable


def test_a_missing_table_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file; run the earlier stage first"):
        read_table(tmp_path / "pairs.parquet", Pair)


def test_garbage_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DatasetError, match="not a readable Parquet table"):
        read_table(tmp_path / "pairs.parquet", Pair)


def test_a_table_of_another_version_is_one_clear_line(tmp_path: Path) -> None:
    write_table(tmp_path / "samples.parquet", [sample()], Sample)
    table = pq.read_table(tmp_path / "samples.parquet")
    pq.write_table(table.drop_columns(["split"]), tmp_path / "old.parquet")
    with pytest.raises(DatasetError, match="has no split; another version wrote it: run its stage with --fresh"):
        read_table(tmp_path / "old.parquet", Sample)
    looks = [[{k: v for k, v in look.items() if k != "s1_more"} for look in row] for row in table["looks"].to_pylist()]
    older = table.drop_columns(["looks"]).append_column("looks", pa.array(looks))
    pq.write_table(older, tmp_path / "older.parquet")
    with pytest.raises(DatasetError, match="has no 's1_more'; another version wrote it"):
        read_table(tmp_path / "older.parquet", Sample)


def test_spares_come_back_look_by_look(tmp_path: Path) -> None:
    first, second = sample().looks
    near = replace(first, s2_id="near", acquired=first.acquired.replace(day=9), s1_more=("f2",))
    whole = replace(sample("a"), spares=((near, replace(near, s2_id="other")), ()))
    write_table(tmp_path / "samples.parquet", [whole, sample("b"), replace(whole, looks=(near, second))], Sample)
    assert read_table(tmp_path / "samples.parquet", Sample) == [
        whole,
        sample("b"),
        replace(whole, looks=(near, second)),
    ]
    assert pq.read_table(tmp_path / "samples.parquet")["spares"][0].as_py()[0][0]["s1_more"] == ["f2"]


def test_an_unwritable_target_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_table(tmp_path / "file" / "t.parquet", [], Skipped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "a.b"}, "sample key"),
        ({"looks": ()}, "no looks"),
        ({"looks": sample().looks[::-1]}, "time order"),
        ({"inclusion_probability": 0.0}, "inclusion probability"),
    ],
)
def test_samples_check_themselves(changes: dict[str, object], message: str) -> None:
    values = {name: getattr(sample(), name) for name in Sample.__slots__} | changes
    with pytest.raises(SceneError, match=message):
        Sample(**values)  # type: ignore[arg-type]


def test_places_check_themselves() -> None:
    with pytest.raises(SceneError, match="not a positive multiple of 6"):
        Place(lon=0, lat=0, epsg=32631, x=0, y=0, size_px=100, cell="c")


def test_many_rows_are_written_and_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Skipped(stage="fetch", id=str(number), reason="r", detail="d" * number) for number in range(7)]
    tables.write_table(tmp_path / "whole.parquet", rows, Skipped, geometry=lambda row: box(0, 0, 1, 1 + int(row.id)))
    monkeypatch.setattr(tables, "_MOST_ROWS", 3)
    tables.write_table(tmp_path / "parts.parquet", rows, Skipped, geometry=lambda row: box(0, 0, 1, 1 + int(row.id)))
    assert tables.read_table(tmp_path / "parts.parquet", Skipped) == rows
    assert tables.open_parquet(tmp_path / "parts.parquet").equals(tables.open_parquet(tmp_path / "whole.parquet"))
    assert tables.read_table(tmp_path / "parts.parquet", Skipped, rows=[5, 1]) == [rows[5], rows[1]]
