"""Planets of a test's own: some scenes of the sandbox, with rasters and items changed as the test likes."""

import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

from geossl_data import pipeline, tables
from geossl_data.bands import BANDS, S1_NODATA, S2_BANDS, S2_NODATA
from geossl_data.grid import Grid
from geossl_data.recipe import FetchOptions, SampleOptions
from geossl_data.records import Sample, Scene
from geossl_data.sandbox.cogs import write_cog
from geossl_data.scenes.items import Item, read_items, write_items
from geossl_data.scenes.store import read_scenes

Change = Callable[[np.ndarray, Grid], np.ndarray]
S1_KEYS = ("vv", "vh")


def grid_of(path: Path | str) -> Grid:
    """The pixels of a raster in a UTM zone."""
    with rasterio.open(path) as dataset:
        transform, epsg = dataset.transform, dataset.crs.to_epsg()
        return Grid(epsg, transform.c, transform.f, transform.a, dataset.width, dataset.height)


def paint(path: Path, change: Change, *, tagged: bool = True) -> None:
    """Change the pixels of a raster. tagged: whether it says afterwards which value is no data."""
    grid = grid_of(path)
    with rasterio.open(path) as dataset:
        image = change(dataset.read(1), grid)
    if tagged:
        write_cog(path, image, grid, nodata=S1_NODATA if image.dtype.kind == "f" else S2_NODATA)
        return
    profile = {"driver": "GTiff", "count": 1, "width": grid.width, "height": grid.height, "dtype": image.dtype}
    profile |= {"crs": f"EPSG:{grid.epsg}", "tiled": True, "compress": "deflate"}
    corner = Affine(grid.resolution_m, 0, grid.x, 0, -grid.resolution_m, grid.y)
    with rasterio.open(path, "w", transform=corner, **profile) as dataset:
        dataset.write(image, 1)


class Planet:
    """Some items of a catalog with rasters of their own, to change before `write`."""

    def __init__(self, source: Path, folder: Path, *beginnings: str) -> None:
        """beginnings: of the ids that are wanted; each names one item or more."""
        self.folder = folder
        self.items: dict[str, Item] = {}
        for item in read_items(source):
            if item["id"].startswith(beginnings):
                self.items[item["id"]] = item
                below = Path(item["collection"]) / item["id"]
                shutil.copytree(source.parent / below, folder / below)

    def one(self, beginning: str) -> Item:
        """The one item whose id begins so."""
        (found,) = (item for name, item in self.items.items() if name.startswith(beginning))
        return found

    def raster(self, item: Item, key: str) -> Path:
        return self.folder / item["assets"][key]["href"]

    def grid(self, item: Item, key: str) -> Grid:
        return grid_of(self.raster(item, key))

    def paint(self, item: Item, key: str, change: Change) -> None:
        """Change the pixels of a raster."""
        paint(self.raster(item, key), change)

    def copied(self, item: Item, name: str) -> Item:
        """A copy of an item under another id, with rasters of its own."""
        other = copy.deepcopy(item) | {"id": name}
        for asset in other["assets"].values():
            asset["href"] = asset["href"].replace(item["id"], name)
        collection = self.folder / item["collection"]
        shutil.copytree(collection / item["id"], collection / name)
        self.items[name] = other
        return other

    def write(self) -> Path:
        """The catalog's path."""
        path = self.folder / "catalog.parquet"
        write_items(path, sorted(self.items.values(), key=lambda item: (item["collection"], item["id"])))
        return path

    def sampled(self, dataset: Path, **options: Any) -> tuple[list[Sample], Mapping[str, Scene]]:
        """Samples of a dataset folder fetched and drawn from this planet, and its scenes by id."""
        pipeline.fetch(dataset, FetchOptions(catalog=str(self.write()), max_cloud=100))
        asked = {"size": 60, "block_km": 1.0, "test": 0.0, "val": 0.0} | options
        pipeline.sample(dataset, SampleOptions(**asked))
        scenes = {scene.id: scene for scene in read_scenes(dataset / "scenes.parquet")}
        return tables.read_table(dataset / "samples.parquet", Sample), scenes


def resolution_of(band: str) -> int:
    """Metres a pixel of a Sentinel-2 band or the scene classification."""
    return BANDS[band].resolution_m if band in BANDS else 20


S2_KEYS = (*S2_BANDS, "SCL")
