"""Items go into a stac-geoparquet file and come out as they were."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import CatalogError, DatasetError
from geossl_data.scenes import items as items_module
from geossl_data.scenes.items import (
    Packed,
    finite,
    parse_time,
    read_items,
    rfc3339,
    unpacked,
    without_nulls,
    write_items,
)
from geossl_data.tables import read_metadata

STAC = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stac"

Item = dict[str, Any]


def plain(item: Item) -> Item:
    """An item with its times in one spelling and without null members."""
    known = without_nulls(json.loads(json.dumps(item)))
    for name, value in known["properties"].items():
        if name in ("datetime", "start_datetime", "end_datetime", "created", "updated", "expires", "published"):
            known["properties"][name] = rfc3339(parse_time(value))
    return {"stac_extensions": [], **known}


def test_times_keep_their_microseconds() -> None:
    assert rfc3339(parse_time("2023-06-01 12:20:31.024+02:00")) == "2023-06-01T10:20:31.024000Z"
    assert rfc3339(parse_time("2023-06-01T10:20:31Z")) == "2023-06-01T10:20:31Z"
    assert rfc3339(parse_time("2023-09-28T10:46:04.0233617Z")) == "2023-09-28T10:46:04.023361Z"


def test_numbers_that_are_none() -> None:
    assert [finite(value) for value in (2, -0.5, 10**308)] == [2.0, -0.5, 1e308]
    assert [finite(value) for value in (True, "2", None, float("nan"), float("-inf"), 10**400)] == [None] * 6


def test_items_of_two_collections_survive(
    tmp_path: Path, s2_item: Callable[..., Item], s1_item: Callable[..., Item]
) -> None:
    label = {"datetime": None, "start_datetime": "2023-01-01T00:00:00Z", "end_datetime": "2023-12-31T00:00:00Z"}
    items = [s2_item(), s1_item(), s2_item("S2A_b", s2__flag=True, gsd=10, **label)]
    path = tmp_path / "items.parquet"
    write_items(path, items, metadata={"note": "ä"})
    back = read_items(path)
    assert [plain(item) for item in back] == [plain(item) for item in items]
    assert back[2]["properties"]["datetime"] is None
    assert sorted(back[1]["assets"]) == ["vh", "vv"]
    assert "s2:processing_baseline" not in back[1]["properties"]
    assert read_metadata(path) == {"note": "ä"}


def test_the_same_items_give_the_same_bytes(tmp_path: Path, s2_item: Callable[..., Item]) -> None:
    items = [s2_item(f"S2A_{number}") for number in range(3)]
    write_items(tmp_path / "a.parquet", items, metadata={"b": 1, "a": 2})
    write_items(tmp_path / "b.parquet", read_items(tmp_path / "a.parquet"), metadata={"a": 2, "b": 1})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_other_readers_open_the_file(tmp_path: Path, s2_item: Callable[..., Item]) -> None:
    import geopandas
    from stac_geoparquet.arrow import stac_table_to_items

    path = tmp_path / "items.parquet"
    write_items(path, [s2_item(), s2_item("S2A_b", bounds=(-3, -2, -1, 0))])
    frame = geopandas.read_parquet(path)
    assert frame.crs.equals("OGC:CRS84")
    assert frame.total_bounds.tolist() == [-3, -2, 9, 48]
    assert [item["id"] for item in stac_table_to_items(pq.read_table(path))] == ["S2A_a", "S2A_b"]


def test_a_missing_bbox_and_heights(tmp_path: Path, s2_item: Callable[..., Item]) -> None:
    bare, high = s2_item(), s2_item("S2A_b")
    del bare["bbox"], bare["stac_version"], bare["links"]
    high["bbox"] = [8, 47, 0, 9, 48, 100]
    write_items(tmp_path / "items.parquet", [bare, high])
    assert [item["bbox"] for item in read_items(tmp_path / "items.parquet")] == [[8, 47, 9, 48], [8, 47, 9, 48]]


def test_an_unreadable_geometry_harms_its_row_only(tmp_path: Path, s2_item: Callable[..., Item]) -> None:
    path = tmp_path / "items.parquet"
    write_items(path, [s2_item(), s2_item("S2A_b")])
    table = pq.read_table(path)
    broken = pa.array([b"\x01\x02", table.column("geometry")[1].as_py()], pa.binary())
    pq.write_table(table.set_column(table.column_names.index("geometry"), "geometry", broken), path)
    assert [item["geometry"] is None for item in read_items(path)] == [True, False]


def test_not_parquet(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    path.write_text("<html>")
    with pytest.raises(DatasetError, match="not a readable Parquet table"):
        read_items(path)


def test_not_stac(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(CatalogError, match="no column geometry"):
        read_items(path)


def test_ids_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"id": [1], "geometry": [b""]}), path)
    with pytest.raises(CatalogError, match="a row without an id"):
        read_items(path)


def test_no_items(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no items to write"):
        write_items(tmp_path / "items.parquet", [])


def test_one_field_with_two_types(tmp_path: Path, s2_item: Callable[..., Item]) -> None:
    items = [s2_item(note="text"), s2_item("S2A_b", note=[1, 2])]
    with pytest.raises(CatalogError, match="do not fit one table"):
        write_items(tmp_path / "items.parquet", items)
    assert list(tmp_path.iterdir()) == []


VALUES = st.one_of(
    st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12), st.booleans()
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.from_regex(r"[a-z]{1,6}:[a-z_]{1,6}", fullmatch=True), VALUES, max_size=4), st.integers(0, 3))
def test_any_property_survives(
    tmp_path: Path, s2_item: Callable[..., Item], properties: dict[str, Any], n_other: int
) -> None:
    items = [s2_item(), *(s2_item(f"S2A_{number}") for number in range(n_other))]
    items[0]["properties"] |= properties
    write_items(tmp_path / "any.parquet", items)
    assert [plain(item) for item in read_items(tmp_path / "any.parquet")] == [plain(item) for item in items]


@pytest.mark.parametrize("name", ["earth-search__sentinel-2-l2a", "planetary-computer__sentinel-1-rtc"])
def test_real_items_survive(tmp_path: Path, name: str) -> None:
    source = STAC / "items" / f"{name}.ndjson"
    if not source.is_file():
        pytest.skip("no real items: ../shared/data/stac is absent")
    items = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    write_items(tmp_path / "real.parquet", items)
    assert [plain(item) for item in read_items(tmp_path / "real.parquet")] == [plain(item) for item in items]


def test_many_items_are_written_and_read_in_parts(
    tmp_path: Path, s2_item: Callable[..., Item], s1_item: Callable[..., Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    label = {"datetime": None, "start_datetime": "2023-01-01T00:00:00Z", "end_datetime": "2023-12-31T00:00:00Z"}
    given = [s2_item("S2A_a"), s2_item("S2A_b"), s1_item("S1A_c"), s2_item("S2A_d", s2__flag=True, gsd=10, **label)]
    write_items(tmp_path / "whole.parquet", given, metadata={"note": "ä"})
    monkeypatch.setattr(items_module, "_MOST_ITEMS", 2)
    write_items(tmp_path / "parts.parquet", [Packed(item) for item in given], metadata={"note": "ä"})
    assert pq.ParquetFile(tmp_path / "parts.parquet").metadata.num_row_groups == 2
    whole, parts = (read_items(tmp_path / name) for name in ("whole.parquet", "parts.parquet"))
    assert [plain(item) for item in parts] == [plain(item) for item in whole]
    assert read_metadata(tmp_path / "parts.parquet") == {"note": "ä"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]


def test_parts_that_do_not_fit_one_table(
    tmp_path: Path, s2_item: Callable[..., Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items_module, "_MOST_ITEMS", 1)
    with pytest.raises(CatalogError, match="items do not fit one table"):
        write_items(tmp_path / "a.parquet", [s2_item("S2A_a", x__y="text"), s2_item("S2A_b", x__y=[1])])
    assert list(tmp_path.iterdir()) == []


def test_a_packed_item_reads_as_the_item(s2_item: Callable[..., Item]) -> None:
    item = s2_item()
    packed = Packed(item)
    assert packed == item
    assert {**packed} == item
    assert len(packed._packed) < len(json.dumps(item)) / 2
    packed["assets"].clear()
    assert packed["assets"] == item["assets"]
    assert unpacked(packed) == item == unpacked(item)
