"""The orbit that a tile keeps to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from shapely import box

from geossl_data.records import Scene
from geossl_data.scenes.matching import match
from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.scenes.matching.orbits import chosen, orbit_codes, tile_numbers

START = datetime(2023, 6, 1, tzinfo=UTC)


def scene(name: str, sensor: Any, hours: float, west: float = 8, **more: Any) -> Scene:
    time = START + timedelta(hours=hours)
    ground = box(west, 47, west + 1, 48)
    return Scene(id=name, collection="c", sensor=sensor, acquired=time, ends=time, footprint=ground, hrefs={}, **more)


def test_what_each_rule_tells_apart() -> None:
    orbits = [(15, "ascending"), (15, "descending"), (15, None), (None, "ascending"), (16, "ascending"), (None, None)]
    s1 = Acquisitions.of(
        [scene(str(n), "s1", n, relative_orbit=number, orbit_state=state) for n, (number, state) in enumerate(orbits)]  # type: ignore[arg-type]
    )
    assert orbit_codes(s1, "any").tolist() == [0] * 6
    assert orbit_codes(s1, "ascending").tolist() == [0, -1, -1, 0, 0, -1]
    assert orbit_codes(s1, "descending").tolist() == [-1, 0, -1, -1, -1, -1]
    assert orbit_codes(s1, "auto").tolist() == [0, 1, -1, 0, 0, -1]
    codes = orbit_codes(s1, "same-relative").tolist()
    assert codes[0] < codes[1] < codes[2] < codes[4]
    assert (codes[3], codes[5]) == (-1, -1)


def test_tiles_and_degree_cells() -> None:
    s2 = [scene("a", "s2", 0, mgrs_tile="32TMT"), scene("b", "s2", 0), scene("c", "s2", 0, 8.25)]
    s2 += [scene("d", "s2", 0, 368.25), scene("e", "s2", 0, 8.75), scene("f", "s2", 0, mgrs_tile="32TMT")]
    numbers = tile_numbers(Acquisitions.of(s2)).tolist()
    assert numbers[0] == numbers[5]
    assert numbers[1] == numbers[2] == numbers[3]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize(
    ("anchor", "overlap", "gap", "expected"),
    [
        ([0, 1, 0, 0], [0.1, 0.1, 1.0, 1.0], [9, 9, 1, 1], 7),  # two acquisitions before two passes of one
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.6], [1, 1, 9, 9], 8),  # the larger overlap
        ([0, 1, 0, 1], [0.3, 0.7, 0.7, 0.3 + 1e-9], [3, 1, -1, -2], 8),  # the smaller median gap: 1.5 against 2
        ([0, 1, 0, 1], [0.3, 0.7, 0.7, 0.3], [1, 2, -2, 1], 7),  # the smaller number
    ],
)
def test_the_choice(anchor: list[int], overlap: list[float], gap: list[int], expected: int) -> None:
    code, tile = np.array([7, 7, 8, 8]), np.zeros(4, dtype=np.int64)
    order = np.lexsort((np.abs(gap), anchor))
    columns = (tile, code, np.array(anchor), np.array(overlap), np.array(gap))
    keep = chosen(*(column[order] for column in columns))
    assert set(code[order][keep].tolist()) == {expected}
    assert keep.sum() == 2


def test_1_80_near_a_pole_one_orbit_sees_a_place_both_ways() -> None:
    """A relative orbit alone would mix directions where its ascending and descending halves meet."""
    dates = [scene(f"a{n}", "s2", 300 * n, mgrs_tile="32XMT") for n in range(3)]
    radar = [scene(f"u{n}", "s1", 300 * n + 1, relative_orbit=15, orbit_state="ascending") for n in (0, 1)]
    radar += [scene(f"d{n}", "s1", 300 * n + 2, relative_orbit=15, orbit_state="descending") for n in (0, 1, 2)]
    pairs = match(dates, radar, max_gap=timedelta(days=1), orbit="same-relative")
    assert [pair.s1_id for pair in pairs] == ["d0", "d1", "d2"]
