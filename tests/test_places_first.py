"""Places first: drawn before any catalog is asked, searched around, and cut where they were drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geossl_data import pipeline, tables
from geossl_data.records import Sample, Site

Geossl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(tmp_path: Path, planet: Path, geossl: Geossl) -> Path:
    """A folder with places drawn on the ground of the tiny planet, and pairs around them."""
    folder = tmp_path / "world"
    bounds = ground_of(planet)
    drawn = ("--anywhere", "--count", 12, "--size", 30, "--bbox", *bounds, "--block-km", 1, "--strategy", "uniform")
    assert geossl("sample", folder, *drawn)[0] == 0
    where = ("--catalog", planet, "--places", folder / "places.parquet")
    code, _, err = geossl("fetch", folder, *where, "--max-cloud", 60, "--orbit", "auto")
    assert code == 0, err
    return folder


def ground_of(planet: Path) -> tuple[float, float, float, float]:
    """The middle of the first region that Sentinel-2 sees."""
    from geossl_data.scenes.search import search

    found = search(str(planet), area=None, start=None, end=None, max_cloud=100.0, unknown_baseline="skip")
    scene = next(scene for scene in found.scenes if scene.sensor == "s2")
    west, south, east, north = scene.footprint.bounds
    width, height = (east - west) / 8, (north - south) / 8
    return (west + width, south + height, east - width, north - height)


def test_samples_lie_where_they_were_drawn(world: Path, geossl: Geossl) -> None:
    assert geossl("sample", world)[0] == 0
    sites = tables.read_table(world / "places.parquet", Site)
    samples = tables.read_table(world / "samples.parquet", Sample)
    assert 0 < len(samples) <= 12
    for sample in samples:
        assert sample.place.size_px == 30
        near = min(max(abs(site.lon - sample.place.lon), abs(site.lat - sample.place.lat)) for site in sites)
        assert near < 0.001


def test_a_size_that_contradicts_the_places(world: Path, geossl: Geossl) -> None:
    code, _, err = geossl("sample", world, "--size", 60)
    assert code == 1
    assert "drawn beforehand are 30 px wide, 60 px asked for" in err


def test_the_recipe_makes_the_folder_again(world: Path, tmp_path: Path, geossl: Geossl) -> None:
    assert geossl("sample", world)[0] == geossl("shard", world)[0] == 0
    assert pipeline.recipe_of(world).fetch.places == "places.parquet"  # type: ignore[union-attr]
    assert geossl("run", world / "recipe.yaml", "--out", tmp_path / "again")[0] == 0
    assert pipeline.digest(tmp_path / "again") == pipeline.digest(world)
    code, out, _ = geossl("fetch", world)
    assert (code, "up to date" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fetch", "--places", "absent.parquet"), "absent.parquet: no such table of places"),
        (("fetch", "--places", "x", "--bbox", 1, 1, 2, 2), "bbox, area and places exclude each other"),
        (("sample", "--anywhere", "--bbox", -40, 30, -39, 31), "no land"),
        (("sample", "--anywhere", "--count", 5000, "--bbox", 8, 47, 8.1, 47.1), "asked for 5000 places, but only"),
    ],
)
def test_what_cannot_be(tmp_path: Path, geossl: Geossl, arguments: tuple[Any, ...], message: str) -> None:
    code, _, err = geossl(arguments[0], tmp_path / "x", *arguments[1:])
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1
