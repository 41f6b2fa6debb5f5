"""The rehearsal's archive: tiles where the real ones are, satellites when they pass, items that geossl takes whole."""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.grid import EARTH_RADIUS_KM, unit_vectors
from geossl_data.scenes.search import search

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def planet() -> Iterator[Any]:
    """The modules of the rehearsal, which are no package of the project."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import planet.archive
        import planet.orbits
        import planet.passes
        import planet.stages
        import planet.tiles

        yield planet
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in [name for name in sys.modules if name == "planet" or name.startswith("planet.")]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("tile", "epsg", "x", "y"),
    [
        ("32TMT", 32632, 399960, 5300040),
        ("13TEF", 32613, 499980, 4600020),
        ("58UFG", 32658, 600000, 6200040),
        ("33KTA", 32733, 199980, 8100040),
    ],
)
def test_tiles_lie_where_the_real_ones_do(planet: Any, tile: str, epsg: int, x: float, y: float) -> None:
    epsgs, xs, ys, names = planet.tiles._of_zone(epsg % 100, epsg < 32700)
    row = names.tolist().index(tile)
    assert (epsgs[row], xs[row], ys[row]) == (epsg, x, y)
    assert len(set(names.tolist())) == len(names)


def test_the_satellites_keep_their_local_time_and_come_back(planet: Any) -> None:
    orbit = planet.orbits.SENTINEL_2
    first = planet.orbits.microseconds(datetime(2020, 6, 1, tzinfo=UTC))
    day = planet.orbits.DAY_US
    numbers, starts = orbit.starts_us(first, first + 10 * day, 0.0)
    assert sorted(numbers.tolist()) == list(range(143))
    again, later = orbit.starts_us(first + 10 * day, first + 20 * day, 0.0)
    assert again.tolist() == numbers.tolist()
    assert abs(later - starts - 10 * day).max() <= 1
    # Where it crosses the equator southwards, half an orbit on, it is half past ten.
    down = starts + orbit.period_us / 2
    at = orbit.track(np.full(143, np.pi), orbit.node_lon(numbers))
    lon = np.degrees(np.arctan2(at[:, 1], at[:, 0]))
    hours = (down / 3.6e9 + lon / 15) % 24
    assert abs(hours - 10.5).max() < 0.01


def test_how_far_a_point_lies_beside_the_track(planet: Any) -> None:
    orbit = planet.orbits.SENTINEL_2
    lon, lat = np.array([20.0, 23.0, 21.0, 60.0]), np.array([0.0, 40.0, 70.0, -30.0])
    points, node = unit_vectors(lon, lat), -130.0
    beside, _ = orbit.seen_southwards(points, node)
    u = np.linspace(np.pi / 2, 3 * np.pi / 2, 40_001)
    track = orbit.track(u, node)
    for point, found in zip(points, beside.tolist(), strict=True):
        nearest = EARTH_RADIUS_KM * np.arccos(np.clip(track @ point, -1.0, 1.0)).min()
        assert abs(found) == pytest.approx(nearest, abs=0.5) or nearest > 800
    west, east = orbit.beside(u[20_000:20_001], node, 100.0), orbit.beside(u[20_000:20_001], node, -100.0)
    assert west[0, 0] < east[0, 0]


def test_the_items_are_taken_whole(planet: Any, tmp_path: Path) -> None:
    tiles = planet.tiles
    epsg, x, y, names = tiles._of_zone(32, True)
    rows = np.array([names.tolist().index(name) for name in ("32TMT", "32TNT", "32TMS")])
    corners = np.stack(
        [tiles._lonlat(32632, x[rows] + e * tiles.SIDE_M, y[rows] - s * tiles.SIDE_M) for e, s in _CORNERS], axis=1
    )
    some = tiles.Tiles(
        name=names[rows], epsg=epsg[rows], x=x[rows], y=y[rows], corners=corners, centre=corners.mean(axis=1)
    )
    views = planet.passes.views_of(some)
    assert 0.25 < 2 * len(views.tile) / len(some) / 10 < 0.6
    node = planet.orbits.SENTINEL_1
    frames = planet.passes.Frames(
        orbit=np.array([3, 4]),
        since_us=np.array([10, 20]) * planet.orbits.SLICE_US,
        is_ascending=np.array([True, True]),
        corners=np.stack([_frame(node, number, part) for number, part in ((3, 10), (4, 20))]),
        middle=np.array([[0.0, 0.0], [0.0, 0.0]]),
        in_europe=np.array([True, False]),
    )
    start = datetime(2020, 6, 1, tzinfo=UTC)
    counted = planet.archive.write_archive(tmp_path / "archive", some, views, frames, start, start + timedelta(days=24))
    found = search(
        str(tmp_path / "archive"),
        area=None,
        start=start.date(),
        end=date(2020, 6, 30),
        max_cloud=100.0,
        unknown_baseline="skip",
        margin=timedelta(days=3),
    )
    assert found.skipped == []
    optical = [scene for scene in found.scenes if scene.sensor == "s2"]
    assert len(optical) == counted.s2_items > 0
    # Both satellites in Europe, one of them elsewhere; each frame comes back after 12 days.
    assert len(found.scenes) - len(optical) == counted.s1_items == 2 * 2 + 2
    assert {scene.mgrs_tile for scene in optical} == {"32TMT", "32TNT", "32TMS"}
    assert {scene.boa_offset for scene in optical} == {0}
    assert all(len(scene.grids) == 13 and scene.grids["B02"].bounds[2] for scene in optical)


_CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def _frame(orbit: Any, number: int, part: int) -> Any:
    u, node = np.array([part, part, part + 1, part + 1]) * 0.0265, orbit.node_lon(number)
    beside = [orbit.beside(u[k : k + 1], node, aside)[0] for k, aside in enumerate((340.0, 590.0, 590.0, 340.0))]
    return np.array(beside)


def test_the_strip_grows_with_the_places(planet: Any) -> None:
    centre = np.column_stack([np.linspace(-180, 179.9, 3600), np.zeros(3600)])
    columns = {name: np.zeros(3600) for name in ("name", "epsg", "x", "y", "corners")}
    tiles = planet.tiles.Tiles(centre=centre, **columns)
    assert planet.stages.strip_of(1_000_000, tiles)[:3:2] == (-180.0, 180.0)
    widths = [planet.stages.strip_of(places, tiles)[2] for places in (10_000, 100_000)]
    assert widths == pytest.approx([3.6, 36.0], abs=0.2)
    boxes = np.array(
        [[(lon, 0.0), (lon + 1, 0.0), (lon + 1, 1.0), (lon, 1.0)] for lon in (-0.5, -1.5, 3.0, 3.7, -180.5)]
    )
    assert planet.stages._meets(boxes, 0.0, 3.6).tolist() == [True, False, True, False, False]
