"""The change score on the tiny planet: planted changes come first, for any number of workers and any company."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geossl_data import pipeline, tables
from geossl_data.pipeline._measure import CHANGE, MEASURES, _mosaic, measure
from geossl_data.recipe import FetchOptions
from geossl_data.records import Pair, Scene
from geossl_data.sampling.candidates import Candidate, find_candidates
from geossl_data.sampling.measures import Measures
from geossl_data.scenes.store import read_scenes
from geossl_data.tiles.rasters import Pixels, Rasters, Wanted

SIZE = 60


@dataclass(frozen=True)
class Fetched:
    """A folder whose scenes are found, its candidates, and the share of each that changed from 2021 to 2023."""

    folder: Path
    scenes: list[Scene]
    candidates: list[Candidate]
    changed: NDArray[np.float64]

    def at(self, folder: Path) -> Path:
        """A folder of the test's own with the same scenes and pairs."""
        folder.mkdir()
        for name in ("scenes.parquet", "pairs.parquet"):
            (folder / name).write_bytes((self.folder / name).read_bytes())
        return folder


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory, planet: Path) -> Fetched:
    import rasterio

    folder = tmp_path_factory.mktemp("change") / "data"
    pipeline.fetch(folder, FetchOptions(catalog=str(planet), max_cloud=60))
    scenes = read_scenes(folder / "scenes.parquet")
    candidates = find_candidates(scenes, tables.read_table(folder / "pairs.parquet", Pair), SIZE)[0]
    maps = {}
    for scene in scenes:
        if scene.sensor == "label" and scene.acquired.year == 2023:
            with rasterio.open(scene.hrefs["class"].replace("class.tif", "change.tif")) as dataset:
                maps[scene.grids["class"]] = dataset.read(1)
    by_id = {scene.id: scene for scene in scenes}
    shares = []
    for candidate in candidates:
        tile, place = by_id[candidate.pairs[0].s2_id].grids["B02"], candidate.place
        row, column = round((tile.y - place.y) / 10), round((place.x - tile.x) / 10)
        shares.append(float((maps[tile][row : row + SIZE, column : column + SIZE] > 0).mean()))
    return Fetched(folder, scenes, candidates, np.array(shares))


@pytest.fixture(scope="session")
def measured(fetched: Fetched) -> Measures:
    found, skipped = measure(fetched.folder, fetched.candidates, fetched.scenes, sensors="both", size=SIZE, workers=1)
    assert skipped == []
    return found


