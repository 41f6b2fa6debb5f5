"""What belongs together: frames of a pass, parts of an acquisition."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from shapely import box

from geossl_data.records import Scene
from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.scenes.matching.passes import anchors, pass_numbers

START = datetime(2023, 6, 1, tzinfo=UTC)


def scene(name: str, sensor: Any, seconds: float, bounds: Any = (8, 47, 9, 48), **more: Any) -> Scene:
    time = START + timedelta(seconds=seconds)
    return Scene(
        id=name, collection="c", sensor=sensor, acquired=time, ends=time, footprint=box(*bounds), hrefs={}, **more
    )


def test_a_pass_goes_on_as_long_as_frames_follow_each_other() -> None:
    seconds = [120, 0, 60, 180.000001, 240, -25]
    found = pass_numbers(Acquisitions.of([scene(str(n), "s1", value) for n, value in enumerate(seconds)]))
    assert len({found[n] for n in (5, 1, 2, 0)}) == 1
    assert found[3] == found[4] != found[0]


@pytest.mark.parametrize("field", ["platform", "relative_orbit", "orbit_state"])
def test_frames_that_differ_are_of_other_passes(field: str) -> None:
    values = {
        "platform": ["sentinel-1a", "sentinel-1c", None],
        "relative_orbit": [1, 2, None],
        "orbit_state": ["ascending", "descending", None],
    }[field]
    frames = [scene(f"{n}{copy}", "s1", n, **{field: value}) for n, value in enumerate(values) for copy in "ab"]
    found = pass_numbers(Acquisitions.of(frames)).tolist()
    assert [found[n] == found[n + 1] for n in range(5)] == [True, False, True, False, True]


def test_anchors_keep_the_order_of_time_and_name_their_parts() -> None:
    given = [
        scene("c", "s2", 0, mgrs_tile="32TMT"),
        scene("a", "s2", 5, mgrs_tile="32TNT"),
        scene("d", "s2", 10, (9, 47, 11, 48), mgrs_tile="32TMT"),
        scene("b", "s2", 20, (11, 47, 12, 48), mgrs_tile="32TMT"),
        scene("e", "s2", 90, mgrs_tile="32TMT"),
    ]
    columns = Acquisitions.of(given)
    found = anchors(columns, columns.order_of_ids())
    assert columns.ids[found.scene].tolist() == ["a", "d", "e"]
    assert [columns.ids[parts].tolist() for parts in found.more] == [[], ["c", "b"], []]
    assert [shape.bounds for shape in found.shapes] == [(8, 47, 9, 48), (8, 47, 12, 48), (8, 47, 9, 48)]
    assert columns.footprints[2].bounds == (9, 47, 11, 48)


def test_of_equal_parts_the_first_by_id_leads() -> None:
    columns = Acquisitions.of([scene(name, "s2", n, mgrs_tile="32TMT") for n, name in enumerate("cab")])
    assert columns.ids[anchors(columns, columns.order_of_ids()).scene].tolist() == ["a"]


def test_nothing() -> None:
    none = Acquisitions.of([])
    assert (len(pass_numbers(none)), len(anchors(none, none.order_of_ids()))) == (0, 0)
