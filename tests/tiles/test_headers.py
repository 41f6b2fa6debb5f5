"""Headers are kept in memory and in a file, which is a cache and nothing more."""

import logging
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from geossl_data.tiles import headers as headers_module
from geossl_data.tiles.cogs.header import Header, Level
from geossl_data.tiles.headers import Headers, Known


def known(number: int = 1, etag: str | None = '"a"') -> Known:
    offsets = np.arange(1, 5, dtype=np.int64).reshape(2, 2) * 1000 * number
    level = Level(100, 90, 64, 64, offsets, np.full((2, 2), 500, np.int64))
    transform = (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_040.0)
    header = Header((level,), np.dtype("<u2"), "deflate", 2, 0.0, 32632, transform)
    return Known(header, 12_345, etag)


def assert_same(found: Known | None, expected: Known) -> None:
    assert found is not None
    assert (found.nbytes, found.etag) == (expected.nbytes, expected.etag)
    np.testing.assert_array_equal(found.header.levels[0].offsets, expected.header.levels[0].offsets)
    assert found.header.transform == expected.header.transform


def test_what_is_put_is_found_again_also_by_others(tmp_path: Path) -> None:
    path = tmp_path / "headers.sqlite"
    first = Headers(path)
    assert first.get("a.tif") is None
    first.put("a.tif", known())
    assert_same(first.get("a.tif"), known())
    second = Headers(path)
    assert_same(second.get("a.tif"), known())
    first.forget("a.tif")
    assert first.get("a.tif") is None
    assert Headers(path).get("a.tif") is None
    assert_same(second.get("a.tif"), known())


def test_without_a_file_it_remembers_the_most_recently_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers_module, "MAX_IN_MEMORY", 2)
    headers = Headers()
    for name in "ab":
        headers.put(name, known())
    headers.get("a")
    headers.put("c", known())
    assert [headers.get(name) is None for name in "abc"] == [False, True, False]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_file_that_is_of_no_use_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "headers.sqlite"
    path.write_bytes(content)
    caplog.set_level(logging.INFO)
    headers = Headers(path)
    headers.put("a.tif", known())
    assert_same(headers.get("a.tif"), known())
    assert ("cannot be used" in caplog.text) == bool(content)


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    headers = Headers(tmp_path / "absent" / "headers.sqlite")
    headers.put("a.tif", known())
    assert_same(headers.get("a.tif"), known())
    assert not (tmp_path / "absent").exists()


def test_a_damaged_entry_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "headers.sqlite"
    Headers(path).put("a.tif", known())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE headers SET header = ?", (b"nonsense",))
    connection.close()
    assert Headers(path).get("a.tif") is None


def test_several_threads_and_connections_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "headers.sqlite"
    shared = Headers(path)

    def work(start: int) -> None:
        own = Headers(path)
        for number in range(start, start + 10):
            (shared if number % 2 else own).put(f"{number}.tif", known(number + 1))
        own.close()

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = Headers(path)
    for number in range(40):
        assert_same(fresh.get(f"{number}.tif"), known(number + 1))