def auc(changed: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    return float(np.mean(np.sign(changed[:, None] - others[None, :]) / 2 + 0.5))


def assert_same(one: Measures, other: Measures, rows: Sequence[int] | slice = slice(None)) -> None:
    for entry in fields(Measures):
        np.testing.assert_array_equal(getattr(one, entry.name)[rows], getattr(other, entry.name), err_msg=entry.name)


@pytest.mark.parametrize("name", ["change_s2", "change_s1", "change"])
def test_planted_changes_score_above_everything_else(fetched: Fetched, measured: Measures, name: str) -> None:
    scores = getattr(measured, name)
    known = np.isfinite(scores)
    changed, others = scores[known & (fetched.changed >= 0.05)], scores[known & (fetched.changed == 0)]
    assert len(changed) >= 5
    assert len(others) >= 10
    assert auc(changed, others) >= 0.95
    assert float(np.median(others)) < 0.5 < 2 < float(np.median(changed))


def test_both_sensors_are_there_where_both_are_known(measured: Measures) -> None:
    known = np.isfinite(measured.change_s2) & np.isfinite(measured.change_s1)
    np.testing.assert_allclose(
        measured.change[known], np.hypot(measured.change_s2, measured.change_s1)[known], rtol=1e-12
    )
    assert np.isfinite(measured.features).all()
    assert measured.features.shape == (len(measured), 16)
    assert (measured.entropy >= 0).all()
    assert (measured.entropy <= 6).all()


def test_eight_workers_measure_the_same(fetched: Fetched, measured: Measures, tmp_path: Path) -> None:
    folder = fetched.at(tmp_path / "data")
    again, _ = measure(folder, fetched.candidates, fetched.scenes, sensors="both", size=SIZE, workers=8)
    assert_same(measured, again)
    maps, same = (sorted((at / CHANGE).iterdir()) for at in (fetched.folder, folder))
    assert len(maps) == len(same) >= 1
    assert [path.read_bytes() for path in maps] == [path.read_bytes() for path in same]


def test_a_place_has_the_same_score_in_any_company(fetched: Fetched, measured: Measures, tmp_path: Path) -> None:
    folder, known = fetched.at(tmp_path / "data"), np.flatnonzero(np.isfinite(measured.change))
    rows = [int(known[-1]), 0, int(known[0])]
    few, _ = measure(folder, [fetched.candidates[row] for row in rows], fetched.scenes, sensors="both", size=SIZE)
    assert_same(measured, few, rows)


def test_what_is_known_is_not_read_again(
    fetched: Fetched, measured: Measures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetched.at(tmp_path / "data")
    first, _ = measure(folder, fetched.candidates[:3], fetched.scenes, sensors="s2", size=SIZE)
    n_reads = 0
    read = Rasters.read

    def counted(self: Rasters, want: Wanted) -> Pixels:
        nonlocal n_reads
        n_reads += 1
        return read(self, want)

    monkeypatch.setattr(Rasters, "read", counted)
    again, _ = measure(folder, fetched.candidates[:3], fetched.scenes, sensors="s2", size=SIZE)
    assert n_reads == 0
    assert_same(first, again)
    more, _ = measure(folder, fetched.candidates[2:4], fetched.scenes, sensors="s2", size=SIZE)
    assert n_reads > 0
    np.testing.assert_array_equal(more.change_s2, measured.change_s2[2:4])
    np.testing.assert_array_equal(more.change, more.change_s2)
    assert np.isnan(more.change_s1).all()
    assert more.features.shape == (2, 12)
    n_reads = 0
    measure(folder, fetched.candidates[:3], fetched.scenes, sensors="s2", size=SIZE, fresh=True)
    assert n_reads > 0


def test_each_overview_is_read_once_for_all_places(
    fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hrefs: list[str] = []
    read = Rasters.read

    def noted(self: Rasters, want: Wanted) -> Pixels:
        hrefs.append(want.href)
        return read(self, want)

    monkeypatch.setattr(Rasters, "read", noted)
    folder = fetched.at(tmp_path / "data")
    one_zone = [candidate for candidate in fetched.candidates if candidate.place.epsg == 32720]
    measure(folder, one_zone, fetched.scenes, sensors="both", size=SIZE, workers=4)
    assert len(one_zone) > 20
    assert len(hrefs) == len(set(hrefs))


def test_a_scene_that_cannot_be_read_costs_its_looks_and_no_more(fetched: Fetched, tmp_path: Path) -> None:
    folder = fetched.at(tmp_path / "data")
    chosen = [candidate for candidate in fetched.candidates if candidate.place.epsg == 32720][:6]
    dates = sorted({pair.s2_id for candidate in chosen for pair in candidate.pairs})
    broken = {dates[0]: {"B08": str(tmp_path / "gone.tif")}, dates[1]: {"B11": ""}}
    scenes = [
        replace(
            scene,
            hrefs={name: href for name, href in ({**scene.hrefs, **broken.get(scene.id, {})}).items() if href},
        )
        for scene in fetched.scenes
    ]
    found, skipped = measure(folder, chosen, scenes, sensors="both", size=SIZE)
    assert [(row.stage, row.id, row.reason) for row in skipped] == [
        ("sample", dates[0], "read-failed"),
        ("sample", dates[1], "missing-asset"),
    ]
    assert np.isfinite(found.change_s1).any()
    again, same = measure(folder, chosen, scenes, sensors="both", size=SIZE)
    assert same == skipped
    assert_same(found, again)


def test_places_without_two_periods_have_features_but_no_change(fetched: Fetched, tmp_path: Path) -> None:
    folder = fetched.at(tmp_path / "data")
    early = [
        replace(candidate, pairs=tuple(pair for pair in candidate.pairs if pair.s2_acquired.year == 2021))
        for candidate in fetched.candidates[:4]
    ]
    found, skipped = measure(folder, early, fetched.scenes, sensors="both", size=SIZE)
    assert skipped == []
    assert np.isnan([found.change, found.change_s2, found.change_s1]).all()
    assert np.isfinite(found.features).all()
    assert np.isfinite(found.entropy).all()
    assert not (folder / CHANGE).exists()


def test_slices_of_one_pass_make_one_image() -> None:
    first, second = np.ones((2, 4, 4), np.float32), np.full((2, 4, 4), 2, np.float32)
    first[0, 2:], second[:, :1] = np.nan, np.nan
    mosaic = _mosaic([first, second])
    np.testing.assert_array_equal(mosaic[:, :2], 1)
    np.testing.assert_array_equal(mosaic[:, 2:], 2, err_msg="both polarisations are of one slice")


def test_no_candidates_have_no_measures(fetched: Fetched, tmp_path: Path) -> None:
    found, skipped = measure(fetched.at(tmp_path / "data"), [], fetched.scenes, sensors="both", size=SIZE)
    assert (len(found), skipped, found.features.shape) == (0, [], (0, 16))


def test_the_map_shows_the_change_where_it_is(fetched: Fetched, measured: Measures) -> None:
    import rasterio

    assert (fetched.folder / MEASURES).is_file()
    best = int(np.nanargmax(measured.change))
    place = fetched.candidates[best].place
    inside = []
    for path in (fetched.folder / CHANGE).glob(f"{place.epsg}-*.tif"):
        with rasterio.open(path) as dataset:
            if dataset.bounds.left <= place.x < dataset.bounds.right:
                row, column = dataset.index(place.x + 10, place.y - 10)
                inside.append(dataset.read(1)[row : row + 30, column : column + 30])
                assert dataset.res == (20.0, 20.0)
    assert any(np.nanmax(window) >= measured.change[best] for window in inside)
