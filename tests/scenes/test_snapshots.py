"""Catalogs as stac-geoparquet: files, folders and the network; only what may match becomes items."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from shapely.geometry import box

from geossl_data.errors import CatalogError
from geossl_data.scenes.items import Item, write_items
from geossl_data.scenes.providers import COLLECTIONS, FILE_PROVIDER, Provider
from geossl_data.scenes.query import Query
from geossl_data.scenes.search import search
from geossl_data.scenes.snapshots import read_snapshot, snapshot_base

Make = Callable[..., Item]
PROVIDER = Provider(name=FILE_PROVIDER, url=None, collections=COLLECTIONS)
HERE = box(8.2, 47.2, 8.4, 47.4)


def ids(catalog: str | Path, query: Query) -> list[str]:
    return [item["id"] for items in read_snapshot(str(catalog), PROVIDER, query) for item in items]


@pytest.fixture
def items(s2_item: Make, s1_item: Make) -> list[Item]:
    times = [f"2023-{month:02}-10T10:00:00Z" for month in range(1, 13)]
    here = [s2_item(f"S2A_{month:02}", time=time) for month, time in enumerate(times, 1)]
    there = [s2_item(f"S2A_far_{month:02}", time=time, bounds=(20, 0, 21, 1)) for month, time in enumerate(times, 1)]
    return [*here, *there, *(s1_item(f"S1A_{month:02}", time=time) for month, time in enumerate(times, 1))]


def test_rows_are_left_out_by_box_and_time(tmp_path: Path, items: list[Item]) -> None:
    write_items(tmp_path / "a.parquet", items)
    june = Query(area=HERE, start=datetime(2023, 6, 1, tzinfo=UTC), end=datetime(2023, 7, 1, tzinfo=UTC))
    assert ids(tmp_path / "a.parquet", june) == ["S2A_06", "S1A_06"]
    assert len(ids(tmp_path / "a.parquet", Query())) == 36


def test_row_groups_that_cannot_match_are_not_read(
    tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(tmp_path / "a.parquet", items)
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=6)
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, **options: Any) -> Any:
        read.extend([] if "columns" in options else [group])
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    second_half = Query(area=HERE, start=datetime(2023, 7, 1, tzinfo=UTC), end=datetime(2024, 1, 1, tzinfo=UTC))
    expected = [f"{sensor}_{month:02}" for sensor in ("S2A", "S1A") for month in range(7, 13)]
    assert ids(tmp_path / "b.parquet", second_half) == expected
    assert read == [1, 5]


def test_cloudy_rows_are_counted_and_never_become_items(
    tmp_path: Path, s2_item: Make, s1_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudy = [s2_item(f"S2A_{cloud:02}", **{"eo:cloud_cover": float(cloud)}) for cloud in (5, 20, 21, 99)]
    unknown = s2_item("S2A_unknown")
    del unknown["properties"]["eo:cloud_cover"]
    write_items(tmp_path / "a.parquet", [*cloudy, unknown, s1_item("S1A")])
    outside: Counter[str] = Counter()
    asked = Query(area=HERE, max_cloud=20.0)
    given = [item["id"] for items in read_snapshot(str(tmp_path), PROVIDER, asked, outside) for item in items]
    assert given == ["S2A_05", "S2A_20", "S2A_unknown", "S1A"]
    assert outside == {"too cloudy": 2}


def test_a_row_group_without_a_match_is_not_read_whole(
    tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(tmp_path / "a.parquet", items)
    whole: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, **options: Any) -> Any:
        whole.extend([] if "columns" in options else [group])
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    # Between the two grounds, and within the box around both.
    assert ids(tmp_path / "a.parquet", Query(area=box(14.0, 20.0, 15.0, 21.0))) == []
    assert whole == []


def test_a_folder_of_files(tmp_path: Path, items: list[Item]) -> None:
    write_items(tmp_path / "deep" / "b.parquet", items[:12])
    write_items(tmp_path / "a.geoparquet", items[24:])
    (tmp_path / "README.md").write_text("not a table")
    assert ids(tmp_path, Query(area=HERE)) == [f"S1A_{m:02}" for m in range(1, 13)] + [
        f"S2A_{m:02}" for m in range(1, 13)
    ]
    found = search(str(tmp_path), area=HERE, start=date(2023, 1, 1), end=None, max_cloud=100.0, unknown_baseline="skip")
    assert found.base == str(tmp_path.resolve())
    assert len(found.scenes) == 24


def test_what_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such catalog file"):
        ids(tmp_path / "absent.parquet", Query())
    with pytest.raises(CatalogError, match="holds no stac-geoparquet file"):
        ids(tmp_path, Query())
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(CatalogError, match="not a readable Parquet table"):
        ids(tmp_path / "a.parquet", Query())
    pq.write_table(pq.ParquetFile.__doc__ and __import__("pyarrow").table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CatalogError, match="no column id, geometry"):
        ids(tmp_path / "a.parquet", Query())


def test_where_relative_addresses_start(tmp_path: Path) -> None:
    assert snapshot_base(str(tmp_path / "a.parquet")) == snapshot_base(str(tmp_path / "..")) + f"/{tmp_path.name}"
    assert snapshot_base("https://example.org/x/a.parquet") == "https://example.org/x/"
    assert snapshot_base("s3://bucket/items/a.parquet") == "s3://bucket/items/"


# ---------------------------------------------------------------------------------------------------- on the network


@pytest.fixture
def served(tmp_path: Path, loopback: Any) -> Path:
    """A folder of which the loopback server gives files, whole or by ranges."""
    folder = tmp_path / "served"
    folder.mkdir()
    loopback.ranges = []

    class Files(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str((folder / self.path[1:]).stat().st_size))
            self.end_headers()

        def do_GET(self) -> None:
            content = (folder / self.path[1:]).read_bytes()
            first, last = (int(text) for text in self.headers["Range"].removeprefix("bytes=").split("-"))
            loopback.ranges.append((first, last))
            part = content[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, format: str, *arguments: Any) -> None:
            return None

    loopback.server.RequestHandlerClass = Files
    return folder


def test_a_file_on_a_web_server_is_read_by_ranges(served: Path, loopback: Any, items: list[Item]) -> None:
    write_items(served / "a.parquet", items)
    url = f"{loopback.url}/a.parquet"
    found = search(url, area=HERE, start=None, end=None, max_cloud=100.0, unknown_baseline="skip")
    assert len(found.scenes) == 24
    optical = next(scene for scene in found.scenes if scene.sensor == "s2")
    assert optical.hrefs["B02"].startswith(f"{loopback.url}/s2/")
    assert loopback.ranges


def test_a_file_on_a_web_server_cannot_name_local_files(served: Path, loopback: Any, s2_item: Make) -> None:
    item = s2_item(folder="/etc")
    write_items(served / "a.parquet", [item, s2_item("S2A_fine", s2__mgrs_tile=None)])
    url = f"{loopback.url}/a.parquet"
    found = search(url, area=None, start=None, end=None, max_cloud=100.0, unknown_baseline="skip")
    assert [(row.id, row.reason) for row in found.skipped] == [("S2A_a", "href-refused")]
    assert "passwd" not in json.dumps([dict(item) for item in found.items])


def test_a_file_of_unknown_size(loopback: Any) -> None:
    loopback.answer = lambda *_: (404, {}, "")
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:\d+: refused the request"):
        ids(f"{loopback.url}/a.parquet", Query())


def test_an_object_store(tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    from obstore.store import LocalStore

    write_items(tmp_path / "items" / "part-0.parquet", items[:12])
    write_items(tmp_path / "items" / "part-1.parquet", items[24:])
    monkeypatch.setattr("obstore.store.from_url", lambda url: LocalStore(tmp_path))
    assert len(ids("s3://bucket/items", Query(area=HERE))) == 24
    assert len(ids("s3://bucket/items/part-1.parquet", Query(area=HERE))) == 12
    with pytest.raises(CatalogError, match="cannot be read"):
        ids("s3://bucket/absent.parquet", Query())
