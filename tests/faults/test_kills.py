"""A process that is killed between any two files of a stage: the next one brings about what nobody had disturbed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from geossl_data import pipeline
from geossl_data.errors import DatasetError
from geossl_data.evaluation.pictures.canvas import Canvas
from geossl_data.files import LOCK_NAME, atomic_path
from geossl_data.recipe import FetchOptions, PlacesOptions, SampleOptions
from geossl_data.report import REPORT_NAME

DRAW = SampleOptions(size=60, looks="seasons", block_km=1.0, test=0.3, val=0.1, count=12)
PLACES = PlacesOptions(count=20, size=60)
NOT_COMPARED = (LOCK_NAME, REPORT_NAME, "headers.sqlite")
"""Not of the dataset: `geossl report` makes the page again."""

Run = Callable[[Path], object]


class Killed(BaseException):
    """Nothing runs after it."""


@contextmanager
def killed_at(number: int) -> Iterator[None]:
    """Kill the process when it has written the file of this number beside its place, and leave that lying there."""
    count = 0
    replace = Path.replace

    def strike(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == number:
            shutil.copy(self, self.with_name(f".{Path(target).name}.1-dead.tmp"))
            raise Killed
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", strike)
        yield


@pytest.fixture(autouse=True)
def _blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are files like others here; to draw them would take more than half of the time."""

    def save(_: Canvas, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(path.name.encode())

    monkeypatch.setattr(Canvas, "save", save)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a dataset, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in NOT_COMPARED
    }


def stages(planet: Path) -> dict[str, tuple[Run, Run, Run]]:
    """Stage → what comes before it, what it was before, and what it is to be."""

    def fetch(cloud: float) -> Run:
        return lambda folder: pipeline.fetch(folder, FetchOptions(catalog=str(planet), max_cloud=cloud))

    def places(seed: int) -> Run:
        return lambda folder: pipeline.draw_places(folder, PLACES.model_copy(update={"seed": seed}))

    def sample(seed: int) -> Run:
        return lambda folder: pipeline.sample(folder, DRAW.model_copy(update={"seed": seed}))

    return {
        "places": (lambda folder: None, places(0), places(1)),
        "fetch": (lambda folder: None, fetch(40.0), fetch(60.0)),
        "sample": (fetch(60.0), sample(0), sample(1)),
    }


@pytest.mark.parametrize("stage", ["places", "fetch", "sample"])
def test_a_stage_killed_between_any_two_of_its_files_goes_on(planet: Path, tmp_path: Path, stage: str) -> None:
    before, former, latter = stages(planet)[stage]
    start, wanted = tmp_path / "start", tmp_path / "wanted"
    before(start)
    former(start)
    there = contents(start)
    shutil.copytree(start, wanted)
    latter(wanted)
    number = 0
    while True:
        number += 1
        folder = tmp_path / f"killed-{number}"
        shutil.copytree(start, folder)
        try:
            with killed_at(number):
                latter(folder)
            break
        except Killed:
            back = Path(shutil.copytree(folder, tmp_path / f"back-{number}"))
        latter(folder)
        assert contents(folder) == contents(wanted), f"killed at file {number}"
        # Whoever goes back to what was there before gets that, and not a mixture.
        former(back)
        assert contents(back) == there, f"killed at file {number}, then back"
    assert number > 2


def test_nothing_is_drawn_from_scenes_and_pairs_of_two_searches(planet: Path, tmp_path: Path) -> None:
    _, former, latter = stages(planet)["fetch"]
    latter(tmp_path / "data")
    with pytest.raises(Killed), killed_at(2):
        former(tmp_path / "data")
    with pytest.raises(DatasetError, match="of different searches"):
        pipeline.sample(tmp_path / "data", DRAW)
    former(tmp_path / "data")
    assert pipeline.sample(tmp_path / "data", DRAW).fresh
