"""The tiny planet on disk is what its catalog and its truth say."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import stac_geoparquet.arrow
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from geossl_data.errors import StorageError
from geossl_data.files import sha256
from geossl_data.sandbox import SANDBOX_CLASSES, build_sandbox
from geossl_data.scenes.items import read_items

Item = dict[str, Any]


@pytest.fixture(scope="module")
def planet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sandbox(tmp_path_factory.mktemp("planet"), size="tiny", workers=2)


@pytest.fixture(scope="module")
def items(planet: Path) -> list[Item]:
    return read_items(planet)


@pytest.fixture(scope="module")
def truth(planet: Path) -> dict[str, Any]:
    return json.loads((planet.parent / "truth.json").read_text())


def of(items: list[Item], collection: str) -> list[Item]:
    return [item for item in items if item["collection"] == collection]


def read(planet: Path, item: Item, asset: str) -> np.ndarray[Any, Any]:
    with rasterio.open(planet.parent / item["assets"][asset]["href"]) as file:
        return file.read(1)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(planet: Path, tmp_path: Path) -> None:
    again = build_sandbox(tmp_path / "again", size="tiny", workers=1)
    files = sorted(path.relative_to(planet.parent) for path in planet.parent.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again.parent) for path in again.parent.rglob("*") if path.is_file())
    different = [name for name in files if sha256(planet.parent / name) != sha256(again.parent / name)]
    assert different == []


def test_a_complete_planet_is_left_alone(planet: Path) -> None:
    before = planet.stat().st_mtime_ns
    assert build_sandbox(planet.parent, size="tiny") == planet
    assert planet.stat().st_mtime_ns == before


def test_an_unfinished_planet_is_finished_without_leftovers(planet: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text((planet.parent / "truth.json").read_text())
    leftover = tmp_path / "sentinel-1-rtc" / "old" / "vv.tif"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    catalog = build_sandbox(tmp_path, size="tiny")
    assert not leftover.exists()
    assert sha256(catalog) == sha256(planet)


def test_foreign_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "sentinel-2-l2a").mkdir()
    with pytest.raises(StorageError, match="no sandbox wrote"):
        build_sandbox(tmp_path, size="tiny")


def test_every_raster_is_listed_and_has_the_grid_that_its_item_states(planet: Path, items: list[Item]) -> None:
    listed = set()
    for item in items:
        for name, asset in item["assets"].items():
            listed.add(Path(asset["href"]))
            stated = asset if "proj:shape" in asset else item["properties"]
            with rasterio.open(planet.parent / asset["href"]) as file:
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert list(file.shape) == stated["proj:shape"]
                assert list(file.transform)[:6] == stated["proj:transform"]
                assert list(file.bounds) == stated["proj:bbox"]
                assert f"EPSG:{file.crs.to_epsg()}" == item["properties"]["proj:code"]
                expected = {"vv": "float32", "vh": "float32", "SCL": "uint8", "class": "uint8", "change": "uint8"}
                assert file.dtypes[0] == expected.get(name, "uint16")
                assert file.nodata == {"vv": -32768.0, "vh": -32768.0, "change": 255.0}.get(name, 0.0)
    on_disk = {path.relative_to(planet.parent) for path in planet.parent.rglob("*.tif")}
    assert on_disk == listed


def test_bands_have_their_native_resolution(items: list[Item]) -> None:
    for item in of(items, "sentinel-2-l2a"):
        sides = {name: asset["proj:transform"][0] for name, asset in item["assets"].items()}
        assert {name for name, side in sides.items() if side == 10} == {"B02", "B03", "B04", "B08"}
        assert {name for name, side in sides.items() if side == 60} == {"B01", "B09"}
        assert len(sides) == 13
        assert all(asset["proj:transform"][2] % 10 == 0 for asset in item["assets"].values())


def test_the_catalog_opens_with_other_readers(planet: Path, items: list[Item]) -> None:
    frame = geopandas.read_parquet(planet)
    assert len(frame) == len(items)
    assert frame.geometry.is_valid.all()
    assert frame.geometry.geom_type.eq("Polygon").all()
    read_by_stac = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(planet)))
    assert {item["id"] for item in read_by_stac} == {item["id"] for item in items}


def test_footprints_hold_the_valid_pixels(planet: Path, items: list[Item]) -> None:
    cut = 0
    for item in items:
        asset = {"sentinel-2-l2a": "B02", "sentinel-1-rtc": "vv"}.get(item["collection"])
        if asset is None:
            continue
        with rasterio.open(planet.parent / item["assets"][asset]["href"]) as file:
            valid = file.read(1) != file.nodata
            polygon = transform_geom("EPSG:4326", file.crs, item["geometry"])
            inside = geometry_mask([polygon], file.shape, file.transform, invert=True)
        assert (valid != inside).mean() < 0.005
        cut += not valid.all()
    assert cut >= 2


def test_cloud_cover_is_the_share_of_cloud_in_the_scene_classes(planet: Path, items: list[Item]) -> None:
    seen: set[int] = set()
    for item in of(items, "sentinel-2-l2a"):
        classes = read(planet, item, "SCL")
        share = 100 * np.isin(classes, (8, 9, 10)).sum() / (classes != 0).sum()
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(share, abs=1e-5)
        seen |= set(np.unique(classes).tolist())
        blue = read(planet, item, "B02")[::2, ::2].astype(int)
        if {9, 4} <= set(np.unique(classes).tolist()):
            assert np.median(blue[classes == 9]) > np.median(blue[classes == 4]) + 2000
    assert seen >= {0, 3, 4, 5, 6, 8, 9}
    assert seen <= set(range(12))


def test_baselines_decide_the_offset_and_the_date_does_not(planet: Path, items: list[Item]) -> None:
    eras = set()
    for item in of(items, "sentinel-2-l2a"):
        baseline, date = item["properties"]["s2:processing_baseline"], item["properties"]["datetime"]
        tag = f"_N{baseline.replace('.', '')}_"
        assert tag in item["properties"]["s2:product_uri"]
        near = read(planet, item, "B12")
        darkest = np.percentile(near[near > 0], 0.5)
        if item["properties"]["eo:cloud_cover"] < 60:
            assert (darkest > 1000) == (float(baseline) >= 4)
        eras.add((date < "2022-01-25", float(baseline) >= 4))
    assert eras == {(True, False), (True, True), (False, True)}


def test_overlapping_tiles_hold_the_same_pixels(planet: Path, items: list[Item]) -> None:
    scenes = of(items, "sentinel-2-l2a")
    both = [
        (west, east)
        for west in scenes
        for east in scenes
        if west["properties"]["datetime"] == east["properties"]["datetime"]
        and west["properties"]["proj:code"] == east["properties"]["proj:code"]
        and west["assets"]["B02"]["proj:bbox"][0] < east["assets"]["B02"]["proj:bbox"][0]
    ]
    assert both
    for west, east in both:
        for band in ("B02", "B11", "B09", "SCL"):
            side = west["assets"][band]["proj:transform"][0]
            shared = int((west["assets"][band]["proj:bbox"][2] - east["assets"][band]["proj:bbox"][0]) / side)
            left, right = read(planet, west, band)[:, -shared:], read(planet, east, band)[:, :shared]
            assert shared * side >= 1000
            np.testing.assert_array_equal(left, right)


def test_both_sensors_see_water_at_the_same_pixels(planet: Path, items: list[Item]) -> None:
    """The water map is closest to both sensors where it lies; moved by one pixel it fits worse."""
    labels = {
        (item["properties"]["s2:mgrs_tile"], item["properties"]["start_datetime"][:4]): item
        for item in of(items, "geossl-sandbox-labels")
    }
    clear = [item for item in of(items, "sentinel-2-l2a") if item["properties"]["eo:cloud_cover"] < 1]
    checked = 0
    for item in clear:
        properties = item["properties"]
        water = read(planet, labels[properties["s2:mgrs_tile"], properties["datetime"][:4]], "class") == 1
        if not 0.01 < water.mean() < 0.9:
            continue
        radar = min(
            (
                other
                for other in of(items, "sentinel-1-rtc")
                if other["properties"]["proj:code"] == properties["proj:code"]
            ),
            key=lambda other: abs(when(other) - when(item)),
        )
        at, own = item["assets"]["B08"]["proj:transform"], radar["properties"]["proj:transform"]
        col, row = round((at[2] - own[2]) / 10), round((own[5] - at[5]) / 10)
        size = water.shape[0]
        power = read(planet, radar, "vh")[row : row + size, col : col + size]
        images = {"s2": np.log(read(planet, item, "B08").astype(float)), "s1": np.log(np.maximum(power, 1e-6))}
        valid = power > 0
        for image in images.values():
            still = contrast(image, water, valid)
            for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
                assert contrast(image, np.roll(water, shift, axis), valid) < still
        checked += 1
    assert checked


def when(item: Item) -> datetime:
    return datetime.fromisoformat(item["properties"]["datetime"])


def contrast(image: np.ndarray[Any, Any], water: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]) -> float:
    """How much of an image's variance the two sides of a mask explain, away from the frame."""
    inner = np.s_[2:-2, 2:-2]
    values, mask = image[inner][valid[inner]], water[inner][valid[inner]]
    return float(np.corrcoef(values, mask)[0, 1] ** 2)


