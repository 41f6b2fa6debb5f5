"""Grids that items state are taken where they are north-up, square and in a UTM zone."""

from collections.abc import Callable
from typing import Any

import pytest

from geossl_data.grid import Grid
from geossl_data.scenes.providers import provider_for
from geossl_data.scenes.scene import scene_from_item

FILE = provider_for("catalog.parquet")
BASE = "/data/planet"

Item = dict[str, Any]
Make = Callable[..., Item]


@pytest.mark.parametrize(
    ("asset", "item", "known"),
    [
        ({"proj:code": "EPSG:32632"}, {}, True),
        ({"proj:epsg": 32632}, {}, True),
        ({}, {"proj:epsg": 32632}, True),
        ({}, {"proj:code": "EPSG:32632"}, True),
        ({"proj:code": None, "proj:epsg": 32632.0}, {}, True),
        ({}, {"proj:epsg": None}, False),
        ({}, {"proj:code": "EPSG:4326"}, False),
        ({}, {"proj:code": "IAU_2015:30100"}, False),
        ({"proj:transform": [10, 0, 0, 0, 10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 1, 0, 1, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, 0, 0, -20, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, None, 0, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, [], 0, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:transform": [10, 0, float("nan"), 0, -10, 0]}, {"proj:epsg": 32632}, False),
        ({"proj:shape": [60, -60]}, {"proj:epsg": 32632}, False),
        ({"proj:shape": [60, 10**9]}, {"proj:epsg": 32632}, False),
        ({"proj:shape": [60]}, {"proj:epsg": 32632}, False),
    ],
)
def test_grids_that_are_north_up_in_a_utm_zone(s2_item: Make, asset: Item, item: Item, known: bool) -> None:
    given = s2_item()
    del given["properties"]["proj:code"]
    given["properties"] |= item
    given["assets"]["B02"] |= asset
    scene = scene_from_item(given, FILE, BASE)
    assert scene.grids.get("B02") == (Grid(32632, 399960.0, 5300040.0, 10.0, 60, 60) if known else None)


def test_a_grid_of_the_item_holds_for_bands_of_its_resolution(s2_item: Make) -> None:
    item = s2_item(proj__shape=[60, 60], proj__transform=[10, 0, 399960, 0, -10, 5300040])
    for asset in item["assets"].values():
        asset.pop("proj:transform", None)
        asset.pop("proj:shape", None)
    assert sorted(scene_from_item(item, FILE, BASE).grids) == ["B02", "B03", "B04", "B08"]
