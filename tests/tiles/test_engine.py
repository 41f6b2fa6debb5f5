"""Many windows at once: the pixels of each, few requests, in order, in bounded memory, whatever goes wrong."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.blobs import Cloud, Reply, Seen, serve_cloud
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import TokenError
from geossl_data.grid import Grid
from geossl_data.scenes.http import Http
from geossl_data.scenes.opening import access as access_module
from geossl_data.scenes.opening.access import Access
from geossl_data.scenes.opening.signing import Signer
from geossl_data.tiles import engine as engine_module
from geossl_data.tiles.engine import Batch, Engine
from geossl_data.tiles.rasters import Pixels, Rasters, SkipError, Want

WEST, NORTH, SIDE, BLOCK = 600_000.0, 5_000_040.0, 320, 64


def array_of(name: str) -> np.ndarray:
    seed = int.from_bytes(name.encode(), "big") % 2**32
    steps = np.random.default_rng(seed).integers(-9, 10, (SIDE, SIDE))
    return (np.cumsum(steps, axis=1) % 5000 + 1).astype(np.uint16)


def write(path: Path, array: np.ndarray, **profile: Any) -> None:
    import rasterio
    from rasterio.transform import Affine

    options = {"driver": "GTiff", "count": 1, "height": array.shape[0], "width": array.shape[1], "crs": "EPSG:32632"}
    options |= {"dtype": array.dtype, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    options |= {"transform": Affine(10, 0, WEST, 0, -10, NORTH), "predictor": 2}
    with rasterio.open(path, "w", **(options | profile)) as dataset:
        dataset.write(array, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("blobs")
    for name in "abcd":
        write(made / f"{name}.tif", array_of(name))
    write(made / "odd.tif", array_of("odd"), compress="packbits", predictor=1)
    return made


@pytest.fixture
def cloud(folder: Path) -> Iterator[Cloud]:
    with serve_cloud(folder) as served:
        served.needs_signature = False
        yield served


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        return None

    monkeypatch.setattr(access_module, "sleep", sleep)
    monkeypatch.setattr(Http, "pause", lambda self, seconds: None)


def want(href: str, column: int, row: int, side: int = 48) -> Want:
    return Want(href, Grid(32632, WEST + 10 * column, NORTH - 10 * row, 10.0, side, side), "uint16")


def assert_right(found: Pixels | SkipError, of: Want) -> None:
    assert isinstance(found, Pixels), found
    array = array_of(Path(of.href).stem)
    row, column = round((NORTH - of.grid.y) / 10), round((of.grid.x - WEST) / 10)
    np.testing.assert_array_equal(found.values, array[row : row + of.grid.height, column : column + of.grid.width])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_streams_are_in_order_and_every_window_is_right(folder: Path, data: st.DataObject) -> None:
    place = st.tuples(st.sampled_from("abcd"), st.integers(0, SIDE - 48), st.integers(0, SIDE - 48))
    groups = [
        [want(str(folder / f"{name}.tif"), column, row) for name, column, row in group]
        for group in data.draw(st.lists(st.lists(place, max_size=5), max_size=8))
    ]
    ahead = data.draw(st.sampled_from([1, 10_000, 10**9]))
    with Rasters(ahead_nbytes=ahead, threads=2) as rasters:
        results = list(rasters.stream(iter(groups)))
    assert len(results) == len(groups)
    for group, found in zip(groups, results, strict=True):
        assert len(group) == len(found)
        for one, of in zip(found, group, strict=True):
            assert_right(one, of)


def test_a_header_costs_one_request_and_a_block_is_fetched_once(cloud: Cloud) -> None:
    href = cloud.href("a.tif")
    with Rasters() as rasters:
        # All four share block (1, 1); the last two lie in it.
        wants = [want(href, 40, 40), want(href, 60, 60), want(href, 66, 70), want(href, 70, 66)]
        for found, of in zip(rasters.stream([[one] for one in wants]), wants, strict=True):
            assert_right(found[0], of)
        ranges = [seen.headers["range"] for seen in cloud.blobs]
        assert ranges[0].startswith("bytes=0-")
        starts = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in ranges[1:]]
        assert len(starts) <= 3
        asked = sum(last - first + 1 for first, last in starts)
        assert asked < Path(cloud.folder / "a.tif").stat().st_size
        covered = sorted(starts)
        assert all(before[1] < after[0] for before, after in pairwise(covered))
        before = len(cloud.blobs)
        assert_right(rasters.read(want(href, 250, 250)), want(href, 250, 250))
        assert len(cloud.blobs) - before <= 2


def test_headers_are_kept_for_later_stages(cloud: Cloud, tmp_path: Path) -> None:
    href = cloud.href("a.tif")
    for _ in range(2):
        with Rasters(headers=tmp_path / "headers.sqlite") as rasters:
            assert_right(rasters.read(want(href, 64, 64, 60)), want(href, 64, 64, 60))
    headers = [seen for seen in cloud.blobs if seen.headers["range"].startswith("bytes=0-")]
    assert (len(headers), len(cloud.blobs)) == (1, 3)


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path, headers = tmp_path / "a.tif", tmp_path / "headers.sqlite"
    write(path, array_of("b"))
    with Rasters(headers=headers) as rasters:
        rasters.read(want(str(path), 0, 0))
    write(path, array_of("a"), blockxsize=32, blockysize=32, compress="lzw")
    with Rasters(headers=headers) as rasters:
        wants = [want(str(path), 10 * n, 5 * n) for n in range(12)]
        for found, of in zip(rasters.stream([wants]), [wants], strict=True):
            for one, each in zip(found, of, strict=True):
                assert_right(one, each)


def test_a_block_that_is_damaged_on_its_way_is_fetched_once_more(cloud: Cloud) -> None:
    count = iter(range(1000))

    def behave(seen: Seen, number: int) -> Reply | None:
        if seen.headers["range"].startswith("bytes=0-") or next(count):
            return None
        right = cloud.file(seen)
        return Reply(right.status, right.headers, bytes(len(right.content)))

    cloud.on_blob = behave
    with Rasters() as rasters:
        assert_right(rasters.read(want(cloud.href("a.tif"), 0, 0)), want(cloud.href("a.tif"), 0, 0))


def test_what_fails_is_a_reason_and_costs_nothing_else(cloud: Cloud) -> None:
    def behave(seen: Seen, number: int) -> Reply | None:
        if "b.tif" not in seen.path or seen.headers["range"].startswith("bytes=0-"):
            return None
        right = cloud.file(seen)
        return Reply(right.status, right.headers, bytes(len(right.content)))

    cloud.on_blob = behave
    good, bad, gone = (cloud.href(f"{name}.tif") for name in ("a", "b", "gone"))
    groups = [[want(good, 0, 0), want(bad, 0, 0)], [want(gone, 0, 0)], [], [want(good, 100, 30), want(good, 300, 0)]]
    with Rasters() as rasters:
        results = list(rasters.stream(groups))
    kinds = [[one.reason if isinstance(one, SkipError) else "right" for one in found] for found in results]
    assert kinds == [["right", "read-failed"], ["missing-asset"], [], ["right", "outside"]]
    assert_right(results[3][0], groups[3][0])


def test_a_token_service_that_is_down_ends_the_stream(cloud: Cloud) -> None:
    cloud.on_token = lambda seen, number: Reply(500)
    with Rasters(access=Access(Signer(cloud.service()))) as rasters:
        stream = rasters.stream([[want(cloud.href("a.tif"), 0, 0)]])
        with pytest.raises(TokenError) as caught:
            next(stream)
    assert not isinstance(caught.value, SkipError)


def test_what_the_fast_path_does_not_know_gives_the_same(folder: Path, cloud: Cloud) -> None:
    for href in (str(folder / "odd.tif"), cloud.href("odd.tif")):
        with Rasters() as rasters:
            wants = [want(href, column, 2 * column) for column in (0, 40, 130)]
            for found, of in zip(rasters.stream([[one] for one in wants]), wants, strict=True):
                assert_right(found[0], of)
            assert [rasters.grid_of(href)] == [Grid(32632, WEST, NORTH, 10.0, SIDE, SIDE)]


def test_only_so_much_is_read_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand groups, of which two runs of a hundred windows may be there at a time."""
    alive, most = 0, 0
    start = Engine.start
    per_run = 100

    def counted(self: Engine, groups: Any) -> Batch:
        nonlocal alive, most
        alive += len(groups)
        most = max(most, alive)
        return start(self, groups)

    monkeypatch.setattr(Engine, "start", counted)
    hrefs = [str(folder / f"{name}.tif") for name in "abcd"]
    made = 0

    def groups() -> Iterator[list[Want]]:
        nonlocal made
        for number in range(3000):
            made += 1
            yield [want(hrefs[number % 4], number % 300, number * 7 % 300, 12)]

    with Rasters(ahead_nbytes=per_run * 12 * 12 * 2) as rasters:
        for number, (found,) in enumerate(rasters.stream(groups())):
            alive -= 1
            assert isinstance(found, Pixels)
            assert made - number <= 2 * per_run + 1
    assert number == 2999
    assert per_run <= most <= 2 * per_run


