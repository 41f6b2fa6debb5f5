"""Where tiles overlap and one sees all that another sees of the area, one is enough; for all dates or for none."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from shapely import union_all
from shapely.geometry import box

from geossl_data.records import Scene
from geossl_data.scenes.items import Item
from geossl_data.scenes.overlaps import redundant_tiles
from geossl_data.scenes.providers import provider_for
from geossl_data.scenes.scene import scene_from_item

FILE = provider_for("catalog.parquet")
Make = Callable[..., Item]
AREA = box(8.5, 47.4, 8.6, 47.6)
WEST, EAST, FAR = (7.5, 47.0, 8.7, 48.0), (8.4, 47.0, 9.6, 48.0), (8.55, 47.0, 9.8, 48.0)


def scene(make: Make, name: str, tile: str, bounds: tuple[float, ...], day: int = 1, **stated: Any) -> Scene:
    item = make(name, s2__mgrs_tile=tile, bounds=bounds, time=f"2023-06-{day:02}T10:20:31Z", **stated)
    return scene_from_item(item, FILE, "/data")


def test_1_52_one_of_two_tiles_that_both_see_the_whole_area(s2_item: Make) -> None:
    scenes = [
        scene(s2_item, f"{tile}_{day}", tile, bounds, day)
        for day in (1, 6)
        for tile, bounds in (("32TLT", WEST), ("32TMT", EAST))
    ]
    assert redundant_tiles(scenes, AREA) == {"32TMT_1": "32TLT", "32TMT_6": "32TLT"}
    assert redundant_tiles(scenes[::-1], AREA) == redundant_tiles(scenes, AREA)


def test_the_tile_of_the_areas_own_zone_is_preferred(s2_item: Make) -> None:
    scenes = [scene(s2_item, "a", "31TGN", WEST), scene(s2_item, "b", "32TMT", EAST)]
    assert redundant_tiles(scenes, AREA) == {"a": "32TMT"}


def test_a_tile_that_sees_more_stays(s2_item: Make) -> None:
    scenes = [scene(s2_item, "a", "32TLT", FAR), scene(s2_item, "b", "32TMT", EAST)]
    assert redundant_tiles(scenes, AREA) == {"a": "32TMT"}
    assert redundant_tiles(scenes, box(8.5, 47.4, 9.7, 47.6)) == {}


def test_a_date_that_only_one_tile_has_keeps_both(s2_item: Make) -> None:
    scenes = [
        scene(s2_item, "a1", "32TLT", WEST, 1),
        scene(s2_item, "b1", "32TMT", EAST, 1),
        scene(s2_item, "b6", "32TMT", EAST, 6),
    ]
    assert redundant_tiles(scenes, AREA) == {"a1": "32TMT"}
    assert redundant_tiles([*scenes, scene(s2_item, "a11", "32TLT", WEST, 11)], AREA) == {}


def test_other_passes_and_no_area(s2_item: Make) -> None:
    first, second = scene(s2_item, "a", "32TLT", WEST), scene(s2_item, "b", "32TMT", EAST, 3)
    assert redundant_tiles([first, second], AREA) == {}
    assert abs(first.acquired - second.acquired) > timedelta(days=1)
    assert redundant_tiles([first, scene(s2_item, "c", "32TMT", EAST)], None) == {}


def test_across_the_antimeridian(s2_item: Make) -> None:
    west, east = (
        scene(s2_item, "a", "60KYA", (179.0, -17, 180.5, -16)),
        scene(s2_item, "b", "01KAB", (-180.9, -17, -179, -16)),
    )
    assert redundant_tiles([west, east], box(179.5, -16.6, 179.9, -16.5)) == {"b": "60KYA"}


def test_around_many_places_only_those_near_a_scene_are_looked_at(s2_item: Make) -> None:
    places = [box(lon, 47.5, lon + 0.02, 47.52) for lon in (-170.0, 8.5, 8.6, 60.0, 171.0)]
    scenes = [scene(s2_item, "a", "32TLT", WEST), scene(s2_item, "b", "32TMT", EAST)]
    assert redundant_tiles(scenes, union_all(places)) == {"b": "32TLT"}
