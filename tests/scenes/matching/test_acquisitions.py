"""Scenes as columns."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from shapely import box

from geossl_data.records import Scene
from geossl_data.scenes.matching.acquisitions import ORBIT_STATES, Acquisitions, microseconds, moment

TIME = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def scene(name: str, **more: object) -> Scene:
    given = {"acquired": TIME, "ends": TIME, "footprint": box(0, 0, 1, 1), "hrefs": {}}
    return Scene(id=name, collection="c", sensor="s2", **given | more)  # type: ignore[arg-type]


def test_the_columns_of_scenes() -> None:
    found = Acquisitions.of(
        [
            scene("b", platform="sentinel-2a", orbit_state="descending", relative_orbit=65, mgrs_tile="32TMT"),
            scene("a", platform="sentinel-2b", baseline="05.09", boa_offset=-1000),
            scene("c", platform="sentinel-2a", mgrs_tile="32TMT"),
        ]
    )
    assert found.ids.tolist() == ["b", "a", "c"]
    assert (found.platform.tolist(), found.platforms) == ([0, 1, 0], ("sentinel-2a", "sentinel-2b"))
    assert (found.tile.tolist(), found.tiles) == ([0, -1, 0], ("32TMT",))
    assert (found.orbit_state.tolist(), ORBIT_STATES[1]) == ([1, -1, -1], "descending")
    assert found.relative_orbit.tolist() == [65, -1, -1]
    assert found.version.tolist() == [0, 1, 0]
    assert [moment(us) for us in found.acquired_us.tolist()] == [TIME] * 3
    assert found.order_of_ids().tolist() == [1, 0, 2]
    taken = found.take(np.array([2, 1]))
    assert (taken.ids.tolist(), taken.platform.tolist(), taken.tiles) == (["c", "a"], [0, 1], ("32TMT",))


@given(st.lists(st.text(min_size=1, max_size=4), unique=True))
def test_ids_are_ordered_as_python_orders_them(names: list[str]) -> None:
    found = Acquisitions.of([scene(name) for name in names])
    positions = found.order_of_ids().tolist()
    assert sorted(names) == [name for _, name in sorted(zip(positions, names, strict=True))]


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_times_come_back(time: datetime) -> None:
    time = time.replace(tzinfo=UTC)
    assert moment(microseconds(time - moment(0))) == time
    assert microseconds(timedelta(hours=1)) == 3_600_000_000