def test_a_stream_that_is_left_early_stops_reading(cloud: Cloud) -> None:
    with Rasters(ahead_nbytes=1) as rasters:
        stream = rasters.stream([want(cloud.href("a.tif"), column, 0)] for column in range(200))
        next(stream)
        stream.close()
        n_asked = len(cloud.blobs)
        assert_right(rasters.read(want(cloud.href("b.tif"), 0, 0)), want(cloud.href("b.tif"), 0, 0))
        assert len(cloud.blobs) < n_asked + 8


def test_no_more_than_so_many_ranges_are_under_way(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "UNDER_WAY", 3)
    with Rasters() as rasters:
        wants = [want(cloud.href(f"{name}.tif"), 64 * n, 64 * n) for name in "abcd" for n in range(4)]
        for found, of in zip(rasters.stream([wants]), [wants], strict=True):
            for one, each in zip(found, of, strict=True):
                assert_right(one, each)
    assert cloud.most_under_way <= 3


def test_threads_share_one_reader(folder: Path) -> None:
    wrong: list[object] = []
    with Rasters(threads=2) as rasters:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(10):
                name, column, row = str(rng.choice(list("abcd"))), int(rng.integers(250)), int(rng.integers(250))
                of = want(str(folder / f"{name}.tif"), column, row)
                expected = array_of(name)[row : row + 48, column : column + 48]
                if not np.array_equal(rasters.read(of).values, expected):
                    wrong.append(of)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_closed_rasters_leave_no_thread_of_their_own(folder: Path) -> None:
    with Rasters(threads=2) as rasters:
        rasters.read(want(str(folder / "a.tif"), 0, 0))
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("geossl-decode", "geossl-rasterio"))]
    assert_right(rasters.read(want(str(folder / "a.tif"), 5, 5)), want(str(folder / "a.tif"), 5, 5))
    rasters.close()
