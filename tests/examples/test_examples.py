"""The examples run as they stand."""

import runpy
from pathlib import Path

import pytest

from geossl_data.recipe import read_recipe

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


@pytest.mark.parametrize("path", sorted((EXAMPLES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    assert read_recipe(path).fetch is not None
