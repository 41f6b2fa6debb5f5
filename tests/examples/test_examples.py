"""The examples run as they stand."""

import runpy
from pathlib import Path

import pytest

from geossl_data.recipe import read_recipe
from geossl_data.scenes.providers import PROVIDERS
from geossl_data.scenes.store import read_scenes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_quickstart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"](tmp_path)
    out = capsys.readouterr().out
    assert "'places drawn'" in out
    assert "random" in out


def test_own_strategy(built: Path) -> None:
    drawn = runpy.run_path(str(EXAMPLES / "own_strategy.py"))["main"](built)
    lats = [abs(sample.place.lat) for sample in drawn.samples]
    assert len(lats) == 12
    assert max(lats) < 45


def test_own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = runpy.run_path(str(EXAMPLES / "own_catalog.py"))
    monkeypatch.setitem(PROVIDERS, "my-archive", PROVIDERS["planetary-computer"])  # taken out again afterwards
    report = example["main"](tmp_path)
    assert report.facts["pairs"] > 0
    scenes = read_scenes(tmp_path / "data" / "scenes.parquet")
    assert {scene.collection for scene in scenes} == {"optical-ard", "radar-ard"}
    assert all("B02" in scene.hrefs for scene in scenes if scene.sensor == "s2")


@pytest.mark.parametrize("path", sorted((EXAMPLES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    assert read_recipe(path).fetch is not None
