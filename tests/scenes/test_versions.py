"""Of several versions of one acquisition the newest is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geossl_data.scenes.search import Found

Item = dict[str, Any]
Make = Callable[..., Item]
Find = Callable[..., Found]


def ids(found: Found) -> list[str]:
    return [scene.id for scene in found.scenes]


def reasons(found: Found) -> dict[str, str]:
    return {row.id: row.reason for row in found.skipped}


def test_the_newest_version_of_an_acquisition_is_kept(tmp_path: Path, find: Find, s2_item: Make) -> None:
    items = [
        s2_item("S2A_new", s2__processing_baseline="05.10"),
        s2_item("S2A_old", s2__processing_baseline="02.12", time="2023-06-01T10:20:40Z"),
        s2_item("S2A_again", s2__processing_baseline="05.10", s2__generation_time="2023-06-02T00:00:00Z"),
        s2_item("S2A_half", s2__processing_baseline="05.10", bounds=(8.9, 47, 9.9, 48)),
        s2_item("S2B_other", platform="sentinel-2b"),
        s2_item("S2A_tile", s2__mgrs_tile="32TNT"),
        s2_item("S2A_next", time="2023-06-11T10:20:31Z"),
    ]
    for order in (items, items[::-1]):
        found = find(tmp_path, order)
        assert sorted(ids(found)) == ["S2A_again", "S2A_half", "S2A_next", "S2A_tile", "S2B_other"]
        assert reasons(found) == {"S2A_new": "superseded", "S2A_old": "superseded"}
    assert "the same acquisition as S2A_again" in found.skipped[0].detail
