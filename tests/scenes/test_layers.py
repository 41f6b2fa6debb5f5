"""Raster collections as layers: the files that show some ground, the latest first, with the names of their classes."""

from pathlib import Path
from typing import Any

import pytest
from faults.catalogs import serve
from shapely import box

from geossl_data.errors import CatalogError
from geossl_data.scenes.items import write_items
from geossl_data.scenes.layers import layer_files
from geossl_data.scenes.providers import provider_for

CLASSES = [{"value": 10, "name": "tree cover"}, {"value": 80, "description": "water <b>"}, {"value": "x"}, 7]


def item(name: str, west: float, *, year: int = 2021, href: str = "./map.tif", **asset: Any) -> dict[str, Any]:
    corners = [[west, 0.0], [west + 3.0, 0.0], [west + 3.0, 3.0], [west, 3.0], [west, 0.0]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "collection": "worldcover",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "bbox": [west, 0.0, west + 3.0, 3.0],
        "properties": {"datetime": f"{year}-01-01T00:00:00Z"},
        "links": [],
        "assets": {"map": {"href": href, **asset}},
    }


def catalog(folder: Path, items: list[dict[str, Any]]) -> str:
    write_items(folder / "catalog.parquet", items)
    return str(folder / "catalog.parquet")


def test_the_files_of_an_area_the_latest_first(tmp_path: Path) -> None:
    items = [item("old", 0.0, year=2020), item("new", 0.0), item("far", 90.0)]
    where = catalog(tmp_path, items)
    found = layer_files(where, provider_for(where), "worldcover", "map", box(1, 1, 2, 2))
    assert [file.id for file in found] == ["new", "old"]
    assert found[0].href == str(tmp_path / "map.tif")
    assert [file.id for file in layer_files(where, provider_for(where), "worldcover", "map", None)] == [
        "far",
        "new",
        "old",
    ]


def test_names_of_classes_come_clean(tmp_path: Path) -> None:
    where = catalog(tmp_path, [item("a", 0.0, **{"classification:classes": CLASSES[:2]})])
    (found,) = layer_files(where, provider_for(where), "worldcover", "map", None)
    assert found.names == {10: "tree cover", 80: "water b"}


@pytest.mark.parametrize(
    ("collection", "asset", "message"),
    [("worldcover", "mpa", "have map"), ("landcover", "map", "no items"), ("worldcover", "map", "none of 1")],
)
def test_what_is_not_there_is_said(tmp_path: Path, collection: str, asset: str, message: str) -> None:
    href = "file:///etc/passwd" if message == "none of 1" else "./map.tif"
    where = catalog(tmp_path, [item("a", 0.0, href=href)])
    with pytest.raises(CatalogError, match=message):
        layer_files(where, provider_for(where), collection, asset, None)


def test_ground_across_the_antimeridian_is_found(tmp_path: Path) -> None:
    where = catalog(tmp_path, [item("a", 178.5) | {"bbox": [178.5, 0.0, -178.5, 3.0]}])
    assert layer_files(where, provider_for(where), "worldcover", "map", box(-179.5, 1, -179, 2))


def test_the_files_of_a_stac_api(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve([]) as server:
        server.items += [item(name, west, href=f"{server.url}/{name}.tif") for name, west in (("a", 0.0), ("b", 90.0))]
        provider = provider_for(server.url)
        (found,) = layer_files(server.url, provider, "worldcover", "map", box(1, 1, 2, 2))
        assert (found.id, found.href) == ("a", f"{server.url}/a.tif")
        assert len(server.searches()) == 1
        with pytest.raises(CatalogError, match="needs an area"):
            layer_files(server.url, provider, "worldcover", "map", None)
