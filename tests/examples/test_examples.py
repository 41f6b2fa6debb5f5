"""The examples run as they stand."""

import gc
import runpy
from pathlib import Path

import numpy as np
import pytest

from geossl_data.recipe import read_recipe
from geossl_data.scenes.providers import PROVIDERS
from geossl_data.scenes.store import read_scenes
from geossl_data.shards.reading.shards import open_shards

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DATA = ROOT.parent / "shared" / "data"


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


def test_own_objective(built: Path, tmp_path: Path) -> None:
    from geossl_data.pretrain.objectives import registry

    example = runpy.run_path(str(EXAMPLES / "own_objective.py"))
    try:
        result = example["main"](built, tmp_path / "run", 1)
    finally:
        registry.OBJECTIVES.pop("simsiam", None)
    assert result.steps > 1
    assert result.terms["spread"] > 0.3
    assert [path.name for path in result.exported] == ["s2.safetensors"]


def test_own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = runpy.run_path(str(EXAMPLES / "own_catalog.py"))
    monkeypatch.setitem(PROVIDERS, "my-archive", PROVIDERS["planetary-computer"])  # taken out again afterwards
    report = example["main"](tmp_path)
    assert report.facts["pairs"] > 0
    scenes = read_scenes(tmp_path / "data" / "scenes.parquet")
    assert {scene.collection for scene in scenes} == {"optical-ard", "radar-ard"}
    assert all("B02" in scene.hrefs for scene in scenes if scene.sensor == "s2")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_read_shards(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "read_shards.py"))
    example["own_reader"](built)
    example["through_webdataset"](built)
    gc.collect()
    out = capsys.readouterr().out
    assert "goes on after 4 of" in out
    assert "webdataset: " in out


def test_own_rasters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (DATA / "ombria" / "index.csv").is_file():
        pytest.skip("no pictures: ../shared/data/ombria is absent")
    report = runpy.run_path(str(EXAMPLES / "own_rasters.py"))["main"](DATA / "ombria", tmp_path, 40)
    out = capsys.readouterr().out
    assert (report.facts["places written"], report.facts["looks"]) == (40, 80)
    assert "s2 (8, 2, 3, 256, 256) uint8" in out


def test_own_rasters_says_where_its_pictures_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runpy.run_path(str(EXAMPLES / "own_rasters.py"))["main"](tmp_path / "gone", tmp_path / "data") is None
    assert "the pictures are not here" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("folder", "most", "bands", "units"),
    [("eurosat", 20, 3, ""), ("eurosat/ms13", 4, 13, "top-of-atmosphere reflectance × 10000")],
)
def test_labelled_eurosat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, most: int, bands: int, units: str
) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no pictures: ../shared/data/{folder} is absent")
    report = runpy.run_path(str(EXAMPLES / "labelled_eurosat.py"))["main"](DATA / folder, tmp_path, most)
    out = capsys.readouterr().out
    assert report.facts["places written"] == most
    assert f"now: geossl evaluate {tmp_path}" in out
    with open_shards(tmp_path) as shards:
        member = shards.members["s2"]
        assert (len(member.bands), member.units) == (bands, units)
        assert member.bands[-1] == ("B02" if bands == 3 else "B8A")
        names = shards.notes["label_names"]
        assert all(entry.key.startswith(names[str(entry.labels[0])]) for entry in shards.entries)
        assert len(names) == (10 if bands == 3 else 2)
        if bands == 13:
            means = shards.read(shards.keys.index("Forest_2"), 0)["s2"].mean(axis=(1, 2))
            by_name = dict(zip(member.bands, means.tolist(), strict=True))
            assert by_name["B10"] < 50  # nothing is seen of the ground at 1.4 µm
            assert by_name["B8A"] == pytest.approx(by_name["B08"], rel=0.25)


def test_labelled_ombria(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (DATA / "ombria" / "index.csv").is_file():
        pytest.skip("no pictures: ../shared/data/ombria is absent")
    report = runpy.run_path(str(EXAMPLES / "labelled_ombria.py"))["main"](DATA / "ombria", tmp_path, 6)
    out = capsys.readouterr().out
    assert (report.facts["places written"], report.facts["looks"]) == (6, 12)
    assert "--task segmentation,change" in out
    with open_shards(tmp_path) as shards:
        assert {name: (member.bands, member.plane) for name, member in shards.members.items()} == {
            "s1": (("VV",), False),
            "s2": (("B04", "B03", "B02"), False),
            "mask-water": (("mask-water",), True),
        }
        assert {entry.members for entry in shards.entries} == {(("s1", "s2"), ("s1", "s2", "mask-water"))}
        assert {value for index in range(6) for value in np.unique(shards.read(index, 1)["mask-water"]).tolist()} == {
            0,
            255,
        }


@pytest.mark.parametrize("name", ["labelled_eurosat", "labelled_ombria"])
def test_labelled_pictures_that_are_not_there_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](tmp_path / "gone", tmp_path / "data") is None
    assert "name the folder that holds" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("path", sorted((EXAMPLES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    assert read_recipe(path).fetch is not None