def test_changes_are_where_the_truth_says(planet: Path, items: list[Item], truth: dict[str, Any]) -> None:
    assert {entry["kind"] for entry in truth["changes"]} <= set(truth["change_codes"])
    assert len(truth["changes"]) >= 5
    maps = {}
    for item in of(items, "geossl-sandbox-labels"):
        maps[item["properties"]["s2:mgrs_tile"], item["properties"]["start_datetime"][:4]] = item
    for (tile, year), item in maps.items():
        change, land = read(planet, item, "change"), read(planet, item, "class")
        first = read(planet, maps[tile, "2021"], "class")
        np.testing.assert_array_equal(change > 0, land != first)
        west, _, _, north = item["assets"]["change"]["proj:bbox"]
        expected = np.zeros(change.shape, bool)
        for entry in truth["changes"]:
            if entry["epsg"] != item["properties"]["proj:epsg"] or not entry["from"][:4] <= year <= entry["to"][:4]:
                continue
            left, right = int((entry["bounds"][0] - west) / 10), int((entry["bounds"][2] - west) / 10)
            top, bottom = int((north - entry["bounds"][3]) / 10), int((north - entry["bounds"][1]) / 10)
            box = np.s_[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            expected[box] = True
            inside = change[box]
            if left >= 0 and right <= change.shape[1]:
                assert (inside == entry["code"]).sum() == entry["pixels"]
        assert not change[~expected].any()
    assert set(SANDBOX_CLASSES) >= set(np.unique(first).tolist())


def test_labels_hold_for_a_year(items: list[Item]) -> None:
    for item in of(items, "geossl-sandbox-labels"):
        start, end = (datetime.fromisoformat(item["properties"][f"{name}_datetime"]) for name in ("start", "end"))
        assert item["properties"]["datetime"] is None
        assert timedelta(days=364) < end - start < timedelta(days=366)
        names = {entry["value"]: entry["description"] for entry in item["assets"]["class"]["classification:classes"]}
        assert names == {0: "no data", **SANDBOX_CLASSES}


def test_scenes_without_a_partner_exist(items: list[Item]) -> None:
    gaps = [
        min(
            abs(when(other) - when(item))
            for other in of(items, "sentinel-1-rtc")
            if other["properties"]["proj:code"] == item["properties"]["proj:code"]
        )
        for item in of(items, "sentinel-2-l2a")
    ]
    assert min(gaps) < timedelta(days=1.5)
    assert max(gaps) > timedelta(days=3)
