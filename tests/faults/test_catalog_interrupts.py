"""A fetch that is killed or stopped half way: what was answered is not asked for again, and nothing is half-written."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import catalogs
from faults.catalogs import Catalog, serve

from geossl_data.scenes.store import read_scenes

YEARS = range(2014, 2020)
ANSWERED = 4
UNDER_WAY = 4
"""Requests that a STAC API given by its URL gets at a time."""


@pytest.fixture
def archive() -> Iterator[Catalog]:
    """A catalog of six years, two scenes of each sensor a year; questions span a year at most."""
    items = []
    for year in YEARS:
        items += [catalogs.s2(f"S2A_{year}_{month}", f"{year}-0{month}-10T10:00:00Z") for month in (3, 8)]
        items += [catalogs.s1(f"S1A_{year}_{month}", f"{year}-0{month}-10T17:00:00Z") for month in (3, 8)]
    with serve(items) as served:
        yield served


def command(archive: Catalog, folder: Path) -> list[str]:
    asked = ["--bbox", 8.2, 47.2, 8.8, 47.8, "--from", f"{YEARS[0]}-01-01", "--to", f"{YEARS[-1]}-12-31"]
    return [sys.executable, "-m", "geossl_cli.app", "fetch", *map(str, [folder, "--catalog", archive.url, *asked])]


def windows(asked: list[catalogs.Asked]) -> list[tuple[str, str]]:
    return [(one.parameters["collections"][0], one.parameters["datetime"]) for one in asked]


def _kept(folder: Path) -> int:
    """How many answers the journal of a search holds."""
    return len(list(folder.rglob("*.json.gz")))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_1_21_a_finished_window_is_not_asked_for_again(archive: Catalog, tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "data"
    stalled = range(ANSWERED + 1, 1000)
    archive.spoil(catalogs.stall(), at=stalled)
    with subprocess.Popen(
        command(archive, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            deadline = time.monotonic() + 180
            while _kept(folder) < ANSWERED or len(archive.searches()) < ANSWERED + UNDER_WAY:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(how)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert (process.returncode, err) == (
            143 if how == signal.SIGTERM else 1,
            "geossl: interrupted; run the same command again to go on from here\n",
        )
    assert not (folder / "scenes.parquet").exists()
    assert not (folder / "pairs.parquet").exists()
    first = windows(archive.searches())
    assert len(first) == ANSWERED + UNDER_WAY

    archive.stopped.set()
    archive.forget_faults()
    done = subprocess.run(command(archive, folder), capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    second = windows(archive.searches())[len(first) :]
    assert set(first[:ANSWERED]).isdisjoint(second)
    assert len(second) == len(set(second))
    scenes = read_scenes(folder / "scenes.parquet")
    assert {scene.id for scene in scenes} == {item["id"] for item in archive.items}
    assert [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"] == []


def test_1_21_another_question_starts_anew(archive: Catalog, tmp_path: Path) -> None:
    """What an interrupted fetch of something else has left is of no use and in nobody's way."""
    folder = tmp_path / "data"
    archive.spoil(catalogs.status(400), at=range(ANSWERED, 1000))
    assert subprocess.run(command(archive, folder), capture_output=True, check=False).returncode == 1
    archive.forget_faults()
    first = windows(archive.searches())
    other = command(archive, folder)
    other[other.index("--bbox") + 1] = "8.3"
    assert subprocess.run(other, capture_output=True, check=False).returncode == 0
    assert set(first) <= set(windows(archive.searches())[len(first) :])
