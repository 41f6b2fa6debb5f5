"""Classes at points: the pixel under the point, each block decoded once, and the majority in a place."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geossl_data.grid import to_lonlat
from geossl_data.tiles.lookup import classes_at, first_of, majority_of
from geossl_data.tiles.rasters import Rasters, SkipError


def write(path: Path, values: np.ndarray, *, epsg: int | None, transform: object, nodata: float | None = None) -> str:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=values.shape[1],
        height=values.shape[0],
        count=1,
        dtype=values.dtype,
        crs=None if epsg is None else CRS.from_epsg(epsg),
        transform=transform,
        nodata=nodata,
        tiled=True,
        blockxsize=16,
        blockysize=16,
    ) as dataset:
        dataset.write(values, 1)
    return str(path)


def test_the_pixel_under_each_point_whatever_their_order(tmp_path: Path) -> None:
    values = np.arange(40 * 72, dtype=np.uint16).reshape(40, 72)
    href = write(tmp_path / "a.tif", values, epsg=4326, transform=from_origin(-180, 90, 5.0, 4.5))
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 500), rng.uniform(-89.9, 89.9, 500)
    expected = values[((90 - lat) // 4.5).astype(int), ((lon + 180) // 5).astype(int)].astype(str)
    with Rasters() as rasters:
        assert classes_at(rasters, href, lon, lat).tolist() == expected.tolist()
        assert classes_at(rasters, href, lon + 360, lat).tolist() == expected.tolist()
        assert classes_at(rasters, href, lon[:0], lat[:0]).tolist() == []


def test_projected_rasters_names_and_no_data(tmp_path: Path) -> None:
    values = np.array([[1, 2], [0, 7]], dtype=np.uint8)
    href = write(tmp_path / "u.tif", values, epsg=32632, transform=from_origin(500_000, 5_200_000, 100, 100), nodata=0)
    x, y = np.array([500_050, 500_150, 500_050, 500_150, 499_990]), np.array([5_199_950] * 2 + [5_199_850] * 3)
    lon, lat = to_lonlat(32632, x, y)
    with Rasters() as rasters:
        found = classes_at(rasters, href, lon, lat, names={1: "forest", 2: "water"})
        assert found.tolist() == ["forest", "water", "", "7", ""]


def test_a_raster_without_a_reference_system_is_refused(tmp_path: Path) -> None:
    values = np.ones((4, 4), dtype=np.uint8)
    href = write(tmp_path / "n.tif", values, epsg=None, transform=from_origin(0, 4, 1, 1))
    with Rasters() as rasters, pytest.raises(SkipError, match="EPSG"):
        classes_at(rasters, href, np.array([1.0]), np.array([1.0]))


def test_the_majority_of_a_place_not_its_centre(tmp_path: Path) -> None:
    values = np.full((90, 90), 3, dtype=np.uint8)
    values[44:46, 44:46] = 9
    href = write(tmp_path / "m.tif", values, epsg=4326, transform=from_origin(0, 1, 1 / 90, 1 / 90))
    centre = (np.array([0.5]), np.array([0.5]))
    with Rasters() as rasters:

        def at(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
            return classes_at(rasters, href, lon, lat)

        assert at(*centre).tolist() == ["9"]
        assert majority_of(at, 20_000.0)(*centre).tolist() == ["3"]
        assert majority_of(at, 20_000.0)(np.array([50.0]), np.array([0.5])).tolist() == [""]
        east = first_of([lambda lon, lat: np.where(lon > 0.5, "east", ""), at])
        assert east(np.array([0.2, 0.9]), np.array([0.5, 0.5])).tolist() == ["3", "east"]
