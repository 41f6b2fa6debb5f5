"""Processes change nothing but the time it takes, and Ctrl-C is for the process that started them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import ReadError
from geossl_data.records import Sample
from geossl_data.shards.cluster import interrupts_held, local_cluster, on_cluster
from geossl_data.shards.plan import plan_shards
from geossl_data.shards.writer import write_shards
from geossl_data.tiles.build import Tile, build_tile
from geossl_data.tiles.rasters import Rasters

Make = Callable[..., Sample]
Build = Callable[[Sample], Tile]
Hashes = Callable[[Path], dict[str, str]]
Factory = Callable[[Build], Callable[[], Any]]


def test_processes_write_the_same_bytes_as_one(tmp_path: Path, sample: Make, hashes: Hashes, factory: Factory) -> None:
    """Two worker processes cut real windows; one of the places lies outside and is skipped."""
    import rasterio
    from shapely import box

    from geossl_data.bands import BANDS, S1_BANDS, S2_BANDS
    from geossl_data.records import Scene

    samples = [sample(number, "train" if number else "val", n_looks=1) for number in range(4)]
    rng = np.random.default_rng(0)
    scenes = {}
    for sensor, names in (("s2", S2_BANDS), ("s1", S1_BANDS)):
        hrefs = {}
        for band in names:
            size = BANDS[band].resolution_m
            shape = (1200 // size, 2520 // size)  # reaches places 0 to 2
            array = rng.integers(1, 9000, shape) if sensor == "s2" else rng.gamma(4, 0.05, shape)
            array = array.astype(np.uint16 if sensor == "s2" else np.float32)
            hrefs[band] = str(tmp_path / f"{band}.tif")
            profile = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": "EPSG:32632"}
            transform = rasterio.Affine(size, 0, 500_000, 0, -size, 5_000_040)
            with rasterio.open(
                hrefs[band], "w", height=shape[0], width=shape[1], transform=transform, **profile
            ) as target:
                target.write(array, 1)
        for number in range(4):
            look = samples[number].looks[0]
            scene_id = look.s2_id if sensor == "s2" else look.s1_id
            scenes[scene_id] = Scene(
                id=scene_id,
                collection=sensor,
                sensor=sensor,
                acquired=look.acquired,
                ends=look.acquired,
                footprint=box(8, 45, 9, 46),
                hrefs=hrefs,
                grids={},
            )
    plans = [
        plan
        for number, part in enumerate((samples[:1], samples[1:2], samples[2:3], samples[3:]))
        for plan in (replace(plan_shards(part, shard_mb=1, seed=0)[0], name=f"{part[0].split}-{number:06d}"),)
    ]
    build = partial(build_tile, scenes=scenes, labels=[], rasters=Rasters(), min_valid=0.9, catalog_base=str(tmp_path))
    one = write_shards(plans, tmp_path / "one", factory(build), workers=1, fingerprint="f")
    two = write_shards(plans, tmp_path / "two", factory(build), workers=2, fingerprint="f")
    assert one == two
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert [row.reason for report in one for row in report.skipped] == ["outside"]
    assert len(list((tmp_path / "two").glob("*.tar"))) == 3


@pytest.fixture
def other_thread() -> Iterator[None]:
    """A thread that takes signals, as the one that draws a progress bar."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    yield
    ended.set()
    thread.join()


def mask() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, set())}


@pytest.mark.usefixtures("other_thread")
def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    before, handler, reached = mask(), signal.getsignal(signal.SIGINT), []

    def held() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(mask() - before)

    with pytest.raises(KeyboardInterrupt):
        held()
    assert reached == [{signal.SIGINT}]
    assert (mask(), signal.getsignal(signal.SIGINT)) == (before, handler)


@settings(max_examples=8, deadline=None)
@given(st.sets(st.sampled_from([signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])))
def test_the_mask_is_afterwards_as_it_was(blocked: set[signal.Signals]) -> None:
    outer = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        with interrupts_held():
            assert mask() == {*blocked, signal.SIGINT}
        assert mask() == blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, outer)


def test_workers_started_from_any_thread_block_ctrl_c() -> None:
    found: list[Any] = []

    def run() -> None:
        before = mask()
        with local_cluster(1) as client:
            blocked = client.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result(timeout=30)
            found.extend([signal.SIGINT in blocked, mask() == before])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True, True]


def test_the_error_of_a_task_comes_back_as_it_was(sample: Make) -> None:
    def work(plan: Any) -> Any:
        raise ReadError(f"{plan.name}: no luck")

    plans = plan_shards([sample(0)], shard_mb=1, seed=0)
    with pytest.raises(ReadError, match="train-000000: no luck"):
        next(on_cluster(work, plans, workers=1))
